//! The transition table, row by row, and what must hold for every row.

use super::super::super::wire::{Diagnostic, State};
use super::super::{Effect, Trigger, step};

use Effect::{Blame, Keep};
use State::{AdminDown, Down, Init, Up};
use Trigger as T;

const FINE: Effect = Blame(Diagnostic::NONE);
const TOLD: Effect = Blame(Diagnostic::NEIGHBOR_SIGNALED);
const DEAF: Effect = Blame(Diagnostic::DETECTION_TIME_EXPIRED);
const WISH: Effect = Blame(Diagnostic::ADMINISTRATIVELY_DOWN);

/// Written from RFC 5880 §6.2, §6.8.4, §6.8.6 and §6.8.16; not from the code.
#[rustfmt::skip]
const ROWS: &[(State, Trigger, State, Effect)] = &[
    (AdminDown, T::HeardAdminDown, AdminDown, Keep),
    (AdminDown, T::HeardDown,      AdminDown, Keep),
    (AdminDown, T::HeardInit,      AdminDown, Keep),
    (AdminDown, T::HeardUp,        AdminDown, Keep),
    (AdminDown, T::Silence,        AdminDown, Keep),
    (AdminDown, T::Disable,        AdminDown, Keep),
    (AdminDown, T::Enable,         Down,      FINE),

    (Down, T::HeardAdminDown, Down,      Keep),
    (Down, T::HeardDown,      Init,      Keep),
    (Down, T::HeardInit,      Up,        FINE),
    (Down, T::HeardUp,        Down,      Keep),
    (Down, T::Silence,        Down,      Keep),
    (Down, T::Disable,        AdminDown, WISH),
    (Down, T::Enable,         Down,      Keep),

    (Init, T::HeardAdminDown, Down,      TOLD),
    (Init, T::HeardDown,      Init,      Keep),
    (Init, T::HeardInit,      Up,        FINE),
    (Init, T::HeardUp,        Up,        FINE),
    (Init, T::Silence,        Down,      DEAF),
    (Init, T::Disable,        AdminDown, WISH),
    (Init, T::Enable,         Init,      Keep),

    (Up, T::HeardAdminDown, Down,      TOLD),
    (Up, T::HeardDown,      Down,      TOLD),
    (Up, T::HeardInit,      Up,        Keep),
    (Up, T::HeardUp,        Up,        Keep),
    (Up, T::Silence,        Down,      DEAF),
    (Up, T::Disable,        AdminDown, WISH),
    (Up, T::Enable,         Up,        Keep),
];

#[test]
fn every_row_is_as_the_rfc_has_it() {
    assert_eq!(ROWS.len(), State::ALL.len() * Trigger::ALL.len());
    let mut rows = ROWS.iter();
    for state in State::ALL {
        for trigger in Trigger::ALL {
            let (from, on, to, effect) = *rows.next().unwrap();
            assert_eq!((from, on), (state, trigger), "the rows are in order");
            assert_eq!(step(state, trigger), (to, effect), "{state:?} x {trigger:?}");
        }
    }
}

#[test]
fn a_session_that_goes_down_says_why() {
    for (from, on, to, effect) in ROWS {
        if from != to && matches!(to, Down | AdminDown) && *from != AdminDown {
            assert!(
                matches!(effect, Blame(why) if *why != Diagnostic::NONE),
                "{from:?} x {on:?}"
            );
        }
    }
}

#[test]
fn only_a_packet_brings_a_session_up() {
    for (from, on, to, _) in ROWS {
        if *to == Up && from != to {
            assert!(matches!(on, T::HeardInit | T::HeardUp), "{from:?} x {on:?}");
        }
    }
}
