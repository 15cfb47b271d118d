//! Literal octets of every message, and OPEN field by field; UPDATE and recorded traffic in files of their own.

mod capability;
mod path;
mod recorded;
mod update;

use bytes::{Bytes, BytesMut};
use steer_topology::{Asn, Prefix};

use crate::wire::{
    Capabilities, Context, Families, Family, Kind, MAX_LENGTH, Malformed, Message, NextHop, Notification,
    Open, Origin, Outbound, Path, Reach, Reason, RouteRefresh, Segment, SegmentKind, Update, decode,
    encode_end_of_rib, encode_keepalive, encode_notification, encode_open, encode_reach,
    encode_route_refresh, encode_withdrawal, take_frame,
};

const EXTERNAL: Context = Context::PLAIN;

const INTERNAL: Context = Context {
    internal: true,
    ..EXTERNAL
};

/// External, with AS numbers of two octets.
const OLD: Context = Context {
    four_octet: false,
    ..EXTERNAL
};

const TWO_OCTETS: Outbound = Outbound {
    four_octet: false,
    max_length: MAX_LENGTH,
};

/// Octets from hexadecimal digits; blanks mean nothing.
fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<u8> = text
        .chars()
        .filter(|c| !c.is_whitespace())
        .map(|c| u8::try_from(c.to_digit(16).expect("a hexadecimal digit")).unwrap())
        .collect();
    assert!(digits.len().is_multiple_of(2), "half an octet in {text:?}");
    digits
        .chunks_exact(2)
        .map(|pair| pair[0] << 4 | pair[1])
        .collect()
}

/// A whole message around `body`.
fn message(kind: u8, body: &[u8]) -> Vec<u8> {
    let length = u16::try_from(19 + body.len()).unwrap();
    [&[0xff; 16], length.to_be_bytes().as_slice(), &[kind], body].concat()
}

/// The one message that `octets` are.
fn decode_octets(octets: &[u8], context: Context) -> Result<Message, Malformed> {
    let mut buffer = BytesMut::from(octets);
    let frame = take_frame(&mut buffer, MAX_LENGTH)?.expect("a whole message");
    assert!(buffer.is_empty(), "{} octets left", buffer.len());
    decode(&frame, context)
}

fn decode_update(octets: &[u8], context: Context) -> Result<Update, Malformed> {
    match decode_octets(octets, context)? {
        Message::Update(update) => Ok(*update),
        other @ (Message::Open(_)
        | Message::Notification(_)
        | Message::Keepalive
        | Message::RouteRefresh(_)) => panic!("{other:?} is no UPDATE"),
    }
}

