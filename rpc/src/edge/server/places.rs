//! How many there are of what a client can make, and may be.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Counts who is there. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(Arc<AtomicUsize>);

/// One who is there, until it is dropped.
#[derive(Debug)]
pub(super) struct Place(Places);

impl Places {
    /// A place, unless there are as many as may be. The bound may change from one to the next.
    pub(super) fn take(&self, most: usize) -> Option<Place> {
        let one_more = |taken| (taken < most).then_some(taken + 1);
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.is_ok().then(|| Place(self.clone()))
    }

    pub(super) fn taken(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_are_as_many_as_may_be_and_one_that_goes_makes_room() {
        let places = Places::default();
        let first = places.take(2);
        let second = places.take(2);
        assert!(first.is_some() && second.is_some() && places.take(2).is_none());
        assert!(places.take(3).is_some(), "a reload allows more");
        drop(first);
        assert!(
            places.take(1).is_none(),
            "a reload allows fewer, and who is there stays"
        );
        assert!(places.take(2).is_some());
        drop(second);
        assert_eq!(places.taken(), 0);
    }
}
