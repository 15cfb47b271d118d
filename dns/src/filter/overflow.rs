//! `overflow`: the excess of a site goes where there is room.
//!
//! Sites are the unit. Of the sites in the list, each has its own clients, who bring its `load`; what is above its
//! capacity is its excess, what is below is its room. A client of a site keeps it with chance 1 - shed / load, where
//! all sites together shed no more than there is room; else, and where its own site is not in the list at all, it
//! goes to one of the others with a chance in proportion to their room.

use rand::{Rng, RngExt};
use steer_topology::SiteId;

use super::{Candidate, Room};

/// The room of a site without `capacity`, and an upper bound for all: sums of 65,536 sites stay far below `u128`.
const ENDLESS: u128 = 1 << 64;

/// Puts the site that was drawn first; the others keep their order.
pub(super) fn overflow<R: Rng + ?Sized>(list: &mut [Candidate], rng: &mut R) {
    let shares = shares(list);
    let total: u128 = shares.iter().map(|(_, share)| share).sum();
    if total == 0 {
        return;
    }
    let mut mark = rng.random_range(0..total);
    let hit = shares.iter().find(|(_, share)| {
        let hit = mark < *share;
        mark = mark.saturating_sub(*share);
        hit
    });
    if let Some((site, _)) = hit {
        list.sort_by_key(|candidate| candidate.site != *site); // stable
    }
}

/// A site, as far as the list knows.
struct Place {
    site: Option<SiteId>,
    room: Room,
}

/// With which relative chance a client gets each site first, in the order of the list.
pub(crate) fn shares(list: &[Candidate]) -> Vec<(Option<SiteId>, u128)> {
    let mut places: Vec<Place> = Vec::new();
    for candidate in list {
        if places.iter().all(|place| place.site != candidate.site) {
            places.push(Place {
                site: candidate.site,
                room: candidate.room,
            });
        }
    }
    let home = list
        .iter()
        .find(|candidate| candidate.seen.home)
        .map(|candidate| candidate.site);
    let excess: u128 = places.iter().map(|place| excess(place.room)).sum();
    let free: u128 = places.iter().map(|place| free(place.room)).sum();
    // Chances out of `whole`: the client's own site keeps `kept`, the others share the rest by their room.
    let (kept, whole) = match places.iter().find(|place| Some(place.site) == home) {
        None => (0, 1),
        Some(own) => {
            let shed = scaled(self::excess(own.room), free.min(excess), excess);
            let load = u128::from(own.room.load);
            (load - shed, load.max(1))
        }
    };
    let nobody_sheds = kept == whole || (kept == 0 && whole == 1 && home.is_some());
    // Where nothing is free, the clients of a site that is gone still have to go somewhere.
    let part = |place: &Place| match free {
        0 => u128::from(place.room.capacity.unwrap_or(1).max(1)),
        _ => self::free(place.room),
    };
    let is_home = |place: &Place| Some(place.site) == home;
    let others: u128 = places.iter().filter(|place| !is_home(place)).map(part).sum();
    let share = |place: &Place| {
        if is_home(place) {
            if others == 0 || nobody_sheds {
                1
            } else {
                scaled(kept, SCALE, whole)
            }
        } else if nobody_sheds || others == 0 {
            0
        } else {
            scaled(scaled(whole - kept, SCALE, whole), part(place), others)
        }
    };
    places.iter().map(|place| (place.site, share(place))).collect()
}

/// Chances are counted in this many parts.
const SCALE: u128 = 1 << 32;

/// What is more than the site can serve.
fn excess(room: Room) -> u128 {
    let capacity = room.capacity.unwrap_or(u64::MAX);
    u128::from(room.load.saturating_sub(capacity))
}

/// What the site could serve beside its own clients.
fn free(room: Room) -> u128 {
    match room.capacity {
        Some(capacity) => u128::from(capacity.saturating_sub(room.load)),
        None => ENDLESS,
    }
}

/// `value` x `by` / `of`, 0 of 0.
fn scaled(value: u128, by: u128, of: u128) -> u128 {
    value.saturating_mul(by).checked_div(of).unwrap_or(0)
}
