//! As of when a site stands by what its own checks say.
//!
//! A beat says that everything a site said before is still so. A process that stood still (stopped, swapped out, a virtual machine
//! being moved), or whose checks hang, knows nothing of the time since: its beats speak of the moment before, until its checks
//! have looked again. Otherwise it would vouch for what nobody has seen for minutes.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

/// Set by the checks in each of their turns, read whenever an own word is told. Cheap to copy.
#[derive(Debug, Clone, Default)]
pub(crate) struct Standing(Arc<Mutex<State>>);

#[derive(Debug, Default, Clone, Copy)]
struct State {
    /// Of then, not of now.
    as_of: Option<Instant>,
    /// The checks will have had a turn by then, unless something keeps them from it.
    good_until: Option<Instant>,
}

impl Standing {
    /// The checks had a turn: what they say is as of now, or as of an earlier time; the next turn comes before `good_until`,
    /// where one is due at all.
    pub(crate) fn renew(&self, as_of: Option<Instant>, good_until: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = State { as_of, good_until };
    }

    /// Of when the words of our checks are.
    pub(crate) fn as_of(&self, now: Instant) -> Instant {
        let State { as_of, good_until } = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        [as_of, good_until].into_iter().flatten().fold(now, Instant::min)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn checks_that_have_no_turn_any_more_stand_by_nothing_new() {
        let (standing, start) = (Standing::default(), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(standing.as_of(at(100)), at(100), "nothing is checked");
        standing.renew(None, Some(at(2)));
        assert_eq!(standing.as_of(at(1)), at(1));
        assert_eq!(standing.as_of(at(40)), at(2), "they hang");
        standing.renew(Some(at(2)), Some(at(42)));
        assert_eq!(
            standing.as_of(at(41)),
            at(2),
            "they are back, and have not looked again"
        );
        standing.renew(None, Some(at(44)));
        assert_eq!(standing.as_of(at(43)), at(43));
    }
}
