//! The three servers, each a process on a loopback port with the same zone files.

use std::fmt::Write;
use std::fs;
use std::net::{SocketAddr, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use steer_tests::peers::{missing_program, package_version};
use steer_tests::process::PATIENCE;
use steer_tests::{Steer, free_port};

use crate::message::Reply;
use crate::zones::{Question, Zone};

const KNOTD: &str = "/usr/sbin/knotd";
const NSD: &str = "/usr/sbin/nsd";

/// Says why the peers cannot run here.
pub(crate) fn missing() -> Result<(), String> {
    missing_program(&[KNOTD], "knot")?;
    missing_program(&[NSD], "nsd")
}

/// What is compared with: for the test's output.
pub(crate) fn versions() -> String {
    format!("Knot {}, NSD {}", package_version("knot"), package_version("nsd"))
}

/// A peer that runs. Killed when dropped.
struct Peer {
    child: Child,
    log: std::path::PathBuf,
}

impl Peer {
    fn start(folder: &Path, program: &str, args: &[&str]) -> Self {
        let name = Path::new(program)
            .file_name()
            .unwrap()
            .to_string_lossy()
            .into_owned();
        let log = folder.join(format!("{name}.log"));
        let out = fs::File::create(&log).unwrap();
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", program])
            .args(args)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(out.try_clone().unwrap())
            .stderr(out)
            .process_group(0)
            .spawn()
            .expect("setpriv of util-linux");
        Self { child, log }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        // Its whole group: NSD has children, and a Knot that hangs does not hear a polite signal.
        let group = nix::unistd::Pid::from_raw(i32::try_from(self.child.id()).unwrap());
        let _ = nix::sys::signal::killpg(group, nix::sys::signal::Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

/// A socket to one server.
pub(crate) struct Line {
    name: &'static str,
    socket: UdpSocket,
}

impl Line {
    fn new(name: &'static str, server: SocketAddr) -> Self {
        let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        Self { name, socket }
    }

    fn until_ready(&self, question: &Question, log: &dyn Fn() -> String) {
        let deadline = Instant::now() + PATIENCE;
        self.socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        loop {
            let mut buffer = [0; 4096];
            // Before it listens the kernel refuses, which is an error here.
            let sent = self.socket.send(&question.message(0));
            if let Ok(length) = sent.and_then(|_| self.socket.recv(&mut buffer))
                && Reply::read(&buffer[..length]).is_some_and(|reply| reply.rcode == 0 && reply.aa)
            {
                break;
            }
            assert!(
                Instant::now() < deadline,
                "{} is not ready; its log:\n{}",
                self.name,
                log()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        self.socket
            .set_read_timeout(Some(Duration::from_secs(5)))
            .unwrap();
        // A late reply to an earlier try carries the same id; nothing else is asked with it.
    }

    /// Asks, and waits for the reply with the same id.
    fn ask(&self, question: &Question, id: u16) -> Reply {
        self.socket.send(&question.message(id)).unwrap();
        let mut buffer = [0; 65_535];
        loop {
            let length = self
                .socket
                .recv(&mut buffer)
                .unwrap_or_else(|error| panic!("{} does not answer {question:?}: {error}", self.name));
            if buffer[..2] == id.to_be_bytes() {
                let octets = &buffer[..length];
                return Reply::read(octets).unwrap_or_else(|| {
                    panic!("{} sends what is no reply: {}", self.name, octets.escape_ascii())
                });
            }
        }
    }
}

/// The same zones on steer, Knot and NSD.
pub(crate) struct Servers {
    lines: [Line; 3],
    _steer: Steer,
    _peers: [Peer; 2],
}

impl Servers {
    /// Starts all three and waits until each serves the last zone.
    pub(crate) fn start(folder: &Path, zones: &[Zone]) -> Self {
        let (ours, knot, nsd) = (free_port(), free_port(), free_port());
        let mut config = format!("[dns]\nlisten = [\"{ours}\"]\n");
        let mut knot_config = knot_head(folder, knot);
        let mut nsd_config = nsd_head(folder, nsd);
        for (number, zone) in zones.iter().enumerate() {
            // Names of zones hold what file names do not.
            let file = format!("{number}.zone");
            fs::write(folder.join(&file), &zone.text).unwrap();
            let apex = &zone.apex;
            let _ = write!(
                config,
                "[[zone]]\nname = {}\nfile = \"{file}\"\n",
                toml_text(apex)
            );
            let _ = write!(
                knot_config,
                "  - domain: \"{}\"\n    file: {file}\n",
                apex.replace('\\', "\\\\")
            );
            let _ = write!(nsd_config, "zone:\n  name: \"{apex}\"\n  zonefile: {file}\n");
        }
        fs::write(folder.join("steer.toml"), config).unwrap();
        fs::write(folder.join("knot.conf"), knot_config).unwrap();
        fs::write(folder.join("nsd.conf"), nsd_config).unwrap();
        let peers = [
            Peer::start(folder, KNOTD, &["-c", "knot.conf"]),
            Peer::start(folder, NSD, &["-d", "-c", "nsd.conf"]),
        ];
        let steer = Steer::start(folder, &["run", "--config", "steer.toml"]);
        let servers = Self {
            lines: [
                Line::new("steer", ours),
                Line::new("Knot", knot),
                Line::new("NSD", nsd),
            ],
            _steer: steer,
            _peers: peers,
        };
        servers.wait(zones);
        servers
    }

    fn wait(&self, zones: &[Zone]) {
        for zone in zones {
            let soa = Question {
                name: crate::message::wire_name(&zone.apex).expect("a zone's name"),
                kind: 6,
                payload: None,
            };
            let [ours, peers @ ..] = &self.lines;
            ours.until_ready(&soa, &|| self._steer.log());
            for (line, peer) in peers.iter().zip(&self._peers) {
                line.until_ready(&soa, &|| fs::read_to_string(&peer.log).unwrap_or_default());
            }
        }
    }

    /// Another question to Knot alone.
    pub(crate) fn ask_knot(&self, question: &Question) -> Reply {
        let [_, knot, _] = &self.lines;
        knot.ask(question, u16::MAX)
    }

    /// The replies of steer, Knot and NSD.
    pub(crate) fn ask(&self, question: &Question, number: usize) -> [Reply; 3] {
        let id = u16::try_from(number % 65_534 + 1).expect("small");
        self.lines.each_ref().map(|line| line.ask(question, id))
    }
}

fn toml_text(text: &str) -> String {
    format!("'{text}'")
}

fn knot_head(folder: &Path, listen: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "server:\n  listen: {}@{}\n  rundir: {folder}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n\
         log:\n  - target: stderr\n    any: warning\n\
         database:\n  storage: {folder}/knot\n\
         template:\n  - id: default\n    storage: {folder}\n    journal-content: none\n\
         zone:\n",
        listen.ip(),
        listen.port()
    )
}

fn nsd_head(folder: &Path, listen: SocketAddr) -> String {
    let folder = folder.display();
    format!(
        "server:\n  ip-address: {}@{}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  database: \"\"\n\
         \x20 zonesdir: {folder}\n  pidfile: {folder}/nsd.pid\n  zonelistfile: {folder}/nsd.list\n\
         \x20 xfrdfile: {folder}/nsd.xfrd\n  xfrdir: {folder}\n  rrl-ratelimit: 0\n  rrl-whitelist-ratelimit: 0\n\
         \x20 minimal-responses: yes\n\
         remote-control:\n  control-enable: no\n",
        listen.ip(),
        listen.port()
    )
}
