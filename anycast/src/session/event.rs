//! What goes into a machine and what comes out.

use std::fmt;

use crate::wire::{Demarcation, Family, Frame, Malformed, Notification, Open, Reason, Update};

use super::terms::Negotiated;

/// One TCP connection, dialled or accepted; never used twice by one machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub u64);

/// Who opened the connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// We did.
    Outgoing,
    /// The peer did.
    Incoming,
}

impl Side {
    pub(super) fn other(self) -> Self {
        match self {
            Self::Outgoing => Self::Incoming,
            Self::Incoming => Self::Outgoing,
        }
    }
}

/// News for the machine.
#[derive(Debug, Clone)]
pub enum Event {
    /// Begin, or begin again after a stop.
    Start,
    /// End everything; the text goes to the peer (RFC 9003).
    Stop {
        /// Administrative Shutdown, Administrative Reset or Peer De-configured.
        reason: Reason,
        /// Shutdown Communication; may be empty.
        text: String,
    },
    /// A dial succeeded.
    Connected(SessionId),
    /// A dial failed, or a connection ended.
    Lost(SessionId, String),
    /// A whole message came.
    Frame(SessionId, Frame),
    /// What came is no message.
    Malformed(SessionId, Malformed),
    /// End everything for a planned restart: a peer that keeps our routes meanwhile (RFC 4724) is left without a
    /// word that would make it drop them; all others hear an Administrative Reset.
    Restart {
        /// Shutdown Communication; may be empty.
        text: String,
    },
    /// All routes have been told to the peer since our restart: the R bit (RFC 4724 §3) has done its work.
    Recovered,
    /// The peer announced more prefixes than it may (RFC 4486 §4).
    TooManyPrefixes {
        /// Which connection.
        id: SessionId,
        /// Of which family.
        family: Family,
        /// The limit that it crossed.
        limit: u32,
    },
    /// Octets wait for the socket, and none went out (RFC 9687). To be told once per attempt to write.
    Blocked(SessionId),
    /// Octets went out, or none wait any more.
    Progress(SessionId),
    /// BFD is up.
    PathUp,
    /// BFD went down: every connection ends at once (RFC 5882 §4.2, RFC 9384).
    PathDown,
    /// BFD ended by an operator's wish, here or there: no path failure (RFC 5882 §4.2).
    PathAdminDown,
}

/// What the driver has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Open a TCP connection under this number.
    Dial(SessionId),
    /// Send an OPEN.
    SendOpen(SessionId, Open),
    /// Send a KEEPALIVE.
    SendKeepalive(SessionId),
    /// Send a NOTIFICATION.
    SendNotification(SessionId, Notification),
    /// Flush and close, or give up dialling.
    Close(SessionId),
    /// Routes may be sent.
    Up(SessionId, Negotiated),
    /// An attempt or a session is over; `established` tells which.
    Ended {
        /// Which one.
        id: SessionId,
        /// Whether it had been up.
        established: bool,
        /// Why.
        end: End,
    },
    /// The peer wants the routes of a family again (RFC 2918 §4); framed where [`Negotiated::enhanced_refresh`].
    Refresh(SessionId, Family),
    /// The peer begins or ends to send its routes of a family again (RFC 7313 §4).
    Demarcation(SessionId, Family, Demarcation),
    /// Routes of the peer.
    Inbound(SessionId, Box<Update>),
}

/// Why a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// We were told to stop.
    Stopped(Notification),
    /// The other connection of the peer was kept.
    Collision,
    /// The peer broke the protocol, or was silent for too long; we told it so.
    Refused(Notification, String),
    /// The peer told us.
    Notified(Notification),
    /// The network, or the peer without a word.
    Lost(String),
    /// BFD went down, or is not up yet.
    PathDown,
    /// We restart, and the peer keeps our routes meanwhile.
    Left,
}

impl End {
    /// A label for metrics; few values.
    #[must_use]
    pub fn cause(&self) -> &'static str {
        match self {
            Self::Stopped(_) => "stopped",
            Self::Collision => "collision",
            Self::Refused(..) => "refused",
            Self::Notified(_) => "notified",
            Self::Lost(_) => "lost",
            Self::PathDown => "bfd-down",
            Self::Left => "restart",
        }
    }
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Stopped(notification) => write!(f, "stopped by us: {notification}"),
            Self::Collision => write!(f, "collision: the other connection of this peer is kept"),
            Self::Refused(notification, text) => write!(f, "{text}; sent {notification}"),
            Self::Notified(notification) => write!(f, "peer sent {notification}"),
            Self::Lost(cause) => f.write_str(cause),
            Self::PathDown => f.write_str("BFD is down"),
            Self::Left => f.write_str("left for a restart; the peer keeps our routes meanwhile"),
        }
    }
}

/// Why a connection from the peer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// A session is up, and it stays (RFC 4271 §6.8).
    Established,
    /// The peer was at fault and waits out its penalty (RFC 4271 §8.1.1).
    Damped,
    /// We are stopped.
    Stopped,
    /// BFD is not up yet, and it must be first.
    PathDown,
}
