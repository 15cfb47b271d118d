//! The thread: one loop, one wait.
//!
//! Each turn reads what came, then does what is due. A session is judged silent only when everything was read that
//! arrived before its Detection Time was over, and a turn that comes late because nobody let us run gives the peer
//! as long again: its packet may be as late as we are.

use std::collections::{BTreeSet, HashMap};
use std::io::Read;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Receiver;
use std::time::{Duration, Instant};

use metrics::{Counter, counter, gauge};
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;
use nix::time::{ClockId, clock_gettime};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tracing::{info, warn};

use super::super::session::{Intervals, Octets, Output, PathState, Session};
use super::super::status::{Counts, Shared};
use super::super::target::{Hops, Target};
use super::super::wire::{self, Refusal, State};
use super::socket::{Arrival, Door, Kind, LONGEST, Listener, Sender};
use super::{ClockStatus, Id, priority};

/// Datagrams that one listener gives per turn: a flood delays what is due by no more.
const READ_LIMIT: usize = 64;

/// A turn that comes so much too late was not let run.
const STALL: Duration = Duration::from_millis(5);

/// The longest time that a stall gives to peers.
const GRACE: Duration = Duration::from_millis(50);

/// For the last AdminDown packets.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// How often the CPU time is taken.
const CPU_TICK: Duration = Duration::from_millis(250);

/// What the service wants of its thread.
#[derive(Debug)]
pub(super) enum Command {
    Listen(Listener),
    Add(Box<Birth>),
    Remove(Id),
    Disable(Id),
    DisableAll,
    Enable(Id),
    Intervals(Id, Intervals),
    Stop,
}

/// All that a session is made of.
#[derive(Debug)]
pub(super) struct Birth {
    pub(super) id: Id,
    pub(super) target: Target,
    /// The index of its interface, or 0.
    pub(super) scope: u32,
    pub(super) sender: Sender,
    pub(super) shared: Arc<Shared>,
}

/// Our discriminator of a session.
type Number = u32;

pub(super) struct Worker {
    commands: Receiver<Command>,
    wake: UnixStream,
    listeners: Vec<Listener>,
    sessions: HashMap<Number, Entry>,
    numbers: HashMap<Id, Number>,
    /// Who may send us a packet without our discriminator.
    peers: HashMap<(Kind, IpAddr), Vec<Number>>,
    /// When which session wants its turn.
    queue: BTreeSet<(Instant, Number)>,
    stall: Stall,
    refused: HashMap<Refusal, Counter>,
    clock: Arc<ClockStatus>,
    cpu_taken: Instant,
    /// When the thread ends at the latest.
    stopping: Option<Instant>,
    rng: StdRng,
}

/// The last turn that came late.
struct Stall {
    began: Instant,
    /// Silence that began to count in the stall is judged from here on.
    judge_from: Instant,
}

struct Entry {
    session: Session,
    target: Target,
    scope: u32,
    door: Door,
    sender: Sender,
    shared: Arc<Shared>,
    label: String,
    packets_in: Counter,
    packets_out: Counter,
    queued: Option<Instant>,
    heard: Option<Instant>,
    sent: Option<Instant>,
    /// The last packet could not be sent, and the log has it.
    mute: bool,
}

