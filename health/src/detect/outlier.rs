//! Gray failure: an endpoint that answers its checks, but fails more often or answers slower than its pool.
//!
//! After gRPC proposal A50 (outlier detection), with two changes that checks ask for instead of calls:
//!
//! - Latency counts as well. Endpoints lie at different distances, so each is compared with its own past first, and then
//!   that ratio with the ratios of the others: a slower path of ours slows all, and ejects nobody.
//! - The limits hold for small pools: of one endpoint nobody is ejected, of two or three at most one, ever.
//!
//! Gap: A50 §"Success rate": the deviation needs `minimum_hosts` of 5; below that only `failure` (a fixed percentage)
//! and latency decide.

use std::time::{Duration, Instant};

use steer_topology::OutlierRules;

use super::Seen;
use crate::outcome::spoken;

/// The comparison of one pool. Sans-IO.
#[derive(Debug)]
pub struct Outliers {
    rules: OutlierRules,
    members: Vec<Member>,
    sweep: Instant,
}

#[derive(Debug, Default)]
struct Member {
    /// Of the interval that runs.
    successes: u32,
    failures: u32,
    took: Duration,
    /// What it usually takes, in seconds; the mean of means, slowly following. `None` before the first sweep.
    usual: Option<f64>,
    /// Since when it is ejected.
    ejected: Option<Instant>,
    /// How often in a row; each sweep without ejection takes one off (A50 "multiplier").
    multiplier: u32,
}

/// What a sweep came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Take it out; the text says why.
    Eject {
        /// Place in the pool.
        member: usize,
        /// "9 of 10 failed, the pool 0.4 %".
        because: String,
    },
    /// Its time is over.
    Return {
        /// Place in the pool.
        member: usize,
    },
}

/// From so many endpoints on the deviation of a pool says something (A50 `minimum_hosts`).
const DEVIATION_HOSTS: usize = 5;

/// How much of an interval's mean latency the usual one takes over.
const FOLLOW: f64 = 0.1;

/// Below this nobody is slow: the clock and the scheduler weigh as much.
const SLOW_MIN: f64 = 0.010;

impl Outliers {
    /// A pool of so many endpoints, none of them ejected.
    #[must_use]
    pub fn new(rules: OutlierRules, members: usize, now: Instant) -> Self {
        let mut all = Vec::new();
        all.resize_with(members, Member::default);
        Self {
            sweep: now + rules.interval,
            members: all,
            rules,
        }
    }

    /// An outcome of one member.
    pub fn observe(&mut self, member: usize, seen: Seen) {
        let Some(member) = self.members.get_mut(member) else {
            return;
        };
        match seen {
            Seen::Success { took } => {
                member.successes += 1;
                member.took += took;
            }
            Seen::Failure | Seen::Gone => member.failures += 1,
        }
    }

    /// When to call [`Outliers::on_deadline`].
    #[must_use]
    pub fn next_deadline(&self) -> Instant {
        self.sweep
    }

    /// Whether a member is ejected.
    #[must_use]
    pub fn is_ejected(&self, member: usize) -> bool {
        self.members
            .get(member)
            .is_some_and(|member| member.ejected.is_some())
    }

    /// The end of an interval.
    pub fn on_deadline(&mut self, now: Instant) -> Vec<Verdict> {
        if now < self.sweep {
            return Vec::new();
        }
        self.sweep = now + self.rules.interval;
        let mut verdicts = self.returning(now);
        let suspects = self.suspects();
        for member in &mut self.members {
            member.follow();
        }
        for (member, because) in suspects {
            if self.may_eject() && !self.is_ejected(member) {
                self.members[member].ejected = Some(now);
                self.members[member].multiplier += 1;
                verdicts.push(Verdict::Eject { member, because });
            }
        }
        for member in &mut self.members {
            if member.ejected.is_none() {
                member.multiplier = member.multiplier.saturating_sub(1);
            }
            (member.successes, member.failures, member.took) = (0, 0, Duration::ZERO);
        }
        verdicts
    }

    /// A50 "maximum ejection": at least one, and here never the last but one of two, nor the only one.
    fn may_eject(&self) -> bool {
        let all = self.members.len();
        let ejected = self
            .members
            .iter()
            .filter(|member| member.ejected.is_some())
            .count();
        let share = all * usize::from(self.rules.max_ejected) / 100;
        ejected < share.max(1).min(all.saturating_sub(1))
    }

    fn returning(&mut self, now: Instant) -> Vec<Verdict> {
        let mut returning = Vec::new();
        let (base, longest) = (self.rules.base_ejection, self.rules.max_ejection);
        for (number, member) in self.members.iter_mut().enumerate() {
            let time = base.saturating_mul(member.multiplier).min(longest.max(base));
            let over = |since: &mut Instant| now.saturating_duration_since(*since) >= time;
            if member.ejected.take_if(over).is_some() {
                returning.push(Verdict::Return { member: number });
            }
        }
        returning
    }

