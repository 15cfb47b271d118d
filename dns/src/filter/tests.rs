use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::num::NonZeroU8;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use steer_topology::Sticky;

use super::*;

const MARKED: [Filter; 6] = [
    Filter::Country,
    Filter::Continent,
    Filter::Asn,
    Filter::Cidr,
    Filter::Geofence(Fence::Country),
    Filter::Geofence(Fence::Continent),
];

fn plain(n: usize) -> Candidate {
    Candidate {
        endpoint: EndpointId(n as u32),
        first: EndpointId(n as u32),
        index: n as u32,
        address: Ipv4Addr::new(192, 0, 2, n as u8).into(),
        site: Some(SiteId(n as u16)),
        weight: 1,
        tier: 0,
        serving: true,
        lost: false,
        room: Room::default(),
        seen: Seen::BLIND,
    }
}

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0_u64..4, 0_u16..3, any::<bool>(), 0_u16..3, 0_u16..3, 0_u8..64);
    let rooms = (
        proptest::option::of(1_u64..50),
        0_u64..50,
        0_u16..4,
        any::<bool>(),
    );
    prop::collection::vec((one, rooms), 0..7).prop_map(|list| {
        let candidate =
            |(n, ((weight, tier, serving, rank, trip, marks), (capacity, load, site, home)))| Candidate {
                site: Some(SiteId(site)),
                weight,
                tier,
                serving,
                room: Room::written(capacity, load),
                seen: Seen {
                    rank,
                    trip,
                    marks: Marks(marks),
                    home,
                },
                ..plain(n)
            };
        list.into_iter().enumerate().map(candidate).collect()
    })
}

fn filters() -> impl Strategy<Value = Filter> {
    let number = || (1_u8..5).prop_map(|n| NonZeroU8::new(n).unwrap());
    prop_oneof![
        Just(Filter::Up),
        Just(Filter::Nearest),
        Just(Filter::Latency),
        proptest::sample::select(MARKED.to_vec()),
        Just(Filter::Weighted),
        Just(Filter::Shuffle),
        (1_u8..=32, 1_u8..=128).prop_map(|(v4, v6)| Filter::Sticky(Sticky { v4, v6 })),
        Just(Filter::Overflow),
        Just(Filter::Failover),
        number().prop_map(Filter::Trickle),
        number().prop_map(Filter::Take),
    ]
}

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7));

fn run_seeded(chain: &[Filter], list: &[Candidate], seed: u64) -> (Vec<Candidate>, Outcome) {
    let mut list = list.to_vec();
    let mut rng = SmallRng::seed_from_u64(seed);
    let outcome = run(chain, &mut list, Some(network(CLIENT)), &mut rng, None);
    (list, outcome)
}

fn apply_to(filter: Filter, list: &[Candidate]) -> Vec<Candidate> {
    run_seeded(&[filter], list, 3).0
}

fn by(list: &[Candidate], place: impl Fn(&Candidate) -> u16) -> Vec<Candidate> {
    let at = |wanted| {
        list.iter()
            .filter(|c| place(c) == wanted)
            .copied()
            .collect::<Vec<_>>()
    };
    [0, 1, 2].map(at).concat()
}

/// The same rules in the plainest words; what is drawn has tests of its own.
fn naive(filter: Filter, list: &[Candidate]) -> Vec<Candidate> {
    let only =
        |keep: &dyn Fn(&Candidate) -> bool| list.iter().filter(|c| keep(c)).copied().collect::<Vec<_>>();
    match filter {
        Filter::Up => only(&|c| c.serving),
        Filter::Nearest => by(list, |c| c.seen.rank),
        Filter::Latency => by(list, |c| c.seen.trip),
        Filter::Country | Filter::Continent | Filter::Asn | Filter::Cidr => {
            let named = only(&|c| c.seen.marks.has(filter));
            if named.is_empty() { list.to_vec() } else { named }
        }
        Filter::Geofence(_) => only(&|c| c.seen.marks.has(filter)),
        Filter::Failover => {
            let first = (0..=2).find(|tier| list.iter().any(|c| c.tier == *tier));
            only(&|c| Some(c.tier) == first)
        }
        Filter::Take(n) => list.iter().take(n.get().into()).copied().collect(),
        Filter::Weighted | Filter::Shuffle | Filter::Sticky(_) | Filter::Overflow | Filter::Trickle(_) => {
            apply_to(filter, list)
        }
    }
}

