//! The operator's wishes in the judge: drains begin, end and expire.
//!
//! ```text
//! drain ─► guard: enough that is up left? window? ─ no ─► refused, unless forced
//!                            │
//!                           yes ─► drained, whatever the verdict ─► undrained or expired ─┬─ up, unknown: in
//!                                                                                         └─ down: out, or held
//! ```
//!
//! A drain ends by the wall clock, which is what it promises and what survives a restart. A clock that is set
//! while a drain stands is noticed within [`LOOK_AGAIN`].

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_topology::{EndpointId, PoolId};

use super::{Judge, Waiting};
use crate::guard::{Refusal, Standing};
use crate::operator::{Drain, Target};
use crate::outcome::spoken;
use crate::snapshot::{Service, Snapshot, Verdict};

/// Longest time between two looks at the wall clock while a drain with an end stands.
const LOOK_AGAIN: Duration = Duration::from_secs(60);

/// Shortest, so that a clock which is being slewed does not make the loop spin.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(1);

/// Why something is not drained, with the numbers and the remedy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DrainRefused {
    /// Nothing is known yet of what would be left.
    #[error(
        "{doing} {target} must wait: the first round of checks is not over; \
         try again in a few seconds, or --force does it all the same"
    )]
    NotSettled {
        /// "draining", "forcing down"
        doing: &'static str,
        /// By its full name.
        target: String,
    },
    /// The guard forbids it.
    #[error("{doing} {target} {}; --force does it all the same", worded(*.pools, pool, refusal))]
    Guard {
        /// "draining", "forcing down"
        doing: &'static str,
        /// By its full name.
        target: String,
        /// The first pool that would suffer.
        pool: String,
        /// The rule, with its numbers for that pool.
        refusal: Refusal,
        /// How many pools would suffer.
        pools: usize,
    },
}

impl DrainRefused {
    /// Value of the `rule` label of `steer_health_drain_refusals_total`.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::NotSettled { .. } => "settled",
            Self::Guard { refusal, .. } => refusal.rule(),
        }
    }
}

/// There is no such drain.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0} is not drained")]
pub struct NotDrained(pub String);

impl Judge {
    /// The drains that stand, oldest first.
    #[must_use]
    pub fn drains(&self) -> &[Drain] {
        &self.drains
    }

    /// Puts drains back that stood before a restart, before the first snapshot. They were permitted once and cost
    /// nothing now.
    pub fn restore(&mut self, drains: impl IntoIterator<Item = Drain>, now: Instant, at: Timestamp) {
        for drain in drains {
            tracing::info!(
                drained = drain.target.name(&self.fleet),
                reason = drain.reason,
                author = drain.author,
                until = drain.until.map(tracing::field::display),
                "drain goes on after a restart"
            );
            self.drains.push(drain);
        }
        self.cover();
        self.end_wishes(now, at);
        self.dirty = false;
    }

    /// An operator wishes a drain; `force` overrules the guard. A drain that stands gets the new reason, author and
    /// end, and keeps its beginning. Returns the next snapshot, if there is one to publish.
    ///
    /// # Errors
    /// The guard forbids it, and it is not forced.
    pub fn drain(
        &mut self,
        drain: Drain,
        force: bool,
        now: Instant,
        at: Timestamp,
    ) -> Result<Option<Arc<Snapshot>>, DrainRefused> {
        self.weigh_drain(&drain, force, now, at)?;
        self.begin_drain(drain, force, now);
        Ok(self.after_wish(now, at))
    }

    /// Whether the guard permits a drain, or `force` overrules it. Changes nothing but what is over by now.
    ///
    /// # Errors
    /// The guard forbids it, and it is not forced.
    pub fn weigh_drain(
        &mut self,
        drain: &Drain,
        force: bool,
        now: Instant,
        at: Timestamp,
    ) -> Result<(), DrainRefused> {
        self.tell();
        self.end_wishes(now, at);
        if self.is_drained(drain.target) {
            return Ok(());
        }
        self.weigh(drain.target, "draining", &drain.author, force, now)
    }

