//! The simulated fleet in CI: a few seeds, and those in which the simulation once found a defect. `cargo xtask sim` runs
//! more.

use std::time::Duration;

use steer_tests::sim::{Run, Size};

fn run(seed: u64, minutes: u64) -> Run {
    Run {
        time: Duration::from_mins(minutes),
        ..Run::of(seed)
    }
}

#[test]
fn no_seed_breaks_a_rule() {
    for seed in [3, 10, 16] {
        match run(seed, 5).run() {
            Ok(report) => {
                let counts = report.counts;
                println!(
                    "seed {seed}: {:?}, {} probes, {} datagrams",
                    report.size, counts.probes, counts.datagrams
                );
                assert!(
                    counts.snapshots > 0 && !counts.agreed_in.is_empty(),
                    "seed {seed}: {counts:?}"
                );
            }
            Err(failed) => panic!("{failed}"),
        }
    }
}

#[test]
fn a_seed_is_one_run() {
    let digest = |seed| match run(seed, 3).run() {
        Ok(report) => report.digest,
        Err(failed) => panic!("{failed}"),
    };
    assert_eq!(digest(3), digest(3));
    assert_ne!(digest(3), digest(10));
}

/// 41: without what mended it (mutation `a-later-start-is-not-told`) it breaks the rule of agreement after 171 s. 19: who was held
/// for gone did not ask for what it had missed, and held another for gone eleven seconds after all had agreed.
#[test]
fn seeds_that_found_a_defect_find_it_no_more() {
    for (seed, minutes) in [(19, 3), (41, 3), (113, 10)] {
        if let Err(failed) = run(seed, minutes).run() {
            panic!("{failed}");
        }
    }
}

#[test]
fn a_fleet_of_the_size_that_is_asked_for_is_drawn() {
    let size = Size {
        sites: Some(30),
        endpoints: Some(90),
    };
    let report = Run {
        size,
        time: Duration::from_secs(20),
        ..Run::of(1)
    };
    assert_eq!(report.run().unwrap().size, (30, 90));
}
