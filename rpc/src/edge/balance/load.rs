//! What is known of one backend's load.

use std::time::{Duration, Instant};

use super::orca::Weight;

/// After so long an old latency weighs 1/e.
const DECAY: Duration = Duration::from_secs(10);

/// The least share of its calls that a backend gets as it begins (Envoy `min_weight_percent`).
const FIRST_SHARE: f64 = 0.1;

#[derive(Debug, Clone, Copy)]
pub(super) struct Load {
    /// Seconds.
    pub(super) latency: f64,
    at: Instant,
    pub(super) under_way: u32,
    /// Since when it is back, while that is not long.
    back: Option<Instant>,
    pub(super) weight: Weight,
}

impl Load {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            latency: 0.0,
            at: now,
            under_way: 0,
            back: None,
            weight: Weight::default(),
        }
    }

    pub(super) fn observe(&mut self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let weight = self.fade(now);
        self.latency = if took > self.latency {
            took
        } else {
            self.latency * weight + took * (1.0 - weight)
        };
        self.at = now;
    }

    fn fade(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        (-age / DECAY.as_secs_f64()).exp()
    }

    /// The latency that is expected: who has not been heard of for long is tried again.
    pub(super) fn expected(&self, now: Instant) -> f64 {
        self.latency * self.fade(now)
    }

    /// It begins, or begins again. What is expected of it is what the others do: it is neither blamed for what it was nor
    /// praised for what it has not done.
    pub(super) fn come(&mut self, expected: f64, now: Instant) {
        (self.latency, self.at, self.back) = (expected, now, Some(now));
    }

    /// Which part of its calls it gets, as it is back since not long: rising evenly over `slow_start`.
    pub(super) fn share(&self, slow_start: Duration, now: Instant) -> f64 {
        let Some(back) = self.back.filter(|_| !slow_start.is_zero()) else {
            return 1.0;
        };
        let age = now.saturating_duration_since(back);
        (age.as_secs_f64() / slow_start.as_secs_f64()).clamp(FIRST_SHARE, 1.0)
    }
}
