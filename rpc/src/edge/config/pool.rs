//! What holds for a `[[pool]]`: TLS, who is left out, and how many calls it gets.

use std::path::Path;
use std::time::Duration;

use serde::Deserialize;
use steer_topology::OutlierRules;

use super::InvalidEdge;
use super::tls::{BackendTls, RawBackendTls, check_backends};
use crate::edge::balance::BalanceRules;
use crate::edge::shed::ConcurrencyRules;

/// What holds for a pool.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolRules {
    /// As in metrics.
    pub name: String,
    /// Absent: its backends are spoken to in clear text.
    pub tls: Option<BackendTls>,
    /// Which backend.
    pub balance: BalanceRules,
    /// How many calls at the same time; absent: as many as come.
    pub concurrency: Option<ConcurrencyRules>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawEject {
    consecutive: Option<u32>,
    percent: Option<u8>,
    base_ms: Option<u64>,
    max_ms: Option<u64>,
    panic_percent: Option<u8>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawConcurrency {
    min: Option<u32>,
    max: Option<u32>,
    initial: Option<u32>,
}

/// The keys of a pool beside its name and its backends.
#[derive(Debug)]
pub(super) struct RawRules {
    pub(super) tls: Option<RawBackendTls>,
    pub(super) eject: Option<RawEject>,
    pub(super) slow_start_ms: Option<u64>,
    pub(super) concurrency: Option<RawConcurrency>,
}

pub(super) fn check_rules(name: &str, raw: RawRules, folder: &Path) -> Result<PoolRules, InvalidEdge> {
    let RawRules {
        tls,
        eject,
        slow_start_ms,
        concurrency,
    } = raw;
    let place = format!("[[pool]] {name:?}");
    let slow_start = slow_start_ms.map_or(BalanceRules::DEFAULT.slow_start, Duration::from_millis);
    Ok(PoolRules {
        name: name.to_owned(),
        tls: tls.map(|tls| check_backends(tls, &place, folder)).transpose()?,
        balance: check_balance(&eject.unwrap_or_default(), slow_start, &place)?,
        concurrency: concurrency
            .map(|raw| check_concurrency(&raw, &place))
            .transpose()?,
    })
}

fn check_balance(raw: &RawEject, slow_start: Duration, place: &str) -> Result<BalanceRules, InvalidEdge> {
    let RawEject {
        consecutive,
        percent,
        base_ms,
        max_ms,
        panic_percent,
    } = *raw;
    let usual = BalanceRules::DEFAULT;
    for (key, value) in [("percent", percent), ("panic_percent", panic_percent)] {
        if let Some(value) = value.filter(|value| *value > 100) {
            return Err(InvalidEdge::Place {
                place: format!("{place} eject"),
                what: format!("{key} is {value}; 0 to 100 are possible"),
            });
        }
    }
    Ok(BalanceRules {
        outliers: OutlierRules {
            max_ejected: percent.unwrap_or(usual.outliers.max_ejected),
            base_ejection: base_ms.map_or(usual.outliers.base_ejection, Duration::from_millis),
            max_ejection: max_ms.map_or(usual.outliers.max_ejection, Duration::from_millis),
            ..usual.outliers
        },
        consecutive: consecutive.unwrap_or(usual.consecutive),
        panic: panic_percent.unwrap_or(usual.panic),
        slow_start,
    })
}

fn check_concurrency(raw: &RawConcurrency, place: &str) -> Result<ConcurrencyRules, InvalidEdge> {
    let usual = ConcurrencyRules::DEFAULT;
    let rules = ConcurrencyRules {
        min: raw.min.unwrap_or(usual.min),
        max: raw.max.unwrap_or(usual.max),
        initial: raw.initial.unwrap_or(usual.initial),
    };
    let ConcurrencyRules { min, max, initial } = rules;
    if min == 0 || min > initial || initial > max {
        return Err(InvalidEdge::Place {
            place: format!("{place} concurrency"),
            what: format!("min is {min}, initial {initial}, max {max}; 1 <= min <= initial <= max is wanted"),
        });
    }
    Ok(rules)
}
