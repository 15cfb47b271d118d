//! One zone as the look-up wants it.
//!
//! It is kept small, for a server may hold a million records: per name one key, per set the octets of its data. What
//! a reply says of a set is made from those when it is asked for.

mod build;
mod checks;
mod set;

use std::collections::HashMap;

use hickory_proto::rr::{Name, Record, RecordType};
use steer_topology::Kinds;

pub(crate) use self::build::SteeredKey;
pub(crate) use self::set::{RrSet, is_compressed, is_sound, target};
use crate::wire;

/// All data of one zone, by name.
#[derive(Debug)]
pub(crate) struct Zone {
    /// See [`wire::key`].
    pub(crate) apex: Box<[u8]>,
    nodes: HashMap<Box<[u8]>, Node>,
    /// The SOA as negative answers carry it: RFC 2308 §3, TTL = min(SOA TTL, MINIMUM).
    pub(crate) negative: Record,
}

/// One name. Without any set it is an empty non-terminal (RFC 4592 §2.2.2) or a steered name.
#[derive(Debug, Default)]
pub(crate) struct Node {
    /// The octets of the name as it was written (RFC 4343 §4.1); absent where it was written in lower case.
    written: Option<Box<[u8]>>,
    sets: Box<[RrSet]>,
    /// What is decided by a chain.
    pub(crate) steered: Kinds,
}

impl Node {
    pub(crate) fn set(&self, rtype: RecordType) -> Option<&RrSet> {
        self.sets.iter().find(|set| set.rtype == rtype)
    }

    pub(crate) fn sets(&self) -> &[RrSet] {
        &self.sets
    }

    /// The name as it was written; `key` is the node's own.
    pub(crate) fn name(&self, key: &[u8]) -> Name {
        // The reader lets no name in that is too long.
        wire::name_of(self.written.as_deref().unwrap_or(key)).unwrap_or_else(Name::root)
    }
}

impl Zone {
    /// The node of a name, with its key.
    pub(crate) fn node(&self, key: &[u8]) -> Option<(&[u8], &Node)> {
        self.nodes.get_key_value(key).map(|(key, node)| (&**key, node))
    }

    /// Number of records.
    pub(crate) fn records(&self) -> usize {
        let sets = self.nodes.values().flat_map(Node::sets);
        sets.map(|set| set.data().count()).sum()
    }
}

/// Whether `key` is `apex` or lies below it.
pub(crate) fn is_within(key: &[u8], apex: &[u8]) -> bool {
    wire::upwards(key).any(|above| above == apex)
}

#[cfg(test)]
mod tests;
