//! The BGP speaker and its neighbours: `[bgp]`, `[[bgp.peer]]`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::num::NonZeroU8;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::{Asn, SiteId};

/// `[bgp]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bgp {
    /// Our AS number.
    pub asn: Asn,
    /// BGP Identifier, unless the site has its own.
    pub router_id: Option<Ipv4Addr>,
    /// Where peers may connect to us. Default none: we connect to them.
    pub listen: Vec<SocketAddr>,
    /// `[[bgp.peer]]`
    pub peers: Vec<Peer>,
    /// `[[bgp.bmp]]`: collectors that get our view by BMP (RFC 7854).
    pub bmp: Vec<Bmp>,
    /// `[bgp] rpki`: an RTR cache (RFC 8210) that tells whether our announcements are valid.
    pub rpki: Option<SocketAddr>,
}

/// A configured neighbour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Peer {
    /// The site whose speaker holds this session; `None`: every site's.
    pub site: Option<SiteId>,
    /// Its address.
    pub address: IpAddr,
    /// The interface of a link-local address.
    pub interface: Option<String>,
    /// Its port. Default 179.
    pub port: u16,
    /// Its AS number; ours makes it an internal peer.
    pub asn: Asn,
    /// The address we connect from.
    pub source: Option<IpAddr>,
    /// Wait for it to connect instead of connecting.
    pub passive: bool,
    /// Hold time that we offer: 0 (never expires) or 3 s to 65,535 s. Default 90 s.
    pub hold_time: Duration,
    /// Mean time between two attempts to connect; jittered to 75 to 100 %. Default 5 s.
    pub connect_retry: Duration,
    /// File with the key of TCP MD5 (RFC 2385); read at start, never shown.
    pub password_file: Option<PathBuf>,
    /// Key of the TCP Authentication Option (RFC 5925); never together with `password_file`.
    pub tcp_ao: Option<TcpAo>,
    /// How far away it may be.
    pub reach: PeerReach,
    /// Address families that we offer. Default both.
    pub families: PeerFamilies,
    /// Offer IPv4 routes with an IPv6 next hop (RFC 8950). Default: over IPv6 transport.
    pub extended_next_hop: bool,
    /// Offer messages of up to 65,535 octets (RFC 8654). Default true.
    pub extended_messages: bool,
    /// Our role (RFC 9234); absent: not offered.
    pub role: Option<Role>,
    /// Graceful restart (RFC 4724, RFC 8538); absent: off.
    pub graceful_restart: Option<GracefulRestart>,
    /// A peer that holds more prefixes than this gets Cease/Maximum Number of Prefixes Reached (RFC 4486).
    /// Absent: no limit, and only totals are counted.
    pub max_prefixes: Option<u32>,
    /// Received routes that are kept as a sample for `steer catchment`. Default 0: none.
    pub sample: u32,
    /// Attributes for every prefix; see [`Policy::over`].
    pub policy: Policy,
    /// Failure detection by BFD (RFC 5880); absent: hold timer alone.
    pub bfd: Option<Bfd>,
}

/// How far away a peer may be, and what that does to TTLs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PeerReach {
    /// On our link. External: TTL 1 is sent, any is taken. Internal: the system's TTL. The default.
    Default,
    /// `ttl_security = N`: TTL 255 is sent and at least 256 − N is wanted (GTSM, RFC 5082); N hops at most.
    TtlSecurity(NonZeroU8),
    /// `multihop = N`: TTL N is sent.
    Multihop(NonZeroU8),
}

/// Families offered to a peer. At least one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[expect(missing_docs, reason = "the names say it")]
pub struct PeerFamilies {
    pub ipv4: bool,
    pub ipv6: bool,
}

/// What we are to the peer (RFC 9234 §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RoleName {
    /// We sell transit to it.
    Provider,
    /// We are a route server; it is our client.
    RouteServer,
    /// It is a route server; we are its client.
    RouteServerClient,
    /// We buy transit from it: what an anycast edge usually is.
    Customer,
    /// Settlement-free.
    Peer,
}

/// `role` and `role_strict`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Role {
    /// Ours.
    pub name: RoleName,
    /// A peer that says no role is refused (RFC 9234 §4.2). Default false.
    pub strict: bool,
}

