//! BFD below BGP: the real binary with `bfd = { .. }` beside a peer that has it too.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use steer_labs::netns::{Node, Proc, World};
use steer_labs::wait;
use steer_tests::peers::{
    Bird, Features, Frr, Home, Opens, Peer, Running, Session, missing, package_version,
};
use steer_tests::{skip, steer_binary};

use crate::Rows;

const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(5);

/// How long routes must not change to be called stable. FRR makes its BFD session anew when BGP comes up.
const SETTLE: Duration = Duration::from_millis(1500);

const INTERVAL_MS: u64 = 50;

/// Three intervals, and what a busy machine and the peer's own way from BFD to its routes may add.
const DROPPED_WITHIN: Duration = Duration::from_millis(3 * INTERVAL_MS + 350);

/// A peer that is never told anything; the hold time of 90 s is far away.
const CONFIG: &str = r#"
[bgp]
asn = 64512
router_id = "10.0.0.1"
[[bgp.peer]]
address = "10.0.0.2"
asn = 64500
hold_time = "90s"
connect_retry = "1s"
bfd = { interval = "50ms", multiplier = 3, strict = true }
[[anycast]]
prefix = "192.0.2.53/32"
next_hop = "10.0.0.1"
"#;

#[test]
fn bird_and_we_drop_bgp_at_once_when_the_path_is_silent() {
    drops_at_once(&Bird);
}

#[test]
fn frr_and_we_drop_bgp_at_once_when_the_path_is_silent() {
    drops_at_once(&Frr);
}

struct Stage<'a> {
    world: World,
    peer: Running<'a>,
    steer: Proc,
    switch: Node,
}

