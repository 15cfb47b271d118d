//! How unusual the present silence is: the accrual detector of Hayashibara, Défago, Yared and Katayama, "The φ accrual
//! failure detector" (SRDS 2004), with two estimators of how heartbeats arrive.
//!
//! φ = -log10(P(a heartbeat comes later than it is by now)). With φ at 8, one in 10^8 heartbeats that are on their way
//! would be taken for lost, if they arrived as the estimator believes. [`Normal`] is the paper's: a normal distribution of
//! the last 1000 intervals. It is wrong where there are two kinds of intervals (a collector that stops the process now
//! and then): their spread is no width. [`Empirical`] keeps a histogram and so knows both kinds.
//!
//! The known weaknesses, and what is done:
//!
//! - Cold start: `Unknown`, never down, before [`COLD`] intervals are known.
//! - No variance: a width of at least a tenth of the mean (3 % of each interval in a histogram), and of 2 ms.
//! - Lost heartbeats: their gaps are intervals like others and are learned, so that a path that loses is trusted longer;
//!   `pause` is added on top for those who know of longer ones.
//! - Outages: an interval that ended a suspicion counts as one that just would not have raised it (twice that with
//!   [`Normal`], where the other intervals hold it down). One outage does not blunt the detector, while a stream that has
//!   become slower for good is learned step by step.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::time::{Duration, Instant};

use steer_topology::{PhiModel, PhiRules};

use super::{Detector, Seen};
use crate::outcome::spoken;
use crate::snapshot::Verdict;

/// Intervals that must be known before there is an opinion.
pub(super) const COLD: usize = 8;

/// No stream is trusted to be more regular than this.
pub(super) const WIDTH_MIN: Duration = Duration::from_millis(2);

/// A heartbeat stream under suspicion. A failure of a probe is no heartbeat, and nothing else.
#[derive(Debug)]
pub struct Phi {
    rules: PhiRules,
    estimator: Box<dyn Estimator>,
    last: Option<Instant>,
    /// How long the silence may last; `None` while too few intervals are known.
    patience: Option<Duration>,
}

/// What is known of the intervals between heartbeats.
trait Estimator: fmt::Debug + Send {
    fn learn(&mut self, interval: Duration);
    /// What an interval counts as at most, when the patience was so long.
    fn longest(&self, patience: Duration) -> Duration;
    fn known(&self) -> usize;
    /// log10 of the probability that an interval is longer.
    fn log_tail(&self, silence: Duration) -> f64;
    /// The silence at which φ reaches the threshold.
    fn patience(&mut self, threshold: f64) -> Duration;
    fn forget(&mut self);
}

impl Phi {
    /// A detector that has heard nothing yet.
    #[must_use]
    pub fn new(rules: PhiRules) -> Self {
        let samples = usize::from(rules.samples);
        let estimator: Box<dyn Estimator> = match rules.model {
            PhiModel::Normal => Box::new(Normal::new(samples)),
            PhiModel::Empirical => Box::new(Empirical::new(samples)),
        };
        Self {
            rules,
            estimator,
            last: None,
            patience: None,
        }
    }

    /// φ of the present silence; `None` while too few intervals are known.
    #[must_use]
    pub fn phi(&self, now: Instant) -> Option<f64> {
        let silence = now.saturating_duration_since(self.last?);
        let silence = silence.saturating_sub(self.rules.pause);
        self.patience
            .map(|_| (-self.estimator.log_tail(silence)).max(0.0))
    }

    fn heartbeat(&mut self, now: Instant) {
        if let Some(last) = self.last.replace(now) {
            let silence = now.saturating_duration_since(last);
            let longest = self
                .patience
                .map_or(Duration::MAX, |patience| self.estimator.longest(patience));
            self.estimator.learn(silence.min(longest));
        }
        if self.estimator.known() >= COLD {
            let patience = self.estimator.patience(f64::from(self.rules.threshold));
            self.patience = Some(patience.saturating_add(self.rules.pause));
        }
    }
}

impl Detector for Phi {
    fn observe(&mut self, seen: Seen, now: Instant) {
        match seen {
            Seen::Success { .. } => self.heartbeat(now),
            Seen::Failure | Seen::Gone => {}
        }
    }

