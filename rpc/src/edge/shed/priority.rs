//! How much a call matters: the four criticalities of "Site Reliability Engineering", chapter 21.

use std::fmt;
use std::str::FromStr;

use http::HeaderMap;
use http::header::HeaderName;

/// How much a call matters. The order is by that.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub enum Priority {
    /// May fail often, and sometimes in full.
    Sheddable,
    /// May fail in part: batch work that is tried again.
    SheddablePlus,
    /// Users see it when it fails.
    #[default]
    Critical,
    /// The last that is given up.
    CriticalPlus,
}

impl Priority {
    /// All, the least first.
    pub const ALL: [Self; 4] = [
        Self::Sheddable,
        Self::SheddablePlus,
        Self::Critical,
        Self::CriticalPlus,
    ];

    /// As in headers, configuration and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Sheddable => "sheddable",
            Self::SheddablePlus => "sheddable-plus",
            Self::Critical => "critical",
            Self::CriticalPlus => "critical-plus",
        }
    }

    /// How much of the limit it may fill. What is above is kept for those that matter more.
    pub(super) const fn share(self) -> f64 {
        match self {
            Self::Sheddable => 0.5,
            Self::SheddablePlus => 0.75,
            Self::Critical => 0.9,
            Self::CriticalPlus => 1.0,
        }
    }
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A text that is no priority.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no priority; there are sheddable, sheddable-plus, critical and critical-plus")]
pub struct InvalidPriority(pub String);

impl FromStr for Priority {
    type Err = InvalidPriority;

    fn from_str(text: &str) -> Result<Self, InvalidPriority> {
        let priority = Self::ALL.into_iter().find(|priority| priority.name() == text);
        priority.ok_or_else(|| InvalidPriority(text.to_owned()))
    }
}

/// Where the priority of a call is from.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PriorityRules {
    /// The header that says it; absent: clients are not asked.
    pub header: Option<HeaderName>,
    /// Of calls that do not say it.
    pub default: Priority,
}

impl PriorityRules {
    /// Of one call. What is no priority is the default, and counted.
    pub(in crate::edge) fn of(&self, headers: &HeaderMap) -> Priority {
        self.said(headers).unwrap_or_else(|| {
            metrics::counter!("steer_rpc_priorities_unknown_total").increment(1);
            self.default
        })
    }

    /// The same, without a count: none for what is no priority.
    pub(in crate::edge) fn said(&self, headers: &HeaderMap) -> Option<Priority> {
        let Some(value) = self.header.as_ref().and_then(|name| headers.get(name)) else {
            return Some(self.default);
        };
        value.to_str().ok()?.parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_priority_is_what_the_header_says_or_else_the_default() {
        let rules = PriorityRules {
            header: Some(HeaderName::from_static("x-priority")),
            default: Priority::SheddablePlus,
        };
        let of = |text: &'static str| {
            let value = HeaderValue::from_static(text);
            rules.of(&HeaderMap::from_iter([(
                HeaderName::from_static("x-priority"),
                value,
            )]))
        };
        for priority in Priority::ALL {
            assert_eq!(of(priority.name()), priority);
        }
        assert_eq!(of("CRITICAL"), Priority::SheddablePlus);
        assert_eq!(rules.of(&HeaderMap::new()), Priority::SheddablePlus);
    }
}
