//! The speakers under test, each with the same routes and peers, and the way to change one route.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Read, Seek, SeekFrom, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

use super::super::daemon::{Daemon, Memory, tree, wait_for, write};
use super::super::grpc::GoBgpApi;
use super::super::receiver::{Nanos, now, peer_asn};
use super::{PREFIXES, TOGGLED};
use crate::shell::output;

const START: Duration = Duration::from_secs(20);

/// One speaker, or one way to tell it.
pub(in super::super) trait Speaker {
    fn name(&self) -> &'static str;
    fn version(&self) -> String;
    /// Where its sessions come from.
    fn address(&self) -> Ipv4Addr;
    fn start(&mut self) -> Result<(), String>;
    /// Announces or withdraws the prefix; gives when that was asked for.
    fn set(&mut self, announce: bool) -> Result<Nanos, String>;
    fn cpu(&self) -> Duration;
    /// Whether each change takes many milliseconds.
    fn is_slow(&self) -> bool {
        false
    }
}

/// All, steer first.
/// `tables` are more of steer's configuration.
pub(super) fn all(
    folder: &Path,
    peers: &[Ipv4Addr],
    steer: &Path,
    tables: &str,
) -> Result<Vec<Box<dyn Speaker>>, String> {
    let home = |name: &str, last| Home::new(&folder.join(name), Ipv4Addr::new(10, 9, 0, last), peers);
    let bird = Rc::new(RefCell::new(Bird {
        home: home("bird", 4)?,
        daemon: None,
    }));
    Ok(vec![
        Box::new(Steer::new(home("steer", 1)?, steer).with("", tables)),
        Box::new(ExaBgp::new(home("exabgp", 2)?)),
        Box::new(GoBgp::new(home("gobgp", 3)?)),
        Box::new(BirdSocket {
            bird: Rc::clone(&bird),
            control: None,
        }),
        Box::new(Birdc { bird }),
        Box::new(Frr::new(home("frr", 5)?)),
    ])
}

/// Folder, address and peers of one speaker.
pub(in super::super) struct Home {
    folder: PathBuf,
    address: Ipv4Addr,
    peers: Vec<Ipv4Addr>,
}

impl Home {
    pub(in super::super) fn new(
        folder: &Path,
        address: Ipv4Addr,
        peers: &[Ipv4Addr],
    ) -> Result<Self, String> {
        fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
        Ok(Self {
            folder: folder.to_owned(),
            address,
            peers: peers.to_vec(),
        })
    }

    fn path(&self, file: &str) -> PathBuf {
        self.folder.join(file)
    }

    fn arg(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// A part of a configuration for each peer.
    fn each_peer(&self, part: impl Fn(Ipv4Addr, u32) -> String) -> String {
        let parts = self.peers.iter().enumerate();
        parts.map(|(index, peer)| part(*peer, peer_asn(index))).collect()
    }
}

/// The prefixes that stay.
fn others() -> impl Iterator<Item = String> {
    (0..PREFIXES - 1).map(|n| format!("100.{}.{}.0/24", 64 + n / 256, n % 256))
}

const ASN: u32 = 64_600;

fn started(daemon: &Option<Daemon>) -> Result<&Daemon, String> {
    daemon.as_ref().ok_or_else(|| "not started".to_owned())
}

fn cpu_of(daemon: &Option<Daemon>) -> Duration {
    daemon.as_ref().map_or(Duration::ZERO, Daemon::cpu)
}

pub(in super::super) fn package_version(package: &str) -> String {
    let query = output(Command::new("dpkg-query").args(["-W", "-f=${Version}", package]));
    format!(
        "{package} {}",
        query.unwrap_or_else(|_| "of unknown version".to_owned())
    )
}

// steer

/// Health of an endpoint decides: the verdict in its own log is the start.
pub(in super::super) struct Steer {
    home: Home,
    binary: PathBuf,
    daemon: Option<Daemon>,
    toggled: Option<Endpoint>,
    /// At the other site, always up.
    standing: Option<Endpoint>,
    log: Tail,
    /// More lines of `[bgp]`, and more tables.
    more: (String, String),
}

impl Steer {
    pub(in super::super) fn new(home: Home, binary: &Path) -> Self {
        let log = Tail::new(&home.path("log"));
        Self {
            home,
            binary: binary.to_owned(),
            daemon: None,
            toggled: None,
            standing: None,
            log,
            more: Default::default(),
        }
    }

