//! The edge that runs on the anycast address: a gRPC proxy and client with delivery semantics.
//!
//! ```text
//! transport news ─► fate::Stage ─► fate::Call ─► start, cancel, finish       (sans-IO)
//!                    what happened   retry, hedge, deadline, budget
//! idempotency-key ─► key::Desk ─► claim, run, commit, answer again            (sans-IO)
//!                    key::KeyStore   memory, redb, PostgreSQL
//! ```
//!
//! - [`fate`]: what happened to a call that did not come back, and whether it may be sent again.
//! - [`edge`]: the proxy.
//! - [`client`]: the same for an application, under the clients that tonic generates.
//! - [`key`]: a call that is sent again and yet done once.
//! - [`outbox`]: what is committed with an effect, told to others.
//! - [`resume`]: streams that go on elsewhere after they were cut.
//! - [`stale`]: what lay in the socket of a service that stood still.
//!
//! Knows no DNS and no BGP.

mod attempt;
pub mod client;
pub mod edge;
pub mod fate;
pub mod key;
mod link;
pub mod outbox;
pub mod resume;
pub mod stale;
