//! The reply to one query, cut to what its sender can take.

use std::net::IpAddr;

use hickory_proto::ProtoError;
use hickory_proto::op::{Header, HeaderCounts, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::{DNSClass, Record, RecordType};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder};

use steer_topology::AllDown;

use crate::lookup::Answer;
use crate::rrl::Class;
use crate::wire::{EXTENDED_ERROR, Head, LONGEST_NAME, OPT, PADDING, Question, push_option};

/// The largest UDP payload we send and say that we take, where nothing else is configured (RFC 9715 §3.1: fits
/// every path without fragments).
pub const MAX_UDP_PAYLOAD: u16 = 1232;
/// RFC 1035 §4.2.1
const MIN_UDP_PAYLOAD: u16 = 512;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A stream.
    Tcp,
    /// An encrypted stream, RFC 7858.
    Tls,
    /// A request of HTTP/2, RFC 8484.
    Https,
    /// A stream of QUIC, RFC 9250.
    Quic,
}

impl Transport {
    /// Name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
            Self::Https => "https",
            Self::Quic => "quic",
        }
    }

    /// Whether others see lengths alone.
    pub(crate) fn is_encrypted(self) -> bool {
        match self {
            Self::Udp | Self::Tcp => false,
            Self::Tls | Self::Https | Self::Quic => true,
        }
    }
}

/// The reply to one query.
#[derive(Debug, Clone)]
pub struct Reply {
    pub(crate) metadata: Metadata,
    pub(crate) question: Option<Query>,
    pub(crate) answers: Vec<Record>,
    pub(crate) authorities: Vec<Record>,
    pub(crate) additionals: Vec<Record>,
    pub(crate) edns: Option<Opt>,
    /// The sender has shown a good cookie: it is no forged one.
    pub(crate) is_verified: bool,
}

/// The OPT record of a reply, RFC 6891 §6.1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Opt {
    /// The largest UDP payload that we take.
    pub(crate) payload: u16,
    /// RFC 3225 §3: the bit is copied.
    pub(crate) dnssec_ok: bool,
    /// As they are sent, see [`push_option`].
    pub(crate) options: Vec<u8>,
    /// Whether the message is padded (RFC 7830), so that its length tells less.
    pub(crate) is_padded: bool,
}

impl Opt {
    /// Octets of the record without its options.
    pub(crate) const FIXED: usize = 11;

    fn emit(&self, rcode: ResponseCode, encoder: &mut BinEncoder<'_>) -> Result<(), ProtoError> {
        let flags = u8::from(self.dnssec_ok) << 7;
        let plain = encoder.len() + Self::FIXED + self.options.len();
        let padding = self.is_padded.then(|| padding(plain));
        encoder.emit(0)?; // the root
        encoder.emit_u16(OPT)?;
        encoder.emit_u16(self.payload)?;
        // upper bits of the code, version 0; RFC 6891 §6.1.4: other flags are zero
        encoder.emit_vec(&[rcode.high(), 0, flags, 0])?;
        let length = self.options.len() + padding.map_or(0, |octets| 4 + octets.len());
        encoder.emit_u16(u16::try_from(length).map_err(|_| ProtoError::Message("options too long"))?)?;
        encoder.emit_vec(&self.options)?;
        if let Some(octets) = padding {
            encoder.emit_u16(PADDING)?;
            encoder.emit_u16(u16::try_from(octets.len()).unwrap_or(u16::MAX))?;
            encoder.emit_vec(octets)?;
        }
        Ok(())
    }
}

/// RFC 8467 §4.1: replies are padded to a multiple of 468 octets.
const BLOCK: usize = 468;

/// The octets that fill up a message with so many others, and with the head of the option.
fn padding(plain: usize) -> &'static [u8] {
    static ZEROS: [u8; BLOCK] = [0; BLOCK];
    let over = (plain + 4) % BLOCK;
    let missing = if over == 0 { 0 } else { BLOCK - over };
    // a message that is as long as it may be stays as it is
    let fits = plain + 4 + missing <= usize::from(u16::MAX);
    ZEROS.get(..missing).filter(|_| fits).unwrap_or_default()
}

/// What a reply repeats from its query.
pub(crate) struct Frame<'q> {
    pub(crate) head: Head,
    pub(crate) question: Option<&'q Question>,
    /// Absent where the query had no OPT record.
    pub(crate) edns: Option<Opt>,
    /// Octets the sender takes.
    pub(crate) limit: u16,
}

