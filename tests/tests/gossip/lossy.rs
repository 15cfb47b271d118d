//! One vantage point loses probes; the others see the service. Four sites in namespaces around a switch, the default check.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::Command;
use std::time::{Duration, Instant};

use steer_labs::netns::{self, Node, Proc, World};
use steer_tests::{skip, steer_binary};

use crate::{KEY, address, pool_and_sites};

const SITES: [&str; 4] = ["fra", "jfk", "nrt", "gru"];
/// Who loses probes to the endpoint of whom.
const LOSSY: usize = 1;
const SEEN: usize = 2;
/// Who loses probes to its own endpoint, which nobody else judges for it.
const ALONE: usize = 3;
const PATIENCE: Duration = Duration::from_secs(60);

struct Fleet {
    _world: World,
    nodes: Vec<Node>,
    steers: Vec<Proc>,
}

/// A thread that answers any request with 200 for as long as the process lives.
fn serve(listener: TcpListener) {
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            std::thread::spawn(move || {
                let timeout = Some(Duration::from_secs(5));
                stream.set_read_timeout(timeout).unwrap();
                if stream.read(&mut [0; 4096]).is_ok_and(|length| length > 0) {
                    // A prober whose time is over is gone.
                    let _ = stream
                        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                }
            });
        }
    });
}

impl Fleet {
    fn new() -> Self {
        let world = World::new("lossy").unwrap();
        let switch = world.switch("switch").unwrap();
        let config = "[fleet]\ngossip = { key_file = \"gossip.key\" }\n[admin]\n\
                      [[check]]\nname = \"web\"\nkind = \"http\"\npath = \"/\"\n"
            .to_owned();
        let mut nodes = Vec::new();
        for (number, site) in SITES.iter().enumerate() {
            let node = world.node(site).unwrap();
            world.plug(&switch, site, (&node, "eth0")).unwrap();
            node.address("eth0", &format!("{}/24", address(number))).unwrap();
            serve(node.enter(|| TcpListener::bind("0.0.0.0:80")).unwrap().unwrap());
            nodes.push(node);
        }
        fs::write(world.dir().join("steer.toml"), config + &pool_and_sites(&SITES)).unwrap();
        fs::write(world.dir().join("gossip.key"), KEY).unwrap();
        let run = |(node, site): (&Node, &str)| {
            let mut command = Command::new(steer_binary());
            command
                .args(["run", "--site", site, "--config"])
                .arg(world.dir().join("steer.toml"));
            node.spawn(command, "steer").unwrap()
        };
        let steers = nodes.iter().zip(SITES).map(run).collect();
        Self {
            _world: world,
            nodes,
            steers,
        }
    }

