//! Which backend: the better of two drawn at random (P2C) by peak EWMA, and outliers left out. Sans-IO.
//!
//! Peak EWMA (from Finagle): the cost of a backend is its latency times the calls under way there. A latency above the mean
//! counts at once, one below it slowly, so that a backend that has become slow loses its calls in one round trip. A backend
//! that tells its load (ORCA) costs less by as much as it can do more than the others.
//!
//! In a pool of the fleet, who is not in service gets no call, and weights that differ are shares: then one is drawn by its weight
//! over its cost, as two draws would give the heavier one all there is.
//!
//! A backend that is back gets a part of its calls that rises evenly (slow start, after Envoy), as caches are cold and
//! connections not made.

mod eject;
mod load;
mod orca;

use std::time::{Duration, Instant};

use rand::{Rng, RngExt};
use steer_health::detect::Seen;
use steer_topology::OutlierRules;

use eject::{Change, Ejections};
use load::Load;

pub use orca::{InvalidLoad, LOAD_HEADER, parse_load};

/// What a failure counts as, so that quick errors draw no calls.
const PENALTY: Duration = Duration::from_secs(1);

/// How much more or less than the mean a backend can be told to do.
const WEIGHT_MAX: f64 = 10.0;

/// The rules of a pool.
#[derive(Debug, Clone, PartialEq)]
pub struct BalanceRules {
    /// Who is left out for being worse than the others.
    pub outliers: OutlierRules,
    /// Failures in a row that leave a backend out; 0: none do. Default 5.
    pub consecutive: u32,
    /// Where less than this per cent of the backends is left, all are used: the backends may not be what is wrong. 0: never.
    /// Default 50.
    pub panic: u8,
    /// How long a backend that is back gets less than its part. Default 10 s.
    pub slow_start: Duration,
}

impl BalanceRules {
    /// The defaults of the fields.
    pub const DEFAULT: Self = Self {
        outliers: OutlierRules::DEFAULT,
        consecutive: 5,
        panic: 50,
        slow_start: Duration::from_secs(10),
    };
}

impl Default for BalanceRules {
    fn default() -> Self {
        Self::DEFAULT
    }
}

impl From<OutlierRules> for BalanceRules {
    fn from(outliers: OutlierRules) -> Self {
        Self {
            outliers,
            ..Self::DEFAULT
        }
    }
}

/// The backends of a pool.
#[derive(Debug)]
pub struct Balance {
    rules: BalanceRules,
    loads: Vec<Load>,
    ejections: Ejections,
    /// By backend.
    standings: Vec<Standing>,
    /// Not all of those that are used have the same.
    has_weights: bool,
}

/// How a backend stands in the fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Whether it may have calls. Where no backend may, all have.
    pub is_used: bool,
    /// Its share, beside those of the others.
    pub weight: u32,
}

impl Standing {
    /// As one that nobody says anything of.
    pub const EVEN: Self = Self {
        is_used: true,
        weight: 1,
    };
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
    pub fn new(backends: usize, rules: impl Into<BalanceRules>, now: Instant) -> Self {
        let rules = rules.into();
        let ejections = Ejections::new(rules.outliers.clone(), rules.consecutive, backends, now);
        Self {
            rules,
            loads: vec![Load::new(now); backends],
            ejections,
            standings: vec![Standing::EVEN; backends],
            has_weights: false,
        }
    }

    /// How the backends stand from now on, in their order; says whether that is another thing than before. Who comes into use
    /// beside others gets its calls slowly.
    pub fn stand(&mut self, standings: &[Standing], now: Instant) -> bool {
        let before = std::mem::take(&mut self.standings);
        let mut standings = standings.to_vec();
        standings.resize(self.loads.len(), Standing::EVEN);
        if standings.iter().all(|standing| !standing.is_used) {
            for standing in &mut standings {
                standing.is_used = true;
            }
        }
        let mut weights = standings.iter().filter(|one| one.is_used).map(|one| one.weight);
        let first = weights.next();
        self.has_weights = weights.any(|weight| Some(weight) != first);
        self.standings = standings;
        let comes = |backend: &usize| self.standings[*backend].is_used && !before[*backend].is_used;
        let coming: Vec<usize> = (0..before.len()).filter(comes).collect();
        for backend in coming {
            self.on_return(backend, now);
        }
        before != self.standings
    }

    /// Draws one, not of those that were tried if there is another; counts the call as under way there.
    pub fn pick(&mut self, tried: &[usize], rng: &mut impl Rng, now: Instant) -> Option<usize> {
        for change in self.ejections.on_time(now) {
            self.on_change(&change, now);
        }
        let candidates = self.candidates(tried);
        if self.has_weights {
            let picked = self.draw_by_weight(&candidates, rng, now)?;
            self.loads[picked].under_way += 1;
            return Some(picked);
        }
        let draw = |rng: &mut _| candidates.get(draw_below(candidates.len(), rng)?).copied();
        let first = draw(rng)?;
        let others: Vec<_> = candidates
            .iter()
            .copied()
            .filter(|other| *other != first)
            .collect();
        let second = draw_below(others.len(), rng).map_or(first, |at| others[at]);
        let mean = self.mean_weight(now);
        let (best, other) = if self.cost(second, mean, now) < self.cost(first, mean, now) {
            (second, first)
        } else {
            (first, second)
        };
        let (share, of_other) = (self.share(best, now), self.share(other, now));
        let picked = if share < of_other && rng.random::<f64>() >= share / of_other {
            other
        } else {
            best
        };
        self.loads[picked].under_way += 1;
        Some(picked)
    }

