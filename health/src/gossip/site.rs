//! Who takes part: sites by their names, and the list of those that the fleet names.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;

use serde::{Serialize, Serializer};
use steer_topology::{Fleet, SiteId};

/// Name of a site: an IATA code in lower case. (Digits are let pass, for fleets that tests make.)
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct SiteName([u8; 3]);

impl Ord for SiteName {
    /// As the octets are, in one comparison: the store asks in maps of names for every word that comes.
    fn cmp(&self, other: &Self) -> Ordering {
        let number = |Self([first, second, third]): Self| u32::from_be_bytes([0, first, second, third]);
        number(*self).cmp(&number(*other))
    }
}

impl PartialOrd for SiteName {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl SiteName {
    /// Octets on the wire.
    pub const LENGTH: usize = 3;

    /// `None` where `name` has not three letters.
    #[must_use]
    pub fn new(name: &str) -> Option<Self> {
        let octets: [u8; 3] = name.as_bytes().try_into().ok()?;
        Self::from_octets(octets.map(|octet| octet.to_ascii_lowercase()))
    }

    /// `None` where the octets are not three lower case letters or digits.
    #[must_use]
    pub fn from_octets(octets: [u8; 3]) -> Option<Self> {
        let fits = |octet: &u8| octet.is_ascii_lowercase() || octet.is_ascii_digit();
        octets.iter().all(fits).then_some(Self(octets))
    }

    /// As it is sent.
    #[must_use]
    pub fn octets(self) -> [u8; 3] {
        self.0
    }

    /// As it is written in the file.
    #[must_use]
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("???") // ASCII: never
    }
}

impl fmt::Display for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for SiteName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for SiteName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

/// The sites that may take part, and where each hears: `[[site]]` with `gossip`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Roster(BTreeMap<SiteName, SocketAddr>);

impl Roster {
    /// The sites of a fleet that have a gossip address.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let member = |site: &steer_topology::Site| Some((SiteName::new(&site.name)?, site.gossip?));
        Self(fleet.sites.iter().filter_map(member).collect())
    }

    /// Where a site hears; `None`: it takes no part.
    #[must_use]
    pub fn address(&self, site: SiteName) -> Option<SocketAddr> {
        self.0.get(&site).copied()
    }

    /// Whether a site takes part.
    #[must_use]
    pub fn has(&self, site: SiteName) -> bool {
        self.0.contains_key(&site)
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = (SiteName, SocketAddr)> + '_ {
        self.0.iter().map(|(site, address)| (*site, *address))
    }

    /// How many take part.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nobody does.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<(SiteName, SocketAddr)> for Roster {
    fn from_iter<I: IntoIterator<Item = (SiteName, SocketAddr)>>(sites: I) -> Self {
        Self(sites.into_iter().collect())
    }
}

/// The name of a site of a fleet; `None` where it is no IATA code, which a checked fleet has not.
#[must_use]
pub fn name_of(fleet: &Fleet, site: SiteId) -> Option<SiteName> {
    SiteName::new(&fleet.site(site).name)
}
