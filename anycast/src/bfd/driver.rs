//! The driver: sockets, clock and a thread of its own around [`Session`](super::Session).
//!
//! ```text
//! Bfd (any thread) ── commands, at most 1,024 wait ──► Worker (its thread) ──► watch<Path>, status
//! ```
//!
//! A plain thread and no task, because a task waits for whatever else the runtime has to do, and 30 ms are soon
//! gone. The thread waits in poll(2), never for a lock that is held for longer than a copy takes, and asks for
//! real-time priority.

mod priority;
mod socket;
mod worker;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Write};
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread::JoinHandle;

use nix::net::if_::if_nametoindex;
use serde::Serialize;
use tokio::sync::watch;

use super::session::{Config, Intervals};
use super::status::{BfdStatus, Path, Shared};
use super::target::Target;
use super::wire::{MULTIHOP_PORT, SINGLE_HOP_PORT};
use socket::{Door, Kind, Listener, Sender};
use worker::{Birth, Command, Worker};

pub use priority::Priority;

/// More are refused: an edge has a few peers, and a mistake must not eat the real-time share of a core.
pub const MAX_SESSIONS: usize = 512;

/// Commands that may wait for the thread; a caller beyond waits for a turn, which takes microseconds.
const QUEUE: usize = 2 * MAX_SESSIONS;

/// Where packets go and come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ports {
    /// 3784 (RFC 5881).
    pub single_hop: u16,
    /// 4784 (RFC 5883).
    pub multihop: u16,
}

impl Default for Ports {
    fn default() -> Self {
        Self {
            single_hop: SINGLE_HOP_PORT,
            multihop: MULTIHOP_PORT,
        }
    }
}

/// One session of a [`Bfd`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Id(u64);

/// Why a session cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum BfdError {
    /// Another BFD daemon, most likely.
    #[error(
        "cannot listen for BFD on UDP {address}: {source}; stop the other BFD daemon here, or take `bfd` from [[bgp.peer]]"
    )]
    Listen {
        /// Where.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// No port is free, or the address is of the other family.
    #[error("BFD with {peer}: cannot send from {}: {source}", .address.map_or("any address".to_owned(), |address| address.to_string()))]
    Source {
        /// The other end.
        peer: IpAddr,
        /// As configured.
        address: Option<IpAddr>,
        /// The system's answer.
        source: io::Error,
    },
    /// There is none of that name.
    #[error("BFD with {peer}: no interface {interface:?}: {source}")]
    Interface {
        /// The other end.
        peer: IpAddr,
        /// As configured.
        interface: String,
        /// The system's answer.
        source: nix::Error,
    },
    /// Two peers that share a path must agree (RFC 5882 §2: one session per path).
    #[error("BFD with {peer} is asked for twice with different settings; give both peers the same `bfd`")]
    Conflict {
        /// The other end.
        peer: IpAddr,
    },
    /// See [`MAX_SESSIONS`].
    #[error("more than {MAX_SESSIONS} BFD sessions")]
    TooMany,
    /// The system has no thread or pipe for us.
    #[error("cannot start BFD: {0}")]
    Thread(#[from] io::Error),
}

/// The service: its sessions, and the thread that runs them from [`Bfd::start`] to [`Bfd::stop`].
#[derive(Debug)]
pub struct Bfd {
    ports: Ports,
    commands: SyncSender<Command>,
    wake: UnixStream,
    known: Mutex<Known>,
    clock: Arc<ClockStatus>,
}

#[derive(Debug)]
struct Known {
    last_id: u64,
    sessions: BTreeMap<Id, Session>,
    doors: BTreeSet<Door>,
    /// There until the thread runs.
    idle: Option<(Receiver<Command>, UnixStream)>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Debug)]
struct Session {
    key: Key,
    config: Config,
    shared: Arc<Shared>,
    users: u32,
}

/// A path: there is one session for each.
type Key = (Kind, IpAddr, Option<String>, Option<IpAddr>);

/// How the thread fares.
#[derive(Debug, Default)]
pub(super) struct ClockStatus {
    priority: OnceLock<Priority>,
    stalls: AtomicU64,
    worst_late_us: AtomicU64,
    /// What the thread has used, in nanoseconds.
    cpu_ns: AtomicU64,
}

/// The thread, as its operator may see it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BfdService {
    /// What the thread got; absent until it runs.
    pub priority: Option<Priority>,
    /// So often it ran 5 ms or more after it wanted to.
    pub stalls: u64,
    /// By how much at worst.
    pub worst_late_us: u64,
    /// CPU time of the thread.
    pub cpu_us: u64,
}

impl Bfd {
    /// Binds what the sessions need. Nothing is sent before [`Bfd::start`].
    pub fn bind(targets: Vec<Target>, ports: Ports) -> Result<Self, BfdError> {
        let (commands, receiver) = sync_channel(QUEUE);
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let known = Known {
            last_id: 0,
            sessions: BTreeMap::new(),
            doors: BTreeSet::new(),
            idle: Some((receiver, woken)),
            thread: None,
        };
        let bfd = Self {
            ports,
            commands,
            wake,
            known: Mutex::new(known),
            clock: Arc::default(),
        };
        for target in targets {
            bfd.add(target)?;
        }
        Ok(bfd)
    }

    /// Starts the thread. A second call does nothing.
    pub fn start(&self, seed: u64) -> Result<(), BfdError> {
        let mut known = self.known();
        if let Some((commands, wake)) = known.idle.take() {
            let worker = Worker::new(commands, wake, Arc::clone(&self.clock), seed);
            let thread = std::thread::Builder::new().name("steer-bfd".to_owned());
            known.thread = Some(thread.spawn(move || worker.run())?);
        }
        Ok(())
    }

