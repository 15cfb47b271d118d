//! Which endpoints the last snapshots changed, so that who saw one of them need not compare all.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use steer_topology::EndpointId;

/// Snapshots that are remembered. Who is further behind compares everything.
const LENGTH: usize = 32;

/// What the last snapshots changed. Empty: nothing is known, and everything is compared.
#[derive(Debug, Clone, Default)]
pub struct Trail(VecDeque<Step>);

/// From one snapshot to the next.
#[derive(Debug, Clone)]
struct Step {
    /// The number of the snapshot before.
    before: u64,
    /// At least all that differ.
    touched: Arc<[EndpointId]>,
}

impl Trail {
    /// One snapshot on: `touched` are at least the endpoints that differ from the snapshot with number `before`.
    #[must_use]
    pub fn next(&self, before: u64, touched: impl IntoIterator<Item = EndpointId>) -> Self {
        let mut steps = self.0.clone();
        if steps.len() == LENGTH {
            steps.pop_front();
        }
        steps.push_back(Step {
            before,
            touched: touched.into_iter().collect(),
        });
        Self(steps)
    }

    /// At least all endpoints that differ from the snapshot with number `before`, in order; `None` where that is not
    /// known.
    pub(crate) fn since(&self, before: u64) -> Option<BTreeSet<EndpointId>> {
        let first = self.0.iter().position(|step| step.before == before)?;
        let steps = self.0.iter().skip(first);
        Some(steps.flat_map(|step| step.touched.iter().copied()).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_saw_one_of_the_last_snapshots_is_told_what_came_after_it() {
        let ids = |ids: &[u32]| ids.iter().copied().map(EndpointId).collect::<Vec<_>>();
        let since = |trail: &Trail, before| Some(trail.since(before)?.into_iter().collect::<Vec<_>>());
        let trail = Trail::default()
            .next(4, ids(&[7, 1]))
            .next(5, ids(&[]))
            .next(6, ids(&[1, 2]));
        assert_eq!(since(&trail, 4), Some(ids(&[1, 2, 7])));
        assert_eq!(since(&trail, 5), Some(ids(&[1, 2])));
        assert_eq!(since(&trail, 3), None);
        assert_eq!(since(&trail, 7), None, "nothing is known of what comes");
        let long = (7..7 + LENGTH as u64).fold(trail, |trail, before| trail.next(before, ids(&[9])));
        assert_eq!((since(&long, 6), since(&long, 7)), (None, Some(ids(&[9]))));
    }
}
