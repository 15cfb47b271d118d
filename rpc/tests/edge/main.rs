//! The edge between real peers, and between peers that say exactly what a test wants said.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod collector;
mod drain;
mod fate;
mod fleet;
mod grpcio;
mod hostile;
mod keys;
mod meter;
mod peers;
mod rates;
mod reflection;
mod reload;
mod ruby;
mod shed;
mod tls;
mod traces;
mod web;
mod window;
