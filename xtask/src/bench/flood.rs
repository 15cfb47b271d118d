//! A peer that sends a full table: BIRD sends 1,000,000 routes to steer, and then the same to GoBGP.
//!
//! ```text
//! BIRD ─ 1,000,000 routes ─► steer ─ one prefix, toggled all the time ─► a third peer (receiver)
//!   └─ the same ─► GoBGP
//! ```
//!
//! The session must stay up, what steer announces must stay right while the flood comes in and after it, and memory
//! and CPU are printed side by side.

use std::fmt::Write as _;
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::announce::speakers::{Home, Speaker, Steer};
use super::announce::{PREFIXES, TOGGLED_NET, micros};
use super::daemon::{Daemon, Memory, fresh_folder, own_network, quantile, wait_for, write};
use super::receiver::Receiver;
use crate::packages;
use crate::shell::{output, release_steer};

const ROUTES: u32 = 1_000_000;
/// Routes with the same attributes: a full table has about one set for eight routes.
const SHARED: u32 = 8;
/// GoBGP took four minutes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(900);
/// Between two lines of progress.
const PROGRESS: Duration = Duration::from_secs(20);
/// Between two changes of our own prefix, and two looks at what has come in.
const PAUSE: Duration = Duration::from_millis(100);
/// Changes of our own prefix before and after the flood.
const CHANGES: usize = 50;
/// Memory is looked at this long after the last route.
const SETTLE: Duration = Duration::from_secs(3);

const BIRD: Ipv4Addr = Ipv4Addr::new(10, 9, 3, 1);
const STEER: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const GOBGP: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);
const THIRD: Ipv4Addr = Ipv4Addr::new(10, 9, 1, 1);
const BIRD_ASN: u32 = 64_701;
const ASN: u32 = 64_600;
const STEER_ADMIN: &str = "127.0.0.1:8053";

/// What the flood cost one speaker.
struct Cost {
    version: String,
    before: Memory,
    after: Memory,
    cpu: Duration,
    took: Duration,
}

pub(crate) fn bench() -> Result<(), String> {
    packages::ensure();
    let steer = release_steer()?;
    let folder = fresh_folder("bench-flood")?;
    own_network(&["10.9.0.0/16"])?;
    let bird = Bird::start(&folder)?;
    let costs = [flood_steer(&folder, &bird, &steer)?, flood_gobgp(&folder, &bird)?];
    print(&costs);
    Ok(())
}

/// The one that floods.
struct Bird {
    _daemon: Daemon,
    socket: PathBuf,
}

impl Bird {
    fn start(folder: &Path) -> Result<Self, String> {
        let config = folder.join("bird.conf");
        write(&config, &bird_config())?;
        let socket = folder.join("bird.sock");
        let mut command = Command::new("/usr/sbin/bird");
        command.arg("-f").arg("-c").arg(&config).arg("-s").arg(&socket);
        command.arg("-P").arg(folder.join("bird.pid"));
        eprintln!("BIRD reads {ROUTES} routes");
        let bird = Self {
            _daemon: Daemon::start("bird", &command, &folder.join("bird.log"))?,
            socket,
        };
        let all = format!("{ROUTES} of {ROUTES} routes");
        wait_for("BIRD's table", PATIENCE, || {
            sleep(PAUSE);
            Ok(bird
                .ask("show route count")
                .ok()
                .filter(|shown| shown.contains(&all)))
        })?;
        Ok(bird)
    }

    fn ask(&self, command: &str) -> Result<String, String> {
        output(
            Command::new("/usr/sbin/birdc")
                .arg("-s")
                .arg(&self.socket)
                .arg(command),
        )
    }

    /// An error unless the session is up.
    fn check(&self, protocol: &str) -> Result<(), String> {
        let shown = self.ask(&format!("show protocols {protocol}"))?;
        match shown.contains("Established") {
            true => Ok(()),
            false => Err(format!("the session is not up: {shown}")),
        }
    }
}

