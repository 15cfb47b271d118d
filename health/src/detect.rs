//! What a run of outcomes adds up to. No socket, no task, no clock.
//!
//! ```text
//! Seen (success, failure, gone) ─► threshold ─┐
//!                               ─► window    ─┼─ any | all ─► Verdict, and why
//!                               ─► phi       ─┘
//! ```
//!
//! - [`Threshold`]: so many failures make down, so many successes make up, and so many successes forget old failures.
//! - [`Window`]: the share of failures, and a quantile of the latency, over the last outcomes. It sees a service that
//!   fails two of three, which no count of failures in a row ever does.
//! - [`Phi`]: how unusual the present silence is, after Hayashibara et al., "The φ accrual failure detector" (2004).
//!
//! All stand behind one trait and one battery of tests. [`outlier`] is another kind: it compares the endpoints of a pool.

mod combine;
pub mod outlier;
mod phi;
mod threshold;
pub mod trace;
mod window;

use std::fmt;
use std::time::{Duration, Instant};

use crate::snapshot::Verdict;

pub use combine::Detectors;
pub use phi::{Empirical, Normal, Phi};
pub use threshold::Threshold;
pub use window::Window;

/// What a detector is told. A probe that says nothing of the endpoint is not told at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seen {
    /// It answered as it should. To [`Phi`], a heartbeat.
    Success {
        /// How long that took.
        took: Duration,
    },
    /// It did not.
    Failure,
    /// It did not, and that alone proves that nobody is there.
    Gone,
}

/// From what is seen of one endpoint to an opinion.
///
/// The contract, which the battery in `detect/tests.rs` holds every implementation to: `Unknown` before anything was
/// seen; never `Down` while all is well; `Down` in the end when everything fails; `Up` again in the end when everything
/// succeeds; the same after [`Detector::forget`] as when new; an opinion changes only by [`Detector::observe`], or by
/// the time that [`Detector::next_deadline`] told of.
pub trait Detector: fmt::Debug + Send {
    /// Something was seen. `now` never goes back.
    fn observe(&mut self, seen: Seen, now: Instant);

    /// What follows from it.
    fn opinion(&self, now: Instant) -> Verdict;

    /// When the opinion may change though nothing is seen.
    fn next_deadline(&self) -> Option<Instant>;

    /// What speaks for the opinion, where the last outcome alone does not say it.
    fn because(&self, now: Instant) -> Option<String>;

    /// Starts anew.
    fn forget(&mut self);
}

#[cfg(test)]
mod tests;
