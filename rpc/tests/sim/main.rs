//! Fate and keys under virtual time: whatever crashes, stops, breaks or is sent twice, no charge is lost and none doubled.
//!
//! `STEER_RPC_SIM_SEEDS=10000 cargo test -p steer-rpc --test sim` runs as many seeds as it says; `cargo xtask sim --rpc` does the
//! same optimised, and with faults put into the code.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod world;

use world::{Tally, World};

const SEEDS: u64 = 300;

#[test]
fn no_acknowledged_charge_is_lost_and_no_key_is_done_twice() {
    let seeds = std::env::var("STEER_RPC_SIM_SEEDS").map_or(SEEDS, |seeds| seeds.parse().unwrap());
    let mut tally = Tally::default();
    for seed in 0..seeds {
        match World::with_seed(seed).run() {
            Ok(of_seed) => tally.add(of_seed),
            Err(story) => panic!("{story}\nseed {seed}"),
        }
    }
    println!("{seeds} seeds: {tally}: 0 lost, 0 double");
    assert!(
        tally.again > 0 && tally.ambiguous > 0,
        "the faults are hard enough to be seen"
    );
    assert!(tally.acked < tally.keyed, "some were given up");
}

#[test]
fn a_seed_is_the_same_each_time() {
    for seed in 0..5 {
        let runs = [(); 2].map(|()| World::with_seed(seed).run().unwrap());
        assert_eq!(runs[0], runs[1], "seed {seed}");
    }
}
