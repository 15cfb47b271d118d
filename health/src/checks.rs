//! All checks of one site, and the judge that they report to. Sans-IO: no socket, no task, no clock.
//!
//! ```text
//! deadline ─► Check ─► Pools ─► Peers ─┬─► own site, or no gossip: Judge ─► Snapshot
//! outcomes ─►   │      outliers        └─► elsewhere: our vote          ▲
//!               └─► Jobs (probes to send)             what is agreed on ┘
//! ```
//!
//! Whoever drives it gives it time and outcomes, sends the [`Job`]s that it asks for, and publishes what
//! [`Checks::decide`] returns. The [driver](crate::run) does so with real probes, the simulation with others.

mod peers;
mod pools;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steer_topology::{Check as CheckSettings, EndpointId, Fleet};

use crate::check::{Attempt, Check, Output, Rules};
use crate::detect::Detectors;
use crate::gossip::Moment;
use crate::judge::{Change, Judge, SPREAD_MAX};
use crate::outcome::Outcome;
use crate::snapshot::{Snapshot, Verdict};
use crate::tripwire::Cut;

pub use peers::Peers;
use pools::Pools;

/// Probes that are due within the same of these start together, at one wake-up: a wake-up and its two ways to the other
/// thread cost as much as half a probe. Slots stay where they are, so nothing drifts.
const TICK_MAX: Duration = Duration::from_millis(5);

/// Who comes so much too late was not let run.
const LATE_MAX: Duration = Duration::from_secs(1);

/// No check starts later than its slot by more than its period divided by this.
const TICKS_PER_PERIOD: u32 = 200;

/// A probe to send: its outcome goes to [`Checks::on_outcome`], within `timeout`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Job {
    /// Of which endpoint.
    pub endpoint: EndpointId,
    /// Tells it from an older one.
    pub attempt: Attempt,
    /// Longest time to wait.
    pub timeout: Duration,
    /// What its check says before.
    pub verdict: Verdict,
    /// Whether the outcome decides alone when it is refused or reset: a held connection was cut.
    pub decides_alone: bool,
}

/// What an outcome was good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Heard {
    /// It belongs to the probe that was awaited.
    pub counts: bool,
    /// The endpoint answered as it should, and is up.
    pub serves: bool,
}

/// What was decided in one turn.
#[derive(Debug, Default)]
pub struct Decided {
    /// The verdicts that the judge was told.
    pub verdicts: Vec<(EndpointId, Verdict)>,
    /// What is to be published.
    pub snapshot: Option<Arc<Snapshot>>,
}

/// The checks of one site.
#[derive(Debug)]
pub struct Checks {
    fleet: Arc<Fleet>,
    judge: Judge,
    peers: Option<Peers>,
    /// By endpoint; `None` where it is not checked, or others look at it and we do not.
    checks: Vec<Option<Check>>,
    /// When checks want to be told of the time. One that has changed its mind meanwhile lets an entry pass.
    queue: BinaryHeap<Reverse<(Instant, EndpointId)>>,
    /// By endpoint: the earliest entry in `queue`.
    queued: Vec<Option<Instant>>,
    /// The grid of wake-ups begins here.
    began: Instant,
    /// By pool; `None` where its endpoints are not compared.
    pools: Pools,
    /// What this turn came to.
    changes: Vec<Change>,
    jobs: Vec<Job>,
    /// Not up any more by their own check.
    fallen: Vec<EndpointId>,
    /// We stood still, and have not looked again yet.
    stood_still: Option<StoodStill>,
    /// Other sites have said something else of their own endpoints.
    heard_from_home: bool,
}

/// What was said before is as of `since` until `until`, when every check has looked again.
#[derive(Debug, Clone, Copy)]
struct StoodStill {
    since: Instant,
    until: Instant,
}

