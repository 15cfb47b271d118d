use super::super::sim::{World, name};
use super::*;
use crate::gossip::store::ttl;

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
    world.run_for(ttl(4) + SECOND * 2);
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
    world.run_for(SECOND * 5);
    world.skew[2] = jiff::SignedDuration::from_secs(-55);
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
    let (_, frame) = world.sites[1].as_mut().unwrap().sync_request(name(0), moment);
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

#[test]
fn a_flood_from_its_own_address_keeps_no_member_out_and_a_newcomer_only_for_a_while() {
    let mut world = World::new(3, 13);
    world.run_until(SECOND * 20, World::agree_on_members).unwrap();
    let moment = world.moment(0);
    let from = Arrival {
        from: Some([192, 0, 2, 1].into()),
        waited: Duration::ZERO,
    };
    let mut causes = BTreeMap::new();
    for number in 0..1_000_u64 {
        let mut session = [0; 16];
        session[..8].copy_from_slice(&number.to_be_bytes());
        let mut forger = Sealer::new(name(1), &Keys::one([1; 32]), session);
        let packet = forger.seal(Kind::Datagram, name(0), None, &[0, 0], moment.at);
        let gossip = world.sites[0].as_mut().unwrap();
        let cause = gossip.on_datagram_from(from, &packet, moment).unwrap_err();
        *causes.entry(cause).or_insert(0) += 1;
        assert_eq!(gossip.poll_action(), None);
    }
    assert_eq!(causes[&Dropped::WrongKey], 100);
    assert_eq!(causes[&Dropped::Flood], 900);
    // The members' own sessions are known: they pass, from the same address.
    let mut known = Vec::new();
    world.with(1, |gossip, when| {
        let address = gossip.address(name(0)).unwrap();
        gossip.send(name(0), address, &[], &[], when.at);
        while let Some(action) = gossip.poll_action() {
            if let Action::Send { to, octets } = action
                && to == address
            {
                known.push(octets);
            }
        }
    });
    let gossip = world.sites[0].as_mut().unwrap();
    assert!(!known.is_empty());
    known
        .iter()
        .for_each(|octets| assert_eq!(gossip.on_datagram_from(from, octets, moment), Ok(())));
    // A new start of a member shares the bucket, and waits.
    let mut newcomer = Sealer::new(name(2), &World::key(), [9; 16]);
    let packet = newcomer.seal(Kind::Datagram, name(0), None, &[0, 0], moment.at);
    assert_eq!(
        gossip.on_datagram_from(from, &packet, moment),
        Err(Dropped::Flood)
    );
    let later = Moment {
        now: moment.now + SECOND,
        ..moment
    };
    assert_eq!(gossip.on_datagram_from(from, &packet, later), Ok(()));
}

#[test]
fn what_a_member_asks_is_answered_with_a_bounded_number_of_octets() {
    let mut world = World::new(20, 14);
    for key in 0..2_000 {
        world.observe(0, key, Verdict::Up);
    }
    for site in 1..20 {
        (0..15).for_each(|key| world.observe(site, key, Verdict::Up));
    }
    world.run_until(SECOND * 30, World::agree_on_members).unwrap();
    world.run_for(SECOND * 20);
    let nothing = super::super::observation::Version { epoch: 0, number: 0 };
    let pull = |site: usize| {
        Item::Pull(Pull {
            origin: name(site),
            known: nothing,
        })
    };
    let suspicion = {
        let me = *world.sites[0].as_ref().unwrap().members.me();
        let suspect = foca::Member::new(me, 0, foca::State::Suspect);
        Item::Members(super::super::member::write([&suspect], usize::MAX))
    };
    let asks = [
        vec![pull(0)],
        (0..20).map(pull).collect(),
        (0..20).cycle().take(60).map(pull).collect(),
        vec![suspicion.clone(), suspicion, pull(0), pull(1)],
        vec![Item::More(name(0)); 100],
    ];
    for (number, items) in (0_u8..).zip(asks) {
        let moment = world.moment(0);
        let mut member = Sealer::new(name(1), &World::key(), [number + 1; 16]);
        let packet = member.seal(
            Kind::Datagram,
            name(0),
            None,
            &wire::encode(&[], &items),
            moment.at,
        );
        let gossip = world.sites[0].as_mut().unwrap();
        gossip.on_datagram(&packet, moment).unwrap();
        let mut sent = Vec::new();
        while let Some(action) = gossip.poll_action() {
            if let Action::Send { octets, .. } = action {
                sent.push(octets.len());
            }
        }
        let octets: usize = sent.iter().sum();
        println!(
            "{} octets are answered with {} in {} datagrams",
            packet.len(),
            octets,
            sent.len()
        );
        assert!(sent.len() <= ANSWER_DATAGRAMS_MAX && octets <= ANSWER_DATAGRAMS_MAX * DATAGRAM_MAX);
    }
}

