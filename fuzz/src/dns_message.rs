//! What anybody may send to port 53: a datagram, a message in a stream, a stream of anything.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr};

use domain::base::iana::Rcode;
use domain::base::{Message, opt::AllOptData};
use domain::rdata::AllRecordData;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use steer_dns::{MAX_UDP_PAYLOAD, Transport, fuzzing};
use tokio::runtime::{Builder, Runtime};

use crate::dns_ground::ENGINE;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(81, 169, 145, 1));
const NOW: u32 = 1_700_000_000;
const HEADER: usize = 12;

thread_local! {
    static QUICK: RefCell<fuzzing::Quick> = RefCell::new(fuzzing::Quick::new());
    static RUNTIME: RefCell<Runtime> = RefCell::new(Builder::new_current_thread().enable_time().build().expect("a runtime"));
}

/// One datagram, which is a stream as well.
pub fn check(data: &[u8]) {
    let udp = answer(data, Transport::Udp);
    let tcp = answer(data, Transport::Tcp);
    assert_eq!(udp.is_some(), tcp.is_some());
    if let (Some(udp), Some(tcp)) = (&udp, &tcp) {
        holds(data, udp);
        holds(data, tcp);
        fits(data, udp);
        same(udp, tcp);
    }
    quickly(data, udp.as_deref());
    stream(&framed(&[data, data]));
    stream(data);
}

/// The quick path says what the full path says, or nothing. It knows a name from the second time on.
fn quickly(query: &[u8], udp: Option<&[u8]>) {
    for _ in 0..2 {
        let quick = QUICK.with_borrow_mut(|quick| quick.answer(&ENGINE, query, CLIENT, NOW));
        assert!(quick.is_none() || quick.as_deref() == udp, "{quick:?} {udp:?}");
    }
}

fn answer(query: &[u8], transport: Transport) -> Option<Vec<u8>> {
    let mut rng = SmallRng::seed_from_u64(1);
    let reply = ENGINE.answer(query, CLIENT, transport, NOW, &mut rng);
    // RFC 1035 §4.1.1: what has no header has no id to be answered with; two servers must not talk to each other.
    let is_query = query.len() >= HEADER && query[2] & 0x80 == 0;
    assert_eq!(
        reply.is_some(),
        is_query,
        "each query has a reply, and nothing else has"
    );
    reply.map(|reply| reply.encode().expect("a reply can be sent"))
}

/// What is true of every reply.
fn holds(query: &[u8], reply: &[u8]) {
    assert!(reply.len() >= HEADER);
    assert_eq!(reply[..2], query[..2], "the id");
    assert_eq!(reply[2] & 0x80, 0x80, "QR");
    assert_eq!(reply[2] & 0x79, query[2] & 0x79, "opcode and RD");
    assert_eq!(reply[3] & 0x70, query[3] & 0x10, "CD comes back; Z and AD do not");
    assert_eq!(reply[3] & 0x80, 0, "RA");
    let message = Message::from_octets(reply).expect("a header");
    let counts = message.header_counts();
    assert!(counts.qdcount() <= 1);
    let mut at = HEADER;
    if counts.qdcount() == 1 {
        let end = question_end(reply);
        assert_eq!(
            reply[HEADER..end],
            query[HEADER..end],
            "the question, octet by octet"
        );
        at = end;
    } else {
        let rcode = message.opt_rcode().to_int() & 0xf;
        let known = [Rcode::FORMERR, Rcode::NOTIMP, Rcode::NOERROR];
        // a cookie alone (RFC 7873 §5.4) may get BADCOOKIE or BADVERS: 23, 16
        let extended = matches!(message.opt_rcode().to_int(), 16 | 23);
        assert!(
            extended || known.iter().any(|known| u16::from(known.to_int()) == rcode),
            "{rcode} without a question"
        );
    }
    let mut opts = 0;
    let mut sections = message
        .question()
        .next_section()
        .expect("the question is readable");
    loop {
        for record in sections.by_ref() {
            let record = record.expect("a whole record");
            if record.rtype().to_int() == 41 {
                opts += 1;
            } else {
                record
                    .into_any_record::<AllRecordData<_, _>>()
                    .expect("data of the type");
            }
        }
        at = at.max(sections.pos());
        match sections.next_section().expect("a whole section") {
            Some(next) => sections = next,
            None => break,
        }
    }
    assert_eq!(at, reply.len(), "nothing behind the last record");
    assert!(opts <= 1);
    if let Some(opt) = message.opt() {
        assert_eq!(opt.version(), 0);
        assert_eq!(opt.udp_payload_size(), MAX_UDP_PAYLOAD);
        for option in opt.opt().iter::<AllOptData<_, _>>() {
            option.expect("an option of its kind");
        }
    }
    if message.header().tc() {
        assert_eq!((counts.ancount(), counts.nscount()), (0, 0));
    }
}

