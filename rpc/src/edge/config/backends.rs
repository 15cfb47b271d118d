//! `backends` of a `[[pool]]`: addresses, or a pool of the fleet.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::de::{Deserialize, Deserializer, Error, SeqAccess, Visitor};

/// Where the backends of a pool come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Backends {
    /// These, at least one.
    Addresses(Vec<SocketAddr>),
    /// The endpoints of a pool of the fleet that are in service. Within `steer run` only.
    Fleet(FleetPool),
}

/// A pool of the fleet: `pool:NAME`, `pool:NAME@local` or `pool:NAME@SITE`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetPool {
    /// Which.
    pub name: String,
    /// Whose endpoints alone: those of a site, or of the edge's own (`local`).
    pub at: Option<String>,
}

/// What names no pool of a fleet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{0:?} names no pool of the fleet; write \"pool:NAME\", \"pool:NAME@local\" or \"pool:NAME@SITE\", or a list of \
     addresses"
)]
pub struct InvalidFleetPool(String);

impl FromStr for FleetPool {
    type Err = InvalidFleetPool;

    fn from_str(text: &str) -> Result<Self, InvalidFleetPool> {
        let invalid = || InvalidFleetPool(text.to_owned());
        let rest = text.strip_prefix("pool:").ok_or_else(invalid)?;
        let (name, at) = rest
            .split_once('@')
            .map_or((rest, None), |(name, at)| (name, Some(at)));
        if name.is_empty() || at.is_some_and(str::is_empty) {
            return Err(invalid());
        }
        Ok(Self {
            name: name.to_owned(),
            at: at.map(str::to_owned),
        })
    }
}

impl fmt::Display for FleetPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, at } = self;
        match at {
            None => write!(f, "pool:{name}"),
            Some(at) => write!(f, "pool:{name}@{at}"),
        }
    }
}

impl<'de> Deserialize<'de> for Backends {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrOther)
    }
}

struct OneOrOther;

impl<'de> Visitor<'de> for OneOrOther {
    type Value = Backends;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list of addresses, or \"pool:NAME\"")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Backends, E> {
        text.parse().map(Backends::Fleet).map_err(E::custom)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Backends, A::Error> {
        let mut addresses = Vec::new();
        while let Some(address) = list.next_element()? {
            addresses.push(address);
        }
        Ok(Backends::Addresses(addresses))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_of_the_fleet_is_named_as_in_while_up() {
        for text in ["pool:shop", "pool:shop@local", "pool:shop@fra"] {
            let pool: FleetPool = text.parse().unwrap();
            assert_eq!(pool.to_string(), text);
        }
        for text in ["shop", "pool:", "pool:@fra", "pool:shop@", "check:shop"] {
            assert_eq!(text.parse::<FleetPool>(), Err(InvalidFleetPool(text.to_owned())));
        }
    }
}
