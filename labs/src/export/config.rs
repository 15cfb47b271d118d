//! The configuration of the twin: the operator's own with other peers, and without what a lab has no place for.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use toml::{Table, Value};

use super::plan::Twin;
use crate::LabError;

/// Keys that mean in a lab what they mean outside. All others are left out.
const SITE: &[&str] = &["name", "router_id", "capacity"];
const FLEET: &[&str] = &["name", "guard"];
const POOL: &[&str] = &["name", "check", "endpoints"];
const ENDPOINT: &[&str] = &["site", "address", "weight", "tier", "pool"];
const CHECK: &[&str] = &[
    "name",
    "kind",
    "path",
    "interval",
    "fast_interval",
    "timeout",
    "fall",
    "rise",
    "forget",
    "detect",
    "combine",
    "window",
    "phi",
    "tripwire",
    "when",
];
const ANYCAST: &[&str] = &[
    "prefix",
    "sites",
    "while_up",
    "rise",
    "fall",
    "hold_down",
    "flap_budget",
    "on_drain",
    "prepend",
    "med",
    "local_pref",
    "communities",
    "large_communities",
    "extended_communities",
];
const BGP: &[&str] = &["asn"];
const PEER: &[&str] = &[
    "hold_time",
    "connect_retry",
    "bfd",
    "prepend",
    "med",
    "local_pref",
    "communities",
    "large_communities",
    "extended_communities",
];

/// The text, and what was left out of it.
pub(super) fn twin(text: &str, twin: &Twin) -> Result<(String, Vec<String>), LabError> {
    let bad = |what: &str| LabError::failed(format!("the configuration cannot be exported: {what}"));
    let own: Table = toml::from_str(text).map_err(|error| bad(error.message()))?;
    let mut left = BTreeSet::new();
    let mut out = Table::new();
    for (key, value) in &own {
        let made = match key.as_str() {
            "fleet" => keep(value, FLEET, "[fleet]", &mut left),
            "site" => each(value, |site| keep(site, SITE, "[[site]]", &mut left)),
            "check" => each(value, |check| {
                keep(&servable(check, &mut left), CHECK, "[[check]]", &mut left)
            }),
            "pool" => each(value, |one| pool(one, &mut left)),
            "anycast" => {
                let mut made = each(value, |one| {
                    keep(&without_dns(one, &mut left), ANYCAST, "[[anycast]]", &mut left)
                });
                if let Value::Array(all) = &mut made {
                    all.retain(|one| {
                        one.get("prefix")
                            .and_then(Value::as_str)
                            .is_some_and(|prefix| !prefix.contains(':'))
                    });
                }
                made
            }
            "bgp" => bgp(value, twin, &mut left),
            "admin" => Value::Table(Table::from_iter([(
                "listen".to_owned(),
                Value::from("127.0.0.1:8053"),
            )])),
            other => {
                left.insert(format!("`{other}`"));
                continue;
            }
        };
        out.insert(key.clone(), made);
    }
    router_ids(&mut out, twin);
    let head =
        "# Written by `steer lab export`. The sites run `steer run --config steer.toml --site NAME`.\n";
    let body = toml::to_string(&out).map_err(|error| bad(&error.to_string()))?;
    Ok((format!("{head}{body}"), left.into_iter().collect()))
}

fn each(value: &Value, mut make: impl FnMut(&Value) -> Value) -> Value {
    if let Value::Array(items) = value {
        return Value::Array(items.iter().map(&mut make).collect());
    }
    make(value)
}

/// A table with these keys alone.
fn keep(value: &Value, keys: &[&str], what: &str, left: &mut BTreeSet<String>) -> Value {
    let Value::Table(table) = value else {
        return value.clone();
    };
    let (kept, other): (Vec<_>, Vec<_>) = table
        .clone()
        .into_iter()
        .partition(|(key, _)| keys.contains(&key.as_str()));
    left.extend(other.into_iter().map(|(key, _)| format!("`{key}` of `{what}`")));
    Value::Table(kept.into_iter().collect())
}

