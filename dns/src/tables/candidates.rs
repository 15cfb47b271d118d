//! From a pool to the candidates of a chain, and how a client class looks at them.

use std::collections::HashMap;
use std::net::IpAddr;

use steer_health::Snapshot;
use steer_topology::{
    AllDown, ByClient, Class, ClassId, Classes, Continent, CountryCode, EndpointId, Fence, Fleet, Nested,
    PoolId, SiteId, Steer, Target,
};

use super::decide::is_lost;
use crate::demand::Demand;
use crate::filter::{Candidate, Seen};

/// The places of the sites in the orders of each class, turned around for the look-up.
#[derive(Debug)]
pub(crate) struct Eyes {
    nearest: Ranks,
    quickest: Ranks,
}

/// By class, then by site.
#[derive(Debug)]
struct Ranks {
    sites: usize,
    places: Vec<u16>,
}

impl Eyes {
    pub(crate) fn new(classes: &Classes, sites: usize) -> Self {
        let nearest = |class: &Class| match class.distance_known {
            true => class.nearest.clone(),
            false => Box::default(),
        };
        let quickest = |class: &Class| class.quickest.clone();
        Self {
            nearest: Ranks::new(classes, sites, nearest),
            quickest: Ranks::new(classes, sites, quickest),
        }
    }
}

impl Ranks {
    /// `order` is empty where nothing is known; then every place is the last.
    fn new(classes: &Classes, sites: usize, order: impl Fn(&Class) -> Box<[SiteId]>) -> Self {
        let mut places = vec![u16::MAX; classes.len() * sites];
        for id in classes.ids() {
            let start = usize::from(id.0) * sites;
            for (place, site) in (0_u16..).zip(order(classes.class(id))) {
                if let Some(cell) = places.get_mut(start + usize::from(site.0)) {
                    *cell = place;
                }
            }
        }
        Self { sites, places }
    }

    fn of(&self, class: ClassId, site: SiteId) -> u16 {
        let index = usize::from(class.0) * self.sites + usize::from(site.0);
        self.places.get(index).copied().unwrap_or(u16::MAX)
    }
}

/// What a chain is run for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// The IPv4 endpoints.
    V4,
    /// The IPv6 endpoints.
    V6,
    /// All endpoints by what they say in records other than addresses.
    Names,
}

impl Part {
    fn has(self, address: IpAddr) -> bool {
        match self {
            Self::V4 => address.is_ipv4(),
            Self::V6 => address.is_ipv6(),
            Self::Names => true,
        }
    }
}

/// The candidates of one name and part, before any class looks at them.
#[derive(Debug)]
pub(crate) struct Field {
    /// The pool's, then those of the fallback pool.
    pub(crate) all: Vec<Candidate>,
    /// How many are the pool's own.
    pub(crate) own: usize,
    /// The pool's endpoints behind those.
    pub(crate) members: Vec<EndpointId>,
    /// Where each stands.
    places: Vec<Option<(CountryCode, Option<Continent>)>>,
}

impl Field {
    pub(crate) fn new(snapshot: &Snapshot, demand: &Demand, steer: &Steer, part: Part) -> Self {
        let fleet = &snapshot.fleet;
        let of_part = |pool, serves: &dyn Fn(EndpointId) -> bool| {
            let mut list = of_pool(snapshot, demand, pool, serves);
            list.retain(|candidate| part.has(candidate.address));
            list
        };
        let serves = |id: EndpointId| snapshot.endpoint(id).service.takes_new_clients();
        let mut all = of_part(steer.pool, &serves);
        let members = all.iter().map(|candidate| candidate.endpoint).collect();
        // Never health-gated: what is in it counts as up.
        let mut fallback = match steer.if_all_down {
            AllDown::Pool(pool) => of_part(pool, &|_| true),
            AllDown::ServeAll | AllDown::ServeLastGood | AllDown::Nodata | AllDown::Servfail => Vec::new(),
        };
        if part == Part::Names {
            all = merged(fleet, all);
            fallback = merged(fleet, fallback);
        }
        let own = all.len();
        all.extend(fallback);
        (0..)
            .zip(&mut all)
            .for_each(|(index, candidate)| candidate.index = index);
        let place = |candidate: &Candidate| {
            let country = fleet.site(candidate.site?).country_code()?;
            Some((country, country.continent()))
        };
        let places = all.iter().map(place).collect();
        Self {
            all,
            own,
            members,
            places,
        }
    }

