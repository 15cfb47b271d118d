//! Where the operator's wishes outlive the process: a file, or nothing but memory.
//!
//! ```text
//! start:  Store ─► wishes ─► Judge
//! later:  snapshot's wishes ─► Keeper: compare, correct ─► Store
//! ```
//!
//! A store keeps wishes by the name of their target, so that what is kept does not depend on the order of a file.
//! What it keeps is JSON with a version: a store that a newer `steer` wrote is refused, not guessed at.
//!
//! A cluster ([`etcd`]) keeps the wishes of the whole fleet, and there it is the other way round: what is in the store
//! is what the judges obey.
//!
//! At start a store that cannot be read is an error: to go on without it would send clients to a drained site. A
//! store that is lost later changes nothing that is known; it is said, and tried again (see [`keeper`]).

mod embedded;
pub mod etcd;
pub mod keeper;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steer_topology::Fleet;

use crate::operator::{Drain, Force, Forced, NoTarget, Target};
use embedded::Embedded;

/// One of the places where wishes are kept for this process alone.
#[derive(Debug)]
pub enum Store {
    /// They end with the process.
    Memory(Memory),
    /// `embedded:PATH`: one file, which one process at a time has open.
    Embedded(Box<Embedded>),
}

/// All that is kept.
pub type Wishes = BTreeMap<WishKey, StoredWish>;

/// A wish as it is kept: by name, for no id outlives a reload.
///
/// In JSON: `{"drain": {"target": "fra", "reason": "", "author": "ana", "since": "2026-01-01T12:00:00Z", "until": null}}`,
/// or `{"force": {.., "to": "up"}}`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoredWish {
    /// Nobody new is sent there.
    Drain(StoredDrain),
    /// A verdict in the place of the checks'.
    Force(StoredForce),
}

/// Under what a wish is kept. There is one of each kind for a target.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct WishKey {
    /// Drained or forced.
    pub kind: WishKind,
    /// [`Target::name`]
    pub target: String,
}

/// The kinds of wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WishKind {
    /// [`Drain`]
    Drain,
    /// [`Force`]
    Force,
}

/// A drain as it is kept.
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

/// A forced verdict as it is kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredForce {
    /// [`Target::name`]
    pub target: String,
    /// See [`Force::to`].
    pub to: Forced,
    /// See [`Force::reason`].
    pub reason: String,
    /// See [`Force::author`].
    pub author: String,
    /// See [`Force::since`].
    pub since: Timestamp,
    /// See [`Force::until`].
    pub until: Option<Timestamp>,
}

/// One change of what is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Edit {
    /// Keep this, in place of what was kept under its key.
    Put(StoredWish),
    /// Keep nothing under this key.
    Remove(WishKey),
}

/// Keeps nothing beyond the process.
#[derive(Debug, Default)]
pub struct Memory(Wishes);

/// A store failed. Says which file, what is wrong with it and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store {}: {what}; {remedy}", .place.display())]
pub struct StoreError {
    /// The file, or the cluster as it is written.
    pub place: PathBuf,
    /// What is wrong.
    pub what: String,
    /// What to do.
    pub remedy: &'static str,
}

impl Store {
    /// A store of this process: the file, made with its folder where it is missing, or memory.
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

    /// All that it keeps.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn wishes(&self) -> Result<Wishes, StoreError> {
        match self {
            Self::Memory(Memory(wishes)) => Ok(wishes.clone()),
            Self::Embedded(embedded) => embedded.wishes(),
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
        edits.iter().for_each(|edit| edit.apply(&mut self.0));
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
}

impl StoredForce {
    /// A forced verdict of this fleet, to be kept.
    #[must_use]
    pub fn of(force: &Force, fleet: &Fleet) -> Self {
        let Force {
            target,
            to,
            reason,
            author,
            since,
            until,
        } = force;
        Self {
            target: target.name(fleet),
            to: *to,
            reason: reason.clone(),
            author: author.clone(),
            since: *since,
            until: *until,
        }
    }

