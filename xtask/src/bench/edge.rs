//! The RPC edge beside HAProxy, nginx and Envoy: gRPC calls from h2load to one `steer endpoint`, on the cores of this
//! machine, in turns.
//!
//! ```text
//! h2load ─► steer edge | steer edge, whole policy | HAProxy | nginx | Envoy ─► steer endpoint
//! ```
//!
//! Throughput is that of many calls at once, with the CPU that the edge took for each; what an edge adds to a call is seen
//! with one call at a time on each of a few connections, against the same without edge.

pub(super) mod proxies;

use std::fs;
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use super::daemon::{Daemon, fresh_folder, quantile, wait_for, write};
use crate::packages;
use crate::shell::{output, release_steer};

use proxies::{ENVOY, HAPROXY, NGINX, PLAIN, POLICY, Proxy, proxies};

const H2LOAD: &str = "/usr/bin/h2load";
const BACKEND: u16 = 15_331;
const ROUNDS: usize = 3;
const START: Duration = Duration::from_secs(20);

/// Calls of a round at full load, and one at a time.
const MANY: usize = 200_000;
const FEW: usize = 20_000;

/// Resident memory of the edge, in MiB.
const MEMORY_MAX: f64 = 40.0;

/// A gRPC message without fields.
const MESSAGE: &[u8] = &[0; 5];

const METHOD: &str = "/grpc.health.v1.Health/Check";

/// What was measured of one edge, in the order of the rounds.
#[derive(Default)]
struct Figures {
    per_second: Vec<f64>,
    cpu_us: Vec<f64>,
    /// Microseconds of a call that is alone on its connection: the median.
    alone_us: Vec<f64>,
    /// MiB.
    memory: Vec<f64>,
}

pub(crate) fn bench() -> Result<(), String> {
    packages::ensure_also(&[
        (H2LOAD, "nghttp2-client"),
        ("/usr/sbin/haproxy", "haproxy"),
        ("/usr/sbin/nginx", "nginx-light"),
    ]);
    let steer = release_steer()?;
    let folder = fresh_folder("bench-edge")?;
    fs::write(folder.join("message"), MESSAGE).map_err(|error| error.to_string())?;
    let mut run = Command::new(&steer);
    let listen = format!("127.0.0.1:{BACKEND}");
    run.args(["endpoint", "--name", "a", "--listen", &listen]);
    let _backend = Daemon::start("the backend", &run, &folder.join("backend.log"))?;
    listens(BACKEND)?;
    let edges = proxies(&steer, &folder)?;
    let mut direct = Figures::default();
    let mut all: Vec<Figures> = edges.iter().map(|_| Figures::default()).collect();
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        direct.per_second.push(many(BACKEND, &folder)?);
        direct.alone_us.push(alone(BACKEND, &folder)?);
        for (edge, figures) in edges.iter().zip(&mut all) {
            figures.round(edge, &folder)?;
        }
    }
    let (bare, medians) = (direct.medians(), all.iter_mut().map(Figures::medians));
    print(&bare, &edges, &medians.collect::<Vec<_>>())
}

/// The medians of an edge.
struct Medians {
    per_second: f64,
    cpu_us: f64,
    alone_us: f64,
    memory: f64,
}

impl Figures {
    fn medians(&mut self) -> Medians {
        Medians {
            per_second: quantile(&mut self.per_second, 0.5),
            cpu_us: quantile(&mut self.cpu_us, 0.5),
            alone_us: quantile(&mut self.alone_us, 0.5),
            memory: quantile(&mut self.memory, 0.5),
        }
    }

    /// A fresh start of an edge, and both loads.
    fn round(&mut self, edge: &Proxy, folder: &Path) -> Result<(), String> {
        let log = folder.join(format!("{}.log", edge.file()));
        let daemon = Daemon::start(edge.name, &edge.command, &log)?;
        listens(edge.port)?;
        many(edge.port, folder)?; // warm: connections, and what a first call makes
        let before = daemon.cpu();
        self.per_second.push(many(edge.port, folder)?);
        let spent = daemon.cpu().saturating_sub(before);
        self.cpu_us.push(spent.as_secs_f64() * 1e6 / MANY as f64);
        self.alone_us.push(alone(edge.port, folder)?);
        self.memory.push(daemon.memory().peak as f64 / 1024.0);
        Ok(())
    }
}

/// Calls per second with 16 connections of 16 calls each; every one must succeed.
fn many(port: u16, folder: &Path) -> Result<f64, String> {
    let said = h2load(
        port,
        folder,
        &["-n", &MANY.to_string(), "-c", "16", "-m", "16", "-t", "1"],
    )?;
    let rate = between(&said, ", ", " req/s").and_then(|rate| rate.trim().parse().ok());
    rate.ok_or_else(|| format!("h2load said no rate:\n{said}"))
}

