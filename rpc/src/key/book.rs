//! A database in memory: claims, transactions that are open, and what is committed. Sans-IO; the model that the other
//! stores are compared with, and the database of the simulation.

use std::collections::BTreeMap;
use std::time::SystemTime;

use super::claims::{Claims, Held};
use super::id::{Fingerprint, Place};
use super::store::{Epoch, Found, Message, Terms};
use super::{Answer, KeyedCall};

/// The database. `E` is an effect.
#[derive(Debug)]
pub struct Book<E> {
    terms: Terms,
    claims: Claims,
    /// Effects of claims that are not committed.
    open: BTreeMap<Epoch, Vec<E>>,
    answers: BTreeMap<Place, Kept>,
    effects: Vec<E>,
    outbox: Vec<Message>,
}

/// A committed answer.
#[derive(Debug, Clone)]
pub(super) struct Kept {
    pub(super) fingerprint: Fingerprint,
    pub(super) answer: Answer,
    pub(super) until: SystemTime,
}

/// What stands of a key that nobody has claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// Nothing, or an answer that is kept no longer.
    Unknown,
    /// An answer to the same payload.
    Same,
    /// An answer to another one.
    Other,
}

impl Standing {
    /// Of what was found under a key: when it ends, and its fingerprint.
    #[must_use]
    pub fn of(kept: Option<(SystemTime, Fingerprint)>, asked: Fingerprint, now: SystemTime) -> Self {
        match kept {
            None => Self::Unknown,
            Some((until, _)) if now >= until => Self::Unknown,
            Some((_, fingerprint)) if fingerprint == asked => Self::Same,
            Some(_) => Self::Other,
        }
    }
}

impl<E: Clone> Book<E> {
    /// An empty one.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        Self {
            terms,
            claims: Claims::new(terms.lease, Epoch(1)),
            open: BTreeMap::new(),
            answers: BTreeMap::new(),
            effects: Vec::new(),
            outbox: Vec::new(),
        }
    }

    /// Claims a key, or tells what stands.
    pub fn claim(&mut self, call: &KeyedCall, now: SystemTime) -> Found<Held> {
        let place = call.place();
        let Some(held) = self.claims.take(place.clone(), now) else {
            return Found::InFlight;
        };
        let kept = self.answers.get(&place);
        let found = match (
            Standing::of(
                kept.map(|kept| (kept.until, kept.fingerprint)),
                call.fingerprint,
                now,
            ),
            kept,
        ) {
            (Standing::Same, Some(kept)) => Found::Answered(kept.answer.clone()),
            (Standing::Other, _) => Found::OtherPayload,
            (Standing::Unknown | Standing::Same, _) => return Found::Fresh(held),
        };
        self.claims.end(&held);
        found
    }

    /// An effect in the transaction of a claim. It counts with the commit.
    pub fn stage(&mut self, held: &Held, effect: E) {
        self.open.entry(held.epoch).or_default().push(effect);
    }

    /// Commits effects, answer and messages together.
    ///
    /// # Errors
    ///
    /// The epoch, when the claim has ended; then nothing is done.
    pub fn commit(
        &mut self,
        call: &KeyedCall,
        held: &Held,
        answer: &Answer,
        outbox: &[Message],
        now: SystemTime,
    ) -> Result<(), Epoch> {
        let staged = self.open.remove(&held.epoch).unwrap_or_default();
        if !self.claims.stands(held) {
            return Err(held.epoch);
        }
        self.claims.end(held);
        self.effects.extend(staged);
        self.outbox.extend_from_slice(outbox);
        let kept = Kept {
            fingerprint: call.fingerprint,
            answer: answer.clone(),
            until: now + self.terms.keep,
        };
        self.answers.insert(held.place.clone(), kept);
        Ok(())
    }

    /// Ends a claim, and takes back what was done: its holder says so, or is seen to be gone.
    pub fn release(&mut self, held: &Held) {
        self.open.remove(&held.epoch);
        self.claims.end(held);
    }

    /// Forgets answers that are kept no longer.
    pub fn expire(&mut self, at_most: u32, now: SystemTime) -> u64 {
        let over = self.answers.iter().filter(|(_, kept)| now >= kept.until);
        let over: Vec<_> = over
            .map(|(place, _)| place.clone())
            .take(at_most as usize)
            .collect();
        for place in &over {
            self.answers.remove(place);
        }
        over.len() as u64
    }

    /// What is committed.
    #[must_use]
    pub fn effects(&self) -> &[E] {
        &self.effects
    }

    /// Messages that are committed and not told yet.
    #[must_use]
    pub fn outbox(&self) -> &[Message] {
        &self.outbox
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn what_stands_is_told_by_time_first_and_then_by_payload() {
        let now = SystemTime::UNIX_EPOCH;
        let later = now + Duration::from_secs(1);
        let (same, other) = (Fingerprint::of("", b"a"), Fingerprint::of("", b"b"));
        let rows = [
            (None, Standing::Unknown),
            (Some((now, same)), Standing::Unknown),
            (Some((now, other)), Standing::Unknown),
            (Some((later, same)), Standing::Same),
            (Some((later, other)), Standing::Other),
        ];
        for (kept, standing) in rows {
            assert_eq!(Standing::of(kept, same, now), standing, "{kept:?}");
        }
    }
}
