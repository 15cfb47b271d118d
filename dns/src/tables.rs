//! Decision tables: for each plan, family and client class the chain has been run before the query comes.
//!
//! A plan is a pool, a chain, its maps and its all-down rule. Names with the same plan share its tables, and a new
//! snapshot of the same fleet makes anew only the plans whose endpoints changed in it.
//!
//! Memory: a plan costs, per family, at most 12 octets for each candidate that the head of its chain leaves to each
//! class (equal lists are stored once), 4 for each class and about 100 for each candidate; a name costs about 100
//! more. With `take N` the chain leaves N.

mod candidates;
mod decide;
mod dependants;
mod family;

use std::collections::{BTreeSet, HashMap};
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::RecordType;
use jiff::Timestamp;
use rand::Rng;
use steer_health::Snapshot;
use steer_topology::{AllDown, Classes, EndpointId, Filter, Fleet, Geography, Maps, PoolId, Steer, Ttl};

use crate::lookup::Steered;
use crate::subnet::Locate;
use crate::zones::{Zones, key_of};

pub(crate) use self::candidates::{Eyes, Field};
pub(crate) use self::decide::{Deciding, Left, Rule, Run};
use self::dependants::Dependants;
pub(crate) use self::family::Picked;
pub(crate) use self::family::addresses;
use self::family::{Family, Ground};

/// Everything a query needs, from one snapshot. Immutable; the next snapshot brings the next tables.
#[derive(Debug)]
pub struct Tables {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) classes: Arc<Classes>,
    pub(crate) geography: Option<Arc<Geography>>,
    pub(crate) eyes: Arc<Eyes>,
    names: Arc<HashMap<Box<[u8]>, SteeredName>>,
    plans: Vec<Arc<Plan>>,
    dependants: Arc<Dependants>,
    /// The moment for which the TTLs are.
    at: Timestamp,
}

/// One `[[steer]]` entry.
#[derive(Debug)]
struct SteeredName {
    /// Index into the fleet's `steers`.
    steer: usize,
    /// Index into the plans.
    plan: usize,
}

/// What names with the same pool, chain, maps and rule have in common.
#[derive(Debug)]
struct Plan {
    /// One of those names: index into the fleet's `steers`.
    steer: usize,
    v4: Family,
    v6: Family,
}

/// What makes two plans the same.
type PlanKey<'f> = (PoolId, &'f [Filter], AllDown, &'f Maps);

impl Tables {
    /// Runs every chain for every class. The zones and classes must come from the snapshot's fleet.
    #[must_use]
    pub fn compile(
        snapshot: Arc<Snapshot>,
        zones: Arc<Zones>,
        classes: Arc<Classes>,
        geography: Option<Arc<Geography>>,
    ) -> Self {
        let fleet = Arc::clone(&snapshot.fleet);
        let eyes = Arc::new(Eyes::new(&classes, fleet.sites.len()));
        let ground = Ground {
            snapshot: &snapshot,
            classes: &classes,
            eyes: &eyes,
        };
        let mut plans: Vec<Arc<Plan>> = Vec::new();
        let mut known: HashMap<PlanKey<'_>, usize> = HashMap::new();
        let mut names = HashMap::with_capacity(fleet.steers.len());
        for (index, steer) in fleet.steers.iter().enumerate() {
            let Some(key) = key_of(&steer.name) else { continue };
            let same: PlanKey<'_> = (steer.pool, &steer.chain, steer.if_all_down, &steer.maps);
            let plan = *known.entry(same).or_insert_with(|| {
                plans.push(Arc::new(Plan::compile(ground, index, steer)));
                plans.len() - 1
            });
            names.insert(key, SteeredName { steer: index, plan });
        }
        drop(known);
        Self {
            at: snapshot.at,
            snapshot,
            zones,
            classes,
            geography,
            eyes,
            names: Arc::new(names),
            dependants: Arc::new(dependants(&fleet, &plans)),
            plans,
        }
    }

    /// The tables of a later snapshot. Where it speaks of the same fleet, only plans are made anew of which an
    /// endpoint changed; what was last known to be good is kept. For another fleet with zones or sites of its own
    /// use [`Tables::compile`].
    #[must_use]
    pub fn next(&self, snapshot: Arc<Snapshot>) -> Self {
        if !Arc::ptr_eq(&self.snapshot.fleet, &snapshot.fleet) {
            let (zones, classes) = (Arc::clone(&self.zones), Arc::clone(&self.classes));
            return Self::compile(snapshot, zones, classes, self.geography.clone());
        }
        let ground = Ground {
            snapshot: &snapshot,
            classes: &self.classes,
            eyes: &self.eyes,
        };
        let changed = snapshot.changed_since(&self.snapshot);
        let concerned: BTreeSet<u32> = changed
            .flat_map(|id| self.dependants.of(id).iter().copied())
            .collect();
        let mut plans = self.plans.clone();
        for index in concerned {
            let Some(plan) = plans.get_mut(index as usize) else {
                continue;
            };
            if let Some(steer) = snapshot.fleet.steers.get(plan.steer) {
                *plan = Arc::new(plan.renew(ground, steer));
            }
        }
        Self {
            at: snapshot.at,
            zones: Arc::clone(&self.zones),
            classes: Arc::clone(&self.classes),
            geography: self.geography.clone(),
            eyes: Arc::clone(&self.eyes),
            names: Arc::clone(&self.names),
            dependants: Arc::clone(&self.dependants),
            plans,
            snapshot,
        }
    }