    /// One more session. A path that is watched already is watched once, for both.
    pub fn add(&self, target: Target) -> Result<Id, BfdError> {
        let kind = Kind::from(target.hops);
        let key = (kind, target.peer, target.interface.clone(), target.source);
        let mut known = self.known();
        if let Some((id, session)) = known.sessions.iter_mut().find(|(_, session)| session.key == key) {
            if session.config != target.config {
                return Err(BfdError::Conflict { peer: target.peer });
            }
            session.users += 1;
            return Ok(*id);
        }
        if known.sessions.len() >= MAX_SESSIONS {
            return Err(BfdError::TooMany);
        }
        let scope = index(&target)?;
        let sender = self.sender(&target, kind, scope)?;
        let ipv4 = target.peer.is_ipv4();
        self.open(&mut known, Door { kind, ipv4 })?;
        known.last_id += 1;
        let id = Id(known.last_id);
        let shared = Arc::new(Shared::new(&target));
        let session = Session {
            key,
            config: target.config.clone(),
            shared: Arc::clone(&shared),
            users: 1,
        };
        known.sessions.insert(id, session);
        drop(known);
        self.command(Command::Add(Box::new(Birth {
            id,
            target,
            scope,
            sender,
            shared,
        })));
        Ok(id)
    }

    /// One user of the session less. The last one takes it away; the peer is told AdminDown once.
    pub fn remove(&self, id: Id) {
        let mut known = self.known();
        let Some(session) = known.sessions.get_mut(&id) else {
            return;
        };
        session.users -= 1;
        if session.users == 0 {
            known.sessions.remove(&id);
            drop(known);
            self.command(Command::Remove(id));
        }
    }

    /// The path of a session; it ends with the session.
    #[must_use]
    pub fn path(&self, id: Id) -> Option<watch::Receiver<Path>> {
        self.known()
            .sessions
            .get(&id)
            .map(|session| session.shared.path.subscribe())
    }

    /// Holds the session down. The peer hears AdminDown, which is no failure (RFC 5882 §3.2).
    pub fn admin_down(&self, id: Id) {
        self.command(Command::Disable(id));
    }

    /// Holds every session down.
    pub fn admin_down_all(&self) {
        self.command(Command::DisableAll);
    }

    /// Lets the session come up again.
    pub fn admin_up(&self, id: Id) {
        self.command(Command::Enable(id));
    }

    /// Other intervals for a session that may be up; the peers agree on them without a flap.
    pub fn set_intervals(&self, id: Id, intervals: Intervals) {
        if let Some(session) = self.known().sessions.get_mut(&id) {
            session.config.intervals = intervals;
        }
        self.command(Command::Intervals(id, intervals));
    }

    /// How the thread fares.
    #[must_use]
    pub fn service(&self) -> BfdService {
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        BfdService {
            priority: self.clock.priority.get().copied(),
            stalls: count(&self.clock.stalls),
            worst_late_us: count(&self.clock.worst_late_us),
            cpu_us: count(&self.clock.cpu_ns) / 1000,
        }
    }

    /// How each session stands, in the order in which they were added.
    #[must_use]
    pub fn statuses(&self) -> Vec<BfdStatus> {
        let known = self.known();
        known
            .sessions
            .values()
            .map(|session| session.shared.status())
            .collect()
    }

    /// How one session stands.
    #[must_use]
    pub fn status(&self, id: Id) -> Option<BfdStatus> {
        self.known()
            .sessions
            .get(&id)
            .map(|session| session.shared.status())
    }

    /// Tells every peer AdminDown, often enough that one lost packet does no harm, and ends the thread. Blocks for
    /// as long as that takes, a second at most.
    pub fn stop(&self) {
        self.command(Command::Stop);
        let thread = self.known().thread.take();
        if let Some(thread) = thread
            && thread.join().is_err()
        {
            tracing::error!("the BFD thread had panicked");
        }
    }

    fn sender(&self, target: &Target, kind: Kind, scope: u32) -> Result<Sender, BfdError> {
        let to = SocketAddr::new(target.peer, self.port(kind));
        Sender::bind(target.source, to, scope).map_err(|source| BfdError::Source {
            peer: target.peer,
            address: target.source,
            source,
        })
    }

    fn open(&self, known: &mut Known, door: Door) -> Result<(), BfdError> {
        if known.doors.contains(&door) {
            return Ok(());
        }
        let port = self.port(door.kind);
        let listener = Listener::bind(door, port).map_err(|source| BfdError::Listen {
            address: Listener::address(door, port),
            source,
        })?;
        known.doors.insert(door);
        self.command(Command::Listen(listener));
        Ok(())
    }

    fn port(&self, kind: Kind) -> u16 {
        match kind {
            Kind::SingleHop => self.ports.single_hop,
            Kind::Multihop => self.ports.multihop,
        }
    }

    fn command(&self, command: Command) {
        // Fails only where the thread has ended, and then there is nothing to command.
        if self.commands.send(command).is_ok() {
            // A full pipe wakes the thread as well.
            let _ = (&self.wake).write(&[0]);
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Bfd {
    /// Without [`Bfd::stop`] the thread still says AdminDown, but nobody waits for it.
    fn drop(&mut self) {
        self.command(Command::Stop);
    }
}

/// The index of the interface, or 0.
// Gap: it is looked up once; an interface that is removed and made anew needs a restart.
fn index(target: &Target) -> Result<u32, BfdError> {
    let Some(interface) = &target.interface else {
        return Ok(0);
    };
    if_nametoindex(interface.as_str()).map_err(|source| BfdError::Interface {
        peer: target.peer,
        interface: interface.clone(),
        source,
    })
}
