//! What a store of keys is.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::{Answer, KeyedCall};

/// The number of a claim. Each claim of a store has a higher one than all before it, over restarts too, so it is a
/// fencing token for whatever lies outside of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Epoch(pub u64);

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// For how long things hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    /// A claim whose holder cannot be seen to be gone ends after this. Longer than any handler takes.
    pub lease: Duration,
    /// An answer is kept this long. Longer than any client goes on trying.
    pub keep: Duration,
}

impl Default for Terms {
    /// 10 s and a day.
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(10),
            keep: Duration::from_secs(24 * 3600),
        }
    }
}

/// Where a store gets the time from.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// The clock of the machine.
#[must_use]
pub fn system_clock() -> Clock {
    Arc::new(SystemTime::now)
}

/// What a claim came to.
#[derive(Debug)]
pub enum Found<C> {
    /// The key is ours.
    Fresh(C),
    /// Another has claimed it and not ended. Its payload is not compared before it has.
    InFlight,
    /// It is done, and this was the answer.
    Answered(Answer),
    /// It is done, with another payload.
    OtherPayload,
}

/// A row of the outbox: told to others after the commit, at least once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where to.
    pub subject: String,
    /// Messages with the same one keep their order.
    pub partition: String,
    /// What.
    pub payload: Vec<u8>,
}

/// What a store may fail with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The claim has ended before its commit. Nothing of it was done; the key is another's, or free.
    #[error("the claim with epoch {0} has ended, and nothing of it was done")]
    Fenced(Epoch),
    /// The store could not be asked, and nothing was done.
    #[error("{0}")]
    Unavailable(String),
    /// The commit was sent and its outcome is not known. To claim the key again tells it.
    #[error("the outcome of a commit is not known: {0}")]
    InDoubt(String),
}

/// A store of keys.
pub trait KeyStore: Send + Sync {
    /// What holds a key.
    type Claim: Claim;

    /// Claims the key of a call, or tells what stands. Does not wait for another's claim.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn claim(&self, call: &KeyedCall) -> impl Future<Output = Result<Found<Self::Claim>, StoreError>> + Send;

    /// Forgets answers that are older than they are kept, so many at most, and tells how many they were.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    fn expire(&self, at_most: u32) -> impl Future<Output = Result<u64, StoreError>> + Send;
}

/// A key that is held, with the transaction that its effect goes into. One that is dropped has done nothing, and its key
/// is free.
pub trait Claim: Send {
    /// What the effect is written with.
    type Transaction;

    /// Its number.
    fn epoch(&self) -> Epoch;

    /// The transaction, which begins with the first call. What is done in it counts with [`Claim::commit`] only.
    ///
    /// # Errors
    ///
    /// [`StoreError::Fenced`], [`StoreError::Unavailable`].
    fn transaction(&mut self) -> impl Future<Output = Result<&mut Self::Transaction, StoreError>> + Send;

    /// Commits effect, answer and messages together.
    ///
    /// # Errors
    ///
    /// All of [`StoreError`].
    fn commit(
        self,
        answer: &Answer,
        outbox: &[Message],
    ) -> impl Future<Output = Result<(), StoreError>> + Send;

    /// Gives the key back, and takes back what was done.
    fn release(self) -> impl Future<Output = ()> + Send;
}
