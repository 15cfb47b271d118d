//! The rows of one plan and part (an address family, or names): what the chain gives to each client class.
//!
//! The chain is cut at its first filter that draws: what stands before is run here, once per class; the rest needs
//! the query and is run then, on the few candidates that are left. Rows that came out equal are stored once.

use std::collections::HashMap;

use jiff::Timestamp;
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};
use steer_health::{Service, Snapshot, Verdict};
use steer_topology::{AllDown, Classes, EndpointId, Filter, Steer};

use super::candidates::{Eyes, Field, Part};
use super::decide::{Deciding, Left, Rule};
use crate::demand::Demand;
use crate::filter::{self, Candidate, Outcome, Seen};
use crate::subnet::Locate;

/// What a family is compiled from.
#[derive(Clone, Copy)]
pub(crate) struct Ground<'t> {
    pub(crate) snapshot: &'t Snapshot,
    pub(crate) demand: &'t Demand,
    pub(crate) classes: &'t Classes,
    pub(crate) eyes: &'t Eyes,
}

#[derive(Debug)]
pub(crate) struct Family {
    /// What is left of the chain for the query.
    tail: Vec<Filter>,
    /// Every candidate that a row may name.
    candidates: Box<[Candidate]>,
    /// Different outcomes, each once.
    rows: Vec<Row>,
    /// By row, whether the all-down rule made it; empty where it made none.
    by_rule: Box<[bool]>,
    /// Index into `rows` by class; one entry where all classes get the same.
    by_class: Box<[u32]>,
    /// Index into `rows` for a client that asks not to be located.
    nobody: u32,
    /// For `serve-last-good`: those that were not lost when last one was not.
    good: Box<[EndpointId]>,
    /// Since when every candidate has been up, and every address could be moved by routing; for TTLs.
    pub(crate) calm_since: Option<Timestamp>,
}

/// An outcome.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Row {
    /// Candidates before the tail of the chain.
    List(Box<[Slot]>),
    Refused,
    Fail,
}

/// A candidate in a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Slot {
    index: u32,
    /// As far as the tail of the chain asks for it.
    seen: Seen,
}

/// What a client gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Picked<T> {
    List(Vec<T>),
    Refused,
    Fail,
}

/// The same, where the list stands in the room that was given for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    List,
    Refused,
    Fail,
}

impl Family {
    /// See [`Family::pick_into`].
    pub(crate) fn pick<T: PartialEq, R: Rng + ?Sized>(
        &self,
        client: Locate,
        classes: &Classes,
        rng: &mut R,
        of: impl Fn(&Candidate) -> T,
    ) -> Option<(Picked<T>, Option<u8>)> {
        let mut room = Vec::new();
        let (filled, scope) = self.pick_into(client, classes, rng, of, &mut room)?;
        let picked = match filled {
            Filled::List => Picked::List(room),
            Filled::Refused => Picked::Refused,
            Filled::Fail => Picked::Fail,
        };
        Some((picked, scope))
    }

    /// `before`: the same family in the last tables, of the same fleet.
    pub(crate) fn compile(ground: Ground<'_>, steer: &Steer, part: Part, before: Option<&Self>) -> Self {
        let Ground {
            snapshot,
            demand,
            classes,
            eyes,
        } = ground;
        let field = Field::new(snapshot, demand, steer, part);
        let good = good(steer, &field, before);
        let cut = steer.chain.iter().position(|filter| filter.is_drawn());
        let (head, tail) = steer.chain.split_at(cut.unwrap_or(steer.chain.len()));
        let deciding = Deciding {
            steer,
            good: &good,
            chain: head,
            network: None,
            take_notes: false,
        };
        let mut rows = Vec::new();
        let mut by_rule = Vec::new();
        let mut known: HashMap<(Row, bool), u32> = HashMap::new();
        let mut row_of = |class| {
            let mut candidates = field.seen_by(steer, classes, eyes, class);
            let fallback = candidates.split_off(field.own);
            // Nothing in the head draws, so the seed cannot matter.
            let run = deciding.decide(candidates, fallback, &mut SmallRng::seed_from_u64(0));
            let is_by_rule = matches!(run.rule, Rule::AllDown(_));
            *known
                .entry((row(run.left, tail), is_by_rule))
                .or_insert_with_key(|(row, _)| {
                    rows.push(row.clone());
                    by_rule.push(is_by_rule);
                    u32::try_from(rows.len() - 1).unwrap_or(u32::MAX)
                })
        };
        let by_class: Vec<u32> = if steer.chain.iter().any(|filter| filter.needs_class()) {
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
            calm_since: calm_since(snapshot, &field),
            candidates: field.all.into(),
            rows,
            by_rule: if by_rule.contains(&true) {
                by_rule.into()
            } else {
                Box::default()
            },
            by_class: by_class.into(),
            nobody,
            good,
        }
    }

