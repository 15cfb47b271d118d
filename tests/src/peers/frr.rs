//! FRR: zebra and bgpd.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use nix::unistd::User;
use steer_labs::netns::Proc;
use steer_labs::wait;

use super::{Feature, Features, Home, Peer, Route, Session, bfd, parse, parse_path, text};

/// FRRouting.
#[derive(Debug, Clone, Copy)]
pub struct Frr;

impl Peer for Frr {
    fn name(&self) -> &'static str {
        "frr"
    }

    fn package(&self) -> &'static str {
        "frr"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["/usr/lib/frr/bgpd", "/usr/lib/frr/zebra", "/usr/bin/vtysh"]
    }

    fn start(&self, home: &Home, session: &Session) -> Result<Vec<Proc>, String> {
        give_to_frr(home)?;
        home.write("bgpd.conf", &config(session))?;
        let mut processes = vec![start_zebra(home)?];
        if let Some(interval) = session.features.bfd_ms {
            processes.push(bfd::start_bfdd(home, &bfd::frr_profile(interval))?);
        }
        processes.push(home.spawn("/usr/lib/frr/bgpd", &args(home, "bgpd"), &[], "bgpd")?);
        Ok(processes)
    }

    fn routes(&self, home: &Home) -> Result<BTreeSet<Route>, String> {
        let mut routes = BTreeSet::new();
        for family in ["ipv4", "ipv6"] {
            let shown = ask(home, &format!("show bgp {family} unicast json"))?;
            let shown = shown["routes"].as_object().cloned().unwrap_or_default();
            for (prefix, paths) in shown {
                // Only the page of a single prefix shows its communities.
                let page = ask(home, &format!("show bgp {family} unicast {prefix} json"))?;
                let first = &page["paths"][0];
                for path in paths.as_array().into_iter().flatten() {
                    let communities = communities(first);
                    routes.insert(Route {
                        communities,
                        ..route(&prefix, path)?
                    });
                }
            }
        }
        Ok(routes)
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        (feature == Feature::ExtendedMessages).then_some("FRR 8.4 has no extended messages (RFC 8654)")
    }

    fn refresh(&self, home: &Home, session: &Session) -> Result<(), String> {
        let command = format!("clear bgp {} soft in", session.steer);
        tell(home, &command).map(drop)
    }

    fn farewell(&self, home: &Home, words: &str) -> Result<String, String> {
        let neighbors = ask(home, "show bgp neighbors json")?;
        let neighbor = neighbors.as_object().and_then(|all| all.values().next());
        let neighbor = neighbor.ok_or("no neighbour")?;
        let reason = text(&neighbor["lastNotificationReason"]);
        let shutdown = text(&neighbor["lastShutdownDescription"]);
        let seen = format!("{reason}: {shutdown}");
        if reason == "Cease/Administrative Shutdown" && shutdown == words {
            Ok(seen)
        } else {
            Err(seen)
        }
    }
}

pub(super) fn start_zebra(home: &Home) -> Result<Proc, String> {
    home.write("zebra.conf", "")?;
    let zapi = home.path("zserv.api");
    if zapi.exists() {
        fs::remove_file(&zapi).map_err(|error| error.to_string())?; // of the one that was killed
    }
    let zebra = home.spawn("/usr/lib/frr/zebra", &args(home, "zebra"), &[], "zebra")?;
    // A daemon that finds no zebra looks again after ten seconds only.
    let ready = || {
        zapi.exists()
            .then_some(())
            .ok_or_else(|| "no zserv.api".to_owned())
    };
    wait::until(Duration::from_secs(10), Duration::from_millis(5), ready)
        .map_err(|error| format!("zebra does not open its socket: {error}"))?;
    Ok(zebra)
}

