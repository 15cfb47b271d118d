//! The seeds of the fuzz targets as ordinary tests, so that what once failed is tried on every run.

use std::fs;
use std::path::Path;

#[expect(
    clippy::panic,
    clippy::expect_used,
    unreachable_pub,
    reason = "the body of a fuzz target"
)]
#[path = "../../fuzz/src/bgp_message.rs"]
mod bgp_message;

#[expect(
    clippy::panic,
    clippy::expect_used,
    unreachable_pub,
    reason = "the body of a fuzz target"
)]
#[path = "../../fuzz/src/bgp_events.rs"]
mod bgp_events;

#[expect(unreachable_pub, reason = "the body of a fuzz target")]
#[path = "../../fuzz/src/bfd_packet.rs"]
mod bfd_packet;

#[expect(unreachable_pub, reason = "the body of a fuzz target")]
#[path = "../../fuzz/src/bfd_events.rs"]
mod bfd_events;

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
    for (name, octets) in seeds("bgp_message") {
        eprintln!("{name}");
        bgp_message::check(&octets);
    }
}

#[test]
fn event_seeds_pass_and_reach_sessions_and_routes() {
    let (mut sessions, mut routes) = (0, 0);
    for (name, octets) in seeds("bgp_events") {
        let reached = bgp_events::check(&octets);
        eprintln!("{name}: {reached:?}");
        sessions += reached.sessions;
        routes += reached.routes;
    }
    assert!(sessions > 0 && routes > 0, "{sessions} sessions, {routes} routes");
}

#[test]
fn bfd_packet_seeds_pass() {
    for (name, octets) in seeds("bfd_packet") {
        eprintln!("{name}");
        bfd_packet::check(&octets);
    }
}

#[test]
fn bfd_event_seeds_pass_and_reach_sessions() {
    let mut ups = 0;
    for (name, octets) in seeds("bfd_events") {
        let reached = bfd_events::check(&octets);
        eprintln!("{name}: {reached:?}");
        ups += reached.ups;
    }
    assert!(ups > 0);
}
