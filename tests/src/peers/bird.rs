//! BIRD 2.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use steer_labs::netns::Proc;

use super::{Feature, Home, Peer, Route, Session, bfd, parse, parse_path};

/// The BIRD Internet Routing Daemon.
#[derive(Debug, Clone, Copy)]
pub struct Bird;

impl Peer for Bird {
    fn name(&self) -> &'static str {
        "bird"
    }

    fn package(&self) -> &'static str {
        "bird2"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["/usr/sbin/bird", "/usr/sbin/birdc"]
    }

    fn start(&self, home: &Home, session: &Session) -> Result<Vec<Proc>, String> {
        home.write("bird.conf", &config(home, session))?;
        let args = [
            "-f",
            "-c",
            &home.arg("bird.conf"),
            "-s",
            &home.arg("bird.sock"),
            "-P",
            &home.arg("bird.pid"),
        ];
        let args = args.map(str::to_owned);
        let bird = if session.features.bfd_ms.is_some() {
            bfd::spawn_first(home, "/usr/sbin/bird", &args, "bird")?
        } else {
            home.spawn("/usr/sbin/bird", &args, &[], "bird")?
        };
        Ok(vec![bird])
    }

    fn routes(&self, home: &Home) -> Result<BTreeSet<Route>, String> {
        parse_routes(&ask(home, "show route all")?)
    }

    fn lacks(&self, _: Feature) -> Option<&'static str> {
        None
    }

    fn refresh(&self, home: &Home, _: &Session) -> Result<(), String> {
        ask(home, "reload in steer").map(drop)
    }

    fn farewell(&self, home: &Home, text: &str) -> Result<String, String> {
        let log = home.read("bird.log")?;
        let line = log
            .lines()
            .find(|line| line.contains("Received: Administrative shutdown"));
        match line {
            Some(line) if line.contains(text) => Ok(line.to_owned()),
            Some(_) | None => Err(format!("no shutdown with {text:?} in its log: {line:?}")),
        }
    }
}

fn ask(home: &Home, command: &str) -> Result<String, String> {
    home.ask(&["/usr/sbin/birdc", "-s", &home.arg("bird.sock"), command])
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
    let mut text = format!(
        "log \"{}\" all;\n\
         router id 10.0.0.2;\n\
         protocol device {{}}\n\
         protocol bgp steer {{\n  \
           local {address} as {asn};\n  \
           neighbor {steer} as {steer_asn};\n  \
           hold time {};\n  \
           connect delay time 1; connect retry time 1; error wait time 1, 2;\n",
        home.arg("bird.log"),
        session.hold()
    );
    if session.passive() {
        text.push_str("  passive on;\n");
    }
    // Writing to a String cannot fail.
    if let Some(password) = &features.password {
        let _ = writeln!(text, "  password \"{password}\";");
    }
    if let Some(role) = features.role {
        let _ = writeln!(text, "  local role {};", role.replace("rs-client", "rs_client"));
    }
    for (wanted, line) in [
        (features.ttl_security, "  ttl security on;\n"),
        (features.graceful_restart, "  graceful restart on;\n"),
        (features.extended_messages, "  enable extended messages on;\n"),
        (features.bfd_ms.is_some(), "  bfd on;\n"),
    ] {
        text.push_str(if wanted { line } else { "" });
    }
    if session.carries_ipv4() {
        let next_hop = if features.extended_next_hop {
            "extended next hop on; "
        } else {
            ""
        };
        let _ = writeln!(text, "  ipv4 {{ {next_hop}import all; export none; }};");
    }
    let _ = writeln!(text, "  ipv6 {{ import all; export none; }};\n}}");
    if let Some(interval) = features.bfd_ms {
        text.push_str(&bfd::bird_protocol(interval));
    }
    text
}

/// `show route all`: a line per route, its attributes indented below.
fn parse_routes(shown: &str) -> Result<BTreeSet<Route>, String> {
    let mut routes = BTreeSet::new();
    let mut route: Option<Route> = None;
    for line in shown.lines() {
        if let Some((prefix, _)) = line.split_once(" unicast [") {
            routes.extend(route.take());
            route = Some(Route::to(parse("prefix", prefix.trim())?));
        } else if let (Some(route), Some((key, value))) = (route.as_mut(), line.trim().split_once(':')) {
            match key {
                "BGP.origin" => route.origin = value.trim().to_lowercase(),
                "BGP.as_path" => route.as_path = parse_path(value)?,
                "BGP.next_hop" => {
                    // IPv6: the global address, then perhaps the link-local one.
                    let first = value.split_whitespace().next().unwrap_or_default();
                    route.next_hop = parse("next hop", first)?;
                }
                "BGP.med" => route.med = Some(parse("MED", value.trim())?),
                "BGP.community" | "BGP.large_community" | "BGP.ext_community" => {
                    route.communities.extend(value.split(") (").map(community));
                }
                _ => {}
            }
        }
    }
    routes.extend(route);
    Ok(routes)
}

/// `(64500,1)`, `(64500, 1, 2)`, `(rt, 64500, 7)`
fn community(shown: &str) -> String {
    let inner = shown.trim().trim_matches(['(', ')']);
    let parts: Vec<&str> = inner.split(',').map(str::trim).collect();
    parts.join(":")
}
