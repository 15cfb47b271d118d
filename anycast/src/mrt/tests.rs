//! MRT: literal octets, a second reader (bgpkit-parser), and files that rotate.

use std::net::SocketAddr;

use bgpkit_parser::models::{Bgp4MpEnum, Bgp4MpType, BgpMessage, BgpState, MrtMessage, MrtRecord};
use proptest::prelude::*;

use super::*;
use crate::tap::tests::announcement;

fn ends(remote: &str, local: &str) -> Ends {
    let end = |text: &str, port| SocketAddr::new(text.parse().unwrap(), port);
    Ends {
        local: end(local, 40_000),
        remote: end(remote, 179),
        local_asn: Asn::new(64_512).unwrap(),
        peer_asn: Asn::new(4_200_000_001),
    }
}

fn tapped(what: What) -> Tapped {
    Tapped {
        at: Timestamp::new(1_700_000_000, 123_456_789).unwrap(),
        peer: 0,
        what,
    }
}

fn message(ends: Ends, direction: Direction, four_octet: Option<bool>) -> Tapped {
    let octets = crate::wire::encode_keepalive();
    tapped(What::Message {
        ends,
        direction,
        four_octet,
        octets,
    })
}

/// What the second reader makes of one record.
fn second(record: &Bytes) -> MrtRecord {
    let mut octets = record.as_ref();
    let record = bgpkit_parser::parser::mrt::mrt_record::parse_mrt_record(&mut octets);
    assert!(octets.is_empty());
    record.unwrap_or_else(|error| panic!("{:?}", error.error))
}

/// The old state of each state record.
pub(super) fn states_of(mut octets: &[u8]) -> Vec<u16> {
    let mut states = Vec::new();
    while !octets.is_empty() {
        let record = bgpkit_parser::parser::mrt::mrt_record::parse_mrt_record(&mut octets);
        let record = record.unwrap_or_else(|error| panic!("{:?}", error.error));
        if let MrtMessage::Bgp4Mp(Bgp4MpEnum::StateChange(change)) = record.message {
            states.push(change.old_state.into());
        }
    }
    states
}

#[test]
fn a_message_is_as_the_rfc_draws_it() {
    let record = encode(&message(
        ends("192.0.2.2", "192.0.2.1"),
        Direction::Out,
        Some(true),
    ));
    let drawn = [
        "6553f100",
        "0011",
        "0007",
        "0000002b",
        "0001e240", // time, BGP4MP_ET, MESSAGE_AS4_LOCAL, length, µs
        "fa56ea01",
        "0000fc00",
        "0000",
        "0001",
        "c0000202",
        "c0000201", // ASNs, interface, IPv4, addresses
        "ffffffffffffffffffffffffffffffff",
        "0013",
        "04",
    ];
    let hex: String = record
        .unwrap()
        .iter()
        .map(|octet| format!("{octet:02x}"))
        .collect();
    assert_eq!(hex, drawn.concat());
}

#[test]
fn direction_and_width_of_as_numbers_choose_the_subtype() {
    let rows = [
        (Direction::In, Some(true), Bgp4MpType::MessageAs4),
        (Direction::Out, Some(true), Bgp4MpType::MessageAs4Local),
        (Direction::In, Some(false), Bgp4MpType::Message),
        (Direction::Out, Some(false), Bgp4MpType::MessageLocal),
        (Direction::In, None, Bgp4MpType::MessageAs4),
    ];
    for (direction, four_octet, subtype) in rows {
        let record = encode(&message(ends("192.0.2.2", "192.0.2.1"), direction, four_octet)).unwrap();
        let MrtMessage::Bgp4Mp(Bgp4MpEnum::Message(read)) = second(&record).message else {
            panic!("a message")
        };
        assert_eq!(read.msg_type, subtype);
        assert_eq!(read.bgp_message, BgpMessage::KeepAlive);
        let asn = if four_octet == Some(false) {
            23_456
        } else {
            4_200_000_001
        };
        assert_eq!(u32::from(read.peer_asn), asn, "AS_TRANS where it does not fit");
    }
}

