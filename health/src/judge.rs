//! From verdict changes to snapshots: the settle rule, and the guard's word on each endpoint that went down.
//!
//! ```text
//! verdicts ─► entries ─► settled? ─ no ─► nothing is published, nothing is acted on
//!                            │
//!                           yes ─► up: in at once     down: the guard is asked ─► out, or held and asked again
//! ```
//!
//! Settled means that every endpoint has a verdict, or that the time in which it must have got one is over. What
//! is down at that moment is out *without* the guard's permission: nothing was announced or answered before, so
//! no traffic is lost by not beginning, while beginning to announce a site that is known to be dead would draw
//! traffic to it. `keep_sites` and `max_withdrawn` limit what is taken out after that.
//!
//! An endpoint may go without permission while another one of its unit (see [`crate::guard`]) stays in service
//! and is known to (`Unknown` is hope, no knowledge, and is not leant on).
//!
//! Who falls too often is held back on its return: see [`crate::damping`]. What went out in the same second as everything else
//! comes back: see [`together`].
//!
//! The operator's wishes stand above the verdicts: see [`drain`] and [`force`]. A drain goes before a forced verdict, a
//! forced verdict before the checks.

mod damp;
mod drain;
mod force;
mod journal;
mod loads;
mod together;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_topology::{Demand, EndpointId, Fleet, PoolId};

use crate::damping::Damping;
use crate::guard::{Guard, Refusal, Standing};
use crate::memory::Remembered;
use crate::operator::{Drain, Force, Target};
use crate::snapshot::{Cause, Damped, EndpointState, Service, Snapshot, States, Trail, Verdict};
use crate::units::Units;

use journal::Journal;
use loads::Loads;
use together::Together;

pub use drain::{DrainRefused, NotDrained};
pub use force::NotForced;
pub(crate) use force::governing;

/// Longest spread of the first round of probes; shorter intervals are spread over one interval.
pub const SPREAD_MAX: Duration = Duration::from_secs(1);

/// What the last probe of the first rounds may come late by before we settle without it.
const SETTLE_SLACK: Duration = Duration::from_millis(500);

/// A verdict that a check came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Whose.
    pub endpoint: EndpointId,
    /// The new verdict.
    pub verdict: Verdict,
    /// The outcome that decided it.
    pub cause: Cause,
}

/// From verdict changes to snapshots. Sans-IO: logs and counts, but waits for nothing and asks no clock.
#[derive(Debug)]
pub struct Judge {
    fleet: Arc<Fleet>,
    /// The newest snapshot's.
    number: u64,
    /// When the newest snapshot was made.
    at: Timestamp,
    settled: bool,
    settle_by: Instant,
    /// The truth as we know it; published only once settled.
    entries: States,
    guard: Guard,
    damping: Damping,
    /// Who is held back, as the next snapshot will say.
    damped: Vec<Damped>,
    /// What serves, and is not said to be down by its own site.
    units: Units,
    /// What serves and is up: all that a drain may lean on.
    healthy: Units,
    /// What might be up, in service or not.
    alive: Units,
    /// The operator's wishes, oldest first.
    drains: Vec<Drain>,
    /// The verdicts that he forces, oldest first.
    forces: Vec<Force>,
    /// What the checks say of endpoints whose verdict is forced.
    seen: BTreeMap<EndpointId, Seen>,
    /// What was out of service before a restart, until its check says that it is up, or we are settled.
    recalled: BTreeMap<EndpointId, Recalled>,
    /// When to see whether a wish is over.
    wishes_due: Option<Instant>,
    /// Down but not out, longest first, with the guard's last word.
    waiting: Vec<Waiting>,
    /// When the window next lets one of `waiting` out.
    window_slides: Option<Instant>,
    /// Whether `entries` differ from what was published.
    dirty: bool,
    /// At least all whose entries differ from what was published.
    touched: BTreeSet<EndpointId>,
    /// Whether that is more than `touched` can tell.
    all_touched: bool,
    trail: Trail,
    loads: Loads,
    together: Together,
    /// Pools that need what is measured.
    measured: Vec<PoolId>,
    journal: Journal,
}

/// What the checks say, under a verdict that is forced.
#[derive(Debug, Clone)]
struct Seen {
    verdict: Verdict,
    cause: Cause,
    since: Timestamp,
}

