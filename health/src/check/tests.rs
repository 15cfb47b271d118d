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
    assert!(check.on_outcome(attempt, outcome, check.next_deadline() - INTERVAL));
    drain(check)
}

#[test]
fn every_row_of_the_transition_table() {
    use Event::{Failure as F, Gone as G, Success as S};
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
        (unknown(0), G, down(0)),
        (up(0), G, down(0)),
        (down(1), G, down(0)),
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
    check.on_deadline(check.next_deadline()); // waits for the old one
    let (current, _) = slot(&mut check); // which is lost
    let now = check.next_deadline() - INTERVAL;
    assert!(!check.on_outcome(old, &OK, now));
    assert_eq!((drain(&mut check), check.verdict()), (vec![], Verdict::Down));
    assert!(check.on_outcome(current, &BAD, now));
    assert!(!check.on_outcome(current, &OK, now)); // the same probe cannot end twice
    assert_eq!((drain(&mut check), check.verdict()), (vec![], Verdict::Down));
}

#[test]
fn a_probe_of_which_nothing_is_heard_a_whole_slot_after_its_time_has_failed() {
    let mut check = Check::new(Rules { fall: 1, ..RULES }, Instant::now(), Verdict::Up);
    slot(&mut check);
    check.on_deadline(check.next_deadline());
    assert_eq!(
        drain(&mut check),
        [],
        "its time is over, but whoever waits for it may be about to tell"
    );
    let (_, outputs) = slot(&mut check);
    assert_eq!(
        outputs[0],
        Output::Changed(Verdict::Down, "no answer within 300 ms".to_owned())
    );
}

/// A time-out of ten intervals.
const PATIENT: Rules = Rules {
    interval: Duration::from_millis(10),
    timeout: Duration::from_millis(100),
    fall: 1,
    rise: 2,
};

#[test]
fn the_next_probe_waits_for_the_one_that_is_out_and_starts_as_it_ends() {
    let first = Instant::now();
    let at = |ms| first + Duration::from_millis(ms);
    let mut check = Check::new(PATIENT, first, Verdict::Up);
    let (attempt, _) = slot(&mut check);
    for ms in [10, 20, 30] {
        check.on_deadline(at(ms));
        assert_eq!((drain(&mut check), check.next_deadline()), (vec![], at(ms + 10)));
    }
    assert!(check.on_outcome(attempt, &OK, at(34)));
    let outputs = drain(&mut check);
    assert!(
        matches!(
            outputs[..],
            [Output::Probe {
                attempt: Attempt(2),
                ..
            }]
        ),
        "{outputs:?}"
    );
    // One that answers within its slot does not bring the next one forward; the grid is the same as ever.
    assert!(check.on_outcome(Attempt(2), &OK, at(36)));
    assert_eq!((drain(&mut check), check.next_deadline()), (vec![], at(40)));
}

#[test]
fn a_hang_is_noticed_within_an_interval_and_a_time_out() {
    let first = Instant::now();
    let mut check = Check::new(PATIENT, first, Verdict::Up);
    slot(&mut check);
    let hang = first + Duration::from_micros(200); // right after a good answer
    assert!(check.on_outcome(Attempt(1), &OK, hang));
    let (attempt, outputs) = slot(&mut check);
    let Some(Output::Probe { timeout, .. }) = outputs.last() else {
        unreachable!()
    };
    let sent = first + PATIENT.interval;
    while check.next_deadline() < sent + *timeout {
        check.on_deadline(check.next_deadline());
    }
    assert_eq!(drain(&mut check), []);
    let told = sent + *timeout;
    check.on_outcome(attempt, &Outcome::no_answer(*timeout), told);
    assert_eq!(
        drain(&mut check)[0],
        Output::Changed(Verdict::Down, "no answer within 100 ms".to_owned())
    );
    assert!(told - hang <= Duration::from_millis(110));
}