/// The daemons give up root and then write into the folder.
pub(super) fn give_to_frr(home: &Home) -> Result<(), String> {
    let user = User::from_name("frr").map_err(|error| error.to_string())?;
    let user = user.ok_or("there is no user `frr`")?;
    std::os::unix::fs::chown(&home.dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .map_err(|error| error.to_string())
}

pub(super) fn args(home: &Home, daemon: &str) -> Vec<String> {
    let args = [
        ("-f", home.arg(&format!("{daemon}.conf"))),
        ("-i", home.arg(&format!("{daemon}.pid"))),
        ("-z", home.arg("zserv.api")),
        ("--vty_socket", home.arg("")),
        ("-P", "0".to_owned()),
        ("--log", format!("file:{}", home.arg(&format!("{daemon}.log")))),
    ];
    args.into_iter()
        .flat_map(|(flag, value)| [flag.to_owned(), value])
        .collect()
}

fn config(session: &Session) -> String {
    let Session {
        asn,
        address: _,
        steer_asn,
        steer,
        opens: _,
        hold_time: _,
        features,
    } = session;
    let passive = if session.passive() {
        format!(" neighbor {steer} passive\n")
    } else {
        String::new()
    };
    let families: &[&str] = if session.carries_ipv4() {
        &["ipv4", "ipv6"]
    } else {
        &["ipv6"]
    };
    let activate = |family: &&str| {
        format!(" address-family {family} unicast\n  neighbor {steer} activate\n exit-address-family\n")
    };
    let activate: String = families.iter().map(activate).collect();
    let more = more(steer, features);
    format!(
        "router bgp {asn}\n \
          bgp router-id 10.0.0.2\n \
          no bgp ebgp-requires-policy\n \
          no bgp default ipv4-unicast\n \
          bgp log-neighbor-changes\n \
          neighbor {steer} remote-as {steer_asn}\n \
          neighbor {steer} timers {} {}\n \
          neighbor {steer} timers connect 1\n\
         {passive}{more}{activate}",
        session.hold() / 3,
        session.hold(),
    )
}

fn more(steer: &std::net::IpAddr, features: &Features) -> String {
    let Features {
        password,
        ttl_security,
        graceful_restart,
        role,
        extended_messages: _,
        extended_next_hop,
        bfd_ms,
    } = features;
    let line = |words: String| format!(" neighbor {steer} {words}\n");
    let mut more = String::new();
    more.extend(
        password
            .as_ref()
            .map(|password| line(format!("password {password}"))),
    );
    more.extend(ttl_security.then(|| line("ttl-security hops 1".to_owned())));
    more.extend(role.map(|role| line(format!("local-role {role}"))));
    more.extend(extended_next_hop.then(|| line("capability extended-nexthop".to_owned())));
    more.extend(bfd_ms.map(|_| line("bfd profile steer".to_owned())));
    more.extend(graceful_restart.then(|| line("graceful-restart-helper".to_owned())));
    more
}

/// The JSON page of a path has each kind as one text.
fn communities(path: &serde_json::Value) -> BTreeSet<String> {
    let of = |kind: &str| text(&path[kind]["string"]);
    let all = [of("community"), of("largeCommunity"), of("extendedCommunity")].join(" ");
    let known = |word: &&str| *word != "null";
    all.split_whitespace()
        .filter(known)
        .map(|word| word.replace("RT:", "rt:"))
        .collect()
}

fn ask(home: &Home, command: &str) -> Result<serde_json::Value, String> {
    let text = tell(home, command)?;
    serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))
}

fn tell(home: &Home, command: &str) -> Result<String, String> {
    home.ask(&[
        "/usr/bin/vtysh",
        "--vty_socket",
        &home.arg(""),
        "-d",
        "bgpd",
        "-c",
        command,
    ])
}

fn route(prefix: &str, path: &serde_json::Value) -> Result<Route, String> {
    let hops = path["nexthops"].as_array().cloned().unwrap_or_default();
    let hop = hops
        .iter()
        .find(|hop| hop["scope"] != "link-local")
        .ok_or("no next hop")?;
    Ok(Route {
        prefix: parse("prefix", prefix)?,
        next_hop: parse("next hop", &text(&hop["ip"]))?,
        as_path: parse_path(&text(&path["path"]))?,
        origin: text(&path["origin"]).to_lowercase(),
        med: path["metric"]
            .as_u64()
            .and_then(|med| u32::try_from(med).ok())
            .filter(|med| *med != 0),
        communities: BTreeSet::new(),
    })
}
