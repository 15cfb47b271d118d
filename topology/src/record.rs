//! Which records a chain decides, and what endpoints say in them.

use std::fmt;

use serde::{Serialize, Serializer};

use crate::{Endpoint, Name};

/// What a `[[steer]]` entry answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// A and AAAA.
    Address,
    /// HTTPS, RFC 9460 §9.
    Https,
    /// SVCB, RFC 9460.
    Svcb,
    /// CNAME, RFC 1034 §3.6.2.
    Cname,
    /// MX, RFC 1035 §3.3.9.
    Mx,
    /// SRV, RFC 2782.
    Srv,
    /// TXT, RFC 1035 §3.3.14.
    Txt,
}

impl Kind {
    /// Every kind, in the order of messages.
    pub const ALL: [Self; 7] = [
        Self::Address,
        Self::Https,
        Self::Svcb,
        Self::Cname,
        Self::Mx,
        Self::Srv,
        Self::Txt,
    ];

    /// As the configuration writes it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Address => "address",
            Self::Https => "https",
            Self::Svcb => "svcb",
            Self::Cname => "cname",
            Self::Mx => "mx",
            Self::Srv => "srv",
            Self::Txt => "txt",
        }
    }

    /// Whether it is a service binding of RFC 9460.
    #[must_use]
    pub fn is_binding(self) -> bool {
        match self {
            Self::Https | Self::Svcb => true,
            Self::Address | Self::Cname | Self::Mx | Self::Srv | Self::Txt => false,
        }
    }

    fn bit(self) -> u8 {
        match self {
            Self::Address => 1,
            Self::Https => 2,
            Self::Svcb => 4,
            Self::Cname => 8,
            Self::Mx => 16,
            Self::Srv => 32,
            Self::Txt => 64,
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A set of kinds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Kinds(u8);

impl Kinds {
    /// None of them.
    pub const NONE: Self = Self(0);

    /// Whether `kind` is one of them.
    #[must_use]
    pub fn has(self, kind: Kind) -> bool {
        self.0 & kind.bit() != 0
    }

    /// With one more.
    #[must_use]
    pub fn with(self, kind: Kind) -> Self {
        Self(self.0 | kind.bit())
    }

    /// Those of both sets.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Each of them.
    pub fn iter(self) -> impl Iterator<Item = Kind> {
        Kind::ALL.into_iter().filter(move |kind| self.has(*kind))
    }
}

impl FromIterator<Kind> for Kinds {
    fn from_iter<I: IntoIterator<Item = Kind>>(kinds: I) -> Self {
        kinds.into_iter().fold(Self::NONE, Self::with)
    }
}

impl Serialize for Kinds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.iter())
    }
}

/// What the service bindings of an entry say beside priority and port.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Binding {
    /// Whom they name.
    pub target: BindingTarget,
    /// Protocols, RFC 9460 §7.1; empty: the parameter is left out.
    pub alpn: Vec<String>,
}

/// TargetName of the service bindings of an entry, RFC 9460 §2.1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BindingTarget {
    /// The name itself: one record, with the addresses of the same chain as hints.
    #[default]
    Itself,
    /// The name of each endpoint: a record for each.
    Endpoint,
}

/// What an endpoint says in records other than its address.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize)]
pub struct Said {
    /// The name that CNAME, MX, SRV and service bindings carry; absent: the host that `address` names.
    pub target: Option<Name>,
    /// MX preference, SRV and service binding priority; absent: by its place in the answer.
    pub priority: Option<u16>,
    /// The strings of a TXT record, at most 255 octets each.
    pub text: Vec<String>,
}

impl Endpoint {
    /// The name by which records send clients there.
    #[must_use]
    pub fn target(&self) -> Option<Name> {
        let host = || self.host.as_deref()?.parse().ok();
        self.said.target.clone().or_else(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_has_what_was_put_in() {
        let set: Kinds = [Kind::Txt, Kind::Https].into_iter().collect();
        assert_eq!(set.iter().collect::<Vec<_>>(), [Kind::Https, Kind::Txt]);
        assert!(!set.has(Kind::Mx) && !set.is_empty() && Kinds::NONE.is_empty());
        assert_eq!(
            serde_json::to_string(&set).ok().as_deref(),
            Some("[\"https\",\"txt\"]")
        );
        for kind in Kind::ALL {
            assert_eq!(Kinds::NONE.with(kind).iter().collect::<Vec<_>>(), [kind]);
        }
    }
}
