use std::time::Duration;

use super::ASK_ON_MAX;
use crate::gossip::core::Action;
use crate::gossip::sim::{World, name};

const SECOND: Duration = Duration::from_secs(1);

/// One stream, at once and whole: `client` asks `server`.
fn stream(world: &mut World, client: usize, server: usize) {
    let moment = world.moment(client);
    let asking = world.sites[client].as_mut().unwrap();
    let (session, request) = asking.sync_request(name(server), moment);
    let frames = world.sites[server]
        .as_mut()
        .unwrap()
        .sync_answer(&request, moment);
    let asking = world.sites[client].as_mut().unwrap();
    let apply = |frame: &Vec<u8>| asking.sync_apply(session, frame, moment).unwrap();
    assert_eq!(frames.unwrap().iter().map(apply).filter(|last| *last).count(), 1);
}

/// Whether `site` asks for a stream when it is woken once more `after` so long; nothing that it says is heard.
fn asks(world: &mut World, site: usize, after: Duration) -> bool {
    world.now += after;
    let mut asks = false;
    world.with(site, |gossip, when| {
        gossip.on_deadline(when);
        while let Some(action) = gossip.poll_action() {
            asks |= matches!(action, Action::Sync { .. });
        }
    });
    asks
}

#[test]
fn two_who_have_just_come_and_ask_each_other_ask_somebody_who_knows_too() {
    let mut world = World::new(150, 1);
    world.run_until(SECOND * 60, World::agree_on_members).unwrap();
    [0, 1].into_iter().for_each(|site| world.kill(site));
    world.run_until(SECOND * 60, World::agree_on_members).unwrap();
    [0, 1].into_iter().for_each(|site| world.begin(site));
    stream(&mut world, 0, 1);
    let took = world.run_until(SECOND * 60, World::agree_on_members);
    println!("150 sites agree after {took:?}");
    assert!(took.is_some_and(|took| took <= SECOND * 10), "{took:?}");
}

#[test]
fn who_was_left_out_of_a_stream_as_a_suspect_is_asked_for_once_more() {
    let mut world = World::new(4, 2);
    world.run_until(SECOND * 20, World::agree_on_members).unwrap();
    world.kill(0);
    world.run_until(SECOND * 20, World::agree_on_members).unwrap();
    world.cut = Box::new(|_, _| true);
    world.with(1, |gossip, when| {
        let suspect = gossip.members.others().find(|member| member.site == name(2));
        let suspect = foca::Member::new(*suspect.unwrap(), u16::MAX - 1, foca::State::Suspect);
        let octets = crate::gossip::member::write([&suspect], usize::MAX);
        gossip.members.on_absent(&octets, when).unwrap();
    });
    world.begin(0);
    stream(&mut world, 0, 1);
    let up = |world: &World| [1, 2, 3].map(|site| world.sites[0].as_ref().unwrap().is_up(name(site)));
    assert_eq!(
        up(&world),
        [false, false, true],
        "nobody tells of itself in a stream"
    );
    assert!(asks(&mut world, 0, SECOND * 6));
    stream(&mut world, 0, 3);
    assert_eq!(up(&world), [true; 3]);
    assert!(!asks(&mut world, 0, ASK_ON_MAX), "everything was told");
}

#[test]
fn a_site_of_which_nobody_ever_heard_is_asked_for_less_and_less() {
    let mut world = World::new(3, 3);
    world.kill(2);
    world.run_for(ASK_ON_MAX);
    let so_far = world.syncs;
    world.run_for(ASK_ON_MAX * 4);
    let later = world.syncs - so_far;
    println!("streams of two sites: {so_far} at first, {later} in four times that");
    assert!((4..=20).contains(&so_far), "{so_far}");
    assert!((6..=10).contains(&later), "{later}");
    world.begin(2);
    let took = world.run_until(SECOND * 20, World::agree_on_members);
    assert!(took.is_some(), "it is found when it comes");
}