    /// With more lines of `[bgp]`, and more tables.
    pub(in super::super) fn with(mut self, bgp: &str, tables: &str) -> Self {
        self.more = (bgp.to_owned(), tables.to_owned());
        self
    }

    pub(in super::super) fn memory(&self) -> Memory {
        self.daemon.as_ref().map(Daemon::memory).unwrap_or_default()
    }

    /// An error unless the log tells of one session with `peer`, and not of its end.
    pub(in super::super) fn check_never_lost(&self, peer: Ipv4Addr) -> Result<(), String> {
        let log =
            fs::read_to_string(self.home.path("log")).map_err(|error| format!("log of steer: {error}"))?;
        let about = |message: &str| {
            let (message, peer) = (
                format!("\"message\":\"{message}\""),
                format!("\"peer\":\"{peer}\""),
            );
            log.lines()
                .filter(|line| line.contains(&message) && line.contains(&peer))
                .count()
        };
        match (about("session established"), about("session down")) {
            (1, 0) => Ok(()),
            (up, down) => Err(format!(
                "the session with {peer} came up {up} times and went down {down} times"
            )),
        }
    }

    fn config(&self) -> String {
        let address = self.home.address;
        let mut text = format!(
            "[fleet]\nname = \"bench\"\nguard = {{ keep_sites = 1, max_withdrawn = 60000, window = \"1s\" }}\n\
             [[site]]\nname = \"fra\"\nrouter_id = \"{address}\"\n[[site]]\nname = \"nrt\"\nrouter_id = \"10.9.0.99\"\n\
             [[check]]\nname = \"web\"\nkind = \"tcp\"\ninterval = \"10ms\"\ntimeout = \"10ms\"\nfall = 1\nrise = 1\n\
             [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [\n\
             {{ site = \"fra\", address = \"{OWN_ENDPOINT}\" }},\n{{ site = \"nrt\", address = \"{OTHER_ENDPOINT}\" }},\n]\n\
             [bgp]\nasn = {ASN}\n{}",
            self.more.0
        );
        text += &self.home.each_peer(|peer, asn| {
            format!(
                "[[bgp.peer]]\nsite = \"fra\"\naddress = \"{peer}\"\nasn = {asn}\nsource = \"{address}\"\n\
                 connect_retry = \"1s\"\n"
            )
        });
        for prefix in others() {
            // Infallible for a string.
            let _ = write!(text, "[[anycast]]\nprefix = \"{prefix}\"\nsites = [\"fra\"]\n");
        }
        text += &self.more.1;
        text + &format!(
            "[[anycast]]\nprefix = \"{TOGGLED}\"\nsites = [\"fra\"]\nwhile_up = [\"pool:web@local\"]\n"
        )
    }
}

const OWN_ENDPOINT: &str = "10.9.2.1:8080";
const OTHER_ENDPOINT: &str = "10.9.2.2:8080";

impl Speaker for Steer {
    fn name(&self) -> &'static str {
        "steer"
    }

    fn version(&self) -> String {
        let version = output(Command::new(&self.binary).arg("--version"));
        version.unwrap_or_default().trim().to_owned()
    }

    fn address(&self) -> Ipv4Addr {
        self.home.address
    }

    fn start(&mut self) -> Result<(), String> {
        self.toggled = Some(Endpoint::up(OWN_ENDPOINT)?);
        self.standing = Some(Endpoint::up(OTHER_ENDPOINT)?);
        let config = self.home.path("steer.toml");
        write(&config, &self.config())?;
        let mut command = Command::new(&self.binary);
        command
            .args(["run", "--site", "fra", "--log-format", "json", "--config"])
            .arg(&config);
        self.daemon = Some(Daemon::start("steer", &command, &self.home.path("log"))?);
        Ok(())
    }