#[test]
fn states_and_addresses_of_both_families_are_read_by_the_second_reader() {
    let families = [("192.0.2.2", "192.0.2.1"), ("2001:db8::2", "2001:db8::1")];
    for ((remote, local), (from, to)) in families.into_iter().flat_map(|ends| {
        State::ALL
            .windows(2)
            .map(move |states| (ends, (states[0], states[1])))
    }) {
        let ends = ends(remote, local);
        let record = encode(&tapped(What::State { ends, from, to })).unwrap();
        let read = second(&record);
        assert_eq!(read.common_header.microsecond_timestamp, Some(123_456));
        let MrtMessage::Bgp4Mp(Bgp4MpEnum::StateChange(change)) = read.message else {
            panic!("a state")
        };
        assert_eq!(
            (change.peer_ip, change.local_addr),
            (ends.remote.ip(), ends.local.ip())
        );
        assert_eq!(change.old_state, BgpState::try_from(number(from)).unwrap());
        assert_eq!(change.new_state, BgpState::try_from(number(to)).unwrap());
    }
}

proptest! {
    #[test]
    fn updates_survive_the_second_reader(med in any::<u32>(), count in 1_u8..50, v6 in any::<bool>()) {
        let prefixes: Vec<String> = (1..=count)
            .map(|n| if v6 { format!("2001:db8:{n:x}::/48") } else { format!("10.0.{n}.0/24") })
            .collect();
        let texts: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        let what = What::Message {
            ends: ends("192.0.2.2", "192.0.2.1"),
            direction: Direction::Out,
            four_octet: Some(true),
            octets: announcement(&texts, med),
        };
        let record = second(&encode(&tapped(what)).unwrap());
        let elements = bgpkit_parser::Elementor::new().record_to_elems(record);
        let read: Vec<String> = elements.iter().map(|element| element.prefix.to_string()).collect();
        prop_assert_eq!(read, prefixes);
        prop_assert!(elements.iter().all(|element| element.med == Some(med)));
    }
}

mod files {
    use std::fs;
    use std::path::PathBuf;

    use super::*;

    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("routes.mrt");
        (folder, path)
    }

    fn content(path: &std::path::Path) -> String {
        fs::read_to_string(path).unwrap_or_else(|_| "-".to_owned())
    }

    #[test]
    fn full_files_move_up_and_the_oldest_goes() {
        let (_folder, path) = folder();
        let limits = Limits { octets: 8, files: 3 };
        let mut file = File::open(&path, limits).unwrap();
        for record in ["aaaa", "bbbb", "cccc", "dddd", "eeee", "ffff", "gggg"] {
            file.write(record.as_bytes()).unwrap();
        }
        assert_eq!(content(&path), "gggg");
        assert_eq!(content(&path.with_extension("mrt.1")), "eeeeffff");
        assert_eq!(content(&path.with_extension("mrt.2")), "ccccdddd");
        assert_eq!(content(&path.with_extension("mrt.3")), "-");
    }

    #[test]
    fn a_record_longer_than_a_file_has_one_of_its_own() {
        let (_folder, path) = folder();
        let mut file = File::open(&path, Limits { octets: 4, files: 2 }).unwrap();
        file.write(b"longer than four").unwrap();
        file.write(b"b").unwrap();
        assert_eq!(content(&path), "b");
        assert_eq!(content(&path.with_extension("mrt.1")), "longer than four");
    }

    #[test]
    fn one_file_alone_begins_anew() {
        let (_folder, path) = folder();
        let mut file = File::open(&path, Limits { octets: 4, files: 1 }).unwrap();
        file.write(b"aaaa").unwrap();
        file.write(b"bb").unwrap();
        assert_eq!(content(&path), "bb");
        assert_eq!(content(&path.with_extension("mrt.1")), "-");
    }

    #[test]
    fn what_a_killed_process_left_is_kept_apart() {
        let (_folder, path) = folder();
        fs::write(&path, "half a rec").unwrap();
        let mut file = File::open(&path, Limits::default()).unwrap();
        file.write(b"whole").unwrap();
        assert_eq!(content(&path), "whole");
        assert_eq!(content(&path.with_extension("mrt.1")), "half a rec");
    }

    #[test]
    fn a_full_disk_leaves_whole_records() {
        // /dev/full refuses every write, as a full disk does.
        let path = PathBuf::from("/dev/full");
        let Ok(mut file) = File::open(&path, Limits::default()) else {
            eprintln!("skip: a_full_disk_leaves_whole_records: no /dev/full here");
            return;
        };
        assert!(file.write(b"record").is_err());
    }
}
