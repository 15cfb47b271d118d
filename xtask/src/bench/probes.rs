//! `cargo xtask bench probes`: 10,000 endpoints once a second from one core, steer beside HAProxy.
//!
//! Every endpoint is an address of its own in 127.0.0.0/8; one nginx on the other core answers for all of them and
//! counts. Both checkers are held on the same core, one after the other, and each opens a connection per check.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::thread::sleep;
use std::time::{Duration, Instant};

use crate::bench::daemon::{Daemon, fresh_folder, own_network, wait_for, write};
use crate::packages;
use crate::shell::release_steer;

const ENDPOINTS: u32 = 10_000;
/// Until every endpoint has its verdict and what is made once is made.
const WARM_UP: Duration = Duration::from_secs(10);
const MEASURED: Duration = Duration::from_secs(20);
const PAGE: u16 = 8080;
const COUNTERS: &str = "127.0.0.1:8081";
const ADMIN: &str = "127.0.0.1:8053";

#[derive(Clone, Copy)]
enum Kind {
    Http,
    Tcp,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Tcp => "tcp",
        }
    }
}

/// What one run showed.
struct Figures {
    checks_per_second: f64,
    /// Of one core.
    cpu: f64,
    memory_kib: u64,
    time_wait: u64,
    sockets: u64,
}

pub(crate) fn bench() -> Result<(), String> {
    let haproxy = "/usr/sbin/haproxy";
    packages::ensure_also(&[("/usr/sbin/nginx", "nginx-light"), (haproxy, "haproxy")]);
    let steer = release_steer()?;
    own_network(&[])?;
    let folder = fresh_folder("bench-probes")?;
    let _nginx = nginx(&folder)?;
    println!(
        "| check | checker | connections/s | CPU of one core | CPU per check | memory | TIME_WAIT, most | TCP sockets, most |"
    );
    println!("| --- | --- | --- | --- | --- | --- | --- | --- |");
    for kind in [Kind::Http, Kind::Tcp] {
        write(&folder.join("steer.toml"), &steer_config(kind))?;
        let mut command = pinned(0, steer.as_os_str().as_ref());
        command.args(["run", "--config"]).arg(folder.join("steer.toml"));
        let ours = measure("steer", &command, &folder)?;
        row(kind, concat!("steer ", env!("CARGO_PKG_VERSION")), &ours);
        write(&folder.join("haproxy.cfg"), &haproxy_config(kind))?;
        let mut command = pinned(0, haproxy.as_ref());
        command.args(["-db", "-f"]).arg(folder.join("haproxy.cfg"));
        let theirs = measure("haproxy", &command, &folder)?;
        row(kind, "HAProxy", &theirs);
        let want = f64::from(ENDPOINTS) * 0.97;
        if ours.checks_per_second < want || ours.cpu > 1.0 {
            return Err(format!("{}: steer does not keep up", kind.name()));
        }
        if ours.time_wait > 100 {
            return Err(format!(
                "{}: {} sockets wait in TIME_WAIT",
                kind.name(),
                ours.time_wait
            ));
        }
    }
    Ok(())
}

fn row(kind: Kind, name: &str, figures: &Figures) {
    let Figures {
        checks_per_second,
        cpu,
        memory_kib,
        time_wait,
        sockets,
    } = figures;
    let per_check = cpu / checks_per_second * 1e6;
    println!(
        "| {} | {name} | {checks_per_second:.0} | {:.1} % | {per_check:.1} µs | {:.1} MiB | {time_wait} | {sockets} |",
        kind.name(),
        cpu * 100.0,
        *memory_kib as f64 / 1024.0
    );
}

/// A command on one core.
fn pinned(core: u32, program: &Path) -> Command {
    let mut command = Command::new("taskset");
    command.args(["-c", &core.to_string()]).arg(program);
    command
}

