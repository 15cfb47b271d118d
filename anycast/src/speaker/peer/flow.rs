//! Whether octets move: for the send hold timer (RFC 9687), and for what the peer's TCP has acknowledged.
//!
//! What the kernel has taken proves little: its buffer holds minutes of KEEPALIVEs of a peer that reads nothing.
//! So the measure is what the other end's TCP has acknowledged, looked at soon after a write and ever more seldom.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use steer_topology::Prefix;

use super::PeerTask;
use crate::connection::Connection;
use crate::session::Event;

/// First look after a write: an acknowledgement comes within a round trip, delayed by up to 40 ms.
const FIRST_LOOK: Duration = Duration::from_millis(50);

/// The looks go apart to this. Send hold times are minutes.
const LAST_LOOK: Duration = Duration::from_secs(2);

/// The outbound side of a session that is up.
#[derive(Debug, Default)]
pub(super) struct Flow {
    acknowledged: u64,
    /// The machine was told that nothing moves.
    blocked: bool,
    look_at: Option<Instant>,
    pause: Duration,
    /// Prefixes whose last message is not acknowledged, with the place in the stream where it ends.
    waiting: BTreeMap<Prefix, u64>,
    /// Prefixes whose last message is.
    arrived: BTreeSet<Prefix>,
}

impl Flow {
    /// Something was written, or waits to be.
    pub(super) fn wrote(&mut self, now: Instant) {
        if self.look_at.is_none() {
            self.pause = FIRST_LOOK;
            self.look_at = Some(now + FIRST_LOOK);
        }
    }

    /// When to look whether it has arrived.
    pub(super) fn next_look(&self) -> Option<Instant> {
        self.look_at
    }

    /// The last word on `prefix` ends at this place of the stream.
    pub(super) fn told(&mut self, prefix: Prefix, end: u64) {
        self.arrived.remove(&prefix);
        self.waiting.insert(prefix, end);
    }

    /// Whether there is a last word on `prefix`, and the peer's TCP has it.
    pub(super) fn has_arrived(&self, prefix: &Prefix) -> bool {
        self.arrived.contains(prefix)
    }

    /// Nobody asks for `prefix` any more.
    pub(super) fn forget(&mut self, prefix: &Prefix) {
        self.arrived.remove(prefix);
    }

    /// Looks how far the stream has got: whether anything moved, and the prefixes that have arrived.
    fn look(&mut self, connection: &Connection, now: Instant) -> (Option<Event>, Vec<Prefix>) {
        let acknowledged = connection.acknowledged().unwrap_or(self.acknowledged);
        let moved = acknowledged > self.acknowledged;
        let outstanding = acknowledged < connection.queued();
        self.acknowledged = acknowledged;
        self.pause = (self.pause * 2).min(LAST_LOOK);
        self.look_at = outstanding.then(|| now + self.pause);
        let stuck = outstanding && !moved;
        let event = match (stuck, self.blocked) {
            (true, _) => Some(Event::Blocked(connection.id)),
            (false, true) => Some(Event::Progress(connection.id)),
            (false, false) => None,
        };
        self.blocked = stuck;
        let mut arrived = Vec::new();
        self.waiting.retain(|prefix, end| {
            let here = *end <= acknowledged;
            arrived.extend(here.then_some(*prefix));
            !here
        });
        self.arrived.extend(&arrived);
        (event, arrived)
    }
}

impl PeerTask {
    /// Looks, when the time has come.
    pub(super) fn look_at_flow(&mut self, now: Instant) {
        let Some(up) = &mut self.up else { return };
        if up.flow.next_look().is_none_or(|at| at > now) {
            return;
        }
        let Some(connection) = self.connections.iter().find(|connection| connection.id == up.id) else {
            return;
        };
        let (event, arrived) = up.flow.look(connection, now);
        self.notes.routes_changed(&arrived);
        if let Some(event) = event {
            self.machine.handle(event, now);
        }
    }
}
