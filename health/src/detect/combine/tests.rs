use std::time::Duration;

use steer_topology::WindowRules;

use super::*;

const GOOD: Seen = Seen::Success { took: Duration::ZERO };

fn detectors(how: Combine) -> Detectors {
    let window = Window::new(WindowRules {
        size: 10,
        min_success: 50,
        recover: 80,
        latency: None,
    });
    let threshold = Threshold::new(3, 2, 1, Verdict::Unknown);
    Detectors::new(vec![Box::new(threshold), Box::new(window)], how, Verdict::Unknown)
}

/// `.` succeeds, `x` fails, `!` is a proof. Returns the verdict after each.
fn play(detectors: &mut Detectors, seen: &str) -> String {
    let now = Instant::now();
    let one = |sign| {
        let before = detectors.verdict();
        let seen = match sign {
            '.' => GOOD,
            'x' => Seen::Failure,
            _ => Seen::Gone,
        };
        assert_eq!(detectors.observe(seen, now), detectors.verdict() != before);
        match detectors.verdict() {
            Verdict::Unknown => '?',
            Verdict::Up => 'u',
            Verdict::Down => 'D',
        }
    };
    seen.chars().map(one).collect()
}

#[test]
fn any_is_down_with_the_first_that_says_so() {
    assert_eq!(
        play(&mut detectors(Combine::Any), "..xx.xx.xx.xx"),
        "uuuuuuuuuDDDD"
    );
    assert_eq!(play(&mut detectors(Combine::Any), "..xxx"), "uuuuD");
}

#[test]
fn who_did_not_see_an_outage_does_not_prolong_it() {
    let mut both = detectors(Combine::Any);
    play(&mut both, "..........");
    assert_eq!(
        play(&mut both, "xxxxxxxxxxxxxxxxxxxx.."),
        "uuDDDDDDDDDDDDDDDDDDDu"
    );
}

#[test]
fn who_saw_it_must_be_content_again() {
    let mut both = detectors(Combine::Any);
    assert!(play(&mut both, "..xx.xx.xx").ends_with('D'));
    assert_eq!(
        play(&mut both, "..xx.xx"),
        "DDDDDDD",
        "two in a row are not enough"
    );
    assert_eq!(play(&mut both, ".........."), "DDDDDDuuuu");
}

#[test]
fn all_is_down_with_the_last_that_says_so() {
    assert_eq!(play(&mut detectors(Combine::All), "..xxxxxx.."), "uuuuuuuDDu");
    let never_in_a_row = play(&mut detectors(Combine::All), "..xx.xx.xx.xx.");
    assert!(!never_in_a_row.contains('D'), "{never_in_a_row}");
}

#[test]
fn a_proof_decides_at_once_and_counts_as_a_failure_where_nobody_takes_it() {
    for how in [Combine::Any, Combine::All] {
        assert_eq!(play(&mut detectors(how), ".!.."), "uDDu", "{how:?}");
    }
    let window = Window::new(WindowRules {
        size: 4,
        min_success: 50,
        recover: 80,
        latency: None,
    });
    let mut alone = Detectors::new(vec![Box::new(window)], Combine::Any, Verdict::Up);
    assert_eq!(play(&mut alone, "....!"), "uuuuu");
}

#[test]
fn what_is_known_stands_until_somebody_knows_better() {
    for known in [Verdict::Unknown, Verdict::Up, Verdict::Down] {
        let settings = crate::testing::plain(steer_topology::CheckKind::Tcp);
        let mut detectors = Detectors::of(&settings, known);
        assert_eq!(detectors.verdict(), known);
        assert!(!detectors.on_deadline(Instant::now()));
        detectors.observe(Seen::Failure, Instant::now());
        assert_eq!(detectors.verdict(), known);
    }
}
