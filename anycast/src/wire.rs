//! The strict codec of BGP messages: what the peer's bytes mean, or the NOTIFICATION that answers them.
//!
//! ```text
//! bytes ─► take_frame ─► decode ─► Message            every refusal is a Malformed: code, subcode, data, text
//!                          └─► update ─► attribute    per attribute: the action of RFC 7606
//! Message ─► encode ─► bytes                          at most 4,096 or 65,535 octets, prefixes masked
//! ```
//!
//! Own code and not a library, because a decoder that guesses is no decoder for a live session.

mod as_path;
mod attribute;
mod capability;
mod notification;
mod open;
mod update;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;

pub use as_path::{Segment, SegmentKind};
pub use attribute::{Action, AttributeFault, Origin, Path};
pub use capability::{Capabilities, LongLived, RestartCapability, encode_families, role_number, role_of};
pub use notification::{Notification, Reason};
pub use open::Open;
pub use update::{
    Context, NextHop, Outbound, Reach, Update, encode_end_of_rib, encode_reach, encode_withdrawal,
};

/// RFC 4271 §4.1: 16 octets of marker, 2 of length, 1 of type.
pub const HEADER_LENGTH: usize = 19;

/// RFC 4271 §4.1: no message is longer, unless RFC 8654 was agreed on.
pub const MAX_LENGTH: usize = 4096;

/// RFC 8654 §4: no message but OPEN and KEEPALIVE is longer where extended messages were agreed on.
pub const EXTENDED_LENGTH: usize = 65_535;

const MARKER: [u8; 16] = [0xff; 16];

/// A decoded message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Message {
    /// RFC 4271 §4.2
    Open(Open),
    /// RFC 4271 §4.3
    Update(Box<Update>),
    /// RFC 4271 §4.5
    Notification(Notification),
    /// RFC 4271 §4.4
    Keepalive,
    /// RFC 2918 §3
    RouteRefresh(RouteRefresh),
}

/// The type octet of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names are the RFC's")]
pub enum Kind {
    Open = 1,
    Update = 2,
    Notification = 3,
    Keepalive = 4,
    RouteRefresh = 5,
}

/// ROUTE-REFRESH (RFC 2918 §3). The octet between AFI and SAFI is a subtype by RFC 7313.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Address family.
    pub afi: u16,
    /// 0 asks for routes; 1 and 2 frame what is sent again (RFC 7313 §3.2).
    pub subtype: u8,
    /// Subsequent address family.
    pub safi: u8,
}

/// What frames the routes of a family that are sent again (RFC 7313 §3.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Demarcation {
    /// BoRR: they follow.
    Begin = 1,
    /// EoRR: they were all.
    End = 2,
}

impl RouteRefresh {
    /// Asks for the routes of a family.
    #[must_use]
    pub fn request(family: Family) -> Self {
        Self::new(family, 0)
    }

    /// Frames the routes of a family.
    #[must_use]
    pub fn demarcation(family: Family, demarcation: Demarcation) -> Self {
        Self::new(family, demarcation as u8)
    }

    fn new(family: Family, subtype: u8) -> Self {
        let (afi, safi) = family.numbers();
        Self { afi, subtype, safi }
    }
}

/// What we carry. All else is decoded no further than to be skipped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Family {
    /// AFI 1, SAFI 1
    Ipv4Unicast,
    /// AFI 2, SAFI 1
    Ipv6Unicast,
}

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Ipv4Unicast, Self::Ipv6Unicast];

    /// The family of a prefix.
    #[must_use]
    pub fn of(prefix: &steer_topology::Prefix) -> Self {
        if prefix.is_ipv4() {
            Self::Ipv4Unicast
        } else {
            Self::Ipv6Unicast
        }
    }

    /// AFI and SAFI.
    #[must_use]
    pub fn numbers(self) -> (u16, u8) {
        match self {
            Self::Ipv4Unicast => (1, 1),
            Self::Ipv6Unicast => (2, 1),
        }
    }

    /// The family of AFI and SAFI, if we carry it.
    #[must_use]
    pub fn from_numbers(afi: u16, safi: u8) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|family| family.numbers() == (afi, safi))
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ipv4Unicast => "ipv4-unicast",
            Self::Ipv6Unicast => "ipv6-unicast",
        })
    }
}

/// A set of families.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Families(u8);

impl Families {
    /// Both.
    pub const ALL: Self = Self(3);

    /// IPv4 unicast alone: what a peer carries that says nothing (RFC 4760 §8).
    pub const IPV4: Self = Self(1);

    /// With one more.
    #[must_use]
    pub fn with(self, family: Family) -> Self {
        Self(self.0 | Self::bit(family))
    }

    /// Whether `family` is in the set.
    #[must_use]
    pub fn contains(self, family: Family) -> bool {
        self.0 & Self::bit(family) != 0
    }

    /// Whether nothing is in it.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }

