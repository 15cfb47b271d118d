//! What sites get, on its way into snapshots: gathered, so that many sites that tell it often make few snapshots.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_topology::{CheckKind, EndpointId, Feeds, SiteId};

use super::Judge;
use crate::load::Load;
use crate::snapshot::Snapshot;

/// Figures wait this long for others; whoever steers by them looks at longer times.
pub(super) const GATHER: Duration = Duration::from_secs(1);

/// A clock that was set is noticed within this time.
const LOOK_AGAIN: Duration = Duration::from_mins(1);

/// The figures that count, and when the next snapshot is due for them.
#[derive(Debug, Default)]
pub(super) struct Loads {
    by_site: Vec<Option<Load>>,
    /// When what was told must be in a snapshot.
    due: Option<Instant>,
    /// When to see whether a lease is over.
    ends: Option<Instant>,
}

impl Loads {
    pub(super) fn current(&self) -> Vec<Option<Load>> {
        self.by_site.clone()
    }

    fn of(&self, site: SiteId, at: Timestamp) -> u64 {
        let load = self.by_site.get(usize::from(site.0)).and_then(Option::as_ref);
        load.filter(|load| load.counts(at))
            .map_or(0, |load| load.per_second)
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.ends).min()
    }

    fn put(&mut self, site: SiteId, load: Option<Load>, now: Instant, at: Timestamp) {
        let index = usize::from(site.0);
        if self.by_site.len() <= index {
            self.by_site.resize(index + 1, None);
        }
        if let Some(place) = self.by_site.get_mut(index) {
            *place = load;
        }
        self.due = self.due.or(now.checked_add(GATHER));
        self.look_later(now, at);
    }

    /// Whether there is something to say: a figure that waited long enough, or a lease that is over.
    pub(super) fn is_due(&mut self, now: Instant, at: Timestamp) -> bool {
        let is_over = |load: &Option<Load>| load.as_ref().is_some_and(|load| !load.counts(at));
        let mut any_over = false;
        for load in self.by_site.iter_mut().filter(|load| is_over(load)) {
            *load = None;
            any_over = true;
        }
        self.look_later(now, at);
        any_over || self.due.is_some_and(|due| due <= now)
    }

    /// The figures are in a snapshot.
    pub(super) fn told(&mut self) {
        self.due = None;
    }

    fn look_later(&mut self, now: Instant, at: Timestamp) {
        let first = self.by_site.iter().flatten().map(|load| load.until).min();
        self.ends = first.and_then(|until| {
            let left = Duration::try_from(until.duration_since(at)).unwrap_or_default();
            now.checked_add(left.clamp(Duration::from_millis(1), LOOK_AGAIN))
        });
    }
}

impl Judge {
    /// Somebody counted what a site gets; `None` takes the figure back. It is in a snapshot within a second.
    /// Returns the next snapshot, if one is due now.
    pub fn on_load(
        &mut self,
        site: SiteId,
        load: Option<Load>,
        now: Instant,
        at: Timestamp,
    ) -> Option<Arc<Snapshot>> {
        if usize::from(site.0) < self.fleet.sites.len() {
            self.loads.put(site, load, now, at);
        }
        self.on_verdicts([], now, at)
    }

    /// What pools need that need what is measured.
    pub(super) fn measure_demand(&mut self, at: Timestamp) {
        let fleet = Arc::clone(&self.fleet);
        for id in self.measured.clone() {
            let endpoints = fleet.pool(id).endpoints.iter();
            let sites: BTreeSet<_> = endpoints.filter_map(|id| fleet.endpoint(*id).site).collect();
            let needs = sites.into_iter().map(|site| self.loads.of(site, at)).sum();
            for units in [&mut self.units, &mut self.healthy] {
                units.set_needs(id, needs);
            }
        }
    }

    /// Endpoints tell their weights; `None`: what is written counts again. Returns the next snapshot.
    pub fn on_weights(
        &mut self,
        weights: impl IntoIterator<Item = (EndpointId, Option<u32>)>,
        now: Instant,
        at: Timestamp,
    ) -> Option<Arc<Snapshot>> {
        for (endpoint, weight) in weights {
            let index = endpoint.0 as usize;
            let is_news = self
                .entries
                .get(index)
                .is_some_and(|entry| entry.weight != weight);
            if is_news && let Some(entry) = self.entries.get_mut(index) {
                entry.weight = weight;
                self.touched.insert(endpoint);
                self.dirty = true;
            }
        }
        self.on_verdicts([], now, at)
    }

    /// What nobody tells any more counts no more.
    pub(super) fn forget_weights(&mut self) {
        let fleet = Arc::clone(&self.fleet);
        for id in fleet.endpoint_ids() {
            let load = fleet
                .pool(fleet.endpoint(id).pool)
                .load
                .map(|id| &fleet.check(id).kind);
            let is_told = matches!(load, Some(CheckKind::Load(rules)) if rules.feeds == Feeds::Weight);
            let index = id.0 as usize;
            let has_one = self
                .entries
                .get(index)
                .is_some_and(|entry| entry.weight.is_some());
            if has_one
                && !is_told
                && let Some(entry) = self.entries.get_mut(index)
            {
                entry.weight = None;
            }
        }
    }

    /// Figures go on for sites of the same name.
    pub(super) fn inherit_loads(&mut self, old: &Self, now: Instant, at: Timestamp) {
        for (load, site) in old.loads.by_site.iter().zip(&old.fleet.sites) {
            if let Some(site) = self.fleet.site_named(&site.name) {
                self.loads.put(site, load.clone(), now, at);
            }
        }
        self.loads.told();
    }
}

#[cfg(test)]
mod tests;