    /// The forced verdict in this fleet.
    ///
    /// # Errors
    /// The fleet has no such target any more.
    pub fn on(&self, fleet: &Fleet) -> Result<Force, NoTarget> {
        let Self {
            target,
            to,
            reason,
            author,
            since,
            until,
        } = self;
        Ok(Force {
            target: Target::find(fleet, target)?,
            to: *to,
            reason: reason.clone(),
            author: author.clone(),
            since: *since,
            until: *until,
        })
    }
}

impl WishKey {
    /// Of the drain of a target.
    #[must_use]
    pub fn drain(target: impl Into<String>) -> Self {
        Self {
            kind: WishKind::Drain,
            target: target.into(),
        }
    }

    /// Of the forced verdict of a target.
    #[must_use]
    pub fn force(target: impl Into<String>) -> Self {
        Self {
            kind: WishKind::Force,
            target: target.into(),
        }
    }
}

impl WishKind {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Drain, Self::Force];

    /// The word for it in keys and logs.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Drain => "drain",
            Self::Force => "force",
        }
    }
}

impl StoredWish {
    /// Under what it is kept.
    #[must_use]
    pub fn key(&self) -> WishKey {
        match self {
            Self::Drain(drain) => WishKey::drain(&drain.target),
            Self::Force(force) => WishKey::force(&force.target),
        }
    }

    /// When it ends by itself.
    #[must_use]
    pub fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Drain(drain) => drain.until,
            Self::Force(force) => force.until,
        }
    }

    /// Whether it ended by `at`.
    #[must_use]
    pub fn is_over(&self, at: Timestamp) -> bool {
        self.until().is_some_and(|until| until <= at)
    }
}

/// What of `wishes` stands in a fleet by `at`, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Standing {
    pub(crate) drains: Vec<Drain>,
    pub(crate) forces: Vec<Force>,
    /// Kept, but this fleet has no such target.
    pub(crate) orphans: Vec<StoredWish>,
}

impl Standing {
    pub(crate) fn of(wishes: &Wishes, fleet: &Fleet, at: Timestamp) -> Self {
        let mut standing = Self::default();
        for wish in wishes.values().filter(|wish| !wish.is_over(at)) {
            let found = match wish {
                StoredWish::Drain(drain) => drain.on(fleet).map(|drain| standing.drains.push(drain)),
                StoredWish::Force(force) => force.on(fleet).map(|force| standing.forces.push(force)),
            };
            if found.is_err() {
                standing.orphans.push(wish.clone());
            }
        }
        standing.drains.sort_by_key(|drain| drain.since);
        standing.forces.sort_by_key(|force| force.since);
        standing
    }
}

impl Edit {
    pub(crate) fn kind(&self) -> WishKind {
        match self {
            Self::Put(StoredWish::Drain(_)) => WishKind::Drain,
            Self::Put(StoredWish::Force(_)) => WishKind::Force,
            Self::Remove(key) => key.kind,
        }
    }

    /// Makes the change in memory.
    pub(crate) fn apply(&self, wishes: &mut Wishes) {
        match self {
            Self::Put(wish) => drop(wishes.insert(wish.key(), wish.clone())),
            Self::Remove(key) => drop(wishes.remove(key)),
        }
    }
}

/// The version of what is written.
const VERSION: u64 = 1;

/// What is written for one wish.
#[derive(Serialize)]
struct Record<'a> {
    version: u64,
    #[serde(flatten)]
    wish: &'a StoredWish,
}

/// Why a record cannot be read.
#[derive(Debug)]
enum BadRecord {
    Json(serde_json::Error),
    Version(Option<u64>),
}

impl StoredWish {
    fn to_bytes(&self) -> serde_json::Result<Vec<u8>> {
        serde_json::to_vec(&Record {
            version: VERSION,
            wish: self,
        })
    }

    fn from_bytes(bytes: &[u8]) -> Result<Self, BadRecord> {
        let mut record: serde_json::Value = serde_json::from_slice(bytes).map_err(BadRecord::Json)?;
        let fields = record.as_object_mut();
        let version = fields.and_then(|fields| fields.remove("version"));
        let version = version.as_ref().and_then(serde_json::Value::as_u64);
        if version != Some(VERSION) {
            return Err(BadRecord::Version(version));
        }
        serde_json::from_value(record).map_err(BadRecord::Json)
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
pub(crate) mod tests;
