//! The thin part: one task, one loop, one timer queue for all endpoints; probes are tasks beside it.
//!
//! ```text
//!            ┌──────────────── due ◄── timer queue (one entry per endpoint)
//!            ▼                                   ▲
//! reports ─► Check ─► verdict changes ─► Judge ─► publish ─► send probes
//!    ▲        ▲ recheck                                          │
//!    │      Wires ◄── held connections end                       │
//!    └─────────────────── probe tasks (bounded) ◄────────────────┘
//! ```
//!
//! Bounds: at most [`IN_FLIGHT_MAX`] probes at once, and a finished one is in flight until its report is read, so
//! the reports are bounded as well. Operators' wishes come by a channel of a few places, where whoever wishes more
//! waits; they go first, for an operator in trouble must not wait behind a storm of reports. A probe beyond the bound
//! is not sent and counts neither way. Shutdown aborts what is in flight; nothing is lost by that but outcomes nobody
//! will read.

mod obey;
mod peers;
mod pools;
mod wires;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steer_topology::{Check as CheckSettings, EndpointId, Fleet};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::check::{Attempt, Check, Output, Rules};
use crate::detect::Detectors;
use crate::evidence::Evidence;
use crate::gossip::GossipHandle;
use crate::judge::{Change, Judge, SPREAD_MAX};
use crate::operator::{Commands, Target};
use crate::outcome::{Outcome, Void};
use crate::probe::{NetProber, Prober, Progress};
use crate::snapshot::{Published, Snapshot, SnapshotCell, Verdict};
use crate::tripwire::{Cut, Event};

use peers::Peers;
use pools::Pools;
use wires::Wires;

/// Most probes at once. Each holds a file descriptor: 10,000 endpoints that all hang for 300 ms of each second
/// need 3,000.
pub const IN_FLIGHT_MAX: usize = 4096;

/// Most reports that are read before the loop looks at the time and publishes again.
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
    let peers = gossip.map(|gossip| Peers::new(&fleet, &gossip));
    let mut driver = Driver::with(&fleet, cell, judge, seed, prober, peers);
    (driver.commands, driver.evidence) = (commands, evidence);
    driver.serve(shutdown).await
}

struct Driver<P: Prober> {
    fleet: Arc<Fleet>,
    cell: Arc<SnapshotCell>,
    judge: Judge,
    prober: Arc<P>,
    commands: Commands,
    /// By endpoint; `None` where it is not checked.
    checks: Vec<Option<Check>>,
    /// When checks want to be told of the time. One that has changed its mind meanwhile lets an entry pass.
    queue: BinaryHeap<Reverse<(Instant, EndpointId)>>,
    /// By endpoint: the earliest entry in `queue`.
    queued: Vec<Option<Instant>>,
    /// What was seen last, for those who ask.
    evidence: Arc<Evidence>,
    /// By pool; `None` where its endpoints are not compared.
    pools: Pools,
    in_flight: JoinSet<Report>,
    in_flight_max: usize,
    wires: Wires<P>,
    peers: Option<Peers>,
    /// What this turn of the loop came to.
    changes: Vec<Change>,
    to_send: Vec<Job>,
    /// To be told of once whoever withdraws routes has gone first.
    published: Vec<(Arc<Snapshot>, Published)>,
    /// And the verdicts that changed.
    changed: Vec<(EndpointId, Verdict)>,
    warned_of_void: Option<Instant>,
}

/// A probe to send.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Job {
    pub(crate) endpoint: EndpointId,
    pub(crate) attempt: Attempt,
    pub(crate) timeout: Duration,
}

