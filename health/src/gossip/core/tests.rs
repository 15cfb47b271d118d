use super::super::sim::{World, name};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn is_down(world: &World, event: usize) -> bool {
    world.events[event..]
        .iter()
        .any(|(_, _, _, event)| *event == MemberEvent::Down)
}

#[test]
fn five_sites_find_each_other_and_know_all_words() {
    let mut world = World::new(5, 1);
    (0..5).for_each(|site| world.observe(site, 7, Verdict::Up));
    let met = world.run_until(SECOND * 10, World::agree_on_members).unwrap();
    let known = world.run_until(SECOND * 10, |world| {
        (0..5).all(|site| world.all_know(site, 7, Verdict::Up))
    });
    println!("members agree after {met:?}, words after {known:?} more");
    assert!(known.is_some());
    assert!(world.dropped.is_empty(), "{:?}", world.dropped);
}

#[test]
fn a_change_is_known_everywhere_within_a_second() {
    let mut world = World::new(20, 2);
    world.observe(3, 7, Verdict::Up);
    world
        .run_until(SECOND * 20, |world| {
            world.agree_on_members() && world.all_know(3, 7, Verdict::Up)
        })
        .unwrap();
    world.run_for(SECOND * 10);
    world.observe(3, 7, Verdict::Down);
    let took = world
        .run_until(SECOND * 5, |world| world.all_know(3, 7, Verdict::Down))
        .unwrap();
    println!("20 sites know after {took:?}");
    assert!(took <= SECOND, "{took:?}");
}

#[test]
fn words_stay_good_as_long_as_their_origin_is_there_and_no_longer() {
    let mut world = World::new(4, 3);
    world.observe(0, 7, Verdict::Up);
    world
        .run_until(SECOND * 10, |world| world.all_know(0, 7, Verdict::Up))
        .unwrap();
    for _ in 0..120 {
        world.run_for(SECOND);
        assert!(world.all_know(0, 7, Verdict::Up), "{:?}", world.now);
    }
    world.kill(0);
    world.run_for(super::super::store::TTL + SECOND * 2);
    assert_eq!([1, 2, 3].map(|site| world.knows(site, 0, 7)), [None; 3]);
}

#[test]
fn a_clean_leave_is_known_at_once() {
    let mut world = World::new(10, 4);
    world.run_until(SECOND * 20, World::agree_on_members).unwrap();
    world.run_for(SECOND * 5);
    world.with(2, Gossip::leave);
    world.kill(2);
    let took = world.run_until(SECOND * 10, World::agree_on_members).unwrap();
    println!("10 sites know of a leave after {took:?}");
    assert!(took <= SECOND * 2, "{took:?}");
}

#[test]
fn a_site_that_starts_again_is_back_at_once_with_its_new_words() {
    let mut world = World::new(10, 5);
    world.observe(2, 7, Verdict::Up);
    world
        .run_until(SECOND * 20, |world| {
            world.agree_on_members() && world.all_know(2, 7, Verdict::Up)
        })
        .unwrap();
    let before = world.events.len();
    world.kill(2);
    world.run_for(Duration::from_millis(300));
    world.begin(2);
    world.observe(2, 7, Verdict::Down);
    let took = world
        .run_until(SECOND * 10, |world| {
            world.agree_on_members() && world.all_know(2, 7, Verdict::Down)
        })
        .unwrap();
    println!("back after {took:?}");
    assert!(took <= SECOND * 2, "{took:?}");
    world.run_for(SECOND * 5);
    assert!(!is_down(&world, before), "nobody had missed it");
    let rejoined = world.events[before..]
        .iter()
        .filter(|(_, _, of, event)| *of == name(2) && *event == MemberEvent::Rejoined);
    assert_eq!(rejoined.count(), 9);
}

#[test]
fn a_site_whose_clock_went_back_before_it_started_again_is_heard_all_the_same() {
    let mut world = World::new(6, 6);
    world.observe(2, 7, Verdict::Up);
    world
        .run_until(SECOND * 20, |world| {
            world.agree_on_members() && world.all_know(2, 7, Verdict::Up)
        })
        .unwrap();
    world.run_for(SECOND * 30);
    world.kill(2);
    world.skew[2] = jiff::SignedDuration::from_secs(-45);
    world.begin(2);
    world.observe(2, 7, Verdict::Down);
    let took = world
        .run_until(SECOND * 20, |world| {
            world.agree_on_members() && world.all_know(2, 7, Verdict::Down)
        })
        .unwrap();
    println!("heard after {took:?}");
}

#[test]
fn a_clock_that_is_two_minutes_off_is_refused_and_counted() {
    let mut world = World::new(3, 7);
    world.skew[2] = jiff::SignedDuration::from_secs(120);
    world.run_for(SECOND * 10);
    assert!(world.dropped[&Dropped::Stale] > 0, "{:?}", world.dropped);
    assert!(!world.sites[0].as_ref().unwrap().is_up(name(2)));
    world.skew[2] = jiff::SignedDuration::ZERO;
    world.run_until(SECOND * 10, World::agree_on_members).unwrap();
}

