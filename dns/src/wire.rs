//! What a query says, read once from its octets. RFC 1035 §4.1, RFC 6891 §6.1, RFC 7871 §6.
//!
//! The reader is strict where leniency would hide a fault (counts, lengths, trailing octets) and never follows
//! a compression pointer forward, so that it ends after at most one pass over the message.

mod skim;

use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::{BinDecodable, BinDecoder};

pub(crate) use self::skim::{Skimmed, skim};
use crate::cookie::Cookie;
use crate::subnet::{InvalidSubnet, Subnet};

/// RFC 1035 §4.1.1: the header is always this long.
pub(crate) const HEADER: usize = 12;
/// RFC 1035 §3.1: octets of a name.
pub(crate) const LONGEST_NAME: usize = 255;
/// RFC 6891 §6.1.1
pub(crate) const OPT: u16 = 41;
/// RFC 5001 §2.3
pub(crate) const NSID: u16 = 3;
/// RFC 7871 §6
pub(crate) const CLIENT_SUBNET: u16 = 8;
/// RFC 7873 §4
pub(crate) const COOKIE: u16 = 10;
/// RFC 7828 §3.1
pub(crate) const KEEPALIVE: u16 = 11;
/// RFC 7830 §3
pub(crate) const PADDING: u16 = 12;
/// RFC 8914 §2
pub(crate) const EXTENDED_ERROR: u16 = 15;

/// What became of the octets of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Parsed {
    /// A question that can be answered.
    Query(Query),
    /// No question, but a client cookie: asks for a server cookie alone (RFC 7873 §5.4).
    CookieAlone(Head, Edns),
    /// Not a query, or too short to be answered. No reply, so that two servers cannot be made to talk to each other.
    Drop(Malformed),
    /// To be refused; the reply carries what could be read.
    Refuse(Head, Option<Question>, Option<Edns>, Refusal),
}

impl Parsed {
    /// What no message over QUIC may have: RFC 9250 §4.2.1 and §5.5.2. The whole connection is closed for it.
    pub(crate) fn breaks_quic(&self) -> Option<Malformed> {
        let (head, edns) = match self {
            Self::Drop(_) => return None,
            Self::Query(Query { head, edns, .. }) | Self::Refuse(head, _, edns, _) => (head, edns.as_ref()),
            Self::CookieAlone(head, edns) => (head, Some(edns)),
        };
        if head.id != 0 {
            return Some(Malformed::Id);
        }
        edns.filter(|edns| edns.options.keepalive)
            .map(|_| Malformed::Keepalive)
    }
}

/// Why a message is refused before its question is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// FORMERR
    Malformed(Malformed),
    /// NOTIMP: an opcode other than QUERY.
    Opcode,
    /// BADVERS: an EDNS version above 0 (RFC 6891 §6.1.3).
    Version,
}

/// What is wrong with a message. The text labels a metric, so the set is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub(crate) enum Malformed {
    #[error("shorter than a header")]
    Short,
    #[error("a response, not a query")]
    Response,
    #[error("not exactly one question")]
    QuestionCount,
    #[error("bad question")]
    Question,
    #[error("bad record")]
    Record,
    #[error("octets after the last record")]
    Trailing,
    #[error("misplaced or second OPT record")]
    Opt,
    #[error("bad EDNS option")]
    Option,
    #[error("bad client subnet option")]
    Subnet,
    #[error("bad cookie option")]
    Cookie,
    #[error("message id that is not 0, over QUIC")]
    Id,
    #[error("edns-tcp-keepalive, over QUIC")]
    Keepalive,
}

/// The part of the header that a reply repeats.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Head {
    pub(crate) id: u16,
    pub(crate) opcode: u8,
    pub(crate) recursion_desired: bool,
    pub(crate) checking_disabled: bool,
}

/// The one question of a query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Question {
    /// In the case in which it was asked (RFC 4343 §4.1).
    pub(crate) name: Name,
    /// The same name as look-ups want it, see [`key`].
    pub(crate) key: Box<[u8]>,
    pub(crate) rtype: u16,
    pub(crate) class: u16,
}

/// What the OPT record of a query says (RFC 6891 §6.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Edns {
    /// The largest UDP payload that the sender takes, in octets.
    pub(crate) payload: u16,
    pub(crate) version: u8,
    pub(crate) dnssec_ok: bool,
    /// None at all where one of them is at fault.
    pub(crate) options: Options,
}

/// The options that we know. The first of a kind counts, and all others are ignored (RFC 6891 §6.1.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Options {
    pub(crate) subnet: Option<Subnet>,
    pub(crate) cookie: Option<Cookie>,
    /// NSID is asked for.
    pub(crate) nsid: bool,
    /// edns-tcp-keepalive was sent.
    pub(crate) keepalive: bool,
    /// The query is padded.
    pub(crate) padding: bool,
}

