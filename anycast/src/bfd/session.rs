//! One session as a machine: no socket, no clock. Packets and the time go in, packets and the path's state come out.
//!
//! ```text
//! receive ──► authenticate ─► note the peer's words ─► step ─► answer a Poll ─► timers ──► Output
//! on_deadline ─► silence? ─► step;  time to send? ─────────────────────────────────────────►
//! ```

mod config;
mod poll;
mod table;

#[cfg(test)]
mod tests;

use std::collections::VecDeque;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::auth::{self, Window};
use super::wire::{self, Diagnostic, Packet, Received, Refusal};
use poll::{Poll, Promises};

pub use super::wire::State;
pub use config::{Config, Intervals, Octets, Output, PathState, Picture, Role};
pub use table::{Effect, Trigger, step};

/// RFC 5880 §6.8.3: no faster until the session is up.
pub const SLOW: u32 = 1_000_000;

/// The least time between two answers to a Poll. RFC 5880 §6.8.7 allows a limit up to our Desired Min TX Interval,
/// and none of ours is shorter.
const FINAL_GAP: Duration = Duration::from_millis(10);

/// One session.
#[derive(Debug)]
pub struct Session {
    config: Config,
    local: NonZeroU32,
    state: State,
    diagnostic: Diagnostic,
    /// The peer said AdminDown last.
    peer_admin_down: bool,
    remote: Remote,
    promises: Promises,
    poll: Poll,
    sequence: u32,
    /// The packet that had `sequence`, without Poll and Final.
    signed: Option<Packet>,
    window: Window,
    timers: Timers,
    /// Packets that still repeat our AdminDown at the pace that the peer's detection counts with.
    repeats: Option<Repeats>,
    path: PathState,
    rng: StdRng,
    outputs: VecDeque<Output>,
}

/// What the peer said last.
#[derive(Debug, Clone, Copy)]
struct Remote {
    /// `bfd.RemoteDiscr`; 0: unknown.
    discriminator: u32,
    state: State,
    diagnostic: Diagnostic,
    demand: bool,
    min_rx: u32,
    desired_min_tx: u32,
    multiplier: u8,
}

impl Remote {
    /// RFC 5880 §6.8.1: before anything was heard.
    const UNKNOWN: Self = Self {
        discriminator: 0,
        state: State::Down,
        diagnostic: Diagnostic::NONE,
        demand: false,
        min_rx: 1,
        desired_min_tx: 0,
        multiplier: 0,
    };
}

#[derive(Debug, Default)]
struct Timers {
    /// The next periodic packet.
    transmit: Option<Instant>,
    /// The interval that `transmit` was made with.
    pace: Duration,
    last_periodic: Option<Instant>,
    /// The end of the Detection Time.
    detect: Option<Instant>,
    /// When the sequence numbers of the peer are forgotten.
    forget: Option<Instant>,
    /// An answer to a Poll that has to wait.
    answer: Option<Instant>,
    last_answer: Option<Instant>,
}

#[derive(Debug, Clone, Copy)]
struct Repeats {
    left: u8,
    pace: Duration,
}

