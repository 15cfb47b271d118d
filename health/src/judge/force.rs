//! Verdicts that an operator forces.
//!
//! ```text
//! force up ────────────────────────────────► up: in, unless it is drained
//! force down ─► guard, as for a drain ─ no ─► refused, unless forced
//!                       │
//!                      yes ─► down: out, and never held ─► unforced or expired ─► what the checks say by then
//! ```
//!
//! What the checks say meanwhile is kept beside, so that the end of a wish needs no new round.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use steer_topology::{EndpointId, SiteId};

use super::{DrainRefused, Judge, Seen};
use crate::operator::{Drain, Force, Forced, Target};
use crate::snapshot::{Cause, EndpointState, Service, Snapshot, Verdict};

/// There is no such forced verdict.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("nothing is forced for {0}")]
pub struct NotForced(pub String);

impl Judge {
    /// The forced verdicts that stand, oldest first.
    #[must_use]
    pub fn forces(&self) -> &[Force] {
        &self.forces
    }

    /// Puts forced verdicts back that stood before a restart, before the first snapshot.
    pub fn restore_forces(&mut self, forces: impl IntoIterator<Item = Force>, now: Instant, at: Timestamp) {
        for force in forces {
            tracing::info!(
                target = force.target.name(&self.fleet),
                verdict = %force.to,
                reason = force.reason,
                author = force.author,
                until = force.until.map(tracing::field::display),
                "forced verdict goes on after a restart"
            );
            self.note_force(force);
        }
        self.end_wishes(now, at);
        self.dirty = false;
    }

    /// An operator forces a verdict; `overrule` overrules the guard. What is forced already gets the new verdict,
    /// reason, author and end. Returns the next snapshot, if there is one to publish.
    ///
    /// # Errors
    /// It is down, the guard forbids it, and it is not overruled.
    pub fn force(
        &mut self,
        force: Force,
        overrule: bool,
        now: Instant,
        at: Timestamp,
    ) -> Result<Option<Arc<Snapshot>>, DrainRefused> {
        self.weigh_force(&force, overrule, now, at)?;
        self.begin_force(force, overrule, now);
        Ok(self.after_wish(now, at))
    }

    /// Whether the guard permits a forced verdict, or `overrule` overrules it. Changes nothing but what is over by now.
    ///
    /// # Errors
    /// As for [`Judge::force`].
    pub fn weigh_force(
        &mut self,
        force: &Force,
        overrule: bool,
        now: Instant,
        at: Timestamp,
    ) -> Result<(), DrainRefused> {
        self.tell();
        self.end_wishes(now, at);
        match force.to {
            Forced::Up => Ok(()),
            Forced::Down if self.is_forced(force.target, Forced::Down) => Ok(()),
            Forced::Down => self.weigh(force.target, "forcing down", &force.author, overrule, now),
        }
    }

    /// An operator takes a forced verdict back. Returns the next snapshot.
    ///
    /// # Errors
    /// Nothing to take back.
    pub fn unforce(
        &mut self,
        target: Target,
        author: &str,
        now: Instant,
        at: Timestamp,
    ) -> Result<Option<Arc<Snapshot>>, NotForced> {
        self.tell();
        let Some(place) = self.forces.iter().position(|force| force.target == target) else {
            return Err(NotForced(target.name(&self.fleet)));
        };
        let force = self.forces.remove(place);
        self.end_force(&force, &format!("unforced by {author}"));
        Ok(self.after_wish(now, at))
    }

    /// Takes over the wishes of the whole fleet in the place of those that stand. All of them were permitted where they
    /// were wished. Returns the next snapshot, if anything differs.
    pub fn adopt(
        &mut self,
        drains: Vec<Drain>,
        forces: Vec<Force>,
        now: Instant,
        at: Timestamp,
    ) -> Option<Arc<Snapshot>> {
        self.tell();
        self.adopt_drains(drains, now);
        let is_over = |force: &mut Force| !forces.iter().any(|wanted| wanted.target == force.target);
        let over: Vec<_> = self.forces.extract_if(.., is_over).collect();
        for force in over {
            self.end_force(&force, "the store has it no more");
        }
        for force in forces {
            if !self.forces.contains(&force) {
                self.begin_force(force, false, now);
            }
        }
        self.end_wishes(now, at);
        self.after_wish(now, at)
    }