    /// Asks the guard for what a wish takes out.
    pub(super) fn weigh(
        &mut self,
        target: Target,
        doing: &'static str,
        author: &str,
        force: bool,
        now: Instant,
    ) -> Result<(), DrainRefused> {
        let losses = self.losses(target);
        match self.ask_to_take_out(&losses, target, doing, now) {
            Ok(()) => Ok(()),
            Err(refused) if force => {
                self.log_forced(author, &refused);
                Ok(())
            }
            Err(refused) => {
                self.log_refused(author, &refused);
                Err(refused)
            }
        }
    }

    /// A drain stands from now on. It was permitted, here or at another site.
    pub(super) fn begin_drain(&mut self, drain: Drain, forced: bool, now: Instant) {
        if !self.is_drained(drain.target) {
            self.count_losses(drain.target, now);
        }
        self.log_drain(&drain, forced);
        self.note_drain(drain);
    }

    /// What a wish takes out counts against the window, permitted or not.
    pub(super) fn count_losses(&mut self, target: Target, now: Instant) {
        for loss in self.losses(target) {
            self.guard.count(loss.pool, now);
        }
    }

    /// What follows from a wish, and the next snapshot, if there is one to publish.
    pub(super) fn after_wish(&mut self, now: Instant, at: Timestamp) -> Option<Arc<Snapshot>> {
        self.look_at_wishes_later(now, at);
        self.reconsider(now);
        self.relieve_damped(now, at);
        self.bring_back(now);
        self.next_snapshot(at)
    }

    /// An operator ends a drain. Returns the next snapshot.
    ///
    /// # Errors
    /// Nothing to end.
    pub fn undrain(
        &mut self,
        target: Target,
        author: &str,
        now: Instant,
        at: Timestamp,
    ) -> Result<Option<Arc<Snapshot>>, NotDrained> {
        self.tell();
        let drain = self.remove_drain(target)?;
        self.end(&drain, &format!("undrained by {author}"));
        Ok(self.after_wish(now, at))
    }

    fn remove_drain(&mut self, target: Target) -> Result<Drain, NotDrained> {
        let place = self.drains.iter().position(|drain| drain.target == target);
        match place {
            Some(place) => Ok(self.drains.remove(place)),
            None => Err(NotDrained(target.name(&self.fleet))),
        }
    }

    /// Takes over the drains of the whole fleet: those that stand and are not among `wanted` end, the others begin or
    /// are renewed. All of them were permitted where they were wished.
    pub(super) fn adopt_drains(&mut self, wanted: Vec<Drain>, now: Instant) {
        let is_wanted = |drain: &mut Drain| !wanted.iter().any(|wanted| wanted.target == drain.target);
        let over: Vec<_> = self.drains.extract_if(.., is_wanted).collect();
        for drain in over {
            self.end(&drain, "the store has it no more");
        }
        for drain in wanted {
            if !self.drains.contains(&drain) {
                self.begin_drain(drain, false, now);
            }
        }
    }

    /// Takes over the drains of another judge, for what goes by the same name.
    pub(super) fn inherit_drains(&mut self, old: &Self, now: Instant, at: Timestamp) {
        for drain in &old.drains {
            let name = drain.target.name(&old.fleet);
            match Target::find(&self.fleet, &name) {
                Ok(target) => self.drains.push(Drain {
                    target,
                    ..drain.clone()
                }),
                Err(error) => tracing::warn!(drained = name, %error, "nothing is left to drain"),
            }
        }
        self.cover();
        self.end_wishes(now, at);
    }

    /// Puts out of the reach of new clients what is drained, and only that, before anything was published.
    fn cover(&mut self) {
        let fleet = Arc::clone(&self.fleet);
        for endpoint in fleet.endpoint_ids() {
            let is_drained = self.is_covered(endpoint);
            let service = &mut self.entries[endpoint.0 as usize].service;
            if is_drained {
                *service = Service::Drained;
            } else if *service == Service::Drained {
                *service = Service::In;
            }
        }
        if self.settled {
            self.recount();
        }
    }

    /// Ends what is over by now.
    pub(super) fn end_wishes(&mut self, now: Instant, at: Timestamp) {
        let is_over = |drain: &mut Drain| drain.until.is_some_and(|until| until <= at);
        let over: Vec<_> = self.drains.extract_if(.., is_over).collect();
        for drain in over {
            self.end(&drain, "its time is over");
        }
        self.end_forces(at);
        self.look_at_wishes_later(now, at);
    }

