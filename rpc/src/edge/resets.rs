//! Clients that open calls only to reset them (CVE-2023-44487, "rapid reset"). Sans-IO.
//!
//! h2 bounds the streams that are reset before they are taken; these are taken at once here, and each costs a backend an
//! attempt. So resets of young calls are counted against calls in general, as in Envoy's
//! `premature_reset_total_stream_count`.

use std::time::Duration;

/// A call that a client gave up earlier than this was hardly meant.
const YOUNG: Duration = Duration::from_secs(1);

/// The calls of one connection.
#[derive(Debug)]
pub(super) struct Resets {
    max: u32,
    calls: u32,
    young: u32,
}

impl Resets {
    /// Looks at a connection from `max` calls on.
    pub(super) const fn new(max: u32) -> Self {
        Self {
            max,
            calls: 0,
            young: 0,
        }
    }

    /// A call is over; whether the connection is to be closed, because more than half of its calls were reset young.
    pub(super) fn on_end(&mut self, lived: Duration, is_reset: bool) -> bool {
        self.calls += 1;
        self.young += u32::from(is_reset && lived < YOUNG);
        if self.calls < self.max {
            return false;
        }
        let is_flood = self.young > self.calls / 2;
        // What is long ago counts half.
        (self.calls, self.young) = (self.calls / 2, self.young / 2);
        is_flood
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Duration = Duration::ZERO;

    #[test]
    fn a_connection_is_closed_when_most_of_its_calls_were_reset_at_once() {
        let mut resets = Resets::new(100);
        let closed: Vec<_> = (0..100).map(|_| resets.on_end(NOW, true)).collect();
        assert_eq!(closed.iter().position(|closed| *closed), Some(99));
    }

    #[test]
    fn who_cancels_now_and_then_or_late_is_left_alone() {
        let mut resets = Resets::new(100);
        for number in 0..10_000 {
            assert!(!resets.on_end(NOW, number % 3 == 0));
        }
        let mut resets = Resets::new(100);
        for _ in 0..10_000 {
            assert!(
                !resets.on_end(YOUNG, true),
                "a hedge that lost, or a user who left"
            );
        }
    }

    #[test]
    fn a_long_good_past_does_not_excuse_a_flood() {
        let mut resets = Resets::new(100);
        for _ in 0..10_000 {
            resets.on_end(NOW, false);
        }
        assert!((0..300).any(|_| resets.on_end(NOW, true)));
    }
}