impl Worker {
    pub(super) fn new(
        commands: Receiver<Command>,
        wake: UnixStream,
        clock: Arc<ClockStatus>,
        seed: u64,
    ) -> Self {
        let now = Instant::now();
        let refused = Refusal::ALL.map(|refusal| {
            let counter = counter!("steer_anycast_bfd_refused_total", "cause" => refusal.cause());
            (refusal, counter)
        });
        Self {
            commands,
            wake,
            listeners: Vec::new(),
            sessions: HashMap::new(),
            numbers: HashMap::new(),
            peers: HashMap::new(),
            queue: BTreeSet::new(),
            stall: Stall {
                began: now,
                judge_from: now,
            },
            refused: refused.into(),
            clock,
            cpu_taken: now,
            stopping: None,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    pub(super) fn run(mut self) {
        let priority = priority::raise();
        self.clock.priority.get_or_init(|| priority);
        match priority {
            priority::Priority::RealTime(_) => info!(%priority, "BFD runs"),
            priority::Priority::Nice(_) | priority::Priority::Ordinary => {
                warn!(%priority, "BFD runs without real-time priority; give steer CAP_SYS_NICE, or a busy host may cost sessions");
            }
        }
        while !self.is_done() {
            let wanted = self.next_turn();
            self.wait(wanted);
            self.note_stall(wanted, Instant::now());
            self.obey();
            self.read();
            self.run_due();
            self.take_cpu_time();
        }
        for entry in self.sessions.values() {
            entry
                .shared
                .path
                .send_modify(|path| path.state = PathState::AdminDown);
        }
    }

    /// Told to stop, and every peer has heard of it as surely as may be, or time is up.
    fn is_done(&self) -> bool {
        let said = || self.sessions.values().all(|entry| entry.session.is_said());
        self.stopping
            .is_some_and(|limit| said() || limit <= Instant::now())
    }

    fn next_turn(&self) -> Option<Instant> {
        let first = self.queue.first().map(|(at, _)| *at);
        first.into_iter().chain(self.stopping).min()
    }

    fn wait(&mut self, until: Option<Instant>) {
        let mut files: Vec<PollFd<'_>> = Vec::with_capacity(self.listeners.len() + 1);
        files.push(PollFd::new(self.wake.as_fd(), PollFlags::POLLIN));
        let listeners = self.listeners.iter().map(AsFd::as_fd);
        files.extend(listeners.map(|file| PollFd::new(file, PollFlags::POLLIN)));
        let timeout = until.map(|at| TimeSpec::from(at.saturating_duration_since(Instant::now())));
        // A signal that interrupts it only makes the turn come early.
        let _ = ppoll(&mut files, timeout, None);
        let woken = files.first().and_then(PollFd::any).unwrap_or(false);
        if woken {
            let mut sink = [0; 64];
            while matches!((&self.wake).read(&mut sink), Ok(1..)) {}
        }
    }

    fn note_stall(&mut self, wanted: Option<Instant>, now: Instant) {
        let Some(wanted) = wanted else { return };
        let late = now.saturating_duration_since(wanted);
        let micros = u64::try_from(late.as_micros()).unwrap_or(u64::MAX);
        self.clock.worst_late_us.fetch_max(micros, Ordering::Relaxed);
        if late >= STALL {
            self.clock.stalls.fetch_add(1, Ordering::Relaxed);
            counter!("steer_anycast_bfd_stalls_total").increment(1);
            self.stall = Stall {
                began: wanted,
                judge_from: now + late.min(GRACE),
            };
        }
    }

    fn take_cpu_time(&mut self) {
        if self.cpu_taken.elapsed() < CPU_TICK {
            return;
        }
        self.cpu_taken = Instant::now();
        if let Ok(time) = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID) {
            let nanos = Duration::from(time).as_nanos();
            let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
            self.clock.cpu_ns.store(nanos, Ordering::Relaxed);
        }
    }
}

/// Commands.
impl Worker {
    fn obey(&mut self) {
        while let Ok(command) = self.commands.try_recv() {
            match command {
                Command::Listen(listener) => self.listeners.push(listener),
                Command::Add(birth) => self.add(*birth),
                Command::Remove(id) => self.remove(id),
                Command::Disable(id) => self.with(id, Session::disable),
                Command::DisableAll => self.disable_all(),
                Command::Enable(id) => self.with(id, Session::enable),
                Command::Intervals(id, intervals) => {
                    self.with(id, |session, now| session.set_intervals(intervals, now));
                }
                Command::Stop => {
                    self.stopping.get_or_insert(Instant::now() + STOP_LIMIT);
                    self.disable_all();
                }
            }
        }
    }

    fn add(&mut self, birth: Birth) {
        let Birth {
            id,
            target,
            scope,
            sender,
            shared,
        } = birth;
        let number = self.fresh_number();
        let session = Session::new(target.config.clone(), number, self.rng.random(), Instant::now());
        let label = target.peer.to_string();
        let door = Door {
            kind: target.hops.into(),
            ipv4: target.peer.is_ipv4(),
        };
        let packets = |direction: &'static str| counter!("steer_anycast_bfd_packets_total", "peer" => label.clone(), "direction" => direction);
        let entry = Entry {
            session,
            scope,
            door,
            sender,
            shared,
            packets_in: packets("in"),
            packets_out: packets("out"),
            label,
            queued: None,
            heard: None,
            sent: None,
            mute: false,
            target,
        };
        let peer = (door.kind, entry.target.peer);
        self.peers.entry(peer).or_default().push(number.get());
        self.numbers.insert(id, number.get());
        self.sessions.insert(number.get(), entry);
        self.settle(number.get());
    }

