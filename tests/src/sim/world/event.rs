//! What happens, and in which order.

use std::cmp::Ordering;
use std::sync::Arc;
use std::time::Duration;

use steer_health::checks::Job;
use steer_health::{Outcome, Snapshot};

/// Something that happens at a moment.
#[derive(Debug, Clone)]
pub(in crate::sim) enum Event {
    /// Something of a process is due.
    Wake(usize),
    Outcome {
        site: usize,
        incarnation: u64,
        round: u64,
        job: Job,
        outcome: Outcome,
        took: Duration,
    },
    Datagram {
        to: usize,
        octets: Vec<u8>,
        /// When it came to the host; its process may be stopped.
        came: Duration,
    },
    Stream {
        client: usize,
        incarnation: u64,
        server: usize,
    },
    /// Nothing came of a stream.
    StreamOver {
        client: usize,
        incarnation: u64,
    },
    Compile {
        site: usize,
        incarnation: u64,
        snapshot: Arc<Snapshot>,
    },
    Start(usize),
    Resume(usize),
    /// Somebody has changed the file of a site, and asks for a reload.
    Reload(usize),
    SessionUp {
        site: usize,
        peer: usize,
    },
    /// A peer has heard nothing of a process for the hold time.
    HoldOver {
        site: usize,
        incarnation: u64,
    },
    /// A fault begins.
    Fault,
    /// One ends.
    End(u64),
    /// All end.
    Heal,
    /// Every second.
    Look,
}

impl Event {
    /// The process that it needs awake.
    pub(super) fn of(&self) -> Option<usize> {
        match self {
            Self::Wake(site)
            | Self::Outcome { site, .. }
            | Self::Datagram { to: site, .. }
            | Self::Stream { client: site, .. }
            | Self::StreamOver { client: site, .. }
            | Self::Compile { site, .. }
            | Self::Reload(site)
            | Self::SessionUp { site, .. } => Some(*site),
            Self::Start(_)
            | Self::Resume(_)
            | Self::HoldOver { .. }
            | Self::Fault
            | Self::End(_)
            | Self::Heal
            | Self::Look => None,
        }
    }
}

pub(super) struct Queued {
    pub(super) at: Duration,
    pub(super) order: u64,
    /// Boxed: the queue moves its places about.
    pub(super) event: Box<Event>,
}

impl PartialEq for Queued {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Queued {}

impl PartialOrd for Queued {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Queued {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.at, self.order).cmp(&(other.at, other.order))
    }
}
