//! How a session ends: by whose wish, with which word to the peer, and when it comes back.

use steer_topology::GracefulRestart;

use super::*;
use crate::wire::{Families, RestartCapability};

/// With graceful restart on our side; `notification` is the N bit.
fn graceful(notification: bool) -> Config {
    let offer = GracefulRestart {
        restart_time: Duration::from_secs(30),
        notification,
    };
    Config {
        graceful_restart: Some(offer),
        ..config(1)
    }
}

fn strict() -> Config {
    Config {
        strict_bfd: true,
        ..config(1)
    }
}

/// The OPEN of a peer that keeps our routes while we restart.
fn helper(notification: bool) -> Open {
    let mut open = their_open();
    open.capabilities.graceful_restart = Some(RestartCapability {
        notification,
        restart_time: Duration::from_secs(120),
        families: Families::ALL,
        ..RestartCapability::default()
    });
    open
}

fn established_with(config: Config, open: &Open) -> (Bench, SessionId) {
    let mut bench = Bench::new(config);
    let id = bench.dial();
    bench.give(Event::Connected(id));
    let actions = bench.establish(id, open);
    assert!(matches!(actions.as_slice(), [Action::Up(..)]), "{actions:?}");
    (bench, id)
}

/// Established with strict BFD, which is up.
fn established_strictly() -> (Bench, SessionId) {
    let mut bench = Bench::new(strict());
    bench.give(Event::PathUp);
    let id = bench.dial();
    bench.give(Event::Connected(id));
    bench.establish(id, &their_open());
    assert_eq!(bench.machine.state(), State::Established);
    (bench, id)
}

fn stop(reason: Reason) -> Event {
    Event::Stop {
        reason,
        text: "maintenance".to_owned(),
    }
}

fn restart() -> Event {
    Event::Restart {
        text: "new version".to_owned(),
    }
}

// Hard Reset, RFC 8538

#[test]
fn a_real_end_is_a_hard_reset_where_both_take_notifications_for_graceful() {
    // RFC 8538 §5.1: which of them end for good.
    let rows = [
        (Reason::AdministrativeShutdown, true),
        (Reason::PeerDeconfigured, true),
        (Reason::AdministrativeReset, false),
        (Reason::OtherConfigurationChange, false),
    ];
    for (reason, hard) in rows {
        for (ours, theirs) in [(true, true), (true, false), (false, true)] {
            let (mut bench, _) = established_with(graceful(ours), &helper(theirs));
            let actions = bench.give(stop(reason));
            let plain = Notification::shutdown(reason, "maintenance");
            let (code, subcode) = reason.numbers();
            let want = if hard && ours && theirs {
                // §3.1: code and subcode of what ended it, then its data.
                (6, 9, [&[code, subcode], plain.data.as_slice()].concat())
            } else {
                (code, subcode, plain.data)
            };
            assert_eq!(notifications(&actions), vec![want], "{reason:?} {ours} {theirs}");
        }
    }
}

#[test]
fn too_many_prefixes_end_the_session_with_family_and_limit() {
    // RFC 4486 §4: AFI, SAFI, limit.
    let data = vec![0, 2, 1, 0, 0, 0, 100];
    let (mut bench, id) = Bench::established();
    let event = Event::TooManyPrefixes {
        id,
        family: Family::Ipv6Unicast,
        limit: 100,
    };
    let actions = bench.give(event.clone());
    assert_eq!(notifications(&actions), vec![(6, 1, data.clone())]);
    assert_eq!(bench.machine.accept(bench.now), Err(Refusal::Damped));
    let (mut bench, _) = established_with(graceful(true), &helper(true));
    let hard = (6, 9, [vec![6, 1], data].concat());
    assert_eq!(notifications(&bench.give(event)), vec![hard]);
}

#[test]
fn a_fault_of_the_peer_is_no_hard_reset() {
    let (mut bench, id) = established_with(graceful(true), &helper(true));
    let actions = bench.give_message(id, &wire::encode_open(&their_open()));
    assert_eq!(notifications(&actions), vec![(5, 3, vec![1])]);
}

