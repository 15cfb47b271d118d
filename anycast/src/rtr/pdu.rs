//! The codec of RTR PDUs (RFC 8210 §5; RFC 6810 §5 for version 0).

use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use serde::Serialize;
use steer_topology::Prefix;

/// RFC 8210 §5.1: version, type, a field of two octets, length.
const HEADER: usize = 8;

/// The longest PDU that is taken: an Error Report with the longest PDU and a text, or a Router Key.
const MAX_LENGTH: usize = 64 * 1024;

/// Octets of an erroneous PDU that go back with an Error Report.
const MAX_QUOTED: usize = 128;

/// Version of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[expect(missing_docs, reason = "the names are the numbers")]
pub enum Version {
    V0 = 0,
    V1 = 1,
}

/// RFC 8210 §12.
pub mod code {
    #![expect(missing_docs, reason = "the names are the RFC's")]
    pub const CORRUPT_DATA: u16 = 0;
    pub const NO_DATA: u16 = 2;
    pub const UNSUPPORTED_VERSION: u16 = 4;
    pub const UNSUPPORTED_PDU: u16 = 5;
    pub const UNKNOWN_WITHDRAWAL: u16 = 6;
    pub const DUPLICATE: u16 = 7;
    pub const UNEXPECTED_VERSION: u16 = 8;
}

/// A validated ROA payload: who may announce what.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Vrp {
    /// The prefix and all inside it.
    pub prefix: Prefix,
    /// Down to this length.
    pub max_length: u8,
    /// The AS; 0: nobody (RFC 6483 §4).
    pub asn: u32,
}

impl fmt::Display for Vrp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            prefix,
            max_length,
            asn,
        } = self;
        write!(f, "{prefix} up to /{max_length} by AS{asn}")
    }
}

/// A PDU.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pdu {
    /// Type 0: there is news.
    SerialNotify {
        /// Of the cache's session.
        session: u16,
        /// Newest serial.
        serial: u32,
    },
    /// Type 1: what has changed since?
    SerialQuery {
        /// Of the cache's session.
        session: u16,
        /// What we have.
        serial: u32,
    },
    /// Type 2: everything, please.
    ResetQuery,
    /// Type 3: here it comes.
    CacheResponse {
        /// Of the cache's session.
        session: u16,
    },
    /// Types 4 and 6.
    Prefix {
        /// New; false: gone.
        announce: bool,
        /// What.
        vrp: Vrp,
    },
    /// Type 7: that was all.
    EndOfData {
        /// Of the cache's session.
        session: u16,
        /// What we have now.
        serial: u32,
        /// When to ask again, and how long this is good; not in version 0.
        timing: Option<Timing>,
    },
    /// Type 8: the cache does not know what has changed; ask for everything.
    CacheReset,
    /// Type 9: of BGPsec; not looked into.
    RouterKey,
    /// Type 10
    ErrorReport {
        /// Why.
        code: u16,
        /// The PDU in question; may be empty.
        quoted: Bytes,
        /// For people.
        text: String,
    },
}

impl Pdu {
    /// As the RFC writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::SerialNotify { .. } => "Serial Notify",
            Self::SerialQuery { .. } => "Serial Query",
            Self::ResetQuery => "Reset Query",
            Self::CacheResponse { .. } => "Cache Response",
            Self::Prefix { .. } => "a prefix",
            Self::EndOfData { .. } => "End of Data",
            Self::CacheReset => "Cache Reset",
            Self::RouterKey => "Router Key",
            Self::ErrorReport { .. } => "Error Report",
        }
    }
}

/// RFC 8210 §6.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Timing {
    /// Ask again after this.
    pub refresh: Duration,
    /// And after this where that failed.
    pub retry: Duration,
    /// What was heard is worth nothing after this.
    pub expire: Duration,
}

impl Timing {
    /// RFC 8210 §6: for a cache that says nothing.
    pub const DEFAULT: Self = Self {
        refresh: Duration::from_secs(3_600),
        retry: Duration::from_secs(600),
        expire: Duration::from_secs(7_200),
    };

