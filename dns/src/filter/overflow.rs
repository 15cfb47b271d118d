//! `overflow`: the excess of a site goes where there is room.
//!
//! Sites are the unit. Of the sites in the list, each has its own clients, who bring its `load`; what it does not keep
//! of that is its excess, what it takes is its room. A client of a site stays with chance 1 - shed / load, where
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
#[derive(Debug, Clone, Copy)]
pub(crate) struct Site {
    pub(crate) site: Option<SiteId>,
    pub(crate) room: Room,
}

/// With which relative chance a client gets each site first, in the order of the list.
pub(crate) fn shares(list: &[Candidate]) -> Vec<(Option<SiteId>, u128)> {
    let mut sites: Vec<Site> = Vec::new();
    for candidate in list {
        if sites.iter().all(|site| site.site != candidate.site) {
            sites.push(Site {
                site: candidate.site,
                room: candidate.room,
            });
        }
    }
    let home = list.iter().find(|candidate| candidate.seen.home);
    shares_among(&sites, home.map(|candidate| candidate.site))
}

/// The same among sites; `home` is that of the client, whether it is among them or not.
pub(crate) fn shares_among(sites: &[Site], home: Option<Option<SiteId>>) -> Vec<(Option<SiteId>, u128)> {
    let excess: u128 = sites.iter().map(|site| excess(site.room)).sum();
    let free: u128 = sites.iter().map(|site| free(site.room)).sum();
    let is_home = |site: &Site| Some(site.site) == home;
    // Chances out of `whole`: the client's own site keeps `kept`, the others share the rest by their room.
    let (kept, whole) = match sites.iter().find(|site| is_home(site)) {
        None => (0, 1),
        Some(own) => {
            let shed = scaled(self::excess(own.room), free.min(excess), excess);
            let load = u128::from(own.room.load);
            match load {
                0 => (1, 1),
                load => (load - shed, load),
            }
        }
    };
    let nobody_sheds = kept == whole;
    // Where nothing is free, the clients of a site that is gone still have to go somewhere.
    let part = |site: &Site| match free {
        0 => u128::from(site.room.capacity.unwrap_or(1).max(1)),
        _ => self::free(site.room),
    };
    let others: u128 = sites.iter().filter(|site| !is_home(site)).map(part).sum();
    let share = |site: &Site| {
        if is_home(site) {
            if others == 0 || nobody_sheds {
                1
            } else {
                scaled(kept, SCALE, whole)
            }
        } else if nobody_sheds || others == 0 {
            0
        } else {
            scaled(scaled(whole - kept, SCALE, whole), part(site), others)
        }
    };
    sites.iter().map(|site| (site.site, share(site))).collect()
}

/// Chances are counted in this many parts.
const SCALE: u128 = 1 << 32;

/// What the site does not keep of its own clients.
fn excess(room: Room) -> u128 {
    u128::from(room.load.saturating_sub(room.keeps))
}

/// What the site takes beside its own clients.
fn free(room: Room) -> u128 {
    room.takes.map_or(ENDLESS, u128::from)
}

/// `value` x `by` / `of`, 0 of 0.
fn scaled(value: u128, by: u128, of: u128) -> u128 {
    value.saturating_mul(by).checked_div(of).unwrap_or(0)
}