impl Checks {
    /// The checks of the judge's fleet; probing begins now. `published` is the newest snapshot that readers have, and
    /// `seed` spreads the first round.
    #[must_use]
    pub fn new(judge: Judge, peers: Option<Peers>, seed: u64, published: u64, now: Instant) -> Self {
        let fleet = Arc::clone(judge.fleet());
        let own = |id| peers.as_ref().and_then(|peers| peers.own_verdict(id));
        let pools = Pools::of(&fleet, now, |id| own(id).unwrap_or(judge.verdict(id)));
        let mut checks = Self {
            peers,
            checks: Vec::with_capacity(fleet.endpoints.len()),
            queue: BinaryHeap::new(),
            queued: vec![None; fleet.endpoints.len()],
            began: now,
            pools,
            judge,
            changes: Vec::new(),
            jobs: Vec::new(),
            fallen: Vec::new(),
            stood_still: None,
            heard_from_home: false,
            fleet,
        };
        if let Some(peers) = &checks.peers {
            checks.judge.decides_for(peers.own());
        }
        checks.judge.probing_begins(now, published);
        checks.plan_first_round(&mut StdRng::seed_from_u64(seed), now);
        checks
    }

    fn plan_first_round(&mut self, random: &mut StdRng, start: Instant) {
        for endpoint in self.fleet.endpoint_ids() {
            let pool = self.fleet.pool(self.fleet.endpoint(endpoint).pool);
            let is_ours = self.peers.as_ref().is_none_or(|peers| peers.looks_at(endpoint));
            let check = pool.check.filter(|_| is_ours).map(|id| {
                let settings = self.fleet.check(id);
                let first = start + spread(settings.interval, random);
                Check::new(
                    rules(settings),
                    Detectors::of(settings, self.own_verdict(endpoint)),
                    first,
                )
            });
            self.checks.push(check);
            self.enqueue(endpoint);
        }
    }

    /// What the own check of an endpoint says: the judge's verdict, or our vote.
    #[must_use]
    pub fn own_verdict(&self, endpoint: EndpointId) -> Verdict {
        let vote = self.peers.as_ref().and_then(|peers| peers.own_verdict(endpoint));
        vote.unwrap_or(self.judge.verdict(endpoint))
    }

    /// Whether an endpoint is probed from here: it has a check, and is not left to others (`vantage_points`).
    #[must_use]
    pub fn looks_at(&self, endpoint: EndpointId) -> bool {
        self.checks[endpoint.0 as usize].is_some()
    }

    /// The fleet that is checked.
    #[must_use]
    pub fn fleet(&self) -> &Arc<Fleet> {
        &self.fleet
    }

    /// Who decides.
    #[must_use]
    pub fn judge(&self) -> &Judge {
        &self.judge
    }

    /// The same, for the operator's wishes.
    pub fn judge_mut(&mut self) -> &mut Judge {
        &mut self.judge
    }

    /// The end: for a reload, which goes on with the judge.
    #[must_use]
    pub fn into_judge(self) -> Judge {
        self.judge
    }

    /// What is agreed on with other sites, if we gossip.
    #[must_use]
    pub fn peers(&self) -> Option<&Peers> {
        self.peers.as_ref()
    }

