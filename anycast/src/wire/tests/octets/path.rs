//! AS paths of 2-octet peers (RFC 6793), IPv4 over IPv6 next hops (RFC 8950), leaks (RFC 9234).

use steer_topology::RoleName;

use super::*;
use crate::wire::{Action, AttributeFault};

const ORIGIN: &str = "40 01 01 00";
const AS_PATH: &str = "40 02 06 02 01 0000fde9";
const NEXT_HOP: &str = "40 03 04 c0000201";

fn attributes(list: &[&str]) -> Vec<u8> {
    let list = hex(&list.concat());
    let length = u16::try_from(list.len()).unwrap().to_be_bytes();
    [&[0, 0], length.as_slice(), &list].concat()
}

/// An UPDATE of 198.51.100.0/24 with these attributes.
fn classic(list: &[&str], context: Context) -> Update {
    let body = [attributes(list), hex("18 c63364")].concat();
    decode_update(&message(2, &body), context).unwrap()
}

fn segments(path: &Path) -> Vec<(SegmentKind, Vec<u32>)> {
    path.as_path
        .iter()
        .map(|segment| (segment.kind, segment.asns.clone()))
        .collect()
}

use SegmentKind::{Sequence, Set};

type Segments = &'static [(SegmentKind, &'static [u32])];

#[test]
fn the_path_of_an_old_peer_is_made_of_both() {
    // RFC 6793 §4.2.3
    let rows: &[(&str, &str, Segments)] = &[
        // As long as each other: AS4_PATH alone.
        (
            "02 02 5ba0 fde9",
            "02 02 00010000 0000fde9",
            &[(Sequence, &[65536, 65001])],
        ),
        // Old peers on the way put themselves in front.
        (
            "02 03 0001 0002 5ba0",
            "02 01 00010000",
            &[(Sequence, &[1, 2, 65536])],
        ),
        // A set counts once.
        (
            "02 01 0001 01 02 5ba0 5ba0",
            "01 02 00010000 00010001",
            &[(Sequence, &[1]), (Set, &[65536, 65537])],
        ),
        (
            "01 02 0001 0002 02 01 5ba0",
            "02 01 00010000",
            &[(Set, &[1, 2]), (Sequence, &[65536])],
        ),
        // Longer than AS_PATH: it says nothing.
        ("02 01 5ba0", "02 02 00010000 00010001", &[(Sequence, &[23456])]),
        // Confederation segments in it are left out (§6).
        (
            "02 02 0001 5ba0",
            "03 01 00000007 02 01 00010000 04 01 00000008",
            &[(Sequence, &[1, 65536])],
        ),
    ];
    for (short, long, want) in rows {
        let as_path = format!("40 02 {:02x} {short}", hex(short).len());
        let as4_path = format!("c0 11 {:02x} {long}", hex(long).len());
        let update = classic(&[ORIGIN, &as_path, NEXT_HOP, &as4_path], OLD);
        assert_eq!(update.faults, [], "{short} {long}");
        let got = segments(&update.path.unwrap());
        let want: Vec<_> = want.iter().map(|(kind, asns)| (*kind, asns.to_vec())).collect();
        assert_eq!(got, want, "{short} {long}");
    }
}

#[test]
fn as4_path_counts_only_where_it_can_be_right() {
    let short = "40 02 04 02 01 5ba0";
    let as4_path = "c0 11 06 02 01 00010000";
    let as4_aggregator = "c0 12 08 00010000 c0000201";
    let asns = |list: &[&str], context| classic(list, context).path.unwrap().asns().collect::<Vec<_>>();
    // §4.2.3: whoever aggregated knew no AS4_PATH, so it is older than the aggregate.
    let aggregated = |by: &str| format!("c0 07 06 {by} c0000201");
    let list = |aggregator: &str| {
        let list = [ORIGIN, short, NEXT_HOP, aggregator, as4_path, as4_aggregator];
        asns(&list, OLD)
    };
    assert_eq!(list(&aggregated("fde9")), [23456]);
    assert_eq!(list(&aggregated("5ba0")), [65536]);
    // Without AS4_AGGREGATOR the aggregator says nothing about AS4_PATH.
    let list = [ORIGIN, short, NEXT_HOP, &aggregated("fde9"), as4_path];
    assert_eq!(asns(&list, OLD), [65536]);
    // §4.1: a 4-octet peer must not send it; it is dropped.
    assert_eq!(asns(&[ORIGIN, AS_PATH, NEXT_HOP, as4_path], EXTERNAL), [65001]);
}

// RFC 8950

const MODERN: Context = Context {
    extended_next_hop: true,
    ..EXTERNAL
};

#[test]
fn ipv4_routes_go_over_an_ipv6_next_hop_in_mp_reach() {
    // RFC 8950 §3: AFI 1, SAFI 1, a next hop of 16 octets.
    let octets = "ffffffffffffffffffffffffffffffff 0040 02  0000  0029
                  80 0e 19 0001 01 10 20010db8000000000000000000000001 00 18 c63364
                  40 01 01 00   40 02 06 02 01 0000fde9";
    let (path, to) = (plain_path(65001), reach("2001:db8::1", &["198.51.100.0/24"]));
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
    both_ways(octets, &encoded, &Message::Update(Box::new(update)), MODERN);
    // Who did not agree to it cannot tell where the prefixes begin (RFC 7606 §7.11).
    let refusal = refusal(&hex(octets));
    let want = (Reason::OptionalAttribute.numbers(), 28);
    let Notification { code, subcode, data } = refusal.notification;
    assert_eq!(((code, subcode), data.len()), want);
}

