//! The same zone and the same questions for steer, Knot and NSD, in turns, on one machine.

use std::fs;
use std::net::UdpSocket;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use super::dnsperf::{DNSPERF, dnsperf};
use crate::packages;
use crate::shell::{cargo, output, run, target, workspace};

/// Turns of each server; the servers alternate, so that a noisy moment hits all of them.
const ROUNDS: usize = 5;
/// Length of one turn.
const SECONDS: u32 = 5;
const NAMES: usize = 10_000;

/// A server under load.
struct Server {
    name: &'static str,
    version: String,
    port: u16,
    child: Child,
}

/// One turn of one server.
#[derive(Debug, Clone, Copy)]
struct Turn {
    per_second: f64,
    cpu_us: f64,
}

pub(crate) fn bench() -> Result<(), String> {
    packages::ensure_also(&[
        (DNSPERF, "dnsperf"),
        ("/usr/sbin/knotd", "knot"),
        ("/usr/sbin/nsd", "nsd"),
    ]);
    run(&mut cargo(&["build", "--release", "--package", "steer"]))?;
    let folder = workspace().join("target/bench-dns");
    fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    write_inputs(&folder)?;
    let servers = [start_steer(&folder)?, start_knot(&folder)?, start_nsd(&folder)?];
    for server in &servers {
        await_answer(server)?;
    }
    let mut turns: [Vec<Turn>; 3] = Default::default();
    for round in 1..=ROUNDS {
        for (server, turns) in servers.iter().zip(&mut turns) {
            let turn = load(&folder, server)?;
            eprintln!(
                "round {round}/{ROUNDS} {:6} {:9.0} q/s {:6.2} us CPU/query",
                server.name, turn.per_second, turn.cpu_us
            );
            turns.push(turn);
        }
    }
    print(&servers, &turns);
    Ok(())
}

