//! 1,000 zones that change and are reloaded, again and again, under 50,000 queries a second: none may be lost, and none
//! may be answered otherwise than with NOERROR.

use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::daemon::{Daemon, fresh_folder, quantile, wait_for, write};
use super::dnsperf::{DNSPERF, dnsperf};
use crate::packages;
use crate::shell::{output, release_steer};

const ZONES: usize = 1_000;
const HOSTS: usize = 10;
/// Questions a second, and for how long.
const RATE: u32 = 50_000;
const SECONDS: u32 = 20;
/// The load must really have been there.
const LEAST_RATE: f64 = 0.98 * RATE as f64;
/// The endpoint of the one steered name: the fleet changes too.
const ENDPOINT: &str = "127.0.0.1:15323";
const DNS_PORT: u16 = 15_321;
const ADMIN_PORT: u16 = 15_322;
const START: Duration = Duration::from_secs(20);

/// What one `steer reload` came to.
struct Reload {
    took: Duration,
    read: u64,
}

pub(crate) fn bench() -> Result<(), String> {
    packages::ensure_also(&[(DNSPERF, "dnsperf")]);
    let steer = release_steer()?;
    let folder = fresh_folder("bench-reload")?;
    let _endpoint = TcpListener::bind(ENDPOINT).map_err(|error| format!("{ENDPOINT}: {error}"))?;
    write_files(&folder, 1)?;
    let mut run = Command::new(&steer);
    run.args(["run", "--log", "info", "--config"])
        .arg(folder.join("steer.toml"));
    let log = folder.join("log");
    let _daemon = Daemon::start("steer", &run, &log)?;
    wait_for("the first round of checks", START, || {
        let text = fs::read_to_string(&log).unwrap_or_default();
        Ok(text.contains("first round of checks is over").then_some(()))
    })?;
    let (load, reloads) = std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            // Enough under way, and room enough for replies (KiB), that a pause of 100 ms on either side is none of
            // the questions' end.
            let rate = RATE.to_string();
            dnsperf(
                DNS_PORT,
                SECONDS,
                &folder.join("queries"),
                &["-c", "4", "-q", "5000", "-b", "4096", "-Q", &rate],
            )
        });
        let mut reloads = Vec::new();
        for serial in 2.. {
            if load.is_finished() {
                break;
            }
            write_files(&folder, serial)?;
            reloads.push(reload(&steer)?);
        }
        let load = load
            .join()
            .map_err(|_| "the load ended in a panic".to_owned())??;
        Ok::<_, String>((load, reloads))
    })?;
    let mut took: Vec<f64> = reloads.iter().map(|one| one.took.as_secs_f64() * 1e3).collect();
    let rate = load.figure("Queries per second:")?;
    let lost = load.figure("Queries lost:")?;
    let codes = load.after("Response codes:")?;
    let read: u64 = reloads.iter().map(|one| one.read).sum();
    println!(
        "{} reloads, {read} zones read, each {:.0} ms (median; worst {:.0}), under {rate:.0} queries/s for {SECONDS} s",
        reloads.len(),
        quantile(&mut took, 0.5),
        quantile(&mut took, 1.0)
    );
    println!(
        "lost {lost} (dropped before steer read them: {}); response codes {codes}",
        dropped()?
    );
    println!("latency {}", load.after("Average Latency (s):")?);
    if lost > 0.0 || codes.contains(',') || !codes.starts_with("NOERROR") {
        return Err("wanted: no query lost, and nothing but NOERROR".to_owned());
    }
    if rate < LEAST_RATE || reloads.is_empty() {
        return Err(format!(
            "{rate:.0} queries/s and {} reloads are too few",
            reloads.len()
        ));
    }
    Ok(())
}

/// Queries that the kernel dropped because our buffers were full.
fn dropped() -> Result<u64, String> {
    let path = "/proc/net/udp";
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let port = format!(":{DNS_PORT:04X}");
    let ours = text
        .lines()
        .skip(1)
        .map(|line| line.split_whitespace().collect::<Vec<_>>());
    let ours = ours.filter(|fields| fields.get(1).is_some_and(|local| local.ends_with(&port)));
    Ok(ours.filter_map(|fields| fields.last()?.parse::<u64>().ok()).sum())
}

/// Every zone with another serial, and every other time another fleet.
fn write_files(folder: &Path, serial: u32) -> Result<(), String> {
    let mut config = format!(
        "[dns]\nlisten = [\"127.0.0.1:{DNS_PORT}\"]\n[admin]\nlisten = \"127.0.0.1:{ADMIN_PORT}\"\n\
         [[check]]\nname = \"web\"\nkind = \"tcp\"\ninterval = \"1s\"\n\
         [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [{{ address = \"{ENDPOINT}\" }}]\n\
         [[steer]]\nname = \"n{}.z0.example\"\npool = \"web\"\n",
        serial / 2
    );
    let mut queries = String::new();
    for zone in 0..ZONES {
        config += &format!("[[zone]]\nname = \"z{zone}.example\"\nfile = \"z{zone}.zone\"\n");
        let mut text = format!("$TTL 60\n@ SOA ns host {serial} 2 3 4 5\n@ NS ns\nns A 192.0.2.1\n");
        for host in 0..HOSTS {
            text += &format!("h{host} A 198.51.100.{host}\n");
            queries += &format!("h{host}.z{zone}.example A\n");
        }
        write(&folder.join(format!("z{zone}.zone")), &text)?;
    }
    write(&folder.join("queries"), &queries)?;
    write(&folder.join("steer.toml"), &config)
}

fn reload(steer: &Path) -> Result<Reload, String> {
    let admin = format!("127.0.0.1:{ADMIN_PORT}");
    let start = Instant::now();
    let printed = output(Command::new(steer).args(["reload", "--json", "--admin", &admin]))?;
    let took = start.elapsed();
    let done: Value = serde_json::from_str(&printed).map_err(|error| format!("{printed}: {error}"))?;
    let read = done["zones_read"]
        .as_u64()
        .ok_or_else(|| format!("no zones_read in {printed}"))?;
    Ok(Reload { took, read })
}
