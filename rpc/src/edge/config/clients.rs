//! `[clients]`, `[rate_limit]`, `[priority]`: what clients may do, and who goes first.

use std::num::NonZeroU32;
use std::path::Path;
use std::time::Duration;

use http::header::HeaderName;
use serde::Deserialize;

use super::InvalidEdge;
use super::fleet::{RawFleet, check_fleet};
use crate::edge::rate::{ClientBy, RateRules};
use crate::edge::shed::{InvalidPriority, PriorityRules};

/// What clients may do: every bound that a client can reach, most of them limits of HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientRules {
    /// Connections; more are closed at once. Default 20,000.
    pub connections: usize,
    /// Calls at the same time; more are UNAVAILABLE and unprocessed. Default 50,000.
    pub calls: usize,
    /// Streams of a connection at the same time (`SETTINGS_MAX_CONCURRENT_STREAMS`); more are REFUSED_STREAM. Default 1,000.
    pub streams: u32,
    /// Octets of the headers of a request (`SETTINGS_MAX_HEADER_LIST_SIZE`); a request with more is answered 431, and CONTINUATION
    /// frames without end close the connection. Default 64 KiB.
    pub header_octets: u32,
    /// Streams that are reset before the edge has taken them; more close the connection (ENHANCE_YOUR_CALM). Default 50.
    pub pending_resets: usize,
    /// Streams that the edge resets for a fault of the client; more close the connection. Default 100.
    pub faults: usize,
    /// From so many calls of a connection on, it is closed when more than half of them were reset within a second. Default 500.
    pub young_resets: u32,
    /// How long a client may take nothing of an answer that waits for it; then its call is reset. Default 60 s.
    pub stall: Duration,
    /// A client is asked this often whether it is there, and given up when it has not said so after as long. Default 20 s.
    pub ping: Duration,
}

impl Default for ClientRules {
    fn default() -> Self {
        Self {
            connections: 20_000,
            calls: 50_000,
            streams: 1_000,
            header_octets: 64 << 10,
            pending_resets: 50,
            faults: 100,
            young_resets: 500,
            stall: Duration::from_secs(60),
            ping: Duration::from_secs(20),
        }
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawClients {
    connections: Option<usize>,
    calls: Option<usize>,
    streams: Option<u32>,
    header_octets: Option<u32>,
    pending_resets: Option<usize>,
    faults: Option<usize>,
    young_resets: Option<u32>,
    stall_ms: Option<u64>,
    ping_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawRate {
    client: Option<String>,
    per_second: u32,
    burst: Option<u32>,
    clients: Option<usize>,
    fleet: Option<RawFleet>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct RawPriority {
    header: Option<String>,
    default: Option<String>,
}

fn wrong(place: &str, what: String) -> InvalidEdge {
    InvalidEdge::Place {
        place: place.to_owned(),
        what,
    }
}

pub(super) fn check_clients(raw: &RawClients) -> Result<ClientRules, InvalidEdge> {
    let RawClients {
        connections,
        calls,
        streams,
        header_octets,
        pending_resets,
        faults,
        young_resets,
        stall_ms,
        ping_ms,
    } = *raw;
    let usual = ClientRules::default();
    let rules = ClientRules {
        connections: connections.unwrap_or(usual.connections),
        calls: calls.unwrap_or(usual.calls),
        streams: streams.unwrap_or(usual.streams),
        header_octets: header_octets.unwrap_or(usual.header_octets),
        pending_resets: pending_resets.unwrap_or(usual.pending_resets),
        faults: faults.unwrap_or(usual.faults),
        young_resets: young_resets.unwrap_or(usual.young_resets),
        stall: stall_ms.map_or(usual.stall, Duration::from_millis),
        ping: ping_ms.map_or(usual.ping, Duration::from_millis),
    };
    let at_least_one = [
        ("connections", rules.connections),
        ("calls", rules.calls),
        ("streams", rules.streams as usize),
        ("header_octets", rules.header_octets as usize),
        ("young_resets", rules.young_resets as usize),
    ];
    for (name, value) in at_least_one {
        if value == 0 {
            return Err(wrong("[clients]", format!("{name} is 0; at least 1 is wanted")));
        }
    }
    for (name, value) in [("stall_ms", rules.stall), ("ping_ms", rules.ping)] {
        if value.is_zero() {
            return Err(wrong("[clients]", format!("{name} is 0; at least 1 is wanted")));
        }
    }
    Ok(rules)
}

pub(super) fn check_rate(raw: RawRate, folder: &Path) -> Result<RateRules, InvalidEdge> {
    const PLACE: &str = "[rate_limit]";
    let RawRate {
        client,
        per_second,
        burst,
        clients,
        fleet,
    } = raw;
    let positive = |name: &str, value: u32| {
        NonZeroU32::new(value).ok_or_else(|| wrong(PLACE, format!("{name} is 0; at least 1 is wanted")))
    };
    let by = match client.as_deref() {
        None | Some("address") => ClientBy::Address,
        Some("tls") => ClientBy::Tls,
        Some(other) => match other.strip_prefix("header:").map(header) {
            Some(Some(name)) => ClientBy::Header(name),
            Some(None) | None => {
                let what =
                    format!("client is {other:?}; \"address\", \"tls\" or \"header:NAME\" is possible");
                return Err(wrong(PLACE, what));
            }
        },
    };
    Ok(RateRules {
        by,
        per_second: positive("per_second", per_second)?,
        burst: positive("burst", burst.unwrap_or(per_second))?,
        clients: clients.unwrap_or(10_000),
        fleet: fleet.map(|fleet| check_fleet(fleet, folder)).transpose()?,
    })
}

pub(super) fn check_priority(raw: RawPriority) -> Result<PriorityRules, InvalidEdge> {
    const PLACE: &str = "[priority]";
    let RawPriority {
        header: name,
        default,
    } = raw;
    let name = name.map(|name| {
        header(&name).ok_or_else(|| {
            wrong(
                PLACE,
                format!("header is {name:?}; the name of a header is wanted, such as \"x-priority\""),
            )
        })
    });
    let default = default.map(|text| {
        text.parse()
            .map_err(|error: InvalidPriority| wrong(PLACE, error.to_string()))
    });
    Ok(PriorityRules {
        header: name.transpose()?,
        default: default.transpose()?.unwrap_or_default(),
    })
}

fn header(name: &str) -> Option<HeaderName> {
    HeaderName::try_from(name).ok()
}
