//! `cargo xtask bench probes`: 10,000 endpoints once a second from one core, steer beside HAProxy.
//!
//! Every endpoint is an address of its own in 127.0.0.0/8; one small server on the other core answers for all of them
//! and counts. Each run has a network of its own, so that no socket of another one is counted. Both checkers are held on the same
//! core and take turns; each opens a connection per check, but steer in the rows "reused".

use std::fmt::Write as _;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bench::daemon::{Daemon, fresh_folder, own_network, quantile, write};
use crate::bench::target::Target;
use crate::packages;
use crate::shell::release_steer;

/// Until every endpoint has its verdict and what is made once is made.
const WARM_UP: Duration = Duration::from_secs(10);
const PAGE: u16 = 8080;
const ADMIN: &str = "127.0.0.1:8053";
const HAPROXY: &str = "/usr/sbin/haproxy";
/// Of one core: what the project promises for 10,000 endpoints.
const CPU_BOUND: f64 = 1.0;
/// Where nothing is closed in order, nothing waits.
const TIME_WAIT_BOUND: f64 = 100.0;
/// The core of the checkers, and that of the server.
const CORES: (u32, usize) = (0, 1);

/// How many, how long and how often.
#[derive(Debug, Clone, Copy, clap::Args)]
pub(crate) struct Plan {
    /// Endpoints, each checked once a second.
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    endpoints: u32,
    /// Seconds that are measured, after ten of warming up.
    #[arg(long, value_name = "N", default_value_t = 20)]
    seconds: u64,
    /// Turns of each checker.
    #[arg(long, value_name = "N", default_value_t = 3)]
    rounds: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Http,
    HttpReused,
    Tcp,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::HttpReused => "http, reused",
            Self::Tcp => "tcp",
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Checker {
    Steer,
    Haproxy,
}

impl Checker {
    fn name(self) -> &'static str {
        match self {
            Self::Steer => concat!("steer ", env!("CARGO_PKG_VERSION")),
            Self::Haproxy => "HAProxy",
        }
    }
}

/// What the runs of one row showed, one value for each.
#[derive(Default)]
struct Figures {
    per_second: Vec<f64>,
    /// Of one core.
    cpu: Vec<f64>,
    /// Microseconds.
    per_check: Vec<f64>,
    memory_mib: Vec<f64>,
    time_wait: Vec<f64>,
    sockets: Vec<f64>,
}

const ROWS: [(Kind, Checker); 5] = [
    (Kind::Http, Checker::Steer),
    (Kind::Http, Checker::Haproxy),
    (Kind::HttpReused, Checker::Steer),
    (Kind::Tcp, Checker::Steer),
    (Kind::Tcp, Checker::Haproxy),
];

pub(crate) fn bench(plan: Plan) -> Result<(), String> {
    packages::ensure_also(&[(HAPROXY, "haproxy")]);
    let steer = release_steer()?;
    let folder = fresh_folder("bench-probes")?;
    let mut rows = ROWS.map(|(kind, checker)| (kind, checker, Figures::default()));
    for _ in 0..plan.rounds {
        for (kind, checker, figures) in &mut rows {
            let run = Run {
                plan,
                kind: *kind,
                checker: *checker,
                folder: folder.clone(),
                steer: steer.clone(),
            };
            run.measure(figures)?;
        }
    }
    println!(
        "Medians of {} turns, {} endpoints once a second, {} s each.\n",
        plan.rounds, plan.endpoints, plan.seconds
    );
    println!(
        "| check | checker | checks/s | CPU of one core | CPU per check | memory | TIME_WAIT, most | TCP sockets, most |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for (kind, checker, figures) in &mut rows {
        figures.row(*kind, *checker);
    }
    rows.iter_mut()
        .filter(|(_, checker, _)| *checker == Checker::Steer)
        .try_for_each(|(kind, _, figures)| figures.keep_the_promise(*kind, plan))
}

impl Figures {
    fn row(&mut self, kind: Kind, checker: Checker) {
        println!(
            "| {} | {} | {:.0} | {:.1} % | {:.1} µs | {:.1} MiB | {:.0} | {:.0} |",
            kind.name(),
            checker.name(),
            quantile(&mut self.per_second, 0.5),
            quantile(&mut self.cpu, 0.5) * 100.0,
            quantile(&mut self.per_check, 0.5),
            quantile(&mut self.memory_mib, 0.5),
            quantile(&mut self.time_wait, 1.0),
            quantile(&mut self.sockets, 1.0),
        );
    }

    fn keep_the_promise(&mut self, kind: Kind, plan: Plan) -> Result<(), String> {
        let (name, want) = (kind.name(), f64::from(plan.endpoints) * 0.97);
        let (got, cpu) = (quantile(&mut self.per_second, 0.5), quantile(&mut self.cpu, 0.5));
        if got < want || cpu > CPU_BOUND {
            return Err(format!(
                "{name}: steer does not keep up: {got:.0} checks/s of {}, {:.0} % of a core",
                plan.endpoints,
                cpu * 100.0
            ));
        }
        let waiting = quantile(&mut self.time_wait, 1.0);
        if waiting > TIME_WAIT_BOUND {
            return Err(format!("{name}: {waiting} sockets wait in TIME_WAIT"));
        }
        Ok(())
    }
}

/// One turn of one checker.
struct Run {
    plan: Plan,
    kind: Kind,
    checker: Checker,
    folder: PathBuf,
    steer: PathBuf,
}

impl Run {
    fn measure(self, figures: &mut Figures) -> Result<(), String> {
        std::thread::scope(|scope| {
            let run = scope.spawn(|| self.in_a_network(figures)); // it is gone with this thread
            run.join().map_err(|_| "a turn panicked".to_owned())?
        })
    }

