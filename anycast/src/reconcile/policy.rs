//! From policies to the path that goes on the wire, once per policy and session.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use steer_topology::{Community, Policy, Prefix};

use super::terms::{Obstacle, Terms};
use crate::wanted::Decision;
use crate::wire::{self, Family, NextHop, Origin, Path, Segment, SegmentKind};

/// RFC 4271 §5.1.5 leaves the value to us; 100 is what all others take.
const LOCAL_PREF: u32 = 100;

/// Compiled policies that are kept. Usual is a handful; beyond, all are compiled anew, which only costs time.
const MAX_PATHS: usize = 4096;

/// Paths that have been compiled for one session.
#[derive(Debug, Clone, Default)]
pub(super) struct Paths {
    known: HashMap<Policy, Option<Arc<Path>>>,
    /// Of the decision before, where that is the same for all peers: prefixes of one fleet share few policies.
    last: Option<(Arc<Policy>, Arc<Path>)>,
}

impl Paths {
    /// The path of a decision; `None` as an obstacle where it leaves no room for a prefix.
    pub(super) fn path(&mut self, terms: &Terms, decision: &Decision) -> Result<Arc<Path>, Obstacle> {
        if let Some((policy, path)) = &self.last
            && decision.to.is_empty()
            && Arc::ptr_eq(policy, &decision.policy)
        {
            return Ok(Arc::clone(path));
        }
        let narrow = narrow(terms, decision)?;
        let path = self.look_up(terms, &narrow)?;
        self.last = decision
            .to
            .is_empty()
            .then(|| (Arc::clone(&decision.policy), Arc::clone(&path)));
        Ok(path)
    }

    fn look_up(&mut self, terms: &Terms, narrow: &Policy) -> Result<Arc<Path>, Obstacle> {
        if let Some(known) = self.known.get(narrow) {
            return known.clone().ok_or(Obstacle::TooManyAttributes);
        }
        let path = compile(&narrow.over(&terms.policy), terms);
        let fits = fits(&path, terms).then(|| Arc::new(path));
        if self.known.len() >= MAX_PATHS {
            self.known.clear();
        }
        self.known.insert(narrow.clone(), fits.clone());
        fits.ok_or(Obstacle::TooManyAttributes)
    }
}

/// What prefix and `to` ask for, without what the peer's own policy adds.
fn narrow<'a>(terms: &Terms, decision: &'a Decision) -> Result<Cow<'a, Policy>, Obstacle> {
    let mut policy = Cow::Borrowed(&*decision.policy);
    // To an internal peer our own AS number in the path is a loop (RFC 4271 §9.1.2): only where its own
    // configuration asks for it.
    if terms.internal && policy.prepend > 0 {
        policy.to_mut().prepend = 0;
    }
    match decision.to.iter().find(|to| to.peer == terms.peer) {
        Some(to) if !to.announce => Err(Obstacle::NotForThisPeer),
        Some(to) => Ok(Cow::Owned(to.policy.over(&policy))),
        None => Ok(policy),
    }
}

/// The path of an effective policy.
fn compile(policy: &Policy, terms: &Terms) -> Path {
    // RFC 4271 §5.1.2 b: our AS number goes to external peers alone.
    let ours = usize::from(!terms.internal) + usize::from(policy.prepend);
    let mut path = Path {
        origin: Origin::Igp,
        as_path: match ours {
            0 => Vec::new(),
            count => vec![Segment {
                kind: SegmentKind::Sequence,
                asns: vec![terms.local_asn.get(); count],
            }],
        },
        med: policy.med,
        local_pref: terms.internal.then(|| policy.local_pref.unwrap_or(LOCAL_PREF)),
        only_to_customer: terms.only_to_customer,
        ..Path::default()
    };
    for community in &policy.communities {
        match *community {
            Community::Standard(community) => path.communities.push(community),
            Community::Extended(community) => path.extended_communities.push(community),
            Community::Large(community) => path.large_communities.push(community),
        }
    }
    sorted(&mut path.communities);
    sorted(&mut path.extended_communities);
    sorted(&mut path.large_communities); // RFC 8092 §5: each once
    path
}

fn sorted<T: Ord>(values: &mut Vec<T>) {
    values.sort_unstable();
    values.dedup();
}

/// Whether the longest prefix and next hop go into one message with this path.
fn fits(path: &Path, terms: &Terms) -> bool {
    let longest = Prefix::covering(std::net::Ipv6Addr::UNSPECIFIED.into(), 128);
    let next_hop = NextHop {
        address: std::net::Ipv6Addr::UNSPECIFIED.into(),
        link_local: Some(std::net::Ipv6Addr::UNSPECIFIED),
    };
    longest.is_ok_and(|prefix| {
        wire::encode_reach(Family::Ipv6Unicast, &[prefix], next_hop, path, &terms.outbound).1 == 1
    })
}

#[cfg(test)]
mod tests;