impl Session {
    /// A session in Down that sends its first packet at once, unless passive. The discriminator must be random,
    /// and no other session's.
    #[must_use]
    pub fn new(config: Config, discriminator: NonZeroU32, seed: u64, now: Instant) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut session = Self {
            local: discriminator,
            state: State::Down,
            diagnostic: Diagnostic::NONE,
            peer_admin_down: false,
            remote: Remote::UNKNOWN,
            promises: Promises::new(slow(config.intervals)),
            poll: Poll::default(),
            sequence: rng.random(), // RFC 5880 §6.8.1
            signed: None,
            window: Window::default(),
            timers: Timers::default(),
            repeats: None,
            path: PathState::Down(Diagnostic::NONE),
            config,
            rng,
            outputs: VecDeque::new(),
        };
        session.schedule(now);
        session
    }

    /// `bfd.LocalDiscr`
    #[must_use]
    pub fn discriminator(&self) -> NonZeroU32 {
        self.local
    }

    /// `bfd.SessionState`
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// What clients of BFD are told.
    #[must_use]
    pub fn path(&self) -> PathState {
        self.path
    }

    /// Takes a packet that belongs to this session (RFC 5880 §6.8.6). `arrived` is when the kernel had it: the
    /// Detection Time starts there, also where the caller is late.
    pub fn receive(
        &mut self,
        received: &Received<'_>,
        arrived: Instant,
        now: Instant,
    ) -> Result<(), Refusal> {
        self.authenticate(received)?;
        let packet = &received.packet;
        self.note(packet);
        let changed = self.advance(Trigger::heard(packet.state));
        let asks = self.begin_waiting_poll();
        self.timers.detect = self.detection_time().map(|time| arrived + time);
        self.timers.forget = self.detection_time().map(|time| arrived + time * 2);
        if packet.poll && self.state != State::AdminDown {
            self.answer(now);
        }
        if changed || asks {
            self.send_periodic(now);
        }
        self.schedule(now);
        self.tell();
        Ok(())
    }

    /// The time has come. `heard_until`: every packet that arrived before was given to [`Session::receive`]. Until
    /// that reaches the end of the Detection Time, the session does not expire.
    pub fn on_deadline(&mut self, now: Instant, heard_until: Instant) {
        let judged = now.min(heard_until);
        if due(self.timers.detect, judged) {
            self.timers.detect = None;
            self.on_silence(now);
        }
        if due(self.timers.forget, judged) {
            self.timers.forget = None;
            self.window.forget(); // RFC 5880 §6.8.1: after twice the Detection Time
        }
        if due(self.timers.answer, now) {
            self.answer(now);
        }
        self.schedule(now); // who is silent no longer asks us to be slow, and a packet may be due for long
        if due(self.timers.transmit, now) {
            self.send_periodic(now);
        }
        self.schedule(now);
        self.tell();
    }

    /// When to call [`Session::on_deadline`] next. No end of silence is judged before `judge_from`.
    #[must_use]
    pub fn next_deadline(&self, judge_from: Instant) -> Option<Instant> {
        let judged = [self.timers.detect, self.timers.forget];
        let judged = judged.into_iter().flatten().min();
        let sent = [self.timers.transmit, self.timers.answer];
        sent.into_iter()
            .flatten()
            .chain(judged.map(|at| at.max(judge_from)))
            .min()
    }

    /// Whether the Detection Time is over at `now`, unless something came that was not given yet.
    #[must_use]
    pub fn is_silent(&self, now: Instant) -> bool {
        due(self.timers.detect, now)
    }

    /// The operator holds the session down (RFC 5880 §6.8.16); the peer hears of it and takes it for no failure.
    pub fn disable(&mut self, now: Instant) {
        let (was, pace) = (self.state, self.pace());
        if !self.advance(Trigger::Disable) {
            return;
        }
        if was == State::Up {
            let left = self.config.multiplier.get();
            self.repeats = Some(Repeats { left, pace });
        }
        self.timers.answer = None;
        self.send_periodic(now);
        self.schedule(now);
        self.tell();
    }

    /// The operator wants the session back.
    pub fn enable(&mut self, now: Instant) {
        if self.advance(Trigger::Enable) {
            self.repeats = None;
            self.send_periodic(now);
            self.schedule(now);
            self.tell();
        }
    }

    /// Whether a peer that loses a packet or two would still hear of our AdminDown if we went now.
    #[must_use]
    pub fn is_said(&self) -> bool {
        self.repeats.is_none()
    }

    /// Other intervals from now on. A session that is up agrees on them with a Poll Sequence (RFC 5880 §6.8.3).
    pub fn set_intervals(&mut self, intervals: Intervals, now: Instant) {
        self.config.intervals = intervals;
        if self.state == State::Up {
            self.poll.want();
            if self.begin_waiting_poll() {
                self.send_periodic(now);
            }
        } else {
            self.promises = Promises::new(slow(intervals));
        }
        self.schedule(now);
    }

    /// The next thing to do.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// The session as its operator may see it.
    #[must_use]
    pub fn picture(&self) -> Picture {
        let interval = |known: bool, time: Duration| known.then_some(time);
        Picture {
            state: self.state,
            diagnostic: self.diagnostic,
            remote_state: self.remote.state,
            remote_diagnostic: self.remote.diagnostic,
            local_discriminator: self.local.get(),
            remote_discriminator: self.remote.discriminator,
            remote_multiplier: self.remote.multiplier,
            remote_demand: self.remote.demand,
            transmit_interval: interval(self.may_send_periodically(), self.pace()),
            detection_time: self.detection_time(),
            path: self.path,
        }
    }
}