/// RFC 6891 §6.2.3 to §6.2.5. A reply without an OPT record is one to a client that may know no EDNS.
fn fits(query: &[u8], reply: &[u8]) {
    let message = Message::from_octets(reply).expect("a header");
    let asked = Message::from_octets(query).expect("a header").opt();
    let limit = match (message.opt().is_some(), asked) {
        (false, _) => 512,
        (true, Some(asked)) => asked.udp_payload_size().clamp(512, MAX_UDP_PAYLOAD),
        (true, None) => MAX_UDP_PAYLOAD,
    };
    assert!(
        reply.len() <= usize::from(limit),
        "{} octets, {limit} fit",
        reply.len()
    );
}

/// A datagram says what a stream says, or that there is more.
fn same(udp: &[u8], tcp: &[u8]) {
    let [udp, tcp] = [udp, tcp].map(|reply| Message::from_octets(reply).expect("a header"));
    assert_eq!(udp.opt_rcode(), tcp.opt_rcode());
    assert!(!tcp.header().tc());
    if !udp.header().tc() {
        let [a, b] = [&udp, &tcp].map(|message| {
            let counts = message.header_counts();
            (message.header().aa(), counts.ancount(), counts.nscount())
        });
        assert_eq!(a, b);
    }
}

fn question_end(message: &[u8]) -> usize {
    let mut at = HEADER;
    while message[at] != 0 {
        assert!(message[at] < 64, "a question is never compressed");
        at += 1 + usize::from(message[at]);
    }
    at + 5
}

fn framed(messages: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    for message in messages {
        let length = u16::try_from(message.len()).expect("short inputs");
        out.extend(length.to_be_bytes());
        out.extend(*message);
    }
    out
}

fn frames(mut octets: &[u8]) -> Vec<&[u8]> {
    let mut out = Vec::new();
    while let Some((length, rest)) = octets.split_first_chunk() {
        let Some((message, rest)) = rest.split_at_checked(usize::from(u16::from_be_bytes(*length))) else {
            break;
        };
        out.push(message);
        octets = rest;
    }
    out
}

/// Each whole message has its reply in its order, up to the first to which none is due. RFC 7766 §8.
fn stream(octets: &[u8]) {
    let replies = RUNTIME.with_borrow(|runtime| runtime.block_on(fuzzing::converse(&ENGINE, octets, CLIENT)));
    let got = frames(&replies);
    assert_eq!(
        got.iter().map(|reply| reply.len() + 2).sum::<usize>(),
        replies.len()
    );
    let queries = frames(octets);
    let due = queries
        .iter()
        .take_while(|query| query.len() >= HEADER && query[2] & 0x80 == 0);
    let due: Vec<_> = due.collect();
    assert_eq!(got.len(), due.len());
    for (query, reply) in due.iter().zip(got) {
        holds(query, reply);
        let alone = answer(query, Transport::Tcp).expect("checked");
        assert_eq!(alone.len(), reply.len(), "as if it stood alone");
    }
}