    /// What is in both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 & other.0)
    }

    /// The members, in order.
    pub fn iter(self) -> impl Iterator<Item = Family> {
        Family::ALL
            .into_iter()
            .filter(move |family| self.contains(*family))
    }

    fn bit(family: Family) -> u8 {
        match family {
            Family::Ipv4Unicast => 1,
            Family::Ipv6Unicast => 2,
        }
    }
}

impl FromIterator<Family> for Families {
    fn from_iter<I: IntoIterator<Item = Family>>(families: I) -> Self {
        families.into_iter().fold(Self::default(), Self::with)
    }
}

impl From<steer_topology::PeerFamilies> for Families {
    fn from(configured: steer_topology::PeerFamilies) -> Self {
        let steer_topology::PeerFamilies { ipv4, ipv6 } = configured;
        Family::ALL
            .into_iter()
            .zip([ipv4, ipv6])
            .filter_map(|(family, offered)| offered.then_some(family))
            .collect()
    }
}

/// The peer broke the protocol: what to send before closing, and a line for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Malformed {
    /// What RFC 4271 §6 wants sent.
    pub notification: Notification,
    /// What was wrong, with the value.
    pub text: String,
}

impl Malformed {
    pub(crate) fn new(reason: Reason, data: &[u8], text: impl Into<String>) -> Self {
        // A NOTIFICATION is a message too: its data must fit beside header, code and subcode.
        let fits = data.len().min(MAX_LENGTH - HEADER_LENGTH - 2);
        Self {
            notification: Notification::new(reason, data[..fits].to_vec()),
            text: text.into(),
        }
    }
}

impl Malformed {
    /// RFC 4486 §4: family and limit are the data.
    #[must_use]
    pub fn too_many_prefixes(family: Family, limit: u32) -> Self {
        let (afi, safi) = family.numbers();
        let mut data = afi.to_be_bytes().to_vec();
        data.push(safi);
        data.extend_from_slice(&limit.to_be_bytes());
        let text = format!("the peer announced more than {limit} {family} prefixes");
        Self::new(Reason::MaximumPrefixes, &data, text)
    }
}

/// One whole message without its header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// The type octet.
    pub kind: Kind,
    /// Everything behind the header.
    pub body: Bytes,
}

/// Takes the next whole message off `buffer`; `None` until it is there in full.
///
/// `limit` is [`MAX_LENGTH`] or, where RFC 8654 was agreed on, [`EXTENDED_LENGTH`]: a longer message is refused by
/// its header alone, so that a buffer that is read from after every fill never waits for more than that.
///
/// A wrong marker is told at its first wrong octet, so that a peer that speaks another protocol is answered
/// before it has sent 19 octets.
pub fn take_frame(buffer: &mut BytesMut, limit: usize) -> Result<Option<Frame>, Malformed> {
    let seen = buffer.len().min(MARKER.len());
    if buffer[..seen] != MARKER[..seen] {
        let start = String::from_utf8_lossy(&buffer[..seen])
            .escape_debug()
            .to_string();
        let text = format!("no BGP marker; the peer sent \"{start}\"");
        return Err(Malformed::new(Reason::ConnectionNotSynchronized, &[], text));
    }
    let Some(&[high, low, kind]) = buffer
        .get(MARKER.len()..)
        .and_then(|rest| rest.first_chunk::<3>())
    else {
        return Ok(None);
    };
    let kind = Kind::from_octet(kind)?;
    let length = u16::from_be_bytes([high, low]);
    if !kind.allows(usize::from(length), limit) {
        let text = format!("{kind:?} message of {length} octets");
        return Err(Malformed::new(Reason::BadMessageLength, &[high, low], text));
    }
    if buffer.len() < usize::from(length) {
        return Ok(None);
    }
    let mut frame = buffer.split_to(usize::from(length));
    frame.advance(HEADER_LENGTH);
    Ok(Some(Frame {
        kind,
        body: frame.freeze(),
    }))
}

impl Kind {
    /// All, in the order of their numbers.
    pub const ALL: [Self; 5] = [
        Self::Open,
        Self::Update,
        Self::Notification,
        Self::Keepalive,
        Self::RouteRefresh,
    ];

    /// The type octet.
    #[must_use]
    pub fn octet(self) -> u8 {
        self as u8
    }

    /// As metrics and status write it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Update => "update",
            Self::Notification => "notification",
            Self::Keepalive => "keepalive",
            Self::RouteRefresh => "route-refresh",
        }
    }

    fn from_octet(octet: u8) -> Result<Self, Malformed> {
        let known = Self::ALL.into_iter().find(|kind| kind.octet() == octet);
        // RFC 4271 §6.1: the data is the type field.
        known.ok_or_else(|| Malformed::new(Reason::BadMessageType, &[octet], format!("message type {octet}")))
    }

    /// RFC 4271 §6.1: lengths that a message of this type can have. RFC 8654 §4: an OPEN is never extended.
    fn allows(self, length: usize, limit: usize) -> bool {
        match self {
            Self::Open => (29..=MAX_LENGTH).contains(&length),
            Self::Update => (23..=limit).contains(&length),
            Self::Notification => (21..=limit).contains(&length),
            Self::Keepalive => length == HEADER_LENGTH,
            // What is wrong with its length depends on what was agreed on: see `decode_refresh`.
            Self::RouteRefresh => (HEADER_LENGTH..=limit).contains(&length),
        }
    }
}