#[test]
fn a_late_caller_who_waits_for_a_long_probe_takes_nothing_from_it() {
    let first = Instant::now();
    let mut check = Check::new(PATIENT, first, Verdict::Up);
    slot(&mut check);
    check.on_deadline(first + Duration::from_millis(95));
    assert_eq!(drain(&mut check), []);
    assert!(check.on_outcome(Attempt(1), &OK, first + Duration::from_millis(95)));
    // After a pause beyond everything the probe that was out says nothing, and a new one is sent.
    check.on_deadline(first + Duration::from_secs(5));
    let outputs = drain(&mut check);
    assert!(
        matches!(
            outputs[..],
            [
                Output::Probe {
                    attempt: Attempt(2),
                    ..
                },
                Output::Missed(490),
                Output::Probe {
                    attempt: Attempt(3),
                    ..
                }
            ]
        ),
        "{outputs:?}"
    );
    assert_eq!(check.verdict(), Verdict::Up);
}

#[test]
fn a_cut_probes_at_once_and_that_probe_decides_when_nobody_is_there() {
    for failure in [Failure::Refused, Failure::Reset] {
        let mut check = Check::new(RULES, Instant::now(), Verdict::Up);
        let (old, _) = slot(&mut check);
        let (grid, cut_at) = (check.next_deadline(), check.next_deadline() - INTERVAL / 2);
        check.recheck(Cut::Reset, cut_at);
        let outputs = drain(&mut check);
        let [Output::Probe { attempt, .. }] = outputs[..] else {
            panic!("{outputs:?}")
        };
        assert!(!check.on_outcome(old, &OK, cut_at), "it began before the cut");
        assert!(check.on_outcome(attempt, &Outcome::Failure(failure.clone()), cut_at));
        let cause = format!("{failure} (held connection reset)");
        assert_eq!(drain(&mut check), [Output::Changed(Verdict::Down, cause)]);
        assert_eq!(check.next_deadline(), grid, "the grid of slots stays");
        check.recheck(Cut::Reset, cut_at);
        assert_eq!(drain(&mut check), [], "what is down is left to its slots");
    }
}

#[test]
fn a_cut_that_the_probe_does_not_confirm_changes_nothing() {
    let mut check = Check::new(RULES, Instant::now(), Verdict::Up);
    assert_eq!(after(&mut check, &OK), []);
    let now = check.next_deadline() - INTERVAL / 2;
    check.recheck(Cut::Closed, now);
    check.recheck(Cut::Closed, now); // already looking
    assert!(matches!(
        drain(&mut check)[..],
        [Output::Probe {
            attempt: Attempt(2),
            ..
        }]
    ));
    assert!(check.on_outcome(Attempt(2), &OK, now));
    // The next refusals are ordinary ones again: three in a row.
    assert_eq!(after(&mut check, &BAD), []);
    assert_eq!(after(&mut check, &BAD), []);
    assert_eq!(
        after(&mut check, &BAD),
        [Output::Changed(Verdict::Down, "connection refused".to_owned())]
    );
}

#[test]
fn what_is_no_proof_of_death_counts_as_one_failure_after_a_cut_too() {
    let others = [
        Failure::NoAnswer(RULES.timeout),
        Failure::Closed,
        Failure::NoRouteToHost,
        Failure::Status {
            got: 503,
            low: 200,
            high: 299,
        },
    ];
    for failure in others {
        let mut check = Check::new(Rules { fall: 2, ..RULES }, Instant::now(), Verdict::Up);
        check.recheck(Cut::Closed, Instant::now());
        drain(&mut check);
        assert!(check.on_outcome(Attempt(1), &Outcome::Failure(failure.clone()), Instant::now()));
        assert_eq!(
            (drain(&mut check), check.verdict()),
            (vec![], Verdict::Up),
            "{failure}"
        );
        assert!(matches!(
            after(&mut check, &BAD)[..],
            [Output::Changed(Verdict::Down, _)]
        ));
    }
}

#[test]
fn when_the_deciding_probe_says_nothing_the_next_one_decides() {
    let mut check = Check::new(RULES, Instant::now(), Verdict::Up);
    check.recheck(Cut::Closed, Instant::now());
    drain(&mut check);
    assert!(check.on_outcome(Attempt(1), &VOID, Instant::now()));
    assert_eq!(
        after(&mut check, &BAD),
        [Output::Changed(
            Verdict::Down,
            "connection refused (held connection closed)".to_owned()
        )]
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
    /// The held connection is cut.
    Cut,
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
        1 => Just(Step::Cut),
    ];
    prop::collection::vec(step, 1..80)
}

