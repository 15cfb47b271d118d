//! RTR: literal octets, a second reader (bgpkit-parser), the machine row by row, validation against a model.

mod machine;
mod validation;

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use steer_topology::Prefix;

use super::pdu::Timing;
use super::*;

fn hex(text: &str) -> Bytes {
    let digits: String = text.split_whitespace().collect();
    let octets = (0..digits.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&digits[at..at + 2], 16).unwrap());
    octets.collect()
}

fn vrp(prefix: &str, max_length: u8, asn: u32) -> Vrp {
    Vrp {
        prefix: prefix.parse().unwrap(),
        max_length,
        asn,
    }
}

const TIMING: Timing = Timing {
    refresh: Duration::from_secs(3_600),
    retry: Duration::from_secs(600),
    expire: Duration::from_secs(7_200),
};

#[test]
fn pdus_are_as_the_rfc_draws_them() {
    let rows = [
        (
            "01 00 1234 0000000c 0000002a",
            Version::V1,
            Pdu::SerialNotify {
                session: 0x1234,
                serial: 42,
            },
        ),
        (
            "01 01 1234 0000000c 0000002a",
            Version::V1,
            Pdu::SerialQuery {
                session: 0x1234,
                serial: 42,
            },
        ),
        ("01 02 0000 00000008", Version::V1, Pdu::ResetQuery),
        (
            "00 03 1234 00000008",
            Version::V0,
            Pdu::CacheResponse { session: 0x1234 },
        ),
        (
            "01 04 0000 00000014 01 18 20 00 c0000200 0000fc00",
            Version::V1,
            Pdu::Prefix {
                announce: true,
                vrp: vrp("192.0.2.0/24", 32, 64_512),
            },
        ),
        (
            "01 06 0000 00000020 00 20 30 00 20010db8000000000000000000000000 00000000",
            Version::V1,
            Pdu::Prefix {
                announce: false,
                vrp: vrp("2001:db8::/32", 48, 0),
            },
        ),
        (
            "01 07 1234 00000018 0000002a 00000e10 00000258 00001c20",
            Version::V1,
            Pdu::EndOfData {
                session: 0x1234,
                serial: 42,
                timing: Some(TIMING),
            },
        ),
        (
            "00 07 1234 0000000c 0000002a",
            Version::V0,
            Pdu::EndOfData {
                session: 0x1234,
                serial: 42,
                timing: None,
            },
        ),
        ("01 08 0000 00000008", Version::V1, Pdu::CacheReset),
        (
            "01 0a 0002 00000014 00000000 00000004 6e6f7065",
            Version::V1,
            Pdu::ErrorReport {
                code: 2,
                quoted: Bytes::new(),
                text: "nope".to_owned(),
            },
        ),
    ];
    for (drawn, version, pdu) in rows {
        let drawn = hex(drawn);
        assert_eq!(encode(&pdu, version), drawn, "{pdu:?}");
        let mut buffer = BytesMut::from(drawn.as_ref());
        assert_eq!(take_pdu(&mut buffer).unwrap(), Some((version, pdu.clone())));
        assert!(buffer.is_empty());
        let (_, length) = bgpkit_parser::parser::rpki::rtr::parse_rtr_pdu(&drawn).unwrap();
        assert_eq!(length, drawn.len(), "the second reader takes {pdu:?}");
        for cut in 0..drawn.len() {
            assert_eq!(take_pdu(&mut BytesMut::from(&drawn[..cut])).unwrap(), None);
        }
    }
}

#[test]
fn a_router_key_is_skipped_in_version_1_and_unknown_in_version_0() {
    let mut buffer = BytesMut::from(hex("01 09 0100 0000000a abcd").as_ref());
    assert_eq!(
        take_pdu(&mut buffer).unwrap(),
        Some((Version::V1, Pdu::RouterKey))
    );
    let mut buffer = BytesMut::from(hex("00 09 0100 0000000a abcd").as_ref());
    assert_eq!(
        take_pdu(&mut buffer).unwrap_err().code,
        Some(code::UNSUPPORTED_PDU)
    );
}

