//! One MMDB file, verified as a whole before anything of it is used.

use std::collections::HashSet;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::sync::Arc;

use maxminddb::{MaxMindDbError, Reader};

use super::carried::SPECIAL;
use super::prefix;
use super::record::Record;
use super::tree::{BadTree, Leaves, Tree};
use crate::Prefix;

/// Larger files are refused; the largest city databases on the market have about 1 GiB.
const MAX_BYTES: u64 = 2 << 30;

/// Zero bytes between tree and data (MaxMind DB format 2.0, "Data Section Separator").
const SEPARATOR: u64 = 16;

/// IPv4 lies this many zero bits below the root of an IPv6 tree.
const V4_DEPTH: u8 = 96;

/// An open database. Every record that its tree leads to has been decoded once.
pub(crate) struct Database {
    name: Arc<str>,
    bytes: Bytes,
    reader: Reader<Bytes>,
    has_v6: bool,
    v4_start: u32,
}

/// An address family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    V4,
    V6,
}

/// Why a file is not used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BadDatabase {
    #[error("cannot be read: {0}")]
    Unreadable(#[from] io::Error),
    #[error("has more than {} MiB", MAX_BYTES >> 20)]
    TooLarge,
    #[error("is no sound MaxMind DB: {0}")]
    Damaged(#[from] MaxMindDbError),
    #[error("is no sound MaxMind DB: {0}")]
    Tree(#[from] BadTree),
    #[error("is no sound MaxMind DB: the 16 bytes after the search tree are not zero")]
    Separator,
    #[error("gives neither a country nor coordinates for any address (its type is {database_type:?})")]
    KnowsNothing { database_type: String },
    #[error("gives no AS number for any address (its type is {database_type:?})")]
    KnowsNoAsn { database_type: String },
}

/// What a database is asked for; one that never has it is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    Place,
    Asn,
}

impl BadDatabase {
    /// What the operator can do.
    pub(crate) fn remedy(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "check the path and its permissions",
            Self::TooLarge => "use a country or city database",
            Self::Damaged(_) | Self::Tree(_) | Self::Separator => {
                "fetch the file again and compare its checksum; a .gz or .tar.gz must be unpacked"
            }
            Self::KnowsNothing { .. } => {
                "use a database with country.iso_code or country_code, or with location.latitude or latitude"
            }
            Self::KnowsNoAsn { .. } => "use a database with autonomous_system_number or asn",
        }
    }
}

impl Database {
    /// Reads a whole file into memory and verifies it.
    pub(crate) fn read(path: &Path, asked: Asked) -> Result<Self, BadDatabase> {
        let mut bytes = Vec::new();
        File::open(path)?.take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(BadDatabase::TooLarge);
        }
        Self::verified(&path.display().to_string(), bytes, asked)
    }

    /// Verifies a database of places in memory.
    pub(crate) fn open(name: &str, bytes: Vec<u8>) -> Result<Self, BadDatabase> {
        Self::verified(name, bytes, Asked::Place)
    }

    pub(crate) fn verified(name: &str, bytes: Vec<u8>, asked: Asked) -> Result<Self, BadDatabase> {
        let bytes = Bytes(Arc::new(bytes));
        let reader = Reader::from_source(bytes.clone())?;
        let has_v6 = reader.metadata().ip_version == 6;
        let mut database = Self {
            name: Arc::from(name),
            bytes,
            reader,
            has_v6,
            v4_start: 0,
        };
        database.v4_start = database.tree().descend(if has_v6 { V4_DEPTH } else { 0 })?;
        database.verify(asked)?;
        Ok(database)
    }

    /// As the operator named it.
    pub(crate) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Whether a family can be looked up at all. A file for IPv6 has a place for IPv4, though it may be empty.
    pub(crate) fn covers(&self, family: Family) -> bool {
        family == Family::V4 || self.has_v6
    }

    /// The record's network and the record of one address, by the library's own look-up.
    pub(crate) fn look_up(&self, address: IpAddr) -> Result<(Prefix, Record), MaxMindDbError> {
        let found = self.reader.lookup(address)?;
        let network = found.network()?;
        // A record above the IPv4 half of an IPv6 tree holds for all of IPv4.
        let length = if network.is_ipv4() == address.is_ipv4() {
            network.prefix()
        } else {
            0
        };
        Ok((prefix(address, length), found.decode()?.unwrap_or_default()))
    }

    /// The family's networks in address order. IPv6 networks that carry IPv4 are cut out whole.
    pub(crate) fn leaves(&self, family: Family) -> Leaves<'_> {
        match family {
            Family::V4 => self.tree().leaves(self.v4_start, 32, |_, _| false),
            Family::V6 => self.tree().leaves(0, 128, is_special),
        }
    }

    /// First and last address of every network, as the library lists them.
    #[cfg(test)]
    pub(crate) fn networks(&self) -> Vec<(IpAddr, IpAddr)> {
        let options = maxminddb::WithinOptions::default().include_networks_without_data();
        let networks = self
            .reader
            .networks(options)
            .unwrap()
            .map(|found| found.unwrap().network().unwrap());
        networks
            .map(|network| (network.network(), network.broadcast()))
            .collect()
    }

    /// Walks the whole tree, aliases too, and decodes each record once.
    fn verify(&self, asked: Asked) -> Result<(), BadDatabase> {
        let tree = self.tree();
        let separator = self
            .bytes
            .0
            .iter()
            .skip(usize::try_from(tree.size()).unwrap_or(usize::MAX));
        if separator.take(SEPARATOR as usize).any(|byte| *byte != 0) {
            return Err(BadDatabase::Separator);
        }
        let family = if self.has_v6 { Family::V6 } else { Family::V4 };
        let mut seen = HashSet::new();
        let mut knows = false;
        for leaf in tree.leaves(0, family.bits(), |_, _| false) {
            let leaf = leaf?;
            let Some(value) = leaf.record else { continue };
            if seen.insert(value) {
                let record = self.look_up(family.address(leaf.first))?.1;
                knows |= match asked {
                    Asked::Place => record.is_known(),
                    Asked::Asn => record.asn.is_some(),
                };
            }
        }
        if knows {
            return Ok(());
        }
        let database_type = self.reader.metadata().database_type.clone();
        Err(match asked {
            Asked::Place => BadDatabase::KnowsNothing { database_type },
            Asked::Asn => BadDatabase::KnowsNoAsn { database_type },
        })
    }

    fn tree(&self) -> Tree<'_> {
        let metadata = self.reader.metadata();
        Tree::new(&self.bytes.0, metadata.node_count, metadata.record_size)
    }
}

impl Family {
    pub(crate) fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(crate) fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The last address, as a number.
    pub(crate) fn last(self) -> u128 {
        u128::MAX >> (128 - self.bits())
    }

    /// The address behind a number; the high bits of one for IPv4 are cut.
    pub(crate) fn address(self, bits: u128) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::from_bits(bits as u32).into(),
            Self::V6 => Ipv6Addr::from_bits(bits).into(),
        }
    }
}

impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Database")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// One buffer for the library and for our own walk.
#[derive(Clone)]
struct Bytes(Arc<Vec<u8>>);

impl AsRef<[u8]> for Bytes {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

fn is_special(first: u128, length: u8) -> bool {
    SPECIAL
        .iter()
        .any(|special| (special.first, special.length) == (first, length))
}
