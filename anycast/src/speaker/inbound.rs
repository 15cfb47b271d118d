//! What a peer announces: counted, limited, sampled, and never used (RFC 8212 §3).
//!
//! A full table costs no memory that is not configured: totals always; with a limit, one fingerprint for each
//! prefix up to the limit; with a sample, as many routes as it has places.

use std::collections::{HashMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use steer_topology::Prefix;

use crate::wire::{self, Families, Family, Update};

/// AS numbers that are kept of a sampled path; the rest is cut.
const MAX_PATH: usize = 64;

/// What came in during this session.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct InboundTotals {
    /// Prefixes in announcements, each as often as it came.
    pub announced: u64,
    /// Prefixes in withdrawals, those that RFC 7606 treats so included.
    pub withdrawn: u64,
    /// Prefixes that the peer holds announced now; absent without `max_prefixes`, which alone needs to know.
    pub held: Option<u64>,
    /// Families whose End-of-RIB marker has come.
    pub ipv4_complete: bool,
    /// As above.
    pub ipv6_complete: bool,
}

/// A received route that was kept as one of a sample.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SampledRoute {
    /// The prefix.
    pub prefix: Prefix,
    /// Where packets would go.
    pub next_hop: IpAddr,
    /// AS numbers, nearest first; at most 64.
    pub as_path: Vec<u32>,
}

/// The inbound side of one session.
#[derive(Debug)]
pub(super) struct Inbound {
    totals: InboundTotals,
    limit: Option<Limit>,
    sample: Arc<Mutex<Sample>>,
}

/// The peer has crossed its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Excess {
    pub(super) family: Family,
    pub(super) limit: u32,
}

impl Inbound {
    /// A session that has just come up: the peer holds nothing.
    pub(super) fn new(limit: Option<u32>, sample: Arc<Mutex<Sample>>) -> Self {
        locked(&sample).clear();
        let limit = limit.map(Limit::new);
        let held = limit.as_ref().map(|_| 0);
        Self {
            totals: InboundTotals {
                held,
                ..InboundTotals::default()
            },
            limit,
            sample,
        }
    }

    pub(super) fn totals(&self) -> InboundTotals {
        self.totals
    }

    /// Takes one UPDATE. Beyond the limit nothing is counted any more: the session is to end.
    pub(super) fn take(&mut self, update: &Update) -> Result<(), Excess> {
        let announced: usize = update.reachable.iter().map(|reach| reach.prefixes.len()).sum();
        self.totals.announced += announced as u64;
        self.totals.withdrawn += update.withdrawn.len() as u64;
        let complete: Families = update.end_of_rib.into_iter().collect();
        self.totals.ipv4_complete |= complete.contains(Family::Ipv4Unicast);
        self.totals.ipv6_complete |= complete.contains(Family::Ipv6Unicast);
        locked(&self.sample).take(update);
        if let Some(limit) = &mut self.limit {
            let taken = limit.take(update);
            self.totals.held = Some(limit.held() as u64);
            taken?;
        }
        Ok(())
    }
}

/// The prefixes that a peer holds announced, as fingerprints; never more than the limit.
#[derive(Debug)]
struct Limit {
    most: u32,
    /// Exact: address and length fit.
    ipv4: HashSet<u64>,
    /// Hashed with a key that the peer cannot know: two prefixes of a full table share one once in 10^7 tables.
    ipv6: HashSet<u64>,
    key: RandomState,
}

impl Limit {
    fn new(most: u32) -> Self {
        Self {
            most,
            ipv4: HashSet::new(),
            ipv6: HashSet::new(),
            key: RandomState::new(),
        }
    }

    fn held(&self) -> usize {
        self.ipv4.len() + self.ipv6.len()
    }

    fn take(&mut self, update: &Update) -> Result<(), Excess> {
        for prefix in &update.withdrawn {
            let (set, fingerprint) = self.place(prefix);
            set.remove(&fingerprint);
        }
        for prefix in update.reachable.iter().flat_map(|reach| &reach.prefixes) {
            let full = self.held() >= self.most as usize;
            let (set, fingerprint) = self.place(prefix);
            if full && !set.contains(&fingerprint) {
                return Err(Excess {
                    family: Family::of(prefix),
                    limit: self.most,
                });
            }
            set.insert(fingerprint);
        }
        Ok(())
    }

    fn place(&mut self, prefix: &Prefix) -> (&mut HashSet<u64>, u64) {
        match prefix.address() {
            IpAddr::V4(address) => {
                let fingerprint = u64::from(address.to_bits()) << 8 | u64::from(prefix.length());
                (&mut self.ipv4, fingerprint)
            }
            IpAddr::V6(_) => {
                let fingerprint = self.key.hash_one(prefix);
                (&mut self.ipv6, fingerprint)
            }
        }
    }
}

/// Some of the routes that came, each with the same chance (Vitter's algorithm R).
///
/// A withdrawn route leaves its place to the next that comes, so that after many withdrawals newer routes have a
/// better chance than older ones.
#[derive(Debug)]
pub(crate) struct Sample {
    places: usize,
    routes: Vec<SampledRoute>,
    at: HashMap<Prefix, usize>,
    /// Routes that could have been kept.
    seen: u64,
    rng: StdRng,
}

impl Sample {
    pub(super) fn new(places: u32, seed: u64) -> Self {
        Self {
            places: places as usize,
            routes: Vec::new(),
            at: HashMap::new(),
            seen: 0,
            rng: StdRng::seed_from_u64(seed),
        }
    }

    /// What is kept now.
    pub(super) fn routes(&self) -> Vec<SampledRoute> {
        self.routes.clone()
    }

    fn clear(&mut self) {
        self.routes.clear();
        self.at.clear();
        self.seen = 0;
    }

    fn take(&mut self, update: &Update) {
        if self.places == 0 {
            return;
        }
        for prefix in &update.withdrawn {
            self.remove(prefix);
        }
        for reach in &update.reachable {
            for prefix in &reach.prefixes {
                let place = self.place_for(prefix);
                if let Some(place) = place {
                    let next_hop = reach.next_hop.address;
                    self.put(place, *prefix, next_hop, update.path.as_ref());
                }
            }
        }
    }

    /// Where a route goes: the place that it has, a free one, or by chance one that another gives up.
    fn place_for(&mut self, prefix: &Prefix) -> Option<usize> {
        if let Some(place) = self.at.get(prefix) {
            return Some(*place);
        }
        self.seen += 1;
        if self.routes.len() < self.places {
            return Some(self.routes.len());
        }
        let place = self.rng.random_range(0..self.seen);
        usize::try_from(place).ok().filter(|place| *place < self.places)
    }

    fn put(&mut self, place: usize, prefix: Prefix, next_hop: IpAddr, path: Option<&wire::Path>) {
        let as_path = path
            .into_iter()
            .flat_map(wire::Path::asns)
            .take(MAX_PATH)
            .collect();
        let route = SampledRoute {
            prefix,
            next_hop,
            as_path,
        };
        match self.routes.get_mut(place) {
            Some(old) => {
                self.at.remove(&old.prefix);
                *old = route;
            }
            None => self.routes.push(route),
        }
        self.at.insert(prefix, place);
    }

    fn remove(&mut self, prefix: &Prefix) {
        let Some(place) = self.at.remove(prefix) else {
            return;
        };
        self.routes.swap_remove(place);
        if let Some(moved) = self.routes.get(place) {
            self.at.insert(moved.prefix, place);
        }
    }
}

/// A panic elsewhere leaves a sample that is still worth showing.
pub(super) fn locked(sample: &Mutex<Sample>) -> MutexGuard<'_, Sample> {
    sample.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
