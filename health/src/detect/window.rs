//! Shares: how many of the last outcomes failed, and how slow the others were.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use steer_topology::WindowRules;

use super::{Detector, Seen};
use crate::outcome::spoken;
use crate::snapshot::Verdict;

/// Success ratio and latency quantile over the last outcomes.
///
/// Down as soon as the window holds more failures (or more slow answers) than a full one may: nobody has to wait until
/// it is full. Up again when a full window has no more of them than `recover` allows.
#[derive(Debug, Clone)]
pub struct Window {
    rules: WindowRules,
    /// Oldest first; `None` is a failure.
    last: VecDeque<Option<Duration>>,
    failures: usize,
    slow: usize,
    verdict: Verdict,
}

impl Window {
    /// An empty window.
    #[must_use]
    pub fn new(rules: WindowRules) -> Self {
        Self {
            last: VecDeque::with_capacity(usize::from(rules.size)),
            failures: 0,
            slow: 0,
            verdict: Verdict::Unknown,
            rules,
        }
    }

    fn push(&mut self, outcome: Option<Duration>) {
        if self.last.len() >= self.size()
            && let Some(oldest) = self.last.pop_front()
        {
            let (failed, slow) = self.weigh(oldest);
            self.failures -= usize::from(failed);
            self.slow -= usize::from(slow);
        }
        let (failed, slow) = self.weigh(outcome);
        self.failures += usize::from(failed);
        self.slow += usize::from(slow);
        self.last.push_back(outcome);
    }

    /// Whether it failed, and whether it was slow. What failed was slow too: it had no answer by then.
    fn weigh(&self, outcome: Option<Duration>) -> (bool, bool) {
        let limit = self.rules.latency.map(|latency| latency.max);
        match (outcome, limit) {
            (None, limit) => (true, limit.is_some()),
            (Some(took), Some(limit)) => (false, took > limit),
            (Some(_), None) => (false, false),
        }
    }

    fn size(&self) -> usize {
        usize::from(self.rules.size.max(1))
    }

    /// How many of a full window are `percent`.
    fn share(&self, percent: u8) -> usize {
        self.size() * usize::from(percent.min(100)) / 100
    }

    fn fails_too_often(&self) -> bool {
        self.failures > self.size() - self.least(self.rules.min_success)
    }

    /// The least number of a full window that is at least `percent`.
    fn least(&self, percent: u8) -> usize {
        (self.size() * usize::from(percent.min(100))).div_ceil(100)
    }

    fn is_too_slow(&self) -> bool {
        let quantile = self.rules.latency.map(|latency| latency.quantile);
        quantile.is_some_and(|quantile| self.slow > self.share(100 - quantile.min(100)))
    }

    fn decide(&mut self) {
        let bad = self.fails_too_often() || self.is_too_slow();
        let full = self.last.len() >= self.size();
        self.verdict = match self.verdict {
            Verdict::Unknown | Verdict::Up if bad => Verdict::Down,
            Verdict::Unknown if full => Verdict::Up,
            Verdict::Unknown => Verdict::Unknown,
            Verdict::Up => Verdict::Up,
            Verdict::Down
                if full && !bad && self.failures <= self.size() - self.least(self.rules.recover) =>
            {
                Verdict::Up
            }
            Verdict::Down => Verdict::Down,
        };
    }

    /// The latency that `quantile` per cent of the answers stay within.
    fn quantile(&self, quantile: u8) -> Option<Duration> {
        let mut took: Vec<_> = self.last.iter().flatten().collect();
        took.sort_unstable();
        let place = (took.len() * usize::from(quantile)).div_ceil(100);
        took.get(place.saturating_sub(1)).copied().copied()
    }
}

impl Detector for Window {
    fn observe(&mut self, seen: Seen, _now: Instant) {
        match seen {
            Seen::Success { took } => self.push(Some(took)),
            Seen::Failure | Seen::Gone => self.push(None),
        }
        self.decide();
    }

    fn opinion(&self, _now: Instant) -> Verdict {
        self.verdict
    }

    fn next_deadline(&self) -> Option<Instant> {
        None
    }

    fn because(&self, _now: Instant) -> Option<String> {
        if self.verdict != Verdict::Down {
            return None;
        }
        let of = self.last.len();
        if let (false, Some(latency)) = (self.fails_too_often(), self.rules.latency)
            && let Some(took) = self.quantile(latency.quantile)
            && self.is_too_slow()
        {
            return Some(format!(
                "{} % of the last {of} within {}, want {}",
                latency.quantile,
                spoken(took),
                spoken(latency.max)
            ));
        }
        Some(format!("{} of the last {of} failed", self.failures))
    }

    fn forget(&mut self) {
        self.last.clear();
        (self.failures, self.slow, self.verdict) = (0, 0, Verdict::Unknown);
    }
}

#[cfg(test)]
mod tests;
