//! What one site said.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use indexmap::IndexMap;
use jiff::Timestamp;
use rustc_hash::FxBuildHasher;

use crate::gossip::observation::{Key, Observation, Version};
use crate::snapshot::Verdict;

/// Most endpoints of one origin; more are not taken, and counted.
pub const KEYS_MAX: usize = 65_536;

/// Changes heard out of order that are remembered per origin; those beyond are pulled later.
const BEYOND_MAX: usize = 1024;

#[derive(Debug, Default)]
pub(super) struct Origin {
    /// Another one whenever something of what it says, or when it stood by it, changed.
    pub(super) revision: u64,
    /// Its newest start.
    pub(super) epoch: u64,
    /// Which of the changes since then are known.
    pub(super) known: Known,
    /// The newest beat of this start.
    pub(super) beat: Option<(u64, Instant)>,
    /// The newest beat of which every change was known: the change, and when its origin said so.
    pub(super) confirmed: Option<(u64, Instant)>,
    /// All of an origin's words are read one after the other, so they lie close together; none is taken out alone.
    pub(super) held: IndexMap<Key, Held, FxBuildHasher>,
    /// The same by change, for deltas. Of the newest start alone.
    pub(super) by_number: BTreeMap<u64, Key>,
}

/// Changes that are known: all up to one, and some beyond it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) until: u64,
    pub(super) beyond: BTreeSet<u64>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) observation: Observation,
    /// When its origin last stood by it, as far as this packet told.
    pub(super) heard: Instant,
}

impl Known {
    pub(super) fn extend(&mut self, after: u64, until: u64) {
        if after <= self.until {
            self.until = self.until.max(until);
        } else if until - after <= (BEYOND_MAX - self.beyond.len().min(BEYOND_MAX)) as u64 {
            self.beyond.extend(after + 1..=until);
        }
        let until = |known: &Self| known.until.saturating_add(1);
        while let Some(first) = self.beyond.first().copied().filter(|first| *first <= until(self)) {
            self.beyond.pop_first();
            self.until = self.until.max(first);
        }
    }
}

impl Held {
    /// Whether it is one of the changes of a start up to this one.
    fn is_up_to(&self, epoch: u64, number: u64) -> bool {
        let version = self.observation.version;
        version.epoch == epoch && version.number <= number
    }
}

impl Origin {
    /// A later start forgets what is known of the changes of those before; what was said then stands until it expires.
    pub(super) fn begin(&mut self, epoch: u64) {
        if epoch > self.epoch {
            if let Some((until, at)) = self.confirmed {
                for held in self
                    .held
                    .values_mut()
                    .filter(|held| held.is_up_to(self.epoch, until))
                {
                    held.heard = held.heard.max(at);
                }
            }
            self.epoch = epoch;
            self.known = Known::default();
            self.by_number.clear();
            (self.beat, self.confirmed) = (None, None);
        }
    }

    pub(super) fn take(&mut self, key: Key, observation: &Observation, heard: Instant) -> Taken {
        let full = self.held.len() >= KEYS_MAX;
        let current = observation.version.epoch == self.epoch;
        let number = observation.version.number;
        match self.held.get_mut(&key) {
            None if full => return Taken::Refused,
            None => {
                let observation = observation.clone();
                self.held.insert(key, Held { observation, heard });
            }
            Some(held) => {
                let before = held.observation.version;
                let mut heard = heard;
                if observation.version == before {
                    heard = heard.max(held.heard);
                    held.heard = heard;
                }
                if *observation <= held.observation {
                    return Taken::Known;
                }
                if before.epoch == self.epoch {
                    self.by_number.remove(&before.number);
                }
                let observation = observation.clone();
                *held = Held { observation, heard };
            }
        }
        if current {
            self.by_number.insert(number, key);
        }
        Taken::New
    }

    /// Renews all that the newest beat speaks of, if all of it is known. A later beat that seems to be older is not: its age
    /// is more exact.
    pub(super) fn confirm(&mut self) {
        if let Some((number, heard)) = self.beat
            && number <= self.known.until
        {
            let (until, at) = self.confirmed.unwrap_or((number, heard));
            self.confirmed = Some((until.max(number), at.max(heard)));
        }
    }

    pub(super) fn stood_by(&self, held: &Held) -> Instant {
        match self.confirmed {
            Some((until, at)) if held.is_up_to(self.epoch, until) => at.max(held.heard),
            Some(_) | None => held.heard,
        }
    }
}

pub(super) enum Taken {
    New,
    Known,
    Refused,
}

impl Origin {
    /// One of our own.
    pub(super) fn say(
        &mut self,
        key: Key,
        verdict: Verdict,
        reason: String,
        since: Timestamp,
        now: Instant,
    ) -> bool {
        let version = Version {
            epoch: self.epoch,
            number: self.known.until.saturating_add(1),
        };
        // As it looks to the others.
        let since = Timestamp::from_millisecond(since.as_millisecond()).unwrap_or(since);
        let observation = Observation {
            version,
            verdict,
            since,
            reason,
        };
        match self.take(key, &observation, now) {
            Taken::New => {
                self.known.extend(version.number - 1, version.number);
                true
            }
            Taken::Known | Taken::Refused => false,
        }
    }
}
