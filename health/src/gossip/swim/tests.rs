//! The whole of it under virtual time: 50 to 200 sites, loss, partitions, restarts.

use super::super::sim::{World, name};
use super::*;
use crate::snapshot::Verdict;

const SECOND: Duration = Duration::from_secs(1);
const KEY: u64 = 7;

/// A fleet that has met, and in which each site has said something.
fn met(count: usize, seed: u64) -> World {
    let mut world = World::new(count, seed);
    (0..count).for_each(|site| world.observe(site, KEY, Verdict::Up));
    let took = world.run_until(SECOND * 60, |world| agree(world, Verdict::Up));
    println!("seed {seed}: {count} sites have met after {took:?}");
    assert!(took.is_some(), "seed {seed}");
    world
}

/// Members and words are the same everywhere.
fn agree(world: &World, verdict: Verdict) -> bool {
    world.agree_on_members()
        && world
            .running()
            .all(|(origin, _)| world.all_know(origin, KEY, verdict))
}

/// After any fault has healed, everybody agrees again within this.
const HEAL: Duration = Duration::from_secs(60);

fn heals(world: &mut World, what: &str) {
    world.loss = 0.0;
    world.cut = Box::new(|_, _| false);
    let took = world.run_until(HEAL, |world| agree(world, Verdict::Up));
    println!("{what}: all agree {took:?} after it healed");
    assert!(took.is_some(), "{what}");
}

#[test]
fn two_hundred_sites_meet_and_agree() {
    met(200, 1);
}

#[test]
fn loss_up_to_30_percent_takes_nobody_away_for_good_and_a_death_is_seen() {
    println!("100 sites, 120 s; then one dies");
    println!("loss %   false down   known dead (first, all)   octets/s per site   datagrams/s per site");
    for (loss, seed) in [(0.0, 10), (0.05, 11), (0.1, 12), (0.2, 13), (0.3, 14)] {
        let mut world = met(100, seed);
        world.loss = loss;
        let (before, octets, datagrams) = (world.events.len(), world.octets, world.datagrams);
        world.run_for(SECOND * 120);
        let downs = |world: &World, from: usize| {
            let events = world.events[from..].iter();
            events
                .filter(|(_, _, _, event)| *event == MemberEvent::Down)
                .count()
        };
        let wrong = downs(&world, before);
        let per = |count: u64| count / (120 * 100);
        let (octets, datagrams) = (per(world.octets - octets), per(world.datagrams - datagrams));
        let (from, died) = (world.events.len(), world.now);
        world.kill(42);
        let is_his = |(_, _, of, event): &&(Duration, usize, SiteName, MemberEvent)| {
            *of == name(42) && *event == MemberEvent::Down
        };
        let all = world.run_until(SECOND * 120, |world| {
            world.running().all(|(_, gossip)| !gossip.is_up(name(42)))
        });
        let first = world.events[from..]
            .iter()
            .find(is_his)
            .map(|(at, ..)| *at - died);
        println!(
            "{:>6}   {wrong:>10}   {first:?}, {all:?}   {octets:>8}   {datagrams:>6}",
            loss * 100.0
        );
        assert!(all.is_some_and(|took| took < SECOND * 30), "{loss}: {all:?}");
        if loss <= 0.1 {
            assert_eq!(wrong, 0, "loss {loss}");
        }
        heals(&mut world, &format!("loss of {loss}"));
    }
}

#[test]
fn halves_that_were_apart_find_each_other() {
    let mut world = met(60, 20);
    world.cut = Box::new(|a, b| (a < 30) != (b < 30));
    world.run_for(SECOND * 90);
    assert!(!world.sites[0].as_ref().unwrap().is_up(name(59)));
    assert_eq!(world.knows(0, 59, KEY), None, "what the others said has expired");
    assert_eq!(world.knows(0, 29, KEY), Some(Verdict::Up));
    heals(&mut world, "two halves, 90 s");
}

#[test]
fn halves_that_never_met_find_each_other() {
    let mut world = World::new(50, 21);
    world.cut = Box::new(|a, b| (a < 25) != (b < 25));
    (0..50).for_each(|site| world.observe(site, KEY, Verdict::Up));
    world.run_for(SECOND * 30);
    heals(&mut world, "two halves from the start");
}

#[test]
fn a_link_that_is_cut_one_way_takes_nobody_away() {
    let mut world = met(50, 22);
    let before = world.events.len();
    world.cut = Box::new(|a, b| a == 3 && b == 4);
    world.run_for(SECOND * 120);
    let events = &world.events[before..];
    assert!(
        events.iter().all(|(_, _, _, event)| *event != MemberEvent::Down),
        "{events:?}"
    );
    assert!(agree(&world, Verdict::Up));
    heals(&mut world, "one way between two sites");
}

#[test]
fn a_site_that_hears_nothing_is_known_to_be_gone_and_comes_back() {
    let mut world = met(50, 23);
    world.cut = Box::new(|_, b| b == 5);
    world.run_for(SECOND * 60);
    heals(&mut world, "a site that hears nothing, 60 s");
}

