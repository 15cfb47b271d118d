//! What all sites say, merged: the newest word of each origin on each endpoint wins.
//!
//! Merging is a join (commutative, associative, idempotent): of two observations the one with the higher version stays,
//! of two equal ones the later hearing, of two ranges of changes the union, of two beats the later one. So packets may
//! come in any order, twice, or by any way round.
//!
//! An observation is good for four beats ([`ttl`]) after its origin last stood by it, by our own clock: from when it was heard, less
//! the age that it had then. A [`Beat`] renews all observations of an origin at once, but only when we have
//! all changes that it speaks of; otherwise the missing ones are pulled.

mod origin;

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::observation::{Key, Observation, Version, cut};
use super::site::SiteName;
use super::standing::Standing;
use super::wire::{Beat, DELTA_HEAD, Delta, Pull, Told};
use crate::snapshot::Verdict;

/// Between two beats of a site in a fleet of up to [`BEATS_FULL`] sites.
pub const BEAT_EVERY: Duration = Duration::from_secs(5);

/// Sites of the largest fleet in which each beats every [`BEAT_EVERY`]. In a larger one each beats the less often, so that
/// what a site hears and passes on stays as it is.
pub const BEATS_FULL: usize = 50;

/// Beats that may be missed before what a site said counts no more.
const BEATS_MISSED: u32 = 4;

/// Between two beats of a site at most, in a fleet of so many.
#[must_use]
pub fn beat_every(sites: usize) -> Duration {
    let sites = u32::try_from(sites.max(BEATS_FULL)).unwrap_or(u32::MAX);
    BEAT_EVERY.saturating_mul(sites) / BEATS_FULL as u32
}

/// How long an observation counts after its origin last stood by it, in a fleet of so many sites.
#[must_use]
pub fn ttl(sites: usize) -> Duration {
    beat_every(sites).saturating_mul(BEATS_MISSED)
}

pub use origin::KEYS_MAX;

use origin::{Held, Origin, Taken};

/// The observations of all sites, our own among them.
#[derive(Debug)]
pub struct Store {
    me: SiteName,
    ttl: Duration,
    origins: BTreeMap<SiteName, Origin>,
    standing: Standing,
    /// The newest that an origin has.
    revision: u64,
}

/// What a merge came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Merged {
    /// Endpoints of which another observation is held now.
    pub changed: Vec<Key>,
    /// Observations that were not taken: their origin has too many.
    pub refused: usize,
}

/// One origin's word on an endpoint, as quorum wants it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Word<'s> {
    /// Who says it.
    pub origin: SiteName,
    /// What it says.
    pub observation: &'s Observation,
    /// Whether it counts no more.
    pub expired: bool,
}

impl Store {
    /// An empty store of the site `me`, which starts at `epoch`.
    #[must_use]
    pub fn new(me: SiteName, epoch: u64) -> Self {
        let own = Origin {
            epoch,
            ..Origin::default()
        };
        Self {
            me,
            ttl: ttl(1),
            origins: BTreeMap::from([(me, own)]),
            standing: Standing::default(),
            revision: 0,
        }
    }

    pub(super) fn set_standing(&mut self, standing: Standing) {
        self.standing = standing;
    }

    /// Goes on in a fleet of so many sites.
    pub fn set_sites(&mut self, sites: usize) {
        self.ttl = ttl(sites);
        let origins: Vec<_> = self.origins().collect();
        for origin in origins {
            self.origin(origin); // until when its words count is another time now
        }
    }

    /// Ours, to change it.
    fn own(&mut self) -> &mut Origin {
        self.origin(self.me)
    }

    /// One of them, to change it.
    fn origin(&mut self, origin: SiteName) -> &mut Origin {
        self.revision += 1;
        let origin = self.origins.entry(origin).or_default();
        origin.revision = self.revision;
        origin
    }

    /// The newest of our own changes.
    #[must_use]
    pub fn own_version(&self) -> Version {
        self.origins
            .get(&self.me)
            .map_or(Version { epoch: 0, number: 0 }, |own| Version {
                epoch: own.epoch,
                number: own.known.until,
            })
    }

    /// We say something ourselves. False: we had said it already.
    pub fn observe(
        &mut self,
        key: Key,
        verdict: Verdict,
        reason: &str,
        since: Timestamp,
        now: Instant,
    ) -> bool {
        let said = self.origins.get(&self.me).and_then(|own| own.held.get(&key));
        let said = said.map(|held| &held.observation);
        if said.is_some_and(|said| said.verdict == verdict && said.reason == cut(reason)) {
            return false;
        }
        self.own().say(key, verdict, cut(reason).to_owned(), since, now)
    }

