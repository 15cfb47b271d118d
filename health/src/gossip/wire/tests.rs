use proptest::prelude::*;

use super::*;

fn any_site() -> impl Strategy<Value = SiteName> {
    "[a-z]{3}".prop_map(|name| SiteName::new(&name).unwrap())
}

fn any_version() -> impl Strategy<Value = Version> {
    (any::<u64>(), any::<u64>()).prop_map(|(epoch, number)| Version { epoch, number })
}

fn any_verdict() -> impl Strategy<Value = Verdict> {
    prop_oneof![Just(Verdict::Unknown), Just(Verdict::Up), Just(Verdict::Down)]
}

fn any_delta() -> impl Strategy<Value = Delta> {
    let told = (
        any::<u64>(),
        1..50_u64,
        any_verdict(),
        0..4_000_000_000_000_i64,
        any::<u32>(),
        "[a-zé ]{0,32}",
    );
    (
        any_site(),
        any::<u64>(),
        prop::collection::vec(told, 0..8),
        any::<bool>(),
    )
        .prop_map(|(origin, epoch, told, whole)| Delta {
            origin,
            epoch,
            after: 0,
            until: if whole { 50 } else { 0 },
            told: told
                .into_iter()
                .map(|(key, number, verdict, since, age_ms, reason)| Told {
                    key: Key(key),
                    observation: Observation {
                        version: Version { epoch, number },
                        verdict,
                        since: Timestamp::from_millisecond(since).unwrap(),
                        reason,
                    },
                    age_ms,
                })
                .collect(),
        })
}

fn any_item() -> impl Strategy<Value = Item> {
    prop_oneof![
        (any_site(), any_version(), any::<u32>()).prop_map(|(origin, version, age_ms)| Item::Beat(Beat {
            origin,
            version,
            age_ms
        })),
        any_delta().prop_map(Item::Delta),
        (any_site(), any_version()).prop_map(|(origin, known)| Item::Pull(Pull { origin, known })),
        any_site().prop_map(Item::More),
        Just(Item::End),
        prop::collection::vec(any::<u8>(), 0..60).prop_map(Item::Members),
    ]
}

proptest! {
    #[test]
    fn we_read_what_we_write(
        swim in prop::collection::vec(any::<u8>(), 0..300),
        items in prop::collection::vec(any_item(), 0..6),
    ) {
        let octets = encode(&swim, &items);
        let length: usize = items.iter().map(Item::length).sum();
        prop_assert_eq!(octets.len(), 2 + swim.len() + length);
        let read = decode(&octets);
        prop_assert_eq!(read, Ok((swim.as_slice(), items)));
    }

    #[test]
    fn what_is_cut_short_is_malformed_or_whole(items in prop::collection::vec(any_item(), 1..4), at in any::<prop::sample::Index>()) {
        let octets = encode(&[], &items);
        let cut = &octets[..at.index(octets.len())];
        if let Ok((swim, read)) = decode(cut) {
            let again = encode(swim, &read);
            prop_assert_eq!(again.as_slice(), cut);
        }
    }

    #[test]
    fn noise_that_is_read_is_what_we_would_write(noise in prop::collection::vec(any::<u8>(), 0..80)) {
        if let Ok((swim, read)) = decode(&noise) {
            prop_assert_eq!(encode(swim, &read), noise);
        }
    }
}

#[test]
fn an_observation_outside_what_its_delta_promises_is_malformed() {
    let delta = |after, until, number| {
        let version = Version { epoch: 1, number };
        let observation = Observation {
            version,
            verdict: Verdict::Up,
            since: Timestamp::UNIX_EPOCH,
            reason: String::new(),
        };
        let told = vec![Told {
            key: Key(1),
            observation,
            age_ms: 0,
        }];
        let origin = SiteName::new("fra").unwrap();
        decode(&encode(
            &[],
            &[Item::Delta(Delta {
                origin,
                epoch: 1,
                after,
                until,
                told,
            })],
        ))
        .map(drop)
    };
    assert_eq!(delta(3, 5, 4), Ok(()));
    assert_eq!(delta(3, 5, 5), Ok(()));
    assert_eq!(delta(3, 3, 9), Ok(()), "no promise");
    for (after, until, number) in [(3, 5, 3), (3, 5, 6), (5, 3, 4), (0, 0, 0)] {
        assert_eq!(
            delta(after, until, number),
            Err(Dropped::Malformed),
            "{after} {until} {number}"
        );
    }
}
