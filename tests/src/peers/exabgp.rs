//! ExaBGP. It keeps no table: its helper process writes every event as a line of JSON, and we replay them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use steer_labs::netns::Proc;
use steer_topology::Prefix;

use super::{Feature, Home, Peer, Route, Session, parse, text};

/// ExaBGP 4.
#[derive(Debug, Clone, Copy)]
pub struct ExaBgp;

impl Peer for ExaBgp {
    fn name(&self) -> &'static str {
        "exabgp"
    }

    fn package(&self) -> &'static str {
        "exabgp"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["/usr/sbin/exabgp"]
    }

    fn start(&self, home: &Home, session: &Session) -> Result<Vec<Proc>, String> {
        home.write("events.json", "")?;
        home.write("commands", "")?;
        // No `exec`: the shell keeps standard output open, whose end ExaBGP takes for the helper's death. What is
        // appended to `commands` goes to ExaBGP.
        let helper = format!(
            "#!/bin/sh\ntail -f {} &\ncat >> {}\n",
            home.arg("commands"),
            home.arg("events.json")
        );
        home.write("helper", &helper)?;
        fs::set_permissions(home.path("helper"), fs::Permissions::from_mode(0o755))
            .map_err(|error| error.to_string())?;
        home.write("exabgp.conf", &config(home, session))?;
        let env = [
            ("exabgp.daemon.user", "root".to_owned()),
            ("exabgp.api.cli", "false".to_owned()), // no named pipes in /run
            ("exabgp.tcp.bind", session.address.to_string()),
        ];
        let args = [home.arg("exabgp.conf")];
        Ok(vec![home.spawn("/usr/sbin/exabgp", &args, &env, "exabgp")?])
    }

    fn routes(&self, home: &Home) -> Result<BTreeSet<Route>, String> {
        let mut table = BTreeMap::new();
        for event in events(home)? {
            replay(&mut table, &event)?;
        }
        Ok(table.into_values().collect())
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::GracefulRestart => Some("ExaBGP keeps no table, so nothing can be stale in it"),
            Feature::Role => Some("ExaBGP 4.2 says no role (RFC 9234)"),
            Feature::TtlSecurity => Some("ExaBGP 4.2 does not look at the TTL of what it receives"),
            Feature::Attributes
            | Feature::Password
            | Feature::ExtendedMessages
            | Feature::ExtendedNextHop
            | Feature::RouteRefresh => None,
        }
    }

    fn refresh(&self, home: &Home, session: &Session) -> Result<(), String> {
        let mut commands = String::new();
        let steer = session.steer;
        for family in ["ipv4", "ipv6"] {
            // Writing to a String cannot fail.
            let _ = writeln!(
                commands,
                "neighbor {steer} announce route-refresh {family} unicast"
            );
        }
        home.append("commands", &commands)
    }

    /// Version 4.2.21 cannot decode a NOTIFICATION with a text (it indexes bytes as if they were strings) and
    /// says 1/0 for it, so we read the message as it arrived.
    fn farewell(&self, home: &Home, words: &str) -> Result<String, String> {
        let events = events(home)?;
        let last = events.iter().rev().find(|event| event["type"] == "notification");
        let body = text(&last.ok_or("no NOTIFICATION")?["neighbor"]["message"]["body"]);
        let hex = |byte: u8| format!("{byte:02X}");
        let length = u8::try_from(words.len()).map_err(|error| error.to_string())?;
        let wanted: String = [6, 2, length].into_iter().chain(words.bytes()).map(hex).collect();
        if body == format!("0x{wanted}") {
            Ok(format!("NOTIFICATION {body}"))
        } else {
            Err(format!("NOTIFICATION {body}"))
        }
    }
}

