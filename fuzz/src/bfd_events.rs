//! Any sequence of packets, deadlines and wishes against one BFD session, in virtual time.
//!
//! What must hold whatever happens: every packet that it sends is valid and its own; it is not up without having
//! heard a peer that hears it, nor for longer than the Detection Time in silence; while it is not up it is slow; a
//! passive one says nothing first; an event brings a handful of packets at most.

use std::collections::VecDeque;
use std::num::{NonZeroU8, NonZeroU32};
use std::time::{Duration, Instant};

use arbitrary::{Arbitrary, Unstructured};
use steer_anycast::bfd::wire::{self, Packet, State};
use steer_anycast::bfd::{Auth, Config, Intervals, Output, PathState, Role, SLOW, Session};
use steer_topology::BfdAuthKind;

/// More outputs than this from one event is a queue that grows.
const OUTPUTS: usize = 6;

const OURS: NonZeroU32 = NonZeroU32::MAX;
const THEIRS: NonZeroU32 = NonZeroU32::MIN;

/// Packets of the honest peer that may come again.
const KEPT: usize = 8;

#[derive(Debug, Arbitrary)]
struct Input {
    passive: bool,
    meticulous: Option<bool>,
    multiplier: NonZeroU8,
    interval_ms: u8,
    seed: u64,
    steps: Vec<Step>,
}

#[derive(Debug, Arbitrary)]
enum Step {
    /// A packet of the peer, mostly a good one.
    Hear(Heard),
    Octets(Vec<u8>),
    /// A packet of an honest peer with the right key: the newest, or an older one again.
    HearTwin {
        age: u8,
    },
    /// The honest peer hears our newest packet, and its time goes on.
    TellTwin,
    Later {
        by_ms: u16,
    },
    NextDeadline,
    /// The deadline is told, but what came before it is not all read yet.
    Behind {
        by_ms: u16,
    },
    Disable,
    Enable,
    SetInterval {
        ms: u8,
    },
}

#[derive(Debug, Arbitrary)]
struct Heard {
    state: u8,
    poll: bool,
    is_final: bool,
    demand: bool,
    multiplier: NonZeroU8,
    my_discriminator: NonZeroU32,
    knows_us: bool,
    desired_min_tx: u32,
    required_min_rx: u32,
}

/// How far a sequence came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Reached {
    /// Times that the session came up.
    pub ups: usize,
    /// Packets sent.
    pub packets: usize,
}

/// Runs one sequence.
pub fn check(data: &[u8]) -> Reached {
    let Ok(input) = Input::arbitrary_take_rest(Unstructured::new(data)) else {
        return Reached::default();
    };
    let mut world = World::new(&input);
    for step in &input.steps {
        world.step(step);
    }
    world.reached
}

struct World {
    now: Instant,
    auth: Option<Auth>,
    session: Session,
    twin: Session,
    /// Its newest packets, and ours, newest first.
    said_by_twin: VecDeque<Vec<u8>>,
    newest: Option<Vec<u8>>,
    multiplier: NonZeroU8,
    passive: bool,
    /// A packet of the peer was taken.
    spoken_to: bool,
    /// The state in the last packet that was taken.
    peer: Option<State>,
    disabled: bool,
    reached: Reached,
}

impl World {
    fn new(input: &Input) -> Self {
        let now = Instant::now();
        let kind = |meticulous| match meticulous {
            true => BfdAuthKind::MeticulousKeyedSha1,
            false => BfdAuthKind::KeyedSha1,
        };
        let auth = input
            .meticulous
            .map(|meticulous| Auth::new(kind(meticulous), 1, b"key").expect("a key"));
        let config = Config {
            intervals: intervals(input.interval_ms),
            multiplier: input.multiplier,
            role: if input.passive {
                Role::Passive
            } else {
                Role::Active
            },
            auth: auth.clone(),
        };
        let honest = Config {
            role: Role::Active,
            ..config.clone()
        };
        Self {
            now,
            auth,
            twin: Session::new(honest, THEIRS, input.seed.wrapping_add(1), now),
            said_by_twin: VecDeque::new(),
            newest: None,
            session: Session::new(config, OURS, input.seed, now),
            multiplier: input.multiplier,
            passive: input.passive,
            spoken_to: false,
            peer: None,
            disabled: false,
            reached: Reached::default(),
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Hear(heard) => {
                let packet = self.packet(heard);
                let octets = wire::encode(&packet, 0);
                self.hear(&octets);
            }
            Step::Octets(octets) => self.hear(octets),
            Step::HearTwin { age } => {
                let octets = self
                    .said_by_twin
                    .get(usize::from(*age) % KEPT)
                    .or(self.said_by_twin.front());
                if let Some(octets) = octets.cloned() {
                    self.hear(&octets);
                }
            }
            Step::TellTwin => self.tell_twin(),
            Step::Later { by_ms } => {
                self.now += Duration::from_millis((*by_ms).into());
                self.deadline(self.now);
            }
            Step::NextDeadline => {
                if let Some(at) = self.session.next_deadline(self.now) {
                    self.now = self.now.max(at);
                    self.deadline(self.now);
                }
            }
            Step::Behind { by_ms } => {
                let before = self.now;
                self.now += Duration::from_millis((*by_ms).into());
                self.deadline(before);
            }
            Step::Disable => {
                self.session.disable(self.now);
                self.disabled = true;
                self.act();
            }
            Step::Enable => {
                self.session.enable(self.now);
                self.disabled = false;
                self.act();
            }
            Step::SetInterval { ms } => {
                self.session.set_intervals(intervals(*ms), self.now);
                self.act();
            }
        }
    }

