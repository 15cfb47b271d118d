//! One `steer` process of the fleet: the cores of the product, put together as `steer run` does, without sockets, tasks
//! and clocks.
//!
//! ```text
//! outcomes ─► Checks ◄─ desk ─► Council ◄─► datagrams
//!               │ snapshot
//!               ├─► Tables            (a little later, as the compiler's thread does)
//!               └─► Announcer ─► Reconciler per session ─► UPDATEs
//! ```

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::RngExt;
use rand::rngs::StdRng;
use steer_anycast::announcer::{Announcer, Moment as AnnouncerMoment, Output, Settings};
use steer_dns::Tables;
use steer_health::checks::{Checks, Job, Peers};
use steer_health::gossip::driver::RULE_EVERY;
use steer_health::gossip::observation::Key;
use steer_health::gossip::{Action, Council, Keys, Moment};
use steer_health::store::StoredDrain;
use steer_health::{Drain, Judge, Snapshot, Verdict};
use steer_topology::{Fleet, SiteId};

use super::draw::Loaded;

/// Votes are counted anew after this even if nothing came.
const RULE_AT_LEAST_EVERY: Duration = Duration::from_secs(1);

/// A process that runs.
pub struct Process {
    /// Which start of the site it is.
    pub incarnation: u64,
    /// Which reload; probes of older ones are gone.
    pub round: u64,
    /// Its configuration.
    pub loaded: Loaded,
    /// Checks and judge.
    pub checks: Checks,
    /// Gossip and agreement.
    pub council: Council,
    /// What it decides by now.
    pub snapshot: Arc<Snapshot>,
    /// What it answers by now.
    pub tables: Arc<Tables>,
    /// What it announces.
    pub announcer: Announcer,
    /// Since when it runs.
    pub began: Duration,
    /// Whether a stream of its own is open.
    pub streams: bool,
    rule_at: Duration,
    rule_not_before: Duration,
    /// When the announcer is to be told of the time.
    routes_due: Option<Instant>,
    local: SiteId,
}

/// Where and when a process starts.
pub struct Start<'a> {
    /// Its site.
    pub local: SiteId,
    /// Which start it is.
    pub incarnation: u64,
    /// Its configuration.
    pub loaded: Loaded,
    /// The drains that were kept.
    pub kept: &'a BTreeMap<String, StoredDrain>,
    /// Both clocks.
    pub when: Moment,
    /// Since the beginning of the run.
    pub now: Duration,
}

/// What came of a turn.
#[derive(Default)]
pub struct Outbox {
    /// Published, in this order.
    pub snapshots: Vec<Arc<Snapshot>>,
    /// Probes to send.
    pub jobs: Vec<Job>,
    /// Gossip to send, and what it has to tell.
    pub actions: Vec<Action>,
    /// What its own checks said.
    pub said: Vec<(Key, Verdict)>,
}

/// As of the BGP crate.
pub fn for_announcer(when: Moment) -> AnnouncerMoment {
    let Moment { now, at } = when;
    AnnouncerMoment { now, at }
}

/// The secret of all sites.
fn keys() -> Keys {
    Keys::one([42; 32])
}

impl Process {
    /// Starts as `steer run` does. `None` where the site takes no part in the gossip: no such fleet is drawn.
    pub fn start(start: Start<'_>, random: &mut StdRng) -> Option<Self> {
        let Start {
            local,
            incarnation,
            loaded,
            kept,
            when,
            now,
        } = start;
        let fleet = Arc::clone(&loaded.fleet);
        let council = Council::new(&fleet, local, keys(), random.random(), when)?;
        let mut judge = Judge::new(Arc::clone(&fleet), when.now, when.at);
        judge.restore(kept_drains(kept, &fleet, when.at), when.now, when.at);
        let snapshot = Arc::new(judge.first_snapshot());
        let peers = Peers::new(&fleet, local, council.desk().clone());
        let checks = Checks::new(judge, Some(peers), random.random(), snapshot.number, when.now);
        let mut announcer = Announcer::new(Some(local), Settings::default(), when.now);
        announcer.on_snapshot(&snapshot, for_announcer(when));
        Some(Self {
            tables: Arc::new(loaded.tables(Arc::clone(&snapshot))),
            incarnation,
            round: 0,
            loaded,
            checks,
            council,
            snapshot,
            announcer,
            began: now,
            streams: false,
            rule_at: now,
            rule_not_before: now,
            routes_due: None,
            local,
        })
    }

