//! The guard, by what was published: which sites of which pools left service, when, and what was left.
//!
//! It counts what clients see: a unit (a pool at a site) is in service while one of its endpoints takes new clients. The
//! product counts more narrowly (what is unknown is nothing to lean on), so whatever this refuses the product must refuse.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use steer_health::{Service, Snapshot};
use steer_topology::{Demand, EndpointId, Fleet, PoolId, SiteId};

use super::{Broken, Rule};

/// Why a snapshot was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// The checks, or time.
    Checks,
    /// An operator asked for it, and the guard for its part allowed it.
    Wish,
    /// An operator overruled the guard.
    Force,
}

/// What one process took out.
#[derive(Debug, Default)]
pub struct GuardWatch {
    /// By name of the pool.
    taken: BTreeMap<String, VecDeque<Duration>>,
}

/// A unit that left service.
struct Left {
    pool: PoolId,
    is_out: bool,
}

impl GuardWatch {
    /// One snapshot follows another.
    ///
    /// # Errors
    /// More was taken out than may be.
    pub fn step(
        &mut self,
        before: &Snapshot,
        after: &Snapshot,
        because: Because,
        now: Duration,
    ) -> Result<(), Broken> {
        if !before.settled {
            return Ok(()); // what is down at the start is out without permission
        }
        let left = left(before, after);
        let mut by_pool: BTreeMap<PoolId, (usize, usize)> = BTreeMap::new();
        for Left { pool, is_out } in left {
            let (out, drained) = by_pool.entry(pool).or_default();
            *(if is_out { out } else { drained }) += 1;
        }
        for (pool, (out, drained)) in by_pool {
            self.count(after, pool, out + drained, now);
            let may_be = match because {
                Because::Force => out == 0, // nothing to ask
                Because::Checks | Because::Wish => false,
            };
            if !may_be {
                self.check(after, pool, drained > 0)?;
            }
        }
        Ok(())
    }

    fn count(&mut self, after: &Snapshot, pool: PoolId, units: usize, now: Duration) {
        let window = after.fleet.guard.window;
        let taken = self.taken.entry(after.fleet.pool(pool).name.clone()).or_default();
        while taken.front().is_some_and(|first| now - *first >= window) {
            taken.pop_front();
        }
        taken.extend(std::iter::repeat_n(now, units));
    }

    fn check(&self, after: &Snapshot, pool: PoolId, by_drain: bool) -> Result<(), Broken> {
        let (fleet, policy) = (&after.fleet, &after.fleet.guard);
        let name = &fleet.pool(pool).name;
        let taken = self.taken.get(name).map_or(0, VecDeque::len);
        if taken > usize::from(policy.max_withdrawn) {
            return Err(Rule::Guard.broken(format!(
                "pool {name}: {taken} sites taken out within {:?}, max_withdrawn is {}",
                policy.window, policy.max_withdrawn
            )));
        }
        let units: BTreeSet<_> = units(fleet, pool).collect();
        let stands: BTreeSet<_> = in_service(after, pool).collect();
        let keep = usize::from(policy.keep_sites);
        if (units.len() > keep || by_drain) && stands.len() < keep {
            return Err(Rule::Guard.broken(format!(
                "pool {name}: {} of {} sites are left in service, keep_sites is {keep}",
                stands.len(),
                units.len()
            )));
        }
        let capacity: u64 = stands.iter().filter_map(|site| fleet.site(*site).capacity).sum();
        let needs = match fleet.pool(pool).needs {
            Demand::Written(needs) => needs,
            Demand::Measured => return Ok(()), // no site of this world tells its load
        };
        if capacity < needs {
            return Err(Rule::Guard.broken(format!(
                "pool {name}: sites for {capacity} requests/s are left in service, it needs {needs}"
            )));
        }
        Ok(())
    }
}

fn units(fleet: &Fleet, pool: PoolId) -> impl Iterator<Item = SiteId> + '_ {
    let endpoints = fleet.pool(pool).endpoints.iter();
    endpoints.filter_map(|id| fleet.endpoint(*id).site)
}

fn in_service(snapshot: &Snapshot, pool: PoolId) -> impl Iterator<Item = SiteId> + '_ {
    let fleet = &snapshot.fleet;
    let serves = |id: &&EndpointId| snapshot.endpoint(**id).service.takes_new_clients();
    let endpoints = fleet.pool(pool).endpoints.iter().filter(serves);
    endpoints.filter_map(|id| fleet.endpoint(*id).site)
}

/// The units that were in service and are not, by our doing: what a file does not name any more is gone by its author's.
fn left(before: &Snapshot, after: &Snapshot) -> Vec<Left> {
    let same_fleet = Arc::ptr_eq(&before.fleet, &after.fleet);
    let mut left = Vec::new();
    for (number, pool) in (0..).zip(&after.fleet.pools) {
        let id = PoolId(number);
        let old = (0..)
            .zip(&before.fleet.pools)
            .find(|(_, old)| old.name == pool.name);
        let Some((old, _)) = old else { continue };
        let stands: BTreeSet<_> = in_service(after, id).collect();
        let stood: BTreeSet<_> = in_service(before, PoolId(old))
            .filter_map(|site| after.fleet.site_named(&before.fleet.site(site).name))
            .collect();
        for site in stood.difference(&stands) {
            let turned = |service: &Service| {
                pool.endpoints.iter().any(|endpoint| {
                    let named = &after.fleet.endpoint(*endpoint);
                    let was = if same_fleet {
                        Some(*endpoint)
                    } else {
                        same_as(&before.fleet, PoolId(old), named.address)
                    };
                    named.site == Some(*site)
                        && after.endpoint(*endpoint).service == *service
                        && was.is_some_and(|was| before.endpoint(was).service.takes_new_clients())
                })
            };
            if turned(&Service::Out) {
                left.push(Left {
                    pool: id,
                    is_out: true,
                });
            } else if turned(&Service::Drained) {
                left.push(Left {
                    pool: id,
                    is_out: false,
                });
            }
        }
    }
    left
}

fn same_as(fleet: &Fleet, pool: PoolId, address: std::net::SocketAddr) -> Option<EndpointId> {
    let endpoints = fleet.pool(pool).endpoints.iter().copied();
    endpoints
        .into_iter()
        .find(|id| fleet.endpoint(*id).address == address)
}