    pub(super) fn look_at_wishes_later(&mut self, now: Instant, at: Timestamp) {
        let drains = self.drains.iter().filter_map(|drain| drain.until);
        let forces = self.forces.iter().filter_map(|force| force.until);
        let first = drains.chain(forces).min().map(|until| {
            let left = Duration::try_from(until.duration_since(at)).unwrap_or_default();
            left.clamp(LOOK_AGAIN_MIN, LOOK_AGAIN)
        });
        self.wishes_due = first.and_then(|left| now.checked_add(left));
    }

    fn is_drained(&self, target: Target) -> bool {
        self.drains.iter().any(|drain| drain.target == target)
    }

    /// Puts a drain in the list and its endpoints out of the reach of new clients.
    fn note_drain(&mut self, drain: Drain) {
        let target = drain.target;
        match self.drains.iter_mut().find(|stands| stands.target == target) {
            Some(stands) => {
                let since = stands.since;
                let renewed = Drain { since, ..drain };
                self.dirty |= *stands != renewed;
                *stands = renewed;
            }
            None => {
                self.drains.push(drain);
                self.dirty = true;
            }
        }
        let fleet = Arc::clone(&self.fleet);
        for endpoint in target.endpoints(&fleet) {
            self.waiting.retain(|waiting| waiting.endpoint != endpoint);
            self.put(endpoint, Service::Drained);
        }
    }

    /// Whether any drain that stands is about this endpoint.
    pub(super) fn is_covered(&self, endpoint: EndpointId) -> bool {
        let site = self.fleet.endpoint(endpoint).site;
        self.drains.iter().any(|drain| match drain.target {
            Target::Site(drained) => site == Some(drained),
            Target::Endpoint(drained) => drained == endpoint,
        })
    }

    /// Asks the guard for every unit that the wish takes out.
    fn ask_to_take_out(
        &mut self,
        losses: &[Loss],
        target: Target,
        doing: &'static str,
        now: Instant,
    ) -> Result<(), DrainRefused> {
        if losses.is_empty() {
            return Ok(());
        }
        if !self.settled {
            return Err(DrainRefused::NotSettled {
                doing,
                target: target.name(&self.fleet),
            });
        }
        let guard = &mut self.guard;
        let weighed = losses
            .iter()
            .filter_map(|loss| Some((loss.pool, guard.weigh_drain(loss.pool, loss.healthy, now).err()?)));
        let refusals: Vec<_> = weighed.collect();
        match refusals.first() {
            None => Ok(()),
            Some((pool, refusal)) => Err(DrainRefused::Guard {
                doing,
                target: target.name(&self.fleet),
                pool: self.fleet.pool(*pool).name.clone(),
                refusal: *refusal,
                pools: refusals.len(),
            }),
        }
    }

    /// The units in service that a drain would leave without an endpoint that is up, at most one of each pool.
    fn losses(&mut self, target: Target) -> Vec<Loss> {
        let fleet = Arc::clone(&self.fleet);
        let leaving: Vec<_> = target
            .endpoints(&fleet)
            .filter(|id| self.entries[id.0 as usize].service.takes_new_clients())
            .collect();
        for endpoint in &leaving {
            self.healthy.set(*endpoint, false);
        }
        let mut losses = BTreeMap::new();
        for endpoint in &leaving {
            if let Some(standing) = self.healthy.without(*endpoint) {
                losses.insert(fleet.endpoint(*endpoint).pool, standing);
            }
        }
        for endpoint in leaving {
            self.recount_one(endpoint);
        }
        let loss = |(pool, healthy)| Loss { pool, healthy };
        losses.into_iter().map(loss).collect()
    }

