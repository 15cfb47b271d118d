//! The battery of the sinks of the outbox: one contract, on a real PostgreSQL, a real nats-server and a real HTTP server.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
mod contract;
mod crash;
mod inbox;
mod nats;
#[expect(dead_code, reason = "other tests crash and restart it")]
#[path = "../support/postgres.rs"]
mod postgres;
mod webhook;
