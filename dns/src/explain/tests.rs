//! What `explain` says of each filter and each rule, word for word. `STEER_GOLDEN=1` writes the files anew.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;

use steer_topology::Name;

use crate::tables::Tables;
use crate::testing::{CLIENTS, config, fleet, ip, snapshot, tables_of};

const ALL_V4: [&str; 3] = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];

/// What is between the `[[site]]` lines and the end of the file in `testing::config`, changed where it must be.
fn with_sites(text: &str, fra: &str, nrt: &str) -> String {
    text.replacen("name = \"fra\"\n", &format!("name = \"fra\"\n{fra}\n"), 1)
        .replacen("name = \"nrt\"\n", &format!("name = \"nrt\"\n{nrt}\n"), 1)
}

fn explained(tables: &Tables, clients: &[&str]) -> String {
    let name: Name = "www.example.com".parse().unwrap();
    let mut text = String::new();
    for client in clients {
        writeln!(text, "{}", tables.explain(ip(client), &name)).unwrap();
    }
    text
}

pub(super) fn check(golden: &str, text: &str) {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("golden/explain")
        .join(format!("{golden}.txt"));
    if std::env::var_os("STEER_GOLDEN").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(text, written, "{golden}: STEER_GOLDEN=1 rewrites the file");
}

fn check_chain(golden: &str, chain: &str, rest: &str, down: &[&str]) {
    let tables = tables_of(&config(chain, rest), down);
    check(golden, &explained(&tables, &[CLIENTS[0].0]));
}

#[test]
fn up_and_take() {
    check_chain("up-take", "[\"up\", \"take 1\"]", "", &["198.51.100.1"]);
}

#[test]
fn nearest_with_a_bias() {
    let text = config("[\"nearest\"]", "");
    let text = with_sites(&text, "bias = \"-50 %\"", "bias = \"9000 km\"");
    check(
        "nearest-bias",
        &explained(&tables_of(&text, &[]), &[CLIENTS[0].0]),
    );
}

#[test]
fn latency() {
    let tables = tables_of(&config("[\"latency\"]", ""), &[]);
    check("latency", &explained(&tables, &[CLIENTS[1].0, "10.0.0.1"]));
}

#[test]
fn maps() {
    let rest = "country = { DE = [\"nrt\", \"tier 2\"], JP = \"fra\" }\ncontinent = { EU = \"jfk\", default = \"fra\" }\n\
                cidr = { \"81.169.0.0/16\" = \"fra\", \"12.0.0.0/8\" = \"jfk\" }\nasn = { AS64500 = \"fra\" }";
    let chain = "[\"country\", \"continent\", \"cidr\", \"asn\"]";
    let tables = tables_of(&config(chain, rest), &[]);
    check("maps", &explained(&tables, &[CLIENTS[0].0, CLIENTS[2].0]));
}

#[test]
fn geofence() {
    let chain = "[\"up\", \"geofence continent\", \"nearest\"]";
    let inside = explained(&tables_of(&config(chain, ""), &[]), &[CLIENTS[0].0]);
    let empty = explained(
        &tables_of(&config(chain, ""), &["198.51.100.1"]),
        &[CLIENTS[0].0, "10.0.0.1"],
    );
    check("geofence", &format!("{inside}{empty}"));
}

#[test]
fn draws() {
    check_chain("weighted", "[\"up\", \"weighted\"]", "", &[]);
    check_chain("shuffle", "[\"up\", \"shuffle\"]", "", &[]);
    check_chain(
        "sticky",
        "[\"up\", \"nearest\", \"sticky 20 40\", \"take 1\"]",
        "",
        &[],
    );
    check_chain("failover", "[\"failover\"]", "", &[]);
    check_chain("trickle", "[\"trickle 5%\"]", "", &["198.51.100.1"]);
}

#[test]
fn overflow() {
    let text = config("[\"up\", \"nearest\", \"overflow\", \"take 1\"]", "");
    let text = with_sites(&text, "capacity = 100\nload = 125", "capacity = 100\nload = 70");
    let text = text.replacen(
        "name = \"jfk\"\n",
        "name = \"jfk\"\ncapacity = 100\nload = 90\n",
        1,
    );
    let whole = explained(&tables_of(&text, &[]), &[CLIENTS[0].0]);
    let without = explained(&tables_of(&text, &["198.51.100.1"]), &[CLIENTS[0].0]);
    check("overflow", &format!("{whole}{without}"));
}

