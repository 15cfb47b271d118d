//! The edge: a proxy for gRPC and plain HTTP/2 that knows what a lost call is.
//!
//! ```text
//! client ─► server (h2, TLS) ─► proxy: fate::Call ─► balance (P2C, peak EWMA) ─► backend (pool of h2 connections)
//!           drain: GOAWAY       kept request         outliers (A50)              keepalive, TCP_USER_TIMEOUT
//! ```
//!
//! Schema-blind: frames are passed on as they come, unary and streams alike, with their trailers. What a method may be
//! done to comes from the configuration or from `idempotency_level` in a descriptor set ([`policy`]).
//!
//! Gap: HTTP/1.1 and grpc-web are not spoken. Gap: TLS to backends, and client certificates, are not there.

mod backend;
mod balance;
pub mod config;
pub(crate) mod descriptor;
pub(crate) mod goaway;
pub(crate) mod keep;
pub mod policy;
mod proxy;
pub(crate) mod pump;
pub(crate) mod reply;
mod server;

pub(crate) use backend::tune;
pub use balance::{Balance, Reading};
pub use config::{EdgeConfig, InvalidEdge};
pub use server::{Edge, Running};
