//! Damping in the judge: what is held back, until when, and for whom it is let go.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use steer_topology::EndpointId;

use super::{Change, Judge, identity};
use crate::damping::Held;
use crate::snapshot::{Damped, Snapshot};

impl Judge {
    /// A verdict on its way to [`Judge::record`].
    pub(super) fn damp(&mut self, change: Change, now: Instant, at: Timestamp) {
        let endpoint = change.endpoint;
        let was_held = self.damping.holds(endpoint);
        let change = self.damping.on_change(&self.fleet, change, now);
        let cause = change.cause.clone();
        self.record(change, at);
        // Down both times, but for another reason.
        let says_why = self.settled && !self.seen.contains_key(&endpoint);
        if was_held != self.damping.holds(endpoint) && says_why {
            self.entries[endpoint.0 as usize].cause = cause;
            self.dirty = true;
            self.touched.insert(endpoint);
        }
    }

    /// Lets those go whose time is over.
    pub(super) fn end_damping(&mut self, now: Instant, at: Timestamp) {
        for change in self.damping.on_deadline(now) {
            self.record(change, at);
        }
    }

    /// Lets those come back without whom too few that live would serve. Then all who are held back are written down.
    pub(super) fn relieve_damped(&mut self, now: Instant, at: Timestamp) {
        let held: Vec<_> = self.damping.held(now).map(|held| held.endpoint).collect();
        for endpoint in held {
            let healthy = self.healthy.without(endpoint);
            let is_needed = self.settled && healthy.is_some_and(|healthy| !self.guard.leaves_enough(healthy));
            let back = is_needed.then(|| self.damping.relieve(endpoint)).flatten();
            if let Some(change) = back {
                self.record(change, at);
                self.reconsider(now);
            }
        }
        self.list_damped(now, at);
    }

    fn list_damped(&mut self, now: Instant, at: Timestamp) {
        let damped = |held: Held| Damped {
            endpoint: held.endpoint,
            figure: held.figure.round() as u32,
            until: at
                .checked_add(held.until.saturating_duration_since(now))
                .unwrap_or(Timestamp::MAX),
        };
        self.damped = self.damping.held(now).map(damped).collect();
    }

    /// Forgets the falls of an endpoint: an operator says that they do not count. Returns the next snapshot, if there is
    /// one to publish.
    pub fn clear_flaps(
        &mut self,
        endpoint: EndpointId,
        now: Instant,
        at: Timestamp,
    ) -> Option<Arc<Snapshot>> {
        self.tell();
        if let Some(change) = self.damping.clear(endpoint) {
            self.record(change, at);
        }
        self.on_verdicts([], now, at)
    }

    /// Goes on for what is the same endpoint in the new fleet.
    pub(super) fn inherit_damping(&mut self, old: &Self, now: Instant, at: Timestamp) {
        let ids = self.fleet.endpoint_ids();
        let ids: HashMap<_, _> = ids.map(|id| (identity(&self.fleet, id), id)).collect();
        let renamed = |id| ids.get(&identity(&old.fleet, id)).copied();
        self.damping.inherit(&self.fleet, &old.damping, renamed);
        for change in self.damping.release_undamped() {
            self.record(change, at);
        }
        self.list_damped(now, at);
    }
}

#[cfg(test)]
mod tests;
