//! Wanted against announced, per session: the difference, as UPDATEs.
//!
//! `announced` is what was handed to the socket of this session and nothing else. A session that ends takes its
//! bookkeeping with it; the next one starts from nothing and gets all that is wanted.

use std::collections::BTreeMap;
use std::net::IpAddr;

use bytes::Bytes;
use steer_topology::{Asn, Prefix};

use crate::session::Negotiated;
use crate::wanted::{Decision, Wanted};
use crate::wire::{self, Families, Family, Origin, Outbound, Path, Segment, SegmentKind};

/// RFC 4271 §5.1.5 leaves the value to us; 100 is what all others take.
const LOCAL_PREF: u32 = 100;

/// What shapes an announcement to one session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    /// Our AS number.
    pub local_asn: Asn,
    /// Our end of the connection: the default NEXT_HOP.
    pub local_address: IpAddr,
    /// Both carry these.
    pub families: Families,
    /// 4-octet AS numbers on the wire.
    pub four_octet: bool,
    /// The peer is in our AS.
    pub internal: bool,
}

impl Terms {
    /// The terms of a session that came up.
    #[must_use]
    pub fn of(negotiated: &Negotiated, local_asn: Asn, local_address: IpAddr) -> Self {
        let &Negotiated {
            families,
            four_octet,
            internal,
            ..
        } = negotiated;
        Self {
            local_asn,
            local_address,
            families,
            four_octet,
            internal,
        }
    }

    fn path(&self) -> Path {
        let ours = Segment {
            kind: SegmentKind::Sequence,
            asns: vec![self.local_asn.get()],
        };
        Path {
            origin: Origin::Igp,
            as_path: if self.internal { Vec::new() } else { vec![ours] }, // RFC 4271 §5.1.2 b
            local_pref: self.internal.then_some(LOCAL_PREF),
            ..Path::default()
        }
    }

    fn outbound(&self) -> Outbound {
        Outbound {
            four_octet: self.four_octet,
            ..Outbound::PLAIN
        }
    }

    /// Where the peer shall send packets for `prefix`, or why it cannot be told.
    pub fn next_hop(&self, prefix: &Prefix, decision: &Decision) -> Result<IpAddr, Obstacle> {
        if !self.families.contains(Family::of(prefix)) {
            return Err(Obstacle::FamilyNotNegotiated);
        }
        let next_hop = decision.next_hop.unwrap_or(self.local_address);
        // Gap: RFC 8950: an IPv4 route with an IPv6 next hop.
        if next_hop.is_ipv4() == prefix.is_ipv4() {
            Ok(next_hop)
        } else {
            Err(Obstacle::NoNextHop)
        }
    }
}

/// Why a wanted route cannot be announced to a session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Obstacle {
    /// The peer does not carry the family.
    FamilyNotNegotiated,
    /// The session runs over the other family and no `next_hop` is configured.
    NoNextHop,
}

impl std::fmt::Display for Obstacle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::FamilyNotNegotiated => "the peer does not carry this address family",
            Self::NoNextHop => "no next hop of this family: set `next_hop`",
        })
    }
}

/// The bookkeeping of one session.
#[derive(Debug, Clone)]
pub struct Reconciler {
    terms: Terms,
    path: Path,
    announced: BTreeMap<Prefix, Announced>,
    /// Families whose End-of-RIB marker (RFC 4724 §2) is still to come.
    end_of_rib_due: Families,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Announced {
    next_hop: IpAddr,
    /// The peer asked for it again.
    again: bool,
}

/// Messages to send now, and what they change.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Batch {
    /// Whole UPDATEs, in order: withdrawals first.
    pub messages: Vec<Bytes>,
    /// Each prefix in them; whether it is announced (or withdrawn).
    pub changes: Vec<(Prefix, bool)>,
    /// Whether nothing is left to send.
    pub complete: bool,
}

impl Reconciler {
    /// A session that has just come up: nothing is announced.
    #[must_use]
    pub fn new(terms: Terms) -> Self {
        let (path, end_of_rib_due) = (terms.path(), terms.families);
        Self {
            terms,
            path,
            announced: BTreeMap::new(),
            end_of_rib_due,
        }
    }

