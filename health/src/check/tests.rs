use proptest::prelude::*;

use super::*;
use crate::outcome::{Answer, Void};

const INTERVAL: Duration = Duration::from_secs(1);
const RULES: Rules = Rules {
    interval: INTERVAL,
    timeout: Duration::from_millis(300),
    fall: 3,
    rise: 2,
};
const OK: Outcome = Outcome::Success(Answer::Status(200));
const BAD: Outcome = Outcome::Failure(Failure::Refused);
const VOID: Outcome = Outcome::Void(Void::Skipped);

/// The next attempt, with everything else that came out before it.
fn slot(check: &mut Check) -> (Attempt, Vec<Output>) {
    check.on_deadline(check.next_deadline());
    let outputs = drain(check);
    let Some(Output::Probe { attempt, .. }) = outputs.last() else {
        panic!("no probe in {outputs:?}")
    };
    (*attempt, outputs)
}

fn drain(check: &mut Check) -> Vec<Output> {
    std::iter::from_fn(|| check.poll_output()).collect()
}

fn after(check: &mut Check, outcome: &Outcome) -> Vec<Output> {
    let (attempt, _) = slot(check);
    check.on_outcome(attempt, outcome);
    drain(check)
}

#[test]
fn every_row_of_the_transition_table() {
    use Event::{Failure as F, Success as S};
    let (unknown, up, down) = (
        |failures| State::Unknown { failures },
        |failures| State::Up { failures },
        |successes| State::Down { successes },
    );
    let rows = [
        (unknown(0), S, up(0)),
        (unknown(2), S, up(0)),
        (unknown(0), F, unknown(1)),
        (unknown(1), F, unknown(2)),
        (unknown(2), F, down(0)),
        (up(0), S, up(0)),
        (up(2), S, up(0)), // failures must be in a row
        (up(0), F, up(1)),
        (up(1), F, up(2)),
        (up(2), F, down(0)),
        (down(0), S, down(1)),
        (down(1), S, up(0)),
        (down(0), F, down(0)),
        (down(1), F, down(0)), // successes must be in a row
    ];
    for (state, event, want) in rows {
        assert_eq!(state.after(event, &RULES), want, "{state:?} on {event:?}");
    }
}

#[test]
fn the_largest_thresholds_do_not_overflow() {
    let rules = Rules {
        fall: 255,
        rise: 255,
        ..RULES
    };
    assert_eq!(
        State::Up { failures: 254 }.after(Event::Failure, &rules),
        State::Down { successes: 0 }
    );
    assert_eq!(
        State::Down { successes: 254 }.after(Event::Success, &rules),
        State::Up { failures: 0 }
    );
}

#[test]
fn the_outcome_that_decides_is_the_cause() {
    let mut check = Check::new(RULES, Instant::now(), Verdict::Unknown);
    let up = vec![Output::Changed(Verdict::Up, "status 200".to_owned())];
    assert_eq!(after(&mut check, &OK), up);
    assert_eq!(after(&mut check, &BAD), []);
    assert_eq!(after(&mut check, &Outcome::Failure(Failure::Reset)), []);
    let down = vec![Output::Changed(Verdict::Down, "connection refused".to_owned())];
    assert_eq!(after(&mut check, &BAD), down);
    assert_eq!(after(&mut check, &OK), []);
    assert_eq!(after(&mut check, &OK), up);
}

#[test]
fn a_void_outcome_neither_counts_nor_breaks_a_row() {
    let mut check = Check::new(RULES, Instant::now(), Verdict::Up);
    for outcome in [&BAD, &VOID, &BAD, &VOID] {
        assert_eq!(after(&mut check, outcome), []);
    }
    assert!(matches!(
        after(&mut check, &BAD)[..],
        [Output::Changed(Verdict::Down, _)]
    ));
}

#[test]
fn late_answer_does_not_revive_a_down_endpoint() {
    let rules = Rules { rise: 1, ..RULES };
    let mut check = Check::new(rules, Instant::now(), Verdict::Down);
    let (old, _) = slot(&mut check);
    let (current, _) = slot(&mut check);
    check.on_outcome(old, &OK);
    assert_eq!((drain(&mut check), check.verdict()), (vec![], Verdict::Down));
    check.on_outcome(current, &BAD);
    check.on_outcome(current, &OK); // the same probe cannot end twice
    assert_eq!((drain(&mut check), check.verdict()), (vec![], Verdict::Down));
}

#[test]
fn an_answer_that_never_comes_is_a_failure_at_the_next_slot() {
    let mut check = Check::new(Rules { fall: 1, ..RULES }, Instant::now(), Verdict::Up);
    slot(&mut check);
    let (_, outputs) = slot(&mut check);
    assert_eq!(
        outputs[0],
        Output::Changed(Verdict::Down, "no answer within 300 ms".to_owned())
    );
}

