//! The announcement: a BGP speaker and the reconciler of wanted and announced routes.
//!
//! ```text
//! Snapshot ─► wanted ─► reconcile ─► UPDATEs ─┐
//!             what the    what differs         ├─► peer task ─► TCP      one task per configured neighbour
//!             site may    per session          │   (driver)
//!             announce      session machine ───┘
//!                           sans-IO: states, timers, collision
//! ```
//!
//! `wire` is a strict codec of our own; `session` holds the protocol without socket or clock; `speaker` is the
//! thin driver. `monitor` is the other end of a session for people who want to look: it takes any peer and only
//! listens.
//!
//! Covered: RFC 4271 (BGP-4), 4760 (IPv4 and IPv6 unicast), 8950 (IPv4 over an IPv6 next hop), 6793 (4-octet AS
//! numbers), 2918 and 7313 (route refresh), 8654 (messages of 65,535 octets), 4486, 8538 and 9003 (Cease, Hard Reset,
//! and its text), 4724 (graceful restart, as the one that restarts), 9494 (what a peer says of its long-lived form),
//! 9234 (roles, leaks), 5492 and 9072 (capabilities), 6286 (identifiers), 6608 (FSM error subcodes), 9687 (send hold
//! timer), 5882 and 9384 (what BFD does to a session), 1997, 4360, 5701 and 8092 (communities), 7606 (error
//! handling), 7607 (AS 0), 8212 (nothing of a peer is kept). Where we fall short a comment says `Gap:`.

mod address;
pub mod announcer;
pub mod bfd;
mod connection;
pub mod monitor;
pub mod reconcile;
pub mod session;
pub mod speaker;
mod transport;
pub mod wanted;
pub mod wire;

pub use monitor::{Monitor, MonitorEvent};
pub use speaker::{BindError, Speaker, SpeakerStatus};
pub use transport::{AoError, Md5Key, tcp_ao_supported};
