//! The battery of the sinks of the outbox: one contract, on a real PostgreSQL, a real nats-server, a real HTTP
//! server, a real mail server and, with the feature `kafka`, a real broker of Kafka.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod bed;
#[cfg(feature = "kafka")]
mod broker;
mod contract;
mod crash;
mod inbox;
#[cfg(feature = "kafka")]
mod kafka;
mod mail;
mod nats;
#[expect(dead_code, reason = "other tests crash and restart it")]
#[path = "../support/postgres.rs"]
mod postgres;
mod smtp;
mod spool;
mod webhook;
