//! What can go wrong with a world.

use std::io;
use std::path::{Path, PathBuf};

/// A world could not be built or used. What was made so far goes with the [`World`](super::World).
#[derive(Debug, thiserror::Error)]
pub enum NetError {
    /// Namespaces need privileges.
    #[error("network namespaces need root: run this as root or with sudo")]
    NotRoot,
    /// The name cannot be part of a file name.
    #[error("`{name}` is no name for a world or node: 1 to {max} of a-z, 0-9, `-` and `_`")]
    BadName {
        /// As given.
        name: String,
        /// Longest allowed.
        max: usize,
    },
    /// Two things of one name.
    #[error("the name `{name}` is busy: another world or node of this process has it")]
    Busy {
        /// As given.
        name: String,
    },
    /// The world was removed (by a signal) while it was in use.
    #[error("world `{world}` was removed while it was in use")]
    Gone {
        /// Its name.
        world: String,
    },
    /// Not an address or prefix.
    #[error("`{value}` is no {wanted}")]
    BadValue {
        /// As given.
        value: String,
        /// What would be right.
        wanted: &'static str,
    },
    /// The program is not installed.
    #[error("{program} was not found: install the Debian package `{package}`")]
    NoProgram {
        /// What was to run.
        program: String,
        /// Who has it.
        package: &'static str,
    },
    /// A command ran too long.
    #[error("{node}: `{command}` did not end within {limit:?}")]
    TooLong {
        /// Where.
        node: String,
        /// What.
        command: String,
        /// How long it had.
        limit: std::time::Duration,
    },
    /// The kernel refused a change of the network.
    #[error("{node}: cannot {what}: {source}")]
    Netlink {
        /// Where.
        node: String,
        /// What was tried.
        what: String,
        /// Its answer.
        source: Box<rtnetlink::Error>,
    },
    /// A system call failed.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// Its answer.
        source: io::Error,
    },
}

impl NetError {
    pub(crate) fn io(what: &'static str, path: impl AsRef<Path>, source: impl Into<io::Error>) -> Self {
        Self::Io {
            what,
            path: path.as_ref().to_owned(),
            source: source.into(),
        }
    }

    /// For creating what must not be there yet.
    pub(crate) fn busy_or_io(name: &str, what: &'static str, path: &Path, source: io::Error) -> Self {
        if source.kind() == io::ErrorKind::AlreadyExists {
            Self::Busy {
                name: name.to_owned(),
            }
        } else {
            Self::io(what, path, source)
        }
    }
}
