//! Idempotency keys: a call that is sent twice is done once.
//!
//! ```text
//! idempotency-key, payload ─► Desk ─► claim ─┬─ fresh ──────► handler runs in the claim's transaction ─► commit
//!                              (sans-IO)     ├─ in flight ──► wait within the deadline, else ABORTED
//!                                            ├─ answered ───► the same octets again, marked as replayed
//!                                            └─ other payload ► FAILED_PRECONDITION
//! ```
//!
//! What a store promises ([`KeyStore`]), and what one battery (`tests/keys`) holds each to:
//!
//! - Effect, answer and outbox rows of a claim are committed together or not at all.
//! - Of two claims of one key at most one commits: the later one has the higher [`Epoch`], and the earlier one is fenced.
//! - A claim ends with its process, or with its lease if that cannot be seen.
//! - An answer is kept for a time, and replayed byte for byte. After that time the key is unknown again.
//!
//! What no store can promise: effects outside of its database. Such an effect needs a key of its own there, or an
//! outbox row that a relay carries out.

mod answer;
mod book;
mod claims;
mod desk;
mod embedded;
mod id;
mod memory;
mod postgres;
mod serve;
mod store;

pub use answer::{Answer, InvalidAnswer};
pub use book::{Book, Standing};
pub use claims::{Claims, Held};
pub use desk::{Desk, Do, Event, Refusal, State};
pub use embedded::{Embedded, EmbeddedClaim};
pub use id::{Fingerprint, IdempotencyKey, InvalidKey, KEY_HEADER, KeyedCall, REPLAYED_HEADER, SCOPE_MAX};
pub use memory::{Memory, MemoryClaim};
pub(crate) use postgres::pool::{connect, parse, words};
pub use postgres::{Postgres, PostgresClaim, SCHEMA};
pub use serve::{Handled, Handler, Reply, serve};
pub use store::{Claim, Clock, Epoch, Found, KeyStore, Message, StoreError, Terms, system_clock};