/// What packets do.
impl Session {
    fn authenticate(&mut self, received: &Received<'_>) -> Result<(), Refusal> {
        let (auth, section) = match (&self.config.auth, received.auth_section()) {
            (None, None) => return Ok(()),
            (None, Some(_)) => return Err(Refusal::AuthUnexpected),
            (Some(_), None) => return Err(Refusal::AuthMissing),
            (Some(auth), Some(section)) => (auth, section),
        };
        let sequence = auth.check(received.octets, section)?;
        let multiplier = received.packet.multiplier.get();
        self.window.admit(sequence, auth.is_meticulous(), multiplier)
    }

    fn note(&mut self, packet: &Packet) {
        self.remote = Remote {
            discriminator: packet.my_discriminator.get(),
            state: packet.state,
            diagnostic: packet.diagnostic,
            demand: packet.demand,
            min_rx: packet.required_min_rx,
            desired_min_tx: packet.desired_min_tx,
            multiplier: packet.multiplier.get(),
        };
        self.peer_admin_down = packet.state == State::AdminDown;
        if !packet.is_final {
            self.poll.settle();
        } else if self.poll.end() {
            self.promises.keep();
        }
    }

    /// RFC 5880 §6.8.4
    fn on_silence(&mut self, now: Instant) {
        let diagnostic = self.remote.diagnostic;
        self.remote = Remote {
            diagnostic,
            ..Remote::UNKNOWN // §6.8.1: its discriminator is forgotten
        };
        if self.advance(Trigger::Silence) {
            self.send_periodic(now);
        }
    }

    /// Whether the state has changed.
    fn advance(&mut self, trigger: Trigger) -> bool {
        let before = self.state;
        let (state, effect) = step(before, trigger);
        match effect {
            Effect::Keep => {}
            Effect::Blame(diagnostic) => self.diagnostic = diagnostic,
        }
        self.state = state;
        if before == state {
            return false;
        }
        if state == State::Up {
            self.poll.want(); // from the slow interval to the configured one
        } else {
            self.poll = Poll::default();
            self.promises = Promises::new(slow(self.config.intervals));
        }
        true
    }

    /// Starts the Poll Sequence that waits, if none runs; whether there is something new to say.
    fn begin_waiting_poll(&mut self) -> bool {
        if self.state != State::Up || !self.poll.may_begin() {
            return false;
        }
        let changed = self.promises.change(self.config.intervals);
        self.poll.begin(changed);
        changed
    }

    /// Answers a Poll at once, or as soon as the limit allows.
    fn answer(&mut self, now: Instant) {
        let free = self.timers.last_answer.map(|last| last + FINAL_GAP);
        if let Some(free) = free.filter(|free| *free > now) {
            self.timers.answer = Some(free);
            return;
        }
        (self.timers.answer, self.timers.last_answer) = (None, Some(now));
        let mut packet = self.packet();
        (packet.poll, packet.is_final) = (false, true); // §6.5: never both
        self.transmit(&packet);
    }

    fn send_periodic(&mut self, now: Instant) {
        if !self.may_send() {
            return;
        }
        self.timers.last_periodic = Some(now);
        self.timers.transmit = None;
        if let Some(repeats) = &mut self.repeats {
            repeats.left = repeats.left.saturating_sub(1);
        }
        let packet = self.packet();
        self.transmit(&packet);
    }

    fn packet(&self) -> Packet {
        Packet {
            diagnostic: self.diagnostic,
            state: self.state,
            poll: self.poll.is_running(),
            is_final: false,
            control_plane_independent: false,
            demand: false,
            multiplier: self.config.multiplier,
            my_discriminator: self.local,
            your_discriminator: self.remote.discriminator,
            desired_min_tx: self.promises.said().desired_min_tx,
            required_min_rx: self.promises.said().required_min_rx,
            required_min_echo_rx: 0,
        }
    }

