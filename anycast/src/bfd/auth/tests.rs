//! Digests against others' sums, and the window of RFC 5880 §6.7.4.

use proptest::prelude::*;

use super::*;
use crate::bfd::wire::{Received, decode};

const MANDATORY: [u8; 24] = [
    0x20, 0xc4, 3, 52, 0x11, 0x22, 0x33, 0x44, 0x55, 0x66, 0x77, 0x88, 0, 0, 0xc3, 0x50, 0, 0, 0xc3, 0x50, 0,
    0, 0, 0,
];

fn meticulous(key: &[u8]) -> Auth {
    Auth::new(BfdAuthKind::MeticulousKeyedSha1, 7, key).unwrap()
}

fn signed(auth: &Auth, sequence: u32) -> Vec<u8> {
    [&MANDATORY[..], &auth.section(&MANDATORY, sequence)].concat()
}

fn check(auth: &Auth, octets: &[u8]) -> Result<u32, Refusal> {
    let Received { octets, .. } = decode(octets).unwrap();
    auth.check(octets, &octets[24..])
}

fn hex(octets: &[u8]) -> String {
    octets.iter().map(|octet| format!("{octet:02x}")).collect()
}

/// The sums are those of Python's `hashlib`.
#[test]
fn a_section_is_these_octets() {
    let section = meticulous(b"secret").section(&MANDATORY, 0x0102_0304);
    assert_eq!(hex(&section[..8]), "051c070001020304");
    assert_eq!(hex(&section[8..]), "83e107d5f9554b54d0ca29b0754f6055f6f7ba4d");
    let auth = Auth::new(BfdAuthKind::KeyedSha1, 1, &[b'k'; 20]).unwrap();
    let section = auth.section(&MANDATORY, u32::MAX);
    assert_eq!(hex(&section[..8]), "041c0100ffffffff");
    assert_eq!(hex(&section[8..]), "7f54a298a6b6f9035e78f1557c3c50728fed70f2");
}

#[test]
fn a_key_has_1_to_20_octets() {
    let of = |length: usize| Auth::new(BfdAuthKind::KeyedSha1, 1, &vec![b'k'; length]);
    assert_eq!(of(0), Err(InvalidKey { length: 0 }));
    assert!(of(1).is_ok() && of(20).is_ok());
    assert_eq!(
        of(21).unwrap_err().to_string(),
        "the key has 21 octets; a BFD key has 1 to 20"
    );
}

#[test]
fn a_key_is_never_shown() {
    let shown = format!("{:?}", meticulous(b"hush"));
    assert!(!shown.contains("104") && !shown.contains("hush"), "{shown}");
}

#[test]
fn only_the_right_key_signs_a_packet() {
    let auth = meticulous(b"secret");
    assert_eq!(check(&auth, &signed(&auth, 9)), Ok(9));
    assert_eq!(
        check(&auth, &signed(&meticulous(b"Secret"), 9)),
        Err(Refusal::AuthDigest)
    );
    let other_id = Auth::new(BfdAuthKind::MeticulousKeyedSha1, 8, b"secret").unwrap();
    assert_eq!(check(&auth, &signed(&other_id, 9)), Err(Refusal::AuthKeyId));
    let other_kind = Auth::new(BfdAuthKind::KeyedSha1, 7, b"secret").unwrap();
    assert_eq!(check(&auth, &signed(&other_kind, 9)), Err(Refusal::AuthType));
}

#[test]
fn no_octet_of_a_signed_packet_can_be_changed() {
    let auth = meticulous(b"secret");
    let good = signed(&auth, 9);
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 0x10;
        let Ok(received) = decode(&bad) else { continue };
        let refused = received
            .auth_section()
            .map(|section| auth.check(received.octets, section));
        assert!(!matches!(refused, Some(Ok(_))), "octet {at}");
    }
}

#[test]
fn a_section_that_is_too_short_or_too_long_is_refused() {
    let auth = meticulous(b"secret");
    let good = signed(&auth, 9);
    for length in 26..52 {
        let mut bad = good[..length].to_vec();
        bad[3] = length as u8;
        assert!(matches!(
            check(&auth, &bad),
            Err(Refusal::AuthLength | Refusal::AuthKeyId)
        ));
    }
    let mut bad = good.clone();
    bad.push(0);
    bad[3] = 53;
    assert_eq!(check(&auth, &bad), Err(Refusal::AuthLength));
    let mut bad = good;
    bad[25] = 27;
    assert_eq!(check(&auth, &bad), Err(Refusal::AuthLength));
}

fn admit(window: &mut Window, sequence: u32, meticulous: bool) -> bool {
    window.admit(sequence, meticulous, 3).is_ok()
}

#[test]
fn a_replayed_packet_is_outside_the_window() {
    let mut window = Window::default();
    assert!(
        admit(&mut window, 100, true),
        "the first one is taken as it comes"
    );
    assert!(!admit(&mut window, 100, true));
    assert!(!admit(&mut window, 99, true));
    assert!(admit(&mut window, 109, true));
    assert!(
        !admit(&mut window, 119, true),
        "more than 3 times Detect Mult ahead"
    );
    window.forget();
    assert!(admit(&mut window, 5, true));
}

#[test]
fn without_meticulous_the_number_may_stay() {
    let mut window = Window::default();
    assert!(admit(&mut window, 100, false) && admit(&mut window, 100, false));
    assert!(!admit(&mut window, 99, false));
    assert!(admit(&mut window, 109, false) && !admit(&mut window, 119, false));
}

#[test]
fn the_window_goes_around_the_end_of_the_numbers() {
    let mut window = Window::default();
    assert!(admit(&mut window, u32::MAX - 1, true));
    assert!(admit(&mut window, 3, true));
    assert!(!admit(&mut window, u32::MAX, true));
}

proptest! {
    #[test]
    fn random_octets_are_no_signature(section in proptest::collection::vec(any::<u8>(), 2..60)) {
        let auth = meticulous(b"secret");
        let octets = [&MANDATORY[..], &section].concat();
        prop_assert!(auth.check(&octets, &section).is_err());
    }
}
