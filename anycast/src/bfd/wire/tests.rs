//! Packets octet by octet, every check of RFC 5880 §6.8.6, and random octets.

use proptest::prelude::*;

use super::*;

/// RFC 5880 §4.1, by hand: version 1, no diagnostic, Up, Detect Mult 3, 24 octets, 50 ms both ways.
#[rustfmt::skip]
const UP: [u8; 24] = [
    0x20, 0xc0, 3, 24,
    0x11, 0x22, 0x33, 0x44,
    0x55, 0x66, 0x77, 0x88,
    0x00, 0x00, 0xc3, 0x50,
    0x00, 0x00, 0xc3, 0x50,
    0, 0, 0, 0,
];

fn up() -> Packet {
    Packet {
        diagnostic: Diagnostic::NONE,
        state: State::Up,
        poll: false,
        is_final: false,
        control_plane_independent: false,
        demand: false,
        multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: NonZeroU32::new(0x1122_3344).unwrap(),
        your_discriminator: 0x5566_7788,
        desired_min_tx: 50_000,
        required_min_rx: 50_000,
        required_min_echo_rx: 0,
    }
}

fn with(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut octets = UP.to_vec();
    for (at, value) in changes {
        octets[*at] = *value;
    }
    octets
}

fn refusal(octets: &[u8]) -> Refusal {
    decode(octets).unwrap_err()
}

#[test]
fn a_packet_is_these_octets_and_these_octets_are_that_packet() {
    assert_eq!(encode(&up(), 0), UP);
    let received = decode(&UP).unwrap();
    assert_eq!(
        received,
        Received {
            packet: up(),
            octets: &UP,
            has_auth: false
        }
    );
    assert_eq!(received.auth_section(), None);
}

#[test]
fn each_flag_has_its_bit() {
    for bit in [0x20, 0x10, 0x08, 0x02] {
        let packet = Packet {
            poll: bit == 0x20,
            is_final: bit == 0x10,
            control_plane_independent: bit == 0x08,
            demand: bit == 0x02,
            ..up()
        };
        let octets = with(&[(1, 0xc0 | bit)]);
        assert_eq!(encode(&packet, 0).to_vec(), octets);
        assert_eq!(decode(&octets).unwrap().packet, packet);
    }
}

#[test]
fn each_state_has_its_number() {
    for (number, state) in State::ALL.into_iter().enumerate() {
        let octets = with(&[(1, (number as u8) << 6)]);
        assert_eq!(decode(&octets).unwrap().packet.state, state);
        let packet = Packet { state, ..up() };
        assert_eq!(encode(&packet, 0)[1], octets[1]);
    }
}

#[test]
fn a_diagnostic_that_nobody_knows_yet_is_kept() {
    let octets = with(&[(0, 0x3f)]);
    let packet = decode(&octets).unwrap().packet;
    assert_eq!(
        (packet.diagnostic.code(), packet.diagnostic.name()),
        (31, "Reserved")
    );
    assert_eq!(encode(&packet, 0).to_vec(), octets);
}

#[test]
fn every_check_has_its_name() {
    assert_eq!(refusal(&with(&[(0, 0x40)])), Refusal::Version);
    assert_eq!(refusal(&with(&[(0, 0x00)])), Refusal::Version);
    assert_eq!(refusal(&[]), Refusal::TooShort);
    assert_eq!(refusal(&UP[..3]), Refusal::TooShort);
    assert_eq!(refusal(&with(&[(3, 23)])), Refusal::TooShort);
    let with_auth = with(&[(1, 0xc4), (3, 25)]);
    assert_eq!(
        refusal(&with_auth),
        Refusal::TooShort,
        "the A bit wants 26 octets"
    );
    assert_eq!(refusal(&with(&[(3, 25)])), Refusal::Length);
    assert_eq!(refusal(&UP[..23]), Refusal::Length);
    assert_eq!(refusal(&with(&[(2, 0)])), Refusal::Multiplier);
    assert_eq!(refusal(&with(&[(1, 0xc1)])), Refusal::Multipoint);
    let anonymous = with(&[(4, 0), (5, 0), (6, 0), (7, 0)]);
    assert_eq!(refusal(&anonymous), Refusal::MyDiscriminator);
    for (state, refused) in [(0, false), (1, false), (2, true), (3, true)] {
        let octets = with(&[(1, state << 6), (8, 0), (9, 0), (10, 0), (11, 0)]);
        assert_eq!(decode(&octets).err() == Some(Refusal::YourDiscriminator), refused);
    }
}

#[test]
fn the_checks_come_in_the_order_of_the_rfc() {
    let mut octets = vec![0x40, 0x01, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let mut seen = vec![refusal(&octets)];
    octets[0] = 0x20;
    seen.push(refusal(&octets));
    octets[3] = 24;
    seen.push(refusal(&octets));
    octets.resize(24, 0);
    seen.push(refusal(&octets));
    octets[2] = 3;
    seen.push(refusal(&octets));
    octets[1] = 0xc0;
    seen.push(refusal(&octets));
    octets[7] = 1;
    seen.push(refusal(&octets));
    octets[11] = 1;
    assert!(decode(&octets).is_ok());
    let order = [
        Refusal::Version,
        Refusal::TooShort,
        Refusal::Length,
        Refusal::Multiplier,
        Refusal::Multipoint,
        Refusal::MyDiscriminator,
        Refusal::YourDiscriminator,
    ];
    assert_eq!(seen, order);
}

#[test]
fn what_stands_behind_the_length_is_no_part_of_the_packet() {
    let mut octets = UP.to_vec();
    octets.extend([0xff; 40]);
    let received = decode(&octets).unwrap();
    assert_eq!((received.packet, received.octets), (up(), &UP[..]));
}

#[test]
fn every_refusal_has_a_label_of_its_own() {
    let labels: std::collections::BTreeSet<_> = Refusal::ALL.map(Refusal::cause).into();
    assert_eq!(labels.len(), Refusal::ALL.len());
}

proptest! {
    #[test]
    fn random_octets_are_refused_or_mean_themselves(octets in proptest::collection::vec(any::<u8>(), 0..80)) {
        if let Ok(received) = decode(&octets) {
            let auth = received.octets.len() - MANDATORY_LENGTH;
            let auth = if received.has_auth { auth as u8 } else { 0 };
            let mut again = encode(&received.packet, auth).to_vec();
            again[3] = octets[3]; // without the A bit the Length may still be larger
            prop_assert_eq!(&again[..], &received.octets[..MANDATORY_LENGTH]);
        }
    }

    #[test]
    fn a_packet_with_one_octet_changed_is_never_a_panic(at in 0_usize..24, value: u8, cut in 0_usize..25) {
        let octets = with(&[(at, value)]);
        let _ = decode(&octets[..cut.min(24)]);
    }
}