/// The services of a lab speak HTTP: a check of another kind becomes one of the connection.
fn servable(check: &Value, left: &mut BTreeSet<String>) -> Value {
    let mut check = check.clone();
    let kind = check
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or("http")
        .to_owned();
    if let (Value::Table(table), false) = (&mut check, matches!(kind.as_str(), "http" | "tcp" | "calculated"))
    {
        left.insert(format!("checks of kind `{kind}`: here they are of kind `tcp`"));
        table.insert("kind".to_owned(), Value::from("tcp"));
        table.remove("path");
    }
    check
}

fn pool(value: &Value, left: &mut BTreeSet<String>) -> Value {
    let mut made = keep(value, POOL, "[[pool]]", left);
    if let Some(Value::Array(endpoints)) = made.get_mut("endpoints") {
        let is_v6 = |endpoint: &Value| {
            let address = endpoint.get("address").and_then(Value::as_str);
            address
                .and_then(|address| address.parse::<SocketAddr>().ok())
                .is_some_and(|address| address.is_ipv6())
        };
        endpoints.retain(|endpoint| !is_v6(endpoint));
        for endpoint in endpoints {
            *endpoint = keep(endpoint, ENDPOINT, "[[pool]] endpoints", left);
        }
    }
    made
}

/// Names are not steered here, so that nobody waits for their answers to run out.
fn without_dns(anycast: &Value, left: &mut BTreeSet<String>) -> Value {
    let mut anycast = anycast.clone();
    if let Some(Value::Array(steps)) = anycast.get_mut("on_drain") {
        let before = steps.len();
        steps.retain(|step| step.as_str().is_none_or(|step| !step.contains("dns-horizon")));
        if steps.len() < before {
            left.insert("the step `wait dns-horizon` of `on_drain`".to_owned());
        }
    }
    anycast
}

/// The same sessions with the routers of the lab.
fn bgp(value: &Value, twin: &Twin, left: &mut BTreeSet<String>) -> Value {
    let own = value
        .get("peer")
        .and_then(Value::as_array)
        .cloned()
        .unwrap_or_default();
    let mut trimmed = value.clone();
    if let Value::Table(table) = &mut trimmed {
        table.remove("peer");
        if table.remove("router_id").is_some() {
            left.insert("`router_id` of `[bgp]`: each site has its own".to_owned());
        }
    }
    let mut made = keep(&trimmed, BGP, "[bgp]", left);
    let mut peers = Vec::new();
    for site in &twin.sites {
        for (number, upstream) in site.upstreams.iter().enumerate() {
            let is_it = |peer: &&Value| {
                let at = peer.get("site").and_then(Value::as_str);
                let address = peer
                    .get("address")
                    .and_then(Value::as_str)
                    .and_then(|text| text.parse::<IpAddr>().ok());
                at.is_none_or(|at| at.eq_ignore_ascii_case(&site.name)) && address == Some(upstream.address)
            };
            let mut peer = match own.iter().find(is_it).map(|peer| named_apart(peer, left)) {
                Some(Value::Table(table)) => table,
                Some(_) | None => Table::new(),
            };
            peer.insert("site".to_owned(), Value::from(site.name.clone()));
            peer.insert(
                "address".to_owned(),
                Value::from(site.upstream(number).to_string()),
            );
            peer.insert("asn".to_owned(), Value::from(i64::from(upstream.asn)));
            peers.push(Value::Table(peer));
        }
    }
    if let Value::Table(table) = &mut made {
        table.insert("peer".to_owned(), Value::Array(peers));
    }
    made
}

/// What is replaced is not told as left out.
fn named_apart(peer: &Value, left: &mut BTreeSet<String>) -> Value {
    let mut peer = peer.clone();
    if let Value::Table(table) = &mut peer {
        for key in ["site", "address", "asn", "port"] {
            table.remove(key);
        }
        if let Some(Value::Table(bfd)) = table.get_mut("bfd")
            && bfd.remove("auth").is_some()
        {
            left.insert("`auth` of `bfd`".to_owned());
        }
    }
    keep(&peer, PEER, "[[bgp.peer]]", left)
}

fn router_ids(out: &mut Table, twin: &Twin) {
    let Some(Value::Array(sites)) = out.get_mut("site") else {
        return;
    };
    for (site, planned) in sites.iter_mut().zip(&twin.sites) {
        if let Value::Table(table) = site {
            table
                .entry("router_id")
                .or_insert_with(|| Value::from(planned.router_id.to_string()));
        }
    }
}
