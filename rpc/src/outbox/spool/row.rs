//! What goes into a spool and comes out of it.

use std::fmt;
use std::time::{Duration, Instant};

use bytes::Bytes;

use crate::outbox::Letter;

/// What a spool holds at most.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows that wait, of each channel.
    pub rows: usize,
    /// Dead letters, of each channel.
    pub dead: usize,
}

impl Limits {
    /// 100,000 rows and 10,000 dead letters of each channel.
    pub const DEFAULT: Self = Self {
        rows: 100_000,
        dead: 10_000,
    };
}

/// A row to be told, which gets its id when it is appended.
pub struct Post {
    /// As [`Letter::subject`].
    pub subject: String,
    /// As [`Letter::partition`].
    pub partition: String,
    /// The payload, which may say the id.
    pub payload: Box<dyn FnOnce(&str) -> Bytes + Send>,
    /// By which channels.
    pub channels: Vec<String>,
}

impl fmt::Debug for Post {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Post")
            .field("subject", &self.subject)
            .field("partition", &self.partition)
            .field("channels", &self.channels)
            .finish_non_exhaustive()
    }
}

/// What was told of a subject; `None`: nothing any more.
pub type Told = (String, Option<Vec<u8>>);

/// What a channel is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// Tell this.
    Tell(Waiting),
    /// Look again then, or when something is appended.
    Later(Instant),
    /// Nothing waits.
    Empty,
}

/// A row that waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// Its number in the spool.
    pub number: u64,
    /// What to tell.
    pub letter: Letter,
    /// Its tries so far.
    pub tries: u32,
}

/// A row that is not told any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number in the spool.
    pub number: u64,
    /// What was to be told.
    pub letter: Letter,
    /// How often it was tried.
    pub tries: u32,
    /// Since when it is dead, after 1970.
    pub died: Duration,
    /// Why it was not taken at last.
    pub why: String,
}

/// How much there is of a channel.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rows that wait.
    pub waiting: usize,
    /// Dead letters.
    pub dead: usize,
}