/// An extended DNS error, RFC 8914: why an answer is what it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ede {
    /// Health has not been seen in full since the start: endpoints count as up until it has.
    Unsettled,
    /// Nobody looks at health any more: what was last known goes on.
    Stale,
    /// Every endpoint is down: `if_all_down` decides.
    AllDown(AllDown),
    /// The client is where the name is not served.
    Geofence,
    /// The name lies in none of our zones.
    NotAuthoritative,
    /// Neither the opcode nor the type is one that we answer.
    NotSupported,
}

impl Ede {
    /// INFO-CODE and EXTRA-TEXT, RFC 8914 §4.
    fn parts(self) -> (u16, &'static str) {
        match self {
            Self::Unsettled => (0, "health is not known yet"),
            // §4.4: data that were true once; nothing else in the registry speaks of health
            Self::Stale => (3, "health is not looked at any more: this is what was last known"),
            Self::AllDown(AllDown::ServeLastGood) => {
                (3, "every endpoint is down: those are served that were last up")
            }
            Self::AllDown(AllDown::ServeAll) => (0, "every endpoint is down: all are served"),
            Self::AllDown(AllDown::Pool(_)) => (0, "every endpoint is down: the fallback pool is served"),
            Self::AllDown(AllDown::Nodata) => (0, "every endpoint is down: no answer is given"),
            Self::AllDown(AllDown::Servfail) => (0, "every endpoint is down"),
            Self::Geofence => (18, "not served to this client's place"),
            Self::NotAuthoritative => (20, ""),
            Self::NotSupported => (21, ""),
        }
    }

    /// Appends the option, RFC 8914 §2.
    pub(crate) fn push(self, options: &mut Vec<u8>) {
        let (code, text) = self.parts();
        push_option(options, EXTENDED_ERROR, |value| {
            value.extend(code.to_be_bytes());
            value.extend(text.bytes());
        });
    }
}

/// RFC 6891 §6.2.3 to §6.2.5: values below 512 count as 512.
pub(crate) fn limit(transport: Transport, payload: Option<u16>, largest: u16) -> u16 {
    match (transport, payload) {
        (Transport::Tcp | Transport::Tls | Transport::Https | Transport::Quic, _) => u16::MAX,
        (Transport::Udp, None) => MIN_UDP_PAYLOAD,
        (Transport::Udp, Some(payload)) => payload.clamp(MIN_UDP_PAYLOAD, largest.max(MIN_UDP_PAYLOAD)),
    }
}

