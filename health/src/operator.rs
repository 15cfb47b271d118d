//! What an operator wishes, whatever the checks say: drains, and verdicts that are forced.
//!
//! A drained endpoint takes no new clients: DNS gives it to nobody, and the routes of its site step down. It is
//! not down, and what it serves it goes on serving until the last route is withdrawn.
//!
//! A forced verdict stands in the place of the checks' own: up, though they fail, or down, though they succeed.

mod force;
mod handle;

use std::fmt;
use std::net::SocketAddr;

use jiff::Timestamp;
use serde::Serialize;
use steer_topology::{EndpointId, Fleet, SiteId};

pub use force::{Force, Forced};
pub(crate) use handle::{Adopted, Command, Wish};
pub use handle::{Commands, Done, Kept, LoadOrder, Operator, Order, Over, Refused, What};

/// An operator's wish that something takes no new clients.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Drain {
    /// What is drained.
    pub target: Target,
    /// Why, in the operator's words; may be empty.
    pub reason: String,
    /// Who asked for it.
    pub author: String,
    /// When it began.
    pub since: Timestamp,
    /// When it ends by itself; absent: when somebody undrains.
    pub until: Option<Timestamp>,
}

/// "drained: kernel update, by ana, until 2026-01-01T14:00:00Z"
impl fmt::Display for Drain {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("drained: ")?;
        if !self.reason.is_empty() {
            write!(f, "{}, ", self.reason)?;
        }
        write!(f, "by {}, ", self.author)?;
        match self.until {
            Some(until) => write!(f, "until {until:.0}"),
            None => f.write_str("until undrained"),
        }
    }
}

/// What a drain is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Every endpoint of a site, and the routes that it announces.
    Site(SiteId),
    /// One endpoint.
    Endpoint(EndpointId),
}

/// A text that names no one target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoTarget {
    /// Nothing goes by that name.
    #[error("no site and no endpoint is called {text:?}; {known}")]
    Unknown {
        /// As it was written.
        text: String,
        /// What would be right.
        known: String,
    },
    /// Several endpoints do.
    #[error("{text:?} is {count} endpoints; name one of them, such as {example}")]
    Ambiguous {
        /// As it was written.
        text: String,
        /// How many.
        count: usize,
        /// The full name of the first.
        example: String,
    },
}

/// Most sites that a message lists.
const LISTED: usize = 12;

impl Target {
    /// Finds what an operator names: a site (`fra`), or an endpoint as `ADDRESS:PORT`, with `POOL/` before it and
    /// `@SITE` behind it where that is needed to tell it from others; or as `POOL@SITE`, where that is one.
    ///
    /// # Errors
    /// No target goes by that name, or several do.
    pub fn find(fleet: &Fleet, text: &str) -> Result<Self, NoTarget> {
        if let Some(site) = fleet.site_named(text) {
            return Ok(Self::Site(site));
        }
        let pattern = Pattern::parse(text).ok_or_else(|| unknown(fleet, text))?;
        let matching: Vec<_> = fleet
            .endpoint_ids()
            .filter(|id| pattern.matches(fleet, *id))
            .collect();
        match matching.as_slice() {
            [] => Err(unknown(fleet, text)),
            [one] => Ok(Self::Endpoint(*one)),
            [first, ..] => Err(NoTarget::Ambiguous {
                text: text.to_owned(),
                count: matching.len(),
                example: Self::Endpoint(*first).name(fleet),
            }),
        }
    }

    /// The name that [`Target::find`] finds again, in this fleet and after a reload: `fra`,
    /// `web/198.51.100.10:443@fra`.
    #[must_use]
    pub fn name(self, fleet: &Fleet) -> String {
        match self {
            Self::Site(site) => fleet.site(site).name.clone(),
            Self::Endpoint(id) => {
                let endpoint = fleet.endpoint(id);
                let pool = &fleet.pool(endpoint.pool).name;
                match endpoint.site {
                    Some(site) => format!("{pool}/{}@{}", endpoint.address, fleet.site(site).name),
                    None => format!("{pool}/{}", endpoint.address),
                }
            }
        }
    }

    /// The endpoints that it is about.
    pub fn endpoints(self, fleet: &Fleet) -> impl Iterator<Item = EndpointId> + '_ {
        fleet.endpoint_ids().filter(move |id| match self {
            Self::Site(site) => fleet.endpoint(*id).site == Some(site),
            Self::Endpoint(one) => *id == one,
        })
    }
}

/// `[POOL/]ADDRESS:PORT[@SITE]` or `POOL@SITE`
struct Pattern<'a> {
    pool: Option<&'a str>,
    address: Option<SocketAddr>,
    site: Option<&'a str>,
}

impl<'a> Pattern<'a> {
    fn parse(text: &'a str) -> Option<Self> {
        let (pool, rest) = match text.rsplit_once('/') {
            Some((pool, rest)) => (Some(pool), rest),
            None => (None, text),
        };
        let (address, site) = match rest.split_once('@') {
            Some((address, site)) => (address, Some(site)),
            None => (rest, None),
        };
        match (pool, address.parse(), site) {
            (pool, Ok(address), site) => Some(Self {
                pool,
                address: Some(address),
                site,
            }),
            (None, Err(_), site @ Some(_)) => Some(Self {
                pool: Some(address),
                address: None,
                site,
            }),
            (_, Err(_), _) => None,
        }
    }

