//! Random operations at all three stores: the model in memory says what the others must answer.

use std::collections::BTreeMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steer_rpc::key::{Answer, Claim, Found, KeyStore, Terms};

use crate::bed::{Bed, ClaimOf, InFile, InMemory, InPostgres, call, message};

const TERMS: Terms = Terms {
    lease: Duration::from_secs(60),
    keep: Duration::from_secs(3600),
};

/// What one seed comes to at a store: a word per operation, and what stands at the end.
async fn run<B: Bed>(seed: u64) -> Option<Vec<String>> {
    let bed = B::new(TERMS, "random operations on keys").await?;
    let mut rng = StdRng::seed_from_u64(seed);
    let mut held: BTreeMap<usize, ClaimOf<B>> = BTreeMap::new();
    let mut words = Vec::new();
    for step in 0..60 {
        let key = rng.random_range(0..3_usize);
        let payload = ["p", "p", "q"][rng.random_range(0..3_usize)];
        let asked = call(&format!("k{key}"), payload);
        let word = match rng.random_range(0..10) {
            0..5 => match bed.store().claim(&asked).await.unwrap() {
                Found::Fresh(claim) => {
                    held.insert(key, claim);
                    "fresh".to_owned()
                }
                Found::InFlight => "in flight".to_owned(),
                Found::Answered(answer) => format!("{answer:?}"),
                Found::OtherPayload => "other payload".to_owned(),
            },
            // One writer in a file: whoever writes commits before another does.
            5..8 => match held.remove(&key) {
                Some(mut claim) => {
                    B::write(&mut claim, &format!("{step}")).await.unwrap();
                    let answer = Answer::ok(format!("answer {step}"));
                    format!(
                        "{:?}",
                        claim.commit(&answer, &[message(&format!("{step}"))]).await
                    )
                }
                None => continue,
            },
            _ => match held.remove(&key) {
                Some(mut claim) => {
                    B::write(&mut claim, "released").await.unwrap();
                    claim.release().await;
                    "released".to_owned()
                }
                None => continue,
            },
        };
        words.push(format!("{step} k{key} {payload}: {word}"));
    }
    for (_, claim) in held {
        claim.release().await;
    }
    words.push(format!("{:?} {:?}", bed.ledger().await, bed.outbox().await));
    Some(words)
}

#[tokio::test]
async fn all_stores_answer_as_the_model_does() {
    for seed in 0..15 {
        let model = run::<InMemory>(seed).await.unwrap();
        assert_eq!(run::<InFile>(seed).await.unwrap(), model, "seed {seed}, redb");
        if seed < 6
            && let Some(words) = run::<InPostgres>(seed).await
        {
            assert_eq!(words, model, "seed {seed}, PostgreSQL");
        }
    }
}
