//! One check of one endpoint: when to probe, and what the outcomes add up to.
//!
//! ```text
//!            Success                    Failure (fall in a row)
//! Unknown ─────────────► Up ─────────────────────────────────► Down
//!    │                    ▲                                     ▲ │
//!    │                    └─────────────────────────────────────┼─┘ Success (rise in a row)
//!    └──────────────────────────────────────────────────────────┘ Failure (fall in a row)
//! ```
//!
//! One probe at a time. A probe that is still out when its next slot comes is waited for, and the next one starts as
//! it ends: so `timeout` may be longer than `interval`. What a tripwire asks for ([`Check::recheck`]) starts at once,
//! and decides alone when it finds nobody there.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::outcome::{Failure, Outcome};
use crate::snapshot::{Cause, Verdict};
use crate::tripwire::Cut;

/// The number of a probe of one endpoint, from 1. An answer that carries an older number is late and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Attempt(pub u64);

/// The knobs of a check, as the machine needs them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// Time between the starts of two probes.
    pub interval: Duration,
    /// Within this a probe has its outcome. Longer than `interval`: the next probe waits for it.
    pub timeout: Duration,
    /// Failures in a row until down, at least 1.
    pub fall: u8,
    /// Successes in a row until a down endpoint is up, at least 1.
    pub rise: u8,
}

/// What the driver is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Output {
    /// Send a probe now and hand its outcome to [`Check::on_outcome`] within `timeout`.
    Probe {
        /// Give it back with the outcome.
        attempt: Attempt,
        /// Longest time to wait.
        timeout: Duration,
    },
    /// The verdict changed.
    Changed(Verdict, Cause),
    /// The caller came so late that this many slots went by without a probe.
    Missed(u64),
}

/// One check of one endpoint: no socket, no task, no clock.
///
/// Slots lie exactly `interval` apart from the first one on, however late the caller is: no drift, and a spread
/// that was right at the start stays right.
#[derive(Debug)]
pub struct Check {
    rules: Rules,
    state: State,
    slot: Instant,
    last: Attempt,
    /// Whether the outcome of `last` is still awaited.
    awaited: Option<Awaited>,
    /// Why the next outcome decides alone, if it does.
    deciding: Option<Cut>,
    outputs: VecDeque<Output>,
}

/// A probe that is out.
#[derive(Debug, Clone, Copy)]
struct Awaited {
    /// A caller who kept to the time-out has told the outcome a whole slot before this.
    lost_at: Instant,
    /// The slot of the next probe has come: it starts when this one ends.
    overtaken: bool,
}

/// The verdict, and the run of outcomes that speaks against it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Unknown { failures: u8 },
    Up { failures: u8 },
    Down { successes: u8 },
}

/// What an outcome means to the verdict. A void outcome means nothing and is no event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Event {
    Success,
    Failure,
    /// A deciding probe found nobody there.
    Gone,
}

/// Shorter intervals are stretched to this, so that no setting makes the loop spin.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);

impl Check {
    /// A check whose first probe is due at `first`. `verdict` is what was known before, `Unknown` at start-up.
    #[must_use]
    pub fn new(rules: Rules, first: Instant, verdict: Verdict) -> Self {
        let interval = rules.interval.max(INTERVAL_MIN);
        let state = match verdict {
            Verdict::Unknown => State::Unknown { failures: 0 },
            Verdict::Up => State::Up { failures: 0 },
            Verdict::Down => State::Down { successes: 0 },
        };
        Self {
            rules: Rules { interval, ..rules },
            state,
            slot: first,
            last: Attempt(0),
            awaited: None,
            deciding: None,
            outputs: VecDeque::new(),
        }
    }

