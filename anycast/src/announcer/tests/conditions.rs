//! Which prefixes a snapshot wants, where.

use std::net::IpAddr;

use steer_health::{Holds, Service, Verdict};

use super::*;

/// One prefix of each kind.
fn five() -> Arc<Fleet> {
    fleet(
        r#"
[[anycast]]
prefix = "192.0.2.1/32"
[[anycast]]
prefix = "192.0.2.2/32"
while_up = ["pool:web@local"]
[[anycast]]
prefix = "192.0.2.3/32"
while_up = ["pool:web"]
[[anycast]]
prefix = "192.0.2.4/32"
sites = ["nrt"]
[[anycast]]
prefix = "192.0.2.5/32"
while_up = ["pool:web@fra", "pool:web@nrt"]
"#,
    )
}

/// The last octets of the prefixes that are wanted.
fn octets(world: &World) -> Vec<u8> {
    let wanted = announced(&world.announcer);
    let octet = |address| match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => panic!("IPv4 alone here"),
    };
    let wanted = wanted.into_iter().filter(|(_, announced)| *announced);
    wanted.map(|(prefix, _)| octet(prefix.address())).collect()
}

#[test]
fn before_the_first_round_only_what_has_no_condition_is_wanted() {
    for (site, want) in [(FRA, vec![1]), (NRT, vec![1, 4])] {
        let mut world = World::before_start(five(), site, [UNKNOWN, UNKNOWN]);
        world.settled = false;
        world.look();
        assert_eq!(octets(&world), want);
    }
}

#[test]
fn each_place_of_a_condition_counts_its_own_endpoints() {
    let rows = [
        (FRA, [DOWN, UP], vec![1, 3]),
        (NRT, [DOWN, UP], vec![1, 2, 3, 4]),
        (FRA, [UP, UP], vec![1, 2, 3, 5]),
        (NRT, [DOWN, DOWN], vec![1, 4]),
    ];
    for (site, health, want) in rows {
        assert_eq!(
            octets(&World::at(five(), site, health.clone())),
            want,
            "{health:?}"
        );
    }
}

#[test]
fn what_is_unknown_changes_nothing_either_way() {
    let mut up = World::new(five());
    up.health(UNKNOWN, UNKNOWN);
    assert_eq!(octets(&up), [1, 2, 3, 5], "what is announced stays");
    up.settled = false;
    up.look();
    assert_eq!(octets(&up), [1, 2, 3, 5]);
    // One condition that fails decides, whatever the other one is.
    up.settled = true;
    up.health(DOWN, UNKNOWN);
    assert_eq!(octets(&up), [1, 3]);
    let mut down = World::at(five(), FRA, [DOWN, DOWN]);
    down.health(UNKNOWN, UNKNOWN);
    assert_eq!(octets(&down), [1], "what is not announced stays not");
}

#[test]
fn what_the_guard_holds_stays_announced() {
    let reason = "the last site".to_owned();
    let held = (Verdict::Down, Service::Held { reason });
    assert_eq!(octets(&World::at(five(), FRA, [held, DOWN])), [1, 2, 3]);
}

#[test]
fn the_death_of_an_endpoint_is_seen_through_a_pool_around_its_own() {
    let around = "[[pool]]\nname = \"all\"\nendpoints = [ { pool = \"web\" } ]\n\
                  [[anycast]]\nprefix = \"192.0.2.1/32\"\nwhile_up = \"pool:all@fra\"\n";
    let mut world = World::new(fleet(around));
    assert!(world.announced());
    world.fra(DOWN);
    assert!(!world.announced());
    world.fra(UP);
    assert!(world.announced());
}

#[test]
fn a_decision_names_the_snapshot_that_brought_it() {
    let mut world = World::new(five());
    world.look();
    assert_eq!((world.decision("192.0.2.2/32").by, world.number), (1, 2));
    assert_eq!(world.announcer.wanted().snapshot, 1, "nothing changed");
    world.health(DOWN, UP);
    let by = |text| world.decision(text).by;
    assert_eq!([by("192.0.2.2/32"), by("192.0.2.1/32")], [3, 1]);
    assert_eq!(world.announcer.wanted().snapshot, 3);
}

