//! The table, row by row.

use crate::announcer::table::Effect::{Announce, ArmLinger, ArmRetry, Bind, ClearTimer, Unbind, Withdraw};
use crate::announcer::table::State::{
    Announced, BindFailed, Binding, Bound, Lingering, UnbindFailed, Unbinding, Withdrawing, Withdrawn,
};
use crate::announcer::table::{Effect, State, Trigger, step};

type Row = (State, Trigger, State, &'static [Effect]);

/// Every row of a prefix with an address that changes something; no other does.
const ROWS: [Row; 25] = [
    (Withdrawn, Trigger::Want, Binding, &[Bind]),
    (Withdrawn, Trigger::Found, Bound, &[]),
    (Binding, Trigger::Bound, Bound, &[]),
    (Binding, Trigger::BindFailed, BindFailed, &[ArmRetry]),
    (BindFailed, Trigger::Unwant, Withdrawn, &[ClearTimer]),
    (BindFailed, Trigger::Due, Withdrawn, &[ClearTimer]),
    (Bound, Trigger::Want, Announced, &[Announce]),
    (Bound, Trigger::Unwant, Withdrawing, &[]),
    (Bound, Trigger::Gone, Withdrawn, &[]),
    (Announced, Trigger::Unwant, Withdrawing, &[Withdraw]),
    (Announced, Trigger::Gone, Withdrawn, &[Withdraw]),
    (Withdrawing, Trigger::Want, Announced, &[Announce]),
    (Withdrawing, Trigger::Sent, Lingering, &[ArmLinger]),
    (Withdrawing, Trigger::Gone, Withdrawn, &[]),
    (Lingering, Trigger::Want, Announced, &[ClearTimer, Announce]),
    (Lingering, Trigger::Due, Unbinding, &[ClearTimer, Unbind]),
    (Lingering, Trigger::Gone, Withdrawn, &[ClearTimer]),
    (Unbinding, Trigger::Unbound, Withdrawn, &[]),
    (Unbinding, Trigger::UnbindFailed, UnbindFailed, &[ArmRetry]),
    (UnbindFailed, Trigger::Want, Announced, &[ClearTimer, Announce]),
    (UnbindFailed, Trigger::Due, Unbinding, &[ClearTimer, Unbind]),
    (UnbindFailed, Trigger::Gone, Withdrawn, &[ClearTimer]),
    // Fillers that say aloud what stays on purpose.
    (Binding, Trigger::Unwant, Binding, &[]),
    (Unbinding, Trigger::Want, Unbinding, &[]),
    (BindFailed, Trigger::Want, BindFailed, &[]),
];

#[test]
fn every_row_is_as_written_and_no_other_changes_anything() {
    for state in State::ALL {
        for trigger in Trigger::ALL {
            let row = ROWS.iter().find(|row| (row.0, row.1) == (state, trigger));
            let (next, effects) = row.map_or((state, &[][..]), |row| (row.2, row.3));
            assert_eq!(
                step(state, trigger, true),
                (next, effects),
                "{state:?} {trigger:?}"
            );
        }
    }
}

#[test]
fn a_prefix_without_an_address_knows_two_states() {
    for state in [Withdrawn, Announced] {
        for trigger in Trigger::ALL {
            let want: (State, &[Effect]) = match (state, trigger) {
                (Withdrawn, Trigger::Want) => (Announced, &[Announce]),
                (Announced, Trigger::Unwant) => (Withdrawn, &[Withdraw]),
                (same, _) => (same, &[]),
            };
            assert_eq!(step(state, trigger, false), want, "{state:?} {trigger:?}");
        }
    }
}

#[test]
fn the_address_is_there_before_the_route_and_after_it() {
    for state in State::ALL {
        for trigger in Trigger::ALL {
            let (next, effects) = step(state, trigger, true);
            if effects.contains(&Announce) {
                assert!(state.is_bound(), "{state:?} {trigger:?}");
            }
            if effects.contains(&Unbind) {
                let after_the_withdrawal = matches!(state, Lingering | UnbindFailed);
                assert!(after_the_withdrawal, "{state:?} {trigger:?}");
            }
            assert_eq!(
                effects.contains(&Withdraw),
                state == Announced && next != Announced,
                "{state:?} {trigger:?}"
            );
        }
    }
}

#[test]
fn every_timer_that_runs_is_stopped_where_nothing_waits_for_it() {
    let waits = |state| matches!(state, BindFailed | Lingering | UnbindFailed);
    for state in State::ALL {
        for trigger in Trigger::ALL {
            let (next, effects) = step(state, trigger, true);
            let armed = effects.contains(&ArmLinger) || effects.contains(&ArmRetry);
            assert_eq!(armed, !waits(state) && waits(next), "{state:?} {trigger:?}");
            assert_eq!(
                effects.contains(&ClearTimer),
                waits(state) && !waits(next),
                "{state:?} {trigger:?}"
            );
        }
    }
}
