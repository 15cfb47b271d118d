use std::time::{Duration, Instant};

use super::*;

const RULES: Thresholds = Thresholds {
    fall: 3,
    rise: 2,
    forget: 1,
};

#[test]
fn every_row_of_the_transition_table() {
    use Event::{Failure as F, Gone as G, Success as S};
    let unknown = |failures| State::Unknown { failures };
    let up = |failures, successes| State::Up { failures, successes };
    let down = |successes| State::Down { successes };
    let rows = [
        (unknown(0), S, up(0, 0)),
        (unknown(2), S, up(0, 0)),
        (unknown(0), F, unknown(1)),
        (unknown(1), F, unknown(2)),
        (unknown(2), F, down(0)),
        (up(0, 0), S, up(0, 0)),
        (up(2, 0), S, up(0, 0)), // failures must be in a row
        (up(0, 0), F, up(1, 0)),
        (up(1, 0), F, up(2, 0)),
        (up(2, 0), F, down(0)),
        (down(0), S, down(1)),
        (down(1), S, up(0, 0)),
        (down(0), F, down(0)),
        (down(1), F, down(0)), // successes must be in a row
        (unknown(0), G, down(0)),
        (up(0, 0), G, down(0)),
        (down(1), G, down(0)),
    ];
    for (state, event, want) in rows {
        assert_eq!(state.after(event, RULES), want, "{state:?} on {event:?}");
    }
}

#[test]
fn with_more_to_forget_a_lone_success_does_not_clear_failures() {
    let rules = Thresholds { forget: 2, ..RULES };
    let play = |events: &[Event]| {
        events
            .iter()
            .fold(State::UP, |state, event| state.after(*event, rules))
    };
    use Event::{Failure as F, Success as S};
    assert_eq!(play(&[F, S, F, S, F]), State::DOWN);
    assert_eq!(
        play(&[F, F, S, S, F, F]),
        State::Up {
            failures: 2,
            successes: 0
        }
    );
}

#[test]
fn the_largest_thresholds_do_not_overflow() {
    let rules = Thresholds {
        fall: 255,
        rise: 255,
        forget: 255,
    };
    let up = |failures, successes| State::Up { failures, successes };
    assert_eq!(up(254, 0).after(Event::Failure, rules), State::DOWN);
    assert_eq!(up(3, 254).after(Event::Success, rules), State::UP);
    assert_eq!(
        State::Down { successes: 254 }.after(Event::Success, rules),
        State::UP
    );
}

#[test]
fn a_success_has_no_time_limit_here() {
    let mut threshold = Threshold::new(1, 1, 1, Verdict::Up);
    threshold.observe(
        Seen::Success {
            took: Duration::from_secs(60),
        },
        Instant::now(),
    );
    assert_eq!(threshold.opinion(Instant::now()), Verdict::Up);
}
