//! How long the decision tables of a large fleet take: all of them, and again after one verdict. Run by
//! `cargo xtask bench compile`.

use std::fmt::Write as _;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_dns::{Tables, Zones};
use steer_health::{Change, Judge, Verdict};
use steer_topology::{Classes, Endpoint, EndpointId, Fleet, Geography, Pool, PoolId, Resolve, Steer};

const NAMES: usize = 10_000;
const NETWORKS: u32 = 60;
const ROUNDS: usize = 20;

/// Fifty places where many have a site.
const SITES: &str = "ams arn ath auh bcn ber bog bom bru bud cdg cpt del den dfw doh dub eze fra gru hel hkg hnd iad \
    icn ist jnb kul lax lhr lim mad mel mex mia mrs muc mxp ord osl otp prg scl sea sin sof syd vie waw yyz";

struct NoHosts;

impl Resolve for NoHosts {
    fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other(format!("{host} is not resolved here")))
    }
}

fn main() -> Result<(), String> {
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let zone = "@ 300 IN SOA ns hostmaster 1 3600 600 86400 300\n@ 300 IN NS ns\nns 300 IN A 192.0.2.53\n";
    std::fs::write(folder.path().join("example.com.zone"), zone).map_err(|error| error.to_string())?;
    let base = base(folder.path())?;
    let geography = Arc::new(Geography::built_in().map_err(|error| error.to_string())?);
    let classes = Classes::of_fleet(&base, Some(&geography), None).map_err(|error| error.to_string())?;
    let classes = Arc::new(classes);
    println!(
        "{} classes, {} sites, {NAMES} steered names",
        classes.len(),
        base.sites.len()
    );
    println!(
        "| pools | plans | full | after one verdict: snapshot, median | tables, median | worst | size |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- |");
    for pools in [1, 100, NAMES] {
        measure(&Arc::new(grown(&base, pools)), &classes, &geography)?;
    }
    Ok(())
}

/// One pool with an endpoint at each site, one name, and one more whose map makes classes.
fn base(folder: &Path) -> Result<Fleet, String> {
    let mut text = String::from("[[zone]]\nname = \"example.com\"\nfile = \"example.com.zone\"\n");
    for site in SITES.split_whitespace() {
        writeln!(text, "[[site]]\nname = \"{site}\"").map_err(|error| error.to_string())?;
    }
    text.push_str("[[pool]]\nname = \"p\"\nendpoints = [\n");
    for (n, site) in SITES.split_whitespace().enumerate() {
        writeln!(text, "{{ site = \"{site}\", address = \"198.51.100.{n}:443\" }},")
            .map_err(|error| error.to_string())?;
    }
    text.push_str(
        "]\n[[steer]]\nname = \"n.example.com\"\npool = \"p\"\nchain = [\"up\", \"nearest\", \"take 2\"]\n",
    );
    text.push_str(
        "[[steer]]\nname = \"m.example.com\"\npool = \"p\"\nchain = [\"cidr\", \"nearest\"]\n[steer.cidr]\n",
    );
    for n in 0..NETWORKS {
        writeln!(
            text,
            "\"{}/16\" = \"fra\"",
            Ipv4Addr::from_bits((20 + n) << 24 | 7 << 16)
        )
        .map_err(|error| error.to_string())?;
    }
    Fleet::parse(&text, &folder.join("steer.toml"), &NoHosts).map_err(|faults| faults.to_string())
}

/// So many copies of the pool, the names spread over them.
fn grown(base: &Fleet, pools: usize) -> Fleet {
    let mut fleet = base.clone();
    let per_pool = base.endpoints.len();
    fleet.pools = (0..pools)
        .map(|pool| Pool {
            name: format!("p{pool}"),
            endpoints: (0..per_pool)
                .map(|n| EndpointId((pool * per_pool + n) as u32))
                .collect(),
            ..base.pools[0].clone()
        })
        .collect();
    fleet.endpoints = (0..pools)
        .flat_map(|pool| base.endpoints.iter().map(move |endpoint| (pool, endpoint)))
        .map(|(pool, endpoint)| Endpoint {
            pool: PoolId(pool as u32),
            ..endpoint.clone()
        })
        .collect();
    let name = |n: usize| Steer {
        name: format!("n{n}.example.com")
            .parse()
            .unwrap_or_else(|_| base.steers[0].name.clone()),
        pool: PoolId((n % pools) as u32),
        ..base.steers[0].clone()
    };
    fleet.steers = (0..NAMES).map(name).collect();
    fleet
}

/// The checks of a fleet whose endpoints are all up.
fn settled(fleet: &Arc<Fleet>) -> Judge {
    let (now, at) = (Instant::now(), Timestamp::UNIX_EPOCH);
    let mut judge = Judge::new(Arc::clone(fleet), now, at);
    let up = fleet.endpoint_ids().map(|endpoint| Change {
        endpoint,
        verdict: Verdict::Up,
        cause: "connected".to_owned(),
    });
    judge.on_verdicts(up, now, at);
    judge
}

fn middle_and_worst(mut times: Vec<Duration>) -> [f64; 2] {
    times.sort_unstable();
    let ms = |place: usize| times.get(place).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    [ms(times.len() / 2), ms(times.len() - 1)]
}

fn measure(fleet: &Arc<Fleet>, classes: &Arc<Classes>, geography: &Arc<Geography>) -> Result<(), String> {
    let zones = Arc::new(Zones::load(fleet).map_err(|faults| faults.to_string())?);
    let mut judge = settled(fleet);
    let first = Arc::new(judge.first_snapshot());
    let begin = Instant::now();
    let geography = Some(Arc::clone(geography));
    let mut tables = Tables::compile(first, zones, Arc::clone(classes), geography);
    let full = begin.elapsed();
    let (mut judged, mut compiled) = (Vec::with_capacity(ROUNDS), Vec::with_capacity(ROUNDS));
    for round in 0..ROUNDS {
        // Each round one endpoint goes down, or comes back.
        let endpoint = EndpointId(((round / 2 * 7_919) % fleet.endpoints.len()) as u32);
        let verdict = if round % 2 == 0 {
            Verdict::Down
        } else {
            Verdict::Up
        };
        let at = Timestamp::UNIX_EPOCH + Duration::from_secs(1_000 * (round as u64 + 1));
        let begin = Instant::now();
        let next = judge.on_verdict(endpoint, verdict, "refused".to_owned(), begin, at);
        judged.push(begin.elapsed());
        let next = next.ok_or("a verdict made no snapshot")?;
        let begin = Instant::now();
        tables = tables.next(next);
        compiled.push(begin.elapsed());
        judge.tell();
    }
    let (plans, bytes) = tables.size();
    let ([judged, _], [middle, worst]) = (middle_and_worst(judged), middle_and_worst(compiled));
    println!(
        "| {} | {plans} | {:.1} ms | {judged:.2} ms | {middle:.2} ms | {worst:.2} ms | {:.1} MB |",
        fleet.pools.len(),
        full.as_secs_f64() * 1e3,
        bytes as f64 / 1e6,
    );
    Ok(())
}
