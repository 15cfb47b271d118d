//! The engine against messages as they come: whole, cut, garbled, and with every option.

use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{RData, Record};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use steer_topology::{CookieUse, Dns};

use crate::engine::Engine;
use crate::reply::{Reply, Transport};
use crate::settings::Settings;
use crate::testing::{config, ip, tables, tables_of};

/// Header, one question for `www.example.com A`.
fn head(opcode: u8, additionals: u8) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, opcode << 3, 0, 0, 1, 0, 0, 0, 0, 0, additionals];
    message.extend(b"\x03wWw\x07example\x03com\x00\x00\x01\x00\x01");
    message
}

/// With an OPT record.
fn edns(version: u8, flags: [u8; 2], options: &[u8]) -> Vec<u8> {
    let mut message = head(0, 1);
    message.extend([0, 0, 41, 4, 208, 0, version]);
    message.extend(flags);
    message.extend((options.len() as u16).to_be_bytes());
    message.extend(options);
    message
}

fn engine(chain: &str) -> Engine {
    Engine::new(tables(chain, &[]))
}

fn set(change: impl FnOnce(&mut Dns)) -> Engine {
    let mut dns = Dns::default();
    change(&mut dns);
    let settings = Settings::load(&dns, Some("fra")).unwrap();
    Engine::with(tables("[\"up\"]", &[]), settings)
}

const CLIENT: &str = "192.0.2.7";

fn reply_at(engine: &Engine, query: &[u8], client: &str, transport: Transport, now: u32) -> Option<Reply> {
    let client: IpAddr = ip(client);
    engine.answer(query, client, transport, now, &mut SmallRng::seed_from_u64(1))
}

fn reply(engine: &Engine, query: &[u8]) -> Option<Reply> {
    reply_at(engine, query, CLIENT, Transport::Udp, 1000)
}

/// Code, number of questions, and whether there is an OPT record, read back from the octets.
fn shape(engine: &Engine, query: &[u8]) -> (u16, usize, bool) {
    let octets = reply(engine, query).unwrap().encode().unwrap();
    let message = Message::from_vec(&octets).unwrap();
    (
        u16::from(message.metadata.response_code),
        message.queries.len(),
        message.edns.is_some(),
    )
}

fn option(reply: &Reply, code: u16) -> Option<Vec<u8>> {
    let mut rest = &reply.edns.as_ref()?.options[..];
    while let [c0, c1, l0, l1, more @ ..] = rest {
        let (value, after) = more.split_at(usize::from(u16::from_be_bytes([*l0, *l1])));
        if u16::from_be_bytes([*c0, *c1]) == code {
            return Some(value.to_vec());
        }
        rest = after;
    }
    None
}

const FORMERR: u16 = 1;

#[test]
fn a_query_cut_anywhere_gets_formerr_with_what_could_be_read_or_silence() {
    let engine = engine("[\"up\"]");
    let whole = edns(0, [0, 0], &[0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2]);
    assert_eq!(shape(&engine, &whole), (0, 1, true));
    let question_ends = head(0, 1).len();
    for length in 0..whole.len() {
        let cut = &whole[..length];
        if length < 12 {
            assert!(reply(&engine, cut).is_none(), "{length}: no header, no reply");
        } else {
            let with_question = usize::from(length >= question_ends);
            assert_eq!(shape(&engine, cut), (FORMERR, with_question, false), "{length}");
        }
    }
}

#[test]
fn every_octet_of_every_value_gets_a_reply_that_can_be_read_or_silence() {
    let engine = engine("[\"up\", \"nearest\", \"weighted\"]");
    let whole = edns(
        0,
        [0x80, 0],
        &[
            0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
        ],
    );
    for at in 0..whole.len() {
        for value in 0..=255 {
            let mut message = whole.clone();
            message[at] = value;
            if let Some(reply) = reply(&engine, &message) {
                let octets = reply.encode().unwrap();
                assert!(octets.len() <= 1232);
                assert_eq!(octets[..2], message[..2], "the id is repeated");
                Message::from_vec(&octets).unwrap_or_else(|error| panic!("{at} {value}: {error}"));
            }
        }
    }
}

