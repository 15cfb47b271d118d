use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

#[test]
fn every_unit_of_the_protocol_is_read() {
    let rows = [
        ("1H", Duration::from_secs(3600)),
        ("2M", Duration::from_secs(120)),
        ("3S", Duration::from_secs(3)),
        ("100m", 100 * MS),
        ("5u", Duration::from_micros(5)),
        ("00000007n", Duration::from_nanos(7)),
        ("0n", Duration::ZERO),
        ("99999999n", Duration::from_nanos(99_999_999)),
        ("99999999H", Duration::from_secs(99_999_999 * 3600)),
    ];
    for (text, timeout) in rows {
        assert_eq!(parse_timeout(text.as_bytes()), Ok(timeout), "{text}");
    }
}

#[test]
fn anything_else_is_refused_with_its_text() {
    for text in [
        "",
        "S",
        "1",
        "1s",
        "1h",
        "1N",
        "123456789m",
        "-1S",
        "+1S",
        " 1S",
        "1S ",
        "1 S",
        "1.5S",
        "1mS",
        "0x1S",
        "\u{661}S",
    ] {
        assert_eq!(
            parse_timeout(text.as_bytes()),
            Err(InvalidTimeout(text.to_owned()))
        );
    }
    let error = parse_timeout(b"1s").unwrap_err().to_string();
    assert!(
        error.contains("\"1s\"") && error.contains("H, M, S, m, u, n"),
        "{error}"
    );
}

#[test]
fn a_timeout_is_written_in_the_finest_unit_that_holds_it() {
    let rows = [
        (Duration::ZERO, "0n"),
        (Duration::from_nanos(99_999_999), "99999999n"),
        (100 * MS, "100000u"),
        (Duration::from_secs(99), "99000000u"),
        (Duration::from_secs(100), "100000m"),
        (Duration::from_secs(99_999_999), "99999999S"),
        (Duration::from_secs(100_000_000), "1666666M"),
        (Duration::MAX, "99999999H"),
    ];
    for (timeout, text) in rows {
        assert_eq!(format_timeout(timeout), text, "{timeout:?}");
    }
}

#[test]
fn what_is_left_shrinks_to_zero_and_not_below() {
    let now = Instant::now();
    let deadline = Deadline::of(Some(100 * MS), None, now);
    assert_eq!(deadline.forwarded(now).as_deref(), Some("100000u"));
    assert_eq!(deadline.forwarded(now + 60 * MS).as_deref(), Some("40000000n"));
    assert!(!deadline.is_over(now + 99 * MS));
    for late in [100, 101, 10_000] {
        assert!(deadline.is_over(now + late * MS));
        assert_eq!(deadline.forwarded(now + late * MS).as_deref(), Some("0n"));
    }
}

#[test]
fn who_asks_for_nothing_gets_the_bound_and_nobody_gets_more() {
    let now = Instant::now();
    let second = Duration::from_secs(1);
    let left = |asked, max| Deadline::of(asked, max, now).remaining(now);
    assert_eq!(left(None, None), None);
    assert_eq!(left(None, Some(second)), Some(second));
    assert_eq!(left(Some(MS), Some(second)), Some(MS));
    assert_eq!(left(Some(10 * second), Some(second)), Some(second));
    assert_eq!(left(Some(Duration::MAX), None), None);
    assert_eq!(Deadline::NONE.forwarded(now), None);
}

#[test]
fn a_wait_that_ends_at_the_deadline_is_too_long() {
    let now = Instant::now();
    let deadline = Deadline::of(Some(10 * MS), None, now);
    assert!(deadline.leaves(9 * MS, now));
    assert!(!deadline.leaves(10 * MS, now));
    assert!(Deadline::NONE.leaves(Duration::MAX, now));
}

proptest! {
    #[test]
    fn the_next_hop_never_has_more_time_and_loses_less_than_a_millionth(seconds in 0_u64..360_000_000_000, nanos in 0_u32..1_000_000_000) {
        let timeout = Duration::new(seconds, nanos);
        let told = parse_timeout(format_timeout(timeout).as_bytes()).unwrap();
        prop_assert!(told <= timeout);
        // 8 digits: a step down to the next unit leaves at least 1,666,666 of it.
        prop_assert!(timeout - told <= timeout / 1_000_000);
    }

    #[test]
    fn octets_never_panic(octets in prop::collection::vec(any::<u8>(), 0..12)) {
        if let Ok(timeout) = parse_timeout(&octets) {
            prop_assert!(timeout <= Duration::from_secs(99_999_999 * 3600));
        }
    }
}