#[test]
fn a_link_local_next_hop_stands_behind_the_global_one_or_alone() {
    let both = NextHop {
        address: "2001:db8::1".parse().unwrap(),
        link_local: Some("fe80::1".parse().unwrap()),
    };
    let alone = NextHop {
        address: "fe80::1".parse().unwrap(),
        link_local: None,
    };
    let rows = [
        (
            both,
            "20 20010db8000000000000000000000001 fe800000000000000000000000000001",
        ),
        (alone, "10 fe800000000000000000000000000001"),
    ];
    for family in Family::ALL {
        let prefixes = match family {
            Family::Ipv4Unicast => [prefix("198.51.100.0/24")],
            Family::Ipv6Unicast => [prefix("2001:db8::/32")],
        };
        for (next_hop, octets) in rows {
            let path = plain_path(65001);
            let (encoded, _) = encode_reach(family, &prefixes, next_hop, &path, &Outbound::PLAIN);
            assert_eq!(encoded[29..][..hex(octets).len()], hex(octets));
            let update = decode_update(&encoded, MODERN).unwrap();
            assert_eq!(update.reachable[0].next_hop, next_hop);
        }
    }
    // What a router without a global address on the link sends.
    let unnumbered =
        "80 0e 29 0001 01 20 00000000000000000000000000000000 fe800000000000000000000000000001 00 18 c63364";
    let body = attributes(&[unnumbered, ORIGIN, AS_PATH]);
    let update = decode_update(&message(2, &body), MODERN).unwrap();
    assert_eq!(update.reachable[0].next_hop, alone);
}

#[test]
fn a_next_hop_that_is_no_host_withdraws() {
    for address in [
        "00000000000000000000000000000000",
        "ff020000000000000000000000000001",
    ] {
        let mp_reach = format!("80 0e 19 0001 01 10 {address} 00 18 c63364");
        let body = attributes(&[&mp_reach, ORIGIN, AS_PATH]);
        let update = decode_update(&message(2, &body), MODERN).unwrap();
        let fault = AttributeFault {
            attribute: 14,
            action: Action::TreatAsWithdraw,
            reason: Reason::InvalidNextHop,
        };
        assert_eq!(
            (update.faults, update.withdrawn),
            (vec![fault], vec![prefix("198.51.100.0/24")])
        );
    }
}

// ONLY_TO_CUSTOMER, RFC 9234 §5

#[test]
fn a_route_that_comes_up_or_sideways_with_only_to_customer_is_a_leak() {
    use RoleName::{Customer, Peer, Provider, RouteServer, RouteServerClient};
    let from = |asn: u32| format!("c0 23 04 {asn:08x}");
    let rows = [
        // Our role, the AS in the attribute, a leak.
        (Some(Provider), 65001, true), // from a customer
        (Some(RouteServer), 65001, true),
        (Some(Peer), 65001, false), // the peer itself put it there
        (Some(Peer), 65002, true),
        (Some(Customer), 65002, false), // from a provider
        (Some(RouteServerClient), 65002, false),
        (None, 65002, false),
    ];
    for (role, asn, leaked) in rows {
        let context = Context {
            role,
            peer_asn: 65001,
            ..EXTERNAL
        };
        let update = classic(&[ORIGIN, AS_PATH, NEXT_HOP, &from(asn)], context);
        assert_eq!(update.leaked, leaked, "{role:?} {asn}");
        assert_eq!(update.path.unwrap().only_to_customer, Some(asn));
        let plain = classic(&[ORIGIN, AS_PATH, NEXT_HOP], context);
        assert!(!plain.leaked, "{role:?}");
    }
}

#[test]
fn attributes_of_ours_stand_in_the_order_of_their_codes() {
    // RFC 4271 §5; every one that we send, octet by octet.
    let octets = "ffffffffffffffffffffffffffffffff 0069 02  0000  004e
                  40 01 01 00   40 02 06 02 01 0000fde9   40 03 04 c0000201   80 04 04 00000032
                  40 05 04 00000064   c0 08 08 ffff0000 ffffff01   c0 10 08 0002fbf400000001
                  c0 20 0c 0000fbf4 00000001 00000002   c0 23 04 0000fde9
                  18 c63364";
    let path = Path {
        med: Some(50),
        local_pref: Some(100),
        communities: vec![0xffff_0000, 0xffff_ff01],
        extended_communities: vec![[0, 2, 0xfb, 0xf4, 0, 0, 0, 1]],
        large_communities: vec![[64_500, 1, 2]],
        only_to_customer: Some(65001),
        ..plain_path(65001)
    };
    let to = reach("192.0.2.1", &["198.51.100.0/24"]);
    let (encoded, _) = encode_reach(
        Family::Ipv4Unicast,
        &to.prefixes,
        to.next_hop,
        &path,
        &Outbound::PLAIN,
    );
    let update = Update {
        reachable: vec![to],
        path: Some(path),
        ..Update::default()
    };
    both_ways(octets, &encoded, &Message::Update(Box::new(update)), INTERNAL);
}
