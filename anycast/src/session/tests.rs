//! The machine: its table row by row, its timers, its refusals, and two of them in virtual time.

mod ends;
mod offers;
mod pair;
mod random;
mod rows;

use std::net::Ipv4Addr;

use steer_topology::Asn;

use super::*;
use crate::wire::tests::frame;
use crate::wire::{self, Family, Open};

pub(super) fn config(number: u8) -> Config {
    let asn = Asn::new(64_500 + u32::from(number)).unwrap();
    Config {
        hold_time: Duration::from_secs(9),
        ..Config::basic(asn, Ipv4Addr::new(192, 0, 2, number))
    }
}

/// The OPEN of a peer that fits `config(1)`.
fn their_open() -> Open {
    config(2).open()
}

/// A machine, its clock, and all that it asked for.
struct Bench {
    machine: Peer,
    now: Instant,
}

impl Bench {
    fn new(config: Config) -> Self {
        Self {
            machine: Peer::new(config, 7),
            now: Instant::now(),
        }
    }

    fn give(&mut self, event: Event) -> Vec<Action> {
        self.machine.handle(event, self.now);
        self.actions()
    }

    fn give_message(&mut self, id: SessionId, message: &[u8]) -> Vec<Action> {
        self.give(Event::Frame(id, frame(message)))
    }

    fn actions(&mut self) -> Vec<Action> {
        std::iter::from_fn(|| self.machine.poll_action()).collect()
    }

    fn pass(&mut self, time: Duration) -> Vec<Action> {
        let end = self.now + time;
        while let Some(deadline) = self.machine.next_deadline().filter(|at| *at <= end) {
            self.now = self.now.max(deadline);
            self.machine.on_deadline(self.now);
        }
        self.now = end;
        self.actions()
    }

    fn dial(&mut self) -> SessionId {
        let actions = self.give(Event::Start);
        let Some(Action::Dial(id)) = actions.last() else {
            panic!("{actions:?}")
        };
        *id
    }

    fn accept(&mut self) -> SessionId {
        let id = self.machine.accept(self.now).unwrap();
        self.actions();
        id
    }

    /// From a TCP connection to Established.
    fn establish(&mut self, id: SessionId, open: &Open) -> Vec<Action> {
        self.give_message(id, &wire::encode_open(open));
        self.give_message(id, &wire::encode_keepalive())
    }

    fn established() -> (Self, SessionId) {
        let mut bench = Self::new(config(1));
        let id = bench.dial();
        bench.give(Event::Connected(id));
        let actions = bench.establish(id, &their_open());
        assert!(matches!(actions.as_slice(), [Action::Up(..)]), "{actions:?}");
        (bench, id)
    }
}

fn notifications(actions: &[Action]) -> Vec<(u8, u8, Vec<u8>)> {
    let sent = actions.iter().filter_map(|action| {
        let Action::SendNotification(_, notification) = action else {
            return None;
        };
        Some((notification.code, notification.subcode, notification.data.clone()))
    });
    sent.collect()
}

fn dials(actions: &[Action]) -> usize {
    actions
        .iter()
        .filter(|action| matches!(action, Action::Dial(_)))
        .count()
}

