//! The comparisons of all pools that have one, and what they do to the verdicts of the checks.

use std::time::{Duration, Instant};

use steer_topology::{EndpointId, Fleet};

use crate::detect::Seen;
use crate::detect::outlier::{Outliers, Verdict as Word};
use crate::judge::Change;
use crate::outcome::Outcome;
use crate::snapshot::{Cause, Verdict};

/// An ejected endpoint is down whatever its check says; when its time is over it is what its check says.
#[derive(Debug)]
pub(super) struct Pools {
    pools: Vec<Pool>,
    /// By endpoint: its pool in `pools`, and its place there.
    places: Vec<Option<(usize, usize)>>,
}

#[derive(Debug)]
struct Pool {
    outliers: Outliers,
    members: Vec<Member>,
}

/// What the check of an endpoint says.
#[derive(Debug)]
struct Member {
    endpoint: EndpointId,
    verdict: Verdict,
    cause: Cause,
}

impl Pools {
    /// No comparison yet; `verdict` is what the checks say.
    pub(super) fn of(fleet: &Fleet, now: Instant, verdict: impl Fn(EndpointId) -> Verdict) -> Self {
        let mut places = vec![None; fleet.endpoints.len()];
        let mut pools = Vec::new();
        for pool in &fleet.pools {
            let Some(rules) = &pool.outlier else { continue };
            for (place, endpoint) in pool.endpoints.iter().enumerate() {
                places[endpoint.0 as usize] = Some((pools.len(), place));
            }
            let member = |endpoint: &EndpointId| Member {
                endpoint: *endpoint,
                verdict: verdict(*endpoint),
                cause: String::new(),
            };
            pools.push(Pool {
                outliers: Outliers::new(rules.clone(), pool.endpoints.len(), now),
                members: pool.endpoints.iter().map(member).collect(),
            });
        }
        Self { pools, places }
    }

    /// When to call [`Pools::run_due`].
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.pools.iter().map(|pool| pool.outliers.next_deadline()).min()
    }

    pub(super) fn observe(&mut self, endpoint: EndpointId, outcome: &Outcome, took: Duration) {
        let Some((pool, place)) = self.places[endpoint.0 as usize] else {
            return;
        };
        let seen = match outcome {
            Outcome::Success(_) => Seen::Success { took },
            Outcome::Failure(_) => Seen::Failure,
            Outcome::Void(_) => return,
        };
        self.pools[pool].outliers.observe(place, seen);
    }

    /// The verdict of a check changed: what that means with the comparison.
    pub(super) fn verdict(&mut self, endpoint: EndpointId, verdict: Verdict, cause: Cause) -> Option<Change> {
        if let Some((pool, place)) = self.places[endpoint.0 as usize] {
            let pool = &mut self.pools[pool];
            let member = &mut pool.members[place];
            member.verdict = verdict;
            member.cause.clone_from(&cause);
            if pool.outliers.is_ejected(place) {
                return None; // it is down already
            }
        }
        Some(Change {
            endpoint,
            verdict,
            cause,
        })
    }

    /// Compares where the time has come.
    pub(super) fn run_due(&mut self, now: Instant) -> Vec<Change> {
        let mut changes = Vec::new();
        for pool in &mut self.pools {
            for word in pool.outliers.on_deadline(now) {
                changes.extend(pool.follow(word));
            }
        }
        changes
    }
}

impl Pool {
    fn follow(&self, word: Word) -> Option<Change> {
        match word {
            Word::Eject { member, because } => {
                metrics::counter!("steer_health_ejections_total").increment(1);
                let member = &self.members[member];
                (member.verdict != Verdict::Down).then_some(Change {
                    endpoint: member.endpoint,
                    verdict: Verdict::Down,
                    cause: because,
                })
            }
            Word::Return { member } => {
                let member = &self.members[member];
                (member.verdict != Verdict::Down).then(|| Change {
                    endpoint: member.endpoint,
                    verdict: member.verdict,
                    cause: format!("{} (its time out as an outlier is over)", member.cause),
                })
            }
        }
    }
}