impl Drop for Server {
    fn drop(&mut self) {
        // Our own child; both fail only where it has ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write_inputs(folder: &Path) -> Result<(), String> {
    let mut zone = String::from(
        "$ORIGIN example.com.\n$TTL 300\n@ IN SOA ns1 hostmaster 1 7200 900 1209600 60\n@ IN NS ns1\nns1 IN A 192.0.2.1\n",
    );
    let mut queries = String::new();
    for n in 0..NAMES {
        zone.push_str(&format!("h{n} IN A 198.51.100.{}\n", n % 256));
        queries.push_str(&format!("h{n}.example.com A\n"));
    }
    write(&folder.join("example.com.zone"), &zone)?;
    write(&folder.join("queries"), &queries)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn start_steer(folder: &Path) -> Result<Server, String> {
    let port = 15_301;
    let config = folder.join("steer.toml");
    write(
        &config,
        &format!(
            "[dns]\nlisten = [\"127.0.0.1:{port}\"]\n[[zone]]\nname = \"example.com\"\nfile = \"example.com.zone\"\n"
        ),
    )?;
    let binary = target().join("release/steer");
    let version = output(Command::new(&binary).arg("--version"))?;
    let child = spawn(
        Command::new(&binary)
            .args(["run", "--log", "warn", "--config"])
            .arg(&config),
    )?;
    Ok(Server {
        name: "steer",
        version: version.trim().to_owned(),
        port,
        child,
    })
}

fn start_knot(folder: &Path) -> Result<Server, String> {
    let port = 15_302;
    let home = folder.join("knot");
    fs::create_dir_all(&home).map_err(|error| format!("{}: {error}", home.display()))?;
    let config = folder.join("knot.conf");
    write(
        &config,
        &format!(
            "server:\n  rundir: \"{home}\"\n  listen: 127.0.0.1@{port}\ndatabase:\n  storage: \"{home}\"\ntemplate:\n  - id: default\n    storage: \"{folder}\"\n    zonefile-sync: -1\n    journal-content: none\nzone:\n  - domain: example.com\n    file: example.com.zone\n",
            home = home.display(),
            folder = folder.display()
        ),
    )?;
    let version = output(Command::new("/usr/sbin/knotd").arg("--version"))?;
    let child = spawn(Command::new("/usr/sbin/knotd").arg("-c").arg(&config))?;
    Ok(Server {
        name: "knot",
        version: version.trim().to_owned(),
        port,
        child,
    })
}

fn start_nsd(folder: &Path) -> Result<Server, String> {
    let port = 15_303;
    let config = folder.join("nsd.conf");
    write(
        &config,
        &format!(
            "server:\n  ip-address: 127.0.0.1@{port}\n  username: \"\"\n  zonesdir: \"{folder}\"\n  pidfile: \"{folder}/nsd.pid\"\n  xfrdfile: \"{folder}/xfrd\"\n  zonelistfile: \"{folder}/zonelist\"\n  database: \"\"\n  server-count: 1\nremote-control:\n  control-enable: no\nzone:\n  name: example.com\n  zonefile: example.com.zone\n",
            folder = folder.display()
        ),
    )?;
    let version = first_line(Command::new("/usr/sbin/nsd").arg("-v"));
    let child = spawn(Command::new("/usr/sbin/nsd").arg("-d").arg("-c").arg(&config))?;
    Ok(Server {
        name: "nsd",
        version,
        port,
        child,
    })
}

/// nsd prints its version on stderr and ends with 1.
fn first_line(command: &mut Command) -> String {
    let printed = command
        .output()
        .map(|output| String::from_utf8_lossy(&output.stderr).into_owned());
    printed
        .unwrap_or_default()
        .lines()
        .next()
        .unwrap_or("unknown version")
        .to_owned()
}

fn spawn(command: &mut Command) -> Result<Child, String> {
    let child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    child.map_err(|error| format!("{}: {error}", command.get_program().to_string_lossy()))
}

/// Waits until the server answers `example.com SOA`.
fn await_answer(server: &Server) -> Result<(), String> {
    const QUESTION: &[u8] =
        b"\x12\x34\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03com\x00\x00\x06\x00\x01";
    let fail = |error: std::io::Error| format!("{}: {error}", server.name);
    let socket = UdpSocket::bind("127.0.0.1:0").map_err(fail)?;
    socket.connect(("127.0.0.1", server.port)).map_err(fail)?;
    socket
        .set_read_timeout(Some(Duration::from_millis(100)))
        .map_err(fail)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    let mut buffer = [0; 512];
    while Instant::now() < deadline {
        // Refused while it starts, or a time-out: ask again.
        let answered = socket.send(QUESTION).and_then(|_| socket.recv(&mut buffer));
        if matches!(answered, Ok(length) if length > 12 && buffer[3] & 0x0f == 0) {
            return Ok(());
        }
        sleep(Duration::from_millis(20));
    }
    Err(format!("{} did not answer within 20 s", server.name))
}

fn load(folder: &Path, server: &Server) -> Result<Turn, String> {
    let before = cpu_us(server.child.id())?;
    let printed = dnsperf(
        server.port,
        SECONDS,
        &folder.join("queries"),
        &["-c", "4", "-q", "200"],
    )?;
    let spent = cpu_us(server.child.id())? - before;
    let completed = printed.figure("Queries completed:")?;
    let lost = printed.figure("Queries lost:")?;
    if lost > completed / 1000.0 {
        eprintln!("{}: {lost} of {completed} queries lost", server.name);
    }
    Ok(Turn {
        per_second: printed.figure("Queries per second:")?,
        cpu_us: spent / completed,
    })
}

/// CPU time of a process and its children (nsd forks), user and system, in microseconds.
fn cpu_us(pid: u32) -> Result<f64, String> {
    let mut total = ticks(pid)?;
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    for child in children.split_whitespace().filter_map(|word| word.parse().ok()) {
        total += cpu_us(child)? / TICK_US;
    }
    Ok(total * TICK_US)
}

/// Linux counts process time in hundredths of a second for user space (`USER_HZ`).
const TICK_US: f64 = 10_000.0;

fn ticks(pid: u32) -> Result<f64, String> {
    let path = format!("/proc/{pid}/stat");
    let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
    // The command name in parentheses may hold spaces; fields count from behind it.
    let fields: Vec<_> = text
        .rsplit(')')
        .next()
        .unwrap_or_default()
        .split_whitespace()
        .collect();
    let field = |index: usize| fields.get(index).and_then(|word| word.parse::<f64>().ok());
    field(11)
        .zip(field(12))
        .map(|(user, system)| user + system)
        .ok_or_else(|| format!("{path}: {text}"))
}

fn print(servers: &[Server; 3], turns: &[Vec<Turn>; 3]) {
    println!(
        "\n{:6} {:>12} {:>16} {:>10} {:>10}  version",
        "server", "q/s median", "us CPU/query", "q/s ratio", "CPU ratio"
    );
    let own = (
        median(turns[0].iter().map(|t| t.per_second)),
        median(turns[0].iter().map(|t| t.cpu_us)),
    );
    for (server, turns) in servers.iter().zip(turns) {
        let rate = median(turns.iter().map(|turn| turn.per_second));
        let cpu = median(turns.iter().map(|turn| turn.cpu_us));
        println!(
            "{:6} {rate:12.0} {cpu:16.2} {:10.2} {:10.2}  {}",
            server.name,
            own.0 / rate,
            own.1 / cpu,
            server.version
        );
    }
    println!(
        "ratios: steer divided by the server of the line; {ROUNDS} alternating turns of {SECONDS} s, {NAMES} names"
    );
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut sorted: Vec<_> = values.collect();
    sorted.sort_by(f64::total_cmp);
    sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
}
