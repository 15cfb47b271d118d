//! `embedded:PATH`: a redb file.

use std::fs::{self, File, Metadata};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use redb::{
    Database, DatabaseError, ReadableDatabase, ReadableTable, StorageError, TableDefinition, TableError,
};

use super::etcd::Past;
use super::{Edit, StoreError, StoredWish, WishKey, WishKind, Wishes};

/// By name of the target, a record in JSON.
type Table = TableDefinition<'static, &'static str, &'static [u8]>;

/// `cluster` and `revision` of the picture that a cache holds.
const PAST: TableDefinition<'static, &'static str, u64> = TableDefinition::new("past");

/// The table of each kind.
fn table(kind: WishKind) -> Table {
    match kind {
        WishKind::Drain => TableDefinition::new("drains"),
        WishKind::Force => TableDefinition::new("forces"),
    }
}

/// The library's own default is 1 GiB; a store holds some kilobytes.
const CACHE_BYTES: usize = 1 << 20;

const REMEDY_CORRUPT: &str = "put a copy back, or move the file away to begin without drains";
const REMEDY_ACCESS: &str = "make its folder writable for steer, or name another file in `[fleet] store`";
const REMEDY_LOCKED: &str = "each process needs a file of its own; stop the other one, or name another file";
const REMEDY_NEWER: &str =
    "run the version of steer that wrote it, or move the file away to begin without drains";
const REMEDY_LOST: &str = "drains that stand go on, but would not survive a restart; it is made anew";

/// An open redb file.
#[derive(Debug)]
pub struct Embedded {
    file: PathBuf,
    /// Absent after a failed [`Embedded::reopen`].
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    database: Database,
    /// Which file it is, whatever is found under its name later.
    identity: (u64, u64),
}

impl Embedded {
    pub(super) fn open(file: &Path) -> Result<Self, StoreError> {
        let mut embedded = Self {
            file: file.to_owned(),
            open: None,
        };
        embedded.reopen()?;
        Ok(embedded)
    }

    pub(super) fn reopen(&mut self) -> Result<(), StoreError> {
        // The lock on the file goes with the database.
        self.open = None;
        self.open = Some(self.open_file()?);
        Ok(())
    }

    fn open_file(&self) -> Result<Open, StoreError> {
        let is_new = !self.file.exists();
        if let Some(folder) = self.folder() {
            fs::create_dir_all(folder).map_err(|error| self.no_access(&error))?;
        }
        let database = self.guarded(|| {
            let mut builder = Database::builder();
            builder
                .set_cache_size(CACHE_BYTES)
                .set_check_integrity_on_open(true);
            builder
                .create(&self.file)
                .map_err(|error| self.database_error(&error))
        })?;
        if is_new {
            // The name of a new file is safe only when its folder is.
            let folder = self.folder().unwrap_or(Path::new("."));
            let synced = File::open(folder).and_then(|folder| folder.sync_all());
            synced.map_err(|error| self.no_access(&error))?;
        }
        let identity = fs::metadata(&self.file).map_err(|error| self.no_access(&error))?;
        let open = Open {
            database,
            identity: identify(&identity),
        };
        self.guarded(|| self.make_tables(&open))?;
        Ok(open)
    }

    fn folder(&self) -> Option<&Path> {
        self.file.parent().filter(|folder| !folder.as_os_str().is_empty())
    }

    fn make_tables(&self, open: &Open) -> Result<(), StoreError> {
        self.commit(open, &[])
    }

    pub(super) fn wishes(&self) -> Result<Wishes, StoreError> {
        let open = self.is_open()?;
        self.guarded(|| {
            let failed = |error: redb::Error| self.storage_error(&error);
            let reading = open.database.begin_read().map_err(|error| failed(error.into()))?;
            let mut wishes = Wishes::new();
            for kind in WishKind::ALL {
                let records = reading.open_table(table(kind));
                let records = records.map_err(|error| failed(error.into()))?;
                for entry in records.iter().map_err(|error| failed(error.into()))? {
                    let (name, record) = entry.map_err(|error| failed(error.into()))?;
                    let wish = self.read(kind, name.value(), record.value())?;
                    wishes.insert(wish.key(), wish);
                }
            }
            Ok(wishes)
        })
    }

    /// Where in the life of a cluster the wishes belong; absent in a file that never saw one.
    pub(super) fn past(&self) -> Result<Option<Past>, StoreError> {
        let open = self.is_open()?;
        self.guarded(|| {
            let failed = |error: redb::Error| self.storage_error(&error);
            let reading = open.database.begin_read().map_err(|error| failed(error.into()))?;
            let past = match reading.open_table(PAST) {
                Ok(past) => past,
                Err(TableError::TableDoesNotExist(_)) => return Ok(None),
                Err(error) => return Err(failed(error.into())),
            };
            let part = |name| match past.get(name) {
                Ok(value) => Ok(value.map(|value| value.value())),
                Err(error) => Err(failed(error.into())),
            };
            let (cluster, revision) = (part("cluster")?, part("revision")?);
            Ok(cluster.zip(revision).map(|(cluster, revision)| Past {
                cluster,
                revision: revision.cast_signed(),
            }))
        })
    }

