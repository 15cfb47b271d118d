//! The seeds of the fuzz targets as ordinary tests, so that what once failed is tried on every run.

use std::fs;
use std::path::Path;

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

/// Name and octets of each seed; an empty folder would prove nothing.
fn seeds(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../fuzz/seeds")
        .join(target);
    let files = fs::read_dir(&folder)
        .expect("the folder of the seeds")
        .map(|file| file.expect("a file"));
    let seeds = files.map(|file| {
        let name = file.file_name().to_string_lossy().into_owned();
        (name, fs::read(file.path()).expect("a seed"))
    });
    let seeds: Vec<_> = seeds.collect();
    assert!(!seeds.is_empty(), "{}", folder.display());
    seeds
}

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
