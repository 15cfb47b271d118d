//! Real BGP speakers as peers of the binary under test: one battery of tests runs against all of them.
//!
//! ```text
//! Peer (what differs: configuration, start, its own words for a route)
//!   └─ Site: the peer in its namespace and folder ──► routes now, farewell seen, freeze, kill
//! Route: prefix, next hop, AS path, origin, as the peer's own command line tells them
//! ```
//!
//! Nothing outside the run folder is used: sockets, pid files and logs of two runs never meet.

pub mod bfd;
mod bird;
mod exabgp;
mod frr;
mod gobgp;
mod openbgpd;

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use steer_labs::netns::{Node, Proc};
use steer_topology::Prefix;

pub use bird::Bird;
pub use exabgp::ExaBgp;
pub use frr::Frr;
pub use gobgp::GoBgp;
pub use openbgpd::OpenBgpd;

/// A route as a peer shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// What it reaches.
    pub prefix: Prefix,
    /// NEXT_HOP, the global one for IPv6.
    pub next_hop: IpAddr,
    /// AS_PATH, nearest first.
    pub as_path: Vec<u32>,
    /// ORIGIN, lower case: `igp`, `egp` or `incomplete`.
    pub origin: String,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// Communities of all kinds as `steer.toml` writes them: `64500:1`, `64500:1:2`, `rt:64500:7`.
    pub communities: BTreeSet<String>,
}

impl Route {
    /// A route of which only the prefix is known yet.
    fn to(prefix: Prefix) -> Self {
        Self {
            prefix,
            next_hop: std::net::Ipv4Addr::UNSPECIFIED.into(),
            as_path: Vec::new(),
            origin: String::new(),
            med: None,
            communities: BTreeSet::new(),
        }
    }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            prefix,
            next_hop,
            as_path,
            origin,
            med,
            communities,
        } = self;
        write!(
            f,
            "{prefix} via {next_hop} path {as_path:?} {origin} med {med:?} {communities:?}"
        )
    }
}

/// Who opens the TCP connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Opens {
    /// The peer listens.
    Steer,
    /// The peer dials.
    Peer,
}

/// The session from the peer's view. Over IPv4 both families are carried, over IPv6 that one alone.
#[derive(Debug, Clone)]
pub struct Session {
    /// The peer's AS number.
    pub asn: u32,
    /// The peer's address; its family is that of the transport.
    pub address: IpAddr,
    /// The AS number of the binary under test.
    pub steer_asn: u32,
    /// The address of the binary under test.
    pub steer: IpAddr,
    /// Who dials.
    pub opens: Opens,
    /// What the peer offers.
    pub hold_time: Duration,
    /// What the peer is told to do beyond the plain protocol.
    pub features: Features,
}

/// What a peer is configured to do beyond the plain protocol.
#[derive(Debug, Clone, Default)]
pub struct Features {
    /// TCP MD5 (RFC 2385).
    pub password: Option<String>,
    /// GTSM (RFC 5082) with one hop.
    pub ttl_security: bool,
    /// Keep our routes over a restart of ours (RFC 4724).
    pub graceful_restart: bool,
    /// Say this role (RFC 9234): `provider`, `peer` ..
    pub role: Option<&'static str>,
    /// RFC 8654.
    pub extended_messages: bool,
    /// Over IPv6: carry IPv4 routes with an IPv6 next hop (RFC 8950).
    pub extended_next_hop: bool,
    /// BFD on `eth1`, every so many milliseconds; BIRD and FRR alone.
    pub bfd_ms: Option<u64>,
}

/// One of [`Features`], or something else that not every peer can do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "the names say it")]
pub enum Feature {
    Password,
    TtlSecurity,
    GracefulRestart,
    Role,
    ExtendedMessages,
    ExtendedNextHop,
    RouteRefresh,
}

impl Session {
    fn passive(&self) -> bool {
        self.opens == Opens::Steer
    }

    fn carries_ipv4(&self) -> bool {
        self.address.is_ipv4() || self.features.extended_next_hop
    }

    fn hold(&self) -> u64 {
        self.hold_time.as_secs()
    }
}

/// Where a peer lives.
#[derive(Debug, Clone)]
pub struct Home {
    /// Its namespace.
    pub node: Node,
    /// Its folder: configuration, sockets, logs.
    pub dir: PathBuf,
}

impl Home {
    /// A file of the folder.
    #[must_use]
    pub fn path(&self, file: &str) -> PathBuf {
        self.dir.join(file)
    }

    /// A file of the folder as an argument.
    #[must_use]
    pub fn arg(&self, file: &str) -> String {
        self.path(file).display().to_string()
    }

    /// Runs a command inside; its standard output, or what went wrong.
    pub fn ask<S: AsRef<str>>(&self, command: &[S]) -> Result<String, String> {
        let output = self.node.exec(command).map_err(|error| error.to_string())?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        if output.status.success() {
            return Ok(text);
        }
        let program = command.first().map(AsRef::as_ref).unwrap_or_default();
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        Err(format!("{program}: {}: {text}{complaint}", output.status))
    }

    /// As [`Home::ask`], for JSON.
    pub fn ask_json<S: AsRef<str>>(&self, command: &[S]) -> Result<serde_json::Value, String> {
        let text = self.ask(command)?;
        serde_json::from_str(&text).map_err(|error| format!("{error} in {text}"))
    }