    fn in_a_network(&self, figures: &mut Figures) -> Result<(), String> {
        own_network(&[])?;
        let target = Target::start(SocketAddr::from((Ipv4Addr::UNSPECIFIED, PAGE)), CORES.1)?;
        let (name, command) = self.command()?;
        let daemon = Daemon::start(name, &command, &self.folder.join(format!("{name}.log")))?;
        sleep(WARM_UP);
        let checks = || match self.kind {
            Kind::Http | Kind::HttpReused => Ok(target.answered()),
            // HAProxy resets before the server would accept, so only the kernel knows.
            Kind::Tcp => active_opens(),
        };
        let (begun, cpu, before) = (Instant::now(), daemon.cpu(), checks()?);
        let (mut time_wait, mut sockets) = (0, 0);
        while begun.elapsed() < Duration::from_secs(self.plan.seconds) {
            sleep(Duration::from_millis(200));
            let (used, waiting) = sockstat()?;
            (sockets, time_wait) = (sockets.max(used), time_wait.max(waiting));
        }
        let took = begun.elapsed().as_secs_f64();
        let (per_second, cpu) = (
            (checks()? - before) as f64 / took,
            (daemon.cpu() - cpu).as_secs_f64() / took,
        );
        figures.per_second.push(per_second);
        figures.cpu.push(cpu);
        figures.per_check.push(cpu / per_second * 1e6);
        figures.memory_mib.push(daemon.memory().now as f64 / 1024.0);
        figures.time_wait.push(time_wait as f64);
        figures.sockets.push(sockets as f64);
        Ok(())
    }

    fn command(&self) -> Result<(&'static str, Command), String> {
        let (name, config, text) = match self.checker {
            Checker::Steer => (
                "steer",
                "steer.toml",
                steer_config(self.kind, self.plan.endpoints),
            ),
            Checker::Haproxy => (
                "haproxy",
                "haproxy.cfg",
                haproxy_config(self.kind, self.plan.endpoints),
            ),
        };
        let config = self.folder.join(config);
        write(&config, &text)?;
        let mut command = match self.checker {
            Checker::Steer => pinned(CORES.0, &self.steer),
            Checker::Haproxy => pinned(CORES.0, HAPROXY.as_ref()),
        };
        match self.checker {
            Checker::Steer => command.args(["run", "--config"]).arg(config),
            Checker::Haproxy => command.args(["-db", "-f"]).arg(config),
        };
        Ok((name, command))
    }
}

/// A command on one core.
fn pinned(core: u32, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

/// Connections that were begun in this network.
fn active_opens() -> Result<u64, String> {
    let text = fs::read_to_string("/proc/thread-self/net/snmp").map_err(|error| error.to_string())?;
    let mut lines = text.lines().filter(|line| line.starts_with("Tcp:"));
    let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
    let mut fields = names.split_whitespace().zip(values.split_whitespace());
    let field = fields.find(|(name, _)| *name == "ActiveOpens");
    let value = field.and_then(|(_, value)| value.parse().ok());
    value.ok_or_else(|| "/proc/net/snmp has no ActiveOpens".to_owned())
}

/// TCP sockets of this network: in use, and in TIME_WAIT.
fn sockstat() -> Result<(u64, u64), String> {
    let text = fs::read_to_string("/proc/thread-self/net/sockstat").map_err(|error| error.to_string())?;
    let line = text
        .lines()
        .find(|line| line.starts_with("TCP:"))
        .unwrap_or_default();
    let field = |name: &str| {
        let mut words = line.split_whitespace().skip_while(|word| *word != name);
        words.nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    };
    Ok((field("inuse"), field("tw")))
}

/// 127.1.0.1 and on.
fn address(number: u32) -> String {
    let number = number + 1;
    format!("127.1.{}.{}", number / 250, number % 250 + 1)
}

fn steer_config(kind: Kind, endpoints: u32) -> String {
    let kind = match kind {
        Kind::Http => "kind = \"http\"",
        Kind::HttpReused => "kind = \"http\"\nreuse = true",
        Kind::Tcp => "kind = \"tcp\"",
    };
    format!(
        "[admin]\nlisten = \"{ADMIN}\"\n{}",
        self::endpoints(kind, endpoints, PAGE)
    )
}

/// A check, and pools of a hundred endpoints under it, each with an address of its own.
pub(super) fn endpoints(kind: &str, count: u32, port: u16) -> String {
    let mut text = format!("[[check]]\nname = \"page\"\n{kind}\ninterval = \"1s\"\n");
    for pool in 0..count.div_ceil(100) {
        let _ = write!(
            text,
            "[[pool]]\nname = \"p{pool}\"\ncheck = \"page\"\nendpoints = ["
        );
        for number in 0..100.min(count - pool * 100) {
            let _ = write!(
                text,
                "{{ address = \"{}:{port}\" }},",
                address(pool * 100 + number)
            );
        }
        text.push_str("]\n");
    }
    text
}

fn haproxy_config(kind: Kind, endpoints: u32) -> String {
    let check = match kind {
        Kind::Http | Kind::HttpReused => "  option httpchk GET /\n",
        Kind::Tcp => "",
    };
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 100\ndefaults\n  mode http\n  timeout connect 300ms\n  timeout client 5s\n  \
         timeout server 5s\n  timeout check 300ms\nfrontend none\n  bind 127.0.0.1:8082\n  default_backend all\nbackend all\n{check}  \
         default-server inter 1s fastinter 500ms fall 3 rise 2\n"
    );
    for number in 0..endpoints {
        let _ = writeln!(text, "  server s{number} {}:{PAGE} check", address(number));
    }
    text
}
