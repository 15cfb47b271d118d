//! From what a speaker shows to the changes that it made.

use std::collections::BTreeMap;

use jiff::Timestamp;
use steer_topology::Prefix;

use super::tracker::Change;
use crate::speaker::PeerStatus;

/// One prefix at one peer, as a status shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Route {
    /// Which.
    pub prefix: Prefix,
    /// It stands announced to the peer.
    pub announced: bool,
    /// Since when.
    pub since: Timestamp,
    /// The snapshot that decided it.
    pub snapshot: u64,
}

/// Remembers what was seen last.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// Announced to anybody, and since when.
    known: BTreeMap<Prefix, Change>,
}

impl Changes {
    /// What is different from the last look, and whether it was there before the first one.
    ///
    /// A prefix is announced as soon as the first peer has it, and withdrawn when the last one has it no more.
    // Gap: a withdrawal and an announcement between two looks are not seen.
    pub fn look(&mut self, routes: impl IntoIterator<Item = Route>) -> Vec<(Change, bool)> {
        let mut now: BTreeMap<Prefix, Change> = BTreeMap::new();
        for route in routes {
            let change = Change {
                prefix: route.prefix,
                announced: route.announced,
                snapshot: route.snapshot,
                at: route.since,
            };
            let known = now.entry(route.prefix).or_insert(change);
            let replaces = match (known.announced, change.announced) {
                (false, true) => true,
                (true, false) => false,
                (true, true) => change.at < known.at,
                (false, false) => change.at > known.at,
            };
            if replaces {
                *known = change;
            }
        }
        let fresh = now
            .values()
            .filter_map(|change| match self.known.get(&change.prefix) {
                None => Some((*change, true)),
                Some(known) if known.announced != change.announced => Some((*change, false)),
                Some(_) => None,
            });
        let fresh = fresh.collect();
        self.known = now;
        fresh
    }

    /// As [`Changes::look`], at the peers of a speaker.
    pub fn look_at(&mut self, peers: &[PeerStatus]) -> Vec<(Change, bool)> {
        let routes = peers.iter().flat_map(|peer| &peer.routes);
        self.look(routes.map(|(prefix, route)| Route {
            prefix: *prefix,
            announced: route.announced,
            since: route.since,
            snapshot: route.snapshot,
        }))
    }
}
