//! Any wish, any room, any lost session: what the peer holds ends as what is wanted.

mod model;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use proptest::prelude::*;
use steer_topology::Asn;

use super::*;
use crate::wanted::Decision;
use crate::wire::tests::frame;
use crate::wire::{Context, Message, Origin, Update, decode};

fn announced(reconciler: &Reconciler) -> BTreeSet<&Prefix> {
    reconciler.announced().collect()
}

fn prefix(text: &str) -> Prefix {
    text.parse().unwrap()
}

fn terms() -> Terms {
    let local: IpAddr = "192.0.2.1".parse().unwrap();
    Terms::basic(
        Asn::new(64_512).unwrap(),
        local.into(),
        "192.0.2.2".parse().unwrap(),
    )
}

fn reconciler(terms: Terms) -> Reconciler {
    Reconciler::new(terms, Arc::default())
}

fn wanting(prefixes: &[(&str, Option<&str>)]) -> Wanted {
    let decide = |next_hop: &Option<&str>| Decision {
        announce: true,
        next_hop: next_hop.map(|text| text.parse().unwrap()),
        ..Decision::default()
    };
    Wanted {
        snapshot: 1,
        prefixes: prefixes
            .iter()
            .map(|(text, next_hop)| (prefix(text), decide(next_hop)))
            .collect(),
    }
}

fn read(message: &[u8], terms: &Terms) -> Option<Update> {
    let context = Context {
        four_octet: terms.outbound.four_octet,
        internal: terms.internal,
        extended_next_hop: terms.extended_next_hop,
        ..Context::default()
    };
    match decode(&frame(message), context).unwrap() {
        Message::Update(update) => {
            assert_eq!(update.faults, vec![]);
            Some(*update)
        }
        Message::RouteRefresh(_) => None,
        other @ (Message::Open(_) | Message::Notification(_) | Message::Keepalive) => panic!("{other:?}"),
    }
}

/// What a peer holds.
#[derive(Default)]
struct Table {
    routes: BTreeMap<Prefix, IpAddr>,
    /// Announced though it was there unchanged.
    repeated: usize,
    ends_of_rib: Vec<Family>,
}

impl Table {
    fn take(&mut self, batch: &Batch, terms: &Terms) {
        let mut announced = false;
        for message in &batch.messages {
            let Some(update) = read(message, terms) else {
                continue;
            };
            assert!(
                update.withdrawn.is_empty() || !announced,
                "withdrawals come first"
            );
            for prefix in update.withdrawn {
                assert!(
                    self.routes.remove(&prefix).is_some(),
                    "{prefix} was never announced"
                );
            }
            for reach in update.reachable {
                announced = true;
                for prefix in reach.prefixes {
                    let before = self.routes.insert(prefix, reach.next_hop.address);
                    self.repeated += usize::from(before == Some(reach.next_hop.address));
                }
            }
            self.ends_of_rib.extend(update.end_of_rib);
        }
    }
}

#[test]
fn external_routes_carry_our_as_and_internal_ones_a_preference() {
    for internal in [false, true] {
        let terms = Terms { internal, ..terms() };
        let batch = reconciler(terms.clone()).reconcile(&wanting(&[("192.0.2.53/32", None)]), usize::MAX);
        let update = read(&batch.messages[0], &terms).unwrap();
        let path = update.path.unwrap();
        let want = if internal { vec![] } else { vec![64_512] };
        assert_eq!(path.asns().collect::<Vec<_>>(), want);
        assert_eq!(path.local_pref, internal.then_some(100));
        assert_eq!(path.origin, Origin::Igp);
        assert_eq!(update.reachable[0].next_hop, terms.local);
    }
}

#[test]
fn a_change_costs_what_it_changes_and_not_what_stays() {
    let texts: Vec<String> = (0..1000)
        .map(|number| format!("10.{}.{}.0/24", number / 256, number % 256))
        .collect();
    let all: Vec<_> = texts.iter().map(|text| (text.as_str(), None)).collect();
    let mut wanted = wanting(&all);
    let mut reconciler = reconciler(terms());
    reconciler.reconcile(&wanted, usize::MAX);
    let before = reconciler.looked_at();
    assert_eq!(before, 1000);
    let one = prefix("10.1.2.0/24");
    for announce in [false, true, false] {
        let decision = Decision {
            announce,
            ..wanted.prefixes.get(&one).unwrap().clone()
        };
        wanted.prefixes.change([(one, Some(decision))].into());
        reconciler.touch(&[one]);
        let batch = reconciler.reconcile(&wanted, usize::MAX);
        assert_eq!((batch.changes, batch.messages.len()), (vec![(one, announce)], 1));
    }
    assert_eq!(reconciler.looked_at() - before, 3);
    reconciler.touch_all();
    assert_eq!(
        reconciler.reconcile(&wanted, usize::MAX).messages,
        Vec::<Bytes>::new()
    );
    assert_eq!(reconciler.looked_at() - before, 3 + 1000);
}

