//! What sites get now, as somebody counted it.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// Longest that a figure counts without being told again.
pub const LEASE_MAX: Duration = Duration::from_secs(86_400);

/// What one site gets now. It counts until its lease is over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Load {
    /// Requests per second.
    pub per_second: u64,
    /// When it was told.
    pub at: Timestamp,
    /// Until when it counts.
    pub until: Timestamp,
    /// Who told it.
    pub author: String,
}

impl Load {
    /// Whether it counts.
    #[must_use]
    pub fn counts(&self, now: Timestamp) -> bool {
        now < self.until
    }
}