    /// Whether there is no candidate at all.
    pub(crate) fn is_empty(&self) -> bool {
        self.candidates.is_empty()
    }

    /// For `serve-last-good`.
    pub(crate) fn good(&self) -> &[EndpointId] {
        &self.good
    }

    /// The answer for a client, each of it once, and its scope: the length of the network around the client for which
    /// it holds; `None` where it holds for everybody. `of` says what is told of a candidate; it goes to `room`, in place
    /// of what that held.
    pub(crate) fn pick_into<T: PartialEq, R: Rng + ?Sized>(
        &self,
        client: Locate,
        classes: &Classes,
        rng: &mut R,
        of: impl Fn(&Candidate) -> T,
        room: &mut Vec<T>,
    ) -> Option<(Filled, Option<u8>)> {
        let (row, scope) = self.row(client, classes)?;
        let slots = match row {
            Row::Fail => return Some((Filled::Fail, scope)),
            Row::Refused => return Some((Filled::Refused, scope)),
            Row::List(slots) => slots,
        };
        if self.tail.is_empty() {
            let left = slots.iter().filter_map(|slot| self.candidate(slot));
            once_into(left.map(|candidate| of(&candidate)), room);
            return Some((Filled::List, scope));
        }
        let network = match client {
            Locate::By(address) => Some(filter::network(address)),
            Locate::Nobody => None,
        };
        let mut left: Vec<Candidate> = slots.iter().filter_map(|slot| self.candidate(slot)).collect();
        // A choice by prefix holds for no more than the prefix.
        let chosen_by = self.tail.iter().filter_map(|filter| match filter {
            Filter::Sticky(lengths) => Some(network?.scope(*lengths)),
            Filter::Up
            | Filter::Nearest
            | Filter::Latency
            | Filter::Country
            | Filter::Continent
            | Filter::Asn
            | Filter::Cidr
            | Filter::Geofence(_)
            | Filter::Weighted
            | Filter::Shuffle
            | Filter::Overflow
            | Filter::Failover
            | Filter::Trickle(_)
            | Filter::Take(_) => None,
        });
        let scope = scope.max(chosen_by.max().filter(|_| left.len() > 1));
        Some(match filter::run(&self.tail, &mut left, network, rng, None) {
            Outcome::Answer => {
                once_into(left.iter().map(of), room);
                (Filled::List, scope)
            }
            Outcome::Refused => (Filled::Refused, scope),
        })
    }

    fn candidate(&self, slot: &Slot) -> Option<Candidate> {
        let candidate = self.candidates.get(slot.index as usize)?;
        Some(Candidate {
            seen: slot.seen,
            ..*candidate
        })
    }

    /// Whether the all-down rule made the answer for a client.
    pub(crate) fn is_by_rule(&self, client: Locate, classes: &Classes) -> bool {
        // Usually nothing is down, and nothing is looked up.
        let index = || Some(self.index(client, classes)?.0 as usize);
        !self.by_rule.is_empty() && index().is_some_and(|index| self.by_rule.get(index) == Some(&true))
    }

