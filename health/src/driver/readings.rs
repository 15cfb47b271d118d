//! The numbers that endpoints tell of themselves (`load` of a pool): when to ask, and what they come to.
//!
//! A number is no verdict: where it cannot be read, the endpoint is as good as before, and what was told or written
//! counts again when the lease is over. No socket, no clock.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::RngExt;
use rand::rngs::StdRng;
use steer_topology::{CheckKind, EndpointId, Feeds, Fleet, LoadCheck, SiteId};

use crate::check::Attempt;
use crate::checks::Job;
use crate::load::Load;
use crate::outcome::{Answer, Outcome};
use crate::snapshot::Verdict;

/// Between two looks at what the numbers come to.
const EVALUATE: Duration = Duration::from_secs(1);

/// As for a site that is told of.
const PER_SECOND_MAX: f64 = 1e12;

/// As for a weight that is written.
const WEIGHT_MAX: f64 = 1e6;

/// A change by less than one part in so many waits for half of the lease.
const BAND: f64 = 20.0;

/// Every number of the fleet.
#[derive(Debug)]
pub(super) struct Readings {
    sources: Vec<Source>,
    by_endpoint: HashMap<EndpointId, usize>,
    queue: BinaryHeap<Reverse<(Instant, usize)>>,
    evaluate: Option<Instant>,
    told: HashMap<SiteId, (u64, Instant)>,
}

/// One endpoint and how it is asked.
#[derive(Debug)]
struct Source {
    endpoint: EndpointId,
    site: Option<SiteId>,
    /// The check, as the author of what it reads.
    author: String,
    interval: Duration,
    timeout: Duration,
    feeds: Feeds,
    scale: f64,
    lease: Duration,
    /// The last number, and when it came.
    last: Option<(f64, Instant)>,
    began: Instant,
    is_out: bool,
    /// Whether the last attempt failed.
    is_silent: bool,
    /// The weight that was told last; `None`: nothing yet.
    told: Option<Option<u32>>,
}

/// A number to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ask {
    pub(super) endpoint: EndpointId,
    pub(super) timeout: Duration,
}

impl Ask {
    /// No verdict waits for it.
    pub(super) fn job(self) -> Job {
        Job {
            endpoint: self.endpoint,
            attempt: Attempt(0),
            timeout: self.timeout,
            verdict: Verdict::Up,
            decides_alone: false,
        }
    }
}

/// What the numbers came to.
#[derive(Debug, Default, PartialEq)]
pub(super) struct News {
    pub(super) loads: Vec<(SiteId, Load)>,
    pub(super) weights: Vec<(EndpointId, Option<u32>)>,
}

impl Readings {
    /// The first round is spread over one interval.
    pub(super) fn of(fleet: &Fleet, random: &mut StdRng, now: Instant) -> Self {
        let source = |endpoint: EndpointId| {
            let at = fleet.endpoint(endpoint);
            let check = fleet.check(fleet.pool(at.pool).load?);
            let CheckKind::Load(LoadCheck {
                page: _,
                feeds,
                scale,
                lease,
            }) = &check.kind
            else {
                return None;
            };
            Some(Source {
                endpoint,
                site: at.site,
                author: format!("check {}", check.name),
                interval: check.interval,
                timeout: check.timeout,
                feeds: *feeds,
                scale: *scale,
                lease: *lease,
                last: None,
                began: now,
                is_out: false,
                is_silent: false,
                told: None,
            })
        };
        let sources: Vec<Source> = fleet.endpoint_ids().filter_map(source).collect();
        let first = |(index, source): (usize, &Source)| {
            let share = random.random_range(0.0..1.0);
            Reverse((now + source.interval.mul_f64(share), index))
        };
        Self {
            by_endpoint: sources
                .iter()
                .enumerate()
                .map(|(index, source)| (source.endpoint, index))
                .collect(),
            queue: sources.iter().enumerate().map(first).collect(),
            evaluate: (!sources.is_empty()).then_some(now + EVALUATE),
            told: HashMap::new(),
            sources,
        }
    }

