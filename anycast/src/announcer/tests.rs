//! The announcer under a virtual clock: every instant is exact.

mod address;
mod conditions;
mod drain;
mod flaps;
mod lease;
mod model;
mod table;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_health::{Drain, EndpointState, Service, Snapshot, Target, Trail, Verdict};
use steer_topology::{Fleet, Prefix, Resolve, SiteId};

use super::table::State;
use super::{Announcer, Moment, Output, PrefixStatus, Settings, What};
use crate::wanted::{Decision, Wanted};

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<std::net::SocketAddr>> {
        Ok(Vec::new())
    }
}

/// Two sites, a checked pool with an endpoint at each, a steered name with a TTL of 30 s, and what `anycast` says.
fn fleet(anycast: &str) -> Arc<Fleet> {
    let text = format!(
        r#"
[[site]]
name = "fra"
[[site]]
name = "nrt"
[[check]]
name = "web"
kind = "tcp"
[[pool]]
name = "web"
check = "web"
endpoints = [ {{ site = "fra", address = "198.51.100.1:443" }}, {{ site = "nrt", address = "198.51.100.2:443" }} ]
[bgp]
asn = 64512
router_id = "10.0.0.1"
[[bgp.peer]]
address = "192.0.2.250"
asn = 64500
{anycast}"#
    );
    let fleet = Fleet::parse(&text, Path::new("steer.toml"), &NoNames);
    Arc::new(fleet.unwrap_or_else(|faults| panic!("{faults}")))
}

/// One prefix, 192.0.2.1/32, with these further lines.
fn one(lines: &str) -> Arc<Fleet> {
    fleet(&format!("[[anycast]]\nprefix = \"192.0.2.1/32\"\n{lines}\n"))
}

type Health = (Verdict, Service);

const UP: Health = (Verdict::Up, Service::In);
const DOWN: Health = (Verdict::Down, Service::Out);
const UNKNOWN: Health = (Verdict::Unknown, Service::In);
const DRAINED: Health = (Verdict::Up, Service::Drained);

const FRA: Option<SiteId> = Some(SiteId(0));
const NRT: Option<SiteId> = Some(SiteId(1));

const P: &str = "192.0.2.1/32";

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

