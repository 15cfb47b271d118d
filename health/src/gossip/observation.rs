//! What one site says of one endpoint.

use jiff::Timestamp;
use ring::digest;
use serde::Serialize;
use steer_topology::{EndpointId, Fleet};

use crate::snapshot::Verdict;

/// Longest reason that is told to others, in octets; a longer one is cut.
pub const REASON_MAX: usize = 64;

/// Stable name of an endpoint, the same for each site and each version of the file: the first 64 bits of the SHA-256
/// of `pool/site/address`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Key(pub u64);

impl Key {
    /// The key of `pool/site/address`.
    #[must_use]
    pub fn of_name(name: &str) -> Self {
        let digest = digest::digest(&digest::SHA256, name.as_bytes());
        let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(first))
    }

    /// The key of an endpoint of a fleet.
    #[must_use]
    pub fn of(fleet: &Fleet, id: EndpointId) -> Self {
        let endpoint = fleet.endpoint(id);
        let site = endpoint.site.map_or("", |site| &fleet.site(site).name);
        let pool = &fleet.pool(endpoint.pool).name;
        Self::of_name(&format!("{pool}/{site}/{}", endpoint.address))
    }
}

/// Orders what one site says: its starts by their time, and within one the changes by their number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version {
    /// Milliseconds since 1970 when the site began to count; later for each start.
    pub epoch: u64,
    /// The number of the change, from 1 without a gap.
    pub number: u64,
}

/// One site's word on one endpoint.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Observation {
    /// When it was said.
    pub version: Version,
    /// What it says; `Unknown` also for what is not checked any more.
    pub verdict: Verdict,
    /// Since when, by the clock of the site that says it.
    pub since: Timestamp,
    /// Why, for people.
    pub reason: String,
}

/// Cuts a reason to [`REASON_MAX`] octets, between two characters.
#[must_use]
pub fn cut(reason: &str) -> &str {
    &reason[..reason.floor_char_boundary(REASON_MAX)]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::FleetBuilder;

    #[test]
    fn a_reason_is_cut_between_characters() {
        assert_eq!(cut("refused"), "refused");
        let long = "ä".repeat(40);
        assert_eq!(cut(&long).len(), 64);
        assert_eq!(cut(&format!("x{long}")).len(), 63);
    }

    #[test]
    fn the_key_of_an_endpoint_is_that_of_its_name() {
        let fleet = FleetBuilder::new(steer_topology::CheckKind::Tcp)
            .pool(&[Some(0), Some(1)])
            .build();
        let name = format!("pool-0/fra/{}", fleet.endpoints[0].address);
        assert_eq!(Key::of(&fleet, EndpointId(0)), Key::of_name(&name));
        assert_ne!(Key::of(&fleet, EndpointId(0)), Key::of(&fleet, EndpointId(1)));
    }
}
