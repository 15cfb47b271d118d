//! The reply to one query, cut to what its sender can take.

use hickory_proto::ProtoError;
use hickory_proto::op::{Edns, HeaderCounts, Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::opt::EdnsOption;
use hickory_proto::rr::{DNSClass, Record, RecordType};

use crate::lookup::Answer;
use crate::wire::{CLIENT_SUBNET, Head, Question};

/// The largest UDP payload we send and say that we take (RFC 9715 §3.1: fits every path without fragments).
pub const MAX_UDP_PAYLOAD: u16 = 1232;
/// RFC 1035 §4.2.1
const MIN_UDP_PAYLOAD: u16 = 512;

/// How a query came.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Transport {
    /// A datagram.
    Udp,
    /// A stream, with or without encryption.
    Tcp,
}

impl Transport {
    /// Name in metrics.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Udp => "udp",
            Self::Tcp => "tcp",
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
    pub(crate) edns: Option<Edns>,
}

/// What a reply repeats from its query.
pub(crate) struct Frame<'q> {
    pub(crate) head: Head,
    pub(crate) question: Option<&'q Question>,
    /// DO bit and client subnet option; absent where the query had no OPT record.
    pub(crate) edns: Option<(bool, Option<Vec<u8>>)>,
    /// Octets the sender takes.
    pub(crate) limit: u16,
}

/// RFC 6891 §6.2.3 to §6.2.5: values below 512 count as 512.
pub(crate) fn limit(transport: Transport, payload: Option<u16>) -> u16 {
    match (transport, payload) {
        (Transport::Tcp, _) => u16::MAX,
        (Transport::Udp, None) => MIN_UDP_PAYLOAD,
        (Transport::Udp, Some(payload)) => payload.clamp(MIN_UDP_PAYLOAD, MAX_UDP_PAYLOAD),
    }
}

impl Reply {
    /// A reply without records.
    pub(crate) fn bare(frame: &Frame<'_>, rcode: ResponseCode) -> Self {
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
        let edns = frame.edns.as_ref().map(|(dnssec_ok, subnet)| {
            let mut edns = Edns::new();
            edns.set_max_payload(MAX_UDP_PAYLOAD);
            edns.set_version(0);
            // RFC 3225 §3: the bit is copied
            edns.set_dnssec_ok(*dnssec_ok);
            if let Some(subnet) = subnet {
                edns.options_mut()
                    .insert(EdnsOption::Unknown(CLIENT_SUBNET, subnet.clone()));
            }
            edns
        });
        let (answers, authorities, additionals) = (Vec::new(), Vec::new(), Vec::new());
        Self {
            metadata,
            question,
            answers,
            authorities,
            additionals,
            edns,
        }
    }

    /// A reply with records. What does not fit is left out, see [`Reply::fit`].
    pub(crate) fn full(frame: &Frame<'_>, answer: Answer) -> Self {
        let mut reply = Self::bare(frame, answer.rcode);
        reply.metadata.authoritative = answer.authoritative;
        reply.answers = answer.answers;
        reply.authorities = answer.authorities;
        reply.additionals = answer.needed_glue;
        reply.fit(answer.glue, frame.limit);
        reply
    }

    /// The octets to send.
    pub fn encode(&self) -> Result<Vec<u8>, ProtoError> {
        let mut message = Message::new(self.metadata.id, MessageType::Response, self.metadata.op_code);
        message.metadata = self.metadata;
        message.queries.extend(self.question.clone());
        message.answers.clone_from(&self.answers);
        message.authorities.clone_from(&self.authorities);
        message.additionals.clone_from(&self.additionals);
        message.edns.clone_from(&self.edns);
        message.to_vec()
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
        self.answers.clear();
        self.authorities.clear();
        self.additionals.clear();
        self.metadata.truncation = true;
    }

    fn fits(&self, limit: u16) -> bool {
        let count = self.answers.len() + self.authorities.len() + self.additionals.len();
        let small = count <= 4 && self.additionals.is_empty() && self.answers.iter().all(is_address);
        // four addresses under one name of at most 255 octets are far below the smallest limit
        (small && self.authorities.is_empty())
            || self
                .encode()
                .is_ok_and(|octets| octets.len() <= usize::from(limit))
    }
}

fn is_address(record: &Record) -> bool {
    matches!(record.record_type(), RecordType::A | RecordType::AAAA)
}
