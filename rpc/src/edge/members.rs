//! The backends of a pool of the fleet, by the verdicts of a snapshot. Sans-IO.
//!
//! Of the endpoints in service those at the nearest site get the calls, and when it has none the next: the edge stands where
//! the client's network is nearest, and so should the backend. Where no endpoint is in service, those that are up and drained are
//! used, and else all: an answer may fail, none at all does.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use steer_health::{Service, Snapshot, Verdict};
use steer_topology::{At, EndpointId, Fleet, PoolId, SiteId, Subject, distance_km};

use super::balance::Standing;
use super::config::FleetPool;

/// The fleet as the edge of a site sees it.
#[derive(Debug, Clone)]
pub struct View {
    /// What is in service.
    pub snapshot: Arc<Snapshot>,
    /// Where the edge is; absent in a fleet without sites.
    pub site: Option<SiteId>,
}

/// The number of the snapshot that backends go by. Clones are the same.
#[derive(Debug, Clone, Default)]
pub(super) struct Latest(Arc<AtomicU64>);

impl Latest {
    pub(super) fn set(&self, view: &View) {
        self.0.store(view.snapshot.number, Ordering::Relaxed);
    }

    /// Absent: the edge is in no fleet. Snapshots count from 1.
    pub(super) fn number(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|number| *number > 0)
    }
}

/// A pool of the fleet that is not there, or has nobody.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoMembers {
    /// Of that name.
    #[error("\"{pool}\" names no pool of the fleet; there are {known}")]
    Pool {
        /// As it is written.
        pool: FleetPool,
        /// What there is.
        known: String,
    },
    /// Of that name.
    #[error("\"{pool}\" names no site of the fleet; there are {known}")]
    Site {
        /// As it is written.
        pool: FleetPool,
        /// What there is.
        known: String,
    },
    /// At the site.
    #[error(
        "\"{0}\" has no endpoint there; name another site, or all of them by leaving out what follows the @"
    )]
    Nobody(FleetPool),
}

/// The backends of a pool, and how each stands. An address is there once.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Members {
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) standings: Vec<Standing>,
}

impl Members {
    /// Of whom no fleet says anything.
    pub(super) fn fixed(addresses: Vec<SocketAddr>) -> Self {
        let standings = vec![Standing::EVEN; addresses.len()];
        Self { addresses, standings }
    }
}

impl FleetPool {
    /// Which pool of the fleet it is, and whose endpoints.
    ///
    /// # Errors
    ///
    /// When one of its names is not there, or nobody stands there.
    pub fn find(&self, fleet: &Fleet, site: Option<SiteId>) -> Result<(PoolId, At), NoMembers> {
        let Some(pool) = (0..).zip(&fleet.pools).find(|(_, pool)| pool.name == self.name) else {
            return Err(NoMembers::Pool {
                pool: self.clone(),
                known: names(fleet.pools.iter().map(|pool| &*pool.name)),
            });
        };
        let pool = PoolId(pool.0);
        let at = match self.at.as_deref() {
            None => At::Anywhere,
            Some("local") => At::Local,
            Some(name) => At::Site(fleet.site_named(name).ok_or_else(|| NoMembers::Site {
                pool: self.clone(),
                known: names(fleet.sites.iter().map(|site| &*site.name)),
            })?),
        };
        let wanted = match at {
            At::Anywhere => None,
            At::Local => site,
            At::Site(site) => Some(site),
        };
        let stands = |id: &EndpointId| wanted.is_none() || fleet.endpoint(*id).site == wanted;
        match fleet.members(pool).iter().any(stands) {
            true => Ok((pool, at)),
            false => Err(NoMembers::Nobody(self.clone())),
        }
    }
}

fn names<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let names: Vec<_> = names.map(|name| format!("{name:?}")).collect();
    match names.is_empty() {
        true => "none".to_owned(),
        false => names.join(", "),
    }
}

impl View {
    /// The endpoints of a pool and how they stand.
    pub(super) fn members(&self, pool: &FleetPool) -> Result<Members, NoMembers> {
        let Self { snapshot, site } = self;
        let (id, at) = pool.find(&snapshot.fleet, *site)?;
        let mut ids: Vec<EndpointId> = Vec::new();
        for id in snapshot.endpoints_at(Subject::Pool(id), at, *site) {
            let address = snapshot.fleet.endpoint(id).address;
            if ids
                .iter()
                .all(|known| snapshot.fleet.endpoint(*known).address != address)
            {
                ids.push(id);
            }
        }
        let used = self.used(&ids);
        let standing = |id: &EndpointId| Standing {
            is_used: used.contains(id),
            weight: snapshot.weight(*id),
        };
        Ok(Members {
            addresses: ids
                .iter()
                .map(|id| snapshot.fleet.endpoint(*id).address)
                .collect(),
            standings: ids.iter().map(standing).collect(),
        })
    }

    fn used(&self, ids: &[EndpointId]) -> Vec<EndpointId> {
        let takes = |id: &EndpointId| {
            self.snapshot.endpoint(*id).service.takes_new_clients() && self.snapshot.weight(*id) > 0
        };
        let stays = |id: &EndpointId| {
            let state = self.snapshot.endpoint(*id);
            state.service == Service::Drained && state.verdict != Verdict::Down
        };
        let nearest = self.nearest(ids.iter().copied().filter(takes).collect());
        if !nearest.is_empty() {
            return nearest;
        }
        match self.nearest(ids.iter().copied().filter(stays).collect()) {
            nobody if nobody.is_empty() => ids.to_vec(),
            some => some,
        }
    }

    /// Those at the nearest site, of all that are as near.
    fn nearest(&self, ids: Vec<EndpointId>) -> Vec<EndpointId> {
        let far = |id: &EndpointId| self.distance(*id);
        let Some(least) = ids.iter().map(far).min_by(f64::total_cmp) else {
            return ids;
        };
        let is_near = |id: &EndpointId| far(id).total_cmp(&least).is_eq();
        ids.into_iter().filter(is_near).collect()
    }

    /// In km. Who stands nowhere in particular is here.
    fn distance(&self, id: EndpointId) -> f64 {
        let fleet = &self.snapshot.fleet;
        let position = |site: Option<SiteId>| fleet.site(site?).position();
        let there = fleet.endpoint(id).site;
        match (position(self.site), position(there)) {
            (Some(here), Some(there)) => distance_km(here, there),
            (None, _) | (_, None) => 0.0,
        }
    }
}

#[cfg(test)]
mod tests;
