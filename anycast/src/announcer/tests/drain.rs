//! The ladder: each step at its time, each taken back at once.

use steer_topology::{AllDown, Binding, Community, DrainStep, Kind, Kinds, Maps, PoolId, Steer, Ttl};

use super::*;
use crate::announcer::ladder::DNS_SLACK;

const LADDER: &str = "on_drain = [\"graceful-shutdown\", \"wait 10s\", \"prepend 3\", \"wait 5s\", \"med 100\", \
                      \"wait dns-horizon\", \"wait streams 60s\", \"withdraw\"]";

fn laddered() -> World {
    stepping(LADDER)
}

fn stepping(ladder: &str) -> World {
    let mut fleet = one(&format!(
        "prepend = 1\nwhile_up = \"pool:web@local\"\nfall = \"5s\"\n\
         to = [{{ peer = \"192.0.2.250\", med = 7 }}]\n{ladder}"
    ));
    // A steered name without its zone, which would be a file.
    Arc::make_mut(&mut fleet).steers.push(Steer {
        name: "www.example.com".parse().unwrap(),
        zone: 0,
        kinds: Kinds::NONE.with(Kind::Address),
        binding: Binding::default(),
        pool: PoolId(0),
        ttl: Ttl::Fixed(s(30)),
        chain: Vec::new(),
        if_all_down: AllDown::ServeAll,
        maps: Maps::default(),
    });
    World::new(fleet)
}

/// Announced, communities, prepends, MED.
fn shape(world: &World) -> (bool, usize, u8, Option<u32>) {
    let decision = world.decision(P);
    let policy = &decision.policy;
    (
        decision.announce,
        policy.communities.len(),
        policy.prepend,
        policy.med,
    )
}

fn step(world: &World) -> (usize, String) {
    let drain = world.status().drain.expect("drained");
    assert_eq!(drain.steps, 8);
    (drain.step, drain.doing)
}

#[test]
fn without_steps_a_drain_withdraws_at_once() {
    let mut world = World::new(one("on_drain = []"));
    assert!(
        world.fleet.anycast[0].on_drain.is_empty()
            || world.fleet.anycast[0].on_drain == [DrainStep::Withdraw]
    );
    world.run(s(5));
    world.drain();
    assert_eq!(world.status().reason.as_deref(), Some("drained"));
    world.run(s(5));
    world.undrain();
    assert_eq!(world.flips(), [(s(0), true), (s(5), false), (s(10), true)]);
}

#[test]
fn each_step_comes_at_its_time_and_they_add_up() {
    let mut world = laddered();
    assert_eq!(shape(&world), (true, 0, 1, None));
    world.run(s(100));
    world.drain();
    assert_eq!(shape(&world), (true, 1, 1, None));
    assert_eq!(
        world.decision(P).policy.communities,
        [Community::GRACEFUL_SHUTDOWN]
    );
    assert_eq!(step(&world), (2, "wait 10s".to_owned()));
    let next = world.status().drain.unwrap().next_at;
    assert_eq!(next, Some(world.moment().after(s(10))));
    world.run(s(10) - ms(1));
    assert_eq!(shape(&world), (true, 1, 1, None));
    world.run(ms(1));
    assert_eq!(shape(&world), (true, 1, 4, None));
    world.run(s(5));
    assert_eq!(shape(&world), (true, 1, 4, Some(100)));
    assert_eq!(
        world.decision(P).to[0].policy.med,
        Some(100),
        "a peer's own MED does not outdo it"
    );
    assert_eq!(step(&world), (6, "wait dns-horizon".to_owned()));
    // The horizon counts from the drain, when DNS stopped to name this site: 35 s, of which 15 are gone.
    world.run(s(30) + DNS_SLACK - s(15) - ms(1));
    assert_eq!(step(&world).0, 6);
    world.run(ms(1));
    assert_eq!(step(&world), (7, "wait streams 60s".to_owned()));
    assert_eq!(
        world
            .announcer
            .stream_counts(world.moment().now)
            .collect::<Vec<_>>()
            .len(),
        1
    );
    world.run(s(60));
    assert_eq!(step(&world), (8, "withdraw".to_owned()));
    assert_eq!(world.flips(), [(s(0), true), (s(195), false)]);
    let told = world.told.iter().filter_map(|(at, what)| {
        let What::Step { step, .. } = what else {
            return None;
        };
        Some((*at, *step))
    });
    let steps: Vec<_> = told.collect();
    assert_eq!(
        steps,
        [(s(100), 2), (s(110), 4), (s(115), 6), (s(135), 7), (s(195), 8)]
    );
}

