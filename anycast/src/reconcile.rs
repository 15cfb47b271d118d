//! Wanted against announced, per session: the difference, as UPDATEs.
//!
//! ```text
//! wanted ─► terms (next hop) ─┐
//!           policy (path)  ───┴─► differs from announced? ─► withdrawals, then announcements grouped by both
//! ```
//!
//! `announced` is what was handed to the socket of this session and nothing else. A session that ends takes its
//! bookkeeping with it; the next one starts from nothing and gets all that is wanted. What a change does not
//! concern is not looked at; all is compared where something may have been missed.

mod encodings;
mod policy;
mod terms;

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use steer_topology::Prefix;

use crate::wanted::Wanted;
use crate::wire::{self, Demarcation, Families, Family, NextHop, Path, RouteRefresh};
use encodings::Shape;
use policy::Paths;

pub use encodings::Encodings;
pub use terms::{Obstacle, Terms, next_hop_of};

/// Longer lists of what may differ are dropped, and everything is compared: while a socket is blocked they grow.
const PENDING_MAX: usize = 4096;

/// The bookkeeping of one session.
#[derive(Debug, Clone)]
pub struct Reconciler {
    terms: Terms,
    paths: Paths,
    encodings: Arc<Encodings>,
    announced: HashMap<Prefix, Announced>,
    /// May differ between wanted and announced; a prefix may stand there twice.
    pending: Vec<Prefix>,
    /// Everything may.
    all_pending: bool,
    refresh: Refresh,
    end_of_rib: EndOfRib,
    looked_at: u64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Announced {
    target: Target,
    /// The peer asked for it again.
    again: bool,
}

/// How a route shall look.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    next_hop: NextHop,
    path: Arc<Path>,
}

/// Where enhanced refreshes stand (RFC 7313 §4).
#[derive(Debug, Clone, Copy, Default)]
struct Refresh {
    /// Asked for.
    wanted: Families,
    /// All routes are marked, BoRR is still to be sent.
    begun: Families,
    /// BoRR is sent, EoRR is still to come.
    open: Families,
}

/// End-of-RIB markers (RFC 4724 §2).
#[derive(Debug, Clone, Copy)]
struct EndOfRib {
    /// Families whose marker is still to come.
    due: Families,
    /// Not yet: more is to be wanted soon.
    held: bool,
}

/// Messages to send now, and what they change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Whole messages, in order: withdrawals first.
    pub messages: Vec<Bytes>,
    /// How many of them are ROUTE-REFRESH and not UPDATE.
    pub framing: usize,
    /// Each prefix in them; whether it is announced (or withdrawn).
    pub changes: Vec<(Prefix, bool)>,
    /// Whether nothing is left to send.
    pub complete: bool,
}

/// What differs, in the order of sending.
#[derive(Debug, Default)]
struct Difference {
    surplus: Vec<Prefix>,
    /// What can share an UPDATE.
    lacking: Vec<(Family, Target, Vec<Prefix>)>,
}

impl Reconciler {
    /// A session that has just come up: nothing is announced.
    #[must_use]
    pub fn new(terms: Terms, encodings: Arc<Encodings>) -> Self {
        let (due, held) = (terms.families, false);
        Self {
            terms,
            paths: Paths::default(),
            encodings,
            announced: HashMap::new(),
            pending: Vec::new(),
            all_pending: true,
            refresh: Refresh::default(),
            end_of_rib: EndOfRib { due, held },
            looked_at: 0,
        }
    }

    /// The terms of the session.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What has been handed to the session, in no order.
    pub fn announced(&self) -> impl ExactSizeIterator<Item = &Prefix> {
        self.announced.keys()
    }

    /// Whether `prefix` has been.
    #[must_use]
    pub fn is_announced(&self, prefix: &Prefix) -> bool {
        self.announced.contains_key(prefix)
    }

    /// How often a route was compared, ever: the cost of this session.
    #[must_use]
    pub fn looked_at(&self) -> u64 {
        self.looked_at
    }

    /// These may be wanted otherwise than before.
    pub fn touch(&mut self, prefixes: &[Prefix]) {
        self.pending.extend(prefixes);
        if self.pending.len() > PENDING_MAX {
            self.touch_all();
        }
    }

