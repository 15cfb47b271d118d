//! One session: steer in one namespace, a peer in another, a cable between them.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use steer_labs::netns::{Node, Proc, World};
use steer_labs::wait;
use steer_tests::peers::{Features, Home, Opens, Peer, Route, Running, Session};
use steer_tests::steer_binary;

/// What the steers under test offer and their peers agree to: the shortest that RFC 4271 §4.2 allows.
pub(crate) const HOLD: Duration = Duration::from_secs(3);

/// The Shutdown Communication of an orderly stop.
pub(crate) const STEER_TEXT: &str = "steer stops";

/// Longer than any peer waits between two tries, on a busy machine.
const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(20);
/// How long a table must not change to be called stable.
const SETTLE: Duration = Duration::from_millis(200);

const PEER_ASN: u32 = 64_500;
const STEER_V4: &str = "10.0.0.1";
const STEER_V6: &str = "2001:db8:0:1::1";

/// Address family of the TCP connection.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    V4,
    V6,
}

/// What a stage is for.
#[derive(Clone)]
pub(crate) struct Plan {
    steer_asn: u32,
    opens: Opens,
    transport: Transport,
    /// What the peer is told to do.
    pub(crate) features: Features,
    /// The IPv4 prefix has attributes beyond the plain ones.
    pub(crate) decorated: bool,
}

/// Attributes of a decorated prefix, as `steer.toml` writes them.
const COMMUNITIES: [&str; 3] = ["64500:1", "64500:1:2", "rt:64500:7"];
const MED: u32 = 50;

impl Plan {
    pub(crate) fn new(steer_asn: u32, opens: Opens, transport: Transport) -> Self {
        Self {
            steer_asn,
            opens,
            transport,
            features: Features::default(),
            decorated: false,
        }
    }

    /// The same with other features of the peer.
    pub(crate) fn with(self, features: Features) -> Self {
        Self { features, ..self }
    }

    fn steer(&self) -> IpAddr {
        let address = match self.transport {
            Transport::V4 => STEER_V4,
            Transport::V6 => STEER_V6,
        };
        address.parse().unwrap()
    }

    fn peer(&self) -> IpAddr {
        let address = match self.transport {
            Transport::V4 => "10.0.0.2",
            Transport::V6 => "2001:db8:0:1::2",
        };
        address.parse().unwrap()
    }

    fn session(&self) -> Session {
        Session {
            asn: PEER_ASN,
            address: self.peer(),
            steer_asn: self.steer_asn,
            steer: self.steer(),
            opens: self.opens,
            hold_time: Duration::from_secs(90), // the shorter one, ours, governs
            features: self.features.clone(),
        }
    }

    /// What the peer must show, no more and no less.
    fn routes(&self) -> BTreeSet<Route> {
        let route = |prefix: &str, next_hop: &str| Route {
            prefix: prefix.parse().unwrap(),
            next_hop: next_hop.parse().unwrap(),
            as_path: vec![self.steer_asn],
            origin: "igp".to_owned(),
            med: None,
            communities: BTreeSet::new(),
        };
        let ipv6 = route("2001:db8:53::/48", STEER_V6);
        let mut ipv4 = route("192.0.2.53/32", STEER_V4);
        if self.decorated {
            ipv4.as_path.push(self.steer_asn);
            ipv4.med = Some(MED);
            ipv4.communities = COMMUNITIES.map(str::to_owned).into();
        }
        match self.transport {
            Transport::V4 => [ipv4, ipv6].into(),
            Transport::V6 if self.features.extended_next_hop => {
                let next_hop = STEER_V6.parse().unwrap();
                [Route { next_hop, ..ipv4 }, ipv6].into()
            }
            Transport::V6 => [ipv6].into(),
        }
    }
}

/// A stage that is set. Its processes die with it.
pub(crate) struct Stage<'a> {
    plan: Plan,
    /// The AS number that steer is told the peer has.
    pub(crate) expected_asn: u32,
    /// More of `steer.toml`.
    pub(crate) more: String,
    /// More keys of the peer's table in it.
    pub(crate) peer_keys: String,
    pub(crate) peer: Running<'a>,
    /// Where steer runs.
    pub(crate) node: Node,
    pub(crate) dir: PathBuf,
    steer: Option<Proc>,
    starts: u32,
}

