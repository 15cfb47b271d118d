//! Those who look on: BMP collectors, MRT readers, an RPKI cache, routers that tell by BMP, the closed loop.
//!
//! The tests see the binary from outside; what they look with are Debian's `pmbmpd`, `tshark`, `bgpdump`,
//! `stayrtr`, BIRD, FRR and GoBGP.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

mod bmp;
mod mrt;
mod routers;
mod rpki;
mod spread;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use steer_labs::wait;
use steer_tests::process::PATIENCE;
use steer_tests::{Steer, free_port, skip};

const POLL: Duration = Duration::from_millis(20);

/// A steer on loopback with one prefix that follows an endpoint and two that stand.
struct Stage {
    folder: tempfile::TempDir,
    admin: SocketAddr,
    /// Where the route monitor listens that it announces to.
    monitor: SocketAddr,
    endpoint: SocketAddr,
    /// While it is there, the endpoint is up.
    up: Option<TcpListener>,
}

impl Stage {
    fn new() -> Self {
        let up = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let endpoint = up.local_addr().unwrap();
        Self {
            folder: tempfile::tempdir().unwrap(),
            admin: free_port(),
            monitor: free_port(),
            endpoint,
            up: Some(up),
        }
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.path().join(file)
    }

    /// `bgp` is more of `[bgp]`.
    fn start(&self, bgp: &str) -> Steer {
        let (admin, monitor, endpoint) = (self.admin, self.monitor, self.endpoint);
        let config = format!(
            r#"
[fleet]
name = "example"
guard = {{ keep_sites = 0, max_withdrawn = 1000 }}
[[check]]
name = "web"
kind = "tcp"
interval = "100ms"
timeout = "50ms"
rise = 1
fall = 1
[[pool]]
name = "web"
check = "web"
endpoints = [ {{ address = "{endpoint}" }} ]
[bgp]
asn = 64512
router_id = "10.0.0.1"
{bgp}
[[bgp.peer]]
address = "{}"
port = {}
asn = 64500
connect_retry = "1s"
[[anycast]]
prefix = "192.0.2.1/32"
communities = ["64512:7", "64512:1:2"]
[[anycast]]
prefix = "2001:db8::1/128"
next_hop = "2001:db8::ff"
[[anycast]]
prefix = "192.0.2.53/32"
while_up = ["pool:web"]
[admin]
listen = "{admin}"
"#,
            monitor.ip(),
            monitor.port()
        );
        fs::write(self.path("steer.toml"), config).unwrap();
        self.steer("run", &["run", "--config", "steer.toml"])
    }

    /// The route monitor that the steer announces to.
    fn monitor(&self, more: &[&str]) -> Steer {
        let monitor = self.monitor.to_string();
        let mut args = vec!["monitor", "--listen", &monitor, "--asn", "64500"];
        args.extend(more);
        self.steer("monitor", &args)
    }

    /// Runs in a folder of its own, for its output; paths are relative to the stage's.
    fn steer(&self, name: &str, args: &[&str]) -> Steer {
        let folder = self.path(name);
        fs::create_dir_all(&folder).unwrap();
        let files = ["steer.toml", "vrps.json"]
            .iter()
            .filter(|file| self.path(file).exists());
        for file in files {
            fs::copy(self.path(file), folder.join(file)).unwrap();
        }
        Steer::start(&folder, args)
    }

    /// The endpoint goes.
    fn take_down(&mut self) {
        self.up = None;
    }

    /// The endpoint comes back.
    fn bring_up(&mut self) {
        self.up = Some(TcpListener::bind(self.endpoint).unwrap());
    }

    /// `GET /v1/status`
    fn status(&self) -> Result<serde_json::Value, String> {
        let admin = self.admin.to_string();
        let asked = self
            .steer("status", &["status", "--admin", &admin, "--json"])
            .wait();
        serde_json::from_str(&asked.stdout).map_err(|error| format!("{error}: {}", asked.stderr))
    }
}

/// A program that looks on; killed by pid when dropped.
struct Tool(Child);

impl Tool {
    /// Starts it with its output in a file of `folder`.
    fn start(program: &str, args: &[&str], folder: &Path) -> Self {
        let name = Path::new(program)
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let log = fs::File::create(folder.join(format!("{name}.log"))).unwrap();
        let child = Command::new(program)
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        Self(child)
    }
}

impl Drop for Tool {
    fn drop(&mut self) {
        // Both can only fail when the process has just ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says why a test with this program cannot run here.
fn missing(test: &str, program: &str, package: &str) -> bool {
    let absent = !Path::new(program).exists();
    if absent {
        skip(
            test,
            &format!("{program} is missing: install the Debian package `{package}`"),
        );
    }
    absent
}

/// Polls until `look` gives a value.
fn until<T>(what: &str, look: impl FnMut() -> Result<T, String>) -> T {
    wait::until(PATIENCE, POLL, look).unwrap_or_else(|error| panic!("{what}: {error}"))
}

/// The text, once all of `wanted` stand in it in this order.
fn in_order(text: &str, wanted: &[&str]) -> Result<(), String> {
    let mut rest = text;
    for word in wanted {
        match rest.find(word) {
            Some(at) => rest = &rest[at + word.len()..],
            None => return Err(format!("no {word:?} behind what came before it in:\n{text}")),
        }
    }
    Ok(())
}
