//! From the records of the master files to a zone.

use std::collections::HashMap;

use hickory_proto::rr::{Name, RData, Record, RecordType};
use steer_topology::Kinds;

use super::checks::Checks;
use super::set::{RrSet, is_same};
use super::{Node, Zone, is_within};
use crate::master::{At, Master, Written};
use crate::wire;

/// Most octets of data in a set. RFC 1035 §4.2.2: a message has 65,535 at most, so a larger set cannot be sent.
const MAX_SET: usize = 65_000;

/// One name while its records come in.
#[derive(Debug, Default)]
pub(super) struct Draft {
    /// As it was written first.
    pub(super) written: Box<[u8]>,
    pub(super) sets: Vec<DraftSet>,
    pub(super) steered: Kinds,
}

/// The records of one name and type while they come in.
#[derive(Debug)]
pub(super) struct DraftSet {
    pub(super) rtype: RecordType,
    pub(super) ttl: u32,
    pub(super) records: Vec<Box<[u8]>>,
    /// Of the first record.
    pub(super) at: At,
    octets: usize,
    /// Where the TTL was another one, told once.
    warned_of_ttl: bool,
}

/// A steered name, and what is decided there.
pub(crate) type SteeredKey = (Box<[u8]>, Kinds);

pub(super) type Drafts = HashMap<Box<[u8]>, Draft>;

impl Draft {
    pub(super) fn set(&self, rtype: RecordType) -> Option<&DraftSet> {
        self.sets.iter().find(|set| set.rtype == rtype)
    }
}

impl Zone {
    /// Builds the zone from what was written. `None` when `master` holds faults afterwards.
    pub(crate) fn build(apex: &Name, master: &mut Master, steered: &[SteeredKey]) -> Option<Self> {
        let apex_key = wire::key(apex);
        let mut intake = Intake {
            minimum: soa_minimum(&master.records, &apex_key),
            drafts: HashMap::new(),
            apex: &apex_key,
            master,
        };
        for written in std::mem::take(&mut intake.master.records) {
            intake.take(apex, written);
        }
        let mut drafts = intake.drafts;
        for (name, kinds) in steered.iter().filter(|(name, _)| is_within(name, &apex_key)) {
            let draft = drafts.entry(name.clone()).or_default();
            draft.steered = draft.steered.and(*kinds);
        }
        let negative = Checks::new(&apex_key, &drafts, master).run(apex);
        if !master.faults.is_empty() {
            return None;
        }
        let mut nodes: HashMap<Box<[u8]>, Node> = HashMap::with_capacity(drafts.len());
        for (key, draft) in drafts {
            let node = finish(&key, draft)?;
            nodes.insert(key, node);
        }
        fill_gaps(&mut nodes, &apex_key);
        nodes.shrink_to_fit();
        Some(Self {
            apex: apex_key,
            nodes,
            negative: negative?,
        })
    }
}

fn soa_minimum(records: &[Written], apex: &[u8]) -> Option<u32> {
    let soa = records
        .iter()
        .find(|written| written.rtype == RecordType::SOA && written.is_at(apex))?;
    let minimum = soa.data.last_chunk()?;
    Some(u32::from_be_bytes(*minimum))
}

/// Takes records one by one.
struct Intake<'m> {
    minimum: Option<u32>,
    drafts: Drafts,
    apex: &'m [u8],
    master: &'m mut Master,
}

impl Intake<'_> {
    fn take(&mut self, apex: &Name, record: Written) {
        let Written {
            owner,
            ttl,
            rtype,
            data,
            at,
        } = record;
        let key: Box<[u8]> = owner.to_ascii_lowercase().into();
        if !is_within(&key, self.apex) {
            let message = format!("{} lies outside the zone {apex}", show(&owner));
            let remedy = "move it to its own zone, or add the missing final part of the name";
            return self.master.fault(&at, message, remedy);
        }
        // RFC 1035 §5.1 leaves a first record without a TTL open; as BIND does, the SOA's MINIMUM stands in.
        let Some(ttl) = ttl.or(self.minimum) else {
            let remedy = "write $TTL 3600 at the top of the file";
            return self
                .master
                .fault(&at, "no TTL and nothing to take it from", remedy);
        };
        let at_apex = *key == *self.apex;
        let draft = self.drafts.entry(key).or_default();
        if draft.written.is_empty() {
            draft.written = owner;
        }
        match draft.sets.iter_mut().find(|set| set.rtype == rtype) {
            None => draft.sets.push(DraftSet {
                rtype,
                ttl,
                octets: data.len() + 2,
                records: vec![data],
                at,
                warned_of_ttl: false,
            }),
            Some(set) => set.add(&draft.written, at_apex, ttl, data, &at, self.master),
        }
    }
}

