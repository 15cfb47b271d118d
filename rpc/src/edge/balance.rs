//! Which backend: the better of two drawn at random (P2C) by peak EWMA, and outliers left out. Sans-IO.
//!
//! Peak EWMA (from Finagle): the cost of a backend is its latency times the calls under way there. A latency above the mean
//! counts at once, one below it slowly, so that a backend that has become slow loses its calls in one round trip.

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};
use steer_health::detect::Seen;
use steer_health::detect::outlier::{Outliers, Verdict};
use steer_topology::OutlierRules;

/// After so long an old latency weighs 1/e.
const DECAY: Duration = Duration::from_secs(10);

/// What a failure counts as, so that quick errors draw no calls.
const PENALTY: Duration = Duration::from_secs(1);

/// Where fewer than half of the backends are left, all are used: the outliers may not be what is wrong.
const PANIC: usize = 2;

/// The backends of a pool.
#[derive(Debug)]
pub struct Balance {
    loads: Vec<Load>,
    outliers: Outliers,
}

#[derive(Debug, Clone, Copy)]
struct Load {
    /// Seconds.
    latency: f64,
    at: Instant,
    under_way: u32,
}

/// What a call tells of its backend.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reading {
    /// An answer began after this long.
    Answered(Duration),
    /// None came, and that is the backend's fault.
    Failed,
    /// None came, and that says nothing.
    Silent,
}

impl Balance {
    /// So many backends of which nothing is known.
    #[must_use]
    pub fn new(backends: usize, rules: OutlierRules, now: Instant) -> Self {
        let load = Load {
            latency: 0.0,
            at: now,
            under_way: 0,
        };
        Self {
            loads: vec![load; backends],
            outliers: Outliers::new(rules, backends, now),
        }
    }

    /// Draws one, not of those that were tried if there is another; counts the call as under way there.
    pub fn pick(&mut self, tried: &[usize], rng: &mut impl Rng, now: Instant) -> Option<usize> {
        self.sweep(now);
        let candidates = self.candidates(tried);
        let draw = |rng: &mut _| candidates.get(draw_below(candidates.len(), rng)?).copied();
        let first = draw(rng)?;
        let others: Vec<_> = candidates
            .iter()
            .copied()
            .filter(|other| *other != first)
            .collect();
        let second = draw_below(others.len(), rng).map_or(first, |at| others[at]);
        let best = if self.cost(second, now) < self.cost(first, now) {
            second
        } else {
            first
        };
        self.loads[best].under_way += 1;
        Some(best)
    }

    /// The end of a call, or the beginning of its answer.
    pub fn on_end(&mut self, backend: usize, reading: Reading, now: Instant) {
        let Some(load) = self.loads.get_mut(backend) else {
            return;
        };
        load.under_way = load.under_way.saturating_sub(1);
        match reading {
            Reading::Answered(took) => {
                load.observe(took, now);
                self.outliers.observe(backend, Seen::Success { took });
            }
            Reading::Failed => {
                load.observe(PENALTY, now);
                self.outliers.observe(backend, Seen::Failure);
            }
            Reading::Silent => {}
        }
    }

    fn sweep(&mut self, now: Instant) {
        if now < self.outliers.next_deadline() {
            return;
        }
        for verdict in self.outliers.on_deadline(now) {
            match verdict {
                Verdict::Eject { member, because } => {
                    metrics::counter!("steer_rpc_ejections_total").increment(1);
                    tracing::warn!(backend = member, because, "a backend is ejected");
                }
                Verdict::Return { member } => tracing::info!(backend = member, "a backend is back"),
            }
        }
    }

    fn candidates(&self, tried: &[usize]) -> Vec<usize> {
        let all = 0..self.loads.len();
        let sound: Vec<_> = all
            .clone()
            .filter(|one| !self.outliers.is_ejected(*one))
            .collect();
        let sound = if sound.len() * PANIC < self.loads.len() {
            all.collect()
        } else {
            sound
        };
        let new: Vec<_> = sound.iter().copied().filter(|one| !tried.contains(one)).collect();
        if new.is_empty() { sound } else { new }
    }

    fn cost(&self, backend: usize, now: Instant) -> f64 {
        let load = &self.loads[backend];
        // Who has not been heard of for long is tried again.
        let latency = load.latency * load.fade(now);
        (latency + f64::EPSILON) * f64::from(load.under_way + 1)
    }
}

fn draw_below(count: usize, rng: &mut impl Rng) -> Option<usize> {
    (count > 0).then(|| rng.random_range(0..count))
}

impl Load {
    fn fade(&self, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        (-age / DECAY.as_secs_f64()).exp()
    }

    fn observe(&mut self, took: Duration, now: Instant) {
        let took = took.as_secs_f64();
        let weight = self.fade(now);
        self.latency = if took > self.latency {
            took
        } else {
            self.latency * weight + took * (1.0 - weight)
        };
        self.at = now;
    }
}

#[cfg(test)]
mod tests;