#[test]
fn an_undrain_at_any_step_brings_the_usual_attributes_back_at_once() {
    for second in [0, 1, 10, 14, 15, 34, 35, 60, 94, 95, 200] {
        let mut world = laddered();
        world.drain();
        world.run(s(second));
        world.undrain();
        assert_eq!(shape(&world), (true, 0, 1, None), "after {second} s");
        assert_eq!(world.decision(P).to[0].policy.med, Some(7));
        assert_eq!(world.status().drain, None);
        world.run(s(500));
        assert_eq!(shape(&world), (true, 0, 1, None), "and they stay");
    }
}

#[test]
fn a_second_drain_starts_at_the_first_step() {
    let mut world = laddered();
    world.drain();
    world.run(s(50));
    world.undrain();
    world.drain();
    assert_eq!(step(&world).0, 2);
}

#[test]
fn the_last_stream_ends_the_wait_for_streams() {
    let mut world = laddered();
    world.drain();
    world.run(s(35));
    world.streams(12);
    assert_eq!(world.status().drain.unwrap().streams, Some(12));
    world.run(s(9));
    world.streams(1);
    assert!(world.announced());
    world.run(s(1));
    world.streams(0);
    assert_eq!(world.flips(), [(s(0), true), (s(45), false)]);
    assert_eq!(world.announcer.stream_counts(world.moment().now).count(), 0);
}

#[test]
fn a_count_before_its_step_says_nothing() {
    let mut world = laddered();
    world.drain();
    world.streams(0);
    world.run(s(94));
    assert!(world.announced());
}

#[test]
fn under_a_drain_a_failed_condition_withdraws_at_once() {
    let mut world = laddered();
    world.run(s(10));
    world.drain();
    world.run(s(2));
    world.fra((Verdict::Down, Service::Drained));
    assert_eq!(world.flips(), [(s(0), true), (s(12), false)]);
    assert_eq!(world.status().reason.as_deref(), Some("its conditions fail"));
}

#[test]
fn a_drain_that_comes_while_the_conditions_fail_ends_the_patience() {
    let mut world = laddered();
    world.run(s(10));
    world.fra(DOWN);
    world.run(s(2));
    assert!(world.announced(), "fall is 5 s");
    world.drain();
    assert!(!world.announced());
}

/// A process that starts so long after the drain.
fn restarted(after: Duration) -> World {
    restarted_on(LADDER, after)
}

fn restarted_on(ladder: &str, after: Duration) -> World {
    let mut world = stepping(ladder);
    let since = world.at_wall();
    world = World::before_start(Arc::clone(&world.fleet), FRA, [DRAINED, UP]);
    world.epoch = world.epoch.checked_add(after).unwrap();
    world.drains = vec![drain_of_fra(since)];
    world.look();
    world
}

#[test]
fn a_restart_finds_its_step_again() {
    let mut world = restarted(s(12));
    assert_eq!(shape(&world), (true, 1, 4, None));
    world.run(s(3));
    assert_eq!(shape(&world), (true, 1, 4, Some(100)));
    world.run(s(20) - ms(1));
    assert_eq!(step(&world).0, 6);
    world.run(ms(1));
    assert_eq!(step(&world).0, 7);
    world.run(s(60));
    assert!(!world.announced());
    let late = restarted(s(96));
    assert_eq!((late.announced(), step(&late).0), (false, 8));
    assert_eq!(late.flips(), [], "what was withdrawn never comes back");
}

#[test]
fn a_restart_while_streams_were_waited_for_counts_before_it_announces() {
    let mut world = restarted(s(50));
    assert!(!world.announced());
    assert_eq!(
        world.status().reason.as_deref(),
        Some("the streams that a drain waits for are not counted yet")
    );
    world.streams(0); // the wait was over before we came
    assert_eq!((world.announced(), step(&world).0), (false, 8));
    assert_eq!(world.flips(), []);
    let mut busy = restarted(s(50));
    busy.streams(3);
    assert!(busy.announced());
    busy.run(s(4));
    busy.streams(0);
    assert_eq!(busy.flips(), [(s(0), true), (s(4), false)]);
    // Nothing can be counted: the bound still ends it.
    let mut blind = restarted(s(50));
    blind.run(s(100));
    assert_eq!((blind.flips(), step(&blind).0), (vec![], 8));
}