impl DraftSet {
    fn add(&mut self, owner: &[u8], at_apex: bool, ttl: u32, data: Box<[u8]>, at: &At, master: &mut Master) {
        let rtype = self.rtype;
        // RFC 2181 §5: a record occurs once in its set.
        if self.records.iter().any(|other| is_same(rtype, other, &data)) {
            return;
        }
        if let Some(rule) = single(rtype, at_apex) {
            let message = format!(
                "a second {rtype} at {} (the first in line {})",
                show(owner),
                master.line(&self.at)
            );
            return master.fault(at, message, rule);
        }
        self.octets += data.len() + 2;
        if self.octets > MAX_SET {
            // Once, at the record that breaks it.
            if self.octets - data.len() - 2 <= MAX_SET {
                let message = format!(
                    "the {rtype} records of {} have more than {MAX_SET} octets",
                    show(owner)
                );
                let remedy = "spread them over several names: no message carries so many (RFC 1035 §4.2.2)";
                master.fault(at, message, remedy);
            }
            return;
        }
        if ttl != self.ttl && !self.warned_of_ttl {
            self.warned_of_ttl = true;
            let message = format!(
                "TTL {ttl} differs from {} in line {}, which is of the same set: {rtype} of {}",
                self.ttl,
                master.line(&self.at),
                show(owner)
            );
            master.warn(
                at,
                message,
                "write one TTL for all of them (RFC 2181 §5.2); the lowest is served",
            );
        }
        // RFC 2181 §5.2: one TTL per set; the lowest is the safe one.
        self.ttl = self.ttl.min(ttl);
        self.records.push(data);
    }
}

/// Types of which a name has one at most, with the remedy.
fn single(rtype: RecordType, at_apex: bool) -> Option<&'static str> {
    if rtype == RecordType::SOA && at_apex {
        Some("keep one SOA (RFC 1035 §5.2)")
    } else if rtype == RecordType::CNAME {
        Some("keep one CNAME (RFC 2181 §10.1)")
    } else if rtype == RecordType::DNAME {
        Some("keep one DNAME (RFC 6672 §2.4)")
    } else {
        None
    }
}

fn finish(key: &[u8], draft: Draft) -> Option<Node> {
    let Draft {
        written,
        sets,
        steered,
    } = draft;
    let mut sets = sets;
    // The first set is what a question for ANY gets: the lowest type, as other servers do.
    sets.sort_by_key(|set| u16::from(set.rtype));
    let sets: Option<Vec<_>> = sets
        .iter()
        .map(|set| RrSet::new(set.rtype, set.ttl, set.records.iter().map(|data| &**data)))
        .collect();
    Some(Node {
        written: Some(written).filter(|written| !written.is_empty() && **written != *key),
        sets: sets?.into(),
        steered,
    })
}

/// RFC 4592 §2.2.2: names between a name with data and the apex exist.
fn fill_gaps(nodes: &mut HashMap<Box<[u8]>, Node>, apex: &[u8]) {
    let mut gaps: Vec<Box<[u8]>> = Vec::new();
    for name in nodes.keys() {
        for above in wire::upwards(name)
            .skip(1)
            .take_while(|above| above.len() > apex.len())
        {
            // What is above a name that has a node was or will be filled by that one.
            if nodes.contains_key(above) {
                break;
            }
            gaps.push(above.into());
        }
    }
    for gap in gaps {
        nodes.entry(gap).or_default();
    }
}

/// The SOA with the TTL of negative answers (RFC 2308 §3).
pub(super) fn negative(name: &Name, set: &DraftSet) -> Option<Record> {
    let set = RrSet::new(set.rtype, set.ttl, set.records.iter().map(|data| &**data))?;
    let mut soa = set.records(name).next()?;
    if let RData::SOA(data) = &soa.data {
        soa.ttl = soa.ttl.min(data.minimum);
    }
    Some(soa)
}

/// A name for a message.
pub(super) fn show(name: &[u8]) -> String {
    wire::name_of(name).map_or_else(String::new, |name| name.to_string())
}
