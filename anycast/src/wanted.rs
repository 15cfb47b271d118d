//! From a snapshot to the routes that this site wants announced.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use steer_health::{Holds, Snapshot};
use steer_topology::{Anycast, Condition, Policy, Prefix, SiteId, ToPeer};

/// What one snapshot wants of every peer of this site.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Wanted {
    /// Number of the snapshot; 0 before the first.
    pub snapshot: u64,
    /// Every prefix that this site may announce.
    pub prefixes: BTreeMap<Prefix, Decision>,
}

/// The decision on one prefix.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Decision {
    /// Announce it, or not.
    pub announce: bool,
    /// Configured NEXT_HOP.
    pub next_hop: Option<IpAddr>,
    /// Attributes for every peer; see [`Policy::over`].
    pub policy: Arc<Policy>,
    /// Peers that get something else.
    pub to: Vec<ToPeer>,
    /// The snapshot that brought this decision; later ones only confirmed it.
    pub by: u64,
}

impl Wanted {
    /// Wants nothing: for the orderly end.
    #[must_use]
    pub fn nothing(&self) -> Self {
        let decline = |decision: &Decision| Decision {
            announce: false,
            ..decision.clone()
        };
        let prefixes = self
            .prefixes
            .iter()
            .map(|(prefix, decision)| (*prefix, decline(decision)))
            .collect();
        Self {
            snapshot: self.snapshot,
            prefixes,
        }
    }
}

/// Decides for the process that runs as `local`. `before` is what stands now: where a condition is not decided
/// yet, that stays (start-up announces nothing, and an unknown verdict withdraws nothing).
#[must_use]
pub fn decide(snapshot: &Snapshot, local: Option<SiteId>, before: &Wanted) -> Wanted {
    let ours = snapshot
        .fleet
        .anycast
        .iter()
        .filter(|anycast| stands_at(anycast, local));
    let prefixes = ours.map(|anycast| {
        let stands = before.prefixes.get(&anycast.prefix);
        (anycast.prefix, decide_one(snapshot, local, anycast, stands))
    });
    Wanted {
        snapshot: snapshot.number,
        prefixes: prefixes.collect(),
    }
}

fn decide_one(
    snapshot: &Snapshot,
    local: Option<SiteId>,
    anycast: &Anycast,
    stands: Option<&Decision>,
) -> Decision {
    let announce = match all_hold(snapshot, local, anycast) {
        Holds::Yes => true,
        Holds::No => false,
        Holds::Unknown => stands.is_some_and(|decision| decision.announce),
    };
    // Gap: `on_drain` is not followed step by step yet; what every ladder ends with comes at once.
    let announce = announce && !is_drained(snapshot, local, anycast);
    let mut next = Decision {
        announce,
        next_hop: anycast.next_hop,
        policy: Arc::new(anycast.policy.clone()),
        to: anycast.to.clone(),
        by: snapshot.number,
    };
    if let Some(stands) = stands {
        let by = std::mem::replace(&mut next.by, stands.by);
        if next != *stands {
            next.by = by;
        }
    }
    next
}

/// Our site is drained, or the endpoints without which the prefix would not stand.
fn is_drained(snapshot: &Snapshot, local: Option<SiteId>, anycast: &Anycast) -> bool {
    let leans = |condition: &Condition| match condition {
        Condition::InService(condition) => snapshot.leans_on(condition, local).is_some(),
        // Gap: what a combination leans on is not looked for.
        Condition::Address(_)
        | Condition::All(_)
        | Condition::Any(_)
        | Condition::Not(_)
        | Condition::AtLeast { .. } => false,
    };
    snapshot.site_drain(local).is_some() || anycast.while_up.iter().any(leans)
}

/// One `No` decides; without one, one `Unknown` leaves it open.
fn all_hold(snapshot: &Snapshot, local: Option<SiteId>, anycast: &Anycast) -> Holds {
    let mut all = Holds::Yes;
    for condition in &anycast.while_up {
        match holds(snapshot, local, condition) {
            Holds::No => return Holds::No,
            Holds::Unknown => all = Holds::Unknown,
            Holds::Yes => {}
        }
    }
    all
}

/// Three-valued logic: what is unknown is told only where it decides.
fn holds(snapshot: &Snapshot, local: Option<SiteId>, condition: &Condition) -> Holds {
    let of = |all: &[Condition], want: usize| {
        let values: Vec<Holds> = all.iter().map(|one| holds(snapshot, local, one)).collect();
        let count = |value| values.iter().filter(|other| **other == value).count();
        match (
            count(Holds::Yes) >= want,
            count(Holds::Yes) + count(Holds::Unknown) >= want,
        ) {
            (true, _) => Holds::Yes,
            (false, true) => Holds::Unknown,
            (false, false) => Holds::No,
        }
    };
    match condition {
        Condition::InService(condition) => snapshot.holds(condition, local),
        Condition::Address(_) => Holds::Unknown, // Gap: not looked at yet
        Condition::All(all) => of(all, all.len()),
        Condition::Any(any) => of(any, 1),
        Condition::AtLeast { count, of: among } => of(among, usize::from(count.get())),
        Condition::Not(one) => match holds(snapshot, local, one) {
            Holds::Yes => Holds::No,
            Holds::No => Holds::Yes,
            Holds::Unknown => Holds::Unknown,
        },
    }
}

fn stands_at(anycast: &Anycast, local: Option<SiteId>) -> bool {
    match local {
        Some(site) => anycast.sites.contains(&site),
        None => anycast.sites.is_empty(),
    }
}

#[cfg(test)]
mod tests;
