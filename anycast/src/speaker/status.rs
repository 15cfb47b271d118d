//! What the speaker is doing, for people and machines. Read at any time, also while it runs.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use serde::{Serialize, Serializer};
use steer_topology::{Asn, Peer, Prefix, RoleName};

use super::detection::Detections;
use super::inbound::{self, InboundTotals, Sample, SampledRoute};
use crate::bfd::{BfdService, BfdStatus};
use crate::reconcile::Obstacle;
use crate::session::{Negotiated, State};
use crate::transport::{Key, Transport};
use crate::wire::{Family, Kind, RestartCapability};

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
    /// By peer.
    pub(super) samples: Vec<Arc<Mutex<Sample>>>,
    pub(super) detections: Arc<Detections>,
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
    /// How its TCP connections are protected.
    pub transport: TransportStatus,
    /// Its BFD session, where it has one.
    pub bfd: Option<BfdStatus>,
    /// Prefixes in UPDATEs of the peer in this session; counted, never kept (RFC 8212).
    pub prefixes_in: u64,
    /// More of what came in during this session.
    pub inbound: InboundTotals,
    /// Received routes that were kept as a sample, where one is configured.
    pub sample: Vec<SampledRoute>,
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
    /// Messages of up to 65,535 octets (RFC 8654).
    pub extended_messages: bool,
    /// IPv4 routes may have an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// The peer answers a route refresh (RFC 2918).
    pub route_refresh: bool,
    /// Refreshed routes are framed (RFC 7313).
    pub enhanced_refresh: bool,
    /// Graceful restart as the peer offers it (RFC 4724).
    pub graceful_restart: Option<RestartStatus>,
    /// The peer keeps our routes while we restart: we asked, and it can.
    pub retains_our_routes: bool,
    /// A NOTIFICATION too is a graceful end (RFC 8538).
    pub graceful_notification: bool,
    /// Families for which the peer offers long-lived graceful restart (RFC 9494).
    pub long_lived: Vec<Family>,
    /// Our role (RFC 9234).
    pub role: Option<RoleName>,
    /// The peer's.
    pub peer_role: Option<RoleName>,
    /// The peer's name, as it says.
    pub hostname: Option<String>,
    /// The peer's software, as it says.
    pub software: Option<String>,
}

/// Graceful restart as a peer offers it.
#[derive(Debug, Clone, Serialize)]
pub struct RestartStatus {
    /// How long it wants its routes kept, in seconds.
    pub restart_time_s: u64,
    /// It has just restarted (R bit).
    pub restarted: bool,
    /// A NOTIFICATION of its own is a graceful end (N bit).
    pub notification: bool,
    /// Families that it keeps forwarding through a restart.
    pub forwarding: Vec<Family>,
}

/// What protects the TCP connections of a peer; set before the first octet.
#[derive(Debug, Clone, Serialize)]
pub struct TransportStatus {
    /// Segments are signed (TCP MD5, RFC 2385).
    pub md5: bool,
    /// Signed by TCP-AO (RFC 5925).
    pub tcp_ao: bool,
    /// The least TTL that is taken (GTSM, RFC 5082).
    pub least_ttl: Option<u8>,
    /// TTL that is sent; absent: the system's.
    pub ttl: Option<u8>,
    /// The interface of a link-local address.
    pub interface: Option<String>,
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
    pub(crate) fn count(&mut self, kind: Kind, count: u64) {
        *match kind {
            Kind::Open => &mut self.open,
            Kind::Update => &mut self.update,
            Kind::Notification => &mut self.notification,
            Kind::Keepalive => &mut self.keepalive,
            Kind::RouteRefresh => &mut self.route_refresh,
        } += count;
    }

    pub(super) fn of(&self, kind: Kind) -> u64 {
        match kind {
            Kind::Open => self.open,
            Kind::Update => self.update,
            Kind::Notification => self.notification,
            Kind::Keepalive => self.keepalive,
            Kind::RouteRefresh => self.route_refresh,
        }
    }
}