/// Microseconds of a call, the median, with four connections of one call each.
fn alone(port: u16, folder: &Path) -> Result<f64, String> {
    let log = folder.join("times");
    let _ = fs::remove_file(&log); // h2load appends
    let name = log.to_string_lossy().into_owned();
    h2load(
        port,
        folder,
        &[
            "-n",
            &FEW.to_string(),
            "-c",
            "4",
            "-m",
            "1",
            "-t",
            "1",
            "--log-file",
            &name,
        ],
    )?;
    let text = fs::read_to_string(&log).map_err(|error| format!("{name}: {error}"))?;
    // start of the call, status, microseconds
    let mut times: Vec<f64> = text
        .lines()
        .filter_map(|line| line.split('\t').nth(2)?.parse().ok())
        .collect();
    Ok(quantile(&mut times, 0.5))
}

fn h2load(port: u16, folder: &Path, how: &[&str]) -> Result<String, String> {
    let message = folder.join("message");
    let mut command = Command::new(H2LOAD);
    command
        .args(how)
        .args(["-H", "content-type: application/grpc", "-H", "te: trailers", "-d"])
        .arg(&message)
        .arg(format!("http://127.0.0.1:{port}{METHOD}"));
    let said = output(&mut command)?;
    let failed = between(&said, "done, ", " succeeded, ").is_none()
        || !said.contains(" 0 failed, 0 errored, 0 timeout")
        || said.contains(" 0 2xx");
    if failed {
        return Err(format!("not every call to port {port} succeeded:\n{said}"));
    }
    Ok(said)
}

/// The text between two others.
fn between<'t>(text: &'t str, before: &str, after: &str) -> Option<&'t str> {
    let (head, _) = text.split_once(after)?;
    head.rsplit_once(before).map(|(_, found)| found)
}

fn listens(port: u16) -> Result<(), String> {
    wait_for(&format!("port {port}"), START, || {
        Ok(TcpStream::connect(("127.0.0.1", port)).ok().map(drop))
    })
}

fn print(direct: &Medians, edges: &[Proxy], all: &[Medians]) -> Result<(), String> {
    println!(
        "{ROUNDS} rounds, medians; {MANY} calls (16 connections x 16), {FEW} calls (4 x 1); no edge: {:.0}/s, p50 {:.0} us\n",
        direct.per_second, direct.alone_us
    );
    println!("| edge | version | calls/s | CPU us per call | added p50, us | memory at most, MiB |");
    println!("| --- | --- | --- | --- | --- | --- |");
    for (edge, figures) in edges.iter().zip(all) {
        println!(
            "| {} | {} | {:.0} | {:.1} | {:.0} | {:.1} |",
            edge.name,
            edge.version,
            figures.per_second,
            figures.cpu_us,
            figures.alone_us - direct.alone_us,
            figures.memory
        );
    }
    println!();
    let of = |name: &str| {
        let found = edges.iter().zip(all).find(|(edge, _)| edge.name == name);
        found.map(|(_, figures)| figures)
    };
    let (Some(plain), Some(policy)) = (of(PLAIN), of(POLICY)) else {
        return Err("the edge itself was not measured".to_owned());
    };
    let mut missed = Vec::new();
    let mut check = |what: String, value: f64, holds: bool| {
        println!("{what}: {value:.2}{}", if holds { "" } else { " (missed)" });
        if !holds {
            missed.push(what);
        }
    };
    let rows = [
        (PLAIN, plain, HAPROXY, 0.8),
        (POLICY, policy, NGINX, 1.0),
        (POLICY, policy, ENVOY, 1.0),
    ];
    for (name, own, other, bound) in rows {
        let Some(theirs) = of(other) else { continue };
        let ratio = own.per_second / theirs.per_second;
        check(
            format!("{name} / {other}, calls/s, at least {bound}"),
            ratio,
            ratio >= bound,
        );
        let ratio = theirs.cpu_us / own.cpu_us;
        check(
            format!("{name} / {other}, calls per second of CPU, at least {bound}"),
            ratio,
            ratio >= bound,
        );
    }
    if let Some(envoy) = of(ENVOY) {
        let ratio = (plain.alone_us - direct.alone_us) / (envoy.alone_us - direct.alone_us);
        check(
            format!("{PLAIN} / {ENVOY}, added p50, at most 1"),
            ratio,
            ratio <= 1.0,
        );
    }
    let most = plain.memory.max(policy.memory);
    check(
        format!("memory, at most {MEMORY_MAX} MiB"),
        most,
        most <= MEMORY_MAX,
    );
    if missed.is_empty() {
        Ok(())
    } else {
        Err(format!("missed: {}", missed.join("; ")))
    }
}

/// Where a configuration of an edge is written.
fn file(folder: &Path, name: &str, text: &str) -> Result<PathBuf, String> {
    let path = folder.join(name);
    write(&path, text)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_rate_is_read_from_what_h2load_says() {
        let said = "finished in 2.34s, 85470.09 req/s, 3.12MB/s\nrequests: 200000 total, 200000 started, 200000 done, \
            200000 succeeded, 0 failed, 0 errored, 0 timeout\n";
        assert_eq!(between(said, ", ", " req/s"), Some("85470.09"));
        assert_eq!(between(said, "done, ", " succeeded, "), Some("200000"));
        assert_eq!(between(said, "nothing", " req/s"), None);
    }
}
