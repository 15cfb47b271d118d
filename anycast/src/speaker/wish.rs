//! What all peers obey now, and what it changed: told with it, so that no peer looks at what stays.

use std::collections::BTreeSet;
use std::sync::Arc;

use steer_topology::Prefix;

use crate::wanted::Wanted;

/// The newest wish.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    /// Counts up by one; who missed one compares everything.
    pub(super) number: u64,
    pub(super) wanted: Arc<Wanted>,
    /// At least what is decided otherwise than in the wish before; nothing in the first, which is compared whole.
    pub(super) changed: Arc<[Prefix]>,
    /// All that a start wants at first is wanted: the first full round of checks is over, and so is hold-down.
    pub(super) settled: bool,
}

impl Wish {
    /// The wish of a start.
    pub(super) fn first(wanted: Arc<Wanted>, settled: bool) -> Self {
        Self {
            wanted,
            settled,
            ..Self::default()
        }
    }

    /// The next one.
    pub(super) fn next(&self, wanted: Arc<Wanted>, changed: BTreeSet<Prefix>, settled: bool) -> Self {
        Self {
            number: self.number + 1,
            wanted,
            changed: changed.into_iter().collect(),
            settled,
        }
    }
}
