//! What is told of a subject.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::snapshot::{Cause, Verdict};
use crate::store::{StoredDrain, StoredForce};

/// What stands of a subject. Where nothing stands there is none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fact {
    /// The verdict on an endpoint.
    Verdict {
        /// Which.
        verdict: Verdict,
        /// What decided it.
        cause: Cause,
    },
    /// The guard holds an endpoint in service.
    Guard {
        /// Its reason with its numbers.
        reason: String,
    },
    /// A drain.
    Drain(StoredDrain),
    /// A forced verdict.
    Force(StoredForce),
    /// A prefix at a site.
    Route {
        /// Where it stands.
        state: RouteState,
        /// Why, where that is not the ordinary.
        why: Option<String>,
    },
}

/// Where a prefix stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteState {
    /// It is announced.
    Announced,
    /// It is announced, and steps down by a drain.
    Draining,
    /// It may be announced by its conditions, and is held back.
    Held,
    /// It is not announced.
    Withdrawn,
}

impl RouteState {
    /// The word that payloads use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Draining => "draining",
            Self::Held => "held",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Fact {
    /// Whether nothing has happened between the two but words.
    #[must_use]
    pub fn is_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Verdict { verdict: a, .. }, Self::Verdict { verdict: b, .. }) => a == b,
            (Self::Guard { .. }, Self::Guard { .. }) => true,
            (Self::Drain(a), Self::Drain(b)) => a == b,
            (Self::Force(a), Self::Force(b)) => a == b,
            (Self::Route { state: a, .. }, Self::Route { state: b, .. }) => a == b,
            (
                Self::Verdict { .. }
                | Self::Guard { .. }
                | Self::Drain(_)
                | Self::Force(_)
                | Self::Route { .. },
                _,
            ) => false,
        }
    }

    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Verdict { verdict, .. } => verdict.as_str(),
            Self::Guard { .. } => "held",
            Self::Drain(_) => "drained",
            Self::Force(force) => force.to.verdict().as_str(),
            Self::Route { state, .. } => state.as_str(),
        }
    }

    /// When it ends by itself.
    pub(super) fn until(&self) -> Option<Timestamp> {
        match self {
            Self::Drain(drain) => drain.until,
            Self::Force(force) => force.until,
            Self::Verdict { .. } | Self::Guard { .. } | Self::Route { .. } => None,
        }
    }
}
