use proptest::prelude::*;

use super::*;

fn site(name: &str) -> SiteName {
    SiteName::new(name).unwrap()
}

fn roster() -> Roster {
    let address = |port: u16| ([127, 0, 0, 1], port).into();
    [(site("fra"), address(1)), (site("nrt"), address(2))]
        .into_iter()
        .collect()
}

fn keys(first: u8) -> Keys {
    Keys::one([first; KEY_LENGTH])
}

fn both(first: u8, second: u8) -> Keys {
    let line = |octet: u8| format!("{octet:02x}").repeat(KEY_LENGTH);
    Keys::parse(&format!("{}\n{}", line(first), line(second))).unwrap()
}

const SESSION: SessionId = [7; 16];

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_second(1_800_000_000 + seconds).unwrap()
}

fn sealed(content: &[u8]) -> Vec<u8> {
    Sealer::new(site("fra"), &keys(1), SESSION).seal(Kind::Datagram, site("nrt"), None, content, at(0))
}

fn opened(envelope: &[u8]) -> Result<Vec<u8>, Dropped> {
    let mut opener = Opener::new(site("nrt"), keys(1));
    let opened = opener.open(Kind::Datagram, &roster(), None, envelope, at(0));
    opened.map(|opened| opened.content)
}

#[test]
fn what_is_sealed_is_opened_once() {
    let mut opener = Opener::new(site("nrt"), keys(1));
    let envelope = sealed(b"hello");
    assert_eq!(envelope.len(), OVERHEAD + 5);
    let first = opener
        .open(Kind::Datagram, &roster(), None, &envelope, at(1))
        .unwrap();
    assert_eq!(
        (first.sender, first.session, first.content.as_slice()),
        (site("fra"), SESSION, b"hello".as_slice())
    );
    let second = opener.open(Kind::Datagram, &roster(), None, &envelope, at(1));
    assert_eq!(second, Err(Dropped::Replayed));
}

#[test]
fn each_reason_to_drop_has_its_name() {
    let good = sealed(b"hello");
    let with = |at: usize, octet: u8| {
        let mut bad = good.clone();
        bad[at] = octet;
        opened(&bad)
    };
    assert_eq!(opened(&[0; DATAGRAM_MAX + 1]), Err(Dropped::Oversized));
    assert_eq!(opened(&[]), Err(Dropped::Malformed));
    assert_eq!(opened(&good[..OVERHEAD - 1]), Err(Dropped::Malformed));
    assert_eq!(with(0, 2), Err(Dropped::Version));
    assert_eq!(with(1, 2), Err(Dropped::Malformed), "a frame is no datagram");
    assert_eq!(with(2, b'x'), Err(Dropped::UnknownMember));
    assert_eq!(with(2, 0xff), Err(Dropped::UnknownMember));
    assert_eq!(with(6, 1), Err(Dropped::WrongKey), "another session");
    assert_eq!(with(28, 9), Err(Dropped::WrongKey), "another counter");
    assert_eq!(with(36, good[36] ^ 1), Err(Dropped::WrongKey), "another time");
    assert_eq!(with(40, good[40] ^ 1), Err(Dropped::WrongKey), "another content");
    let mut own = Opener::new(site("fra"), keys(1));
    assert_eq!(
        own.open(Kind::Datagram, &roster(), None, &good, at(0)),
        Err(Dropped::Reflected)
    );
    let labels: std::collections::BTreeSet<_> = Dropped::ALL.iter().map(|cause| cause.label()).collect();
    assert_eq!(labels.len(), Dropped::ALL.len());
}

#[test]
fn a_packet_to_one_site_is_none_to_another() {
    let jfk = ([127, 0, 0, 1], 3).into();
    let roster: Roster = roster().iter().chain([(site("jfk"), jfk)]).collect();
    let mut opener = Opener::new(site("jfk"), keys(1));
    let opened = opener.open(Kind::Datagram, &roster, None, &sealed(b"hello"), at(0));
    assert_eq!(opened, Err(Dropped::WrongKey));
}