/// One prefix at one peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct RouteStatus {
    /// The snapshot wants it announced.
    pub wanted: bool,
    /// It was handed to the session that is up.
    pub announced: bool,
    /// The peer's TCP has what was handed over last, be it the announcement or the withdrawal.
    pub acknowledged: bool,
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
        let peers = self.peers.iter().zip(&self.samples).enumerate();
        peers
            .map(|(index, (peer, sample))| PeerStatus {
                sample: inbound::locked(sample).routes(),
                bfd: self.detections.status(index),
                ..locked(peer).clone()
            })
            .collect()
    }

    /// The thread that runs the peers' BFD sessions, where there are any.
    #[must_use]
    pub fn bfd(&self) -> Option<BfdService> {
        self.detections.service()
    }

    /// Whether any peer has the route, or may still have it: false once every session that is up was told the
    /// withdrawal.
    #[must_use]
    pub fn is_announced(&self, prefix: &Prefix) -> bool {
        self.peers.iter().any(|peer| {
            let peer = locked(peer);
            peer.routes.get(prefix).is_some_and(|route| route.announced)
        })
    }
}

impl PeerStatus {
    /// Before anything has happened.
    pub(super) fn new(peer: &Peer, transport: &Transport) -> Self {
        Self {
            address: peer.address,
            port: peer.port,
            asn: peer.asn,
            state: State::Idle,
            since: Timestamp::now(),
            session: None,
            last_error: None,
            last_error_at: None,
            messages_in: Messages::default(),
            messages_out: Messages::default(),
            transport: TransportStatus {
                md5: matches!(transport.key(), Some(Key::Md5(_))),
                tcp_ao: matches!(transport.key(), Some(Key::Ao(_))),
                least_ttl: transport.least_ttl(),
                ttl: transport.ttl(),
                interface: peer.interface.clone(),
            },
            bfd: None,
            prefixes_in: 0,
            inbound: InboundTotals::default(),
            sample: Vec::new(),
            routes: BTreeMap::new(),
        }
    }
}

impl SessionStatus {
    /// Of a session that came up between these two ends.
    pub(super) fn new(negotiated: &Negotiated, local: SocketAddr, remote: SocketAddr) -> Self {
        Self {
            local,
            remote,
            peer_id: negotiated.peer_id,
            hold_time_s: negotiated.hold_time.as_secs(),
            families: negotiated.families.iter().collect(),
            four_octet_as: negotiated.four_octet,
            internal: negotiated.internal,
            extended_messages: negotiated.extended_messages,
            extended_next_hop: negotiated.extended_next_hop,
            route_refresh: negotiated.route_refresh,
            enhanced_refresh: negotiated.enhanced_refresh,
            graceful_restart: negotiated.graceful_restart.map(RestartStatus::from),
            retains_our_routes: !negotiated.retained.is_empty(),
            graceful_notification: negotiated.graceful_notification,
            long_lived: negotiated.long_lived.iter().map(|offer| offer.family).collect(),
            role: negotiated.role,
            peer_role: negotiated.peer_role,
            hostname: negotiated.hostname.clone(),
            software: negotiated.software.clone(),
        }
    }
}

impl From<RestartCapability> for RestartStatus {
    fn from(offer: RestartCapability) -> Self {
        Self {
            restart_time_s: offer.restart_time.as_secs(),
            restarted: offer.restarted,
            notification: offer.notification,
            forwarding: offer.forwarding.iter().collect(),
        }
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
            bfd: Option<BfdService>,
        }
        let Self {
            asn,
            router_id,
            listen,
            peers: _,
            samples: _,
            detections,
        } = self;
        Picture {
            asn: *asn,
            router_id: *router_id,
            listen,
            peers: self.peers(),
            bfd: detections.service(),
        }
        .serialize(serializer)
    }
}