    fn set(&mut self, announce: bool) -> Result<Nanos, String> {
        started(&self.daemon)?;
        self.log.lines(); // what came before is not about this change
        self.toggled = if announce {
            Some(Endpoint::up(OWN_ENDPOINT)?)
        } else {
            None
        };
        let verdict = if announce { "up" } else { "down" };
        wait_for("steer's verdict", START, || {
            let lines = self.log.lines();
            lines
                .iter()
                .find_map(|line| verdict_at(line, verdict))
                .transpose()
        })
    }

    fn cpu(&self) -> Duration {
        cpu_of(&self.daemon)
    }
}

/// When our endpoint's verdict became `verdict`, if that is what a log line says.
fn verdict_at(line: &str, verdict: &str) -> Option<Result<Nanos, String>> {
    let line: serde_json::Value = serde_json::from_str(line).ok()?;
    let about = line["message"] == "verdict changed" && line["endpoint"] == OWN_ENDPOINT;
    if !about || line["verdict"] != verdict {
        return None;
    }
    let text = line["at"].as_str().unwrap_or_default();
    let time = text.parse::<jiff::Timestamp>();
    Some(
        time.map(|time| time.as_nanosecond().unsigned_abs())
            .map_err(|error| format!("{text}: {error}")),
    )
}

/// Something that accepts TCP connections, until it is dropped.
struct Endpoint {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    fn up(address: &str) -> Result<Self, String> {
        let listener = TcpListener::bind(address).map_err(|error| format!("{address}: {error}"))?;
        let address = listener.local_addr().map_err(|error| error.to_string())?;
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            for connection in listener.incoming() {
                drop(connection);
                if stopped.load(Ordering::Acquire) {
                    return;
                }
            }
        });
        let thread = Some(thread);
        Ok(Self {
            address,
            stop,
            thread,
        })
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Release);
        let _wakes = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // it does not panic
        }
    }
}

/// A log file, read as it grows.
struct Tail {
    path: PathBuf,
    read: u64,
}

impl Tail {
    fn new(path: &Path) -> Self {
        let path = path.to_owned();
        Self { path, read: 0 }
    }

    /// The whole lines since the last call.
    fn lines(&mut self) -> Vec<String> {
        let mut octets = Vec::new();
        let read = fs::File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut octets)
        });
        if read.is_err() {
            return Vec::new(); // not there yet
        }
        let whole = octets
            .iter()
            .rposition(|octet| *octet == b'\n')
            .map_or(0, |end| end + 1);
        self.read += whole as u64;
        String::from_utf8_lossy(&octets[..whole])
            .lines()
            .map(str::to_owned)
            .collect()
    }
}

// ExaBGP

/// Its helper's standard output is its API. The helper sleeps; we write into the same pipe, so that no other
/// process stands between.
struct ExaBgp {
    home: Home,
    daemon: Option<Daemon>,
    api: Option<fs::File>,
}

impl ExaBgp {
    fn new(home: Home) -> Self {
        let (daemon, api) = (None, None);
        Self { home, daemon, api }
    }

    fn say(&mut self, lines: &str) -> Result<(), String> {
        let api = self.api.as_mut().ok_or("not started")?;
        api.write_all(lines.as_bytes())
            .map_err(|error| format!("exabgp: {error}"))
    }
}

