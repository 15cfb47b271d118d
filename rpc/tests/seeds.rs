//! The seeds of the fuzz targets as ordinary tests, so that what once failed is tried on every run.

#[expect(unreachable_pub, reason = "the body of a fuzz target")]
#[path = "../../fuzz/src/rate_told.rs"]
mod rate_told;

#[expect(unreachable_pub, reason = "the body of a fuzz target")]
#[path = "../../fuzz/src/trace_parent.rs"]
mod trace_parent;

#[expect(
    clippy::expect_used,
    unreachable_pub,
    reason = "shared by the tests of several crates"
)]
#[path = "../../fuzz/src/seeds.rs"]
mod seeds;

use seeds::seeds;
use steer_rpc::edge::Told;

#[test]
fn trace_parent_seeds_pass() {
    for (name, octets) in seeds("trace_parent") {
        eprintln!("{name}");
        trace_parent::check(&octets);
    }
}

#[test]
fn rate_told_seeds_pass_whole_cut_and_with_any_octet_changed() {
    let mut read = 0;
    for (name, octets) in seeds("rate_told") {
        eprintln!("{name}");
        read += usize::from(Told::decode(&octets).is_ok());
        rate_told::check(&octets);
        for at in 0..octets.len() {
            rate_told::check(&octets[..at]);
            for value in [0, 1, 0x7f, 0xff, octets[at].wrapping_add(1)] {
                let mut changed = octets.clone();
                changed[at] = value;
                rate_told::check(&changed);
            }
        }
    }
    assert!(read > 1, "seeds that are words");
}