/// What is remembered of an endpoint that was out of service.
#[derive(Debug, Clone)]
struct Recalled {
    cause: Cause,
    since: Timestamp,
}

#[derive(Debug)]
struct Waiting {
    endpoint: EndpointId,
    refusal: Option<Refusal>,
    /// It was out, together with too many others: see [`together`].
    came_back: bool,
}

impl Judge {
    /// A judge at start-up. Settled at once when no endpoint is checked.
    #[must_use]
    pub fn new(fleet: Arc<Fleet>, now: Instant, at: Timestamp) -> Self {
        let entries: States = fleet
            .endpoint_ids()
            .map(|id| first_state(&fleet, id, at))
            .collect();
        let mut judge = Self {
            number: 1,
            at,
            settled: false,
            settle_by: now + time_to_settle(&fleet),
            guard: Guard::new(fleet.guard.clone(), fleet.pools.len()),
            damping: Damping::of(&fleet),
            damped: Vec::new(),
            units: Units::of(&fleet),
            healthy: Units::of(&fleet),
            alive: Units::of(&fleet),
            drains: Vec::new(),
            forces: Vec::new(),
            seen: BTreeMap::new(),
            recalled: BTreeMap::new(),
            wishes_due: None,
            waiting: Vec::new(),
            window_slides: None,
            dirty: false,
            touched: BTreeSet::new(),
            all_touched: true,
            trail: Trail::default(),
            loads: Loads::default(),
            together: Together::default(),
            measured: measured(&fleet),
            journal: Journal::default(),
            entries,
            fleet,
        };
        if judge.all_known() {
            judge.settled = true;
            judge.recount();
        }
        judge
    }

    /// The snapshot to begin with: number 1.
    #[must_use]
    pub fn first_snapshot(&self) -> Snapshot {
        self.snapshot()
    }

    fn snapshot(&self) -> Snapshot {
        let mut endpoints = self.entries.clone();
        if !self.settled {
            let forced = |id: usize| self.seen.contains_key(&EndpointId(id as u32));
            let unsure = endpoints.iter_mut().enumerate().filter(|(id, _)| !forced(*id));
            unsure.for_each(|(_, state)| hide(state));
            for (id, recalled) in &self.recalled {
                if let Some(state) = endpoints
                    .get_mut(id.0 as usize)
                    .filter(|_| !forced(id.0 as usize))
                {
                    recalled.show(state);
                }
            }
        }
        Snapshot {
            number: self.number,
            at: self.at,
            fleet: Arc::clone(&self.fleet),
            settled: self.settled,
            endpoints,
            drains: self.drains.clone(),
            damped: self.damped.clone(),
            forces: self.forces.clone(),
            loads: self.loads.current(),
            trail: self.trail.clone(),
        }
    }

    /// Logs what was decided; to be called when the snapshot is published. The next decision does it at the latest.
    pub fn tell(&mut self) {
        self.journal.tell();
    }

    /// The fleet that is judged.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// What is known of an endpoint, published or not.
    #[must_use]
    pub fn verdict(&self, endpoint: EndpointId) -> Verdict {
        self.entries
            .get(endpoint.0 as usize)
            .map_or(Verdict::Unknown, |entry| entry.verdict)
    }

    /// Probing begins now: the time in which every endpoint must get its verdict starts here, and the next
    /// snapshot is newer than `published`, whoever published that.
    pub(crate) fn probing_begins(&mut self, now: Instant, published: u64) {
        self.settle_by = now + time_to_settle(&self.fleet);
        if self.number < published {
            self.number = published; // what that one says we do not know
            self.all_touched = true;
        }
    }