/// A probe that ended.
pub(crate) struct Report {
    pub(crate) job: Job,
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
        describe_metrics();
        let prober = Arc::new(prober);
        let own = |id| peers.as_ref().and_then(|peers| peers.own_verdict(id));
        let pools = Pools::of(fleet, now(), |id| own(id).unwrap_or(judge.verdict(id)));
        let mut driver = Self {
            fleet: Arc::clone(fleet),
            cell,
            wires: Wires::new(fleet, Arc::clone(&prober)),
            prober,
            peers,
            commands: Commands::none(),
            checks: Vec::with_capacity(fleet.endpoints.len()),
            queue: BinaryHeap::new(),
            queued: vec![None; fleet.endpoints.len()],
            evidence: Arc::new(Evidence::of(fleet)),
            pools,
            judge,
            in_flight: JoinSet::new(),
            in_flight_max: IN_FLIGHT_MAX,
            changes: Vec::new(),
            to_send: Vec::new(),
            published: Vec::new(),
            changed: Vec::new(),
            warned_of_void: None,
        };
        driver.plan_first_round(&mut StdRng::seed_from_u64(seed), now());
        driver
    }

    fn plan_first_round(&mut self, random: &mut StdRng, start: Instant) {
        self.judge.probing_begins(start, self.cell.peek().number);
        self.show_drains(&self.cell.load());
        for endpoint in self.fleet.endpoint_ids() {
            let pool = self.fleet.pool(self.fleet.endpoint(endpoint).pool);
            let verdict = self.judge.verdict(endpoint);
            let own = self.peers.as_ref().and_then(|peers| peers.own_verdict(endpoint));
            let check = pool.check.map(|id| {
                let settings = self.fleet.check(id);
                let first = start + spread(settings.interval, random);
                Check::new(
                    rules(settings),
                    Detectors::of(settings, own.unwrap_or(verdict)),
                    first,
                )
            });
            self.checks.push(check);
            self.enqueue(endpoint);
            self.show_verdict(endpoint, verdict);
        }
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
                () = agreed(self.peers.as_ref()) => self.take_agreed(),
                Some(report) = self.in_flight.join_next() => self.take_report(report),
                () = sleep_until(wake) => {}
            }
            self.turn();
            if !self.published.is_empty() {
                tokio::task::yield_now().await; // whoever withdraws routes goes first
            }
            self.tell();
            self.send_probes(now());
        }
        self.cell.pulse().promise(None);
        self.in_flight.shutdown().await;
        self.wires.shutdown().await;
        (self.judge, self.commands)
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
        for _ in 0..BATCH {
            let Some(report) = self.in_flight.try_join_next() else {
                break;
            };
            self.take_report(report);
        }
        let now = now();
        self.run_due(now);
        self.compare(now);
        self.wires.run_due(now);
        self.decide(now);
    }

    fn next_wake(&self) -> Option<Instant> {
        let check = self.queue.peek().map(|Reverse((at, _))| *at);
        let others = [
            self.judge.next_deadline(),
            self.wires.next_deadline(),
            self.pools.next_deadline(),
        ];
        check.into_iter().chain(others.into_iter().flatten()).min()
    }

    fn take_news(&mut self, news: Result<wires::News<P::Wire>, tokio::task::JoinError>) {
        let Ok(news) = news else { return }; // let go on purpose
        let (endpoint, now) = (news.endpoint, now());
        let look = self.wires.on_news(news, now);
        if let Some(cut) = look {
            self.recheck(endpoint, cut, now);
        }
    }

    /// A verdict of our own: for the judge, or our vote.
    fn say(&mut self, change: Change) {
        if self.peers.as_ref().is_none_or(|peers| peers.say(&change)) {
            self.changes.push(change);
        }
    }

    fn take_agreed(&mut self) {
        if let Some(peers) = &self.peers {
            self.changes.append(&mut peers.changes());
        }
    }

    fn recheck(&mut self, endpoint: EndpointId, cut: Cut, now: Instant) {
        if let Some(check) = self.checks[endpoint.0 as usize].as_mut() {
            check.recheck(cut, now);
        }
        self.collect(endpoint, now);
    }

    fn take_report(&mut self, report: Result<Report, tokio::task::JoinError>) {
        match report {
            Ok(Report { job, outcome, took }) => {
                if !matches!(outcome, Outcome::Void(_)) {
                    metrics::histogram!("steer_health_probe_seconds").record(took);
                }
                self.apply(job, &outcome, took, now());
            }
            // The probe's own panic is caught within the task; what is left is an abort.
            Err(error) => tracing::debug!(%error, "a probe task ended without a report"),
        }
    }

    fn apply(&mut self, job: Job, outcome: &Outcome, took: Duration, now: Instant) {
        metrics::counter!("steer_health_probes_total", "result" => outcome.label()).increment(1);
        if let Outcome::Void(void) = outcome {
            self.warn_of_void(job.endpoint, void, now);
        }
        let Some(check) = self.checks[job.endpoint.0 as usize].as_mut() else {
            return;
        };
        let counts = check.on_outcome(job.attempt, outcome, took, now);
        if self.in_flight.len() > self.in_flight_max / 2 {
            check.no_hurry(); // time-outs may be our own fault, and more probes would make it worse
        }
        if counts {
            self.evidence.note(job.endpoint, outcome, took);
            self.pools.observe(job.endpoint, outcome, took);
        }
        let serves = check.verdict() == Verdict::Up && matches!(outcome, Outcome::Success(_));
        self.collect(job.endpoint, now);
        if counts && serves {
            self.wires.on_event(job.endpoint, Event::Serves, now);
        }
    }

    fn run_due(&mut self, now: Instant) {
        while let Some(endpoint) = self.next_due(now) {
            self.queued[endpoint.0 as usize] = None;
            if let Some(check) = self.checks[endpoint.0 as usize].as_mut() {
                check.on_deadline(now);
            }
            self.collect(endpoint, now);
        }
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
        let (next, queued) = (check.next_deadline(), &mut self.queued[endpoint.0 as usize]);
        if queued.is_none_or(|queued| next < queued) {
            *queued = Some(next);
            self.queue.push(Reverse((next, endpoint)));
        }
    }

    /// Takes what a check wants done.
    fn collect(&mut self, endpoint: EndpointId, now: Instant) {
        let Some(check) = self.checks[endpoint.0 as usize].as_mut() else {
            return;
        };
        let mut said = Vec::new();
        while let Some(output) = check.poll_output() {
            match output {
                Output::Probe { attempt, timeout } => self.to_send.push(Job {
                    endpoint,
                    attempt,
                    timeout,
                }),
                Output::Changed(verdict, cause) => {
                    if verdict != Verdict::Up {
                        self.wires.on_event(endpoint, Event::Down, now);
                    }
                    said.extend(self.pools.verdict(endpoint, verdict, cause));
                }
                Output::Missed(slots) => {
                    metrics::counter!("steer_health_slots_missed_total").increment(slots);
                }
            }
        }
        said.into_iter().for_each(|change| self.say(change));
        self.enqueue(endpoint);
    }

    /// Compares the endpoints of the pools that want it.
    fn compare(&mut self, now: Instant) {
        for change in self.pools.run_due(now) {
            self.say(change);
        }
    }

    fn decide(&mut self, now: Instant) {
        let changes = std::mem::take(&mut self.changes);
        let due = self.judge.next_deadline().is_some_and(|at| at <= now);
        if changes.is_empty() && !due {
            return;
        }
        let changed = changes.iter().map(|change| (change.endpoint, change.verdict));
        self.changed.extend(changed);
        if let Some(next) = self.judge.on_verdicts(changes, now, Timestamp::now()) {
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
        self.judge.tell();
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
    }

    fn send_probes(&mut self, now: Instant) {
        for job in std::mem::take(&mut self.to_send) {
            if self.in_flight.len() < self.in_flight_max {
                self.in_flight.spawn(send(Arc::clone(&self.prober), job));
            } else {
                metrics::counter!("steer_health_probes_skipped_total").increment(1);
                self.apply(job, &Outcome::Void(Void::Skipped), Duration::ZERO, now);
            }
        }
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
pub(crate) async fn send<P: Prober>(prober: Arc<P>, job: Job) -> Report {
    let started = now();
    let progress = Progress::default();
    let probe = tokio::time::timeout(job.timeout, prober.probe(job.endpoint, job.timeout, &progress));
    let outcome = match AssertUnwindSafe(probe).catch_unwind().await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_elapsed)) => progress.timed_out(job.timeout),
        Err(_panic) => Outcome::Void(Void::Panicked),
    };
    Report {
        job,
        outcome,
        took: now().saturating_duration_since(started),
    }
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
        tripwire: _, // Wires sees to it
    } = settings;
    Rules {
        interval: *interval,
        fast_interval: *fast_interval,
        timeout: *timeout,
    }
}

