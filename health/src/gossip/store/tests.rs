use proptest::prelude::*;

use super::origin::{Held, Known};
use super::*;

fn site(name: &str) -> SiteName {
    SiteName::new(name).unwrap()
}

/// What a packet may bring: few origins, keys and numbers, so that many collide.
#[derive(Debug, Clone)]
enum Packet {
    Delta(Delta),
    Beat(Beat),
}

fn any_packet() -> impl Strategy<Value = Packet> {
    let origin = || prop_oneof![Just(site("fra")), Just(site("nrt"))];
    let told = |epoch: u64, after: u64, until: u64| {
        let number = if until > after { after + 1..=until } else { 1..=6 };
        let verdict = prop_oneof![Just(Verdict::Up), Just(Verdict::Down), Just(Verdict::Unknown)];
        (0..3_u64, number, verdict, 0..15_000_u32).prop_map(move |(key, number, verdict, age_ms)| Told {
            key: Key(key),
            observation: Observation {
                version: Version { epoch, number },
                verdict,
                since: Timestamp::UNIX_EPOCH,
                reason: String::new(),
            },
            age_ms,
        })
    };
    let delta =
        (origin(), 1..4_u64, 0..6_u64, 0..4_u64).prop_flat_map(move |(origin, epoch, after, more)| {
            let until = after + more;
            prop::collection::vec(told(epoch, after, until), 0..4).prop_map(move |told| {
                Packet::Delta(Delta {
                    origin,
                    epoch,
                    after,
                    until,
                    told,
                })
            })
        });
    let beat = (origin(), 1..4_u64, 0..9_u64, 0..15_000_u32).prop_map(|(origin, epoch, number, age_ms)| {
        Packet::Beat(Beat {
            origin,
            version: Version { epoch, number },
            age_ms,
        })
    });
    prop_oneof![3 => delta, 1 => beat]
}

fn store(packets: &[&Packet], now: Instant) -> Store {
    let mut store = Store::new(site("jfk"), 1);
    for packet in packets {
        match packet {
            Packet::Delta(delta) => drop(store.merge(delta, now)),
            Packet::Beat(beat) => drop(store.on_beat(beat, now)),
        }
    }
    store
}

/// All that a store knows for good: the words, by whom and how fresh, and which changes are known.
type Picture = Vec<(SiteName, u64, Known, Option<u64>, Vec<(Key, Held)>)>;

fn picture(store: &Store, start: Instant) -> Picture {
    let origin = |(name, origin): (&SiteName, &Origin)| {
        let mut held: Vec<_> = origin
            .held
            .iter()
            .map(|(key, held)| (*key, held.clone()))
            .collect();
        // How fresh the words of an earlier start are depends on the beats that came while it was the newest.
        for (_, held) in &mut held {
            if held.observation.version.epoch < origin.epoch {
                held.heard = start;
            }
        }
        held.sort_by_key(|(key, _)| *key);
        let beat = origin.beat.map(|(number, _)| number);
        (*name, origin.epoch, origin.known.clone(), beat, held)
    };
    store.origins.iter().map(origin).collect()
}

