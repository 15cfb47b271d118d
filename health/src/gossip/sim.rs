//! A fleet of gossiping sites in one thread, under virtual time, from one seed.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::core::{Action, Gossip, Own};
use super::keys::Keys;
use super::moment::Moment;
use super::observation::Key;
use super::seal::Dropped;
use super::site::{Roster, SiteName};
use super::swim::MemberEvent;
use crate::snapshot::Verdict;

/// What goes wrong between two sites.
type Cut = Box<dyn Fn(usize, usize) -> bool>;

/// The world. Sites are numbers.
pub(super) struct World {
    pub(super) sites: Vec<Option<Gossip>>,
    names: Vec<SiteName>,
    roster: Roster,
    by_address: BTreeMap<SocketAddr, usize>,
    queue: BinaryHeap<Reverse<(Duration, u64, Event)>>,
    /// When each site is woken next, to tell a wake-up that was overtaken.
    wakes: Vec<Duration>,
    random: StdRng,
    order: u64,
    start: Moment,
    pub(super) now: Duration,
    /// Probability that a datagram is lost.
    pub(super) loss: f64,
    /// Probability that a datagram comes twice.
    pub(super) twice: f64,
    pub(super) cut: Cut,
    /// Until when each site is not let run; what comes meanwhile waits in its socket.
    pub(super) stalled: Vec<Duration>,
    /// A site that is let run again looks at the clock before it reads what waits.
    pub(super) clock_first: bool,
    /// Probability that a datagram is lost at the site that sends it or to which it goes.
    pub(super) uplink: Vec<f64>,
    /// Of each site.
    pub(super) skew: Vec<SignedDuration>,
    pub(super) dropped: BTreeMap<Dropped, u64>,
    pub(super) octets: u64,
    pub(super) datagrams: u64,
    pub(super) syncs: u64,
    /// When, at whom, of whom, what.
    pub(super) events: Vec<(Duration, usize, SiteName, MemberEvent)>,
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Wake(usize),
    Datagram(usize, Vec<u8>),
    Stream(usize, usize),
}

pub(super) fn name(site: usize) -> SiteName {
    let letter = |n: usize| b'a' + (n % 26) as u8;
    SiteName::from_octets([letter(site / 676), letter(site / 26), letter(site)]).unwrap()
}

fn address(site: usize) -> SocketAddr {
    ([10, 0, (site / 200) as u8, (site % 200) as u8 + 1], 7946).into()
}

impl World {
    pub(super) fn new(count: usize, seed: u64) -> Self {
        let names: Vec<_> = (0..count).map(name).collect();
        let mut world = Self {
            sites: Vec::new(),
            roster: (0..count).map(|site| (name(site), address(site))).collect(),
            names,
            by_address: (0..count).map(|site| (address(site), site)).collect(),
            queue: BinaryHeap::new(),
            wakes: vec![Duration::MAX; count],
            random: StdRng::seed_from_u64(seed),
            order: 0,
            start: Moment {
                now: Instant::now(),
                at: "2026-01-01T00:00:00Z".parse::<Timestamp>().unwrap(),
            },
            now: Duration::ZERO,
            loss: 0.0,
            twice: 0.0,
            cut: Box::new(|_, _| false),
            stalled: vec![Duration::ZERO; count],
            clock_first: false,
            uplink: vec![0.0; count],
            skew: vec![SignedDuration::ZERO; count],
            dropped: BTreeMap::new(),
            octets: 0,
            datagrams: 0,
            syncs: 0,
            events: Vec::new(),
        };
        world.sites.resize_with(count, || None);
        (0..count).for_each(|site| world.begin(site));
        world
    }

    pub(super) fn key() -> Keys {
        Keys::one([42; 32])
    }

    pub(super) fn moment(&self, site: usize) -> Moment {
        Moment {
            now: self.start.now + self.now,
            at: self.start.at + self.now + self.skew[site],
        }
    }

    /// (Re)starts a site, which knows nothing of before.
    pub(super) fn begin(&mut self, site: usize) {
        let own = Own {
            site: self.names[site],
            address: address(site),
        };
        let seed = self.random.random();
        let gossip = Gossip::new(own, self.roster.clone(), Self::key(), seed, self.moment(site));
        self.sites[site] = Some(gossip);
        self.wakes[site] = Duration::MAX;
        self.wake(site);
    }

    /// It dies without a word.
    pub(super) fn kill(&mut self, site: usize) {
        self.sites[site] = None;
    }

    pub(super) fn observe(&mut self, site: usize, key: u64, verdict: Verdict) {
        let Moment { now, at } = self.moment(site);
        if let Some(gossip) = &mut self.sites[site] {
            gossip.observe(Key(key), verdict, "test", at, now);
        }
        self.act(site);
    }

    pub(super) fn with(&mut self, site: usize, act: impl FnOnce(&mut Gossip, Moment)) {
        let moment = self.moment(site);
        if let Some(gossip) = &mut self.sites[site] {
            act(gossip, moment);
        }
        self.act(site);
    }

    fn push(&mut self, at: Duration, event: Event) {
        self.order += 1;
        self.queue.push(Reverse((at, self.order, event)));
    }

    fn wake(&mut self, site: usize) {
        let Some(gossip) = &self.sites[site] else { return };
        let at = gossip
            .next_deadline()
            .saturating_duration_since(self.start.now)
            .max(self.now);
        if at < self.wakes[site] || self.wakes[site] <= self.now {
            self.wakes[site] = at;
            self.push(at, Event::Wake(site));
        }
    }

