//! BMP: literal octets, round trips, a second reader (bgpkit-parser), and both ends over loopback.

mod exporting;
mod live;
mod octets;
mod reading;

use std::net::{IpAddr, Ipv4Addr};

use bytes::{Bytes, BytesMut};
use jiff::Timestamp;
use proptest::prelude::*;

use super::message::*;
use crate::tap::tests::announcement;
use crate::wire::{self, Notification, Reason};

/// The one message that these octets are.
fn read(octets: &Bytes) -> Message {
    let mut buffer = BytesMut::from(octets.as_ref());
    let message = take_message(&mut buffer).unwrap().unwrap();
    assert!(buffer.is_empty(), "one message and nothing behind it");
    message
}

fn header(address: &str, flags: PeerFlags) -> PeerHeader {
    PeerHeader {
        kind: PeerKind::Global,
        flags,
        distinguisher: 0,
        address: address.parse().unwrap(),
        asn: 64_500,
        id: Ipv4Addr::new(10, 0, 0, 2),
        at: Some(Timestamp::new(1_700_000_000, 123_456_000).unwrap()),
    }
}

fn open(asn: u32) -> Bytes {
    wire::encode_open(&wire::Open {
        asn: steer_topology::Asn::new(asn).unwrap(),
        hold_time: 90,
        identifier: Ipv4Addr::new(10, 0, 0, 9),
        capabilities: wire::Capabilities {
            families: Some(wire::Families::ALL),
            four_octet_as: true,
            route_refresh: true,
            ..wire::Capabilities::default()
        },
    })
}

fn notification() -> Bytes {
    wire::encode_notification(&Notification::shutdown(
        Reason::AdministrativeShutdown,
        "steer stops",
    ))
}

fn peer_up() -> PeerUp {
    PeerUp {
        local: "192.0.2.1".parse().unwrap(),
        local_port: 40_000,
        remote_port: 179,
        sent_open: open(64_512),
        received_open: open(64_500),
        information: Vec::new(),
    }
}

fn flags() -> impl Strategy<Value = PeerFlags> {
    any::<[bool; 3]>().prop_map(|[post_policy, two_octet, adj_rib_out]| PeerFlags {
        post_policy,
        two_octet,
        adj_rib_out,
        filtered: false,
    })
}

fn address() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 16]>().prop_map(IpAddr::from)
    ]
}

fn peer() -> impl Strategy<Value = PeerHeader> {
    let kind = prop_oneof![
        Just(PeerKind::Global),
        Just(PeerKind::RouteDistinguisher),
        Just(PeerKind::Local),
        Just(PeerKind::LocRib),
    ];
    let at = prop::option::of((1_i64..4_000_000_000, 0_i32..1_000_000))
        .prop_map(|at| at.map(|(seconds, micros)| Timestamp::new(seconds, micros * 1_000).unwrap()));
    let who = (address(), any::<u32>(), any::<[u8; 4]>(), any::<u64>());
    (kind, flags(), who, at, any::<bool>()).prop_map(
        |(kind, flags, (address, asn, id, distinguisher), at, filtered)| {
            let loc_rib = kind == PeerKind::LocRib;
            let only_filtered = PeerFlags {
                filtered,
                ..PeerFlags::default()
            };
            PeerHeader {
                kind,
                flags: if loc_rib { only_filtered } else { flags },
                distinguisher,
                // RFC 9069 §4.1: zero for a Loc-RIB.
                address: if loc_rib {
                    Ipv4Addr::UNSPECIFIED.into()
                } else {
                    address
                },
                asn,
                id: id.into(),
                at,
            }
        },
    )
}

fn tlvs() -> impl Strategy<Value = Vec<Tlv>> {
    let value = prop::collection::vec(any::<u8>(), 0..40).prop_map(Bytes::from);
    let tlv = (any::<u16>(), value).prop_map(|(kind, value)| Tlv { kind, value });
    prop::collection::vec(tlv, 0..4)
}

fn stat() -> impl Strategy<Value = Stat> {
    let value = prop_oneof![
        any::<u32>().prop_map(StatValue::Counter),
        any::<u64>().prop_map(StatValue::Gauge),
        (any::<u16>(), any::<u8>(), any::<u64>()).prop_map(|(afi, safi, value)| StatValue::FamilyGauge {
            afi,
            safi,
            value
        }),
        Just(StatValue::Other(Bytes::from_static(&[1, 2, 3]))),
    ];
    (any::<u16>(), value).prop_map(|(kind, value)| Stat { kind, value })
}

