//! The codec against itself, against random octets, and row by row against the RFCs.

mod notification;
mod octets;
mod properties;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use bytes::{Bytes, BytesMut};
use steer_topology::{Asn, Prefix};

use super::*;

pub(crate) use properties::any_message;

/// The one frame that `message` is.
pub(crate) fn frame(message: &[u8]) -> Frame {
    let mut buffer = BytesMut::from(message);
    let frame = take_frame(&mut buffer, EXTENDED_LENGTH).unwrap().unwrap();
    assert!(buffer.is_empty(), "one message and nothing behind it");
    frame
}

const MODERN: Context = Context::PLAIN;

const OLD: Outbound = Outbound {
    four_octet: false,
    max_length: MAX_LENGTH,
};

fn read(message: &[u8], context: Context) -> Result<Message, Malformed> {
    decode(&frame(message), context)
}

fn read_update(message: &[u8], context: Context) -> Update {
    let Message::Update(update) = read(message, context).unwrap() else {
        panic!("no UPDATE")
    };
    *update
}

/// An UPDATE of a session with 4-octet AS numbers.
pub(crate) fn read_update_of(frame: &Frame) -> Update {
    match decode(frame, MODERN).unwrap() {
        Message::Update(update) => *update,
        other @ (Message::Open(_)
        | Message::Notification(_)
        | Message::Keepalive
        | Message::RouteRefresh(_)) => panic!("{other:?}"),
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn path() -> Path {
    Path {
        origin: Origin::Igp,
        as_path: vec![Segment {
            kind: SegmentKind::Sequence,
            asns: vec![64_512],
        }],
        ..Path::default()
    }
}

// Framing

fn refusal_of(octets: &[u8]) -> (u8, u8, Vec<u8>) {
    let malformed = take_frame(&mut BytesMut::from(octets), MAX_LENGTH).unwrap_err();
    let Notification { code, subcode, data } = malformed.notification;
    (code, subcode, data)
}

fn header(length: u16, kind: u8) -> Vec<u8> {
    let mut octets = vec![0xff; 16];
    octets.extend_from_slice(&length.to_be_bytes());
    octets.push(kind);
    octets
}

#[test]
fn another_protocol_is_refused_at_its_first_octet() {
    assert_eq!(refusal_of(b"G"), (1, 1, vec![]));
    assert_eq!(refusal_of(b"GET / HTTP/1.1\r\n"), (1, 1, vec![]));
    let error = take_frame(&mut BytesMut::from(&b"\x16\x03\x01"[..]), MAX_LENGTH).unwrap_err();
    assert_eq!(
        error.to_string(),
        r#"no BGP marker; the peer sent "\u{16}\u{3}\u{1}""#
    );
}

#[test]
fn a_length_that_its_type_cannot_have_is_refused_with_that_length() {
    for (length, kind) in [
        (0, 4),
        (18, 4),
        (20, 4),
        (28, 1),
        (22, 2),
        (20, 3),
        (18, 5),
        (4097, 2),
        (4097, 5),
    ] {
        let data = u16::to_be_bytes(length).to_vec();
        assert_eq!(
            refusal_of(&header(length, kind)),
            (1, 2, data),
            "{length} octets, type {kind}"
        );
    }
}

#[test]
fn an_unknown_type_is_refused_with_that_type() {
    assert_eq!(refusal_of(&header(19, 0)), (1, 3, vec![0]));
    assert_eq!(refusal_of(&header(19, 6)), (1, 3, vec![6]));
}

#[test]
fn half_a_message_waits_for_the_other_half() {
    let message = encode_notification(&Notification::shutdown(Reason::AdministrativeShutdown, "bye"));
    let mut buffer = BytesMut::new();
    for octet in &message[..message.len() - 1] {
        buffer.extend_from_slice(&[*octet]);
        assert_eq!(take_frame(&mut buffer, MAX_LENGTH), Ok(None));
    }
    buffer.extend_from_slice(&message[message.len() - 1..]);
    assert!(take_frame(&mut buffer, MAX_LENGTH).unwrap().is_some());
}

// OPEN

fn open() -> Open {
    Open {
        asn: Asn::new(64_512).unwrap(),
        hold_time: 90,
        identifier: Ipv4Addr::new(192, 0, 2, 1),
        capabilities: Capabilities {
            families: Some(Families::ALL),
            four_octet_as: true,
            route_refresh: true,
            ..Capabilities::default()
        },
    }
}

/// Our OPEN with the octets at `offset` of its body replaced.
fn changed_open(offset: usize, octets: &[u8]) -> Result<Message, Malformed> {
    let mut message = encode_open(&open()).to_vec();
    message[HEADER_LENGTH + offset..][..octets.len()].copy_from_slice(octets);
    read(&message, Context::default())
}

/// An OPEN with these optional parameters behind their length octet.
fn open_with(parameters: &[u8]) -> Result<Message, Malformed> {
    let mut body = vec![4, 0xfc, 0, 0, 90, 192, 0, 2, 1];
    body.push(u8::try_from(parameters.len()).unwrap());
    body.extend_from_slice(parameters);
    read(
        &framed(Kind::Open, |out| out.put_slice(&body)),
        Context::default(),
    )
}

fn numbers(result: Result<Message, Malformed>) -> (u8, u8, Vec<u8>) {
    let Notification { code, subcode, data } = result.unwrap_err().notification;
    (code, subcode, data)
}

#[test]
fn a_bad_open_is_refused_by_cause() {
    assert_eq!(
        numbers(changed_open(0, &[3])),
        (2, 1, vec![0, 4]),
        "the version we speak is the data"
    );
    assert_eq!(numbers(changed_open(1, &[0, 0])).1, 2, "AS 0");
    assert_eq!(numbers(changed_open(3, &[0, 1])).1, 6, "hold time 1");
    assert_eq!(numbers(changed_open(3, &[0, 2])).1, 6, "hold time 2");
    assert_eq!(numbers(changed_open(5, &[0, 0, 0, 0])).1, 3, "identifier 0.0.0.0");
    assert_eq!(
        numbers(changed_open(9, &[1])).1,
        0,
        "parameters shorter than the message"
    );
    assert_eq!(
        numbers(open_with(&[1, 0])).1,
        4,
        "authentication, deprecated by RFC 4271"
    );
    assert_eq!(numbers(open_with(&[2, 9, 1])).1, 0, "a parameter that ends early");
    assert_eq!(
        numbers(open_with(&[2, 2, 65, 4])).1,
        0,
        "a capability that ends early"
    );
    assert_eq!(
        numbers(open_with(&[2, 5, 65, 3, 0, 0, 1])).1,
        0,
        "a 4-octet AS number of 3 octets"
    );
    assert_eq!(
        numbers(open_with(&[2, 6, 65, 4, 0, 0, 0, 0])).1,
        2,
        "a 4-octet AS number of 0"
    );
}

#[test]
fn hold_time_0_and_3_are_taken() {
    for seconds in [0_u16, 3, 65_535] {
        assert!(changed_open(3, &seconds.to_be_bytes()).is_ok(), "{seconds} s");
    }
}

#[test]
fn a_peer_without_capabilities_carries_ipv4_alone() {
    let Ok(Message::Open(open)) = open_with(&[]) else {
        panic!()
    };
    assert_eq!(open.capabilities.carried(), Families::IPV4);
    assert!(!open.capabilities.four_octet_as);
}

#[test]
fn a_peer_that_names_only_unknown_families_carries_nothing_of_ours() {
    let Ok(Message::Open(open)) = open_with(&[2, 6, 1, 4, 0, 1, 0, 128]) else {
        panic!()
    };
    assert_eq!(open.capabilities.carried(), Families::default());
}

#[test]
fn a_number_beyond_two_octets_is_as_trans_in_the_old_field() {
    let asn = Asn::new(4_200_000_001).unwrap();
    let message = encode_open(&Open { asn, ..open() });
    assert_eq!(
        message[HEADER_LENGTH + 1..][..2],
        (Asn::TRANS.get() as u16).to_be_bytes()
    );
    let Ok(Message::Open(back)) = read(&message, Context::default()) else {
        panic!()
    };
    assert_eq!(back.asn, asn);
}

#[test]
fn long_parameters_take_the_extended_form() {
    let others = vec![(200, vec![7; 200]), (201, vec![8; 200])];
    let capabilities = Capabilities {
        others,
        ..open().capabilities
    };
    let long = Open {
        capabilities,
        ..open()
    };
    let message = encode_open(&long);
    assert_eq!(message[HEADER_LENGTH + 9..][..2], [255, 255], "RFC 9072 §2");
    assert_eq!(read(&message, Context::default()), Ok(Message::Open(long)));
}

// UPDATE: the action of RFC 7606, attribute by attribute

const ORIGIN: &[u8] = &[0x40, 1, 1, 0];
const AS_PATH: &[u8] = &[0x40, 2, 6, 2, 1, 0, 0, 0xfc, 0];
const NEXT_HOP: &[u8] = &[0x40, 3, 4, 192, 0, 2, 1];
const ROUTE: &[u8] = &[24, 198, 51, 100];

fn raw_update(withdrawn: &[u8], attributes: &[&[u8]], announced: &[u8]) -> Bytes {
    let attributes = attributes.concat();
    framed(Kind::Update, |out| {
        out.put_u16(u16::try_from(withdrawn.len()).unwrap());
        out.put_slice(withdrawn);
        out.put_u16(u16::try_from(attributes.len()).unwrap());
        out.put_slice(&attributes);
        out.put_slice(announced);
    })
}

/// A good announcement of `ROUTE` with one more attribute, or one replaced by type code.
fn with_attribute(attribute: &[u8], context: Context) -> Result<Message, Malformed> {
    let base = [ORIGIN, AS_PATH, NEXT_HOP];
    let mut list: Vec<&[u8]> = base
        .into_iter()
        .filter(|other| other[1] != attribute[1])
        .collect();
    list.push(attribute);
    read(&raw_update(&[], &list, ROUTE), context)
}

#[derive(Debug, PartialEq)]
enum Outcome {
    Taken,
    Discarded,
    Withdrawn,
    Reset(u8, u8),
}

fn outcome(result: Result<Message, Malformed>) -> Outcome {
    match result {
        Ok(Message::Update(update)) => {
            let worst = update.faults.iter().map(|fault| fault.action).max();
            match worst {
                None => {
                    assert_eq!(update.reachable.len(), 1);
                    Outcome::Taken
                }
                Some(Action::Discard) => {
                    assert_eq!(update.reachable.len(), 1);
                    Outcome::Discarded
                }
                Some(Action::TreatAsWithdraw) => {
                    assert_eq!(update.reachable, vec![]);
                    assert!(update.withdrawn.contains(&prefix("198.51.100.0/24")));
                    Outcome::Withdrawn
                }
                Some(Action::Reset) => panic!("a reset is an error"),
            }
        }
        Ok(other) => panic!("{other:?}"),
        Err(malformed) => Outcome::Reset(malformed.notification.code, malformed.notification.subcode),
    }
}

#[test]
#[rustfmt::skip]
fn each_attribute_fault_has_the_action_that_rfc_7606_gives_it() {
    use Outcome::{Discarded, Reset, Taken, Withdrawn};
    let internal = Context { internal: true, ..MODERN };
    let rows: &[(&str, &[u8], Context, Outcome)] = &[
        ("nothing more",                     &[0xc0, 99, 0],                         MODERN,   Taken),
        ("origin of 2 octets",               &[0x40, 1, 2, 0, 0],                    MODERN,   Withdrawn), // §7.1
        ("origin 3",                         &[0x40, 1, 1, 3],                       MODERN,   Withdrawn),
        ("path segment of type 7",           &[0x40, 2, 6, 7, 1, 0, 0, 0xfc, 0],     MODERN,   Withdrawn), // §7.2
        ("confederation segment",            &[0x40, 2, 6, 3, 1, 0, 0, 0xfc, 0],     MODERN,   Withdrawn), // RFC 5065
        ("path segment overrun",             &[0x40, 2, 6, 2, 2, 0, 0, 0xfc, 0],     MODERN,   Withdrawn),
        ("path segment underrun",            &[0x40, 2, 7, 2, 1, 0, 0, 0xfc, 0, 2],  MODERN,   Withdrawn),
        ("empty path segment",               &[0x40, 2, 2, 2, 0],                    MODERN,   Withdrawn),
        ("empty path",                       &[0x40, 2, 0],                          internal, Taken),
        ("next hop of 5 octets",             &[0x40, 3, 5, 1, 2, 3, 4, 5],           MODERN,   Withdrawn), // §7.3
        ("next hop 0.0.0.0",                 &[0x40, 3, 4, 0, 0, 0, 0],              MODERN,   Withdrawn),
        ("MED of 3 octets",                  &[0x80, 4, 3, 0, 0, 0],                 MODERN,   Withdrawn), // §7.4
        ("MED",                              &[0x80, 4, 4, 0, 0, 0, 1],              MODERN,   Taken),
        ("local preference from outside",    &[0x40, 5, 4, 0, 0, 0, 1],              MODERN,   Discarded), // §7.5
        ("local preference of 1 octet",      &[0x40, 5, 1, 0],                       internal, Withdrawn),
        ("local preference",                 &[0x40, 5, 4, 0, 0, 0, 100],            internal, Taken),
        ("atomic aggregate with a value",    &[0x40, 6, 1, 0],                       MODERN,   Discarded), // §7.6
        ("aggregator of 6 octets",           &[0xc0, 7, 6, 0, 1, 1, 1, 1, 1],        MODERN,   Discarded), // §7.7
        ("communities of 5 octets",          &[0xc0, 8, 5, 0, 0, 0, 0, 0],           MODERN,   Withdrawn), // §7.8
        ("communities of 0 octets",          &[0xc0, 8, 0],                          MODERN,   Withdrawn),
        ("originator from outside",          &[0x80, 9, 1, 0],                       MODERN,   Discarded), // §7.9
        ("originator of 1 octet",            &[0x80, 9, 1, 0],                       internal, Withdrawn),
        ("cluster list from outside",        &[0x80, 10, 4, 0, 0, 0, 1],             MODERN,   Discarded), // §7.10
        ("cluster list of 0 octets",         &[0x80, 10, 0],                         internal, Withdrawn),
        ("MP_REACH with next hop too long",  &[0x80, 14, 6, 0, 2, 1, 17, 0, 0],      MODERN,   Reset(3, 9)), // §7.11
        ("MP_REACH with a short next hop",   &[0x80, 14, 6, 0, 2, 1, 1, 0, 0],       MODERN,   Reset(3, 9)),
        ("MP_REACH of another family",       &[0x80, 14, 6, 0, 25, 70, 1, 0, 0],     MODERN,   Taken),
        ("MP_UNREACH with a length of 129",  &[0x80, 15, 4, 0, 2, 1, 129],           MODERN,   Reset(3, 9)), // §7.12
        ("MP_UNREACH of 2 octets",           &[0x80, 15, 2, 0, 2],                   MODERN,   Reset(3, 9)),
        ("extended communities of 7 octets", &[0xc0, 16, 7, 0, 0, 0, 0, 0, 0, 0],    MODERN,   Withdrawn), // §7.14
        ("AS4_PATH that cannot be read",     &[0xc0, 17, 1, 0],                      MODERN,   Discarded), // RFC 6793 §6
        ("AS4_AGGREGATOR of 1 octet",        &[0xc0, 18, 1, 0],                      MODERN,   Discarded),
        ("large communities of 11 octets",   &[0xc0, 32, 11, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], MODERN, Withdrawn),
        ("only-to-customer of 3 octets",     &[0xc0, 35, 3, 0, 0, 0],                MODERN,   Withdrawn),
        ("origin with optional bit",         &[0xc0, 1, 1, 0],                       MODERN,   Withdrawn), // §3 c
        ("MED with transitive bit",          &[0xc0, 4, 4, 0, 0, 0, 1],              MODERN,   Withdrawn),
        ("unknown, optional",                &[0x80, 200, 1, 0],                     MODERN,   Taken),
        ("unknown, well-known",              &[0x40, 200, 1, 0],                     MODERN,   Reset(3, 2)),
        ("attribute that overruns the list", &[0xc0, 8, 9, 0],                       MODERN,   Withdrawn), // §4
        ("attribute header cut off",         &[0xc0, 8],                             MODERN,   Withdrawn),
    ];
    for (name, attribute, context, want) in rows {
        assert_eq!(outcome(with_attribute(attribute, *context)), *want, "{name}");
    }
}

#[test]
fn a_missing_mandatory_attribute_withdraws() {
    for missing in 1..=3_u8 {
        let list: Vec<&[u8]> = [ORIGIN, AS_PATH, NEXT_HOP]
            .into_iter()
            .filter(|a| a[1] != missing)
            .collect();
        let update = read_update(&raw_update(&[], &list, ROUTE), MODERN);
        assert_eq!(update.withdrawn, vec![prefix("198.51.100.0/24")]);
        assert_eq!(
            update.faults.first().map(|fault| (fault.attribute, fault.reason)),
            Some((missing, Reason::MissingWellKnown))
        );
    }
}

#[test]
fn a_repeated_attribute_counts_once_but_a_repeated_mp_reach_resets() {
    let twice = raw_update(&[], &[ORIGIN, AS_PATH, NEXT_HOP, &[0x40, 1, 1, 2]], ROUTE);
    let update = read_update(&twice, MODERN);
    assert_eq!(update.path.unwrap().origin, Origin::Igp, "the first counts");
    let unreach: &[u8] = &[0x80, 15, 3, 0, 2, 1];
    let twice = raw_update(&[], &[unreach, unreach], &[]);
    assert_eq!(outcome(read(&twice, MODERN)), Outcome::Reset(3, 1));
}

#[test]
fn a_fault_without_a_reachable_route_beside_it_resets() {
    let withdrawal = raw_update(ROUTE, &[&[0x80, 4, 1, 0]], &[]);
    assert_eq!(
        outcome(read(&withdrawal, MODERN)),
        Outcome::Reset(3, 5),
        "RFC 7606 §5.2"
    );
}

#[test]
fn lengths_and_prefixes_that_cannot_be_read_reset() {
    let overrun = framed(Kind::Update, |out| out.put_slice(&[0, 9, 0, 0]));
    assert_eq!(outcome(read(&overrun, MODERN)), Outcome::Reset(3, 1));
    let overrun = framed(Kind::Update, |out| out.put_slice(&[0, 0, 0, 1]));
    assert_eq!(outcome(read(&overrun, MODERN)), Outcome::Reset(3, 1));
    for field in [&[33, 1, 1, 1, 1, 1][..], &[24, 1, 1], &[255]] {
        assert_eq!(
            outcome(read(&raw_update(field, &[], &[]), MODERN)),
            Outcome::Reset(3, 10)
        );
        let announced = raw_update(&[], &[ORIGIN, AS_PATH, NEXT_HOP], field);
        assert_eq!(outcome(read(&announced, MODERN)), Outcome::Reset(3, 10));
    }
}

#[test]
fn bits_beyond_the_length_of_a_prefix_mean_nothing() {
    let update = read_update(&raw_update(&[9, 10, 0xff], &[], &[]), MODERN);
    assert_eq!(update.withdrawn, vec![prefix("10.128.0.0/9")]);
}

#[test]
fn the_default_route_first_is_read_as_the_default_route() {
    // What decoders that guess at path identifiers (RFC 7911) get wrong.
    let message = raw_update(&[], &[ORIGIN, AS_PATH, NEXT_HOP], &[0, 24, 198, 51, 100, 8, 10]);
    let update = read_update(&message, MODERN);
    assert_eq!(
        update.reachable[0].prefixes,
        vec![
            prefix("0.0.0.0/0"),
            prefix("198.51.100.0/24"),
            prefix("10.0.0.0/8")
        ]
    );
}

#[test]
fn both_end_of_rib_markers_are_known_and_nothing_else_is_one() {
    for family in Family::ALL {
        assert_eq!(
            read_update(&encode_end_of_rib(family), MODERN).end_of_rib,
            Some(family)
        );
    }
    assert_eq!(read_update(&raw_update(ROUTE, &[], &[]), MODERN).end_of_rib, None);
}

#[test]
fn a_two_octet_peer_gets_as_trans_and_the_true_path_beside_it() {
    let mut path = path();
    path.as_path[0].asns = vec![4_200_000_001, 64_512];
    let next_hop = IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1));
    let (message, _) = encode_reach(
        Family::Ipv4Unicast,
        &[prefix("192.0.2.0/24")],
        next_hop.into(),
        &path,
        &OLD,
    );
    let update = read_update(&message, Context::default());
    let asns: Vec<u32> = update.path.unwrap().asns().collect();
    assert_eq!(asns, [4_200_000_001, 64_512], "and reads it back from both");
    let as_path = [0x40, 2, 6, 2, 2, 0x5b, 0xa0, 0xfc, 0];
    assert!(message.windows(as_path.len()).any(|window| window == as_path));
    let as4_path = [0xc0, 17, 10, 2, 2, 0xfa, 0x56, 0xea, 0x01, 0, 0, 0xfc, 0];
    assert!(message.windows(as4_path.len()).any(|window| window == as4_path));
}

