//! Where rows of the outbox are told.

use std::future::Future;

use bytes::Bytes;

/// A row on its way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The same each time this row is told, and no other's: the name of the outbox and the number of the row.
    pub id: String,
    /// What it is about.
    pub subject: String,
    /// Rows with the same one keep their order.
    pub partition: String,
    /// What.
    pub payload: Bytes,
}

/// Why a row was not taken, as far as can be told.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SinkError {
    /// Nobody was there who could have looked at it: that is not the row's fault, and costs it no try.
    #[error("nobody takes it: {0}")]
    Away(String),
    /// It was looked at, or may have been, and not taken.
    #[error("it failed: {0}")]
    Failed(String),
    /// It will never be taken.
    #[error("it is refused: {0}")]
    Refused(String),
}

impl SinkError {
    /// Why, in words.
    #[must_use]
    pub fn words(&self) -> &str {
        match self {
            Self::Away(words) | Self::Failed(words) | Self::Refused(words) => words,
        }
    }
}

/// Takes letters.
pub trait Sink: Send + Sync {
    /// Tells one, and comes back when it is kept at the other side. Told again, it must be known by its id there.
    ///
    /// # Errors
    ///
    /// See [`SinkError`]. A sink bounds its own time: what takes too long has failed.
    fn tell(&self, letter: &Letter) -> impl Future<Output = Result<(), SinkError>> + Send;
}

impl<S: Sink> Sink for std::sync::Arc<S> {
    fn tell(&self, letter: &Letter) -> impl Future<Output = Result<(), SinkError>> + Send {
        S::tell(self, letter)
    }
}