fn down() -> impl Strategy<Value = PeerDown> {
    prop_oneof![
        Just(PeerDown::LocalNotification(notification())),
        any::<u16>().prop_map(PeerDown::LocalNoNotification),
        Just(PeerDown::RemoteNotification(notification())),
        Just(PeerDown::RemoteNoData),
        Just(PeerDown::Deconfigured),
        tlvs().prop_map(PeerDown::LocalTlvs),
    ]
}

fn message() -> impl Strategy<Value = Message> {
    prop_oneof![
        peer().prop_map(|peer| Message::RouteMonitoring(peer, announcement(&["192.0.2.0/24"], 1))),
        (peer(), prop::collection::vec(stat(), 0..5))
            .prop_map(|(peer, stats)| Message::Statistics(peer, stats)),
        (peer(), down()).prop_map(|(peer, down)| Message::PeerDown(peer, down)),
        (peer(), tlvs()).prop_map(|(peer, information)| {
            let local = match peer.address {
                IpAddr::V4(_) => "192.0.2.1".parse().unwrap(),
                IpAddr::V6(_) => "2001:db8::1".parse().unwrap(),
            };
            Message::PeerUp(
                peer,
                PeerUp {
                    local,
                    information,
                    ..peer_up()
                },
            )
        }),
        tlvs().prop_map(Message::Initiation),
        tlvs().prop_map(Message::Termination),
    ]
}

proptest! {
    #[test]
    fn what_is_written_is_read_back(message in message(), cut in any::<prop::sample::Index>()) {
        let octets = encode(&message);
        let cut = cut.index(octets.len());
        let mut buffer = BytesMut::from(&octets[..cut]);
        prop_assert_eq!(take_message(&mut buffer).unwrap(), None, "not whole yet");
        buffer.extend_from_slice(&octets[cut..]);
        prop_assert_eq!(take_message(&mut buffer).unwrap(), Some(message));
        prop_assert!(buffer.is_empty());
    }

    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut buffer = BytesMut::from(octets.as_slice());
        let _ = take_message(&mut buffer);
        let mut framed = BytesMut::from(&[3, 0, 0, 0, 0, 0][..]);
        framed.extend_from_slice(&octets);
        let length = u32::try_from(framed.len()).unwrap();
        framed[1..5].copy_from_slice(&length.to_be_bytes());
        framed[5] = octets.first().copied().unwrap_or(0) % 8;
        let _ = take_message(&mut framed);
    }

    /// bgpkit-parser sees the same headers and UPDATEs as we do in what we write.
    #[test]
    fn the_second_reader_agrees_on_what_we_write(message in message()) {
        use bgpkit_parser::parser::bmp::messages::{BmpMessageBody, PerPeerFlags};
        // Known of 0.23: a text in a TLV must be UTF-8, and a TLV shorter than 4 octets at the end is not seen.
        prop_assume!(!matches!(
            &message,
            Message::Initiation(_) | Message::Termination(_) | Message::PeerUp(..) | Message::PeerDown(..)
        ));
        let mut octets = encode(&message);
        let second = bgpkit_parser::parse_bmp_msg(&mut octets).unwrap();
        prop_assert!(octets.is_empty());
        let (Message::RouteMonitoring(peer, _) | Message::Statistics(peer, _)) = message else { unreachable!() };
        let theirs = second.per_peer_header.unwrap();
        prop_assert_eq!(theirs.peer_ip, peer.address);
        prop_assert_eq!(theirs.peer_bgp_id, peer.id);
        prop_assert_eq!(theirs.peer_distinguisher, peer.distinguisher);
        // Known of 0.23: with the A flag it reads a peer AS of 2 octets, where RFC 7854 §4.2 has 4 always.
        if !peer.flags.two_octet {
            prop_assert_eq!(u32::from(theirs.peer_asn), peer.asn);
        }
        if let PerPeerFlags::PeerFlags(flags) = theirs.peer_flags {
            prop_assert_eq!(flags.is_adj_rib_out(), peer.flags.adj_rib_out);
            prop_assert_eq!(flags.is_post_policy(), peer.flags.post_policy);
        }
        if let BmpMessageBody::RouteMonitoring(monitoring) = second.message_body {
            prop_assert!(matches!(monitoring.bgp_message, bgpkit_parser::models::BgpMessage::Update(_)));
        }
    }
}
