//! GoBGP.

use std::collections::BTreeSet;

use serde_json::Value;
use steer_labs::netns::Proc;

use super::{Feature, Features, Home, Peer, Route, Session, parse, text};

/// GoBGP's daemon and command line.
#[derive(Debug, Clone, Copy)]
pub struct GoBgp;

impl Peer for GoBgp {
    fn name(&self) -> &'static str {
        "gobgp"
    }

    fn package(&self) -> &'static str {
        "gobgpd"
    }

    fn programs(&self) -> &'static [&'static str] {
        &["/usr/bin/gobgpd", "/usr/bin/gobgp"]
    }

    fn start(&self, home: &Home, session: &Session) -> Result<Vec<Proc>, String> {
        home.write("gobgpd.toml", &config(session))?;
        // Its port for the command line is on the loopback of the namespace.
        let args = [
            "-f",
            &home.arg("gobgpd.toml"),
            "-t",
            "toml",
            "--api-hosts",
            "127.0.0.1:50051",
        ];
        let mut args = args.map(str::to_owned).to_vec();
        args.extend(["--pprof-disable", "--log-level", "debug"].map(str::to_owned));
        let gobgpd = home.spawn("/usr/bin/gobgpd", &args, &[], "gobgpd")?;
        home.write("log-is-in", &gobgpd.stdout().display().to_string())?;
        Ok(vec![gobgpd])
    }

    fn routes(&self, home: &Home) -> Result<BTreeSet<Route>, String> {
        let mut routes = BTreeSet::new();
        for family in ["ipv4", "ipv6"] {
            let shown = home.ask_json(&["/usr/bin/gobgp", "-j", "global", "rib", "-a", family])?;
            for (prefix, paths) in shown.as_object().into_iter().flatten() {
                for path in paths.as_array().into_iter().flatten() {
                    routes.insert(route(prefix, path)?);
                }
            }
        }
        Ok(routes)
    }

    fn lacks(&self, feature: Feature) -> Option<&'static str> {
        match feature {
            Feature::Role => Some("GoBGP 3.10 says no role (RFC 9234)"),
            Feature::ExtendedMessages => Some("GoBGP 3.10 has no extended messages (RFC 8654)"),
            Feature::Attributes
            | Feature::Password
            | Feature::TtlSecurity
            | Feature::GracefulRestart
            | Feature::ExtendedNextHop => None,
            Feature::RouteRefresh => {
                Some("GoBGP 3.10 keeps what it received: `softresetin` sends no ROUTE-REFRESH")
            }
        }
    }

    fn refresh(&self, home: &Home, session: &Session) -> Result<(), String> {
        home.ask(&[
            "/usr/bin/gobgp",
            "neighbor",
            &session.steer.to_string(),
            "softresetin",
        ])
        .map(drop)
    }

    fn farewell(&self, home: &Home, words: &str) -> Result<String, String> {
        let log = home.read(&home.read("log-is-in")?)?;
        let line = log
            .lines()
            .find(|line| line.contains("received notification") && line.contains("\"Code\":6"));
        let line = line.ok_or("no Cease in its log")?;
        let entry: Value = serde_json::from_str(line).map_err(|error| error.to_string())?;
        if entry["Subcode"] == 2 && line.contains(words) {
            Ok(line.to_owned())
        } else {
            Err(line.to_owned())
        }
    }
}

fn config(session: &Session) -> String {
    let Session {
        asn,
        address,
        steer_asn,
        steer,
        opens: _,
        hold_time: _,
        features,
    } = session;
    let families: &[&str] = if session.carries_ipv4() {
        &["ipv4", "ipv6"]
    } else {
        &["ipv6"]
    };
    let kept = if features.graceful_restart {
        "[neighbors.afi-safis.mp-graceful-restart.config]\nenabled = true\n"
    } else {
        ""
    };
    let family = |family: &&str| {
        format!(
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]\nafi-safi-name = \"{family}-unicast\"\n{kept}"
        )
    };
    let families: String = families.iter().map(family).collect();
    let password = features.password.as_ref();
    let password = password.map_or(String::new(), |password| {
        format!("auth-password = \"{password}\"\n")
    });
    let more = more(features);
    format!(
        "[global.config]\nas = {asn}\nrouter-id = \"10.0.0.2\"\nport = 179\n\
         local-address-list = [\"{address}\"]\n\
         [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{steer}\"\npeer-as = {steer_asn}\n{password}\
         [neighbors.transport.config]\nlocal-address = \"{address}\"\npassive-mode = {}\n\
         [neighbors.timers.config]\nhold-time = {}\nkeepalive-interval = {}\nconnect-retry = 1\n\
         {more}{families}",
        session.passive(),
        session.hold(),
        session.hold() / 3,
    )
}

fn more(features: &Features) -> String {
    let mut more = String::new();
    if features.ttl_security {
        more.push_str("[neighbors.ttl-security.config]\nenabled = true\nttl-min = 255\n");
    }
    if features.graceful_restart {
        more.push_str("[neighbors.graceful-restart.config]\nenabled = true\nrestart-time = 20\n");
    }
    more
}

fn route(prefix: &str, path: &Value) -> Result<Route, String> {
    let attribute = |kind: u8| {
        let mut all = path["attrs"].as_array().into_iter().flatten();
        all.find(|attribute| attribute["type"] == kind)
    };
    let next_hop = attribute(14).or_else(|| attribute(3)).ok_or("no next hop")?; // MP_REACH_NLRI before NEXT_HOP
    let origin = attribute(1).ok_or("no origin")?;
    Ok(Route {
        prefix: parse("prefix", prefix)?,
        next_hop: parse("next hop", &text(&next_hop["nexthop"]))?,
        as_path: as_path(attribute(2).ok_or("no AS path")?)?,
        origin: match origin["value"].as_u64() {
            Some(0) => "igp".to_owned(),
            Some(1) => "egp".to_owned(),
            Some(_) | None => "incomplete".to_owned(),
        },
        med: attribute(4)
            .and_then(|med| med["metric"].as_u64())
            .and_then(|med| u32::try_from(med).ok()),
        communities: communities(attribute(8), attribute(16), attribute(32)),
    })
}

fn communities(
    standard: Option<&Value>,
    extended: Option<&Value>,
    large: Option<&Value>,
) -> BTreeSet<String> {
    let standard = standard
        .into_iter()
        .flat_map(|value| value["communities"].as_array());
    let standard = standard.flatten().filter_map(Value::as_u64);
    let mut all: BTreeSet<String> = standard
        .map(|value| format!("{}:{}", value >> 16, value & 0xffff))
        .collect();
    let extended = extended
        .into_iter()
        .flat_map(|value| value["value"].as_array())
        .flatten();
    all.extend(extended.map(|value| format!("rt:{}", text(&value["value"]))));
    let large = large
        .into_iter()
        .flat_map(|value| value["value"].as_array())
        .flatten();
    all.extend(large.map(|value| {
        let part = |name: &str| text(&value[name]);
        format!("{}:{}:{}", part("ASN"), part("LocalData1"), part("LocalData2"))
    }));
    all
}

fn as_path(attribute: &Value) -> Result<Vec<u32>, String> {
    let segments = attribute["as_paths"].as_array().into_iter().flatten();
    let numbers = segments.flat_map(|segment| segment["asns"].as_array().into_iter().flatten());
    numbers
        .map(|number| parse("AS number", &number.to_string()))
        .collect()
}