fn bird_config() -> String {
    let mut text = format!("router id {BIRD};\nprotocol device {{}}\nprotocol static flood {{\n  ipv4;\n");
    for n in 0..ROUTES {
        let net = Ipv4Addr::from_bits(0x0100_0000 + (n << 8));
        // Infallible for a string.
        let _ = writeln!(text, "route {net}/24 blackhole {{ bgp_med = {}; }};", n / SHARED);
    }
    text.push_str("}\n");
    for (name, address) in [("steer", STEER), ("gobgp", GOBGP)] {
        let _ = writeln!(
            text,
            "protocol bgp {name} {{ disabled; local {BIRD} as {BIRD_ASN}; neighbor {address} as {ASN}; multihop 2; strict bind yes; \
             hold time 90; connect delay time 1; ipv4 {{ import none; export all; next hop self; }}; }}"
        );
    }
    text
}

fn flood_steer(folder: &Path, bird: &Bird, binary: &Path) -> Result<Cost, String> {
    let mut receiver = Receiver::bind(&[THIRD])?;
    let home = Home::new(&folder.join("steer"), STEER, &[THIRD])?;
    let more = format!(
        "[admin]\nlisten = \"{STEER_ADMIN}\"\n[[bgp.peer]]\nsite = \"fra\"\naddress = \"{BIRD}\"\n\
         asn = {BIRD_ASN}\nsource = \"{STEER}\"\npassive = true\n"
    );
    let mut steer = Steer::new(home, binary).with(&format!("listen = [\"{STEER}:179\"]\n"), &more);
    steer.start()?;
    receiver.await_routes(STEER, PREFIXES, Duration::from_secs(60))?;
    let mut count = 0;
    let mut before_flood = toggle(&mut steer, &mut receiver, || {
        count += 1;
        Ok(count > CHANGES)
    })?;
    let (before, cpu, start) = (steer.memory(), steer.cpu(), Instant::now());
    bird.ask("enable steer")?;
    let mut during = toggle(&mut steer, &mut receiver, || {
        if start.elapsed() > PATIENCE {
            return Err(format!("steer has {} of {ROUTES} routes", steer_received()?));
        }
        Ok(steer_received()? >= u64::from(ROUTES))
    })?;
    let (took, cpu) = (start.elapsed(), steer.cpu().saturating_sub(cpu));
    sleep(SETTLE);
    let after = steer.memory();
    let mut count = 0;
    let mut after_flood = toggle(&mut steer, &mut receiver, || {
        count += 1;
        Ok(count > CHANGES)
    })?;
    bird.check("steer")?;
    steer.check_never_lost(BIRD)?;
    receiver.await_routes(STEER, PREFIXES, Duration::from_secs(1))?;
    println!("steer, verdict to UPDATE at a third peer, us:");
    for (when, times) in [
        ("before the flood", &mut before_flood),
        ("while it comes in", &mut during),
        ("after it", &mut after_flood),
    ] {
        let mut at = |share| quantile(times, share);
        let (median, max) = (at(0.5), at(1.0));
        println!(
            "  {when:18} median {median:7.0}, max {max:7.0}, {} changes",
            times.len()
        );
    }
    bird.ask("disable steer")?;
    Ok(Cost {
        version: steer.version(),
        before,
        after,
        cpu,
        took,
    })
}

/// Withdraws and announces our prefix again and again until `done`, and ends with it announced; microseconds.
fn toggle(
    steer: &mut Steer,
    receiver: &mut Receiver,
    mut done: impl FnMut() -> Result<bool, String>,
) -> Result<Vec<f64>, String> {
    let mut times = Vec::new();
    let mut announced = true;
    while !announced || !done()? {
        announced = !announced;
        receiver.forget();
        let start = steer.set(announced)?;
        let arrivals = receiver.expect(STEER, TOGGLED_NET, announced, Duration::from_secs(30))?;
        times.extend(arrivals.into_iter().map(|at| micros(start, at)));
        receiver.pump(PAUSE)?;
        sleep(PAUSE);
    }
    Ok(times)
}

