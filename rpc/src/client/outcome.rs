//! What became of a call, as its application reads it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::fate::{Fate, Why};
use crate::key::IdempotencyKey;

/// What is known of a call: in the extensions of its response. An application that wants it of a call that failed, too,
/// puts one of its own into the extensions of the request. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Outcome(Arc<Mutex<Known>>);

/// What is known at a moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Known {
    /// The fate; none while the answer is still coming.
    pub fate: Option<Fate>,
    /// Why nothing more was tried, of a call without an answer.
    pub why: Option<Why>,
    /// Attempts begun.
    pub attempts: usize,
    /// The key, of a keyed call. The same one must be sent with each later try of the same intention.
    pub key: Option<IdempotencyKey>,
    /// Whether the answer was given before, to an earlier try.
    pub replayed: bool,
    /// Who answered.
    pub target: Option<SocketAddr>,
}

impl Outcome {
    /// What is known now.
    #[must_use]
    pub fn known(&self) -> Known {
        self.lock().clone()
    }

    /// The fate; none while the answer is still coming.
    #[must_use]
    pub fn fate(&self) -> Option<Fate> {
        self.lock().fate
    }

    pub(super) fn note(&self, write: impl FnOnce(&mut Known)) {
        write(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
