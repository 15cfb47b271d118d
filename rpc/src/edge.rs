//! The edge: a proxy for gRPC and plain HTTP/2 that knows what a lost call is.
//!
//! ```text
//! client ─► server (h2, TLS) ─► proxy: fate::Call ─► balance (P2C, peak EWMA) ─► backend (pool of h2 connections, TLS)
//!           drain: GOAWAY       deadline, rate, shed  ejections, slow start       keepalive, TCP_USER_TIMEOUT
//!           bounds, pings       kept request          ORCA
//! ```
//!
//! Schema-blind: frames are passed on as they come, unary and streams alike, with their trailers. What a method may be
//! done to comes from the configuration or from `idempotency_level` in a descriptor set ([`policy`]).
//!
//! grpc-web becomes gRPC at the door ([`Origins`]). Calls are told to a collector of OTLP, where there is one.
//!
//! Gap: HTTP/1.1 is not spoken.

mod admin;
mod balance;
pub mod config;
pub(crate) mod descriptor;
pub(crate) mod keep;
mod members;
mod meter;
pub mod policy;
mod proxy;
pub(crate) mod pump;
mod rate;
mod reflection;
pub(crate) mod reply;
mod resets;
mod server;
mod shed;
mod tls;
mod trace;
pub(crate) mod web;

pub use admin::recorder;
pub use balance::{Balance, BalanceRules, InvalidLoad, LOAD_HEADER, Reading, Standing, parse_load};
pub use config::{Backends, EdgeConfig, FleetPool, InvalidEdge};
pub use members::{NoMembers, View};
pub use rate::{Alone, ClientBy, ClientId, FleetRules, InvalidTold, Mark, RateRules, Secret, Told};
pub use reflection::Reflection;
pub use server::{Edge, EdgeStatus, NotPrepared, NotReloaded, Observer, Phase, Running};
pub use shed::{ConcurrencyRules, InvalidPriority, Priority, PriorityRules};
pub use trace::{InvalidTraceParent, SpanId, TraceId, TraceParent};
pub use web::Origins;
