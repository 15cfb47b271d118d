//! Ten sites in namespaces around a switch: a link that is cut one way, and a site that is cut off.

use std::fs;
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use steer_labs::netns::{self, Node, Proc, World};
use steer_tests::{skip, steer_binary};

use crate::{Endpoint, KEY, address, pool_and_sites};

const SITES: [&str; 10] = [
    "fra", "ams", "lhr", "jfk", "lax", "yyz", "nrt", "sin", "gru", "syd",
];
/// The one that is cut off.
const LOST: usize = 6;
const PATIENCE: Duration = Duration::from_secs(60);

struct Fleet {
    world: World,
    switch: Node,
    nodes: Vec<Node>,
    steers: Vec<Proc>,
    _endpoints: Vec<Endpoint>,
}

impl Fleet {
    fn new() -> Self {
        let world = World::new("gossip").unwrap();
        let switch = world.switch("switch").unwrap();
        let config = "[fleet]\ngossip = { key_file = \"gossip.key\" }\n[admin]\n\
                      [[check]]\nname = \"web\"\nkind = \"tcp\"\n"
            .to_owned();
        fs::write(world.dir().join("steer.toml"), config + &pool_and_sites(&SITES)).unwrap();
        fs::write(world.dir().join("gossip.key"), KEY).unwrap();
        let (mut nodes, mut steers, mut endpoints) = (Vec::new(), Vec::new(), Vec::new());
        for (number, site) in SITES.iter().enumerate() {
            let node = world.node(site).unwrap();
            world.plug(&switch, site, (&node, "eth0")).unwrap();
            node.address("eth0", &format!("{}/24", address(number))).unwrap();
            let listener = node.enter(|| TcpListener::bind("0.0.0.0:80")).unwrap().unwrap();
            endpoints.push(Endpoint::on(listener));
            nodes.push(node);
        }
        for (node, site) in nodes.iter().zip(SITES) {
            let mut command = Command::new(steer_binary());
            command
                .args(["run", "--site", site, "--config"])
                .arg(world.dir().join("steer.toml"));
            steers.push(node.spawn(command, "steer").unwrap());
        }
        Self {
            world,
            switch,
            nodes,
            steers,
            _endpoints: endpoints,
        }
    }

    fn status(&self, site: usize) -> serde_json::Value {
        let binary = steer_binary();
        let command = [binary.to_str().unwrap(), "status", "--json"];
        let output = self.nodes[site].exec(&command).unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// Of all endpoints, as one site holds them.
    fn verdicts(&self, site: usize) -> Vec<String> {
        let status = self.status(site);
        let endpoints = status["endpoints"].as_array().cloned().unwrap_or_default();
        endpoints
            .iter()
            .map(|row| row["verdict"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    /// Lines of a log that tell of a verdict.
    fn changes(&self, site: usize) -> Vec<String> {
        let log = [self.steers[site].stdout(), self.steers[site].stderr()]
            .map(|path| fs::read_to_string(path).unwrap());
        let lines = log.iter().flat_map(|log| log.lines());
        lines
            .filter(|line| line.contains("verdict changed"))
            .map(str::to_owned)
            .collect()
    }

    fn all_changes(&self) -> usize {
        (0..SITES.len()).map(|site| self.changes(site).len()).sum()
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let start = Instant::now();
        while !holds(self) {
            assert!(start.elapsed() < PATIENCE, "{what}: {:?}", self.verdicts(0));
            std::thread::sleep(Duration::from_millis(20));
        }
        println!("{what}: {:?}", start.elapsed());
        start.elapsed()
    }

    fn all_up(&self) -> bool {
        (0..SITES.len()).all(|site| self.verdicts(site) == vec!["up"; SITES.len()])
    }

    fn cut(&self, site: usize, cut: bool) {
        self.world.cut(&self.switch, SITES[site], cut).unwrap();
    }
}

#[test]
fn ten_sites_keep_their_verdicts_when_a_link_is_cut_one_way_and_agree_when_a_site_is_cut_off() {
    if let Err(why) = netns::can_run() {
        skip("ten_sites", &why);
        return;
    }
    let fleet = Fleet::new();
    fleet.until("ten sites see all up", Fleet::all_up);
    let members = |fleet: &Fleet| {
        let status = fleet.status(0);
        let members = status["gossip"]["members"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        members.iter().filter(|member| member["state"] == "up").count()
    };
    fleet.until("nine other members", |fleet| members(fleet) == 9);

    // fra sends nothing to ams any more: neither can check the other.
    let before = fleet.all_changes();
    let blackhole = |act: &str| {
        let output = fleet.nodes[0]
            .exec(&["ip", "route", act, "blackhole", "10.0.0.2/32"])
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    };
    blackhole("add");
    let start = Instant::now();
    let says_down = |fleet: &Fleet| {
        let status = fleet.status(4);
        let votes = status["gossip"]["votes"].as_array().cloned().unwrap_or_default();
        votes.iter().filter(|row| row["down"] == 1).count() == 2
    };
    fleet.until("two who do not see each other have said so", says_down);
    while start.elapsed() < Duration::from_secs(20) {
        assert!(fleet.all_up());
    }
    assert_eq!(fleet.all_changes(), before, "one way: no verdict changes");
    blackhole("del");
    let agree = |fleet: &Fleet| {
        let status = fleet.status(4);
        let votes = status["gossip"]["votes"].as_array().cloned().unwrap_or_default();
        votes.iter().all(|row| row["down"] == 0)
    };
    fleet.until("they see each other again", agree);

    // nrt is cut off.
    let before_cut = fleet.changes(LOST).len();
    fleet.cut(LOST, true);
    let others = || (0..SITES.len()).filter(|site| *site != LOST);
    let down = |fleet: &Fleet| others().all(|site| fleet.verdicts(site)[LOST] == "down");
    let took = fleet.until("cut off: down for the nine others", down);
    assert!(took < Duration::from_secs(8), "{took:?}");
    let cut = Instant::now();
    while cut.elapsed() < Duration::from_secs(35) {
        std::thread::sleep(Duration::from_secs(1));
    }
    assert_eq!(fleet.changes(LOST).len(), before_cut, "{:?}", fleet.changes(LOST));
    for site in others() {
        assert_eq!(
            fleet
                .verdicts(site)
                .iter()
                .filter(|verdict| *verdict == "down")
                .count(),
            1
        );
    }
    let before_heal: Vec<_> = others().map(|site| fleet.changes(site).len()).collect();
    fleet.cut(LOST, false);
    fleet.until("healed: ten sites see all up", Fleet::all_up);
    std::thread::sleep(Duration::from_secs(15));
    assert!(fleet.all_up());
    assert_eq!(
        fleet.changes(LOST).len(),
        before_cut,
        "the lost site has changed nothing"
    );
    let after: Vec<_> = others().map(|site| fleet.changes(site).len()).collect();
    let once: Vec<_> = before_heal.iter().map(|count| count + 1).collect();
    assert_eq!(after, once, "each of the others has changed one verdict, once");
}