fn sorted(list: &[Candidate]) -> Vec<EndpointId> {
    let mut ids: Vec<_> = list.iter().map(|c| c.endpoint).collect();
    ids.sort();
    ids
}

proptest! {
    #[test]
    fn a_chain_does_what_the_naive_rules_do(
        list in candidates(),
        chain in prop::collection::vec(filters().prop_filter("drawn", |f| !f.is_drawn()), 0..5),
    ) {
        let (got, outcome) = run_seeded(&chain, &list, 3);
        let mut expected = list;
        let mut refused = false;
        for filter in &chain {
            let next = naive(*filter, &expected);
            refused |= matches!(filter, Filter::Geofence(_)) && !expected.is_empty() && next.is_empty();
            expected = next;
        }
        prop_assert_eq!(got, expected);
        prop_assert_eq!(outcome == Outcome::Refused, refused);
    }

    #[test]
    fn no_filter_invents_doubles_or_empties_but_up_and_fences(list in candidates(), filter in filters()) {
        let left = apply_to(filter, &list);
        prop_assert!(left.iter().all(|c| list.contains(c)));
        let mut ids = sorted(&left);
        ids.dedup();
        prop_assert_eq!(ids.len(), left.len());
        let may_empty = matches!(filter, Filter::Up | Filter::Geofence(_));
        prop_assert!(may_empty || left.is_empty() == list.is_empty());
    }

    #[test]
    fn a_fence_is_never_left_whatever_follows_it(
        list in candidates(), before in prop::collection::vec(filters(), 0..3),
        after in prop::collection::vec(filters(), 0..3), seed in any::<u64>(),
    ) {
        let fence = Filter::Geofence(Fence::Continent);
        let chain: Vec<Filter> = before.into_iter().chain([fence]).chain(after).collect();
        let (left, _) = run_seeded(&chain, &list, seed);
        prop_assert!(left.iter().all(|c| c.seen.marks.has(fence)));
    }

    #[test]
    fn weighted_and_sticky_keep_just_those_with_weight_or_all_when_none_has(
        list in candidates(), seed in any::<u64>(), sticky in any::<bool>(),
    ) {
        let filter = if sticky { Filter::Sticky(Sticky::DEFAULT) } else { Filter::Weighted };
        let (left, _) = run_seeded(&[filter], &list, seed);
        let heavy: Vec<_> = list.iter().filter(|c| c.weight > 0).copied().collect();
        prop_assert_eq!(sorted(&left), sorted(if heavy.is_empty() { &list } else { &heavy }));
    }

    #[test]
    fn shuffle_and_overflow_keep_everything(list in candidates(), seed in any::<u64>()) {
        for filter in [Filter::Shuffle, Filter::Overflow] {
            prop_assert_eq!(sorted(&run_seeded(&[filter], &list, seed).0), sorted(&list));
        }
    }

    #[test]
    fn overflow_moves_one_site_to_the_front_and_nothing_else(list in candidates(), seed in any::<u64>()) {
        let (left, _) = run_seeded(&[Filter::Overflow], &list, seed);
        let first = left.first().map(|c| c.site);
        let expected: Vec<Candidate> = list.iter().filter(|c| Some(c.site) == first)
            .chain(list.iter().filter(|c| Some(c.site) != first)).copied().collect();
        prop_assert_eq!(left, expected);
    }

    #[test]
    fn trickle_keeps_one_of_the_two_lowest_tiers(list in candidates(), n in 1_u8..100, seed in any::<u64>()) {
        let (left, _) = run_seeded(&[Filter::Trickle(NonZeroU8::new(n).unwrap())], &list, seed);
        let tiers: Vec<u16> = (0..3).filter(|tier| list.iter().any(|c| c.tier == *tier)).take(2).collect();
        let of = |tier: &u16| list.iter().filter(|c| c.tier == *tier).copied().collect::<Vec<_>>();
        prop_assert!(list.is_empty() || tiers.iter().any(|tier| of(tier) == left));
    }

    #[test]
    fn sticky_asks_the_prefix_alone_and_moves_only_what_must_move(
        bits in any::<u32>(), host in any::<u8>(), weights in prop::collection::vec(1_u64..10, 2..8),
        gone in any::<prop::sample::Index>(), seed in any::<u64>(),
    ) {
        let list: Vec<Candidate> = weights.iter().enumerate()
            .map(|(n, weight)| Candidate { weight: *weight, ..plain(n) }).collect();
        let order = |client: u32, list: &[Candidate]| {
            let mut list = list.to_vec();
            let client = Some(network(Ipv4Addr::from_bits(client).into()));
            run(&[Filter::Sticky(Sticky::DEFAULT)], &mut list, client, &mut SmallRng::seed_from_u64(seed), None);
            list
        };
        let whole = order(bits, &list);
        prop_assert_eq!(&order(bits & !0xff | u32::from(host), &list), &whole, "the last octet plays no part");
        let reversed: Vec<Candidate> = list.iter().rev().copied().collect();
        prop_assert_eq!(&order(bits, &reversed), &whole, "the order of the file plays no part");
        let gone = list[gone.index(list.len())];
        let rest: Vec<Candidate> = list.iter().filter(|c| **c != gone).copied().collect();
        let without: Vec<Candidate> = whole.into_iter().filter(|c| *c != gone).collect();
        prop_assert_eq!(order(bits, &rest), without);
    }

    #[test]
    fn cutting_a_chain_and_going_on_later_gives_the_same(
        list in candidates(), chain in prop::collection::vec(filters(), 0..5), at in 0_usize..5,
    ) {
        let (whole, outcome) = run_seeded(&chain, &list, 3);
        let (head, tail) = chain.split_at(at.min(chain.len()));
        let mut parts = list;
        let mut rng = SmallRng::seed_from_u64(3);
        let client = Some(network(CLIENT));
        let mut ended = run(head, &mut parts, client, &mut rng, None);
        if ended == Outcome::Answer {
            ended = run(tail, &mut parts, client, &mut rng, Some(&mut Vec::new()));
        }
        prop_assert_eq!((parts, ended), (whole, outcome));
    }

    /// The whole fleet against the plainest sum: what each site gets of all clients.
    #[test]
    fn no_site_gets_more_than_its_capacity_while_the_sites_that_live_have_enough_together(
        sites in prop::collection::vec((1_u64..1000, 0_u64..1000, prop::bool::weighted(0.8)), 1..7),
    ) {
        let all: Vec<Candidate> = sites.iter().enumerate().map(|(n, (capacity, load, _))| Candidate {
            room: Room::written(Some(*capacity), *load),
            ..plain(n)
        }).collect();
        let alive: Vec<Candidate> = all.iter().zip(&sites).filter(|(_, site)| site.2).map(|(c, _)| *c).collect();
        let mut got = BTreeMap::<Option<SiteId>, f64>::new();
        for home in &all {
            let mut list = alive.clone();
            list.iter_mut().for_each(|c| c.seen.home = c.site == home.site);
            let shares = shares(&list);
            let total: u128 = shares.iter().map(|(_, share)| share).sum();
            prop_assert!(alive.is_empty() || total > 0);
            for (site, share) in shares {
                *got.entry(site).or_default() += home.room.load as f64 * share as f64 / total as f64;
            }
        }
        let load: u64 = all.iter().map(|c| c.room.load).sum();
        let capacity: u64 = alive.iter().filter_map(|c| c.room.capacity).sum();
        if load <= capacity {
            for c in &alive {
                let most = c.room.capacity.unwrap() as f64;
                prop_assert!(got.get(&c.site).copied().unwrap_or(0.0) <= most + 0.01, "{:?} {got:?}", c.site);
            }
        }
        // Who is within its capacity keeps its own clients.
        for c in alive.iter().filter(|c| c.room.load <= c.room.capacity.unwrap()) {
            let mut list = alive.clone();
            list.iter_mut().for_each(|other| other.seen.home = other.site == c.site);
            prop_assert!(shares(&list).iter().all(|(site, share)| *site == c.site || *share == 0));
        }
    }
}

