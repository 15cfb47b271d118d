//! The whole fleet and its world in one thread: virtual time, and one queue of events.

mod event;
mod lives;
mod look;
mod traffic;
mod turns;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steer_health::gossip::Moment;
use steer_health::store::StoredDrain;
use steer_topology::SiteId;

use super::draw::{Loaded, Shape, Size, Variant};
use super::faults::Faults;
use super::network::Network;
use super::process::Process;
use super::sessions::Sessions;
use super::trace::Trace;
use super::watch::evidence::Records;
use super::watch::guard::GuardWatch;
use super::watch::routes::RoutesWatch;
use super::watch::together::TogetherWatch;
use super::watch::{Broken, Rule};
use event::Queued;

pub(super) use event::Event;
pub(super) use turns::keep;

/// How an endpoint treats a probe.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Manner {
    /// As it should.
    Answers,
    /// Nobody listens.
    Refuses,
    /// The connection opens, and nothing comes.
    Hangs,
    /// The answer takes so long.
    Slow(Duration),
    /// The connection is torn down, with this probability.
    Flaky(f64),
}

/// One site: its process, if it runs, and what outlives it.
pub(super) struct Site {
    pub(super) name: &'static str,
    pub(super) id: SiteId,
    pub(super) process: Option<Process>,
    incarnation: u64,
    pub(super) paused: bool,
    deferred: Vec<Event>,
    /// Of its wall clock.
    pub(super) skew: SignedDuration,
    /// What its store has.
    pub(super) kept: BTreeMap<String, StoredDrain>,
    pub(super) store_is_lost: bool,
    /// What its file says.
    pub(super) variant: Variant,
    pub(super) sessions: Sessions,
    wake: Option<Duration>,
    /// When it last published, or went on.
    published: Duration,
    guard: GuardWatch,
    routes: RoutesWatch,
    /// What operators wished here and nobody took back: by target, until when.
    pub(super) wished: BTreeMap<String, Option<Timestamp>>,
}

/// What a run came to.
#[derive(Debug, Clone, Default)]
pub struct Counts {
    /// Events.
    pub events: u64,
    /// Probes sent.
    pub probes: u64,
    /// Datagrams sent.
    pub datagrams: u64,
    /// Datagrams that were refused, by cause.
    pub dropped: BTreeMap<&'static str, u64>,
    /// Snapshots published after the first of each process.
    pub snapshots: u64,
    /// Sites that came back as they had gone out together with the others.
    pub back: u64,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// How long it took after each heal until all sites agreed.
    pub agreed_in: Vec<Duration>,
}

/// The world.
pub struct World {
    pub(super) shape: Shape,
    /// What all files are to say.
    pub(super) variant: Variant,
    loads: Vec<(Variant, Loaded)>,
    pub(super) sites: Vec<Site>,
    by_address: BTreeMap<SocketAddr, usize>,
    pub(super) manners: BTreeMap<SocketAddr, Manner>,
    pub(super) network: Network,
    queue: BinaryHeap<Reverse<Queued>>,
    order: u64,
    pub(super) now: Duration,
    base: Moment,
    random: StdRng,
    pub(super) faults: Faults,
    pub(super) records: Records,
    pub(super) together: TogetherWatch,
    /// The last events.
    pub trace: Trace,
    /// What was done.
    pub counts: Counts,
    broken: Option<Broken>,
    /// When all faults ended, until all sites agree.
    pub(super) healed: Option<Duration>,
    /// Since when all sites agree.
    agreed_since: Option<Duration>,
    /// All sites agree, and nothing is wrong.
    pub(super) calm: bool,
}

/// After all faults have ended the sites agree within this.
pub const AGREE_WITHIN: Duration = Duration::from_secs(60);

/// Datagrams that the kernel keeps for a process that is stopped.
const SOCKET_BUFFER: usize = 256;

impl World {
    /// The world of a seed, at its beginning.
    ///
    /// # Errors
    /// The fleet that was drawn is not one: a defect of the simulation.
    pub fn new(seed: u64, size: Size, aloud: bool) -> Result<Self, String> {
        let mut random = StdRng::seed_from_u64(seed);
        let shape = Shape::draw(seed, size, &mut random);
        let variant = shape.first_variant(&mut random);
        let loaded = Shape::load(&shape.text(&variant))?;
        let fleet = Arc::clone(&loaded.fleet);
        let site = |(number, name): (u16, &&'static str)| Site {
            name,
            id: SiteId(number),
            process: None,
            incarnation: 0,
            paused: false,
            deferred: Vec::new(),
            skew: SignedDuration::ZERO,
            kept: BTreeMap::new(),
            store_is_lost: false,
            variant: variant.clone(),
            sessions: Sessions::new(number),
            wake: None,
            published: Duration::ZERO,
            guard: GuardWatch::default(),
            routes: RoutesWatch::default(),
            wished: BTreeMap::new(),
        };
        let sites: Vec<_> = (0..).zip(&shape.sites).map(site).collect();
        let count = sites.len();
        let addresses = fleet.sites.iter().filter_map(|site| site.gossip);
        let mut world = Self {
            by_address: addresses.zip(0..).collect(),
            manners: fleet
                .endpoints
                .iter()
                .map(|one| (one.address, Manner::Answers))
                .collect(),
            network: Network::draw(count, &mut random),
            loads: vec![(variant.clone(), loaded)],
            records: Records::new(count),
            together: TogetherWatch::default(),
            faults: Faults::new(random.random(), count),
            trace: Trace::new(aloud),
            shape,
            variant,
            sites,
            queue: BinaryHeap::new(),
            order: 0,
            now: Duration::ZERO,
            base: Moment {
                now: Instant::now(),
                at: Timestamp::from_second(1_767_225_600).map_err(|error| error.to_string())?,
            },
            random,
            counts: Counts::default(),
            broken: None,
            healed: None,
            agreed_since: None,
            calm: false,
        };
        let (sites, endpoints) = world.size();
        let shape = format!("{:?}", world.shape);
        world.say(format_args!(
            "seed {seed}: {sites} sites, {endpoints} endpoints, {shape}"
        ));
        for site in 0..sites {
            let at = Duration::from_millis(world.random.random_range(0..2_000));
            world.push(at, Event::Start(site));
        }
        world.push(Duration::from_secs(1), Event::Look);
        world.plan_faults();
        Ok(world)
    }

