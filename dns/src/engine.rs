//! From the octets of a query to its reply. No socket, no clock.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwap;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, RecordType};
use rand::Rng;
use steer_topology::CookieUse;

use crate::chaos;
use crate::cookie::{self, Checked};
use crate::count;
use crate::lookup::{self, Answer, Steered, Steering};
use crate::reply::{self, Ede, Frame, Opt, Reply, Transport};
use crate::settings::{Placed, Settings};
use crate::subnet::Locate;
use crate::tables::Tables;
use crate::wire::{
    self, CLIENT_SUBNET, COOKIE, Edns, Head, KEEPALIVE, Malformed, NSID, Options, Parsed, Query, Question,
    Refusal, push_option,
};

/// Answers queries from the tables of the newest snapshot. Readers load a pointer and never wait.
#[derive(Debug)]
pub struct Engine {
    pub(crate) tables: ArcSwap<Tables>,
    pub(crate) settings: Settings,
    is_stale: AtomicBool,
}

/// From whom a query came, how, and when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender {
    address: IpAddr,
    transport: Transport,
    now: u32,
}

impl Sender {
    /// A dual-stack socket shows IPv4 senders as mapped.
    pub(crate) fn new(address: IpAddr, transport: Transport, now: u32) -> Self {
        Self {
            address: address.to_canonical(),
            transport,
            now,
        }
    }
}

impl Engine {
    /// An engine with its first tables and the default settings.
    #[must_use]
    pub fn new(tables: Tables) -> Self {
        Self::with(tables, Settings::default())
    }

    /// An engine with its first tables.
    #[must_use]
    pub fn with(tables: Tables, settings: Settings) -> Self {
        Self {
            tables: ArcSwap::from_pointee(tables),
            settings,
            is_stale: AtomicBool::new(false),
        }
    }

    /// Whether the health that answers are made of is not looked at any more. Answers go on, and steered ones say so
    /// in an extended error.
    pub fn mark_stale(&self, is_stale: bool) {
        self.is_stale.store(is_stale, Ordering::Relaxed);
    }

