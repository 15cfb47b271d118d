//! Three sites around one etcd cluster: what an operator wishes at one of them counts at all, and stands while the
//! cluster is away.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod etcd;

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use etcd::Etcd;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use steer_tests::dns::Question;
use steer_tests::{Admin, Steer, free_port, served, skip};

const SITES: [&str; 3] = ["fra", "nrt", "jfk"];

/// Where the endpoint of a site is.
fn address(site: &str) -> IpAddr {
    let index = SITES.iter().position(|known| *known == site).unwrap();
    IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1 + u8::try_from(index).unwrap()))
}

/// So soon is at all sites what was wished at one.
const SOON: Duration = Duration::from_secs(2);

/// So long must hold what is to hold.
const HOLD: Duration = Duration::from_secs(5);

/// An endpoint that is up until the test ends. Three sites probe it, so the line of those who wait for `accept` would
/// be full before that.
fn endpoint(address: IpAddr) -> SocketAddr {
    let listener = TcpListener::bind((address, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || listener.incoming().for_each(drop));
    address
}

/// One process, in a folder of its own.
struct Site {
    name: &'static str,
    folder: PathBuf,
    dns: SocketAddr,
    admin: Admin,
    steer: Option<Steer>,
}

impl Site {
    fn start(&mut self) {
        self.steer = Some(Steer::start(&self.folder, &["run", "--site", self.name]));
    }

    fn answer(&self) -> Option<IpAddr> {
        let question = Question::new("www.example.com.", RecordType::A);
        let answer = question.ask(self.dns, Duration::from_millis(200))?;
        answer.addresses().first().copied()
    }

    fn until_answer(&mut self, site: &str) {
        let want = address(site);
        let (dns, name) = (self.dns, self.name);
        let question = Question::new("www.example.com.", RecordType::A);
        self.steer()
            .until(&format!("{site} as the answer of {name}"), |_| {
                let answer = question.ask(dns, Duration::from_millis(200))?;
                (answer.addresses().first() == Some(&want)).then_some(())
            });
    }

    fn steer(&mut self) -> &mut Steer {
        self.steer.as_mut().unwrap()
    }

    fn drains(&self) -> Vec<String> {
        let status = self.admin.json(&["status"]);
        let drains = status["drains"].as_array().unwrap().iter();
        drains
            .map(|drain| drain["target"].as_str().unwrap().to_owned())
            .collect()
    }

    fn until_store(&mut self, is_lost: bool) {
        let (admin, name) = (self.admin, self.name);
        self.steer()
            .until(&format!("{name} with a store that is lost: {is_lost}"), |_| {
                let status = admin.json(&["status"]);
                (status["store"]["lost"].is_null() != is_lost).then_some(())
            });
    }
}

/// The cluster, and three sites.
struct World {
    _folder: tempfile::TempDir,
    etcd: Etcd,
    sites: Vec<Site>,
}

impl World {
    /// Started and settled; every site answers with fra. `None` where there is no etcd.
    fn start(test: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let etcd = match Etcd::start(&folder.path().join("etcd"), 3) {
            Ok(etcd) => etcd,
            Err(why) => {
                skip(test, &why);
                return None;
            }
        };
        let endpoints = SITES.map(|site| endpoint(address(site)));
        let sites = SITES.map(|name| Self::site(folder.path(), name, &etcd, &endpoints));
        let mut world = Self {
            _folder: folder,
            etcd,
            sites: sites.into(),
        };
        world.sites.iter_mut().for_each(Site::start);
        for site in &mut world.sites {
            site.steer().until("the first round of checks", |steer| {
                steer
                    .log()
                    .contains("first round of checks is over")
                    .then_some(())
            });
            site.until_answer("fra");
            site.until_store(false);
        }
        Some(world)
    }

    fn site(folder: &Path, name: &'static str, etcd: &Etcd, endpoints: &[SocketAddr]) -> Site {
        let folder = folder.join(name);
        fs::create_dir(&folder).unwrap();
        let (dns, admin) = (free_port(), free_port());
        let sites: String = SITES
            .iter()
            .map(|site| format!("[[site]]\nname = \"{site}\"\n"))
            .collect();
        let list: Vec<_> = SITES
            .iter()
            .zip(endpoints)
            .map(|(site, address)| format!("{{ site = \"{site}\", address = \"{address}\" }}"))
            .collect();
        let config = format!(
            r#"
[fleet]
store = "etcd://{}"
etcd = {{ cache = "state/etcd.redb" }}
guard = {{ max_withdrawn = 9 }}
{sites}
[[check]]
name = "web"
kind = "tcp"
interval = "500ms"
timeout = "250ms"
[[pool]]
name = "web"
check = "web"
endpoints = [ {} ]
"#,
            etcd.members().join(","),
            list.join(", "),
        );
        let config = config + &served::www(dns, admin);
        fs::write(folder.join("steer.toml"), config).unwrap();
        served::write_zone(&folder).unwrap();
        Site {
            name,
            folder,
            dns,
            admin: Admin(admin),
            steer: None,
        }
    }

    /// At every site at every look, for `time`: clients get `site`, and `drained` is drained.
    fn holds(&self, site: &str, drained: &[&str], time: Duration) {
        let end = Instant::now() + time;
        while Instant::now() < end {
            for one in &self.sites {
                assert_eq!(one.answer(), Some(address(site)), "at {}", one.name);
                assert_eq!(one.drains(), drained, "at {}", one.name);
            }
        }
    }

    fn until_all_answer(&mut self, site: &str) -> Duration {
        let wished = Instant::now();
        self.sites.iter_mut().for_each(|one| one.until_answer(site));
        wished.elapsed()
    }
}

#[test]
fn etcd_killed_during_a_drain_and_the_drain_holds_everywhere() {
    let Some(mut world) = World::start("etcd_killed_during_a_drain_and_the_drain_holds_everywhere") else {
        return;
    };
    let said = world.sites[1]
        .admin
        .done(&["drain", "fra", "--reason", "kernel update", "--author", "ana"]);
    assert!(said.contains("survives a restart"), "{said}");
    let took = world.until_all_answer("nrt");
    assert!(took < SOON, "at all sites after {took:?}");
    world.holds("nrt", &["fra"], Duration::from_millis(200));

    world.etcd.kill();
    world.sites.iter_mut().for_each(|site| site.until_store(true));
    world.holds("nrt", &["fra"], HOLD);
    let status = world.sites[2].admin.done(&["status"]);
    for part in ["store: etcd cluster", "away, last heard", "nothing can be wished"] {
        assert!(status.contains(part), "{status}");
    }
    let refusal = [
        "the store of the fleet is away",
        "what stands goes on standing everywhere",
    ];
    world.sites[0].admin.refused(&["undrain", "fra"], 1, &refusal);
    world.sites[0].admin.refused(&["drain", "nrt"], 1, &refusal);
    world.holds("nrt", &["fra"], Duration::from_millis(500));

    let jfk = &mut world.sites[2];
    jfk.steer().signal(Signal::SIGKILL);
    let _ = jfk.steer.take().unwrap().wait();
    jfk.start();
    let (question, dns) = (Question::new("www.example.com.", RecordType::A), jfk.dns);
    let first = jfk.steer().until("the first answer after the crash", |_| {
        let answer = question.ask(dns, Duration::from_millis(200))?;
        answer.addresses().first().copied()
    });
    assert_eq!(first, address("nrt"), "not one client is sent to fra");
    jfk.until_store(true);
    world.holds("nrt", &["fra"], Duration::from_secs(1));

    world.etcd.run();
    world.sites.iter_mut().for_each(|site| site.until_store(false));
    world.holds("nrt", &["fra"], Duration::from_millis(500));
    world.sites[2].admin.done(&["undrain", "fra"]);
    let took = world.until_all_answer("fra");
    assert!(took < SOON, "at all sites after {took:?}");
    world.holds("fra", &[], Duration::from_millis(200));
    for site in &mut world.sites {
        let finished = site.steer.take().unwrap().stop();
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        let away = finished.stderr.matches("the store of the fleet is away").count();
        assert_eq!(away, 1, "said once: {}", finished.stderr);
    }
}

#[test]
fn a_verdict_forced_at_one_site_counts_at_all() {
    let Some(mut world) = World::start("a_verdict_forced_at_one_site_counts_at_all") else {
        return;
    };
    let [fra, nrt, jfk] = [0, 1, 2].map(|index| world.sites[index].admin);
    let said = nrt.done(&[
        "force-down",
        "web@fra",
        "--for",
        "1h",
        "--reason",
        "wrong data",
        "--author",
        "ana",
    ]);
    for part in [
        "@fra is forced down until ",
        "whatever its checks say",
        "survives a restart",
    ] {
        assert!(said.contains(part), "{said}");
    }
    let took = world.until_all_answer("nrt");
    assert!(took < SOON, "at all sites after {took:?}");
    let status = jfk.json(&["status"]);
    assert_eq!(status["forces"][0]["to"], "down");
    assert_eq!(status["endpoints"][0]["verdict"], "down");
    let cause = status["endpoints"][0]["cause"].as_str().unwrap();
    assert!(
        cause.starts_with("forced down: wrong data, by ana, until 2"),
        "{cause}"
    );
    assert!(cause.contains("; the checks say up"), "{cause}");
    let explained = fra.done(&["explain", "--client", "192.0.2.7", "--name", "www.example.com"]);
    assert!(
        explained.contains("forced down: wrong data, by ana"),
        "{explained}"
    );

    fra.done(&["force-down", "web@nrt"]);
    world.until_all_answer("jfk");
    let last = [
        "forcing down",
        "@jfk would leave 0 of 3 sites of pool web",
        "--force",
    ];
    fra.refused(&["force-down", "web@jfk"], 1, &last);
    fra.refused(&["unforce", "jfk"], 2, &["nothing is forced for jfk"]);
    let forced = fra.json(&["force-up", "web@fra"]);
    assert_eq!(forced["force"]["to"], "up");
    world.until_all_answer("fra");
    jfk.done(&["unforce", "web@fra"]);
    jfk.done(&["unforce", "web@nrt"]);
    world.until_all_answer("fra");
    for site in &mut world.sites {
        assert_eq!(
            site.admin.json(&["status"])["forces"].as_array().unwrap().len(),
            0
        );
        assert_eq!(site.steer.take().unwrap().stop().status.code(), Some(0));
    }
}
