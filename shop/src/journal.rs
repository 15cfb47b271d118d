//! What a client knows, a line of JSON for each thing that happened. Written before it goes on, so that it is true
//! whenever the client ends.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// Something that happened. Times are microseconds of the wall clock, which all nodes of a lab share.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Entry {
    /// A charge was due, and is about to be tried for the first time.
    Begun {
        /// Its idempotency key.
        key: String,
        /// When it was due.
        at_us: i64,
        /// Who pays.
        account: String,
        /// Cents.
        amount: u64,
    },
    /// It was acknowledged.
    Acked {
        /// Its idempotency key.
        key: String,
        /// When.
        at_us: i64,
        /// The line of the ledger, as the reply has it.
        receipt: i64,
        /// How often it was sent.
        tries: u32,
        /// Whether the answer was one that had been given before.
        replayed: bool,
    },
    /// It was given up: nobody knows whether it was done.
    GaveUp {
        /// Its idempotency key.
        key: String,
        /// When.
        at_us: i64,
        /// How often it was sent.
        tries: u32,
        /// What was wrong the last time.
        why: String,
    },
    /// A charge was due, and was not begun: too many were under way.
    Shed {
        /// When it was due.
        at_us: i64,
    },
    /// A stream has begun.
    Opened {
        /// Which.
        stream: String,
        /// When.
        at_us: i64,
    },
    /// A message was heard again.
    Echo {
        /// On which stream.
        stream: String,
        /// When it was due to be said.
        at_us: i64,
        /// How long it took.
        took_us: i64,
    },
    /// A stream has ended.
    Ended {
        /// Which.
        stream: String,
        /// When.
        at_us: i64,
        /// What broke it; in good order when absent.
        broken: Option<String>,
    },
}

/// A journal that is written.
#[derive(Debug)]
pub struct Journal(Mutex<File>);

/// A journal that cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The file.
    #[error("{}", file.display())]
    Io {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line that is none.
    #[error("{}:{line}: no entry of a journal: {source}", file.display())]
    Line {
        /// Which file.
        file: PathBuf,
        /// Which line.
        line: usize,
        /// Why.
        source: serde_json::Error,
    },
}

impl Journal {
    /// An empty one.
    ///
    /// # Errors
    ///
    /// When the file cannot be made.
    pub fn create(path: &Path) -> Result<Self, JournalError> {
        let file = File::create(path).map_err(|source| JournalError::Io {
            file: path.to_owned(),
            source,
        })?;
        Ok(Self(Mutex::new(file)))
    }

    /// Writes a line, in one piece.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, entry: &Entry) -> io::Result<()> {
        let mut line = serde_json::to_vec(entry).map_err(io::Error::from)?;
        line.push(b'\n');
        let mut file = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        file.write_all(&line)
    }
}

/// Every entry of a journal.
///
/// # Errors
///
/// See [`JournalError`]; a line that is no entry is one, for a journal with a hole proves nothing.
pub fn read(path: &Path) -> Result<Vec<Entry>, JournalError> {
    let io = |source| JournalError::Io {
        file: path.to_owned(),
        source,
    };
    let file = BufReader::new(File::open(path).map_err(io)?);
    let entry = |(number, line): (usize, io::Result<String>)| {
        serde_json::from_str(&line.map_err(io)?).map_err(|source| JournalError::Line {
            file: path.to_owned(),
            line: number + 1,
            source,
        })
    };
    file.lines().enumerate().map(entry).collect()
}

/// Of the wall clock, microseconds.
pub(crate) fn now_us() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}