#[test]
fn an_answer_on_a_stream_is_bound_to_what_it_answers() {
    let mut sealer = Sealer::new(site("fra"), &keys(1), SESSION);
    let mut opener = Opener::new(site("nrt"), keys(1));
    let frame = sealer.seal(Kind::Frame, site("nrt"), Some([1; 16]), b"all", at(0));
    let mut open = |answers| {
        opener
            .open(Kind::Frame, &roster(), answers, &frame, at(0))
            .map(|opened| opened.content)
    };
    assert_eq!(open(Some([2; 16])), Err(Dropped::WrongKey));
    assert_eq!(open(None), Err(Dropped::WrongKey));
    assert_eq!(open(Some([1; 16])), Ok(b"all".to_vec()));
}

#[test]
fn a_clock_may_differ_by_a_minute_and_not_by_more() {
    let open = |seconds| {
        let mut opener = Opener::new(site("nrt"), keys(1));
        opener
            .open(Kind::Datagram, &roster(), None, &sealed(b""), at(seconds))
            .map(drop)
    };
    assert_eq!([open(-60), open(60)], [Ok(()), Ok(())]);
    assert_eq!([open(-61), open(61)], [Err(Dropped::Stale), Err(Dropped::Stale)]);
}

#[test]
fn a_key_is_changed_without_a_packet_lost() {
    // Each line: the keys of the sender, then of the receiver, as they stand while the change goes round.
    let steps = [
        (keys(1), both(1, 2)),
        (both(1, 2), keys(1)),
        (both(1, 2), both(2, 1)),
        (both(2, 1), both(1, 2)),
        (both(2, 1), keys(2)),
        (keys(2), both(2, 1)),
    ];
    for (step, (ours, theirs)) in steps.into_iter().enumerate() {
        let mut opener = Opener::new(site("nrt"), theirs);
        let envelope =
            Sealer::new(site("fra"), &ours, SESSION).seal(Kind::Datagram, site("nrt"), None, b"x", at(0));
        assert!(
            opener
                .open(Kind::Datagram, &roster(), None, &envelope, at(0))
                .is_ok(),
            "step {step}"
        );
    }
    let envelope =
        Sealer::new(site("fra"), &keys(1), SESSION).seal(Kind::Datagram, site("nrt"), None, b"x", at(0));
    let mut opener = Opener::new(site("nrt"), keys(2));
    assert_eq!(
        opener.open(Kind::Datagram, &roster(), None, &envelope, at(0)),
        Err(Dropped::WrongKey)
    );
}

#[test]
fn forged_packets_leave_no_session_behind() {
    let mut opener = Opener::new(site("nrt"), keys(1));
    for session in 0..=255_u8 {
        let forged = Sealer::new(site("fra"), &keys(9), [session; 16]).seal(
            Kind::Datagram,
            site("nrt"),
            None,
            b"x",
            at(0),
        );
        assert_eq!(
            opener.open(Kind::Datagram, &roster(), None, &forged, at(0)),
            Err(Dropped::WrongKey)
        );
    }
    assert!(opener.sessions.values().all(Vec::is_empty));
    for session in 0..=255_u8 {
        let real = Sealer::new(site("fra"), &keys(1), [session; 16]).seal(
            Kind::Datagram,
            site("nrt"),
            None,
            b"x",
            at(0),
        );
        assert!(opener.open(Kind::Datagram, &roster(), None, &real, at(0)).is_ok());
    }
    assert_eq!(opener.sessions[&site("fra")].len(), SESSIONS_MAX);
}

proptest! {
    #[test]
    fn any_content_comes_back_and_any_flip_is_refused(
        content in prop::collection::vec(any::<u8>(), 0..DATAGRAM_MAX - OVERHEAD),
        flip in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let good = sealed(&content);
        prop_assert_eq!(opened(&good), Ok(content));
        let mut bad = good.clone();
        bad[flip.index(good.len())] ^= 1 << bit;
        prop_assert!(opened(&bad).is_err());
    }

    #[test]
    fn noise_is_dropped(noise in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(opened(&noise).is_err());
    }
}
