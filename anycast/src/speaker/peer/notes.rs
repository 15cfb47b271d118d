//! What was done and is still to be told: to the status, the log and the meters.
//!
//! Kept as facts while octets are written, told afterwards. The route table of the status is brought up to date
//! from what holds then, row by row, and only the rows that something happened to.

use std::collections::BTreeSet;

use jiff::Timestamp;
use metrics::{Counter, Gauge, counter, gauge};
use steer_topology::Prefix;
use tracing::info;

use super::PeerTask;
use crate::reconcile::Batch;
use crate::session::State;
use crate::speaker::status::{Messages, RouteStatus};
use crate::wire::Kind;

/// Changes of one batch that get a line each in the log; more get one together.
const LINES: usize = 8;

/// What is still to be told.
#[derive(Debug, Default)]
pub(super) struct Notes {
    messages_in: Messages,
    messages_out: Messages,
    rejected: u64,
    batches: Vec<Told>,
    rows: Rows,
    /// The rows that the newest wish changed may be wrong too.
    wish: bool,
}

/// Routes of one batch.
#[derive(Debug)]
struct Told {
    snapshot: u64,
    changes: Vec<(Prefix, bool)>,
    /// Where its last octet stands in the stream of the session.
    end: u64,
}

/// Rows of the route table that may be wrong.
#[derive(Debug)]
enum Rows {
    Some(BTreeSet<Prefix>),
    All,
}

impl Default for Rows {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

impl Notes {
    /// Whether there is something to tell.
    pub(super) fn are_due(&self) -> bool {
        let rows = match &self.rows {
            Rows::Some(prefixes) => !prefixes.is_empty(),
            Rows::All => true,
        };
        let counted = self.messages_in != Messages::default() || self.messages_out != Messages::default();
        self.wish || rows || counted || !self.batches.is_empty()
    }

    pub(super) fn received(&mut self, kind: Kind) {
        self.messages_in.count(kind, 1);
    }

    pub(super) fn sent_one(&mut self, kind: Kind) {
        self.messages_out.count(kind, 1);
    }

    /// A batch is queued; `end` is where it ends in the stream.
    pub(super) fn sent(&mut self, batch: Batch, snapshot: u64, end: u64) {
        let Batch {
            messages,
            framing,
            changes,
            complete: _,
        } = batch;
        self.messages_out.count(Kind::RouteRefresh, framing as u64);
        self.messages_out
            .count(Kind::Update, (messages.len() - framing) as u64);
        if !changes.is_empty() {
            self.batches.push(Told {
                snapshot,
                changes,
                end,
            });
        }
    }

    pub(super) fn rejected(&mut self, prefixes: u64) {
        self.rejected += prefixes;
    }

    pub(super) fn routes_changed(&mut self, prefixes: &[Prefix]) {
        match &mut self.rows {
            Rows::Some(rows) => rows.extend(prefixes),
            Rows::All => {}
        }
    }

    /// All that the newest wish changed is brought up to date when it is told: lists are for later.
    pub(super) fn wish_obeyed(&mut self) {
        self.wish = true;
    }

    pub(super) fn all_routes_changed(&mut self) {
        self.rows = Rows::All;
    }
}

impl PeerTask {
    /// Tells all that is to be told.
    pub(super) fn tell(&mut self) {
        if self.notes.wish {
            let wish = std::sync::Arc::clone(&self.wish);
            self.notes.routes_changed(&wish.changed);
        }
        let notes = std::mem::take(&mut self.notes);
        let Notes {
            messages_in,
            messages_out,
            rejected,
            batches,
            mut rows,
            wish: _,
        } = notes;
        for batch in &batches {
            for (prefix, _) in &batch.changes {
                if let Rows::Some(rows) = &mut rows {
                    rows.insert(*prefix);
                }
                if let Some(up) = &mut self.up {
                    up.flow.told(*prefix, batch.end);
                }
            }
        }
        self.tell_status(&rows, messages_in, messages_out);
        self.meters.add(messages_in, messages_out, rejected);
        let announced = self.up.as_ref().map_or(0, |up| up.reconciler.announced().len());
        self.meters.announced.set(announced as f64);
        for batch in &batches {
            log(&self.label, batch);
        }
    }

