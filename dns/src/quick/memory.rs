//! What the full path said, by name and type. A thread has a memory of its own, so there is nothing to lock.
//!
//! Bounds: [`SETS`] times [`WAYS`] entries, and [`MAX_OCTETS`] in all of them. A name is kept when it is asked for a
//! second time before [`WAYS`] others of its set: a flood of names that nobody asks for twice drives nothing out. What is kept is good as long as the zones are the same.

use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, Weak};

use hickory_proto::op::ResponseCode;

use crate::rrl::Class;
use crate::zones::Zones;

/// Places where a name may be.
const WAYS: usize = 4;
/// A power of two.
const SETS: usize = 8 * 1024;
/// Octets of all entries together.
const MAX_OCTETS: usize = 32 * 1024 * 1024;
/// Octets of a reply that is kept: what fits into a datagram.
pub(super) const LONGEST: usize = 4096;

/// What was said to one name and type.
#[derive(Debug)]
pub(super) struct Kept {
    hash: u64,
    /// In lower case.
    name: Box<[u8]>,
    rtype: u16,
    pub(super) said: Said,
}

#[derive(Debug)]
pub(super) enum Said {
    /// The same to everybody.
    Fixed(Fixed),
    /// What the chain of this owner gives.
    Steered(Box<[u8]>),
    /// The quick path has no use for it.
    Other,
}

/// A reply without header, question and OPT record.
#[derive(Debug)]
pub(super) struct Fixed {
    pub(super) is_authoritative: bool,
    pub(super) rcode: ResponseCode,
    /// Answers, authorities, additionals.
    pub(super) counts: [u16; 3],
    pub(super) class: Class,
    /// Whether it is the same for a name in another case.
    pub(super) any_case: bool,
    pub(super) body: Box<[u8]>,
}

#[derive(Debug, Default)]
struct Set {
    kept: [Option<Kept>; WAYS],
    /// Hashes of the last names that were not there.
    missed: [u64; WAYS],
    /// The places of `kept` and of `missed` to be given away next.
    next: usize,
    next_missed: usize,
}

/// One thread's memory.
#[derive(Debug)]
pub(crate) struct Memory {
    sets: Box<[Set]>,
    /// So that nobody can choose which names share a set.
    seed: RandomState,
    /// The zones of which it speaks. They are not kept alive by it.
    zones: Weak<Zones>,
    octets: usize,
}

impl Kept {
    fn octets(&self) -> usize {
        let said = match &self.said {
            Said::Fixed(fixed) => fixed.body.len(),
            Said::Steered(at) => at.len(),
            Said::Other => 0,
        };
        self.name.len() + said
    }
}

impl Memory {
    pub(crate) fn new() -> Self {
        Self {
            sets: (0..SETS).map(|_| Set::default()).collect(),
            seed: RandomState::new(),
            zones: Weak::new(),
            octets: 0,
        }
    }

    /// What was said to `name`, in lower case. `learn` is asked where that is worth keeping and not yet known.
    pub(super) fn find(
        &mut self,
        zones: &Arc<Zones>,
        name: &[u8],
        rtype: u16,
        learn: impl FnOnce() -> Said,
    ) -> Option<&Kept> {
        if self.zones.as_ptr() != Arc::as_ptr(zones) {
            self.forget(zones);
        }
        let hash = self.seed.hash_one((name, rtype));
        let set = self.sets.get_mut(hash as usize % SETS)?;
        let is_it = |kept: &Kept| kept.hash == hash && kept.rtype == rtype && *kept.name == *name;
        let place = set.kept.iter().position(|kept| kept.as_ref().is_some_and(is_it));
        if let Some(place) = place {
            return set.kept.get(place)?.as_ref();
        }
        if !set.missed.contains(&hash) {
            *set.missed.get_mut(set.next_missed)? = hash;
            set.next_missed = (set.next_missed + 1) % WAYS;
            return None;
        }
        let kept = Kept {
            hash,
            name: name.into(),
            rtype,
            said: learn(),
        };
        let place = set.next;
        set.next = (place + 1) % WAYS;
        let slot = set.kept.get_mut(place)?;
        let left = self.octets - slot.take().map_or(0, |old| old.octets());
        let octets = left + kept.octets();
        if octets > MAX_OCTETS {
            self.octets = left;
            return None;
        }
        self.octets = octets;
        Some(slot.insert(kept))
    }

    fn forget(&mut self, zones: &Arc<Zones>) {
        for set in &mut self.sets {
            *set = Set::default();
        }
        self.octets = 0;
        self.zones = Arc::downgrade(zones);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn other() -> Said {
        Said::Other
    }

    #[test]
    fn a_name_is_kept_at_the_second_time_and_until_the_zones_change() {
        let (mut memory, zones) = (Memory::new(), Arc::new(Zones::default()));
        assert!(
            memory
                .find(&zones, b"\x01a\x00", 1, || panic!("not yet"))
                .is_none()
        );
        assert!(memory.find(&zones, b"\x01a\x00", 1, other).is_some());
        assert!(memory.find(&zones, b"\x01a\x00", 1, || panic!("known")).is_some());
        assert!(
            memory
                .find(&zones, b"\x01a\x00", 28, || panic!("another type"))
                .is_none()
        );
        let next = Arc::new(Zones::default());
        assert!(
            memory
                .find(&next, b"\x01a\x00", 1, || panic!("forgotten"))
                .is_none()
        );
        assert_eq!(memory.octets, 0);
    }

    #[test]
    fn names_that_come_once_drive_nothing_out() {
        let (mut memory, zones) = (Memory::new(), Arc::new(Zones::default()));
        for _ in 0..2 {
            memory.find(&zones, b"\x01a\x00", 1, other);
        }
        for number in 0..1_000_000_u32 {
            let name = [&[4][..], &number.to_be_bytes(), &[0]].concat();
            assert!(memory.find(&zones, &name, 1, other).is_none());
        }
        assert!(memory.find(&zones, b"\x01a\x00", 1, || panic!("known")).is_some());
    }

    #[test]
    fn places_and_octets_are_bounded() {
        let (mut memory, zones) = (Memory::new(), Arc::new(Zones::default()));
        for number in 0..20_000_u32 {
            let name = [&[4][..], &number.to_be_bytes(), &[0]].concat();
            let body: Box<[u8]> = vec![0; 4000].into();
            for _ in 0..2 {
                memory.find(&zones, &name, 1, || Said::Steered(body.clone()));
            }
            assert!(memory.octets <= MAX_OCTETS);
        }
        let kept = memory.sets.iter().flat_map(|set| set.kept.iter().flatten());
        assert_eq!(kept.map(Kept::octets).sum::<usize>(), memory.octets);
        assert!(memory.octets > MAX_OCTETS - 8000);
    }
}
