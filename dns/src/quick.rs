//! The quick path of a datagram: from octets to octets, without an object for a name or a record, and without an
//! allocation. (A chain that draws makes a list of the candidates it draws from.)
//!
//! ```text
//! query ─► skim ─► memory (name, type) ─► what the full path said ─► copied, with id, case, options and scope patched in
//!                        │                or the steered name       ─► its row of the tables, written out
//!                        └─ nothing kept, or another form ─► None: the full path answers
//! ```
//!
//! Both paths give the same octets: what is kept comes out of the full path, and whatever could make a difference is
//! left to it. A test holds them together (`quick/tests.rs`), and so does the fuzz target.

mod memory;

use std::net::IpAddr;
use std::ops::Range;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{DNSClass, RecordType};
use rand::rngs::SmallRng;
use steer_topology::Kind;

use self::memory::{Fixed, Memory, Said};
use crate::cookie::Checked;
use crate::engine::{Engine, Sender};
use crate::lookup::{self, Steered, Steering};
use crate::reply::{self, Frame, Opt, Reply, Transport};
use crate::rrl::Class;
use crate::tables::{Filled, Tables};
use crate::wire::{self, CLIENT_SUBNET, HEADER, Head, LONGEST_NAME, OPT, Question, Skimmed, push_option};

/// What a thread needs for it.
#[derive(Debug)]
pub(crate) struct Quick {
    memory: Memory,
    /// Kept for its room.
    room: Vec<IpAddr>,
}

impl Quick {
    pub(crate) fn new() -> Self {
        Self {
            memory: Memory::new(),
            room: Vec::new(),
        }
    }
}

/// A reply that stands in the octets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) rtype: RecordType,
    pub(crate) rcode: ResponseCode,
    pub(crate) class: Class,
    pub(crate) is_verified: bool,
    /// The octets of the records but OPT.
    body: Range<usize>,
}

impl Written {
    /// What [`Reply::cut`] does.
    pub(crate) fn cut(&self, octets: &mut Vec<u8>) {
        let has_opt = u8::from(self.body.end < octets.len());
        octets.drain(self.body.clone());
        if let Some([_, _, flags, _, _, _, counts @ ..]) = octets.first_chunk_mut::<HEADER>() {
            *flags |= TC;
            *counts = [0, 0, 0, 0, 0, has_opt];
        }
    }
}

/// Flags in the third octet of a header, RFC 1035 §4.1.1.
const QR: u8 = 0x80;
const AA: u8 = 0x04;
const TC: u8 = 0x02;
const RD: u8 = 0x01;
/// In the fourth, RFC 4035 §3.2.2.
const CD: u8 = 0x10;

impl Engine {
    /// The reply to a datagram in place of what `out` held, the same as [`Engine::answer`] gives. `None`: ask that.
    /// `rng` is then as it was.
    pub(crate) fn answer_quickly(
        &self,
        thread: &mut Quick,
        query: &[u8],
        client: IpAddr,
        now: u32,
        rng: &mut SmallRng,
        out: &mut Vec<u8>,
    ) -> Option<Written> {
        let query = wire::skim(query)?;
        if query.class != u16::from(DNSClass::IN) {
            return None;
        }
        let mut lower = [0; LONGEST_NAME];
        let key = lower.get_mut(..query.name.len())?;
        key.copy_from_slice(query.name);
        key.make_ascii_lowercase();
        let tables = self.tables.load();
        let Quick { memory, room } = thread;
        let kept = memory.find(&tables.zones, key, query.rtype, || {
            learn(&tables, key, query.rtype)
        })?;
        let sender = Sender::new(client, Transport::Udp, now);
        let options = query.edns.map(|edns| edns.options).unwrap_or_default();
        let checked = self.check(options, sender);
        if self.is_unproven(checked.as_ref(), sender) {
            return None;
        }
        let job = Job {
            engine: self,
            query: &query,
            sender,
            checked: checked.as_ref(),
        };
        match &kept.said {
            Said::Fixed(fixed) => job.copy(fixed, key, out),
            Said::Steered(at) => job.steer(&tables, at, rng, room, out),
            Said::Other => None,
        }
    }
}

/// One query on its way.
struct Job<'j> {
    engine: &'j Engine,
    query: &'j Skimmed<'j>,
    sender: Sender,
    checked: Option<&'j Checked>,
}