    /// Goes on with a new fleet and returns its first snapshot, one number on.
    ///
    /// An endpoint with the same pool, site, address and probe address keeps its verdict and its place in or out
    /// of service; the guard keeps what each pool (by name) took out. A new endpoint is `Unknown`, and in service
    /// until it is known better; that does not unsettle us. What the file no longer names is gone at once: that is
    /// the operator's wish, not a failure for the guard to weigh. A drain goes on for what goes by the same name.
    #[must_use]
    pub fn reload(self, fleet: Arc<Fleet>, now: Instant, at: Timestamp) -> (Self, Arc<Snapshot>) {
        let mut next = Self::new(fleet, now, at);
        next.number = self.number;
        next.guard
            .inherit(&self.guard, &self.fleet.pools, &next.fleet.pools);
        next.inherit_states(&self);
        next.forget_weights();
        next.inherit_drains(&self, now, at);
        next.inherit_forces(&self, now, at);
        next.inherit_recalled(&self);
        next.inherit_loads(&self, now, at);
        if self.settled {
            next.settled = true;
            next.inherit_together(&self);
            next.recount();
            next.wait_again();
            next.inherit_damping(&self, now, at);
            next.reconsider(now);
            next.bring_back(now);
        } else if next.all_known() {
            next.settle();
        }
        next.number += 1;
        next.dirty = false;
        next.touched.clear();
        next.all_touched = false;
        let snapshot = Arc::new(next.snapshot());
        (next, snapshot)
    }

    fn inherit_states(&mut self, old: &Self) {
        let checked = old.fleet.endpoint_ids().filter(|id| is_checked(&old.fleet, *id));
        let known: HashMap<_, _> = checked
            .map(|id| (identity(&old.fleet, id), old.without_force(id)))
            .collect();
        for id in self
            .fleet
            .endpoint_ids()
            .filter(|id| is_checked(&self.fleet, *id))
        {
            if let Some(state) = known.get(&identity(&self.fleet, id)) {
                self.entries[id.0 as usize].clone_from(state.as_ref());
            }
        }
    }

    fn inherit_recalled(&mut self, old: &Self) {
        for (id, recalled) in &old.recalled {
            let name = Target::Endpoint(*id).name(&old.fleet);
            if let Ok(Target::Endpoint(id)) = Target::find(&self.fleet, &name)
                && self.verdict(id) == Verdict::Unknown
            {
                self.recalled.insert(id, recalled.clone());
            }
        }
    }

    /// Puts in line again what is down and not out.
    fn wait_again(&mut self) {
        let fleet = Arc::clone(&self.fleet);
        for endpoint in fleet.endpoint_ids() {
            let entry = &self.entries[endpoint.0 as usize];
            if entry.verdict == Verdict::Down && !matches!(entry.service, Service::Out | Service::Drained) {
                self.waiting.push(Waiting {
                    endpoint,
                    refusal: None,
                    came_back: false,
                });
            }
        }
        self.waiting
            .sort_by_key(|one| self.entries[one.endpoint.0 as usize].since);
    }

    /// One verdict changed. Returns the next snapshot, if there is one to publish.
    pub fn on_verdict(
        &mut self,
        endpoint: EndpointId,
        verdict: Verdict,
        cause: Cause,
        now: Instant,
        at: Timestamp,
    ) -> Option<Arc<Snapshot>> {
        self.on_verdicts(
            [Change {
                endpoint,
                verdict,
                cause,
            }],
            now,
            at,
        )
    }

    /// Verdicts changed together: one snapshot for all of them, and for what was due by `now` besides.
    pub fn on_verdicts(
        &mut self,
        changes: impl IntoIterator<Item = Change>,
        now: Instant,
        at: Timestamp,
    ) -> Option<Arc<Snapshot>> {
        self.tell();
        for change in changes {
            self.damp(change, now, at);
        }
        self.end_damping(now, at);
        if !self.settled && (self.all_known() || now >= self.settle_by) {
            self.settle();
        }
        self.end_wishes(now, at);
        self.measure_demand(at);
        self.reconsider(now);
        self.relieve_damped(now, at);
        self.bring_back(now);
        self.dirty |= self.loads.is_due(now, at);
        self.next_snapshot(at)
    }

