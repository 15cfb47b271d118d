//! The thin part: one task and one loop around [`Checks`]. Probes run on a thread of their own ([`courier`]).
//!
//! ```text
//! reports ─► Checks: verdict changes ─► Judge ─► publish ─► send probes
//!    ▲        ▲ recheck                                          │
//!    │      Wires ◄── held connections end                       │
//!    └────────────────── Courier: probes (bounded) ◄─────────────┘
//! ```
//!
//! Bounds: at most [`IN_FLIGHT_MAX`] probes at once, and a finished one is in flight until its report is read, so
//! the reports are bounded as well. Operators' wishes come by a channel of a few places, where whoever wishes more
//! waits; they go first, for an operator in trouble must not wait behind a storm of reports. A probe beyond the bound
//! is not sent and counts neither way. Shutdown aborts what is in flight; nothing is lost by that but outcomes nobody
//! will read.

mod courier;
mod meters;
mod obey;
mod readings;
mod wires;

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::StdRng;
use steer_topology::{EndpointId, Fleet};
use tokio_util::sync::CancellationToken;

use crate::checks::{Checks, Decided, Peers};
use crate::evidence::Evidence;
use crate::gossip::{GossipHandle, Moment};
use crate::judge::Judge;
use crate::operator::{Commands, Forced, Target};
use crate::outcome::{Outcome, Void};
use crate::probe::{NetProber, Place, Prober, Progress};
use crate::snapshot::{Published, Snapshot, SnapshotCell, Verdict};
use crate::tripwire::Event;

pub(crate) use crate::checks::Job;
use courier::Courier;
use meters::Meters;
use readings::{Ask, Readings};
use wires::Wires;

/// Most probes at once. Each holds a file descriptor: 10,000 endpoints that all hang for 300 ms of each second
/// need 3,000.
pub const IN_FLIGHT_MAX: usize = 4096;

/// A time-out that comes later than this, and than a quarter of itself, is not believed.
const LATE: Duration = Duration::from_millis(50);

/// Most ends of held connections that are read before the loop looks at the time and publishes again.
const BATCH: usize = 1024;

/// Between two warnings that probes say nothing.
const VOID_WARNING_EVERY: Duration = Duration::from_secs(60);

/// Runs all the checks and publishes snapshots into `cell` until `shutdown`. `seed` spreads the first round.
///
/// `commands` are the operator's ([`crate::Operator::new`]); they are carried out as soon as they come.
///
/// Returns the judge and the operator's end, so that a reload can go on from it: [`Judge::reload`], publish, and run
/// again. Wishes that come in between wait. `fleet` is the judge's own.
///
/// With `gossip` the judge gets the verdicts on endpoints of other sites from there, and they get ours.
pub async fn run(
    fleet: Arc<Fleet>,
    cell: Arc<SnapshotCell>,
    judge: Judge,
    commands: Commands,
    seed: u64,
    gossip: Option<GossipHandle>,
    shutdown: CancellationToken,
) -> (Judge, Commands) {
    let evidence = Arc::new(Evidence::of(&fleet));
    cell.keep_evidence(Arc::clone(&evidence));
    let prober = NetProber::new(&fleet, &evidence, now());
    let peers = gossip.map(|gossip| Peers::new(&fleet, gossip.local(), gossip.desk().clone()));
    let mut driver = Driver::with(&fleet, cell, judge, seed, prober, peers);
    (driver.commands, driver.evidence) = (commands, evidence);
    driver.courier.start_thread();
    driver.serve(shutdown).await
}

struct Driver<P: Prober> {
    fleet: Arc<Fleet>,
    cell: Arc<SnapshotCell>,
    checks: Checks,
    prober: Arc<P>,
    commands: Commands,
    /// What was seen last, for those who ask.
    evidence: Arc<Evidence>,
    readings: Readings,
    asks: Vec<Ask>,
    courier: Courier<P>,
    meters: Meters,
    in_flight_max: usize,
    wires: Wires<P>,
    /// To be told of once whoever withdraws routes has gone first.
    published: Vec<(Arc<Snapshot>, Published)>,
    /// And the verdicts that changed.
    changed: Vec<(EndpointId, Verdict)>,
    warned_of_void: Option<Instant>,
}

