//! The seeds of the fuzz targets as ordinary tests, so that what once failed is tried on every run.

#[expect(clippy::expect_used, unreachable_pub, reason = "the body of a fuzz target")]
#[path = "../../fuzz/src/gossip_merge.rs"]
mod gossip_merge;

#[expect(clippy::expect_used, unreachable_pub, reason = "the body of a fuzz target")]
#[path = "../../fuzz/src/gossip_packet.rs"]
mod gossip_packet;

#[expect(
    clippy::expect_used,
    unreachable_pub,
    reason = "shared by the tests of four crates"
)]
#[path = "../../fuzz/src/seeds.rs"]
mod seeds;

use seeds::seeds;

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

#[test]
fn gossip_merge_seeds_pass_in_any_order() {
    for (name, octets) in seeds("gossip_merge") {
        eprintln!("{name}");
        for order in 0..32_u8 {
            let mut ordered = octets.clone();
            ordered[..8].fill(order.wrapping_mul(37));
            gossip_merge::check(&ordered);
        }
        for cut in 0..octets.len() {
            gossip_merge::check(&octets[..cut]);
        }
    }
}
