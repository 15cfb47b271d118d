//! What the announcer asks of its driver, and what it tells the log.

use std::collections::VecDeque;
use std::fmt;

use jiff::Timestamp;
use serde::Serialize;
use steer_topology::{Bind, OnExpiry, Prefix};

/// What to do now.
#[derive(Debug, Clone, PartialEq)]
pub enum Output {
    /// Put the service address of a prefix on the host; answer with [`super::Announcer::on_bound`].
    Bind(Prefix, Bind),
    /// Take it off; answer with [`super::Announcer::on_unbound`].
    Unbind(Prefix, Bind),
    /// Tell it, once what it says is on its way.
    Changed(Change),
}

/// In order. Taken out after each piece of news, of which each puts in a few for each prefix at most.
pub(super) type Outputs = VecDeque<Output>;

/// Something to tell about one prefix.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// The prefix.
    pub prefix: Prefix,
    /// The newest snapshot by then.
    pub snapshot: u64,
    /// What.
    pub what: What,
}

/// What there is to tell.
#[derive(Debug, Clone, PartialEq)]
pub enum What {
    /// It is announced from now on.
    Announced,
    /// It is not announced any more.
    Withdrawn(Why),
    /// All conditions hold, but the peers' damping would not forgive the next withdrawal.
    Held {
        /// Until then.
        until: Timestamp,
        /// The figure of merit now.
        figure: f64,
    },
    /// A step of its drain is current.
    Step {
        /// Counted from 1.
        step: usize,
        /// How many there are.
        of: usize,
        /// As in the file.
        doing: String,
    },
    /// The drain is over: its attributes are the usual ones again.
    Undrained,
    /// Nobody renewed its lease.
    LeaseExpired {
        /// Whose it was.
        owner: String,
        /// What follows.
        then: OnExpiry,
    },
    /// The kernel refused the address.
    Trouble(String),
}

/// Why a prefix is not announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Why {
    /// They fail.
    Conditions,
    /// The ladder has come to its end.
    Drained,
    /// Nobody holds a lease on it.
    NoLease,
    /// Somebody took the service address off.
    AddressGone,
    /// The file has another service address for it now.
    Reconfigured,
    /// The file does not have it any more.
    Unconfigured,
    /// The orderly end.
    Stopping,
}

impl fmt::Display for Why {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Conditions => "its conditions fail",
            Self::Drained => "drained",
            Self::NoLease => "nobody holds a lease on it",
            Self::AddressGone => "its service address was taken off the host",
            Self::Reconfigured => "its service address is another one now",
            Self::Unconfigured => "the configuration does not have it any more",
            Self::Stopping => "steer stops",
        })
    }
}

impl Change {
    /// Logs and counts it.
    pub fn tell(&self) {
        let Self {
            prefix,
            snapshot,
            what,
        } = self;
        match what {
            What::Announced => tracing::info!(snapshot, %prefix, "announcement wanted"),
            What::Withdrawn(why) => tracing::info!(snapshot, %prefix, reason = %why, "withdrawal wanted"),
            What::Held { until, figure } => {
                tracing::warn!(snapshot, %prefix, %until, figure = figure.round(), "announcement held: flap budget spent");
            }
            What::Step { step, of, doing } => {
                tracing::info!(snapshot, %prefix, step, of, doing, "drain step");
            }
            What::Undrained => tracing::info!(snapshot, %prefix, "drain over"),
            What::LeaseExpired { owner, then } => {
                tracing::warn!(snapshot, %prefix, owner, ?then, "lease expired");
            }
            What::Trouble(error) => tracing::warn!(snapshot, %prefix, error, "service address"),
        }
        metrics::counter!("steer_anycast_prefix_changes_total", "change" => what.as_str()).increment(1);
    }
}

impl What {
    /// Value of the `change` label.
    fn as_str(&self) -> &'static str {
        match self {
            Self::Announced => "announced",
            Self::Withdrawn(_) => "withdrawn",
            Self::Held { .. } => "held",
            Self::Step { .. } => "drain-step",
            Self::Undrained => "undrained",
            Self::LeaseExpired { .. } => "lease-expired",
            Self::Trouble(_) => "address-trouble",
        }
    }
}
