//! Totals, the limit and the sample against what a peer really holds.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;
use crate::wire::{Path, Reach, Segment, SegmentKind};

fn prefix(number: u32) -> Prefix {
    let v4 = std::net::Ipv4Addr::from_bits(0x0a00_0000 + ((number / 2) << 8));
    let v6 = std::net::Ipv6Addr::from_bits((0x2001_0db8 << 96) + (u128::from(number / 2) << 80));
    match number % 2 {
        0 => Prefix::new(v4.into(), 24).unwrap(),
        _ => Prefix::new(v6.into(), 48).unwrap(),
    }
}

fn update(withdrawn: &[u32], announced: &[u32], asn: u32) -> Update {
    let next_hop: IpAddr = "192.0.2.1".parse().unwrap();
    let path = Path {
        as_path: vec![Segment {
            kind: SegmentKind::Sequence,
            asns: vec![asn; 100],
        }],
        ..Path::default()
    };
    Update {
        withdrawn: withdrawn.iter().copied().map(prefix).collect(),
        reachable: vec![Reach {
            next_hop: next_hop.into(),
            prefixes: announced.iter().copied().map(prefix).collect(),
        }],
        path: Some(path),
        ..Update::default()
    }
}

fn inbound(limit: Option<u32>, places: u32) -> Inbound {
    Inbound::new(limit, Arc::new(Mutex::new(Sample::new(places, 1))))
}

#[test]
fn without_limit_and_sample_only_totals_are_kept() {
    let mut inbound = inbound(None, 0);
    inbound.take(&update(&[], &[1, 2, 3], 1)).unwrap();
    inbound.take(&update(&[1, 9], &[2], 1)).unwrap();
    let totals = inbound.totals();
    assert_eq!((totals.announced, totals.withdrawn, totals.held), (4, 2, None));
    assert_eq!(locked(&inbound.sample).routes(), vec![]);
}

#[test]
fn the_limit_counts_prefixes_and_not_announcements() {
    let mut inbound = inbound(Some(3), 0);
    inbound.take(&update(&[], &[1, 2, 3], 1)).unwrap();
    inbound.take(&update(&[], &[1, 2, 3], 2)).unwrap();
    inbound.take(&update(&[3], &[4], 1)).unwrap();
    assert_eq!(inbound.totals().held, Some(3));
    let excess = inbound.take(&update(&[], &[4, 6], 1)).unwrap_err();
    assert_eq!((excess.family, excess.limit), (Family::Ipv4Unicast, 3));
    assert_eq!(inbound.totals().held, Some(3), "no fingerprint beyond the limit");
}

#[test]
fn a_million_prefixes_keep_no_more_than_limit_and_sample_allow() {
    let mut inbound = inbound(Some(500_000), 100);
    let mut refused = 0;
    for start in (0..1_000_000).step_by(1000) {
        let numbers: Vec<u32> = (start..start + 1000).collect();
        refused += u32::from(inbound.take(&update(&[], &numbers, 1)).is_err());
    }
    assert_eq!(inbound.totals().announced, 1_000_000);
    assert_eq!((inbound.totals().held, refused), (Some(500_000), 500));
    let limit = inbound.limit.as_ref().unwrap();
    // A table grows by doubling, so it has room for twice what it holds at most.
    assert!(limit.ipv4.capacity() + limit.ipv6.capacity() < 2 * 500_000);
    let sample = locked(&inbound.sample);
    assert_eq!((sample.routes.len(), sample.at.len()), (100, 100));
    assert!(sample.routes.iter().all(|route| route.as_path.len() == MAX_PATH));
    let late = sample.routes.iter().filter(|route| {
        let number = match route.prefix.address() {
            IpAddr::V4(address) => (address.to_bits() - 0x0a00_0000) >> 8,
            IpAddr::V6(address) => u32::try_from((address.to_bits() >> 80) & 0xffff_ffff).unwrap(),
        };
        number >= 250_000
    });
    let late = late.count();
    assert!((25..75).contains(&late), "{late} of 100 are of the second half");
}

proptest! {
    #[test]
    fn the_count_is_exact_and_the_sample_holds_what_the_peer_holds(
        updates in prop::collection::vec(
            (prop::collection::vec(0..60_u32, 0..5), prop::collection::vec(0..60_u32, 0..8), 1..5_u32), 0..60,
        ),
        places in 0..20_u32,
    ) {
        let mut inbound = inbound(Some(1000), places);
        let mut held: BTreeMap<Prefix, u32> = BTreeMap::new();
        for (withdrawn, announced, asn) in updates {
            inbound.take(&update(&withdrawn, &announced, asn)).unwrap();
            held.retain(|known, _| !withdrawn.iter().any(|number| prefix(*number) == *known));
            held.extend(announced.iter().map(|number| (prefix(*number), asn)));
            prop_assert_eq!(inbound.totals().held, Some(held.len() as u64));
            let sample = locked(&inbound.sample);
            prop_assert!(sample.routes.len() <= places as usize);
            let sampled: BTreeSet<Prefix> = sample.routes.iter().map(|route| route.prefix).collect();
            prop_assert_eq!(sampled.len(), sample.routes.len(), "each once");
            for route in &sample.routes {
                prop_assert_eq!(held.get(&route.prefix), Some(&route.as_path[0]));
            }
        }
    }
}
