//! What any sites say in any packets, merged in any order, any grouping and more than once: all come to the same, and no
//! version goes back.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use steer_health::gossip::SiteName;
use steer_health::gossip::observation::{Key, Observation, Version};
use steer_health::gossip::store::Store;
use steer_health::gossip::wire::{self, Delta, Item, Pull};

/// The word of each origin on each endpoint.
type Words = BTreeMap<(SiteName, Key), Observation>;

/// Eight octets that order the rest, and items as a packet has them.
pub fn check(data: &[u8]) {
    let Some((order, items)) = data.split_first_chunk() else {
        return;
    };
    let packet = [&[0, 0], items].concat();
    let Ok((_, items)) = wire::decode(&packet) else {
        return;
    };
    let me = SiteName::new("jfk").expect("three letters");
    let of_others = |item: &Item| origin(item).is_some_and(|origin| origin != me);
    let items: Vec<_> = items.into_iter().filter(of_others).collect();
    let asked: BTreeSet<_> = items.iter().flat_map(keys).collect();
    let now = Instant::now() + Duration::from_secs(10_000);

    let mut once = Store::new(me, 1);
    let mut before = Words::new();
    let mut known = BTreeMap::new();
    for item in &items {
        merge(&mut once, item, now);
        let after = words(&once, &asked, now);
        for (of, word) in &before {
            assert!(after[of].version >= word.version, "a version went back");
        }
        before = after;
        for pull in once.known() {
            let last = known.insert(pull.origin, pull.known);
            assert!(last <= Some(pull.known), "what is known went back");
        }
    }
    let expected = words(&once, &asked, now);

    let mut shuffled: Vec<_> = items.iter().chain(&items).collect();
    shuffle(&mut shuffled, u64::from_be_bytes(*order));
    let mut twice = Store::new(me, 1);
    shuffled.iter().for_each(|item| merge(&mut twice, item, now));
    assert_eq!(words(&twice, &asked, now), expected, "commutative and idempotent");

    associative(&items, &asked, &once, now);
}

/// Two stores of a part each, one told everything by the other, hold no less than each and no more than both. An origin that
/// gives one number to two changes is broken, and a store tells of its newest start alone.
fn associative(items: &[Item], asked: &BTreeSet<(SiteName, Key)>, once: &Store, now: Instant) {
    let mut numbers = BTreeMap::new();
    for delta in items.iter().filter_map(delta) {
        for told in &delta.told {
            let of = (delta.origin, told.observation.version);
            if *numbers.entry(of).or_insert(told.key) != told.key {
                return;
            }
        }
    }
    let me = SiteName::new("jfk").expect("three letters");
    let (mut left, mut right) = (Store::new(me, 1), Store::new(me, 1));
    let (first, second) = items.split_at(items.len() / 2);
    first.iter().for_each(|item| merge(&mut left, item, now));
    second.iter().for_each(|item| merge(&mut right, item, now));
    let origins: Vec<_> = right.origins().filter(|origin| *origin != me).collect();
    for origin in origins {
        let nothing = Pull {
            origin,
            known: Version { epoch: 0, number: 0 },
        };
        let parts = right
            .beyond(&nothing, 60_000, usize::MAX, now)
            .expect("any number of parts");
        parts.iter().for_each(|part| drop(left.merge(part, now)));
    }
    let known: BTreeMap<_, _> = right.known().map(|pull| (pull.origin, pull.known)).collect();
    let all = words(once, asked, now);
    let left = words(&left, asked, now);
    for (of, word) in words(&right, asked, now) {
        // It tells of nothing beyond a gap: who lacks that asks the origin.
        let tells = known
            .get(&of.0)
            .is_some_and(|known| known.epoch == word.version.epoch && word.version.number <= known.number);
        assert!(!tells || left.get(&of) >= Some(&word), "what is told is held");
    }
    for (of, word) in &left {
        assert!(*word <= all[of], "nothing is held that nobody said");
    }
}

fn merge(store: &mut Store, item: &Item, now: Instant) {
    match item {
        Item::Beat(beat) => drop(store.on_beat(beat, now)),
        Item::Delta(delta) => drop(store.merge(delta, now)),
        Item::Pull(_) | Item::More(_) | Item::End | Item::Members(_) => {}
    }
}

fn words(store: &Store, asked: &BTreeSet<(SiteName, Key)>, now: Instant) -> Words {
    let word = |of: &(SiteName, Key)| Some((*of, store.word(of.0, of.1, now)?.observation.clone()));
    asked.iter().filter_map(word).collect()
}

fn origin(item: &Item) -> Option<SiteName> {
    match item {
        Item::Beat(beat) => Some(beat.origin),
        Item::Delta(delta) => Some(delta.origin),
        Item::Pull(_) | Item::More(_) | Item::End | Item::Members(_) => None,
    }
}

fn delta(item: &Item) -> Option<&Delta> {
    match item {
        Item::Delta(delta) => Some(delta),
        Item::Beat(_) | Item::Pull(_) | Item::More(_) | Item::End | Item::Members(_) => None,
    }
}

fn keys(item: &Item) -> Vec<(SiteName, Key)> {
    let told = |delta: &Delta| delta.told.iter().map(|told| (delta.origin, told.key)).collect();
    delta(item).map(told).unwrap_or_default()
}

/// Fisher and Yates, by xorshift.
fn shuffle<T>(items: &mut [T], order: u64) {
    let mut state = order | 1;
    for place in (1..items.len()).rev() {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        items.swap(place, (state % (place as u64 + 1)) as usize);
    }
}