    /// One turn of its loops.
    pub fn turn(&mut self, when: Moment, now: Duration) -> Outbox {
        let mut out = Outbox::default();
        loop {
            if self.checks.next_deadline().is_some_and(|at| at <= when.now) {
                self.checks.on_deadline(when);
            }
            self.checks.take_agreed();
            out.snapshots.extend(self.checks.decide(when).snapshot);
            out.jobs.append(&mut self.checks.take_jobs());
            drop(self.checks.take_fallen()); // for held connections, of which there are none
            let said = self.council.say(when.now);
            if !said.is_empty() {
                self.rule_soon(now);
            }
            out.said.extend(said);
            if self.council.gossip.next_deadline() <= when.now {
                self.council.gossip.on_deadline(when);
            }
            while let Some(action) = self.council.gossip.poll_action() {
                if matches!(action, Action::Member(..) | Action::Changed(_)) {
                    self.rule_soon(now);
                }
                out.actions.push(action);
            }
            if self.rule_at > now {
                return out;
            }
            self.rule(when, now);
        }
    }

    fn rule_soon(&mut self, now: Duration) {
        let soon = (now + RULE_EVERY).max(self.rule_not_before);
        self.rule_at = self.rule_at.min(soon);
    }

    /// Counts the votes, and takes the time for it that it would take a real process.
    fn rule(&mut self, when: Moment, now: Duration) {
        self.council.rule(when);
        let fleet = self.checks.fleet();
        let votes = fleet.sites.len() * fleet.endpoints.len();
        let took = Duration::from_nanos(250) * u32::try_from(votes).unwrap_or(u32::MAX);
        self.rule_not_before = now + took * 10;
        self.rule_at = self.rule_not_before.max(now + RULE_AT_LEAST_EVERY);
    }

    /// How long until something is due.
    #[must_use]
    pub fn due_in(&mut self, when: Moment, now: Duration) -> Duration {
        let checks = self.checks.next_deadline();
        let gossip = Some(self.council.gossip.next_deadline());
        self.routes_due = self.announcer.next_deadline(when.now);
        let next = [checks, gossip, self.routes_due].into_iter().flatten().min();
        let next = next.map_or(Duration::MAX, |at| at.saturating_duration_since(when.now));
        next.min(self.rule_at.saturating_sub(now))
    }

    /// Whether it probes an endpoint.
    #[must_use]
    pub fn looks_at(&self, key: Key) -> bool {
        let id = self.loaded.keys.id(key);
        id.is_some_and(|id| self.checks.looks_at(id))
    }

    /// Whoever announces is told of the time, where that was promised.
    pub fn announce(&mut self, when: Moment) {
        if self.routes_due.take_if(|due| *due <= when.now).is_some() {
            self.announcer.on_deadline(for_announcer(when));
        }
    }

    /// A snapshot is published: whoever announces obeys at once.
    pub fn publish(&mut self, snapshot: &Arc<Snapshot>, when: Moment) {
        self.snapshot = Arc::clone(snapshot);
        self.announcer.on_snapshot(snapshot, for_announcer(when));
    }

    /// What the announcer has to tell, as lines.
    pub fn told(&mut self) -> Vec<String> {
        let mut told = Vec::new();
        while let Some(output) = self.announcer.poll_output() {
            match output {
                Output::Changed(change) => told.push(format!("{} {:?}", change.prefix, change.what)),
                // No prefix of these fleets has a service address.
                Output::Bind(prefix, _) | Output::Unbind(prefix, _) => told.push(format!("{prefix} binds")),
            }
        }
        told
    }

    /// Goes on with another configuration, in the order of a reload of `steer run`.
    #[must_use]
    pub fn reload(self, loaded: Loaded, when: Moment, random: &mut StdRng) -> (Self, Arc<Snapshot>) {
        let fleet = Arc::clone(&loaded.fleet);
        let (judge, snapshot) = self
            .checks
            .into_judge()
            .reload(Arc::clone(&fleet), when.now, when.at);
        let mut council = self.council;
        council.renew(&fleet, &keys(), when);
        let tables = loaded.tables_after(&self.tables, Arc::clone(&snapshot));
        let peers = Peers::new(&fleet, self.local, council.desk().clone());
        let checks = Checks::new(judge, Some(peers), random.random(), snapshot.number, when.now);
        let next = Self {
            round: self.round + 1,
            loaded,
            checks,
            council,
            tables: Arc::new(tables),
            ..self
        };
        (next, snapshot)
    }
}

impl Loaded {
    fn tables(&self, snapshot: Arc<Snapshot>) -> Tables {
        Tables::compile(snapshot, Arc::clone(&self.zones), Arc::clone(&self.classes), None)
    }

    fn tables_after(&self, before: &Tables, snapshot: Arc<Snapshot>) -> Tables {
        let (zones, classes) = (Arc::clone(&self.zones), Arc::clone(&self.classes));
        Tables::compile_after(before, snapshot, zones, classes, None)
    }
}

fn kept_drains(kept: &BTreeMap<String, StoredDrain>, fleet: &Fleet, at: Timestamp) -> Vec<Drain> {
    let stand = kept
        .values()
        .filter(|kept| kept.until.is_none_or(|until| until > at));
    let mut drains: Vec<_> = stand.filter_map(|kept| kept.on(fleet).ok()).collect();
    drains.sort_by_key(|drain| drain.since);
    drains
}
