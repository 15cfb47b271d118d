//! Where the checks of a site and its gossip lay things down for each other.
//!
//! Both sides keep the newest per endpoint only, by its stable name: bounded by the fleet, and nobody waits for the
//! other. The locks are held for a look-up.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use tokio::sync::Notify;

use super::observation::Key;
use super::standing::Standing;
use crate::snapshot::{Cause, Verdict};

/// A verdict on an endpoint, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Word {
    /// What is said.
    pub(crate) verdict: Verdict,
    /// Why.
    pub(crate) cause: Cause,
    /// Since when.
    pub(crate) since: Timestamp,
}

/// One direction: who lays down, and who fetches.
#[derive(Debug, Default)]
pub(crate) struct Tray {
    words: Mutex<Words>,
    news: Notify,
}

#[derive(Debug, Default)]
struct Words {
    all: BTreeMap<Key, Word>,
    fresh: BTreeSet<Key>,
}

/// Both directions. Cheap to copy.
#[derive(Debug, Clone, Default)]
pub struct Desk {
    /// What our own checks say.
    pub(crate) own: Arc<Tray>,
    /// What the sites agreed on.
    pub(crate) agreed: Arc<Tray>,
    /// What each site says of its own endpoints, where that is up or down: it decides about them.
    pub(crate) homes: Arc<Tray>,
    /// As of when our checks stand by what they say.
    pub(crate) standing: Standing,
}

impl Tray {
    /// Lays down the newest word on an endpoint.
    pub(crate) fn lay(&self, key: Key, word: Word) {
        let mut words = self.lock();
        words.all.insert(key, word);
        words.fresh.insert(key);
        drop(words);
        self.news.notify_one();
    }

    /// What was laid down since the last time, by endpoint.
    pub(crate) fn fetch(&self) -> Vec<(Key, Word)> {
        let mut words = self.lock();
        let fresh = std::mem::take(&mut words.fresh);
        let word = |key: Key| Some((key, words.all.get(&key)?.clone()));
        fresh.into_iter().filter_map(word).collect()
    }

    /// What was last laid down on an endpoint.
    pub(crate) fn look(&self, key: Key) -> Option<Word> {
        self.lock().all.get(&key).cloned()
    }

    /// Everything is news again, and what is not of the fleet any more is gone; returns what is gone.
    pub(crate) fn renew(&self, is_of_fleet: impl Fn(Key) -> bool) -> Vec<Key> {
        let mut words = self.lock();
        let (stays, gone): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut words.all)
            .into_iter()
            .partition(|(key, _)| is_of_fleet(*key));
        words.fresh = stays.keys().copied().collect();
        words.all = stays;
        drop(words);
        self.news.notify_one();
        gone.into_keys().collect()
    }

    /// Returns when something was laid down. One waits at a time.
    pub(crate) async fn news(&self) {
        self.news.notified().await;
    }

    /// A panic while it was held left a map that is whole.
    fn lock(&self) -> MutexGuard<'_, Words> {
        self.words.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(verdict: Verdict) -> Word {
        Word {
            verdict,
            cause: String::new(),
            since: Timestamp::UNIX_EPOCH,
        }
    }

    #[tokio::test]
    async fn the_newest_word_is_fetched_once_and_can_be_looked_at() {
        let tray = Tray::default();
        tray.lay(Key(1), word(Verdict::Up));
        tray.lay(Key(1), word(Verdict::Down));
        tray.lay(Key(2), word(Verdict::Up));
        tray.news().await;
        assert_eq!(
            tray.fetch(),
            [(Key(1), word(Verdict::Down)), (Key(2), word(Verdict::Up))]
        );
        assert_eq!(tray.fetch(), []);
        assert_eq!(tray.look(Key(1)), Some(word(Verdict::Down)));
        assert_eq!(tray.renew(|key| key == Key(1)), [Key(2)]);
        tray.news().await;
        assert_eq!(tray.fetch(), [(Key(1), word(Verdict::Down))]);
        assert_eq!(tray.look(Key(2)), None);
    }
}
