use proptest::prelude::*;

use super::*;

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn drain(wire: &mut Tripwire) -> Vec<Output> {
    std::iter::from_fn(|| wire.poll_output()).collect()
}

/// A wire in each kind of state, made by the events that lead there, with nothing left to do.
fn in_state(name: &str, now: Instant) -> Tripwire {
    use Event::{Connected, Cut as End, Serves};
    let way: &[Event] = match name {
        "not held" => &[],
        "dialling" => &[Serves],
        "held" => &[Serves, Connected],
        "broken" => &[Serves, Connected, End(Cut::Closed)],
        "backing off" => &[Serves, Connected, End(Cut::Closed), Serves],
        _ => unreachable!("{name}"),
    };
    let mut wire = Tripwire::new();
    for event in way {
        wire.on_event(*event, now);
    }
    drain(&mut wire);
    wire
}

#[test]
fn every_row_of_the_transition_table() {
    let now = Instant::now();
    let (held, broken) = (State::Held { since: now }, State::Broken { redial: None });
    let waits = |time| State::Broken {
        redial: Some(now + time),
    };
    let (ends, first, second) = (Event::Cut(Cut::Reset), ms(10), ms(20));
    let dial = |number| vec![Output::Dial(Number(number))];
    let look = |cut| vec![Output::Recheck(cut)];
    let nothing = Vec::new;
    let rows = [
        ("not held", Event::Serves, State::Dialling, dial(1)),
        ("not held", Event::Down, State::NotHeld, nothing()),
        ("not held", Event::Connected, State::NotHeld, nothing()),
        ("not held", Event::Refused, State::NotHeld, nothing()),
        ("not held", Event::Failed, State::NotHeld, nothing()),
        ("not held", ends, State::NotHeld, nothing()),
        ("not held", Event::Due, State::NotHeld, nothing()),
        ("dialling", Event::Serves, State::Dialling, nothing()),
        ("dialling", Event::Down, State::NotHeld, vec![Output::Drop]),
        ("dialling", Event::Connected, held, nothing()),
        ("dialling", Event::Refused, broken, look(Cut::Refused)),
        ("dialling", Event::Failed, waits(first), nothing()),
        ("dialling", ends, State::Dialling, nothing()),
        ("dialling", Event::Due, State::Dialling, nothing()),
        ("held", Event::Serves, held, nothing()),
        ("held", Event::Down, State::NotHeld, vec![Output::Drop]),
        ("held", Event::Connected, held, nothing()),
        ("held", Event::Refused, held, nothing()),
        ("held", Event::Failed, held, nothing()),
        ("held", ends, broken, look(Cut::Reset)),
        ("held", Event::Due, held, nothing()),
        ("broken", Event::Serves, waits(first), nothing()),
        ("broken", Event::Down, State::NotHeld, vec![Output::Drop]),
        ("broken", Event::Connected, broken, nothing()),
        ("broken", Event::Refused, broken, nothing()),
        ("broken", Event::Failed, broken, nothing()),
        ("broken", ends, broken, nothing()),
        ("broken", Event::Due, broken, nothing()),
        ("backing off", Event::Serves, waits(first), nothing()),
        ("backing off", Event::Down, State::NotHeld, vec![Output::Drop]),
        ("backing off", Event::Connected, waits(first), nothing()),
        ("backing off", Event::Refused, waits(first), nothing()),
        ("backing off", Event::Failed, waits(first), nothing()),
        ("backing off", ends, waits(first), nothing()),
        ("backing off", Event::Due, waits(first), nothing()), // not yet
    ];
    for (from, event, want, outputs) in rows {
        let mut wire = in_state(from, now);
        wire.on_event(event, now);
        assert_eq!(wire.state, want, "{from} on {event:?}");
        assert_eq!(drain(&mut wire), outputs, "{from} on {event:?}");
    }
    let mut wire = in_state("backing off", now);
    wire.on_event(Event::Due, now + second);
    assert_eq!((wire.state, drain(&mut wire)), (State::Dialling, dial(2)));
}

