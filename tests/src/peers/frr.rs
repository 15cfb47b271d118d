//! FRR: zebra and bgpd.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use nix::unistd::User;
use steer_labs::netns::Proc;
use steer_labs::wait;

use super::{Home, Peer, Route, Session, parse, parse_path, text};

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
        home.write("zebra.conf", "")?;
        home.write("bgpd.conf", &config(session))?;
        let zapi = home.path("zserv.api");
        if zapi.exists() {
            fs::remove_file(&zapi).map_err(|error| error.to_string())?; // of the one that was killed
        }
        let zebra = home.spawn("/usr/lib/frr/zebra", &args(home, "zebra"), &[], "zebra")?;
        // A bgpd that finds no zebra looks again after ten seconds only.
        wait::until(Duration::from_secs(10), Duration::from_millis(5), || {
            zapi.exists()
                .then_some(())
                .ok_or_else(|| "no zserv.api".to_owned())
        })
        .map_err(|error| format!("zebra does not open its socket: {error}"))?;
        let bgpd = home.spawn("/usr/lib/frr/bgpd", &args(home, "bgpd"), &[], "bgpd")?;
        Ok(vec![zebra, bgpd])
    }

    fn routes(&self, home: &Home) -> Result<BTreeSet<Route>, String> {
        let mut routes = BTreeSet::new();
        for family in ["ipv4", "ipv6"] {
            let shown = ask(home, &format!("show bgp {family} unicast json"))?;
            let shown = shown["routes"].as_object().cloned().unwrap_or_default();
            for (prefix, paths) in shown {
                for path in paths.as_array().into_iter().flatten() {
                    routes.insert(route(&prefix, path)?);
                }
            }
        }
        Ok(routes)
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

/// The daemons give up root and then write into the folder.
fn give_to_frr(home: &Home) -> Result<(), String> {
    let user = User::from_name("frr").map_err(|error| error.to_string())?;
    let user = user.ok_or("there is no user `frr`")?;
    std::os::unix::fs::chown(&home.dir, Some(user.uid.as_raw()), Some(user.gid.as_raw()))
        .map_err(|error| error.to_string())
}

fn args(home: &Home, daemon: &str) -> Vec<String> {
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
    format!(
        "router bgp {asn}\n \
          bgp router-id 10.0.0.2\n \
          no bgp ebgp-requires-policy\n \
          no bgp default ipv4-unicast\n \
          bgp log-neighbor-changes\n \
          neighbor {steer} remote-as {steer_asn}\n \
          neighbor {steer} timers {} {}\n \
          neighbor {steer} timers connect 1\n\
         {passive}{activate}",
        session.hold() / 3,
        session.hold(),
    )
}

fn ask(home: &Home, command: &str) -> Result<serde_json::Value, String> {
    home.ask_json(&[
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
    })
}