    /// A drain is no more: what it alone kept from new clients goes where its verdict says.
    fn end(&mut self, drain: &Drain, cause: &str) {
        let (snapshot, drained) = (self.number + 1, drain.target.name(&self.fleet));
        let cause = cause.to_owned();
        self.journal
            .add(move || tracing::info!(snapshot, drained, cause, "drain ended"));
        self.dirty = true;
        let fleet = Arc::clone(&self.fleet);
        for endpoint in drain.target.endpoints(&fleet) {
            if !self.is_covered(endpoint) {
                self.take_back(endpoint);
            }
        }
    }

    /// An endpoint goes where its verdict says, when no wish keeps it elsewhere any more.
    pub(super) fn take_back(&mut self, endpoint: EndpointId) {
        if self.is_forced_down(endpoint) {
            self.put(endpoint, Service::Out); // that was permitted
            return;
        }
        match self.verdict(endpoint) {
            Verdict::Up | Verdict::Unknown => self.put(endpoint, Service::In),
            Verdict::Down if !self.settled => self.put(endpoint, Service::In),
            // It was out and is not taken out now, so that costs nothing; but with too few others it is held, as
            // it would be without the drain.
            Verdict::Down => match self.too_few_without(endpoint) {
                None => self.put(endpoint, Service::Out),
                Some(refusal) => {
                    let reason = refusal.to_string();
                    self.put(endpoint, Service::Held { reason });
                    self.log_refusal(endpoint, refusal);
                    self.waiting.push(Waiting {
                        endpoint,
                        refusal: Some(refusal),
                        came_back: false,
                    });
                }
            },
        }
    }

    pub(super) fn too_few_without(&self, endpoint: EndpointId) -> Option<Refusal> {
        let standing = self.units.without(endpoint)?;
        self.guard.check_keep(standing).err()
    }
}

/// A unit that a drain takes out.
#[derive(Debug, Clone, Copy)]
struct Loss {
    pool: PoolId,
    /// What would be left of the pool that is in service and up.
    healthy: Standing,
}

/// What the log says of drains, with the number of the snapshot that will carry them.
impl Judge {
    fn log_drain(&mut self, drain: &Drain, forced: bool) {
        let (snapshot, drained) = (self.number + 1, drain.target.name(&self.fleet));
        let Drain {
            target: _,
            reason,
            author,
            since: _,
            until,
        } = drain.clone();
        self.journal.add(move || {
            let until = until.map(tracing::field::display);
            tracing::info!(snapshot, drained, reason, author, until, forced, "drain begins");
        });
    }

    fn log_refused(&mut self, author: &str, refused: &DrainRefused) {
        metrics::counter!("steer_health_drain_refusals_total", "rule" => refused.rule()).increment(1);
        let (author, reason) = (author.to_owned(), refused.to_string());
        self.journal
            .add(move || tracing::warn!(author, reason, "drain refused"));
    }

    fn log_forced(&mut self, author: &str, refused: &DrainRefused) {
        metrics::counter!("steer_health_drains_forced_total", "rule" => refused.rule()).increment(1);
        let (snapshot, author) = (self.number + 1, author.to_owned());
        let overruled = refused.to_string();
        self.journal
            .add(move || tracing::warn!(snapshot, author, overruled, "guard overruled"));
    }
}

/// "would leave 0 of 2 sites of pool web, keep_sites is 1"
fn worded(pools: usize, pool: &str, refusal: &Refusal) -> String {
    let others = match pools {
        0 | 1 => String::new(),
        2 => " (and 1 other pool suffers)".to_owned(),
        more => format!(" (and {} other pools suffer)", more - 1),
    };
    match refusal {
        Refusal::Keep { left, units, keep } => {
            format!(
                "would leave {left} of {units} sites of pool {pool} up and in service, keep_sites is {keep}{others}"
            )
        }
        Refusal::Capacity { left, needs } => {
            format!(
                "would leave sites for {left} requests/s of pool {pool} up and in service, the pool needs {needs}{others}"
            )
        }
        Refusal::Panic { down, units, panic } => {
            format!(
                "while {down} of {units} sites of pool {pool} are down is no good time, panic is {panic} %{others}"
            )
        }
        Refusal::Window { taken, max, window } => {
            let window = spoken(*window);
            format!(
                "is too soon: pool {pool} had {taken} taken out within {window}, max_withdrawn is {max}{others}"
            )
        }
    }
}

#[cfg(test)]
mod tests;
