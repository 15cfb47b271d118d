//! A spool: rows that wait for several channels in one file, for a process that has no database.
//!
//! ```text
//! append: rows + what is told by them ─► one transaction ─► queue of each channel ─► sink ─┬─ taken ─► delete
//!                                                                                          ├─ failed ─► again
//!                                                                                          └─ refused ─► dead
//! ```
//!
//! What holds for it is what holds for a [`super::Relay`], and [`super::next`] decides for both: each row is told at least
//! once and with the same id, rows of a partition in their order, and one that fails holds up its partition and no other.
//! Each channel has its own queue, tries and dead letters, so that one that is away holds up only itself.
//!
//! Beside the rows it keeps what was told last of each subject, written in the same transaction: after a crash the one
//! is never without the other, and what changed meanwhile is found by comparing.
//!
//! All is bounded ([`Limits`]). Where a queue is full the oldest row makes room, which is counted and logged once.

mod dead;
mod queue;
mod row;
mod table;
#[cfg(test)]
mod tests;
mod turn;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use tokio::sync::watch;

use super::Next;
use crate::key::StoreError;
use table::Open;

pub use row::{Counts, DeadLetter, Limits, Look, Post, Told, Waiting};

/// An open spool. Clones are the same.
#[derive(Clone)]
pub struct Spool {
    inner: Arc<Inner>,
}

struct Inner {
    file: Option<PathBuf>,
    name: String,
    limits: Limits,
    /// Absent after a failure: opened again by whoever comes next.
    state: Mutex<Option<Open>>,
    /// By channel, for those who must not wait for a disk.
    counts: Mutex<BTreeMap<String, Counts>>,
    grown: watch::Sender<u64>,
}

impl fmt::Debug for Spool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Spool")
            .field("file", &self.inner.file)
            .finish_non_exhaustive()
    }
}

impl Spool {
    /// Opens or makes `file`; without one all of it ends with the process. Ids are `NAME-RANDOM-NUMBER`, where the random
    /// part is the file's own. Blocks, as all that gives a [`StoreError`]; see [`Spool::blocking`].
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: what is wrong with the file; that another process has it open, for one.
    pub fn open(file: Option<&Path>, name: &str, limits: Limits) -> Result<Self, StoreError> {
        let open = Open::new(file, limits)?;
        Ok(Self {
            inner: Arc::new(Inner {
                file: file.map(Path::to_owned),
                name: name.to_owned(),
                limits,
                counts: Mutex::new(open.all_counts()),
                state: Mutex::new(Some(open)),
                grown: watch::Sender::new(0),
            }),
        })
    }

    /// Whether it outlives the process.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.inner.file.is_some()
    }

    /// Runs something of it on a thread that may block.
    ///
    /// # Errors
    ///
    /// What it gives; [`StoreError::InDoubt`] while the runtime ends.
    pub async fn blocking<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Self) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let spool = self.clone();
        match tokio::task::spawn_blocking(move || what(&spool)).await {
            Ok(done) => done,
            Err(error) => Err(StoreError::InDoubt(error.to_string())),
        }
    }

    /// Changes when rows come in.
    #[must_use]
    pub fn grown(&self) -> watch::Receiver<u64> {
        self.inner.grown.subscribe()
    }

    /// What was told last, by subject.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]
    pub fn told(&self) -> Result<BTreeMap<String, Vec<u8>>, StoreError> {
        self.with(|open| open.told())
    }

    /// Appends rows and what is told by them, in one transaction.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; then nothing of it is kept, as far as can be known.
    pub fn append(&self, posts: Vec<Post>, told: &[Told]) -> Result<(), StoreError> {
        if posts.is_empty() && told.is_empty() {
            return Ok(());
        }
        let name = &self.inner.name;
        self.with(|open| open.append(name, posts, told))?;
        self.inner
            .grown
            .send_modify(|count| *count = count.wrapping_add(1));
        Ok(())
    }

    /// Forgets all of every channel but these. Returns what was forgotten.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]
    pub fn keep_only(&self, channels: &[String]) -> Result<Vec<(String, Counts)>, StoreError> {
        self.with(|open| open.keep_only(channels))
    }

    /// What a channel is to do at `now`.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]
    pub fn look(&self, channel: &str, now: Instant) -> Result<Look, StoreError> {
        let name = &self.inner.name;
        self.with(|open| open.look(name, channel, now))
    }

    /// Does what follows from telling a row. `is_away`: nobody takes anything of this channel, until the row is due again.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]; a row that was told is told again then.
    pub fn settle(
        &self,
        channel: &str,
        number: u64,
        next: Next,
        is_away: bool,
        why: &str,
        now: Instant,
    ) -> Result<(), StoreError> {
        self.with(|open| open.settle(channel, number, next, is_away, why, now))
    }

    /// Dead letters of a channel, the oldest first, so many at most.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]
    pub fn dead(&self, channel: &str, at_most: usize) -> Result<Vec<DeadLetter>, StoreError> {
        let name = &self.inner.name;
        self.with(|open| open.dead(name, channel, at_most))
    }

    /// Tells dead letters again as if they had never been tried: those with these ids, or all. Returns how many there were.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]
    pub fn resend(&self, channel: &str, ids: Option<&[String]>) -> Result<usize, StoreError> {
        let name = &self.inner.name;
        let count = self.with(|open| open.resend(name, channel, ids))?;
        self.inner
            .grown
            .send_modify(|count| *count = count.wrapping_add(1));
        Ok(count)
    }

    /// How much there is of a channel. Does not block.
    #[must_use]
    pub fn counts(&self, channel: &str) -> Counts {
        let counts = self.inner.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts.get(channel).copied().unwrap_or_default()
    }

    fn state(&self) -> MutexGuard<'_, Option<Open>> {
        self.inner.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After an error nothing that is in memory is trusted: the file says what is kept.
    fn with<T>(&self, what: impl FnOnce(&mut Open) -> Result<T, redb::Error>) -> Result<T, StoreError> {
        let mut state = self.state();
        let mut open = match state.take() {
            Some(open) => open,
            None => Open::new(self.inner.file.as_deref(), self.inner.limits)?,
        };
        let done = what(&mut open).map_err(|error| StoreError::Unavailable(format!("the spool: {error}")))?;
        let counts = open.all_counts();
        for (channel, Counts { waiting, dead }) in &counts {
            metrics::gauge!("steer_notify_waiting", "channel" => channel.clone()).set(*waiting as f64);
            metrics::gauge!("steer_notify_dead", "channel" => channel.clone()).set(*dead as f64);
        }
        *self.inner.counts.lock().unwrap_or_else(PoisonError::into_inner) = counts;
        *state = Some(open);
        Ok(done)
    }
}
