//! What goes into a machine and what comes out.

use std::fmt;
use std::net::Ipv4Addr;
use std::time::Duration;

use steer_topology::Asn;

use crate::wire::{Families, Family, Frame, Malformed, Notification, Open, Reason, Update};

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

/// What a machine has to know.
#[derive(Debug, Clone)]
pub struct Config {
    /// Our AS number.
    pub local_asn: Asn,
    /// Our BGP Identifier.
    pub router_id: Ipv4Addr,
    /// The peer's AS number; `None` takes any (the route monitor).
    pub peer_asn: Option<Asn>,
    /// Hold time to offer: whole seconds, 0 or 3 to 65,535.
    pub hold_time: Duration,
    /// Mean time between two dials; jittered to 75 to 100 %.
    pub connect_retry: Duration,
    /// Never dial.
    pub passive: bool,
}

/// What both OPENs agree on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Negotiated {
    /// The peer's AS number.
    pub peer_asn: Asn,
    /// The peer's BGP Identifier.
    pub peer_id: Ipv4Addr,
    /// The shorter of both; zero: the session never expires.
    pub hold_time: Duration,
    /// What both carry.
    pub families: Families,
    /// Both speak 4-octet AS numbers.
    pub four_octet: bool,
    /// The peer is in our AS.
    pub internal: bool,
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
    /// The peer wants the routes of a family again (RFC 2918 §4).
    Refresh(SessionId, Family),
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
}
