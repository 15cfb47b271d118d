//! The edge between real peers, and between peers that say exactly what a test wants said.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod drain;
mod fate;
mod grpcio;
mod hostile;
mod keys;
mod meter;
mod peers;
mod rates;
mod reload;
mod ruby;
mod shed;
mod tls;
mod web;
mod window;