    /// How a client of `class` sees them, for the filters of `steer`. `None`: a client of whom nothing is known.
    pub(crate) fn seen_by(
        &self,
        steer: &Steer,
        classes: &Classes,
        eyes: &Eyes,
        class: Option<ClassId>,
    ) -> Vec<Candidate> {
        let marker = Marker::new(steer, class.map(|id| classes.class(id)));
        let mut list = self.all.clone();
        for (candidate, place) in list.iter_mut().zip(&self.places) {
            candidate.seen = Seen::BLIND;
            if let Some((class, site)) = class.zip(candidate.site) {
                candidate.seen.rank = eyes.nearest.of(class, site);
                candidate.seen.trip = eyes.quickest.of(class, site);
            }
            marker.mark(candidate, *place);
        }
        list
    }
}

/// What the maps and fences of a name say for one class.
struct Marker<'s> {
    class: Option<&'s Class>,
    /// The filters in question, with what their map names.
    filters: Vec<(ByClient, &'s [Target])>,
}

impl<'s> Marker<'s> {
    fn new(steer: &'s Steer, class: Option<&'s Class>) -> Self {
        let maps = &steer.maps;
        let named = |filter: ByClient| match filter {
            ByClient::Country => maps
                .country
                .targets(class.and_then(|class| class.country.as_ref())),
            ByClient::Continent => maps
                .continent
                .targets(class.and_then(|class| class.continent.as_ref())),
            ByClient::Asn => maps.asn.targets(class.and_then(|class| class.asn.as_ref())),
            ByClient::Cidr => maps.cidr.around(class.and_then(|class| class.network.as_ref())),
            ByClient::Fence(_) => &[],
        };
        let filters = steer.chain.iter().filter_map(|filter| filter.by_client());
        Self {
            class,
            filters: filters.map(|filter| (filter, named(filter))).collect(),
        }
    }

    fn mark(&self, candidate: &mut Candidate, place: Option<(CountryCode, Option<Continent>)>) {
        for (filter, targets) in &self.filters {
            let keeps = match filter {
                ByClient::Fence(Fence::Country) => {
                    let client = self.class.and_then(|class| class.country);
                    client.is_some() && client == place.map(|(country, _)| country)
                }
                ByClient::Fence(Fence::Continent) => {
                    let client = self.class.and_then(|class| class.continent);
                    client.is_some() && client == place.and_then(|(_, continent)| continent)
                }
                ByClient::Country | ByClient::Continent | ByClient::Asn | ByClient::Cidr => {
                    targets.iter().any(|target| is_meant(*target, candidate))
                }
            };
            if keeps {
                candidate.seen.marks.set(*filter);
            }
        }
    }
}

fn is_meant(target: Target, candidate: &Candidate) -> bool {
    match target {
        Target::Site(site) => candidate.site == Some(site),
        Target::Tier(tier) => candidate.tier == tier,
    }
}

/// Endpoints at one site that say the same are one candidate: the first of them gives place and weight, and the best
/// of them says whether it serves.
fn merged(fleet: &Fleet, list: Vec<Candidate>) -> Vec<Candidate> {
    let mut places: HashMap<_, usize> = HashMap::with_capacity(list.len());
    let mut merged: Vec<Candidate> = Vec::with_capacity(list.len());
    for candidate in list {
        let endpoint = fleet.endpoint(candidate.endpoint);
        let says = (
            candidate.site,
            endpoint.target(),
            endpoint.address.port(),
            &endpoint.said,
        );
        let place = *places.entry(says).or_insert(merged.len());
        match merged.get_mut(place) {
            None => merged.push(candidate),
            Some(first) => {
                let standing = |of: &Candidate| (!of.lost, of.serving);
                if standing(&candidate) > standing(first) {
                    first.endpoint = candidate.endpoint;
                }
                first.lost &= candidate.lost;
                first.serving |= candidate.serving;
            }
        }
    }
    merged
}

