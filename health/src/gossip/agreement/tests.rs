use std::net::SocketAddr;
use std::num::NonZeroU16;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
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
        Self::seen_from(countries, 0, seed)
    }

    /// `points` look at each endpoint; 0: all.
    fn seen_from(countries: &[&str], points: u16, seed: u64) -> Self {
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
            .check(|check| check.vantage_points = NonZeroU16::new(points))
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
                the_board_is_as_the_store(agreement, gossip, now);
            }
        }
    }

    /// What all the others hold of the endpoint of `of`.
    fn others_hold(&self, of: usize) -> Vec<Verdict> {
        let sites = (0..self.stands.len()).filter(|site| *site != of && self.world.sites[*site].is_some());
        sites.map(|site| self.stands[site][of]).collect()
    }
}

/// Whether a site sees most of the others down, by the store alone. No fleet of these tests has two endpoints at a site.
fn sees_most_down(agreement: &Agreement, voter: &Voter, gossip: &Gossip, now: Instant) -> bool {
    let fleet = agreement.fleet();
    let elsewhere = fleet
        .endpoint_ids()
        .filter(|id| fleet.endpoint(*id).site != Some(voter.id));
    let says = |id| {
        let word = gossip.store().word(voter.site, Key::of(fleet, id), now)?;
        let verdict = word.observation.verdict;
        (!word.expired && verdict != Verdict::Unknown).then_some(verdict == Verdict::Down)
    };
    quorum::is_suspect(elsewhere.filter_map(says))
}