    fn tell_status(&mut self, rows: &Rows, messages_in: Messages, messages_out: Messages) {
        // The lock is that of the status alone, so that rows can ask the reconciler.
        let common = std::sync::Arc::clone(&self.common);
        let mut status = super::locked(&common.status.peers[self.index]);
        for kind in Kind::ALL {
            status.messages_in.count(kind, messages_in.of(kind));
            status.messages_out.count(kind, messages_out.of(kind));
        }
        if let Some(up) = &self.up {
            status.inbound = up.inbound.totals();
            status.prefixes_in = status.inbound.announced;
        }
        let now = Timestamp::now();
        match rows {
            Rows::Some(prefixes) => {
                for prefix in prefixes {
                    let row = self.row(prefix, status.routes.get(prefix), now);
                    match row {
                        Some(row) => status.routes.insert(*prefix, row),
                        None => status.routes.remove(prefix),
                    };
                }
            }
            Rows::All => {
                let before = std::mem::take(&mut status.routes);
                let wish = std::sync::Arc::clone(&self.wish);
                let announced = self.up.iter().flat_map(|up| up.reconciler.announced().copied());
                let prefixes: BTreeSet<Prefix> =
                    wish.wanted.prefixes.keys().copied().chain(announced).collect();
                let rows = prefixes.into_iter().filter_map(|prefix| {
                    let row = self.row(&prefix, before.get(&prefix), now);
                    row.map(|row| (prefix, row))
                });
                status.routes = rows.collect();
            }
        }
    }

    /// One row as it holds now; `None` for a prefix that is neither wanted nor announced.
    fn row(&mut self, prefix: &Prefix, old: Option<&RouteStatus>, now: Timestamp) -> Option<RouteStatus> {
        let decision = self.wish.wanted.prefixes.get(prefix);
        let wanted = decision.is_some_and(|decision| decision.announce);
        let mut row = RouteStatus {
            wanted,
            announced: false,
            acknowledged: false,
            obstacle: None,
            since: now,
            snapshot: decision.map_or(self.wish.wanted.snapshot, |decision| decision.by),
        };
        if let Some(up) = &mut self.up {
            row.announced = up.reconciler.is_announced(prefix);
            row.acknowledged = up.flow.has_arrived(prefix);
            if decision.is_none() && !row.announced && row.acknowledged {
                up.flow.forget(prefix);
            }
            row.obstacle = up.reconciler.obstacle(&self.wish.wanted, prefix);
        }
        if let Some(old) = old.filter(|old| (old.wanted, old.announced) == (row.wanted, row.announced)) {
            row.since = old.since;
        }
        (decision.is_some() || row.announced).then_some(row)
    }
}

fn log(peer: &str, batch: &Told) {
    let Told {
        snapshot,
        changes,
        end: _,
    } = batch;
    if changes.len() > LINES {
        let announced = changes.iter().filter(|(_, announced)| *announced).count();
        let withdrawn = changes.len() - announced;
        return info!(snapshot, announced, withdrawn, peer, "routes changed");
    }
    for (prefix, announced) in changes {
        match announced {
            true => info!(snapshot, %prefix, peer, "route announced"),
            false => info!(snapshot, %prefix, peer, "route withdrawn"),
        }
    }
}

/// Counters of one peer, looked up once.
pub(super) struct Meters {
    peer: String,
    messages: [[Counter; 2]; Kind::ALL.len()],
    rejected: Counter,
    announced: Gauge,
    up: Gauge,
}

impl Meters {
    pub(super) fn new(peer: &str) -> Self {
        let messages = Kind::ALL.map(|kind| {
            ["in", "out"].map(|direction| {
                counter!("steer_anycast_messages_total", "peer" => peer.to_owned(), "type" => kind.name(), "direction" => direction)
            })
        });
        Self {
            peer: peer.to_owned(),
            messages,
            rejected: counter!("steer_anycast_prefixes_rejected_total", "peer" => peer.to_owned()),
            announced: gauge!("steer_anycast_routes_announced", "peer" => peer.to_owned()),
            up: gauge!("steer_anycast_session_up", "peer" => peer.to_owned()),
        }
    }

    fn add(&self, messages_in: Messages, messages_out: Messages, rejected: u64) {
        for (kind, [inward, outward]) in Kind::ALL.into_iter().zip(&self.messages) {
            inward.increment(messages_in.of(kind));
            outward.increment(messages_out.of(kind));
        }
        self.rejected.increment(rejected);
    }

    pub(super) fn state(&self, state: State) {
        counter!("steer_anycast_session_states_total", "peer" => self.peer.clone(), "state" => state.name())
            .increment(1);
        self.up.set(if state == State::Established { 1.0 } else { 0.0 });
    }
}