/// `tcp_ao`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TcpAo {
    /// File with the master key; read at start, never shown.
    pub key_file: PathBuf,
    /// KeyID in the segments that we send.
    pub send_id: u8,
    /// KeyID in the segments that we take.
    pub receive_id: u8,
    /// How segments are authenticated.
    pub algorithm: TcpAoAlgorithm,
}

/// The two algorithms of RFC 5926.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TcpAoAlgorithm {
    /// `hmac-sha-1-96`
    #[serde(rename = "hmac-sha-1-96")]
    HmacSha1,
    /// `aes-128-cmac-96`
    #[serde(rename = "aes-128-cmac-96")]
    Aes128Cmac,
}

/// `graceful_restart`
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct GracefulRestart {
    /// The peer keeps our routes this long after we vanished. 1 s to 4,095 s.
    pub restart_time: Duration,
    /// Offer the N bit (RFC 8538): a NOTIFICATION too is a graceful end unless it is a Hard Reset. Default true.
    pub notification: bool,
}

/// Attributes beside next hop and prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Policy {
    /// Our AS number so many times more.
    pub prepend: u8,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF; internal peers only. Default 100 there.
    pub local_pref: Option<u32>,
    /// In the order of the file, each once.
    pub communities: Vec<Community>,
}

impl Policy {
    /// This policy on top of a wider one: prepends add up, communities are united, MED and LOCAL_PREF replace.
    #[must_use]
    pub fn over(&self, wider: &Self) -> Self {
        let mut communities = wider.communities.clone();
        let fresh = self
            .communities
            .iter()
            .filter(|community| !wider.communities.contains(community));
        communities.extend(fresh);
        Self {
            prepend: wider.prepend.saturating_add(self.prepend),
            med: self.med.or(wider.med),
            local_pref: self.local_pref.or(wider.local_pref),
            communities,
        }
    }
}

/// A community of any of the three kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Community {
    /// `64500:1`, `no-export` .. (RFC 1997)
    Standard(u32),
    /// `rt:64500:1`, `soo:192.0.2.1:1` or `ext:0x0002fbf400000001` (RFC 4360, RFC 5668)
    Extended([u8; 8]),
    /// `64500:1:2` (RFC 8092)
    Large([u32; 3]),
}

impl Community {
    /// GRACEFUL_SHUTDOWN (RFC 8326 §5).
    pub const GRACEFUL_SHUTDOWN: Self = Self::Standard(0xffff_0000);
    /// BLACKHOLE (RFC 7999 §5).
    pub const BLACKHOLE: Self = Self::Standard(0xffff_029a);
    /// NO_EXPORT (RFC 1997).
    pub const NO_EXPORT: Self = Self::Standard(0xffff_ff01);
    /// NO_ADVERTISE (RFC 1997).
    pub const NO_ADVERTISE: Self = Self::Standard(0xffff_ff02);
}

/// `bfd`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bfd {
    /// Desired Min TX Interval and Required Min RX Interval once the session is up. 10 ms to 60 s.
    pub interval: Duration,
    /// Detect Mult. Default 3.
    pub multiplier: NonZeroU8,
    /// No BGP session before BFD is up. Default false.
    pub strict: bool,
    /// Authentication (RFC 5880 §6.7).
    pub auth: Option<BfdAuth>,
}

/// Authentication of BFD packets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BfdAuth {
    /// How.
    pub kind: BfdAuthKind,
    /// Auth Key ID.
    pub key_id: u8,
    /// File with the key of 1 to 20 octets; read at start, never shown.
    pub key_file: PathBuf,
}

/// RFC 5880 §4.4. Simple passwords and MD5 are not offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BfdAuthKind {
    /// Keyed SHA1: the sequence number may stay.
    KeyedSha1,
    /// Meticulous keyed SHA1: the sequence number grows with each packet.
    MeticulousKeyedSha1,
}

/// `[[bgp.bmp]]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Bmp {
    /// The collector's address.
    pub address: SocketAddr,
    /// Mean time between two attempts to connect. Default 30 s.
    pub connect_retry: Duration,
}
