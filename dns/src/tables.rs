//! Decision tables: for each plan, part (IPv4, IPv6, names) and client class the chain has been run before the query comes.
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
use steer_topology::{
    AllDown, Classes, EndpointId, Filter, Fleet, Geography, Kind, Maps, PoolId, SiteId, Steer, Ttl,
};

use crate::demand::{Demand, DemandView};
use crate::lookup::{Steered, kind_of};
use crate::records;
use crate::subnet::Locate;
use crate::zones::{Zones, key_of};

pub(crate) use self::candidates::{Eyes, Field, Part};
pub(crate) use self::decide::{Deciding, Left, Rule, Run};
use self::dependants::Dependants;
use self::family::{Family, Ground};
pub(crate) use self::family::{Filled, Picked};

/// Everything a query needs, from one snapshot. Immutable; the next snapshot brings the next tables.
#[derive(Debug)]
pub struct Tables {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) classes: Arc<Classes>,
    pub(crate) geography: Option<Arc<Geography>>,
    pub(crate) eyes: Arc<Eyes>,
    /// For `overflow`.
    pub(crate) demand: Arc<Demand>,
    /// The entries of each name; each kind of records is in one of them at most.
    names: Arc<HashMap<Box<[u8]>, Vec<SteeredName>>>,
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
    /// Where records are made of what endpoints say beside their addresses.
    names: Option<Family>,
}

/// What makes two plans the same.
type PlanKey<'f> = (PoolId, &'f [Filter], AllDown, &'f Maps, bool);

impl Tables {
    /// Runs every chain for every class. The zones and classes must come from the snapshot's fleet.
    #[must_use]
    pub fn compile(
        snapshot: Arc<Snapshot>,
        zones: Arc<Zones>,
        classes: Arc<Classes>,
        geography: Option<Arc<Geography>>,
    ) -> Self {
        let demand = Demand::new(&snapshot);
        Self::compile_with(demand, snapshot, zones, classes, geography)
    }

    /// The same after a reload: what `overflow` knows of the sites stays known.
    #[must_use]
    pub fn compile_after(
        before: &Self,
        snapshot: Arc<Snapshot>,
        zones: Arc<Zones>,
        classes: Arc<Classes>,
        geography: Option<Arc<Geography>>,
    ) -> Self {
        let demand = before.demand.renewed(&before.snapshot.fleet, &snapshot);
        Self::compile_with(demand, snapshot, zones, classes, geography)
    }

    fn compile_with(
        demand: Demand,
        snapshot: Arc<Snapshot>,
        zones: Arc<Zones>,
        classes: Arc<Classes>,
        geography: Option<Arc<Geography>>,
    ) -> Self {
        let fleet = Arc::clone(&snapshot.fleet);
        let eyes = Arc::new(Eyes::new(&classes, fleet.sites.len()));
        let demand = Arc::new(demand);
        let ground = Ground {
            snapshot: &snapshot,
            demand: &demand,
            classes: &classes,
            eyes: &eyes,
        };
        let mut plans: Vec<Arc<Plan>> = Vec::new();
        let mut known: HashMap<PlanKey<'_>, usize> = HashMap::new();
        let mut names: HashMap<_, Vec<SteeredName>> = HashMap::with_capacity(fleet.steers.len());
        for (index, steer) in fleet.steers.iter().enumerate() {
            let Some(key) = key_of(&steer.name) else { continue };
            let by_name = wants_names(steer);
            let same: PlanKey<'_> = (steer.pool, &steer.chain, steer.if_all_down, &steer.maps, by_name);
            let plan = *known.entry(same).or_insert_with(|| {
                plans.push(Arc::new(Plan::compile(ground, index, steer)));
                plans.len() - 1
            });
            names
                .entry(key)
                .or_default()
                .push(SteeredName { steer: index, plan });
        }
        drop(known);
        Self {
            at: snapshot.at,
            snapshot,
            zones,
            classes,
            geography,
            eyes,
            demand,
            names: Arc::new(names),
            dependants: Arc::new(dependants(&fleet, &plans)),
            plans,
        }
    }

