//! A shop behind the RPC edge: what labs and tests call, who calls it, and what counts the charges afterwards.
//!
//! ```text
//! load: charges (open loop, a key each), chats ─► edge ─► serve: PaymentService, UserService ─► PostgreSQL
//!   │ journal: begun, acked, gave up                                                           │ ledger
//!   └──────────────────────────────► verdict: lost, double; story: p99, recovery ◄─────────────┘
//! ```
//!
//! The verdict knows the journals of the clients and the ledger, and nothing else.

mod channel;
mod charges;
mod chats;
mod generated;
mod health;
mod journal;
mod ledger;
mod load;
mod payment;
mod pulse;
mod serve;
mod story;
mod users;
mod verdict;
mod wire;

pub use generated::shop;
pub use journal::{Entry, Journal, JournalError, read as read_journal};
pub use ledger::{Ledger, LedgerError, Line};
pub use load::{Load, LoadError, run as run_load};
pub use serve::{OpenFailed, Shop};
pub use story::{Chapter, Step, StepsError, Story, read_steps};
pub use verdict::{Counts, count};
