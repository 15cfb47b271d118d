//! What happened to a call, and what may follow from it. No socket, no task, no clock.
//!
//! ```text
//! News (written, GOAWAY, reset, headers, trailers ..) ─► Stage ─► Ended(Fate)      attempt.rs, the one table
//! Fate x Semantics x pushback x deadline x budget     ─► Again(after) | Stop(why)  retry.rs
//! all attempts of one call, retries and hedges        ─► Start | Cancel | Finish   call.rs
//! ```
//!
//! Sources: gRPC over HTTP/2 (`PROTOCOL-HTTP2.md`), gRFC A6 (client retries), RFC 9113 §6.8 and §8.7.

mod attempt;
mod backoff;
mod budget;
mod call;
mod deadline;
mod pushback;
mod retry;
mod semantics;
mod status;

use std::fmt;
use std::str::FromStr;

pub use attempt::{News, Stage};
pub use backoff::{Backoff, InvalidBackoff};
pub use budget::{Budget, InvalidBudget};
pub use call::{Action, Call, End, Hedge, How, Policy, Report};
pub use deadline::{Deadline, InvalidTimeout, TIMEOUT_HEADER, format_timeout, parse_timeout};
pub use pushback::{PUSHBACK_HEADER, Pushback};
pub use retry::{ATTEMPTS_MAX, Decision, Standing, TRANSPARENT_MAX, Why, decide};
pub use semantics::{IdempotencyLevel, InvalidSemantics, Semantics};
pub use status::{Code, Codes};

/// The metadata key in which an edge tells its client the fate of a call that it gave up.
pub const FATE_HEADER: &str = "steer-fate";

/// What is known of the effect of a call. The order is by how much may have happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fate {
    /// No octet of it was put on a stream.
    NotSent,
    /// The peer says that no application has seen it: GOAWAY with a smaller last stream (RFC 9113 §6.8), or
    /// REFUSED_STREAM (§8.7).
    Unprocessed,
    /// It may have been done, in part or in whole, or not at all.
    Ambiguous,
    /// The application has answered, and this is the answer.
    Committed,
}

impl Fate {
    /// All, by how much may have happened.
    pub const ALL: [Self; 4] = [Self::NotSent, Self::Unprocessed, Self::Ambiguous, Self::Committed];

    /// As in metadata and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NotSent => "not-sent",
            Self::Unprocessed => "unprocessed",
            Self::Ambiguous => "ambiguous",
            Self::Committed => "committed",
        }
    }

    /// Whether no application can have seen it.
    #[must_use]
    pub const fn is_harmless(self) -> bool {
        match self {
            Self::NotSent | Self::Unprocessed => true,
            Self::Ambiguous | Self::Committed => false,
        }
    }
}

impl fmt::Display for Fate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no fate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no fate; there are not-sent, unprocessed, ambiguous and committed")]
pub struct InvalidFate(pub String);

impl FromStr for Fate {
    type Err = InvalidFate;

    fn from_str(text: &str) -> Result<Self, InvalidFate> {
        let fate = Self::ALL.into_iter().find(|fate| fate.name() == text);
        fate.ok_or_else(|| InvalidFate(text.to_owned()))
    }
}

#[cfg(test)]
mod tests;
