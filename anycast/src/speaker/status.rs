//! What the speaker is doing, for people and machines. Read at any time, also while it runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use steer_topology::{Asn, Prefix};

use crate::announcer::Sessions;
use crate::reconcile::Obstacle;
use crate::session::State;
use crate::wire::{Family, Kind};

/// The live status of a speaker; serialises as the picture of that moment.
#[derive(Debug)]
pub struct SpeakerStatus {
    /// Our AS number; `None` without `[bgp]`.
    pub asn: Option<Asn>,
    /// Our BGP Identifier; `None` without `[bgp]`.
    pub router_id: Option<Ipv4Addr>,
    /// Where peers may connect to us, as bound.
    pub listen: Vec<SocketAddr>,
    pub(crate) peers: Vec<Mutex<PeerStatus>>,
}

/// One peer at one moment.
#[derive(Debug, Clone, Serialize)]
pub struct PeerStatus {
    /// Configured address.
    pub address: IpAddr,
    /// Configured port.
    pub port: u16,
    /// Configured AS number.
    pub asn: Asn,
    /// State of the connection that has come furthest.
    pub state: State,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// There while the session is up.
    pub session: Option<SessionStatus>,
    /// How the last attempt or session ended.
    pub last_error: Option<String>,
    /// When that was.
    pub last_error_at: Option<Timestamp>,
    /// Messages received since the start of the process.
    pub messages_in: Messages,
    /// Messages sent since the start of the process.
    pub messages_out: Messages,
    /// Prefixes in UPDATEs of the peer in this session; counted, never kept (RFC 8212).
    pub prefixes_in: u64,
    /// Each prefix that this site may announce.
    pub routes: BTreeMap<Prefix, RouteStatus>,
}

/// What was agreed on.
#[derive(Debug, Clone, Serialize)]
pub struct SessionStatus {
    /// Our end.
    pub local: SocketAddr,
    /// Their end.
    pub remote: SocketAddr,
    /// The peer's BGP Identifier.
    pub peer_id: Ipv4Addr,
    /// Negotiated hold time in seconds; 0: none.
    pub hold_time_s: u64,
    /// What both carry.
    pub families: Vec<Family>,
    /// 4-octet AS numbers on the wire.
    pub four_octet_as: bool,
    /// The peer is in our AS.
    pub internal: bool,
}

/// Count of messages by type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names are the message types")]
pub struct Messages {
    pub open: u64,
    pub update: u64,
    pub notification: u64,
    pub keepalive: u64,
    pub route_refresh: u64,
}

impl Messages {
    pub(crate) fn count(&mut self, kind: Kind) {
        *match kind {
            Kind::Open => &mut self.open,
            Kind::Update => &mut self.update,
            Kind::Notification => &mut self.notification,
            Kind::Keepalive => &mut self.keepalive,
            Kind::RouteRefresh => &mut self.route_refresh,
        } += 1;
    }
}

/// One prefix at one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RouteStatus {
    /// The snapshot wants it announced.
    pub wanted: bool,
    /// It was handed to the session that is up.
    pub announced: bool,
    /// Why it is wanted but cannot be announced here.
    pub obstacle: Option<Obstacle>,
    /// Since when `wanted` and `announced` are what they are.
    pub since: Timestamp,
    /// The snapshot that decided `wanted`.
    pub snapshot: u64,
}

impl SpeakerStatus {
    /// Each peer, in the order of the configuration.
    #[must_use]
    pub fn peers(&self) -> Vec<PeerStatus> {
        self.peers.iter().map(|peer| locked(peer).clone()).collect()
    }
}

impl Sessions for SpeakerStatus {
    // Gap: handed to the socket counts as sent, though a slow peer may leave it in our buffer for a while.
    fn announce(&self, prefix: &Prefix) -> bool {
        let announces = |peer: &Mutex<PeerStatus>| {
            let peer = locked(peer);
            peer.routes.get(prefix).is_some_and(|route| route.announced)
        };
        self.peers.iter().any(announces)
    }
}

/// A panic elsewhere leaves numbers that are still worth showing.
pub(crate) fn locked(peer: &Mutex<PeerStatus>) -> MutexGuard<'_, PeerStatus> {
    peer.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Serialize for SpeakerStatus {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Picture<'a> {
            asn: Option<Asn>,
            router_id: Option<Ipv4Addr>,
            listen: &'a [SocketAddr],
            peers: Vec<PeerStatus>,
        }
        let Self {
            asn,
            router_id,
            listen,
            peers: _,
        } = self;
        Picture {
            asn: *asn,
            router_id: *router_id,
            listen,
            peers: self.peers(),
        }
        .serialize(serializer)
    }
}
