//! What stands announced on one session: the Adj-RIB-Out as the peer has it from us.
//!
//! The peer task only appends; whoever reads does the work. A log that grows too long is worked off by the
//! task that appends to it, so that the ledger is bounded by the routes that we announce.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use metrics::counter;
use steer_topology::Prefix;

use crate::wire::Family;
use crate::wire::retell::{self, Shared};

/// Octets of UPDATEs that may wait to be worked off.
const MAX_LOG: usize = 1024 * 1024;

/// Announced routes per family.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[expect(missing_docs, reason = "the names are the families")]
pub struct RouteCounts {
    pub ipv4: u64,
    pub ipv6: u64,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    routes: BTreeMap<Prefix, Arc<Shared>>,
    /// Sent, but not worked into `routes` yet.
    log: Vec<Bytes>,
    log_octets: usize,
}

impl Ledger {
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }

    /// One more UPDATE was sent.
    pub(super) fn note(&mut self, update: Bytes) {
        self.log_octets += update.len();
        self.log.push(update);
        if self.log_octets > MAX_LOG {
            self.settle();
        }
    }

    /// UPDATEs that announce all of it anew, packed.
    pub(super) fn updates(&mut self) -> Vec<Bytes> {
        self.settle();
        let mut groups: BTreeMap<&Shared, Vec<Prefix>> = BTreeMap::new();
        for (prefix, shared) in &self.routes {
            groups.entry(shared).or_default().push(*prefix);
        }
        let mut updates = Vec::new();
        for (shared, prefixes) in groups {
            let mut rest = prefixes.as_slice();
            while !rest.is_empty() {
                let (update, count) = retell::tell(shared, rest);
                rest = &rest[count.max(1)..];
                updates.push(update);
            }
        }
        updates
    }

    pub(super) fn counts(&mut self) -> RouteCounts {
        self.settle();
        let mut counts = RouteCounts::default();
        for prefix in self.routes.keys() {
            *match Family::of(prefix) {
                Family::Ipv4Unicast => &mut counts.ipv4,
                Family::Ipv6Unicast => &mut counts.ipv6,
            } += 1;
        }
        counts
    }

    #[cfg(test)]
    pub(super) fn log_octets(&self) -> usize {
        self.log_octets
    }

    fn settle(&mut self) {
        self.log_octets = 0;
        for update in std::mem::take(&mut self.log) {
            let Some(parts) = retell::take_apart(&update) else {
                // Our own encoder does not write such a message.
                counter!("steer_anycast_tap_unreadable_total").increment(1);
                continue;
            };
            for prefix in parts.withdrawn {
                self.routes.remove(&prefix);
            }
            for (shared, prefixes) in parts.announced {
                let shared = Arc::new(shared);
                let routes = prefixes.into_iter().map(|prefix| (prefix, Arc::clone(&shared)));
                self.routes.extend(routes);
            }
        }
    }
}
