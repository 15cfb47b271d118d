//! The seeds of the fuzz targets as ordinary tests, so that what once failed is tried on every run.

use std::fs;
use std::path::Path;

#[expect(clippy::expect_used, unreachable_pub, reason = "the body of a fuzz target")]
#[path = "../../fuzz/src/gossip_packet.rs"]
mod gossip_packet;

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
fn gossip_packet_seeds_pass() {
    for (name, octets) in seeds("gossip_packet") {
        eprintln!("{name}");
        gossip_packet::check(&octets);
        for cut in 0..octets.len() {
            gossip_packet::check(&octets[..cut]);
        }
    }
}

#[test]
fn seeds_with_any_octet_changed_pass() {
    for (name, octets) in seeds("gossip_packet") {
        eprintln!("{name}");
        for at in 0..octets.len() {
            for value in [0, 1, 0x7f, 0xff, octets[at].wrapping_add(1)] {
                let mut changed = octets.clone();
                changed[at] = value;
                gossip_packet::check(&changed);
            }
        }
    }
}
