//! The service address: there before the route, gone after it.

use super::*;
use crate::announcer::RETRY;

const LINGER: Duration = Duration::from_secs(1);

const BOUND: &str = "bind = { interface = \"lo\" }\nwhile_up = \"pool:web@local\"";

/// The kernel has told its addresses and ours is not among them.
fn fresh() -> World {
    let mut world = World::before_start(one(BOUND), FRA, [UP, UP]);
    world.addresses(&["127.0.0.1"]);
    world.look();
    world
}

fn up() -> World {
    let mut world = fresh();
    world.bound(P);
    world.addresses(&["127.0.0.1", "192.0.2.1"]);
    assert_eq!((world.announced(), world.state()), (true, State::Announced));
    world.asked.clear();
    world
}

#[test]
fn the_address_is_bound_before_the_route_is_announced() {
    let mut world = fresh();
    assert_eq!((world.announced(), world.state()), (false, State::Binding));
    assert_eq!(world.asked, [(s(0), Ask::Bind)]);
    world.run(ms(3));
    world.bound(P);
    assert_eq!(world.flips(), [(ms(3), true)]);
    let bind = world.status().bind.unwrap();
    assert_eq!(
        (bind.address, bind.interface.as_str(), bind.bound),
        (prefix(P).address(), "lo", true)
    );
}

#[test]
fn the_address_stays_until_every_session_has_sent_the_withdrawal_and_a_little_longer() {
    let mut world = up();
    world.fra(DOWN);
    assert!(!world.announced());
    assert_eq!(world.announcer.withdrawing().collect::<Vec<_>>(), [prefix(P)]);
    world.run(s(60));
    assert_eq!(world.asked, [], "a session hangs");
    world.withdrawn(P);
    assert_eq!(world.announcer.withdrawing().count(), 0);
    world.run(s(5));
    assert_eq!(world.asked, [(s(60) + LINGER, Ask::Unbind)]);
    assert_eq!(world.state(), State::Unbinding);
    world.unbound(P);
    assert_eq!(world.state(), State::Withdrawn);
}

#[test]
fn a_route_that_is_wanted_again_keeps_its_address() {
    let mut world = up();
    world.fra(DOWN);
    world.fra(UP);
    assert_eq!((world.announced(), world.state()), (true, State::Announced));
    world.fra(DOWN);
    world.withdrawn(P);
    world.run(ms(500));
    world.fra(UP);
    world.run(s(60));
    assert_eq!((world.announced(), world.asked.len()), (true, 0));
}

#[test]
fn what_is_wanted_again_while_the_address_goes_is_bound_anew() {
    let mut world = up();
    world.fra(DOWN);
    world.withdrawn(P);
    world.run(LINGER);
    world.fra(UP);
    assert!(!world.announced());
    world.unbound(P);
    assert_eq!(world.state(), State::Binding);
    world.bound(P);
    assert!(world.announced());
    assert_eq!(world.asked, [(s(1), Ask::Unbind), (s(1), Ask::Bind)]);
}

#[test]
fn what_is_unwanted_while_the_address_comes_goes_without_an_announcement() {
    let mut world = fresh();
    world.fra(DOWN);
    assert_eq!(world.state(), State::Binding);
    world.bound(P);
    assert_eq!(world.state(), State::Withdrawing, "for all we know");
    world.withdrawn(P);
    world.run(LINGER);
    world.unbound(P);
    assert_eq!((world.state(), world.flips()), (State::Withdrawn, vec![]));
}

#[test]
fn a_failed_bind_keeps_the_route_unannounced_and_is_tried_again() {
    let mut world = fresh();
    let fail =
        |announcer: &mut Announcer, moment| announcer.on_bound(prefix(P), Err("no lo".to_owned()), moment);
    world.act(fail);
    let status = world.status();
    assert_eq!(
        (status.state, status.reason.as_deref()),
        (State::BindFailed, Some("no lo"))
    );
    assert_eq!(status.bind.unwrap().error.as_deref(), Some("no lo"));
    world.run(RETRY);
    world.act(fail);
    assert_eq!(world.asked, [(s(0), Ask::Bind), (RETRY, Ask::Bind)]);
    let trouble = world
        .told
        .iter()
        .filter(|(_, what)| matches!(what, What::Trouble(_)));
    assert_eq!(trouble.count(), 1, "told once");
    world.run(RETRY);
    world.bound(P);
    assert_eq!((world.announced(), world.status().reason), (true, None));
    // Not wanted any more: no further try.
    let mut given_up = fresh();
    given_up.act(fail);
    given_up.fra(DOWN);
    given_up.run(s(60));
    assert_eq!((given_up.asked.len(), given_up.state()), (1, State::Withdrawn));
}

#[test]
fn an_address_that_cannot_be_taken_off_is_tried_again() {
    let mut world = up();
    world.fra(DOWN);
    world.withdrawn(P);
    world.run(LINGER);
    world.act(|announcer, moment| announcer.on_unbound(prefix(P), Err("busy".to_owned()), moment));
    assert_eq!(world.status().reason.as_deref(), Some("busy"));
    world.run(RETRY);
    world.unbound(P);
    assert_eq!(world.state(), State::Withdrawn);
    assert_eq!(world.asked, [(s(1), Ask::Unbind), (s(1) + RETRY, Ask::Unbind)]);
    // Wanted again: it is still there.
    let mut back = up();
    back.fra(DOWN);
    back.withdrawn(P);
    back.run(LINGER);
    back.act(|announcer, moment| announcer.on_unbound(prefix(P), Err("busy".to_owned()), moment));
    back.fra(UP);
    back.run(s(60));
    assert_eq!((back.announced(), back.status().reason), (true, None));
    assert_eq!(back.asked, [(s(1), Ask::Unbind)]);
}

