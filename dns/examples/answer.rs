//! What an answer costs without a socket: the full path and the quick path, for kinds of questions.
//! `cargo run --release -p steer-dns --example answer`

use std::fmt::Write as _;
use std::hint::black_box;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use steer_dns::{Engine, Tables, Transport, Zones, fuzzing};
use steer_health::{EndpointState, Service, Snapshot, Trail, Verdict};
use steer_topology::{Classes, Fleet, Geography, Resolve};

const NAMES: usize = 10_000;
const ROUNDS: usize = 50;
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(81, 169, 145, 1));

const CONFIG: &str = r#"
[[site]]
name = "fra"
[[site]]
name = "nrt"
[[site]]
name = "jfk"
[[pool]]
name = "web"
endpoints = [
  { site = "fra", address = "198.51.100.1:443", weight = 10 },
  { site = "nrt", address = "198.51.100.2:443" },
  { site = "jfk", address = "198.51.100.3:443" },
]
[[zone]]
name = "example.com"
file = "example.com.zone"
[[steer]]
name = "www.example.com"
pool = "web"
chain = ["up", "nearest", "take 2"]
[[steer]]
name = "drawn.example.com"
pool = "web"
chain = ["up", "weighted", "take 1"]
"#;

struct NoHosts;

impl Resolve for NoHosts {
    fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other(host.to_owned()))
    }
}

fn main() -> Result<(), String> {
    let engine = engine()?;
    let plain: Vec<_> = (0..NAMES)
        .map(|n| query(&format!("h{n}.example.com"), 1, false))
        .collect();
    let one = |name: &str, rtype, edns| vec![query(name, rtype, edns); NAMES];
    println!("| question | full path | quick path | known |");
    println!("| --- | --- | --- | --- |");
    for (what, queries) in [
        ("10,000 plain names", plain),
        ("one plain name, EDNS", one("h1.example.com", 1, true)),
        ("apex NS", one("example.com", 2, false)),
        ("NXDOMAIN", one("no.example.com", 1, false)),
        ("steered, nearest", one("www.example.com", 1, true)),
        ("steered, weighted", one("drawn.example.com", 1, true)),
    ] {
        let full = full(&engine, &queries);
        let (quick, known) = quick(&engine, &queries);
        println!(
            "| {what} | {full:.0} ns | {quick:.0} ns | {:.1} % |",
            known * 100.0
        );
    }
    Ok(())
}

fn full(engine: &Engine, queries: &[Vec<u8>]) -> f64 {
    let (mut rng, mut out) = (SmallRng::seed_from_u64(1), Vec::new());
    let began = Instant::now();
    for query in std::iter::repeat_n(queries, ROUNDS).flatten() {
        if let Some(reply) = engine.answer(query, CLIENT, Transport::Udp, 0, &mut rng) {
            // an error would show as a figure too good to be true
            let _ = black_box(reply.encode_into(&mut out));
        }
    }
    per_query(began, queries)
}

fn quick(engine: &Engine, queries: &[Vec<u8>]) -> (f64, f64) {
    let mut quick = fuzzing::Quick::new();
    let mut out = Vec::new();
    let mut known = 0_usize;
    let began = Instant::now();
    for query in std::iter::repeat_n(queries, ROUNDS).flatten() {
        known += usize::from(black_box(quick.write(engine, query, CLIENT, 0, &mut out)));
    }
    (
        per_query(began, queries),
        known as f64 / (queries.len() * ROUNDS) as f64,
    )
}

fn per_query(began: Instant, queries: &[Vec<u8>]) -> f64 {
    began.elapsed().as_secs_f64() * 1e9 / (queries.len() * ROUNDS) as f64
}

fn query(name: &str, rtype: u16, edns: bool) -> Vec<u8> {
    let mut message = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    for label in name.split('.') {
        message.push(label.len() as u8); // short
        message.extend(label.bytes());
    }
    message.push(0);
    message.extend(rtype.to_be_bytes());
    message.extend([0, 1]);
    if edns {
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]);
    }
    message
}

fn engine() -> Result<Engine, String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let mut zone =
        String::from("@ 300 IN SOA ns hostmaster 1 3600 600 86400 300\n@ NS ns\nns A 192.0.2.53\n");
    for n in 0..NAMES {
        writeln!(zone, "h{n} A 198.51.100.{}", n % 256).map_err(|error| error.to_string())?;
    }
    std::fs::write(folder.path().join("example.com.zone"), zone).map_err(|error| error.to_string())?;
    let fleet = Fleet::parse(CONFIG, &folder.path().join("steer.toml"), &NoHosts)
        .map_err(|faults| faults.to_string())?;
    let fleet = Arc::new(fleet);
    let zones = Zones::load(&fleet).map_err(|faults| faults.to_string())?;
    let geography = Arc::new(Geography::built_in().map_err(|error| error.to_string())?);
    let classes = Classes::of_fleet(&fleet, Some(&geography), None).map_err(|error| error.to_string())?;
    let state = EndpointState {
        verdict: Verdict::Up,
        service: Service::In,
        cause: String::new(),
        since: Timestamp::UNIX_EPOCH,
        weight: None,
    };
    let snapshot = Snapshot {
        number: 1,
        at: Timestamp::UNIX_EPOCH,
        settled: true,
        endpoints: std::iter::repeat_n(state, fleet.endpoints.len()).collect(),
        drains: Vec::new(),
        damped: Vec::new(),
        forces: Vec::new(),
        loads: Vec::new(),
        trail: Trail::default(),
        fleet,
    };
    let tables = Tables::compile(snapshot.into(), zones.into(), classes.into(), Some(geography));
    Ok(Engine::new(tables))
}
