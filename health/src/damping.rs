//! Damping: an endpoint that goes down again and again stays down longer each time.
//!
//! ```text
//! down ─► figure + penalty ─► down                figure halves in each half-life (RFC 2439 §4.2)
//! up   ─► figure ≥ suppress since it last came back? ─ no ─► up
//!                          └─ yes ─► held back, until the figure is below `reuse` ─► up
//! ```
//!
//! It stands between the verdicts and the judge, and holds back nothing but a return. An endpoint that is held back is
//! better than none: the judge lets it go where too few others serve ([`Damping::relieve`]).

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use steer_topology::{DampingRules, EndpointId, Fleet, PoolId};

use crate::judge::Change;
use crate::outcome::spoken;
use crate::snapshot::{Cause, Verdict};

/// Steps in which a time of return corrects what floating-point rounding left.
const STEP: Duration = Duration::from_millis(1);

/// The figures of all endpoints that have ever gone down. Sans-IO.
#[derive(Debug, Default)]
pub struct Damping {
    /// By pool.
    rules: Vec<Option<DampingRules>>,
    entries: BTreeMap<EndpointId, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    pool: PoolId,
    /// What the verdict is without us.
    verdict: Verdict,
    figure: Figure,
    /// The figure has reached `suppress`, and not been below `reuse` since.
    suppressed: bool,
    /// The cause of the verdict `up` that is held back.
    held: Option<Cause>,
}

/// A figure of merit at the moment of its last fall.
#[derive(Debug, Clone, Copy)]
struct Figure {
    value: f64,
    at: Instant,
}

/// An endpoint that is up and held back.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Held {
    /// Which.
    pub endpoint: EndpointId,
    /// Its figure now.
    pub figure: f64,
    /// When it comes back, if nothing happens.
    pub until: Instant,
}

impl Damping {
    /// Of a fleet of which nothing is known yet.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        Self {
            rules: fleet.pools.iter().map(|pool| pool.damping.clone()).collect(),
            entries: BTreeMap::new(),
        }
    }

    /// A verdict changed: what the judge is to hear of it.
    pub fn on_change(&mut self, fleet: &Fleet, change: Change, now: Instant) -> Change {
        let Some(endpoint) = fleet.endpoints.get(change.endpoint.0 as usize) else {
            return change;
        };
        let rules = self.rules.get(endpoint.pool.0 as usize);
        let Some(rules) = rules.and_then(Option::as_ref) else {
            return change;
        };
        let entry = self.entries.entry(change.endpoint);
        let entry = entry.or_insert_with(|| Entry::new(endpoint.pool, now));
        entry.on_change(rules, change, now)
    }

    /// When to call [`Damping::on_deadline`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.held_entries()
            .map(|(_, entry, rules)| entry.free_at(rules))
            .min()
    }

    /// The time came: those whose figure is low enough are up.
    pub fn on_deadline(&mut self, now: Instant) -> Vec<Change> {
        let is_free = |entry: &Entry, rules: &DampingRules| entry.figure.is_below_reuse(rules, now);
        let held = self
            .held_entries()
            .filter(|(_, entry, rules)| is_free(entry, rules));
        let free: Vec<_> = held.map(|(endpoint, ..)| endpoint).collect();
        let release = |endpoint| self.entries.get_mut(&endpoint)?.let_go(endpoint, "was damped");
        free.into_iter().filter_map(release).collect()
    }

    /// One that is held back comes back: too few others serve. Its figure stays.
    pub fn relieve(&mut self, endpoint: EndpointId) -> Option<Change> {
        let entry = self.entries.get_mut(&endpoint)?;
        entry.let_go(endpoint, "damped no longer: too few others serve")
    }

    /// Forgets the figure of an endpoint.
    pub fn clear(&mut self, endpoint: EndpointId) -> Option<Change> {
        let entry = self.entries.get_mut(&endpoint)?;
        entry.figure.value = 0.0;
        entry.suppressed = false;
        entry.let_go(endpoint, "was damped until an operator cleared that")
    }

    /// Who is held back.
    pub fn held(&self, now: Instant) -> impl Iterator<Item = Held> + '_ {
        self.held_entries().map(move |(endpoint, entry, rules)| Held {
            endpoint,
            figure: entry.figure.at(rules, now),
            until: entry.free_at(rules),
        })
    }

    /// Whether an endpoint is held back.
    #[must_use]
    pub fn holds(&self, endpoint: EndpointId) -> bool {
        self.entries
            .get(&endpoint)
            .is_some_and(|entry| entry.held.is_some())
    }

    /// Takes over what is known of endpoints that go by another id now.
    pub(crate) fn inherit(
        &mut self,
        fleet: &Fleet,
        old: &Self,
        renamed: impl Fn(EndpointId) -> Option<EndpointId>,
    ) {
        for (endpoint, entry) in &old.entries {
            let Some(endpoint) = renamed(*endpoint) else {
                continue;
            };
            let pool = fleet.endpoint(endpoint).pool;
            let damps = self.rules.get(pool.0 as usize).is_some_and(Option::is_some);
            if damps || entry.held.is_some() {
                self.entries.insert(
                    endpoint,
                    Entry {
                        pool,
                        ..entry.clone()
                    },
                );
            }
        }
    }

    /// Lets those go whose pool is damped no longer.
    pub(crate) fn release_undamped(&mut self) -> Vec<Change> {
        let rules = &self.rules;
        let mut changes = Vec::new();
        self.entries.retain(|endpoint, entry| {
            let damps = rules.get(entry.pool.0 as usize).is_some_and(Option::is_some);
            if !damps {
                changes.extend(entry.let_go(*endpoint, "was damped until a reload"));
            }
            damps
        });
        changes
    }

    fn held_entries(&self) -> impl Iterator<Item = (EndpointId, &Entry, &DampingRules)> {
        self.entries.iter().filter_map(|(endpoint, entry)| {
            entry.held.as_ref()?;
            let rules = self.rules.get(entry.pool.0 as usize)?.as_ref()?;
            Some((*endpoint, entry, rules))
        })
    }
}

