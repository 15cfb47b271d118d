//! 1,000,000 records in 1,000 zones: reading them and holding them, beside NSD with the same files, on one core.
//!
//! ```text
//! files ─┬─► steer check            nsd-checkzone, once per zone
//!        └─► steer run              nsd                            until the last zone is answered; then memory
//! ```

use std::fmt::Write as _;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::daemon::{Daemon, fresh_folder, quantile, tree, wait_for, write};
use crate::packages;
use crate::shell::{output, release_steer};

const ZONES: usize = 1_000;
/// With SOA, NS and their addresses 1,000 records.
const MORE: usize = 995;
const ROUNDS: usize = 3;
const NSD: &str = "/usr/sbin/nsd";
/// Longer than any start takes.
const START: Duration = Duration::from_secs(60);
const STEER_PORT: u16 = 15_311;
const NSD_PORT: u16 = 15_312;

/// What was measured, in the order of the rounds. Seconds of CPU, and MiB.
#[derive(Default)]
struct Figures {
    check: Vec<f64>,
    start: Vec<f64>,
    memory: Vec<f64>,
}

pub(crate) fn bench() -> Result<(), String> {
    packages::ensure_also(&[(NSD, "nsd")]);
    let steer = release_steer()?;
    let folder = fresh_folder("bench-zones")?;
    write_files(&folder)?;
    let (mut ours, mut theirs) = (Figures::default(), Figures::default());
    for round in 1..=ROUNDS {
        eprintln!("round {round} of {ROUNDS}");
        ours.check.push(cpu_of(|| {
            let mut check = pinned(&steer.to_string_lossy());
            finish(
                check
                    .args(["check", "--config", "steer.toml"])
                    .current_dir(&folder),
            )
        })?);
        theirs.check.push(cpu_of(|| {
            (0..ZONES).try_for_each(|zone| {
                let mut check = pinned("/usr/sbin/nsd-checkzone");
                let name = format!("z{zone}.example");
                finish(check.arg(name).arg(format!("z{zone}.zone")).current_dir(&folder))
            })
        })?);
        let mut run = pinned(&steer.to_string_lossy());
        run.args(["run", "--log", "warn", "--config"])
            .arg(folder.join("steer.toml"));
        ours.start("steer", &run, &folder, STEER_PORT)?;
        let mut run = pinned(NSD);
        run.arg("-d").arg("-c").arg(folder.join("nsd.conf"));
        theirs.start("nsd", &run, &folder, NSD_PORT)?;
    }
    print(&mut ours, &mut theirs)
}

impl Figures {
    /// Starts it, waits for the last zone, and looks at it once.
    fn start(
        &mut self,
        name: &'static str,
        command: &Command,
        folder: &Path,
        port: u16,
    ) -> Result<(), String> {
        let daemon = Daemon::start(name, command, &folder.join(format!("{name}.log")))?;
        wait_for(name, START, || Ok(answers(port).then_some(())))?;
        self.start.push(daemon.cpu().as_secs_f64());
        self.memory.push(memory(daemon.pid()) / 1024.0);
        Ok(())
    }
}

/// A command that one core has to do.
fn pinned(program: &str) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", "0", program]);
    command
}

fn finish(command: &mut Command) -> Result<(), String> {
    output(command.stderr(Stdio::null())).map(drop)
}

/// Seconds of CPU that the processes took which `work` ran to their end.
fn cpu_of(work: impl FnOnce() -> Result<(), String>) -> Result<f64, String> {
    let spent = || {
        let usage = getrusage(UsageWho::RUSAGE_CHILDREN).map_err(|error| error.to_string())?;
        Ok::<_, String>((usage.user_time() + usage.system_time()).num_microseconds())
    };
    let before = spent()?;
    work()?;
    Ok((spent()? - before) as f64 / 1e6)
}

/// KiB; pages that processes share are counted once (PSS).
fn memory(pid: u32) -> f64 {
    let shares = tree(pid).into_iter().filter_map(|pid| {
        let text = fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).ok()?;
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
        line.split_whitespace().next()?.parse::<f64>().ok()
    });
    shares.sum()
}