    /// The end of a call, or the beginning of its answer.
    pub fn on_end(&mut self, backend: usize, reading: Reading, now: Instant) {
        let Some(load) = self.loads.get_mut(backend) else {
            return;
        };
        load.under_way = load.under_way.saturating_sub(1);
        let seen = match reading {
            Reading::Answered(took) => {
                load.observe(took, now);
                Seen::Success { took }
            }
            Reading::Failed => {
                load.observe(PENALTY, now);
                Seen::Failure
            }
            Reading::Silent => return,
        };
        if let Some(change) = self.ejections.observe(backend, seen, now) {
            self.on_change(&change, now);
        }
    }

    /// A backend tells what it can do, in calls per second: see [`parse_load`].
    pub fn on_report(&mut self, backend: usize, capacity: f64, now: Instant) {
        if let Some(load) = self.loads.get_mut(backend) {
            load.weight.on_report(capacity, now);
        }
    }

    /// A backend begins, or begins again: its calls rise slowly.
    pub fn on_return(&mut self, backend: usize, now: Instant) {
        let others = self.candidates(&[backend]);
        let expected = others.iter().map(|other| self.loads[*other].expected(now));
        let expected = expected.sum::<f64>() / others.len().max(1) as f64;
        if let Some(load) = self.loads.get_mut(backend) {
            load.come(expected, now);
        }
    }

    fn on_change(&mut self, change: &Change, now: Instant) {
        match change {
            Change::Ejected {
                backend,
                cause,
                because,
            } => {
                metrics::counter!("steer_rpc_ejections_total", "cause" => cause.name()).increment(1);
                tracing::warn!(backend, because, "a backend is ejected");
            }
            Change::Back { backend } => {
                self.on_return(*backend, now);
                tracing::info!(backend, "a backend is back");
            }
        }
    }

    fn candidates(&self, tried: &[usize]) -> Vec<usize> {
        let used = (0..self.loads.len()).filter(|one| self.standings[*one].is_used);
        let sound: Vec<_> = used
            .clone()
            .filter(|one| !self.ejections.is_ejected(*one))
            .collect();
        let is_panic = sound.len() * 100 < used.clone().count() * usize::from(self.rules.panic);
        let sound = if is_panic || sound.is_empty() {
            used.collect()
        } else {
            sound
        };
        let new: Vec<_> = sound.iter().copied().filter(|one| !tried.contains(one)).collect();
        if new.is_empty() { sound } else { new }
    }

    /// One, as often as its weight over its cost is of all of them.
    fn draw_by_weight(&self, candidates: &[usize], rng: &mut impl Rng, now: Instant) -> Option<usize> {
        let mean = self.mean_weight(now);
        let pull = |backend: usize| {
            let weight = f64::from(self.standings[backend].weight);
            weight * self.share(backend, now) / self.cost(backend, mean, now)
        };
        let all: f64 = candidates.iter().map(|one| pull(*one)).sum();
        let mut left = rng.random::<f64>() * all;
        let drawn = candidates.iter().find(|one| {
            left -= pull(**one);
            left < 0.0
        });
        // All of weight 0, or what rounding left over.
        drawn.or(candidates.last()).copied()
    }

    fn share(&self, backend: usize, now: Instant) -> f64 {
        self.loads[backend].share(self.rules.slow_start, now)
    }

    fn mean_weight(&self, now: Instant) -> Option<f64> {
        let weights = self.loads.iter().filter_map(|load| load.weight.get(now));
        let (count, sum) = weights.fold((0_u32, 0.0), |(count, sum), one| (count + 1, sum + one));
        (count > 1).then(|| sum / f64::from(count))
    }

    fn cost(&self, backend: usize, mean: Option<f64>, now: Instant) -> f64 {
        let load = &self.loads[backend];
        // Who tells nothing is taken for an average one.
        let weight = match (load.weight.get(now), mean) {
            (Some(own), Some(mean)) => (own / mean).clamp(1.0 / WEIGHT_MAX, WEIGHT_MAX),
            (None, _) | (_, None) => 1.0,
        };
        (load.expected(now) + f64::EPSILON) * f64::from(load.under_way + 1) / weight
    }
}

fn draw_below(count: usize, rng: &mut impl Rng) -> Option<usize> {
    (count > 0).then(|| rng.random_range(0..count))
}

#[cfg(test)]
mod tests;