    /// The tables of a later snapshot. Where it speaks of the same fleet, only plans are made anew of which an
    /// endpoint changed; what was last known to be good is kept. For another fleet with zones or sites of its own
    /// use [`Tables::compile_after`].
    #[must_use]
    pub fn next(&self, snapshot: Arc<Snapshot>) -> Self {
        if !Arc::ptr_eq(&self.snapshot.fleet, &snapshot.fleet) {
            let (zones, classes) = (Arc::clone(&self.zones), Arc::clone(&self.classes));
            return Self::compile_after(self, snapshot, zones, classes, self.geography.clone());
        }
        let changed = snapshot.changed_since(&self.snapshot);
        let demand = match self.demand.next(&self.snapshot, &snapshot, &changed) {
            Some(demand) => Arc::new(demand),
            None => Arc::clone(&self.demand),
        };
        let ground = Ground {
            snapshot: &snapshot,
            demand: &demand,
            classes: &self.classes,
            eyes: &self.eyes,
        };
        let mut concerned: BTreeSet<u32> = changed
            .into_iter()
            .flat_map(|id| self.dependants.of(id).iter().copied())
            .collect();
        if demand.shares_differ(&self.demand) {
            concerned.extend(self.by_load());
        }
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
            demand,
            names: Arc::clone(&self.names),
            dependants: Arc::clone(&self.dependants),
            plans,
            snapshot,
        }
    }

    /// The plans whose chains ask for loads.
    fn by_load(&self) -> impl Iterator<Item = u32> {
        let steer = |plan: &Plan| self.snapshot.fleet.steers.get(plan.steer);
        let asks =
            move |plan: &Plan| steer(plan).is_some_and(|steer| steer.chain.contains(&Filter::Overflow));
        (0..)
            .zip(&self.plans)
            .filter(move |(_, plan)| asks(plan))
            .map(|(index, _)| index)
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
            demand: Arc::clone(&self.demand),
            names: Arc::clone(&self.names),
            dependants: Arc::clone(&self.dependants),
            plans: self.plans.clone(),
        }
    }

    /// When a TTL changes next if nothing else does: the moment for [`Tables::aged`].
    #[must_use]
    pub fn ages_at(&self) -> Option<Timestamp> {
        let moments = self.names.values().flatten().flat_map(|name| {
            let steer = self.snapshot.fleet.steers.get(name.steer);
            let plan = self.plans.get(name.plan);
            let families = plan.into_iter().flat_map(|plan| plan.families());
            families.filter_map(move |family| calm_at(family, steer?.ttl))
        });
        moments.filter(|moment| *moment > self.at).min()
    }

    /// By what figures `overflow` steers the clients of a site.
    #[must_use]
    pub fn demand(&self, site: SiteId) -> DemandView {
        self.demand.view(site)
    }

    /// The number of the snapshot behind these tables.
    #[must_use]
    pub fn snapshot_number(&self) -> u64 {
        self.snapshot.number
    }

    /// How many plans the names have, and about how many octets these take.
    #[must_use]
    pub fn size(&self) -> (usize, usize) {
        let bytes = |plan: &Arc<Plan>| plan.families().map(Family::bytes).sum::<usize>() + size_of::<Plan>();
        let plans: usize = self.plans.iter().map(bytes).sum();
        (self.plans.len(), plans + self.dependants.bytes())
    }

    /// The entry that decides records of a type at a steered name.
    pub(crate) fn steer(&self, key: &[u8], rtype: RecordType) -> Option<&Steer> {
        Some(self.entry(key, rtype)?.steer)
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
        let entry = self.entry(key, rtype)?;
        let classes = &self.classes;
        if records::needs_names(entry.steer, entry.kind) {
            let names = entry.plan.names.as_ref()?;
            let (picked, scope) = names.pick(client, classes, rng, |candidate| candidate.first)?;
            return Some((self.told_by_name(&entry, picked), scope));
        }
        let mut address = |family: &Family| family.pick(client, classes, rng, |candidate| candidate.address);
        if entry.kind == Kind::Address {
            let (picked, scope) = address(entry.family(rtype))?;
            return Some((self.told_addresses(&entry, rtype, picked), scope));
        }
        let (v4, scope_v4) = address(&entry.plan.v4)?;
        let (v6, scope_v6) = address(&entry.plan.v6)?;
        Some((self.told_for_itself(&entry, [v4, v6]), scope_v4.max(scope_v6)))
    }

    /// The addresses for a client, without a list of their own, see [`Family::pick_into`].
    pub(crate) fn pick_into<R: Rng + ?Sized>(
        &self,
        key: &[u8],
        rtype: RecordType,
        client: Locate,
        rng: &mut R,
        room: &mut Vec<IpAddr>,
    ) -> Option<(Filled, Option<u8>)> {
        let family = self.entry(key, rtype)?.family(rtype);
        family.pick_into(client, &self.classes, rng, |candidate| candidate.address, room)
    }

    /// The TTL of a steered name's addresses, in seconds.
    pub(crate) fn ttl(&self, key: &[u8], rtype: RecordType) -> Option<u32> {
        let entry = self.entry(key, rtype)?;
        Some(self.seconds(entry.steer, &[entry.family(rtype)]))
    }

    /// What is told of what the chains of [`Tables::parts`] left, in their order.
    pub(crate) fn told(&self, key: &[u8], rtype: RecordType, left: &[Left]) -> Option<Steered> {
        let entry = self.entry(key, rtype)?;
        if records::needs_names(entry.steer, entry.kind) {
            return Some(self.told_by_name(&entry, left.first()?.picked(|candidate| candidate.first)));
        }
        let address = |left: &Left| left.picked(|candidate| candidate.address);
        match left {
            [v4, v6] => Some(self.told_for_itself(&entry, [address(v4), address(v6)])),
            left => Some(self.told_addresses(&entry, rtype, address(left.first()?))),
        }
    }

    fn told_addresses(&self, entry: &Entry<'_>, rtype: RecordType, picked: Picked<IpAddr>) -> Steered {
        match picked {
            Picked::List(addresses) => Steered::Addresses {
                addresses,
                ttl: self.seconds(entry.steer, &[entry.family(rtype)]),
            },
            Picked::Refused => Steered::Refused,
            Picked::Fail => Steered::Fail,
        }
    }

    fn told_by_name(&self, entry: &Entry<'_>, picked: Picked<EndpointId>) -> Steered {
        match picked {
            Picked::List(list) => {
                let ttl = self.seconds(entry.steer, &entry.parts());
                records::by_name(&self.snapshot.fleet, entry.steer, entry.kind, &list, ttl)
            }
            Picked::Refused => Steered::Refused,
            Picked::Fail => Steered::Fail,
        }
    }

    /// Hints of both families. Only where there is no address at all a refusal or failure is told.
    fn told_for_itself(&self, entry: &Entry<'_>, picked: [Picked<IpAddr>; 2]) -> Steered {
        let otherwise = if picked.contains(&Picked::Refused) {
            Steered::Refused
        } else if picked.contains(&Picked::Fail) {
            Steered::Fail
        } else {
            Steered::Nothing
        };
        let lists = picked.into_iter().map(|picked| match picked {
            Picked::List(list) => list,
            Picked::Refused | Picked::Fail => Vec::new(),
        });
        let addresses: Vec<IpAddr> = lists.flatten().collect();
        let ttl = self.seconds(entry.steer, &entry.parts());
        match records::for_itself(&self.snapshot.fleet, entry.steer, entry.kind, addresses, ttl) {
            Steered::Nothing => otherwise,
            told @ (Steered::Addresses { .. } | Steered::Set { .. } | Steered::Fail | Steered::Refused) => {
                told
            }
        }
    }

    /// The TTL of answers that come from these families.
    fn seconds(&self, steer: &Steer, families: &[&Family]) -> u32 {
        let of = |family: &&Family| match steer.ttl {
            Ttl::Fixed(ttl) => ttl,
            auto @ Ttl::Auto { min, max } => match calm_at(family, auto) {
                Some(moment) if moment <= self.at => max,
                Some(_) | None => min,
            },
        };
        let ttl = families.iter().map(of).min().unwrap_or_default();
        u32::try_from(ttl.as_secs()).unwrap_or(u32::MAX)
    }

    /// The rule for when all is down, where it made what a client is told.
    pub(crate) fn rule(&self, key: &[u8], rtype: RecordType, client: Locate) -> Option<AllDown> {
        let entry = self.entry(key, rtype)?;
        let mut families = self.parts(key, rtype).iter().filter_map(|part| entry.part(*part));
        let is_by_rule = families.any(|family| family.is_by_rule(client, &self.classes));
        is_by_rule.then_some(entry.steer.if_all_down)
    }

    /// For the rule `serve-last-good`.
    pub(crate) fn good(&self, key: &[u8], rtype: RecordType, part: Part) -> &[EndpointId] {
        let family = self.entry(key, rtype).and_then(|entry| entry.part(part));
        family.map(Family::good).unwrap_or_default()
    }

    /// The TTL that a part gives, in seconds.
    pub(crate) fn ttl_of(&self, key: &[u8], rtype: RecordType, part: Part) -> Option<u32> {
        let entry = self.entry(key, rtype)?;
        Some(self.seconds(entry.steer, &[entry.part(part)?]))
    }

    /// What chains are run for a type, in order.
    pub(crate) fn parts(&self, key: &[u8], rtype: RecordType) -> &'static [Part] {
        match self.entry(key, rtype) {
            None => &[],
            Some(entry) if records::needs_names(entry.steer, entry.kind) => &[Part::Names],
            Some(_) if rtype == RecordType::A => &[Part::V4],
            Some(_) if rtype == RecordType::AAAA => &[Part::V6],
            Some(_) => &[Part::V4, Part::V6],
        }
    }

    fn entry(&self, key: &[u8], rtype: RecordType) -> Option<Entry<'_>> {
        let kind = kind_of(rtype)?;
        let entries = self.names.get(key)?.iter();
        let mut entries = entries.filter_map(|name| {
            Some(Entry {
                kind,
                steer: self.snapshot.fleet.steers.get(name.steer)?,
                plan: self.plans.get(name.plan)?,
            })
        });
        entries.find(|entry| entry.steer.kinds.has(kind))
    }
}

