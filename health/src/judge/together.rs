//! What went out together with the others comes back.
//!
//! A site decides about its own endpoints at once, and hears about a second later what the others decided about theirs. Where the
//! same fault is seen everywhere (a backbone that is gone, a file whose check fails), each has taken itself out while it still
//! counted on the others.
//!
//! ```text
//! the site of an endpoint says that it is down ─► it is nothing to lean on here, whatever the votes say
//!                                                  └─► too few are left? ─► what the checks took out *here* within
//!                                                                           `window` is in service again, held
//! ```
//!
//! What is held so asks the guard like everybody else, who refuses as long as too few others are left: so it does not flap, and
//! goes out in order once others are up. What went out longer ago than `window` is likely dead, and stays out. Without gossip there is
//! no own site and nothing of this: the guard then knows all that is out.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use steer_topology::EndpointId;

use super::{Judge, Waiting, identity};
use crate::guard::Refusal;
use crate::snapshot::{Service, Verdict};

/// What is known of who decides where.
#[derive(Debug, Default)]
pub(super) struct Together {
    /// Of our own site: about these nobody else decides.
    own: BTreeSet<EndpointId>,
    /// Those elsewhere of which their own site says that they are down.
    lost: BTreeSet<EndpointId>,
    /// When the checks took an endpoint of our own out, for as long as it is out.
    went_out: BTreeMap<EndpointId, Instant>,
}

impl Together {
    /// Whether the own site of an endpoint says that it is down.
    pub(super) fn is_lost(&self, endpoint: EndpointId) -> bool {
        self.lost.contains(&endpoint)
    }

    /// The guard let an endpoint go that its check says is down.
    pub(super) fn goes_out(&mut self, endpoint: EndpointId, now: Instant) {
        if self.own.contains(&endpoint) {
            self.went_out.insert(endpoint, now);
        }
    }

    /// An endpoint is where it is now for another reason.
    pub(super) fn is_elsewhere(&mut self, endpoint: EndpointId) {
        self.went_out.remove(&endpoint);
    }
}

impl Judge {
    /// Which endpoints are of our own site, where other sites decide about theirs.
    pub(crate) fn decides_for(&mut self, own: impl IntoIterator<Item = EndpointId>) {
        self.together.own = own.into_iter().collect();
    }

    /// The own site of an endpoint elsewhere says that it is down, or up. To be followed by [`Judge::on_verdicts`].
    pub(crate) fn heard_from_home(&mut self, endpoint: EndpointId, verdict: Verdict) {
        if self.together.own.contains(&endpoint) || endpoint.0 as usize >= self.entries.len() {
            return;
        }
        let changed = match verdict {
            Verdict::Down => self.together.lost.insert(endpoint),
            Verdict::Up => self.together.lost.remove(&endpoint),
            Verdict::Unknown => false, // nothing new
        };
        if changed {
            self.recount_one(endpoint);
        }
    }

    /// Puts back in service, held, what the checks took out here of late and without which too few are left.
    pub(super) fn bring_back(&mut self, now: Instant) {
        if !self.settled || self.together.went_out.is_empty() {
            return;
        }
        let window = self.fleet.guard.window;
        let is_new = |at: &Instant| now.saturating_duration_since(*at) < window;
        self.together.went_out.retain(|_, at| is_new(at));
        let may_come: Vec<_> = self.together.went_out.keys().copied().collect();
        for endpoint in may_come {
            // Who is damped comes back by itself where it is needed; what is forced was wished.
            let is_ours = !self.damping.holds(endpoint) && !self.seen.contains_key(&endpoint);
            let is_out = self.entries[endpoint.0 as usize].service == Service::Out;
            if is_ours
                && is_out
                && let Some(refusal) = self.too_few_without(endpoint)
            {
                self.come_back(endpoint, refusal);
            }
        }
    }

    fn come_back(&mut self, endpoint: EndpointId, refusal: Refusal) {
        let one = Waiting {
            endpoint,
            refusal: Some(refusal),
            came_back: true,
        };
        self.put(endpoint, one.held_for(refusal));
        self.waiting.push(one);
        metrics::counter!("steer_health_brought_back_total", "rule" => refusal.rule()).increment(1);
        self.warn_of(
            endpoint,
            refusal,
            "brought back: it went out together with the others",
        );
    }

    /// Goes on for what is the same endpoint in the new fleet.
    pub(super) fn inherit_together(&mut self, old: &Self) {
        let fleet = Arc::clone(&self.fleet);
        let ids: HashMap<_, _> = fleet
            .endpoint_ids()
            .map(|id| (identity(&fleet, id), id))
            .collect();
        let renamed = |id: &EndpointId| ids.get(&identity(&old.fleet, *id)).copied();
        let Together { own, lost, went_out } = &old.together;
        let out = went_out.iter().filter_map(|(id, at)| Some((renamed(id)?, *at)));
        self.together = Together {
            own: own.iter().filter_map(renamed).collect(),
            lost: lost.iter().filter_map(renamed).collect(),
            went_out: out
                .filter(|(id, _)| self.entries[id.0 as usize].service == Service::Out)
                .collect(),
        };
    }
}

impl Waiting {
    /// In service, and why.
    pub(super) fn held_for(&self, refusal: Refusal) -> Service {
        let reason = if self.came_back {
            format!("went out together with the others: {refusal}")
        } else {
            refusal.to_string()
        };
        Service::Held { reason }
    }
}

#[cfg(test)]
mod tests;
