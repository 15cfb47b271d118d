//! The outbound flap budget: what the peers' route flap damping (RFC 2439) makes of our withdrawals.
//!
//! Each withdrawal adds `penalty` to the figure of merit, and the figure halves in each `half_life` (§4.2, §4.4.2).
//! At `suppress` the peers ignore the route for a long time. We announce only when a withdrawal right after it
//! would stay below: figure + `penalty` < `suppress`. So the figure never reaches `suppress` by our doing, and a
//! withdrawal never has to wait.
//!
//! The arithmetic: the figure is an `f64` with the moment of its last event; at the next event, `t` later, it is
//! `figure × 2^(−(t − GRAIN) / half_life)`, and unchanged when `t` is below the grain. Peers keep time in steps, so
//! that an event may cost up to a step of decay; FRR counts whole seconds and decays by whole 5 s. Counting the
//! worst of that for each event, we are never below what the peer has. An announcement is such an event too.

use std::time::{Duration, Instant};

use steer_topology::FlapBudget;

/// Decay that a peer may lose at each event: FRR's 5 s step and 1 s clock.
pub const GRAIN: Duration = Duration::from_secs(6);

/// RFC 2439 §4.2: the figure stops at reuse × 2^(hold / half-life). With the values of its §4.8 tables that all
/// take over (reuse 750 at suppress 2000, hold of four half-lives) that is six times `suppress`.
const CEILING: f64 = 6.0;

/// Below this a figure is as good as none: where `penalty` alone reaches `suppress`, we could announce never.
const FORGOTTEN: f64 = 1.0;

/// Steps in which [`Flaps::free_at`] corrects what floating-point rounding left.
const STEP: Duration = Duration::from_millis(1);

/// The figure of merit of one prefix, as the slowest peer has it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Flaps {
    /// At the last event; `None`: no event that counts yet.
    last: Option<(Instant, f64)>,
}

impl Flaps {
    /// The figure at `now`.
    #[must_use]
    pub fn figure(&self, budget: &FlapBudget, now: Instant) -> f64 {
        let Some((at, figure)) = self.last else {
            return 0.0;
        };
        let decayed = now.saturating_duration_since(at).saturating_sub(GRAIN);
        if decayed.is_zero() {
            return figure;
        }
        figure * (-decayed.as_secs_f64() / budget.half_life.as_secs_f64()).exp2()
    }

    /// A withdrawal at `now`.
    pub fn withdrawn(&mut self, budget: &FlapBudget, now: Instant) {
        let figure = self.figure(budget, now) + f64::from(budget.penalty);
        self.last = Some((now, figure.min(CEILING * f64::from(budget.suppress))));
    }

    /// An announcement at `now`: adds nothing, but the peer rounds here.
    pub fn announced(&mut self, budget: &FlapBudget, now: Instant) {
        let figure = self.figure(budget, now);
        self.last = (figure > 0.0).then_some((now, figure));
    }

    /// Whether an announcement at `now` leaves room for the withdrawal that may follow at once.
    #[must_use]
    pub fn allow(&self, budget: &FlapBudget, now: Instant) -> bool {
        let figure = self.figure(budget, now);
        // As a peer adds it up: compared otherwise, rounding could bring the sum to `suppress` after all.
        let below = figure + f64::from(budget.penalty) < f64::from(budget.suppress);
        below || (budget.penalty >= budget.suppress && figure < FORGOTTEN)
    }

    /// When [`Flaps::allow`] will say yes; `None`: it does at `now`.
    #[must_use]
    pub fn free_at(&self, budget: &FlapBudget, now: Instant) -> Option<Instant> {
        let (at, figure) = self.last?;
        if self.allow(budget, now) {
            return None;
        }
        let room = f64::from(budget.suppress) - f64::from(budget.penalty);
        let half_lives = (figure / room.max(FORGOTTEN)).log2().max(0.0);
        let decay = Duration::try_from_secs_f64(half_lives * budget.half_life.as_secs_f64()).ok()?;
        let mut free = at.checked_add(GRAIN)?.checked_add(decay)?.max(now);
        while !self.allow(budget, free) {
            free += STEP;
        }
        Some(free)
    }

    /// Forgets everything, on the operator's word that the peers have.
    pub fn clear(&mut self) {
        self.last = None;
    }
}
