//! The filters of a chain: each takes a list of candidates and leaves a list. None of them knows DNS, clocks or
//! sockets; chance comes in through the caller.

use std::net::IpAddr;

use rand::{Rng, RngExt};
use steer_topology::{EndpointId, Filter};

/// An endpoint on its way through a chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Candidate {
    pub(crate) endpoint: EndpointId,
    pub(crate) address: IpAddr,
    /// Relative share for `weighted`.
    pub(crate) weight: u32,
    /// For `failover`, lowest first.
    pub(crate) tier: u16,
    /// For `up`: in service, held there by the guard, or taken so by the all-down rule.
    pub(crate) serving: bool,
    /// For `nearest`: place of its site in the order of the client's class, 0 the nearest.
    pub(crate) rank: u16,
}

/// One filter of a run, for people.
#[derive(Debug, Clone)]
pub(crate) struct Step {
    pub(crate) filter: Filter,
    pub(crate) before: Vec<Candidate>,
    pub(crate) after: Vec<Candidate>,
}

/// Runs a chain. Compiling, answering and explaining all come through here; only the last takes notes.
pub(crate) fn run<R: Rng + ?Sized>(
    chain: &[Filter],
    list: &mut Vec<Candidate>,
    rng: &mut R,
    mut notes: Option<&mut Vec<Step>>,
) {
    for filter in chain {
        match &mut notes {
            None => apply(*filter, list, rng),
            Some(notes) => {
                let before = list.clone();
                apply(*filter, list, rng);
                notes.push(Step {
                    filter: *filter,
                    before,
                    after: list.clone(),
                });
            }
        }
    }
}

fn apply<R: Rng + ?Sized>(filter: Filter, list: &mut Vec<Candidate>, rng: &mut R) {
    match filter {
        Filter::Up => up(list),
        Filter::Nearest => nearest(list),
        Filter::Weighted => weighted(list, rng),
        Filter::Failover => failover(list),
        Filter::Take(n) => list.truncate(usize::from(n.get())),
    }
}

/// Keeps what serves.
fn up(list: &mut Vec<Candidate>) {
    list.retain(|candidate| candidate.serving);
}

/// Nearest first; the sort is stable, so ties keep their order.
fn nearest(list: &mut [Candidate]) {
    list.sort_by_key(|candidate| candidate.rank);
}

/// Keeps only the lowest tier that has a candidate.
fn failover(list: &mut Vec<Candidate>) {
    if let Some(lowest) = list.iter().map(|candidate| candidate.tier).min() {
        list.retain(|candidate| candidate.tier == lowest);
    }
}

/// Draws one after the other without putting back, each with a chance in proportion to its weight among those
/// left. Weight 0 is left out while another weight is there; when all weights are 0 each has the same chance.
fn weighted<R: Rng + ?Sized>(list: &mut Vec<Candidate>, rng: &mut R) {
    let all_zero = list.iter().all(|candidate| candidate.weight == 0);
    list.retain(|candidate| all_zero || candidate.weight > 0);
    let weight = |candidate: &Candidate| if all_zero { 1 } else { u64::from(candidate.weight) };
    let mut left: u64 = list.iter().map(weight).sum();
    for drawn in 0..list.len() {
        let mut mark = rng.random_range(0..left.max(1));
        let tail = list.get_mut(drawn..).unwrap_or_default();
        let hit = tail.iter().position(|candidate| {
            let hit = mark < weight(candidate);
            mark = mark.saturating_sub(weight(candidate));
            hit
        });
        let hit = hit.unwrap_or_default();
        left -= tail.get(hit).map_or(0, weight);
        // the rest keeps its order, so that a seed gives the same draw whatever the standard library does
        if let Some(span) = tail.get_mut(..=hit) {
            span.rotate_right(1);
        }
    }
}

#[cfg(test)]
#[path = "filter_tests.rs"]
mod tests;