    /// RFC 5880 §6.3: unique, not 0, and better not to be guessed.
    fn fresh_number(&mut self) -> NonZeroU32 {
        loop {
            let number: NonZeroU32 = self.rng.random();
            if !self.sessions.contains_key(&number.get()) {
                return number;
            }
        }
    }

    fn remove(&mut self, id: Id) {
        self.with(id, Session::disable);
        let Some(number) = self.numbers.remove(&id) else {
            return;
        };
        if let Some(entry) = self.sessions.remove(&number) {
            if let Some(at) = entry.queued {
                self.queue.remove(&(at, number));
            }
            if let Some(numbers) = self.peers.get_mut(&(entry.door.kind, entry.target.peer)) {
                numbers.retain(|other| *other != number);
            }
        }
    }

    fn with(&mut self, id: Id, change: impl FnOnce(&mut Session, Instant)) {
        let Some(number) = self.numbers.get(&id).copied() else {
            return;
        };
        if let Some(entry) = self.sessions.get_mut(&number) {
            change(&mut entry.session, Instant::now());
            self.settle(number);
        }
    }

    fn disable_all(&mut self) {
        let ids: Vec<Id> = self.numbers.keys().copied().collect();
        for id in ids {
            self.with(id, Session::disable);
        }
    }
}

/// Packets and time.
impl Worker {
    fn read(&mut self) {
        let mut buffer = [0; LONGEST];
        for index in 0..self.listeners.len() {
            for _ in 0..READ_LIMIT {
                let Some(listener) = self.listeners.get_mut(index) else {
                    return;
                };
                let door = listener.door;
                let Some(arrival) = listener.read(&mut buffer) else {
                    break;
                };
                let octets = buffer.get(..arrival.length).unwrap_or(&buffer);
                if let Err(refusal) = self.deliver(door, &arrival, octets)
                    && let Some(counter) = self.refused.get(&refusal)
                {
                    counter.increment(1);
                }
            }
        }
    }

    /// In the order of RFC 5881 §5 and RFC 5880 §6.8.6.
    fn deliver(&mut self, door: Door, arrival: &Arrival, octets: &[u8]) -> Result<(), Refusal> {
        if door.kind == Kind::SingleHop && arrival.ttl != Some(u8::MAX) {
            return Err(Refusal::Ttl);
        }
        let received = wire::decode(octets)?;
        let number = match received.packet.your_discriminator {
            0 => self.of_peer(door, arrival).ok_or(Refusal::UnknownPeer)?,
            number => number,
        };
        // §6.3: once the peer has our discriminator, nothing else tells whose packet it is.
        let entry = self.sessions.get_mut(&number).filter(|entry| entry.door == door);
        let entry = entry.ok_or(Refusal::UnknownDiscriminator)?;
        let result = entry.take(arrival, &received);
        self.settle(number);
        result
    }

    /// The first packets of a peer do not have our discriminator: address and interface tell (RFC 5881 §3).
    fn of_peer(&self, door: Door, arrival: &Arrival) -> Option<Number> {
        let numbers = self.peers.get(&(door.kind, arrival.from))?;
        let fits = |number: &&Number| {
            self.sessions.get(number).is_some_and(|entry| {
                let interface = entry.scope == 0 || entry.scope == arrival.interface;
                interface
                    && entry
                        .target
                        .source
                        .is_none_or(|source| arrival.to == Some(source))
            })
        };
        numbers.iter().find(fits).copied()
    }

    fn run_due(&mut self) {
        loop {
            let now = Instant::now();
            let due = self.queue.first().filter(|(at, _)| *at <= now);
            let Some((_, number)) = due.copied() else { return };
            let heard_until = self.heard_until(number, now);
            if let Some(entry) = self.sessions.get_mut(&number) {
                entry.session.on_deadline(now, heard_until);
            }
            let stuck = self.settle(number).is_some_and(|at| at <= now);
            if stuck {
                return; // there is more to read before it can be judged
            }
        }
    }