impl Speaker for ExaBgp {
    fn name(&self) -> &'static str {
        "exabgp stdin"
    }

    fn version(&self) -> String {
        package_version("exabgp")
    }

    fn address(&self) -> Ipv4Addr {
        self.home.address
    }

    fn start(&mut self) -> Result<(), String> {
        let address = self.home.address;
        let mut text =
            "process api { run /usr/bin/setpriv --pdeathsig KILL /bin/sleep 86400; encoder text; }\n"
                .to_owned();
        text += &self.home.each_peer(|peer, asn| {
            format!(
                "neighbor {peer} {{ router-id {address}; local-address {address}; local-as {ASN}; peer-as {asn}; \
                 hold-time 240; family {{ ipv4 unicast; }} api {{ processes [ api ]; }} }}\n"
            )
        });
        write(&self.home.path("exabgp.conf"), &text)?;
        let mut command = Command::new("/usr/sbin/exabgp");
        command.arg(self.home.path("exabgp.conf")).envs([
            ("exabgp.daemon.user", "root"),
            ("exabgp.api.cli", "false"),
            ("exabgp.api.ack", "false"), // nobody would read it
            ("exabgp.log.all", "false"),
        ]);
        let daemon = Daemon::start("exabgp", &command, &self.home.path("log"))?;
        let helper = wait_for("ExaBGP's helper", START, || {
            let comm = |pid: &u32| fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
            Ok(tree(daemon.pid())
                .into_iter()
                .find(|pid| comm(pid).trim() == "sleep"))
        })?;
        let pipe = format!("/proc/{helper}/fd/1");
        let api = fs::OpenOptions::new().write(true).open(&pipe);
        self.api = Some(api.map_err(|error| format!("{pipe}: {error}"))?);
        self.daemon = Some(daemon);
        let routes = others().chain([TOGGLED.to_owned()]);
        let lines: String = routes
            .map(|prefix| format!("announce route {prefix} next-hop self\n"))
            .collect();
        self.say(&lines)
    }

    fn set(&mut self, announce: bool) -> Result<Nanos, String> {
        let verb = if announce { "announce" } else { "withdraw" };
        let start = now();
        self.say(&format!("{verb} route {TOGGLED} next-hop self\n"))?;
        Ok(start)
    }

    fn cpu(&self) -> Duration {
        cpu_of(&self.daemon)
    }
}

// GoBGP

/// By gRPC, over one connection that stays.
struct GoBgp {
    home: Home,
    daemon: Option<Daemon>,
    api: Option<GoBgpApi>,
}

impl GoBgp {
    fn new(home: Home) -> Self {
        let (daemon, api) = (None, None);
        Self { home, daemon, api }
    }
}

const GOBGP_API: ([u8; 4], u16) = ([127, 0, 0, 1], 50_051);

impl Speaker for GoBgp {
    fn name(&self) -> &'static str {
        "gobgp grpc"
    }

    fn version(&self) -> String {
        package_version("gobgpd")
    }

    fn address(&self) -> Ipv4Addr {
        self.home.address
    }

    fn start(&mut self) -> Result<(), String> {
        let address = self.home.address;
        let mut text = format!("[global.config]\nas = {ASN}\nrouter-id = \"{address}\"\nport = -1\n");
        text += &self.home.each_peer(|peer, asn| {
            format!(
                "[[neighbors]]\n[neighbors.config]\nneighbor-address = \"{peer}\"\npeer-as = {asn}\n\
                 [neighbors.transport.config]\nlocal-address = \"{address}\"\n\
                 [neighbors.timers.config]\nhold-time = 240\nkeepalive-interval = 80\nconnect-retry = 1\n"
            )
        });
        write(&self.home.path("gobgpd.toml"), &text)?;
        let mut command = Command::new("/usr/bin/gobgpd");
        command.args([
            "-t",
            "toml",
            "--api-hosts",
            "127.0.0.1:50051",
            "--pprof-disable",
            "-f",
        ]);
        command.arg(self.home.path("gobgpd.toml"));
        let daemon = Daemon::start("gobgpd", &command, &self.home.path("log"))?;
        let mut api = wait_for("GoBGP's API", START, || {
            Ok(GoBgpApi::connect(GOBGP_API.into()).ok())
        })?;
        self.daemon = Some(daemon);
        // The API answers before the speaker has read its file.
        wait_for("GoBGP", START, || Ok(api.set(TOGGLED, true).ok()))?;
        others().try_for_each(|prefix| api.set(&prefix, true))?;
        self.api = Some(api);
        Ok(())
    }

    fn set(&mut self, announce: bool) -> Result<Nanos, String> {
        let api = self.api.as_mut().ok_or("not started")?;
        let start = now();
        api.set(TOGGLED, announce)?;
        Ok(start)
    }

    fn cpu(&self) -> Duration {
        cpu_of(&self.daemon)
    }
}