#[test]
fn a_key_is_changed_in_fifty_sites_without_one_suspicion() {
    let keys = |first: u8, second: u8| {
        let line = |octet: u8| format!("{octet:02x}").repeat(32);
        Keys::parse(&format!("{}\n{}", line(first), line(second))).unwrap()
    };
    let mut world = World::new(50, 15);
    world.run_until(SECOND * 60, World::agree_on_members).unwrap();
    world.run_for(SECOND * 10);
    world.loss = 0.05;
    let before = world.events.len();
    for next in [keys(42, 43), keys(43, 42), Keys::one([43; 32])] {
        for site in 0..50 {
            world.with(site, |gossip, _| gossip.set_keys(&next));
            world.run_for(Duration::from_millis(400));
            let is_suspect = |view: &MemberView| view.state == super::super::swim::MemberState::Suspect;
            let suspects = |gossip: &Gossip| gossip.view().iter().any(is_suspect);
            assert!(
                !world.running().any(|(_, gossip)| suspects(gossip)),
                "{:?}",
                world.now
            );
        }
    }
    assert!(!is_down(&world, before));
    assert!(world.agree_on_members());
}

#[test]
fn a_newcomer_finds_the_fleet_when_most_of_those_it_asks_are_dead() {
    let mut world = World::new(20, 16);
    (3..19).for_each(|site| world.kill(site));
    world.kill(19);
    world.run_for(SECOND * 30);
    world.begin(19);
    let took = world.run_until(SECOND * 60, World::agree_on_members);
    println!("three of nineteen others live: met after {took:?}");
    assert!(took.is_some());
}

#[test]
fn what_lay_in_the_socket_while_we_stood_still_is_as_old_as_it_is() {
    let mut world = World::new(2, 17);
    world.run_until(SECOND * 20, World::agree_on_members).unwrap();
    let mut packets = Vec::new();
    world.with(1, |gossip, when| {
        gossip.observe(Key(7), Verdict::Up, "", when.at, when.now);
        let address = gossip.address(name(0)).unwrap();
        let told = gossip.store.told(name(1), Key(7), when.now).unwrap();
        gossip.send(name(0), address, &[], &[Item::Delta(told)], when.at);
        while let Some(action) = gossip.poll_action() {
            if let Action::Send { octets, .. } = action {
                packets.push(octets);
            }
        }
    });
    let sent = world.moment(0);
    let waited = SECOND * 15;
    let read = Moment {
        now: sent.now + waited,
        ..sent
    };
    let gossip = world.sites[0].as_mut().unwrap();
    let arrival = Arrival { from: None, waited };
    for packet in packets {
        gossip.on_datagram_from(arrival, &packet, read).unwrap();
    }
    let expired = |after: Duration| {
        let word = gossip.store.word(name(1), Key(7), sent.now + after);
        word.unwrap().expired
    };
    assert!(!expired(ttl(2) - SECOND));
    assert!(
        expired(ttl(2)),
        "counted from when it came, not from when it was read"
    );
}