/// What decides one kind of records at a name.
struct Entry<'t> {
    kind: Kind,
    steer: &'t Steer,
    plan: &'t Plan,
}

impl<'t> Entry<'t> {
    fn family(&self, rtype: RecordType) -> &'t Family {
        if rtype == RecordType::A {
            &self.plan.v4
        } else {
            &self.plan.v6
        }
    }

    fn part(&self, part: Part) -> Option<&'t Family> {
        match part {
            Part::V4 => Some(&self.plan.v4),
            Part::V6 => Some(&self.plan.v6),
            Part::Names => self.plan.names.as_ref(),
        }
    }

    /// The families behind its records, where they are no addresses. One without any candidate says nothing.
    fn parts(&self) -> Vec<&'t Family> {
        if records::needs_names(self.steer, self.kind) {
            return self.plan.names.iter().collect();
        }
        let both = [&self.plan.v4, &self.plan.v6];
        both.into_iter().filter(|family| !family.is_empty()).collect()
    }
}

/// Whether some of its records are made of what endpoints say beside their addresses.
fn wants_names(steer: &Steer) -> bool {
    steer.kinds.iter().any(|kind| records::needs_names(steer, kind))
}

impl Plan {
    fn compile(ground: Ground<'_>, index: usize, steer: &Steer) -> Self {
        let family = |part| Family::compile(ground, steer, part, None);
        Self {
            steer: index,
            v4: family(Part::V4),
            v6: family(Part::V6),
            names: wants_names(steer).then(|| family(Part::Names)),
        }
    }

    fn renew(&self, ground: Ground<'_>, steer: &Steer) -> Self {
        let family = |part, before| Family::compile(ground, steer, part, Some(before));
        Self {
            steer: self.steer,
            v4: family(Part::V4, &self.v4),
            v6: family(Part::V6, &self.v6),
            names: self.names.as_ref().map(|before| family(Part::Names, before)),
        }
    }

    fn families(&self) -> impl Iterator<Item = &Family> {
        [&self.v4, &self.v6].into_iter().chain(&self.names)
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
