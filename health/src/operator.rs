//! What an operator wishes, whatever the checks say: drains.
//!
//! A drained endpoint takes no new clients: DNS gives it to nobody, and the routes of its site step down. It is
//! not down, and what it serves it goes on serving until the last route is withdrawn.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use steer_topology::{EndpointId, SiteId};

/// An operator's wish that something takes no new clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drain {
    /// What is drained.
    pub target: Target,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
    /// Who asked for it.
    pub author: String,
    /// When it began.
    pub since: Timestamp,
    /// When it ends by itself; absent: when somebody undrains.
    pub until: Option<Timestamp>,
}

/// What a drain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Every endpoint of a site, and the routes that it announces.
    Site(SiteId),
    /// One endpoint.
    Endpoint(EndpointId),
}

/// "drained: kernel update, by ana, until 2026-01-01T14:00:00Z"
impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("drained: ")?;
        if !self.reason.is_empty() {
            write!(f, "{}, ", self.reason)?;
        }
        write!(f, "by {}, ", self.author)?;
        match self.until {
            Some(until) => write!(f, "until {until:.0}"),
            None => f.write_str("until undrained"),
        }
    }
}