    /// Somebody has heard of a change of ours that we have not made: we have started again, and our clock went back.
    /// Counts on from there and says everything anew.
    fn outbid(&mut self, heard: Version, now: Instant) {
        let own = self.own();
        own.begin(heard.epoch.max(own.epoch).saturating_add(1));
        let mut said: Vec<_> = own.held.drain(..).collect();
        said.sort_by_key(|(_, held)| held.observation.version);
        for (key, Held { observation, .. }) in said {
            own.say(
                key,
                observation.verdict,
                observation.reason,
                observation.since,
                now,
            );
        }
    }

    fn is_ahead_of_us(&self, origin: SiteName, version: Version) -> bool {
        origin == self.me && version > self.own_version()
    }

    /// Merges what a packet told.
    pub fn merge(&mut self, delta: &Delta, now: Instant) -> Merged {
        let mut merged = Merged::default();
        if delta.origin == self.me {
            let newest = delta
                .told
                .iter()
                .map(|told| told.observation.version.number)
                .max();
            let number = newest.unwrap_or_default().max(delta.until);
            let version = Version {
                epoch: delta.epoch,
                number,
            };
            if self.is_ahead_of_us(delta.origin, version) {
                self.outbid(version, now);
            }
            return merged;
        }
        let origin = self.origin(delta.origin);
        origin.begin(delta.epoch);
        for Told {
            key,
            observation,
            age_ms,
        } in &delta.told
        {
            let heard = before(now, *age_ms);
            match origin.take(*key, observation, heard) {
                Taken::New => merged.changed.push(*key),
                Taken::Known => {}
                Taken::Refused => merged.refused += 1,
            }
        }
        if delta.epoch == origin.epoch && merged.refused == 0 && delta.until > delta.after {
            origin.known.extend(delta.after, delta.until);
            origin.confirm();
        }
        merged
    }

    /// Merges a beat. True: it is news.
    pub fn on_beat(&mut self, beat: &Beat, now: Instant) -> bool {
        if beat.origin == self.me {
            if self.is_ahead_of_us(beat.origin, beat.version) {
                self.outbid(beat.version, now);
            }
            return false;
        }
        let heard = before(now, beat.age_ms);
        if !self.is_news(beat, heard) {
            return false;
        }
        let origin = self.origin(beat.origin);
        origin.begin(beat.version.epoch);
        origin.beat = Some((beat.version.number, heard));
        origin.confirm();
        true
    }

    /// One beat comes by several ways, each with an age that is a little wrong: only a later one is news.
    fn is_news(&self, beat: &Beat, heard: Instant) -> bool {
        let Some(known) = self.origins.get(&beat.origin) else {
            return true;
        };
        match beat.version.epoch.cmp(&known.epoch) {
            Ordering::Less => false,
            Ordering::Greater => true,
            Ordering::Equal => known.beat.is_none_or(|(number, at)| {
                beat.version.number > number || (beat.version.number == number && heard > at + BEAT_APART)
            }),
        }
    }

    /// The newest beat of an origin, as it is passed on.
    #[must_use]
    pub fn beat(&self, origin: SiteName, now: Instant) -> Option<Beat> {
        if origin == self.me {
            let version = self.own_version();
            return Some(Beat {
                origin,
                version,
                age_ms: age(self.standing.as_of(now), now),
            });
        }
        let held = self.origins.get(&origin)?;
        let (number, heard) = held.beat?;
        let version = Version {
            epoch: held.epoch,
            number,
        };
        let age_ms = age(heard, now);
        Some(Beat {
            origin,
            version,
            age_ms,
        })
    }

    /// Whether we know a later start of a site than its own beat speaks of; then what it is to be told: its clock went back,
    /// and nobody takes its words before it counts on from there.
    #[must_use]
    pub fn correction(&self, beat: &Beat) -> Option<Beat> {
        let epoch = self.origins.get(&beat.origin)?.epoch;
        let version = Version { epoch, number: 0 };
        let is_later = epoch > beat.version.epoch && beat.origin != self.me;
        is_later.then_some(Beat {
            version,
            age_ms: 0,
            ..*beat
        })
    }

    /// One observation, as it is passed on.
    #[must_use]
    pub fn told(&self, origin: SiteName, key: Key, now: Instant) -> Option<Delta> {
        let held = self.origins.get(&origin)?;
        let one = held.held.get(&key)?;
        let Version { epoch, number } = one.observation.version;
        Some(Delta {
            origin,
            epoch,
            after: number - 1,
            until: number,
            told: vec![self.tell(origin, held, key, one, now)],
        })
    }

    fn tell(&self, origin: SiteName, all: &Origin, key: Key, held: &Held, now: Instant) -> Told {
        let stood_by = if origin == self.me {
            held.heard.max(self.standing.as_of(now))
        } else {
            all.stood_by(held)
        };
        let age_ms = age(stood_by, now);
        Told {
            key,
            observation: held.observation.clone(),
            age_ms,
        }
    }