    /// When to call [`Readings::due`] and [`Readings::evaluate`].
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let ask = self.queue.peek().map(|Reverse((at, _))| *at);
        ask.into_iter().chain(self.evaluate).min()
    }

    /// Whom to ask now. One that has not answered yet is not asked again.
    pub(super) fn due(&mut self, now: Instant) -> Vec<Ask> {
        let mut asks = Vec::new();
        while let Some(Reverse((at, index))) =
            self.queue.peek().copied().filter(|Reverse((at, _))| *at <= now)
        {
            self.queue.pop();
            let Some(source) = self.sources.get_mut(index) else {
                continue;
            };
            // Slots that went by while the loop was late are not made up for.
            let next = (at + source.interval).max(now + source.interval / 2);
            self.queue.push(Reverse((next, index)));
            if !std::mem::replace(&mut source.is_out, true) {
                asks.push(Ask {
                    endpoint: source.endpoint,
                    timeout: source.timeout,
                });
            }
        }
        asks
    }

    /// An answer came, or none.
    pub(super) fn on_outcome(&mut self, endpoint: EndpointId, outcome: &Outcome, now: Instant) {
        let index = self.by_endpoint.get(&endpoint);
        let Some(source) = index.and_then(|index| self.sources.get_mut(*index)) else {
            return;
        };
        source.is_out = false;
        let number = match outcome {
            Outcome::Success(Answer::Value(number)) if *number >= 0.0 => Ok(number * source.scale),
            Outcome::Success(Answer::Value(number)) => Err(format!("value {number} is below 0")),
            Outcome::Success(_) | Outcome::Failure(_) | Outcome::Void(_) => Err(outcome.to_string()),
        };
        let was_silent = std::mem::replace(&mut source.is_silent, number.is_err());
        let result = if number.is_ok() { "read" } else { "failed" };
        metrics::counter!("steer_health_numbers_total", "result" => result).increment(1);
        let author = &source.author;
        match number {
            Ok(number) => source.last = Some((number, now)),
            Err(why) if !was_silent => {
                tracing::warn!(endpoint = endpoint.0, author, why, "a number cannot be read");
            }
            Err(_) => {}
        }
        if was_silent && !source.is_silent {
            tracing::info!(endpoint = endpoint.0, author, "a number is read again");
        }
    }

    /// What is to be told now. `verdict` is what stands of an endpoint.
    pub(super) fn evaluate(
        &mut self,
        verdict: impl Fn(EndpointId) -> Verdict,
        now: Instant,
        at: Timestamp,
    ) -> News {
        if self.evaluate.is_none_or(|due| now < due) {
            return News::default();
        }
        self.evaluate = Some(now + EVALUATE);
        let weights = self
            .sources
            .iter_mut()
            .filter(|source| source.feeds == Feeds::Weight);
        News {
            weights: weights.filter_map(|source| source.weight(now)).collect(),
            loads: self.site_loads(verdict, now, at),
        }
    }

    fn site_loads(
        &mut self,
        verdict: impl Fn(EndpointId) -> Verdict,
        now: Instant,
        at: Timestamp,
    ) -> Vec<(SiteId, Load)> {
        let mut sites: HashMap<SiteId, Option<Sum>> = HashMap::new();
        for source in self.sources.iter().filter(|source| source.feeds == Feeds::Load) {
            let Some(site) = source.site.filter(|_| verdict(source.endpoint) != Verdict::Down) else {
                continue;
            };
            let sum = sites.entry(site).or_insert_with(|| Some(Sum::default()));
            *sum = sum.take().and_then(|sum| sum.with(source, now));
        }
        let mut loads = Vec::new();
        for (site, sum) in sites {
            let Some(Sum { total, left, author }) = sum else {
                continue; // what was told ends with its lease
            };
            let per_second = total.min(PER_SECOND_MAX).round() as u64;
            let told = self.told.get(&site);
            if told.is_some_and(|(before, renew)| now < *renew && is_near(*before, per_second)) {
                continue;
            }
            self.told.insert(site, (per_second, now + left / 2));
            let until = at.checked_add(left).unwrap_or(Timestamp::MAX);
            loads.push((
                site,
                Load {
                    per_second,
                    at,
                    until,
                    author,
                },
            ));
        }
        loads.sort_by_key(|(site, _)| site.0);
        loads
    }
}

/// What the endpoints of a site tell together.
#[derive(Debug)]
struct Sum {
    total: f64,
    /// Until the first of them must be told anew.
    left: Duration,
    author: String,
}

impl Default for Sum {
    fn default() -> Self {
        Self {
            total: 0.0,
            left: Duration::MAX,
            author: String::new(),
        }
    }
}

impl Sum {
    /// `None` where the number is not there: half of a site would look like half of its load.
    fn with(self, source: &Source, now: Instant) -> Option<Self> {
        let (number, left) = source.counts(now)?;
        Some(Self {
            total: self.total + number,
            left: self.left.min(left),
            author: source.author.clone(),
        })
    }
}

impl Source {
    /// The number, and how long it still counts.
    fn counts(&self, now: Instant) -> Option<(f64, Duration)> {
        let (number, came) = self.last?;
        let left = (came + self.lease).checked_duration_since(now)?;
        (!left.is_zero()).then_some((number, left))
    }

    /// The weight, where it is news.
    fn weight(&mut self, now: Instant) -> Option<(EndpointId, Option<u32>)> {
        let weight = match self.counts(now) {
            Some((number, _)) => Some(number.min(WEIGHT_MAX).round() as u32),
            // Before the first lease is over an earlier run may have said more than we know.
            None if self.last.is_none() && now < self.began + self.lease => return None,
            None => None,
        };
        let is_known = match (self.told, weight) {
            (None, _) => false,
            (Some(None), None) => true,
            (Some(Some(before)), Some(weight)) => {
                (before == 0) == (weight == 0) && is_near(before.into(), weight.into())
            }
            (Some(None), Some(_)) | (Some(Some(_)), None) => false,
        };
        if is_known {
            return None;
        }
        self.told = Some(weight);
        Some((self.endpoint, weight))
    }
}

fn is_near(before: u64, now: u64) -> bool {
    before == now || (before as f64 - now as f64).abs() * BAND < before as f64
}

#[cfg(test)]
mod tests;
