//! Now, by both clocks.

use std::time::Instant;

use jiff::Timestamp;

/// A moment: the steady clock for what takes time, the wall clock for what others are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// By the steady clock.
    pub now: Instant,
    /// By the wall clock.
    pub at: Timestamp,
}
