//! The edge between real peers, and between peers that say exactly what a test wants said.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod drain;
mod fate;
mod grpcio;
mod keys;
mod peers;
mod ruby;
mod tls;