    /// When to call [`Judge::on_deadline`]; `None`: nothing waits for time to pass.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let verdicts = if self.settled {
            self.window_slides
        } else {
            Some(self.settle_by)
        };
        let loads = self.loads.next_deadline();
        let others = [self.wishes_due, self.damping.next_deadline(), loads];
        verdicts.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// The time came: settles without the last verdicts, ends a drain, or asks the guard again.
    pub fn on_deadline(&mut self, now: Instant, at: Timestamp) -> Option<Arc<Snapshot>> {
        self.on_verdicts([], now, at)
    }

    /// What was out of service seconds before a restart stays so until its check says that it is up, or the first
    /// round is over. Before the first snapshot. Settles nothing: routes wait for the round as ever.
    pub fn recall(&mut self, remembered: &[Remembered]) {
        for Remembered {
            endpoint,
            cause,
            since,
            last: _,
        } in remembered
        {
            let Ok(Target::Endpoint(id)) = Target::find(&self.fleet, endpoint) else {
                continue; // the configuration has it no more
            };
            if self.verdict(id) == Verdict::Unknown {
                tracing::info!(endpoint, cause, %since, "out of service as before the restart, until it is seen up");
                let (cause, since) = (cause.clone(), *since);
                self.recalled.insert(id, Recalled { cause, since });
            }
        }
    }

    /// A check has spoken.
    fn remember(&mut self, endpoint: EndpointId, verdict: Verdict) {
        if verdict == Verdict::Up && self.recalled.remove(&endpoint).is_some() {
            self.dirty = true;
            self.touched.insert(endpoint);
        }
    }

    /// Takes the verdict down and, once settled, puts the endpoint in service or in line for the guard.
    fn record(&mut self, change: Change, at: Timestamp) {
        let Change {
            endpoint,
            verdict,
            cause,
        } = change;
        self.remember(endpoint, verdict);
        if self.record_under_force(endpoint, verdict, &cause, at) {
            return;
        }
        let Some(entry) = self.entries.get_mut(endpoint.0 as usize) else {
            return;
        };
        if entry.verdict == verdict {
            return;
        }
        let from = std::mem::replace(&mut entry.verdict, verdict);
        entry.cause = cause;
        entry.since = at;
        self.touched.insert(endpoint);
        self.log_verdict(endpoint, from);
        if self.settled {
            self.dirty = true;
            self.recount_one(endpoint);
            self.follow(endpoint, verdict);
        }
    }

    /// The table: what a new verdict does to the service of an endpoint.
    fn follow(&mut self, endpoint: EndpointId, verdict: Verdict) {
        self.waiting.retain(|waiting| waiting.endpoint != endpoint);
        match (verdict, &self.entries[endpoint.0 as usize].service) {
            (Verdict::Up, Service::In) => {}
            (Verdict::Up, Service::Out | Service::Held { .. }) => self.put(endpoint, Service::In),
            // The operator's wish outlives the endpoint's health.
            (Verdict::Up | Verdict::Down | Verdict::Unknown, Service::Drained) => {}
            (Verdict::Down, Service::In | Service::Held { .. }) => {
                self.waiting.push(Waiting {
                    endpoint,
                    refusal: None,
                    came_back: false,
                });
            }
            (Verdict::Down, Service::Out) => {}
            // Unknown changes nothing, save that there is nothing to hold any more.
            (Verdict::Unknown, Service::In | Service::Out) => {}
            (Verdict::Unknown, Service::Held { .. }) => self.put(endpoint, Service::In),
        }
    }

    fn all_known(&self) -> bool {
        self.entries.iter().all(|entry| entry.verdict != Verdict::Unknown)
    }

    fn settle(&mut self) {
        self.settled = true;
        self.dirty = true;
        self.all_touched = true;
        let recalled = std::mem::take(&mut self.recalled);
        for (id, recalled) in recalled {
            if self.verdict(id) == Verdict::Down && !self.seen.contains_key(&id) {
                self.entries[id.0 as usize].since = recalled.since; // it was down all the time
            }
        }
        let unknown = self
            .entries
            .iter()
            .filter(|entry| entry.verdict == Verdict::Unknown)
            .count();
        let snapshot = self.number + 1;
        self.journal
            .add(move || tracing::info!(snapshot, unknown, "first round of checks is over"));
        for endpoint in self.fleet.endpoint_ids() {
            let drained = self.entries[endpoint.0 as usize].service == Service::Drained;
            if self.verdict(endpoint) == Verdict::Down && !drained {
                self.put(endpoint, Service::Out);
            }
        }
        self.recount();
    }

    /// Asks the guard for each endpoint that is down but not out, longest first.
    fn reconsider(&mut self, now: Instant) {
        if !self.settled {
            return;
        }
        let mut waiting = std::mem::take(&mut self.waiting);
        waiting.retain_mut(|one| self.still_refused(one, now));
        self.window_slides = waiting.iter().filter_map(|one| self.retry_at(one)).min();
        self.waiting = waiting;
    }

    /// Takes one endpoint out, or holds it and returns true.
    fn still_refused(&mut self, one: &mut Waiting, now: Instant) -> bool {
        let refusal = match self.may_go(one.endpoint, now) {
            Ok(()) => {
                self.put(one.endpoint, Service::Out);
                self.together.goes_out(one.endpoint, now);
                return false;
            }
            Err(refusal) => refusal,
        };
        if one.refusal != Some(refusal) {
            self.put(one.endpoint, one.held_for(refusal));
        }
        let rule_before = one.refusal.replace(refusal).map(|before| before.rule());
        if rule_before != Some(refusal.rule()) {
            self.log_refusal(one.endpoint, refusal);
        }
        true
    }

    fn may_go(&mut self, endpoint: EndpointId, now: Instant) -> Result<(), Refusal> {
        match self.units.without(endpoint) {
            None => Ok(()),
            Some(standing) => {
                let pool = self.fleet.endpoint(endpoint).pool;
                let down = self.alive.missing(pool);
                self.guard.ask(pool, Standing { down, ..standing }, now)
            }
        }
    }

    fn retry_at(&self, one: &Waiting) -> Option<Instant> {
        match one.refusal? {
            Refusal::Window { .. } => self.guard.frees_at(self.fleet.endpoint(one.endpoint).pool),
            Refusal::Keep { .. } | Refusal::Capacity { .. } | Refusal::Panic { .. } => None,
        }
    }

    fn put(&mut self, endpoint: EndpointId, service: Service) {
        let entry = &mut self.entries[endpoint.0 as usize];
        if entry.service == service {
            return;
        }
        entry.service = service;
        self.together.is_elsewhere(endpoint);
        self.dirty = true;
        self.touched.insert(endpoint);
        self.recount_one(endpoint);
        self.log_service(endpoint);
    }

    fn recount(&mut self) {
        for endpoint in self.fleet.endpoint_ids() {
            self.recount_one(endpoint);
        }
    }

    fn recount_one(&mut self, endpoint: EndpointId) {
        let entry = &self.entries[endpoint.0 as usize];
        let (serves, is_healthy) = match (&entry.service, entry.verdict) {
            (Service::In | Service::Held { .. }, Verdict::Up) => (true, true),
            (Service::In | Service::Held { .. }, Verdict::Down) => (true, false),
            (Service::In | Service::Held { .. }, Verdict::Unknown) => (false, false),
            (Service::Out | Service::Drained, Verdict::Up | Verdict::Down | Verdict::Unknown) => {
                (false, false)
            }
        };
        let is_lost = self.together.is_lost(endpoint);
        self.units.set(endpoint, serves && !is_lost);
        self.healthy.set(endpoint, is_healthy && !is_lost);
        self.alive.set(endpoint, entry.verdict != Verdict::Down);
    }

    fn next_snapshot(&mut self, at: Timestamp) -> Option<Arc<Snapshot>> {
        if !std::mem::take(&mut self.dirty) {
            return None;
        }
        let touched = std::mem::take(&mut self.touched);
        self.trail = if std::mem::take(&mut self.all_touched) {
            Trail::default()
        } else {
            self.trail.next(self.number, touched)
        };
        self.number += 1;
        self.at = at;
        self.loads.told();
        self.journal
            .add(|| metrics::counter!("steer_health_snapshots_total").increment(1));
        Some(Arc::new(self.snapshot()))
    }
}

