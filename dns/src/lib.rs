//! The answer: which records a client gets.
//!
//! ```text
//! master files ─► Zones ──┐
//! Snapshot ───────────────┼─► Tables ─► Engine ─► Reply          Server: UDP, TCP, TLS, HTTPS, QUIC
//! Classes, Geography ─────┘  chains run  octets   octets again
//!                            per class   of a query
//! ```
//!
//! A change is compiled, not interpreted: for every steered name, family and client class the chain is run when
//! a snapshot comes, so that a query is a look-up. [`Tables::explain`] runs the same chain with notes.
//!
//! Covered: RFC 1034 and 1035, 2181 (sets, TTLs), 2308 (negative answers), 3597 (unknown types), 4343 (case),
//! 4592 (wildcards), 4892 (CHAOS), 5001 (NSID), 6604 (codes of chains), 6672 (DNAME), 6891 (EDNS), 7766 (TCP),
//! 7828 (keepalive), 7830 and 8467 (padding), 7858 (TLS), 7871 (client subnet), 7873 and 9018 (cookies), 8020,
//! 8482 (ANY), 8484 (HTTPS), 8906 (what every server must answer), 8914 (extended errors), 9250 (QUIC), 9471 (glue),
//! 9619 (one question). Where we fall short a comment says `Gap:`.
//!
//! Not covered: signing and DNSSEC answers (RFC 4035), transfers, updates, NOTIFY, TSIG.

#[cfg(test)]
mod cache_tests;
mod chaos;
mod cookie;
mod count;
mod demand;
mod engine;
mod explain;
mod filter;
#[doc(hidden)]
pub mod fuzzing;
mod holder;
mod lookup;
mod master;
#[cfg(test)]
mod protocol_tests;
mod quick;
mod records;
mod reply;
mod rrl;
mod server;
mod settings;
mod simulate;
mod siphash;
mod subnet;
mod tables;
#[cfg(test)]
mod testing;
mod wire;
mod zone;
mod zones;

pub use cookie::SecretError;
pub use demand::DemandView;
pub use engine::{Engine, seconds};
pub use explain::{
    AnswerView, CandidateView, ChainView, ClassView, Explanation, Location, Note, PartView, StepView,
};
pub use reply::{MAX_UDP_PAYLOAD, Reply, Transport};
pub use server::{Limits, Server};
pub use settings::Settings;
pub use simulate::{Asked, Sent};
pub use tables::Tables;
pub use zones::Zones;
