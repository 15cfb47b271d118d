//! The battery of the stores of idempotency keys: one contract, three implementations.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bed;
mod contract;
mod crash;
#[path = "../support/postgres.rs"]
mod postgres;
mod random;
mod server;