fn describe_metrics() {
    use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};
    describe_counter!("steer_health_probes_total", "Probes by result");
    describe_counter!(
        "steer_health_probes_skipped_total",
        "Probes not sent: too many in flight"
    );
    describe_counter!(
        "steer_health_slots_missed_total",
        "Probe slots that went by while the loop was late"
    );
    describe_counter!("steer_health_snapshots_total", "Snapshots made after the first");
    describe_counter!(
        "steer_health_guard_refusals_total",
        "Endpoints that the guard held in service, by rule"
    );
    describe_counter!(
        "steer_health_tripwire_cuts_total",
        "Held connections that ended, by how"
    );
    describe_counter!(
        "steer_health_tripwires_skipped_total",
        "Connections not held: too many at once"
    );
    describe_gauge!("steer_health_tripwires_held", "Connections held to endpoints");
    describe_counter!("steer_health_drain_refusals_total", "Drains refused, by rule");
    describe_counter!(
        "steer_health_drains_forced_total",
        "Drains that overruled the guard, by rule"
    );
    describe_counter!("steer_health_store_failures_total", "Failures of the store");
    describe_gauge!("steer_health_store_ok", "1 the store has all drains, 0 it failed");
    describe_gauge!(
        "steer_health_drains",
        "Drains that stand, of sites and of endpoints"
    );
    describe_gauge!("steer_health_verdict", "1 up, 0 down, -1 unknown");
    describe_gauge!(
        "steer_health_certificate_seconds_left",
        "Until the certificate of an endpoint ends, at the last handshake"
    );
    describe_counter!(
        "steer_health_reports_total",
        "Reports of others on endpoints under external checks"
    );
    describe_counter!(
        "steer_health_ejections_total",
        "Endpoints taken for outliers of their pool"
    );
    describe_gauge!("steer_health_snapshot", "Number of the newest snapshot");
    describe_histogram!(
        "steer_health_probe_seconds",
        Unit::Seconds,
        "Time from sending a probe to its outcome"
    );
}

#[cfg(test)]
mod tests;