#[test]
fn slots_keep_their_grid_and_a_late_caller_misses_some() {
    let first = Instant::now();
    let mut check = Check::new(Rules { fall: 1, ..RULES }, first, Verdict::Up);
    check.on_deadline(first + Duration::from_millis(999)); // late, but within the slot
    assert_eq!(check.next_deadline(), first + INTERVAL);
    drain(&mut check);
    check.on_deadline(first + Duration::from_millis(4_500));
    assert_eq!(check.next_deadline(), first + 5 * INTERVAL);
    let outputs = drain(&mut check);
    assert!(
        matches!(outputs[..], [Output::Missed(3), Output::Probe { .. }]),
        "{outputs:?}"
    );
    assert_eq!(
        check.verdict(),
        Verdict::Up,
        "our own pause is no evidence against the endpoint"
    );
}

#[test]
fn nothing_happens_before_the_deadline() {
    let first = Instant::now() + INTERVAL;
    let mut check = Check::new(RULES, first, Verdict::Unknown);
    check.on_deadline(first - Duration::from_nanos(1));
    assert_eq!((drain(&mut check), check.next_deadline()), (vec![], first));
}

#[test]
fn absurd_settings_and_pauses_do_not_spin_or_panic() {
    let first = Instant::now();
    let rules = Rules {
        interval: Duration::ZERO,
        timeout: INTERVAL,
        fall: 0,
        rise: 0,
    };
    let mut check = Check::new(rules, first, Verdict::Unknown);
    let year = first + Duration::from_secs(365 * 86_400);
    check.on_deadline(year);
    assert!(check.next_deadline() > year && check.next_deadline() <= year + INTERVAL_MIN);
    let late = Duration::from_millis(365 * 86_400 * 1000);
    assert_eq!(drain(&mut check)[0], Output::Missed(late.as_millis() as u64));
}

/// What may happen to a check, in any order.
#[derive(Debug, Clone)]
enum Step {
    /// The driver calls this long after the deadline (or before it: nothing may happen).
    Deadline { late_ms: i64 },
    /// The awaited probe ends.
    Ends(Outcome),
    /// A probe from `back` attempts ago ends.
    EndsLate(u64, Outcome),
}

fn outcomes() -> impl Strategy<Value = Outcome> {
    prop_oneof![4 => Just(OK), 4 => Just(BAD), 1 => Just(VOID)]
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (0i64..1_000).prop_map(|late_ms| Step::Deadline { late_ms }),
        1 => (-50i64..5_000).prop_map(|late_ms| Step::Deadline { late_ms }),
        5 => outcomes().prop_map(Step::Ends),
        1 => (1u64..4, outcomes()).prop_map(|(back, outcome)| Step::EndsLate(back, outcome)),
    ];
    prop::collection::vec(step, 1..80)
}

/// The rules in their plainest form: the list of outcomes that count, and a look back over it.
struct Model {
    fall: usize,
    rise: usize,
    verdict: Verdict,
    since_change: Vec<bool>,
}

impl Model {
    fn count(&mut self, success: bool) {
        self.since_change.push(success);
        let ends_in = |wanted: bool, n: usize| {
            self.since_change.len() >= n && self.since_change.iter().rev().take(n).all(|one| *one == wanted)
        };
        let next = match self.verdict {
            Verdict::Unknown if success => Verdict::Up,
            Verdict::Unknown | Verdict::Up if ends_in(false, self.fall) => Verdict::Down,
            Verdict::Down if ends_in(true, self.rise) => Verdict::Up,
            Verdict::Unknown | Verdict::Up | Verdict::Down => return,
        };
        self.verdict = next;
        self.since_change.clear();
    }
}

proptest! {
    #[test]
    fn any_order_of_answers_and_deadlines_agrees_with_the_model(fall in 1u8..5, rise in 1u8..5, steps in steps()) {
        let first = Instant::now() + INTERVAL;
        let mut check = Check::new(Rules { fall, rise, ..RULES }, first, Verdict::Unknown);
        let mut model = Model { fall: fall.into(), rise: rise.into(), verdict: Verdict::Unknown, since_change: vec![] };
        let (mut attempt, mut waiting, mut announced) = (0, false, Verdict::Unknown);
        for step in steps {
            match step {
                Step::Deadline { late_ms } => {
                    let due = check.next_deadline();
                    let now = if late_ms < 0 { due - Duration::from_millis(late_ms.unsigned_abs()) }
                        else { due + Duration::from_millis(late_ms.unsigned_abs()) };
                    check.on_deadline(now);
                    if late_ms >= 0 {
                        if waiting && late_ms < 1_000 { model.count(false); }
                        (attempt, waiting) = (attempt + 1, true);
                        let next = check.next_deadline();
                        prop_assert!(next > now && next <= now + INTERVAL);
                        prop_assert_eq!((next - first).as_millis() % 1_000, 0);
                    }
                }
                Step::Ends(outcome) => {
                    check.on_outcome(Attempt(attempt), &outcome);
                    if waiting && outcome != VOID { model.count(outcome == OK); }
                    waiting = false;
                }
                Step::EndsLate(back, outcome) => {
                    check.on_outcome(Attempt(u64::saturating_sub(attempt, back)), &outcome);
                }
            }
            for output in drain(&mut check) {
                if let Output::Changed(verdict, cause) = output {
                    prop_assert_ne!(verdict, announced, "a change must change something");
                    prop_assert!(!cause.is_empty());
                    announced = verdict;
                }
            }
            prop_assert_eq!(check.verdict(), model.verdict);
            prop_assert_eq!(announced, model.verdict);
        }
    }
}