fn of_pool(
    snapshot: &Snapshot,
    demand: &Demand,
    pool: PoolId,
    serves: &dyn Fn(EndpointId) -> bool,
) -> Vec<Candidate> {
    let fleet = &snapshot.fleet;
    let members = members(snapshot, pool, serves);
    let mut tiers: Vec<&[u16]> = members.iter().map(|member| &*member.tiers).collect();
    tiers.sort_unstable();
    tiers.dedup();
    let is_flat = fleet.pool(pool).nested.is_empty();
    let candidate = |member: &Member| {
        let endpoint = fleet.endpoint(member.endpoint);
        let tier = match *member.tiers {
            [tier] if is_flat => tier,
            _ => u16::try_from(tiers.partition_point(|tiers| *tiers < &*member.tiers)).unwrap_or(u16::MAX),
        };
        let room = endpoint.site.map(|site| demand.room(site));
        Candidate {
            endpoint: member.endpoint,
            first: member.endpoint,
            index: 0,
            address: endpoint.address.ip(),
            site: endpoint.site,
            weight: member.weight,
            tier,
            serving: serves(member.endpoint),
            lost: is_lost(snapshot, member.endpoint),
            room: room.unwrap_or_default(),
            seen: Seen::BLIND,
        }
    };
    members.iter().map(candidate).collect()
}

/// An endpoint as a pool has it, itself or through the pools in it.
struct Member {
    endpoint: EndpointId,
    weight: u64,
    /// Its tier in the outermost pool, then in the pool below, and so on.
    tiers: Vec<u16>,
}

/// What one unit of weight is divided into where pools nest.
const PARTS: u64 = 1 << 20;

/// In file order. The configuration has no circle of pools, and no pool twice.
fn members(snapshot: &Snapshot, pool: PoolId, serves: &dyn Fn(EndpointId) -> bool) -> Vec<Member> {
    let fleet = &snapshot.fleet;
    let pool = fleet.pool(pool);
    let parts = if pool.nested.is_empty() { 1 } else { PARTS };
    let own = |id: &EndpointId| Member {
        endpoint: *id,
        weight: u64::from(snapshot.weight(*id)) * parts,
        tiers: vec![fleet.endpoint(*id).tier],
    };
    let mut members = Vec::with_capacity(pool.endpoints.len());
    let mut next = 0;
    for nested in &pool.nested {
        members.extend(pool.endpoints.iter().take(nested.behind).skip(next).map(own));
        next = nested.behind;
        members.extend(inner(snapshot, nested, serves));
    }
    members.extend(pool.endpoints.iter().skip(next).map(own));
    members
}

/// The members of a pool in a pool. Together they have the weight of that pool: those that serve share it, so that it
/// stays the same when one of them goes.
fn inner(snapshot: &Snapshot, nested: &Nested, serves: &dyn Fn(EndpointId) -> bool) -> Vec<Member> {
    let mut members = members(snapshot, nested.pool, serves);
    let any_serves = members.iter().any(|member| serves(member.endpoint));
    let counts = |member: &&Member| !any_serves || serves(member.endpoint);
    let sum: u64 = members.iter().filter(counts).map(|member| member.weight).sum();
    let share = |weight: u64, of: u64| {
        let part = u128::from(nested.weight) * u128::from(PARTS) * u128::from(weight);
        u64::try_from(part / u128::from(of.max(1))).unwrap_or(u64::MAX)
    };
    let count = members.iter().filter(counts).count() as u64;
    for member in &mut members {
        member.weight = match (sum, member.weight) {
            (0, _) => share(1, count),
            (_, 0) => 0,
            (sum, weight) => share(weight, sum).max(u64::from(nested.weight > 0)),
        };
        member.tiers.insert(0, nested.tier);
    }
    // The lowest tier of the inner pool stands beside the endpoints of the outer one.
    let mut inner_tiers: Vec<Vec<u16>> = members.iter().map(|member| tail(&member.tiers)).collect();
    inner_tiers.sort_unstable();
    inner_tiers.dedup();
    for member in &mut members {
        let place = inner_tiers.partition_point(|tiers| *tiers < tail(&member.tiers));
        member.tiers = match u16::try_from(place) {
            Ok(0) => vec![nested.tier],
            Ok(place) => vec![nested.tier, place],
            Err(_) => vec![nested.tier, u16::MAX],
        };
    }
    members
}

fn tail(tiers: &[u16]) -> Vec<u16> {
    tiers.iter().skip(1).copied().collect()
}