#[test]
fn a_wire_that_is_cut_at_once_again_and_again_is_held_ever_less_often() {
    let mut now = Instant::now();
    let mut wire = in_state("held", now);
    let mut pauses = Vec::new();
    for _ in 0..14 {
        wire.on_event(Event::Cut(Cut::Closed), now);
        wire.on_event(Event::Serves, now);
        let at = wire.next_deadline().unwrap();
        pauses.push(at - now);
        now = at;
        wire.on_event(Event::Due, now);
        wire.on_event(Event::Connected, now);
    }
    assert_eq!(pauses[..4], [10, 20, 40, 80].map(ms));
    assert_eq!(pauses.last(), Some(&BACKOFF_MAX));
    // Held for long: the slate is clean.
    now += LONG;
    wire.on_event(Event::Cut(Cut::Closed), now);
    wire.on_event(Event::Serves, now);
    assert_eq!(wire.next_deadline(), Some(now + BACKOFF_MIN));
}

#[test]
fn news_of_a_connection_that_was_let_go_are_old() {
    let now = Instant::now();
    let mut wire = in_state("dialling", now);
    assert!(wire.is_current(Number(1)));
    wire.on_event(Event::Down, now);
    assert!(!wire.is_current(Number(1)));
    wire.on_event(Event::Serves, now);
    assert!(!wire.is_current(Number(1)) && wire.is_current(Number(2)));
}

fn events() -> impl Strategy<Value = Vec<(Event, u64)>> {
    let cut = prop_oneof![Just(Cut::Closed), Just(Cut::Reset), Just(Cut::Failed)];
    let event = prop_oneof![
        3 => Just(Event::Serves),
        1 => Just(Event::Down),
        3 => Just(Event::Connected),
        1 => Just(Event::Refused),
        1 => Just(Event::Failed),
        2 => cut.prop_map(Event::Cut),
        3 => Just(Event::Due),
    ];
    prop::collection::vec((event, 0u64..2_000), 1..200)
}

proptest! {
    /// Whatever happens: at most one connection, none while the endpoint is down, no dial and no look without a
    /// reason, and never two dials closer than the shortest back-off while the endpoint stays up.
    #[test]
    fn any_order_of_events_keeps_one_connection_and_asks_with_reason(events in events()) {
        let mut now = Instant::now();
        let (mut wire, mut open, mut down, mut last_dial) = (Tripwire::new(), false, true, None::<Instant>);
        for (event, passed) in events {
            now += ms(passed);
            wire.on_event(event, now);
            match event {
                Event::Down => (down, last_dial) = (true, None),
                Event::Serves => down = false,
                Event::Cut(_) | Event::Refused | Event::Failed if open && !wire.is_held() => open = wire.state == State::Dialling,
                Event::Cut(_) | Event::Refused | Event::Failed | Event::Connected | Event::Due => {}
            }
            for output in drain(&mut wire) {
                match output {
                    Output::Dial(number) => {
                        prop_assert!(!open && !down && wire.is_current(number));
                        prop_assert!(last_dial.is_none_or(|last| now >= last + BACKOFF_MIN));
                        (open, last_dial) = (true, Some(now));
                    }
                    Output::Drop => open = false,
                    Output::Recheck(cut) => {
                        open = false;
                        let reason = match event {
                            Event::Cut(how) => how,
                            Event::Refused => Cut::Refused,
                            other @ (Event::Serves | Event::Down | Event::Connected | Event::Failed | Event::Due) => return Err(TestCaseError::fail(format!("a look because of {other:?}"))),
                        };
                        prop_assert_eq!(cut, reason);
                    }
                }
            }
            prop_assert!(!(down && (open || wire.is_held())));
            prop_assert!(wire.next_deadline().is_none_or(|at| at <= now + BACKOFF_MAX));
        }
    }
}
