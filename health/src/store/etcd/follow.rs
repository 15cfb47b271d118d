//! What is known of the cluster. Sans-IO.
//!
//! ```text
//!           ┌────────── ended, compacted ◄──────────┐
//!           ▼                                       │
//! away ─► a try ─► read all, at revision R ─► watch from R + 1
//!   ▲        │
//!   └ failed ┘   the next member, later each time
//! ```

use std::collections::BTreeMap;

use super::Presence;
use super::names::{Name, Names};
use super::proto::{Event, KeyValue, event::EventType};
use crate::store::{StoredWish, WishKey, Wishes};

/// Most keys that are shown as unreadable.
const UNREADABLE_MAX: usize = 16;

/// Where in the life of a cluster a picture belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Past {
    /// The cluster's own number.
    pub(crate) cluster: u64,
    /// The revision that was seen last.
    pub(crate) revision: i64,
}

/// All that we know.
#[derive(Debug)]
pub(super) struct Follower {
    names: Names,
    past: Option<Past>,
    wishes: Wishes,
    /// By key: the revision that wrote it, where the cluster has it.
    revisions: BTreeMap<WishKey, i64>,
    sites: BTreeMap<String, Presence>,
    unreadable: BTreeMap<String, String>,
}

/// A cluster was read that does not know what it should.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Forgot {
    /// Why we think so.
    pub(super) why: String,
    /// What it does not know and we do.
    pub(super) lost: Vec<StoredWish>,
}

impl Follower {
    /// `past` and `wishes`: as they were kept over a restart.
    pub(super) fn new(names: Names, past: Option<Past>, wishes: Wishes) -> Self {
        Self {
            names,
            past,
            wishes,
            revisions: BTreeMap::new(),
            sites: BTreeMap::new(),
            unreadable: BTreeMap::new(),
        }
    }

    pub(super) fn past(&self) -> Option<Past> {
        self.past
    }

    pub(super) fn wishes(&self) -> &Wishes {
        &self.wishes
    }

    pub(super) fn sites(&self) -> Vec<Presence> {
        self.sites.values().cloned().collect()
    }

    /// Keys that cannot be read, with the reason.
    pub(super) fn unreadable(&self) -> Vec<String> {
        let texts = self.unreadable.iter();
        let texts = texts.map(|(key, why)| format!("{key}: {why}"));
        texts.take(UNREADABLE_MAX).collect()
    }

    /// The revision that wrote a wish.
    pub(super) fn revision_of(&self, key: &WishKey) -> Option<i64> {
        self.revisions.get(key).copied()
    }

    /// All keys were read. What we know and the cluster does not is over, unless the cluster has lost its past: then
    /// it is returned, and stands.
    pub(super) fn on_read(&mut self, now: Past, keys: &[KeyValue]) -> Option<Forgot> {
        let known = std::mem::take(&mut self.wishes);
        let before = self.past.replace(now);
        self.revisions.clear();
        self.sites.clear();
        self.unreadable.clear();
        keys.iter().for_each(|key| self.take(key, &known));
        let why = match before {
            Some(before) if before.cluster != now.cluster => format!(
                "it is cluster {:x}, and the one that we knew was {:x}",
                now.cluster, before.cluster
            ),
            Some(before) if before.revision > now.revision => {
                format!(
                    "it is at revision {}, and was at {}",
                    now.revision, before.revision
                )
            }
            Some(_) | None => return None,
        };
        let is_lost = |(key, _): &(WishKey, StoredWish)| !self.wishes.contains_key(key);
        let lost: Vec<_> = known.into_iter().filter(is_lost).collect();
        self.wishes.extend(lost.iter().cloned());
        let lost = lost.into_iter().map(|(_, wish)| wish).collect();
        Some(Forgot { why, lost })
    }

    /// The watch told what happened up to `revision`. Returns whether the wishes are others now.
    pub(super) fn on_events(&mut self, revision: i64, events: &[Event]) -> bool {
        let before = self.wishes.clone();
        for event in events {
            let Some(key) = &event.kv else { continue };
            match event.r#type() {
                EventType::Put => self.take(key, &before),
                EventType::Delete => self.remove(&key.key),
            }
        }
        if let Some(past) = &mut self.past {
            past.revision = past.revision.max(revision);
        }
        self.wishes != before
    }

    fn take(&mut self, key: &KeyValue, known: &Wishes) {
        match self.names.parse(&key.key) {
            Name::Wish(name) => self.take_wish(name, key, known),
            Name::Site(name) => match serde_json::from_slice::<Presence>(&key.value) {
                Ok(presence) => drop(self.sites.insert(name, presence)),
                Err(error) => self.cannot_read(key, &error.to_string()),
            },
            Name::Other => {}
        }
    }

    /// What cannot be read changes nothing: what was known under the key stands.
    fn take_wish(&mut self, name: WishKey, key: &KeyValue, known: &Wishes) {
        let wish = match StoredWish::from_bytes(&key.value) {
            Ok(wish) if wish.key() == name => Some(wish),
            Ok(_) => {
                self.cannot_read(key, "it is a wish for something else than its key says");
                None
            }
            Err(error) => {
                self.cannot_read(key, &error.to_string());
                None
            }
        };
        self.revisions.insert(name.clone(), key.mod_revision);
        if let Some(wish) = &wish {
            self.unreadable.remove(&text(&key.key));
            self.wishes.insert(name, wish.clone());
        } else if let Some(known) = known.get(&name) {
            self.wishes.insert(name, known.clone());
        }
    }

    fn remove(&mut self, key: &[u8]) {
        self.unreadable.remove(&text(key));
        match self.names.parse(key) {
            Name::Wish(name) => {
                self.wishes.remove(&name);
                self.revisions.remove(&name);
            }
            Name::Site(name) => drop(self.sites.remove(&name)),
            Name::Other => {}
        }
    }

    fn cannot_read(&mut self, key: &KeyValue, why: &str) {
        let name = text(&key.key);
        metrics::counter!("steer_health_store_unreadable_total").increment(1);
        if self.unreadable.get(&name).is_none_or(|known| known != why) {
            tracing::error!(
                key = name,
                revision = key.mod_revision,
                why,
                "a key of the store cannot be read; what was known under it stands"
            );
        }
        self.unreadable.insert(name, why.to_owned());
    }
}

fn text(key: &[u8]) -> String {
    String::from_utf8_lossy(key).into_owned()
}

#[cfg(test)]
mod tests;
