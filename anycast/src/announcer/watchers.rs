//! Which prefixes a new snapshot can concern: a change of a few endpoints among thousands costs what it concerns.

use std::collections::{BTreeMap, BTreeSet};

use steer_health::Snapshot;
use steer_topology::{Anycast, Condition, Fleet, PoolId, Prefix, Subject};

/// The prefixes whose conditions ask for endpoints, by the endpoints' pool.
#[derive(Debug, Default)]
pub(super) struct Watchers {
    by_pool: BTreeMap<PoolId, Vec<Prefix>>,
}

/// What a new snapshot concerns.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Concerned {
    All,
    Only(BTreeSet<Prefix>),
}

impl Watchers {
    pub(super) fn new<'a>(fleet: &Fleet, prefixes: impl Iterator<Item = &'a Anycast>) -> Self {
        let mut watchers = Self::default();
        for anycast in prefixes {
            for pool in pools(fleet, &anycast.while_up) {
                watchers.by_pool.entry(pool).or_default().push(anycast.prefix);
            }
        }
        watchers
    }

    /// Both are of the fleet that these watchers were made for.
    pub(super) fn concerned(&self, before: &Snapshot, after: &Snapshot) -> Concerned {
        // A drain steps down by what would stand without it: no endpoint need have changed.
        if before.settled != after.settled || before.drains != after.drains {
            return Concerned::All;
        }
        let changed = after.changed_since(before);
        let pools: BTreeSet<PoolId> = changed
            .into_iter()
            .map(|id| after.fleet.endpoint(id).pool)
            .collect();
        let prefixes = pools.iter().filter_map(|pool| self.by_pool.get(pool));
        Concerned::Only(prefixes.flatten().copied().collect())
    }
}

fn pools(fleet: &Fleet, conditions: &[Condition]) -> BTreeSet<PoolId> {
    let subjects = conditions.iter().flat_map(subjects);
    subjects.flat_map(|subject| fleet.pools_of(subject)).collect()
}

fn subjects(condition: &Condition) -> Vec<Subject> {
    match condition {
        Condition::InService(condition) => vec![condition.subject],
        Condition::Address(_) => Vec::new(),
        Condition::All(of) | Condition::Any(of) | Condition::AtLeast { of, .. } => {
            of.iter().flat_map(subjects).collect()
        }
        Condition::Not(one) => subjects(one),
    }
}
