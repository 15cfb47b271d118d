//! Heartbeat traces by a seed, for tests and for `cargo xtask bench detect`: what detectors are compared on.

use std::time::{Duration, Instant};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

/// How heartbeats arrive. All are sent every 100 ms.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// 2 ms of jitter.
    Steady,
    /// The delay is exponential with a mean of 20 ms.
    Jittery,
    /// As steady, but one in 200 begins a burst in which 1 to 4 heartbeats in a row are lost.
    BurstyLoss,
    /// As steady, but one in 50 comes after 400 ms: a collector stops the process.
    Bimodal,
    /// The interval grows from 100 to 200 ms over the trace.
    SlowDrift,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Steady,
        Self::Jittery,
        Self::BurstyLoss,
        Self::Bimodal,
        Self::SlowDrift,
    ];

    /// Its name in tables.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Steady => "steady",
            Self::Jittery => "jittery",
            Self::BurstyLoss => "bursty loss",
            Self::Bimodal => "bimodal",
            Self::SlowDrift => "slow drift",
        }
    }
}

/// Between two heartbeats, as they are sent.
pub const INTERVAL: Duration = Duration::from_millis(100);

/// The arrivals of `count` heartbeats after `start`, in order.
#[must_use]
pub fn arrivals(kind: Kind, seed: u64, count: usize, start: Instant) -> Vec<Instant> {
    let mut random = StdRng::seed_from_u64(seed);
    let mut at = 0.0;
    let mut lost = 0;
    let mut arrivals = Vec::with_capacity(count);
    for number in 0..count {
        let jitter = 2.0 * normal(&mut random);
        let (interval, delay) = match kind {
            Kind::Steady | Kind::BurstyLoss => (100.0, jitter),
            Kind::Jittery => (100.0, -20.0 * uniform(&mut random).ln()),
            Kind::Bimodal if random.random_range(0..50) == 0 => (400.0, jitter), // the process stands still
            Kind::Bimodal => (100.0, jitter),
            Kind::SlowDrift => (100.0 + 100.0 * number as f64 / count as f64, jitter),
        };
        at += interval;
        if kind == Kind::BurstyLoss && lost == 0 && random.random_range(0..200) == 0 {
            lost = random.random_range(1..=4);
        }
        if lost > 0 {
            lost -= 1;
            continue;
        }
        arrivals.push(start + Duration::from_secs_f64((at + delay).max(0.0) / 1000.0));
    }
    arrivals.sort_unstable(); // a datagram may overtake another one
    arrivals
}

/// Above 0 and at most 1.
fn uniform(random: &mut StdRng) -> f64 {
    1.0 - random.random_range(0.0..1.0)
}

/// Box and Muller.
fn normal(random: &mut StdRng) -> f64 {
    let (radius, angle) = (uniform(random), uniform(random));
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}
