//! OpenBGPD.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use steer_labs::netns::Proc;

use super::{Feature, Home, Peer, Route, Session, parse, parse_path, text};

/// OpenBGPD, the portable edition.
#[derive(Debug, Clone, Copy)]
pub struct OpenBgpd;

impl Peer for OpenBgpd {
    fn name(&self) -> &'static str {
        "openbgpd"
    }

    fn package(&self) -> &'static str {
        "openbgpd"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["/usr/sbin/bgpd", "/usr/sbin/bgpctl", "/usr/bin/unshare"]
    }

    fn start(&self, home: &Home, session: &Session) -> Result<Vec<Proc>, String> {
        home.write("bgpd.conf", &config(home, session))?;
        // It refuses a configuration that others could read or write.
        fs::set_permissions(home.path("bgpd.conf"), fs::Permissions::from_mode(0o600))
            .map_err(|error| error.to_string())?;
        // Its children chroot to /run/openbgpd, which the service makes and a bare package does not have: a
        // /run of its own leaves the machine's alone.
        let script = "mount -t tmpfs none /run && mkdir /run/openbgpd && exec /usr/sbin/bgpd -d -f \"$0\"";
        let args = ["--mount", "sh", "-c", script, &home.arg("bgpd.conf")].map(str::to_owned);
        Ok(vec![home.spawn("/usr/bin/unshare", &args, &[], "bgpd")?])
    }

    fn routes(&self, home: &Home) -> Result<BTreeSet<Route>, String> {
        let shown = ask(home, &["show", "rib", "detail"])?;
        shown["rib"].as_array().into_iter().flatten().map(route).collect()
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::GracefulRestart => Some("OpenBGPD 7.7 supports only the End-of-RIB marker of RFC 4724"),
            Feature::ExtendedMessages => Some("OpenBGPD 7.7 has no extended messages (RFC 8654)"),
            Feature::ExtendedNextHop => Some("OpenBGPD 7.7 has no extended next hop (RFC 8950)"),
            Feature::Password => Some("OpenBGPD 7.7 as Debian builds it: `PF_KEY not available`"),
            Feature::Attributes | Feature::TtlSecurity | Feature::Role | Feature::RouteRefresh => None,
        }
    }

    fn refresh(&self, home: &Home, session: &Session) -> Result<(), String> {
        let socket = home.arg("bgpd.sock");
        let steer = session.steer.to_string();
        home.ask(&["/usr/sbin/bgpctl", "-s", &socket, "neighbor", &steer, "refresh"])
            .map(drop)
    }

    fn farewell(&self, home: &Home, words: &str) -> Result<String, String> {
        let shown = ask(home, &["show", "neighbor"])?;
        let neighbor = &shown["neighbors"][0];
        let error = text(&neighbor["last_error_received"]);
        let reason = text(&neighbor["last_shutdown_reason"]);
        let seen = format!("{error}: {reason}");
        if error == "Cease, administratively down" && reason == words {
            Ok(seen)
        } else {
            Err(seen)
        }
    }
}

fn ask(home: &Home, command: &[&str]) -> Result<serde_json::Value, String> {
    let socket = home.arg("bgpd.sock");
    let mut line = vec!["/usr/sbin/bgpctl", "-s", &socket, "-j"];
    line.extend(command);
    home.ask_json(&line)
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
    let passive = if session.passive() { "  passive\n" } else { "" };
    let mut more = String::new();
    // Writing to a String cannot fail.
    if let Some(password) = &features.password {
        let _ = writeln!(more, "  tcp md5sig password {password}");
    }
    if let Some(role) = features.role {
        let _ = writeln!(more, "  announce policy {role}");
    }
    if features.ttl_security {
        more.push_str("  ttl-security yes\n");
    }
    let ipv4 = if session.carries_ipv4() { "unicast" } else { "none" };
    format!(
        "AS {asn}\nrouter-id 10.0.0.2\nfib-update no\nconnect-retry 1\nlisten on {address}\nsocket \"{}\"\n\
         neighbor {steer} {{\n  remote-as {steer_asn}\n  local-address {address}\n{passive}  holdtime {}\n  \
         announce IPv4 {ipv4}\n  announce IPv6 unicast\n{more}}}\n\
         allow from any\ndeny to any\n",
        home.arg("bgpd.sock"),
        session.hold(),
    )
}

fn route(entry: &serde_json::Value) -> Result<Route, String> {
    Ok(Route {
        prefix: parse("prefix", &text(&entry["prefix"]))?,
        next_hop: parse("next hop", &text(&entry["exit_nexthop"]))?,
        as_path: parse_path(&text(&entry["aspath"]))?,
        origin: text(&entry["origin"]).to_lowercase(),
        med: entry["metric"]
            .as_u64()
            .and_then(|med| u32::try_from(med).ok())
            .filter(|med| *med != 0),
        communities: communities(entry),
    })
}

/// Lists of texts; an extended community is `rt 64500:7`.
fn communities(entry: &serde_json::Value) -> BTreeSet<String> {
    let kinds = ["communities", "large_communities", "extended_communities"];
    let all = kinds
        .into_iter()
        .flat_map(|kind| entry[kind].as_array().into_iter().flatten());
    all.map(|community| text(community).replace(' ', ":")).collect()
}
