//! BFD at 50 ms x 3 while every core is busy: steer with BIRD, and BIRD with BIRD beside it, for minutes.
//!
//! Three is what a path may lose; a host that is merely busy must not make it look lost. Everything but steer runs as
//! the system starts it: BIRD's side of a session may fail for want of a CPU, and then the line says so.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{JoinHandle, available_parallelism, sleep};
use std::time::{Duration, Instant};

use clap::Args;
use serde_json::Value;

use crate::packages;
use crate::shell::{cargo, output, run, workspace};

/// How long and how fast.
#[derive(Debug, Clone, Copy, Args)]
pub(crate) struct Plan {
    /// How long the cores are kept busy.
    #[arg(long, value_name = "N", default_value_t = 10)]
    minutes: u64,
    /// The interval of all sessions, in milliseconds; three packets may be lost.
    #[arg(long, value_name = "MS", default_value_t = 50)]
    interval: u64,
}

/// Longer than any session here takes to come up.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn bench(plan: Plan) -> Result<(), String> {
    if !packages::is_root() {
        return Err("network namespaces need root".to_owned());
    }
    packages::ensure_also(&[("/usr/sbin/bird", "bird2"), ("/usr/sbin/ip", "iproute2")]);
    run(&mut cargo(&["build", "--release", "--package", "steer"]))?;
    let scene = Scene::set(plan)?;
    scene.until_up()?;
    let before = scene.look()?;
    let cores = available_parallelism().map_or(1, usize::from);
    eprintln!("{cores} cores busy for {} min", plan.minutes);
    let load = Load::on(cores);
    let end = Instant::now() + Duration::from_secs(plan.minutes * 60);
    while Instant::now() < end {
        sleep(Duration::from_secs(1).min(end.saturating_duration_since(Instant::now())));
    }
    load.off();
    let after = scene.look()?;
    print(plan, &before, &after)
}

/// Namespaces, each with one daemon: steer and a BIRD on one cable, two BIRDs on another.
struct Scene {
    folder: PathBuf,
    /// Ends before the namespaces go.
    daemons: Vec<Daemon>,
    namespaces: Vec<String>,
}

struct Daemon {
    child: Child,
}

/// The addresses of the cables: steer and BIRD, BIRD and BIRD.
const CABLES: [[&str; 2]; 2] = [["10.0.0.1", "10.0.0.2"], ["10.0.1.1", "10.0.1.2"]];
const NAMES: [[&str; 2]; 2] = [["steer", "peer"], ["left", "right"]];

