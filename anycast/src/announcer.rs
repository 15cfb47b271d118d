//! What this site announces, decided prefix by prefix. Sans-IO: no socket, no clock, no task.
//!
//! ```text
//! snapshots ─► conditions ─► rise, fall ─┐                      ┌─► Wanted ─► one task per peer
//! drains ────► ladder ───────────────────┤                      │
//! leases ────► tenancy ──────────────────┼─► wish ─► table ─────┼─► Bind, Unbind ─► kernel
//! clock ─────► hold-down, flap budget ───┘   (one per prefix)   └─► changes, for the log
//! kernel, sessions: Bound, Sent, Unbound ───────────▲
//! ```
//!
//! The rules in short:
//!
//! - What is unknown changes nothing. A withdrawal waits for nothing but the configured `fall`, and under a drain
//!   not even for that.
//! - An announcement waits for `hold_down`, `rise` and the flap budget, whichever takes longest.
//! - The service address is there before the route and stays until every session has sent the withdrawal, and a
//!   little longer ([`Settings::linger`]).
//! - A drain is computed from its beginning and so survives a restart; a lease is not kept and must be asked for
//!   again.
//!
//! Gap: a restart forgets the flap figures; the peers do not.

mod conditions;
mod driver;
pub mod flaps;
mod handle;
pub mod ladder;
pub mod lease;
pub mod output;
mod route;
pub mod status;
pub mod table;
mod watchers;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_health::Snapshot;
use steer_topology::{Anycast, Fleet, Lease, Prefix, SiteId};

pub use conditions::ConditionStatus;
pub(crate) use driver::{Driver, Ended, Sessions};
pub(crate) use handle::Request;
pub use handle::{AnnouncerHandle, HandleError};
pub use ladder::DrainStatus;
pub use lease::{Granted, RequestError};
pub use output::{Change, Output, What, Why};
pub use status::PrefixStatus;
pub use table::State;

use conditions::Facts;
use lease::Tenancy;
use output::Outputs;
use route::{Common, Context, Route};
use table::Trigger;
use watchers::{Concerned, Watchers};

use crate::wanted::Wanted;

/// Wait between two tries to bind an address, or to take it off.
pub const RETRY: Duration = Duration::from_secs(5);

/// Both clocks at one moment. The first only goes forward and decides; the second is for people, and for drains,
/// which outlive the process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Ours.
    pub now: Instant,
    /// The one on the wall.
    pub at: Timestamp,
}

impl Moment {
    /// What the second clock will show after `time`.
    #[must_use]
    pub fn after(self, time: Duration) -> Timestamp {
        self.at.checked_add(time).unwrap_or(Timestamp::MAX)
    }

    /// What the second clock will show at `instant`.
    #[must_use]
    pub fn at_instant(self, instant: Instant) -> Timestamp {
        self.after(instant.saturating_duration_since(self.now))
    }
}

/// What the configuration does not say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settings {
    /// How long a service address stays after every session has sent the withdrawal: until then packets for it are
    /// still on their way, and the peers' own peers have not heard yet.
    pub linger: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            linger: Duration::from_secs(1),
        }
    }
}

/// A service address whose streams are to be counted, or all addresses of a prefix.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamCount {
    /// Whose drain waits for it.
    pub prefix: Prefix,
    /// Count TCP connections whose local address lies in this.
    pub within: Prefix,
}

/// From snapshots, addresses, leases and time to what is wanted of the peers and of the kernel.
#[derive(Debug)]
pub struct Announcer {
    local: Option<SiteId>,
    common: Common,
    snapshot: Option<Arc<Snapshot>>,
    /// Once true, always.
    settled: bool,
    /// `None` until the kernel has told them, and while it cannot.
    addresses: Option<BTreeSet<IpAddr>>,
    /// Whether any prefix needs to know them.
    needs_addresses: bool,
    /// Addresses from before the start have been looked for.
    adopted: bool,
    routes: BTreeMap<Prefix, Route>,
    watchers: Watchers,
    /// Those that wait for something, time or an answer: few of many.
    busy: BTreeSet<Prefix>,
    outputs: Outputs,
    wanted: Arc<Wanted>,
    /// What is not up to date in `wanted`; each prefix once or a few times.
    stale: Vec<Prefix>,
    /// What changed in `wanted` since it was last asked for.
    changed: BTreeSet<Prefix>,
}