#[test]
fn bad_names_in_the_question_are_format_errors() {
    let engine = engine("[\"up\"]");
    let ask = |name: &[u8]| {
        let mut message = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(name);
        message.extend([0, 1, 0, 1]);
        shape(&engine, &message)
    };
    let label = |length: u8| {
        let mut label = vec![length];
        label.resize(usize::from(length) + 1, b'a');
        label
    };
    let four = |last: u8| [label(63), label(63), label(63), label(last), vec![0]].concat();
    assert_eq!(ask(&four(61)).0, u16::from(ResponseCode::Refused), "255 octets");
    for (what, name) in [
        ("256 octets", four(62)),
        ("a pointer to itself", vec![0xc0, 12]),
        ("a pointer forward", vec![0xc0, 20]),
        ("a pointer to the header", vec![0xc0, 0]),
        ("a pointer behind a label", vec![1, b'a', 0xc0, 12]),
        ("a label of 64 octets", [&[64][..], &[b'a'; 64], &[0]].concat()),
        ("a reserved kind of label", vec![0x80, 0]),
        ("a label without its end", vec![9, b'a']),
    ] {
        assert_eq!(ask(&name), (FORMERR, 0, false), "{what}");
    }
}

#[test]
fn bad_records_behind_the_question_are_format_errors_that_keep_it() {
    let engine = engine("[\"up\"]");
    let with = |sections: [u8; 3], records: &[u8]| {
        let mut message = head(0, 0);
        (message[7], message[9], message[11]) = (sections[0], sections[1], sections[2]);
        message.extend(records);
        shape(&engine, &message)
    };
    let opt: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
    let record = |name: &[u8]| [name, &[0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 7]].concat();
    let name = |last: u8| {
        let label = |length: u8| [&[length][..], &vec![b'a'; usize::from(length)]].concat();
        [label(63), label(63), label(63), label(last), vec![0]].concat()
    };
    assert_eq!(with([0, 0, 1], &record(&name(61))), (0, 1, false), "255 octets");
    let at = head(0, 0).len() as u8;
    assert_eq!(with([0, 0, 1], opt), (0, 1, true));
    assert_eq!(
        with([1, 0, 0], &record(&[0xc0, 12])),
        (0, 1, false),
        "a pointer back"
    );
    for (what, sections, records) in [
        ("a pointer to itself", [1, 0, 0], record(&[0xc0, at])),
        ("a pointer forward", [1, 0, 0], record(&[0xc0, at + 4])),
        ("a pointer to the header", [0, 1, 0], record(&[0xc0, 4])),
        ("more records than there are", [0, 0, 2], record(&[0])),
        ("fewer records than there are", [0, 0, 0], record(&[0])),
        (
            "data beyond the end",
            [0, 0, 1],
            [&[0][..], &[0, 1, 0, 1, 0, 0, 0, 0, 255, 255, 7]].concat(),
        ),
        ("a name of 256 octets", [0, 0, 1], record(&name(62))),
        (
            "a label of 64 octets",
            [0, 0, 1],
            record(&[&[64][..], &[b'a'; 64], &[0]].concat()),
        ),
        ("a reserved kind of label", [0, 0, 1], record(&[0x80, 0])),
        ("half a pointer", [0, 0, 1], vec![0xc0]),
        ("OPT in the answer section", [1, 0, 0], opt.to_vec()),
        ("OPT in the authority section", [0, 1, 0], opt.to_vec()),
        ("OPT below a name", [0, 0, 1], [&[1, b'a'][..], opt].concat()),
    ] {
        assert_eq!(with(sections, &records), (FORMERR, 1, false), "{what}");
    }
    let after_opt = |more: &[u8]| [opt, more].concat();
    assert_eq!(
        with([0, 0, 2], &after_opt(opt)),
        (FORMERR, 1, true),
        "two OPT records"
    );
    assert_eq!(
        with([0, 0, 1], &after_opt(&[0])),
        (FORMERR, 1, true),
        "octets at the end"
    );
    let mut lies = head(0, 0);
    lies[6..12].fill(255);
    assert_eq!(
        shape(&engine, &lies),
        (FORMERR, 1, false),
        "65535 records of each kind"
    );
}

