use super::*;

const MS: Duration = Duration::from_millis(1);

/// Every row that does something; all others leave the state and do nothing.
const ROWS: [(State, Event, State, Do); 18] = [
    (State::Asking, Event::Fresh, State::Running, Do::Run),
    (State::Asking, Event::InFlight, State::Waiting, Do::Wait),
    (State::Asking, Event::Answered, State::Ended, Do::Replay),
    (
        State::Asking,
        Event::OtherPayload,
        State::Ended,
        Do::Refuse(Refusal::OtherPayload),
    ),
    (
        State::Asking,
        Event::Unavailable,
        State::Ended,
        Do::Refuse(Refusal::Unavailable),
    ),
    (State::Waiting, Event::Due, State::Asking, Do::Claim),
    (
        State::Waiting,
        Event::Expired,
        State::Ended,
        Do::Refuse(Refusal::InFlight),
    ),
    (State::Running, Event::Kept, State::Committing, Do::Commit),
    (State::Running, Event::Dropped, State::Releasing, Do::Release),
    (State::Running, Event::Expired, State::Releasing, Do::Release),
    (State::Running, Event::Fenced, State::Releasing, Do::Release),
    (State::Running, Event::Unavailable, State::Releasing, Do::Release),
    (State::Running, Event::InDoubt, State::Releasing, Do::Release),
    (State::Committing, Event::Committed, State::Ended, Do::Answer),
    (State::Committing, Event::Fenced, State::Asking, Do::Claim),
    (State::Committing, Event::InDoubt, State::Asking, Do::Claim),
    (
        State::Committing,
        Event::Unavailable,
        State::Ended,
        Do::Refuse(Refusal::Unavailable),
    ),
    (State::Releasing, Event::Released, State::Ended, Do::Fail),
];

const STATES: [State; 6] = [
    State::Asking,
    State::Waiting,
    State::Running,
    State::Committing,
    State::Releasing,
    State::Ended,
];

const EVENTS: [Event; 13] = [
    Event::Fresh,
    Event::InFlight,
    Event::Answered,
    Event::OtherPayload,
    Event::Unavailable,
    Event::Due,
    Event::Kept,
    Event::Dropped,
    Event::Committed,
    Event::Fenced,
    Event::InDoubt,
    Event::Released,
    Event::Expired,
];

#[test]
fn every_row_of_the_table_is_as_specified() {
    for state in STATES {
        for event in EVENTS {
            let row = ROWS.iter().find(|row| (row.0, row.1) == (state, event));
            let expected = row.map_or((state, Do::Nothing), |row| (row.2, row.3));
            assert_eq!(state.next(event, false), expected, "{state:?} and {event:?}");
        }
    }
}

#[test]
fn doubt_changes_one_row_alone() {
    for state in STATES {
        for event in EVENTS {
            let doubtful = state.next(event, true);
            if (state, event) == (State::Asking, Event::Unavailable) {
                assert_eq!(doubtful, (State::Ended, Do::Refuse(Refusal::InDoubt)));
            } else {
                assert_eq!(doubtful, state.next(event, false));
            }
        }
    }
}

fn desk(timeout: Duration) -> (Desk, Instant) {
    let now = Instant::now();
    let (desk, first) = Desk::new(Deadline::at(now + timeout), now);
    assert_eq!(first, Do::Claim);
    (desk, now)
}

#[test]
fn a_fresh_key_is_run_committed_and_answered() {
    let (mut desk, now) = desk(100 * MS);
    assert_eq!(desk.on_event(Event::Fresh, now), Do::Run);
    assert_eq!(desk.on_event(Event::Kept, now), Do::Commit);
    assert_eq!(desk.on_event(Event::Committed, now), Do::Answer);
    assert_eq!(desk.state(), State::Ended);
}

#[test]
fn expired_work_is_not_begun_even_when_the_key_was_got() {
    let now = Instant::now();
    let (desk, first) = Desk::new(Deadline::at(now), now);
    assert_eq!(first, Do::Refuse(Refusal::Expired));
    assert_eq!(desk.state(), State::Ended);

    let (mut desk, now) = self::desk(100 * MS);
    assert_eq!(desk.on_event(Event::Fresh, now + 100 * MS), Do::Release);
    let told = desk.on_event(Event::Released, now + 100 * MS);
    assert_eq!(told, Do::Refuse(Refusal::Expired));
}

