//! Whether the checks still run: who obeys a snapshot can tell when nobody looks any more.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// When whoever runs the checks means to look again. One writes, few read.
#[derive(Debug, Default)]
pub struct Pulse(Mutex<Option<Instant>>);

impl Pulse {
    /// The next look is due then; `None`: none is.
    pub(crate) fn promise(&self, next: Option<Instant>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = next;
    }

    /// Whether the look that was promised is late by more than `grace`.
    #[must_use]
    pub fn is_late(&self, now: Instant, grace: Duration) -> bool {
        let due = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        due.is_some_and(|due| now.saturating_duration_since(due) > grace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_promise_that_is_not_kept_in_time_is_late() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let grace = Duration::from_secs(3);
        let pulse = Pulse::default();
        assert!(!pulse.is_late(at(1_000), grace), "nothing was promised");
        pulse.promise(Some(at(60)));
        assert!(!pulse.is_late(at(63), grace));
        assert!(pulse.is_late(at(64), grace));
        pulse.promise(Some(at(65)));
        assert!(!pulse.is_late(at(64), grace));
        pulse.promise(None);
        assert!(!pulse.is_late(at(1_000), grace));
    }
}