#[test]
fn options_that_do_not_fill_their_record_are_format_errors() {
    let engine = engine("[\"up\"]");
    for options in [
        &[0][..],
        &[0, 3],
        &[0, 3, 0],
        &[0, 3, 0, 1],
        &[0, 3, 0, 0, 0],
        &[0, 3, 0xff, 0xff, 1, 2],
    ] {
        assert_eq!(
            shape(&engine, &edns(0, [0, 0], options)),
            (FORMERR, 1, true),
            "{options:?}"
        );
    }
}

/// RFC 8906 §8.1 and §8.2, as far as a message alone shows it.
#[test]
fn unknown_versions_flags_options_and_opcodes_are_answered_as_rfc_8906_asks() {
    let engine = engine("[\"up\"]");
    let of = |query: &[u8]| {
        let octets = reply(&engine, query).unwrap().encode().unwrap();
        let message = Message::from_vec(&octets).unwrap();
        (octets, message)
    };
    let (octets, plain) = of(&head(0, 0));
    assert_eq!((plain.answers.len(), plain.edns.is_some()), (3, false));
    assert_eq!(octets[3] & 0x40, 0, "Z");

    let mut bits = head(0, 0);
    (bits[2], bits[3]) = (0x07, 0xff); // AA, TC, RD, RA, Z, AD, CD and a code
    let (octets, _) = of(&bits);
    assert_eq!(
        (octets[2], octets[3]),
        (0x85, 0x10),
        "QR, AA and RD; CD; nothing else"
    );

    for version in [1, 100, 255] {
        let unknown = edns(version, [0x80, 0x7f], &[0, 8, 0, 1, 9]);
        assert_eq!(shape(&engine, &unknown), (16, 1, true), "BADVERS");
        let (octets, message) = of(&unknown);
        assert!(message.answers.is_empty());
        let opt = message.edns.unwrap();
        assert_eq!((opt.version(), opt.flags().dnssec_ok), (0, true));
        assert_eq!(octets[octets.len() - 3], 0, "no unknown flag comes back");
    }
    let (octets, flags) = of(&edns(0, [0x7f, 0xff], &[]));
    assert_eq!(
        (flags.answers.len(), octets[octets.len() - 4]),
        (3, 0),
        "unknown flags"
    );
    let (_, options) = of(&edns(0, [0, 0], &[0, 100, 0, 0, 0xff, 0xfe, 0, 2, 1, 2]));
    assert_eq!(options.answers.len(), 3);
    assert_eq!(
        options.edns.unwrap().options().as_ref().len(),
        0,
        "unknown options"
    );

    let (octets, _) = of(&head(15, 0));
    assert_eq!((octets[2] >> 3 & 15, octets[3] & 15), (15, 4), "NOTIMP");
    let mut only_header = head(15, 0);
    only_header.truncate(12);
    only_header[5] = 0;
    assert_eq!(of(&only_header).0[3] & 15, 4);
    let mut with_opt = edns(0, [0, 0], &[]);
    with_opt[2] = 15 << 3;
    assert_eq!(shape(&engine, &with_opt), (4, 1, true), "OPT with NOTIMP");
}