    /// Everything may be.
    pub fn touch_all(&mut self) {
        self.all_pending = true;
        self.pending.clear();
    }

    /// The peer wants a family again. RFC 2918 §4: one that was not agreed on is ignored.
    pub fn refresh(&mut self, family: Family) {
        if !self.terms.families.contains(family) {
            return;
        }
        if self.terms.enhanced_refresh {
            self.refresh.wanted = self.refresh.wanted.with(family);
        } else {
            self.mark_again(family);
        }
    }

    /// Whether End-of-RIB waits although all that is wanted has been sent: a peer that keeps our routes of before
    /// a restart (RFC 4724 §4.2) drops at the marker what has not come by then.
    pub fn hold_end_of_rib(&mut self, held: bool) {
        self.end_of_rib.held = held;
    }

    /// Whether the first round is over, and said to be.
    #[must_use]
    pub fn is_synchronised(&self) -> bool {
        self.end_of_rib.due.is_empty()
    }

    /// Why a wanted route is not announced.
    pub fn obstacle(&mut self, wanted: &Wanted, prefix: &Prefix) -> Option<Obstacle> {
        self.target(wanted, prefix)?.err()
    }

    /// The difference, in at most about `room` octets; what does not fit is found again by the next call.
    pub fn reconcile(&mut self, wanted: &Wanted, room: usize) -> Batch {
        let mut batch = Batch {
            complete: true,
            ..Batch::default()
        };
        let mut room = room;
        self.begin_refresh();
        let Difference { surplus, lacking } = self.difference(wanted);
        self.withdraw(&surplus, &mut room, &mut batch);
        if batch.complete {
            self.frame(Demarcation::Begin, &mut batch);
        }
        for (family, target, prefixes) in lacking {
            self.announce(family, &target, &prefixes, &mut room, &mut batch);
        }
        if batch.complete {
            self.finish(&mut batch);
        }
        batch
    }

    /// RFC 7313 §4: no BoRR before the End-of-RIB marker.
    fn begin_refresh(&mut self) {
        let wanted = std::mem::take(&mut self.refresh.wanted);
        for family in wanted.iter() {
            if self.end_of_rib.due.contains(family) {
                self.refresh.wanted = self.refresh.wanted.with(family);
            } else {
                self.refresh.begun = self.refresh.begun.with(family);
                self.mark_again(family);
            }
        }
    }

    fn mark_again(&mut self, family: Family) {
        let routes = self
            .announced
            .iter_mut()
            .filter(|(prefix, _)| Family::of(prefix) == family);
        for (prefix, route) in routes {
            route.again = true;
            self.pending.push(*prefix);
        }
    }

    /// What is pending and really differs. What of it is not put into a message is pending again.
    fn difference(&mut self, wanted: &Wanted) -> Difference {
        if std::mem::take(&mut self.all_pending) {
            self.pending.extend(self.announced.keys());
            self.pending.extend(wanted.prefixes.keys());
        }
        let mut difference = Difference::default();
        let mut groups = HashMap::new();
        let mut pending = std::mem::take(&mut self.pending);
        pending.sort_unstable();
        pending.dedup();
        for prefix in pending.drain(..) {
            let target = self.target(wanted, &prefix).and_then(Result::ok);
            match (self.announced.get(&prefix), target) {
                (None, None) => {}
                (Some(_), None) => difference.surplus.push(prefix),
                (Some(stands), Some(target)) if stands.is(&target) => {}
                (_, Some(target)) => difference.lack(prefix, target, &mut groups),
            }
        }
        self.pending = pending; // its room is used again
        difference
    }

    /// How `prefix` shall look on this session, or why it cannot; `None`: it shall not be announced.
    fn target(&mut self, wanted: &Wanted, prefix: &Prefix) -> Option<Result<Target, Obstacle>> {
        self.looked_at += 1;
        let decision = wanted.prefixes.get(prefix).filter(|decision| decision.announce)?;
        let next_hop = self.terms.next_hop(prefix, decision);
        Some(next_hop.and_then(|next_hop| {
            let path = self.paths.path(&self.terms, decision)?;
            Ok(Target { next_hop, path })
        }))
    }