    /// The row for a client, and the scope for which it holds.
    fn row(&self, client: Locate, classes: &Classes) -> Option<(&Row, Option<u8>)> {
        let (index, scope) = self.index(client, classes)?;
        Some((self.rows.get(index as usize)?, scope))
    }

    fn index(&self, client: Locate, classes: &Classes) -> Option<(u32, Option<u8>)> {
        Some(match (client, &*self.by_class) {
            (_, [only]) => (*only, None),
            (Locate::Nobody, _) => (self.nobody, None),
            (Locate::By(address), by_class) => {
                let found = classes.find(address);
                (*by_class.get(usize::from(found.class.0))?, Some(found.scope))
            }
        })
    }

    /// Bytes on the heap, about.
    pub(crate) fn bytes(&self) -> usize {
        let slots = self.rows.iter().map(|row| match row {
            Row::List(slots) => slots.len() * size_of::<Slot>(),
            Row::Refused | Row::Fail => 0,
        });
        slots.sum::<usize>()
            + self.rows.capacity() * size_of::<Row>()
            + self.candidates.len() * size_of::<Candidate>()
            + self.by_class.len() * size_of::<u32>()
            + self.tail.capacity() * size_of::<Filter>()
            + self.good.len() * size_of::<EndpointId>()
    }
}

fn row(left: Left, tail: &[Filter]) -> Row {
    match left {
        Left::Fail => Row::Fail,
        Left::Refused => Row::Refused,
        Left::List(list) => Row::List(list.iter().map(|candidate| slot(candidate, tail)).collect()),
    }
}

/// Clears what the rest of the chain does not ask for, so that more rows are equal.
fn slot(candidate: &Candidate, tail: &[Filter]) -> Slot {
    let Seen {
        rank,
        trip,
        marks,
        home,
    } = candidate.seen;
    let asks = |filter| tail.contains(&filter);
    let seen = Seen {
        rank: if asks(Filter::Nearest) { rank } else { 0 },
        trip: if asks(Filter::Latency) { trip } else { 0 },
        marks: marks.only(tail),
        home: home && asks(Filter::Overflow),
    };
    Slot {
        index: candidate.index,
        seen,
    }
}

fn good(steer: &Steer, field: &Field, before: Option<&Family>) -> Box<[EndpointId]> {
    if steer.if_all_down != AllDown::ServeLastGood {
        return Box::default();
    }
    let own = field.all.iter().take(field.own);
    let good: Box<[EndpointId]> = own
        .filter(|candidate| !candidate.lost)
        .map(|candidate| candidate.first)
        .collect();
    match before {
        Some(before) if good.is_empty() => before.good.clone(),
        Some(_) | None => good,
    }
}

/// `None` while a change is likely, or where only DNS could move the clients of an address.
fn calm_since(snapshot: &Snapshot, field: &Field) -> Option<Timestamp> {
    let fleet = &snapshot.fleet;
    let mut since = Timestamp::MIN;
    for id in &field.members {
        let state = snapshot.endpoint(*id);
        let address = fleet.endpoint(*id).address.ip();
        let is_calm = match (&state.service, state.verdict) {
            (Service::In, Verdict::Up) => true,
            (Service::In, Verdict::Down | Verdict::Unknown)
            | (Service::Out | Service::Drained | Service::Held { .. }, _) => false,
        };
        let routed = || {
            fleet
                .anycast
                .iter()
                .any(|anycast| anycast.prefix.contains(address))
        };
        if !is_calm || !routed() {
            return None;
        }
        since = since.max(state.since);
    }
    Some(since)
}

/// See [`once_into`].
pub(crate) fn each_once<T: PartialEq>(list: impl Iterator<Item = T>) -> Vec<T> {
    let mut room = Vec::with_capacity(list.size_hint().0);
    once_into(list, &mut room);
    room
}

/// In order, each once: a set holds no duplicates (RFC 2181 §5), and two endpoints may share an address on two ports.
fn once_into<T: PartialEq>(list: impl Iterator<Item = T>, room: &mut Vec<T>) {
    room.clear();
    for one in list {
        if !room.contains(&one) {
            room.push(one);
        }
    }
}
