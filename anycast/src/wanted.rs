//! What this site wants announced; [`crate::announcer`] decides it.

mod decisions;

use std::net::IpAddr;
use std::sync::Arc;

use steer_topology::{Policy, ToPeer};

pub use decisions::Decisions;

/// What this site wants of every peer.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Number of the newest snapshot when something last changed; 0 before the first.
    pub snapshot: u64,
    /// Every prefix that this site may announce. The next version shares with this one what it does not change.
    pub prefixes: Decisions,
}

/// The decision on one prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Announce it, or not.
    pub announce: bool,
    /// Configured NEXT_HOP.
    pub next_hop: Option<IpAddr>,
    /// Attributes for every peer, with those of a drain or of an expired lease; see [`Policy::over`].
    pub policy: Arc<Policy>,
    /// Peers that get something else.
    pub to: Vec<ToPeer>,
    /// The snapshot that brought this decision, or that was the newest when the clock did; later ones only
    /// confirmed it.
    pub by: u64,
}

impl Decision {
    /// The same, not announced.
    #[must_use]
    pub fn declined(&self) -> Self {
        Self {
            announce: false,
            ..self.clone()
        }
    }
}

impl Wanted {
    /// Wants nothing: for the orderly end.
    #[must_use]
    pub fn nothing(&self) -> Self {
        let prefixes = self
            .prefixes
            .iter()
            .map(|(prefix, decision)| (*prefix, decision.declined()))
            .collect();
        Self {
            snapshot: self.snapshot,
            prefixes,
        }
    }
}