    fn packet(&self, heard: &Heard) -> Packet {
        let state = State::ALL[usize::from(heard.state % 4)];
        let must_know = matches!(state, State::Init | State::Up);
        let diagnostic = wire::Diagnostic::NONE;
        Packet {
            diagnostic,
            state,
            poll: heard.poll,
            is_final: heard.is_final,
            control_plane_independent: false,
            demand: heard.demand,
            multiplier: heard.multiplier,
            my_discriminator: heard.my_discriminator,
            your_discriminator: if heard.knows_us || must_know {
                OURS.get()
            } else {
                0
            },
            desired_min_tx: heard.desired_min_tx,
            required_min_rx: heard.required_min_rx,
            required_min_echo_rx: 0,
        }
    }

    fn hear(&mut self, octets: &[u8]) {
        let Ok(received) = wire::decode(octets) else {
            return;
        };
        let before = self.session.picture();
        let taken = self.session.receive(&received, self.now, self.now).is_ok();
        match taken {
            true => {
                assert_eq!(received.has_auth, self.auth.is_some());
                self.spoken_to = true;
                self.peer = Some(received.packet.state);
            }
            false => assert_eq!(
                self.session.picture(),
                before,
                "a packet that is refused changes nothing"
            ),
        }
        self.act();
        if self.session.state() == State::Up && taken {
            assert!(
                matches!(received.packet.state, State::Init | State::Up),
                "{received:?}"
            );
        }
    }

    fn tell_twin(&mut self) {
        if let Some(octets) = self.newest.take() {
            let received = wire::decode(&octets).expect("a valid packet");
            // It refuses what comes too late; that is its business.
            let _ = self.twin.receive(&received, self.now, self.now);
        }
        self.twin.on_deadline(self.now, self.now);
        while let Some(output) = self.twin.poll_output() {
            if let Output::Send(octets) = output {
                self.said_by_twin.truncate(KEPT - 1);
                self.said_by_twin.push_front(octets.to_vec());
            }
        }
    }

    fn deadline(&mut self, heard_until: Instant) {
        self.session.on_deadline(self.now, heard_until);
        self.act();
        if heard_until == self.now {
            assert!(!self.session.is_silent(self.now), "silent, and nothing was done");
        }
        let next = self.session.next_deadline(self.now + Duration::from_nanos(1));
        assert!(
            next.is_none_or(|at| at > self.now),
            "a timer that is due stays due"
        );
    }

    fn act(&mut self) {
        for count in 0.. {
            let Some(output) = self.session.poll_output() else {
                break;
            };
            assert!(count < OUTPUTS, "output {count} of one event: {output:?}");
            match output {
                Output::Send(octets) => self.sent(&octets),
                Output::Path(PathState::Up) => {
                    self.reached.ups += 1;
                    assert!(
                        matches!(self.peer, Some(State::Init | State::Up)),
                        "up after {:?}",
                        self.peer
                    );
                }
                Output::Path(PathState::PeerAdminDown) => assert_eq!(self.peer, Some(State::AdminDown)),
                Output::Path(PathState::Down(_) | PathState::AdminDown) => {}
            }
        }
        let up = self.session.state() == State::Up;
        assert_eq!(up, self.session.path() == PathState::Up, "clients know what is");
        assert!(
            !self.disabled || self.session.state() == State::AdminDown,
            "held down"
        );
    }

    fn sent(&mut self, octets: &[u8]) {
        self.reached.packets += 1;
        self.newest = Some(octets.to_vec());
        assert!(!self.passive || self.spoken_to, "a passive end spoke first");
        let received = wire::decode(octets).expect("a valid packet");
        let packet = received.packet;
        assert_eq!(
            (packet.my_discriminator, packet.multiplier),
            (OURS, self.multiplier)
        );
        assert!(!(packet.poll && packet.is_final), "RFC 5880 §6.5");
        assert!(!packet.demand && !packet.control_plane_independent);
        assert_eq!(received.has_auth, self.auth.is_some());
        if packet.state != State::Up {
            assert!(packet.desired_min_tx >= SLOW, "RFC 5880 §6.8.3: {packet:?}");
        }
    }
}

fn intervals(ms: u8) -> Intervals {
    Intervals::both(Duration::from_millis(u64::from(ms) + 10))
}
