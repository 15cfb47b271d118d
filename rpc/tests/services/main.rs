//! `PaymentService` behind two edges, all of them processes that are killed and stopped: no charge is lost, none is doubled.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod charges;
#[expect(dead_code, reason = "the battery of the stores uses the rest")]
#[path = "../support/postgres.rs"]
mod postgres;
mod processes;
#[path = "../../examples/services/shop.rs"]
mod shop;
