//! Load shedding: who is turned away when a pool has as many calls as it can do.
//!
//! How many that is, is learnt ([`limit`]); who goes first is said by priority ([`Priority`]).

mod limit;
mod priority;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::{Rng, RngExt};

pub use limit::ConcurrencyRules;
pub use priority::{InvalidPriority, Priority, PriorityRules};

use limit::Limit;

/// What a client that was shed is told to wait at least, and at most.
const PUSHBACK_MIN: Duration = Duration::from_millis(10);
const PUSHBACK_MAX: Duration = Duration::from_secs(1);

/// The limit of one pool.
#[derive(Debug)]
pub(super) struct Shedder {
    limit: Mutex<Limit>,
}

/// A call that was let in, until its answer begins or it ends.
#[derive(Debug)]
pub(super) struct Slot {
    shedder: Arc<Shedder>,
    began: Instant,
    is_open: bool,
}

/// How it went on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// An answer began.
    Answered,
    /// None came in time.
    Late,
    /// Another end, that says nothing of how busy the backends are.
    Other,
}

impl Shedder {
    pub(super) fn new(rules: ConcurrencyRules, now: Instant) -> Arc<Self> {
        let limit = Limit::new(rules, now).into();
        Arc::new(Self { limit })
    }

    fn limit(&self) -> MutexGuard<'_, Limit> {
        self.limit.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Lets a call in, or tells after how long it may come again: a time that differs, so that those who were turned away
    /// together do not come back together.
    pub(super) fn admit(
        self: &Arc<Self>,
        priority: Priority,
        rng: &mut impl Rng,
        now: Instant,
    ) -> Result<Slot, Duration> {
        let mut limit = self.limit();
        if limit.admit(priority) {
            return Ok(Slot {
                shedder: self.clone(),
                began: now,
                is_open: true,
            });
        }
        let usual = limit.usual().clamp(PUSHBACK_MIN, PUSHBACK_MAX);
        metrics::counter!("steer_rpc_sheds_total", "priority" => priority.name()).increment(1);
        Err(usual.mul_f64(1.0 + rng.random::<f64>()).min(PUSHBACK_MAX))
    }
}

impl Slot {
    pub(super) fn end(mut self, outcome: Outcome, now: Instant) {
        self.close(outcome, now);
    }

    fn close(&mut self, outcome: Outcome, now: Instant) {
        if !std::mem::replace(&mut self.is_open, false) {
            return;
        }
        let took = now.saturating_duration_since(self.began);
        let took = match outcome {
            // A call that was late has taken at least as long.
            Outcome::Answered | Outcome::Late => Some(took),
            Outcome::Other => None,
        };
        self.shedder.limit().on_end(took, now);
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        let began = self.began; // no clock is needed where nothing is measured
        self.close(Outcome::Other, began);
    }
}