    /// RFC 8210 §6: within the bounds, whatever the cache says, and the data never expires before it is asked for.
    pub(super) fn bounded(self) -> Self {
        let within = |time: Duration, low: u64, high: u64| {
            time.clamp(Duration::from_secs(low), Duration::from_secs(high))
        };
        let refresh = within(self.refresh, 1, 86_400);
        let retry = within(self.retry, 1, 7_200);
        let expire = within(self.expire, 600, 172_800);
        Self {
            refresh,
            retry,
            expire: expire
                .max(refresh + Duration::from_secs(1))
                .max(retry + Duration::from_secs(1)),
        }
    }
}

/// The cache broke the protocol: what to report, and a line for the log.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text}")]
pub struct Malformed {
    /// RFC 8210 §12; `None`: it was an Error Report itself, which is never answered with another (§5.11).
    pub code: Option<u16>,
    /// What was wrong, with the value.
    pub text: String,
    /// The PDU in question, as far as it is sent back.
    pub quoted: Bytes,
}

/// A PDU on the wire.
#[must_use]
pub fn encode(pdu: &Pdu, version: Version) -> Bytes {
    let mut out = BytesMut::with_capacity(32);
    let (kind, field) = match pdu {
        Pdu::SerialNotify { session, .. } => (0, *session),
        Pdu::SerialQuery { session, .. } => (1, *session),
        Pdu::ResetQuery => (2, 0),
        Pdu::CacheResponse { session } => (3, *session),
        Pdu::Prefix { vrp, .. } if vrp.prefix.is_ipv4() => (4, 0),
        Pdu::Prefix { .. } => (6, 0),
        Pdu::EndOfData { session, .. } => (7, *session),
        Pdu::CacheReset => (8, 0),
        Pdu::RouterKey => (9, 0),
        Pdu::ErrorReport { code, .. } => (10, *code),
    };
    out.put_slice(&[version as u8, kind]);
    out.put_u16(field);
    out.put_u32(0);
    match pdu {
        Pdu::SerialNotify { serial, .. } | Pdu::SerialQuery { serial, .. } => out.put_u32(*serial),
        Pdu::Prefix { announce, vrp } => {
            out.put_slice(&[u8::from(*announce), vrp.prefix.length(), vrp.max_length, 0]);
            match vrp.prefix.address() {
                std::net::IpAddr::V4(address) => out.put_u32(address.to_bits()),
                std::net::IpAddr::V6(address) => out.put_u128(address.to_bits()),
            }
            out.put_u32(vrp.asn);
        }
        Pdu::EndOfData { serial, timing, .. } => {
            out.put_u32(*serial);
            if version == Version::V1 {
                let Timing {
                    refresh,
                    retry,
                    expire,
                } = timing.unwrap_or(Timing::DEFAULT);
                for time in [refresh, retry, expire] {
                    out.put_u32(u32::try_from(time.as_secs()).unwrap_or(u32::MAX));
                }
            }
        }
        Pdu::ErrorReport { quoted, text, .. } => {
            let quoted = &quoted[..quoted.len().min(MAX_QUOTED)];
            for part in [quoted, text.as_bytes()] {
                out.put_u32(u32::try_from(part.len()).unwrap_or(0));
                out.put_slice(part);
            }
        }
        Pdu::ResetQuery | Pdu::CacheResponse { .. } | Pdu::CacheReset | Pdu::RouterKey => {}
    }
    let length = u32::try_from(out.len()).unwrap_or(u32::MAX);
    out[4..8].copy_from_slice(&length.to_be_bytes());
    out.freeze()
}

