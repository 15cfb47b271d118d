//! Differences that are right. Each names the RFC that leaves it open, or says where the peers differ too.

use crate::message::{Record, Reply};
use crate::servers::Servers;
use crate::zones::Question;

/// One difference: what was asked, and what came back.
pub(crate) struct Case<'c> {
    pub(crate) servers: &'c Servers,
    pub(crate) question: &'c Question,
    pub(crate) ours: &'c Reply,
    pub(crate) knot: &'c Reply,
    pub(crate) nsd: &'c Reply,
}

/// A kind of difference that is right.
pub(crate) struct Allowed {
    pub(crate) name: &'static str,
    /// The section that says so, and why ours is right.
    pub(crate) why: &'static str,
    pub(crate) applies: fn(&Case<'_>) -> bool,
}

/// In the order in which they are tried.
pub(crate) const ALLOWED: &[Allowed] = &[
    Allowed {
        name: "optional addresses",
        why: "RFC 1034 §4.3.2 step 6: the additional section holds what may be useful; all else is the same, and the \
              addresses are those that Knot gives when it is asked",
        applies: |case| {
            // What is needed in a referral is not optional.
            case.ours.additional.iter().all(|record| is_true(case, record))
                && !is_referral(case.ours)
                && peers(case).any(|peer| {
                    let additional = peer.additional.clone();
                    Reply {
                        additional,
                        ..case.ours.clone()
                    }
                    .says_the_same(peer)
                })
        },
    },
    Allowed {
        name: "truncation near the limit",
        why: "RFC 1035 §4.1.4 leaves compression open, so that a reply within two names of the limit may fit or not",
        applies: |case| {
            let limit = usize::from(case.question.payload.unwrap_or(512));
            peers(case).any(|peer| {
                let (cut, whole) = if case.ours.tc {
                    (case.ours, peer)
                } else {
                    (peer, case.ours)
                };
                cut.tc && !whole.tc && whole.length + 2 * 255 > limit && cut.rcode == whole.rcode
            })
        },
    },
    Allowed {
        name: "sibling glue that does not fit",
        why: "RFC 9471 §3.2: where addresses of servers outside the delegated zone do not fit, TC need not be set; ours \
              compresses names by their case (RFC 1035 §4.1.4 leaves that open) and so needs more room",
        applies: |case| {
            let limit = usize::from(case.question.payload.unwrap_or(512));
            is_referral(case.ours) && peers(case).any(|peer| lacks_siblings_alone(case.ours, peer, limit))
        },
    },
    Allowed {
        name: "a chain into another zone of the server",
        why: "RFC 1034 §4.3.2 step 3a goes on in the zone that holds the target, RFC 6604 §3: the code is that of the \
              last name. The peers differ: Knot stays in the first zone, NSD goes on in part. Ours is what Knot says \
              when it is asked link by link",
        applies: |case| {
            !case.knot.says_the_same(case.nsd)
                && link_by_link(case).is_some_and(|reply| {
                    let additional = case.ours.additional.clone();
                    Reply { additional, ..reply }.says_the_same(case.ours)
                })
        },
    },
];

fn peers<'c>(case: &Case<'c>) -> impl Iterator<Item = &'c Reply> {
    [case.knot, case.nsd].into_iter()
}

fn is_referral(reply: &Reply) -> bool {
    reply.authority.iter().any(|record| record.kind == 2)
}

/// Whether all that `peer` says more are addresses of no server below the cut, for which `ours` has no room left.
fn lacks_siblings_alone(ours: &Reply, peer: &Reply, limit: usize) -> bool {
    let missing: Vec<&Record> = peer.additional.difference(&ours.additional).collect();
    let below = |record: &Record| {
        ours.authority
            .iter()
            .any(|cut| record.owner.ends_with(&cut.owner))
    };
    // type, class, TTL and length of a record beside its names
    let octets: usize = missing
        .iter()
        .map(|record| record.owner.len() + 10 + record.data.len())
        .sum();
    let additional = ours.additional.clone();
    let same = Reply {
        additional,
        ..peer.clone()
    }
    .says_the_same(ours);
    same && !missing.is_empty() && missing.iter().all(|record| !below(record)) && ours.length + octets > limit
}

/// Whether Knot says the same of an address when it is asked for it.
fn is_true(case: &Case<'_>, address: &Record) -> bool {
    let question = Question {
        name: address.owner.clone(),
        kind: address.kind,
        payload: Some(1232),
    };
    matches!(address.kind, 1 | 28) && case.servers.ask_knot(&question).answer.contains(address)
}

/// REFUSED: the name lies in none of the zones.
const REFUSED: u8 = 5;

/// What Knot says of the name that was asked, and then of the target of each chain that ends in another zone.
fn link_by_link(case: &Case<'_>) -> Option<Reply> {
    let mut whole = case.knot.clone();
    for _ in 0..16 {
        let target = end_of_chain(&case.question.name, &whole)?;
        let question = Question {
            name: target,
            ..case.question.clone()
        };
        let next = case.servers.ask_knot(&question);
        let is_new = !next.answer.is_subset(&whole.answer);
        if next.rcode != REFUSED {
            whole.answer.extend(next.answer);
            (whole.rcode, whole.authority, whole.tc) = (next.rcode, next.authority, next.tc);
        }
        if !is_new {
            return Some(whole);
        }
    }
    None
}

/// The last target; `None` where there is no chain, or where it goes round.
fn end_of_chain(name: &[u8], reply: &Reply) -> Option<Vec<u8>> {
    let mut at = name.to_ascii_lowercase();
    let link = |at: &[u8]| {
        reply
            .answer
            .iter()
            .find(|record| record.kind == 5 && record.owner == at)
    };
    for links in 0..32 {
        match link(&at) {
            Some(Record { data, .. }) => at.clone_from(data),
            None => return (links > 0).then_some(at),
        }
    }
    None
}