#[test]
fn a_hard_reset_of_the_peer_counts_as_what_it_encloses() {
    let reset = |of: &Notification| wire::encode_notification(&Notification::hard_reset(of));
    let (mut bench, id) = Bench::established();
    let shutdown = Notification::shutdown(Reason::AdministrativeShutdown, "bye");
    let actions = bench.give_message(id, &reset(&shutdown));
    let Some(Action::Ended { end, .. }) = actions.last() else {
        panic!("{actions:?}")
    };
    assert_eq!(
        end.to_string(),
        "peer sent Cease/Hard Reset (6/9) of Cease/Administrative Shutdown (6/2): \"bye\""
    );
    bench.accept();
    let (mut bench, id) = Bench::established();
    bench.give_message(id, &reset(&Notification::bare(Reason::MalformedAsPath)));
    assert_eq!(
        bench.machine.accept(bench.now),
        Err(Refusal::Damped),
        "a fault of ours"
    );
}

// Planned restart, RFC 4724

#[test]
fn a_planned_restart_says_nothing_that_would_end_what_the_peer_bridges() {
    // Without the N bit any NOTIFICATION ends graceful restart (RFC 4724 §4.2); with it only a Hard Reset does.
    let reset = Notification::shutdown(Reason::AdministrativeReset, "new version");
    let said = vec![(reset.code, reset.subcode, reset.data)];
    let rows = [
        (graceful(false), helper(false), vec![]),
        (graceful(true), helper(false), vec![]),
        (graceful(true), helper(true), said.clone()),
        (graceful(true), their_open(), said.clone()), // keeps nothing
        (config(1), helper(true), said),              // was not asked to
    ];
    for (config, open, want) in rows {
        let (mut bench, id) = established_with(config, &open);
        let actions = bench.give(restart());
        assert_eq!(notifications(&actions), want);
        assert!(actions.contains(&Action::Close(id)));
        assert_eq!(bench.machine.next_deadline(), None);
        assert_eq!(bench.machine.accept(bench.now), Err(Refusal::Stopped));
    }
}

#[test]
fn a_restarted_speaker_says_so_until_all_is_told_again() {
    let mut bench = Bench::new(Config {
        restarted: true,
        ..graceful(true)
    });
    let r_bit = |bench: &mut Bench| {
        let id = bench.machine.accept(bench.now).unwrap();
        let actions = bench.actions();
        let Some(Action::SendOpen(_, open)) = actions.last() else {
            panic!("{actions:?}")
        };
        bench.establish(id, &helper(true));
        bench.give(Event::Lost(id, "cut".to_owned()));
        open.capabilities.graceful_restart.unwrap().restarted
    };
    bench.give(Event::Start);
    assert!(r_bit(&mut bench) && r_bit(&mut bench));
    bench.give(Event::Recovered);
    assert!(!r_bit(&mut bench));
}

#[test]
fn a_peer_that_restarted_may_replace_its_old_session() {
    // RFC 4724 §5; without the capability the old session stays until its hold time ends (RFC 4271 §6.8).
    let (mut bench, old) = established_with(config(1), &helper(false));
    let age = |bench: &mut Bench, id| {
        for _ in 0..STABLE.as_secs() {
            bench.pass(Duration::from_secs(1));
            bench.give_message(id, &wire::encode_keepalive());
        }
    };
    assert_eq!(
        bench.machine.accept(bench.now),
        Err(Refusal::Established),
        "too young"
    );
    age(&mut bench, old);
    let new = bench.machine.accept(bench.now).unwrap();
    let actions = bench.actions();
    assert_eq!(notifications(&actions), vec![]);
    assert!(actions.contains(&Action::Close(old)));
    assert_eq!(bench.machine.state_of(new), Some(State::OpenSent));
    let (mut bench, old) = Bench::established();
    age(&mut bench, old);
    assert_eq!(bench.machine.accept(bench.now), Err(Refusal::Established));
}