/// Decodes one message. `context` is what the OPENs agreed on.
pub fn decode(frame: &Frame, context: Context) -> Result<Message, Malformed> {
    let mut body = frame.body.as_ref();
    match frame.kind {
        Kind::Open => open::decode(body).map(Message::Open),
        Kind::Update => update::decode(body, context).map(|update| Message::Update(Box::new(update))),
        Kind::Notification => {
            let (code, subcode) = (take_u8(&mut body)?, take_u8(&mut body)?);
            Ok(Message::Notification(Notification {
                code,
                subcode,
                data: body.to_vec(),
            }))
        }
        Kind::Keepalive => Ok(Message::Keepalive),
        Kind::RouteRefresh => decode_refresh(body, context).map(Message::RouteRefresh),
    }
}

/// RFC 2918 §3. Its longer form carries outbound filters (RFC 5291), which we never offer.
fn decode_refresh(body: &[u8], context: Context) -> Result<RouteRefresh, Malformed> {
    let text = || format!("ROUTE-REFRESH with a body of {} octets", body.len());
    match *body {
        [afi_high, afi_low, subtype, safi] => Ok(RouteRefresh {
            afi: u16::from_be_bytes([afi_high, afi_low]),
            subtype,
            safi,
        }),
        // RFC 7313 §5: the data is the whole message.
        [_, _, 1 | 2, ..] if context.enhanced_refresh => {
            let whole = framed(Kind::RouteRefresh, |out| out.put_slice(body));
            Err(Malformed::new(Reason::RefreshLength, &whole, text()))
        }
        _ => {
            let length = u16::try_from(HEADER_LENGTH + body.len()).unwrap_or(u16::MAX);
            Err(Malformed::new(
                Reason::BadMessageLength,
                &length.to_be_bytes(),
                text(),
            ))
        }
    }
}

impl Message {
    /// The type of this message.
    #[must_use]
    pub fn kind(&self) -> Kind {
        match self {
            Self::Open(_) => Kind::Open,
            Self::Update(_) => Kind::Update,
            Self::Notification(_) => Kind::Notification,
            Self::Keepalive => Kind::Keepalive,
            Self::RouteRefresh(_) => Kind::RouteRefresh,
        }
    }
}

/// A KEEPALIVE on the wire.
#[must_use]
pub fn encode_keepalive() -> Bytes {
    framed(Kind::Keepalive, |_| {})
}

/// An OPEN on the wire.
#[must_use]
pub fn encode_open(open: &Open) -> Bytes {
    framed(Kind::Open, |out| open::encode(open, out))
}

/// A NOTIFICATION on the wire; data beyond the longest message is cut.
#[must_use]
pub fn encode_notification(notification: &Notification) -> Bytes {
    framed(Kind::Notification, |out| {
        let fits = notification.data.len().min(MAX_LENGTH - HEADER_LENGTH - 2);
        out.put_u8(notification.code);
        out.put_u8(notification.subcode);
        out.put_slice(&notification.data[..fits]);
    })
}

/// A ROUTE-REFRESH on the wire.
#[must_use]
pub fn encode_route_refresh(refresh: RouteRefresh) -> Bytes {
    framed(Kind::RouteRefresh, |out| {
        out.put_u16(refresh.afi);
        out.put_u8(refresh.subtype);
        out.put_u8(refresh.safi);
    })
}

/// Writes a header, the body, and then the length into the header.
fn framed(kind: Kind, body: impl FnOnce(&mut BytesMut)) -> Bytes {
    let mut out = BytesMut::with_capacity(64);
    out.put_slice(&MARKER);
    out.put_u16(0);
    out.put_u8(kind.octet());
    body(&mut out);
    let length = u16::try_from(out.len()).unwrap_or(u16::MAX); // every body keeps below MAX_LENGTH
    out[16..18].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

/// The body is shorter than its frame promised. The lengths are checked before, so this is a second fence.
fn short() -> Malformed {
    Malformed::new(Reason::BadMessageLength, &[], "message ends early")
}

fn take_u8(body: &mut &[u8]) -> Result<u8, Malformed> {
    body.try_get_u8().map_err(|_| short())
}

fn take_u16(body: &mut &[u8]) -> Result<u16, Malformed> {
    body.try_get_u16().map_err(|_| short())
}

fn take_u32(body: &mut &[u8]) -> Result<u32, Malformed> {
    body.try_get_u32().map_err(|_| short())
}

/// Splits `count` octets off the front, if they are there.
fn take<'a>(body: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (head, rest) = body.split_at_checked(count)?;
    *body = rest;
    Some(head)
}