impl Scene {
    fn set(plan: Plan) -> Result<Self, String> {
        let id = std::process::id();
        let folder = std::env::temp_dir().join(format!("steer-bench-bfd-{id}"));
        fs::create_dir_all(&folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        let mut scene = Self {
            folder,
            daemons: Vec::new(),
            namespaces: Vec::new(),
        };
        for (names, addresses) in NAMES.into_iter().zip(CABLES) {
            scene.cable(names, addresses)?;
        }
        scene.start_steer(plan)?;
        scene.start_bird("peer", CABLES[0][1], CABLES[0][0], plan, true)?;
        scene.start_bird("left", CABLES[1][0], CABLES[1][1], plan, false)?;
        scene.start_bird("right", CABLES[1][1], CABLES[1][0], plan, false)?;
        Ok(scene)
    }

    fn cable(&mut self, names: [&str; 2], addresses: [&str; 2]) -> Result<(), String> {
        let spaces = names.map(|name| self.namespace(name));
        for space in &spaces {
            ip(&format!("netns add {space}"))?;
            self.namespaces.push(space.clone());
            ip(&format!("-n {space} link set lo up"))?;
        }
        let [one, other] = &spaces;
        ip(&format!(
            "-n {one} link add eth1 type veth peer name eth1 netns {other}"
        ))?;
        for (space, address) in spaces.iter().zip(addresses) {
            ip(&format!("-n {space} address add {address}/24 dev eth1"))?;
            ip(&format!("-n {space} link set eth1 up"))?;
        }
        Ok(())
    }

    fn namespace(&self, name: &str) -> String {
        format!("steer-bench-{}-{name}", std::process::id())
    }

    fn start_steer(&mut self, plan: Plan) -> Result<(), String> {
        let [steer, peer] = CABLES[0];
        let config = self.folder.join("steer.toml");
        let text = format!(
            "[admin]\nlisten = \"127.0.0.1:8053\"\n[bgp]\nasn = 64512\nrouter_id = \"{steer}\"\n\
             [[bgp.peer]]\naddress = \"{peer}\"\nasn = 64500\nconnect_retry = \"1s\"\n\
             bfd = {{ interval = \"{}ms\", multiplier = 3, strict = true }}\n",
            plan.interval
        );
        write(&config, &text)?;
        let binary = steer_binary().display().to_string();
        let config = config.display().to_string();
        self.start("steer", &[&binary, "run", "--config", &config])
    }

    fn start_bird(
        &mut self,
        name: &str,
        own: &str,
        other: &str,
        plan: Plan,
        bgp: bool,
    ) -> Result<(), String> {
        let path = |ending: &str| self.folder.join(format!("{name}.{ending}")).display().to_string();
        let (config, socket, pid) = (path("conf"), path("sock"), path("pid"));
        // The BGP of the first one asks for the session; else the protocol names it.
        let (wanted, bgp) = if bgp {
            let bgp = format!(
                "protocol bgp steer {{ local {own} as 64500; neighbor {other} as 64512; passive on; bfd on; \
                 ipv4 {{ import all; export none; }}; }}\n"
            );
            (String::new(), bgp)
        } else {
            (format!("neighbor {other} dev \"eth1\";"), String::new())
        };
        let text = format!(
            "log \"{}\" all;\nrouter id {own};\nprotocol device {{}}\n\
             protocol bfd {{ debug {{ events }}; interface \"eth1\" {{ interval {} ms; multiplier 3; }}; {wanted} }}\n{bgp}",
            path("log"),
            plan.interval
        );
        write(Path::new(&config), &text)?;
        self.start(
            name,
            &["/usr/sbin/bird", "-f", "-c", &config, "-s", &socket, "-P", &pid],
        )
    }

    fn start(&mut self, name: &str, command: &[&str]) -> Result<(), String> {
        let log = |ending: &str| {
            let path = self.folder.join(format!("{name}.{ending}"));
            fs::File::create(&path).map_err(|error| format!("{}: {error}", path.display()))
        };
        let child = Command::new("/usr/sbin/ip")
            .args(["netns", "exec", &self.namespace(name)])
            .args(command)
            .stdin(Stdio::null())
            .stdout(log("out")?)
            .stderr(log("err")?)
            .spawn();
        let child = child.map_err(|error| format!("{name}: {error}"))?;
        self.daemons.push(Daemon { child });
        Ok(())
    }

    fn until_up(&self) -> Result<(), String> {
        let start = Instant::now();
        loop {
            let up = self.look().is_ok_and(|seen| seen.all_up);
            if up {
                return Ok(());
            }
            if start.elapsed() > PATIENCE {
                let log = fs::read_to_string(self.folder.join("steer.err")).unwrap_or_default();
                return Err(format!("the sessions do not come up; steer says:\n{log}"));
            }
            sleep(Duration::from_millis(50));
        }
    }

    fn look(&self) -> Result<Seen, String> {
        let steer = self.namespace("steer");
        let binary = steer_binary();
        let shown = output(
            Command::new("/usr/sbin/ip")
                .args(["netns", "exec", &steer])
                .arg(&binary)
                .args(["status", "--json"]),
        )?;
        let shown: Value = serde_json::from_str(&shown).map_err(|error| format!("{error} in {shown}"))?;
        let speaker = shown["bgp"][0].clone();
        let session = speaker["peers"][0]["bfd"].clone();
        let count = |value: &Value| value.as_f64().unwrap_or(0.0);
        let birds = ["peer", "left", "right"].map(|name| self.bird(name));
        let all_up = session["state"] == "up" && birds.iter().all(|bird| bird.ups > bird.downs);
        Ok(Seen {
            all_up,
            priority: speaker["bfd"]["priority"]
                .as_str()
                .unwrap_or("unknown")
                .to_owned(),
            downs: count(&session["downs"]),
            packets: count(&session["packets_in"]) + count(&session["packets_out"]),
            cpu_us: count(&speaker["bfd"]["cpu_us"]),
            worst_in_ms: count(&session["worst_gap_in_us"]) / 1000.0,
            worst_out_ms: count(&session["worst_gap_out_us"]) / 1000.0,
            worst_late_ms: count(&speaker["bfd"]["worst_late_us"]) / 1000.0,
            stalls: count(&speaker["bfd"]["stalls"]),
            bird_cpu_us: self.daemons.get(1).map_or(0.0, |bird| cpu_us(bird.child.id())),
            birds,
        })
    }

    fn bird(&self, name: &str) -> Bird {
        let log = fs::read_to_string(self.folder.join(format!("{name}.log"))).unwrap_or_default();
        let count = |words: &str| log.matches(words).count();
        Bird {
            ups: count("changed state from Init to Up") + count("changed state from Down to Up"),
            downs: count("changed state from Up to Down"),
        }
    }
}

impl Drop for Scene {
    fn drop(&mut self) {
        for daemon in &mut self.daemons {
            // Our own children; both fail only where one has ended by itself.
            let _ = daemon.child.kill();
            let _ = daemon.child.wait();
        }
        for space in &self.namespaces {
            if let Err(error) = ip(&format!("netns delete {space}")) {
                eprintln!("{error}");
            }
        }
        if let Err(error) = fs::remove_dir_all(&self.folder) {
            eprintln!("{}: {error}", self.folder.display());
        }
    }
}

/// All that is known at one moment.
struct Seen {
    all_up: bool,
    priority: String,
    downs: f64,
    packets: f64,
    cpu_us: f64,
    worst_in_ms: f64,
    worst_out_ms: f64,
    worst_late_ms: f64,
    stalls: f64,
    bird_cpu_us: f64,
    birds: [Bird; 3],
}

#[derive(Clone, Copy)]
struct Bird {
    ups: usize,
    downs: usize,
}

/// A loop per core that does nothing, as hard as it can.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Load {
    fn on(cores: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let spin = |_| {
            let stop = Arc::clone(&stop);
            std::thread::spawn(move || {
                while !stop.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            })
        };
        let threads = (0..cores).map(spin).collect();
        Self { stop, threads }
    }