    pub(crate) fn is_stale(&self) -> bool {
        self.is_stale.load(Ordering::Relaxed)
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
    /// sender's address; `now` is the time in [`seconds`], by which cookies age; `rng` is asked only where a
    /// chain draws.
    pub fn answer<R: Rng>(
        &self,
        query: &[u8],
        client: IpAddr,
        transport: Transport,
        now: u32,
        rng: &mut R,
    ) -> Option<Reply> {
        let sender = Sender::new(client, transport, now);
        let parsed = wire::parse(query);
        if let Some(why) = parsed.breaks_quic().filter(|_| transport == Transport::Quic) {
            count::malformed(why);
            return None;
        }
        let (reply, rtype) = match parsed {
            Parsed::Drop(why) => {
                count::malformed(why);
                return None;
            }
            Parsed::Refuse(head, question, edns, why) => {
                let rtype = question.as_ref().map_or(0, |question| question.rtype);
                (self.refuse(head, question.as_ref(), edns, why), rtype)
            }
            Parsed::CookieAlone(head, edns) => (self.give_cookie(head, edns, sender), 0),
            Parsed::Query(query) => (self.answer_query(&query, sender, rng), query.question.rtype),
        };
        count::answered(RecordType::from(rtype), &reply, transport);
        Some(reply)
    }

    /// The OPT record of a refusal: no options of the query's are looked at.
    fn refuse(&self, head: Head, question: Option<&Question>, edns: Option<Edns>, why: Refusal) -> Reply {
        let (rcode, ede) = match why {
            Refusal::Malformed(why) => {
                count::malformed(why);
                (ResponseCode::FormErr, None)
            }
            Refusal::Opcode => (ResponseCode::NotImp, Some(Ede::NotSupported)),
            Refusal::Version => (ResponseCode::BADVERS, None),
        };
        let mut options = Vec::new();
        if let Some(ede) = ede {
            ede.push(&mut options);
        }
        let frame = Frame {
            head,
            question,
            edns: edns.map(|edns| self.opt(edns, options)),
            limit: u16::MAX,
        };
        Reply::bare(frame, rcode)
    }

    fn opt(&self, edns: Edns, options: Vec<u8>) -> Opt {
        Opt {
            payload: self.settings.max_udp_payload,
            dnssec_ok: edns.dnssec_ok,
            options,
            is_padded: false,
        }
    }

    /// RFC 7873 §5.4: the answer to a message without a question is a server cookie.
    fn give_cookie(&self, head: Head, edns: Edns, sender: Sender) -> Reply {
        let checked = self.check(edns.options, sender);
        let is_bad = checked.as_ref().is_some_and(|checked| !checked.is_good)
            && edns
                .options
                .cookie
                .is_some_and(|cookie| cookie.server != cookie::Server::Absent);
        // with cookies turned off this is a message without a question like any other
        let rcode = match (&checked, is_bad) {
            (None, _) => ResponseCode::FormErr,
            (Some(_), true) => ResponseCode::BADCOOKIE,
            (Some(_), false) => ResponseCode::NoError,
        };
        let mut options = Vec::new();
        self.push_options(edns.options, sender, checked.as_ref(), &mut options);
        let frame = Frame {
            head,
            question: None,
            edns: Some(self.opt(edns, options)),
            limit: u16::MAX,
        };
        let mut reply = Reply::bare(frame, rcode);
        reply.is_verified = checked.is_some_and(|checked| checked.is_good);
        reply
    }

    pub(crate) fn check(&self, options: Options, sender: Sender) -> Option<Checked> {
        let cookie = options
            .cookie
            .filter(|_| self.settings.cookies != CookieUse::Off)?;
        Some(self.settings.secrets.check(&cookie, sender.address, sender.now))
    }

    /// What is told to whoever asks for it.
    pub(crate) fn push_options(
        &self,
        asked: Options,
        sender: Sender,
        cookie: Option<&Checked>,
        options: &mut Vec<u8>,
    ) {
        if let Some(cookie) = cookie {
            push_option(options, COOKIE, |value| value.extend(cookie.reply));
        }
        if let Some(identity) = self.settings.identity.as_deref().filter(|_| asked.nsid) {
            push_option(options, NSID, |value| value.extend(identity.bytes()));
        }
        // RFC 7828 §3.2.1: over UDP it is ignored; HTTP has means of its own
        if asked.keepalive && matches!(sender.transport, Transport::Tcp | Transport::Tls) {
            push_option(options, KEEPALIVE, |value| {
                value.extend(self.settings.keepalive.to_be_bytes());
            });
        }
    }

    /// RFC 7873 §5.2.3: who cannot show where it is is asked to come again, with the cookie that it gets now.
    pub(crate) fn is_unproven(&self, checked: Option<&Checked>, sender: Sender) -> bool {
        checked.is_some_and(|checked| !checked.is_good)
            && sender.transport == Transport::Udp
            && self.settings.cookies == CookieUse::Require
    }

    fn answer_query<R: Rng>(&self, query: &Query, sender: Sender, rng: &mut R) -> Reply {
        let asked = query.edns.map(|edns| edns.options).unwrap_or_default();
        let checked = self.check(asked, sender);
        let is_verified = checked.as_ref().is_some_and(|checked| checked.is_good);
        let result = if self.is_unproven(checked.as_ref(), sender) {
            Told::of(ResponseCode::BADCOOKIE, None)
        } else {
            self.tell(query, asked, sender, rng)
        };
        let mut options = Vec::new();
        // RFC 7871 §7.2.1 and §7.4: unsteered and negative answers hold for everybody, scope 0. The scope comes
        // from the address as it was sent, so bits that we were not told play no part; where it is longer than
        // SOURCE PREFIX-LENGTH, it tells the resolver which prefix would have decided (§7.2.1 allows that).
        if let Some(subnet) = asked.subnet {
            push_option(&mut options, CLIENT_SUBNET, |value| {
                subnet.write(result.scope.unwrap_or(0), value);
            });
        }
        self.push_options(asked, sender, checked.as_ref(), &mut options);
        if let Some(ede) = result.ede {
            ede.push(&mut options);
        }
        let payload = query.edns.map(|edns| edns.payload);
        let frame = Frame {
            head: query.head,
            question: Some(&query.question),
            edns: query.edns.map(|edns| self.opt(edns, options)),
            limit: reply::limit(sender.transport, payload, self.settings.max_udp_payload),
        };
        let mut reply = match result.answer {
            Ok(answer) => Reply::full(frame, answer),
            Err(rcode) => Reply::bare(frame, rcode),
        };
        reply.is_verified = is_verified;
        // RFC 7830 §4: who pads its query wants a padded reply; §6: without encryption it is of no use
        if let Some(opt) = reply.edns.as_mut().filter(|_| asked.padding) {
            opt.is_padded = sender.transport.is_encrypted();
        }
        reply
    }

    /// Whom the answer is for. RFC 7871 §7.2.1: the subnet stands in for the sender.
    pub(crate) fn place(&self, asked: Options, sender: Sender) -> (Locate, Option<Placed>) {
        let client = asked
            .subnet
            .map_or(Locate::By(sender.address), |subnet| subnet.locate());
        match client {
            Locate::By(address) => {
                let placed = Placed::new(address, &self.settings.nat64);
                (Locate::By(placed.address), Some(placed))
            }
            Locate::Nobody => (Locate::Nobody, None),
        }
    }

    /// What is said, before it is put into a message.
    fn tell<R: Rng>(&self, query: &Query, asked: Options, sender: Sender, rng: &mut R) -> Told {
        let Question {
            name, rtype, class, ..
        } = &query.question;
        let rtype = RecordType::from(*rtype);
        if *class == u16::from(DNSClass::CH) {
            return match chaos::answer(&self.settings, &query.question) {
                Some(answer) => Told {
                    answer: Ok(answer),
                    scope: None,
                    ede: None,
                },
                None => Told::of(ResponseCode::Refused, None),
            };
        }
        if *class != u16::from(DNSClass::IN) {
            return Told::of(ResponseCode::Refused, None);
        }
        if let Some((rcode, ede)) = unserved(rtype) {
            return Told::of(rcode, ede);
        }
        let tables = self.tables.load();
        let (client, placed) = self.place(asked, sender);
        let mut chooser = Chooser {
            tables: &tables,
            client,
            rng,
            scope: None,
            is_stale: self.is_stale(),
            ede: None,
        };
        let answer = lookup::answer(&tables.zones, name, rtype, &mut chooser);
        let refused = (answer.rcode == ResponseCode::Refused).then_some(Ede::NotAuthoritative);
        Told {
            ede: chooser.ede.or(refused),
            scope: chooser
                .scope
                .zip(placed)
                .map(|(scope, placed)| placed.scope(scope)),
            answer: Ok(answer),
        }
    }
}

/// Seconds since 1970, modulo 2^32 (RFC 9018 §4.3).
#[must_use]
pub fn seconds(time: SystemTime) -> u32 {
    time.duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_secs() as u32)
}

