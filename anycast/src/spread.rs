//! The closed loop: did a change of ours reach the world, how fast, and what of it did not?
//!
//! ```text
//! what a speaker announces ──► Changes ──► change ───┐
//! monitor sessions, BMP feeds ──► MonitorEvent ──────┴─► Tracker (sans-IO) ─► reports, zombies, missing routes
//! ```
//!
//! A *vantage* is whoever tells us what it has: the peer of a monitor session, or a table of a router that tells
//! by BMP. A *zombie* is a route that a vantage still has some time after we withdrew it; a *missing* route is one
//! that it does not have some time after we announced it.
//
// Gap: only presence is followed, not attributes: a step of a drain that changes communities is no change here.
// Gap: a vantage that hears a prefix from several of our sites shows it until the last one withdraws, unless each
// site marks its routes with a community of its own ([`Settings::tag`]).

mod changes;
mod driver;
mod report;
mod tracker;

#[cfg(test)]
mod tests;

pub use changes::{Changes, Route};
pub use driver::{Spread, note};
pub use report::{Outcome, Report, Stray, StrayKind, Summary};
pub use tracker::{Change, MAX_PREFIXES, MAX_VANTAGES, Output, Settings, Tracker};

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use serde::Serialize;
use steer_topology::Asn;

use crate::monitor::{Rib, Source};

/// Whoever tells us what it has. It stays the same when its connection comes back from another port.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Vantage {
    /// The peer.
    pub address: IpAddr,
    /// Its AS number.
    pub asn: Asn,
    /// Its BGP Identifier.
    pub peer_id: Ipv4Addr,
    /// The router that tells of it by BMP, and which of its tables.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bmp: Option<(IpAddr, Rib)>,
}

impl From<Source> for Vantage {
    fn from(source: Source) -> Self {
        Self {
            address: source.remote.ip(),
            asn: source.asn,
            peer_id: source.peer_id,
            bmp: source.bmp.map(|view| (view.router.ip(), view.rib)),
        }
    }
}

impl fmt::Display for Vantage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bmp {
            None => write!(f, "{} {}", self.asn, self.address),
            Some((router, Rib::LocRib)) => write!(f, "{router} loc-rib"),
            Some((router, rib)) => write!(f, "{router} {} of {} {}", rib.name(), self.asn, self.address),
        }
    }
}
