//! Counters. Every label comes from a closed list, so that no query can make new series.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use metrics::{Counter, Histogram, counter, gauge, histogram};

use crate::reply::{Reply, Transport};
use crate::rrl::Judgement;
use crate::server::End;
use crate::wire::Malformed;

/// A reply is on its way.
pub(crate) fn answered(rtype: RecordType, reply: &Reply, transport: Transport) {
    answers(type_label(rtype), rcode_label(reply.rcode()), transport).increment(1);
    if reply.is_truncated() {
        counter!("steer_dns_truncated_total", "transport" => transport.name()).increment(1);
    }
}

fn answers(rtype: &'static str, rcode: &'static str, transport: Transport) -> Counter {
    counter!("steer_dns_queries_total", "type" => rtype, "rcode" => rcode, "transport" => transport.name())
}

/// The counters of a thread that answers datagrams, so that none has to be looked up for each of them.
pub(crate) struct Tally {
    /// By the labels of type and code. As many as there are labels, and in practice a few.
    answers: Vec<(&'static str, &'static str, Counter)>,
    handling: Histogram,
}

impl Tally {
    /// Counts what is counted by then: the recorder must be there already.
    pub(crate) fn new() -> Self {
        Self {
            answers: Vec::new(),
            handling: histogram!("steer_dns_handling_seconds"),
        }
    }

    /// See [`answered`].
    pub(crate) fn answered(&mut self, rtype: RecordType, rcode: ResponseCode) {
        let (rtype, rcode) = (type_label(rtype), rcode_label(rcode));
        let is_it = |(t, c, _): &&(&'static str, &'static str, Counter)| {
            std::ptr::eq(*t, rtype) && std::ptr::eq(*c, rcode)
        };
        if let Some((_, _, counter)) = self.answers.iter().find(is_it) {
            return counter.increment(1);
        }
        let counter = answers(rtype, rcode, Transport::Udp);
        counter.increment(1);
        self.answers.push((rtype, rcode, counter));
    }

    /// See [`took`].
    pub(crate) fn took(&self, time: Duration) {
        self.handling.record(time.as_secs_f64());
    }
}

/// A message broke the format. Told in the log once per cause and process; the counter tells how often.
pub(crate) fn malformed(why: Malformed) {
    static TOLD: AtomicU64 = AtomicU64::new(0);
    counter!("steer_dns_malformed_total", "cause" => why.label()).increment(1);
    let bit = 1_u64 << (why as u64);
    if TOLD.fetch_or(bit, Ordering::Relaxed) & bit == 0 {
        tracing::info!(cause = %why, "malformed DNS message; further ones of this cause are only counted");
    }
}

/// A query was handled.
pub(crate) fn took(time: Duration) {
    histogram!("steer_dns_handling_seconds").record(time.as_secs_f64());
}

/// Replies could not be given to the transport.
pub(crate) fn unsent(replies: usize) {
    counter!("steer_dns_unsent_total").increment(replies as u64);
}

/// What is dropped before the engine sees it. A label, so the set is closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dropped {
    /// A datagram from port 0.
    PortZero,
    /// A datagram longer than any query.
    Long,
    /// The kernel told an error in place of a datagram.
    Receive,
    /// The kernel told an error in place of a connection.
    Accept,
    /// A connection beyond the number in all.
    Connections,
    /// A connection beyond the number of one client network.
    ConnectionsOfClient,
    /// A connection whose TLS handshake failed or took too long.
    Handshake,
    /// A QUIC connection whose client must show first that its address is its own.
    Unvalidated,
}

impl Dropped {
    fn label(self) -> &'static str {
        match self {
            Self::PortZero => "port-zero",
            Self::Long => "long",
            Self::Receive => "receive",
            Self::Accept => "accept",
            Self::Connections => "connections",
            Self::ConnectionsOfClient => "connections-of-client",
            Self::Handshake => "handshake",
            Self::Unvalidated => "unvalidated",
        }
    }
}

/// A datagram or a connection was dropped.
pub(crate) fn dropped(why: Dropped) {
    counter!("steer_dns_dropped_total", "cause" => why.label()).increment(1);
}

/// A reply was beyond its network's budget.
pub(crate) fn limited(judgement: Judgement, is_log_only: bool) {
    let action = match (judgement, is_log_only) {
        (Judgement::Send, _) => return,
        (Judgement::Slip | Judgement::Hold, true) => "logged",
        (Judgement::Slip, false) => "slipped",
        (Judgement::Hold, false) => "held",
    };
    counter!("steer_dns_rate_limited_total", "action" => action).increment(1);
}

/// Counts a connection as open while it lives.
pub(crate) struct Open(Transport);

impl Open {
    pub(crate) fn new(transport: Transport) -> Self {
        gauge!("steer_dns_connections", "transport" => transport.name()).increment(1.0);
        Self(transport)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        gauge!("steer_dns_connections", "transport" => self.0.name()).decrement(1.0);
    }
}

/// A connection ended.
pub(crate) fn closed(transport: Transport, end: End) {
    let end = match end {
        End::Client => "client",
        End::Idle => "idle",
        End::Slow => "slow",
        End::Nonsense => "nonsense",
        End::Error => "error",
        End::Shutdown => "shutdown",
    };
    counter!("steer_dns_closed_total", "transport" => transport.name(), "end" => end).increment(1);
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open list of types; the rest shares a label"
)]
fn type_label(rtype: RecordType) -> &'static str {
    match rtype {
        RecordType::A => "A",
        RecordType::AAAA => "AAAA",
        RecordType::ANY => "ANY",
        RecordType::AXFR => "AXFR",
        RecordType::CAA => "CAA",
        RecordType::CNAME => "CNAME",
        RecordType::DS => "DS",
        RecordType::DNSKEY => "DNSKEY",
        RecordType::HTTPS => "HTTPS",
        RecordType::MX => "MX",
        RecordType::NS => "NS",
        RecordType::PTR => "PTR",
        RecordType::SOA => "SOA",
        RecordType::SRV => "SRV",
        RecordType::SVCB => "SVCB",
        RecordType::TXT => "TXT",
        _ => "other",
    }
}

#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open list of codes; the rest shares a label"
)]
pub(crate) fn rcode_label(rcode: ResponseCode) -> &'static str {
    match rcode {
        ResponseCode::NoError => "NOERROR",
        ResponseCode::FormErr => "FORMERR",
        ResponseCode::ServFail => "SERVFAIL",
        ResponseCode::NXDomain => "NXDOMAIN",
        ResponseCode::NotImp => "NOTIMP",
        ResponseCode::Refused => "REFUSED",
        ResponseCode::YXDomain => "YXDOMAIN",
        ResponseCode::BADVERS => "BADVERS",
        ResponseCode::BADCOOKIE => "BADCOOKIE",
        _ => "other",
    }
}
