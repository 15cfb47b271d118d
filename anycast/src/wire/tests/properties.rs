//! Whatever is encoded comes back, and whatever comes is read or refused.

use std::time::Duration;

use proptest::prelude::*;
use steer_topology::RoleName;

use super::*;

fn any_prefix(family: Family) -> BoxedStrategy<Prefix> {
    match family {
        Family::Ipv4Unicast => (any::<u32>(), 0..=32_u8)
            .prop_map(|(bits, length)| Prefix::covering(Ipv4Addr::from(bits).into(), length).unwrap())
            .boxed(),
        Family::Ipv6Unicast => (any::<u128>(), 0..=128_u8)
            .prop_map(|(bits, length)| Prefix::covering(Ipv6Addr::from(bits).into(), length).unwrap())
            .boxed(),
    }
}

fn any_families() -> impl Strategy<Value = Families> {
    prop::sample::subsequence(Family::ALL.to_vec(), 0..=2).prop_map(|families| families.into_iter().collect())
}

fn any_restart() -> impl Strategy<Value = RestartCapability> {
    let seconds = 0..=RestartCapability::MAX_TIME.as_secs();
    (any::<[bool; 2]>(), seconds, any_families(), any_families()).prop_map(
        |([restarted, notification], seconds, families, forwarding)| RestartCapability {
            restarted,
            notification,
            restart_time: Duration::from_secs(seconds),
            families,
            forwarding: forwarding.and(families),
        },
    )
}

fn any_long_lived() -> impl Strategy<Value = Vec<LongLived>> {
    let seconds = 0..=LongLived::MAX_TIME.as_secs();
    let one = (prop::sample::select(Family::ALL.to_vec()), any::<bool>(), seconds);
    let one = one.prop_map(|(family, forwarding, seconds)| LongLived {
        family,
        forwarding,
        stale_time: Duration::from_secs(seconds),
    });
    prop::collection::vec(one, 0..3)
}

/// Every combination of capabilities.
fn any_capabilities() -> impl Strategy<Value = Capabilities> {
    let others = prop::collection::vec((128..=255_u8, prop::collection::vec(any::<u8>(), 0..255)), 0..4);
    let roles = prop::sample::subsequence((0..6_u8).collect::<Vec<_>>(), 0..3);
    (
        prop::option::of(any_families())
            .prop_map(|families| families.filter(|families| !families.is_empty())),
        any::<[bool; 5]>(),
        roles,
        prop::option::of(any_restart()),
        any_long_lived(),
        prop::option::of("[a-z0-9.ä-]{1,32}"),
        prop::option::of("[ -~]{1,64}"),
        others,
    )
        .prop_map(
            |(families, flags, roles, graceful_restart, long_lived, hostname, software, others)| {
                let [
                    four_octet_as,
                    route_refresh,
                    enhanced_refresh,
                    extended_next_hop,
                    extended_messages,
                ] = flags;
                Capabilities {
                    families,
                    four_octet_as,
                    route_refresh,
                    enhanced_refresh,
                    extended_next_hop,
                    extended_messages,
                    roles,
                    graceful_restart,
                    long_lived,
                    hostname,
                    software,
                    others,
                }
            },
        )
}

fn any_open() -> impl Strategy<Value = Open> {
    let hold_time = prop_oneof![Just(0), 3..=u16::MAX];
    (1..=u32::MAX, hold_time, 1..=u32::MAX, any_capabilities()).prop_map(
        |(asn, hold_time, id, mut capabilities)| {
            capabilities.four_octet_as |= asn > u32::from(u16::MAX);
            Open {
                asn: Asn::new(asn).unwrap(),
                hold_time,
                identifier: Ipv4Addr::from(id),
                capabilities,
            }
        },
    )
}

fn any_asn() -> impl Strategy<Value = u32> {
    prop_oneof![1..=u32::from(u16::MAX), 1..=u32::MAX]
}

fn any_path() -> impl Strategy<Value = Path> {
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let kind = prop_oneof![Just(SegmentKind::Set), Just(SegmentKind::Sequence)];
    let segment =
        (kind, prop::collection::vec(any_asn(), 1..200)).prop_map(|(kind, asns)| Segment { kind, asns });
    (
        origin,
        prop::collection::vec(segment, 0..3),
        any::<[Option<u32>; 3]>(),
        prop::collection::vec(any::<u32>(), 0..80),
        prop::collection::vec(any::<[u32; 3]>(), 0..30),
        prop::collection::vec(any::<[u8; 8]>(), 0..40),
    )
        .prop_map(
            |(origin, as_path, numbers, communities, large_communities, extended_communities)| {
                let [med, local_pref, only_to_customer] = numbers;
                Path {
                    origin,
                    as_path,
                    med,
                    local_pref,
                    communities,
                    large_communities,
                    extended_communities,
                    only_to_customer,
                }
            },
        )
}