const fn s(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

fn drain_of_fra(since: Timestamp) -> Drain {
    Drain {
        target: Target::Site(SiteId(0)),
        reason: "kernel update".to_owned(),
        author: "ana".to_owned(),
        since,
        until: None,
    }
}

/// An announcer, its clock, and all that it was told.
struct World {
    announcer: Announcer,
    start: Instant,
    epoch: Timestamp,
    elapsed: Duration,
    fleet: Arc<Fleet>,
    number: u64,
    settled: bool,
    health: [Health; 2],
    drains: Vec<Drain>,
    /// What somebody wants who looks only at what the announcer calls changed.
    followed: Wanted,
    /// What it said, and when.
    told: Vec<(Duration, What)>,
    /// What it asked of the kernel, in order.
    asked: Vec<(Duration, Ask)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ask {
    Bind,
    Unbind,
}

impl World {
    /// At fra, settled, with both endpoints up; the first snapshot is seen.
    fn new(fleet: Arc<Fleet>) -> Self {
        Self::at(fleet, FRA, [UP, UP])
    }

    fn at(fleet: Arc<Fleet>, site: Option<SiteId>, health: [Health; 2]) -> Self {
        let mut world = Self::before_start(fleet, site, health);
        world.look();
        world
    }

    /// Nothing is seen yet.
    fn before_start(fleet: Arc<Fleet>, site: Option<SiteId>, health: [Health; 2]) -> Self {
        let start = Instant::now();
        Self {
            announcer: Announcer::new(site, Settings::default(), start),
            start,
            epoch: "2026-01-01T12:00:00Z".parse().unwrap(),
            elapsed: Duration::ZERO,
            fleet,
            number: 0,
            settled: true,
            health,
            drains: Vec::new(),
            followed: Wanted::default(),
            told: Vec::new(),
            asked: Vec::new(),
        }
    }

    fn moment(&self) -> Moment {
        Moment {
            now: self.start + self.elapsed,
            at: self.at_wall(),
        }
    }

    fn at_wall(&self) -> Timestamp {
        self.epoch.checked_add(self.elapsed).unwrap()
    }

    fn snapshot(&self) -> Snapshot {
        let endpoints = self.health.clone().map(|(verdict, service)| EndpointState {
            verdict,
            service,
            cause: String::new(),
            since: Timestamp::UNIX_EPOCH,
            weight: None,
        });
        Snapshot {
            number: self.number,
            at: self.at_wall(),
            fleet: Arc::clone(&self.fleet),
            settled: self.settled,
            endpoints: endpoints.into_iter().collect(),
            drains: self.drains.clone(),
            damped: Vec::new(),
            forces: Vec::new(),
            loads: Vec::new(),
            trail: Trail::default(),
        }
    }

    /// A new snapshot is published and seen.
    fn look(&mut self) {
        self.number += 1;
        let (snapshot, moment) = (Arc::new(self.snapshot()), self.moment());
        self.announcer.on_snapshot(&snapshot, moment);
        self.collect();
    }

    fn health(&mut self, fra: Health, nrt: Health) {
        self.health = [fra, nrt];
        self.look();
    }

    fn fra(&mut self, fra: Health) {
        self.health[0] = fra;
        self.look();
    }

    fn drain(&mut self) {
        self.drains = vec![drain_of_fra(self.at_wall())];
        self.look();
    }

    fn undrain(&mut self) {
        self.drains.clear();
        self.look();
    }

    fn addresses(&mut self, addresses: &[&str]) {
        let addresses: BTreeSet<_> = addresses.iter().map(|text| text.parse().unwrap()).collect();
        let moment = self.moment();
        self.announcer.on_addresses(Some(addresses), moment);
        self.collect();
    }

    fn act(&mut self, act: impl FnOnce(&mut Announcer, Moment)) {
        let moment = self.moment();
        act(&mut self.announcer, moment);
        self.collect();
    }

    fn bound(&mut self, text: &str) {
        self.act(|announcer, moment| announcer.on_bound(prefix(text), Ok(()), moment));
    }

    fn unbound(&mut self, text: &str) {
        self.act(|announcer, moment| announcer.on_unbound(prefix(text), Ok(()), moment));
    }

    fn withdrawn(&mut self, text: &str) {
        self.act(|announcer, moment| announcer.on_withdrawn(prefix(text), moment));
    }

    fn streams(&mut self, count: u64) {
        self.act(|announcer, moment| announcer.on_streams(prefix(P), count, moment));
    }

    /// Lets the time pass, from deadline to deadline.
    fn run(&mut self, time: Duration) {
        let end = self.elapsed + time;
        loop {
            let now = self.moment().now;
            match self.announcer.next_deadline(now) {
                Some(next) if next <= self.start + end => {
                    assert!(next > now, "a deadline is worked off at once");
                    self.elapsed = next - self.start;
                }
                Some(_) | None => break,
            }
            self.act(Announcer::on_deadline);
        }
        self.elapsed = end;
        let before = Arc::clone(self.announcer.wanted());
        self.act(Announcer::on_deadline);
        assert_eq!(
            before,
            *self.announcer.wanted(),
            "nothing happens but at a deadline"
        );
    }

    fn collect(&mut self) {
        self.follow();
        while let Some(output) = self.announcer.poll_output() {
            match output {
                Output::Bind(..) => self.asked.push((self.elapsed, Ask::Bind)),
                Output::Unbind(..) => self.asked.push((self.elapsed, Ask::Unbind)),
                Output::Changed(change) => self.told.push((self.elapsed, change.what)),
            }
        }
    }

    fn follow(&mut self) {
        let changed = self.announcer.take_changed().into_iter();
        let wanted = &self.announcer.wanted().prefixes;
        let changes = changed.map(|prefix| (prefix, wanted.get(&prefix).cloned()));
        self.followed.prefixes.change(changes.collect());
        assert_eq!(
            self.followed.prefixes,
            self.announcer.wanted().prefixes,
            "every change is named"
        );
    }

    fn decision(&self, text: &str) -> &Decision {
        self.announcer.wanted().prefixes.get(&prefix(text)).unwrap()
    }

    fn announced(&self) -> bool {
        self.decision(P).announce
    }

    fn status(&self) -> PrefixStatus {
        let all = self.announcer.status(self.moment());
        all.into_iter()
            .find(|status| status.prefix == prefix(P))
            .expect("192.0.2.1/32 is ours")
    }

    fn state(&self) -> State {
        self.status().state
    }

    /// When it was wanted and when not any more.
    fn flips(&self) -> Vec<(Duration, bool)> {
        let flip = |(at, what): &(Duration, What)| match what {
            What::Announced => Some((*at, true)),
            What::Withdrawn(_) => Some((*at, false)),
            What::Held { .. }
            | What::Step { .. }
            | What::Undrained
            | What::LeaseExpired { .. }
            | What::Trouble(_) => None,
        };
        self.told.iter().filter_map(flip).collect()
    }
}

/// Whatever is wanted, by prefix.
fn announced(announcer: &Announcer) -> BTreeMap<Prefix, bool> {
    let wanted = announcer.wanted().prefixes.iter();
    wanted
        .map(|(prefix, decision)| (*prefix, decision.announce))
        .collect()
}

#[test]
#[ignore = "a measurement; run it alone, in a release build"]
fn a_snapshot_is_decided_soon() {
    let mut text = String::new();
    for number in 0..999 {
        let (high, low) = (number / 256, number % 256);
        text += &format!("[[anycast]]\nprefix = \"10.0.{high}.{low}/32\"\nwhile_up = \"pool:web@nrt\"\n");
    }
    text += "[[anycast]]\nprefix = \"192.0.2.1/32\"\nwhile_up = \"pool:web@local\"\n";
    let mut world = World::new(fleet(&text));
    let mut times = Vec::new();
    for round in 0..2_001 {
        world.health[0] = if round % 2 == 0 { DOWN } else { UP };
        world.number += 1;
        let (snapshot, moment) = (Arc::new(world.snapshot()), world.moment());
        let start = Instant::now();
        world.announcer.on_snapshot(&snapshot, moment);
        let decided = start.elapsed();
        world.collect();
        let next = world.announcer.next_deadline(moment.now);
        times.push((decided, start.elapsed()));
        assert_eq!((world.announced(), next), (round % 2 == 1, None));
    }
    times.sort();
    let at = |share: usize| times[times.len() * share / 100];
    println!("decided, and all done: median {:?}, p99 {:?}", at(50), at(99));
}