/// The rules in their plainest form: the list of outcomes that count, and a look back over it.
struct Model {
    fall: usize,
    rise: usize,
    verdict: Verdict,
    since_change: Vec<bool>,
    /// The attempt that is out, and from when on it is lost.
    out: Option<(u64, Instant)>,
    attempts: u64,
    /// A slot came while one was out.
    owed: bool,
    cut: bool,
}

impl Model {
    fn count(&mut self, success: bool) {
        self.since_change.push(success);
        let decides = std::mem::take(&mut self.cut) && !success;
        let ends_in = |wanted: bool, n: usize| {
            self.since_change.len() >= n && self.since_change.iter().rev().take(n).all(|one| *one == wanted)
        };
        let next = match self.verdict {
            Verdict::Unknown if success => Verdict::Up,
            Verdict::Unknown | Verdict::Up if decides || ends_in(false, self.fall) => Verdict::Down,
            Verdict::Down if ends_in(true, self.rise) => Verdict::Up,
            Verdict::Unknown | Verdict::Up | Verdict::Down => return,
        };
        self.verdict = next;
        self.since_change.clear();
    }

    fn send(&mut self, now: Instant) {
        self.attempts += 1;
        self.owed = false;
        self.out = Some((self.attempts, now + RULES.timeout + INTERVAL));
    }

    fn slot(&mut self, now: Instant, late: bool) {
        match self.out {
            Some((_, lost_at)) if now < lost_at => self.owed = true,
            Some(_) if !late => {
                self.cut = false; // whatever was asked: no answer decides nothing alone
                self.count(false);
                self.send(now);
            }
            Some(_) | None => self.send(now),
        }
    }

    fn ends(&mut self, attempt: u64, outcome: &Outcome, now: Instant) -> bool {
        if self.out.is_none_or(|(out, _)| out != attempt) {
            return false;
        }
        self.out = None;
        if *outcome != VOID {
            self.count(*outcome == OK);
        }
        if self.owed {
            self.send(now);
        }
        true
    }
}

proptest! {
    #[test]
    fn any_order_of_answers_deadlines_and_cuts_agrees_with_the_model(fall in 1u8..5, rise in 1u8..5, steps in steps()) {
        let first = Instant::now() + INTERVAL;
        let mut check = Check::new(Rules { fall, rise, ..RULES }, first, Verdict::Unknown);
        let mut model = Model {
            fall: fall.into(), rise: rise.into(), verdict: Verdict::Unknown, since_change: vec![],
            out: None, attempts: 0, owed: false, cut: false,
        };
        let (mut now, mut announced, mut sent) = (first, Verdict::Unknown, 0);
        for step in steps {
            match step {
                Step::Deadline { late_ms } => {
                    let due = check.next_deadline();
                    if late_ms < 0 {
                        check.on_deadline(due - Duration::from_millis(late_ms.unsigned_abs()));
                    } else {
                        now = due + Duration::from_millis(late_ms.unsigned_abs());
                        check.on_deadline(now);
                        model.slot(now, late_ms >= 1_000);
                        let next = check.next_deadline();
                        prop_assert!(next > now && next <= now + INTERVAL);
                        prop_assert_eq!((next - first).as_millis() % 1_000, 0);
                    }
                }
                Step::Ends(outcome) => {
                    let attempt = model.attempts;
                    prop_assert_eq!(check.on_outcome(Attempt(attempt), &outcome, now), model.ends(attempt, &outcome, now));
                }
                Step::EndsLate(back, outcome) => {
                    let attempt = model.attempts.saturating_sub(back);
                    prop_assert!(!check.on_outcome(Attempt(attempt), &outcome, now));
                }
                Step::Cut => {
                    check.recheck(Cut::Reset, now);
                    if !model.cut && model.verdict != Verdict::Down {
                        model.cut = true;
                        model.send(now);
                    }
                }
            }
            for output in drain(&mut check) {
                match output {
                    Output::Changed(verdict, cause) => {
                        prop_assert_ne!(verdict, announced, "a change must change something");
                        prop_assert!(!cause.is_empty());
                        announced = verdict;
                    }
                    Output::Probe { attempt, .. } => sent = attempt.0,
                    Output::Missed(_) => {}
                }
            }
            prop_assert_eq!(sent, model.attempts);
            prop_assert_eq!(check.verdict(), model.verdict);
            prop_assert_eq!(announced, model.verdict);
        }
    }
}
