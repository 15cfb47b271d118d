//! Is it up? From probes to the one truth that DNS and BGP obey.
//!
//! ```text
//! driver ──► Check (sans-IO, one per endpoint) ──► Judge (sans-IO) ──► Snapshot ──► SnapshotCell
//!  probes      rise, fall, deadlines                settle, guard       immutable     pointer swap + wake-up
//!  HTTP, TCP                                                            numbered      DNS, BGP, status read it
//! ```
//!
//! Knows no DNS and no BGP.

mod check;
mod driver;
pub mod guard;
mod judge;
pub mod outcome;
mod probe;
pub mod snapshot;
#[cfg(test)]
mod testing;
mod units;

pub use check::{Attempt, Check, INTERVAL_MIN, Output, Rules};
pub use driver::{IN_FLIGHT_MAX, run};
pub use guard::Guard;
pub use judge::{Change, Judge, SPREAD_MAX};
pub use outcome::{Answer, Failure, Outcome, Void};
pub use probe::{HttpUnavailable, http_client};
pub use snapshot::{Cause, EndpointState, Service, Snapshot, SnapshotCell, Verdict};