/// Routes that steer has counted, by its metrics.
fn steer_received() -> Result<u64, String> {
    let fail = |error: std::io::Error| format!("{STEER_ADMIN}: {error}");
    let mut stream = TcpStream::connect(STEER_ADMIN).map_err(fail)?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {STEER_ADMIN}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).map_err(fail)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(fail)?;
    let label = format!("peer=\"{BIRD}\"");
    let line = answer
        .lines()
        .find(|line| line.starts_with("steer_anycast_prefixes_rejected_total{") && line.contains(&label));
    let value = line.and_then(|line| line.rsplit(' ').next()?.parse().ok());
    Ok(value.unwrap_or(0))
}

fn flood_gobgp(folder: &Path, bird: &Bird) -> Result<Cost, String> {
    let config = folder.join("gobgpd.toml");
    write(
        &config,
        &format!(
            "[global.config]\nas = {ASN}\nrouter-id = \"{GOBGP}\"\nport = 179\nlocal-address-list = [\"{GOBGP}\"]\n\
             [[neighbors]]\n[neighbors.config]\nneighbor-address = \"{BIRD}\"\npeer-as = {BIRD_ASN}\n\
             [neighbors.transport.config]\nlocal-address = \"{GOBGP}\"\npassive-mode = true\n"
        ),
    )?;
    let mut command = Command::new("/usr/bin/gobgpd");
    command
        .args([
            "-t",
            "toml",
            "--api-hosts",
            "127.0.0.1:50051",
            "--pprof-disable",
            "-f",
        ])
        .arg(&config);
    let daemon = Daemon::start("gobgpd", &command, &folder.join("gobgpd.log"))?;
    wait_for("GoBGP's API", Duration::from_secs(20), || {
        Ok(gobgp_received().ok())
    })?;
    let (before, cpu, start) = (daemon.memory(), daemon.cpu(), Instant::now());
    bird.ask("enable gobgp")?;
    let mut shown = Instant::now();
    wait_for("GoBGP's routes", PATIENCE, || {
        sleep(PAUSE);
        // It does not always answer while it is busy.
        let received = gobgp_received().unwrap_or(0);
        if shown.elapsed() > PROGRESS {
            eprintln!("GoBGP has {received} of {ROUTES} routes");
            shown = Instant::now();
        }
        Ok((received >= u64::from(ROUTES)).then_some(()))
    })?;
    let (took, cpu) = (start.elapsed(), daemon.cpu().saturating_sub(cpu));
    sleep(SETTLE);
    bird.check("gobgp")?;
    Ok(Cost {
        version: super::announce::speakers::package_version("gobgpd"),
        before,
        after: daemon.memory(),
        cpu,
        took,
    })
}

/// Routes that GoBGP has from BIRD, by its command line.
fn gobgp_received() -> Result<u64, String> {
    let shown = output(Command::new("/usr/bin/gobgp").args(["-j", "global", "rib", "summary"]))?;
    let shown: serde_json::Value =
        serde_json::from_str(&shown).map_err(|error| format!("{error} in {shown}"))?;
    Ok(shown["num_destination"].as_u64().unwrap_or(0))
}

fn print(costs: &[Cost; 2]) {
    println!(
        "\n{:24} {:>11} {:>11} {:>11} {:>11} {:>8} {:>8}",
        "", "RSS before", "RSS after", "growth", "peak", "CPU s", "took s"
    );
    for cost in costs {
        let mib = |kib: u64| kib as f64 / 1024.0;
        let growth = mib(cost.after.now) - mib(cost.before.now);
        println!(
            "{:24} {:7.1} MiB {:7.1} MiB {growth:7.1} MiB {:7.1} MiB {:8.2} {:8.2}",
            cost.version,
            mib(cost.before.now),
            mib(cost.after.now),
            mib(cost.after.peak),
            cost.cpu.as_secs_f64(),
            cost.took.as_secs_f64()
        );
    }
    println!(
        "{ROUTES} routes of BIRD, {SHARED} to a set of attributes; steer changes its own prefix {} times a second \
         meanwhile and keeps no route, GoBGP keeps them all",
        1_000 / (2 * PAUSE.as_millis()).max(1)
    );
}