    /// When to call [`Checks::on_deadline`] and [`Checks::decide`] next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        let check = self.queue.peek().map(|Reverse((at, _))| *at);
        let others = [self.judge.next_deadline(), self.pools.next_deadline()];
        check.into_iter().chain(others.into_iter().flatten()).min()
    }

    /// The time came. Outcomes that came before go first: what came in time counts.
    pub fn on_deadline(&mut self, when: Moment) {
        self.notice_a_stop(when.now);
        while let Some(endpoint) = self.next_due(when.now) {
            self.queued[endpoint.0 as usize] = None;
            if let Some(check) = self.checks[endpoint.0 as usize].as_mut() {
                check.on_deadline(when.now);
            }
            self.collect(endpoint, when);
        }
        for change in self.pools.run_due(when.now) {
            self.say(change, when);
        }
    }

    /// What was due long ago tells that we were not let run: until all checks have looked again that should have meanwhile, our
    /// words are of the time before.
    fn notice_a_stop(&mut self, now: Instant) {
        self.stood_still.take_if(|stop| stop.until <= now);
        let Some(due) = self.next_deadline().filter(|due| *due + LATE_MAX <= now) else {
            return;
        };
        let late = now - due;
        let rounds = self.fleet.checks.iter().filter(|check| check.interval < late);
        if let Some(round) = rounds.map(|check| check.interval + check.timeout).max() {
            let since = self.stood_still.map_or(due, |stop| stop.since.min(due));
            let until = now + round;
            tracing::warn!(
                late_ms = late.as_millis(),
                "the checks were not let run: other sites hear how old our words are"
            );
            self.stood_still = Some(StoodStill { since, until });
        }
    }

    /// A probe ended. `is_busy`: so many are out that time-outs may be our own fault.
    pub fn on_outcome(
        &mut self,
        job: Job,
        outcome: &Outcome,
        took: Duration,
        is_busy: bool,
        when: Moment,
    ) -> Heard {
        let Some(check) = self.checks[job.endpoint.0 as usize].as_mut() else {
            return Heard {
                counts: false,
                serves: false,
            };
        };
        let counts = check.on_outcome(job.attempt, outcome, took, when.now);
        if is_busy {
            check.no_hurry(); // more probes would make it worse
        }
        if counts {
            self.pools.observe(job.endpoint, outcome, took);
        }
        let serves = counts && check.verdict() == Verdict::Up && matches!(outcome, Outcome::Success(_));
        self.collect(job.endpoint, when);
        Heard { counts, serves }
    }

    /// Somebody else looked and tells what was seen. False: nobody checks that endpoint.
    pub fn on_report(&mut self, endpoint: EndpointId, outcome: &Outcome, when: Moment) -> bool {
        let Some(check) = self.checks[endpoint.0 as usize].as_mut() else {
            return false;
        };
        check.on_report(outcome, when.now);
        self.pools.observe(endpoint, outcome, Duration::ZERO);
        self.collect(endpoint, when);
        true
    }

    /// A held connection to the endpoint was cut: it is looked at now.
    pub fn recheck(&mut self, endpoint: EndpointId, cut: Cut, when: Moment) {
        if let Some(check) = self.checks[endpoint.0 as usize].as_mut() {
            check.recheck(cut, when.now);
        }
        self.collect(endpoint, when);
    }

    /// Takes what was agreed on since the last time.
    pub fn take_agreed(&mut self) {
        if let Some(peers) = &self.peers {
            self.changes.append(&mut peers.changes());
            for (endpoint, verdict) in peers.said_at_home() {
                self.judge.heard_from_home(endpoint, verdict);
                self.heard_from_home = true;
            }
        }
    }

    /// Tells the judge what this turn came to, and what is due.
    pub fn decide(&mut self, when: Moment) -> Decided {
        if let Some(peers) = &self.peers {
            let as_of = self.stood_still.map(|stop| stop.since);
            peers.stand_by(as_of, self.next_deadline().map(|due| due + LATE_MAX));
        }
        let changes = std::mem::take(&mut self.changes);
        let heard = std::mem::take(&mut self.heard_from_home);
        let due = heard || self.judge.next_deadline().is_some_and(|at| at <= when.now);
        if changes.is_empty() && !due {
            return Decided::default();
        }
        Decided {
            verdicts: changes
                .iter()
                .map(|change| (change.endpoint, change.verdict))
                .collect(),
            snapshot: self.judge.on_verdicts(changes, when.now, when.at),
        }
    }

    /// The probes to send now.
    pub fn take_jobs(&mut self) -> Vec<Job> {
        std::mem::take(&mut self.jobs)
    }

    /// The endpoints that are not up any more by their own check.
    pub fn take_fallen(&mut self) -> Vec<EndpointId> {
        std::mem::take(&mut self.fallen)
    }

    /// A verdict of our own: for the judge, or our vote.
    fn say(&mut self, change: Change, when: Moment) {
        if self
            .peers
            .as_ref()
            .is_none_or(|peers| peers.say(&change, when.at))
        {
            self.changes.push(change);
        }
    }

    /// Takes what a check wants done.
    fn collect(&mut self, endpoint: EndpointId, when: Moment) {
        let Some(check) = self.checks[endpoint.0 as usize].as_mut() else {
            return;
        };
        let (verdict, decides_alone) = (check.verdict(), check.decides_alone());
        let mut said = Vec::new();
        while let Some(output) = check.poll_output() {
            match output {
                Output::Probe { attempt, timeout } => self.jobs.push(Job {
                    endpoint,
                    attempt,
                    timeout,
                    verdict,
                    decides_alone,
                }),
                Output::Changed(verdict, cause) => {
                    if verdict != Verdict::Up {
                        self.fallen.push(endpoint);
                    }
                    said.extend(self.pools.verdict(endpoint, verdict, cause));
                }
                Output::Missed(slots) => {
                    metrics::counter!("steer_health_slots_missed_total").increment(slots);
                }
            }
        }
        said.into_iter().for_each(|change| self.say(change, when));
        self.enqueue(endpoint);
    }

    fn next_due(&mut self, now: Instant) -> Option<EndpointId> {
        while let Some(Reverse((at, endpoint))) = self.queue.peek().copied() {
            if at > now {
                return None;
            }
            self.queue.pop();
            if self.queued[endpoint.0 as usize] == Some(at) {
                return Some(endpoint);
            }
        }
        None
    }

    /// Puts the next deadline of a check in line, unless something earlier stands there.
    fn enqueue(&mut self, endpoint: EndpointId) {
        let Some(check) = &self.checks[endpoint.0 as usize] else {
            return;
        };
        let probe = on_grid(self.began, check.next_probe(), check.shortest_period());
        let next = check.next_silence().into_iter().fold(probe, Instant::min);
        let queued = &mut self.queued[endpoint.0 as usize];
        if queued.is_none_or(|queued| next < queued) {
            *queued = Some(next);
            self.queue.push(Reverse((next, endpoint)));
        }
    }
}

