//! Decision tables: for each steered name, family and client class the chain has been run before the query comes.
//!
//! The chain is cut at its first `weighted`: what stands before is run here, once per class; the rest needs a
//! draw per query and is run then, on the few candidates that are left. Rows that came out equal are stored once.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::rr::RecordType;
use rand::Rng;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use steer_health::{Service, Snapshot, Verdict};
use steer_topology::{AllDown, ClassId, Classes, Filter, Geography, Steer};

use crate::filter::{self, Candidate, Step};
use crate::lookup::Steered;
use crate::subnet::Locate;
use crate::zones::{Zones, key_of};

/// Everything a query needs, from one snapshot. Immutable; the next snapshot brings the next tables.
#[derive(Debug)]
pub struct Tables {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) zones: Arc<Zones>,
    pub(crate) classes: Arc<Classes>,
    pub(crate) geography: Option<Arc<Geography>>,
    names: HashMap<Box<[u8]>, SteeredName>,
}

/// One `[[steer]]` entry.
#[derive(Debug)]
struct SteeredName {
    /// Index into the fleet's `steers`.
    index: usize,
    ttl: u32,
    v4: Family,
    v6: Family,
}

/// The rows of one steered name and address family.
#[derive(Debug)]
struct Family {
    /// What is left of the chain for the query.
    tail: Vec<Filter>,
    /// Different outcomes, each once.
    rows: Vec<Row>,
    /// Index into `rows` by class.
    by_class: Vec<u32>,
    /// Index into `rows` for a client that asks not to be located.
    nobody: u32,
}

/// An outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Row {
    /// Candidates before the tail of the chain.
    List(Vec<Candidate>),
    Fail,
}

/// Which form of the last-site rule applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Rule {
    /// At least one candidate is not down: the chain decides.
    Chain,
    /// Every candidate of the family is down, or the chain left nothing.
    AllDown(AllDown),
    /// The pool has no endpoint of this family.
    NoEndpoints,
}

/// One run of one chain for one client, with notes for people.
#[derive(Debug)]
pub(crate) struct Run {
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) steps: Vec<Step>,
    pub(crate) rule: Rule,
    /// `None`: SERVFAIL.
    pub(crate) left: Option<Vec<Candidate>>,
}

impl Tables {
    /// Runs every chain for every class. The zones must come from the snapshot's fleet.
    #[must_use]
    pub fn compile(
        snapshot: Arc<Snapshot>,
        zones: Arc<Zones>,
        classes: Arc<Classes>,
        geography: Option<Arc<Geography>>,
    ) -> Self {
        let compile = |(index, steer): (usize, &Steer)| {
            let name = SteeredName {
                index,
                ttl: u32::try_from(steer.ttl.as_secs()).unwrap_or(u32::MAX),
                v4: Family::compile(&snapshot, steer, &classes, RecordType::A),
                v6: Family::compile(&snapshot, steer, &classes, RecordType::AAAA),
            };
            Some((key_of(&steer.name)?, name))
        };
        let names = snapshot
            .fleet
            .steers
            .iter()
            .enumerate()
            .filter_map(compile)
            .collect();
        Self {
            snapshot,
            zones,
            classes,
            geography,
            names,
        }
    }

    /// The number of the snapshot behind these tables.
    #[must_use]
    pub fn snapshot_number(&self) -> u64 {
        self.snapshot.number
    }

    /// The entry behind a steered name.
    pub(crate) fn steer(&self, key: &[u8]) -> Option<&Steer> {
        self.names
            .get(key)
            .and_then(|name| self.snapshot.fleet.steers.get(name.index))
    }

    /// The TTL of a steered name's answers, in seconds.
    pub(crate) fn ttl(&self, key: &[u8]) -> Option<u32> {
        self.names.get(key).map(|name| name.ttl)
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
        let name = self.names.get(key)?;
        let family = if rtype == RecordType::A {
            &name.v4
        } else {
            &name.v6
        };
        let (row, scope) = family.row(client, &self.classes)?;
        let list = match row {
            Row::Fail => return Some((Steered::Fail, None)),
            Row::List(list) => list,
        };
        let mut list = list.clone();
        filter::run(&family.tail, &mut list, rng, None);
        // RFC 7871 §7.4: a negative answer has scope 0. No filter empties a list for one class only.
        let scope = scope.filter(|_| !list.is_empty());
        Some((
            Steered::Addresses {
                addresses: addresses(&list),
                ttl: name.ttl,
            },
            scope,
        ))
    }
}

impl Family {
    fn compile(snapshot: &Snapshot, steer: &Steer, classes: &Classes, rtype: RecordType) -> Self {
        let cut = steer.chain.iter().position(|filter| *filter == Filter::Weighted);
        let (head, tail) = steer.chain.split_at(cut.unwrap_or(steer.chain.len()));
        let mut rows = Vec::new();
        let mut known: HashMap<Row, u32> = HashMap::new();
        let mut intern = |row: Row| {
            *known.entry(row).or_insert_with_key(|row| {
                rows.push(row.clone());
                u32::try_from(rows.len() - 1).unwrap_or(u32::MAX)
            })
        };
        let mut row_of = |class| intern(row(snapshot, steer, classes, class, rtype, head, tail));
        let by_class: Vec<u32> = if steer.chain.contains(&Filter::Nearest) {
            classes.ids().map(|class| row_of(Some(class))).collect()
        } else {
            vec![row_of(None)]
        };
        // Where no class differs, nobody in particular gets the same as everybody: the reply says scope 0.
        let uniform = by_class.windows(2).all(|pair| pair.first() == pair.last());
        let nobody = if uniform {
            by_class.first().copied().unwrap_or_default()
        } else {
            row_of(None)
        };
        let by_class = if uniform { vec![nobody] } else { by_class };
        Self {
            tail: tail.to_vec(),
            rows,
            by_class,
            nobody,
        }
    }