    /// A forced verdict stands from now on. It was permitted, here or at another site.
    fn begin_force(&mut self, force: Force, overruled: bool, now: Instant) {
        if force.to == Forced::Down && !self.is_forced(force.target, Forced::Down) {
            self.count_losses(force.target, now);
        }
        self.log_force(&force, overruled);
        self.note_force(force);
    }

    /// Takes over the forced verdicts of another judge, for what goes by the same name.
    pub(super) fn inherit_forces(&mut self, old: &Self, now: Instant, at: Timestamp) {
        for force in &old.forces {
            let name = force.target.name(&old.fleet);
            match Target::find(&self.fleet, &name) {
                Ok(target) => self.note_force(Force {
                    target,
                    ..force.clone()
                }),
                Err(error) => tracing::warn!(target = name, %error, "nothing is left to force"),
            }
        }
        self.end_wishes(now, at);
    }

    /// Ends what is over by now.
    pub(super) fn end_forces(&mut self, at: Timestamp) {
        let is_over = |force: &mut Force| force.until.is_some_and(|until| until <= at);
        let over: Vec<_> = self.forces.extract_if(.., is_over).collect();
        for force in over {
            self.end_force(&force, "its time is over");
        }
    }

    /// Notes a verdict of the checks for an endpoint whose verdict is forced; false where it is not.
    pub(super) fn record_under_force(
        &mut self,
        endpoint: EndpointId,
        verdict: Verdict,
        cause: &Cause,
        at: Timestamp,
    ) -> bool {
        let Some(seen) = self.seen.get_mut(&endpoint) else {
            return false;
        };
        if seen.verdict != verdict {
            *seen = Seen {
                verdict,
                cause: cause.clone(),
                since: at,
            };
            self.overlay(endpoint);
        }
        true
    }

