//! Literal octets, as the RFCs draw them.

use super::*;

fn hex(text: &str) -> Bytes {
    let digits: String = text.split_whitespace().collect();
    let octets = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
    octets.collect()
}

#[test]
fn initiation_names_us() {
    let told = Message::Initiation(vec![
        Tlv::text(Initiation::SYS_DESCR, "steer"),
        Tlv::text(Initiation::SYS_NAME, "fra"),
    ]);
    let drawn = hex("03 00000016 04  0001 0005 7374656572  0002 0003 667261");
    assert_eq!(encode(&told), drawn);
    assert_eq!(read(&drawn), told);
}

#[test]
fn termination_says_why() {
    let drawn = hex("03 00000010 05  0001 0002 0000  0000 0000");
    let told = Message::Termination(vec![
        Tlv {
            kind: Termination::REASON,
            value: Bytes::from_static(&[0, 0]),
        },
        Tlv::text(Termination::STRING, ""),
    ]);
    assert_eq!(encode(&told), drawn);
    assert_eq!(read(&drawn), told);
}

#[test]
fn what_we_sent_is_adj_rib_out_after_policy() {
    let flags = PeerFlags {
        post_policy: true,
        adj_rib_out: true,
        ..PeerFlags::default()
    };
    let update = wire::encode_end_of_rib(wire::Family::Ipv4Unicast);
    let drawn = hex("03 00000047 00
         00 50 0000000000000000
         000000000000000000000000 c0000202  0000fbf4  0a000002  6553f100 0001e240
         ffffffffffffffffffffffffffffffff 0017 02 0000 0000");
    let told = Message::RouteMonitoring(header("192.0.2.2", flags), update);
    assert_eq!(encode(&told), drawn);
    assert_eq!(read(&drawn), told);
}

#[test]
fn an_ipv6_peer_has_the_v_flag_and_all_16_octets() {
    let told = Message::PeerDown(
        header("2001:db8::2", PeerFlags::default()),
        PeerDown::RemoteNoData,
    );
    let drawn = hex("03 00000031 02
         00 80 0000000000000000
         20010db8000000000000000000000002  0000fbf4  0a000002  6553f100 0001e240
         04");
    assert_eq!(encode(&told), drawn);
    assert_eq!(read(&drawn), told);
}

#[test]
fn peer_up_carries_both_opens() {
    let told = encode(&Message::PeerUp(
        header("192.0.2.2", PeerFlags::default()),
        peer_up(),
    ));
    assert_eq!(told[7], 0, "RFC 8671 §6: no O flag in a Peer Up");
    let drawn = hex("000000000000000000000000 c0000201 9c40 00b3");
    assert_eq!(told[48..68], drawn);
    let opens = [open(64_512), open(64_500)].concat();
    assert_eq!(told[68..], opens);
    let second = bgpkit_parser::parse_bmp_msg(&mut told.clone()).unwrap();
    let bgpkit_parser::parser::bmp::messages::BmpMessageBody::PeerUpNotification(up) = second.message_body
    else {
        panic!("{second:?}")
    };
    assert_eq!((up.local_port, up.remote_port), (40_000, 179));
    assert!(
        matches!(up.sent_open, bgpkit_parser::models::BgpMessage::Open(open) if u32::from(open.asn) == 64_512)
    );
}

#[test]
fn statistics_count_routes_in_total_and_per_family() {
    let stats = vec![
        Stat {
            kind: Stat::ADJ_RIB_OUT,
            value: StatValue::Gauge(3),
        },
        Stat {
            kind: Stat::ADJ_RIB_OUT_FAMILY,
            value: StatValue::FamilyGauge {
                afi: 2,
                safi: 1,
                value: 1,
            },
        },
    ];
    let told = encode(&Message::Statistics(
        header("192.0.2.2", PeerFlags::default()),
        stats,
    ));
    let drawn = hex("00000002  000f 0008 0000000000000003  0011 000b 0002 01 0000000000000001");
    assert_eq!(told[48..], drawn);
}

#[test]
fn a_time_of_zero_is_no_time() {
    let header = PeerHeader {
        at: None,
        ..header("192.0.2.2", PeerFlags::default())
    };
    let octets = encode(&Message::PeerDown(header, PeerDown::Deconfigured));
    assert_eq!(octets[40..48], [0; 8]);
    assert_eq!(read(&octets), Message::PeerDown(header, PeerDown::Deconfigured));
}

#[test]
fn what_is_wrong_is_refused_with_its_value() {
    let faults = [
        ("02 00000006 04", "BMP version 2, want 3"),
        ("03 00000005 04", "BMP message of 5 octets"),
        ("03 ffffffff 04", "BMP message of 4294967295 octets"),
        ("03 00000008 04 0001", "BMP Initiation of 8 octets cannot be read"),
        (
            "03 0000000a 04 0001 0001",
            "BMP Initiation of 10 octets cannot be read",
        ),
        (
            "03 00000007 00 00",
            "BMP Route Monitoring of 7 octets cannot be read",
        ),
    ];
    for (octets, text) in faults {
        let mut buffer = BytesMut::from(hex(octets).as_ref());
        assert_eq!(take_message(&mut buffer).unwrap_err().to_string(), text);
    }
}

#[test]
fn octets_behind_a_message_are_refused() {
    let peer = header("192.0.2.2", PeerFlags::default());
    let update = wire::encode_end_of_rib(wire::Family::Ipv4Unicast);
    let messages = [
        Message::RouteMonitoring(peer, update),
        Message::Statistics(peer, Vec::new()),
        Message::PeerDown(peer, PeerDown::RemoteNoData),
        Message::PeerDown(peer, PeerDown::LocalNotification(notification())),
    ];
    for message in messages {
        let mut octets = BytesMut::from(encode(&message).as_ref());
        octets.extend_from_slice(&[0]);
        let length = u32::try_from(octets.len()).unwrap();
        octets[1..5].copy_from_slice(&length.to_be_bytes());
        assert!(take_message(&mut octets).is_err(), "{message:?}");
    }
}

#[test]
fn a_type_to_come_is_skipped() {
    assert_eq!(read(&hex("03 00000008 63 0102")), Message::Unknown(0x63));
}