    fn opinion(&self, now: Instant) -> Verdict {
        match self.next_deadline() {
            None => Verdict::Unknown,
            Some(at) if now >= at => Verdict::Down,
            Some(_) => Verdict::Up,
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        self.last?.checked_add(self.patience?)
    }

    fn because(&self, now: Instant) -> Option<String> {
        let silence = now.saturating_duration_since(self.last?);
        let phi = self.phi(now).filter(|_| self.opinion(now) == Verdict::Down)?;
        let silence = Duration::from_millis(u64::try_from(silence.as_millis()).unwrap_or(u64::MAX));
        Some(format!("silent for {}, phi {phi:.1}", spoken(silence)))
    }

    fn forget(&mut self) {
        self.estimator.forget();
        (self.last, self.patience) = (None, None);
    }
}

/// The last intervals in microseconds, oldest first.
#[derive(Debug)]
struct Recent {
    most: usize,
    micros: VecDeque<u32>,
}

impl Recent {
    fn new(most: usize) -> Self {
        Self {
            most: most.max(COLD),
            micros: VecDeque::new(),
        }
    }

    /// Takes one in, and gives back the one that makes room for it. An interval above an hour counts as one of an hour.
    fn push(&mut self, interval: Duration) -> (u32, Option<u32>) {
        const LONGEST: u32 = 3_600_000_000;
        let micros = u32::try_from(interval.as_micros())
            .unwrap_or(LONGEST)
            .min(LONGEST);
        let oldest = (self.micros.len() >= self.most)
            .then(|| self.micros.pop_front())
            .flatten();
        self.micros.push_back(micros);
        (micros, oldest)
    }
}

/// log10 of the upper tail of the standard normal distribution.
fn log_normal_tail(z: f64) -> f64 {
    (0.5 * libm::erfc(z / std::f64::consts::SQRT_2)).log10()
}

/// Where the upper tail of the standard normal distribution has come down to 10^-`phi`.
fn normal_quantile(phi: f64) -> f64 {
    bisect(0.0, 38.0, |z| -log_normal_tail(z) >= phi)
}

/// The least value for which `reached` holds, as near as a double needs it.
fn bisect(mut low: f64, mut high: f64, reached: impl Fn(f64) -> bool) -> f64 {
    for _ in 0..48 {
        let middle = f64::midpoint(low, high);
        if reached(middle) {
            high = middle;
        } else {
            low = middle;
        }
    }
    high
}

fn seconds(micros: u32) -> f64 {
    f64::from(micros) / 1e6
}

/// The paper's estimator: mean and deviation of the last intervals.
#[derive(Debug)]
pub struct Normal {
    recent: Recent,
    sum: u64,
    squares: u128,
    /// The quantile of the threshold, which does not change.
    quantile: Option<(f64, f64)>,
}

impl Normal {
    fn new(samples: usize) -> Self {
        Self {
            recent: Recent::new(samples),
            sum: 0,
            squares: 0,
            quantile: None,
        }
    }

    /// Mean and width in seconds. Sums of whole numbers do not drift.
    fn shape(&self) -> (f64, f64) {
        let count = self.recent.micros.len().max(1) as f64;
        let mean = self.sum as f64 / count;
        let variance = (self.squares as f64 / count - mean * mean).max(0.0);
        let width = variance
            .sqrt()
            .max(mean / 10.0)
            .max(WIDTH_MIN.as_secs_f64() * 1e6);
        (mean / 1e6, width / 1e6)
    }
}

impl Estimator for Normal {
    fn learn(&mut self, interval: Duration) {
        let (new, old) = self.recent.push(interval);
        self.sum += u64::from(new);
        self.squares += u128::from(new) * u128::from(new);
        if let Some(old) = old {
            self.sum -= u64::from(old);
            self.squares -= u128::from(old) * u128::from(old);
        }
    }

    fn longest(&self, patience: Duration) -> Duration {
        patience.saturating_mul(2)
    }

    fn known(&self) -> usize {
        self.recent.micros.len()
    }

    fn log_tail(&self, silence: Duration) -> f64 {
        let (mean, width) = self.shape();
        log_normal_tail((silence.as_secs_f64() - mean) / width)
    }

    fn patience(&mut self, threshold: f64) -> Duration {
        let z = match self.quantile {
            Some((of, z)) if of.total_cmp(&threshold).is_eq() => z,
            Some(_) | None => normal_quantile(threshold),
        };
        self.quantile = Some((threshold, z));
        let (mean, width) = self.shape();
        Duration::from_secs_f64(mean + z * width)
    }