fn drawn(filter: Filter, list: &[Candidate], client: impl Fn(u32) -> IpAddr) -> BTreeMap<Vec<u64>, u32> {
    let mut rng = SmallRng::seed_from_u64(11);
    let mut counts = BTreeMap::new();
    for n in 0..40_000 {
        let mut drawn = list.to_vec();
        run(&[filter], &mut drawn, Some(network(client(n))), &mut rng, None);
        *counts
            .entry(drawn.iter().map(|c| c.weight).collect())
            .or_default() += 1;
    }
    counts
}

fn check_shares(counts: BTreeMap<Vec<u64>, u32>) {
    assert_eq!(counts.len(), 6);
    for (order, count) in counts {
        let (a, b) = (order[0] as f64, order[1] as f64);
        let expected = 40_000.0 * (a / 8.0) * (b / (8.0 - a));
        assert!(
            (f64::from(count) - expected).abs() < 5.0 * expected.sqrt(),
            "{order:?}: {count}, want {expected}"
        );
    }
}

fn weights() -> Vec<Candidate> {
    let weighted = |(n, weight)| Candidate { weight, ..plain(n) };
    [1_u64, 2, 5].into_iter().enumerate().map(weighted).collect()
}

#[test]
fn every_order_is_drawn_in_proportion_to_the_weights() {
    check_shares(drawn(Filter::Weighted, &weights(), |_| CLIENT));
}

