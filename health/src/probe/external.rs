//! What others report. Nothing is sent: a probe only sees whether the lease of the last report is over.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::outcome::{Failure, Outcome, Void};

/// One endpoint that somebody else looks after.
#[derive(Debug)]
pub(crate) struct External {
    lease: Duration,
    /// When the last report came; before the first one, when we began to wait for it.
    last: Mutex<Instant>,
}

impl External {
    pub(super) fn new(lease: Duration, now: Instant) -> Self {
        Self {
            lease,
            last: Mutex::new(now),
        }
    }

    /// A report came.
    pub(super) fn reported(&self, now: Instant) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = now;
    }

    pub(super) fn probe(&self, now: Instant) -> Outcome {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if now.saturating_duration_since(last) < self.lease {
            Outcome::Void(Void::NoReport)
        } else {
            Outcome::Failure(Failure::LeaseOver(self.lease))
        }
    }
}