/// What is said to a question.
struct Told {
    answer: Result<Answer, ResponseCode>,
    /// Of the client subnet; absent where the answer holds for everybody.
    scope: Option<u8>,
    ede: Option<Ede>,
}

impl Told {
    fn of(rcode: ResponseCode, ede: Option<Ede>) -> Self {
        Self {
            answer: Err(rcode),
            scope: None,
            ede,
        }
    }
}

/// Types that no zone data can answer.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "an open list of types; all others are looked up"
)]
pub(crate) fn unserved(rtype: RecordType) -> Option<(ResponseCode, Option<Ede>)> {
    let unsupported = Some(Ede::NotSupported);
    match rtype {
        // Gap: RFC 5936, RFC 1995: zones are not transferred.
        RecordType::AXFR | RecordType::IXFR => Some((ResponseCode::Refused, unsupported)),
        // RFC 6891 §6.1.1: OPT is no data that could be asked for.
        RecordType::OPT => Some((ResponseCode::FormErr, None)),
        // RFC 8945, RFC 2930: TSIG and TKEY are no data either. Gap: signed queries are answered unsigned.
        RecordType::TSIG | RecordType::Unknown(249) => Some((ResponseCode::NotImp, unsupported)),
        // RFC 1035 §3.2.3: MAILB, MAILA
        RecordType::Unknown(253 | 254) => Some((ResponseCode::NotImp, unsupported)),
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
    is_stale: bool,
    /// Why what was picked is not what it could be.
    ede: Option<Ede>,
}

impl<R: Rng> Steering for Chooser<'_, R> {
    fn pick(&mut self, key: &[u8], rtype: RecordType) -> Option<Steered> {
        let (steered, scope) = self.tables.pick(key, rtype, self.client, self.rng)?;
        // Two steered sets in one reply (a CNAME between them): the longer scope holds for both.
        self.scope = self.scope.max(scope);
        let rule = || self.tables.rule(key, rtype, self.client).map(Ede::AllDown);
        self.ede = match &steered {
            Steered::Refused => Some(Ede::Geofence),
            Steered::Fail => rule().or(self.ede),
            _ if !self.tables.snapshot.settled => Some(Ede::Unsettled),
            Steered::Addresses { .. } | Steered::Set { .. } | Steered::Nothing => {
                let stale = self.is_stale.then_some(Ede::Stale);
                rule().or(stale).or(self.ede)
            }
        };
        Some(steered)
    }

    fn pick_extra(&mut self, key: &[u8], rtype: RecordType) -> Option<Steered> {
        let (steered, scope) = self.tables.pick(key, rtype, self.client, self.rng)?;
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
            Self::Cookie => "cookie",
            Self::Id => "id",
            Self::Keepalive => "keepalive",
        }
    }
}