    fn off(self) {
        self.stop.store(true, Ordering::Relaxed);
        for thread in self.threads {
            // It cannot panic.
            let _ = thread.join();
        }
    }
}

fn print(plan: Plan, before: &Seen, after: &Seen) -> Result<(), String> {
    let downs = after.downs - before.downs;
    let [peer, left, right] = [0, 1, 2].map(|bird| after.birds[bird].downs - before.birds[bird].downs);
    let packets = after.packets - before.packets;
    let cost = (after.cpu_us - before.cpu_us) / packets;
    let bird_cost = (after.bird_cpu_us - before.bird_cpu_us) / packets;
    println!(
        "\n{} ms x 3, every core busy for {} min, {packets:.0} packets between steer and BIRD",
        plan.interval, plan.minutes
    );
    println!("| session | downs seen by | downs | worst gap of what it sends | CPU per packet |");
    println!("|---|---|---|---|---|");
    println!(
        "| steer - BIRD | steer ({}) | {downs} | {:.1} ms | {cost:.1} us |",
        after.priority, after.worst_out_ms
    );
    println!(
        "| steer - BIRD | BIRD | {peer} | {:.1} ms | {bird_cost:.1} us |",
        after.worst_in_ms
    );
    println!("| BIRD - BIRD | left | {left} | | |");
    println!("| BIRD - BIRD | right | {right} | | |");
    println!(
        "steer's thread: {:.0} turns 5 ms or more too late, {:.1} ms at worst; nominal gap at most {} ms",
        after.stalls - before.stalls,
        after.worst_late_ms,
        plan.interval
    );
    if downs > 0.0 || peer > 0 {
        return Err(format!("a false down: {downs} seen by steer, {peer} by BIRD"));
    }
    Ok(())
}

/// What all threads of a process have used.
fn cpu_us(pid: u32) -> f64 {
    let tasks = fs::read_dir(format!("/proc/{pid}/task"))
        .into_iter()
        .flatten()
        .flatten();
    let spent = |task: fs::DirEntry| {
        let text = fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<f64>().ok()
    };
    tasks.filter_map(spent).sum::<f64>() / 1000.0
}

fn ip(words: &str) -> Result<(), String> {
    output(Command::new("/usr/sbin/ip").args(words.split(' '))).map(drop)
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn steer_binary() -> PathBuf {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), Into::into);
    target.join("release/steer")
}