// BIRD

struct Bird {
    home: Home,
    daemon: Option<Daemon>,
}

impl Bird {
    /// Starts it once, for whichever way comes first.
    fn start(&mut self) -> Result<(), String> {
        if self.daemon.is_some() {
            return Ok(());
        }
        let address = self.home.address;
        let routes: String = others()
            .map(|prefix| format!("  route {prefix} blackhole;\n"))
            .collect();
        let mut text = format!(
            "log stderr all;\nrouter id {address};\nprotocol device {{}}\nprotocol static others {{\n  ipv4;\n{routes}}}\n\
             protocol static toggled {{ ipv4; route {TOGGLED} blackhole; }}\n"
        );
        text += &self.home.each_peer(|peer, asn| {
            format!(
                "protocol bgp peer{asn} {{ local {address} as {ASN}; neighbor {peer} as {asn}; multihop 2; strict bind yes; \
                 hold time 240; connect delay time 1; ipv4 {{ import none; export all; next hop self; }}; }}\n"
            )
        });
        write(&self.home.path("bird.conf"), &text)?;
        let mut command = Command::new("/usr/sbin/bird");
        command.args(["-f", "-c", &self.home.arg("bird.conf"), "-s", &self.socket()]);
        command.args(["-P", &self.home.arg("bird.pid")]);
        self.daemon = Some(Daemon::start("bird", &command, &self.home.path("log"))?);
        Ok(())
    }

    fn socket(&self) -> String {
        self.home.arg("bird.sock")
    }
}

fn bird_command(announce: bool) -> &'static str {
    if announce {
        "enable toggled"
    } else {
        "disable toggled"
    }
}

/// By its control socket, over one connection that stays.
struct BirdSocket {
    bird: Rc<RefCell<Bird>>,
    control: Option<BufReader<UnixStream>>,
}

/// Reads an answer of BIRD to its end: a code that is not followed by a dash. Codes from 8000 are refusals.
fn bird_answer(control: &mut BufReader<UnixStream>) -> Result<(), String> {
    loop {
        let mut line = String::new();
        let count = control
            .read_line(&mut line)
            .map_err(|error| format!("bird: {error}"))?;
        let code = line.get(..4).and_then(|code| code.parse::<u16>().ok());
        match (count, code) {
            (0, _) => return Err("bird closed its control socket".to_owned()),
            (_, Some(8_000..)) => return Err(format!("bird: {line}")),
            (_, Some(_)) if line.as_bytes().get(4) == Some(&b' ') => return Ok(()),
            (_, Some(_) | None) => {}
        }
    }
}

impl Speaker for BirdSocket {
    fn name(&self) -> &'static str {
        "bird socket"
    }

    fn version(&self) -> String {
        package_version("bird2")
    }

    fn address(&self) -> Ipv4Addr {
        self.bird.borrow().home.address
    }

    fn start(&mut self) -> Result<(), String> {
        let mut bird = self.bird.borrow_mut();
        bird.start()?;
        let socket = bird.socket();
        let stream = wait_for("BIRD's control socket", START, || {
            Ok(UnixStream::connect(&socket).ok())
        })?;
        let mut control = BufReader::new(stream);
        bird_answer(&mut control)?; // the greeting
        self.control = Some(control);
        Ok(())
    }

    fn set(&mut self, announce: bool) -> Result<Nanos, String> {
        let control = self.control.as_mut().ok_or("not started")?;
        let start = now();
        let line = format!("{}\n", bird_command(announce));
        control
            .get_mut()
            .write_all(line.as_bytes())
            .map_err(|error| format!("bird: {error}"))?;
        bird_answer(control)?;
        Ok(start)
    }

    fn cpu(&self) -> Duration {
        cpu_of(&self.bird.borrow().daemon)
    }
}