/// A question that can be answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Query {
    pub(crate) head: Head,
    pub(crate) question: Question,
    pub(crate) edns: Option<Edns>,
}

/// Reads one message.
pub(crate) fn parse(message: &[u8]) -> Parsed {
    let Some(Header {
        head,
        response,
        counts,
    }) = Header::read(message)
    else {
        return Parsed::Drop(Malformed::Short);
    };
    if response {
        return Parsed::Drop(Malformed::Response);
    }
    let mut reader = Reader { message, at: HEADER };
    let question = (counts[0] == 1).then(|| reader.question()).flatten();
    let mut edns = None;
    if head.opcode != 0 {
        // Other opcodes give the sections another meaning: what can be read of them only tells whether an OPT
        // record is due (RFC 6891 §7).
        let _ = reader.records(&counts, &mut edns);
        return Parsed::Refuse(head, question, edns, Refusal::Opcode);
    }
    let refuse = |question, edns, what| Parsed::Refuse(head, question, edns, Refusal::Malformed(what));
    if counts[0] == 0 {
        return match (reader.records(&counts, &mut edns), edns) {
            (Ok(()), Some(edns)) if edns.version > 0 => {
                Parsed::Refuse(head, None, Some(edns), Refusal::Version)
            }
            (Ok(()), Some(edns)) if edns.options.cookie.is_some() => Parsed::CookieAlone(head, edns),
            (Ok(()), edns) => refuse(None, edns, Malformed::QuestionCount),
            (Err(what), edns) => refuse(None, edns, what),
        };
    }
    // RFC 9619 §4: a query has exactly one question.
    if counts[0] != 1 {
        return refuse(None, None, Malformed::QuestionCount);
    }
    let Some(question) = question else {
        return refuse(None, None, Malformed::Question);
    };
    let result = reader.records(&counts, &mut edns);
    match (result, edns) {
        (Err(what), edns) => refuse(Some(question), edns, what),
        (Ok(()), Some(edns)) if edns.version > 0 => {
            Parsed::Refuse(head, Some(question), Some(edns), Refusal::Version)
        }
        (Ok(()), edns) => Parsed::Query(Query { head, question, edns }),
    }
}

struct Header {
    head: Head,
    response: bool,
    counts: [u16; 4],
}

impl Header {
    fn read(message: &[u8]) -> Option<Self> {
        let (header, _) = message.split_first_chunk::<HEADER>()?;
        let [id0, id1, flags0, flags1, counts @ ..] = *header;
        let [qd0, qd1, an0, an1, ns0, ns1, ar0, ar1] = counts;
        let counts = [[qd0, qd1], [an0, an1], [ns0, ns1], [ar0, ar1]].map(u16::from_be_bytes);
        let head = Head {
            id: u16::from_be_bytes([id0, id1]),
            opcode: (flags0 >> 3) & 0xf,
            recursion_desired: flags0 & 1 != 0,
            checking_disabled: flags1 & 0x10 != 0,
        };
        Some(Self {
            head,
            response: flags0 & 0x80 != 0,
            counts,
        })
    }
}

struct Reader<'m> {
    message: &'m [u8],
    at: usize,
}