// Send hold timer, RFC 9687

#[test]
fn a_peer_that_takes_nothing_is_left_after_its_send_hold_time() {
    // §4: the longer of 8 minutes and twice the hold time.
    for (hold, want) in [(9, 480), (300, 600)] {
        let long = Config {
            hold_time: Duration::from_secs(hold),
            ..config(1)
        };
        let open = Open {
            hold_time: u16::try_from(hold).unwrap(),
            ..their_open()
        };
        let (mut bench, id) = established_with(long, &open);
        let (mut ended, start) = (Vec::new(), bench.now);
        while ended.is_empty() {
            bench.give(Event::Blocked(id));
            bench.give_message(id, &wire::encode_keepalive()); // it still speaks
            ended = notifications(&bench.pass(Duration::from_secs(1)));
        }
        assert_eq!(ended, vec![(8, 0, vec![])]);
        assert_eq!(bench.now - start, Duration::from_secs(want));
        assert_eq!(bench.machine.accept(bench.now), Err(Refusal::Damped));
    }
}

#[test]
fn an_octet_that_went_out_starts_the_send_hold_time_anew() {
    let (mut bench, id) = Bench::established();
    for second in 0..2_000 {
        bench.give(if second % 400 == 0 {
            Event::Progress(id)
        } else {
            Event::Blocked(id)
        });
        bench.give_message(id, &wire::encode_keepalive());
        bench.pass(Duration::from_secs(1));
    }
    assert_eq!(bench.machine.state(), State::Established);
}

#[test]
fn without_hold_time_there_is_no_send_hold_time() {
    let open = Open {
        hold_time: 0,
        ..their_open()
    };
    let (mut bench, id) = established_with(config(1), &open);
    bench.give(Event::Blocked(id));
    assert_eq!(bench.machine.next_deadline(), None, "RFC 9687 §3.3");
}

// BFD, RFC 5882 and RFC 9384

#[test]
fn bfd_down_ends_every_connection_at_once_and_without_blame() {
    let (mut bench, id) = Bench::established();
    bench.give(Event::PathUp);
    let actions = bench.give(Event::PathDown);
    assert_eq!(notifications(&actions), vec![(6, 10, vec![])]);
    let end = End::PathDown;
    assert!(
        actions.contains(&Action::Ended {
            id,
            established: true,
            end
        }),
        "{actions:?}"
    );
    assert_eq!(bench.give(Event::PathDown), vec![], "told once");
    bench.accept();
}

#[test]
fn bfd_down_reaches_both_connections_of_a_collision() {
    let mut bench = Bench::new(config(1));
    let dialled = bench.dial();
    bench.give(Event::Connected(dialled));
    let accepted = bench.accept();
    let actions = bench.give(Event::PathDown);
    for id in [dialled, accepted] {
        assert!(actions.contains(&Action::Close(id)), "{actions:?}");
    }
    assert_eq!(notifications(&actions).len(), 2);
}

#[test]
fn bfd_down_is_a_hard_reset_where_routes_would_be_kept() {
    let (mut bench, _) = established_with(graceful(true), &helper(true));
    assert_eq!(
        notifications(&bench.give(Event::PathDown)),
        vec![(6, 9, vec![6, 10])]
    );
}

#[test]
fn the_session_comes_back_with_the_path() {
    let (mut bench, _) = Bench::established();
    bench.give(Event::PathUp);
    assert_eq!(dials(&bench.give(Event::PathDown)), 0);
    let actions = bench.give(Event::PathUp);
    assert_eq!(dials(&actions), 1, "at once: {actions:?}");
}

