//! The codec of BMP messages (RFC 7854 §4, RFC 8671, RFC 9069): strict in, exact out.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{Buf, BufMut, Bytes, BytesMut};
use jiff::Timestamp;

use crate::wire::HEADER_LENGTH;

/// The only version there is.
const VERSION: u8 = 3;

/// RFC 7854 §4.1: version, length, type.
const COMMON: usize = 6;

/// RFC 7854 §4.2.
const PER_PEER: usize = 42;

/// The longest message that is taken: a Peer Up with two OPENs of the longest kind and as much again.
pub(super) const MAX_LENGTH: usize = 256 * 1024;

/// What cannot be read; the connection cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(String);

/// A BMP message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// Type 0: one UPDATE of a view of a peer.
    RouteMonitoring(PeerHeader, Bytes),
    /// Type 1
    Statistics(PeerHeader, Vec<Stat>),
    /// Type 2
    PeerDown(PeerHeader, PeerDown),
    /// Type 3
    PeerUp(PeerHeader, PeerUp),
    /// Type 4
    Initiation(Vec<Tlv>),
    /// Type 5
    Termination(Vec<Tlv>),
    /// Type 6: not looked into.
    RouteMirroring(PeerHeader, Bytes),
    /// A type that we do not know; RFC 7854 leaves room for more.
    Unknown(u8),
}

/// Whose view a message speaks of (RFC 7854 §4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PeerHeader {
    /// Kind and instance.
    pub kind: PeerKind,
    /// What the view is.
    pub flags: PeerFlags,
    /// Route distinguisher, or an identifier of the instance.
    pub distinguisher: u64,
    /// The peer; unspecified for a Loc-RIB.
    pub address: IpAddr,
    /// Its AS number.
    pub asn: u32,
    /// Its BGP Identifier.
    pub id: Ipv4Addr,
    /// When; `None`: unavailable, as zero says.
    pub at: Option<Timestamp>,
}

/// Peer types.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PeerKind {
    /// Type 0
    Global,
    /// Type 1
    RouteDistinguisher,
    /// Type 2
    Local,
    /// Type 3 (RFC 9069)
    LocRib,
}

/// Peer flags. Which address family stands in the header follows from the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct PeerFlags {
    /// L: after policy.
    pub post_policy: bool,
    /// A: AS_PATHs have 2-octet AS numbers.
    pub two_octet: bool,
    /// O: what the router sends to the peer (RFC 8671 §4), not what it hears from it.
    pub adj_rib_out: bool,
    /// F: only part of the Loc-RIB (RFC 9069 §4.2).
    pub filtered: bool,
}

/// A Peer Up (RFC 7854 §4.10).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerUp {
    /// The router's end.
    pub local: IpAddr,
    /// Its port.
    pub local_port: u16,
    /// The peer's port.
    pub remote_port: u16,
    /// The whole OPEN that the router sent.
    pub sent_open: Bytes,
    /// The whole OPEN that it received.
    pub received_open: Bytes,
    /// What else it says.
    pub information: Vec<Tlv>,
}

/// Why a peer is down (RFC 7854 §4.9, RFC 9069 §5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PeerDown {
    /// Reason 1: by the router, with this NOTIFICATION message.
    LocalNotification(Bytes),
    /// Reason 2: by the router without a NOTIFICATION; event of RFC 4271 §8.1, or 0.
    LocalNoNotification(u16),
    /// Reason 3: by the peer, with this NOTIFICATION message.
    RemoteNotification(Bytes),
    /// Reason 4: the connection is gone.
    RemoteNoData,
    /// Reason 5: the collector is not to hear of it any more.
    Deconfigured,
    /// Reason 6: a Loc-RIB is not monitored any more.
    LocalTlvs(Vec<Tlv>),
}

/// A piece of information.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tlv {
    /// Its type; the meaning depends on the message.
    pub kind: u16,
    /// Its value.
    pub value: Bytes,
}

impl Tlv {
    /// A text; what is beyond the longest value is cut.
    #[must_use]
    pub fn text(kind: u16, text: &str) -> Self {
        let fits = text.floor_char_boundary(usize::from(u16::MAX));
        Self {
            kind,
            value: Bytes::copy_from_slice(&text.as_bytes()[..fits]),
        }
    }
}

/// Types of information in an Initiation (RFC 7854 §4.3).
pub struct Initiation;

impl Initiation {
    /// Free text.
    pub const STRING: u16 = 0;
    /// sysDescr
    pub const SYS_DESCR: u16 = 1;
    /// sysName
    pub const SYS_NAME: u16 = 2;
}

