//! Commands that talk to a running steer.

use std::net::SocketAddr;

use crate::{Finished, Steer};

/// The admin address of a running steer.
#[derive(Debug, Clone, Copy)]
pub struct Admin(pub SocketAddr);

impl Admin {
    /// `steer ARGS --admin ADDRESS`, in a folder of its own so that no log is overwritten.
    ///
    /// # Panics
    /// When it does not end in time.
    #[must_use]
    pub fn run(self, args: &[&str]) -> Finished {
        let folder = tempfile::tempdir().expect("a folder");
        let admin = self.0.to_string();
        Steer::finish(folder.path(), &[args, &["--admin", &admin]].concat())
    }

    /// What a command printed that succeeds without a word on stderr.
    ///
    /// # Panics
    /// When it does not.
    pub fn done(self, args: &[&str]) -> String {
        let finished = self.run(args);
        assert_eq!(finished.status.code(), Some(0), "{args:?}: {}", finished.stderr);
        assert_eq!(finished.stderr, "", "{args:?}");
        finished.stdout
    }

    /// The same as JSON.
    ///
    /// # Panics
    /// When it is none.
    #[must_use]
    pub fn json(self, args: &[&str]) -> serde_json::Value {
        let text = self.done(&[args, &["--json"]].concat());
        serde_json::from_str(&text).expect("JSON")
    }

    /// A command that must fail with this exit code and every one of `parts` on stderr.
    ///
    /// # Panics
    /// When it does not.
    pub fn refused(self, args: &[&str], code: i32, parts: &[&str]) {
        let finished = self.run(args);
        assert_eq!(
            finished.status.code(),
            Some(code),
            "{args:?}: {}",
            finished.stderr
        );
        assert_eq!(finished.stdout, "", "{args:?}");
        for part in parts {
            assert!(
                finished.stderr.contains(part),
                "no {part:?} in {}",
                finished.stderr
            );
        }
    }
}