/// What the log says, always with the number of the snapshot that will carry the change.
impl Judge {
    fn log_verdict(&mut self, endpoint: EndpointId, from: Verdict) {
        let entry = self.entries[endpoint.0 as usize].clone();
        self.note(endpoint, move |subject| {
            tracing::info!(
                snapshot = subject.snapshot,
                endpoint = %subject.address,
                pool = subject.pool,
                site = subject.site,
                from = from.as_str(),
                verdict = entry.verdict.as_str(),
                cause = entry.cause,
                at = %entry.since,
                "verdict changed"
            );
        });
    }

    fn log_service(&mut self, endpoint: EndpointId) {
        let service = self.entries[endpoint.0 as usize].service.clone();
        self.note(
            endpoint,
            move |Subject {
                      snapshot,
                      address,
                      pool,
                      site,
                  }| {
                let service = service.as_str();
                tracing::info!(snapshot, endpoint = %address, pool, site, service, "service changed");
            },
        );
    }

    fn log_refusal(&mut self, endpoint: EndpointId, reason: Refusal) {
        metrics::counter!("steer_health_guard_refusals_total", "rule" => reason.rule()).increment(1);
        self.warn_of(endpoint, reason, "guard refused");
    }

    fn warn_of(&mut self, endpoint: EndpointId, reason: Refusal, what: &'static str) {
        self.note(
            endpoint,
            move |Subject {
                      snapshot,
                      address,
                      pool,
                      site,
                  }| {
                tracing::warn!(snapshot, endpoint = %address, pool, site, %reason, "{what}");
            },
        );
    }

