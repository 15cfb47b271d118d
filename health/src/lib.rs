//! Is it up? From probes to the one truth that DNS and BGP obey.
//!
//! ```text
//! driver ──► Checks: a Check per endpoint ──► Judge ──► Snapshot ──► SnapshotCell
//!  probes      slots, detectors, outliers      settle     immutable     pointer swap + wake-up
//!  12 kinds    (sans-IO)                       guard      numbered      DNS, BGP, status read it
//! ```
//!
//! The operator's wishes ([`Operator`], a bounded channel) come into the same loop; what stands of them is in each
//! snapshot, and a [`store`] keeps it over a restart.
//!
//! The rules in short:
//!
//! - A probe ends in success, failure, or *void*: our own lack (no file descriptor, a panic, too many in flight)
//!   says nothing of the endpoint and counts neither way.
//! - [`detect`]: `fall` failures in a row are down, and so is a share of failures that a window finds too large; `rise`
//!   successes in a row are up again; the first verdict is up after one success. Unknown is never acted upon as down.
//! - An endpoint that fails more or answers slower than its pool may be taken for an outlier and is down for a time.
//! - A held connection (`tripwire`) or a local process (`process`) that ends is no verdict, but makes the check look at once;
//!   that probe decides alone when it is refused or reset ([`Check::recheck`]).
//! - A number that an endpoint tells of itself (`load` of a pool) is no verdict either; it goes beside them into the snapshot.
//! - What was out of service seconds ago stays so over a restart until its check has spoken ([`memory`]).
//! - Nothing is published before every endpoint has a verdict, or had its time for one ([`Judge`]).
//! - What is down leaves service only as far as the [`guard`] lets it; the rest is held, with the reason.
//! - A drain ([`Judge::drain`]) stands above the verdicts and is counted by the guard like a failure; so is a verdict
//!   that an operator forces ([`Judge::force`]), which stands above the checks and below a drain.
//! - A reload keeps all of it ([`Judge::reload`]).
//! - What happened is not told where it happens, but found by comparing snapshots with what was told ([`events`]).
//! - Where the sites gossip ([`gossip`]), the verdict on an endpoint of another site is that of all sites together, and the
//!   own check is one vote; an endpoint of the own site is judged by the own check alone.
//!
//! Log events at level info, with the number of the snapshot they belong to: `verdict changed` (fields `snapshot`,
//! `endpoint`, `pool`, `site`, `from`, `verdict`, `cause`, and `at`: when the judge decided), `service changed`, then
//! `snapshot published`; `drain begins` and `drain ended` with who and why. At level warn: `guard refused`,
//! `brought back`, `drain refused`, `guard overruled`. All are written once the snapshot is out: whoever obeys does not wait for a log.
//!
//! Knows no DNS and no BGP.

mod check;
pub mod checks;
pub mod damping;
pub mod detect;
mod driver;
pub mod events;
pub mod evidence;
pub mod gossip;
pub mod guard;
mod judge;
mod load;
pub mod memory;
mod operator;
pub mod outcome;
mod probe;
mod pulse;
pub mod snapshot;
pub mod store;
#[cfg(test)]
mod testing;
mod tripwire;
mod units;

pub use check::{Attempt, Check, INTERVAL_MIN, Output, Rules};
pub use driver::{IN_FLIGHT_MAX, run};
pub use guard::Guard;
pub use judge::{Change, DrainRefused, Judge, NotDrained, NotForced, SPREAD_MAX};
pub use load::{LEASE_MAX, Load};
pub use operator::{
    Commands, Done, Drain, Force, Forced, Kept, LoadOrder, NoTarget, Operator, Order, Over, Refused, Target,
    What,
};
pub use outcome::{Answer, Failure, Outcome, Void};
pub use pulse::Pulse;
pub use snapshot::{
    Cause, Damped, EndpointState, Holds, Published, Service, Snapshot, SnapshotCell, States, Trail, Verdict,
};
pub use tripwire::Cut;