/// What was counted where something changed is what comes out when all is counted.
fn the_board_is_as_the_store(agreement: &mut Agreement, gossip: &Gossip, now: Instant) {
    let suspects: Vec<_> = agreement
        .voters
        .iter()
        .filter(|voter| sees_most_down(agreement, voter, gossip, now))
        .map(|voter| voter.site)
        .collect();
    assert_eq!(agreement.suspects(), suspects);
    for (id, tally) in agreement.tallies(gossip, now) {
        let number = id.0 as usize;
        let Standing { count, own } = agreement.board.count(number, gossip.me(), agreement.policy.share);
        let counted = (count.ruling, count.down, count.counted, count.down_percent);
        let whole = (tally.ruling, tally.down, tally.counted, tally.down_percent);
        assert_eq!(counted, whole, "{number}: {tally:?}");
        let mut votes = tally.votes.iter();
        let own_vote = votes.find(|vote| vote.site == gossip.me() && vote.void.is_none());
        assert_eq!(own, own_vote.map(|vote| vote.verdict), "{number}: {tally:?}");
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
fn all_go_by_the_votes_of_the_few_that_look() {
    let mut fleets = Fleets::seen_from(&WORLD, 3, 11);
    let lookouts = Lookouts::of(&fleets.fleet);
    let at = lookouts.at(&fleets.fleet, EndpointId(4)).unwrap();
    let few: Vec<_> = at.iter().map(|site| usize::from(site.0)).collect();
    let say = |fleets: &mut Fleets, sites: &[usize], verdict| {
        sites.iter().for_each(|site| fleets.see(*site, 4, verdict));
        fleets.run_for(SECOND * 15);
    };
    say(&mut fleets, &few, Verdict::Up);
    assert_eq!(fleets.others_hold(4), [Verdict::Up; 5]);
    say(&mut fleets, &few[..1], Verdict::Down);
    assert_eq!(fleets.others_hold(4), [Verdict::Up; 5], "one of three");
    say(&mut fleets, &few, Verdict::Down);
    assert_eq!(fleets.others_hold(4), [Verdict::Down; 5]);
    let gossip = fleets.world.sites[0].as_ref().unwrap();
    let now = fleets.world.moment(0).now;
    let votes = &fleets.agreements[0].tallies(gossip, now)[&EndpointId(4)].votes;
    assert_eq!(votes.len(), 3, "who does not look is not asked: {votes:?}");
    // Nobody is left who has a word: what was so far stays.
    fleets.world.cut = Box::new(move |a, b| few.contains(&a) != few.contains(&b));
    fleets.run_for(SECOND * 120);
    assert_eq!(fleets.others_hold(4), [Verdict::Down; 5]);
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
fn what_a_site_sees_again_last_takes_nothing_away_when_it_is_suspect_no_more() {
    let mut fleets = Fleets::new(&["DE", "JP", "US", "BR", "ZA"], 11);
    fleets.all_see_all_up();
    for site in [0, 1, 2] {
        let others = (0..5).filter(|of| *of != site);
        others.for_each(|of| fleets.see(site, of, Verdict::Down));
    }
    fleets.run_for(SECOND * 10);
    assert_eq!(fleets.stands[3][4], Verdict::Up);
    // Their uplinks are back; the endpoint of 4 has a slower check than the others.
    for site in [0, 1, 2] {
        let others = (0..4).filter(|of| *of != site);
        others.for_each(|of| fleets.see(site, of, Verdict::Up));
    }
    fleets.run_for(SECOND * 4);
    (0..3).for_each(|site| fleets.see(site, 4, Verdict::Up));
    fleets.run_for(SECOND * 20);
    assert_eq!(fleets.others_hold(4), [Verdict::Up; 4]);
    assert_eq!(fleets.flaps, 0);
    // Once they have seen everything again they count as anybody.
    (0..3).for_each(|site| fleets.see(site, 4, Verdict::Down));
    fleets.run_for(SECOND);
    assert_eq!(fleets.others_hold(4), [Verdict::Down; 4]);
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
    assert_eq!(agreement.suspects().len(), 6);
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

#[test]
fn a_site_whose_reference_targets_fail_is_believed_less_only_when_something_else_fails_too() {
    let mut fleets = Fleets::new(&WORLD, 30);
    let mut fleet = Arc::unwrap_or_clone(Arc::clone(&fleets.fleet));
    let target = EndpointId(fleet.endpoints.len() as u32);
    let mut pool = fleet.pools[0].clone();
    pool.name = "upstream".to_owned();
    pool.endpoints = vec![target];
    let mut endpoint = fleet.endpoints[0].clone();
    endpoint.site = None;
    endpoint.pool = steer_topology::PoolId(1);
    fleet.pools.push(pool);
    fleet.endpoints.push(endpoint);
    fleet.gossip = Some(steer_topology::GossipPolicy {
        port: 7946,
        key_file: "gossip.key".into(),
        share: 50,
        own_after: POLICY.own_after,
        staged: Duration::ZERO,
        reference: Some(steer_topology::PoolId(1)),
    });
    fleets.fleet = Arc::new(fleet);
    let mut agreement = Agreement::new(Arc::clone(&fleets.fleet), SiteId(0), POLICY);
    fleets.all_see_all_up();
    let key = Key::of(&fleets.fleet, target);
    let mut isolated = |fleets: &Fleets| {
        let (gossip, now) = (
            fleets.world.sites[0].as_ref().unwrap(),
            fleets.world.moment(0).now,
        );
        agreement.rule(gossip, now);
        assert_eq!(agreement.isolated(), agreement.suspects());
        agreement.isolated()
    };
    fleets.world.observe(3, key.0, Verdict::Down);
    fleets.run_for(SECOND * 2);
    assert_eq!(isolated(&fleets), [], "the target alone means nothing");
    fleets.see(3, 3, Verdict::Down);
    fleets.run_for(SECOND * 2);
    assert_eq!(isolated(&fleets), [super::super::sim::name(3)]);
    fleets.world.observe(3, key.0, Verdict::Up);
    fleets.run_for(SECOND * 2);
    assert_eq!(isolated(&fleets), []);
}

#[test]
fn in_any_weather_the_board_is_as_the_store() {
    for seed in 0..12 {
        let mut fleets = Fleets::new(&WORLD, 100 + seed);
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..60 {
            let (site, of) = (random.random_range(0..6), random.random_range(0..6));
            match random.random_range(0..10) {
                0 if fleets.world.sites[site].is_some() => fleets.world.kill(site),
                1 if fleets.world.sites[site].is_none() => fleets.world.begin(site),
                2 => fleets.world.cut = Box::new(move |a, b| a == site && b != of),
                3 => fleets.world.cut = Box::new(|_, _| false),
                4 => fleets.world.loss = random.random_range(0.0..0.6),
                _ if fleets.world.sites[site].is_some() => {
                    let verdict = [Verdict::Up, Verdict::Down, Verdict::Unknown][random.random_range(0..3)];
                    fleets.see(site, of, verdict);
                }
                _ => {}
            }
            fleets.run_for(Duration::from_millis(random.random_range(100..6_000)));
        }
    }
}

/// Each site sees everything down, its own endpoint too, as with a file whose check fails everywhere.
#[test]
fn each_site_is_heard_on_its_own_endpoint_whatever_the_votes_come_to() {
    let mut fleets = Fleets::new(&WORLD, 21);
    fleets.all_see_all_up();
    let heard = |fleets: &mut Fleets, site: usize| {
        let now = fleets.world.moment(site).now;
        let said = fleets.agreements[site].hear_homes(now);
        said.into_iter().map(|(_, verdict)| verdict).collect::<Vec<_>>()
    };
    assert_eq!(heard(&mut fleets, 0), [Verdict::Up; 5]);
    assert_eq!(heard(&mut fleets, 0), [], "that is told once");
    for site in 0..6 {
        (0..6).for_each(|of| fleets.see(site, of, Verdict::Down));
    }
    fleets.run_for(SECOND);
    assert_eq!(heard(&mut fleets, 0), [Verdict::Down; 5]);
    // Who is not heard any more has said nothing else.
    fleets.world.cut = Box::new(|a, b| (a == 4) != (b == 4));
    fleets.run_for(SECOND * 60);
    assert_eq!(heard(&mut fleets, 0), []);
    fleets.see(1, 1, Verdict::Up);
    fleets.run_for(SECOND);
    assert_eq!(heard(&mut fleets, 0), [Verdict::Up]);
}
