//! Where the operator's wishes outlive the process: a file, or nothing but memory.
//!
//! ```text
//! start:  Store ─► drains ─► Judge
//! later:  snapshot's drains ─► Keeper: compare, correct ─► Store
//! ```
//!
//! A store keeps drains by the name of their target, so that what is kept does not depend on the order of a file.
//! What it keeps is JSON with a version: a store that a newer `steer` wrote is refused, not guessed at.
//!
//! At start a store that cannot be read is an error: to go on without it would send clients to a drained site. A
//! store that is lost later changes nothing that is known; it is said, and tried again (see [`keeper`]).

mod embedded;
pub mod keeper;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steer_topology::Fleet;

use crate::operator::{Drain, NoTarget, Target};
use embedded::Embedded;

/// One of the places where wishes are kept.
#[derive(Debug)]
pub enum Store {
    /// They end with the process.
    Memory(Memory),
    /// `embedded:PATH`: one file, which one process at a time has open.
    Embedded(Box<Embedded>),
}

/// A drain as it is kept: by name, for no id outlives a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredDrain {
    /// [`Target::name`]
    pub target: String,
    /// See [`Drain::reason`].
    pub reason: String,
    /// See [`Drain::author`].
    pub author: String,
    /// See [`Drain::since`].
    pub since: Timestamp,
    /// See [`Drain::until`].
    pub until: Option<Timestamp>,
}

/// One change of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Keep this, in place of what was kept for the target.
    Put(StoredDrain),
    /// Keep nothing for the target of this name.
    Remove(String),
}

/// Keeps nothing beyond the process.
#[derive(Debug, Default)]
pub struct Memory(BTreeMap<String, StoredDrain>);

/// A store failed. Says which file, what is wrong with it and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store {}: {what}; {remedy}", .file.display())]
pub struct StoreError {
    /// The file.
    pub file: PathBuf,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Store {
    /// The store of `[fleet] store`: the file, made with its folder where it is missing, or memory.
    ///
    /// # Errors
    /// The file cannot be made or read, or is no store.
    pub fn open(file: Option<&Path>) -> Result<Self, StoreError> {
        match file {
            None => Ok(Self::Memory(Memory::default())),
            Some(file) => Ok(Self::Embedded(Box::new(Embedded::open(file)?))),
        }
    }

    /// Whether what it keeps outlives the process.
    #[must_use]
    pub fn outlives_us(&self) -> bool {
        match self {
            Self::Memory(_) => false,
            Self::Embedded(_) => true,
        }
    }

    /// All drains, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn drains(&self) -> Result<BTreeMap<String, StoredDrain>, StoreError> {
        match self {
            Self::Memory(Memory(drains)) => Ok(drains.clone()),
            Self::Embedded(embedded) => embedded.drains(),
        }
    }

    /// Does all of `edits` or none. When this returns they are where a crash or a power cut does not reach them.
    ///
    /// # Errors
    /// The store cannot be written. What it keeps is then what it kept before, if it is there at all.
    pub fn write(&mut self, edits: &[Edit]) -> Result<(), StoreError> {
        match self {
            Self::Memory(memory) => memory.write(edits),
            Self::Embedded(embedded) => embedded.write(edits)?,
        }
        Ok(())
    }

    /// Whether the store is still where it was opened; somebody may have removed or replaced its file.
    ///
    /// # Errors
    /// It is not.
    pub fn check(&self) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Embedded(embedded) => embedded.check(),
        }
    }

    /// Begins anew with the same place, after an error.
    ///
    /// # Errors
    /// As for [`Store::open`].
    pub fn reopen(&mut self) -> Result<(), StoreError> {
        match self {
            Self::Memory(_) => Ok(()),
            Self::Embedded(embedded) => embedded.reopen(),
        }
    }
}

impl Memory {
    fn write(&mut self, edits: &[Edit]) {
        for edit in edits {
            match edit {
                Edit::Put(drain) => drop(self.0.insert(drain.target.clone(), drain.clone())),
                Edit::Remove(name) => drop(self.0.remove(name)),
            }
        }
    }
}

impl StoredDrain {
    /// A drain of this fleet, to be kept.
    #[must_use]
    pub fn of(drain: &Drain, fleet: &Fleet) -> Self {
        let Drain {
            target,
            reason,
            author,
            since,
            until,
        } = drain;
        Self {
            target: target.name(fleet),
            reason: reason.clone(),
            author: author.clone(),
            since: *since,
            until: *until,
        }
    }

    /// The drain in this fleet.
    ///
    /// # Errors
    /// The fleet has no such target any more.
    pub fn on(&self, fleet: &Fleet) -> Result<Drain, NoTarget> {
        let Self {
            target,
            reason,
            author,
            since,
            until,
        } = self;
        Ok(Drain {
            target: Target::find(fleet, target)?,
            reason: reason.clone(),
            author: author.clone(),
            since: *since,
            until: *until,
        })
    }

    /// Whether it ended by `at`.
    #[must_use]
    pub fn is_over(&self, at: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= at)
    }
}

/// The version of what is written.
const VERSION: u64 = 1;

/// What is written for one drain.
#[derive(Serialize)]
struct Record<'a> {
    version: u64,
    drain: &'a StoredDrain,
}

/// Why a record cannot be read.
#[derive(Debug)]
enum BadRecord {
    Json(serde_json::Error),
    Version(Option<u64>),
}

impl StoredDrain {
    fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Record {
            version: VERSION,
            drain: self,
        })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut record: serde_json::Value = serde_json::from_slice(bytes).map_err(BadRecord::Json)?;
        let version = record.get("version").and_then(serde_json::Value::as_u64);
        if version != Some(VERSION) {
            return Err(BadRecord::Version(version));
        }
        serde_json::from_value(record["drain"].take()).map_err(BadRecord::Json)
    }
}

impl fmt::Display for BadRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Json(error) => write!(f, "{error}"),
            Self::Version(Some(version)) => write!(f, "it has version {version}, and we know {VERSION}"),
            Self::Version(None) => f.write_str("it has no version"),
        }
    }
}

#[cfg(test)]
mod tests;