    /// The worst first.
    fn suspects(&self) -> Vec<(usize, String)> {
        let mut suspects: Vec<(f64, usize, String)> = Vec::new();
        let rates: Vec<Option<f64>> = self
            .members
            .iter()
            .map(|member| member.failure_rate(self.rules.samples))
            .collect();
        let slowness: Vec<Option<f64>> = self
            .members
            .iter()
            .map(|member| member.slowness(self.rules.samples))
            .collect();
        for number in 0..self.members.len() {
            let failing = self.fails_more(number, &rates);
            let slow = self.is_slower(number, &slowness);
            if let Some((weight, because)) = failing.or(slow) {
                suspects.push((weight, number, because));
            }
        }
        suspects.sort_by(|a, b| b.0.total_cmp(&a.0));
        suspects
            .into_iter()
            .map(|(_, number, because)| (number, because))
            .collect()
    }

    /// A50 "success rate" with enough members, and "failure percentage" with any number; the others must be better.
    fn fails_more(&self, number: usize, rates: &[Option<f64>]) -> Option<(f64, String)> {
        let rate = rates[number]?;
        let others = others(number, rates);
        let of_others = mean(&others)?;
        let by_percentage = rate * 100.0 >= f64::from(self.rules.failure) && of_others * 2.0 < rate;
        let by_deviation = others.len() + 1 >= DEVIATION_HOSTS && {
            let all: Vec<f64> = rates.iter().flatten().copied().collect();
            let mean = mean(&all)?;
            let variance = all.iter().map(|one| (one - mean) * (one - mean)).sum::<f64>() / all.len() as f64;
            // A deviation of next to nothing makes an outlier of one lost packet.
            rate > mean + f64::from(self.rules.stdev_factor) / 1000.0 * variance.sqrt() && rate >= 0.1
        };
        (by_percentage || by_deviation).then(|| {
            let (mine, theirs) = (rate * 100.0, of_others * 100.0);
            (
                rate + 1.0,
                format!("outlier: {mine:.0} % of its checks fail, {theirs:.0} % of its pool's"),
            )
        })
    }

    fn is_slower(&self, number: usize, slowness: &[Option<f64>]) -> Option<(f64, String)> {
        let slow = slowness[number]?;
        let of_others = median(others(number, slowness))?;
        let factor = f64::from(self.rules.slower);
        let usual = self.members[number].usual?;
        let now = slow * usual;
        (slow >= factor * of_others.max(1.0) && now >= SLOW_MIN).then(|| {
            let [now, usual] =
                [now, usual].map(|seconds| spoken(Duration::from_millis((seconds * 1000.0).round() as u64)));
            // Slowness weighs less than failure.
            (
                1.0 - 1.0 / slow,
                format!("outlier: takes {now} instead of {usual}, and its pool does not"),
            )
        })
    }
}

impl Member {
    fn failure_rate(&self, samples: u32) -> Option<f64> {
        let all = self.successes + self.failures;
        (all >= samples.max(1)).then(|| f64::from(self.failures) / f64::from(all))
    }

    fn mean_took(&self) -> Option<f64> {
        (self.successes > 0).then(|| self.took.as_secs_f64() / f64::from(self.successes))
    }

    /// How many times the usual latency.
    fn slowness(&self, samples: u32) -> Option<f64> {
        let enough = self.successes >= samples.max(1);
        let (took, usual) = (self.mean_took()?, self.usual?);
        (enough && usual > 0.0).then(|| took / usual)
    }

    /// The usual latency follows slowly, and not at all while the endpoint is suspected of being slow: what it is
    /// ejected for must not become usual.
    fn follow(&mut self) {
        let Some(took) = self.mean_took() else { return };
        self.usual = Some(match self.usual {
            None => took,
            Some(usual) => usual + FOLLOW * (took.min(2.0 * usual) - usual),
        });
    }
}

fn others(number: usize, values: &[Option<f64>]) -> Vec<f64> {
    let others = values.iter().enumerate().filter(|(other, _)| *other != number);
    others.filter_map(|(_, value)| *value).collect()
}

fn mean(values: &[f64]) -> Option<f64> {
    (!values.is_empty()).then(|| values.iter().sum::<f64>() / values.len() as f64)
}

fn median(mut values: Vec<f64>) -> Option<f64> {
    let middle = values.len() / 2;
    (!values.is_empty()).then(|| *values.select_nth_unstable_by(middle, f64::total_cmp).1)
}

#[cfg(test)]
mod tests;
