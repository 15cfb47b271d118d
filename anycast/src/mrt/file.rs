//! Files of records: bounded in size, rotated, never left with half a record.
//!
//! `routes.mrt` is written; at its limit it becomes `routes.mrt.1`, which becomes `routes.mrt.2`, and so on; the
//! oldest is deleted. Works for lines of text as well as for MRT.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Octets of one file; a record that is longer has a file of its own.
    pub octets: u64,
    /// Files, the one that is written included; at least 1.
    pub files: u32,
}

impl Default for Limits {
    fn default() -> Self {
        let octets = 64 * 1024 * 1024;
        Self { octets, files: 4 }
    }
}

/// An open file of records. Blocks: it belongs on a thread of its own.
#[derive(Debug)]
pub struct File {
    path: PathBuf,
    limits: Limits,
    open: fs::File,
    /// Octets of whole records in `open`.
    length: u64,
}

impl File {
    /// Begins a file. What stands under `path` already is rotated away: it may end in half a record, where a
    /// process was killed.
    pub fn open(path: &Path, limits: Limits) -> io::Result<Self> {
        let open = fs::OpenOptions::new().create(true).append(true).open(path)?;
        let length = open.metadata()?.len();
        let mut file = Self {
            path: path.to_owned(),
            limits,
            open,
            length,
        };
        if length != 0 {
            file.rotate()?;
        }
        Ok(file)
    }

    /// Writes whole records, all or none of them. After an error the file is as it was before.
    pub fn write(&mut self, records: &[u8]) -> io::Result<()> {
        let more = u64::try_from(records.len()).unwrap_or(u64::MAX);
        if self.length != 0 && self.length.saturating_add(more) > self.limits.octets {
            self.rotate()?;
        }
        if let Err(error) = self.open.write_all(records) {
            self.open.set_len(self.length)?; // half a record would spoil all that follows
            return Err(error);
        }
        self.length += more;
        Ok(())
    }

    fn rotate(&mut self) -> io::Result<()> {
        let kept = self.limits.files.saturating_sub(1);
        for number in (1..kept).rev() {
            rename_if_there(&self.numbered(number), &self.numbered(number + 1))?;
        }
        if kept == 0 {
            fs::remove_file(&self.path)?;
        } else {
            rename_if_there(&self.path, &self.numbered(1))?;
        }
        self.open = fs::OpenOptions::new()
            .create_new(true)
            .append(true)
            .open(&self.path)?;
        self.length = 0;
        Ok(())
    }

    fn numbered(&self, number: u32) -> PathBuf {
        let mut name = OsString::from(&self.path);
        name.push(format!(".{number}"));
        name.into()
    }
}

fn rename_if_there(from: &Path, to: &Path) -> io::Result<()> {
    match fs::rename(from, to) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result,
    }
}