impl Entry {
    fn new(pool: PoolId, now: Instant) -> Self {
        Self {
            pool,
            verdict: Verdict::Unknown,
            figure: Figure { value: 0.0, at: now },
            suppressed: false,
            held: None,
        }
    }

    fn on_change(&mut self, rules: &DampingRules, change: Change, now: Instant) -> Change {
        let before = std::mem::replace(&mut self.verdict, change.verdict);
        match (before, change.verdict) {
            // Only who was up can fall: a start is no flap.
            (Verdict::Up, Verdict::Down) => {
                self.figure.add_penalty(rules, now);
                self.suppressed |= self.figure.value >= f64::from(rules.suppress);
                self.held = None;
                change
            }
            (Verdict::Up | Verdict::Down | Verdict::Unknown, Verdict::Up) => {
                self.suppressed &= !self.figure.is_below_reuse(rules, now);
                if !self.suppressed {
                    return change;
                }
                let cause = self.spoken(rules, &change.cause, now);
                self.held = Some(change.cause);
                metrics::counter!("steer_health_dampings_total").increment(1);
                Change {
                    verdict: Verdict::Down,
                    cause,
                    ..change
                }
            }
            (Verdict::Down | Verdict::Unknown, Verdict::Down)
            | (Verdict::Up | Verdict::Down | Verdict::Unknown, Verdict::Unknown) => {
                self.held = None;
                change
            }
        }
    }

    fn spoken(&self, rules: &DampingRules, cause: &str, now: Instant) -> Cause {
        let left = self.free_at(rules).saturating_duration_since(now);
        let left = spoken(Duration::from_secs(left.as_secs_f64().ceil() as u64));
        let figure = self.figure.at(rules, now).round();
        format!(
            "damped for {left}: {cause}, but it fell too often (figure {figure}, back below {})",
            rules.reuse
        )
    }

    fn let_go(&mut self, endpoint: EndpointId, why: &str) -> Option<Change> {
        let cause = self.held.take()?;
        Some(Change {
            endpoint,
            verdict: Verdict::Up,
            cause: format!("{cause} ({why})"),
        })
    }

    fn free_at(&self, rules: &DampingRules) -> Instant {
        let Figure { value, at } = self.figure;
        let half_lives = (value / f64::from(rules.reuse)).log2().max(0.0);
        let wait = Duration::try_from_secs_f64(half_lives * rules.half_life.as_secs_f64());
        let wait = wait.unwrap_or(rules.max).min(rules.max);
        let mut free = at + wait;
        while !self.figure.is_below_reuse(rules, free) {
            free += STEP;
        }
        free
    }
}

impl Figure {
    fn at(&self, rules: &DampingRules, now: Instant) -> f64 {
        let age = now.saturating_duration_since(self.at).as_secs_f64();
        self.value * (-age / rules.half_life.as_secs_f64()).exp2()
    }

    /// Grows no higher than what is below `reuse` after `max` (RFC 2439 §4.2, the ceiling).
    fn add_penalty(&mut self, rules: &DampingRules, now: Instant) {
        let ceiling =
            f64::from(rules.reuse) * (rules.max.as_secs_f64() / rules.half_life.as_secs_f64()).exp2();
        let value = self.at(rules, now) + f64::from(rules.penalty);
        *self = Self {
            value: value.min(ceiling.max(f64::from(rules.suppress))),
            at: now,
        };
    }

    fn is_below_reuse(&self, rules: &DampingRules, now: Instant) -> bool {
        let is_over = now.saturating_duration_since(self.at) >= rules.max;
        is_over || self.at(rules, now) < f64::from(rules.reuse)
    }
}

#[cfg(test)]
pub(crate) mod tests;