/// Types of information in a Termination (RFC 7854 §4.5) and the reasons for one.
pub struct Termination;

impl Termination {
    /// Free text.
    pub const STRING: u16 = 0;
    /// A reason of two octets.
    pub const REASON: u16 = 1;
    /// Reason 0: administratively closed.
    pub const ADMINISTRATIVE: u16 = 0;
    /// Reason 2: out of resources.
    pub const OUT_OF_RESOURCES: u16 = 2;
}

/// One statistic (RFC 7854 §4.8).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stat {
    /// What is counted.
    pub kind: u16,
    /// How many.
    pub value: StatValue,
}

impl Stat {
    /// Routes in the Adj-RIB-Out after policy (RFC 8671 §6.2).
    pub const ADJ_RIB_OUT: u16 = 15;
    /// The same for one family.
    pub const ADJ_RIB_OUT_FAMILY: u16 = 17;
}

/// The value of a statistic. Its length tells the kind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum StatValue {
    /// 4 octets
    Counter(u32),
    /// 8 octets
    Gauge(u64),
    /// 11 octets
    FamilyGauge {
        /// Address family.
        afi: u16,
        /// Subsequent address family.
        safi: u8,
        /// How many.
        value: u64,
    },
    /// Any other length.
    Other(Bytes),
}

const V: u8 = 0x80;
const L: u8 = 0x40;
const A: u8 = 0x20;
const O: u8 = 0x10;
/// In a header of a Loc-RIB the flags are others (RFC 9069 §4.2).
const F: u8 = 0x80;

