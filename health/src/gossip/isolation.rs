//! Is it us? Reference targets (`[fleet] gossip` `reference`): endpoints that are not ours, such as an upstream's resolvers. Who
//! sees all of them down, and something else too, is more likely cut off than right.
//!
//! Such a site counts a quarter among the others (`agreement`), and what its own check says of its own endpoints from then on is held
//! as unknown (`driver::peers`). Targets that fail while all else is fine mean nothing.

use steer_topology::{EndpointId, Fleet};

use crate::snapshot::Verdict;

/// Why a verdict is held.
pub const REASON: &str = "isolated: reference targets fail too";

/// The reference targets; none where the file names none.
#[must_use]
pub fn references(fleet: &Fleet) -> &[EndpointId] {
    let pool = fleet.gossip.as_ref().and_then(|gossip| gossip.reference);
    pool.map_or(&[], |pool| &fleet.pool(pool).endpoints)
}

/// Whether there are targets and each is down.
#[must_use]
pub fn all_fail(verdicts: impl IntoIterator<Item = Option<Verdict>>) -> bool {
    let mut verdicts = verdicts.into_iter().peekable();
    verdicts.peek().is_some() && verdicts.all(|verdict| verdict == Some(Verdict::Down))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_targets_that_are_all_known_to_be_down_say_anything() {
        let (up, down, unknown) = (Some(Verdict::Up), Some(Verdict::Down), Some(Verdict::Unknown));
        assert!(all_fail([down]) && all_fail([down, down]));
        for verdicts in [[down, up], [down, unknown], [down, None], [up, up]] {
            assert!(!all_fail(verdicts), "{verdicts:?}");
        }
        assert!(!all_fail([]), "no targets");
    }
}
