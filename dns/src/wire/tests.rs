use super::*;
use proptest::prelude::*;

fn query(options: &[u8], version: u8) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    message.extend(b"\x03WWW\x07example\x00\x00\x01\x00\x01");
    message.extend([0, 0, 41, 4, 208, 0, version, 0, 0]);
    message.extend((options.len() as u16).to_be_bytes());
    message.extend(options);
    message
}

fn refusal(message: &[u8]) -> Option<Malformed> {
    match parse(message) {
        Parsed::Refuse(_, _, _, Refusal::Malformed(what)) | Parsed::Drop(what) => Some(what),
        Parsed::Refuse(_, _, _, Refusal::Opcode | Refusal::Version)
        | Parsed::Query(_)
        | Parsed::CookieAlone(..) => None,
    }
}

#[test]
fn a_query_is_read_and_its_case_is_kept() {
    let Parsed::Query(query) = parse(&query(&[], 0)) else {
        panic!("refused")
    };
    assert_eq!(query.question.name.to_string(), "WWW.example.");
    assert_eq!(&*query.question.key, b"\x03www\x07example\x00");
    assert_eq!(query.edns.map(|edns| edns.payload), Some(1232));
}

#[test]
fn every_truncation_is_refused_or_dropped() {
    let whole = query(&[0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2], 0);
    assert_eq!(refusal(&whole), None);
    for length in 0..whole.len() {
        assert!(refusal(&whole[..length]).is_some(), "{length}");
    }
}

#[test]
fn trailing_octets_second_opt_and_lying_counts_are_refused() {
    let mut trailing = query(&[], 0);
    trailing.push(0);
    assert_eq!(refusal(&trailing), Some(Malformed::Trailing));
    let mut twice = query(&[], 0);
    twice.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    twice[11] = 2;
    assert_eq!(refusal(&twice), Some(Malformed::Opt));
    let mut lies = query(&[], 0);
    lies[11] = 200;
    assert_eq!(refusal(&lies), Some(Malformed::Record));
    let mut two_questions = query(&[], 0);
    two_questions[5] = 2;
    assert_eq!(refusal(&two_questions), Some(Malformed::QuestionCount));
}

#[test]
fn a_higher_edns_version_is_told_apart_from_a_fault() {
    // RFC 8906 §8.2.3: unknown version with an option that version 0 could not read
    let parsed = parse(&query(&[0, 8, 0, 1, 9], 1));
    assert!(matches!(
        parsed,
        Parsed::Refuse(_, Some(_), Some(_), Refusal::Version)
    ));
}

proptest! {
    #[test]
    fn garbled_messages_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200)) {
        parse(&octets);
    }

    #[test]
    fn flipped_octets_never_panic(at in 0_usize..60, with in any::<u8>()) {
        let mut message = query(&[0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2], 0);
        if let Some(octet) = message.get_mut(at) { *octet = with; }
        parse(&message);
    }
}
