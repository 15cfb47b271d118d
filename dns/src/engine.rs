//! From the octets of a query to its reply. No socket, no clock.

use std::net::IpAddr;
use std::sync::Arc;

use arc_swap::ArcSwap;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, RecordType};
use rand::Rng;

use crate::count;
use crate::lookup::{self, Steered, Steering};
use crate::reply::{self, Frame, Reply, Transport};
use crate::subnet::Locate;
use crate::tables::Tables;
use crate::wire::{self, Edns, Malformed, Parsed, Query, Refusal};

/// Answers queries from the tables of the newest snapshot. Readers load a pointer and never wait.
#[derive(Debug)]
pub struct Engine {
    tables: ArcSwap<Tables>,
}

impl Engine {
    /// An engine with its first tables.
    #[must_use]
    pub fn new(tables: Tables) -> Self {
        Self {
            tables: ArcSwap::from_pointee(tables),
        }
    }

    /// Swaps in the next tables. A query under way ends with the tables that it began with.
    pub fn publish(&self, tables: Tables) {
        self.tables.store(Arc::new(tables));
    }

    /// The current tables.
    #[must_use]
    pub fn tables(&self) -> Arc<Tables> {
        self.tables.load_full()
    }

    /// Answers one message. `None`: no reply is due (not a query, or too short to be answered). `client` is the
    /// sender's address; `rng` is asked only where a chain has `weighted`.
    pub fn answer<R: Rng>(
        &self,
        query: &[u8],
        client: IpAddr,
        transport: Transport,
        rng: &mut R,
    ) -> Option<Reply> {
        let (reply, rtype) = match wire::parse(query) {
            Parsed::Drop(why) => {
                count::malformed(why);
                return None;
            }
            Parsed::Refuse(head, question, edns, why) => {
                let frame = Frame {
                    head,
                    question: question.as_ref(),
                    edns: opt(edns),
                    limit: u16::MAX,
                };
                (
                    Reply::bare(&frame, refusal(why)),
                    question.map_or(0, |question| question.rtype),
                )
            }
            Parsed::Query(query) => {
                let tables = self.tables.load();
                (
                    answer(&tables, &query, client, transport, rng),
                    query.question.rtype,
                )
            }
        };
        count::answered(RecordType::from(rtype), &reply, transport);
        Some(reply)
    }
}

/// The OPT record of a refusal: no client subnet in it.
fn opt(edns: Option<Edns>) -> Option<(bool, Option<Vec<u8>>)> {
    edns.map(|edns| (edns.dnssec_ok, None))
}

fn refusal(why: Refusal) -> ResponseCode {
    match why {
        Refusal::Malformed(why) => {
            count::malformed(why);
            ResponseCode::FormErr
        }
        Refusal::Opcode => ResponseCode::NotImp,
        Refusal::Version => ResponseCode::BADVERS,
    }
}

fn answer<R: Rng>(
    tables: &Tables,
    query: &Query,
    sender: IpAddr,
    transport: Transport,
    rng: &mut R,
) -> Reply {
    let edns = query.edns;
    let subnet = edns.and_then(|edns| edns.subnet);
    // RFC 7871 §7.2.1: the subnet stands in for the sender. A dual-stack socket shows IPv4 senders as mapped.
    let client = subnet.map_or(Locate::By(sender.to_canonical()), |subnet| subnet.locate());
    let mut chooser = Chooser {
        tables,
        client,
        rng,
        scope: None,
    };
    let answer = match unserved(query) {
        Some(rcode) => Err(rcode),
        None => {
            let rtype = RecordType::from(query.question.rtype);
            Ok(lookup::answer(
                &tables.zones,
                &query.question.name,
                rtype,
                &mut chooser,
            ))
        }
    };
    // RFC 7871 §7.2.1 and §7.4: unsteered and negative answers hold for everybody, scope 0. The scope comes from
    // the address as it was sent, so bits that we were not told play no part; where it is longer than SOURCE
    // PREFIX-LENGTH, it tells the resolver which prefix would have decided (§7.2.1 allows that).
    let option = subnet.map(|subnet| subnet.write(chooser.scope.unwrap_or(0)));
    let frame = Frame {
        head: query.head,
        question: Some(&query.question),
        edns: edns.map(|edns| (edns.dnssec_ok, option)),
        limit: reply::limit(transport, edns.map(|edns| edns.payload)),
    };
    match answer {
        Ok(answer) => Reply::full(&frame, answer),
        Err(rcode) => Reply::bare(&frame, rcode),
    }
}

/// Questions that no zone data can answer.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open list of types; all others are looked up"
)]
fn unserved(query: &Query) -> Option<ResponseCode> {
    // Gap: CHAOS id.server and version.bind are refused.
    if query.question.class != u16::from(DNSClass::IN) {
        return Some(ResponseCode::Refused);
    }
    match RecordType::from(query.question.rtype) {
        // Gap: RFC 5936, RFC 1995: zones are not transferred.
        RecordType::AXFR | RecordType::IXFR => Some(ResponseCode::Refused),
        // RFC 6891 §6.1.1: OPT is no data that could be asked for.
        RecordType::OPT => Some(ResponseCode::FormErr),
        // RFC 8945, RFC 2930: TSIG and TKEY are no data either. Gap: signed queries are answered unsigned.
        RecordType::TSIG | RecordType::Unknown(249) => Some(ResponseCode::NotImp),
        // RFC 1035 §3.2.3: MAILB, MAILA
        RecordType::Unknown(253 | 254) => Some(ResponseCode::NotImp),
        _ => None,
    }
}

/// Picks for one query, and keeps the scope of what it picked.
struct Chooser<'t, R: Rng> {
    tables: &'t Tables,
    client: Locate,
    rng: &'t mut R,
    /// Absent as long as the answer holds for everybody.
    scope: Option<u8>,
}

impl<R: Rng> Steering for Chooser<'_, R> {
    fn pick(&mut self, key: &[u8], rtype: RecordType) -> Option<Steered> {
        let (steered, scope) = self.tables.pick(key, rtype, self.client, self.rng)?;
        // Two steered sets in one reply (a CNAME between them): the longer scope holds for both.
        self.scope = self.scope.max(scope);
        Some(steered)
    }
}

#[cfg(test)]
#[path = "engine_tests.rs"]
mod tests;

/// For the counter's label; the text of the cause.
impl Malformed {
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Short => "short",
            Self::Response => "response",
            Self::QuestionCount => "question-count",
            Self::Question => "question",
            Self::Record => "record",
            Self::Trailing => "trailing",
            Self::Opt => "opt",
            Self::Option => "option",
            Self::Subnet => "subnet",
        }
    }
}
