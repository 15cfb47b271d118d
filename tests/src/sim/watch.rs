//! What may never be, whatever goes wrong. Each rule is written down here a second time, in words and by what was seen
//! to happen, not by the code under test.

pub mod evidence;
pub mod guard;
pub mod names;
pub mod routes;
pub mod together;

use std::fmt;

/// A rule that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Broken {
    /// Which rule.
    pub rule: Rule,
    /// By whom, and how.
    pub how: String,
}

/// The rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rule {
    /// A site takes out no more than `keep_sites`, `needs` and `max_withdrawn` allow.
    Guard,
    /// What all sites take out at once is back as soon as they have heard of each other.
    Together,
    /// No verdict changes without somebody who saw why.
    Evidence,
    /// What is unknown is not treated as down.
    Unknown,
    /// Snapshots are numbered one by one.
    Numbers,
    /// Answers name what the snapshot has in service, and its tables are never far behind.
    Names,
    /// What is announced follows from the snapshot, and the peers have it.
    Routes,
    /// Nothing is announced for a drained site when its ladder is over.
    Drain,
    /// What was drained stays drained: over reloads and restarts, and while the store is lost.
    Kept,
    /// When nothing is wrong any more, all sites come to the same verdicts in time, and the right ones.
    Agreement,
}

impl Rule {
    /// As reports say it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guard => "guard",
            Self::Together => "together",
            Self::Evidence => "evidence",
            Self::Unknown => "unknown",
            Self::Numbers => "numbers",
            Self::Names => "names",
            Self::Routes => "routes",
            Self::Drain => "drain",
            Self::Kept => "kept",
            Self::Agreement => "agreement",
        }
    }

    /// With how it was broken.
    #[must_use]
    pub fn broken(self, how: impl Into<String>) -> Broken {
        Broken {
            rule: self,
            how: how.into(),
        }
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.rule.as_str(), self.how)
    }
}
