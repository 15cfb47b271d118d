//! The seeds of the fuzz targets as ordinary tests, so that what once failed is tried on every run.

#[expect(clippy::expect_used, unreachable_pub, reason = "the ground of fuzz targets")]
#[path = "../../fuzz/src/dns_ground.rs"]
mod dns_ground;

#[expect(clippy::expect_used, unreachable_pub, reason = "the body of a fuzz target")]
#[path = "../../fuzz/src/dns_message.rs"]
mod dns_message;

#[expect(
    clippy::panic,
    clippy::expect_used,
    unreachable_pub,
    reason = "the body of a fuzz target"
)]
#[path = "../../fuzz/src/dns_master_file.rs"]
mod dns_master_file;

#[expect(
    clippy::panic,
    clippy::expect_used,
    unreachable_pub,
    reason = "the body of a fuzz target"
)]
#[path = "../../fuzz/src/dns_ecs.rs"]
mod dns_ecs;

#[expect(
    clippy::expect_used,
    unreachable_pub,
    reason = "shared by the tests of four crates"
)]
#[path = "../../fuzz/src/seeds.rs"]
mod seeds;

use seeds::seeds;

#[test]
fn message_seeds_pass() {
    for (name, octets) in seeds("dns_message") {
        eprintln!("{name}");
        dns_message::check(&octets);
    }
}

#[test]
fn master_file_seeds_pass() {
    for (name, octets) in seeds("dns_master_file") {
        eprintln!("{name}");
        dns_master_file::check(&octets);
    }
}

#[test]
fn client_subnet_seeds_pass() {
    for (name, octets) in seeds("dns_ecs") {
        eprintln!("{name}");
        dns_ecs::check(&octets);
    }
}