#[test]
fn the_largest_payload_is_the_configured_one_and_no_reply_is_longer() {
    let pool: String = (0..200)
        .map(|n| format!("{{ site = \"fra\", address = \"198.18.0.{n}:1\" }},"))
        .collect();
    let text = config("[\"up\"]", "").replace("endpoints = [", &format!("endpoints = [{pool}"));
    for largest in [512, 1232, 3000, 4096_u16] {
        let dns = Dns {
            max_udp_payload: largest,
            ..Dns::default()
        };
        let engine = Engine::with(tables_of(&text, &[]), Settings::load(&dns, None).unwrap());
        for asked in [0, 511, 512, 1232, 4000, u16::MAX] {
            let mut query = edns(0, [0, 0], &[]);
            let at = head(0, 1).len() + 3;
            query[at..at + 2].copy_from_slice(&asked.to_be_bytes());
            let reply = reply(&engine, &query).unwrap();
            let octets = reply.encode().unwrap();
            let bound = asked.clamp(512, largest);
            assert!(octets.len() <= usize::from(bound), "{largest} {asked}");
            assert_eq!(reply.edns.as_ref().map(|opt| opt.payload), Some(largest));
            // 203 addresses of 16 octets
            assert_eq!(
                reply.is_truncated(),
                bound < 3300,
                "{largest} {asked} {}",
                octets.len()
            );
            assert!(!reply.is_truncated() || Message::from_vec(&octets).unwrap().edns.is_some());
        }
    }
}

#[test]
fn whoever_sends_a_cookie_gets_one_that_is_good_from_then_on() {
    let engine = set(|_| ());
    let client = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    let first = reply(&engine, &edns(0, [0, 0], &client)).unwrap();
    let cookie = option(&first, 10).unwrap();
    assert_eq!(
        (cookie.len(), &cookie[..8], first.is_verified),
        (24, &client[4..], false)
    );
    assert_eq!(first.answers.len(), 3, "not required");
    let whole = [&[0, 10, 0, 24][..], &cookie].concat();
    let second = reply(&engine, &edns(0, [0, 0], &whole)).unwrap();
    assert!(second.is_verified);
    assert_eq!(option(&second, 10), Some(cookie));
    let other = reply_at(
        &engine,
        &edns(0, [0, 0], &whole),
        "192.0.2.8",
        Transport::Udp,
        1000,
    );
    assert!(!other.unwrap().is_verified);
    let late = reply_at(&engine, &edns(0, [0, 0], &whole), CLIENT, Transport::Udp, 9000);
    assert!(!late.unwrap().is_verified);
    assert_eq!(option(&reply(&engine, &edns(0, [0, 0], &[])).unwrap(), 10), None);
    for length in [0, 7, 9, 15, 41_u8] {
        let mut bad = vec![0, 10, 0, length];
        bad.resize(4 + usize::from(length), 1);
        assert_eq!(
            shape(&engine, &edns(0, [0, 0], &bad)),
            (FORMERR, 1, true),
            "{length}"
        );
    }
}

