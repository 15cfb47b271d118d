//! How often a method may be done.

use std::fmt;
use std::str::FromStr;

use super::Fate;

/// What a method promises when a call is sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Semantics {
    /// Done once or not at all: sent again only where nobody can have seen it.
    AtMostOnce,
    /// Twice is as good as once.
    AtLeastOnce,
    /// Effectively once: the application keeps the key of each call with its effect.
    Keyed,
}

/// `google.protobuf.MethodOptions.IdempotencyLevel` (`descriptor.proto`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "the names of descriptor.proto")]
pub enum IdempotencyLevel {
    IdempotencyUnknown,
    NoSideEffects,
    Idempotent,
}

impl Semantics {
    /// Whether a call with this fate may be sent again.
    #[must_use]
    pub const fn allows(self, fate: Fate) -> bool {
        match (self, fate) {
            (Self::AtMostOnce | Self::AtLeastOnce | Self::Keyed, Fate::NotSent | Fate::Unprocessed) => true,
            (Self::AtMostOnce, Fate::Ambiguous) => false,
            (Self::AtLeastOnce | Self::Keyed, Fate::Ambiguous) => true,
            // There is an answer, and it is passed on.
            (Self::AtMostOnce | Self::AtLeastOnce | Self::Keyed, Fate::Committed) => false,
        }
    }

    /// Whether two attempts may be under way at the same time.
    #[must_use]
    pub const fn allows_hedging(self) -> bool {
        match self {
            Self::AtMostOnce => false,
            Self::AtLeastOnce | Self::Keyed => true,
        }
    }

    /// As in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AtMostOnce => "at-most-once",
            Self::AtLeastOnce => "at-least-once",
            Self::Keyed => "keyed",
        }
    }
}

impl From<IdempotencyLevel> for Semantics {
    /// What a method says of itself. Who says nothing is done once at most.
    fn from(level: IdempotencyLevel) -> Self {
        match level {
            IdempotencyLevel::IdempotencyUnknown => Self::AtMostOnce,
            IdempotencyLevel::NoSideEffects | IdempotencyLevel::Idempotent => Self::AtLeastOnce,
        }
    }
}

impl fmt::Display for Semantics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that names no semantics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no semantics; there are at-most-once, at-least-once and keyed")]
pub struct InvalidSemantics(pub String);

impl FromStr for Semantics {
    type Err = InvalidSemantics;

    fn from_str(text: &str) -> Result<Self, InvalidSemantics> {
        let all = [Self::AtMostOnce, Self::AtLeastOnce, Self::Keyed];
        let found = all.into_iter().find(|semantics| semantics.name() == text);
        found.ok_or_else(|| InvalidSemantics(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use Semantics::{AtLeastOnce, AtMostOnce, Keyed};

    #[test]
    fn what_may_be_sent_again_is_as_specified() {
        let rows = [
            (AtMostOnce, [true, true, false, false]),
            (AtLeastOnce, [true, true, true, false]),
            (Keyed, [true, true, true, false]),
        ];
        for (semantics, allowed) in rows {
            for (fate, allowed) in Fate::ALL.into_iter().zip(allowed) {
                assert_eq!(semantics.allows(fate), allowed, "{semantics} {fate}");
            }
            assert_eq!(semantics.to_string().parse(), Ok(semantics));
        }
        assert!("exactly-once".parse::<Semantics>().is_err());
    }

    #[test]
    fn who_says_nothing_is_done_once_at_most() {
        assert_eq!(Semantics::from(IdempotencyLevel::IdempotencyUnknown), AtMostOnce);
        assert_eq!(Semantics::from(IdempotencyLevel::NoSideEffects), AtLeastOnce);
        assert_eq!(Semantics::from(IdempotencyLevel::Idempotent), AtLeastOnce);
    }
}