#[test]
fn messages_are_split_at_their_limit_and_lose_nothing() {
    let v4 = (0..40_000_u32).map(|n| Prefix::new(Ipv4Addr::from(0x0a00_0000 + n).into(), 32).unwrap());
    let v4: Vec<Prefix> = v4.collect();
    let v6 = (0..9_000_u128).map(|n| Prefix::new(Ipv6Addr::from((0x2001 << 112) + n).into(), 128).unwrap());
    let (here, there) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    let rows = [
        (Family::Ipv4Unicast, v4.clone(), here),
        (Family::Ipv4Unicast, v4, there), // RFC 8950
        (Family::Ipv6Unicast, v6.collect(), there),
    ];
    let context = Context {
        extended_next_hop: true,
        ..MODERN
    };
    for (family, prefixes, next_hop) in rows {
        for max_length in [MAX_LENGTH, EXTENDED_LENGTH] {
            let outbound = Outbound {
                max_length,
                ..Outbound::PLAIN
            };
            let full = |message: &Bytes, count, rest: &[Prefix]| {
                assert!(message.len() <= max_length);
                assert!(
                    message.len() > max_length - 17 || count == rest.len(),
                    "no room is wasted"
                );
            };
            let (mut announced, mut withdrawn) = (Vec::new(), Vec::new());
            let mut rest = prefixes.as_slice();
            while !rest.is_empty() {
                let (message, count) = encode_reach(family, rest, next_hop.into(), &path(), &outbound);
                full(&message, count, rest);
                rest = &rest[count..];
                announced.extend(read_update(&message, context).reachable.remove(0).prefixes);
            }
            let mut rest = prefixes.as_slice();
            while !rest.is_empty() {
                let (message, count) = encode_withdrawal(family, rest, &outbound);
                full(&message, count, rest);
                rest = &rest[count..];
                withdrawn.extend(read_update(&message, context).withdrawn);
            }
            assert_eq!((&announced, &withdrawn), (&prefixes, &prefixes));
        }
    }
}

