//! The BGP Monitoring Protocol (RFC 7854): what we announce, told to collectors; what routers tell, heard.
//!
//! ```text
//! Tap ──► exporter (sans-IO) ──► driver ──► collector     Adj-RIB-Out after policy (RFC 8671), one task each
//! router ──► receiver ──► Reader (sans-IO) ──► MonitorEvent     any view of any router, for monitor and spread
//!                           └─ message: the strict codec of both
//! ```
//!
//! The exporter tells exactly the UPDATEs that were sent. A collector that does not keep up is closed and begins
//! anew with a full dump: it never slows a session and never sees a gap.
//!
//! The receiver reads with our own codec and not with a library: the UPDATEs inside are live input like any other,
//! and a reader that guesses is none. bgpkit-parser and tshark are second readers in the tests.
//
// Gap: RFC 7854 §4.7 (Route Mirroring) is not sent, and skipped where it is heard.

mod driver;
mod exporter;
mod message;
mod reader;
mod receiver;

#[cfg(test)]
mod tests;

pub use driver::{CollectorState, CollectorStatus};
pub(crate) use driver::{Export, export};
pub use exporter::Identity;
pub use message::{
    Initiation, Malformed, Message, PeerDown, PeerFlags, PeerHeader, PeerKind, PeerUp, Stat, StatValue,
    Termination, Tlv, encode, take_message,
};
pub use reader::{Reader, Skipped};
pub use receiver::Receiver;
