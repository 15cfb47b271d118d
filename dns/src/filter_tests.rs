use std::net::Ipv4Addr;
use std::num::NonZeroU8;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

fn candidates() -> impl Strategy<Value = Vec<Candidate>> {
    let one = (0_u32..4, 0_u16..3, any::<bool>(), 0_u16..3);
    prop::collection::vec(one, 0..7).prop_map(|list| {
        let candidate = |(n, (weight, tier, serving, rank)): (usize, (u32, u16, bool, u16))| Candidate {
            endpoint: EndpointId(n as u32),
            address: Ipv4Addr::new(192, 0, 2, n as u8).into(),
            weight,
            tier,
            serving,
            rank,
        };
        list.into_iter().enumerate().map(candidate).collect()
    })
}

fn filters() -> impl Strategy<Value = Filter> {
    prop_oneof![
        Just(Filter::Up),
        Just(Filter::Nearest),
        Just(Filter::Weighted),
        Just(Filter::Failover),
        (1_u8..5).prop_map(|n| Filter::Take(NonZeroU8::new(n).unwrap())),
    ]
}

fn apply_to(filter: Filter, list: &[Candidate]) -> Vec<Candidate> {
    let mut list = list.to_vec();
    run(&[filter], &mut list, &mut SmallRng::seed_from_u64(3), None);
    list
}

/// The same rules in the plainest words; `weighted` is left to its own tests.
fn naive(filter: Filter, list: &[Candidate]) -> Vec<Candidate> {
    match filter {
        Filter::Up => list.iter().filter(|c| c.serving).copied().collect(),
        Filter::Nearest => (0..=2)
            .flat_map(|rank| list.iter().filter(move |c| c.rank == rank))
            .copied()
            .collect(),
        Filter::Failover => {
            let first = (0..=2).find(|tier| list.iter().any(|c| c.tier == *tier));
            list.iter().filter(|c| Some(c.tier) == first).copied().collect()
        }
        Filter::Take(n) => list.iter().take(n.get().into()).copied().collect(),
        Filter::Weighted => apply_to(filter, list),
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
        chain in prop::collection::vec(filters().prop_filter("drawn", |f| *f != Filter::Weighted), 0..5),
    ) {
        let mut got = list.clone();
        run(&chain, &mut got, &mut SmallRng::seed_from_u64(3), None);
        let expected = chain.iter().fold(list, |list, filter| naive(*filter, &list));
        prop_assert_eq!(got, expected);
    }

    #[test]
    fn no_filter_invents_doubles_or_empties_but_up(list in candidates(), filter in filters()) {
        let left = apply_to(filter, &list);
        prop_assert!(left.iter().all(|c| list.contains(c)));
        let mut ids = sorted(&left);
        ids.dedup();
        prop_assert_eq!(ids.len(), left.len());
        prop_assert!(filter == Filter::Up || left.is_empty() == list.is_empty());
    }

    #[test]
    fn weighted_keeps_just_those_with_weight_or_all_when_none_has(list in candidates(), seed in any::<u64>()) {
        let mut left = list.clone();
        run(&[Filter::Weighted], &mut left, &mut SmallRng::seed_from_u64(seed), None);
        let heavy: Vec<_> = list.iter().filter(|c| c.weight > 0).copied().collect();
        prop_assert_eq!(sorted(&left), sorted(if heavy.is_empty() { &list } else { &heavy }));
    }

    #[test]
    fn cutting_a_chain_and_going_on_later_gives_the_same(
        list in candidates(), chain in prop::collection::vec(filters(), 0..5), at in 0_usize..5,
    ) {
        let whole = {
            let mut list = list.clone();
            run(&chain, &mut list, &mut SmallRng::seed_from_u64(3), None);
            list
        };
        let (head, tail) = chain.split_at(at.min(chain.len()));
        let mut parts = list;
        let mut rng = SmallRng::seed_from_u64(3);
        run(head, &mut parts, &mut rng, None);
        run(tail, &mut parts, &mut rng, Some(&mut Vec::new()));
        prop_assert_eq!(parts, whole);
    }
}

#[test]
fn every_order_is_drawn_in_proportion_to_the_weights() {
    let list: Vec<Candidate> = [1_u32, 2, 5]
        .into_iter()
        .enumerate()
        .map(|(n, weight)| Candidate {
            endpoint: EndpointId(n as u32),
            address: Ipv4Addr::LOCALHOST.into(),
            weight,
            tier: 0,
            serving: true,
            rank: 0,
        })
        .collect();
    let mut rng = SmallRng::seed_from_u64(11);
    let mut counts = std::collections::BTreeMap::<Vec<u32>, u32>::new();
    for _ in 0..40_000 {
        let mut drawn = list.clone();
        run(&[Filter::Weighted], &mut drawn, &mut rng, None);
        *counts
            .entry(drawn.iter().map(|c| c.weight).collect())
            .or_default() += 1;
    }
    for (order, count) in counts {
        let (a, b) = (f64::from(order[0]), f64::from(order[1]));
        let expected = 40_000.0 * (a / 8.0) * (b / (8.0 - a));
        assert!(
            (f64::from(count) - expected).abs() < 5.0 * expected.sqrt(),
            "{order:?}: {count}, want {expected}"
        );
    }
}
