//! What our OPEN offers, and what it comes to with each OPEN of a peer.

use std::collections::BTreeSet;

use proptest::prelude::*;
use steer_topology::{GracefulRestart, Role, RoleName};

use super::*;
use crate::wire::{Capabilities, Demarcation, Families, LongLived, RestartCapability, RouteRefresh};

const ROLES: [RoleName; 5] = [
    RoleName::Provider,
    RoleName::RouteServer,
    RoleName::RouteServerClient,
    RoleName::Customer,
    RoleName::Peer,
];

fn with_role(name: RoleName, strict: bool) -> Config {
    Config {
        role: Some(Role { name, strict }),
        ..config(1)
    }
}

/// What comes of the two OPENs: the terms, or the NOTIFICATION.
fn meet(config: Config, open: &Open) -> Result<Negotiated, (u8, u8, Vec<u8>)> {
    let mut bench = Bench::new(config);
    let id = bench.dial();
    bench.give(Event::Connected(id));
    let mut actions = bench.give_message(id, &wire::encode_open(open));
    actions.extend(bench.give_message(id, &wire::encode_keepalive()));
    match actions.last() {
        Some(Action::Up(_, negotiated)) => Ok(negotiated.clone()),
        _ => Err(notifications(&actions).remove(0)),
    }
}

fn their(change: impl FnOnce(&mut Capabilities)) -> Open {
    let mut open = their_open();
    change(&mut open.capabilities);
    open
}

#[test]
fn roles_must_be_counterparts() {
    // RFC 9234 §4.2, table 2
    let pairs = [
        (RoleName::Provider, RoleName::Customer),
        (RoleName::Customer, RoleName::Provider),
        (RoleName::RouteServer, RoleName::RouteServerClient),
        (RoleName::RouteServerClient, RoleName::RouteServer),
        (RoleName::Peer, RoleName::Peer),
    ];
    for ours in ROLES {
        for theirs in ROLES {
            let open = their(|caps| caps.roles = vec![wire::role_number(theirs).0]);
            let got = meet(with_role(ours, true), &open);
            if pairs.contains(&(ours, theirs)) {
                assert_eq!(got.unwrap().peer_role, Some(theirs), "{ours:?} {theirs:?}");
            } else {
                assert_eq!(got, Err((2, 11, vec![])), "{ours:?} {theirs:?}");
            }
        }
    }
}

#[test]
fn a_missing_role_is_refused_by_the_strict_alone() {
    assert!(meet(with_role(RoleName::Customer, false), &their_open()).is_ok());
    let strict = meet(with_role(RoleName::Customer, true), &their_open());
    assert_eq!(strict, Err((2, 11, vec![])));
}

#[test]
fn two_roles_or_an_unknown_one_are_refused_where_we_have_one() {
    for roles in [vec![0, 4], vec![5], vec![255]] {
        let open = their(|caps| caps.roles = roles);
        let got = meet(with_role(RoleName::Customer, false), &open);
        assert_eq!(got, Err((2, 11, vec![])), "{:?}", open.capabilities.roles);
        assert!(meet(config(1), &open).is_ok(), "without a role we do not judge");
    }
}

#[test]
fn a_role_means_nothing_inside_an_as() {
    // RFC 9234 §4.1
    let config = Config {
        peer_asn: Some(config(1).local_asn),
        ..with_role(RoleName::Provider, true)
    };
    assert_eq!(config.open().capabilities.roles, Vec::<u8>::new());
    let open = Open {
        asn: config.local_asn,
        ..their_open()
    };
    let negotiated = meet(config, &open).unwrap();
    assert_eq!((negotiated.role, negotiated.only_to_customer), (None, None));
}

#[test]
fn only_to_customer_goes_with_what_is_sent_down_or_sideways() {
    // RFC 9234 §5, egress 1
    for role in ROLES {
        let down = !matches!(role, RoleName::Customer | RoleName::RouteServerClient);
        let negotiated = meet(with_role(role, false), &their_open()).unwrap();
        assert_eq!(negotiated.only_to_customer, down.then_some(64_501), "{role:?}");
    }
    assert_eq!(meet(config(1), &their_open()).unwrap().only_to_customer, None);
}