    /// The terms of the session.
    #[must_use]
    pub fn terms(&self) -> &Terms {
        &self.terms
    }

    /// What has been handed to the session.
    pub fn announced(&self) -> impl ExactSizeIterator<Item = &Prefix> {
        self.announced.keys()
    }

    /// The peer wants a family again (RFC 2918 §4).
    pub fn refresh(&mut self, family: Family) {
        let routes = self
            .announced
            .iter_mut()
            .filter(|(prefix, _)| Family::of(prefix) == family);
        routes.for_each(|(_, route)| route.again = true);
    }

    /// The difference, in at most about `room` octets; what does not fit is found again by the next call.
    pub fn reconcile(&mut self, wanted: &Wanted, room: usize) -> Batch {
        let mut batch = Batch {
            complete: true,
            ..Batch::default()
        };
        let mut room = room;
        self.withdraw(wanted, &mut room, &mut batch);
        self.announce(wanted, &mut room, &mut batch);
        if batch.complete {
            let due = std::mem::take(&mut self.end_of_rib_due);
            batch.messages.extend(due.iter().map(wire::encode_end_of_rib));
        }
        batch
    }

    fn withdraw(&mut self, wanted: &Wanted, room: &mut usize, batch: &mut Batch) {
        let surplus: Vec<Prefix> = self
            .announced
            .keys()
            .filter(|prefix| self.target(wanted, prefix).is_none())
            .copied()
            .collect();
        let mut rest = surplus.as_slice();
        while let Some(first) = rest.first() {
            if *room == 0 {
                batch.complete = false;
                return;
            }
            let (message, count) = wire::encode_withdrawal(Family::of(first), rest, &self.terms.outbound());
            let (sent, left) = rest.split_at(count.max(1)); // one prefix always fits
            rest = left;
            *room = room.saturating_sub(message.len());
            batch.messages.push(message);
            for prefix in sent {
                self.announced.remove(prefix);
                batch.changes.push((*prefix, false));
            }
        }
    }

    fn announce(&mut self, wanted: &Wanted, room: &mut usize, batch: &mut Batch) {
        for ((family, next_hop), prefixes) in self.lacking(wanted) {
            let mut rest = prefixes.as_slice();
            while !rest.is_empty() {
                if *room == 0 {
                    batch.complete = false;
                    return;
                }
                let (message, count) =
                    wire::encode_reach(family, rest, next_hop.into(), &self.path, &self.terms.outbound());
                let (sent, left) = rest.split_at(count.max(1)); // as above: our attributes are short
                rest = left;
                *room = room.saturating_sub(message.len());
                batch.messages.push(message);
                for prefix in sent {
                    self.announced.insert(
                        *prefix,
                        Announced {
                            next_hop,
                            again: false,
                        },
                    );
                    batch.changes.push((*prefix, true));
                }
            }
        }
    }

    /// What is wanted and not announced so, grouped by what can share one UPDATE.
    fn lacking(&self, wanted: &Wanted) -> BTreeMap<(Family, IpAddr), Vec<Prefix>> {
        let mut groups: BTreeMap<(Family, IpAddr), Vec<Prefix>> = BTreeMap::new();
        for prefix in wanted.prefixes.keys() {
            let Some(next_hop) = self.target(wanted, prefix) else {
                continue;
            };
            if self.announced.get(prefix)
                != Some(&Announced {
                    next_hop,
                    again: false,
                })
            {
                groups
                    .entry((Family::of(prefix), next_hop))
                    .or_default()
                    .push(*prefix);
            }
        }
        groups
    }

    /// The next hop that `prefix` shall have on this session; `None`: it shall not be announced.
    fn target(&self, wanted: &Wanted, prefix: &Prefix) -> Option<IpAddr> {
        let decision = wanted.prefixes.get(prefix).filter(|decision| decision.announce)?;
        self.terms.next_hop(prefix, decision).ok()
    }
}

#[cfg(test)]
mod tests;
