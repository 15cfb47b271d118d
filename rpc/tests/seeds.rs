//! The seeds of the fuzz targets as ordinary tests, so that what once failed is tried on every run.

#[expect(unreachable_pub, reason = "the body of a fuzz target")]
#[path = "../../fuzz/src/trace_parent.rs"]
mod trace_parent;

#[expect(
    clippy::expect_used,
    unreachable_pub,
    reason = "shared by the tests of four crates"
)]
#[path = "../../fuzz/src/seeds.rs"]
mod seeds;

use seeds::seeds;

#[test]
fn trace_parent_seeds_pass() {
    for (name, octets) in seeds("trace_parent") {
        eprintln!("{name}");
        trace_parent::check(&octets);
    }
}