    /// The state of an endpoint as it would be without a forced verdict.
    pub(super) fn without_force(&self, endpoint: EndpointId) -> Cow<'_, EndpointState> {
        let state = &self.entries[endpoint.0 as usize];
        let Some(seen) = self.seen.get(&endpoint) else {
            return Cow::Borrowed(state);
        };
        let service = match (&state.service, seen.verdict) {
            (Service::Drained, Verdict::Up | Verdict::Down | Verdict::Unknown) => Service::Drained,
            (Service::In | Service::Out | Service::Held { .. }, Verdict::Up | Verdict::Unknown) => {
                Service::In
            }
            (service @ (Service::In | Service::Out | Service::Held { .. }), Verdict::Down) => service.clone(),
        };
        Cow::Owned(EndpointState {
            verdict: seen.verdict,
            service,
            cause: seen.cause.clone(),
            since: seen.since,
            weight: state.weight,
        })
    }

    pub(super) fn is_forced_down(&self, endpoint: EndpointId) -> bool {
        self.force_of(endpoint)
            .is_some_and(|force| force.to == Forced::Down)
    }

    fn is_forced(&self, target: Target, to: Forced) -> bool {
        self.forces
            .iter()
            .any(|force| force.target == target && force.to == to)
    }

    /// What is forced for an endpoint: for itself or for its site, and of the two what is forced down. So no end of a
    /// wish takes anything out that the guard was not asked about.
    fn force_of(&self, endpoint: EndpointId) -> Option<&Force> {
        governing(&self.forces, endpoint, self.fleet.endpoint(endpoint).site)
    }

    fn note_force(&mut self, force: Force) {
        let target = force.target;
        match self.forces.iter_mut().find(|stands| stands.target == target) {
            Some(stands) => *stands = force,
            None => self.forces.push(force),
        }
        self.dirty = true;
        let fleet = Arc::clone(&self.fleet);
        target
            .endpoints(&fleet)
            .for_each(|endpoint| self.overlay(endpoint));
    }

    /// A forced verdict is no more: what the checks say counts again, or what is forced for the site.
    fn end_force(&mut self, force: &Force, cause: &str) {
        let (snapshot, target) = (self.number + 1, force.target.name(&self.fleet));
        let (cause, verdict) = (cause.to_owned(), force.to);
        self.journal
            .add(move || tracing::info!(snapshot, target, %verdict, cause, "forced verdict ended"));
        self.dirty = true;
        let fleet = Arc::clone(&self.fleet);
        for endpoint in force.target.endpoints(&fleet) {
            match self.force_of(endpoint) {
                Some(_) => self.overlay(endpoint),
                None => self.uncover(endpoint),
            }
        }
    }

    /// Puts what is forced for an endpoint over what the checks say of it.
    fn overlay(&mut self, endpoint: EndpointId) {
        let Some(force) = self.force_of(endpoint).cloned() else {
            return;
        };
        let entry = &mut self.entries[endpoint.0 as usize];
        let seen = self.seen.entry(endpoint).or_insert_with(|| Seen {
            verdict: entry.verdict,
            cause: entry.cause.clone(),
            since: entry.since,
        });
        let (from, verdict) = (entry.verdict, force.to.verdict());
        let mut cause = force.to_string();
        if seen.verdict != verdict && seen.verdict != Verdict::Unknown {
            cause.push_str(&format!(
                "; the checks say {}: {}",
                seen.verdict.as_str(),
                seen.cause
            ));
        }
        (entry.verdict, entry.cause, entry.since) = (verdict, cause, force.since);
        self.dirty = true;
        self.touched.insert(endpoint);
        self.waiting.retain(|waiting| waiting.endpoint != endpoint);
        if from != verdict {
            self.log_verdict(endpoint, from);
        }
        self.recount_one(endpoint);
        if !self.is_covered(endpoint) {
            self.put(
                endpoint,
                match force.to {
                    Forced::Up => Service::In,
                    Forced::Down => Service::Out,
                },
            );
        }
    }

    /// What the checks say of an endpoint counts again.
    fn uncover(&mut self, endpoint: EndpointId) {
        let Some(seen) = self.seen.remove(&endpoint) else {
            return;
        };
        let entry = &mut self.entries[endpoint.0 as usize];
        let from = entry.verdict;
        let was_up = from == Verdict::Up;
        (entry.verdict, entry.cause, entry.since) = (seen.verdict, seen.cause, seen.since);
        self.touched.insert(endpoint);
        if from != seen.verdict {
            self.log_verdict(endpoint, from);
        }
        self.recount_one(endpoint);
        if self.is_covered(endpoint) {
            return;
        }
        if self.settled && was_up && seen.verdict == Verdict::Down {
            // It served until now, so the guard is asked as it is for any failure.
            self.follow(endpoint, Verdict::Down);
        } else {
            self.take_back(endpoint);
        }
    }

    fn log_force(&mut self, force: &Force, overruled: bool) {
        let (snapshot, target) = (self.number + 1, force.target.name(&self.fleet));
        let Force {
            target: _,
            to,
            reason,
            author,
            since: _,
            until,
        } = force.clone();
        self.journal.add(move || {
            let until = until.map(tracing::field::display);
            tracing::info!(snapshot, target, verdict = %to, reason, author, until, overruled, "forced verdict begins");
        });
    }
}

/// The forced verdict that counts for an endpoint at a site.
pub(crate) fn governing(forces: &[Force], endpoint: EndpointId, site: Option<SiteId>) -> Option<&Force> {
    let of = |target| forces.iter().find(|force| force.target == target);
    let (own, site) = (
        of(Target::Endpoint(endpoint)),
        site.and_then(|site| of(Target::Site(site))),
    );
    match (own, site) {
        (Some(own), Some(site)) if own.to == Forced::Up && site.to == Forced::Down => Some(site),
        (own, site) => own.or(site),
    }
}

#[cfg(test)]
mod tests;
