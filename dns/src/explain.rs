//! Why a client gets what it gets. Runs the server's own code, with notes.

use std::fmt;
use std::net::IpAddr;

use serde::Serialize;
use steer_topology::Name;

use crate::tables::Tables;

/// The reasons for one answer.
#[derive(Debug, Clone, Serialize)]
pub struct Explanation {
    /// The snapshot that decided.
    pub snapshot: u64,
}

impl Tables {
    /// Explains what `client` gets for `name`.
    #[must_use]
    pub fn explain(&self, _client: IpAddr, _name: &Name) -> Explanation {
        Explanation {
            snapshot: self.snapshot_number(),
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "snapshot {}", self.snapshot)
    }
}