#[test]
fn required_cookies_ask_over_udp_once_and_never_over_tcp() {
    let engine = set(|dns| dns.cookies = CookieUse::Require);
    let client = edns(0, [0, 0], &[0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    let first = reply(&engine, &client).unwrap();
    assert_eq!((first.rcode(), first.answers.len()), (ResponseCode::BADCOOKIE, 0));
    assert_eq!(shape(&engine, &client), (23, 1, true));
    let whole = [&[0, 10, 0, 24][..], &option(&first, 10).unwrap()].concat();
    assert_eq!(reply(&engine, &edns(0, [0, 0], &whole)).unwrap().answers.len(), 3);
    let tcp = reply_at(&engine, &client, CLIENT, Transport::Tcp, 1000).unwrap();
    assert_eq!(
        (tcp.answers.len(), option(&tcp, 10).map(|it| it.len())),
        (3, Some(24))
    );
    assert_eq!(
        reply(&engine, &head(0, 0)).unwrap().answers.len(),
        3,
        "who knows no cookies"
    );
}

#[test]
fn a_message_without_a_question_asks_for_a_cookie_or_for_nothing() {
    let alone = |options: &[u8]| {
        let mut message = edns(0, [0, 0], options);
        message.drain(12..head(0, 0).len());
        message[5] = 0;
        message
    };
    let engine = set(|_| ());
    let cookie = [0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];
    assert_eq!(shape(&engine, &alone(&cookie)), (0, 0, true));
    let given = option(&reply(&engine, &alone(&cookie)).unwrap(), 10).unwrap();
    assert_eq!(
        shape(&engine, &alone(&[&[0, 10, 0, 24][..], &given].concat())),
        (0, 0, true)
    );
    let forged = [&[0, 10, 0, 24][..], &[7; 24]].concat();
    assert_eq!(shape(&engine, &alone(&forged)), (23, 0, true));
    assert_eq!(shape(&engine, &alone(&[])), (FORMERR, 0, true));
    let off = set(|dns| dns.cookies = CookieUse::Off);
    assert_eq!(shape(&off, &alone(&cookie)), (FORMERR, 0, true));
    assert_eq!(option(&reply(&off, &edns(0, [0, 0], &cookie)).unwrap(), 10), None);
}

#[test]
fn nsid_and_keepalive_are_told_to_those_who_ask_where_they_have_a_sense() {
    let engine = set(|_| ());
    let asks = edns(0, [0, 0], &[0, 3, 0, 0, 0, 11, 0, 0]);
    let udp = reply(&engine, &asks).unwrap();
    assert_eq!((option(&udp, 3), option(&udp, 11)), (Some(b"fra".to_vec()), None));
    let tcp = reply_at(&engine, &asks, CLIENT, Transport::Tcp, 1000).unwrap();
    assert_eq!(option(&tcp, 11), Some(vec![0, 100]), "10 s");
    let silent = reply_at(&engine, &edns(0, [0, 0], &[]), CLIENT, Transport::Tcp, 1000).unwrap();
    assert_eq!((option(&silent, 3), option(&silent, 11)), (None, None));
    let named = set(|dns| dns.identity = Some("edge-7".to_owned()));
    assert_eq!(
        option(&reply(&named, &asks).unwrap(), 3),
        Some(b"edge-7".to_vec())
    );
    let nameless = set(|dns| dns.identity = Some(String::new()));
    assert_eq!(option(&reply(&nameless, &asks).unwrap(), 3), None);
}

#[test]
fn chaos_tells_who_answers_and_keeps_the_rest_to_itself() {
    let ask = |engine: &Engine, name: &[u8], rtype: u8| {
        let mut message = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        message.extend(name);
        message.extend([0, rtype, 0, 3]);
        let octets = reply(engine, &message).unwrap().encode().unwrap();
        let message = Message::from_vec(&octets).unwrap();
        let text = |record: &Record| {
            let RData::TXT(txt) = &record.data else {
                panic!("{record:?}")
            };
            String::from_utf8_lossy(&txt.txt_data[0]).into_owned()
        };
        let texts = message.answers.iter().map(text);
        (
            u16::from(message.metadata.response_code),
            texts.collect::<Vec<_>>(),
        )
    };
    let engine = set(|_| ());
    for name in [
        &b"\x02id\x06server\x00"[..],
        b"\x02ID\x06SerVer\x00",
        b"\x08hostname\x04bind\x00",
    ] {
        assert_eq!(ask(&engine, name, 16), (0, vec!["fra".to_owned()]));
        assert_eq!(ask(&engine, name, 255), (0, vec!["fra".to_owned()]));
        assert_eq!(ask(&engine, name, 1), (5, vec![]), "no such type");
    }
    for name in [&b"\x07version\x06server\x00"[..], b"\x07version\x04bind\x00"] {
        assert_eq!(ask(&engine, name, 16), (5, vec![]));
        let open = set(|dns| dns.version = Some("7".to_owned()));
        assert_eq!(ask(&open, name, 16), (0, vec!["7".to_owned()]));
    }
    assert_eq!(ask(&engine, b"\x07example\x03com\x00", 16), (5, vec![]));
}

#[test]
fn extended_errors_say_why_and_only_to_those_who_know_edns() {
    let ede = |engine: &Engine, query: &[u8]| {
        let value = option(&reply(engine, query).unwrap(), 15)?;
        Some((
            u16::from_be_bytes([value[0], value[1]]),
            String::from_utf8(value[2..].to_vec()).unwrap(),
        ))
    };
    let good = engine("[\"up\"]");
    assert_eq!(ede(&good, &edns(0, [0, 0], &[])), None);
    let mut elsewhere = edns(0, [0, 0], &[]);
    elsewhere[25] = b'z'; // the top label
    assert_eq!(ede(&good, &elsewhere), Some((20, String::new())));
    let mut update = edns(0, [0, 0], &[]);
    update[2] = 5 << 3;
    assert_eq!(ede(&good, &update), Some((21, String::new())));
    let text = config("[\"up\"]", "if_all_down = \"servfail\"");
    let down = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];
    let dead = Engine::new(tables_of(&text, &down));
    assert_eq!(
        ede(&dead, &edns(0, [0, 0], &[])),
        Some((0, "every endpoint is down".to_owned()))
    );
    let sorry = "if_all_down = \"pool:sorry\"\n[[pool]]\nname = \"sorry\"\n\
                 endpoints = [{ site = \"jfk\", address = \"192.0.2.9:443\" }]";
    for (rule, code, says) in [
        ("if_all_down = \"serve-all\"", 0, ": all are served"),
        (
            "if_all_down = \"serve-last-good\"",
            3,
            ": those are served that were last up",
        ),
        ("if_all_down = \"nodata\"", 0, ": no answer is given"),
        (sorry, 0, ": the fallback pool is served"),
    ] {
        for chain in ["[\"up\"]", "[\"up\", \"nearest\", \"weighted\", \"take 1\"]"] {
            let text = config(chain, rule);
            let dead = Engine::new(tables_of(&text, &down));
            let told = Some((code, format!("every endpoint is down{says}")));
            assert_eq!(ede(&dead, &edns(0, [0, 0], &[])), told, "{rule}");
            let one_lives = Engine::new(tables_of(&text, &down[1..]));
            assert_eq!(ede(&one_lives, &edns(0, [0, 0], &[])), None, "{rule}");
        }
    }
    assert_eq!(ede(&dead, &head(0, 0)), None);
    good.mark_stale(true);
    let stale = "health is not looked at any more: this is what was last known".to_owned();
    assert_eq!(ede(&good, &edns(0, [0, 0], &[])), Some((3, stale)));
    good.mark_stale(false);
    assert_eq!(ede(&good, &edns(0, [0, 0], &[])), None);
    assert_eq!(
        ede(&engine("[\"geofence country\"]"), &edns(0, [0, 0], &[])),
        Some((18, "not served to this client's place".to_owned()))
    );
}

#[test]
fn who_pads_inside_encryption_gets_a_multiple_of_468_octets() {
    let engine = engine("[\"up\"]");
    let length = |query: &[u8], transport| {
        let reply = reply_at(&engine, query, CLIENT, transport, 0).unwrap();
        let octets = reply.encode().unwrap();
        Message::from_vec(&octets).unwrap();
        octets.len()
    };
    let padded = edns(0, [0, 0], &[0, 12, 0, 2, 0, 0]);
    for transport in [Transport::Tls, Transport::Https] {
        assert_eq!(length(&padded, transport), 468);
        assert_eq!(
            length(&edns(0, [0, 0], &[]), transport),
            length(&padded, Transport::Tcp)
        );
    }
    for name in 1..60_u8 {
        // names of all lengths, refused
        let mut query = padded.clone();
        query.splice(
            12..29,
            [&[name][..], &vec![b'x'; usize::from(name)], &[0]].concat(),
        );
        assert_eq!(length(&query, Transport::Tls), 468, "{name}");
    }
}
