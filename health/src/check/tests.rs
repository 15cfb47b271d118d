use proptest::prelude::*;

use steer_topology::{Combine, DetectorRules, WindowRules};

use super::*;
use crate::detect::Threshold;
use crate::outcome::{Answer, Void};
use crate::testing::plain;

const INTERVAL: Duration = Duration::from_secs(1);
const RULES: Rules = Rules {
    interval: INTERVAL,
    fast_interval: INTERVAL,
    timeout: Duration::from_millis(300),
};
const OK: Outcome = Outcome::Success(Answer::Status(200));
const BAD: Outcome = Outcome::Failure(Failure::Refused);
const VOID: Outcome = Outcome::Void(Void::Skipped);

/// Down after 3, up after 2.
fn check(rules: Rules, first: Instant, verdict: Verdict) -> Check {
    counting(rules, 3, 2, first, verdict)
}

fn counting(rules: Rules, fall: u8, rise: u8, first: Instant, verdict: Verdict) -> Check {
    let threshold = Threshold::new(fall, rise, 1, verdict);
    let detectors = Detectors::new(vec![Box::new(threshold)], Combine::Any, verdict);
    Check::new(rules, detectors, first)
}

/// How long an answer takes here.
const TOOK: Duration = Duration::from_millis(1);

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
    assert!(check.on_outcome(attempt, outcome, TOOK, check.next_deadline() - INTERVAL));
    drain(check)
}

#[test]
fn the_outcome_that_decides_is_the_cause() {
    let mut check = check(RULES, Instant::now(), Verdict::Unknown);
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
    let mut check = check(RULES, Instant::now(), Verdict::Up);
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
    let mut check = counting(RULES, 3, 1, Instant::now(), Verdict::Down);
    let (old, _) = slot(&mut check);
    check.on_deadline(check.next_deadline()); // waits for the old one
    let (current, _) = slot(&mut check); // which is lost
    let now = check.next_deadline() - INTERVAL;
    assert!(!check.on_outcome(old, &OK, TOOK, now));
    assert_eq!((drain(&mut check), check.verdict()), (vec![], Verdict::Down));
    assert!(check.on_outcome(current, &BAD, TOOK, now));
    assert!(!check.on_outcome(current, &OK, TOOK, now)); // the same probe cannot end twice
    assert_eq!((drain(&mut check), check.verdict()), (vec![], Verdict::Down));
}

#[test]
fn a_probe_of_which_nothing_is_heard_a_whole_slot_after_its_time_has_failed() {
    let mut check = counting(RULES, 1, 2, Instant::now(), Verdict::Up);
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
    fast_interval: Duration::from_millis(10),
    timeout: Duration::from_millis(100),
};

#[test]
fn the_next_probe_waits_for_the_one_that_is_out_and_starts_as_it_ends() {
    let first = Instant::now();
    let at = |ms| first + Duration::from_millis(ms);
    let mut check = counting(PATIENT, 1, 2, first, Verdict::Up);
    let (attempt, _) = slot(&mut check);
    for ms in [10, 20, 30] {
        check.on_deadline(at(ms));
        assert_eq!((drain(&mut check), check.next_deadline()), (vec![], at(ms + 10)));
    }
    assert!(check.on_outcome(attempt, &OK, TOOK, at(34)));
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
    assert!(check.on_outcome(Attempt(2), &OK, TOOK, at(36)));
    assert_eq!((drain(&mut check), check.next_deadline()), (vec![], at(40)));
}

#[test]
fn a_hang_is_noticed_within_an_interval_and_a_time_out() {
    let first = Instant::now();
    let mut check = counting(PATIENT, 1, 2, first, Verdict::Up);
    slot(&mut check);
    let hang = first + Duration::from_micros(200); // right after a good answer
    assert!(check.on_outcome(Attempt(1), &OK, TOOK, hang));
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
    check.on_outcome(attempt, &Outcome::no_answer(*timeout), TOOK, told);
    assert_eq!(
        drain(&mut check)[0],
        Output::Changed(Verdict::Down, "no answer within 100 ms".to_owned())
    );
    assert!(told - hang <= Duration::from_millis(110));
}

