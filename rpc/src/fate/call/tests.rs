use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// A call with its clock, budget and chance.
struct Desk {
    call: Call,
    budget: Budget,
    rng: SmallRng,
    now: Instant,
}

impl Desk {
    fn new(policy: Policy, timeout: Option<Duration>) -> Self {
        let now = Instant::now();
        Self {
            call: Call::new(policy, Deadline::of(timeout, None, now), now),
            budget: Budget::DEFAULT,
            rng: SmallRng::seed_from_u64(3),
            now,
        }
    }

    fn news(&mut self, attempt: usize, news: News) {
        self.report(attempt, Report::of(news));
    }

    fn report(&mut self, attempt: usize, report: Report) {
        self.call
            .on_news(attempt, report, &mut self.budget, &mut self.rng, self.now);
    }

    /// Goes to the next moment at which something is due.
    fn wait(&mut self) {
        self.now = self.call.next_deadline().unwrap().max(self.now);
        self.call.on_deadline(&self.budget, self.now);
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.call.poll_action()).collect()
    }
}

fn start(attempt: usize, previous: u32) -> Action {
    Action::Start { attempt, previous }
}

fn failed(fate: Fate, code: Code, why: Why) -> Action {
    let how = How::Failed { code, why };
    Action::Finish(End { fate, how })
}

fn answered(fate: Fate, attempt: usize) -> Action {
    let how = How::Answer { attempt };
    Action::Finish(End { fate, how })
}

fn hedged(semantics: Semantics) -> Policy {
    Policy {
        hedge: Some(Hedge { after: 20 * MS }),
        ..Policy::new(semantics)
    }
}

#[test]
fn a_call_that_is_answered_ends_with_its_answer() {
    let mut desk = Desk::new(Policy::new(Semantics::AtMostOnce), None);
    desk.news(0, News::Written);
    desk.news(0, News::Headers);
    desk.news(0, News::Answered);
    assert_eq!(desk.actions(), [start(0, 0), answered(Fate::Ambiguous, 0)]);
    assert_eq!(desk.call.next_deadline(), None);
}

#[test]
fn an_answer_that_is_trailers_alone_is_passed_on_as_committed() {
    let mut desk = Desk::new(Policy::new(Semantics::Keyed), None);
    desk.news(0, News::Written);
    desk.report(
        0,
        Report::of_status(Code::FailedPrecondition, None, Pushback::Silent),
    );
    assert_eq!(desk.actions(), [start(0, 0), answered(Fate::Committed, 0)]);
}

#[test]
fn a_lost_call_that_is_done_once_at_most_is_given_up_as_ambiguous() {
    let mut desk = Desk::new(Policy::new(Semantics::AtMostOnce), None);
    desk.news(0, News::Written);
    desk.news(0, News::Lost);
    let end = failed(Fate::Ambiguous, Code::Unavailable, Why::Semantics);
    assert_eq!(desk.actions(), [start(0, 0), end]);
}

#[test]
fn a_lost_call_with_a_key_is_sent_again_and_says_so() {
    let mut desk = Desk::new(Policy::new(Semantics::Keyed), None);
    desk.news(0, News::Written);
    desk.news(0, News::Lost);
    desk.wait();
    desk.news(1, News::Written);
    desk.news(1, News::Answered);
    assert_eq!(
        desk.actions(),
        [start(0, 0), start(1, 1), answered(Fate::Committed, 1)]
    );
}

#[test]
fn what_a_goaway_disowned_goes_elsewhere_at_once_even_if_done_once_at_most() {
    let mut desk = Desk::new(Policy::new(Semantics::AtMostOnce), None);
    desk.news(0, News::Written);
    desk.news(0, News::Disowned);
    let before = desk.now;
    desk.wait();
    assert_eq!(desk.now, before);
    // Nobody saw the first, so it is no previous attempt.
    assert_eq!(desk.actions(), [start(0, 0), start(1, 0)]);
}

#[test]
fn attempts_are_bounded_and_the_worst_fate_is_told() {
    let mut desk = Desk::new(Policy::new(Semantics::AtLeastOnce), None);
    for attempt in 0..3 {
        desk.news(attempt, News::Written);
        desk.news(attempt, News::Lost);
        if attempt < 2 {
            desk.wait();
        }
    }
    let end = failed(Fate::Ambiguous, Code::Unavailable, Why::Attempts);
    assert_eq!(desk.actions(), [start(0, 0), start(1, 1), start(2, 2), end]);
}

