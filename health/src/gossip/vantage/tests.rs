use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use steer_topology::{CheckId, CheckKind};

use super::*;
use crate::gossip::desk::Word;
use crate::gossip::{Council, Keys, Moment};
use crate::snapshot::Verdict;
use crate::testing::{FleetBuilder, gossip_policy};

/// So many sites on four continents in turn, with ten endpoints each, at which `points` look; and one endpoint of no site.
fn fleet(sites: u16, points: u16) -> Fleet {
    let at = |number: u16| {
        let address = SocketAddr::from(([192, 0, (number / 256) as u8, number as u8], 443));
        (Some(number % sites), address)
    };
    let endpoints: Vec<_> = (0..sites * 10).map(at).collect();
    let built = FleetBuilder::new(CheckKind::Tcp)
        .sites(sites)
        .check(|check| check.vantage_points = NonZeroU16::new(points))
        .pool_at(&endpoints, Some(CheckId(0)))
        .pool_at(&[(None, ([198, 51, 100, 1], 443).into())], Some(CheckId(0)))
        .build();
    let mut fleet = Arc::unwrap_or_clone(built);
    fleet.gossip = Some(gossip_policy());
    for (number, site) in fleet.sites.iter_mut().enumerate() {
        site.country = ["DE", "JP", "US", "ZA"][number % 4].to_owned();
        site.gossip = Some(([10, 0, 0, number as u8], 7946).into());
    }
    fleet
}

/// Who looks at each endpoint that has a site, by its key.
fn drawn(fleet: &Fleet) -> BTreeMap<Key, BTreeSet<SiteId>> {
    let lookouts = Lookouts::of(fleet);
    let of_sites = fleet
        .endpoint_ids()
        .filter(|id| fleet.endpoint(*id).site.is_some());
    let one = |id| {
        let sites = lookouts.at(fleet, id).unwrap();
        (Key::of(fleet, id), sites.into_iter().collect())
    };
    of_sites.map(one).collect()
}

#[test]
fn as_many_look_as_the_file_says_its_own_site_among_them() {
    let fleet = fleet(40, 7);
    let lookouts = Lookouts::of(&fleet);
    for id in fleet.endpoint_ids() {
        let sites: BTreeSet<_> = (0..40)
            .map(SiteId)
            .filter(|site| lookouts.looks(&fleet, id, *site))
            .collect();
        match fleet.endpoint(id).site {
            None => assert_eq!(sites.len(), 40, "of no site: each decides alone"),
            Some(home) => {
                assert_eq!(sites.len(), 7);
                assert!(sites.contains(&home));
            }
        }
    }
}

#[test]
fn every_continent_has_its_share_of_them() {
    let fleet = fleet(40, 8);
    for sites in drawn(&fleet).values() {
        let mut continents = [0; 4];
        sites
            .iter()
            .for_each(|site| continents[usize::from(site.0 % 4)] += 1);
        assert_eq!(continents, [2; 4], "{sites:?}");
    }
}

#[test]
fn no_site_has_to_look_at_much_more_than_the_others() {
    let fleet = fleet(40, 8);
    let mut loads = [0; 40];
    drawn(&fleet)
        .values()
        .flatten()
        .for_each(|site| loads[usize::from(site.0)] += 1);
    // 80 on average. A fair draw has a standard deviation of 8.
    assert!(loads.iter().all(|load| (48..=112).contains(load)), "{loads:?}");
}

#[test]
fn a_site_less_moves_its_own_places_and_no_others() {
    let before = fleet(40, 8);
    let mut after = before.clone();
    after.sites[17].gossip = None;
    let (before, after) = (drawn(&before), drawn(&after));
    for (key, sites) in &before {
        let stay: BTreeSet<_> = sites.iter().filter(|site| site.0 != 17).collect();
        let left: BTreeSet<_> = after[key].iter().collect();
        let kept = stay.intersection(&left).count();
        assert_eq!(kept, stay.len(), "{sites:?} {:?}", after[key]);
    }
}

#[test]
fn where_nobody_says_how_many_or_more_than_there_are_all_look() {
    for fleet in [fleet(5, 5), fleet(5, 9), fleet(5, 0)] {
        let lookouts = Lookouts::of(&fleet);
        assert!(fleet.endpoint_ids().all(|id| lookouts.at(&fleet, id).is_none()));
        assert!(
            fleet
                .endpoint_ids()
                .all(|id| lookouts.looks(&fleet, id, SiteId(4)))
        );
    }
}

#[test]
fn after_a_reload_the_others_do_not_go_by_what_is_not_looked_at_here_any_more() {
    let (all, few) = (Arc::new(fleet(8, 0)), Arc::new(fleet(8, 3)));
    let local = SiteId(0);
    let when = Moment {
        now: Instant::now(),
        at: Timestamp::now(),
    };
    let mut council = Council::new(&all, local, Keys::one([42; 32]), [7; 32], when).unwrap();
    for id in all.endpoint_ids() {
        let word = Word {
            verdict: Verdict::Up,
            cause: String::new(),
            since: when.at,
        };
        council.desk().own.lay(Key::of(&all, id), word);
    }
    council.say(when.now);
    council.renew(&few, &Keys::one([42; 32]), when);
    let lookouts = Lookouts::of(&few);
    for id in few.endpoint_ids() {
        let word = council
            .gossip
            .store()
            .word(council.gossip.me(), Key::of(&few, id), when.now);
        let expected = if lookouts.looks(&few, id, local) {
            Verdict::Up
        } else {
            Verdict::Unknown
        };
        assert_eq!(word.unwrap().observation.verdict, expected, "{id:?}");
    }
}
