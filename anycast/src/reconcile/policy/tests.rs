//! What a policy becomes; the model test covers all combinations.

use std::net::IpAddr;

use steer_topology::{Asn, ToPeer};

use super::*;
use crate::wire::Outbound;

fn terms() -> Terms {
    let local: IpAddr = "192.0.2.1".parse().unwrap();
    Terms::basic(
        Asn::new(64_512).unwrap(),
        local.into(),
        "192.0.2.2".parse().unwrap(),
    )
}

fn deciding(policy: Policy, to: Vec<ToPeer>) -> Decision {
    Decision {
        announce: true,
        policy: Arc::new(policy),
        to,
        ..Decision::default()
    }
}

fn path(terms: &Terms, decision: &Decision) -> Path {
    (*Paths::default().path(terms, decision).unwrap()).clone()
}

fn prepend(prepend: u8) -> Policy {
    Policy {
        prepend,
        ..Policy::default()
    }
}

fn to(policy: Policy) -> Vec<ToPeer> {
    let peer = terms().peer;
    vec![ToPeer {
        peer,
        announce: true,
        policy,
    }]
}

#[test]
fn communities_are_sorted_and_each_stands_once() {
    let policy = Policy {
        communities: vec![
            Community::NO_EXPORT,
            Community::GRACEFUL_SHUTDOWN,
            Community::Large([3, 2, 1]),
            Community::Large([1, 2, 3]),
            Community::NO_EXPORT,
        ],
        ..Policy::default()
    };
    let path = path(&terms(), &deciding(policy, vec![]));
    assert_eq!(path.communities, [0xffff_0000, 0xffff_ff01]);
    assert_eq!(path.large_communities, [[1, 2, 3], [3, 2, 1]]);
}

#[test]
fn prepends_of_all_three_places_add_up() {
    let terms = Terms {
        policy: prepend(1),
        ..terms()
    };
    let path = path(&terms, &deciding(prepend(2), to(prepend(4))));
    assert_eq!(path.asns().collect::<Vec<_>>(), [64_512; 8]);
}

#[test]
fn an_internal_peer_gets_prepends_only_where_its_own_configuration_asks() {
    let terms = Terms {
        internal: true,
        ..terms()
    };
    assert_eq!(path(&terms, &deciding(prepend(3), vec![])).asns().count(), 0);
    let asked = path(&terms, &deciding(prepend(3), to(prepend(2))));
    assert_eq!(asked.asns().collect::<Vec<_>>(), [64_512; 2]);
    assert_eq!(asked.local_pref, Some(100));
}

#[test]
fn local_pref_stays_inside() {
    let policy = Policy {
        local_pref: Some(7),
        ..Policy::default()
    };
    let decision = deciding(policy, vec![]);
    assert_eq!(path(&terms(), &decision).local_pref, None);
    let internal = Terms {
        internal: true,
        ..terms()
    };
    assert_eq!(path(&internal, &decision).local_pref, Some(7));
}

#[test]
fn a_prefix_can_be_kept_from_one_peer() {
    let mut decision = deciding(Policy::default(), to(Policy::default()));
    decision.to[0].announce = false;
    let mut paths = Paths::default();
    assert_eq!(paths.path(&terms(), &decision), Err(Obstacle::NotForThisPeer));
    let other = Terms {
        peer: "192.0.2.3".parse().unwrap(),
        ..terms()
    };
    assert!(paths.path(&other, &decision).is_ok());
}

#[test]
fn attributes_that_fill_the_message_are_an_obstacle_and_an_extended_message_takes_them() {
    let policy = Policy {
        communities: (0..1020).map(Community::Standard).collect(),
        ..Policy::default()
    };
    let decision = deciding(policy, vec![]);
    let mut paths = Paths::default();
    let refused = Err(Obstacle::TooManyAttributes);
    assert_eq!(paths.path(&terms(), &decision), refused);
    assert_eq!(paths.path(&terms(), &decision), refused, "the second time too");
    let extended = Terms {
        outbound: Outbound {
            max_length: wire::EXTENDED_LENGTH,
            ..Outbound::PLAIN
        },
        ..terms()
    };
    assert!(Paths::default().path(&extended, &decision).is_ok());
}

#[test]
fn a_policy_is_compiled_once() {
    let mut paths = Paths::default();
    let one = paths.path(&terms(), &deciding(prepend(1), vec![])).unwrap();
    let same = paths.path(&terms(), &deciding(prepend(1), vec![])).unwrap();
    assert!(Arc::ptr_eq(&one, &same));
}
