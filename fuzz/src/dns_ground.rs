//! A small engine for the DNS targets: one zone, one steered name, three sites on three continents.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use steer_dns::{Engine, Settings, Tables, Zones};
use steer_health::{EndpointState, Service, Snapshot, Verdict};
use steer_topology::{Classes, Dns, Fleet, Geography, Resolve};

/// Beside the zone file that the tests of `dns` ask for.
const PLACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../dns/fixtures/steer.toml");

const FLEET: &str = r#"
[[site]]
name = "fra"
[[site]]
name = "nrt"
[[site]]
name = "jfk"
[[check]]
name = "web"
kind = "tcp"
[[pool]]
name = "web"
check = "web"
endpoints = [
  { site = "fra", address = "198.51.100.1:443" },
  { site = "nrt", address = "198.51.100.2:443" },
  { site = "jfk", address = "198.51.100.3:443" },
  { site = "fra", address = "[2001:db8::1]:443" },
]
[[zone]]
name = "example.com"
file = "example.com.zone"
[[steer]]
name = "www.example.com"
pool = "web"
chain = ["up", "nearest", "take 2"]
"#;

struct NoHosts;

impl Resolve for NoHosts {
    fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other(format!("{host}: no names here")))
    }
}

/// With the default settings and a name of its own.
pub static ENGINE: LazyLock<Arc<Engine>> = LazyLock::new(|| {
    let fleet = Fleet::parse(FLEET, Path::new(PLACE), &NoHosts).expect("a good fleet");
    let up = |_: &_| EndpointState {
        verdict: Verdict::Up,
        service: Service::In,
        cause: String::new(),
        since: Default::default(),
        weight: None,
    };
    let zones = Zones::load(&fleet).expect("a good zone");
    let geography = Arc::new(Geography::built_in().expect("built in"));
    let classes = Classes::build(&geography, &fleet.sites).expect("three sites");
    let snapshot = Snapshot {
        number: 1,
        at: Default::default(),
        settled: true,
        endpoints: fleet.endpoints.iter().map(up).collect(),
        drains: Vec::new(),
        damped: Vec::new(),
        forces: Vec::new(),
        loads: Vec::new(),
        trail: Default::default(),
        fleet: Arc::new(fleet),
    };
    let tables = Tables::compile(snapshot.into(), zones.into(), classes.into(), Some(geography));
    let settings = Settings::load(&Dns::default(), Some("fra")).expect("no files");
    Arc::new(Engine::with(tables, settings))
});