/// A probe on its way.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Errand {
    pub(crate) job: Job,
    pub(crate) place: Place,
    pub(crate) purpose: Purpose,
}

/// What a probe is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// A verdict.
    Check,
    /// A number to steer by.
    Number,
}

/// A probe that ended.
pub(crate) struct Report {
    pub(crate) job: Job,
    pub(crate) purpose: Purpose,
    pub(crate) outcome: Outcome,
    pub(crate) took: Duration,
}

impl<P: Prober> Driver<P> {
    /// Without gossip.
    #[cfg(test)]
    fn new(fleet: &Arc<Fleet>, cell: Arc<SnapshotCell>, judge: Judge, seed: u64, prober: P) -> Self {
        Self::with(fleet, cell, judge, seed, prober, None)
    }

    /// `seed` spreads the first round.
    fn with(
        fleet: &Arc<Fleet>,
        cell: Arc<SnapshotCell>,
        judge: Judge,
        seed: u64,
        prober: P,
        peers: Option<Peers>,
    ) -> Self {
        let prober = Arc::new(prober);
        let checks = Checks::new(judge, peers, seed, cell.peek().number, now());
        let driver = Self {
            fleet: Arc::clone(fleet),
            cell,
            wires: Wires::new(fleet, Arc::clone(&prober)),
            readings: Readings::of(fleet, &mut StdRng::seed_from_u64(seed.wrapping_add(1)), now()),
            asks: Vec::new(),
            courier: Courier::beside(Arc::clone(&prober)),
            prober,
            commands: Commands::none(),
            evidence: Arc::new(Evidence::of(fleet)),
            checks,
            meters: Meters::new(),
            in_flight_max: IN_FLIGHT_MAX,
            published: Vec::new(),
            changed: Vec::new(),
            warned_of_void: None,
        };
        driver.show_drains(&driver.cell.load());
        for endpoint in fleet.endpoint_ids() {
            driver.show_verdict(endpoint, driver.checks.judge().verdict(endpoint));
        }
        driver
    }

    /// Without an operator.
    #[cfg(test)]
    async fn run(self, shutdown: CancellationToken) -> Judge {
        self.serve(shutdown).await.0
    }