/// Whether the SOA of the last zone is answered with authority.
fn answers(port: u16) -> bool {
    let server = SocketAddr::from(([127, 0, 0, 1], port));
    let ask = || {
        let socket = UdpSocket::bind(("127.0.0.1", 0))?;
        socket.set_read_timeout(Some(Duration::from_millis(50)))?;
        let mut query = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in [format!("z{}", ZONES - 1).as_str(), "example"] {
            query.extend([label.len() as u8]); // short
            query.extend(label.as_bytes());
        }
        query.extend([0, 0, 6, 0, 1]);
        socket.send_to(&query, server)?;
        let mut reply = [0; 512];
        let length = socket.recv(&mut reply)?;
        // AA, and no error
        Ok::<_, std::io::Error>(length > 12 && reply[2] & 4 != 0 && reply[3] & 15 == 0)
    };
    ask().unwrap_or(false)
}

fn write_files(folder: &Path) -> Result<(), String> {
    let began = Instant::now();
    let mut steer = format!("[dns]\nlisten = [\"127.0.0.1:{STEER_PORT}\"]\n");
    let home = folder.display();
    let mut nsd = format!(
        "server:\n  ip-address: 127.0.0.1@{NSD_PORT}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  database: \"\"\n\
         \x20 zonesdir: {home}\n  pidfile: {home}/nsd.pid\n  zonelistfile: {home}/nsd.list\n  xfrdfile: {home}/nsd.xfrd\n\
         \x20 xfrdir: {home}\nremote-control:\n  control-enable: no\n"
    );
    for zone in 0..ZONES {
        write(&folder.join(format!("z{zone}.zone")), &zone_text(zone))?;
        let name = format!("z{zone}.example");
        let _ = write!(steer, "[[zone]]\nname = \"{name}\"\nfile = \"z{zone}.zone\"\n");
        let _ = write!(nsd, "zone:\n  name: {name}\n  zonefile: z{zone}.zone\n");
    }
    write(&folder.join("steer.toml"), &steer)?;
    write(&folder.join("nsd.conf"), &nsd)?;
    eprintln!("{} records written in {:?}", ZONES * (MORE + 5), began.elapsed());
    Ok(())
}

/// Half addresses; the rest IPv6, aliases, mail and text.
fn zone_text(zone: usize) -> String {
    let mut text = format!(
        "$ORIGIN z{zone}.example.\n$TTL 300\n@ IN SOA ns1 host 1 7200 900 1209600 300\n@ IN NS ns1\n@ IN NS ns2\n\
         ns1 IN A 192.0.2.1\nns2 IN A 192.0.2.2\n"
    );
    for number in 0..MORE {
        let _ = match number % 10 {
            0..5 => writeln!(text, "host{number} IN A 198.51.{}.{}", number % 256, zone % 256),
            5 | 6 => writeln!(text, "host{} IN AAAA 2001:db8:{zone:x}::{number:x}", number - 5),
            7 => writeln!(text, "alias{number} IN CNAME host{}", number - 7),
            8 => writeln!(text, "host{} IN MX 10 host{}", number - 8, number - 7),
            _ => writeln!(
                text,
                "txt{number} IN TXT \"v=spf1 include:z{zone}.example -all number {number}\""
            ),
        };
    }
    text
}

fn print(ours: &mut Figures, theirs: &mut Figures) -> Result<(), String> {
    let version = output(Command::new("dpkg-query").args(["-W", "-f=${Version}", "nsd"]))?;
    println!(
        "{} records in {ZONES} zones, one core, medians of {ROUNDS} rounds, NSD {version}",
        ZONES * (MORE + 5)
    );
    println!("{:34} {:>9} {:>9} {:>9}", "", "steer", "NSD", "ratio");
    let row = |what: &str, ours: &mut [f64], theirs: &mut [f64]| {
        let (ours, theirs) = (quantile(ours, 0.5), quantile(theirs, 0.5));
        println!("{what:34} {ours:9.2} {theirs:9.2} {:9.2}", ours / theirs);
    };
    row("check of the files, s of CPU", &mut ours.check, &mut theirs.check);
    row(
        "start until answered, s of CPU",
        &mut ours.start,
        &mut theirs.start,
    );
    row("memory (PSS), MiB", &mut ours.memory, &mut theirs.memory);
    Ok(())
}