#[test]
fn prefixes_with_the_same_next_hop_share_an_update() {
    let wanted = wanting(&[
        ("192.0.2.1/32", None),
        ("192.0.2.2/32", Some("192.0.2.1")),
        ("192.0.2.3/32", Some("192.0.2.9")),
        ("2001:db8::1/128", Some("2001:db8::9")),
    ]);
    let batch = reconciler(terms()).reconcile(&wanted, usize::MAX);
    assert_eq!(
        batch.messages.len(),
        3 + 2,
        "three groups and two End-of-RIB markers"
    );
    assert_eq!(batch.changes.len(), 4);
}

#[test]
fn what_the_session_cannot_carry_is_not_sent_and_the_obstacle_is_named() {
    let v6 = prefix("2001:db8::1/128");
    let wanted = wanting(&[("2001:db8::1/128", None)]);
    let decision = wanted.prefixes.get(&v6).unwrap().clone();
    let batch = reconciler(terms()).reconcile(&wanted, usize::MAX);
    assert_eq!(batch.changes, vec![]);
    assert_eq!(terms().next_hop(&v6, &decision), Err(Obstacle::NoNextHop));
    let narrow = Terms {
        families: Families::IPV4,
        ..terms()
    };
    assert_eq!(
        narrow.next_hop(&v6, &decision),
        Err(Obstacle::FamilyNotNegotiated)
    );
}

#[test]
fn an_end_of_rib_closes_the_first_round_and_no_other() {
    let (mut reconciler, mut table) = (Reconciler::new(terms(), Arc::default()), Table::default());
    let wanted = wanting(&[("192.0.2.1/32", None), ("192.0.2.2/32", Some("192.0.2.9"))]);
    let first = reconciler.reconcile(&wanted, 1);
    table.take(&first, &terms());
    assert!(
        !first.complete && table.ends_of_rib.is_empty(),
        "there was room for one message alone"
    );
    table.take(&reconciler.reconcile(&wanted, usize::MAX), &terms());
    assert_eq!(table.ends_of_rib, Family::ALL);
    assert_eq!(
        reconciler.reconcile(&wanted, usize::MAX),
        Batch {
            complete: true,
            ..Batch::default()
        }
    );
}

#[test]
fn a_refresh_sends_a_family_again_and_withdraws_what_is_no_longer_wanted() {
    let (mut reconciler, mut table) = (Reconciler::new(terms(), Arc::default()), Table::default());
    let both = wanting(&[("192.0.2.1/32", None), ("192.0.2.2/32", None)]);
    table.take(&reconciler.reconcile(&both, usize::MAX), &terms());
    reconciler.refresh(Family::Ipv6Unicast);
    assert_eq!(
        reconciler.reconcile(&both, usize::MAX).messages,
        Vec::<Bytes>::new()
    );
    reconciler.refresh(Family::Ipv4Unicast);
    let one = wanting(&[("192.0.2.1/32", None)]);
    reconciler.touch(&[prefix("192.0.2.2/32")]);
    table.take(&reconciler.reconcile(&one, usize::MAX), &terms());
    assert_eq!(table.repeated, 1);
    assert_eq!(
        table.routes.into_keys().collect::<Vec<_>>(),
        vec![prefix("192.0.2.1/32")]
    );
}

/// What a batch says, in order.
fn story(batch: &Batch, terms: &Terms) -> Vec<String> {
    let tell = |message: &Bytes| match decode(&frame(message), Context::default()).unwrap() {
        Message::RouteRefresh(mark) => format!("mark {}", mark.subtype),
        Message::Open(_) | Message::Update(_) | Message::Notification(_) | Message::Keepalive => {
            let update = read(message, terms).unwrap();
            let routes: usize = update.reachable.iter().map(|reach| reach.prefixes.len()).sum();
            match update.end_of_rib {
                Some(family) => format!("end of {family}"),
                None => format!("-{} +{routes}", update.withdrawn.len()),
            }
        }
    };
    batch.messages.iter().map(tell).collect()
}