/// A message on the wire.
#[must_use]
pub fn encode(message: &Message) -> Bytes {
    let mut out = BytesMut::with_capacity(COMMON + PER_PEER + 128);
    out.put_u8(VERSION);
    out.put_u32(0);
    out.put_u8(type_of(message));
    match message {
        Message::RouteMonitoring(peer, octets) | Message::RouteMirroring(peer, octets) => {
            put_peer(&mut out, peer);
            out.put_slice(octets);
        }
        Message::Statistics(peer, stats) => {
            put_peer(&mut out, peer);
            out.put_u32(u32::try_from(stats.len()).unwrap_or(u32::MAX));
            for stat in stats {
                put_stat(&mut out, stat);
            }
        }
        Message::PeerDown(peer, down) => {
            put_peer(&mut out, peer);
            put_down(&mut out, down);
        }
        Message::PeerUp(peer, up) => {
            put_peer(&mut out, peer);
            put_address(&mut out, up.local);
            out.put_u16(up.local_port);
            out.put_u16(up.remote_port);
            out.put_slice(&up.sent_open);
            out.put_slice(&up.received_open);
            put_tlvs(&mut out, &up.information);
        }
        Message::Initiation(tlvs) | Message::Termination(tlvs) => put_tlvs(&mut out, tlvs),
        Message::Unknown(_) => {}
    }
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out[1..5].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

fn type_of(message: &Message) -> u8 {
    match message {
        Message::RouteMonitoring(..) => 0,
        Message::Statistics(..) => 1,
        Message::PeerDown(..) => 2,
        Message::PeerUp(..) => 3,
        Message::Initiation(_) => 4,
        Message::Termination(_) => 5,
        Message::RouteMirroring(..) => 6,
        Message::Unknown(kind) => *kind,
    }
}

fn put_peer(out: &mut BytesMut, peer: &PeerHeader) {
    let set = |on: bool, flag: u8| if on { flag } else { 0 };
    let PeerFlags {
        post_policy,
        two_octet,
        adj_rib_out,
        filtered,
    } = peer.flags;
    let flags = match peer.kind {
        PeerKind::LocRib => set(filtered, F),
        PeerKind::Global | PeerKind::RouteDistinguisher | PeerKind::Local => {
            set(peer.address.is_ipv6(), V) | set(post_policy, L) | set(two_octet, A) | set(adj_rib_out, O)
        }
    };
    out.put_u8(match peer.kind {
        PeerKind::Global => 0,
        PeerKind::RouteDistinguisher => 1,
        PeerKind::Local => 2,
        PeerKind::LocRib => 3,
    });
    out.put_u8(flags);
    out.put_u64(peer.distinguisher);
    put_address(out, peer.address);
    out.put_u32(peer.asn);
    out.put_u32(peer.id.to_bits());
    let (seconds, micros) = crate::mrt::timestamp(peer.at.unwrap_or(Timestamp::UNIX_EPOCH));
    out.put_u32(seconds);
    out.put_u32(micros);
}

/// RFC 7854 §4.2: an IPv4 address stands in the last 4 of 16 octets.
fn put_address(out: &mut BytesMut, address: IpAddr) {
    match address {
        IpAddr::V4(address) => {
            out.put_bytes(0, 12);
            out.put_u32(address.to_bits());
        }
        IpAddr::V6(address) => out.put_u128(address.to_bits()),
    }
}

fn put_stat(out: &mut BytesMut, stat: &Stat) {
    out.put_u16(stat.kind);
    match &stat.value {
        StatValue::Counter(value) => {
            out.put_u16(4);
            out.put_u32(*value);
        }
        StatValue::Gauge(value) => {
            out.put_u16(8);
            out.put_u64(*value);
        }
        StatValue::FamilyGauge { afi, safi, value } => {
            out.put_u16(11);
            out.put_u16(*afi);
            out.put_u8(*safi);
            out.put_u64(*value);
        }
        StatValue::Other(value) => put_counted(out, value),
    }
}

fn put_down(out: &mut BytesMut, down: &PeerDown) {
    match down {
        PeerDown::LocalNotification(notification) => {
            out.put_u8(1);
            out.put_slice(notification);
        }
        PeerDown::LocalNoNotification(event) => {
            out.put_u8(2);
            out.put_u16(*event);
        }
        PeerDown::RemoteNotification(notification) => {
            out.put_u8(3);
            out.put_slice(notification);
        }
        PeerDown::RemoteNoData => out.put_u8(4),
        PeerDown::Deconfigured => out.put_u8(5),
        PeerDown::LocalTlvs(tlvs) => {
            out.put_u8(6);
            put_tlvs(out, tlvs);
        }
    }
}

fn put_tlvs(out: &mut BytesMut, tlvs: &[Tlv]) {
    for tlv in tlvs {
        out.put_u16(tlv.kind);
        put_counted(out, &tlv.value);
    }
}

fn put_counted(out: &mut BytesMut, value: &Bytes) {
    let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
    out.put_u16(length);
    out.put_slice(&value[..usize::from(length)]);
}

/// Takes the next whole message off `buffer`; `None` until it is there in full.
pub fn take_message(buffer: &mut BytesMut) -> Result<Option<Message>, Malformed> {
    if let Some(version) = buffer.first().filter(|version| **version != VERSION) {
        return Err(Malformed(format!("BMP version {version}, want {VERSION}")));
    }
    let Some(head) = buffer.first_chunk::<COMMON>() else {
        return Ok(None);
    };
    let length = u32::from_be_bytes([head[1], head[2], head[3], head[4]]);
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if !(COMMON..=MAX_LENGTH).contains(&length) {
        return Err(Malformed(format!("BMP message of {length} octets")));
    }
    if buffer.len() < length {
        return Ok(None);
    }
    let mut message = buffer.split_to(length).freeze();
    let kind = message[COMMON - 1];
    message.advance(COMMON);
    let name = [
        "Route Monitoring",
        "Statistics Report",
        "Peer Down",
        "Peer Up",
        "Initiation",
        "Termination",
    ];
    let name = name.get(usize::from(kind)).copied().unwrap_or("Route Mirroring");
    decode(kind, &mut message)
        .ok_or_else(|| Malformed(format!("BMP {name} of {length} octets cannot be read")))
        .map(Some)
}

/// Reads the body of a message to its end.
fn decode(kind: u8, body: &mut Bytes) -> Option<Message> {
    Some(match kind {
        0 => Message::RouteMonitoring(take_peer(body)?, take_bgp(body).filter(|_| body.is_empty())?),
        1 => {
            let peer = take_peer(body)?;
            let count = body.try_get_u32().ok()?;
            let stats: Option<Vec<Stat>> = (0..count).map(|_| take_stat(body)).collect();
            Message::Statistics(peer, stats.filter(|_| body.is_empty())?)
        }
        2 => Message::PeerDown(take_peer(body)?, take_down(body)?),
        3 => {
            let peer = take_peer(body)?;
            Message::PeerUp(peer, take_up(body, peer.address.is_ipv6())?)
        }
        4 => Message::Initiation(take_tlvs(body)?),
        5 => Message::Termination(take_tlvs(body)?),
        6 => Message::RouteMirroring(take_peer(body)?, std::mem::take(body)),
        other => Message::Unknown(other),
    })
}

fn take_peer(body: &mut Bytes) -> Option<PeerHeader> {
    let kind = match body.try_get_u8().ok()? {
        0 => PeerKind::Global,
        1 => PeerKind::RouteDistinguisher,
        2 => PeerKind::Local,
        3 => PeerKind::LocRib,
        _ => return None,
    };
    let bits = body.try_get_u8().ok()?;
    let on = |flag: u8| bits & flag != 0;
    let (flags, v6) = match kind {
        PeerKind::LocRib => {
            let filtered = on(F);
            let flags = PeerFlags {
                filtered,
                ..PeerFlags::default()
            };
            (flags, false)
        }
        PeerKind::Global | PeerKind::RouteDistinguisher | PeerKind::Local => {
            let flags = PeerFlags {
                post_policy: on(L),
                two_octet: on(A),
                adj_rib_out: on(O),
                filtered: false,
            };
            (flags, on(V))
        }
    };
    let distinguisher = body.try_get_u64().ok()?;
    let address = take_address(body, v6)?;
    let asn = body.try_get_u32().ok()?;
    let id = Ipv4Addr::from_bits(body.try_get_u32().ok()?);
    let (seconds, micros) = (body.try_get_u32().ok()?, body.try_get_u32().ok()?);
    let nanos = i32::try_from(micros).ok()?.checked_mul(1_000)?;
    let at = Timestamp::new(seconds.into(), nanos).ok()?;
    Some(PeerHeader {
        kind,
        flags,
        distinguisher,
        address,
        asn,
        id,
        at: (at != Timestamp::UNIX_EPOCH).then_some(at), // RFC 7854 §4.2: zero: unavailable
    })
}

fn take_address(body: &mut Bytes, v6: bool) -> Option<IpAddr> {
    let address = body.try_get_u128().ok()?;
    Some(if v6 {
        Ipv6Addr::from_bits(address).into()
    } else {
        Ipv4Addr::from_bits(u32::try_from(address & u128::from(u32::MAX)).ok()?).into()
    })
}

fn take(body: &mut Bytes, count: usize) -> Option<Bytes> {
    (body.len() >= count).then(|| body.split_to(count))
}

/// One whole BGP message: its header tells its length.
fn take_bgp(body: &mut Bytes) -> Option<Bytes> {
    let length = body.get(16..18)?.first_chunk::<2>()?;
    let length = usize::from(u16::from_be_bytes(*length));
    (length >= HEADER_LENGTH).then(|| take(body, length))?
}

fn take_up(body: &mut Bytes, v6: bool) -> Option<PeerUp> {
    let local = take_address(body, v6)?;
    let (local_port, remote_port) = (body.try_get_u16().ok()?, body.try_get_u16().ok()?);
    let (sent_open, received_open) = (take_bgp(body)?, take_bgp(body)?);
    let information = take_tlvs(body)?;
    Some(PeerUp {
        local,
        local_port,
        remote_port,
        sent_open,
        received_open,
        information,
    })
}

fn take_down(body: &mut Bytes) -> Option<PeerDown> {
    let down = match body.try_get_u8().ok()? {
        1 => PeerDown::LocalNotification(take_bgp(body)?),
        2 => PeerDown::LocalNoNotification(body.try_get_u16().ok()?),
        3 => PeerDown::RemoteNotification(take_bgp(body)?),
        4 => PeerDown::RemoteNoData,
        5 => PeerDown::Deconfigured,
        6 => PeerDown::LocalTlvs(take_tlvs(body)?),
        _ => return None,
    };
    body.is_empty().then_some(down)
}

fn take_stat(body: &mut Bytes) -> Option<Stat> {
    let Tlv { kind, mut value } = take_tlv(body)?;
    let value = match value.len() {
        4 => StatValue::Counter(value.get_u32()),
        8 => StatValue::Gauge(value.get_u64()),
        11 => StatValue::FamilyGauge {
            afi: value.get_u16(),
            safi: value.get_u8(),
            value: value.get_u64(),
        },
        _ => StatValue::Other(value),
    };
    Some(Stat { kind, value })
}

fn take_tlvs(body: &mut Bytes) -> Option<Vec<Tlv>> {
    let mut tlvs = Vec::new();
    while !body.is_empty() {
        tlvs.push(take_tlv(body)?);
    }
    Some(tlvs)
}

fn take_tlv(body: &mut Bytes) -> Option<Tlv> {
    let kind = body.try_get_u16().ok()?;
    let length = usize::from(body.try_get_u16().ok()?);
    let value = take(body, length)?;
    Some(Tlv { kind, value })
}