impl<'a> Stage<'a> {
    /// Two namespaces and a cable; a peer that dials is started by the first [`Stage::start_steer`].
    pub(crate) fn set(world: &World, name: &str, peer: &'a dyn Peer, plan: Plan) -> Self {
        let node = world.node(&format!("{name}-steer")).unwrap();
        let other = world.node(&format!("{name}-peer")).unwrap();
        world.link((&node, "eth1"), (&other, "eth1")).unwrap();
        for (node, host) in [(&node, 1), (&other, 2)] {
            node.address("eth1", &format!("10.0.0.{host}/24")).unwrap();
            node.address("eth1", &format!("2001:db8:0:1::{host}/64")).unwrap();
        }
        let dir = world.dir().join(name);
        let home = Home {
            node: other,
            dir: dir.join("peer"),
        };
        let peer = Running::start(peer, home, plan.session()).unwrap();
        Self {
            plan,
            expected_asn: PEER_ASN,
            more: String::new(),
            peer_keys: String::new(),
            peer,
            node,
            dir,
            steer: None,
            starts: 0,
        }
    }

    /// Starts steer with a log of its own.
    pub(crate) fn start_steer(&mut self) {
        self.steer = None;
        self.starts += 1;
        let config = self.dir.join("steer.toml");
        fs::write(&config, self.config()).unwrap();
        let mut command = Command::new(steer_binary());
        command.arg("run").arg("--config").arg(&config);
        let label = format!("steer{}", self.starts);
        self.steer = Some(self.node.spawn(command, &label).unwrap());
    }

    /// The running steer.
    pub(crate) fn steer(&mut self) -> &mut Proc {
        self.steer.as_mut().unwrap()
    }

    /// Waits until the peer has exactly our routes, and keeps them.
    pub(crate) fn learned(&self) {
        let wanted = self.plan.routes();
        let seen = wait::stable(PATIENCE, POLL, SETTLE, || {
            let routes = self.peer.routes()?;
            if routes == wanted {
                Ok(())
            } else {
                Err(format!("the peer has {routes:?} instead of {wanted:?}"))
            }
        });
        if let Err(error) = seen {
            self.fail(&error.to_string());
        }
    }

    /// Waits until the peer has that many routes.
    pub(crate) fn has_routes(&self, count: usize) {
        self.until(&format!("{count} routes"), |stage| {
            let have = stage.peer.routes()?.len();
            if have == count {
                Ok(())
            } else {
                Err(format!("{have} so far"))
            }
        });
    }

