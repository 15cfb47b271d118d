//! The bodies of the fuzz targets: octets in, a panic where something that must hold does not.
//!
//! Each is one file without a fuzzer in it, so that an ordinary test can replay the seeds (`tests/seeds.rs` of
//! `anycast`, `dns`, `health` and `rpc`).

pub mod bfd_events;
pub mod bfd_packet;
pub mod bgp_events;
pub mod bgp_message;
pub mod dns_ecs;
pub mod dns_ground;
pub mod dns_master_file;
pub mod dns_message;
pub mod gossip_merge;
pub mod gossip_packet;
pub mod rate_told;
pub mod trace_parent;