#[test]
fn a_key_in_flight_is_waited_for_ever_longer_and_the_caller_is_told_before_its_deadline() {
    let (mut desk, start) = desk(400 * MS);
    let mut now = start;
    let mut waits = Vec::new();
    let last = loop {
        assert_eq!(desk.on_event(Event::InFlight, now), Do::Wait);
        let next = desk.next_deadline().unwrap();
        waits.push((next - now).as_millis());
        now = next;
        let told = desk.on_deadline(now);
        if told != Do::Claim {
            break told;
        }
    };
    assert_eq!(waits[..6], [2, 4, 8, 16, 32, 50]);
    assert_eq!(last, Do::Refuse(Refusal::InFlight));
    assert_eq!(now, start + 390 * MS);
}

#[test]
fn a_handler_that_takes_too_long_is_stopped_and_nothing_of_it_stays() {
    let (mut desk, now) = desk(100 * MS);
    desk.on_event(Event::Fresh, now);
    assert_eq!(desk.next_deadline(), Some(now + 100 * MS));
    assert_eq!(desk.on_deadline(now + 99 * MS), Do::Nothing);
    assert_eq!(desk.on_deadline(now + 100 * MS), Do::Release);
    let told = desk.on_event(Event::Released, now + 101 * MS);
    assert_eq!(told, Do::Refuse(Refusal::Expired));
}

#[test]
fn who_is_fenced_asks_again_and_gets_the_answer_of_the_other() {
    let (mut desk, now) = desk(100 * MS);
    desk.on_event(Event::Fresh, now);
    desk.on_event(Event::Kept, now);
    assert_eq!(desk.on_event(Event::Fenced, now), Do::Claim);
    assert_eq!(desk.on_event(Event::Answered, now), Do::Replay);
}

#[test]
fn after_a_commit_in_doubt_nobody_says_that_nothing_was_done() {
    let doubtful = || {
        let (mut desk, now) = desk(100 * MS);
        desk.on_event(Event::Fresh, now);
        desk.on_event(Event::Kept, now);
        assert_eq!(desk.on_event(Event::InDoubt, now), Do::Claim);
        (desk, now)
    };
    let (mut desk, now) = doubtful();
    assert_eq!(
        desk.on_event(Event::Unavailable, now),
        Do::Refuse(Refusal::InDoubt)
    );

    let (mut desk, now) = doubtful();
    let late = now + 100 * MS;
    assert_eq!(desk.on_event(Event::Fresh, late), Do::Release);
    assert_eq!(desk.on_event(Event::Released, late), Do::Refuse(Refusal::InDoubt));
}

#[test]
fn a_commit_that_is_fenced_for_ever_ends() {
    let (mut desk, now) = desk(100 * MS);
    for _ in 0..RETURNS_MAX {
        desk.on_event(Event::Fresh, now);
        desk.on_event(Event::Kept, now);
        assert_eq!(desk.on_event(Event::Fenced, now), Do::Claim);
    }
    desk.on_event(Event::Fresh, now);
    desk.on_event(Event::Kept, now);
    assert_eq!(
        desk.on_event(Event::Fenced, now),
        Do::Refuse(Refusal::Unavailable)
    );
}

#[test]
fn a_refusal_never_claims_more_than_is_known() {
    let fates = [
        (Refusal::InFlight, Code::Aborted, Fate::Ambiguous),
        (Refusal::OtherPayload, Code::FailedPrecondition, Fate::Committed),
        (Refusal::Unavailable, Code::Unavailable, Fate::Unprocessed),
        (Refusal::InDoubt, Code::Unavailable, Fate::Ambiguous),
        (Refusal::Expired, Code::DeadlineExceeded, Fate::Unprocessed),
    ];
    for (refusal, code, fate) in fates {
        let told = refusal.told();
        assert_eq!((told.0, told.1), (code, fate), "{refusal:?}");
    }
}