#[test]
fn an_enhanced_refresh_is_framed_and_withdrawals_go_before() {
    let terms = Terms {
        enhanced_refresh: true,
        ..terms()
    };
    let mut reconciler = reconciler(terms.clone());
    let both = wanting(&[("192.0.2.1/32", None), ("192.0.2.2/32", None)]);
    // Before the first round is over, a refresh waits for End-of-RIB.
    reconciler.refresh(Family::Ipv4Unicast);
    let first = reconciler.reconcile(&both, usize::MAX);
    assert_eq!(
        story(&first, &terms),
        ["-0 +2", "end of ipv4-unicast", "end of ipv6-unicast"]
    );
    assert!(!first.complete);
    let again = reconciler.reconcile(&both, usize::MAX);
    assert_eq!(story(&again, &terms), ["mark 1", "-0 +2", "mark 2"]);
    assert_eq!((again.framing, again.complete), (2, true));
    let one = wanting(&[("192.0.2.1/32", None)]);
    reconciler.touch(&[prefix("192.0.2.2/32")]);
    reconciler.refresh(Family::Ipv4Unicast);
    let third = reconciler.reconcile(&one, usize::MAX);
    assert_eq!(story(&third, &terms), ["-1 +0", "mark 1", "-0 +1", "mark 2"]);
    reconciler.refresh(Family::Ipv6Unicast);
    let empty = reconciler.reconcile(&one, usize::MAX);
    assert_eq!(story(&empty, &terms), ["mark 1", "mark 2"]);
}

#[test]
fn end_of_rib_waits_where_it_is_held_and_routes_do_not() {
    let mut reconciler = reconciler(terms());
    reconciler.hold_end_of_rib(true);
    let wanted = wanting(&[("192.0.2.1/32", None)]);
    let held = reconciler.reconcile(&wanted, usize::MAX);
    assert_eq!(story(&held, &terms()), ["-0 +1"]);
    assert!(held.complete && !reconciler.is_synchronised());
    reconciler.hold_end_of_rib(false);
    let released = reconciler.reconcile(&wanted, usize::MAX);
    assert_eq!(
        story(&released, &terms()),
        ["end of ipv4-unicast", "end of ipv6-unicast"]
    );
    assert!(reconciler.is_synchronised());
}

const UNIVERSE: [&str; 6] = [
    "192.0.2.1/32",
    "192.0.2.2/32",
    "198.51.100.0/24",
    "2001:db8::1/128",
    "2001:db8:1::/48",
    "0.0.0.0/0",
];

const NEXT_HOPS: [Option<&str>; 4] = [None, Some("192.0.2.7"), Some("192.0.2.8"), Some("2001:db8::7")];

#[derive(Debug, Clone)]
enum Step {
    Want(Vec<Option<usize>>),
    /// One round with this much room.
    Reconcile(usize),
    Refresh(Family),
    /// The session is lost; the next one starts anew.
    Reset,
}

fn any_step() -> impl Strategy<Value = Step> {
    let wish = prop::collection::vec(prop::option::of(0..NEXT_HOPS.len()), UNIVERSE.len());
    let family = prop_oneof![Just(Family::Ipv4Unicast), Just(Family::Ipv6Unicast)];
    prop_oneof![
        4 => wish.prop_map(Step::Want),
        4 => (0..200_usize).prop_map(Step::Reconcile),
        1 => family.prop_map(Step::Refresh),
        1 => Just(Step::Reset),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_048))]

    #[test]
    fn the_peer_ends_with_exactly_what_is_wanted(steps in prop::collection::vec(any_step(), 1..60)) {
        let terms = terms();
        let mut wanted = Wanted::default();
        let (mut reconciler, mut table, mut refreshed) = (Reconciler::new(terms.clone(), Arc::default()), Table::default(), false);
        for step in steps {
            match step {
                Step::Want(wish) => {
                    let decisions = UNIVERSE.iter().zip(&wish).map(|(text, next_hop)| {
                        let next_hop = next_hop.map(|index| NEXT_HOPS[index].map(|text| text.parse().unwrap()));
                        let (announce, next_hop) = (next_hop.is_some(), next_hop.flatten());
                        (prefix(text), Decision { announce, next_hop, ..Decision::default() })
                    });
                    wanted.prefixes = decisions.collect();
                    reconciler.touch_all();
                }
                Step::Reconcile(room) => table.take(&reconciler.reconcile(&wanted, room), &terms),
                Step::Refresh(family) => {
                    reconciler.refresh(family);
                    refreshed = true;
                }
                Step::Reset => (reconciler, table) = (Reconciler::new(terms.clone(), Arc::default()), Table::default()),
            }
            // What we think we have announced is what the peer holds.
            prop_assert_eq!(announced(&reconciler), table.routes.keys().collect());
        }
        let last = reconciler.reconcile(&wanted, usize::MAX);
        table.take(&last, &terms);
        prop_assert!(last.complete);
        let model: BTreeMap<Prefix, IpAddr> = wanted.prefixes.iter().filter(|(_, decision)| decision.announce)
            .filter_map(|(prefix, decision)| {
                let next_hop = decision.next_hop.unwrap_or(terms.local.address);
                (next_hop.is_ipv4() == prefix.is_ipv4()).then_some((*prefix, next_hop))
            })
            .collect();
        prop_assert_eq!(&table.routes, &model);
        prop_assert!(refreshed || table.repeated == 0, "nothing is sent twice unasked");
        prop_assert_eq!(reconciler.reconcile(&wanted, usize::MAX).messages, Vec::<Bytes>::new());
    }
}