#[test]
fn a_session_comes_up_after_open_and_keepalive_both_ways() {
    let mut bench = Bench::new(config(1));
    let id = bench.dial();
    let actions = bench.give(Event::Connected(id));
    assert!(
        matches!(actions.as_slice(), [Action::SendOpen(..)]),
        "{actions:?}"
    );
    let actions = bench.give_message(id, &wire::encode_open(&their_open()));
    assert_eq!(actions, vec![Action::SendKeepalive(id)]);
    let actions = bench.give_message(id, &wire::encode_keepalive());
    let [Action::Up(up, negotiated)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!((*up, negotiated.peer_id), (id, Ipv4Addr::new(192, 0, 2, 2)));
    assert!(negotiated.four_octet && !negotiated.internal && negotiated.families == wire::Families::ALL);
}

#[test]
fn the_shorter_hold_time_counts_and_zero_means_none() {
    for (theirs, want) in [(3, 3), (9, 9), (90, 9), (0, 0)] {
        let (mut bench, open) = (
            Bench::new(config(1)),
            Open {
                hold_time: theirs,
                ..their_open()
            },
        );
        let id = bench.dial();
        bench.give(Event::Connected(id));
        let actions = bench.establish(id, &open);
        let [Action::Up(_, negotiated)] = actions.as_slice() else {
            panic!("{actions:?}")
        };
        assert_eq!(negotiated.hold_time, Duration::from_secs(want));
        if want == 0 {
            assert_eq!(bench.machine.next_deadline(), None, "no timer runs");
        }
    }
}

#[test]
fn a_silent_session_ends_with_its_hold_time_and_4_0() {
    let (mut bench, _) = Bench::established();
    let before = bench.pass(Duration::from_millis(8_999));
    assert_eq!(notifications(&before), vec![]);
    let after = bench.pass(Duration::from_millis(1));
    assert_eq!(notifications(&after), vec![(4, 0, vec![])]);
    assert_eq!(bench.machine.state(), State::Idle);
}

#[test]
fn keepalives_go_out_every_third_of_the_hold_time_or_sooner() {
    let (mut bench, id) = Bench::established();
    let mut sent = 0;
    for _ in 0..90 {
        bench.give_message(id, &wire::encode_keepalive());
        let actions = bench.pass(Duration::from_secs(1));
        sent += actions
            .iter()
            .filter(|action| **action == Action::SendKeepalive(id))
            .count();
    }
    assert!(
        (30..=40).contains(&sent),
        "{sent} in 90 s: every 2.25 s to 3 s expected"
    );
    assert_eq!(bench.machine.state(), State::Established);
}

#[test]
fn a_peer_that_never_sends_its_open_is_left() {
    let mut bench = Bench::new(config(1));
    let id = bench.dial();
    bench.give(Event::Connected(id));
    let actions = bench.pass(OPEN_TIMEOUT);
    assert_eq!(notifications(&actions), vec![(4, 0, vec![])]);
    assert!(actions.contains(&Action::Close(id)));
}

#[test]
fn an_open_that_does_not_fit_is_refused_by_cause() {
    let config = Config {
        peer_asn: Asn::new(64_502),
        ..config(1)
    };
    let internal = Config {
        peer_asn: Some(config.local_asn),
        ..config.clone()
    };
    let same_id = Open {
        identifier: config.router_id,
        asn: config.local_asn,
        ..their_open()
    };
    let wrong_as = Open {
        asn: Asn::new(64_999).unwrap(),
        ..their_open()
    };
    for (config, open, want) in [(config, wrong_as, (2, 2)), (internal, same_id, (2, 3))] {
        let mut bench = Bench::new(config);
        let id = bench.dial();
        bench.give(Event::Connected(id));
        let actions = bench.give_message(id, &wire::encode_open(&open));
        assert_eq!(notifications(&actions), vec![(want.0, want.1, vec![])]);
        assert!(actions.contains(&Action::Close(id)));
        assert_eq!(bench.machine.state(), State::Idle);
    }
}

#[test]
fn an_external_peer_may_share_our_identifier() {
    let mut bench = Bench::new(config(1));
    let id = bench.dial();
    bench.give(Event::Connected(id));
    let open = Open {
        identifier: config(1).router_id,
        ..their_open()
    };
    let actions = bench.establish(id, &open);
    assert!(matches!(actions.as_slice(), [Action::Up(..)]), "RFC 6286 §2.2");
}

#[test]
fn an_unexpected_message_is_answered_with_its_state_and_type() {
    let rows = [
        (State::OpenSent, wire::encode_keepalive(), (5, 1, vec![4])),
        (
            State::OpenSent,
            wire::encode_end_of_rib(Family::Ipv4Unicast),
            (5, 1, vec![2]),
        ),
        (
            State::OpenConfirm,
            wire::encode_open(&their_open()),
            (5, 2, vec![1]),
        ),
        (
            State::OpenConfirm,
            wire::encode_end_of_rib(Family::Ipv4Unicast),
            (5, 2, vec![2]),
        ),
        (
            State::Established,
            wire::encode_open(&their_open()),
            (5, 3, vec![1]),
        ),
    ];
    for (state, message, want) in rows {
        let mut bench = Bench::new(config(1));
        let id = bench.dial();
        bench.give(Event::Connected(id));
        if state >= State::OpenConfirm {
            bench.give_message(id, &wire::encode_open(&their_open()));
        }
        if state == State::Established {
            bench.give_message(id, &wire::encode_keepalive());
        }
        assert_eq!(bench.machine.state(), state);
        let actions = bench.give_message(id, &message);
        assert_eq!(notifications(&actions), vec![want]);
    }
}

#[test]
fn a_notification_is_never_answered_by_another() {
    let (mut bench, id) = Bench::established();
    let actions = bench.give_message(
        id,
        &wire::encode_notification(&Notification::bare(Reason::HardReset)),
    );
    assert_eq!(notifications(&actions), vec![]);
    assert!(actions.contains(&Action::Close(id)));
}

#[test]
fn a_stop_sends_its_text_and_stays_stopped_until_the_next_start() {
    let (mut bench, id) = Bench::established();
    let reason = Reason::AdministrativeShutdown;
    let actions = bench.give(Event::Stop {
        reason,
        text: "maintenance".to_owned(),
    });
    assert_eq!(
        actions[0],
        Action::SendNotification(id, Notification::shutdown(reason, "maintenance"))
    );
    assert_eq!(bench.machine.next_deadline(), None);
    assert_eq!(bench.machine.accept(bench.now), Err(Refusal::Stopped));
    assert_eq!(dials(&bench.give(Event::Start)), 1);
}

#[test]
fn an_established_session_refuses_a_second_connection() {
    let (mut bench, _) = Bench::established();
    assert_eq!(bench.machine.accept(bench.now), Err(Refusal::Established));
}

#[test]
fn the_higher_identifier_keeps_the_connection_that_it_opened() {
    for (ours, kept_is_ours) in [(1, false), (3, true)] {
        for open_first_on_ours in [true, false] {
            let mut bench = Bench::new(config(ours));
            let dialled = bench.dial();
            bench.give(Event::Connected(dialled));
            let accepted = bench.accept();
            let (first, second) = if open_first_on_ours {
                (dialled, accepted)
            } else {
                (accepted, dialled)
            };
            let open = wire::encode_open(&their_open());
            bench.pass(COLLISION_WINDOW); // so that the second OPEN decides
            let mut actions = bench.give_message(first, &open);
            actions.extend(bench.give_message(second, &open));
            let (kept, lost) = if kept_is_ours {
                (dialled, accepted)
            } else {
                (accepted, dialled)
            };
            assert_eq!(notifications(&actions), vec![(6, 7, vec![])]);
            assert!(actions.contains(&Action::Close(lost)));
            assert_eq!(bench.machine.state_of(kept), Some(State::OpenConfirm));
            let actions = bench.give_message(kept, &wire::encode_keepalive());
            assert!(matches!(actions.as_slice(), [Action::Up(..)]), "{actions:?}");
        }
    }
}

#[test]
fn two_young_connections_are_decided_by_the_first_open() {
    let mut bench = Bench::new(config(1));
    let dialled = bench.dial();
    bench.give(Event::Connected(dialled));
    let accepted = bench.accept();
    let actions = bench.give_message(dialled, &wire::encode_open(&their_open()));
    assert!(actions.contains(&Action::Close(dialled)), "{actions:?}");
    assert_eq!(bench.machine.state_of(accepted), Some(State::OpenSent));
}

#[test]
fn a_silent_connection_does_not_displace_one_that_speaks() {
    let mut bench = Bench::new(config(1));
    let dialled = bench.dial();
    let silent = bench.accept(); // would win by its side
    bench.pass(COLLISION_WINDOW);
    bench.give(Event::Connected(dialled));
    let actions = bench.establish(dialled, &their_open());
    assert!(matches!(actions.first(), Some(Action::Up(..))), "{actions:?}");
    assert!(actions.contains(&Action::Close(silent)));
}

#[test]
fn a_peer_without_hold_time_still_owes_its_first_keepalive() {
    let mut bench = Bench::new(config(1));
    let id = bench.dial();
    bench.give(Event::Connected(id));
    let open = Open {
        hold_time: 0,
        ..their_open()
    };
    bench.give_message(id, &wire::encode_open(&open));
    assert_eq!(notifications(&bench.pass(OPEN_TIMEOUT)), vec![(4, 0, vec![])]);
}

#[test]
fn a_dial_is_given_up_when_the_other_side_comes_first() {
    let mut bench = Bench::new(config(1));
    let dialled = bench.dial();
    let accepted = bench.accept();
    let actions = bench.establish(accepted, &their_open());
    assert!(actions.contains(&Action::Close(dialled)), "{actions:?}");
    // The dial succeeds all the same: news of a connection that is no longer ours.
    assert_eq!(bench.give(Event::Connected(dialled)), vec![]);
    assert_eq!(bench.machine.state(), State::Established);
}

#[test]
fn an_unanswered_dial_is_tried_again_within_the_retry_time() {
    let mut bench = Bench::new(config(1));
    let first = bench.dial();
    let actions = bench.pass(Duration::from_secs(5));
    assert!(
        actions.contains(&Action::Close(first)) && dials(&actions) == 1,
        "{actions:?}"
    );
}

#[test]
fn a_passive_peer_never_dials() {
    let mut bench = Bench::new(Config {
        passive: true,
        ..config(1)
    });
    assert_eq!(bench.give(Event::Start), vec![]);
    let id = bench.accept();
    bench.establish(id, &their_open());
    let mut actions = bench.give(Event::Lost(id, "reset".to_owned()));
    actions.extend(bench.pass(Duration::from_secs(3600)));
    assert_eq!(dials(&actions), 0);
    bench.accept();
}

#[test]
fn a_lost_session_is_dialled_again_within_the_retry_time() {
    let (mut bench, id) = Bench::established();
    let actions = bench.give(Event::Lost(id, "reset".to_owned()));
    assert!(
        actions.contains(&Action::Ended {
            id,
            established: true,
            end: End::Lost("reset".to_owned())
        }),
        "{actions:?}"
    );
    assert_eq!(dials(&bench.pass(Duration::from_secs(5))), 1);
}

#[test]
fn a_peer_at_fault_waits_longer_each_time_and_may_not_knock() {
    let mut bench = Bench::new(config(1));
    let mut id = bench.dial();
    let mut waits = Vec::new();
    for _ in 0..7 {
        bench.give(Event::Connected(id));
        bench.give_message(id, &wire::encode_keepalive()); // 5/1
        assert_eq!(bench.machine.accept(bench.now), Err(Refusal::Damped));
        let since = bench.now;
        while let Some(deadline) = bench.machine.next_deadline() {
            let actions = bench.pass(deadline - bench.now);
            if let Some(Action::Dial(next)) = actions.first() {
                id = *next;
                break;
            }
        }
        waits.push(bench.now - since);
    }
    for (index, base) in [5, 10, 20, 40, 40, 40, 40].into_iter().enumerate() {
        let base = Duration::from_secs(base);
        assert!(
            waits[index] >= base.mul_f64(0.75) && waits[index] <= base,
            "{waits:?}"
        );
    }
}

#[test]
fn a_peer_at_fault_on_its_own_connection_waits_too() {
    let mut bench = Bench::new(Config {
        passive: true,
        ..config(1)
    });
    bench.give(Event::Start);
    let id = bench.accept();
    bench.give_message(id, &wire::encode_keepalive());
    assert_eq!(bench.machine.accept(bench.now), Err(Refusal::Damped));
    bench.pass(Duration::from_secs(5));
    bench.accept();
}

/// Both sides of one outage have a penalty; if each refused the other through every later wait, none would get up.
#[test]
fn a_peer_that_was_at_fault_may_knock_once_its_wait_is_over() {
    let mut bench = Bench::new(config(1));
    let id = bench.dial();
    bench.give(Event::Connected(id));
    bench.give_message(id, &wire::encode_keepalive());
    assert_eq!(bench.machine.accept(bench.now), Err(Refusal::Damped));
    let actions = bench.pass(Duration::from_secs(5));
    let Some(Action::Dial(id)) = actions.first().cloned() else {
        panic!("{actions:?}")
    };
    bench.give(Event::Connected(id));
    let refusal = Notification::bare(Reason::ConnectionRejected);
    bench.give_message(id, &wire::encode_notification(&refusal));
    bench.accept();
}

#[test]
fn a_stop_by_the_operator_forgives_what_went_wrong_before() {
    let mut bench = Bench::new(config(1));
    for _ in 0..3 {
        let id = bench.dial();
        bench.give(Event::Connected(id));
        bench.give_message(id, &wire::encode_keepalive());
    }
    bench.give(Event::Stop {
        reason: Reason::AdministrativeReset,
        text: String::new(),
    });
    let id = bench.dial();
    bench.give(Event::Connected(id));
    bench.give_message(id, &wire::encode_keepalive());
    let wait = bench.machine.next_deadline().unwrap() - bench.now;
    assert!(wait <= Duration::from_secs(5), "{wait:?}");
}

#[test]
fn a_cease_is_no_fault() {
    let (mut bench, id) = Bench::established();
    let cease = Notification::shutdown(Reason::AdministrativeReset, "soon back");
    bench.give_message(id, &wire::encode_notification(&cease));
    bench.accept();
}

#[test]
fn a_long_session_forgives_what_went_wrong_before() {
    let mut bench = Bench::new(config(1));
    let id = bench.dial();
    bench.give(Event::Connected(id));
    bench.give_message(id, &wire::encode_keepalive());
    let actions = bench.pass(Duration::from_secs(5));
    let Some(Action::Dial(id)) = actions.first().cloned() else {
        panic!("{actions:?}")
    };
    bench.give(Event::Connected(id));
    bench.establish(
        id,
        &Open {
            hold_time: 0,
            ..their_open()
        },
    );
    bench.pass(STABLE);
    bench.give(Event::Lost(id, "reset".to_owned()));
    bench.accept();
}

#[test]
fn a_route_refresh_asks_for_a_family_that_both_carry() {
    let (mut bench, id) = Bench::established();
    let request = |afi, subtype, safi| wire::encode_route_refresh(wire::RouteRefresh { afi, subtype, safi });
    assert_eq!(
        bench.give_message(id, &request(2, 0, 1)),
        vec![Action::Refresh(id, Family::Ipv6Unicast)]
    );
    assert_eq!(bench.give_message(id, &request(25, 0, 70)), vec![]);
    assert_eq!(bench.machine.state(), State::Established);
}