    /// The whole of a file, or why not.
    pub fn read(&self, file: &str) -> Result<String, String> {
        let path = self.path(file);
        let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    fn append(&self, file: &str, text: &str) -> Result<(), String> {
        let path = self.path(file);
        let open = fs::OpenOptions::new().append(true).open(&path);
        open.and_then(|mut file| std::io::Write::write_all(&mut file, text.as_bytes()))
            .map_err(|error| format!("{}: {error}", path.display()))
    }

    fn write(&self, file: &str, text: &str) -> Result<(), String> {
        let path = self.path(file);
        fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
    }

    fn spawn(
        &self,
        program: &str,
        args: &[String],
        env: &[(&str, String)],
        label: &str,
    ) -> Result<Proc, String> {
        let mut command = Command::new(program);
        command
            .args(args)
            .envs(env.iter().map(|(key, value)| (key, value)));
        self.node.spawn(command, label).map_err(|error| error.to_string())
    }
}

/// One implementation of BGP.
pub trait Peer: Sync {
    /// Short, for names of worlds: `bird`.
    fn name(&self) -> &'static str;

    /// The Debian package.
    fn package(&self) -> &'static str;

    /// Every program that is run.
    fn programs(&self) -> &'static [&'static str];

    /// Writes the configuration into the folder and starts the peer there.
    fn start(&self, home: &Home, session: &Session) -> Result<Vec<Proc>, String>;

    /// What it has learned, by its own words. An error while it is not ready to answer.
    fn routes(&self, home: &Home) -> Result<BTreeSet<Route>, String>;

    /// Why the version that Debian packages cannot do this; `None`: it can.
    fn lacks(&self, feature: Feature) -> Option<&'static str>;

    /// Makes it ask for our routes again (RFC 2918).
    fn refresh(&self, home: &Home, session: &Session) -> Result<(), String>;

    /// Whether it tells of a Cease/Administrative Shutdown with `text` (RFC 9003); gives its own words.
    fn farewell(&self, home: &Home, text: &str) -> Result<String, String>;
}

/// All that are tested.
pub const ALL: [&dyn Peer; 5] = [&Bird, &Frr, &GoBgp, &OpenBgpd, &ExaBgp];

/// Says why the peer cannot run here.
pub fn missing(peer: &dyn Peer) -> Result<(), String> {
    missing_program(peer.programs(), peer.package())
}

/// Says which of the programs is missing.
pub fn missing_program(programs: &[&str], package: &str) -> Result<(), String> {
    let absent = programs.iter().find(|program| !Path::new(program).exists());
    match absent {
        None => Ok(()),
        Some(program) => Err(format!(
            "{program} is missing: install the Debian package `{package}`"
        )),
    }
}

/// The version of the installed package.
#[must_use]
pub fn version(peer: &dyn Peer) -> String {
    package_version(peer.package())
}

/// The version of an installed package.
#[must_use]
pub fn package_version(package: &str) -> String {
    let query = Command::new("dpkg-query")
        .args(["-W", "-f=${Version}", package])
        .output();
    match query {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout).into_owned(),
        Ok(_) | Err(_) => "unknown version".to_owned(),
    }
}

/// A peer that runs. Killed with all its children when dropped.
pub struct Running<'a> {
    peer: &'a dyn Peer,
    home: Home,
    session: Session,
    processes: Vec<Proc>,
}

impl<'a> Running<'a> {
    /// Makes the folder and starts the peer.
    pub fn start(peer: &'a dyn Peer, home: Home, session: Session) -> Result<Self, String> {
        fs::create_dir_all(&home.dir).map_err(|error| error.to_string())?;
        let processes = peer.start(&home, &session)?;
        Ok(Self {
            peer,
            home,
            session,
            processes,
        })
    }

    /// Where it lives.
    #[must_use]
    pub fn home(&self) -> &Home {
        &self.home
    }

    /// See [`Peer::routes`].
    pub fn routes(&self) -> Result<BTreeSet<Route>, String> {
        self.peer.routes(&self.home)
    }

    /// See [`Peer::refresh`].
    pub fn refresh(&self) -> Result<(), String> {
        self.peer.refresh(&self.home, &self.session)
    }

    /// See [`Peer::farewell`].
    pub fn farewell(&self, text: &str) -> Result<String, String> {
        self.peer.farewell(&self.home, text)
    }

    /// Kills it without a chance to say goodbye and starts it anew with the same configuration.
    pub fn crash_and_restart(&mut self) -> Result<(), String> {
        self.kill();
        self.processes = self.peer.start(&self.home, &self.session)?;
        Ok(())
    }

    /// Stops every process where it stands; the kernel keeps its connections.
    pub fn freeze(&self) {
        self.signal(Signal::SIGSTOP);
    }

    /// Lets it go on.
    pub fn thaw(&self) {
        self.signal(Signal::SIGCONT);
    }

    fn kill(&mut self) {
        self.signal(Signal::SIGKILL);
        self.processes.clear(); // waits for each
    }

    /// To each process with its children: [`Node::spawn`] gives each a group of its own.
    fn signal(&self, signal: Signal) {
        for process in &self.processes {
            // Fails only when the group has just ended; the battery then sees that in the routes.
            if let Ok(id) = i32::try_from(process.id()) {
                let _ = killpg(Pid::from_raw(id), signal);
            }
        }
    }
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A JSON value as text, without quotes.
fn text(value: &serde_json::Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn parse<T: std::str::FromStr>(what: &str, text: &str) -> Result<T, String>
where
    T::Err: fmt::Display,
{
    text.parse().map_err(|error| format!("{what} {text:?}: {error}"))
}

/// `64512 64513`, as most write a path of plain AS numbers.
fn parse_path(text: &str) -> Result<Vec<u32>, String> {
    text.split_whitespace()
        .map(|number| parse("AS number", number))
        .collect()
}
