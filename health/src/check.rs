//! One check of one endpoint: when to probe. What the outcomes add up to is the [detectors'](crate::detect) word.
//!
//! One probe at a time. A probe that is still out when its next slot comes is waited for, and the next one starts as
//! it ends: so `timeout` may be longer than `interval`. After a failure that has not decided anything the next probe
//! comes after `fast_interval`, between the slots, which stay where they are. What a tripwire asks for
//! ([`Check::recheck`]) starts at once, and decides alone when it finds nobody there.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use crate::detect::{Detectors, Seen};
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
    /// The same after a failure that has not decided anything. Not less than `interval`: there is no such probe.
    pub fast_interval: Duration,
    /// Within this a probe has its outcome. Longer than `interval`: the next probe waits for it.
    pub timeout: Duration,
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
    detectors: Detectors,
    slot: Instant,
    /// When to probe between the slots.
    again: Option<Instant>,
    /// When the last probe was sent.
    sent: Instant,
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

/// Shorter intervals are stretched to this, so that no setting makes the loop spin.
pub const INTERVAL_MIN: Duration = Duration::from_millis(1);

impl Check {
    /// A check whose first probe is due at `first`. The verdict of its detectors is what was known before.
    #[must_use]
    pub fn new(rules: Rules, detectors: Detectors, first: Instant) -> Self {
        let interval = rules.interval.max(INTERVAL_MIN);
        Self {
            rules: Rules { interval, ..rules },
            detectors,
            slot: first,
            again: None,
            sent: first,
            last: Attempt(0),
            awaited: None,
            deciding: None,
            outputs: VecDeque::new(),
        }
    }

    /// When to call [`Check::on_deadline`] next. Every other call may bring it forward.
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        let silence = self.next_silence();
        silence.into_iter().fold(self.next_probe(), Instant::min)
    }

    /// The part of [`Check::next_deadline`] at which a probe is due.
    #[must_use]
    pub fn next_probe(&self) -> Instant {
        self.again.into_iter().fold(self.slot, Instant::min)
    }

    /// The part of [`Check::next_deadline`] at which a silence is too long.
    #[must_use]
    pub fn next_silence(&self) -> Option<Instant> {
        self.detectors.next_deadline()
    }

    /// The time between two probes where they come closest.
    #[must_use]
    pub fn shortest_period(&self) -> Duration {
        self.rules.interval.min(self.rules.fast_interval)
    }

    /// The verdict as it stands.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        self.detectors.verdict()
    }

    /// The time came: asks for the next probe, or notes that it is due once the one that is out has ended, or draws
    /// the conclusion from a silence. Does nothing before the deadline.
    pub fn on_deadline(&mut self, now: Instant) {
        self.on_silence(now);
        if now >= self.slot {
            self.on_slot(now);
        } else if self.again.is_some_and(|again| now >= again) {
            self.again = None;
            if self.awaited.is_none() {
                self.probe(now);
            }
        }
    }

    fn on_silence(&mut self, now: Instant) {
        if self.detectors.next_deadline().is_some_and(|at| now >= at) && self.detectors.on_deadline(now) {
            let cause = self.detectors.because(now).unwrap_or_else(|| "silent".to_owned());
            self.outputs
                .push_back(Output::Changed(self.detectors.verdict(), cause));
        }
    }

    fn on_slot(&mut self, now: Instant) {
        let missed = self.advance_slot(now);
        match &mut self.awaited {
            Some(awaited) if now < awaited.lost_at => {
                awaited.overtaken = true;
                return;
            }
            // A caller who is a whole slot late may hold the answer without having looked: no evidence either way.
            Some(_) if missed == 0 => {
                let timeout = self.rules.timeout;
                self.apply(&Outcome::Failure(Failure::NoAnswer(timeout)), timeout, now);
            }
            Some(_) | None => {}
        }
        if missed > 0 {
            self.outputs.push_back(Output::Missed(missed));
        }
        self.probe(now);
    }

    /// An outcome came, after `took`. Dropped, with `false`, unless it belongs to the probe that is awaited.
    pub fn on_outcome(&mut self, attempt: Attempt, outcome: &Outcome, took: Duration, now: Instant) -> bool {
        let Some(awaited) = self.awaited.take_if(|_| attempt == self.last) else {
            return false;
        };
        self.apply(outcome, took, now);
        if awaited.overtaken {
            self.probe(now);
        } else if matches!(outcome, Outcome::Failure(_)) && self.verdict() != Verdict::Down {
            self.look_again_soon(now);
        }
        true
    }

    /// Gives up the probe between the slots: whoever has too much to do must not ask for more of it.
    pub fn no_hurry(&mut self) {
        self.again = None;
    }

    /// Somebody else looked and tells what was seen: a report, not an answer to a probe of ours.
    pub fn on_report(&mut self, outcome: &Outcome, now: Instant) {
        self.apply(outcome, Duration::ZERO, now);
    }

    /// Unless the next slot is about to come anyway.
    fn look_again_soon(&mut self, now: Instant) {
        let fast = self.rules.fast_interval;
        let again = (self.sent + fast).max(now);
        self.again = (again + fast / 2 <= self.slot).then_some(again);
    }

    /// A held connection was cut: probes at once instead of at the next slot, and takes that probe's word alone when
    /// it is refused or reset, or fails in any way after what leaves no doubt. A probe that is out began before the cut; its answer would be old. Does nothing while
    /// such a probe is out already, nor to an endpoint that is down.
    pub fn recheck(&mut self, cut: Cut, now: Instant) {
        if self.deciding.is_some() || self.verdict() == Verdict::Down {
            return;
        }
        self.deciding = Some(cut);
        self.probe(now);
    }

    /// Whether the outcome that is awaited decides alone when it is refused or reset.
    #[must_use]
    pub fn decides_alone(&self) -> bool {
        self.deciding.is_some()
    }

    /// What to do next, in order; `None` when there is nothing more.
    pub fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    fn probe(&mut self, now: Instant) {
        self.last = Attempt(self.last.0 + 1);
        (self.sent, self.again) = (now, None);
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

    fn apply(&mut self, outcome: &Outcome, took: Duration, now: Instant) {
        let (seen, mut cause) = match outcome {
            Outcome::Success(answer) => (Seen::Success { took }, answer.to_string()),
            Outcome::Failure(failure)
                if self
                    .deciding
                    .is_some_and(|cut| cut.is_plain() || failure.says_gone()) =>
            {
                (Seen::Gone, failure.to_string())
            }
            Outcome::Failure(failure) => (Seen::Failure, failure.to_string()),
            Outcome::Void(_) => return, // the next probe decides instead, if this one was to
        };
        if let Some(cut) = self.deciding.take() {
            cause = format!("{cause} ({cut})");
        }
        if !self.detectors.observe(seen, now) {
            return;
        }
        let verdict = self.verdict();
        if verdict == Verdict::Down
            && let Some(because) = self.detectors.because(now)
        {
            cause = format!("{cause} ({because})");
        }
        self.outputs.push_back(Output::Changed(verdict, cause));
    }
}

#[cfg(test)]
mod tests;
