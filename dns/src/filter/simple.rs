//! Filters that keep by a mark, sort by a rank or draw by weight.

use rand::{Rng, RngExt};
use steer_topology::Filter;

use super::Candidate;

/// Keeps what serves.
pub(super) fn up(list: &mut Vec<Candidate>) {
    list.retain(|candidate| candidate.serving);
}

/// Nearest first; the sort is stable, so ties keep their order.
pub(super) fn nearest(list: &mut [Candidate]) {
    list.sort_by_key(|candidate| candidate.seen.rank);
}

/// Shortest round trip first; the sort is stable, so ties keep their order.
pub(super) fn latency(list: &mut [Candidate]) {
    list.sort_by_key(|candidate| candidate.seen.trip);
}

/// Keeps what a map names for the client; all, where it names nothing that is there.
pub(super) fn prefer(list: &mut Vec<Candidate>, map: Filter) {
    if list.iter().any(|candidate| candidate.seen.marks.has(map)) {
        list.retain(|candidate| candidate.seen.marks.has(map));
    }
}

/// Keeps what stands in the client's region, though it be nothing.
pub(super) fn fence(list: &mut Vec<Candidate>, fence: Filter) {
    list.retain(|candidate| candidate.seen.marks.has(fence));
}

/// Draws one after the other without putting back, each with a chance in proportion to its weight among those
/// left. Weight 0 is left out while another weight is there; when all weights are 0 each has the same chance.
pub(super) fn weighted<R: Rng + ?Sized>(list: &mut Vec<Candidate>, rng: &mut R) {
    let all_zero = drop_weightless(list);
    draw(list, rng, |candidate| if all_zero { 1 } else { candidate.weight });
}

/// Any order is as likely as any other.
pub(super) fn shuffle<R: Rng + ?Sized>(list: &mut [Candidate], rng: &mut R) {
    draw(list, rng, |_| 1);
}

/// Leaves out weight 0 while another weight is there; true where all are 0.
pub(super) fn drop_weightless(list: &mut Vec<Candidate>) -> bool {
    let all_zero = list.iter().all(|candidate| candidate.weight == 0);
    list.retain(|candidate| all_zero || candidate.weight > 0);
    all_zero
}

fn draw<R: Rng + ?Sized>(list: &mut [Candidate], rng: &mut R, weight: impl Fn(&Candidate) -> u64) {
    let mut left: u64 = list.iter().map(&weight).sum();
    for drawn in 0..list.len() {
        let mut mark = rng.random_range(0..left.max(1));
        let tail = list.get_mut(drawn..).unwrap_or_default();
        let hit = tail.iter().position(|candidate| {
            let hit = mark < weight(candidate);
            mark = mark.saturating_sub(weight(candidate));
            hit
        });
        let hit = hit.unwrap_or_default();
        left -= tail.get(hit).map_or(0, &weight);
        // the rest keeps its order, so that a seed gives the same draw whatever the standard library does
        if let Some(span) = tail.get_mut(..=hit) {
            span.rotate_right(1);
        }
    }
}