#[test]
fn rules_for_when_all_is_down() {
    let chain = "[\"up\", \"nearest\", \"take 1\"]";
    for rule in ["serve-all", "nodata", "servfail"] {
        check_chain(rule, chain, &format!("if_all_down = \"{rule}\""), &ALL_V4);
    }
    let other = "if_all_down = \"pool:sorry\"\n[[pool]]\nname = \"sorry\"\ncheck = \"web\"\n\
                 endpoints = [{ site = \"jfk\", address = \"192.0.2.9:443\" }]";
    let down: Vec<&str> = ALL_V4.into_iter().chain(["192.0.2.9"]).collect();
    check_chain("pool", chain, other, &down);
}

#[test]
fn the_last_good_ones() {
    let text = config("[\"up\", \"nearest\"]", "if_all_down = \"serve-last-good\"");
    let fleet = fleet(&text);
    let at_first = crate::testing::compile(snapshot(&fleet, &ALL_V4));
    let before = at_first.next(snapshot(&fleet, &["198.51.100.1"]));
    let after = before.next(snapshot(&fleet, &ALL_V4));
    let told = [&at_first, &before, &after].map(|tables| explained(tables, &[CLIENTS[0].0]));
    check("serve-last-good", &told.concat());
}

#[test]
fn a_pool_in_a_pool() {
    let text = config("[\"up\", \"failover\", \"weighted\"]", "").replacen(
        "pool = \"web\"\n",
        "pool = \"outer\"\n",
        1,
    ) + "[[pool]]\nname = \"outer\"\nendpoints = [\n  { pool = \"web\", weight = 3, tier = 0 },\n  \
         { site = \"jfk\", address = \"192.0.2.7:443\", weight = 1, tier = 0 },\n]\n";
    let text = text.replace("weight = 10 }", "weight = 10, tier = 5 }");
    let text = text.replace("weight = 30 }", "weight = 30, tier = 5 }");
    let text = text.replace("weight = 0 }", "weight = 0, tier = 9 }");
    let text = text.replace("[2001:db8::1]:443\" }", "[2001:db8::1]:443\", tier = 5 }");
    let text = text.replace("[2001:db8::2]:443\" }", "[2001:db8::2]:443\", tier = 9 }");
    let whole = explained(&tables_of(&text, &[]), &[CLIENTS[0].0]);
    let without = explained(&tables_of(&text, &["198.51.100.1"]), &[CLIENTS[0].0]);
    check("pool-in-pool", &format!("{whole}{without}"));
}

#[test]
fn the_ttl_is_short_until_all_have_been_up_for_long_enough_under_announced_addresses() {
    let rest = "ttl = \"auto\"\nttl_min = \"5s\"\nttl_max = \"60s\"\n\
                [[anycast]]\nprefix = \"198.51.100.0/24\"\n[bgp]\nasn = 64512\nrouter_id = \"192.0.2.1\"";
    let fleet = fleet(&config("[\"up\"]", rest));
    let at = |second, down: &[&str]| {
        let mut snapshot = Arc::unwrap_or_clone(snapshot(&fleet, down));
        snapshot.at = jiff::Timestamp::from_second(second).unwrap();
        Arc::new(snapshot)
    };
    let key = crate::zones::key_of(&"www.example.com".parse().unwrap()).unwrap();
    let ttls = |tables: &Tables| {
        let of = |part| tables.ttl_of(&key, hickory_proto::rr::RecordType::A, part);
        (of(crate::tables::Part::V4), of(crate::tables::Part::V6))
    };
    let fresh = crate::testing::compile(at(0, &[]));
    assert_eq!(ttls(&fresh), (Some(5), Some(5)), "up only just now");
    let calm = fresh.ages_at().unwrap();
    assert_eq!(calm.as_second(), 60);
    let aged = fresh.aged(calm);
    assert_eq!(ttls(&aged), (Some(60), Some(5)), "2001:db8:: is in no prefix");
    assert_eq!(aged.ages_at(), None);
    check("ttl-auto", &explained(&aged, &[CLIENTS[0].0]));
    let hurt = aged.next(at(61, &["198.51.100.3"]));
    assert_eq!(ttls(&hurt), (Some(5), Some(5)));
    assert_eq!(hurt.ages_at(), None, "nothing changes by time alone");
}