/// Takes the next whole PDU off `buffer`, with its version; `None` until it is there in full.
pub fn take_pdu(buffer: &mut BytesMut) -> Result<Option<(Version, Pdu)>, Malformed> {
    let Some(&[version, kind, high, low, a, b, c, d]) = buffer.first_chunk::<HEADER>() else {
        return Ok(None);
    };
    let length = usize::try_from(u32::from_be_bytes([a, b, c, d])).unwrap_or(usize::MAX);
    let refuse = |code: u16, text: String| {
        let seen = buffer.len().min(length).min(MAX_QUOTED);
        Malformed {
            code: (kind != 10).then_some(code),
            text,
            quoted: Bytes::copy_from_slice(&buffer[..seen]),
        }
    };
    let version = match version {
        0 => Version::V0,
        1 => Version::V1,
        other => {
            let text = format!("RTR version {other}, want 1 or 0");
            return Err(refuse(code::UNSUPPORTED_VERSION, text));
        }
    };
    if !(HEADER..=MAX_LENGTH).contains(&length) {
        return Err(refuse(code::CORRUPT_DATA, format!("RTR PDU of {length} octets")));
    }
    if buffer.len() < length {
        return Ok(None);
    }
    let known = matches!(kind, 0..=4 | 6..=8 | 10) || (kind == 9 && version == Version::V1);
    if !known {
        let text = format!("RTR PDU type {kind} in version {}", version as u8);
        return Err(refuse(code::UNSUPPORTED_PDU, text));
    }
    let field = u16::from_be_bytes([high, low]);
    let mut body = &buffer[HEADER..length];
    match decode(version, kind, field, &mut body).filter(|_| body.is_empty()) {
        Some(pdu) => {
            buffer.advance(length);
            Ok(Some((version, pdu)))
        }
        None => {
            let text = format!("RTR PDU type {kind} of {length} octets cannot be read");
            Err(refuse(code::CORRUPT_DATA, text))
        }
    }
}

fn decode(version: Version, kind: u8, field: u16, body: &mut &[u8]) -> Option<Pdu> {
    let session = field;
    Some(match kind {
        0 => Pdu::SerialNotify {
            session,
            serial: body.try_get_u32().ok()?,
        },
        1 => Pdu::SerialQuery {
            session,
            serial: body.try_get_u32().ok()?,
        },
        2 => Pdu::ResetQuery,
        3 => Pdu::CacheResponse { session },
        4 => take_prefix(body, |body| Some(Ipv4Addr::from(body.try_get_u32().ok()?).into()))?,
        6 => take_prefix(body, |body| {
            Some(Ipv6Addr::from(body.try_get_u128().ok()?).into())
        })?,
        7 => Pdu::EndOfData {
            session,
            serial: body.try_get_u32().ok()?,
            timing: match version {
                Version::V0 => None,
                Version::V1 => Some(take_timing(body)?),
            },
        },
        8 => Pdu::CacheReset,
        9 => {
            *body = &[];
            Pdu::RouterKey
        }
        10 => {
            let quoted = Bytes::copy_from_slice(take_counted(body)?);
            // RFC 8210 §5.11: the text is UTF-8; it goes to a log, where nothing of a cache may control a terminal.
            let text = String::from_utf8_lossy(take_counted(body)?);
            Pdu::ErrorReport {
                code: field,
                quoted,
                text: text.escape_debug().to_string(),
            }
        }
        _ => return None,
    })
}

/// RFC 8210 §5.6: bits beyond the length are none, and the greatest length is no shorter than the length.
fn take_prefix(
    body: &mut &[u8],
    address: impl FnOnce(&mut &[u8]) -> Option<std::net::IpAddr>,
) -> Option<Pdu> {
    let (flags, length, max_length) = (
        body.try_get_u8().ok()?,
        body.try_get_u8().ok()?,
        body.try_get_u8().ok()?,
    );
    body.try_get_u8().ok()?;
    let address = address(body)?;
    let prefix = Prefix::new(address, length).ok()?;
    let longest = if prefix.is_ipv4() { 32 } else { 128 };
    if !(length..=longest).contains(&max_length) {
        return None;
    }
    let asn = body.try_get_u32().ok()?;
    let vrp = Vrp {
        prefix,
        max_length,
        asn,
    };
    let announce = flags & 1 == 1; // the other bits are reserved
    Some(Pdu::Prefix { announce, vrp })
}

fn take_timing(body: &mut &[u8]) -> Option<Timing> {
    let mut time = || Some(Duration::from_secs(body.try_get_u32().ok()?.into()));
    Some(Timing {
        refresh: time()?,
        retry: time()?,
        expire: time()?,
    })
}

fn take_counted<'a>(body: &mut &'a [u8]) -> Option<&'a [u8]> {
    let length = usize::try_from(body.try_get_u32().ok()?).ok()?;
    let (head, rest) = body.split_at_checked(length)?;
    *body = rest;
    Some(head)
}
