//! The client stack under clients that tonic generates: what an application sees of each way in which a call can be lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod breaker;
mod loss;
mod once;
mod pause;
mod peers;
mod resume;
mod stream;
mod tls;

use steer_shop::shop;
