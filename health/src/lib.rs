//! Is it up? From probes to the one truth that DNS and BGP obey.
//!
//! ```text
//! driver ──► Check (sans-IO, one per endpoint) ──► Judge (sans-IO) ──► Snapshot ──► SnapshotCell
//!  probes      rise, fall, deadlines                settle, guard       immutable     pointer swap + wake-up
//!  HTTP, TCP                                                            numbered      DNS, BGP, status read it
//! ```
//!
//! Knows no DNS and no BGP.

pub mod snapshot;

pub use snapshot::{Cause, EndpointState, Service, Snapshot, SnapshotCell, Verdict};