    /// Keeps these wishes and no others.
    pub(super) fn save(&mut self, wishes: &Wishes, past: Past) -> Result<(), StoreError> {
        let had = self.wishes()?;
        let gone = had.keys().filter(|key| !wishes.contains_key(*key));
        let removals = gone.cloned().map(Edit::Remove);
        let changed = wishes.iter().filter(|(key, wish)| had.get(*key) != Some(*wish));
        let edits: Vec<_> = removals
            .chain(changed.map(|(_, wish)| Edit::Put(wish.clone())))
            .collect();
        let open = self.is_open()?;
        self.guarded(|| self.commit_with(open, &edits, Some(past)))?;
        self.check()
    }

    fn read(&self, kind: WishKind, name: &str, record: &[u8]) -> Result<StoredWish, StoreError> {
        let key = WishKey {
            kind,
            target: name.to_owned(),
        };
        let unreadable = |why: &dyn std::fmt::Display| {
            let what = format!("the {} of {name} cannot be read: {why}", kind.as_str());
            self.error(what, REMEDY_NEWER)
        };
        match StoredWish::from_bytes(record) {
            Ok(wish) if wish.key() == key => Ok(wish),
            Ok(_) => Err(unreadable(&"it is kept under another name")),
            Err(error) => Err(unreadable(&error)),
        }
    }

    pub(super) fn write(&mut self, edits: &[Edit]) -> Result<(), StoreError> {
        let open = self.is_open()?;
        self.guarded(|| self.commit(open, edits))?;
        // A file that was removed takes writes without complaint, and keeps nothing.
        self.check()
    }

    /// One transaction. Its end waits for the disk.
    fn commit(&self, open: &Open, edits: &[Edit]) -> Result<(), StoreError> {
        self.commit_with(open, edits, None)
    }

    fn commit_with(&self, open: &Open, edits: &[Edit], past: Option<Past>) -> Result<(), StoreError> {
        let failed = |error: redb::Error| self.storage_error(&error);
        let writing = open
            .database
            .begin_write()
            .map_err(|error| failed(error.into()))?;
        for kind in WishKind::ALL {
            let mut records = writing
                .open_table(table(kind))
                .map_err(|error| failed(error.into()))?;
            let of_kind = edits.iter().filter(|edit| edit.kind() == kind);
            for edit in of_kind {
                make(&mut records, edit).map_err(|error| failed(error.into()))?;
            }
        }
        if let Some(Past { cluster, revision }) = past {
            let mut table = writing.open_table(PAST).map_err(|error| failed(error.into()))?;
            for (name, value) in [("cluster", cluster), ("revision", revision.cast_unsigned())] {
                table.insert(name, value).map_err(|error| failed(error.into()))?;
            }
        }
        writing.commit().map_err(|error| failed(error.into()))
    }

    pub(super) fn check(&self) -> Result<(), StoreError> {
        let open = self.is_open()?;
        match fs::metadata(&self.file) {
            Ok(now) if identify(&now) == open.identity => Ok(()),
            Ok(_) => Err(self.error("somebody put another file in its place".to_owned(), REMEDY_LOST)),
            Err(error) => Err(self.error(format!("it is gone: {error}"), REMEDY_LOST)),
        }
    }

    fn is_open(&self) -> Result<&Open, StoreError> {
        self.open
            .as_ref()
            .ok_or_else(|| self.error("it is not open".to_owned(), REMEDY_LOST))
    }

    /// The library panics on some files that it finds impossible; to us they are corrupt.
    fn guarded<T>(&self, work: impl FnOnce() -> Result<T, StoreError>) -> Result<T, StoreError> {
        catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_panic| {
            Err(self.error("it is damaged beyond reading".to_owned(), REMEDY_CORRUPT))
        })
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's errors are open-ended"
    )]
    fn database_error(&self, error: &DatabaseError) -> StoreError {
        match error {
            DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
                self.error("another process has it open".to_owned(), REMEDY_LOCKED)
            }
            DatabaseError::UpgradeRequired(_) => self.error(error.to_string(), REMEDY_NEWER),
            DatabaseError::Storage(StorageError::Io(error)) if is_foreign(error) => {
                self.error(format!("it is no store: {error}"), REMEDY_CORRUPT)
            }
            DatabaseError::Storage(StorageError::Io(error)) => self.no_access(error),
            // The library may add reasons; whatever they are, the file is of no use to us.
            other => self.error(other.to_string(), REMEDY_CORRUPT),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the library's errors are open-ended"
    )]
    fn storage_error(&self, error: &redb::Error) -> StoreError {
        match error {
            redb::Error::Io(error) => self.no_access(error),
            redb::Error::Corrupted(_) => self.error(error.to_string(), REMEDY_CORRUPT),
            other => self.error(other.to_string(), REMEDY_ACCESS),
        }
    }

    fn no_access(&self, error: &io::Error) -> StoreError {
        self.error(error.to_string(), REMEDY_ACCESS)
    }

    fn error(&self, what: String, remedy: &'static str) -> StoreError {
        StoreError {
            place: self.file.clone(),
            what,
            remedy,
        }
    }
}

fn make(records: &mut redb::Table<'_, &'static str, &'static [u8]>, edit: &Edit) -> Result<(), StorageError> {
    match edit {
        Edit::Put(wish) => {
            let record = wish.to_bytes().map_err(|error| StorageError::Io(error.into()))?;
            records.insert(wish.key().target.as_str(), record.as_slice())?;
        }
        Edit::Remove(key) => drop(records.remove(key.target.as_str())?),
    }
    Ok(())
}

/// Whether the contents are at fault, and not the disk.
fn is_foreign(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof
    )
}

fn identify(file: &Metadata) -> (u64, u64) {
    (file.dev(), file.ino())
}