/// Family, next hop, path and prefixes that go together where RFC 8950 was agreed on.
fn any_announcement() -> impl Strategy<Value = (Family, NextHop, Path, Vec<Prefix>)> {
    let v6: IpAddr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 9).into();
    let both = NextHop {
        address: v6,
        link_local: Some(Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 9)),
    };
    let rows = vec![
        (
            Family::Ipv4Unicast,
            IpAddr::V4(Ipv4Addr::new(192, 0, 2, 9)).into(),
        ),
        (Family::Ipv4Unicast, v6.into()),
        (Family::Ipv4Unicast, both),
        (Family::Ipv6Unicast, v6.into()),
        (Family::Ipv6Unicast, both),
    ];
    prop::sample::select(rows).prop_flat_map(|(family, next_hop)| {
        let prefixes = prop::collection::vec(any_prefix(family), 1..20);
        (Just(family), Just(next_hop), any_path(), prefixes)
    })
}

fn any_outbound() -> impl Strategy<Value = Outbound> {
    let max_length = prop_oneof![Just(MAX_LENGTH), Just(EXTENDED_LENGTH)];
    (any::<bool>(), max_length).prop_map(|(four_octet, max_length)| Outbound {
        four_octet,
        max_length,
    })
}

/// Internal, and with all that changes the meaning of octets.
fn full_context(four_octet: bool) -> Context {
    Context {
        four_octet,
        internal: true,
        extended_next_hop: true,
        enhanced_refresh: true,
        role: Some(RoleName::Customer),
        peer_asn: 64_500,
    }
}

/// The type codes of an UPDATE's attributes in their order, and all prefix fields: read by hand.
fn skeleton(message: &[u8]) -> (Vec<u8>, Vec<(u8, Vec<u8>)>) {
    let field = |at: &mut usize| {
        let length = usize::from(u16::from_be_bytes([message[*at], message[*at + 1]]));
        let start = *at + 2;
        *at = start + length;
        &message[start..*at]
    };
    let mut at = HEADER_LENGTH;
    let withdrawn = field(&mut at);
    let mut attributes = field(&mut at);
    let mut prefixes = [prefix_fields(withdrawn), prefix_fields(&message[at..])].concat();
    let mut codes = Vec::new();
    while let [flags, code, rest @ ..] = attributes {
        let (length, rest) = match flags & 0x10 {
            0 => (usize::from(rest[0]), &rest[1..]),
            _ => (usize::from(u16::from_be_bytes([rest[0], rest[1]])), &rest[2..]),
        };
        assert_eq!(
            flags & 0x10 != 0,
            length > 255,
            "the extended length is used where it must be"
        );
        let value = &rest[..length];
        match code {
            14 => prefixes.extend(prefix_fields(&value[5 + usize::from(value[3])..])),
            15 => prefixes.extend(prefix_fields(&value[3..])),
            _ => {}
        }
        codes.push(*code);
        attributes = &rest[length..];
    }
    (codes, prefixes)
}

fn prefix_fields(mut field: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut fields = Vec::new();
    while let [bits, rest @ ..] = field {
        let (octets, rest) = rest.split_at(usize::from(*bits).div_ceil(8));
        fields.push((*bits, octets.to_vec()));
        field = rest;
    }
    fields
}

fn check_skeleton(message: &[u8]) {
    let (codes, prefixes) = skeleton(message);
    let mp = codes.iter().position(|code| matches!(code, 14 | 15));
    assert!(mp.is_none_or(|at| at == 0), "RFC 7606 §5.1: {codes:?}");
    assert!(
        codes.iter().skip(usize::from(mp.is_some())).is_sorted(),
        "RFC 4271 §5: {codes:?}"
    );
    for (bits, octets) in prefixes {
        let beyond = usize::from(bits) % 8;
        let last = octets.last().copied().unwrap_or(0);
        assert!(
            beyond == 0 || last << beyond == 0,
            "bits beyond /{bits}: {octets:?}"
        );
    }
}