#[test]
fn a_newcomer_gets_everything_by_a_stream() {
    let mut world = World::new(3, 8);
    world.kill(2);
    for key in 0..3000 {
        world.observe(0, key, Verdict::Up);
        world.observe(1, key, Verdict::Down);
    }
    world.run_for(SECOND * 20);
    let syncs = world.syncs;
    world.begin(2);
    let knows = |world: &World| {
        (0..3000).all(|key| {
            world.knows(2, 0, key) == Some(Verdict::Up) && world.knows(2, 1, key) == Some(Verdict::Down)
        })
    };
    let took = world.run_until(SECOND * 20, knows).unwrap();
    println!("6000 words after {took:?}, {} streams", world.syncs - syncs);
    assert!(world.syncs > syncs && took <= SECOND * 5, "{took:?}");
    for _ in 0..60 {
        world.run_for(SECOND);
        assert!(knows(&world), "{:?}", world.now);
    }
}

#[test]
fn a_key_is_changed_in_a_running_fleet_without_a_word_lost() {
    let both = |first: u8, second: u8| {
        let line = |octet: u8| format!("{octet:02x}").repeat(32);
        Keys::parse(&format!("{}\n{}", line(first), line(second))).unwrap()
    };
    let mut world = World::new(5, 9);
    world.observe(0, 7, Verdict::Up);
    world
        .run_until(SECOND * 20, |world| {
            world.agree_on_members() && world.all_know(0, 7, Verdict::Up)
        })
        .unwrap();
    for keys in [both(42, 43), both(43, 42), Keys::one([43; 32])] {
        for site in 0..5 {
            world.with(site, |gossip, _| gossip.set_keys(&keys));
            world.run_for(SECOND * 3);
            assert!(world.agree_on_members() && world.all_know(0, 7, Verdict::Up));
        }
    }
    // What was on the way under a key that is gone may be lost; nothing else is.
    let lost: u64 = world.dropped.values().sum();
    assert!(lost <= 5, "{:?}", world.dropped);
}

#[test]
fn nothing_that_is_refused_is_answered() {
    let mut world = World::new(3, 10);
    world.run_until(SECOND * 20, World::agree_on_members).unwrap();
    let moment = world.moment(0);
    let mut stranger = Sealer::new(name(9), &World::key(), [1; 16]);
    let mut wrong = Sealer::new(name(1), &Keys::one([1; 32]), [2; 16]);
    let good = wire::encode(
        &[],
        &[Item::Pull(Pull {
            origin: name(0),
            known: super::super::observation::Version { epoch: 0, number: 0 },
        })],
    );
    let packets = [
        stranger.seal(Kind::Datagram, name(0), None, &good, moment.at),
        wrong.seal(Kind::Datagram, name(0), None, &good, moment.at),
        vec![0; 1500],
        vec![1, 2, 3],
    ];
    let gossip = world.sites[0].as_mut().unwrap();
    let causes = packets.map(|packet| gossip.on_datagram(&packet, moment).unwrap_err());
    assert_eq!(
        causes,
        [
            Dropped::UnknownMember,
            Dropped::WrongKey,
            Dropped::Oversized,
            Dropped::Malformed
        ]
    );
    assert_eq!(gossip.poll_action(), None);
    assert_eq!(gossip.sync_answer(&[0; 100], moment), Err(Dropped::Version));
}

#[test]
fn a_request_for_a_stream_is_answered_once() {
    let mut world = World::new(2, 11);
    world.run_until(SECOND * 20, World::agree_on_members).unwrap();
    let moment = world.moment(0);
    let (_, frame) = world.sites[1].as_mut().unwrap().sync_request(name(0), moment.at);
    let gossip = world.sites[0].as_mut().unwrap();
    assert!(gossip.sync_answer(&frame, moment).is_ok());
    assert_eq!(gossip.sync_answer(&frame, moment), Err(Dropped::Replayed));
}

#[test]
fn a_site_that_is_named_no_more_is_gone() {
    let mut world = World::new(3, 12);
    (0..3).for_each(|site| world.observe(site, 7, Verdict::Up));
    world
        .run_until(SECOND * 20, |world| {
            world.agree_on_members() && world.all_know(2, 7, Verdict::Up)
        })
        .unwrap();
    let roster: Roster = world.sites[0]
        .as_ref()
        .unwrap()
        .members
        .roster()
        .iter()
        .take(2)
        .collect();
    for site in 0..2 {
        world.with(site, |gossip, when| gossip.set_roster(roster.clone(), when));
    }
    world.run_for(SECOND * 5);
    for site in 0..2 {
        assert!(!world.sites[site].as_ref().unwrap().is_up(name(2)));
        assert_eq!(world.knows(site, 2, 7), None);
        assert_eq!(world.knows(site, 1 - site, 7), Some(Verdict::Up));
    }
    assert!(world.dropped[&Dropped::UnknownMember] > 0);
}
