//! Two machines that dial each other, over a network with delays and faults, in virtual time, from one seed.

use std::collections::{BTreeMap, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use steer_topology::GracefulRestart;

use super::super::{Action, Config, Event, Peer, SessionId};
use super::config;
use crate::wire::{self, Reason};

/// What travels, or is about to happen at a machine.
#[derive(Debug)]
enum Parcel {
    /// A dial arrives at the other side.
    Syn(SessionId),
    /// The answer to a dial.
    Answer(SessionId, bool),
    /// Octets, in order, on a connection.
    Message(SessionId, Bytes),
    /// The end of a connection, behind all messages.
    Fin(SessionId),
}

struct World {
    now: Instant,
    rng: StdRng,
    machines: [Peer; 2],
    /// By time and order of sending.
    travelling: BTreeMap<(Instant, u64), (usize, Parcel)>,
    sent: u64,
    /// For each machine: its number of a connection to the other's.
    other_end: [BTreeMap<SessionId, SessionId>; 2],
    /// No parcel of a connection overtakes another.
    last_arrival: [BTreeMap<SessionId, Instant>; 2],
    up: [Option<SessionId>; 2],
    /// Share of dials that fail.
    loss: f64,
}

impl World {
    fn with_seed(seed: u64) -> Self {
        Self::with(seed, |_| {})
    }

    /// Both machines with something else than usual.
    fn with(seed: u64, change: impl Fn(&mut Config)) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let ids = if rng.random_bool(0.5) { [1, 2] } else { [2, 1] };
        Self {
            now: Instant::now(),
            machines: ids.map(|id| {
                let mut config = config(id);
                change(&mut config);
                Peer::new(config, seed ^ u64::from(id))
            }),
            rng,
            travelling: BTreeMap::new(),
            sent: 0,
            other_end: Default::default(),
            last_arrival: Default::default(),
            up: [None; 2],
            loss: 0.0,
        }
    }

    fn send(&mut self, to: usize, connection: SessionId, parcel: Parcel) {
        let delay = Duration::from_micros(self.rng.random_range(100..50_000));
        let last = self.last_arrival[to].entry(connection).or_insert(self.now);
        let at = (self.now + delay).max(*last);
        *last = at;
        self.sent += 1;
        self.travelling.insert((at, self.sent), (to, parcel));
    }

    fn tell(&mut self, at: usize, event: Event) {
        self.machines[at].handle(event, self.now);
        self.act(at);
    }

    fn act(&mut self, at: usize) {
        let other = 1 - at;
        let mut actions: VecDeque<Action> = std::iter::from_fn(|| self.machines[at].poll_action()).collect();
        while let Some(action) = actions.pop_front() {
            match action {
                Action::Dial(id) => self.send(other, id, Parcel::Syn(id)),
                Action::SendOpen(id, open) => self.say(at, id, wire::encode_open(&open)),
                Action::SendKeepalive(id) => self.say(at, id, wire::encode_keepalive()),
                Action::SendNotification(id, notification) => {
                    self.say(at, id, wire::encode_notification(&notification));
                }
                Action::Close(id) => {
                    if let Some(there) = self.other_end[at].remove(&id) {
                        self.send(other, there, Parcel::Fin(there));
                    }
                }
                Action::Up(id, _) => {
                    assert_eq!(self.up[at], None, "two sessions at once");
                    self.up[at] = Some(id);
                }
                Action::Ended { id, established, .. } => {
                    assert_eq!(established, self.up[at] == Some(id));
                    if established {
                        self.up[at] = None;
                    }
                }
                Action::Refresh(..) | Action::Demarcation(..) | Action::Inbound(..) => {
                    panic!("nobody sends routes")
                }
            }
        }
    }

    fn say(&mut self, at: usize, id: SessionId, message: Bytes) {
        if let Some(there) = self.other_end[at].get(&id).copied() {
            self.send(1 - at, there, Parcel::Message(there, message));
        }
    }

    fn arrive(&mut self, to: usize, parcel: Parcel) {
        match parcel {
            Parcel::Syn(id) => {
                let lost = self.rng.random_bool(self.loss);
                let accepted = if lost {
                    None
                } else {
                    self.machines[to].accept(self.now).ok()
                };
                if let Some(here) = accepted {
                    self.other_end[to].insert(here, id);
                    self.other_end[1 - to].insert(id, here);
                }
                self.send(1 - to, id, Parcel::Answer(id, accepted.is_some()));
                self.act(to);
            }
            Parcel::Answer(id, true) => {
                // A dial that was given up meanwhile: the kernel would close it.
                self.tell(to, Event::Connected(id));
                if self.machines[to].state_of(id).is_none()
                    && let Some(there) = self.other_end[to].remove(&id)
                {
                    self.send(1 - to, there, Parcel::Fin(there));
                }
            }
            Parcel::Answer(id, false) => self.tell(to, Event::Lost(id, "refused".to_owned())),
            Parcel::Message(id, message) => {
                let frame = wire::tests::frame(&message);
                self.tell(to, Event::Frame(id, frame));
            }
            Parcel::Fin(id) => {
                self.other_end[to].remove(&id);
                self.tell(to, Event::Lost(id, "closed".to_owned()));
            }
        }
    }

    fn run_for(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let parcel = self.travelling.first_key_value().map(|((at, _), _)| *at);
            let deadlines = self.machines.iter().filter_map(Peer::next_deadline);
            let Some(next) = deadlines.chain(parcel).min().filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            if parcel == Some(next) {
                if let Some((_, (to, parcel))) = self.travelling.pop_first() {
                    self.arrive(to, parcel);
                }
            } else {
                for at in 0..2 {
                    self.machines[at].on_deadline(self.now);
                    self.act(at);
                }
            }
        }
        self.now = end;
    }

    /// The network drops every connection, as a router that restarts does.
    fn cut(&mut self) {
        self.travelling.clear();
        for at in 0..2 {
            for id in std::mem::take(&mut self.other_end[at]).into_keys() {
                self.tell(at, Event::Lost(id, "cut".to_owned()));
            }
        }
        // Dials under way get no answer; their retry timers know what to do.
    }

    fn restart(&mut self, at: usize) {
        let (reason, text) = (Reason::AdministrativeReset, String::new());
        self.tell(at, Event::Stop { reason, text });
        self.tell(at, Event::Start);
    }

    /// Both are up, and on the two ends of one connection.
    fn agree(&self) -> bool {
        match self.up {
            [Some(here), Some(there)] => self.other_end[0].get(&here) == Some(&there),
            [None | Some(_), None | Some(_)] => false,
        }
    }
}