#[test]
fn a_dial_that_the_dead_path_swallowed_is_repeated_when_the_path_is_back() {
    let (mut bench, _) = Bench::established();
    bench.give(Event::PathUp);
    bench.give(Event::PathDown);
    let waited = bench.pass(Duration::from_secs(5));
    let Some(Action::Dial(lost)) = waited.last().cloned() else {
        panic!("{waited:?}")
    };
    let actions = bench.give(Event::PathUp);
    assert!(
        actions.contains(&Action::Close(lost)) && dials(&actions) == 1,
        "{actions:?}"
    );
}

#[test]
fn a_peer_at_fault_is_not_forgiven_because_the_path_is_back() {
    let (mut bench, id) = Bench::established();
    bench.give_message(id, &wire::encode_open(&their_open()));
    bench.give(Event::PathDown);
    assert_eq!(dials(&bench.give(Event::PathUp)), 0);
    assert_eq!(bench.machine.accept(bench.now), Err(Refusal::Damped));
}

#[test]
fn strict_bfd_comes_before_any_connection() {
    let mut bench = Bench::new(strict());
    assert_eq!(bench.give(Event::Start), vec![]);
    assert_eq!(bench.machine.accept(bench.now), Err(Refusal::PathDown));
    assert_eq!(bench.machine.next_deadline(), None, "nothing is tried");
    assert!(bench.machine.waits_for_path());
    assert_eq!(dials(&bench.give(Event::PathUp)), 1);
    bench.accept();
}

#[test]
fn strict_bfd_waits_again_after_a_failure() {
    let (mut bench, _) = established_strictly();
    let actions = bench.give(Event::PathDown);
    assert_eq!(notifications(&actions), vec![(6, 10, vec![])]);
    assert_eq!(dials(&bench.pass(Duration::from_secs(3_600))), 0);
    assert_eq!(bench.machine.accept(bench.now), Err(Refusal::PathDown));
    assert_eq!(dials(&bench.give(Event::PathUp)), 1);
}

#[test]
fn strict_bfd_lets_a_passive_peer_knock_once_it_is_up() {
    let mut bench = Bench::new(Config {
        passive: true,
        ..strict()
    });
    bench.give(Event::Start);
    bench.give(Event::PathUp);
    assert_eq!(bench.machine.state(), State::Active);
    let id = bench.accept();
    bench.establish(id, &their_open());
    assert_eq!(bench.machine.state(), State::Established);
}

#[test]
fn an_end_of_bfd_by_an_operator_is_no_path_failure() {
    // RFC 5882 §4.2. The session stays; strict as we are, no other begins.
    let (mut bench, id) = established_strictly();
    assert_eq!(bench.give(Event::PathAdminDown), vec![]);
    assert_eq!(bench.machine.state(), State::Established);
    bench.give(Event::Lost(id, "cut".to_owned()));
    assert_eq!(bench.machine.accept(bench.now), Err(Refusal::PathDown));
    assert_eq!(dials(&bench.pass(Duration::from_secs(3_600))), 0);
}

#[test]
fn a_stopped_machine_does_not_start_with_the_path() {
    let (mut bench, _) = Bench::established();
    bench.give(stop(Reason::AdministrativeShutdown));
    bench.give(Event::PathDown);
    assert_eq!(bench.give(Event::PathUp), vec![]);
    assert_eq!(bench.machine.next_deadline(), None);
}

// Patience

#[test]
fn a_peer_without_room_for_us_is_asked_less_often_but_may_knock() {
    for reason in [Reason::MaximumPrefixes, Reason::OutOfResources] {
        let mut bench = Bench::new(config(1));
        let mut id = bench.dial();
        let mut waits = Vec::new();
        for _ in 0..3 {
            bench.give(Event::Connected(id));
            bench.establish(id, &their_open());
            bench.give_message(id, &wire::encode_notification(&Notification::bare(reason)));
            let since = bench.now;
            while dials(&bench.pass(Duration::from_millis(10))) == 0 {}
            id = SessionId(bench.machine.last_id);
            waits.push(bench.now - since);
        }
        assert!(waits[2] > waits[0].mul_f64(2.9), "{waits:?}");
        bench.accept();
    }
}
