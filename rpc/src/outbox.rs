//! The relay of the outbox: what was committed with an effect is told to others, at least once and in order.
//!
//! ```text
//! steer_outbox ─► lane: partition's lock ─► rows in order ─► rate ─► sink ─┬─ taken ─► delete ─┐
//! (PostgreSQL)                                                             ├─ failed ─► wait   ├─ commit
//!                                                                          └─ refused, or too  │
//!                                                                             often ─► dead ───┘
//! ```
//!
//! What holds for every [`Sink`], and what one battery (`tests/outbox`) holds each to:
//!
//! - Each row is told at least once, whatever crashes between any two steps. It is told with the same [`Letter::id`] each
//!   time, so that who gets it can tell a second time from a first: JetStream by `Nats-Msg-Id`, anyone by an [`Inbox`].
//! - Rows of a partition are told in the order of their numbers, also with several relays side by side. A row that fails
//!   holds up its partition, and no other.
//! - Who is not there costs no row a try. A row that is refused, or has failed as often as it may, is kept in
//!   `steer_outbox_dead` with the reason, and its partition goes on.
//!
//! A process without a database has a [`Spool`] in the place of PostgreSQL, and a [`Channel`] in that of the relay: the same
//! holds, and [`next`] decides for both.

mod channel;
mod email;
mod inbox;
#[cfg(feature = "kafka")]
mod kafka;
mod nats;
mod rate;
mod relay;
mod rules;
mod sink;
pub mod spool;
mod webhook;

pub use channel::{Channel, Standing};
pub use email::{Compose, Email, InvalidEmail, Mail};
pub use inbox::{INBOX_SCHEMA, Inbox};
#[cfg(feature = "kafka")]
pub use kafka::{InvalidKafka, Kafka};
pub use nats::JetStream;
pub use rate::Rate;
pub use relay::{InvalidRelay, OUTBOX_SCHEMA, Relay, Turn, make_tables};
pub use rules::{Next, Rules, next};
pub use sink::{Letter, Sink, SinkError};
pub use spool::Spool;
pub use webhook::{InvalidWebhook, Webhook, verify};