/// Both sides offer graceful restart, so that a new connection may replace an old session (RFC 4724 §5).
fn graceful(config: &mut Config) {
    config.graceful_restart = Some(GracefulRestart {
        restart_time: Duration::from_secs(30),
        notification: true,
    });
}

fn ends_with_exactly_one_session(mut world: World, seed: u64) {
    world.tell(0, Event::Start);
    world.tell(1, Event::Start);
    // Rarely both connections fall (each side kept the other one); the jittered retries then part.
    world.run_for(Duration::from_secs(120));
    assert!(world.agree(), "seed {seed}: {:?}", world.up);
    let before = world.up;
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.up, before, "seed {seed}: the session does not flap");
    let live = world.other_end.each_ref().map(BTreeMap::len);
    assert_eq!(live, [1, 1], "seed {seed}: nothing else is open");
}

#[test]
fn two_that_dial_each_other_at_once_end_with_exactly_one_session() {
    for seed in 0..2_000 {
        ends_with_exactly_one_session(World::with_seed(seed), seed);
        if seed % 4 == 0 {
            ends_with_exactly_one_session(World::with(seed, graceful), seed);
        }
    }
}

#[test]
fn with_strict_bfd_the_session_follows_the_path() {
    for seed in 0..500 {
        let mut world = World::with(seed, |config| config.strict_bfd = true);
        world.tell(0, Event::Start);
        world.tell(1, Event::Start);
        for _ in 0..10 {
            let pause = world.rng.random_range(0..8_000);
            world.run_for(Duration::from_millis(pause));
            let side = world.rng.random_range(0..2);
            let up = world.rng.random_bool(0.5);
            world.tell(side, if up { Event::PathUp } else { Event::PathDown });
        }
        for side in 0..2 {
            world.tell(side, Event::PathDown);
        }
        assert_eq!(world.up, [None, None], "seed {seed}");
        world.run_for(Duration::from_secs(60));
        assert_eq!(world.up, [None, None], "seed {seed}: nothing without BFD");
        for side in 0..2 {
            world.tell(side, Event::PathUp);
        }
        // One round of retries, where the first dials met a side that was still waiting.
        world.run_for(Duration::from_secs(12));
        assert!(world.agree(), "seed {seed}: {:?}", world.up);
    }
}

#[test]
fn most_collisions_are_over_within_a_second() {
    let quick = (0..500).filter(|seed| {
        let mut world = World::with_seed(*seed);
        world.tell(0, Event::Start);
        world.tell(1, Event::Start);
        world.run_for(Duration::from_secs(1));
        world.agree()
    });
    let share = quick.count();
    assert!(share >= 490, "{share} of 500");
}

#[test]
fn after_any_faults_the_session_comes_back() {
    for seed in 0..500 {
        let mut world = World::with_seed(seed);
        world.loss = 0.3;
        world.tell(0, Event::Start);
        world.tell(1, Event::Start);
        for _ in 0..10 {
            let pause = world.rng.random_range(0..12_000);
            world.run_for(Duration::from_millis(pause));
            match world.rng.random_range(0..3) {
                0 => world.cut(),
                victim => world.restart(victim - 1),
            }
        }
        world.loss = 0.0;
        world.run_for(Duration::from_secs(300));
        assert!(world.agree(), "seed {seed}: {:?}", world.up);
    }
}