    fn matches(&self, fleet: &Fleet, id: EndpointId) -> bool {
        let endpoint = fleet.endpoint(id);
        let site = endpoint.site.map(|site| fleet.site(site).name.as_str());
        self.address.is_none_or(|address| endpoint.address == address)
            && self
                .pool
                .is_none_or(|pool| fleet.pool(endpoint.pool).name == pool)
            && (self.site.is_none() || self.site == site)
    }
}

fn unknown(fleet: &Fleet, text: &str) -> NoTarget {
    let names: Vec<_> = fleet.sites.iter().map(|site| site.name.as_str()).collect();
    let endpoints = "an endpoint is written ADDRESS:PORT, POOL/ADDRESS:PORT@SITE or POOL@SITE";
    let known = match names.as_slice() {
        [] => format!("this fleet has no sites; {endpoints}"),
        [..] if names.len() <= LISTED => format!("sites are {}; {endpoints}", names.join(", ")),
        [first @ .., _] => format!(
            "sites are {}, .. ({} in all); {endpoints}",
            first[..LISTED.min(first.len())].join(", "),
            names.len()
        ),
    };
    NoTarget::Unknown {
        text: text.to_owned(),
        known,
    }
}

#[cfg(test)]
mod tests {
    use steer_topology::CheckKind;

    use super::*;
    use crate::testing::FleetBuilder;

    fn fleet() -> Fleet {
        let at = |site, text: &str| (site, text.parse().unwrap());
        let web = [
            at(Some(0), "192.0.2.1:80"),
            at(Some(1), "192.0.2.2:80"),
            at(Some(1), "[2001:db8::2]:80"),
        ];
        let api = [at(Some(0), "192.0.2.1:80"), at(Some(2), "192.0.2.9:80")];
        let fleet = FleetBuilder::new(CheckKind::Tcp)
            .pool_at(&web, None)
            .pool_at(&api, None)
            .build();
        (*fleet).clone()
    }

    #[test]
    fn a_target_is_found_by_the_shortest_name_that_is_its_own() {
        let fleet = fleet();
        let rows = [
            ("nrt", Target::Site(SiteId(1)), "nrt"),
            (
                "192.0.2.2:80",
                Target::Endpoint(EndpointId(1)),
                "pool-0/192.0.2.2:80@nrt",
            ),
            (
                "[2001:db8::2]:80",
                Target::Endpoint(EndpointId(2)),
                "pool-0/[2001:db8::2]:80@nrt",
            ),
            (
                "pool-1/192.0.2.1:80",
                Target::Endpoint(EndpointId(3)),
                "pool-1/192.0.2.1:80@fra",
            ),
            (
                "pool-0@fra",
                Target::Endpoint(EndpointId(0)),
                "pool-0/192.0.2.1:80@fra",
            ),
            (
                "192.0.2.9:80@jfk",
                Target::Endpoint(EndpointId(4)),
                "pool-1/192.0.2.9:80@jfk",
            ),
        ];
        for (text, target, name) in rows {
            assert_eq!(Target::find(&fleet, text), Ok(target), "{text}");
            assert_eq!(target.name(&fleet), name);
            assert_eq!(
                Target::find(&fleet, name),
                Ok(target),
                "a full name is found again"
            );
        }
    }

    #[test]
    fn a_wrong_name_is_answered_with_what_would_be_right() {
        let message = |text| Target::find(&fleet(), text).unwrap_err().to_string();
        assert_eq!(
            message("frx"),
            "no site and no endpoint is called \"frx\"; sites are fra, nrt, jfk, gru; \
             an endpoint is written ADDRESS:PORT, POOL/ADDRESS:PORT@SITE or POOL@SITE"
        );
        assert!(message("192.0.2.2:81").contains("no endpoint is called"));
        assert!(message("pool-9/192.0.2.2:80").contains("no endpoint is called"));
        assert!(message("pool-0@nrt").contains("is 2 endpoints"));
        assert!(message("pool-9@nrt").contains("no endpoint is called"));
        assert_eq!(
            message("192.0.2.1:80"),
            "\"192.0.2.1:80\" is 2 endpoints; name one of them, such as pool-0/192.0.2.1:80@fra"
        );
    }

    #[test]
    fn a_drain_says_why_by_whom_and_until_when() {
        let mut drain = Drain {
            target: Target::Site(SiteId(0)),
            reason: "kernel update".to_owned(),
            author: "ana".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            until: "2026-01-01T14:00:00.5Z".parse().ok(),
        };
        let timed = "drained: kernel update, by ana, until 2026-01-01T14:00:00Z";
        assert_eq!(drain.to_string(), timed);
        (drain.reason, drain.until) = (String::new(), None);
        assert_eq!(drain.to_string(), "drained: by ana, until undrained");
    }
}
