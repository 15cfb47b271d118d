//! Client classes: which addresses are alike to every steering decision.
//!
//! A class is what the chains of the fleet can tell of a client: an order of the sites by distance or round-trip
//! time, a country, continent, AS or network that some map names. What no chain uses ([`Traits`]) divides nothing.
//! All IPv4 and all IPv6 addresses are divided among the classes, exactly and without overlap, from the same
//! databases and by the same rules as [`Geography::locate`].
//! Neighbours of one class are one range. The scope of an address (RFC 7871 §7.2.1) is the length of the widest
//! network around it that lies in its range: it never covers a second class, and one bit less would.
//!
//! ```text
//! address ─► index by its top 16 bits ─► first and last range of that bucket ─► binary search ─► class, scope
//! ```

mod build;
mod nets;
mod table;

use std::iter;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use serde::Serialize;

pub use self::build::ClassError;
use self::table::Table;
use crate::geography::Carried;
use crate::{Asn, Continent, CountryCode, Latency, Prefix, SiteId};
#[cfg(doc)]
use crate::{Geography, Traits};

/// So many classes can be told apart; the last `u16` marks what is looked up as IPv4.
///
/// Country data cannot exceed it (252 places), nor can coordinates with up to 23 sites: the bisectors of `n` sites
/// cut the sphere into at most about n⁴/4 cells. A city database with more sites may.
pub const MAX_CLASSES: usize = u16::MAX as usize;

/// Table value of the IPv6 networks that carry IPv4 addresses.
const CARRIES_V4: u16 = u16::MAX;

/// Index of a class in its [`Classes`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct ClassId(pub u16);

/// What is common to all addresses of a class.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Class {
    /// Every site of the fleet, nearest first; equal distances, and unknown ones, in file order. Empty where no chain
    /// asks.
    pub nearest: Box<[SiteId]>,
    /// Whether the order is by distance: the address has a position. Where it makes no difference (fewer than two
    /// sites, or no chain that asks), it is true for all.
    pub distance_known: bool,
    /// Every site of the fleet, shortest round trip first; empty where that is not known, or no chain asks.
    pub quickest: Box<[SiteId]>,
    /// The country, if it is one that a chain tells from others.
    pub country: Option<CountryCode>,
    /// The continent, likewise.
    pub continent: Option<Continent>,
    /// The AS number, likewise.
    pub asn: Option<Asn>,
    /// The narrowest network that a chain tells from others; no such network divides it.
    pub network: Option<Prefix>,
}

/// A class and how far it reaches around the address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Found {
    /// The class of the address.
    pub class: ClassId,
    /// Length of the widest network around the address that lies in one range of the class; of the address's own
    /// family.
    pub scope: u8,
}

/// A run of addresses of one class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Range {
    /// First address.
    pub first: IpAddr,
    /// Last address, of the same family.
    pub last: IpAddr,
    /// Their class.
    pub class: ClassId,
}

/// The partition. Immutable; look-ups allocate nothing and take no lock.
#[derive(Debug, Clone)]
pub struct Classes {
    classes: Vec<Class>,
    v4: Table<u32>,
    v6: Table<u128>,
    latency: Option<Arc<Latency>>,
}

impl Classes {
    /// One class for every address, with scope 0 and no site: for a fleet that steers by no geography.
    #[must_use]
    pub fn single() -> Self {
        let class = Class {
            distance_known: true,
            ..Class::default()
        };
        Self {
            classes: vec![class],
            v4: Table::of_one(0),
            v6: Table::of_one(0),
            latency: None,
        }
    }

    /// The round-trip times that the classes were made with; `None` where no chain asks for them.
    #[must_use]
    pub fn latency(&self) -> Option<&Latency> {
        self.latency.as_deref()
    }

    /// The class of an address and the scope of what is said about it.
    #[must_use]
    pub fn find(&self, address: IpAddr) -> Found {
        match address {
            IpAddr::V4(address) => self.find_v4(address),
            IpAddr::V6(address) => self.find_v6(address),
        }
    }

    /// A class of this partition.
    #[must_use]
    pub fn class(&self, id: ClassId) -> &Class {
        &self.classes[usize::from(id.0)]
    }

    /// All class ids, in order.
    pub fn ids(&self) -> impl Iterator<Item = ClassId> + use<> {
        (0..self.classes.len()).map(|index| ClassId(index as u16))
    }

    /// How many classes there are; at least one.
    #[must_use]
    #[expect(clippy::len_without_is_empty, reason = "a partition is never empty")]
    pub fn len(&self) -> usize {
        self.classes.len()
    }

    /// The whole partition: IPv4, then IPv6, each in address order from the first address to the last.
    pub fn ranges(&self) -> impl Iterator<Item = Range> + '_ {
        let v4 = self.v4.ranges().map(|(first, last, class)| Range {
            first: Ipv4Addr::from_bits(first).into(),
            last: Ipv4Addr::from_bits(last).into(),
            class: ClassId(class),
        });
        v4.chain(
            self.v6
                .ranges()
                .flat_map(|(first, last, value)| self.v6_ranges(first, last, value)),
        )
    }

    fn find_v4(&self, address: Ipv4Addr) -> Found {
        let (value, scope) = self.v4.find(address.to_bits());
        Found {
            class: ClassId(value),
            scope,
        }
    }

    fn find_v6(&self, address: Ipv6Addr) -> Found {
        let (value, scope) = self.v6.find(address.to_bits());
        match Carried::by(address.into()) {
            Carried::V4 { address, offset } if value == CARRIES_V4 => {
                let Found { class, scope } = self.find_v4(address);
                Found {
                    class,
                    scope: offset + scope,
                }
            }
            Carried::Itself | Carried::Hidden { .. } | Carried::V4 { .. } => Found {
                class: ClassId(value),
                scope,
            },
        }
    }

    /// One range of the IPv6 table; the IPv4 ranges in its place where it carries those.
    fn v6_ranges(&self, first: u128, last: u128, value: u16) -> Box<dyn Iterator<Item = Range> + '_> {
        let range = |first, last, class| Range {
            first: Ipv6Addr::from_bits(first).into(),
            last: Ipv6Addr::from_bits(last).into(),
            class: ClassId(class),
        };
        match Carried::by(Ipv6Addr::from_bits(first).into()) {
            Carried::V4 { offset, .. } if value == CARRIES_V4 => {
                let shift = 96 - offset;
                Box::new(self.v4.ranges().map(move |(v4_first, v4_last, class)| {
                    let rest = (1_u128 << shift) - 1;
                    let last = first | (u128::from(v4_last) << shift) | rest;
                    range(first | (u128::from(v4_first) << shift), last, class)
                }))
            }
            Carried::Itself | Carried::Hidden { .. } | Carried::V4 { .. } => {
                Box::new(iter::once(range(first, last, value)))
            }
        }
    }
}

#[cfg(test)]
mod tests;
