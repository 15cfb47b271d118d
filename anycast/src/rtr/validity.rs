//! Route origin validation (RFC 6811 §2).

use serde::Serialize;
use steer_topology::{Asn, Prefix};

use super::Vrp;

/// What a validating router makes of a route.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Validity {
    /// Nothing was heard from a cache yet, or what was heard has expired.
    Unknown,
    /// No ROA covers it.
    NotFound,
    /// A ROA allows it.
    Valid,
    /// ROAs cover it and none allows it: many drop it.
    Invalid,
}

impl Validity {
    /// As it is written.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::NotFound => "not-found",
            Self::Valid => "valid",
            Self::Invalid => "invalid",
        }
    }
}

impl Vrp {
    /// RFC 6811 §2: "covered".
    #[must_use]
    pub fn covers(&self, prefix: &Prefix) -> bool {
        self.prefix.length() <= prefix.length() && self.prefix.contains(prefix.address())
    }

    /// RFC 6811 §2: "matched". AS 0 matches nothing.
    #[must_use]
    pub fn allows(&self, prefix: &Prefix, origin: Asn) -> bool {
        self.covers(prefix) && prefix.length() <= self.max_length && self.asn == origin.get()
    }
}

/// The validity of `prefix` with `origin`, by these and no other VRPs.
pub fn validate<'a>(vrps: impl IntoIterator<Item = &'a Vrp>, prefix: &Prefix, origin: Asn) -> Validity {
    let mut validity = Validity::NotFound;
    for vrp in vrps {
        if vrp.allows(prefix, origin) {
            return Validity::Valid;
        }
        if vrp.covers(prefix) {
            validity = Validity::Invalid;
        }
    }
    validity
}