    fn forget(&mut self) {
        *self = Self::new(self.recent.most);
    }
}

/// A histogram of the last intervals, each smeared by a narrow normal kernel: a density estimate that believes in no
/// shape. The kernel is as wide as the ordinary jitter (by the median of deviations, which pauses do not widen), and at
/// least 3 % of the interval itself.
#[derive(Debug)]
pub struct Empirical {
    recent: Recent,
    /// How many intervals by logarithmic bucket.
    buckets: BTreeMap<u16, u16>,
    /// The patience, for what threshold, and how many intervals ago it was worked out.
    fresh: Option<(f64, Duration, u16)>,
    /// As wide as the ordinary jitter, in seconds.
    jitter: f64,
}

/// Buckets are 2 % wide.
const STEP: f64 = 1.02;

/// So many intervals may pass before the patience is worked out again, unless one came of a new kind.
const STALE: u16 = 32;

impl Empirical {
    fn new(samples: usize) -> Self {
        Self {
            recent: Recent::new(samples),
            buckets: BTreeMap::new(),
            fresh: None,
            jitter: 0.0,
        }
    }

    fn bucket(micros: u32) -> u16 {
        // At most ln(3.6e9) / ln(1.02) = 1111.
        (f64::from(micros.max(1)).ln() / STEP.ln()).round() as u16
    }

    fn middle(bucket: u16) -> f64 {
        STEP.powi(i32::from(bucket)) / 1e6
    }

    fn width(&self, middle: f64) -> f64 {
        (middle * 0.03).max(self.jitter).max(WIDTH_MIN.as_secs_f64())
    }

    fn tail(&self, silence: f64) -> f64 {
        let count = self.recent.micros.len().max(1) as f64;
        let above = self.buckets.iter().map(|(bucket, count)| {
            let middle = Self::middle(*bucket);
            let z = (silence - middle) / self.width(middle);
            f64::from(*count) * 0.5 * libm::erfc(z / std::f64::consts::SQRT_2)
        });
        above.sum::<f64>() / count
    }

    /// 1.4826 times the median of the deviations from the median: the deviation of a normal distribution, whatever a
    /// minority of pauses does.
    fn jitter(&self) -> f64 {
        let median_of = |values: &mut Vec<u32>| {
            let middle = values.len() / 2;
            *values.select_nth_unstable(middle).1
        };
        let mut values: Vec<u32> = self.recent.micros.iter().copied().collect();
        if values.is_empty() {
            return 0.0;
        }
        let median = median_of(&mut values);
        for value in &mut values {
            *value = value.abs_diff(median);
        }
        1.4826 * seconds(median_of(&mut values))
    }
}

impl Estimator for Empirical {
    fn learn(&mut self, interval: Duration) {
        let (new, old) = self.recent.push(interval);
        let bucket = self.buckets.entry(Self::bucket(new)).or_default();
        let is_new = *bucket == 0;
        *bucket += 1;
        if let Some(old) = old.map(Self::bucket)
            && let Some(count) = self.buckets.get_mut(&old)
        {
            *count -= 1;
            if *count == 0 {
                self.buckets.remove(&old);
            }
        }
        self.fresh = self.fresh.take().filter(|(_, _, age)| *age < STALE && !is_new);
        if let Some((_, _, age)) = &mut self.fresh {
            *age += 1;
        }
    }

    fn longest(&self, patience: Duration) -> Duration {
        patience
    }

    fn known(&self) -> usize {
        self.recent.micros.len()
    }

    fn log_tail(&self, silence: Duration) -> f64 {
        self.tail(silence.as_secs_f64()).log10()
    }

    fn patience(&mut self, threshold: f64) -> Duration {
        if let Some((of, patience, _)) = self.fresh
            && of.total_cmp(&threshold).is_eq()
        {
            return patience;
        }
        self.jitter = self.jitter();
        let longest = self
            .buckets
            .last_key_value()
            .map_or(0.0, |(bucket, _)| Self::middle(*bucket));
        let farthest = longest + 38.0 * self.width(longest);
        let patience = bisect(0.0, farthest, |silence| -self.tail(silence).log10() >= threshold);
        let patience = Duration::from_secs_f64(patience);
        self.fresh = Some((threshold, patience, 0));
        patience
    }

    fn forget(&mut self) {
        *self = Self::new(self.recent.most);
    }
}

#[cfg(test)]
mod tests;
