//! What goes into a machine and what comes out.

use std::fmt;
use std::num::NonZeroU8;
use std::ops::Deref;
use std::time::Duration;

use serde::Serialize;

use super::super::auth::Auth;
use super::super::wire::{Diagnostic, MANDATORY_LENGTH, State};

/// What a machine has to know.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Once the session is up.
    pub intervals: Intervals,
    /// Detect Mult.
    pub multiplier: NonZeroU8,
    /// Who speaks first.
    pub role: Role,
    /// Absent: packets with an Authentication Section are refused.
    pub auth: Option<Auth>,
}

/// Who speaks first (RFC 5880 §6.1). One end at least must be active.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Role {
    /// We do, whether the peer is there or not.
    Active,
    /// The peer does.
    Passive,
}

/// In microseconds, as on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Intervals {
    /// Least time between packets that we would like to send.
    pub desired_min_tx: u32,
    /// Least time between packets that we can take.
    pub required_min_rx: u32,
}

impl Intervals {
    /// The same both ways. Longer than a field holds, which is 71 minutes, becomes the longest.
    #[must_use]
    pub fn both(interval: Duration) -> Self {
        let micros = u32::try_from(interval.as_micros()).unwrap_or(u32::MAX);
        Self {
            desired_min_tx: micros,
            required_min_rx: micros,
        }
    }
}

/// What clients of BFD are told (RFC 5882).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case", tag = "state", content = "diagnostic")]
pub enum PathState {
    /// Packets get through both ways.
    Up,
    /// They do not, or not yet. Only the step from [`PathState::Up`] to here is a failure.
    Down(Diagnostic),
    /// We hold the session down: nothing is known of the path.
    AdminDown,
    /// The peer's operator holds it down: no failure (RFC 5882 §3.2).
    PeerAdminDown,
}

impl fmt::Display for PathState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Down(diagnostic) => write!(f, "down: {diagnostic}"),
            Self::AdminDown => f.write_str("administratively down"),
            Self::PeerAdminDown => f.write_str("held down by the peer's operator"),
        }
    }
}

/// What the driver has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send this datagram.
    Send(Octets),
    /// Tell the clients.
    Path(PathState),
}

/// The longest packet we send.
const LONGEST: usize = MANDATORY_LENGTH + super::super::auth::SECTION_LENGTH as usize;

/// An encoded packet, without an allocation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Octets {
    octets: [u8; LONGEST],
    length: usize,
}

impl Octets {
    pub(super) fn new(mandatory: &[u8; MANDATORY_LENGTH], auth: &[u8]) -> Self {
        let mut octets = [0; LONGEST];
        let (head, tail) = octets.split_at_mut(MANDATORY_LENGTH);
        head.copy_from_slice(mandatory);
        let length = auth.len().min(tail.len());
        tail[..length].copy_from_slice(&auth[..length]);
        Self {
            octets,
            length: MANDATORY_LENGTH + length,
        }
    }
}

impl Deref for Octets {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.octets[..self.length]
    }
}

impl fmt::Debug for Octets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x?}", &**self)
    }
}

/// A session as its operator may see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Picture {
    /// `bfd.SessionState`
    pub state: State,
    /// `bfd.LocalDiag`
    pub diagnostic: Diagnostic,
    /// `bfd.RemoteSessionState`
    pub remote_state: State,
    /// What the peer said last.
    pub remote_diagnostic: Diagnostic,
    /// `bfd.LocalDiscr`
    pub local_discriminator: u32,
    /// `bfd.RemoteDiscr`; 0: unknown.
    pub remote_discriminator: u32,
    /// The peer's Detect Mult; 0: unknown.
    pub remote_multiplier: u8,
    /// The peer asks for no periodic packets.
    pub remote_demand: bool,
    /// Between our packets, before jitter; absent where none are sent.
    pub transmit_interval: Option<Duration>,
    /// How long the peer may be silent; absent where it is unknown.
    pub detection_time: Option<Duration>,
    /// What clients are told.
    pub path: PathState,
}
