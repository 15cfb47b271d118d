use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::fate::Semantics;

const MS: Duration = Duration::from_millis(1);

const FIRST: Standing = Standing {
    counted: 1,
    transparent: 0,
    replayable: true,
    remaining: Some(Duration::from_secs(10)),
};

fn policy(semantics: Semantics) -> Policy {
    Policy::new(semantics)
}

fn ask(semantics: Semantics, ended: (Fate, Code, Pushback), standing: Standing) -> Decision {
    let mut rng = SmallRng::seed_from_u64(7);
    decide(&policy(semantics), ended, standing, &Budget::DEFAULT, &mut rng)
}

fn lost(fate: Fate) -> (Fate, Code, Pushback) {
    (fate, Code::Unavailable, Pushback::Silent)
}

const ALL: [Semantics; 3] = [Semantics::AtMostOnce, Semantics::AtLeastOnce, Semantics::Keyed];

#[test]
fn what_nobody_saw_is_sent_again_at_once_and_not_counted() {
    for semantics in ALL {
        for fate in [Fate::NotSent, Fate::Unprocessed] {
            let again = Decision::Again {
                after: Duration::ZERO,
                transparent: true,
            };
            assert_eq!(ask(semantics, lost(fate), FIRST), again, "{semantics} {fate}");
        }
    }
}

#[test]
fn an_ambiguous_call_is_sent_again_only_where_twice_is_as_good_as_once() {
    assert_eq!(
        ask(Semantics::AtMostOnce, lost(Fate::Ambiguous), FIRST),
        Decision::Stop(Why::Semantics)
    );
    for semantics in [Semantics::AtLeastOnce, Semantics::Keyed] {
        let decision = ask(semantics, lost(Fate::Ambiguous), FIRST);
        assert!(
            matches!(decision, Decision::Again { after, transparent: false } if after < 50 * MS),
            "{decision:?}"
        );
    }
}

#[test]
fn an_answer_is_never_asked_for_again() {
    for semantics in ALL {
        for code in Code::ALL {
            let ended = (Fate::Committed, code, Pushback::After(MS));
            assert_eq!(ask(semantics, ended, FIRST), Decision::Stop(Why::Answered));
        }
    }
}

#[test]
fn only_the_policys_codes_are_retried() {
    for code in Code::ALL {
        let decision = ask(Semantics::Keyed, (Fate::Ambiguous, code, Pushback::Silent), FIRST);
        let stops = decision == Decision::Stop(Why::Code);
        assert_eq!(stops, code != Code::Unavailable, "{code}");
    }
}

#[test]
fn a_refused_stream_is_transparent_once_and_then_counts() {
    let second = Standing {
        transparent: 1,
        ..FIRST
    };
    let decision = ask(Semantics::AtMostOnce, lost(Fate::Unprocessed), second);
    assert!(
        matches!(
            decision,
            Decision::Again {
                transparent: false,
                ..
            }
        ),
        "{decision:?}"
    );
    let last = Standing { counted: 3, ..second };
    let decision = ask(Semantics::AtMostOnce, lost(Fate::Unprocessed), last);
    assert_eq!(decision, Decision::Stop(Why::Attempts));
}

#[test]
fn a_pool_that_takes_no_connection_is_not_asked_in_a_tight_loop_nor_for_ever() {
    let mut waits = Vec::new();
    let mut standing = FIRST;
    while let Decision::Again {
        after,
        transparent: true,
    } = ask(Semantics::AtMostOnce, lost(Fate::NotSent), standing)
    {
        waits.push(after);
        standing.transparent += 1;
    }
    assert_eq!(waits.len(), TRANSPARENT_MAX as usize);
    assert_eq!(waits[0], Duration::ZERO);
    assert!(waits[1..].iter().all(|wait| !wait.is_zero()), "{waits:?}");
}

#[test]
fn the_servers_word_on_retries_is_obeyed() {
    let said = |pushback| {
        ask(
            Semantics::Keyed,
            (Fate::Ambiguous, Code::Unavailable, pushback),
            FIRST,
        )
    };
    assert_eq!(said(Pushback::Never), Decision::Stop(Why::Pushback));
    let again = Decision::Again {
        after: 700 * MS,
        transparent: false,
    };
    assert_eq!(said(Pushback::After(700 * MS)), again);
    // An edge that sheds load has processed nothing, and says when to come back.
    let shed = (Fate::Unprocessed, Code::Unavailable, Pushback::After(700 * MS));
    assert_eq!(ask(Semantics::AtMostOnce, shed, FIRST), again);
}

#[test]
fn a_wait_that_would_reach_the_deadline_is_not_begun() {
    let tight = Standing {
        remaining: Some(700 * MS),
        ..FIRST
    };
    let said = |ms| (Fate::Ambiguous, Code::Unavailable, Pushback::After(ms * MS));
    assert_eq!(
        ask(Semantics::Keyed, said(700), tight),
        Decision::Stop(Why::Deadline)
    );
    assert!(matches!(
        ask(Semantics::Keyed, said(699), tight),
        Decision::Again { .. }
    ));
    let over = Standing {
        remaining: Some(Duration::ZERO),
        ..FIRST
    };
    for fate in [Fate::NotSent, Fate::Unprocessed, Fate::Ambiguous] {
        assert_eq!(
            ask(Semantics::Keyed, lost(fate), over),
            Decision::Stop(Why::Deadline)
        );
    }
}

#[test]
fn an_empty_budget_stops_what_counts_and_nothing_else() {
    let mut empty = Budget::new(2, 0.1).unwrap();
    empty.on_failure();
    let mut rng = SmallRng::seed_from_u64(7);
    let mut ask = |fate| decide(&policy(Semantics::Keyed), lost(fate), FIRST, &empty, &mut rng);
    assert_eq!(ask(Fate::Ambiguous), Decision::Stop(Why::Budget));
    assert!(matches!(ask(Fate::NotSent), Decision::Again { .. }));
}

#[test]
fn what_cannot_be_sent_again_is_not() {
    let gone = Standing {
        replayable: false,
        ..FIRST
    };
    for fate in [Fate::NotSent, Fate::Unprocessed, Fate::Ambiguous] {
        assert_eq!(
            ask(Semantics::Keyed, lost(fate), gone),
            Decision::Stop(Why::NotReplayable)
        );
    }
}