    fn act(&mut self, site: usize) {
        while let Some(action) = self.sites[site].as_mut().and_then(Gossip::poll_action) {
            match action {
                Action::Send { to, octets } => self.send(site, to, octets),
                Action::Sync { at, .. } => {
                    let delay = self.delay() * 2;
                    self.push(self.now + delay, Event::Stream(site, self.by_address[&at]));
                }
                Action::Member(of, event) => self.events.push((self.now, site, of, event)),
                Action::Changed(_) => {}
            }
        }
        self.wake(site);
    }

    fn send(&mut self, from: usize, to: SocketAddr, octets: Vec<u8>) {
        let to = self.by_address[&to];
        self.octets += octets.len() as u64;
        self.datagrams += 1;
        let uplinks = 1.0 - (1.0 - self.uplink[from]) * (1.0 - self.uplink[to]);
        let loss = 1.0 - (1.0 - self.loss) * (1.0 - uplinks);
        if (self.cut)(from, to) || self.random.random_bool(loss) {
            return;
        }
        let delay = self.delay();
        if self.random.random_bool(self.twice) {
            let later = self.delay();
            self.push(self.now + later, Event::Datagram(to, octets.clone()));
        }
        self.push(self.now + delay, Event::Datagram(to, octets));
    }

    /// One way, anywhere on Earth.
    fn delay(&mut self) -> Duration {
        Duration::from_micros(self.random.random_range(500..150_000))
    }

    pub(super) fn run_for(&mut self, time: Duration) {
        let until = self.now + time;
        while let Some(Reverse((at, _, event))) = self.pop_until(until) {
            self.now = at;
            self.happen(event);
        }
        self.now = until;
    }

    /// Runs until `done` holds, looking every 100 ms; the time it took, or `None` after `limit`.
    pub(super) fn run_until(&mut self, limit: Duration, done: impl Fn(&Self) -> bool) -> Option<Duration> {
        let start = self.now;
        while self.now - start <= limit {
            if done(self) {
                return Some(self.now - start);
            }
            self.run_for(Duration::from_millis(100));
        }
        None
    }

    fn pop_until(&mut self, until: Duration) -> Option<Reverse<(Duration, u64, Event)>> {
        let Reverse((at, ..)) = self.queue.peek()?;
        if *at <= until { self.queue.pop() } else { None }
    }

    fn happen(&mut self, event: Event) {
        let (Event::Wake(site) | Event::Datagram(site, _) | Event::Stream(site, _)) = &event;
        let until = self.stalled[*site];
        if until > self.now {
            self.put_off(event, until);
            return;
        }
        match event {
            Event::Wake(site) => {
                if self.wakes[site] == self.now {
                    self.with(site, Gossip::on_deadline);
                }
            }
            Event::Datagram(site, octets) => {
                let moment = self.moment(site);
                let taken = self.sites[site]
                    .as_mut()
                    .map(|gossip| gossip.on_datagram(&octets, moment));
                if let Some(Err(cause)) = taken {
                    *self.dropped.entry(cause).or_default() += 1;
                }
                self.act(site);
            }
            Event::Stream(client, server) => self.stream(client, server),
        }
    }

    /// A site that is let run again reads what waits before it looks at the clock, as the driver does, or not.
    fn put_off(&mut self, event: Event, until: Duration) {
        let at = match event {
            Event::Wake(site) if self.wakes[site] == self.now => {
                let later = Duration::from_micros(u64::from(!self.clock_first));
                self.wakes[site] = until + later;
                self.wakes[site]
            }
            Event::Wake(_) => return,
            Event::Datagram(..) | Event::Stream(..) => until,
        };
        self.push(at, event);
    }

    fn stream(&mut self, client: usize, server: usize) {
        if (self.cut)(client, server) || (self.cut)(server, client) {
            return;
        }
        let (at_client, at_server) = (self.moment(client), self.moment(server));
        let with = self.names[server];
        let Some((session, frame)) = self.sites[client]
            .as_mut()
            .map(|gossip| gossip.sync_request(with, at_client))
        else {
            return;
        };
        let Some(gossip) = &mut self.sites[server] else {
            return;
        };
        let frames = match gossip.sync_answer(&frame, at_server) {
            Ok(frames) => frames,
            Err(cause) => {
                *self.dropped.entry(cause).or_default() += 1;
                return;
            }
        };
        let mut last = false;
        for frame in frames {
            assert!(!last);
            let client = self.sites[client].as_mut().unwrap();
            match client.sync_apply(session, &frame, at_client) {
                Ok(is_last) => last = is_last,
                Err(cause) => {
                    *self.dropped.entry(cause).or_default() += 1;
                    return;
                }
            }
        }
        assert!(last);
        self.syncs += 1;
        self.act(client);
    }

    /// The sites that run.
    pub(super) fn running(&self) -> impl Iterator<Item = (usize, &Gossip)> {
        self.sites
            .iter()
            .enumerate()
            .filter_map(|(site, gossip)| Some((site, gossip.as_ref()?)))
    }

    /// Whether everybody takes exactly the running sites for up.
    pub(super) fn agree_on_members(&self) -> bool {
        let is_up = |site: usize| self.sites[site].is_some();
        self.running().all(|(_, gossip)| {
            (0..self.names.len()).all(|site| gossip.is_up(self.names[site]) == is_up(site))
        })
    }

    /// Whether everybody holds `verdict` as the word of `origin` on `key`, and it counts.
    pub(super) fn all_know(&self, origin: usize, key: u64, verdict: Verdict) -> bool {
        self.running()
            .all(|(site, _)| self.knows(site, origin, key) == Some(verdict))
    }

    /// What counts at `site` as the word of `origin`.
    pub(super) fn knows(&self, site: usize, origin: usize, key: u64) -> Option<Verdict> {
        let now = self.start.now + self.now;
        let word = self.sites[site]
            .as_ref()?
            .store()
            .word(self.names[origin], Key(key), now)?;
        (!word.expired).then_some(word.observation.verdict)
    }
}