    /// The row for a client, and the scope for which it holds.
    fn row(&self, client: Locate, classes: &Classes) -> Option<(&Row, Option<u8>)> {
        let (index, scope) = match (client, self.by_class.as_slice()) {
            (_, [only]) => (*only, None),
            (Locate::Nobody, _) => (self.nobody, None),
            (Locate::By(address), by_class) => {
                let found = classes.find(address);
                (*by_class.get(usize::from(found.class.0))?, Some(found.scope))
            }
        };
        Some((self.rows.get(index as usize)?, scope))
    }
}

fn row(
    snapshot: &Snapshot,
    steer: &Steer,
    classes: &Classes,
    class: Option<ClassId>,
    rtype: RecordType,
    head: &[Filter],
    tail: &[Filter],
) -> Row {
    let candidates = candidates(snapshot, steer, classes, class, rtype);
    // Nothing before the first `weighted` draws, so the seed cannot matter.
    let run = decide(
        snapshot,
        steer,
        candidates,
        head,
        &mut SmallRng::seed_from_u64(0),
        false,
    );
    match run.left {
        None => Row::Fail,
        Some(list) => Row::List(
            list.into_iter()
                .map(|candidate| forget(candidate, tail))
                .collect(),
        ),
    }
}

/// Clears what the rest of the chain does not ask for, so that more rows are equal.
fn forget(mut candidate: Candidate, tail: &[Filter]) -> Candidate {
    if !tail.contains(&Filter::Nearest) {
        candidate.rank = 0;
    }
    candidate
}

/// The endpoints of one family, as a client of `class` sees them. `None`: a client without a place.
pub(crate) fn candidates(
    snapshot: &Snapshot,
    steer: &Steer,
    classes: &Classes,
    class: Option<ClassId>,
    rtype: RecordType,
) -> Vec<Candidate> {
    let fleet = &snapshot.fleet;
    let class = class
        .map(|id| classes.class(id))
        .filter(|class| class.distance_known);
    let of_family = |address: &IpAddr| address.is_ipv4() == (rtype == RecordType::A);
    let candidate = |id| {
        let endpoint = fleet.endpoint(id);
        let place = class
            .zip(endpoint.site)
            .and_then(|(class, site)| class.nearest.iter().position(|s| *s == site));
        let address = endpoint.address.ip();
        of_family(&address).then(|| Candidate {
            endpoint: id,
            address,
            weight: endpoint.weight,
            tier: endpoint.tier,
            serving: snapshot.endpoint(id).service.takes_new_clients(),
            rank: place
                .and_then(|place| u16::try_from(place).ok())
                .unwrap_or(u16::MAX),
        })
    };
    fleet
        .pool(steer.pool)
        .endpoints
        .iter()
        .copied()
        .filter_map(candidate)
        .collect()
}

/// Runs a chain under the all-down rule, which is the last-site rule in DNS's own form: a reply must name some
/// address or say openly that there is none.
///
/// It looks at what was observed, not at what the guard made of it. The guard keeps the last site of a service
/// in service though it is down; if that counted as up, all clients would be sent to one dead site, while the
/// rule of the name may want all sites, or none. What is drained counts as down, so that a site that is held
/// though dead is no better than one that is drained though alive.
pub(crate) fn decide<R: Rng + ?Sized>(
    snapshot: &Snapshot,
    steer: &Steer,
    candidates: Vec<Candidate>,
    chain: &[Filter],
    rng: &mut R,
    take_notes: bool,
) -> Run {
    let mut steps = Vec::new();
    if candidates.is_empty() {
        return Run {
            candidates,
            steps,
            rule: Rule::NoEndpoints,
            left: Some(Vec::new()),
        };
    }
    let is_lost = |candidate: &Candidate| {
        let state = snapshot.endpoint(candidate.endpoint);
        state.verdict == Verdict::Down || state.service == Service::Drained
    };
    if !candidates.iter().all(is_lost) {
        let mut list = candidates.clone();
        filter::run(chain, &mut list, rng, take_notes.then_some(&mut steps));
        if !list.is_empty() {
            return Run {
                candidates,
                steps,
                rule: Rule::Chain,
                left: Some(list),
            };
        }
        steps.clear();
    }
    let left = match steer.if_all_down {
        AllDown::Nodata => Some(Vec::new()),
        AllDown::Servfail => None,
        AllDown::ServeAll => {
            let mut list = candidates.clone();
            list.iter_mut().for_each(|candidate| candidate.serving = true);
            filter::run(chain, &mut list, rng, take_notes.then_some(&mut steps));
            Some(list)
        }
    };
    Run {
        candidates,
        steps,
        rule: Rule::AllDown(steer.if_all_down),
        left,
    }
}

/// The addresses in order, each once: a set holds no duplicates (RFC 2181 §5), and two endpoints may share an
/// address on two ports.
pub(crate) fn addresses(list: &[Candidate]) -> Vec<IpAddr> {
    let mut addresses = Vec::with_capacity(list.len());
    for candidate in list {
        if !addresses.contains(&candidate.address) {
            addresses.push(candidate.address);
        }
    }
    addresses
}
