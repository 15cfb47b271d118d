//! The announcement: a BGP speaker and the reconciler of wanted and announced routes.
//!
//! ```text
//! Snapshot ─► announcer ─► reconcile ─► UPDATEs ─┐
//!             what the     what differs          ├─► peer task ─► TCP      one task per configured neighbour
//!             site wants   per session           │   (driver)
//!             by now         session machine ────┘
//!                            sans-IO: states, timers, collision
//! ```
//!
//! `wire` is a strict codec of our own; `session` holds the protocol without socket or clock, and `announcer` what
//! is wanted over time: conditions, drains, leases, flap budgets, service addresses (which `address` puts on the
//! host); `speaker` is the thin driver. `monitor` is the other end of a session for people who want to look: it takes
//! any peer and only listens. `bfd` watches the path to a peer.
//!
//! Covered: RFC 4271 (BGP-4), 4760 (IPv4 and IPv6 unicast), 8950 (IPv4 over an IPv6 next hop), 6793 (4-octet AS
//! numbers), 2918 and 7313 (route refresh), 8654 (messages of 65,535 octets), 4486, 8538 and 9003 (Cease, Hard Reset,
//! and its text), 4724 (graceful restart, as the one that restarts), 9494 (what a peer says of its long-lived form),
//! 9234 (roles, leaks), 5492 and 9072 (capabilities), 6286 (identifiers), 6608 (FSM error subcodes), 9687 (send hold
//! timer), 5880, 5881, 5882, 5883 and 9384 (BFD, and what it does to a session), 1997, 4360, 5701 and 8092 (communities), 7606 (error
//! handling), 7607 (AS 0), 2439 (what the peers' flap damping makes of us), 8326 (GRACEFUL_SHUTDOWN), 8212 (nothing
//! of a peer is kept). Where we fall short a comment says `Gap:`.

mod address;
pub mod announcer;
pub mod bfd;
pub mod bmp;
mod connection;
pub mod monitor;
pub mod mrt;
mod observe;
pub mod reconcile;
pub mod rtr;
pub mod session;
pub mod speaker;
pub mod spread;
pub mod tap;
mod transport;
pub mod wanted;
pub mod wire;

pub use monitor::{Monitor, MonitorEvent};
pub use observe::ObserverStatus;
pub use speaker::{BindError, Detections, Speaker, SpeakerStatus};
pub use tap::Tap;
pub use transport::Md5Key;