#[test]
fn what_is_wrong_is_refused_with_the_code_of_the_rfc() {
    let rows = [
        (
            "02 03 1234 00000008",
            Some(code::UNSUPPORTED_VERSION),
            "RTR version 2, want 1 or 0",
        ),
        (
            "01 05 0000 00000008",
            Some(code::UNSUPPORTED_PDU),
            "RTR PDU type 5 in version 1",
        ),
        (
            "01 03 1234 00000007",
            Some(code::CORRUPT_DATA),
            "RTR PDU of 7 octets",
        ),
        (
            "01 03 1234 ffffffff",
            Some(code::CORRUPT_DATA),
            "RTR PDU of 4294967295 octets",
        ),
        (
            "01 03 1234 00000009 00",
            Some(code::CORRUPT_DATA),
            "RTR PDU type 3 of 9 octets cannot be read",
        ),
        // A length beyond the family, a shorter greatest length, and bits beyond the length.
        (
            "01 04 0000 00000014 01 21 21 00 c0000200 0000fc00",
            Some(code::CORRUPT_DATA),
            "type 4",
        ),
        (
            "01 04 0000 00000014 01 18 17 00 c0000200 0000fc00",
            Some(code::CORRUPT_DATA),
            "type 4",
        ),
        (
            "01 04 0000 00000014 01 18 18 00 c0000201 0000fc00",
            Some(code::CORRUPT_DATA),
            "type 4",
        ),
        // RFC 8210 §5.11: an Error Report is never answered with another.
        ("01 0a 0000 00000009 00", None, "type 10"),
    ];
    for (octets, code, text) in rows {
        let malformed = take_pdu(&mut BytesMut::from(hex(octets).as_ref())).unwrap_err();
        assert_eq!(malformed.code, code, "{octets}");
        assert!(malformed.text.contains(text), "{} for {octets}", malformed.text);
    }
}

#[test]
fn the_text_of_a_cache_controls_no_terminal() {
    let report = hex("01 0a 0001 00000012 00000000 00000002 1b5b");
    let Some((_, Pdu::ErrorReport { text, .. })) = take_pdu(&mut BytesMut::from(report.as_ref())).unwrap()
    else {
        panic!("an Error Report")
    };
    assert_eq!(text, "\\u{1b}[");
}

#[test]
fn intervals_are_kept_within_the_bounds_of_the_rfc() {
    let wild = Timing {
        refresh: Duration::ZERO,
        retry: Duration::from_secs(1_000_000),
        expire: Duration::from_secs(1),
    };
    let bounded = wild.bounded();
    assert_eq!(bounded.refresh, Duration::from_secs(1));
    assert_eq!(bounded.retry, Duration::from_secs(7_200));
    assert!(bounded.expire > bounded.retry && bounded.expire > bounded.refresh);
    assert_eq!(TIMING.bounded(), TIMING);
}

proptest! {
    #[test]
    fn random_octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..64)) {
        let mut buffer = BytesMut::from(octets.as_slice());
        let _ = take_pdu(&mut buffer);
        let mut framed = octets;
        if framed.len() >= 8 {
            framed[0] %= 2;
            framed[1] %= 12;
            let length = u32::try_from(framed.len()).unwrap();
            framed[4..8].copy_from_slice(&length.to_be_bytes());
            let _ = take_pdu(&mut BytesMut::from(framed.as_slice()));
        }
    }

    #[test]
    fn vrps_are_read_back(length in 0_u8..=32, more in 0_u8..=32, address in any::<[u8; 4]>(), asn in any::<u32>()) {
        let prefix = Prefix::covering(std::net::Ipv4Addr::from(address).into(), length).unwrap();
        let vrp = Vrp { prefix, max_length: length.saturating_add(more).min(32), asn };
        let pdu = Pdu::Prefix { announce: true, vrp };
        let mut buffer = BytesMut::from(encode(&pdu, Version::V1).as_ref());
        prop_assert_eq!(take_pdu(&mut buffer).unwrap(), Some((Version::V1, pdu)));
    }
}