    /// The origins of which changes are missing, and from where on.
    pub fn missing(&self) -> impl Iterator<Item = Pull> + '_ {
        let lacks = |(origin, held): (&SiteName, &Origin)| {
            let newest = held.beat.map_or(0, |(number, _)| number);
            let newest = newest.max(held.known.beyond.last().copied().unwrap_or_default());
            let number = held.known.until;
            (newest > number).then_some(Pull {
                origin: *origin,
                known: Version {
                    epoch: held.epoch,
                    number,
                },
            })
        };
        self.origins.iter().filter_map(lacks)
    }

    /// How far each origin is known, to ask for the rest.
    pub fn known(&self) -> impl Iterator<Item = Pull> + '_ {
        let known = |(origin, held): (&SiteName, &Origin)| Pull {
            origin: *origin,
            known: Version {
                epoch: held.epoch,
                number: held.known.until,
            },
        };
        self.origins.iter().map(known)
    }

    /// All that is known of an origin beyond what somebody else knows of it, in parts of at most `room` octets each; only
    /// the last part promises that this is all. Empty: nothing. `parts_max` parts at most; more are none.
    #[must_use]
    pub fn beyond(&self, pull: &Pull, room: usize, parts_max: usize, now: Instant) -> Option<Vec<Delta>> {
        let Some(held) = self.origins.get(&pull.origin) else {
            return Some(Vec::new());
        };
        let after = match pull.known.epoch.cmp(&held.epoch) {
            Ordering::Less => 0,
            Ordering::Equal => pull.known.number,
            Ordering::Greater => return Some(Vec::new()),
        };
        let until = held.known.until;
        if until <= after {
            return Some(Vec::new());
        }
        let part = || Delta {
            origin: pull.origin,
            epoch: held.epoch,
            after,
            until: after,
            told: Vec::new(),
        };
        let mut parts = vec![part()];
        let mut left = room.saturating_sub(DELTA_HEAD);
        for key in held.by_number.range(after + 1..=until).map(|(_, key)| key) {
            let Some(one) = held.held.get(key) else { continue };
            let told = self.tell(pull.origin, held, *key, one, now);
            if told.length() > left {
                if parts.len() >= parts_max {
                    return None;
                }
                parts.push(part());
                left = room.saturating_sub(DELTA_HEAD);
            }
            left = left.saturating_sub(told.length());
            if let Some(part) = parts.last_mut() {
                part.told.push(told);
            }
        }
        if let Some(last) = parts.last_mut() {
            last.until = until;
        }
        Some(parts)
    }

    /// The origins that are known, ourselves among them.
    pub fn origins(&self) -> impl Iterator<Item = SiteName> + '_ {
        self.origins.keys().copied()
    }

    /// Forgets an origin, which is no member any more.
    pub fn forget(&mut self, origin: SiteName) {
        if origin != self.me {
            self.origins.remove(&origin);
        }
    }

    /// What one origin says of an endpoint. Our own word never expires.
    #[must_use]
    pub fn word(&self, origin: SiteName, key: Key, now: Instant) -> Option<Word<'_>> {
        let held = self.origins.get(&origin)?;
        let one = held.held.get(&key)?;
        Some(Word {
            origin,
            observation: &one.observation,
            expired: origin != self.me && now >= held.stood_by(one) + self.ttl,
        })
    }

    /// Changes with what an origin says, and with when it stood by it; `None`: nothing is known of it.
    pub(super) fn revision(&self, origin: SiteName) -> Option<u64> {
        Some(self.origins.get(&origin)?.revision)
    }

    /// All that one origin says, and until when it counts; `None`: for ever. In no order.
    pub(super) fn said(
        &self,
        origin: SiteName,
    ) -> impl Iterator<Item = (Key, Verdict, Option<Instant>)> + '_ {
        let is_own = origin == self.me;
        self.origins.get(&origin).into_iter().flat_map(move |held| {
            let said = move |(key, one): (&Key, &Held)| {
                let until = (!is_own).then(|| held.stood_by(one) + self.ttl);
                (*key, one.observation.verdict, until)
            };
            held.held.iter().map(said)
        })
    }

    /// Observations held, our own among them.
    #[must_use]
    pub fn len(&self) -> usize {
        self.origins.values().map(|origin| origin.held.len()).sum()
    }

    /// Whether nothing is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Ages are told in milliseconds and lose the time on the way; what differs by less is the same beat.
const BEAT_APART: Duration = Duration::from_secs(2);

fn before(now: Instant, age_ms: u32) -> Instant {
    now.checked_sub(Duration::from_millis(age_ms.into()))
        .unwrap_or(now)
}

fn age(heard: Instant, now: Instant) -> u32 {
    u32::try_from(now.saturating_duration_since(heard).as_millis()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