/// What goes into a header.
struct Shape {
    is_authoritative: bool,
    rcode: ResponseCode,
    /// Answers, authorities, additionals without OPT.
    counts: [u16; 3],
    class: Class,
}

impl Job<'_> {
    fn copy(&self, fixed: &Fixed, key: &[u8], out: &mut Vec<u8>) -> Option<Written> {
        if !fixed.any_case && *key != *self.query.name {
            return None;
        }
        let shape = Shape {
            is_authoritative: fixed.is_authoritative,
            rcode: fixed.rcode,
            counts: fixed.counts,
            class: fixed.class,
        };
        self.write(&shape, None, out, |out| out.extend(&fixed.body))
    }

    fn steer(
        &self,
        tables: &Tables,
        at: &[u8],
        rng: &mut SmallRng,
        room: &mut Vec<IpAddr>,
        out: &mut Vec<u8>,
    ) -> Option<Written> {
        let before = rng.clone();
        let written = self.try_steer(tables, at, rng, room, out);
        if written.is_none() {
            // The full path must draw the same lots.
            *rng = before;
        }
        written
    }

    fn try_steer(
        &self,
        tables: &Tables,
        at: &[u8],
        rng: &mut SmallRng,
        room: &mut Vec<IpAddr>,
        out: &mut Vec<u8>,
    ) -> Option<Written> {
        // an extended error is due
        if !tables.snapshot.settled || self.engine.is_stale() {
            return None;
        }
        let options = self.query.edns.map(|edns| edns.options).unwrap_or_default();
        let (client, placed) = self.engine.place(options, self.sender);
        let rtype = RecordType::from(self.query.rtype);
        let (picked, scope) = tables.pick_into(at, rtype, client, rng, room)?;
        if picked != Filled::List || room.is_empty() {
            return None;
        }
        // an extended error is due here too
        if tables.rule(at, rtype, client).is_some() {
            return None;
        }
        let ttl = tables.ttl(at, rtype)?;
        let shape = Shape {
            is_authoritative: true,
            rcode: ResponseCode::NoError,
            counts: [u16::try_from(room.len()).ok()?, 0, 0],
            class: Class::Answer,
        };
        let scope = scope.zip(placed).map(|(scope, placed)| placed.scope(scope));
        self.write(&shape, scope, out, |out| {
            for address in room {
                push_address(self.query.rtype, ttl, *address, out);
            }
        })
    }

    /// The whole reply. `None` where it does not fit: something must be left out.
    fn write(
        &self,
        shape: &Shape,
        scope: Option<u8>,
        out: &mut Vec<u8>,
        body: impl FnOnce(&mut Vec<u8>),
    ) -> Option<Written> {
        let Skimmed {
            head,
            front,
            edns,
            rtype,
            ..
        } = *self.query;
        out.clear();
        out.extend(front);
        self.patch_header(head, shape, out)?;
        let begin = out.len();
        body(out);
        let end = out.len();
        if let Some(edns) = edns {
            let settings = &self.engine.settings;
            out.push(0); // the root
            out.extend(OPT.to_be_bytes());
            out.extend(settings.max_udp_payload.to_be_bytes());
            out.extend([shape.rcode.high(), 0, u8::from(edns.dnssec_ok) << 7, 0]);
            out.extend([0; 2]);
            if let Some(subnet) = edns.options.subnet {
                push_option(out, CLIENT_SUBNET, |value| {
                    subnet.write(scope.unwrap_or(0), value);
                });
            }
            self.engine
                .push_options(edns.options, self.sender, self.checked, out);
            let length = u16::try_from(out.len().checked_sub(end + Opt::FIXED)?).ok()?;
            let at = end + Opt::FIXED - 2;
            out.get_mut(at..at + 2)?.copy_from_slice(&length.to_be_bytes());
        }
        let payload = edns.map(|edns| edns.payload);
        let limit = reply::limit(Transport::Udp, payload, self.engine.settings.max_udp_payload);
        (out.len() <= usize::from(limit)).then(|| Written {
            rtype: RecordType::from(rtype),
            rcode: shape.rcode,
            class: shape.class,
            is_verified: self.checked.is_some_and(|checked| checked.is_good),
            body: begin..end,
        })
    }

    fn patch_header(&self, head: Head, shape: &Shape, out: &mut [u8]) -> Option<()> {
        let [_, _, flags0, flags1, _, _, counts @ ..] = out.first_chunk_mut::<HEADER>()?;
        let bit = |is_set: bool, bit: u8| if is_set { bit } else { 0 };
        *flags0 = QR | bit(shape.is_authoritative, AA) | bit(head.recursion_desired, RD);
        *flags1 = bit(head.checking_disabled, CD) | shape.rcode.low();
        let [answers, authorities, additionals] = shape.counts;
        let additionals = additionals + u16::from(self.query.edns.is_some());
        let all = [answers, authorities, additionals].map(u16::to_be_bytes);
        counts.copy_from_slice(all.as_flattened());
        Some(())
    }
}

