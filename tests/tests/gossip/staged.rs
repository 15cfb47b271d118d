//! Three sites in namespaces with one file for all: a file that does harm stops at the first site, and a good one reaches all in order.
//!
//! On 2025-07-14 one push of a configuration took a prefix from all sites at once.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use steer_labs::netns::{self, Node, Proc, World};
use steer_tests::{skip, steer_binary};

use crate::{KEY, address, pool_and_sites};

const SITES: [&str; 3] = ["ams", "fra", "lhr"];
const PATIENCE: Duration = Duration::from_secs(90);

struct Fleet {
    world: World,
    nodes: Vec<Node>,
    steers: Vec<Proc>,
}

/// 200 for `/healthz`, 404 for anything else.
fn answer(mut stream: TcpStream) {
    let mut request = [0; 1024];
    let length = stream.read(&mut request).unwrap_or(0);
    let is_good = request[..length].starts_with(b"GET /healthz ");
    let status = if is_good { "200 OK" } else { "404 Not Found" };
    let _ = write!(
        stream,
        "HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
    );
}

fn serve(listener: TcpListener) {
    std::thread::spawn(move || listener.incoming().flatten().for_each(answer));
}

fn config(path: &str, fall: u8) -> String {
    let check = format!(
        "[fleet]\ngossip = {{ key_file = \"gossip.key\", staged = \"3s\" }}\n[admin]\n\
         [[check]]\nname = \"web\"\nkind = \"http\"\npath = \"{path}\"\ninterval = \"200ms\"\ntimeout = \"150ms\"\nfall = {fall}\n"
    );
    check + &pool_and_sites(&SITES)
}

impl Fleet {
    fn new() -> Self {
        let world = World::new("staged").unwrap();
        let switch = world.switch("switch").unwrap();
        fs::write(world.dir().join("steer.toml"), config("/healthz", 3)).unwrap();
        fs::write(world.dir().join("gossip.key"), KEY).unwrap();
        let mut nodes = Vec::new();
        for (number, site) in SITES.iter().enumerate() {
            let node = world.node(site).unwrap();
            world.plug(&switch, site, (&node, "eth0")).unwrap();
            node.address("eth0", &format!("{}/24", address(number))).unwrap();
            serve(node.enter(|| TcpListener::bind("0.0.0.0:80")).unwrap().unwrap());
            nodes.push(node);
        }
        let start = |(node, site): (&Node, &str)| {
            let mut command = Command::new(steer_binary());
            command
                .args(["run", "--site", site, "--config"])
                .arg(world.dir().join("steer.toml"));
            node.spawn(command, "steer").unwrap()
        };
        let steers = nodes.iter().zip(SITES).map(start).collect();
        Self { world, nodes, steers }
    }

    fn write(&self, text: &str) {
        fs::write(self.world.dir().join("steer.toml"), text).unwrap();
    }

    fn steer(&self, site: usize, arguments: &[&str]) -> String {
        let binary = steer_binary();
        let command: Vec<_> = std::iter::once(binary.to_str().unwrap())
            .chain(arguments.iter().copied())
            .collect();
        let output = self.nodes[site].exec(&command).unwrap();
        [output.stdout, output.stderr]
            .map(|text| String::from_utf8(text).unwrap())
            .concat()
    }

    fn status(&self, site: usize) -> serde_json::Value {
        serde_json::from_str(&self.steer(site, &["status", "--json"])).unwrap_or_default()
    }

    fn log(&self, site: usize) -> String {
        [self.steers[site].stdout(), self.steers[site].stderr()]
            .map(|path| fs::read_to_string(path).unwrap())
            .concat()
    }

    /// All see all up, and each other.
    fn is_well(&self) -> bool {
        (0..SITES.len()).all(|site| {
            let status = self.status(site);
            let rows = |rows: &serde_json::Value| rows.as_array().cloned().unwrap_or_default();
            let (endpoints, members) = (rows(&status["endpoints"]), rows(&status["gossip"]["members"]));
            let up =
                |rows: &[serde_json::Value], key: &str| rows.iter().filter(|row| row[key] == "up").count();
            (up(&endpoints, "verdict"), up(&members, "state")) == (3, 2)
        })
    }

    fn stages(&self, site: usize) -> Vec<String> {
        let status = self.status(site);
        let rows = status["gossip"]["rollouts"]
            .as_array()
            .cloned()
            .unwrap_or_default();
        let stage = |row: &serde_json::Value| format!("{} {}", row["site"], row["stage"]).replace('"', "");
        rows.iter().map(stage).collect()
    }

    fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let start = Instant::now();
        while !holds(self) {
            assert!(
                start.elapsed() < PATIENCE,
                "{what}: {:?}\n{}",
                self.stages(0),
                self.log(0)
            );
            std::thread::sleep(Duration::from_millis(50));
        }
        println!("{what}: {:?}", start.elapsed());
    }

    fn reload_all(&self) {
        for site in 0..SITES.len() {
            let told = self.steer(site, &["reload"]);
            assert!(told.starts_with("staged: "), "{told}");
        }
    }
}

/// When a line was logged first.
fn logged_at(log: &str, what: &str) -> Option<String> {
    let line = log.lines().find(|line| line.contains(what))?;
    line.split_whitespace().next().map(str::to_owned)
}

#[test]
fn a_file_that_does_harm_stops_at_the_first_site_and_a_good_one_reaches_all_in_order() {
    if let Err(why) = netns::can_run() {
        skip("three_sites", &why);
        return;
    }
    let fleet = Fleet::new();
    fleet.until("three sites see all up", Fleet::is_well);

    fleet.write(&config("/wrong", 3));
    fleet.reload_all();
    fleet.until("ams goes back", |fleet| {
        fleet
            .log(0)
            .contains("the file does harm here: back to the one of before")
    });
    for site in [1, 2] {
        fleet.until("the others refuse the file", |fleet| {
            fleet
                .log(site)
                .contains("reload refused: ams tried it and lost web/10.0.0.1:80")
        });
        assert!(
            !fleet.log(site).contains("reload::staged: tries the file"),
            "{}",
            fleet.log(site)
        );
    }
    fleet.until("all is well again", Fleet::is_well);
    let tried: usize = (0..3)
        .map(|site| fleet.log(site).matches("reload::staged: tries the file").count())
        .sum();
    assert_eq!(tried, 1);
    let told = fleet.steer(1, &["reload"]);
    assert!(told.contains("ams tried it and lost"), "{told}");

    fleet.write(&config("/healthz", 4));
    fleet.reload_all();
    fleet.until("all found it good", |fleet| {
        fleet.stages(2) == ["ams good", "fra good", "lhr good"]
    });
    let good = |site: usize| logged_at(&fleet.log(site), "the file did well").unwrap();
    assert!(
        good(0) < good(1) && good(1) < good(2),
        "{} {} {}",
        good(0),
        good(1),
        good(2)
    );
    fleet.until("all is well", Fleet::is_well);

    fleet.write(&config("/healthz", 5));
    let told = fleet.steer(2, &["reload", "--now"]);
    assert!(told.starts_with("reloaded: another fleet"), "{told}");
}
