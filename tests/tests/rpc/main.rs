//! `steer edge` and the shop behind it, as processes: charges that are lost or done twice are found, and there are none.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod charges;
mod edge;
mod lab;
#[path = "../../../rpc/tests/support/postgres.rs"]
mod postgres;
mod processes;
mod verdict;
mod within;