fn drops_at_once(peer: &dyn Peer) {
    let name = format!("bfd-bgp-{}", peer.name());
    if let Err(reason) = steer_labs::netns::can_run().and_then(|()| missing(peer)) {
        return skip(&name, &reason);
    }
    let mut rows = Rows::new();
    let mut stage = Stage::set(&name, peer, Some(INTERVAL_MS));

    let since = Instant::now();
    stage.routes(1);
    rows.push((
        "strict: BFD up, then BGP, then the route".to_owned(),
        seconds(since),
    ));

    let drops = stage.drops();
    rows.push(("drops by BFD while it came up".to_owned(), drops.to_string()));
    stage.switch.set_link("br0", false).unwrap();
    let since = Instant::now();
    let (mut here, mut there) = (None, None);
    while here.is_none() || there.is_none() {
        stage.check(since.elapsed() < PATIENCE, "nobody saw the cut");
        if here.is_none() && stage.drops() > drops {
            here = Some(since.elapsed());
        }
        if there.is_none() && stage.peer.routes().is_ok_and(|routes| routes.is_empty()) {
            there = Some(since.elapsed());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    for took in [here, there].into_iter().flatten() {
        stage.check(
            took < DROPPED_WITHIN,
            &format!("dropped after {here:?} and {there:?}"),
        );
    }
    let cut = format!("{} ms / {} ms", millis(here), millis(there));
    rows.push((
        "silent cut: session dropped here / route gone there".to_owned(),
        cut,
    ));

    let since = Instant::now();
    stage.switch.set_link("br0", true).unwrap();
    stage.routes(1);
    rows.push(("line back: session and route again".to_owned(), seconds(since)));

    stage.steer.signal(Signal::SIGTERM).unwrap();
    stage.routes(0);
    let words = stage.until("the farewell", Stage::farewell);
    println!("{}: {words}", peer.name());
    stage.check(stage.drops() == drops + 1, "the stop looked like a failure to us");
    let ended = stage.steer.wait(Duration::from_secs(5)).unwrap();
    stage.check(ended.code() == Some(0), &format!("steer ended with {ended}"));
    rows.push((
        "SIGTERM: our Cease and its text are read before BFD's AdminDown".to_owned(),
        "ok".to_owned(),
    ));
    drop(stage);

    let mut stage = Stage::set(&format!("{name}-none"), peer, None);
    std::thread::sleep(Duration::from_secs(3));
    let runs = stage.steer.exited().is_none();
    stage.check(runs, "steer has ended");
    stage.check(
        !stage.log().contains("session established"),
        "BGP came up without BFD",
    );
    rows.push((
        "strict, the peer without BFD: no session".to_owned(),
        "ok".to_owned(),
    ));

    println!("\n{} {}", peer.package(), package_version(peer.package()));
    for (case, result) in &rows {
        println!(
            "| {} | BGP and BFD, {INTERVAL_MS} ms x 3; {case} | {result} |",
            peer.name()
        );
    }
}

impl<'a> Stage<'a> {
    fn set(name: &str, peer: &'a dyn Peer, bfd_ms: Option<u64>) -> Self {
        let world = World::new(name).unwrap();
        let (node, other) = (world.node("steer").unwrap(), world.node("peer").unwrap());
        let switch = world
            .bridge("switch", &[(&node, "eth1"), (&other, "eth1")])
            .unwrap();
        for (node, host) in [(&node, 1), (&other, 2)] {
            node.address("eth1", &format!("10.0.0.{host}/24")).unwrap();
        }
        let session = Session {
            asn: 64_500,
            address: "10.0.0.2".parse().unwrap(),
            steer_asn: 64_512,
            steer: "10.0.0.1".parse().unwrap(),
            opens: Opens::Steer,
            hold_time: Duration::from_secs(90),
            features: Features {
                bfd_ms,
                ..Features::default()
            },
        };
        let dir = world.dir().join("peer");
        let peer = Running::start(peer, Home { node: other, dir }, session).unwrap();
        let config = world.dir().join("steer.toml");
        fs::write(&config, CONFIG).unwrap();
        let mut command = Command::new(steer_binary());
        command.args(["run", "--config"]).arg(&config);
        let steer = node.spawn(command, "run").unwrap();
        Self {
            world,
            peer,
            steer,
            switch,
        }
    }

    /// Waits until the peer has so many routes, and keeps them.
    fn routes(&self, count: usize) {
        let seen = wait::stable(PATIENCE, POLL, SETTLE, || match self.peer.routes()? {
            routes if routes.len() == count => Ok(()),
            routes => Err(format!("{routes:?}")),
        });
        if let Err(error) = seen {
            self.fail(&format!("{count} routes: {error}"));
        }
    }

    /// So many sessions ended because BFD went down.
    fn drops(&self) -> usize {
        self.log().matches("reason=BFD is down").count()
    }

    /// FRR's command line tells what came last, and that is BFD; its log has both.
    fn farewell(&self) -> Result<String, String> {
        let log = ["bird.log", "bgpd.log"].map(|file| self.peer.home().read(file).unwrap_or_default());
        let log = log.concat();
        let line = log.lines().find(|line| line.contains("steer stops"));
        line.map(str::to_owned).ok_or_else(|| "not in its log".to_owned())
    }

    fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Result<T, String>) -> T {
        match wait::until(PATIENCE, POLL, || look(self)) {
            Ok(value) => value,
            Err(error) => self.fail(&format!("{what}: {error}")),
        }
    }

    fn check(&self, holds: bool, otherwise: &str) {
        if !holds {
            self.fail(otherwise);
        }
    }

    fn fail(&self, why: &str) -> ! {
        let logs = ["bird.log", "bgpd.log", "bfdd.log"].map(|file| {
            let log = self.peer.home().read(file).unwrap_or_default();
            let kept: Vec<&str> = log.lines().filter(|line| !line.contains(" CTL ")).collect();
            kept[kept.len().saturating_sub(40)..].join("\n")
        });
        panic!(
            "{}: {why}\n--- steer\n{}\n--- peer\n{}",
            self.world.name(),
            self.log(),
            logs.join("\n")
        );
    }

    fn log(&self) -> String {
        String::from_utf8_lossy(&fs::read(self.steer.stderr()).unwrap_or_default()).into_owned()
    }
}

fn seconds(since: Instant) -> String {
    format!("{:.2} s", since.elapsed().as_secs_f64())
}

fn millis(took: Option<Duration>) -> u128 {
    took.unwrap_or_default().as_millis()
}
