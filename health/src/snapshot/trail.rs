//! Which endpoints the last snapshots changed, so that who saw one of them need not compare all.

use std::collections::BTreeSet;
use std::iter::successors;
use std::sync::Arc;

use steer_topology::EndpointId;

/// Snapshots that are remembered at least. Who is further behind compares everything.
const LENGTH: usize = 32;

/// What the last snapshots changed. Empty: nothing is known, and everything is compared.
///
/// Each shares with the one before it all that is older: to go one on costs the same however much is remembered.
#[derive(Debug, Clone, Default)]
pub struct Trail(Option<Arc<Step>>);

/// From one snapshot to the next.
#[derive(Debug)]
struct Step {
    /// The number of the snapshot before.
    before: u64,
    /// At least all that differ.
    touched: Arc<[EndpointId]>,
    /// How many there are with this one: twice [`LENGTH`] at most.
    depth: usize,
    older: Option<Arc<Step>>,
}

impl Trail {
    /// One snapshot on: `touched` are at least the endpoints that differ from the snapshot with number `before`.
    #[must_use]
    pub fn next(&self, before: u64, touched: impl IntoIterator<Item = EndpointId>) -> Self {
        let is_long = self.0.as_ref().is_some_and(|step| step.depth >= 2 * LENGTH);
        let older = if is_long { self.cut() } else { self.clone() };
        older.then(before, touched.into_iter().collect())
    }

    fn then(self, before: u64, touched: Arc<[EndpointId]>) -> Self {
        Self(Some(Arc::new(Step {
            before,
            touched,
            depth: self.0.as_ref().map_or(0, |step| step.depth) + 1,
            older: self.0,
        })))
    }

    /// The newest [`LENGTH`] steps.
    fn cut(&self) -> Self {
        let newest: Vec<_> = self.steps().take(LENGTH).collect();
        let oldest_first = newest.into_iter().rev();
        oldest_first.fold(Self::default(), |trail, step| {
            trail.then(step.before, Arc::clone(&step.touched))
        })
    }

    /// Newest first.
    fn steps(&self) -> impl Iterator<Item = &Step> {
        successors(self.0.as_deref(), |step| step.older.as_deref())
    }

    /// At least all endpoints that differ from the snapshot with number `before`, in order; `None` where that is not
    /// known.
    pub(crate) fn since(&self, before: u64) -> Option<BTreeSet<EndpointId>> {
        let count = self.steps().position(|step| step.before == before)? + 1;
        let steps = self.steps().take(count);
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
        let end = 7 + 5 * LENGTH as u64;
        let long = (7..end).fold(trail, |trail, before| trail.next(before, ids(&[9])));
        assert_eq!(since(&long, 6), None);
        assert!((end - LENGTH as u64..end).all(|before| since(&long, before) == Some(ids(&[9]))));
        assert!(long.steps().count() <= 2 * LENGTH);
    }
}