#[test]
fn a_late_caller_who_waits_for_a_long_probe_takes_nothing_from_it() {
    let first = Instant::now();
    let mut check = counting(PATIENT, 1, 2, first, Verdict::Up);
    slot(&mut check);
    check.on_deadline(first + Duration::from_millis(95));
    assert_eq!(drain(&mut check), []);
    assert!(check.on_outcome(Attempt(1), &OK, TOOK, first + Duration::from_millis(95)));
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
        let mut check = check(RULES, Instant::now(), Verdict::Up);
        let (old, _) = slot(&mut check);
        let (grid, cut_at) = (check.next_deadline(), check.next_deadline() - INTERVAL / 2);
        check.recheck(Cut::Reset, cut_at);
        let outputs = drain(&mut check);
        let [Output::Probe { attempt, .. }] = outputs[..] else {
            panic!("{outputs:?}")
        };
        assert!(
            !check.on_outcome(old, &OK, TOOK, cut_at),
            "it began before the cut"
        );
        assert!(check.on_outcome(attempt, &Outcome::Failure(failure.clone()), TOOK, cut_at));
        let cause = format!("{failure} (held connection reset)");
        assert_eq!(drain(&mut check), [Output::Changed(Verdict::Down, cause)]);
        assert_eq!(check.next_deadline(), grid, "the grid of slots stays");
        check.recheck(Cut::Reset, cut_at);
        assert_eq!(drain(&mut check), [], "what is down is left to its slots");
    }
}

#[test]
fn a_cut_that_the_probe_does_not_confirm_changes_nothing() {
    let mut check = check(RULES, Instant::now(), Verdict::Up);
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
    assert!(check.on_outcome(Attempt(2), &OK, TOOK, now));
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
            want: "200-299".to_owned(),
        },
    ];
    for failure in others {
        let mut check = counting(RULES, 2, 2, Instant::now(), Verdict::Up);
        check.recheck(Cut::Closed, Instant::now());
        drain(&mut check);
        assert!(check.on_outcome(
            Attempt(1),
            &Outcome::Failure(failure.clone()),
            TOOK,
            Instant::now()
        ));
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
    let mut check = check(RULES, Instant::now(), Verdict::Up);
    check.recheck(Cut::Closed, Instant::now());
    drain(&mut check);
    assert!(check.on_outcome(Attempt(1), &VOID, TOOK, Instant::now()));
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
    let mut check = counting(RULES, 1, 2, first, Verdict::Up);
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
    let mut check = check(RULES, first, Verdict::Unknown);
    check.on_deadline(first - Duration::from_nanos(1));
    assert_eq!((drain(&mut check), check.next_deadline()), (vec![], first));
}

#[test]
fn absurd_settings_and_pauses_do_not_spin_or_panic() {
    let first = Instant::now();
    let rules = Rules {
        interval: Duration::ZERO,
        fast_interval: Duration::ZERO,
        timeout: INTERVAL,
    };
    let mut check = counting(rules, 0, 0, first, Verdict::Unknown);
    let year = first + Duration::from_secs(365 * 86_400);
    check.on_deadline(year);
    assert!(check.next_deadline() > year && check.next_deadline() <= year + INTERVAL_MIN);
    let late = Duration::from_millis(365 * 86_400 * 1000);
    assert_eq!(drain(&mut check)[0], Output::Missed(late.as_millis() as u64));
}

const FAST: Rules = Rules {
    fast_interval: Duration::from_millis(500),
    ..RULES
};

/// Plays a check against what each probe meets, in the order they are sent; returns when each was sent, in ms, and
/// when the verdict changed.
fn play(
    mut check: Check,
    first: Instant,
    answers: impl Fn(usize) -> (Outcome, u64),
    until_ms: u64,
) -> (Vec<u64>, Vec<(u64, Verdict, String)>) {
    let ms = |at: Instant| at.saturating_duration_since(first).as_millis() as u64;
    let (mut sent, mut changed, mut pending) = (Vec::new(), Vec::new(), None);
    loop {
        let due = check.next_deadline();
        let now = match &pending {
            Some((at, _, _, _)) if *at <= due => *at,
            Some(_) | None => due,
        };
        if ms(now) > until_ms {
            return (sent, changed);
        }
        match pending.take_if(|(at, _, _, _)| *at == now) {
            Some((_, attempt, outcome, took)) => assert!(check.on_outcome(attempt, &outcome, took, now)),
            None => check.on_deadline(now),
        }
        for output in drain(&mut check) {
            match output {
                Output::Probe { attempt, .. } => {
                    let (outcome, takes) = answers(sent.len());
                    sent.push(ms(now));
                    let took = Duration::from_millis(takes);
                    pending = Some((now + took, attempt, outcome, took));
                }
                Output::Changed(verdict, cause) => changed.push((ms(now), verdict, cause)),
                Output::Missed(slots) => panic!("{slots} missed"),
            }
        }
    }
}