#[test]
fn sticky_gives_every_order_to_networks_in_proportion_to_the_weights() {
    let sticky = Filter::Sticky(Sticky::DEFAULT);
    check_shares(drawn(sticky, &weights(), |n| Ipv4Addr::from_bits(n << 8).into()));
    let v6 = |n: u32| Ipv6Addr::from_bits(u128::from(n) << 80).into();
    check_shares(drawn(sticky, &weights(), v6));
}

#[test]
fn shuffle_gives_every_order_alike_and_trickle_its_share() {
    for (order, count) in drawn(Filter::Shuffle, &weights(), |_| CLIENT) {
        assert!((6_200..7_150).contains(&count), "{order:?}: {count}");
    }
    let mut tiers = weights();
    tiers[1].tier = 1;
    tiers[2].tier = 2;
    let counts = drawn(Filter::Trickle(NonZeroU8::new(5).unwrap()), &tiers, |_| CLIENT);
    assert_eq!(counts.len(), 2);
    assert!((1_800..2_200).contains(&counts[&vec![2]]), "{counts:?}");
}

#[test]
fn the_hash_of_sticky_stays_the_same_over_versions() {
    let list: Vec<Candidate> = (0..4).map(plain).collect();
    let order = |client: &str| {
        let mut list = list.clone();
        let client = Some(network(client.parse().unwrap()));
        let mut rng = SmallRng::seed_from_u64(0);
        run(
            &[Filter::Sticky(Sticky::DEFAULT)],
            &mut list,
            client,
            &mut rng,
            None,
        );
        list.iter().map(|c| c.endpoint.0).collect::<Vec<_>>()
    };
    let told: Vec<_> = [
        "192.0.2.1",
        "198.51.100.1",
        "203.0.113.1",
        "2001:db8::1",
        "2001:db8:1::1",
    ]
    .map(order)
    .into();
    assert_eq!(told, GOLDEN_ORDERS);
    assert_eq!(
        order("::ffff:192.0.2.77"),
        order("192.0.2.1"),
        "it is the same client"
    );
}

const GOLDEN_ORDERS: [[u32; 4]; 5] = [
    [0, 3, 2, 1],
    [0, 3, 2, 1],
    [3, 1, 0, 2],
    [0, 1, 2, 3],
    [1, 0, 3, 2],
];

#[test]
fn an_overloaded_site_keeps_what_it_can_and_a_dead_one_is_spread_by_room() {
    let site = |n, capacity, load, home| {
        let mut one = plain(n);
        one.room = Room::written(capacity, load);
        one.seen.home = home;
        one
    };
    let percent = |list: &[Candidate]| {
        let shares = shares(list);
        let total: u128 = shares.iter().map(|(_, share)| share).sum();
        shares
            .iter()
            .map(|(_, share)| share * 1000 / total)
            .collect::<Vec<_>>()
    };
    let list = [
        site(0, Some(100), 125, true),
        site(1, Some(100), 70, false),
        site(2, Some(100), 90, false),
        site(3, Some(100), 100, false),
    ];
    assert_eq!(
        percent(&list),
        [800, 150, 50, 0].map(|n: u128| n - u128::from(n == 150 || n == 50))
    );
    assert_eq!(percent(&list[1..]), [750, 250, 0], "its own site is gone");
    let full = [site(0, Some(100), 125, true), site(1, Some(100), 100, false)];
    assert_eq!(percent(&full), [1000, 0], "nobody has room");
    let lost = [site(1, Some(300), 300, false), site(2, Some(100), 200, false)];
    assert_eq!(percent(&lost), [750, 250], "nobody has room, so by capacity");
    let endless = [site(0, Some(100), 200, true), site(1, None, 0, false)];
    assert_eq!(percent(&endless), [500, 500]);
    assert_eq!(
        percent(&[site(0, Some(1), 9, true)]),
        [1000],
        "nowhere else to go"
    );
}