    async fn serve(mut self, shutdown: CancellationToken) -> (Judge, Commands) {
        loop {
            let wake = self.next_wake();
            self.cell.pulse().promise(wake);
            tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(command) = self.commands.next() => self.obey(command),
                Some(news) = self.wires.next() => self.take_news(news),
                () = agreed(self.checks.peers()) => self.checks.take_agreed(),
                Some(report) = self.courier.next() => self.take_report(report),
                () = sleep_until(wake) => {}
            }
            self.turn();
            if !self.published.is_empty() {
                tokio::task::yield_now().await; // whoever withdraws routes goes first
            }
            self.tell();
            self.send_probes(moment());
        }
        self.cell.pulse().promise(None);
        self.courier.shutdown().await;
        self.wires.shutdown().await;
        (self.checks.into_judge(), self.commands)
    }

    /// One turn: answers before deadlines, so that what came in time counts; decisions before new probes. Ends of held
    /// connections come first: an answer beside them may be older.
    fn turn(&mut self) {
        for _ in 0..BATCH {
            let Some(news) = self.wires.try_next() else {
                break;
            };
            self.take_news(news);
        }
        // All that have come: a deadline must not find unanswered what waits here for its turn.
        for _ in 0..self.courier.in_flight() {
            let Some(report) = self.courier.try_next() else {
                break;
            };
            self.take_report(report);
        }
        let when = moment();
        self.checks.on_deadline(when);
        self.tell_wires(when.now);
        self.wires.run_due(when.now);
        self.read_numbers(when);
        self.decide(moment());
    }

    /// Asks for the numbers that are due, and tells what they come to.
    fn read_numbers(&mut self, when: Moment) {
        self.asks.extend(self.readings.due(when.now));
        let (judge, readings) = (self.checks.judge_mut(), &mut self.readings);
        let readings::News { loads, weights } = readings.evaluate(|id| judge.verdict(id), when.now, when.at);
        let mut next = Vec::new();
        for (site, load) in loads {
            next.extend(judge.on_load(site, Some(load), when.now, when.at));
        }
        if !weights.is_empty() {
            next.extend(judge.on_weights(weights, when.now, when.at));
        }
        for snapshot in next {
            self.publish(snapshot);
        }
    }

    fn next_wake(&self) -> Option<Instant> {
        let deadlines = [
            self.checks.next_deadline(),
            self.wires.next_deadline(),
            self.readings.next_deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn take_news(&mut self, news: Result<wires::News<P::Wire>, tokio::task::JoinError>) {
        let Ok(news) = news else { return }; // let go on purpose
        let (endpoint, when) = (news.endpoint, moment());
        let look = self.wires.on_news(news, when.now);
        if let Some(cut) = look {
            self.checks.recheck(endpoint, cut, when);
            self.tell_wires(when.now);
        }
    }

    /// No connection is held to what is not up.
    fn tell_wires(&mut self, now: Instant) {
        for endpoint in self.checks.take_fallen() {
            self.wires.on_event(endpoint, Event::Down, now);
        }
    }

    fn take_report(&mut self, report: Result<Report, tokio::task::JoinError>) {
        match report {
            Ok(Report {
                job,
                purpose: Purpose::Number,
                outcome,
                took: _,
            }) => {
                self.readings.on_outcome(job.endpoint, &outcome, now());
            }
            Ok(Report {
                job,
                purpose: Purpose::Check,
                outcome,
                took,
            }) => {
                self.meters.probe(&outcome, took);
                self.apply(job, &outcome, took, moment());
            }
            // The probe's own panic is caught within the task; what is left is an abort.
            Err(error) => tracing::debug!(%error, "a probe task ended without a report"),
        }
    }

    fn apply(&mut self, job: Job, outcome: &Outcome, took: Duration, when: Moment) {
        if let Outcome::Void(void) = outcome {
            self.warn_of_void(job.endpoint, void, when.now);
        }
        let is_busy = self.courier.in_flight() > self.in_flight_max / 2;
        let heard = self.checks.on_outcome(job, outcome, took, is_busy, when);
        if heard.counts {
            self.evidence.note(job.endpoint, outcome, took);
        }
        self.tell_wires(when.now);
        if heard.serves {
            self.wires.on_event(job.endpoint, Event::Serves, when.now);
        }
    }

    fn decide(&mut self, when: Moment) {
        let Decided { verdicts, snapshot } = self.checks.decide(when);
        self.changed.extend(verdicts);
        if let Some(next) = snapshot {
            self.publish(next);
        }
    }

    /// Returns the snapshot's number.
    fn publish(&mut self, next: Arc<Snapshot>) -> u64 {
        let number = next.number;
        let published = self.cell.publish(Arc::clone(&next));
        self.published.push((next, published));
        number
    }

    fn tell(&mut self) {
        let published = std::mem::take(&mut self.published).into_iter();
        let published: Vec<_> = published.map(|(next, told)| (next, told.is_newest())).collect(); // tells the others
        self.checks.judge_mut().tell();
        for (snapshot, is_newest) in published {
            let number = snapshot.number;
            if is_newest {
                tracing::info!(snapshot = number, "snapshot published");
            } else {
                tracing::error!(
                    snapshot = number,
                    "snapshot not published: somebody published a newer one"
                );
            }
            metrics::gauge!("steer_health_snapshot").set(number as f64);
            self.show_drains(&snapshot);
        }
        for (endpoint, verdict) in std::mem::take(&mut self.changed) {
            self.show_verdict(endpoint, verdict);
        }
    }

    fn show_drains(&self, snapshot: &Snapshot) {
        let is_site = |target| matches!(target, Target::Site(_));
        let sites = snapshot
            .drains
            .iter()
            .filter(|drain| is_site(drain.target))
            .count();
        let endpoints = snapshot.drains.len() - sites;
        metrics::gauge!("steer_health_drains", "of" => "site").set(sites as f64);
        metrics::gauge!("steer_health_drains", "of" => "endpoint").set(endpoints as f64);
        metrics::gauge!("steer_health_damped").set(snapshot.damped.len() as f64);
        for to in [Forced::Up, Forced::Down] {
            let count = snapshot.forces.iter().filter(|force| force.to == to).count();
            metrics::gauge!("steer_health_forced", "to" => to.verdict().as_str()).set(count as f64);
        }
    }

    fn send_probes(&mut self, when: Moment) {
        for job in self.checks.take_jobs() {
            if self.has_room() {
                self.courier.send(job, Purpose::Check);
            } else {
                self.meters.probe(&Outcome::Void(Void::Skipped), Duration::ZERO);
                self.apply(job, &Outcome::Void(Void::Skipped), Duration::ZERO, when);
            }
        }
        for ask in std::mem::take(&mut self.asks) {
            if self.has_room() {
                self.courier.send(ask.job(), Purpose::Number);
            } else {
                let skipped = Outcome::Void(Void::Skipped);
                self.readings.on_outcome(ask.endpoint, &skipped, when.now);
            }
        }
        self.courier.flush();
    }

    fn has_room(&self) -> bool {
        let has_room = self.courier.in_flight() < self.in_flight_max;
        if !has_room {
            metrics::counter!("steer_health_probes_skipped_total").increment(1);
        }
        has_room
    }

    fn warn_of_void(&mut self, endpoint: EndpointId, void: &Void, now: Instant) {
        if self
            .warned_of_void
            .is_some_and(|last| now.saturating_duration_since(last) < VOID_WARNING_EVERY)
        {
            return;
        }
        self.warned_of_void = Some(now);
        let address = self.fleet.endpoint(endpoint).address;
        tracing::warn!(endpoint = %address, reason = %void, "a probe says nothing of its endpoint");
    }

    fn show_verdict(&self, endpoint: EndpointId, verdict: Verdict) {
        let endpoint = self.fleet.endpoint(endpoint);
        let site = endpoint.site.map_or("", |site| &self.fleet.site(site).name);
        let value = match verdict {
            Verdict::Unknown => -1.0,
            Verdict::Down => 0.0,
            Verdict::Up => 1.0,
        };
        let pool = self.fleet.pool(endpoint.pool).name.clone();
        let address = endpoint.address.to_string();
        metrics::gauge!("steer_health_verdict", "endpoint" => address, "pool" => pool, "site" => site.to_owned())
            .set(value);
    }
}

/// One probe within its time. A panic ends here: it is our fault and says nothing of the endpoint.
pub(crate) async fn send<P: Prober>(prober: Arc<P>, errand: Errand) -> Report {
    let (started, job) = (now(), errand.job);
    let progress = Progress::default();
    let work = async {
        match errand.purpose {
            Purpose::Check => prober.probe(errand, &progress).await,
            Purpose::Number => prober.read(errand, &progress).await,
        }
    };
    let probe = tokio::time::timeout(job.timeout, work);
    let outcome = match AssertUnwindSafe(probe).catch_unwind().await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_elapsed)) => match lateness(job.timeout, now().saturating_duration_since(started)) {
            Some(late) => Outcome::Void(Void::Late(late)),
            None => progress.timed_out(job.timeout),
        },
        Err(_panic) => Outcome::Void(Void::Panicked),
    };
    Report {
        job,
        purpose: errand.purpose,
        outcome,
        took: now().saturating_duration_since(started),
    }
}

/// By how much a time-out came too late, where that is so much that it says more of us than of the endpoint: each step of
/// the probe before it may have been as late.
fn lateness(timeout: Duration, took: Duration) -> Option<Duration> {
    let late = took.saturating_sub(timeout);
    (late > LATE.max(timeout / 4)).then_some(late)
}

async fn agreed(peers: Option<&Peers>) {
    match peers {
        Some(peers) => peers.news().await,
        None => std::future::pending().await,
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

/// The runtime's clock, which tests may pause.
pub(crate) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

fn moment() -> Moment {
    Moment {
        now: now(),
        at: Timestamp::now(),
    }
}

#[cfg(test)]
mod tests;
