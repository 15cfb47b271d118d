//! What is held to a server for its end: connections, calls that watch, processes. Each end is seen long before the
//! next probe is due.

use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nix::sys::signal::Signal;

use crate::Watch;
use crate::servers::{self, Certificates, GrpcServer, Nginx, Unbound};

/// So long after the probe that found all well comes the next one, unless something asks for it.
const SLOW: &str = "interval = \"60s\"\nfast_interval = \"60s\"\ntimeout = \"2s\"\nfall = 3\nrise = 1";

/// What no probe of the schedule above could bring.
const SOON: Duration = Duration::from_secs(20);

impl Watch {
    /// A check that would look again in a minute. The first look is spread over ten seconds at most.
    fn add_slow(&mut self, name: &str, address: std::net::SocketAddr, check: &str) {
        self.write(&format!(
            "[[check]]\nname = \"{name}\"\n{SLOW}\n{check}\n[[pool]]\nname = \"{name}\"\ncheck = \"{name}\"\n\
             endpoints = [{{ address = \"{address}\" }}]\n"
        ));
        self.names.push(name.to_owned());
    }

    /// Waits until so many are held.
    fn holds(&self, count: u32) {
        let deadline = Instant::now() + SOON;
        let want = format!("steer_health_tripwires_held {count}");
        loop {
            let metrics = self.metrics();
            if metrics.lines().any(|line| line == want) {
                return;
            }
            let held: Vec<_> = metrics.lines().filter(|line| line.contains("tripwire")).collect();
            assert!(Instant::now() < deadline, "want {want}, have {held:?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How long after `begun` the judge decided on a pool.
    fn took(&self, name: &str, begun: Timestamp) {
        let status = self.admin.json(&["status"]);
        let rows = status["endpoints"].as_array().unwrap();
        let row = rows.iter().find(|row| row["pool"] == name).unwrap();
        let since: Timestamp = row["since"].as_str().unwrap().parse().unwrap();
        println!(
            "{name}: decided {} µs after the fault",
            since.duration_since(begun).as_micros()
        );
    }

    fn metrics(&self) -> String {
        let url = format!("http://{}/metrics", self.admin.0);
        let curl = std::process::Command::new("/usr/bin/curl")
            .args(["-s", &url])
            .output();
        String::from_utf8(curl.unwrap().stdout).unwrap()
    }
}

fn missing(program: &str, name: &str) -> bool {
    servers::missing(program, name) || servers::missing("/usr/bin/curl", name)
}

#[test]
fn a_watched_status_is_told_at_once_and_so_is_the_end_of_the_server() {
    let name = "a_watched_status_is_told_at_once_and_so_is_the_end_of_the_server";
    if missing(servers::GRPCIO, name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let mut plain = GrpcServer::start(folder.path(), None);
    let secure = GrpcServer::start(folder.path(), Some(&certificates));
    let mut old = GrpcServer::without_watch(folder.path());
    let tls = format!(
        "tls = true\nserver_name = \"www.example.com\"\nroots = \"{}\"",
        certificates.root.display()
    );
    let flip = "kind = \"grpc\"\nservice = \"shop.Flip\"\ntripwire = true";
    let mut watch = Watch::new();
    watch.add_slow("flip", plain.address, flip);
    watch.add_slow("server", plain.address, "kind = \"grpc\"\ntripwire = true");
    watch.add_slow("secure", secure.address, &format!("{flip}\n{tls}"));
    watch.add_slow("no-watch", old.address, "kind = \"grpc\"\ntripwire = true");
    watch.start();
    watch.become_and_stay(&[
        ("flip", "up", "SERVING"),
        ("server", "up", "SERVING"),
        ("secure", "up", "SERVING"),
        ("no-watch", "up", "SERVING"),
    ]);
    watch.holds(4);
    assert!(plain.process.said().contains("watched"), "the call was made");

    let (begun, at) = (Instant::now(), Timestamp::now());
    plain.process.signal(Signal::SIGUSR2);
    secure.process.signal(Signal::SIGUSR2);
    let told = "service \"shop.Flip\" is NOT_SERVING (told while watched";
    watch.become_and_stay(&[
        ("flip", "down", told),
        ("secure", "down", told),
        ("server", "up", "SERVING"),
        ("no-watch", "up", "SERVING"),
    ]);
    assert!(begun.elapsed() < SOON, "a probe may have found it");
    watch.took("flip", at);

    let at = Timestamp::now();
    plain.process.kill();
    old.process.kill();
    watch.become_and_stay(&[
        // Refused, or reset where it came before the listener was gone.
        ("server", "down", "connection re"),
        ("no-watch", "down", "connection re"),
    ]);
    for name in ["server", "no-watch"] {
        let (_, cause) = watch.shows(name);
        assert!(cause.contains("(held connection"), "{name}: {cause}");
    }
    assert!(begun.elapsed() < 2 * SOON, "a probe may have found it");
    watch.took("server", at);
}

#[test]
fn the_exit_of_a_process_is_seen_at_once_whatever_its_check_is() {
    let name = "the_exit_of_a_process_is_seen_at_once_whatever_its_check_is";
    if missing("/usr/sbin/nginx", name) || missing("/usr/sbin/unbound", name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let mut nginx = Nginx::start(folder.path(), &certificates);
    let mut unbound = Unbound::start(folder.path());
    let unbound_pid = folder.path().join("unbound.pid");
    std::fs::write(&unbound_pid, unbound.process.pid().to_string()).unwrap();
    let of = |file: &Path| format!("process = \"{}\"", file.display());
    let mut watch = Watch::new();
    let page = format!("kind = \"http\"\npath = \"/ready\"\n{}", of(&nginx.pid_file()));
    watch.add_slow("page", nginx.http, &page);
    let query = format!("kind = \"dns\"\nquery = \"www.test\"\n{}", of(&unbound_pid));
    watch.add_slow("names", unbound.address, &query);
    // `kill -0` would find what has ended and is not waited for yet.
    let script = format!(
        "kind = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", \"grep -q '^State:.[RSD]' /proc/$(cat {})/status || exit 1\"]\n{}",
        unbound_pid.display(),
        of(&unbound_pid)
    );
    watch.add_slow("script", unbound.address, &script);
    // No process of this machine, and none at all: what is left is the probes.
    watch.add_slow(
        "stale",
        nginx.http,
        &format!("kind = \"tcp\"\n{}", of(Path::new("/nonexistent/pid"))),
    );
    watch.start();
    watch.become_and_stay(&[
        ("page", "up", "status 200"),
        ("names", "up", "NOERROR"),
        ("script", "up", "status 0"),
        ("stale", "up", "connected"),
    ]);
    watch.holds(3);
    let (begun, at) = (Instant::now(), Timestamp::now());
    nginx.process.kill();
    watch.become_and_stay(&[("page", "down", "connection refused (process exited")]);
    watch.took("page", at);
    let at = Timestamp::now();
    unbound.process.kill();
    watch.become_and_stay(&[
        ("names", "down", "connection refused (process exited"),
        ("script", "down", "exit status 1 (process exited"),
    ]);
    assert!(begun.elapsed() < SOON, "a probe may have found it");
    watch.took("names", at);
    watch.took("script", at);
}