#[test]
fn a_site_that_is_cut_off_is_gone_for_all_and_comes_back() {
    let mut world = met(50, 24);
    let (cut_at, before) = (world.now, world.events.len());
    world.cut = Box::new(|a, b| (a == 5) != (b == 5));
    world.run_for(SECOND * 60);
    let is_his = |(_, site, of, event): &&(Duration, usize, SiteName, MemberEvent)| {
        *site != 5 && *of == name(5) && *event == MemberEvent::Down
    };
    let last = world.events[before..]
        .iter()
        .filter(is_his)
        .map(|(at, ..)| *at - cut_at)
        .max();
    println!("cut off: gone for all after {last:?}");
    assert!(last.is_some_and(|last| last < SECOND * 20), "{last:?}");
    assert_eq!(world.knows(0, 5, KEY), None);
    heals(&mut world, "one site cut off, 60 s");
}

#[test]
fn duplicates_and_restarts_of_a_third_end_well() {
    let mut world = met(60, 25);
    world.twice = 0.3;
    world.loss = 0.1;
    for site in (0..60).step_by(3) {
        world.kill(site);
        world.run_for(Duration::from_millis(400));
        world.begin(site);
        world.observe(site, KEY, Verdict::Up);
    }
    assert!(
        world.dropped.contains_key(&Dropped::Replayed),
        "{:?}",
        world.dropped
    );
    heals(&mut world, "restarts of a third");
}

/// Octets per second and site, for SWIM and for all.
fn cost(sites: usize, loss: f64) -> [u64; 2] {
    let mut world = met(sites, 40);
    world.loss = loss;
    world.run_for(SECOND * 10);
    let sent = |world: &World| {
        let sent: Vec<_> = world.running().map(|(_, gossip)| gossip.sent()).collect();
        let members: u64 = sent.iter().map(|sent| sent.members).sum();
        [members, members + sent.iter().map(|sent| sent.words).sum::<u64>()]
    };
    let before = sent(&world);
    world.run_for(SECOND * 30);
    let after = sent(&world);
    assert!(agree(&world, Verdict::Up), "what was said still counts");
    [0, 1].map(|of| (after[of] - before[of]) / 30 / sites as u64)
}

#[test]
fn octets_per_site_stay_as_they_are_when_the_fleet_grows() {
    let few = cost(50, 0.0);
    let many = cost(200, 0.0);
    println!("octets/s per site, SWIM and all: {few:?} of 50 sites, {many:?} of 200");
    assert!(many[0] <= few[0] * 3 / 2 && many[1] <= few[1] * 6 / 5);
    assert!(many[0] < 400 && many[1] < 2_500);
}

/// How often another of 60 sites calls a living one dead, that is not among the first six, with whom something is wrong.
fn false_alarms(is_aware: bool, wrong: impl Fn(&mut World)) -> usize {
    let mut world = met(60, 41);
    world.clock_first = !is_aware;
    if !is_aware {
        (0..60).for_each(|site| world.with(site, |gossip, _| gossip.ignore_own_health()));
    }
    let before = world.events.len();
    wrong(&mut world);
    world.run_for(SECOND * 120);
    let is_wrong = |site: SiteName| (0..6).any(|wrong| name(wrong) == site);
    let healthy = world.events[before..]
        .iter()
        .filter(|(_, _, of, event)| *event == MemberEvent::Down && !is_wrong(*of));
    healthy.count()
}

#[test]
fn sites_with_a_bad_uplink_call_fewer_of_the_others_dead_when_they_know_it() {
    let uplink = |world: &mut World| (0..6).for_each(|site| world.uplink[site] = 0.7);
    let [ignored, known] = [false, true].map(|is_aware| false_alarms(is_aware, uplink));
    println!(
        "uplinks: a living site called dead by another {ignored} times, {known} where the lossy know it"
    );
    assert!(known * 2 <= ignored && ignored > 0, "{ignored} {known}");
}

#[test]
fn who_is_let_run_no_more_says_so_and_recovers() {
    let mut world = met(10, 42);
    let health = |world: &World| world.sites[3].as_ref().unwrap().health();
    assert_eq!(health(&world), 0);
    for _ in 0..4 {
        world.stalled[3] = world.now + SECOND * 2;
        world.run_for(SECOND * 3);
    }
    assert!(health(&world) >= 2, "{}", health(&world));
    let well = world.run_until(SECOND * 60, |world| health(world) == 0);
    println!("well again after {well:?}");
    assert!(well.is_some());
    heals(&mut world, "one site that was slow");
}

#[test]
fn a_newcomer_to_a_large_fleet_knows_everybody_at_once() {
    let mut world = met(150, 43);
    world.kill(7);
    world.run_for(SECOND * 40);
    world.begin(7);
    let took = world.run_until(SECOND * 10, World::agree_on_members);
    println!("one of 150 is back and knows all {took:?} after its start");
    assert!(took.is_some());
}

#[test]
fn the_same_seed_is_the_same_run() {
    let run = || {
        let mut world = met(20, 30);
        world.loss = 0.2;
        world.run_for(SECOND * 30);
        (world.octets, world.datagrams, format!("{:?}", world.events))
    };
    assert_eq!(run(), run());
}