    /// When to call [`Check::on_deadline`] next.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        self.slot
    }

    /// The verdict as it stands.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.state.verdict()
    }

    /// The time came: asks for the next probe, or notes that it is due once the one that is out has ended. Does
    /// nothing before the deadline.
    pub fn on_deadline(&mut self, now: Instant) {
        if now < self.slot {
            return;
        }
        let missed = self.advance_slot(now);
        match &mut self.awaited {
            Some(awaited) if now < awaited.lost_at => {
                awaited.overtaken = true;
                return;
            }
            // A caller who is a whole slot late may hold the answer without having looked: no evidence either way.
            Some(_) if missed == 0 => self.apply(&Outcome::Failure(Failure::NoAnswer(self.rules.timeout))),
            Some(_) | None => {}
        }
        if missed > 0 {
            self.outputs.push_back(Output::Missed(missed));
        }
        self.probe(now);
    }

    /// An outcome came. Dropped, with `false`, unless it belongs to the probe that is awaited.
    pub fn on_outcome(&mut self, attempt: Attempt, outcome: &Outcome, now: Instant) -> bool {
        let Some(awaited) = self.awaited.take_if(|_| attempt == self.last) else {
            return false;
        };
        self.apply(outcome);
        if awaited.overtaken {
            self.probe(now);
        }
        true
    }

    /// A held connection was cut: probes at once instead of at the next slot, and takes that probe's word alone when
    /// it is refused or reset. A probe that is out began before the cut; its answer would be old. Does nothing while
    /// such a probe is out already, nor to an endpoint that is down.
    pub fn recheck(&mut self, cut: Cut, now: Instant) {
        if self.deciding.is_some() || self.verdict() == Verdict::Down {
            return;
        }
        self.deciding = Some(cut);
        self.probe(now);
    }

    /// What to do next, in order; `None` when there is nothing more.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn probe(&mut self, now: Instant) {
        self.last = Attempt(self.last.0 + 1);
        self.awaited = Some(Awaited {
            lost_at: now + self.rules.timeout + self.rules.interval,
            overtaken: false,
        });
        self.outputs.push_back(Output::Probe {
            attempt: self.last,
            timeout: self.rules.timeout,
        });
    }

    /// Moves the slot past `now` and returns how many slots were jumped over.
    fn advance_slot(&mut self, now: Instant) -> u64 {
        let late = now.duration_since(self.slot).as_nanos();
        let missed = late / self.rules.interval.as_nanos();
        let missed = u64::try_from(missed).unwrap_or(u64::MAX);
        let steps = u32::try_from(missed).unwrap_or(u32::MAX).saturating_add(1);
        let next = self.slot.checked_add(self.rules.interval.saturating_mul(steps));
        // After an absurd pause (2^32 slots) the grid begins anew.
        self.slot = next
            .filter(|next| *next > now)
            .unwrap_or(now + self.rules.interval);
        missed
    }

    fn apply(&mut self, outcome: &Outcome) {
        let (event, mut cause) = match outcome {
            Outcome::Success(answer) => (Event::Success, answer.to_string()),
            Outcome::Failure(failure) if self.deciding.is_some() && failure.says_gone() => {
                (Event::Gone, failure.to_string())
            }
            Outcome::Failure(failure) => (Event::Failure, failure.to_string()),
            Outcome::Void(_) => return, // the next probe decides instead, if this one was to
        };
        if let Some(cut) = self.deciding.take() {
            cause = format!("{cause} (held connection {cut})");
        }
        let before = self.state.verdict();
        self.state = self.state.after(event, &self.rules);
        let verdict = self.state.verdict();
        if verdict != before {
            self.outputs.push_back(Output::Changed(verdict, cause));
        }
    }
}

impl State {
    fn verdict(self) -> Verdict {
        match self {
            Self::Unknown { .. } => Verdict::Unknown,
            Self::Up { .. } => Verdict::Up,
            Self::Down { .. } => Verdict::Down,
        }
    }

    /// The transition table.
    fn after(self, event: Event, rules: &Rules) -> Self {
        match (self, event) {
            (Self::Unknown { .. }, Event::Success) => Self::Up { failures: 0 },
            (Self::Unknown { .. } | Self::Up { .. } | Self::Down { .. }, Event::Gone) => {
                Self::Down { successes: 0 }
            }
            (Self::Unknown { failures }, Event::Failure) if failures.saturating_add(1) >= rules.fall => {
                Self::Down { successes: 0 }
            }
            (Self::Unknown { failures }, Event::Failure) => Self::Unknown {
                failures: failures + 1,
            },
            (Self::Up { .. }, Event::Success) => Self::Up { failures: 0 },
            (Self::Up { failures }, Event::Failure) if failures.saturating_add(1) >= rules.fall => {
                Self::Down { successes: 0 }
            }
            (Self::Up { failures }, Event::Failure) => Self::Up {
                failures: failures + 1,
            },
            (Self::Down { successes }, Event::Success) if successes.saturating_add(1) >= rules.rise => {
                Self::Up { failures: 0 }
            }
            (Self::Down { successes }, Event::Success) => Self::Down {
                successes: successes + 1,
            },
            (Self::Down { .. }, Event::Failure) => Self::Down { successes: 0 },
        }
    }
}

#[cfg(test)]
mod tests;