#[test]
fn a_call_that_never_left_ends_as_not_sent() {
    let mut desk = Desk::new(Policy::new(Semantics::AtMostOnce), None);
    let mut attempt = 0;
    let end = loop {
        desk.news(attempt, News::NoConnection);
        if desk.call.next_deadline().is_none() {
            break *desk.actions().last().unwrap();
        }
        desk.wait();
        attempt += 1;
    };
    assert_eq!(end, failed(Fate::NotSent, Code::Unavailable, Why::Attempts));
    assert_eq!(attempt as u32, super::super::TRANSPARENT_MAX + 2);
}

#[test]
fn at_the_deadline_everything_is_cancelled() {
    let mut desk = Desk::new(Policy::new(Semantics::Keyed), Some(100 * MS));
    desk.news(0, News::Written);
    desk.wait();
    let end = failed(Fate::Ambiguous, Code::DeadlineExceeded, Why::Deadline);
    assert_eq!(desk.actions(), [start(0, 0), Action::Cancel { attempt: 0 }, end]);
}

#[test]
fn expired_work_is_not_begun() {
    let mut desk = Desk::new(Policy::new(Semantics::Keyed), Some(Duration::ZERO));
    let end = failed(Fate::NotSent, Code::DeadlineExceeded, Why::Deadline);
    assert_eq!(desk.actions(), [end]);
}

#[test]
fn who_leaves_takes_everything_along() {
    let mut desk = Desk::new(Policy::new(Semantics::Keyed), None);
    desk.news(0, News::Written);
    desk.call.on_cancel();
    desk.call.on_cancel();
    let end = failed(Fate::Ambiguous, Code::Cancelled, Why::Cancelled);
    assert_eq!(desk.actions(), [start(0, 0), Action::Cancel { attempt: 0 }, end]);
}

#[test]
fn the_first_answer_of_a_hedged_call_wins_and_the_other_is_cancelled() {
    let mut desk = Desk::new(hedged(Semantics::Keyed), None);
    desk.news(0, News::Written);
    desk.wait();
    desk.news(1, News::Written);
    desk.news(1, News::Headers);
    desk.news(0, News::Answered);
    let expected = [
        start(0, 0),
        start(1, 1),
        Action::Cancel { attempt: 0 },
        answered(Fate::Ambiguous, 1),
    ];
    assert_eq!(desk.actions(), expected);
}

#[test]
fn a_hedge_whose_twin_is_under_way_waits_for_it_when_nothing_more_may_begin() {
    let mut desk = Desk::new(
        Policy {
            max_attempts: 2,
            ..hedged(Semantics::Keyed)
        },
        None,
    );
    desk.news(0, News::Written);
    desk.wait();
    desk.news(1, News::Written);
    desk.news(1, News::Lost);
    assert_eq!(desk.actions(), [start(0, 0), start(1, 1)]);
    desk.news(0, News::Answered);
    assert_eq!(desk.actions(), [answered(Fate::Committed, 0)]);
}

#[test]
fn a_call_that_is_done_once_at_most_is_never_hedged() {
    let desk = Desk::new(hedged(Semantics::AtMostOnce), None);
    assert_eq!(desk.call.next_deadline(), None);
}

#[test]
fn hedges_and_retries_share_one_budget() {
    let mut desk = Desk::new(hedged(Semantics::Keyed), None);
    for _ in 0..5 {
        desk.budget.on_failure();
    }
    desk.news(0, News::Written);
    desk.wait();
    desk.news(0, News::Lost);
    let end = failed(Fate::Ambiguous, Code::Unavailable, Why::Budget);
    assert_eq!(desk.actions(), [start(0, 0), end]);
}

#[test]
fn a_request_that_was_not_kept_is_not_sent_again() {
    let mut desk = Desk::new(hedged(Semantics::Keyed), None);
    desk.news(0, News::Written);
    desk.call.not_replayable();
    assert_eq!(desk.call.next_deadline(), None, "no hedge either");
    desk.news(0, News::Lost);
    let end = failed(Fate::Ambiguous, Code::Unavailable, Why::NotReplayable);
    assert_eq!(desk.actions(), [start(0, 0), end]);
}