    fn note(&mut self, endpoint: EndpointId, line: impl FnOnce(Subject<'_>) + Send + Sync + 'static) {
        let (fleet, snapshot) = (Arc::clone(&self.fleet), self.number + 1);
        self.journal.add(move || {
            let endpoint = fleet.endpoint(endpoint);
            line(Subject {
                snapshot,
                address: endpoint.address,
                pool: &fleet.pool(endpoint.pool).name,
                site: endpoint.site.map(|site| fleet.site(site).name.as_str()),
            });
        });
    }
}

/// What a line of the log is about.
struct Subject<'f> {
    snapshot: u64,
    address: SocketAddr,
    pool: &'f str,
    site: Option<&'f str>,
}

fn first_state(fleet: &Fleet, id: EndpointId, at: Timestamp) -> EndpointState {
    let checked = fleet.pool(fleet.endpoint(id).pool).check.is_some();
    let (verdict, cause) = if checked {
        (Verdict::Unknown, NO_VERDICT_YET)
    } else {
        (Verdict::Up, "not checked")
    };
    EndpointState {
        verdict,
        service: Service::In,
        cause: cause.to_owned(),
        since: at,
        weight: None,
    }
}

fn is_checked(fleet: &Fleet, id: EndpointId) -> bool {
    fleet.pool(fleet.endpoint(id).pool).check.is_some()
}

/// What makes an endpoint the same one in another fleet.
fn identity(fleet: &Fleet, id: EndpointId) -> (&str, Option<&str>, SocketAddr, SocketAddr) {
    let endpoint = fleet.endpoint(id);
    let site = endpoint.site.map(|site| fleet.site(site).name.as_str());
    (
        &fleet.pool(endpoint.pool).name,
        site,
        endpoint.address,
        endpoint.probe,
    )
}

fn measured(fleet: &Fleet) -> Vec<PoolId> {
    let pools = (0..).map(PoolId).zip(&fleet.pools);
    let measured = pools.filter(|(_, pool)| pool.needs == Demand::Measured);
    measured.map(|(id, _)| id).collect()
}

impl Recalled {
    fn show(&self, state: &mut EndpointState) {
        state.verdict = Verdict::Down;
        state.service = match state.service {
            Service::In | Service::Out | Service::Held { .. } => Service::Out,
            Service::Drained => Service::Drained,
        };
        state.cause = format!("{} (before the restart)", self.cause);
        state.since = self.since;
    }
}

const NO_VERDICT_YET: &str = "no verdict yet";

/// Before the first full round is over nobody may act on the part that we know.
fn hide(state: &mut EndpointState) {
    state.verdict = Verdict::Unknown;
    state.service = match state.service {
        Service::In | Service::Out | Service::Held { .. } => Service::In,
        Service::Drained => Service::Drained,
    };
    state.cause = NO_VERDICT_YET.to_owned();
}

/// By then every check has had its spread start and `fall` probes, each of which may take its whole time-out.
fn time_to_settle(fleet: &Fleet) -> Duration {
    let checked = fleet
        .endpoints
        .iter()
        .filter_map(|endpoint| fleet.pool(endpoint.pool).check);
    let needs = checked.map(|id| {
        let check = fleet.check(id);
        let probe = check.interval.max(check.timeout);
        check.interval.min(SPREAD_MAX) + probe.saturating_mul(u32::from(check.fall.get()))
    });
    needs.max().unwrap_or_default() + SETTLE_SLACK
}

#[cfg(test)]
mod model;
#[cfg(test)]
mod tests;
