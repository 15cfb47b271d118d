//! A verdict that an operator forces.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::Target;
use crate::snapshot::Verdict;

/// An operator's word in the place of the checks'. Of what is said of an endpoint and of its site, down counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Force {
    /// What is forced.
    pub target: Target,
    /// Which verdict.
    pub to: Forced,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
    /// Who asked for it.
    pub author: String,
    /// When it began.
    pub since: Timestamp,
    /// When it ends by itself; absent: when somebody takes it back.
    pub until: Option<Timestamp>,
}

/// The verdicts that can be forced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Forced {
    /// It serves, whatever the checks say.
    Up,
    /// It does not.
    Down,
}

impl Forced {
    /// The verdict that it stands for.
    #[must_use]
    pub fn verdict(self) -> Verdict {
        match self {
            Self::Up => Verdict::Up,
            Self::Down => Verdict::Down,
        }
    }
}

impl fmt::Display for Forced {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.verdict().as_str())
    }
}

/// "forced up: the probe is wrong, by ana, until 2026-01-01T14:00:00Z"
impl fmt::Display for Force {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "forced {}: ", self.to)?;
        if !self.reason.is_empty() {
            write!(f, "{}, ", self.reason)?;
        }
        write!(f, "by {}, ", self.author)?;
        match self.until {
            Some(until) => write!(f, "until {until:.0}"),
            None => f.write_str("until unforced"),
        }
    }
}
