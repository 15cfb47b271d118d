//! The claims of one process, or of one model of a database: who holds which key, until when. Sans-IO.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use super::Epoch;
use super::id::Place;

/// Who holds what.
#[derive(Debug)]
pub struct Claims {
    lease: Duration,
    next: Epoch,
    held: BTreeMap<Place, Entry>,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    epoch: Epoch,
    until: SystemTime,
}

/// A place that is held.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    pub(super) place: Place,
    pub(super) epoch: Epoch,
}

impl Held {
    /// Its number.
    #[must_use]
    pub const fn epoch(&self) -> Epoch {
        self.epoch
    }
}

impl Claims {
    /// None yet. The first has this epoch.
    #[must_use]
    pub fn new(lease: Duration, first: Epoch) -> Self {
        Self {
            lease,
            next: first,
            held: BTreeMap::new(),
        }
    }

    /// Takes a place, unless another holds it and its lease has not ended.
    pub(super) fn take(&mut self, place: Place, now: SystemTime) -> Option<Held> {
        if self.held.get(&place).is_some_and(|entry| now < entry.until) {
            return None;
        }
        let epoch = self.next;
        self.next = Epoch(epoch.0.saturating_add(1));
        let until = now + self.lease;
        self.held.insert(place.clone(), Entry { epoch, until });
        Some(Held { place, epoch })
    }

    /// Whether a claim still stands. One whose lease has ended stands until another takes its place: its holder is late,
    /// and nobody was faster.
    pub(super) fn stands(&self, held: &Held) -> bool {
        self.held
            .get(&held.place)
            .is_some_and(|entry| entry.epoch == held.epoch)
    }

    /// Ends a claim; one that stands no longer changes nothing.
    pub(super) fn end(&mut self, held: &Held) {
        if self.stands(held) {
            self.held.remove(&held.place);
        }
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEASE: Duration = Duration::from_secs(10);

    fn place(key: &str) -> Place {
        ("me/x".to_owned(), key.to_owned())
    }

    #[test]
    fn a_place_is_taken_once_and_again_after_its_lease_with_a_higher_epoch() {
        let now = SystemTime::UNIX_EPOCH;
        let mut claims = Claims::new(LEASE, Epoch(5));
        let first = claims.take(place("a"), now).unwrap();
        assert_eq!(claims.take(place("a"), now + LEASE / 2), None);
        assert!(claims.stands(&first));
        let late = now + LEASE;
        assert!(claims.stands(&first), "nobody was faster");
        let second = claims.take(place("a"), late).unwrap();
        assert!(second.epoch > first.epoch);
        assert!(!claims.stands(&first));
        assert!(claims.stands(&second));
    }

    #[test]
    fn who_is_fenced_cannot_end_the_claim_of_another() {
        let now = SystemTime::UNIX_EPOCH;
        let mut claims = Claims::new(LEASE, Epoch(1));
        let first = claims.take(place("a"), now).unwrap();
        let second = claims.take(place("a"), now + LEASE).unwrap();
        claims.end(&first);
        assert!(claims.stands(&second));
        claims.end(&second);
        assert!(claims.is_empty());
        assert!(claims.take(place("a"), now).is_some());
    }

    #[test]
    fn places_do_not_meet() {
        let now = SystemTime::UNIX_EPOCH;
        let mut claims = Claims::new(LEASE, Epoch(1));
        let a = claims.take(place("a"), now).unwrap();
        let b = claims.take(place("b"), now).unwrap();
        assert_ne!(a.epoch, b.epoch);
        assert_eq!(claims.len(), 2);
    }
}
