//! The reconciler against a peer that only believes what it decodes.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use proptest::prelude::*;
use steer_topology::{Asn, Community, Policy, Prefix, ToPeer};

use super::announced;
use crate::reconcile::{Batch, Obstacle, Reconciler, Terms};
use crate::wanted::{Decision, Wanted};
use crate::wire::{self, Context, Families, Family, Message, NextHop, Outbound, Path, Update};

/// A route as the other end holds it.
type Route = (NextHop, Path);

/// What the other end of one session holds.
struct PeerModel {
    reconciler: Reconciler,
    routes: BTreeMap<Prefix, Route>,
    /// Asked for again and not yet here.
    again: BTreeSet<Prefix>,
    end_of_rib: Vec<Family>,
    /// Between BoRR and EoRR (RFC 7313 §4).
    framed: BTreeSet<Family>,
    /// What the reconciler was told to have changed.
    last: Wanted,
}

const PEER: &str = "192.0.2.200";

fn terms(address: &str, families: Families, internal: bool) -> Terms {
    let local: IpAddr = address.parse().unwrap();
    Terms {
        families,
        internal,
        ..Terms::basic(Asn::new(65536).unwrap(), local.into(), PEER.parse().unwrap())
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
fn expected(wanted: &Wanted, terms: &Terms) -> BTreeMap<Prefix, Route> {
    let mut routes = BTreeMap::new();
    for (prefix, decision) in wanted.prefixes.iter() {
        let family = if prefix.is_ipv4() {
            Family::Ipv4Unicast
        } else {
            Family::Ipv6Unicast
        };
        let to = decision.to.iter().find(|to| to.peer == terms.peer);
        let next_hop = decision.next_hop.map_or(terms.local, NextHop::from);
        let fits =
            next_hop.address.is_ipv4() == prefix.is_ipv4() || (prefix.is_ipv4() && terms.extended_next_hop);
        let here = decision.announce && to.is_none_or(|to| to.announce);
        if here && terms.families.contains(family) && fits {
            routes.insert(
                *prefix,
                (next_hop, path(terms, &decision.policy, to.map(|to| &to.policy))),
            );
        }
    }
    routes
}

/// The attributes: the narrowest policy wins, prepends add up, communities are united.
fn path(terms: &Terms, prefix: &Policy, to: Option<&Policy>) -> Path {
    let layers: Vec<&Policy> = to.into_iter().chain([prefix, &terms.policy]).collect();
    let prepends: Vec<u8> = layers.iter().map(|policy| policy.prepend).collect();
    let mut count: u32 = prepends.iter().map(|count| u32::from(*count)).sum();
    if terms.internal {
        count -= u32::from(prefix.prepend); // our own AS number would be a loop there
    } else {
        count += 1;
    }
    let all: BTreeSet<Community> = layers
        .iter()
        .flat_map(|policy| policy.communities.clone())
        .collect();
    let mut path = Path {
        as_path: (count > 0)
            .then(|| wire::Segment {
                kind: wire::SegmentKind::Sequence,
                asns: vec![terms.local_asn.get(); count as usize],
            })
            .into_iter()
            .collect(),
        med: layers.iter().find_map(|policy| policy.med),
        local_pref: terms
            .internal
            .then(|| layers.iter().find_map(|policy| policy.local_pref).unwrap_or(100)),
        only_to_customer: terms.only_to_customer,
        ..Path::default()
    };
    for community in all {
        match community {
            Community::Standard(value) => path.communities.push(value),
            Community::Extended(value) => path.extended_communities.push(value),
            Community::Large(value) => path.large_communities.push(value),
        }
    }
    path
}

impl PeerModel {
    fn new(terms: Terms) -> Self {
        Self {
            reconciler: Reconciler::new(terms, Arc::default()),
            routes: BTreeMap::new(),
            again: BTreeSet::new(),
            end_of_rib: Vec::new(),
            framed: BTreeSet::new(),
            last: Wanted::default(),
        }
    }

    fn decode(&self, octets: &Bytes) -> Message {
        let terms = self.reconciler.terms();
        assert!(octets.len() <= terms.outbound.max_length);
        let context = Context {
            four_octet: terms.outbound.four_octet,
            internal: terms.internal,
            extended_next_hop: terms.extended_next_hop,
            ..Context::default()
        };
        let frame = wire::take_frame(&mut BytesMut::from(octets.as_ref()), wire::EXTENDED_LENGTH)
            .unwrap()
            .unwrap();
        wire::decode(&frame, context).unwrap()
    }

    /// Tells the reconciler what has changed since the last round, and nothing more.
    fn touch(&mut self, wanted: &Wanted) {
        let keys: BTreeSet<&Prefix> = self.last.prefixes.keys().chain(wanted.prefixes.keys()).collect();
        let differs = |prefix: &&Prefix| self.last.prefixes.get(prefix) != wanted.prefixes.get(prefix);
        let changed: Vec<Prefix> = keys.into_iter().filter(differs).copied().collect();
        self.reconciler.touch(&changed);
        self.last = wanted.clone();
    }

    /// One call of the reconciler; every message is checked as it arrives.
    fn round(&mut self, wanted: &Wanted, room: usize) -> Batch {
        self.touch(wanted);
        let batch = self.reconciler.reconcile(wanted, room);
        let goal = expected(wanted, self.reconciler.terms());
        let (mut changes, mut announcing, mut filled, mut framing) = (Vec::new(), false, 0, 0);
        for octets in &batch.messages {
            let update = match self.decode(octets) {
                Message::Update(update) => *update,
                Message::RouteRefresh(mark) => {
                    framing += 1;
                    self.mark(mark);
                    continue;
                }
                other @ (Message::Open(_) | Message::Notification(_) | Message::Keepalive) => {
                    panic!("{other:?} is no UPDATE")
                }
            };
            assert!(update.faults.is_empty());
            if let Some(family) = update.end_of_rib {
                assert_eq!(self.routes, goal, "End-of-RIB before all was sent");
                self.end_of_rib.push(family);
                continue;
            }
            assert!(filled < room, "{filled} octets sent into room for {room}");
            filled += octets.len();
            assert!(
                !announcing || update.withdrawn.is_empty(),
                "withdrawal behind an announcement"
            );
            self.take(update, &goal, &mut changes, &mut announcing);
        }
        assert_eq!((&batch.changes, batch.framing), (&changes, framing));
        assert_eq!(announced(&self.reconciler), self.routes.keys().collect());
        if batch.complete {
            assert_eq!(self.routes, goal);
            assert!(self.again.is_empty() && self.framed.is_empty());
            let families: Vec<Family> = self.reconciler.terms().families.iter().collect();
            assert_eq!(self.end_of_rib, families, "End-of-RIB comes once per family");
        }
        batch
    }

    fn take(
        &mut self,
        update: Update,
        goal: &BTreeMap<Prefix, Route>,
        changes: &mut Vec<(Prefix, bool)>,
        announcing: &mut bool,
    ) {
        for prefix in update.withdrawn {
            assert!(
                self.routes.remove(&prefix).is_some(),
                "{prefix} was not announced"
            );
            assert!(!goal.contains_key(&prefix), "{prefix} is wanted");
            self.again.remove(&prefix);
            changes.push((prefix, false));
        }
        let mut path = update.path.unwrap_or_default();
        // A peer with 2-octet AS numbers that does not look at AS4_PATH reads AS_TRANS (RFC 6793 §4.2.2).
        if !self.reconciler.terms().outbound.four_octet {
            for asn in path.as_path.iter_mut().flat_map(|segment| &mut segment.asns) {
                *asn = if *asn == Asn::TRANS.get() { 65536 } else { *asn };
            }
        }
        for reach in update.reachable {
            *announcing = true;
            for prefix in reach.prefixes {
                let route = (reach.next_hop, path.clone());
                assert_eq!(goal.get(&prefix), Some(&route), "{prefix}");
                let before = self.routes.insert(prefix, route.clone());
                let again = self.again.remove(&prefix);
                assert!(again || before != Some(route), "{prefix} sent again for nothing");
                changes.push((prefix, true));
            }
        }
    }

    fn mark(&mut self, mark: wire::RouteRefresh) {
        let family = Family::from_numbers(mark.afi, mark.safi).unwrap();
        let of_family = |prefix: &&Prefix| Family::of(prefix) == family;
        assert!(
            self.end_of_rib.contains(&family),
            "RFC 7313: no mark before End-of-RIB"
        );
        match mark.subtype {
            1 => {
                self.framed.insert(family);
                self.again.extend(self.routes.keys().filter(of_family));
            }
            2 => {
                assert!(self.framed.remove(&family), "EoRR without BoRR");
                assert!(!self.again.iter().any(|prefix| of_family(&prefix)));
            }
            other => panic!("subtype {other}"),
        }
    }

    fn refresh(&mut self, family: Family) {
        self.reconciler.refresh(family);
        if self.reconciler.terms().enhanced_refresh {
            return; // what is stale is what the peer holds at the mark
        }
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
            assert!(!batch.messages.is_empty(), "a round without progress");
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
        Ok(address.parse::<IpAddr>().unwrap().into())
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
        let Message::Update(update) = peer.decode(&batch.messages[0]) else {
            panic!("no UPDATE")
        };
        let path = update.path.unwrap();
        assert_eq!(
            (path.asns().collect::<Vec<_>>(), path.local_pref),
            (asns, local_pref)
        );
    }
}

#[derive(Debug, Clone)]
enum Step {
    /// Prefix by number and its decision (`None`: no longer configured).
    Want(Vec<(u8, Option<Decision>)>),
    /// The session ends and another comes up.
    Restart(Terms),
    Refresh(Family),
    /// Everything is compared, not only what changed.
    CompareAll,
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
    let flags = any::<(bool, bool, bool, bool, bool)>();
    let policy = prop::sample::select(policies());
    (address, families, flags, policy).prop_map(|(address, families, flags, policy)| {
        let (internal, four_octet, extended_next_hop, enhanced_refresh, only_down) = flags;
        Terms {
            policy,
            extended_next_hop,
            enhanced_refresh,
            only_to_customer: (only_down && !internal).then_some(65536),
            outbound: Outbound {
                four_octet,
                ..Outbound::PLAIN
            },
            ..terms(address, families, internal)
        }
    })
}

/// A few policies that differ in everything that a policy has.
fn policies() -> Vec<Policy> {
    let large = Community::Large([65536, 1, 2]);
    let extended = Community::Extended([0, 2, 0xfb, 0xf4, 0, 0, 0, 1]);
    vec![
        Policy::default(),
        Policy {
            prepend: 3,
            med: Some(10),
            ..Policy::default()
        },
        Policy {
            local_pref: Some(200),
            communities: vec![large, Community::GRACEFUL_SHUTDOWN, Community::NO_EXPORT],
            ..Policy::default()
        },
        Policy {
            prepend: 1,
            communities: vec![Community::NO_EXPORT, extended, large],
            ..Policy::default()
        },
    ]
}

/// What one peer gets of a prefix instead.
fn any_to() -> impl Strategy<Value = Vec<ToPeer>> {
    let policy = prop::sample::select(policies());
    let peer = prop::sample::select(vec![PEER, "192.0.2.201"]);
    let to = (peer, any::<bool>(), policy).prop_map(|(peer, announce, policy)| ToPeer {
        peer: peer.parse().unwrap(),
        announce,
        policy,
    });
    prop::option::weighted(0.3, to).prop_map(|to| to.into_iter().collect())
}

fn any_decision() -> impl Strategy<Value = Decision> {
    let policy = prop::sample::select(policies()).prop_map(Arc::new);
    (any::<bool>(), 0..NEXT_HOPS.len(), policy, any_to()).prop_map(|(announce, next_hop, policy, to)| {
        Decision {
            announce,
            next_hop: NEXT_HOPS[next_hop].map(|address| address.parse().unwrap()),
            policy,
            to,
            by: 1,
        }
    })
}

fn any_step() -> impl Strategy<Value = Step> {
    let change = (0_u8..40, prop::option::of(any_decision()));
    prop_oneof![
        4 => prop::collection::vec(change, 1..30).prop_map(Step::Want),
        1 => any_terms().prop_map(Step::Restart),
        1 => prop::sample::select(Family::ALL.to_vec()).prop_map(Step::Refresh),
        4 => (0_usize..300).prop_map(Step::Round),
        1 => Just(Step::CompareAll),
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
                Step::Want(changes) => {
                    let changes = changes.into_iter().map(|(number, decision)| (numbered(number), decision));
                    wanted.prefixes.change(changes.collect());
                }
                Step::Restart(terms) => peer = PeerModel::new(terms),
                Step::Refresh(family) => peer.refresh(family),
                Step::CompareAll => peer.reconciler.touch_all(),
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