    fn withdraw(&mut self, surplus: &[Prefix], room: &mut usize, batch: &mut Batch) {
        let mut rest = surplus;
        while let Some(first) = rest.first() {
            let family = Family::of(first);
            let shape = self.shape(family, None);
            let Some(sent) = self.put(&shape, &mut rest, room, batch) else {
                return self.pending.extend(rest);
            };
            for prefix in sent {
                self.announced.remove(prefix);
                batch.changes.push((*prefix, false));
            }
        }
    }

    /// A route that looks otherwise now is announced anew; that withdraws the old one (RFC 4271 §3.1).
    fn announce(
        &mut self,
        family: Family,
        target: &Target,
        prefixes: &[Prefix],
        room: &mut usize,
        batch: &mut Batch,
    ) {
        let shape = self.shape(family, Some((target.next_hop, Arc::clone(&target.path))));
        let mut rest = prefixes;
        while !rest.is_empty() {
            let Some(sent) = self.put(&shape, &mut rest, room, batch) else {
                return self.pending.extend(rest);
            };
            for prefix in sent {
                let route = Announced {
                    target: target.clone(),
                    again: false,
                };
                self.announced.insert(*prefix, route);
                batch.changes.push((*prefix, true));
            }
        }
    }

    fn shape(&self, family: Family, route: Option<(NextHop, Arc<Path>)>) -> Shape {
        let outbound = self.terms.outbound;
        Shape {
            family,
            route,
            outbound,
        }
    }

    /// Puts one message into the batch and takes its prefixes off `rest`; without room the batch is not complete.
    fn put<'a>(
        &self,
        shape: &Shape,
        rest: &mut &'a [Prefix],
        room: &mut usize,
        batch: &mut Batch,
    ) -> Option<&'a [Prefix]> {
        if *room == 0 {
            batch.complete = false;
            return None;
        }
        let (message, count) = self.encodings.encode(shape, rest);
        let (sent, left) = rest.split_at(count.max(1)); // one always fits: paths that leave no room are obstacles
        *rest = left;
        *room = room.saturating_sub(message.len());
        batch.messages.push(message);
        Some(sent)
    }

    /// All is sent: says so.
    fn finish(&mut self, batch: &mut Batch) {
        if !self.end_of_rib.held {
            let due = std::mem::take(&mut self.end_of_rib.due);
            batch.messages.extend(due.iter().map(wire::encode_end_of_rib));
            // A refresh that waited for the marker comes next.
            batch.complete = self.refresh.wanted.is_empty();
        }
        self.frame(Demarcation::End, batch);
    }

    /// Sends the marks that are due.
    fn frame(&mut self, demarcation: Demarcation, batch: &mut Batch) {
        let due = match demarcation {
            Demarcation::Begin => {
                let begun = std::mem::take(&mut self.refresh.begun);
                self.refresh.open = begun.iter().chain(self.refresh.open.iter()).collect();
                begun
            }
            Demarcation::End => std::mem::take(&mut self.refresh.open),
        };
        for family in due.iter() {
            let mark = RouteRefresh::demarcation(family, demarcation);
            batch.messages.push(wire::encode_route_refresh(mark));
            batch.framing += 1;
        }
    }
}

impl Announced {
    fn is(&self, target: &Target) -> bool {
        !self.again && self.target == *target
    }
}

impl Difference {
    /// Paths of one session are compiled once, so that their addresses tell them apart.
    fn lack(
        &mut self,
        prefix: Prefix,
        target: Target,
        groups: &mut HashMap<(Family, NextHop, usize), usize>,
    ) {
        let family = Family::of(&prefix);
        let key = (family, target.next_hop, Arc::as_ptr(&target.path) as usize);
        let group = *groups.entry(key).or_insert(self.lacking.len());
        if group == self.lacking.len() {
            self.lacking.push((family, target, Vec::new()));
        }
        self.lacking[group].2.push(prefix);
    }
}

#[cfg(test)]
mod tests;
