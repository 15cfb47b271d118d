//! Counting: how many failures make down, how many successes make up, how many successes forget old failures.
//!
//! ```text
//!            Success                    Failure (the `fall`th)
//! Unknown ─────────────► Up ─────────────────────────────────► Down
//!    │                    ▲                                     ▲ │
//!    │                    └─────────────────────────────────────┼─┘ Success (the `rise`th in a row)
//!    └──────────────────────────────────────────────────────────┘ Failure (the `fall`th in a row)
//! ```
//!
//! With `forget` = 1 failures count only in a row. With more, a lone success between failures does not clear them: the
//! three thresholds of gdnsd (`down_thresh`, `up_thresh`, `ok_thresh`).

use std::time::Instant;

use super::{Detector, Seen};
use crate::snapshot::Verdict;

/// Rise and fall.
#[derive(Debug, Clone)]
pub struct Threshold {
    rules: Thresholds,
    state: State,
}

/// The three counts, each at least 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Thresholds {
    pub(crate) fall: u8,
    pub(crate) rise: u8,
    pub(crate) forget: u8,
}

/// The verdict, and the run of outcomes that speaks against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    Unknown { failures: u8 },
    Up { failures: u8, successes: u8 },
    Down { successes: u8 },
}

impl State {
    pub(super) const UP: Self = Self::Up {
        failures: 0,
        successes: 0,
    };
    pub(super) const DOWN: Self = Self::Down { successes: 0 };
}

/// What was seen, without its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Event {
    Success,
    Failure,
    Gone,
}

impl Threshold {
    /// Down after `fall` failures, up after `rise` successes; `forget` successes clear earlier failures. A threshold
    /// of 0 is one of 1.
    #[must_use]
    pub fn new(fall: u8, rise: u8, forget: u8, known: Verdict) -> Self {
        let state = match known {
            Verdict::Unknown => State::Unknown { failures: 0 },
            Verdict::Up => State::UP,
            Verdict::Down => State::DOWN,
        };
        let rules = Thresholds { fall, rise, forget };
        Self { rules, state }
    }
}

impl Detector for Threshold {
    fn observe(&mut self, seen: Seen, _now: Instant) {
        let event = match seen {
            Seen::Success { .. } => Event::Success,
            Seen::Failure => Event::Failure,
            Seen::Gone => Event::Gone,
        };
        self.state = self.state.after(event, self.rules);
    }

    fn opinion(&self, _now: Instant) -> Verdict {
        match self.state {
            State::Unknown { .. } => Verdict::Unknown,
            State::Up { .. } => Verdict::Up,
            State::Down { .. } => Verdict::Down,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn because(&self, _now: Instant) -> Option<String> {
        None
    }

    fn forget(&mut self) {
        self.state = State::Unknown { failures: 0 };
    }
}

impl State {
    /// The transition table.
    pub(super) fn after(self, event: Event, rules: Thresholds) -> Self {
        match (self, event) {
            (Self::Unknown { .. }, Event::Success) => Self::UP,
            (Self::Unknown { .. } | Self::Up { .. } | Self::Down { .. }, Event::Gone) => Self::DOWN,
            (Self::Unknown { failures } | Self::Up { failures, .. }, Event::Failure)
                if failures.saturating_add(1) >= rules.fall =>
            {
                Self::DOWN
            }
            (Self::Unknown { failures }, Event::Failure) => Self::Unknown {
                failures: failures + 1,
            },
            (Self::Up { failures, .. }, Event::Failure) => Self::Up {
                failures: failures + 1,
                successes: 0,
            },
            (Self::Up { successes, .. }, Event::Success) if successes.saturating_add(1) >= rules.forget => {
                Self::UP
            }
            (Self::Up { failures, successes }, Event::Success) => Self::Up {
                failures,
                successes: successes + 1,
            },
            (Self::Down { successes }, Event::Success) if successes.saturating_add(1) >= rules.rise => {
                Self::UP
            }
            (Self::Down { successes }, Event::Success) => Self::Down {
                successes: successes + 1,
            },
            (Self::Down { .. }, Event::Failure) => Self::DOWN,
        }
    }
}

#[cfg(test)]
mod tests;
