//! What a session shows: the path to its clients, all else to the operator.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use steer_topology::BfdAuthKind;
use tokio::sync::watch;

use super::session::{PathState, Picture, State};
use super::target::{Hops, Target};
use super::wire::Diagnostic;

/// The path to a peer, as a client of BFD sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Path {
    /// Now.
    #[serde(flatten)]
    pub state: PathState,
    /// So often it went from up to down. Whoever reads the newest value alone still sees a failure that was short.
    pub failures: u64,
}

/// Why a session was down last.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LastDown {
    /// What ended it.
    pub diagnostic: Diagnostic,
    /// The peer's operator did; no failure.
    pub by_peer: bool,
    /// When.
    pub at: Timestamp,
}

/// One session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BfdStatus {
    /// The other end.
    pub peer: IpAddr,
    /// The interface of a link-local address.
    pub interface: Option<String>,
    /// How far away it is.
    pub hops: Hops,
    /// How packets are authenticated.
    pub auth: Option<BfdAuthKind>,
    /// What clients are told.
    pub path: Path,
    /// Ours.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Why ours changed last.
    pub diagnostic: Diagnostic,
    /// The peer's, as it said last.
    pub remote_state: State,
    /// Why the peer's changed last.
    pub remote_diagnostic: Diagnostic,
    /// Our number of the session.
    pub local_discriminator: u32,
    /// The peer's number of the session; 0: unknown.
    pub remote_discriminator: u32,
    /// Between our packets, before jitter; absent where none are sent.
    pub transmit_interval_us: Option<u64>,
    /// How long the peer may be silent; absent where it is unknown.
    pub detection_time_us: Option<u64>,
    /// The peer's Detect Mult.
    pub remote_multiplier: u8,
    /// So often it came up.
    pub ups: u64,
    /// So often it left the state Up, for whatever reason.
    pub downs: u64,
    /// Why it did so last.
    pub last_down: Option<LastDown>,
    /// Good packets that came.
    pub packets_in: u64,
    /// Packets that were sent.
    pub packets_out: u64,
    /// Packets that the system did not take.
    pub send_errors: u64,
    /// Packets for this session that were refused.
    pub refused: u64,
    /// The longest time between two packets of the peer while up.
    pub worst_gap_in_us: u64,
    /// The longest time between two packets of ours while up.
    pub worst_gap_out_us: u64,
}

/// The part of a session that both the thread and its clients hold.
#[derive(Debug)]
pub(super) struct Shared {
    peer: IpAddr,
    interface: Option<String>,
    hops: Hops,
    auth: Option<BfdAuthKind>,
    pub(super) path: watch::Sender<Path>,
    /// Locked for as long as a copy takes; packets do not pass here unless they change something.
    history: Mutex<History>,
    pub(super) counts: Counts,
}

#[derive(Debug, Clone, Copy)]
struct History {
    picture: Option<Picture>,
    since: Timestamp,
    ups: u64,
    downs: u64,
    last_down: Option<LastDown>,
}

/// Numbers that move with each packet.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) packets_in: AtomicU64,
    pub(super) packets_out: AtomicU64,
    pub(super) send_errors: AtomicU64,
    pub(super) refused: AtomicU64,
    pub(super) worst_gap_in: AtomicU64,
    pub(super) worst_gap_out: AtomicU64,
}

impl Counts {
    pub(super) fn add(count: &AtomicU64) {
        count.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn raise(worst: &AtomicU64, gap: Duration) {
        worst.fetch_max(micros(gap), Ordering::Relaxed);
    }
}

impl Shared {
    pub(super) fn new(target: &Target) -> Self {
        let state = PathState::Down(Diagnostic::NONE);
        let history = History {
            picture: None,
            since: Timestamp::now(),
            ups: 0,
            downs: 0,
            last_down: None,
        };
        Self {
            peer: target.peer,
            interface: target.interface.clone(),
            hops: target.hops,
            auth: target.config.auth.as_ref().map(super::auth::Auth::kind),
            path: watch::Sender::new(Path { state, failures: 0 }),
            history: Mutex::new(history),
            counts: Counts::default(),
        }
    }

    /// Takes the newest picture.
    pub(super) fn show(&self, picture: Picture) {
        let mut history = self.history();
        let before = history.picture.map_or(State::Down, |picture| picture.state);
        history.picture = Some(picture);
        if before == picture.state {
            return;
        }
        history.since = Timestamp::now();
        if picture.state == State::Up {
            history.ups += 1;
        }
        if before == State::Up {
            history.downs += 1;
            history.last_down = Some(LastDown {
                diagnostic: picture.diagnostic,
                by_peer: picture.path == PathState::PeerAdminDown,
                at: history.since,
            });
        }
    }

    pub(super) fn status(&self) -> BfdStatus {
        let path = *self.path.borrow();
        let History {
            picture,
            since,
            ups,
            downs,
            last_down,
        } = *self.history();
        let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let seen = |look: fn(Picture) -> Option<Duration>| picture.and_then(look).map(micros);
        BfdStatus {
            peer: self.peer,
            interface: self.interface.clone(),
            hops: self.hops,
            auth: self.auth,
            path,
            state: picture.map_or(State::Down, |picture| picture.state),
            since,
            diagnostic: picture.map_or(Diagnostic::NONE, |picture| picture.diagnostic),
            remote_state: picture.map_or(State::Down, |picture| picture.remote_state),
            remote_diagnostic: picture.map_or(Diagnostic::NONE, |picture| picture.remote_diagnostic),
            local_discriminator: picture.map_or(0, |picture| picture.local_discriminator),
            remote_discriminator: picture.map_or(0, |picture| picture.remote_discriminator),
            transmit_interval_us: seen(|picture| picture.transmit_interval),
            detection_time_us: seen(|picture| picture.detection_time),
            remote_multiplier: picture.map_or(0, |picture| picture.remote_multiplier),
            ups,
            downs,
            last_down,
            packets_in: count(&self.counts.packets_in),
            packets_out: count(&self.counts.packets_out),
            send_errors: count(&self.counts.send_errors),
            refused: count(&self.counts.refused),
            worst_gap_in_us: count(&self.counts.worst_gap_in),
            worst_gap_out_us: count(&self.counts.worst_gap_out),
        }
    }

    fn history(&self) -> MutexGuard<'_, History> {
        // A panic elsewhere leaves numbers that are still worth showing.
        self.history.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn micros(time: Duration) -> u64 {
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}