    /// Up to when silence counts as silence.
    fn heard_until(&self, number: Number, now: Instant) -> Instant {
        let door = self.sessions.get(&number).map(|entry| entry.door);
        let listener = self.listeners.iter().find(|listener| Some(listener.door) == door);
        let heard = listener.map_or(now, Listener::heard_until);
        if now < self.stall.judge_from {
            let before = self.stall.began.checked_sub(Duration::from_nanos(1));
            heard.min(before.unwrap_or(self.stall.began))
        } else {
            heard
        }
    }

    /// Does what a session asks for, and notes when it wants its next turn.
    fn settle(&mut self, number: Number) -> Option<Instant> {
        let entry = self.sessions.get_mut(&number)?;
        entry.act();
        let next = entry.session.next_deadline(self.stall.judge_from);
        if entry.queued != next {
            if let Some(at) = entry.queued {
                self.queue.remove(&(at, number));
            }
            self.queue.extend(next.map(|at| (at, number)));
            entry.queued = next;
        }
        next
    }
}

impl Entry {
    fn take(&mut self, arrival: &Arrival, received: &wire::Received<'_>) -> Result<(), Refusal> {
        let near = match self.target.hops {
            Hops::Single => true, // was checked
            Hops::Multi { minimum_ttl } => arrival.ttl.unwrap_or(0) >= minimum_ttl,
        };
        let admitted = if near {
            self.session.receive(received, arrival.at, Instant::now())
        } else {
            Err(Refusal::Ttl)
        };
        if admitted.is_err() {
            Counts::add(&self.shared.counts.refused);
            return admitted;
        }
        let counts = &self.shared.counts;
        Counts::add(&counts.packets_in);
        self.packets_in.increment(1);
        if self.session.state() == State::Up
            && let Some(heard) = self.heard
        {
            Counts::raise(&counts.worst_gap_in, arrival.at.saturating_duration_since(heard));
        }
        self.heard = Some(arrival.at).filter(|_| self.session.state() == State::Up);
        Ok(())
    }

    fn act(&mut self) {
        while let Some(output) = self.session.poll_output() {
            match output {
                Output::Send(octets) => self.send(&octets),
                Output::Path(state) => self.tell(state),
            }
        }
        if self.shared.show(self.session.picture()).is_some() {
            let up = if self.session.state() == State::Up {
                1.0
            } else {
                0.0
            };
            gauge!("steer_anycast_bfd_up", "peer" => self.label.clone()).set(up);
        }
    }

    fn send(&mut self, octets: &Octets) {
        let counts = &self.shared.counts;
        let now = Instant::now();
        if let Err(error) = self.sender.send(octets) {
            // No route, no such source address: the peer sees silence, as it should, and the next packet tries again.
            Counts::add(&counts.send_errors);
            counter!("steer_anycast_bfd_send_errors_total", "peer" => self.label.clone()).increment(1);
            if !std::mem::replace(&mut self.mute, true) {
                warn!(peer = self.label, %error, "BFD: cannot send");
            }
            return;
        }
        self.mute = false;
        Counts::add(&counts.packets_out);
        self.packets_out.increment(1);
        let up = self.session.state() == State::Up;
        if let Some(sent) = self.sent.filter(|_| up) {
            Counts::raise(&counts.worst_gap_out, now.saturating_duration_since(sent));
        }
        self.sent = Some(now).filter(|_| up);
    }

    /// The clients first, the log behind them.
    fn tell(&self, state: PathState) {
        let mut failed = false;
        self.shared.path.send_modify(|path| {
            failed = path.state == PathState::Up && matches!(state, PathState::Down(_));
            path.failures += u64::from(failed);
            path.state = state;
        });
        let peer = &self.label;
        if let PathState::Down(diagnostic) = state
            && failed
        {
            warn!(peer, reason = %diagnostic, "BFD: path down");
            counter!("steer_anycast_bfd_failures_total", "peer" => peer.clone(), "diagnostic" => diagnostic.name())
                .increment(1);
        } else {
            info!(peer, %state, "BFD: path");
        }
    }
}