#[test]
fn what_did_not_change_stays_the_same_wish() {
    let mut world = World::new(five());
    let before = Arc::clone(world.announcer.wanted());
    world.look();
    world.act(Announcer::on_deadline);
    assert!(
        Arc::ptr_eq(&before, world.announcer.wanted()),
        "so that no peer is woken"
    );
}

#[test]
fn nothing_keeps_the_prefixes_and_declines_them_all() {
    let world = World::new(five());
    let nothing = world.announcer.wanted().nothing();
    assert_eq!(nothing.prefixes.keys().count(), 4);
    assert!(nothing.prefixes.iter().all(|(_, decision)| !decision.announce));
}

#[test]
fn the_end_wants_nothing() {
    let mut world = World::new(five());
    world.act(Announcer::stop);
    assert_eq!(octets(&world), Vec::<u8>::new());
    world.look();
    assert_eq!(octets(&world), Vec::<u8>::new(), "nor does a later snapshot");
    assert!(world.announcer.is_clear());
}

#[test]
fn each_operator_is_three_valued() {
    // `pool:web@fra` is A and `pool:web@nrt` B; the address is there (P), absent (Q) or the kernel has not told (R).
    use Holds::{No, Unknown, Yes};
    let rows = [
        ("A and B", UP, UP, Yes),
        ("A and B", UP, DOWN, No),
        ("A and B", UNKNOWN, DOWN, No),
        ("A and B", UNKNOWN, UP, Unknown),
        ("A or B", DOWN, UP, Yes),
        ("A or B", UNKNOWN, UP, Yes),
        ("A or B", UNKNOWN, DOWN, Unknown),
        ("A or B", DOWN, DOWN, No),
        ("not A", UP, UP, No),
        ("not A", DOWN, UP, Yes),
        ("not A", UNKNOWN, UP, Unknown),
        ("2 of (A, B, P)", DOWN, UP, Yes),
        ("2 of (A, B, P)", DOWN, UNKNOWN, Unknown),
        ("2 of (A, B, P)", DOWN, DOWN, No),
        ("2 of (A, B, Q)", UP, UP, Yes),
        ("2 of (A, B, Q)", UP, UNKNOWN, Unknown),
        ("2 of pool:web", UP, UP, Yes),
        ("2 of pool:web", UP, DOWN, No),
        ("2 of check:web", UP, UNKNOWN, Unknown),
        ("(A and not B) or P", UNKNOWN, UNKNOWN, Yes),
        ("(A and not B) or Q", UP, DOWN, Yes),
        ("(A and not B) or Q", UP, UP, No),
        ("not (A or B)", DOWN, DOWN, Yes),
    ];
    for (text, fra, nrt, want) in rows {
        let written = text
            .replace('A', "pool:web@fra")
            .replace('B', "pool:web@nrt")
            .replace('P', "address:127.0.0.1")
            .replace('Q', "address:127.0.0.9");
        let mut world = World::before_start(
            one(&format!("while_up = \"{written}\"")),
            FRA,
            [fra.clone(), nrt.clone()],
        );
        world.addresses(&["127.0.0.1"]);
        world.look();
        let status = world.status();
        assert_eq!(status.holds, want, "{text} with {fra:?} {nrt:?}");
        assert_eq!(world.announced(), want == Yes, "{text} with {fra:?} {nrt:?}");
    }
}

#[test]
fn an_address_is_unknown_until_the_kernel_tells_and_then_decides() {
    let mut world = World::new(one("while_up = \"address:192.0.2.1\""));
    assert_eq!((world.status().holds, world.announced()), (Holds::Unknown, false));
    world.addresses(&["192.0.2.1", "::1"]);
    assert!(world.announced());
    let moment = world.moment();
    world.announcer.on_addresses(None, moment);
    assert!(world.announced(), "what is unknown changes nothing");
    world.addresses(&["::1"]);
    assert!(!world.announced());
}

