use steer_topology::LatencyRules;

use super::*;

const RULES: WindowRules = WindowRules {
    size: 10,
    min_success: 50,
    recover: 80,
    latency: None,
};

/// `.` succeeds in 10 ms, `s` in a second, `x` fails. Returns the verdict after each.
fn play(window: &mut Window, seen: &str) -> String {
    let now = Instant::now();
    let one = |sign| {
        let seen = match sign {
            '.' => Seen::Success {
                took: Duration::from_millis(10),
            },
            's' => Seen::Success {
                took: Duration::from_secs(1),
            },
            _ => Seen::Failure,
        };
        window.observe(seen, now);
        match window.opinion(now) {
            Verdict::Unknown => '?',
            Verdict::Up => 'u',
            Verdict::Down => 'D',
        }
    };
    seen.chars().map(one).collect()
}

#[test]
fn more_failures_than_a_full_window_may_have_are_down_at_once() {
    assert_eq!(play(&mut Window::new(RULES), "xxxxxx"), "?????D");
    assert_eq!(
        play(&mut Window::new(RULES), "...........xxxxx.xx"),
        "?????????uuuuuuuuDD"
    );
}

#[test]
fn half_of_the_window_may_fail_for_ever() {
    let opinions = play(&mut Window::new(RULES), &"x.".repeat(50));
    assert!(!opinions.contains('D'), "{opinions}");
}

#[test]
fn it_comes_back_when_enough_of_a_full_window_succeeds() {
    let mut window = Window::new(RULES);
    play(&mut window, "xxxxxx");
    assert_eq!(
        play(&mut window, "x.x......."),
        "DDDDDDDDDu",
        "8 of the last 10, and not before"
    );
}

#[test]
fn a_slow_quantile_is_down_and_says_so() {
    let latency = Some(LatencyRules {
        quantile: 90,
        max: Duration::from_millis(100),
    });
    let mut window = Window::new(WindowRules { latency, ..RULES });
    assert_eq!(play(&mut window, "..........s...s"), "?????????uuuuuD");
    let because = window.because(Instant::now());
    assert_eq!(
        because.as_deref(),
        Some("90 % of the last 10 within 1 s, want 100 ms")
    );
    assert_eq!(play(&mut window, "......"), "DDDDDu");
}

#[test]
fn the_reason_counts_what_failed() {
    let mut window = Window::new(RULES);
    play(&mut window, ".xx.xx.xx");
    assert_eq!(
        window.because(Instant::now()).as_deref(),
        Some("6 of the last 9 failed")
    );
}

#[test]
fn every_success_may_be_asked_for() {
    let rules = WindowRules {
        size: 3,
        min_success: 100,
        recover: 100,
        latency: None,
    };
    assert_eq!(play(&mut Window::new(rules), "..x...x"), "??DDDuD");
}