impl<'m> Reader<'m> {
    fn take(&mut self, count: usize) -> Option<&'m [u8]> {
        let end = self.at.checked_add(count)?;
        let taken = self.message.get(self.at..end)?;
        self.at = end;
        Some(taken)
    }

    fn u16(&mut self) -> Option<u16> {
        let octets = self.take(2)?;
        Some(u16::from_be_bytes([*octets.first()?, *octets.get(1)?]))
    }

    fn question(&mut self) -> Option<Question> {
        let (octets, rtype, class) = self.question_octets()?;
        Some(Question {
            name: name_of(octets)?,
            key: octets.to_ascii_lowercase().into(),
            rtype,
            class,
        })
    }

    /// Name, type and class. Nothing can stand before the name, so a compression pointer in it has no sense.
    fn question_octets(&mut self) -> Option<(&'m [u8], u16, u16)> {
        let start = self.at;
        loop {
            match *self.take(1)?.first()? {
                0 => break,
                length @ 1..=63 => self.take(usize::from(length))?,
                64.. => return None,
            };
        }
        let octets = self.message.get(start..self.at)?;
        Some((octets, self.u16()?, self.u16()?))
    }

    /// Steps over a name that may end in a pointer. `Some(true)`: it is the root. What a pointer leads to is not
    /// looked at, for nobody asks what the name is.
    fn skip_name(&mut self) -> Option<bool> {
        let start = self.at;
        loop {
            let here = self.at;
            if here - start >= LONGEST_NAME {
                return None;
            }
            match *self.take(1)?.first()? {
                0 => return Some(here == start),
                length @ 1..=63 => {
                    self.take(usize::from(length))?;
                }
                high @ 192.. => {
                    let low = *self.take(1)?.first()?;
                    let target = usize::from(u16::from_be_bytes([high & 0x3f, low]));
                    // RFC 1035 §4.1.4: a pointer points to a prior occurrence.
                    return (HEADER..here).contains(&target).then_some(false);
                }
                64..192 => return None,
            }
        }
    }

    /// Everything behind the question. Only the OPT record is looked at.
    fn records(&mut self, counts: &[u16; 4], edns: &mut Option<Edns>) -> Result<(), Malformed> {
        let [_, answers, authorities, additionals] = counts.map(u32::from);
        let before_additional = answers + authorities;
        for index in 0..before_additional + additionals {
            let is_root = self.skip_name().ok_or(Malformed::Record)?;
            let rtype = self.u16().ok_or(Malformed::Record)?;
            let payload = self.u16().ok_or(Malformed::Record)?;
            let ttl = self.take(4).ok_or(Malformed::Record)?;
            let length = self.u16().ok_or(Malformed::Record)?;
            let data = self.take(usize::from(length)).ok_or(Malformed::Record)?;
            if rtype != OPT {
                continue;
            }
            // RFC 6891 §6.1.1: at most one, in the additional section; §6.1.2: its owner is the root.
            if !is_root || index < before_additional || edns.is_some() {
                return Err(Malformed::Opt);
            }
            let &[_, version, flags, _] = ttl else {
                return Err(Malformed::Record);
            };
            let parsed = edns.insert(Edns {
                payload,
                version,
                dnssec_ok: flags & 0x80 != 0,
                options: Options::default(),
            });
            // RFC 6891 §6.1.3: what a higher version puts there is not ours to judge.
            if version == 0 {
                parsed.options = Options::read(data)?;
            }
        }
        if self.at == self.message.len() {
            Ok(())
        } else {
            Err(Malformed::Trailing)
        }
    }
}

impl Options {
    fn read(data: &[u8]) -> Result<Self, Malformed> {
        let mut reader = Reader { message: data, at: 0 };
        let mut options = Self::default();
        while reader.at < data.len() {
            let code = reader.u16().ok_or(Malformed::Option)?;
            let length = reader.u16().ok_or(Malformed::Option)?;
            let value = reader.take(usize::from(length)).ok_or(Malformed::Option)?;
            match code {
                CLIENT_SUBNET if options.subnet.is_none() => {
                    let subnet = Subnet::read(value).map_err(|_: InvalidSubnet| Malformed::Subnet)?;
                    options.subnet = Some(subnet);
                }
                COOKIE if options.cookie.is_none() => {
                    options.cookie = Some(Cookie::read(value).ok_or(Malformed::Cookie)?);
                }
                NSID => options.nsid = true,
                KEEPALIVE => options.keepalive = true,
                PADDING => options.padding = true,
                _ => {}
            }
        }
        Ok(options)
    }
}

/// Appends an option of an OPT record, RFC 6891 §6.1.2. `value` writes at most some hundred octets.
pub(crate) fn push_option(options: &mut Vec<u8>, code: u16, value: impl FnOnce(&mut Vec<u8>)) {
    options.extend(code.to_be_bytes());
    let at = options.len();
    options.extend([0; 2]);
    value(options);
    let length = u16::try_from(options.len() - at - 2).unwrap_or(u16::MAX);
    if let Some(place) = options.get_mut(at..at + 2) {
        place.copy_from_slice(&length.to_be_bytes());
    }
}

/// A name from its uncompressed octets. `None` above 255 octets.
pub(crate) fn name_of(octets: &[u8]) -> Option<Name> {
    Name::read(&mut BinDecoder::new(octets)).ok()
}

/// A name as look-ups want it: uncompressed octets in lower case. Every ancestor is a tail of it, see [`parent`].
pub(crate) fn key(name: &Name) -> Box<[u8]> {
    let mut octets = Vec::with_capacity(name.len() + 1);
    for label in name {
        octets.push(label.len() as u8); // a label has at most 63 octets
        octets.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    octets.push(0);
    octets.into()
}

/// The name above, without allocation; `None` above the root.
pub(crate) fn parent(key: &[u8]) -> Option<&[u8]> {
    let length = usize::from(*key.first()?);
    if length == 0 { None } else { key.get(1 + length..) }
}

/// The name itself and all above it, longest first.
pub(crate) fn upwards(key: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(key), |key| parent(key))
}

#[cfg(test)]
mod tests;