proptest! {
    /// Commutative and associative: any order is as good; idempotent: twice is once.
    #[test]
    fn packets_in_any_order_and_twice_come_to_the_same(
        (packets, shuffled) in prop::collection::vec(any_packet(), 0..12)
            .prop_flat_map(|packets| {
                let again: Vec<_> = packets.iter().chain(&packets).cloned().collect();
                (Just(packets), Just(again).prop_shuffle())
            }),
    ) {
        let now = Instant::now() + Duration::from_secs(100);
        let once: Vec<_> = packets.iter().collect();
        let twice: Vec<_> = shuffled.iter().collect();
        prop_assert_eq!(picture(&store(&once, now), now), picture(&store(&twice, now), now));
    }

    #[test]
    fn the_highest_version_wins(packets in prop::collection::vec(any_packet(), 0..20)) {
        let now = Instant::now() + Duration::from_secs(100);
        let packets: Vec<_> = packets.iter().collect();
        let store = store(&packets, now);
        for origin in [site("fra"), site("nrt")] {
            for key in (0..3).map(Key) {
                let of_origin = |packet: &&Packet| match packet {
                    Packet::Delta(delta) if delta.origin == origin => delta.told.clone(),
                    Packet::Delta(_) | Packet::Beat(_) => Vec::new(),
                };
                let told = packets.iter().flat_map(of_origin).filter(|told| told.key == key);
                let best = told.map(|told| told.observation).max();
                let word = store.word(origin, key, now).map(|word| word.observation.clone());
                prop_assert_eq!(word, best);
            }
        }
    }

    #[test]
    fn neither_versions_nor_expiry_ever_go_back(
        packets in prop::collection::vec((any_packet(), 0..4_000_u64), 0..20),
    ) {
        let mut now = Instant::now() + Duration::from_secs(100);
        let mut store = Store::new(site("jfk"), 1);
        let mut before: BTreeMap<(SiteName, Key), (Version, Instant)> = BTreeMap::new();
        for (packet, later_ms) in &packets {
            now += Duration::from_millis(*later_ms);
            match packet {
                Packet::Delta(delta) => drop(store.merge(delta, now)),
                Packet::Beat(beat) => drop(store.on_beat(beat, now)),
            }
            for (name, origin) in &store.origins {
                for (key, held) in &origin.held {
                    let current = (held.observation.version, origin.stood_by(held));
                    if let Some((version, stood_by)) = before.insert((*name, *key), current) {
                        prop_assert!(current.0 >= version, "{current:?} after {version:?}");
                        prop_assert!(current.0 > version || current.1 >= stood_by, "{packet:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_full_exchange_makes_two_stores_say_the_same(
        ours in prop::collection::vec((0..40_u64, any::<bool>()), 1..60),
        room in 200..2_000_usize,
    ) {
        let now = Instant::now() + Duration::from_secs(100);
        let mut origin = Store::new(site("fra"), 5);
        for (key, is_up) in ours {
            let verdict = if is_up { Verdict::Up } else { Verdict::Down };
            origin.observe(Key(key), verdict, "refused", Timestamp::UNIX_EPOCH, now);
        }
        let mut other = Store::new(site("nrt"), 5);
        prop_assert!(other.on_beat(&origin.beat(site("fra"), now).unwrap(), now));
        let missing: Vec<_> = other.missing().collect();
        prop_assert_eq!(missing.len(), 1);
        let parts = origin.beyond(&missing[0], room, usize::MAX, now).unwrap();
        prop_assert!(parts.iter().all(|part| super::super::wire::Item::Delta(part.clone()).length() <= room));
        parts.iter().for_each(|part| drop(other.merge(part, now)));
        prop_assert_eq!(other.missing().count(), 0);
        for key in (0..40).map(Key) {
            prop_assert_eq!(origin.word(site("fra"), key, now), other.word(site("fra"), key, now));
        }
        prop_assert!(other.origins[&site("fra")].confirmed.is_some());
    }
}

fn said(store: &Store, key: u64, now: Instant) -> Option<(Verdict, bool)> {
    let word = store.word(site("fra"), Key(key), now)?;
    Some((word.observation.verdict, word.expired))
}

#[test]
fn a_beat_renews_what_it_speaks_of_only_when_all_of_it_is_known() {
    let start = Instant::now() + Duration::from_secs(100);
    let later = |seconds| start + Duration::from_secs(seconds);
    let mut origin = Store::new(site("fra"), 5);
    let mut other = Store::new(site("nrt"), 5);
    origin.observe(Key(1), Verdict::Up, "", Timestamp::UNIX_EPOCH, start);
    other.merge(&origin.told(site("fra"), Key(1), start).unwrap(), start);
    // The change to down is lost; the beat that speaks of it must not renew the old word.
    origin.observe(Key(1), Verdict::Down, "refused", Timestamp::UNIX_EPOCH, later(1));
    assert!(other.on_beat(&origin.beat(site("fra"), later(10)).unwrap(), later(10)));
    assert_eq!(said(&other, 1, later(19)), Some((Verdict::Up, false)));
    assert_eq!(
        said(&other, 1, later(20)),
        Some((Verdict::Up, true)),
        "20 s after it was said"
    );
    let pull = other.missing().next().unwrap();
    for part in origin.beyond(&pull, 1000, 9, later(21)).unwrap() {
        other.merge(&part, later(21));
    }
    assert_eq!(said(&other, 1, later(40)), Some((Verdict::Down, false)));
    assert_eq!(said(&other, 1, later(41)), Some((Verdict::Down, true)));
}

#[test]
fn a_word_does_not_grow_younger_by_being_passed_on() {
    let start = Instant::now() + Duration::from_secs(100);
    let later = |seconds| start + Duration::from_secs(seconds);
    let mut origin = Store::new(site("fra"), 5);
    origin.observe(Key(1), Verdict::Up, "", Timestamp::UNIX_EPOCH, start);
    let mut hops = [
        Store::new(site("aaa"), 1),
        Store::new(site("bbb"), 1),
        Store::new(site("ccc"), 1),
    ];
    hops[0].merge(&origin.told(site("fra"), Key(1), start).unwrap(), start);
    for hop in 1..3 {
        let told = hops[hop - 1]
            .told(site("fra"), Key(1), later(hop as u64 * 6))
            .unwrap();
        hops[hop].merge(&told, later(hop as u64 * 6));
    }
    assert_eq!(said(&hops[2], 1, later(19)), Some((Verdict::Up, false)));
    assert_eq!(said(&hops[2], 1, later(20)), Some((Verdict::Up, true)));
}

#[test]
fn our_own_word_is_ours_alone_to_say() {
    let now = Instant::now();
    let mut store = Store::new(site("fra"), 5);
    assert!(store.observe(Key(1), Verdict::Up, "fine", Timestamp::UNIX_EPOCH, now));
    assert!(
        !store.observe(Key(1), Verdict::Up, "fine", Timestamp::UNIX_EPOCH, now),
        "said before"
    );
    let mut delta = store.told(site("fra"), Key(1), now).unwrap();
    delta.told[0].observation.verdict = Verdict::Down;
    store.merge(&delta, now);
    assert_eq!(said(&store, 1, now), Some((Verdict::Up, false)));
    // Somebody knows a later start of ours: we begin after it and say everything anew.
    delta.epoch = 9;
    delta.told[0].observation.version = Version { epoch: 9, number: 1 };
    store.merge(&delta, now);
    assert_eq!(store.own_version(), Version { epoch: 10, number: 1 });
    assert_eq!(said(&store, 1, now), Some((Verdict::Up, false)));
}

#[test]
fn numbers_at_the_end_of_their_range_panic_nobody() {
    let now = Instant::now();
    let mut store = Store::new(site("jfk"), 1);
    let end = Version {
        epoch: u64::MAX,
        number: u64::MAX,
    };
    for origin in [site("fra"), site("jfk")] {
        store.on_beat(
            &Beat {
                origin,
                version: end,
                age_ms: u32::MAX,
            },
            now,
        );
        for (after, until) in [(u64::MAX - 1, u64::MAX), (0, u64::MAX), (u64::MAX, u64::MAX)] {
            let observation = Observation {
                version: end,
                verdict: Verdict::Up,
                since: Timestamp::MAX,
                reason: String::new(),
            };
            let told = vec![Told {
                key: Key(u64::MAX),
                observation,
                age_ms: u32::MAX,
            }];
            store.merge(
                &Delta {
                    origin,
                    epoch: u64::MAX,
                    after,
                    until,
                    told,
                },
                now,
            );
        }
        store.observe(Key(1), Verdict::Up, "", Timestamp::MIN, now);
        let _ = store.missing().count() + store.known().count();
        for number in [0, u64::MAX - 1, u64::MAX] {
            let pull = Pull {
                origin,
                known: Version {
                    epoch: u64::MAX,
                    number,
                },
            };
            let _ = store.beyond(&pull, 100, 3, now);
        }
    }
}

#[test]
fn an_origin_with_too_many_endpoints_is_refused_the_rest() {
    let now = Instant::now();
    let mut origin = Store::new(site("fra"), 5);
    let mut other = Store::new(site("nrt"), 5);
    for key in 0..=KEYS_MAX as u64 {
        origin.observe(Key(key), Verdict::Up, "", Timestamp::UNIX_EPOCH, now);
    }
    assert_eq!(origin.len(), KEYS_MAX);
    let delta = |key| {
        let observation = Observation {
            version: Version {
                epoch: 5,
                number: key + 1,
            },
            verdict: Verdict::Up,
            since: Timestamp::UNIX_EPOCH,
            reason: String::new(),
        };
        let told = vec![Told {
            key: Key(key),
            observation,
            age_ms: 0,
        }];
        Delta {
            origin: site("fra"),
            epoch: 5,
            after: key,
            until: key + 1,
            told,
        }
    };
    let refused: usize = (0..KEYS_MAX as u64 + 7)
        .map(|key| other.merge(&delta(key), now).refused)
        .sum();
    assert_eq!((other.len(), refused), (KEYS_MAX, 7));
}

#[test]
fn who_stood_still_vouches_for_nothing_since_then_but_what_it_says_anew() {
    let start = Instant::now() + Duration::from_secs(100);
    let later = |seconds| start + Duration::from_secs(seconds);
    let standing = Standing::default();
    let (mut origin, mut other) = (Store::new(site("fra"), 5), Store::new(site("nrt"), 5));
    origin.set_standing(standing.clone());
    for key in [Key(1), Key(2)] {
        origin.observe(key, Verdict::Up, "", Timestamp::UNIX_EPOCH, start);
    }
    standing.renew(None, Some(later(5)));
    let tell = |origin: &Store, other: &mut Store, at| {
        for key in [Key(1), Key(2)] {
            other.merge(&origin.told(site("fra"), key, at).unwrap(), at);
        }
        other.on_beat(&origin.beat(site("fra"), at).unwrap(), at);
    };
    tell(&origin, &mut other, later(40));
    assert_eq!(
        said(&other, 1, later(40)),
        Some((Verdict::Up, true)),
        "35 s old, as it is told"
    );
    origin.observe(Key(1), Verdict::Down, "refused", Timestamp::UNIX_EPOCH, later(41));
    tell(&origin, &mut other, later(41));
    assert_eq!(said(&other, 1, later(42)), Some((Verdict::Down, false)));
    assert_eq!(said(&other, 2, later(42)), Some((Verdict::Up, true)));
    standing.renew(None, None);
    tell(&origin, &mut other, later(43));
    assert_eq!(
        said(&other, 2, later(43)),
        Some((Verdict::Up, false)),
        "seen again"
    );
}