#[test]
fn what_follows_streams_that_a_restart_does_not_find_counts_from_the_step_before() {
    let ladder = "on_drain = [\"wait streams 60s\", \"wait 30s\", \"withdraw\"]";
    let mut late = restarted_on(ladder, s(50));
    late.streams(0);
    assert_eq!((late.announced(), late.flips()), (false, vec![]));
    let mut early = restarted_on(ladder, s(20));
    early.streams(0);
    early.run(s(60));
    assert_eq!(early.flips(), [(s(0), true), (s(10), false)]);
    let mut busy = restarted_on(ladder, s(20));
    busy.streams(1);
    busy.run(s(5));
    busy.streams(0);
    busy.run(s(60));
    assert_eq!(busy.flips(), [(s(0), true), (s(35), false)]);
}

#[test]
fn a_clock_that_jumps_moves_no_step() {
    let mut world = laddered();
    world.drain();
    world.run(s(5));
    world.epoch = world.epoch.checked_add(s(3_600)).unwrap();
    world.look();
    assert_eq!(step(&world).0, 2);
    world.epoch = world.epoch.checked_sub(s(7_200)).unwrap();
    world.look();
    world.run(s(5));
    assert_eq!(step(&world).0, 4);
}

#[test]
fn a_drain_from_a_clock_ahead_of_ours_starts_now() {
    let mut world = laddered();
    world.drains = vec![drain_of_fra(world.moment().after(s(1_000)))];
    world.look();
    world.run(s(10));
    assert_eq!(step(&world).0, 4);
}

#[test]
fn a_ladder_without_a_withdrawal_ends_as_a_last_resort() {
    let mut world = World::new(one(
        "on_drain = [\"graceful-shutdown\", \"wait 10s\", \"prepend 2\"]",
    ));
    world.drain();
    world.run(s(1_000));
    assert_eq!(shape(&world), (true, 1, 2, None));
    let drain = world.status().drain.unwrap();
    assert_eq!(
        (drain.step, drain.steps, drain.doing.as_str()),
        (3, 3, "prepend 2")
    );
    assert_eq!(drain.next_at, None);
}

#[test]
fn a_site_without_steered_names_has_no_dns_to_wait_for() {
    let mut world = World::new(one("on_drain = [\"wait dns-horizon\", \"withdraw\"]"));
    world.run(s(1));
    world.drain();
    assert!(!world.announced());
}

#[test]
fn the_drain_of_another_site_is_not_ours() {
    let mut world = laddered();
    world.drains = vec![Drain {
        target: Target::Site(SiteId(1)),
        ..drain_of_fra(world.at_wall())
    }];
    world.look();
    assert_eq!((shape(&world), world.status().drain), ((true, 0, 1, None), None));
}

#[test]
fn the_drain_of_the_endpoints_that_a_prefix_leans_on_is_its_drain() {
    let drain = |world: &World| Drain {
        target: Target::Endpoint(steer_topology::EndpointId(0)),
        ..drain_of_fra(world.at_wall())
    };
    for (while_up, drained) in [
        ("pool:web@local", true),
        ("pool:web", false), // nrt is enough
        ("2 of pool:web", true),
        ("pool:web@fra or pool:web@nrt", false),
        ("pool:web@fra and pool:web@nrt", true),
        ("pool:web@nrt", false),
    ] {
        let mut world = World::new(one(&format!(
            "while_up = \"{while_up}\"\non_drain = [\"graceful-shutdown\"]"
        )));
        world.drains = vec![drain(&world)];
        world.health(DRAINED, UP);
        assert_eq!(world.status().drain.is_some(), drained, "{while_up}");
        assert!(world.announced());
    }
}

#[test]
fn the_drain_is_shown_with_its_words() {
    let mut world = laddered();
    world.drain();
    let shown = world.status().drain.unwrap();
    assert_eq!(
        (shown.reason.as_str(), shown.author.as_str()),
        ("kernel update", "ana")
    );
    let json = serde_json::to_value(world.status()).unwrap();
    assert_eq!(json["drain"]["step"], 2);
    assert_eq!(json["state"], "announced");
    assert_eq!(json["prefix"], P);
}
