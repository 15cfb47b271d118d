//! The twin of a fleet is not only written: it runs, and its clients move.

use std::path::{Path, PathBuf};

use steer_labs::{LabOptions, Runtime, netns};

/// Three sites as in quickstart, each with an upstream.
const FLEET: &str = r#"
[fleet]
name = "small"
guard = { keep_sites = 1, max_withdrawn = 1, window = "10s" }

[[site]]
name = "fra"
router_id = "192.0.2.1"

[[site]]
name = "iad"
router_id = "192.0.2.2"

[[site]]
name = "nrt"
router_id = "192.0.2.3"

[[check]]
name = "web"
kind = "http"
path = "/healthz"
interval = "1s"
timeout = "900ms"
fall = 2
rise = 2

[[pool]]
name = "web"
check = "web"
endpoints = [
  { site = "fra", address = "198.51.100.10:80" },
  { site = "iad", address = "198.51.100.20:80" },
  { site = "nrt", address = "203.0.113.30:80" },
]

[[anycast]]
prefix = "192.0.2.53/32"
while_up = ["pool:web@local"]

[bgp]
asn = 64512

[[bgp.peer]]
address = "127.0.0.1"
port = 1790
asn = 64500
hold_time = "9s"
connect_retry = "1s"
"#;

struct NoHosts;

impl steer_topology::Resolve for NoHosts {
    fn resolve(&self, host: &str, _: u16) -> std::io::Result<Vec<std::net::SocketAddr>> {
        Err(std::io::Error::other(format!("{host} is not asked for")))
    }
}

/// What the sites and services of the twin run; the reason when there is nothing to run, or nowhere.
fn binary() -> Result<PathBuf, String> {
    netns::can_run()?;
    if !Path::new("/usr/sbin/bird").exists() {
        return Err("/usr/sbin/bird is missing".to_owned());
    }
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/debug/steer");
    let path = std::env::var_os("STEER_BIN").map_or(beside, PathBuf::from);
    path.is_file()
        .then_some(path)
        .ok_or_else(|| "no binary: build it, or name it by STEER_BIN".to_owned())
}

#[test]
fn the_twin_of_a_fleet_converges_and_its_clients_move_to_the_next_region() {
    let steer = match binary() {
        Ok(steer) => steer,
        Err(why) => return println!("skipped: {why}"),
    };
    let folder = std::env::temp_dir().join(format!("labs-twin-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let config = folder.join("steer.toml");
    std::fs::write(&config, FLEET).unwrap();
    let (twin, out) = (folder.join("twin"), folder.join("out"));
    steer_labs::export(&config, &twin, &NoHosts).unwrap();
    let options = LabOptions {
        set: std::collections::BTreeMap::new(),
        steer,
        repeat: 1,
        only: vec!["fra-p0".to_owned()],
        out: Some(out.clone()),
        runtime: Runtime::Netns,
    };
    let report = steer_labs::run(twin.to_str().unwrap(), options).unwrap();
    println!("{report}");
    let text = std::fs::read_to_string(out.join("result.json")).unwrap();
    let result: serde_json::Value = serde_json::from_str(&text).unwrap();
    let run = &result["methods"]["fra-p0"]["runs"][0];
    let outage = run["outage_ms"][0].as_f64().unwrap();
    // Two probes find it, half a second to a second apart; the first replies cross the Atlantic.
    assert!((50.0..5_000.0).contains(&outage), "{outage} ms");
    let last = run["timeline"].as_array().unwrap().last().unwrap();
    assert_eq!(last["site"], "iad", "Ashburn is the next region: {last}");
    let settings = result["settings"].to_string();
    assert!(settings.contains("3 in user space"), "{settings}");
    assert!(out.join("report.html").exists());
    std::fs::remove_dir_all(&folder).unwrap();
}