impl Announcer {
    /// Of the process that runs as `local` and starts at `now`: wants nothing yet.
    #[must_use]
    pub fn new(local: Option<SiteId>, settings: Settings, now: Instant) -> Self {
        Self {
            local,
            common: Common {
                snapshot: 0,
                started: now,
                horizon: Duration::ZERO,
                linger: settings.linger,
                stopping: false,
            },
            snapshot: None,
            settled: false,
            addresses: None,
            needs_addresses: false,
            adopted: false,
            routes: BTreeMap::new(),
            watchers: Watchers::default(),
            busy: BTreeSet::new(),
            outputs: Outputs::new(),
            wanted: Arc::default(),
            stale: Vec::new(),
            changed: BTreeSet::new(),
        }
    }

    /// What is wanted now.
    #[must_use]
    pub fn wanted(&self) -> &Arc<Wanted> {
        &self.wanted
    }

    /// The prefixes on which [`Announcer::wanted`] says something else than at the last call of this, and perhaps a
    /// few more.
    pub fn take_changed(&mut self) -> BTreeSet<Prefix> {
        std::mem::take(&mut self.changed)
    }

    /// What to do now; to be asked until it says `None`.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// When to call [`Announcer::on_deadline`].
    #[must_use]
    pub fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let horizon = self.common.horizon;
        let deadlines = self
            .busy()
            .filter_map(|(_, route)| route.next_deadline(horizon, now));
        deadlines.min()
    }

    fn busy(&self) -> impl Iterator<Item = (&Prefix, &Route)> {
        self.busy
            .iter()
            .filter_map(|prefix| self.routes.get_key_value(prefix))
    }

    /// A snapshot, the same or a newer one.
    pub fn on_snapshot(&mut self, snapshot: &Arc<Snapshot>, moment: Moment) {
        let known = self.snapshot.replace(Arc::clone(snapshot));
        self.common.snapshot = snapshot.number;
        let known = known.filter(|known| Arc::ptr_eq(&known.fleet, &snapshot.fleet));
        let concerned = match known {
            Some(known) => self.watchers.concerned(&known, snapshot),
            None => {
                self.on_fleet(&snapshot.fleet, moment);
                Concerned::All
            }
        };
        self.observe(concerned, moment);
    }

    fn on_fleet(&mut self, fleet: &Fleet, moment: Moment) {
        self.common.horizon = ladder::dns_horizon(fleet, self.local);
        let local = self.local;
        let ours = || fleet.anycast.iter().filter(|anycast| stands_at(anycast, local));
        self.watchers = Watchers::new(fleet, ours());
        let mut configs: BTreeMap<Prefix, &Anycast> =
            ours().map(|anycast| (anycast.prefix, anycast)).collect();
        for (prefix, route) in &mut self.routes {
            route.reconfigure(configs.remove(prefix).cloned());
        }
        let mut policies = HashMap::new();
        for (prefix, config) in configs {
            let policy = policies.entry(&config.policy);
            let policy = Arc::clone(policy.or_insert_with(|| Arc::new(config.policy.clone())));
            self.routes
                .insert(prefix, Route::new(config.clone(), policy, moment));
            self.stale.push(prefix);
            self.adopt(prefix, moment);
        }
        let needs =
            |route: &Route| route.bind().is_some() || conditions::ask_for_address(&route.config.while_up);
        self.needs_addresses = self.routes.values().any(needs);
    }

    /// An address that the host has from before is ours to take off.
    fn adopt(&mut self, prefix: Prefix, moment: Moment) {
        let known = self.addresses.clone().unwrap_or_default();
        self.with(prefix, moment, |route, context| {
            if route.bind().is_some_and(|bind| known.contains(&bind.address)) {
                route.on_news(Trigger::Found, None, context);
            }
        });
    }

    /// The addresses of this host, as far as they can be used; `None`: the kernel cannot tell at the moment.
    pub fn on_addresses(&mut self, addresses: Option<BTreeSet<IpAddr>>, moment: Moment) {
        self.addresses = addresses;
        if let Some(known) = self.addresses.clone() {
            let first = !std::mem::replace(&mut self.adopted, true);
            let there = |route: &Route| Some(known.contains(&route.bind()?.address));
            self.each(moment, |route, context| match there(route) {
                Some(true) if first => route.on_news(Trigger::Found, None, context),
                Some(false) => route.on_news(Trigger::Gone, None, context),
                Some(true) | None => {}
            });
        }
        self.observe(Concerned::All, moment);
    }

    /// The answer to [`Output::Bind`]; an address that was there already is bound.
    pub fn on_bound(&mut self, prefix: Prefix, result: Result<(), String>, moment: Moment) {
        let trigger = if result.is_ok() {
            Trigger::Bound
        } else {
            Trigger::BindFailed
        };
        self.on_answer(prefix, trigger, result.err(), moment);
    }

    /// The answer to [`Output::Unbind`]; an address that was not there is unbound.
    pub fn on_unbound(&mut self, prefix: Prefix, result: Result<(), String>, moment: Moment) {
        let trigger = if result.is_ok() {
            Trigger::Unbound
        } else {
            Trigger::UnbindFailed
        };
        self.on_answer(prefix, trigger, result.err(), moment);
    }

    /// Every session has sent the withdrawal of `prefix` or is gone; see [`Announcer::withdrawing`].
    pub fn on_withdrawn(&mut self, prefix: Prefix, moment: Moment) {
        self.on_answer(prefix, Trigger::Sent, None, moment);
    }

    fn on_answer(&mut self, prefix: Prefix, trigger: Trigger, trouble: Option<String>, moment: Moment) {
        self.with(prefix, moment, |route, context| {
            route.on_news(trigger, trouble, context);
        });
        self.refresh();
    }

    /// So many TCP connections to the service address are left; see [`Announcer::stream_counts`].
    pub fn on_streams(&mut self, prefix: Prefix, count: u64, moment: Moment) {
        self.with(prefix, moment, |route, context| route.on_streams(count, context));
        self.refresh();
    }

    /// The time came.
    pub fn on_deadline(&mut self, moment: Moment) {
        for prefix in self.busy.clone() {
            self.with(prefix, moment, Route::settle);
        }
        self.refresh();
    }

    /// A lease for `owner`, or another term of one.
    ///
    /// # Errors
    /// When the prefix takes none, or somebody else holds it.
    pub fn lease(
        &mut self,
        prefix: Prefix,
        ttl: Duration,
        owner: &str,
        moment: Moment,
    ) -> Result<Granted, RequestError> {
        let ask = |tenancy: &mut Tenancy, lease: &Lease| tenancy.take(prefix, lease, (owner, ttl), moment);
        self.on_lease(prefix, ask, moment)
    }

    /// Another term of the lease that `owner` holds, or held when the configuration kept the route.
    ///
    /// # Errors
    /// When there is none.
    pub fn renew(
        &mut self,
        prefix: Prefix,
        ttl: Duration,
        owner: &str,
        moment: Moment,
    ) -> Result<Granted, RequestError> {
        let ask = |tenancy: &mut Tenancy, lease: &Lease| tenancy.renew(prefix, lease, (owner, ttl), moment);
        self.on_lease(prefix, ask, moment)
    }

    /// The end of the lease of `owner`, expired or not: the route is withdrawn.
    ///
    /// # Errors
    /// When there is none.
    pub fn delete(&mut self, prefix: Prefix, owner: &str, moment: Moment) -> Result<(), RequestError> {
        let ask = |tenancy: &mut Tenancy, _: &Lease| tenancy.delete(prefix, owner);
        self.on_lease(prefix, ask, moment)
    }

    fn on_lease<T>(
        &mut self,
        prefix: Prefix,
        ask: impl FnOnce(&mut Tenancy, &Lease) -> Result<T, RequestError>,
        moment: Moment,
    ) -> Result<T, RequestError> {
        let answer = self.with(prefix, moment, |route, context| route.on_lease(ask, context));
        self.refresh();
        answer.unwrap_or(Err(RequestError::UnknownPrefix(prefix)))
    }

    /// Forgets the flaps of a prefix: the peers have, an operator says.
    ///
    /// # Errors
    /// When there is no such prefix.
    pub fn clear_flaps(&mut self, prefix: Prefix, moment: Moment) -> Result<(), RequestError> {
        let cleared = self.with(prefix, moment, |route, context| {
            route.flaps.clear();
            route.settle(context);
        });
        self.refresh();
        cleared.ok_or(RequestError::UnknownPrefix(prefix))
    }

    /// The orderly end: wants nothing from now on.
    pub fn stop(&mut self, moment: Moment) {
        self.common.stopping = true;
        self.each(moment, Route::settle);
        self.refresh();
    }

    /// Whether no route of ours stands, and no address.
    #[must_use]
    pub fn is_clear(&self) -> bool {
        self.routes.values().all(|route| route.state.is_clear())
    }

    /// Whether all that a start wants at first is wanted: the first full round of checks is over, and nothing waits
    /// for its hold-down, its rise or its address any more. Once true, always.
    #[must_use]
    pub fn is_settled(&self) -> bool {
        self.settled
    }

    /// Withdrawn prefixes whose address waits for [`Announcer::on_withdrawn`].
    pub fn withdrawing(&self) -> impl Iterator<Item = Prefix> + '_ {
        let waiting = self.busy().filter(|(_, route)| route.state == State::Withdrawing);
        waiting.map(|(prefix, _)| *prefix)
    }

    /// What a drain waits for at the moment: [`Announcer::on_streams`].
    pub fn stream_counts(&self, now: Instant) -> impl Iterator<Item = StreamCount> + '_ {
        let horizon = self.common.horizon;
        let counting = self
            .busy()
            .filter(move |(_, route)| route.counts_streams(horizon, now));
        counting.map(|(prefix, route)| StreamCount {
            prefix: *prefix,
            within: route.service_address().map_or(*prefix, Prefix::from),
        })
    }

    /// Whether any prefix needs to know the host's addresses.
    #[must_use]
    pub fn needs_addresses(&self) -> bool {
        self.needs_addresses
    }

    /// Each prefix at this moment.
    #[must_use]
    pub fn status(&self, moment: Moment) -> Vec<PrefixStatus> {
        let facts = self.facts();
        let routes = self.routes.values();
        routes
            .map(|route| PrefixStatus::of(route, facts.as_ref(), self.common.horizon, moment))
            .collect()
    }

    fn facts(&self) -> Option<Facts<'_>> {
        let snapshot = self.snapshot.as_deref()?;
        Some(Facts::new(snapshot, self.local, self.addresses.as_ref()))
    }

    fn observe(&mut self, concerned: Concerned, moment: Moment) {
        let Some(snapshot) = self.snapshot.clone() else {
            return;
        };
        let addresses = self.addresses.take();
        let facts = Facts::new(&snapshot, self.local, addresses.as_ref());
        let look = |route: &mut Route, context: &mut Context| {
            if route.observe(&facts, moment) || !route.quiet {
                route.settle(context);
            }
        };
        match concerned {
            Concerned::All => self.each(moment, look),
            Concerned::Only(mut prefixes) => {
                prefixes.extend(&self.busy);
                for prefix in prefixes {
                    self.with(prefix, moment, look);
                }
            }
        }
        self.addresses = addresses;
        self.refresh();
    }

    fn each(&mut self, moment: Moment, mut act: impl FnMut(&mut Route, &mut Context)) {
        let mut context = Context {
            moment,
            common: self.common,
            outputs: &mut self.outputs,
            changed: &mut self.stale,
        };
        for (prefix, route) in &mut self.routes {
            let was_quiet = route.quiet;
            act(route, &mut context);
            if !(was_quiet && route.quiet) {
                note_busy(&mut self.busy, *prefix, route);
            }
        }
    }

    fn with<T>(
        &mut self,
        prefix: Prefix,
        moment: Moment,
        act: impl FnOnce(&mut Route, &mut Context) -> T,
    ) -> Option<T> {
        let route = self.routes.get_mut(&prefix)?;
        let mut context = Context {
            moment,
            common: self.common,
            outputs: &mut self.outputs,
            changed: &mut self.stale,
        };
        let answer = act(route, &mut context);
        note_busy(&mut self.busy, prefix, route);
        Some(answer)
    }

    /// Brings what is wanted up to date; the same stays the same `Arc`.
    fn refresh(&mut self) {
        self.drop_retired();
        let known = self.snapshot.as_ref().is_some_and(|snapshot| snapshot.settled);
        self.settled |= known && !self.busy().any(|(_, route)| route.is_starting());
        if self.stale.is_empty() {
            return;
        }
        self.changed.extend(&self.stale);
        let decision = |prefix: &Prefix| Some(self.routes.get(prefix)?.decision.clone());
        let changes = self
            .stale
            .iter()
            .map(|prefix| (*prefix, decision(prefix)))
            .collect();
        self.stale.clear();
        let wanted = Arc::make_mut(&mut self.wanted);
        wanted.snapshot = self.common.snapshot;
        wanted.prefixes.change(changes);
    }

    /// Makes the next change cheap, when there is time: what is wanted stays the same.
    pub fn tidy(&mut self) {
        if !self.wanted.prefixes.is_folded() {
            Arc::make_mut(&mut self.wanted).prefixes.fold();
        }
    }

    fn drop_retired(&mut self) {
        let retired = self.busy().filter(|(_, route)| route.is_over());
        for prefix in retired.map(|(prefix, _)| *prefix).collect::<Vec<_>>() {
            self.busy.remove(&prefix);
            self.routes.remove(&prefix);
            self.stale.push(prefix);
        }
    }
}

fn note_busy(busy: &mut BTreeSet<Prefix>, prefix: Prefix, route: &Route) {
    if route.quiet {
        busy.remove(&prefix);
    } else {
        busy.insert(prefix);
    }
}

pub(crate) fn stands_at(anycast: &Anycast, local: Option<SiteId>) -> bool {
    match local {
        Some(site) => anycast.sites.contains(&site),
        None => anycast.sites.is_empty(),
    }
}

#[cfg(test)]
mod tests;