    /// The same tables at a later moment: what has been calm for long enough gets its long TTL.
    #[must_use]
    pub fn aged(&self, now: Timestamp) -> Self {
        Self {
            at: self.at.max(now),
            snapshot: Arc::clone(&self.snapshot),
            zones: Arc::clone(&self.zones),
            classes: Arc::clone(&self.classes),
            geography: self.geography.clone(),
            eyes: Arc::clone(&self.eyes),
            names: Arc::clone(&self.names),
            dependants: Arc::clone(&self.dependants),
            plans: self.plans.clone(),
        }
    }

    /// When a TTL changes next if nothing else does: the moment for [`Tables::aged`].
    #[must_use]
    pub fn ages_at(&self) -> Option<Timestamp> {
        let moments = self.names.values().flat_map(|name| {
            let steer = self.snapshot.fleet.steers.get(name.steer);
            let plan = self.plans.get(name.plan);
            let families = plan.map(|plan| [&plan.v4, &plan.v6]).into_iter().flatten();
            families.filter_map(move |family| calm_at(family, steer?.ttl))
        });
        moments.filter(|moment| *moment > self.at).min()
    }

    /// The number of the snapshot behind these tables.
    #[must_use]
    pub fn snapshot_number(&self) -> u64 {
        self.snapshot.number
    }

    /// How many plans the names have, and about how many octets these take.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let bytes = |plan: &Arc<Plan>| plan.v4.bytes() + plan.v6.bytes() + size_of::<Plan>();
        let plans: usize = self.plans.iter().map(bytes).sum();
        (self.plans.len(), plans + self.dependants.bytes())
    }

    /// The entry behind a steered name.
    pub(crate) fn steer(&self, key: &[u8]) -> Option<&Steer> {
        let name = self.names.get(key)?;
        self.snapshot.fleet.steers.get(name.steer)
    }

    /// The TTL of a steered name's answers, in seconds.
    pub(crate) fn ttl(&self, key: &[u8], rtype: RecordType) -> Option<u32> {
        let ttl = match self.steer(key)?.ttl {
            Ttl::Fixed(ttl) => ttl,
            auto @ Ttl::Auto { min, max } => match calm_at(self.family(key, rtype)?, auto) {
                Some(moment) if moment <= self.at => max,
                Some(_) | None => min,
            },
        };
        Some(u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX))
    }

    /// For the rule `serve-last-good`.
    pub(crate) fn good(&self, key: &[u8], rtype: RecordType) -> &[EndpointId] {
        self.family(key, rtype).map(Family::good).unwrap_or_default()
    }

    /// The answer for a client, and its scope: the length of the network around the client for which it holds;
    /// `None` where it holds for everybody.
    pub(crate) fn pick<R: Rng + ?Sized>(
        &self,
        key: &[u8],
        rtype: RecordType,
        client: Locate,
        rng: &mut R,
    ) -> Option<(Steered, Option<u8>)> {
        let mut addresses = Vec::new();
        let (picked, scope) = self.pick_into(key, rtype, client, rng, &mut addresses)?;
        let steered = match picked {
            Picked::List => Steered::Addresses {
                addresses,
                ttl: self.ttl(key, rtype)?,
            },
            Picked::Refused => Steered::Refused,
            Picked::Fail => Steered::Fail,
        };
        Some((steered, scope))
    }

    /// The same without a list of its own, see [`Family::pick`].
    pub(crate) fn pick_into<R: Rng + ?Sized>(
        &self,
        key: &[u8],
        rtype: RecordType,
        client: Locate,
        rng: &mut R,
        room: &mut Vec<IpAddr>,
    ) -> Option<(Picked, Option<u8>)> {
        self.family(key, rtype)?.pick(client, &self.classes, rng, room)
    }

    fn family(&self, key: &[u8], rtype: RecordType) -> Option<&Family> {
        let plan = self.plans.get(self.names.get(key)?.plan)?;
        Some(if rtype == RecordType::A {
            &plan.v4
        } else {
            &plan.v6
        })
    }
}

impl Plan {
    fn compile(ground: Ground<'_>, index: usize, steer: &Steer) -> Self {
        let family = |rtype| Family::compile(ground, steer, rtype, None);
        Self {
            steer: index,
            v4: family(RecordType::A),
            v6: family(RecordType::AAAA),
        }
    }

    fn renew(&self, ground: Ground<'_>, steer: &Steer) -> Self {
        Self {
            steer: self.steer,
            v4: Family::compile(ground, steer, RecordType::A, Some(&self.v4)),
            v6: Family::compile(ground, steer, RecordType::AAAA, Some(&self.v6)),
        }
    }
}

/// On whose state the plans depend. A fallback pool is used whatever the state of its endpoints.
fn dependants(fleet: &Fleet, plans: &[Arc<Plan>]) -> Dependants {
    let members = |plan: &Arc<Plan>| {
        let steer = fleet.steers.get(plan.steer);
        steer.map_or(Vec::new(), |steer| fleet.members(steer.pool))
    };
    let members: Vec<Vec<EndpointId>> = plans.iter().map(members).collect();
    Dependants::new(fleet.endpoints.len(), &members)
}

/// From when on a family has been calm for as long as the long TTL asks.
fn calm_at(family: &Family, ttl: Ttl) -> Option<Timestamp> {
    let Ttl::Auto { min: _, max } = ttl else {
        return None;
    };
    family.calm_since?.checked_add(max).ok()
}

#[cfg(test)]
mod tests;