fn refusal(octets: &[u8]) -> Malformed {
    decode_octets(octets, EXTERNAL).expect_err("malformed")
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

/// What we announce: our own AS and nothing else.
fn plain_path(number: u32) -> Path {
    Path {
        origin: Origin::Igp,
        as_path: vec![Segment {
            kind: SegmentKind::Sequence,
            asns: vec![number],
        }],
        ..Path::default()
    }
}

fn reach(next_hop: &str, prefixes: &[&str]) -> Reach {
    Reach {
        next_hop: NextHop {
            address: next_hop.parse().unwrap(),
            link_local: None,
        },
        prefixes: prefixes.iter().map(|text| prefix(text)).collect(),
    }
}

/// `octets` mean `message`, and `encoded` is `octets`.
#[track_caller]
fn both_ways(octets: &str, encoded: &Bytes, message: &Message, context: Context) {
    let octets = hex(octets);
    assert_eq!(encoded.as_ref(), octets);
    assert_eq!(decode_octets(&octets, context).as_ref(), Ok(message));
}

fn open_65536() -> Open {
    Open {
        asn: asn(65536),
        hold_time: 90,
        identifier: [192, 0, 2, 1].into(),
        capabilities: Capabilities {
            families: Some(Families::ALL),
            four_octet_as: true,
            route_refresh: true,
            ..Capabilities::default()
        },
    }
}

#[test]
fn open_is_as_the_rfcs_draw_it() {
    // RFC 4271 §4.2; My AS is AS_TRANS (RFC 6793 §9); capabilities by RFC 5492 §4, 4760 §8, 2918 §2, 6793 §3.
    let octets = "ffffffffffffffffffffffffffffffff 0033 01
                  04 5ba0 005a c0000201 16
                  02 14  01 04 0001 00 01  01 04 0002 00 01  02 00  41 04 00010000";
    let open = open_65536();
    both_ways(octets, &encode_open(&open), &Message::Open(open), EXTERNAL);
}

#[test]
fn open_without_capabilities_is_29_octets() {
    let octets = "ffffffffffffffffffffffffffffffff 001d 01  04 fde9 0000 c0000201 00";
    let open = Open {
        asn: asn(65001),
        hold_time: 0,
        identifier: [192, 0, 2, 1].into(),
        capabilities: Capabilities::default(),
    };
    assert_eq!(open.capabilities.carried(), Families::IPV4); // RFC 4760 §8
    both_ways(octets, &encode_open(&open), &Message::Open(open), EXTERNAL);
}

#[test]
fn keepalive_is_a_bare_header() {
    let octets = "ffffffffffffffffffffffffffffffff 0013 04";
    both_ways(octets, &encode_keepalive(), &Message::Keepalive, EXTERNAL);
}

#[test]
fn route_refresh_names_the_family() {
    let octets = "ffffffffffffffffffffffffffffffff 0017 05  0002 00 01";
    let refresh = RouteRefresh {
        afi: 2,
        subtype: 0,
        safi: 1,
    };
    both_ways(
        octets,
        &encode_route_refresh(refresh),
        &Message::RouteRefresh(refresh),
        EXTERNAL,
    );
}

#[test]
fn notification_carries_the_shutdown_text() {
    // RFC 9003 §2: a length, then UTF-8.
    let octets = "ffffffffffffffffffffffffffffffff 001b 03  06 02  05 6d61696e74";
    let notification = Notification::shutdown(Reason::AdministrativeShutdown, "maint");
    assert_eq!(notification.shutdown_text().as_deref(), Some("maint"));
    both_ways(
        octets,
        &encode_notification(&notification),
        &Message::Notification(notification),
        EXTERNAL,
    );
}

#[test]
fn ipv4_routes_are_announced_with_next_hop() {
    // RFC 4271 §4.3: ORIGIN, AS_PATH with 4 octets per AS (RFC 6793 §3), NEXT_HOP, one prefix.
    let octets = "ffffffffffffffffffffffffffffffff 002f 02  0000  0014
                  40 01 01 00   40 02 06 02 01 00010000   40 03 04 c0000201
                  18 c63364";
    let (path, to) = (plain_path(65536), reach("192.0.2.1", &["198.51.100.0/24"]));
    let (encoded, count) = encode_reach(
        Family::Ipv4Unicast,
        &to.prefixes,
        to.next_hop,
        &path,
        &Outbound::PLAIN,
    );
    assert_eq!(count, 1);
    let update = Update {
        reachable: vec![to],
        path: Some(path),
        ..Update::default()
    };
    both_ways(octets, &encoded, &Message::Update(Box::new(update)), EXTERNAL);
}

#[test]
fn two_octet_peer_gets_as_trans_and_the_true_path_beside_it() {
    // RFC 6793 §4.2.2
    let octets = "ffffffffffffffffffffffffffffffff 0036 02  0000  001b
                  40 01 01 00   40 02 04 02 01 5ba0   40 03 04 c0000201   c0 11 06 02 01 00010000
                  18 c63364";
    let to = reach("192.0.2.1", &["198.51.100.0/24"]);
    let (encoded, _) = encode_reach(
        Family::Ipv4Unicast,
        &to.prefixes,
        to.next_hop,
        &plain_path(65536),
        &TWO_OCTETS,
    );
    let update = Update {
        reachable: vec![to],
        path: Some(plain_path(65536)), // made of both again, RFC 6793 §4.2.3
        ..Update::default()
    };
    both_ways(octets, &encoded, &Message::Update(Box::new(update)), OLD);
}

#[test]
fn ipv6_routes_are_announced_in_mp_reach_that_comes_first() {
    // RFC 4760 §3, RFC 2545 §3, RFC 7606 §5.1
    let octets = "ffffffffffffffffffffffffffffffff 0043 02  0000  002c
                  80 0e 1c 0002 01 10 20010db8000000000000000000000001 00 30 20010db80001
                  40 01 01 00   40 02 06 02 01 0000fde9";
    let (path, to) = (plain_path(65001), reach("2001:db8::1", &["2001:db8:1::/48"]));
    let (encoded, count) = encode_reach(
        Family::Ipv6Unicast,
        &to.prefixes,
        to.next_hop,
        &path,
        &Outbound::PLAIN,
    );
    assert_eq!(count, 1);
    let update = Update {
        reachable: vec![to],
        path: Some(path),
        ..Update::default()
    };
    both_ways(octets, &encoded, &Message::Update(Box::new(update)), EXTERNAL);
}

#[test]
fn ipv6_routes_with_an_ipv4_next_hop_are_not_announced() {
    let path = plain_path(65001);
    let v6 = encode_reach(
        Family::Ipv6Unicast,
        &[prefix("2001:db8::/32")],
        reach("192.0.2.1", &[]).next_hop,
        &path,
        &Outbound::PLAIN,
    );
    assert_eq!(v6, (Bytes::new(), 0));
}

#[test]
fn both_families_are_withdrawn_each_in_its_field() {
    let withdrawn = |text: &str| {
        Message::Update(Box::new(Update {
            withdrawn: vec![prefix(text)],
            ..Update::default()
        }))
    };
    let v4 = "ffffffffffffffffffffffffffffffff 001b 02  0004 18 c63364  0000";
    let (encoded, _) = encode_withdrawal(
        Family::Ipv4Unicast,
        &[prefix("198.51.100.0/24")],
        &Outbound::PLAIN,
    );
    both_ways(v4, &encoded, &withdrawn("198.51.100.0/24"), EXTERNAL);
    let v6 = "ffffffffffffffffffffffffffffffff 0024 02  0000  000d  80 0f 0a 0002 01 30 20010db80001";
    let (encoded, _) = encode_withdrawal(
        Family::Ipv6Unicast,
        &[prefix("2001:db8:1::/48")],
        &Outbound::PLAIN,
    );
    both_ways(v6, &encoded, &withdrawn("2001:db8:1::/48"), EXTERNAL);
}

#[test]
fn empty_update_is_end_of_rib() {
    // RFC 4724 §2
    let marker = |family| {
        Message::Update(Box::new(Update {
            end_of_rib: Some(family),
            ..Update::default()
        }))
    };
    let v4 = "ffffffffffffffffffffffffffffffff 0017 02  0000  0000";
    let v6 = "ffffffffffffffffffffffffffffffff 001d 02  0000  0006  80 0f 03 0002 01";
    let (ipv4, ipv6) = (Family::Ipv4Unicast, Family::Ipv6Unicast);
    both_ways(v4, &encode_end_of_rib(ipv4), &marker(ipv4), EXTERNAL);
    both_ways(v6, &encode_end_of_rib(ipv6), &marker(ipv6), EXTERNAL);
}

// --- OPEN, RFC 4271 §6.2

/// An OPEN with these optional parameters, length octet included.
fn open_octets(fixed: &str, parameters: &str) -> Vec<u8> {
    message(1, &[hex(fixed), hex(parameters)].concat())
}

const FIXED: &str = "04 fde9 005a c0000201";

#[test]
fn open_with_a_wrong_field_is_refused_by_its_subcode() {
    let rows: &[(&str, &str, Reason, &[u8])] = &[
        ("03 fde9 005a c0000201", "00", Reason::UnsupportedVersion, &[0, 4]),
        ("05 fde9 005a c0000201", "00", Reason::UnsupportedVersion, &[0, 4]),
        ("04 0000 005a c0000201", "00", Reason::BadPeerAs, &[]),
        ("04 fde9 0001 c0000201", "00", Reason::UnacceptableHoldTime, &[]),
        ("04 fde9 0002 c0000201", "00", Reason::UnacceptableHoldTime, &[]),
        ("04 fde9 005a 00000000", "00", Reason::BadIdentifier, &[]),
        // RFC 7607 §2: 0 in the capability is no better.
        (FIXED, "08 02 06 41 04 00000000", Reason::BadPeerAs, &[]),
        (
            "04 0000 005a c0000201",
            "08 02 06 41 04 0000fde9",
            Reason::BadPeerAs,
            &[],
        ),
        // 1 was Authentication Information, deprecated by RFC 4271.
        (FIXED, "03 01 01 00", Reason::UnsupportedParameter, &[]),
        (FIXED, "02 ee 00", Reason::UnsupportedParameter, &[]),
        // Lengths that do not fit.
        (FIXED, "01", Reason::OpenUnspecific, &[]),
        (FIXED, "00 00", Reason::OpenUnspecific, &[]),
        (FIXED, "01 02", Reason::OpenUnspecific, &[]),
        (FIXED, "03 02 02 02", Reason::OpenUnspecific, &[]),
        (FIXED, "03 02 01 02", Reason::OpenUnspecific, &[]),
        (FIXED, "07 02 05 41 04 000000", Reason::OpenUnspecific, &[]),
        (FIXED, "07 02 05 41 03 00fde9", Reason::OpenUnspecific, &[]),
        (FIXED, "06 02 04 01 02 0001", Reason::OpenUnspecific, &[]),
        (FIXED, "05 02 03 02 01 00", Reason::OpenUnspecific, &[]),
        (FIXED, "ff ff", Reason::OpenUnspecific, &[]),
        (FIXED, "ff ff 00", Reason::OpenUnspecific, &[]),
        (FIXED, "ff ff 0001", Reason::OpenUnspecific, &[]),
        (FIXED, "ff ff 0002 02 00", Reason::OpenUnspecific, &[]),
    ];
    for (fixed, parameters, reason, data) in rows {
        let refusal = refusal(&open_octets(fixed, parameters));
        let want = Notification::new(*reason, data.to_vec());
        assert_eq!(refusal.notification, want, "{fixed} {parameters}: {refusal}");
    }
}

#[track_caller]
fn accepted(parameters: &str) -> Open {
    match decode_octets(&open_octets(FIXED, parameters), EXTERNAL) {
        Ok(Message::Open(open)) => open,
        other => panic!("{other:?}"),
    }
}

#[test]
fn unknown_capabilities_are_kept_apart_and_change_nothing() {
    // RFC 5492 §3. 1 with AFI 25 is a family we do not carry.
    let open = accepted("12 02 10 c8 00  c9 04 61626364  01 04 0001 00 01  ee 00");
    assert_eq!(open.capabilities.families, Some(Families::IPV4));
    let others = [(200, vec![]), (201, b"abcd".to_vec()), (238, vec![])];
    assert_eq!(open.capabilities.others, others);
    let open = accepted("08 02 06 01 04 0019 00 46");
    assert_eq!(open.capabilities.carried(), Families::default());
}

#[test]
fn capability_may_stand_in_any_parameter_and_twice() {
    let open = accepted("14 02 06 01 04 0001 00 01  02 0a 01 04 0002 00 01 02 00 02 00");
    assert_eq!(open.capabilities.families, Some(Families::ALL));
    assert!(open.capabilities.route_refresh);
}

#[test]
fn four_octet_capability_beats_the_field() {
    // RFC 6793 §4.1
    let open = accepted("08 02 06 41 04 00010001");
    assert_eq!((open.asn, open.capabilities.four_octet_as), (asn(65537), true));
    let open = accepted("00");
    assert_eq!((open.asn, open.capabilities.four_octet_as), (asn(65001), false));
}

#[test]
fn extended_parameters_are_read_whatever_the_first_length_says() {
    // RFC 9072 §2: any first length but 0, then 255 and the true length.
    for first in ["ff", "01"] {
        let open = accepted(&format!("{first} ff 0009  02 0006 41 04 00010001"));
        assert_eq!(open.asn, asn(65537));
    }
}
