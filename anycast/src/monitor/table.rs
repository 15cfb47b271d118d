//! The routes that one source has told of, so that its end can be told as withdrawals.

use std::collections::BTreeSet;
use std::sync::{Arc, PoisonError, RwLock};

use steer_topology::Prefix;

use super::{Attributes, Heard, MAX_PREFIXES};
use crate::wire::{Path, Update};

/// Which prefixes count; all, where nothing is said. Clones share what they say.
#[derive(Debug, Clone, Default)]
pub struct Only(Option<Arc<RwLock<BTreeSet<Prefix>>>>);

impl Only {
    /// These, for now.
    #[must_use]
    pub fn these(prefixes: impl IntoIterator<Item = Prefix>) -> Self {
        let prefixes = prefixes.into_iter().collect();
        Self(Some(Arc::new(RwLock::new(prefixes))))
    }

    /// One more. What was heard of it before is not known: a peer tells a route once.
    // Gap: a ROUTE-REFRESH (RFC 2918) would bring it back.
    pub fn add(&self, prefix: Prefix) {
        if let Some(prefixes) = &self.0 {
            prefixes
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(prefix);
        }
    }

    fn keep(&self, prefixes: &mut Vec<Prefix>) {
        if let Some(only) = &self.0 {
            let only = only.read().unwrap_or_else(PoisonError::into_inner);
            prefixes.retain(|prefix| only.contains(prefix));
        }
    }
}

/// More prefixes than [`MAX_PREFIXES`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TooMany;

/// The routes of one source.
#[derive(Debug, Default)]
pub(crate) struct Table {
    only: Only,
    routes: BTreeSet<Prefix>,
}

impl Table {
    pub(crate) fn new(only: Only) -> Self {
        let routes = BTreeSet::new();
        Self { only, routes }
    }

    /// What an UPDATE changes, in its order.
    pub(crate) fn hear(&mut self, update: Update) -> Result<Vec<Heard>, TooMany> {
        let Update {
            mut withdrawn,
            reachable,
            path,
            ..
        } = update;
        self.only.keep(&mut withdrawn);
        withdrawn.retain(|prefix| self.routes.remove(prefix));
        let gone = withdrawn
            .into_iter()
            .map(|prefix| Heard::Withdrawn { prefix, lost: false });
        let mut heard: Vec<Heard> = gone.collect();
        let as_path: Vec<u32> = path.iter().flat_map(Path::asns).collect();
        let attributes = path.as_ref().map(|path| Arc::new(Attributes::of(path)));
        for mut reach in reachable {
            self.only.keep(&mut reach.prefixes);
            for prefix in reach.prefixes {
                self.routes.insert(prefix);
                heard.extend(attributes.clone().map(|attributes| Heard::Announced {
                    prefix,
                    next_hop: reach.next_hop.address,
                    as_path: as_path.clone(),
                    attributes,
                }));
            }
        }
        if self.routes.len() > MAX_PREFIXES {
            return Err(TooMany);
        }
        Ok(heard)
    }

    /// All is gone.
    pub(crate) fn clear(&mut self) -> impl Iterator<Item = Heard> + use<> {
        std::mem::take(&mut self.routes)
            .into_iter()
            .map(|prefix| Heard::Withdrawn { prefix, lost: true })
    }
}
