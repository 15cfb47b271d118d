//! The seeds of the fuzz targets as ordinary tests, so that what once failed is tried on every run.

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