#[test]
fn after_a_failure_a_probe_comes_between_the_slots_until_it_is_decided() {
    let first = Instant::now();
    let (sent, changed) = play(
        check(FAST, first, Verdict::Up),
        first,
        |nth| (if nth == 0 { OK } else { BAD }, 1),
        5_000,
    );
    assert_eq!(
        sent,
        [0, 1000, 1500, 2000, 3000, 4000, 5000],
        "no hurry once it is down"
    );
    assert_eq!(changed, [(2001, Verdict::Down, "connection refused".to_owned())]);
    let hang = || Outcome::no_answer(RULES.timeout);
    let (sent, changed) = play(
        check(FAST, first, Verdict::Up),
        first,
        |nth| if nth == 0 { (OK, 1) } else { (hang(), 300) },
        3_000,
    );
    assert_eq!(sent, [0, 1000, 1500, 2000, 3000]);
    assert_eq!(changed[0].0, 2300);
    let blip = |nth| (if nth == 1 { BAD } else { OK }, 1);
    let (sent, changed) = play(check(FAST, first, Verdict::Up), first, blip, 4_000);
    assert_eq!((sent, changed.len()), (vec![0, 1000, 1500, 2000, 3000, 4000], 0));
}

#[test]
fn who_has_too_much_to_do_looks_again_at_the_next_slot() {
    let first = Instant::now();
    let mut check = check(FAST, first, Verdict::Up);
    let (attempt, _) = slot(&mut check);
    assert!(check.on_outcome(attempt, &BAD, TOOK, first));
    assert_eq!(check.next_deadline(), first + FAST.fast_interval);
    check.no_hurry();
    assert_eq!(check.next_deadline(), first + INTERVAL);
}

#[test]
fn a_fast_probe_never_comes_shortly_before_a_slot() {
    let first = Instant::now();
    let rules = Rules {
        fast_interval: Duration::from_millis(300),
        ..RULES
    };
    let (sent, _) = play(
        counting(rules, 100, 2, first, Verdict::Up),
        first,
        |_| (BAD, 1),
        2_000,
    );
    assert_eq!(sent, [0, 300, 600, 1000, 1300, 1600, 2000]);
}

fn default_detectors(verdict: Verdict) -> Detectors {
    let mut settings = plain(steer_topology::CheckKind::Tcp);
    settings.detect.push(DetectorRules::Window(WindowRules {
        size: 10,
        min_success: 50,
        recover: 80,
        latency: None,
    }));
    Detectors::of(&settings, verdict)
}

#[test]
fn a_service_that_fails_two_of_three_is_down_within_ten_seconds_and_stays_down() {
    for rules in [RULES, FAST] {
        for phase in 0..3 {
            let first = Instant::now();
            let check = Check::new(rules, default_detectors(Verdict::Up), first);
            // Twenty good answers before.
            let answers = |nth: usize| {
                (
                    if nth < 20 || (nth + phase).is_multiple_of(3) {
                        OK
                    } else {
                        BAD
                    },
                    1,
                )
            };
            let (_, changed) = play(check, first, answers, 120_000);
            let (at, verdict, cause) = &changed[0];
            assert!(changed.len() == 1 && *verdict == Verdict::Down, "{changed:?}");
            assert!(*at - 19_000 < 10_000, "after {} ms", at - 19_000);
            assert!(cause.ends_with("of the last 10 failed)"), "{cause}");
        }
    }
}

#[test]
fn after_a_plain_outage_two_successes_bring_it_back_whatever_the_window_holds() {
    let first = Instant::now();
    let check = Check::new(FAST, default_detectors(Verdict::Up), first);
    let (_, changed) = play(
        check,
        first,
        |nth| (if (20..100).contains(&nth) { BAD } else { OK }, 1),
        120_000,
    );
    let [(down_at, Verdict::Down, _), (up_at, Verdict::Up, _)] = &changed[..] else {
        panic!("{changed:?}")
    };
    // Probes 20, 21 and 22 fail within 1 s, the others once a second.
    assert_eq!((*down_at, *up_at), (21_001, 99_001 + 1000));
}

#[test]
fn a_report_counts_at_once_and_leaves_the_slots_alone() {
    let first = Instant::now() + INTERVAL;
    let mut check = counting(RULES, 1, 1, first, Verdict::Up);
    check.on_report(
        &Outcome::Failure(Failure::Reported("disk".to_owned())),
        first - TOOK,
    );
    assert_eq!(
        drain(&mut check),
        [Output::Changed(Verdict::Down, "reported down: disk".to_owned())]
    );
    check.on_report(&OK, first - TOOK);
    assert_eq!(
        drain(&mut check),
        [Output::Changed(Verdict::Up, "status 200".to_owned())]
    );
    assert_eq!(check.next_deadline(), first);
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
        let mut check = counting(RULES, fall, rise, first, Verdict::Unknown);
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
                    prop_assert_eq!(check.on_outcome(Attempt(attempt), &outcome, TOOK, now), model.ends(attempt, &outcome, now));
                }
                Step::EndsLate(back, outcome) => {
                    let attempt = model.attempts.saturating_sub(back);
                    prop_assert!(!check.on_outcome(Attempt(attempt), &outcome, TOOK, now));
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