#[test]
fn an_address_that_somebody_took_off_withdraws_at_once_and_is_bound_anew() {
    let mut world = up();
    world.run(s(10));
    world.addresses(&["127.0.0.1"]);
    assert_eq!((world.announced(), world.state()), (false, State::Binding));
    world.run(ms(1));
    world.bound(P);
    assert_eq!(
        world.flips(),
        [(s(0), true), (s(10), false), (s(10) + ms(1), true)]
    );
    assert!(world.told.iter().any(|(_, what)| matches!(
        what,
        What::Withdrawn(why) if why.to_string() == "its service address was taken off the host"
    )));
}

#[test]
fn an_address_that_is_back_before_a_session_sent_the_withdrawal_waits_for_it() {
    let mut world = up();
    world.addresses(&["127.0.0.1"]);
    world.fra(DOWN);
    world.bound(P);
    world.run(s(60));
    assert_eq!(world.asked, [(s(0), Ask::Bind)], "a session still has the route");
    world.withdrawn(P);
    world.run(s(60));
    assert_eq!(world.asked.last(), Some(&(s(60) + LINGER, Ask::Unbind)));
}

#[test]
fn an_address_from_before_a_crash_is_adopted() {
    // Wanted again: nothing is done to the address.
    let mut world = World::before_start(one(BOUND), FRA, [UNKNOWN, UP]);
    world.settled = false;
    world.look();
    world.addresses(&["127.0.0.1", "192.0.2.1"]);
    assert_eq!(world.state(), State::Bound);
    world.run(s(60));
    assert_eq!(world.asked, [], "nothing is decided yet");
    world.settled = true;
    world.fra(UP);
    assert_eq!((world.announced(), world.asked.len()), (true, 0));
    // Not wanted: it goes.
    let mut dead = World::before_start(one(BOUND), FRA, [DOWN, UP]);
    dead.addresses(&["127.0.0.1", "192.0.2.1"]);
    dead.look();
    dead.withdrawn(P);
    dead.run(s(5));
    assert_eq!(dead.asked, [(LINGER, Ask::Unbind)]);
}

#[test]
fn an_address_that_a_person_put_on_later_is_left_alone() {
    let mut world = World::before_start(one(BOUND), FRA, [DOWN, UP]);
    world.look();
    world.addresses(&["127.0.0.1"]);
    world.run(s(1));
    world.addresses(&["127.0.0.1", "192.0.2.1"]);
    assert_eq!((world.state(), world.asked.len()), (State::Withdrawn, 0));
    world.act(|announcer, moment| announcer.on_addresses(None, moment));
    world.addresses(&["127.0.0.1", "192.0.2.1"]);
    assert_eq!(
        world.state(),
        State::Withdrawn,
        "nor when the kernel could not tell for a while"
    );
}

#[test]
fn hold_down_and_rise_come_before_the_address() {
    let lines = format!("{BOUND}\nhold_down = \"10s\"");
    let mut world = World::new(one(&lines));
    assert_eq!(world.asked, []);
    world.run(s(60));
    assert_eq!(world.asked, [(s(10), Ask::Bind)]);
}

#[test]
fn a_new_address_in_the_file_replaces_the_old_one_in_order() {
    let other = "bind = { interface = \"dummy0\" }\nwhile_up = \"pool:web@local\"";
    let mut world = up();
    world.fleet = one(other);
    world.look();
    assert!(!world.announced());
    world.withdrawn(P);
    world.run(LINGER);
    assert_eq!(world.status().bind.unwrap().interface, "lo");
    world.unbound(P);
    assert_eq!(world.status().bind.unwrap().interface, "dummy0");
    world.bound(P);
    assert!(world.announced());
    assert_eq!(world.asked, [(s(1), Ask::Unbind), (s(1), Ask::Bind)]);
}

#[test]
fn a_prefix_that_the_file_no_longer_has_takes_its_address_along() {
    let mut world = up();
    world.fleet = fleet("");
    world.look();
    assert!(!world.announced(), "still ours to clean up");
    world.withdrawn(P);
    world.run(LINGER);
    world.unbound(P);
    assert_eq!(world.asked, [(s(1), Ask::Unbind)]);
    assert_eq!(world.announcer.wanted().prefixes.keys().count(), 0);
}

#[test]
fn the_end_takes_the_address_off_last() {
    let mut world = up();
    world.act(Announcer::stop);
    assert!(!world.announced() && !world.announcer.is_clear());
    world.withdrawn(P);
    world.run(LINGER);
    world.unbound(P);
    assert!(world.announcer.is_clear());
}

#[test]
fn only_who_binds_or_asks_needs_the_kernel() {
    for (lines, needs) in [
        ("", false),
        (BOUND, true),
        ("while_up = \"pool:web or not address:127.0.0.1\"", true),
        ("while_up = \"not pool:web\"", false),
    ] {
        assert_eq!(
            World::new(one(lines)).announcer.needs_addresses(),
            needs,
            "{lines}"
        );
    }
}
