//! One mistake in what the operator wrote: where it stands, what it says, what would be right.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Serialize;

/// One mistake in a file of the operator's. Nothing half-loaded runs: one fault refuses the whole load.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Fault {
    /// The file as the operator named it.
    pub file: PathBuf,
    /// Line and column, both from 1; absent where the whole file is at fault (missing, unreadable).
    pub place: Option<Place>,
    /// What is wrong, with the value that is wrong.
    pub message: String,
    /// What would be right.
    pub remedy: String,
}

/// A place in a text file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// Byte range in the file, for an excerpt.
    #[serde(skip)]
    pub span: Range<usize>,
}

impl Place {
    /// Turns a byte range of `text` into a place.
    #[must_use]
    pub fn of(text: &str, span: Range<usize>) -> Self {
        let start = text.floor_char_boundary(span.start);
        let before = &text[..start];
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().map_or(0, |l| l.chars().count()) + 1;
        Self { line, column, span }
    }
}

impl Fault {
    /// A fault of a whole file.
    pub fn of_file(file: &Path, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            place: None,
            message: message.into(),
            remedy: remedy.into(),
        }
    }

    /// A fault at a place.
    pub fn at(file: &Path, place: Place, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self {
            file: file.to_owned(),
            place: Some(place),
            message: message.into(),
            remedy: remedy.into(),
        }
    }
}

/// `steer.toml:12:9: message; remedy`
impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(Place { line, column, .. }) = &self.place {
            write!(f, "{line}:{column}:")?;
        }
        write!(f, " {}; {}", self.message, self.remedy)
    }
}

/// All the faults of one load, in file order. Never empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, thiserror::Error)]
#[serde(transparent)]
pub struct Faults(pub Vec<Fault>);

impl fmt::Display for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, fault) in self.0.iter().enumerate() {
            if n > 0 {
                writeln!(f)?;
            }
            write!(f, "{fault}")?;
        }
        Ok(())
    }
}

impl From<Fault> for Faults {
    fn from(fault: Fault) -> Self {
        Self(vec![fault])
    }
}