#[test]
fn a_peer_without_a_family_in_common_is_refused_with_what_it_lacks() {
    // RFC 5492 §5: the capability as an OPEN has it.
    let ipv6 = Config {
        families: Families::default().with(Family::Ipv6Unicast),
        ..config(1)
    };
    let open = their(|caps| caps.families = Some(Families::IPV4));
    assert_eq!(meet(ipv6.clone(), &open), Err((2, 7, vec![1, 4, 0, 2, 0, 1])));
    let silent = their(|caps| caps.families = None); // IPv4 alone, RFC 4760 §8
    assert_eq!(meet(ipv6, &silent), Err((2, 7, vec![1, 4, 0, 2, 0, 1])));
}

#[test]
fn a_peer_that_knows_no_capabilities_gets_an_open_without() {
    // RFC 5492 §3
    let mut bench = Bench::new(config(1));
    let id = bench.dial();
    bench.give(Event::Connected(id));
    let refusal = Notification::bare(Reason::UnsupportedParameter);
    bench.give_message(id, &wire::encode_notification(&refusal));
    let actions = bench.pass(Duration::from_secs(5));
    let Some(Action::Dial(id)) = actions.last().cloned() else {
        panic!("{actions:?}")
    };
    let actions = bench.give(Event::Connected(id));
    let [Action::SendOpen(_, open)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert_eq!(open.capabilities, Capabilities::default());
    let old = their(|caps| *caps = Capabilities::default());
    let actions = bench.establish(id, &old);
    let [Action::Up(_, negotiated)] = actions.as_slice() else {
        panic!("{actions:?}")
    };
    assert!(!negotiated.four_octet && !negotiated.route_refresh && !negotiated.extended_messages);
    assert_eq!(negotiated.families, Families::IPV4);
    assert_eq!(negotiated.outbound().max_length, MAX_LENGTH);
}

#[test]
fn long_messages_are_taken_behind_the_open_by_who_offers_them() {
    // RFC 8654 §4
    for ours in [false, true] {
        for theirs in [false, true] {
            let mut bench = Bench::new(Config {
                extended_messages: ours,
                ..config(1)
            });
            let id = bench.dial();
            bench.give(Event::Connected(id));
            assert_eq!(bench.machine.frame_limit(id), MAX_LENGTH, "an OPEN is never long");
            let actions = bench.establish(id, &their(|caps| caps.extended_messages = theirs));
            let [Action::Up(_, negotiated)] = actions.as_slice() else {
                panic!("{actions:?}")
            };
            let taken = if ours { EXTENDED_LENGTH } else { MAX_LENGTH };
            let sent = if ours && theirs {
                EXTENDED_LENGTH
            } else {
                MAX_LENGTH
            };
            assert_eq!(bench.machine.frame_limit(id), taken);
            assert_eq!(negotiated.outbound().max_length, sent);
        }
    }
}

#[test]
fn a_framed_refresh_is_told_where_it_was_agreed_on() {
    // RFC 7313 §4: other subtypes are ignored.
    for enhanced in [false, true] {
        let mut bench = Bench::new(config(1));
        let id = bench.dial();
        bench.give(Event::Connected(id));
        bench.establish(id, &their(|caps| caps.enhanced_refresh = enhanced));
        let family = Family::Ipv4Unicast;
        let mut say = |subtype| {
            let refresh = RouteRefresh {
                subtype,
                ..RouteRefresh::request(family)
            };
            bench.give_message(id, &wire::encode_route_refresh(refresh))
        };
        assert_eq!(say(0), vec![Action::Refresh(id, family)]);
        let told = |demarcation| match enhanced {
            true => vec![Action::Demarcation(id, family, demarcation)],
            false => vec![],
        };
        assert_eq!(say(1), told(Demarcation::Begin));
        assert_eq!(say(2), told(Demarcation::End));
        assert_eq!(say(3), vec![]);
        assert_eq!(bench.machine.state(), State::Established);
    }
}

#[test]
fn a_refresh_of_a_wrong_length_has_a_code_of_its_own_where_framing_was_agreed_on() {
    // RFC 7313 §5: the data is the whole message.
    for (enhanced, subtype, code) in [(true, 1, 7), (true, 2, 7), (true, 0, 1), (false, 1, 1)] {
        let mut bench = Bench::new(config(1));
        let id = bench.dial();
        bench.give(Event::Connected(id));
        bench.establish(id, &their(|caps| caps.enhanced_refresh = enhanced));
        let message = [&[0xff; 16], [0, 24, 5].as_slice(), &[0, 1, subtype, 1, 0]].concat();
        let actions = bench.give_message(id, &message);
        let want = match code {
            7 => (7, 1, message),
            _ => (1, 2, vec![0, 24]),
        };
        assert_eq!(notifications(&actions), vec![want]);
    }
}

#[test]
fn what_is_only_told_is_passed_on() {
    let restart = RestartCapability {
        restarted: true,
        restart_time: Duration::from_secs(90),
        families: Families::IPV4,
        ..RestartCapability::default()
    };
    let long = LongLived {
        family: Family::Ipv4Unicast,
        forwarding: true,
        stale_time: Duration::from_secs(86_400),
    };
    let mut open = their(|caps| {
        caps.hostname = Some("edge1.example.net".to_owned());
        caps.software = Some("BIRD 2.0.12".to_owned());
        caps.graceful_restart = Some(restart);
        caps.long_lived = vec![long];
    });
    let negotiated = meet(config(1), &open).unwrap();
    assert_eq!(negotiated.hostname.as_deref(), Some("edge1.example.net"));
    assert_eq!(negotiated.software.as_deref(), Some("BIRD 2.0.12"));
    assert_eq!(negotiated.graceful_restart, Some(restart));
    assert_eq!(negotiated.long_lived, vec![long]);
    assert!(negotiated.retained.is_empty(), "we did not ask for it");
    open.capabilities.graceful_restart = None;
    let negotiated = meet(config(1), &open).unwrap();
    assert_eq!(
        negotiated.long_lived,
        vec![],
        "RFC 9494 §4.2: nothing without graceful restart"
    );
}

fn any_config(number: u8) -> impl Strategy<Value = Config> {
    let families = prop::sample::subsequence(Family::ALL.to_vec(), 1..=2);
    let role = prop::option::of((prop::sample::select(ROLES.to_vec()), any::<bool>()));
    let graceful = prop::option::of((1_u64..=4_095, any::<bool>()));
    (families, role, graceful, any::<[bool; 3]>()).prop_map(move |(families, role, graceful, flags)| {
        let [extended_next_hop, extended_messages, restarted] = flags;
        Config {
            families: families.into_iter().collect(),
            role: role.map(|(name, strict)| Role { name, strict }),
            graceful_restart: graceful.map(|(seconds, notification)| GracefulRestart {
                restart_time: Duration::from_secs(seconds),
                notification,
            }),
            extended_next_hop,
            extended_messages,
            restarted,
            hostname: Some(format!("edge{number}")),
            ..config(number)
        }
    })
}

proptest! {
    /// Both ends of a session reach the same terms, or both know that there is no session.
    #[test]
    fn two_machines_agree_on_the_same_terms(one in any_config(1), two in any_config(2)) {
        let there = meet(one.clone(), &two.open());
        let here = meet(two.clone(), &one.open());
        let common: BTreeSet<_> = one.families.and(two.families).iter().collect();
        if let (Ok(a), Ok(b)) = (&there, &here) {
            prop_assert_eq!(a.families.iter().collect::<BTreeSet<_>>(), common);
            prop_assert_eq!((a.four_octet, a.extended_messages, a.extended_next_hop), (b.four_octet, b.extended_messages, b.extended_next_hop));
            prop_assert_eq!((a.enhanced_refresh, a.graceful_notification, a.hold_time), (b.enhanced_refresh, b.graceful_notification, b.hold_time));
            prop_assert_eq!(a.retained.is_empty(), !(one.graceful_restart.is_some() && two.graceful_restart.is_some()));
            prop_assert_eq!(a.peer_role, two.role.map(|role| role.name));
        } else if common.is_empty() {
            prop_assert!(there.is_err() && here.is_err());
        } else {
            let refused = [there.err(), here.err()].into_iter().flatten();
            for notification in refused {
                prop_assert_eq!(notification, (2, 11, vec![]));
            }
        }
    }
}
