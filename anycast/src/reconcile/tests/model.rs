//! The reconciler against a peer that only believes what it decodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use steer_topology::{Asn, Prefix};

use crate::reconcile::{Batch, Obstacle, Reconciler, Terms};
use crate::wanted::{Decision, Wanted};
use crate::wire::{self, Context, Families, Family, Message, Update};

/// What the other end of one session holds.
struct PeerModel {
    reconciler: Reconciler,
    routes: BTreeMap<Prefix, IpAddr>,
    /// Asked for again and not yet here.
    again: BTreeSet<Prefix>,
    end_of_rib: Vec<Family>,
}

fn terms(address: &str, families: Families, internal: bool) -> Terms {
    Terms {
        local_asn: Asn::new(65536).unwrap(),
        local_address: address.parse().unwrap(),
        families,
        four_octet: true,
        internal,
    }
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn wanted(routes: &[(&str, Option<&str>)]) -> Wanted {
    let decide = |next_hop: &Option<&str>| Decision {
        announce: true,
        next_hop: next_hop.map(|address| address.parse().unwrap()),
        ..Decision::default()
    };
    Wanted {
        snapshot: 1,
        prefixes: routes
            .iter()
            .map(|(text, next_hop)| (prefix(text), decide(next_hop)))
            .collect(),
    }
}

/// What a session with `terms` should hold in the end, by the rules in words and not by the code under test.
fn expected(wanted: &Wanted, terms: &Terms) -> BTreeMap<Prefix, IpAddr> {
    let mut routes = BTreeMap::new();
    for (prefix, decision) in &wanted.prefixes {
        let family = if prefix.is_ipv4() {
            Family::Ipv4Unicast
        } else {
            Family::Ipv6Unicast
        };
        let next_hop = decision.next_hop.unwrap_or(terms.local_address);
        if decision.announce && terms.families.contains(family) && next_hop.is_ipv4() == prefix.is_ipv4() {
            routes.insert(*prefix, next_hop);
        }
    }
    routes
}

impl PeerModel {
    fn new(terms: Terms) -> Self {
        Self {
            reconciler: Reconciler::new(terms),
            routes: BTreeMap::new(),
            again: BTreeSet::new(),
            end_of_rib: Vec::new(),
        }
    }

    fn decode(&self, octets: &Bytes) -> Update {
        assert!(octets.len() <= wire::MAX_LENGTH);
        let terms = self.reconciler.terms();
        let context = Context {
            four_octet: terms.four_octet,
            internal: terms.internal,
        };
        let frame = wire::take_frame(&mut BytesMut::from(octets.as_ref()))
            .unwrap()
            .unwrap();
        match wire::decode(&frame, context) {
            Ok(Message::Update(update)) => *update,
            other => panic!("{other:?} is no UPDATE"),
        }
    }

    /// One call of the reconciler; every message is checked as it arrives.
    fn round(&mut self, wanted: &Wanted, room: usize) -> Batch {
        let batch = self.reconciler.reconcile(wanted, room);
        let goal = expected(wanted, self.reconciler.terms());
        let (mut changes, mut announcing, mut filled) = (Vec::new(), false, 0);
        for octets in &batch.messages {
            let update = self.decode(octets);
            assert!(update.faults.is_empty());
            if let Some(family) = update.end_of_rib {
                assert!(batch.complete, "End-of-RIB before all was sent");
                self.end_of_rib.push(family);
                continue;
            }
            assert!(filled < room, "{filled} octets sent into room for {room}");
            filled += octets.len();
            assert!(
                !announcing || update.withdrawn.is_empty(),
                "withdrawal behind an announcement"
            );
            for prefix in update.withdrawn {
                assert!(
                    self.routes.remove(&prefix).is_some(),
                    "{prefix} was not announced"
                );
                assert!(!goal.contains_key(&prefix), "{prefix} is wanted");
                self.again.remove(&prefix);
                changes.push((prefix, false));
            }
            for reach in update.reachable {
                announcing = true;
                for prefix in reach.prefixes {
                    let next_hop = reach.next_hop.address;
                    assert_eq!(goal.get(&prefix), Some(&next_hop), "{prefix}");
                    let before = self.routes.insert(prefix, next_hop);
                    let again = self.again.remove(&prefix);
                    assert!(
                        again || before != Some(next_hop),
                        "{prefix} sent again for nothing"
                    );
                    changes.push((prefix, true));
                }
            }
        }
        assert_eq!(batch.changes, changes);
        assert!(self.reconciler.announced().eq(self.routes.keys()));
        if batch.complete {
            assert_eq!(self.routes, goal);
            assert!(self.again.is_empty());
            let families: Vec<Family> = self.reconciler.terms().families.iter().collect();
            assert_eq!(self.end_of_rib, families, "End-of-RIB comes once per family");
        }
        batch
    }

    fn refresh(&mut self, family: Family) {
        self.reconciler.refresh(family);
        self.again
            .extend(self.routes.keys().filter(|prefix| Family::of(prefix) == family));
    }

    /// Rounds until nothing is left; each must bring something.
    fn settle(&mut self, wanted: &Wanted, room: usize) {
        for _ in 0..1000 {
            let batch = self.round(wanted, room);
            if batch.complete {
                return;
            }
            assert!(!batch.changes.is_empty(), "a round without progress");
        }
        panic!("not complete after 1,000 rounds");
    }
}

const V4: &str = "192.0.2.1";

#[test]
fn changed_next_hop_is_announced_again_and_nothing_else() {
    let mut peer = PeerModel::new(terms(V4, Families::ALL, false));
    peer.settle(
        &wanted(&[("198.51.100.0/24", None), ("203.0.113.0/24", None)]),
        4096,
    );
    let changed = wanted(&[("198.51.100.0/24", Some("192.0.2.9")), ("203.0.113.0/24", None)]);
    let batch = peer.round(&changed, 4096);
    assert_eq!(batch.changes, [(prefix("198.51.100.0/24"), true)]);
    assert_eq!(peer.round(&changed, 4096).messages, Vec::<Bytes>::new());
}

#[test]
fn withdrawal_goes_first_and_no_announcement_passes_it() {
    let mut peer = PeerModel::new(terms(V4, Families::IPV4, false));
    peer.settle(&wanted(&[("198.51.100.0/24", None)]), 4096);
    let other = wanted(&[("203.0.113.0/24", None)]);
    let batch = peer.round(&other, 1); // room for one message
    assert_eq!(
        (batch.changes, batch.complete),
        (vec![(prefix("198.51.100.0/24"), false)], false)
    );
    assert_eq!(peer.round(&other, 1).changes, [(prefix("203.0.113.0/24"), true)]);
}

#[test]
fn no_room_sends_nothing_and_is_not_complete() {
    let mut peer = PeerModel::new(terms(V4, Families::IPV4, false));
    let batch = peer.round(&wanted(&[("198.51.100.0/24", None)]), 0);
    assert_eq!(batch, Batch::default());
}

#[test]
fn obstacles_name_the_family_or_the_next_hop() {
    let decision = |next_hop: Option<&str>| Decision {
        announce: true,
        next_hop: next_hop.map(|address| address.parse().unwrap()),
        ..Decision::default()
    };
    let (v6, address) = (prefix("2001:db8::/32"), "2001:db8::1");
    let both = terms(V4, Families::ALL, false);
    assert_eq!(both.next_hop(&v6, &decision(None)), Err(Obstacle::NoNextHop));
    assert_eq!(both.next_hop(&v6, &decision(Some(V4))), Err(Obstacle::NoNextHop));
    assert_eq!(
        both.next_hop(&v6, &decision(Some(address))),
        Ok(address.parse().unwrap())
    );
    let v4_only = terms(V4, Families::IPV4, false);
    assert_eq!(
        v4_only.next_hop(&v6, &decision(Some(address))),
        Err(Obstacle::FamilyNotNegotiated)
    );
}

#[test]
fn route_whose_next_hop_no_longer_fits_is_withdrawn() {
    let mut peer = PeerModel::new(terms(V4, Families::ALL, false));
    peer.settle(&wanted(&[("198.51.100.0/24", None)]), 4096);
    let batch = peer.round(&wanted(&[("198.51.100.0/24", Some("2001:db8::1"))]), 4096);
    assert_eq!(batch.changes, [(prefix("198.51.100.0/24"), false)]);
}

#[test]
fn own_as_and_no_local_pref_go_to_an_external_peer_and_the_reverse_to_an_internal_one() {
    for (internal, asns, local_pref) in [(false, vec![65536], None), (true, vec![], Some(100))] {
        let mut peer = PeerModel::new(terms(V4, Families::IPV4, internal));
        let batch = peer.round(&wanted(&[("198.51.100.0/24", None)]), 4096);
        let path = peer.decode(&batch.messages[0]).path.unwrap();
        assert_eq!(
            (path.asns().collect::<Vec<_>>(), path.local_pref),
            (asns, local_pref)
        );
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Prefix by number, announced or not (`None`: no longer configured), next hop by number.
    Want(Vec<(u8, Option<bool>, usize)>),
    /// The session ends and another comes up.
    Restart(Terms),
    Refresh(Family),
    Round(usize),
}

const NEXT_HOPS: [Option<&str>; 5] = [
    None,
    Some("192.0.2.8"),
    Some("192.0.2.9"),
    Some("2001:db8::8"),
    Some("2001:db8::9"),
];

fn numbered(number: u8) -> Prefix {
    if number.is_multiple_of(2) {
        prefix(&format!("10.{number}.0.0/16"))
    } else {
        prefix(&format!("2001:db8:{number:x}::/48"))
    }
}

fn any_terms() -> impl Strategy<Value = Terms> {
    let v6_only = Families::default().with(Family::Ipv6Unicast);
    let families = prop::sample::select(vec![Families::default(), Families::IPV4, v6_only, Families::ALL]);
    let address = prop::sample::select(vec![V4, "2001:db8::1"]);
    (address, families, any::<(bool, bool)>()).prop_map(|(address, families, (internal, four_octet))| Terms {
        four_octet,
        ..terms(address, families, internal)
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let change = (0_u8..40, any::<Option<bool>>(), 0..NEXT_HOPS.len());
    prop_oneof![
        4 => prop::collection::vec(change, 1..30).prop_map(Step::Want),
        1 => any_terms().prop_map(Step::Restart),
        1 => prop::sample::select(Family::ALL.to_vec()).prop_map(Step::Refresh),
        4 => (0_usize..300).prop_map(Step::Round),
    ]
}

proptest! {
    #[test]
    fn whatever_happens_the_peer_ends_with_what_is_wanted(
        first in any_terms(),
        steps in prop::collection::vec(any_step(), 1..40),
        room in 1_usize..200,
    ) {
        let (mut peer, mut wanted) = (PeerModel::new(first), Wanted::default());
        for step in steps {
            match step {
                Step::Want(changes) => for (number, announce, next_hop) in changes {
                    let prefix = numbered(number);
                    let next_hop = NEXT_HOPS[next_hop].map(|address| address.parse().unwrap());
                    match announce {
                        Some(announce) => {
                            wanted.prefixes.insert(prefix, Decision { announce, next_hop, ..Decision::default() });
                        }
                        None => {
                            wanted.prefixes.remove(&prefix);
                        }
                    }
                },
                Step::Restart(terms) => peer = PeerModel::new(terms),
                Step::Refresh(family) => peer.refresh(family),
                Step::Round(room) => {
                    peer.round(&wanted, room);
                }
            }
        }
        peer.settle(&wanted, room);
        prop_assert!(peer.round(&wanted, room).messages.is_empty());
        peer.settle(&wanted.nothing(), room);
        prop_assert!(peer.routes.is_empty());
    }

    #[test]
    fn many_routes_fill_several_messages(count in 1_u32..4000, room in 1_usize..9000) {
        let prefixes = (0..count).map(|number| {
            let address = std::net::Ipv4Addr::from_bits(0x0a00_0000 + (number << 8));
            (Prefix::new(address.into(), 24).unwrap(), Decision { announce: true, ..Decision::default() })
        });
        let wanted = Wanted { snapshot: 1, prefixes: prefixes.collect() };
        let mut peer = PeerModel::new(terms(V4, Families::ALL, false));
        peer.settle(&wanted, room);
        peer.settle(&wanted.nothing(), room);
    }
}
