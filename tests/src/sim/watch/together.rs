//! What the sites of a pool do together, by what each has in service at its own place: that is what clients reach.
//!
//! Each site keeps its guard's rules by what it knows. When all take themselves out at once, each knew too little; within
//! [`WITHIN`] they must have heard of each other, and be back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use steer_health::{Service, Snapshot};
use steer_topology::{Fleet, GuardPolicy, PoolId, SiteId};

use super::{Broken, Rule};

/// Enough of a pool is in service again within this.
pub const WITHIN: Duration = Duration::from_secs(10);

/// All sites.
#[derive(Debug, Default)]
pub struct TogetherWatch {
    /// When the checks took the last endpoint of a pool out at its own site.
    went_out: BTreeMap<(SiteId, String), Duration>,
    /// Since when everything is there that it takes to hear of each other, with this guard.
    whole_since: Option<(Duration, GuardPolicy)>,
    /// By pool: since when too few are in service at home.
    short_since: BTreeMap<String, Duration>,
    /// How often a site was back after it had gone out together with the others.
    pub back: u64,
}

impl TogetherWatch {
    /// A site has published.
    pub fn step(&mut self, site: SiteId, before: &Snapshot, after: &Snapshot, now: Duration) {
        let is_reload = !std::sync::Arc::ptr_eq(&before.fleet, &after.fleet);
        for (number, pool) in (0..).zip(&after.fleet.pools) {
            let key = (site, pool.name.clone());
            if serves(after, PoolId(number), site) {
                let came_back = |id: &_| {
                    let was_out = !is_reload && before.endpoint(*id).service == Service::Out;
                    was_out && matches!(after.endpoint(*id).service, Service::Held { .. })
                };
                let is_back = pool.endpoints.iter().any(came_back);
                self.back += u64::from(self.went_out.remove(&key).is_some() && is_back);
            } else if !is_reload && before.settled && serves(before, PoolId(number), site) {
                self.went_out.insert(key, now);
            }
        }
    }

    /// A process is no more: what it takes for down when it starts is out without permission.
    pub fn ends(&mut self, site: SiteId) {
        self.went_out.retain(|(of, _), _| *of != site);
    }

    /// What all have by now. `None`: something is wrong that keeps sites from hearing of each other.
    ///
    /// # Errors
    /// Too few are in service.
    pub fn look(&mut self, all: Option<&[(SiteId, &Snapshot)]>, now: Duration) -> Result<(), Broken> {
        let same_guard = |all: &&[(SiteId, &Snapshot)]| {
            let mut guards = all.iter().map(|(_, one)| &one.fleet.guard);
            guards.all(|guard| *guard == all[0].1.fleet.guard)
        };
        let Some((all, (_, first))) = all.filter(same_guard).and_then(|all| Some((all, all.first()?))) else {
            self.whole_since = None;
            self.short_since.clear();
            return Ok(());
        };
        let policy = first.fleet.guard.clone();
        if self
            .whole_since
            .as_ref()
            .is_none_or(|(_, before)| *before != policy)
        {
            self.whole_since = Some((now, policy));
            self.short_since.clear();
        }
        for (number, pool) in (0..).zip(&first.fleet.pools) {
            self.look_at(&first.fleet, PoolId(number), &pool.name, all, now)?;
        }
        Ok(())
    }

    fn look_at(
        &mut self,
        fleet: &Fleet,
        pool: PoolId,
        name: &str,
        all: &[(SiteId, &Snapshot)],
        now: Duration,
    ) -> Result<(), Broken> {
        let keep = usize::from(fleet.guard.keep_sites);
        let endpoints = fleet.pool(pool).endpoints.iter();
        let units: BTreeSet<_> = endpoints.filter_map(|id| fleet.endpoint(*id).site).collect();
        let in_service = all.iter().filter(|(site, one)| serves(one, pool, *site)).count();
        if units.len() <= keep || in_service >= keep {
            self.short_since.remove(name);
            return Ok(());
        }
        let since = *self.short_since.entry(name.to_owned()).or_insert(now);
        let due = since + WITHIN;
        // What went out before that was out for too long to come back.
        let of_late = |at: Duration| due.saturating_sub(at) < fleet.guard.window;
        let mut out = self
            .went_out
            .iter()
            .filter(|((_, of), at)| of == name && of_late(**at));
        match out.next().filter(|_| now > due) {
            None => Ok(()),
            Some(((site, _), at)) => Err(Rule::Together.broken(format!(
                "pool {name}: {in_service} of {} sites are in service at home since {since:?}, keep_sites is {keep}; \
                 {} went out at {at:?} and is not back",
                units.len(),
                fleet.site(*site).name
            ))),
        }
    }
}

/// Whether a site has something of a pool in service at home.
fn serves(snapshot: &Snapshot, pool: PoolId, site: SiteId) -> bool {
    let endpoints = snapshot.fleet.pool(pool).endpoints.iter();
    let mut here = endpoints.filter(|id| snapshot.fleet.endpoint(**id).site == Some(site));
    here.any(|id| snapshot.endpoint(*id).service.takes_new_clients())
}
