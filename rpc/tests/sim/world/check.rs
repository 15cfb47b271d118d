//! What may never be: each rule by what applications were told and what the ledger has, and by nothing else.

use std::collections::BTreeMap;
use std::fmt;

use steer_rpc::fate::{Code, Fate, Semantics};

use super::{NodeId, Op, OpId, World};

/// What an application was told of one call.
#[derive(Debug, Clone)]
pub(super) struct Told {
    pub(super) fate: Option<Fate>,
    pub(super) code: Code,
    pub(super) body: Option<String>,
}

/// What a run came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) ops: u64,
    /// Intentions with a key, and how many of them were acknowledged.
    pub(crate) keyed: u64,
    pub(crate) acked: u64,
    /// Keyed calls that were sent more than once by their application.
    pub(crate) again: u64,
    /// Calls done once at most of which nobody knows whether they were.
    pub(crate) ambiguous: u64,
    pub(crate) events: u64,
    /// Of all events in their order.
    pub(crate) digest: u64,
}

impl Tally {
    pub(crate) fn add(&mut self, other: Self) {
        self.ops += other.ops;
        self.keyed += other.keyed;
        self.acked += other.acked;
        self.again += other.again;
        self.ambiguous += other.ambiguous;
        self.events += other.events;
        self.digest ^= other.digest;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} calls, {} keyed of which {} acknowledged and {} sent again, {} ambiguous, {} events",
            self.ops, self.keyed, self.acked, self.again, self.ambiguous, self.events
        )
    }
}

impl World {
    pub(super) fn check(mut self) -> Result<Tally, String> {
        let mut lines: BTreeMap<OpId, Vec<String>> = BTreeMap::new();
        for effect in self.db.book.effects().iter().chain(&self.db.autos) {
            lines.entry(effect.op).or_default().push(effect.name.clone());
        }
        let none = Vec::new();
        let broken: Vec<_> = (0..self.ops.len())
            .filter_map(|op| {
                let rule = rule_of(&self.ops[op], lines.get(&op).unwrap_or(&none))?;
                Some(format!("op {op} ({}): {rule}", self.ops[op].semantics))
            })
            .collect();
        self.broken.extend(broken);
        for node in 0..self.nodes.len() {
            let (calls, jobs) = (self.open_calls(NodeId(node)), self.open_jobs(NodeId(node)));
            if calls + jobs > 0 {
                self.broken.push(format!(
                    "process {node} still has {calls} calls and {jobs} jobs at the end"
                ));
            }
        }
        match self.broken.first() {
            None => Ok(self.tally()),
            Some(rule) => Err(format!(
                "{}broke a rule after {:?}:\n{rule}",
                self.story(),
                self.now
            )),
        }
    }

    fn tally(&self) -> Tally {
        let keyed = || self.ops.iter().filter(|op| op.semantics == Semantics::Keyed);
        let is_acked = |op: &&Op| op.told.iter().any(|told| told.code == Code::Ok);
        let is_open = |op: &&Op| {
            op.semantics == Semantics::AtMostOnce
                && op.told.iter().any(|told| told.fate == Some(Fate::Ambiguous))
        };
        Tally {
            ops: self.ops.len() as u64,
            keyed: keyed().count() as u64,
            acked: keyed().filter(is_acked).count() as u64,
            again: keyed().filter(|op| op.tries > 1).count() as u64,
            ambiguous: self.ops.iter().filter(is_open).count() as u64,
            events: self.events,
            digest: self.digest,
        }
    }
}

/// The rule that an operation breaks, given the lines that it has in the ledger.
fn rule_of(op: &Op, lines: &[String]) -> Option<String> {
    if op.told.len() != op.tries as usize {
        return Some(format!("{} calls and {} ends", op.tries, op.told.len()));
    }
    let acks: Vec<_> = op.told.iter().filter(|told| told.code == Code::Ok).collect();
    let is_acked = !acks.is_empty();
    if is_acked && lines.is_empty() {
        return Some("lost: acknowledged, and not in the ledger".to_owned());
    }
    if op.semantics != Semantics::AtLeastOnce && lines.len() > 1 {
        return Some(format!("double: {lines:?}"));
    }
    for ack in acks {
        let body = ack.body.as_ref();
        if !lines.iter().any(|line| Some(line) == body) {
            return Some(format!("acknowledged as {body:?}, and the ledger has {lines:?}"));
        }
    }
    let harmless = |told: &Told| told.code != Code::Ok && told.fate.is_some_and(Fate::is_harmless);
    if !op.copied && op.told.iter().all(harmless) && !lines.is_empty() {
        return Some(format!("told that nobody saw it, and the ledger has {lines:?}"));
    }
    if op.insists && !is_acked {
        return Some("no answer, long after everything was well again".to_owned());
    }
    None
}
