//! A file that was read, and whether it has changed since.

use std::fs::{self, File};
use std::hash::{DefaultHasher, Hasher};
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// Clocks of file systems stand still for so long: a file this young may change again under the same time stamp.
const TICK: Duration = Duration::from_secs(2);

/// What one file was when it was read.
#[derive(Debug)]
pub(crate) struct Source {
    path: PathBuf,
    length: u64,
    modified: Option<SystemTime>,
    /// Old enough when it was read that another content has another time stamp.
    is_settled: bool,
    /// Of the content. Against mistakes, not against malice.
    hash: u64,
}

impl Source {
    /// Reads a file, and remembers what it was.
    pub(super) fn read(path: &Path) -> io::Result<(Vec<u8>, Self)> {
        let mut file = File::open(path)?;
        // Before the content: what is written between the two is seen as a change later.
        let metadata = file.metadata()?;
        let mut octets = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        file.read_to_end(&mut octets)?;
        let modified = metadata.modified().ok();
        let age = modified.and_then(|modified| SystemTime::now().duration_since(modified).ok());
        let source = Self {
            path: path.to_owned(),
            length: metadata.len(),
            modified,
            is_settled: age.is_some_and(|age| age > TICK),
            hash: hash(&octets),
        };
        Ok((octets, source))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the file still is what was read. Its content is looked at only where time and length leave that open.
    pub(crate) fn is_unchanged(&self) -> bool {
        let Ok(metadata) = fs::metadata(&self.path) else {
            return false;
        };
        if metadata.len() != self.length {
            return false;
        }
        let is_same_time = self.modified.is_some() && metadata.modified().ok() == self.modified;
        if is_same_time && self.is_settled {
            return true;
        }
        fs::read(&self.path).is_ok_and(|octets| hash(&octets) == self.hash)
    }
}

fn hash(octets: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(octets);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_changed_when_its_content_has() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zone");
        fs::write(&path, "one").unwrap();
        let (octets, source) = Source::read(&path).unwrap();
        assert_eq!(octets, b"one");
        assert!(source.is_unchanged());
        // The same length, and perhaps the same time stamp.
        fs::write(&path, "two").unwrap();
        assert!(!source.is_unchanged());
        fs::write(&path, "one").unwrap();
        assert!(source.is_unchanged(), "touched is not changed");
        fs::remove_file(&path).unwrap();
        assert!(!source.is_unchanged());
    }

    #[test]
    fn an_old_file_is_known_by_its_time_and_length() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.zone");
        fs::write(&path, "one").unwrap();
        let long_ago = SystemTime::now() - Duration::from_secs(60);
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        let (_, source) = Source::read(&path).unwrap();
        assert!(source.is_settled && source.is_unchanged());
        fs::write(&path, "two").unwrap();
        assert!(!source.is_unchanged());
    }
}