/// The first moment of the grid that is not before `at`.
fn on_grid(began: Instant, at: Instant, period: Duration) -> Instant {
    let tick = (period / TICKS_PER_PERIOD).min(TICK_MAX).as_nanos();
    let since = at.saturating_duration_since(began).as_nanos();
    let late = match since.checked_rem(tick) {
        None | Some(0) => 0,
        Some(over) => tick - over,
    };
    at + Duration::from_nanos(u64::try_from(late).unwrap_or(0))
}

/// Where in the first round an endpoint begins: anywhere in one interval, or in [`SPREAD_MAX`] if that is less.
fn spread(interval: Duration, random: &mut StdRng) -> Duration {
    let widest = interval.min(SPREAD_MAX).as_nanos();
    let widest = u64::try_from(widest).unwrap_or(u64::MAX).max(1);
    Duration::from_nanos(random.random_range(0..widest))
}

fn rules(settings: &CheckSettings) -> Rules {
    let CheckSettings {
        interval,
        fast_interval,
        timeout,
        // The prober's.
        name: _,
        kind: _,
        port: _,
        source: _,
        // The detectors'.
        fall: _,
        rise: _,
        forget: _,
        detect: _,
        combine: _,
        // The wires' of the driver.
        tripwire: _,
        process: _,
        // The gossip's.
        vantage_points: _,
    } = settings;
    Rules {
        interval: *interval,
        fast_interval: *fast_interval,
        timeout: *timeout,
    }
}

#[cfg(test)]
mod tests;
