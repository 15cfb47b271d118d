use std::net::SocketAddr;

use steer_topology::{CheckId, CheckKind, EndpointId};

use super::super::sim::World;
use super::*;
use crate::testing::FleetBuilder;

const SECOND: Duration = Duration::from_secs(1);
const POLICY: Policy = Policy {
    share: 50,
    own_after: Duration::from_secs(10),
};

/// A fleet of the sites of a [`World`], one endpoint at each, and their agreements.
struct Fleets {
    world: World,
    fleet: Arc<Fleet>,
    agreements: Vec<Agreement>,
    /// What each site holds true, by endpoint.
    stands: Vec<Vec<Verdict>>,
    /// How often a verdict changed, after the first.
    flaps: usize,
}

impl Fleets {
    fn new(countries: &[&str], seed: u64) -> Self {
        let count = countries.len();
        let at = |site: usize| {
            (
                Some(site as u16),
                SocketAddr::from(([192, 0, 2, site as u8 + 1], 443)),
            )
        };
        let endpoints: Vec<_> = (0..count).map(at).collect();
        let fleet = FleetBuilder::new(CheckKind::Tcp)
            .sites(count as u16)
            .pool_at(&endpoints, Some(CheckId(0)))
            .build();
        let mut fleet = Arc::unwrap_or_clone(fleet);
        for (number, site) in fleet.sites.iter_mut().enumerate() {
            site.name = super::super::sim::name(number).to_string();
            site.country = countries[number].to_owned();
            site.gossip = Some(([10, 0, 0, number as u8 + 1], 7946).into());
        }
        let fleet = Arc::new(fleet);
        let agreement = |site| Agreement::new(Arc::clone(&fleet), SiteId(site as u16), POLICY);
        Self {
            world: World::new(count, seed),
            agreements: (0..count).map(agreement).collect(),
            stands: vec![vec![Verdict::Unknown; count]; count],
            flaps: 0,
            fleet,
        }
    }

    /// `site` sees the endpoint of `of`.
    fn see(&mut self, site: usize, of: usize, verdict: Verdict) {
        let key = Key::of(&self.fleet, EndpointId(of as u32));
        self.world.observe(site, key.0, verdict);
    }

    fn all_see_all_up(&mut self) {
        let count = self.stands.len();
        for site in 0..count {
            (0..count).for_each(|of| self.see(site, of, Verdict::Up));
        }
        self.run_for(SECOND * 15);
        for site in 0..count {
            let others = (0..count).filter(|of| *of != site);
            others.for_each(|of| assert_eq!(self.stands[site][of], Verdict::Up, "{site} {of}"));
        }
        self.flaps = 0;
    }

    fn run_for(&mut self, time: Duration) {
        let until = self.world.now + time;
        while self.world.now < until {
            self.world.run_for(Duration::from_millis(100));
            for (site, agreement) in self.agreements.iter_mut().enumerate() {
                let now = self.world.moment(site).now;
                let Some(gossip) = &self.world.sites[site] else {
                    continue;
                };
                for Change {
                    endpoint, verdict, ..
                } in agreement.rule(gossip, now)
                {
                    self.stands[site][endpoint.0 as usize] = verdict;
                    self.flaps += 1;
                }
            }
        }
    }

    /// What all the others hold of the endpoint of `of`.
    fn others_hold(&self, of: usize) -> Vec<Verdict> {
        let sites = (0..self.stands.len()).filter(|site| *site != of && self.world.sites[*site].is_some());
        sites.map(|site| self.stands[site][of]).collect()
    }
}

const WORLD: [&str; 6] = ["DE", "NL", "US", "CA", "JP", "SG"];

#[test]
fn what_all_see_down_is_down_for_all_within_a_second() {
    let mut fleets = Fleets::new(&WORLD, 1);
    fleets.all_see_all_up();
    (0..6).for_each(|site| fleets.see(site, 4, Verdict::Down));
    fleets.run_for(SECOND);
    assert_eq!(fleets.others_hold(4), [Verdict::Down; 5]);
    (0..6).for_each(|site| fleets.see(site, 4, Verdict::Up));
    fleets.run_for(SECOND);
    assert_eq!(fleets.others_hold(4), [Verdict::Up; 5]);
    assert_eq!(fleets.flaps, 10);
}

#[test]
fn one_site_that_sees_it_down_takes_nothing_away_not_even_at_home() {
    let mut fleets = Fleets::new(&WORLD, 2);
    fleets.all_see_all_up();
    fleets.see(0, 4, Verdict::Down);
    fleets.run_for(SECOND * 60);
    assert_eq!((fleets.others_hold(4), fleets.flaps), (vec![Verdict::Up; 5], 0));
}

#[test]
fn one_continent_that_sees_it_down_takes_nothing_away() {
    let mut fleets = Fleets::new(&["DE", "NL", "FR", "GB", "JP"], 3);
    fleets.all_see_all_up();
    (0..4).for_each(|site| fleets.see(site, 4, Verdict::Down));
    fleets.run_for(SECOND * 60);
    assert_eq!((fleets.others_hold(4), fleets.flaps), (vec![Verdict::Up; 4], 0));
}