#[test]
fn the_status_shows_each_condition_as_it_is_written() {
    let written = [
        "2 of pool:web",
        "pool:web@local and not check:web@nrt",
        "pool:web@fra or (pool:web and address:192.0.2.9)",
        "2 of (pool:web, pool:web@fra, not address:192.0.2.9)",
    ];
    let world = World::at(one(&format!("while_up = {written:?}")), FRA, [UP, DOWN]);
    let conditions = world.status().conditions;
    let shown: Vec<_> = conditions.iter().map(|one| one.condition.as_str()).collect();
    assert_eq!(shown, written);
    let values: Vec<_> = conditions.iter().map(|one| one.holds).collect();
    assert_eq!(values, [Holds::No, Holds::Yes, Holds::Yes, Holds::Yes]);
}

#[test]
fn rise_wants_the_conditions_to_hold_without_a_break() {
    let mut world = World::at(
        one("while_up = \"pool:web@local\"\nrise = \"3s\""),
        FRA,
        [DOWN, UP],
    );
    world.run(s(10));
    world.fra(UP);
    world.run(s(2));
    world.fra(UNKNOWN); // a break: it did not hold then, for all we know
    world.run(ms(500));
    world.fra(UP);
    assert_eq!(
        world.status().held_until,
        Some(world.moment().after(s(3))),
        "{:?}",
        world.status()
    );
    world.run(s(10));
    assert_eq!(world.flips(), [(s(15) + ms(500), true)]);
}

#[test]
fn fall_wants_the_conditions_to_fail_without_a_break() {
    let mut world = World::new(one("while_up = \"pool:web@local\"\nfall = \"3s\""));
    world.fra(DOWN);
    world.run(s(2));
    world.fra(UNKNOWN);
    world.run(s(9));
    world.fra(DOWN);
    world.run(s(2));
    world.fra(UP);
    world.run(s(1));
    world.fra(DOWN);
    assert_eq!(
        world.status().reason.as_deref(),
        Some("its conditions fail, but not long enough")
    );
    world.run(s(10));
    assert_eq!(world.flips(), [(s(0), true), (s(17), false)]);
}

#[test]
fn nothing_is_announced_before_hold_down_is_over() {
    let mut world = World::new(one("hold_down = \"10s\""));
    assert!(!world.announced());
    assert_eq!(
        world.status().reason.as_deref(),
        Some("hold-down after the start")
    );
    world.run(s(30));
    assert_eq!(world.flips(), [(s(10), true)]);
    // It counts from the start of the process, not from the first snapshot, and not again later.
    let mut late = World::before_start(
        one("while_up = \"pool:web@local\"\nhold_down = \"10s\"\nrise = \"2s\""),
        FRA,
        [UP, UP],
    );
    late.run(s(7));
    late.look();
    late.run(s(13));
    late.fra(DOWN);
    late.fra(UP);
    late.run(s(10));
    assert_eq!(late.flips(), [(s(10), true), (s(20), false), (s(22), true)]);
}

#[test]
fn a_prefix_that_the_file_no_longer_has_is_withdrawn_and_forgotten() {
    let mut world = World::new(five());
    world.fleet = one("");
    world.look();
    assert_eq!(octets(&world), [1]);
    assert_eq!(world.announcer.wanted().prefixes.keys().count(), 1);
    world.fleet = five();
    world.look();
    assert_eq!(octets(&world), [1, 2, 3, 5]);
    assert_eq!(world.decision("192.0.2.1/32").by, 1, "a reload does not touch it");
}

#[test]
fn a_reload_with_other_attributes_is_a_new_decision() {
    let mut world = World::new(one("med = 1"));
    for (lines, med) in [("med = 2", Some(2)), ("", None)] {
        world.fleet = one(lines);
        world.look();
        let decision = world.decision(P);
        assert_eq!(
            (decision.policy.med, decision.by, decision.announce),
            (med, world.number, true)
        );
    }
}

#[test]
fn policies_of_the_file_are_handed_on() {
    let lines = "prepend = 2\nmed = 10\ncommunities = [\"64500:1\"]\n\
                 to = [{ peer = \"192.0.2.250\", prepend = 1 }]\nnext_hop = \"192.0.2.9\"";
    let world = World::new(one(lines));
    let decision = world.decision(P);
    let config = &world.fleet.anycast[0];
    assert_eq!(*decision.policy, config.policy);
    assert_eq!((&decision.to, decision.next_hop), (&config.to, config.next_hop));
    assert_eq!((decision.policy.prepend, decision.policy.med), (2, Some(10)));
}