/// By BIRD's command line client, a process per change.
struct Birdc {
    bird: Rc<RefCell<Bird>>,
}

impl Speaker for Birdc {
    fn name(&self) -> &'static str {
        "birdc"
    }

    fn version(&self) -> String {
        package_version("bird2")
    }

    fn address(&self) -> Ipv4Addr {
        self.bird.borrow().home.address
    }

    fn start(&mut self) -> Result<(), String> {
        self.bird.borrow_mut().start()
    }

    fn set(&mut self, announce: bool) -> Result<Nanos, String> {
        let socket = self.bird.borrow().socket();
        let mut command = Command::new("/usr/sbin/birdc");
        command.args(["-s", &socket, bird_command(announce)]);
        let start = now();
        output(&mut command)?;
        Ok(start)
    }

    fn cpu(&self) -> Duration {
        cpu_of(&self.bird.borrow().daemon) + children_cpu()
    }
}

/// CPU time of children that have ended: the command line clients.
fn children_cpu() -> Duration {
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN);
    let micros = usage.map_or(0, |usage| {
        (usage.user_time() + usage.system_time()).num_microseconds()
    });
    Duration::from_micros(micros.unsigned_abs())
}

// FRR

/// By vtysh, a process per change.
struct Frr {
    home: Home,
    daemon: Option<Daemon>,
}

impl Frr {
    fn new(home: Home) -> Self {
        Self { home, daemon: None }
    }
}

impl Speaker for Frr {
    fn name(&self) -> &'static str {
        "vtysh"
    }

    fn version(&self) -> String {
        package_version("frr")
    }

    fn address(&self) -> Ipv4Addr {
        self.home.address
    }

    fn start(&mut self) -> Result<(), String> {
        // bgpd gives up root and then writes into the folder.
        output(Command::new("chown").args(["frr:frr"]).arg(&self.home.folder))?;
        let address = self.home.address;
        let mut text = format!(
            "router bgp {ASN}\n bgp router-id {address}\n no bgp ebgp-requires-policy\n no bgp network import-check\n"
        );
        text += &self.home.each_peer(|peer, asn| {
            format!(
                " neighbor {peer} remote-as {asn}\n neighbor {peer} update-source {address}\n \
                 neighbor {peer} ebgp-multihop 2\n neighbor {peer} disable-connected-check\n \
                 neighbor {peer} timers 80 240\n neighbor {peer} timers connect 1\n \
                 neighbor {peer} advertisement-interval 0\n"
            )
        });
        text += " address-family ipv4 unicast\n";
        for prefix in others().chain([TOGGLED.to_owned()]) {
            // Infallible for a string.
            let _ = writeln!(text, "  network {prefix}");
        }
        write(&self.home.path("bgpd.conf"), &text)?;
        let mut command = Command::new("/usr/lib/frr/bgpd");
        command.args([
            "--no_zebra",
            "-p",
            "0",
            "-P",
            "0",
            "-f",
            &self.home.arg("bgpd.conf"),
        ]);
        command.args([
            "-i",
            &self.home.arg("bgpd.pid"),
            "--vty_socket",
            &self.home.arg(""),
        ]);
        self.daemon = Some(Daemon::start("bgpd", &command, &self.home.path("log"))?);
        Ok(())
    }

    fn set(&mut self, announce: bool) -> Result<Nanos, String> {
        let network = format!("{}network {TOGGLED}", if announce { "" } else { "no " });
        let mut command = Command::new("/usr/bin/vtysh");
        command.args(["--vty_socket", &self.home.arg(""), "-d", "bgpd"]);
        let router = format!("router bgp {ASN}");
        for line in [
            "configure terminal",
            &router,
            "address-family ipv4 unicast",
            &network,
        ] {
            command.args(["-c", line]);
        }
        let start = now();
        output(&mut command)?;
        Ok(start)
    }

    fn cpu(&self) -> Duration {
        cpu_of(&self.daemon) + children_cpu()
    }

    fn is_slow(&self) -> bool {
        true
    }
}