fn measure(name: &'static str, command: &Command, folder: &Path) -> Result<Figures, String> {
    let daemon = Daemon::start(name, command, &folder.join(format!("{name}.log")))?;
    sleep(WARM_UP);
    let (begun, cpu, accepted) = (Instant::now(), daemon.cpu(), accepted()?);
    let (mut time_wait, mut sockets) = (0, 0);
    while begun.elapsed() < MEASURED {
        sleep(Duration::from_millis(200));
        let (used, waiting) = sockstat()?;
        (sockets, time_wait) = (sockets.max(used), time_wait.max(waiting));
    }
    let took = begun.elapsed().as_secs_f64();
    Ok(Figures {
        checks_per_second: (self::accepted()? - accepted) as f64 / took,
        cpu: (daemon.cpu() - cpu).as_secs_f64() / took,
        memory_kib: daemon.memory().now,
        time_wait,
        sockets,
    })
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

/// Connections that nginx has accepted so far.
fn accepted() -> Result<u64, String> {
    let page = || -> std::io::Result<String> {
        let mut stream = TcpStream::connect(COUNTERS)?;
        stream.write_all(b"GET /counters HTTP/1.0\r\n\r\n")?;
        let mut page = String::new();
        stream.read_to_string(&mut page)?;
        Ok(page)
    };
    let page = page().map_err(|error| format!("nginx's counters: {error}"))?;
    // "server accepts handled requests\n 16630948 16630948 31070465"
    let counters = page
        .lines()
        .skip_while(|line| !line.starts_with("server accepts"))
        .nth(1);
    let first = counters.and_then(|line| line.split_whitespace().next()?.parse().ok());
    first.ok_or_else(|| format!("nginx's counters cannot be read: {page}"))
}

fn nginx(folder: &Path) -> Result<Daemon, String> {
    let config = format!(
        "daemon off;\nworker_processes 1;\nworker_rlimit_nofile 100000;\npid nginx.pid;\nerror_log error.log crit;\n\
         events {{ worker_connections 65000; multi_accept on; }}\n\
         http {{\n  access_log off;\n\
         client_body_temp_path a; proxy_temp_path b; fastcgi_temp_path c; uwsgi_temp_path d; scgi_temp_path e;\n  \
         server {{ listen {PAGE} backlog=16384; return 200 \"ok\"; }}\n  \
         server {{ listen {COUNTERS}; location /counters {{ stub_status; }} }}\n}}\n"
    );
    write(&folder.join("nginx.conf"), &config)?;
    let mut command = pinned(1, "/usr/sbin/nginx".as_ref());
    command
        .arg("-p")
        .arg(folder)
        .args(["-e", "error.log", "-c", "nginx.conf"]);
    let daemon = Daemon::start("nginx", &command, &folder.join("nginx.log"))?;
    wait_for("nginx", Duration::from_secs(10), || Ok(accepted().ok()))?;
    Ok(daemon)
}

/// 127.1.0.1 and on.
fn address(number: u32) -> String {
    let number = number + 1;
    format!("127.1.{}.{}", number / 250, number % 250 + 1)
}

fn steer_config(kind: Kind) -> String {
    let mut text = format!(
        "[admin]\nlisten = \"{ADMIN}\"\n[[check]]\nname = \"web\"\nkind = \"{}\"\ninterval = \"1s\"\n",
        kind.name()
    );
    for pool in 0..ENDPOINTS / 100 {
        let _ = write!(
            text,
            "[[pool]]\nname = \"p{pool}\"\ncheck = \"web\"\nendpoints = ["
        );
        for number in 0..100 {
            let _ = write!(
                text,
                "{{ address = \"{}:{PAGE}\" }},",
                address(pool * 100 + number)
            );
        }
        text.push_str("]\n");
    }
    text
}

fn haproxy_config(kind: Kind) -> String {
    let check = match kind {
        Kind::Http => "  option httpchk GET /\n",
        Kind::Tcp => "",
    };
    let mut text = format!(
        "global\n  nbthread 1\n  maxconn 20000\ndefaults\n  mode http\n  timeout connect 300ms\n  timeout client 5s\n  \
         timeout server 5s\n  timeout check 300ms\nfrontend none\n  bind 127.0.0.1:8082\n  default_backend all\nbackend all\n{check}  \
         default-server inter 1s fastinter 500ms fall 3 rise 2\n"
    );
    for number in 0..ENDPOINTS {
        let _ = writeln!(text, "  server s{number} {}:{PAGE} check", address(number));
    }
    text
}