#[test]
fn attributes_that_fill_the_message_announce_nothing() {
    let path = Path {
        large_communities: vec![[1, 2, 3]; 400], // 4,800 octets
        ..path()
    };
    let prefixes = [prefix("192.0.2.0/24")];
    let next_hop = NextHop::from(IpAddr::V4(Ipv4Addr::LOCALHOST));
    let announce = |outbound| encode_reach(Family::Ipv4Unicast, &prefixes, next_hop, &path, &outbound).1;
    assert_eq!(announce(Outbound::PLAIN), 0);
    let max_length = EXTENDED_LENGTH;
    assert_eq!(
        announce(Outbound {
            max_length,
            ..Outbound::PLAIN
        }),
        1
    );
}

#[test]
fn a_long_message_is_taken_up_to_the_limit_and_no_further() {
    for (length, limit, taken) in [
        (4_096, MAX_LENGTH, true),
        (4_097, MAX_LENGTH, false),
        (4_097, EXTENDED_LENGTH, true),
        (65_535, EXTENDED_LENGTH, true),
    ] {
        for kind in [Kind::Update, Kind::Notification, Kind::RouteRefresh] {
            let mut octets = header(length, kind.octet());
            octets.resize(usize::from(length), 0);
            let got = take_frame(&mut BytesMut::from(&octets[..]), limit);
            assert_eq!(got.is_ok(), taken, "{kind:?} of {length} octets, limit {limit}");
        }
    }
    // RFC 8654 §4: not these.
    for (length, kind) in [(4_097, Kind::Open), (20, Kind::Keepalive)] {
        let octets = header(length, kind.octet());
        assert!(take_frame(&mut BytesMut::from(&octets[..]), EXTENDED_LENGTH).is_err());
    }
}