fn config(home: &Home, session: &Session) -> String {
    let Session {
        asn,
        address,
        steer_asn,
        steer,
        opens: _,
        hold_time: _,
        features,
    } = session;
    let passive = if session.passive() {
        "  passive true;\n  listen 179;\n"
    } else {
        ""
    };
    let mut more = String::new();
    // Writing to a String cannot fail.
    if let Some(password) = &features.password {
        let _ = writeln!(more, "  md5-password \"{password}\";");
    }
    if features.ttl_security {
        more.push_str("  outgoing-ttl 255;\n  incoming-ttl 255;\n");
    }
    if features.extended_next_hop {
        more.push_str("  nexthop { ipv4 unicast ipv6; }\n");
    }
    let extended = if features.extended_messages {
        "enable"
    } else {
        "disable"
    };
    let _ = writeln!(
        more,
        "  capability {{ route-refresh enable; extended-message {extended}; nexthop enable; }}"
    );
    let ipv4 = if session.carries_ipv4() {
        "ipv4 unicast; "
    } else {
        ""
    };
    format!(
        "process events {{ run {}; encoder json; }}\n\
         neighbor {steer} {{\n  router-id 10.0.0.2;\n  local-address {address};\n  local-as {asn};\n  \
         peer-as {steer_asn};\n  hold-time {};\n{passive}{more}  \
         family {{ {ipv4}ipv6 unicast; }}\n  \
         api {{\n    processes [ events ];\n    neighbor-changes;\n    \
         receive {{ packets; parsed; notification; update; }}\n  }}\n}}\n",
        home.arg("helper"),
        session.hold(),
    )
}

fn events(home: &Home) -> Result<Vec<Value>, String> {
    let text = home.read("events.json")?;
    let whole = text.rfind('\n').map_or("", |end| &text[..end]);
    whole
        .lines()
        .filter(|line| line.starts_with('{')) // its answers to commands stand between: `done`
        .map(|line| serde_json::from_str(line).map_err(|error| format!("{error} in {line}")))
        .collect()
}

fn replay(table: &mut BTreeMap<Prefix, Route>, event: &Value) -> Result<(), String> {
    let state = &event["neighbor"]["state"];
    if state == "down" || state == "connected" {
        table.clear();
    }
    let update = &event["neighbor"]["message"]["update"];
    for (_, nlri) in update["withdraw"].as_object().into_iter().flatten() {
        for entry in nlri.as_array().into_iter().flatten() {
            table.remove(&prefix(entry)?);
        }
    }
    for (_, hops) in update["announce"].as_object().into_iter().flatten() {
        for (hop, nlri) in hops.as_object().into_iter().flatten() {
            for entry in nlri.as_array().into_iter().flatten() {
                let prefix = prefix(entry)?;
                let route = Route {
                    prefix,
                    next_hop: parse("next hop", hop)?,
                    as_path: as_path(&update["attribute"]["as-path"])?,
                    origin: text(&update["attribute"]["origin"]),
                    med: update["attribute"]["med"]
                        .as_u64()
                        .and_then(|med| u32::try_from(med).ok()),
                    communities: communities(&update["attribute"]),
                };
                table.insert(prefix, route);
            }
        }
    }
    Ok(())
}

fn prefix(entry: &Value) -> Result<Prefix, String> {
    parse("prefix", &text(&entry["nlri"]))
}

fn as_path(value: &Value) -> Result<Vec<u32>, String> {
    let numbers = value.as_array().into_iter().flatten();
    numbers
        .map(|number| parse("AS number", &number.to_string()))
        .collect()
}

/// Lists of numbers; an extended community has its words beside its number: `target:64500:7`.
fn communities(attribute: &Value) -> BTreeSet<String> {
    let list = |kind: &str| attribute[kind].as_array().cloned().unwrap_or_default();
    let numbers = list("community").into_iter().chain(list("large-community"));
    let numbers = numbers.map(|value| {
        let parts: Vec<String> = value.as_array().into_iter().flatten().map(text).collect();
        parts.join(":")
    });
    let extended = list("extended-community").into_iter();
    let extended = extended.map(|value| text(&value["string"]).replace("target:", "rt:"));
    numbers.chain(extended).collect()
}