impl Reply {
    /// A reply without records.
    pub(crate) fn bare(frame: Frame<'_>, rcode: ResponseCode) -> Self {
        let mut metadata = Metadata::new(
            frame.head.id,
            MessageType::Response,
            OpCode::from_u8(frame.head.opcode),
        );
        metadata.recursion_desired = frame.head.recursion_desired;
        metadata.checking_disabled = frame.head.checking_disabled;
        metadata.response_code = rcode;
        let question = frame.question.map(|question| {
            let mut query = Query::query(question.name.clone(), RecordType::from(question.rtype));
            query.set_query_class(DNSClass::from(question.class));
            query
        });
        let (answers, authorities, additionals) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            metadata,
            question,
            answers,
            authorities,
            additionals,
            edns: frame.edns,
            is_verified: false,
        }
    }

    /// A reply with records. What does not fit is left out, see [`Reply::fit`].
    pub(crate) fn full(frame: Frame<'_>, answer: Answer) -> Self {
        let limit = frame.limit;
        let mut reply = Self::bare(frame, answer.rcode);
        reply.metadata.authoritative = answer.authoritative;
        reply.answers = answer.answers;
        reply.authorities = answer.authorities;
        reply.additionals = answer.needed_glue;
        reply.fit(answer.glue, limit);
        reply
    }

    /// The octets to send.
    pub fn encode(&self) -> Result<Vec<u8>, ProtoError> {
        let mut octets = Vec::with_capacity(usize::from(MIN_UDP_PAYLOAD));
        self.encode_into(&mut octets)?;
        Ok(octets)
    }

    /// The octets to send, in place of what `octets` held. RFC 1035 §4.1.
    pub fn encode_into(&self, octets: &mut Vec<u8>) -> Result<(), ProtoError> {
        octets.clear();
        let mut encoder = BinEncoder::new(octets);
        let header = Header {
            metadata: self.metadata,
            counts: self.counts(),
        };
        header.emit(&mut encoder)?;
        if let Some(question) = &self.question {
            question.emit(&mut encoder)?;
        }
        let sections = self.answers.iter().chain(&self.authorities);
        for record in sections.chain(&self.additionals) {
            match self.asked_address(record) {
                Some(address) => emit_address(record, address, &mut encoder)?,
                None => record.emit(&mut encoder)?,
            }
        }
        if let Some(edns) = &self.edns {
            edns.emit(self.metadata.response_code, &mut encoder)?;
        }
        Ok(())
    }

    /// The code with its EDNS bits.
    #[must_use]
    pub fn rcode(&self) -> ResponseCode {
        self.metadata.response_code
    }

    /// Whether TC is set.
    #[must_use]
    pub fn is_truncated(&self) -> bool {
        self.metadata.truncation
    }

    pub(crate) fn counts(&self) -> HeaderCounts {
        let count = |length: usize| u16::try_from(length).unwrap_or(u16::MAX);
        HeaderCounts {
            queries: count(self.question.iter().len()),
            answers: count(self.answers.len()),
            authorities: count(self.authorities.len()),
            additionals: count(self.additionals.len() + self.edns.iter().len()),
        }
    }

    /// Glue that only spares a question goes first and silently; anything else that does not fit sets TC
    /// (RFC 2181 §9, RFC 9471 §3), and then the sections are left empty, for nobody may use them.
    fn fit(&mut self, glue: Vec<Record>, limit: u16) {
        let needed = self.additionals.len();
        self.additionals.extend(glue);
        if self.fits(limit) {
            return;
        }
        self.additionals.truncate(needed);
        if self.fits(limit) {
            return;
        }
        self.cut();
    }

    /// Leaves nothing but the question, and says that there is more over TCP.
    pub(crate) fn cut(&mut self) {
        self.answers.clear();
        self.authorities.clear();
        self.additionals.clear();
        self.metadata.truncation = true;
    }

    /// Seconds for which the whole may be kept (RFC 8484 §5.1): the least TTL of the answer, or that of the
    /// negative answer (RFC 2308 §5: the SOA record carries it). An error is not to be kept.
    pub(crate) fn least_ttl(&self) -> u32 {
        let negative = || {
            let soa = self
                .authorities
                .iter()
                .find(|record| record.record_type() == RecordType::SOA);
            soa.map(|record| record.ttl)
        };
        let least = self.answers.iter().map(|record| record.ttl).min();
        least.into_iter().chain(negative()).min().unwrap_or(0)
    }

    /// What it counts as where replies are limited.
    pub(crate) fn class(&self) -> Class {
        if self.metadata.response_code == ResponseCode::NXDomain {
            Class::Nxdomain
        } else if self.metadata.response_code != ResponseCode::NoError {
            Class::Error
        } else if !self.answers.is_empty() || self.metadata.truncation {
            Class::Answer
        } else if self.metadata.authoritative || self.authorities.is_empty() {
            Class::Nodata
        } else {
            Class::Referral
        }
    }

    fn fits(&self, limit: u16) -> bool {
        let limit = usize::from(limit);
        self.at_most().is_some_and(|octets| octets <= limit)
            || self.encode().is_ok_and(|octets| octets.len() <= limit)
    }

    /// The address in a record of the name that was asked for: the usual reply has nothing else.
    fn asked_address(&self, record: &Record) -> Option<IpAddr> {
        let question = self.question.as_ref()?;
        let address = record.data.ip_addr()?;
        (record.name == question.name).then_some(address)
    }

    /// A bound on the length of the usual reply, which spares encoding it twice.
    fn at_most(&self) -> Option<usize> {
        const HEADER: usize = 12;
        /// See [`emit_address`].
        const ADDRESS: usize = 2 + 10 + 16;
        let is_usual = |record: &Record| self.asked_address(record).is_some();
        let others = self.authorities.len() + self.additionals.len();
        let edns = self.edns.as_ref().map_or(0, |opt| Opt::FIXED + opt.options.len());
        (others == 0 && self.answers.iter().all(is_usual))
            .then_some(HEADER + LONGEST_NAME + 4 + self.answers.len() * ADDRESS + edns)
    }
}

/// RFC 1035 §4.1.4: a pointer to octet 12, where the question begins.
pub(crate) const QUESTION: u16 = 0xc00c;

/// An address record whose owner is a pointer to the question's name. The encoder would write the same, but
/// searches for the name, and compresses only so many of them.
fn emit_address(record: &Record, address: IpAddr, encoder: &mut BinEncoder<'_>) -> Result<(), ProtoError> {
    encoder.emit_u16(QUESTION)?;
    record.record_type().emit(encoder)?;
    record.dns_class.emit(encoder)?;
    encoder.emit_u32(record.ttl)?;
    match address {
        IpAddr::V4(address) => {
            encoder.emit_u16(4)?;
            encoder.emit_vec(&address.octets())
        }
        IpAddr::V6(address) => {
            encoder.emit_u16(16)?;
            encoder.emit_vec(&address.octets())
        }
    }
}