#[test]
fn a_call_that_waits_for_its_next_attempt_is_over_when_it_can_have_none() {
    let mut desk = Desk::new(Policy::new(Semantics::AtMostOnce), None);
    desk.news(0, News::NoConnection);
    desk.call.not_replayable();
    let end = failed(Fate::NotSent, Code::Unavailable, Why::NotReplayable);
    assert_eq!(desk.actions(), [start(0, 0), end]);
}

/// What may happen to a call.
#[derive(Debug, Clone, Copy)]
enum Step {
    News(usize, News),
    Time(u16),
    Cancel,
    NotReplayable,
}

fn step() -> impl Strategy<Value = Step> {
    let news =
        (0_usize..4, 0..News::ALL.len()).prop_map(|(attempt, news)| Step::News(attempt, News::ALL[news]));
    prop_oneof![
        12 => news,
        6 => (0_u16..120).prop_map(Step::Time),
        1 => Just(Step::Cancel),
        1 => Just(Step::NotReplayable),
    ]
}

fn semantics() -> impl Strategy<Value = Semantics> {
    prop_oneof![
        Just(Semantics::AtMostOnce),
        Just(Semantics::AtLeastOnce),
        Just(Semantics::Keyed)
    ]
}

/// What the actions mean, kept beside the machine.
#[derive(Debug, Default)]
struct Watch {
    stages: Vec<Stage>,
    finished: bool,
}

impl Watch {
    fn note(&mut self, desk: &mut Desk, semantics: Semantics) {
        for action in desk.actions() {
            match action {
                Action::Start { attempt, .. } => {
                    assert!(!self.finished, "nothing begins after the end");
                    assert_eq!(attempt, self.stages.len());
                    assert!(!desk.call.deadline.is_over(desk.now), "expired work begins");
                    let harmless = |stage: &Stage| stage.fate().is_some_and(Fate::is_harmless);
                    let all_harmless = self.stages.iter().all(harmless);
                    assert!(
                        semantics != Semantics::AtMostOnce || all_harmless,
                        "{:?}",
                        self.stages
                    );
                    self.stages.push(Stage::FIRST);
                }
                Action::Cancel { attempt } => {
                    self.stages[attempt] = self.stages[attempt].next(News::Cancelled);
                }
                Action::Finish(end) => {
                    assert!(!self.finished, "one end");
                    self.finished = true;
                    if let How::Failed { .. } = end.how {
                        let fate = self.stages.iter().filter_map(|stage| stage.fate()).max();
                        assert_eq!(end.fate, fate.unwrap_or(Fate::NotSent));
                    }
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn whatever_happens_a_call_ends_once_and_is_never_sent_again_against_its_semantics(
        semantics in semantics(), hedge in prop::option::of(1_u64..50), timeout in prop::option::of(0_u64..500),
        steps in prop::collection::vec(step(), 0..40)
    ) {
        let hedge = hedge.map(|ms| Hedge { after: Duration::from_millis(ms) });
        let policy = Policy { hedge, ..Policy::new(semantics) };
        let mut desk = Desk::new(policy, timeout.map(Duration::from_millis));
        let mut watch = Watch::default();
        watch.note(&mut desk, semantics);
        for step in steps {
            match step {
                Step::News(attempt, news) => {
                    if let Some(stage) = watch.stages.get_mut(attempt) {
                        *stage = stage.next(news);
                    }
                    desk.news(attempt, news);
                }
                Step::Time(ms) => {
                    desk.now += u32::from(ms) * MS;
                    desk.call.on_deadline(&desk.budget, desk.now);
                }
                Step::Cancel => desk.call.on_cancel(),
                Step::NotReplayable => desk.call.not_replayable(),
            }
            watch.note(&mut desk, semantics);
        }
        // Every attempt is lost in the end: then the call is over after a bounded number of turns.
        for _ in 0..40 {
            for attempt in 0..watch.stages.len() {
                watch.stages[attempt] = watch.stages[attempt].next(News::Lost);
                desk.news(attempt, News::Lost);
            }
            watch.note(&mut desk, semantics);
            if desk.call.next_deadline().is_some() {
                desk.wait();
                watch.note(&mut desk, semantics);
            }
        }
        prop_assert!(watch.finished);
    }
}