    /// The peer must have our prefixes at every look.
    pub(crate) fn keeps_our_prefixes_for(&self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.has_our_prefixes();
            std::thread::sleep(POLL); // between two looks
        }
    }

    /// The same until all is as it was, stale no more.
    pub(crate) fn keeps_our_prefixes_until_learned(&self) {
        self.until("a new session", |stage| {
            stage.has_our_prefixes();
            let up = stage.log().contains("session established");
            up.then_some(()).ok_or_else(|| "not yet".to_owned())
        });
        self.has_our_prefixes();
        self.learned();
    }

    fn has_our_prefixes(&self) {
        let of =
            |routes: &BTreeSet<Route>| -> BTreeSet<_> { routes.iter().map(|route| route.prefix).collect() };
        match self.peer.routes() {
            Ok(routes) => self.check(
                of(&routes) == of(&self.plan.routes()),
                &format!("the peer has {routes:?} in between"),
            ),
            Err(error) => self.fail(&error),
        }
    }

    /// Makes the peer ask for our routes again.
    pub(crate) fn refresh(&self) {
        if let Err(error) = self.peer.refresh() {
            self.fail(&error);
        }
    }

    /// Waits until the peer has nothing of us.
    pub(crate) fn forgotten(&self) {
        self.until("no routes", |stage| match stage.peer.routes()? {
            routes if routes.is_empty() => Ok(()),
            routes => Err(format!("the peer still has {routes:?}")),
        });
    }

    /// Nothing is learned for a while, and steer goes on.
    pub(crate) fn stays_without_routes(&mut self) {
        let empty = wait::stable(PATIENCE, POLL, Duration::from_millis(500), || self.peer.routes());
        let running = self.steer().exited().is_none();
        self.check(running, "steer has ended");
        match empty {
            Ok(routes) => self.check(routes.is_empty(), &format!("the peer has {routes:?}")),
            Err(error) => self.fail(&error.to_string()),
        }
    }

    /// Waits until one line of steer's log has both.
    pub(crate) fn logged(&self, what: &str, detail: &str) {
        self.until(&format!("{what:?} with {detail:?} in the log"), |stage| {
            let found = stage
                .log()
                .lines()
                .any(|line| line.contains(what) && line.contains(detail));
            found.then_some(()).ok_or_else(|| "not there yet".to_owned())
        });
    }

    /// Waits until steer has logged that many sessions.
    pub(crate) fn established_again(&self, times: usize) {
        self.until(&format!("session number {times}"), |stage| {
            let count = stage.log().matches("session established").count();
            if count >= times {
                Ok(())
            } else {
                Err(format!("{count} so far"))
            }
        });
    }

    pub(crate) fn crash_peer(&mut self) {
        if let Err(error) = self.peer.crash_and_restart() {
            self.fail(&error);
        }
    }

    pub(crate) fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Result<T, String>) -> T {
        match wait::until(PATIENCE, POLL, || look(self)) {
            Ok(value) => value,
            Err(error) => self.fail(&format!("{what}: {error}")),
        }
    }

    pub(crate) fn check(&self, holds: bool, otherwise: &str) {
        if !holds {
            self.fail(otherwise);
        }
    }

    /// Shows everything, then fails.
    pub(crate) fn fail(&self, why: &str) -> ! {
        let mut report = String::new();
        show_files(&self.dir, &mut report);
        let _ = write!(report, "\n--- steer's log\n{}", self.log());
        let routes = self.peer.routes();
        show_logs(&self.peer.home().node, &mut report);
        panic!("{why}\n--- routes of the peer: {routes:?}{report}");
    }

    pub(crate) fn log(&self) -> String {
        let read = |process: &Proc| fs::read(process.stderr()).unwrap_or_default();
        let bytes = self.steer.as_ref().map(read).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn config(&self) -> String {
        let Plan {
            steer_asn,
            opens,
            transport,
            features,
            decorated,
        } = &self.plan;
        let decoration = if *decorated {
            format!("prepend = 1\nmed = {MED}\ncommunities = {COMMUNITIES:?}\n")
        } else {
            String::new()
        };
        let next_hop = if features.extended_next_hop {
            String::new()
        } else {
            format!("next_hop = \"{STEER_V4}\"\n")
        };
        let listen = match (opens, transport) {
            (Opens::Steer, _) => "",
            (Opens::Peer, Transport::V4) => "listen = [\"10.0.0.1:179\"]\n",
            (Opens::Peer, Transport::V6) => "listen = [\"[2001:db8:0:1::1]:179\"]\n",
        };
        format!(
            "[bgp]\nasn = {steer_asn}\nrouter_id = \"10.0.0.1\"\n{listen}\
             [[bgp.peer]]\naddress = \"{}\"\nasn = {}\nhold_time = \"{}s\"\nconnect_retry = \"1s\"\npassive = {}\n{}\
             [[anycast]]\nprefix = \"192.0.2.53/32\"\n{next_hop}{decoration}\
             [[anycast]]\nprefix = \"2001:db8:53::/48\"\nnext_hop = \"{STEER_V6}\"\n{}",
            self.plan.peer(),
            self.expected_asn,
            HOLD.as_secs(),
            *opens == Opens::Peer,
            self.peer_keys,
            self.more,
        )
    }
}

/// Every plain file below, shortened.
fn show_files(dir: &Path, report: &mut String) {
    for entry in fs::read_dir(dir).into_iter().flatten().flatten() {
        let path = entry.path();
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => show_files(&path, report),
            Ok(kind) if kind.is_file() => show_file(&path, report),
            Ok(_) | Err(_) => {}
        }
    }
}

/// Standard output and error of the processes of a node.
fn show_logs(node: &Node, report: &mut String) {
    for entry in fs::read_dir(node.dir()).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(&format!("{}-", node.name())) {
            show_file(&entry.path(), report);
        }
    }
}

fn show_file(path: &Path, report: &mut String) {
    const LAST: usize = 6_000; // characters
    let bytes = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes);
    let skip = text.chars().count().saturating_sub(LAST);
    let shown: String = text.chars().skip(skip).collect();
    let _ = write!(report, "\n--- {}\n{shown}", path.display());
}