/// An address of the name that was asked for, as `reply` writes it.
fn push_address(rtype: u16, ttl: u32, address: IpAddr, out: &mut Vec<u8>) {
    out.extend(reply::QUESTION.to_be_bytes());
    out.extend(rtype.to_be_bytes());
    out.extend(u16::from(DNSClass::IN).to_be_bytes());
    out.extend(ttl.to_be_bytes());
    match address {
        IpAddr::V4(address) => {
            out.extend([0, 4]);
            out.extend(address.octets());
        }
        IpAddr::V6(address) => {
            out.extend([0, 16]);
            out.extend(address.octets());
        }
    }
}

/// Steered records of other types are written by the full path.
fn is_address(rtype: RecordType) -> bool {
    lookup::kind_of(rtype) == Some(Kind::Address)
}

/// Asks the full path what it says to a name in lower case, whoever asks.
fn learn(tables: &Tables, key: &[u8], rtype: u16) -> Said {
    let mut witness = Witness::default();
    let kind = RecordType::from(rtype);
    let Some(name) = wire::name_of(key) else {
        return Said::Other;
    };
    // RFC 8482, and types that no data can answer: seldom asked for, and each has rules of its own
    if kind == RecordType::ANY || crate::engine::unserved(kind).is_some() {
        return Said::Other;
    }
    let answer = lookup::answer(&tables.zones, &name, kind, &mut witness);
    match witness.asked {
        Asked::Never => {}
        // A chain gave nothing, and that is all: so what a chain gives is all there is.
        Asked::Once(at) if is_address(kind) && answer.answers.is_empty() => return Said::Steered(at),
        Asked::Once(_) | Asked::Often => return Said::Other,
    }
    // another code comes with an extended error
    if !matches!(answer.rcode, ResponseCode::NoError | ResponseCode::NXDomain) {
        return Said::Other;
    }
    // names in it may be compressed against the question, which depends on its case
    let is_alone = answer.authorities.is_empty() && answer.needed_glue.is_empty() && answer.glue.is_empty();
    let any_case = is_alone
        && answer
            .answers
            .iter()
            .all(|record| record.record_type() == kind && !crate::zone::is_compressed(kind));
    let question = Question {
        name,
        key: key.into(),
        rtype,
        class: DNSClass::IN.into(),
    };
    let frame = Frame {
        head: Head::default(),
        question: Some(&question),
        edns: None,
        limit: u16::MAX,
    };
    let reply = Reply::full(frame, answer);
    let Ok(octets) = reply.encode() else {
        return Said::Other;
    };
    let body = octets.get(HEADER + key.len() + 4..).unwrap_or_default();
    if reply.is_truncated() || octets.len() > memory::LONGEST {
        return Said::Other;
    }
    let counts = reply.counts();
    Said::Fixed(Fixed {
        is_authoritative: reply.metadata.authoritative,
        rcode: reply.rcode(),
        counts: [counts.answers, counts.authorities, counts.additionals],
        class: reply.class(),
        any_case,
        body: body.into(),
    })
}

/// Sees whether a chain is asked, and gives nothing.
#[derive(Debug, Default)]
struct Witness {
    asked: Asked,
}

#[derive(Debug, Default)]
enum Asked {
    #[default]
    Never,
    Once(Box<[u8]>),
    Often,
}

impl Steering for Witness {
    fn pick(&mut self, key: &[u8], _: RecordType) -> Option<Steered> {
        self.asked = match self.asked {
            Asked::Never => Asked::Once(key.into()),
            Asked::Once(_) | Asked::Often => Asked::Often,
        };
        None
    }
}

#[cfg(test)]
mod tests;
