//! What happened, for people, and its digest, by which two runs are compared.

use std::collections::VecDeque;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

/// Lines that a failing run shows.
const SHOWN: usize = 120;

/// The last lines, and a digest of all events.
#[derive(Debug)]
pub struct Trace {
    lines: VecDeque<String>,
    digest: DefaultHasher,
    /// Every line is printed as it comes.
    pub aloud: bool,
}

impl Trace {
    /// Nothing happened yet.
    #[must_use]
    pub fn new(aloud: bool) -> Self {
        Self {
            lines: VecDeque::new(),
            digest: DefaultHasher::new(), // with fixed keys: the same for the same events
            aloud,
        }
    }

    /// Something worth a line.
    pub fn say(&mut self, at: Duration, what: fmt::Arguments<'_>) {
        let line = format!("{:>10.3} s  {what}", at.as_secs_f64());
        line.hash(&mut self.digest);
        if self.aloud {
            println!("{line}");
        }
        if self.lines.len() == SHOWN {
            self.lines.pop_front();
        }
        self.lines.push_back(line);
    }

    /// Something that only counts for the digest.
    pub fn note(&mut self, what: impl Hash) {
        what.hash(&mut self.digest);
    }

    /// Of all that happened.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest.clone().finish()
    }

    /// The last lines.
    #[must_use]
    pub fn last(&self) -> Vec<String> {
        self.lines.iter().cloned().collect()
    }
}
