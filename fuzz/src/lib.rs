//! The bodies of the fuzz targets: octets in, a panic where something that must hold does not.
//!
//! Each is one file without a fuzzer in it, so that an ordinary test can replay the seeds (`anycast/tests/seeds.rs`).

pub mod bfd_events;
pub mod bfd_packet;
pub mod bgp_events;
pub mod bgp_message;
