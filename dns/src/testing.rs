//! A small world for tests: one fleet from text, one zone, verdicts as wanted.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, OnceLock};

use hickory_proto::op::Message;
use hickory_proto::rr::Name;
use hickory_proto::rr::rdata::opt::{EdnsCode, EdnsOption};
use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use steer_health::{Drain, EndpointState, Service, Snapshot, Target, Trail, Verdict};
use steer_topology::{Bias, Classes, Fleet, Geography, Latency, Resolve, Traits};

use crate::engine::Engine;
use crate::reply::Transport;
use crate::subnet::truncate;
use crate::tables::Tables;
use crate::zones::Zones;

/// Where the zone file of [`config`] is.
const CONFIG: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/steer.toml");

struct NoHosts;

impl Resolve for NoHosts {
    fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other(format!("{host}: no resolver in tests")))
    }
}

/// Three sites on three continents, one IPv4 endpoint each, IPv6 in two.
pub(crate) fn config(chain: &str, rest: &str) -> String {
    format!(
        r#"
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
  {{ site = "fra", address = "198.51.100.1:443", weight = 10 }},
  {{ site = "nrt", address = "198.51.100.2:443", weight = 30 }},
  {{ site = "jfk", address = "198.51.100.3:443", weight = 0 }},
  {{ site = "fra", address = "[2001:db8::1]:443" }},
  {{ site = "nrt", address = "[2001:db8::2]:443" }},
]
[[zone]]
name = "example.com"
file = "example.com.zone"
[[steer]]
name = "www.example.com"
pool = "web"
chain = {chain}
{rest}
"#
    )
}

pub(crate) fn fleet(text: &str) -> Arc<Fleet> {
    let fleet = Fleet::parse(text, Path::new(CONFIG), &NoHosts);
    Arc::new(fleet.unwrap_or_else(|faults| panic!("{faults}")))
}

/// All up but those whose address is in `down`.
pub(crate) fn snapshot(fleet: &Arc<Fleet>, down: &[&str]) -> Arc<Snapshot> {
    let state = |endpoint: &steer_topology::Endpoint| {
        let is_down = down.contains(&&*endpoint.address.ip().to_string());
        let (verdict, service, cause) = if is_down {
            (Verdict::Down, Service::Out, "connection refused")
        } else {
            (Verdict::Up, Service::In, "connected")
        };
        EndpointState {
            verdict,
            service,
            cause: cause.to_owned(),
            since: Timestamp::UNIX_EPOCH,
            weight: None,
        }
    };
    Arc::new(Snapshot {
        number: 7,
        at: Timestamp::UNIX_EPOCH,
        fleet: Arc::clone(fleet),
        settled: true,
        endpoints: fleet.endpoints.iter().map(state).collect(),
        drains: Vec::new(),
        damped: Vec::new(),
        forces: Vec::new(),
        loads: Vec::new(),
        trail: Trail::default(),
    })
}

pub(crate) fn geography() -> &'static Arc<Geography> {
    static GEOGRAPHY: OnceLock<Arc<Geography>> = OnceLock::new();
    GEOGRAPHY.get_or_init(|| Arc::new(Geography::built_in().unwrap()))
}

/// The classes of a fleet; those of three sites by distance alone are built once, for it takes a while.
fn classes(fleet: &Fleet) -> Arc<Classes> {
    static CLASSES: OnceLock<Arc<Classes>> = OnceLock::new();
    let traits = Traits::of(fleet);
    let plain = Traits {
        nearest: traits.nearest,
        ..Traits::default()
    };
    if traits == plain && fleet.sites.iter().all(|site| site.bias == Bias::NONE) {
        let by_distance = || Arc::new(Classes::build(geography(), &fleet.sites).unwrap());
        return Arc::clone(CLASSES.get_or_init(by_distance));
    }
    let latency = traits.latency.then(Latency::built_in);
    Arc::new(Classes::of_fleet(fleet, Some(geography()), latency).unwrap())
}

pub(crate) fn tables_of(config: &str, down: &[&str]) -> Tables {
    compile(snapshot(&fleet(config), down))
}

/// With one site drained by ana.
pub(crate) fn drained_tables(config: &str, down: &[&str], site: &str) -> Tables {
    let fleet = fleet(config);
    let mut snapshot = Arc::unwrap_or_clone(snapshot(&fleet, down));
    let target = Target::find(&fleet, site).unwrap();
    for id in target.endpoints(&fleet) {
        snapshot.endpoints[id.0 as usize].service = Service::Drained;
    }
    snapshot.drains.push(Drain {
        target,
        reason: "kernel update".to_owned(),
        author: "ana".to_owned(),
        since: Timestamp::UNIX_EPOCH,
        until: "2026-01-01T14:00:00Z".parse().ok(),
    });
    compile(Arc::new(snapshot))
}

pub(crate) fn compile(snapshot: Arc<Snapshot>) -> Tables {
    let fleet = Arc::clone(&snapshot.fleet);
    let zones = Zones::load(&fleet).unwrap_or_else(|faults| panic!("{faults}"));
    let geography = Arc::clone(geography());
    Tables::compile(snapshot, Arc::new(zones), classes(&fleet), Some(geography))
}

pub(crate) fn tables(chain: &str, down: &[&str]) -> Tables {
    tables_of(&config(chain, ""), down)
}

/// Germany, Japan, United States by the built-in database.
pub(crate) const CLIENTS: [(&str, &str); 3] = [
    ("81.169.145.1", "198.51.100.1"),
    ("133.11.0.1", "198.51.100.2"),
    ("12.0.0.1", "198.51.100.3"),
];

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// No cookie of these tests ages.
pub(crate) const NOW: u32 = 0;

/// One question, with OPT record when `options` is there.
pub(crate) fn question(name: &str, rtype: u16, options: Option<&[u8]>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(options.is_some())];
    for label in &Name::from_ascii(name).unwrap() {
        message.push(label.len() as u8);
        message.extend(label);
    }
    message.push(0);
    message.extend(rtype.to_be_bytes());
    message.extend([0, 1]);
    if let Some(options) = options {
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0]);
        message.extend((options.len() as u16).to_be_bytes());
        message.extend(options);
    }
    message
}

/// The option of a query.
pub(crate) fn subnet(address: IpAddr, source: u8) -> Vec<u8> {
    let octets = match truncate(address, source) {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    };
    let length = usize::from(source).div_ceil(8);
    let family = if address.is_ipv4() { 1 } else { 2 };
    let mut option = vec![0, 8, 0, 4 + length as u8, 0, family, source, 0];
    option.extend(&octets[..length]);
    option
}

/// Asks over UDP.
pub(crate) fn ask(engine: &Engine, query: &[u8], client: &str) -> Message {
    let mut rng = SmallRng::seed_from_u64(1);
    let reply = engine
        .answer(query, ip(client), Transport::Udp, NOW, &mut rng)
        .expect("a reply");
    Message::from_vec(&reply.encode().unwrap()).unwrap()
}

/// The scope that the client subnet option of a reply carries.
pub(crate) fn scope(message: &Message) -> Option<u8> {
    let edns = message.edns.as_ref()?;
    let option = edns.option(EdnsCode::Subnet)?;
    if let EdnsOption::Subnet(subnet) = option {
        Some(subnet.scope_prefix())
    } else {
        None
    }
}