    fn transmit(&mut self, packet: &Packet) {
        let octets = match &self.config.auth {
            None => Octets::new(&wire::encode(packet, 0), &[]),
            Some(auth) => {
                let contents = Packet {
                    poll: false,
                    is_final: false,
                    ..*packet
                };
                // §6.7.4: each packet, or each one with new contents.
                if auth.is_meticulous() || self.signed != Some(contents) {
                    self.sequence = self.sequence.wrapping_add(1);
                }
                self.signed = Some(contents);
                let mandatory = wire::encode(packet, auth::SECTION_LENGTH);
                Octets::new(&mandatory, &auth.section(&mandatory, self.sequence))
            }
        };
        self.outputs.push_back(Output::Send(octets));
    }

    /// Tells the path where it has changed.
    fn tell(&mut self) {
        let path = match self.state {
            State::AdminDown => PathState::AdminDown,
            State::Up => PathState::Up,
            // RFC 5882 §3.2: the wish of an operator is no failure.
            State::Down | State::Init if self.peer_admin_down => PathState::PeerAdminDown,
            State::Down | State::Init => PathState::Down(self.diagnostic),
        };
        if path != self.path {
            self.path = path;
            self.outputs.push_back(Output::Path(path));
        }
    }
}

/// When packets go.
impl Session {
    /// RFC 5880 §6.8.7: a passive end says nothing before it was spoken to.
    fn may_send(&self) -> bool {
        match self.config.role {
            Role::Active => true,
            Role::Passive => self.remote.discriminator != 0,
        }
    }

    fn may_send_periodically(&self) -> bool {
        let asked_not_to = self.remote.demand
            && self.state == State::Up
            && self.remote.state == State::Up
            && !self.poll.is_running();
        self.may_send() && self.remote.min_rx != 0 && !asked_not_to
    }

    /// The interval between our packets, before jitter (RFC 5880 §6.8.2).
    fn pace(&self) -> Duration {
        micros(self.promises.kept().desired_min_tx.max(self.remote.min_rx))
    }

    /// RFC 5880 §6.8.4, asynchronous mode.
    fn detection_time(&self) -> Option<Duration> {
        let interval = micros(
            self.promises
                .kept()
                .required_min_rx
                .max(self.remote.desired_min_tx),
        );
        let multiplier = u32::from(self.remote.multiplier);
        (multiplier > 0).then_some(interval * multiplier)
    }

    /// Brings the transmit timer in line with the pace, which may just have changed.
    fn schedule(&mut self, now: Instant) {
        if !self.may_send_periodically() {
            self.timers.transmit = None;
            return;
        }
        let pace = self.repeated_pace().unwrap_or_else(|| self.pace());
        if self.timers.transmit.is_some() && self.timers.pace == pace {
            return;
        }
        // §6.8.3: never later than the new interval after the last packet; at once if that is past.
        let at = self
            .timers
            .last_periodic
            .map_or(now, |last| last + self.jittered(pace));
        self.timers.transmit = Some(at.max(now));
        self.timers.pace = pace;
    }

    /// A peer whose Detection Time is 150 ms and that loses our one packet with AdminDown would see a failure
    /// before the next one, a second later. So the news is repeated as often as it may be lost.
    // Gap: RFC 5880 §6.8.7 would have these repetitions a second apart, as in any state but Up.
    fn repeated_pace(&mut self) -> Option<Duration> {
        let Repeats { left, pace } = self.repeats?;
        if left == 0 {
            self.repeats = None;
            return None;
        }
        Some(pace)
    }

    /// RFC 5880 §6.8.7: shortened by 0 to 25 %; with a multiplier of 1 by 10 to 25 %.
    fn jittered(&mut self, pace: Duration) -> Duration {
        let most = if self.config.multiplier.get() == 1 {
            900
        } else {
            1000
        };
        pace * self.rng.random_range(750..=most) / 1000
    }
}

/// RFC 5880 §6.8.3: what is said while the session is not up.
fn slow(intervals: Intervals) -> Intervals {
    Intervals {
        desired_min_tx: intervals.desired_min_tx.max(SLOW),
        ..intervals
    }
}

fn due(at: Option<Instant>, now: Instant) -> bool {
    at.is_some_and(|at| at <= now)
}

fn micros(count: u32) -> Duration {
    Duration::from_micros(count.into())
}