/// A valid message of any type.
pub(crate) fn any_message() -> impl Strategy<Value = Bytes> {
    let refresh = any::<(u16, u8, u8)>().prop_map(|(afi, subtype, safi)| RouteRefresh { afi, subtype, safi });
    let notification = (any::<[u8; 2]>(), prop::collection::vec(any::<u8>(), 0..300))
        .prop_map(|([code, subcode], data)| Notification { code, subcode, data });
    prop_oneof![
        any_open().prop_map(|open| encode_open(&open)),
        Just(encode_keepalive()),
        notification.prop_map(|notification| encode_notification(&notification)),
        refresh.prop_map(encode_route_refresh),
        any_announcement().prop_map(|(family, next_hop, path, prefixes)| {
            encode_reach(family, &prefixes, next_hop, &path, &Outbound::PLAIN).0
        }),
        any_announcement().prop_map(|(family, _, _, prefixes)| encode_withdrawal(
            family,
            &prefixes,
            &Outbound::PLAIN
        )
        .0),
    ]
}

/// Whatever is refused can be answered.
fn check_refusal(malformed: &Malformed) {
    let Malformed { notification, text } = malformed;
    assert!(!text.is_empty());
    assert!(
        notification.name().is_some(),
        "{}/{} is no NOTIFICATION that an RFC knows",
        notification.code,
        notification.subcode
    );
    let sent = encode_notification(notification);
    assert_eq!(
        read(&sent, Context::default()),
        Ok(Message::Notification(notification.clone()))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_096))] // 12 µs each

    #[test]
    fn an_open_comes_back_as_it_was(open in any_open()) {
        prop_assert_eq!(read(&encode_open(&open), Context::default()), Ok(Message::Open(open)));
    }

    #[test]
    fn an_announcement_comes_back_as_it_was(
        (family, next_hop, path, prefixes) in any_announcement(), outbound in any_outbound(),
    ) {
        let (message, count) = encode_reach(family, &prefixes, next_hop, &path, &outbound);
        prop_assert!(message.len() <= outbound.max_length && count > 0);
        check_skeleton(&message);
        let frame = take_frame(&mut BytesMut::from(&message[..]), outbound.max_length).unwrap().unwrap();
        let Ok(Message::Update(update)) = decode(&frame, full_context(outbound.four_octet)) else {
            panic!("no UPDATE")
        };
        let expected = Reach { next_hop, prefixes: prefixes[..count].to_vec() };
        prop_assert_eq!(&update.reachable, &vec![expected]);
        prop_assert_eq!(&update.path, &Some(path), "through AS4_PATH too, where AS numbers have 2 octets");
        prop_assert_eq!(&update.faults, &vec![]);
    }

    #[test]
    fn a_withdrawal_comes_back_as_it_was((family, _, _, prefixes) in any_announcement(), outbound in any_outbound()) {
        let (message, count) = encode_withdrawal(family, &prefixes, &outbound);
        check_skeleton(&message);
        prop_assert_eq!(read_update(&message, MODERN).withdrawn, &prefixes[..count]);
    }

    #[test]
    fn a_notification_comes_back_as_it_was(code: u8, subcode: u8, data in prop::collection::vec(any::<u8>(), 0..4075)) {
        let notification = Notification { code, subcode, data };
        let back = read(&encode_notification(&notification), MODERN);
        prop_assert_eq!(back, Ok(Message::Notification(notification)));
    }

    #[test]
    fn random_octets_never_panic_and_are_refused_with_a_notification(octets in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Err(malformed) = take_frame(&mut BytesMut::from(&octets[..]), MAX_LENGTH) {
            check_refusal(&malformed);
        }
    }

    #[test]
    fn random_bodies_never_panic_and_are_refused_with_a_notification(
        kind in 1..=5_u8, body in prop::collection::vec(any::<u8>(), 0..200), four_octet: bool, internal: bool,
    ) {
        let kind = Kind::from_octet(kind).unwrap();
        let frame = Frame { kind, body: body.into() };
        if let Err(malformed) = decode(&frame, Context { internal, ..full_context(four_octet) }) {
            check_refusal(&malformed);
        }
    }

    #[test]
    fn mutated_messages_never_panic_and_are_refused_with_a_notification(
        message in any_message(), changes in prop::collection::vec(any::<(prop::sample::Index, u8)>(), 1..6), internal: bool,
    ) {
        let mut octets = message.to_vec();
        for (index, octet) in changes {
            *index.get_mut(&mut octets) = octet;
        }
        match take_frame(&mut BytesMut::from(&octets[..]), MAX_LENGTH) {
            Ok(Some(frame)) => {
                if let Err(malformed) = decode(&frame, Context { internal, ..full_context(true) }) {
                    check_refusal(&malformed);
                }
            }
            Ok(None) => {}
            Err(malformed) => check_refusal(&malformed),
        }
    }
}
