//! Which sites look at an endpoint: all, or as many as `vantage_points` of its check says.
//!
//! Every site draws them by itself and comes to the same: for each endpoint the other sites are put in an order by a hash of both
//! names (rendezvous hashing, Thaler and Ravishankar 1998), and taken from every continent in turn, for each continent votes the
//! same. So a site more or less moves the endpoints that it has itself, and no other.
//!
//! They are drawn from all that the file names and not from those that are there: a site that dies takes its vote with it, as it
//! does where all look, and nobody begins to probe in its place what it has never seen.

use std::collections::HashMap;

use steer_topology::{Continent, CountryCode, EndpointId, Fleet, Site, SiteId};

use super::agreement::is_agreed_on;
use super::observation::Key;
use super::site::{SiteName, name_of};

/// The sites of a fleet that can look.
#[derive(Debug)]
pub(crate) struct Lookouts {
    pub(super) sites: Vec<Lookout>,
}

/// A site that gossips.
#[derive(Debug)]
pub(super) struct Lookout {
    pub(super) id: SiteId,
    pub(super) name: SiteName,
    pub(super) continent: Option<Continent>,
}

impl Lookouts {
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let one = |(id, site): (u16, &Site)| {
            site.gossip?;
            Some(Lookout {
                id: SiteId(id),
                name: name_of(fleet, SiteId(id))?,
                continent: continent(site),
            })
        };
        Self {
            sites: (0..).zip(&fleet.sites).filter_map(one).collect(),
        }
    }

    /// Who looks at an endpoint, in no order; `None`: all sites.
    pub(crate) fn at(&self, fleet: &Fleet, id: EndpointId) -> Option<Vec<SiteId>> {
        let endpoint = fleet.endpoint(id);
        let (home, check) = (endpoint.site?, fleet.pool(endpoint.pool).check?);
        let wanted = usize::from(fleet.check(check).vantage_points?.get());
        if wanted >= self.sites.len() {
            return None;
        }
        let key = Key::of(fleet, id);
        let others = self.sites.iter().filter(|site| site.id != home);
        let mut others: Vec<_> = others.map(|site| (score(site.name, key), site)).collect();
        others.sort_unstable_by_key(|(score, site)| (*score, site.name));
        // The home has the first place of its continent.
        let mut places: HashMap<_, usize> = HashMap::from([(continent(fleet.site(home)), 1)]);
        let place = |(score, site): (u64, &Lookout)| {
            let place = places.entry(site.continent).or_default();
            *place += 1;
            (*place, score, site.id)
        };
        let mut others: Vec<_> = others.into_iter().map(place).collect();
        others.sort_unstable();
        let drawn = others.into_iter().map(|(_, _, id)| id);
        Some(drawn.take(wanted - 1).chain([home]).collect())
    }

    /// Whether the site `local` looks at an endpoint. What it decides about alone it always does.
    pub(crate) fn looks(&self, fleet: &Fleet, id: EndpointId, local: SiteId) -> bool {
        !is_agreed_on(fleet, id, Some(local)) || self.at(fleet, id).is_none_or(|sites| sites.contains(&local))
    }
}

fn continent(site: &Site) -> Option<Continent> {
    site.country_code().and_then(CountryCode::continent)
}

/// Even over all sites for each endpoint. The finalizer of SplitMix64 (Steele, Lea and Flood 2014): it need not withstand anybody.
fn score(site: SiteName, key: Key) -> u64 {
    let [first, second, third] = site.octets().map(u64::from);
    let name = (first << 16 | second << 8 | third).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mixed = key.0 ^ name;
    let mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests;