    /// Sites and endpoints.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        (self.sites.len(), self.manners.len())
    }

    /// Since the beginning.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Runs for so long, or until a rule is broken.
    ///
    /// # Errors
    /// The rule, and how it was broken.
    pub fn run(&mut self, time: Duration) -> Result<(), Broken> {
        let until = self.now + time;
        while self.broken.is_none()
            && let Some(Reverse(next)) = self.queue.peek()
            && next.at <= until
            && let Some(Reverse(Queued { at, event, .. })) = self.queue.pop()
        {
            self.now = at;
            self.counts.events += 1;
            self.happen(*event);
        }
        match self.broken.take() {
            Some(broken) => {
                self.say(format_args!("BROKEN {broken}"));
                Err(broken)
            }
            None => {
                self.now = until;
                Ok(())
            }
        }
    }

    pub(super) fn say(&mut self, what: std::fmt::Arguments<'_>) {
        self.trace.say(self.now, what);
    }

    pub(super) fn push(&mut self, at: Duration, event: Event) {
        self.order += 1;
        self.queue.push(Reverse(Queued {
            at,
            order: self.order,
            event: Box::new(event),
        }));
    }

    /// Now, by the clocks of a site.
    pub(super) fn moment(&self, site: usize) -> Moment {
        let at = self.base.at + self.now;
        Moment {
            now: self.base.now + self.now,
            at: at.checked_add(self.sites[site].skew).unwrap_or(at),
        }
    }

    /// Takes down that a rule is broken; the first one counts.
    pub(super) fn check(&mut self, site: usize, result: Result<(), Broken>) {
        if let (Err(Broken { rule, how }), None) = (result, &self.broken) {
            let how = format!("{}: {how}", self.sites[site].name);
            self.broken = Some(Broken { rule, how });
        }
    }

    pub(super) fn load(&mut self, variant: &Variant) -> Option<Loaded> {
        if let Some((_, loaded)) = self.loads.iter().find(|(known, _)| known == variant) {
            return Some(loaded.clone());
        }
        match Shape::load(&self.shape.text(variant)) {
            Ok(loaded) => {
                self.loads.push((variant.clone(), loaded.clone()));
                Some(loaded)
            }
            Err(error) => {
                self.check(
                    0,
                    Err(Rule::Names.broken(format!("a good file is refused: {error}"))),
                );
                None
            }
        }
    }

    fn happen(&mut self, event: Event) {
        if let Some(site) = event.of().filter(|site| self.sites[*site].paused) {
            self.defer(site, event);
            return;
        }
        match event {
            Event::Wake(site) => {
                if self.sites[site].wake == Some(self.now) {
                    self.sites[site].wake = None;
                    self.turn(site);
                }
            }
            Event::Outcome {
                site,
                incarnation,
                round,
                job,
                outcome,
                took,
            } => {
                self.hear(site, (incarnation, round), job, &outcome, took);
                self.turn(site);
            }
            Event::Datagram { to, octets, came } => self.datagram(to, &octets, came),
            Event::Stream {
                client,
                incarnation,
                server,
            } => self.stream(client, incarnation, server),
            Event::StreamOver { client, incarnation } => {
                if let Some(process) = self.process(client, incarnation) {
                    process.streams = false;
                }
            }
            Event::Compile {
                site,
                incarnation,
                snapshot,
            } => self.compile(site, incarnation, snapshot),
            Event::Start(site) => self.start(site),
            Event::Resume(site) => self.resume(site),
            Event::Reload(site) => self.reload(site),
            Event::SessionUp { site, peer } => {
                if let Some(process) = &self.sites[site].process {
                    let wanted = Arc::clone(process.announcer.wanted());
                    let broken = self.sites[site].sessions.up(peer, &wanted);
                    self.check(site, broken);
                }
            }
            Event::HoldOver { site, incarnation } => {
                let Site {
                    paused,
                    incarnation: current,
                    sessions,
                    ..
                } = &mut self.sites[site];
                if *paused && *current == incarnation {
                    sessions.all_down();
                }
            }
            Event::Fault => self.fault(),
            Event::End(number) => self.end(number),
            Event::Heal => self.heal(),
            Event::Look => self.look(),
        }
    }

    fn defer(&mut self, site: usize, event: Event) {
        let deferred = &mut self.sites[site].deferred;
        let waiting = deferred
            .iter()
            .filter(|event| matches!(event, Event::Datagram { .. }))
            .count();
        if !matches!(event, Event::Datagram { .. }) || waiting < SOCKET_BUFFER {
            deferred.push(event);
        }
    }

    fn process(&mut self, site: usize, incarnation: u64) -> Option<&mut Process> {
        let process = self.sites[site].process.as_mut();
        process.filter(|process| process.incarnation == incarnation)
    }
}