#[test]
fn a_site_that_is_cut_off_keeps_what_it_knew_and_the_others_agree_without_it() {
    let mut fleets = Fleets::new(&WORLD, 4);
    fleets.all_see_all_up();
    fleets.world.cut = Box::new(|a, b| (a == 4) != (b == 4));
    for site in (0..6).filter(|site| *site != 4) {
        fleets.see(site, 4, Verdict::Down);
        fleets.see(4, site, Verdict::Down);
    }
    fleets.run_for(SECOND * 5);
    println!("after 5 s the others hold {:?}", fleets.others_hold(4));
    fleets.run_for(SECOND * 115);
    assert_eq!(
        fleets.others_hold(4),
        [Verdict::Down; 5],
        "cut off: down for the others"
    );
    assert_eq!(fleets.stands[4][..4], [Verdict::Up; 4], "it is more likely us");
    assert_eq!(fleets.flaps, 5);
    // It heals: the cut-off site changes nothing.
    fleets.world.cut = Box::new(|_, _| false);
    for site in (0..6).filter(|site| *site != 4) {
        fleets.see(site, 4, Verdict::Up);
        fleets.see(4, site, Verdict::Up);
    }
    fleets.run_for(SECOND * 60);
    assert_eq!(fleets.others_hold(4), [Verdict::Up; 5]);
    assert_eq!(fleets.flaps, 10);
}

#[test]
fn without_gossip_a_site_keeps_what_it_knew_and_then_goes_by_its_own_check() {
    let mut fleets = Fleets::new(&WORLD, 5);
    fleets.all_see_all_up();
    // The network of the gossip alone is gone: the checks go on.
    fleets.world.cut = Box::new(|_, _| true);
    fleets.run_for(SECOND);
    fleets.see(0, 4, Verdict::Down);
    fleets.run_for(SECOND * 5);
    assert_eq!(
        (fleets.stands[0][4], fleets.flaps),
        (Verdict::Up, 0),
        "what it knew"
    );
    fleets.run_for(SECOND * 60);
    assert_eq!(
        (fleets.stands[0][4], fleets.flaps),
        (Verdict::Down, 1),
        "then its own"
    );
    assert_eq!(fleets.stands[1][4], Verdict::Up);
}

#[test]
fn a_site_that_sees_again_before_it_hears_again_changes_nothing() {
    let mut fleets = Fleets::new(&WORLD, 10);
    fleets.all_see_all_up();
    fleets.world.cut = Box::new(|a, b| (a == 4) != (b == 4));
    let others = || (0..6).filter(|site| *site != 4);
    others().for_each(|of| fleets.see(4, of, Verdict::Down));
    fleets.run_for(SECOND * 60);
    assert_eq!(fleets.stands[4][..4], [Verdict::Up; 4]);
    // Its checks succeed again one by one; the gossip comes a little later.
    for of in others() {
        fleets.see(4, of, Verdict::Up);
        fleets.run_for(SECOND);
    }
    fleets.world.cut = Box::new(|_, _| false);
    fleets.run_for(SECOND * 30);
    assert_eq!(fleets.flaps, 0);
}

#[test]
fn of_two_sites_the_one_that_is_left_goes_by_its_own_check() {
    let mut fleets = Fleets::new(&["DE", "JP"], 6);
    fleets.all_see_all_up();
    fleets.world.kill(1);
    fleets.see(0, 1, Verdict::Down);
    fleets.run_for(SECOND * 5);
    assert_eq!(fleets.stands[0][1], Verdict::Up);
    fleets.run_for(SECOND * 25);
    assert_eq!(fleets.stands[0][1], Verdict::Down);
}

#[test]
fn a_site_that_starts_alone_holds_up_what_it_sees_up_at_once_and_down_only_after_a_while() {
    let mut fleets = Fleets::new(&["DE", "JP", "US"], 7);
    (1..3).for_each(|site| fleets.world.kill(site));
    fleets.see(0, 1, Verdict::Up);
    fleets.see(0, 2, Verdict::Down);
    fleets.run_for(SECOND);
    assert_eq!(
        fleets.stands[0],
        [Verdict::Unknown, Verdict::Up, Verdict::Unknown]
    );
    fleets.run_for(POLICY.own_after);
    assert_eq!(fleets.stands[0], [Verdict::Unknown, Verdict::Up, Verdict::Down]);
}

#[test]
fn when_all_see_nearly_all_down_nothing_is_decided() {
    let mut fleets = Fleets::new(&WORLD, 8);
    fleets.all_see_all_up();
    for site in 0..6 {
        (0..6)
            .filter(|of| *of != site)
            .for_each(|of| fleets.see(site, of, Verdict::Down));
    }
    fleets.run_for(SECOND * 60);
    // Words travel one by one: in the first moments few are known, and what they say may be acted upon.
    println!("{} changes", fleets.flaps);
    let agreement = &fleets.agreements[0];
    let gossip = fleets.world.sites[0].as_ref().unwrap();
    let now = fleets.world.moment(0).now;
    assert_eq!(agreement.suspects(gossip, now).len(), 6);
    let tallies = agreement.tallies(gossip, now);
    assert_eq!(tallies[&EndpointId(3)].ruling, Ruling::Undecided);
    assert!(!tallies.contains_key(&EndpointId(0)), "our own is not agreed on");
}

#[test]
fn a_reload_keeps_what_stands_of_what_goes_by_the_same_name() {
    let mut fleets = Fleets::new(&WORLD, 9);
    fleets.all_see_all_up();
    let mut next = Fleet::clone(&fleets.fleet);
    next.endpoints[5].address = ([192, 0, 2, 99], 443).into();
    let mut reloaded = fleets.agreements[0].reload(Arc::new(next), SiteId(0), POLICY);
    let now = fleets.world.moment(0).now;
    let changes = reloaded.rule(fleets.world.sites[0].as_ref().unwrap(), now);
    assert_eq!(changes, [], "the new one is not known yet");
}