    fn status(&self, site: usize) -> serde_json::Value {
        let binary = steer_binary();
        let output = self.nodes[site]
            .exec(&[binary.to_str().unwrap(), "status", "--json"])
            .unwrap();
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn verdicts(&self, site: usize) -> Vec<String> {
        let status = self.status(site);
        let endpoints = status["endpoints"].as_array().cloned().unwrap_or_default();
        let verdict = |row: &serde_json::Value| row["verdict"].as_str().unwrap_or_default().to_owned();
        endpoints.iter().map(verdict).collect()
    }

    /// Lines of the log of a site that tell of a verdict on the endpoint of another, or of its own.
    fn changes(&self, site: usize, of: usize) -> Vec<String> {
        let log = [self.steers[site].stdout(), self.steers[site].stderr()]
            .map(|path| fs::read_to_string(path).unwrap());
        let tells = |line: &&str| line.contains("verdict changed") && line.contains(&address(of));
        log.iter()
            .flat_map(|log| log.lines())
            .filter(tells)
            .map(str::to_owned)
            .collect()
    }

    /// Loses 30 of 100 packets that match, at random.
    fn lose(&self, site: usize, what: &str) {
        let rule = format!("{what} numgen random mod 100 < 30 counter drop");
        let commands = [
            "add table inet lossy".to_owned(),
            "add chain inet lossy out { type filter hook output priority 0; }".to_owned(),
            "add chain inet lossy in { type filter hook input priority 0; }".to_owned(),
            format!("add rule inet lossy {rule}"),
        ];
        for command in commands {
            let output = self.nodes[site].exec(&["nft", &command]).unwrap();
            assert!(output.status.success(), "{command}: {output:?}");
        }
    }

    fn lost(&self, site: usize) -> u64 {
        let output = self.nodes[site]
            .exec(&["nft", "list", "table", "inet", "lossy"])
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let counts = text.split("counter packets ").skip(1);
        counts
            .filter_map(|rest| rest.split_whitespace().next()?.parse::<u64>().ok())
            .sum()
    }

    fn heal(&self, site: usize) {
        let output = self.nodes[site]
            .exec(&["nft", "delete table inet lossy"])
            .unwrap();
        assert!(output.status.success(), "{output:?}");
    }

    /// For so long nobody may change the verdict on the endpoint that one site sees badly; how often that one said down.
    fn nothing_changes_for(&self, time: Duration) -> usize {
        let before: Vec<_> = (0..SITES.len())
            .map(|site| self.changes(site, SEEN).len())
            .collect();
        let start = Instant::now();
        let (mut votes, mut said) = (0, false);
        while start.elapsed() < time {
            for site in [0, LOSSY] {
                assert_eq!(
                    self.verdicts(site)[SEEN],
                    "up",
                    "{} {:?}",
                    SITES[site],
                    start.elapsed()
                );
            }
            let status = self.status(0);
            let rows = status["gossip"]["votes"].as_array().cloned().unwrap_or_default();
            let says = rows
                .iter()
                .any(|row| row["site"] == SITES[SEEN] && row["down"] == 1);
            votes += usize::from(says && !said);
            said = says;
            std::thread::sleep(Duration::from_millis(200));
        }
        let after: Vec<_> = (0..SITES.len())
            .map(|site| self.changes(site, SEEN).len())
            .collect();
        assert_eq!(after, before, "no site changes its verdict");
        votes
    }
}

#[test]
fn thirty_percent_of_probes_lost_at_one_vantage_point_take_nothing_down() {
    if let Err(why) = netns::can_run() {
        skip("thirty_percent_of_probes", &why);
        return;
    }
    let fleet = Fleet::new();
    let start = Instant::now();
    let up = vec!["up"; SITES.len()];
    while !(0..SITES.len()).all(|site| fleet.verdicts(site) == up) {
        assert!(start.elapsed() < PATIENCE, "{:?}", fleet.verdicts(0));
        std::thread::sleep(Duration::from_millis(50));
    }

    // A lost SYN is sent again after a second, when the probe's time is over: three probes of ten fail.
    let syn = "tcp flags & (syn | ack) == syn";
    let to = |of: usize| format!("out ip daddr {} tcp dport 80 {syn}", address(of));
    fleet.lose(LOSSY, &to(SEEN));
    fleet.lose(ALONE, &to(ALONE));
    let own_before = fleet.changes(ALONE, ALONE).len();
    let others_before: Vec<_> = (0..3).map(|site| fleet.changes(site, ALONE).len()).collect();
    let votes = fleet.nothing_changes_for(Duration::from_secs(120));
    println!(
        "30 % of probes lost at {} for 120 s ({} of them): no verdict changed; it voted down {votes} times",
        SITES[LOSSY],
        fleet.lost(LOSSY)
    );
    println!(
        "30 % of probes lost at {} to its own endpoint ({}): its own verdict changed {} times",
        SITES[ALONE],
        fleet.lost(ALONE),
        fleet.changes(ALONE, ALONE).len() - own_before
    );
    let others_after: Vec<_> = (0..3).map(|site| fleet.changes(site, ALONE).len()).collect();
    assert_eq!(
        others_after, others_before,
        "what a site thinks of its own is one vote for the others"
    );
    fleet.heal(ALONE);

    // Now three of ten packets, each way, of everything between the two: few probes pass at all.
    fleet.heal(LOSSY);
    fleet.lose(LOSSY, &format!("out ip daddr {}", address(SEEN)));
    fleet.lose(LOSSY, &format!("in ip saddr {}", address(SEEN)));
    let votes = fleet.nothing_changes_for(Duration::from_secs(60));
    println!(
        "30 % of packets lost each way between {} and {} for 60 s ({} packets): no verdict changed; {votes} votes down",
        SITES[LOSSY],
        SITES[SEEN],
        fleet.lost(LOSSY)
    );
}
