//! `failover` and `trickle`: one tier of the list.

use std::num::NonZeroU8;

use rand::{Rng, RngExt};

use super::Candidate;

/// Keeps only the lowest tier that has a candidate.
pub(super) fn failover(list: &mut Vec<Candidate>) {
    if let Some(lowest) = lowest(list) {
        list.retain(|candidate| candidate.tier == lowest);
    }
}

/// Keeps the next tier in `percent` of 100 draws, if there is one, else the lowest.
pub(super) fn trickle<R: Rng + ?Sized>(list: &mut Vec<Candidate>, percent: NonZeroU8, rng: &mut R) {
    match next_tier(list) {
        Some(next) if rng.random_range(0..100) < percent.get() => {
            list.retain(|candidate| candidate.tier == next);
        }
        Some(_) | None => failover(list),
    }
}

fn lowest(list: &[Candidate]) -> Option<u16> {
    list.iter().map(|candidate| candidate.tier).min()
}

/// The second lowest tier that has a candidate.
pub(crate) fn next_tier(list: &[Candidate]) -> Option<u16> {
    let lowest = lowest(list)?;
    let others = list.iter().map(|candidate| candidate.tier);
    others.filter(|tier| *tier > lowest).min()
}
