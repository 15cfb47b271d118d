//! An operator drains a site: clients go elsewhere, a crash does not undo it, and it ends by itself.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use steer_tests::dns::Question;
use steer_tests::{Admin, Steer, free_port, served};

const FRA: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const NRT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Two sites that answer their checks, and a steer in front of them that prefers fra.
struct Fleet {
    folder: tempfile::TempDir,
    dns: SocketAddr,
    admin: Admin,
    _endpoints: [TcpListener; 2],
}

impl Fleet {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        // The kernel completes connections without anybody calling accept.
        let endpoints = [FRA, NRT].map(|address| TcpListener::bind((address, 0)).unwrap());
        let [fra, nrt] = [&endpoints[0], &endpoints[1]].map(|endpoint| endpoint.local_addr().unwrap());
        let (dns, admin) = (free_port(), free_port());
        let config = format!(
            r#"
[fleet]
store = "embedded:state/steer.redb"
[[site]]
name = "fra"
[[site]]
name = "nrt"
[[check]]
name = "web"
kind = "tcp"
interval = "100ms"
timeout = "50ms"
[[pool]]
name = "web"
check = "web"
endpoints = [ {{ site = "fra", address = "{fra}" }}, {{ site = "nrt", address = "{nrt}" }} ]
"#
        );
        let config = config + &served::www(dns, admin);
        fs::write(folder.path().join("steer.toml"), config).unwrap();
        served::write_zone(folder.path()).unwrap();
        Self {
            folder,
            dns,
            admin: Admin(admin),
            _endpoints: endpoints,
        }
    }

    fn start(&self) -> Steer {
        Steer::start(self.folder.path(), &["run", "--site", "fra"])
    }

    /// The one address that a client gets, if it gets an answer.
    fn answer(&self) -> Option<IpAddr> {
        let question = Question::new("www.example.com.", RecordType::A);
        let answer = question.ask(self.dns, Duration::from_millis(200))?;
        answer.addresses().first().copied()
    }

    fn until_answer(&self, steer: &mut Steer, want: IpAddr) {
        steer.until(&format!("the answer {want}"), |_| {
            (self.answer() == Some(want)).then_some(())
        });
    }

    fn until_settled(&self, steer: &mut Steer) {
        steer.until("the first round of checks", |steer| {
            steer
                .log()
                .contains("first round of checks is over")
                .then_some(())
        });
    }

    fn drains(&self) -> Vec<String> {
        let status = self.admin.json(&["status"]);
        let drains = status["drains"].as_array().unwrap().iter();
        drains
            .map(|drain| drain["target"].as_str().unwrap().to_owned())
            .collect()
    }
}

#[test]
fn a_drain_moves_clients_survives_kill_9_and_ends_at_its_time() {
    const TIME: Duration = Duration::from_secs(10);
    let fleet = Fleet::new();
    let mut steer = fleet.start();
    fleet.until_settled(&mut steer);
    fleet.until_answer(&mut steer, FRA);

    let wished = Instant::now();
    let said = fleet.admin.done(&[
        "drain",
        "fra",
        "--for",
        "10s",
        "--reason",
        "kernel update",
        "--author",
        "ana",
    ]);
    let stands = Instant::now();
    for part in ["fra is drained until ", "(in ", "survives a restart"] {
        assert!(said.contains(part), "{said}");
    }
    fleet.until_answer(&mut steer, NRT);
    let explained = fleet
        .admin
        .done(&["explain", "--client", "192.0.2.7", "--name", "www.example.com"]);
    assert!(
        explained.contains("drained: kernel update, by ana, until 2"),
        "{explained}"
    );
    let status = fleet.admin.done(&["status"]);
    assert!(
        status.contains("kernel update") && status.contains("drained"),
        "{status}"
    );
    assert!(fleet.folder.path().join("state/steer.redb").exists());

    steer.signal(Signal::SIGKILL);
    let _ = steer.wait();
    let mut steer = fleet.start();
    let first = steer.until("the first answer after the crash", |_| fleet.answer());
    assert_eq!(first, NRT, "not one client is sent to fra");
    let back = steer.until("the end of the drain", |_| {
        fleet
            .answer()
            .filter(|address| *address == FRA)
            .map(|_| Instant::now())
    });
    assert!(back >= wished + TIME, "back {:?} after the wish", back - wished);
    assert!(
        back <= stands + TIME + Duration::from_secs(2),
        "back {:?} late",
        back - stands - TIME
    );
    assert_eq!(fleet.drains(), [""; 0]);
    assert_eq!(steer.stop().status.code(), Some(0));

    let mut steer = fleet.start();
    fleet.until_settled(&mut steer);
    assert_eq!(fleet.drains(), [""; 0], "what ended is not kept");
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn an_undrain_brings_clients_back_and_stays_after_kill_9() {
    let fleet = Fleet::new();
    let mut steer = fleet.start();
    fleet.until_settled(&mut steer);
    fleet.admin.done(&["drain", "fra"]);
    fleet.until_answer(&mut steer, NRT);
    let said = fleet.admin.done(&["undrain", "fra"]);
    assert!(said.starts_with("fra is drained no more"), "{said}");
    fleet.until_answer(&mut steer, FRA);
    steer.signal(Signal::SIGKILL);
    let _ = steer.wait();
    let mut steer = fleet.start();
    fleet.until_settled(&mut steer);
    assert_eq!(fleet.drains(), [""; 0]);
    fleet.until_answer(&mut steer, FRA);
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn what_the_guard_or_the_fleet_forbids_is_said_with_its_numbers_and_an_exit_code() {
    let fleet = Fleet::new();
    let mut steer = fleet.start();
    fleet.until_settled(&mut steer);
    fleet.admin.done(&["drain", "fra"]);
    let last = [
        "draining nrt would leave 0 of 2 sites of pool web",
        "keep_sites is 1",
        "--force",
    ];
    fleet.admin.refused(&["drain", "nrt"], 1, &last);
    fleet
        .admin
        .refused(&["drain", "frx"], 2, &["frx", "sites are fra, nrt"]);
    fleet.admin.refused(
        &["drain", "fra", "--for", "2"],
        2,
        &["--for", "for example 30m or 2h"],
    );
    fleet
        .admin
        .refused(&["undrain", "nrt"], 2, &["nrt is not drained"]);
    fleet.until_answer(&mut steer, NRT);
    let forced = fleet.admin.json(&["drain", "nrt", "--force"]);
    assert_eq!(forced["target"], "nrt");
    assert_eq!(forced["kept"], true);
    let finished = steer.stop();
    assert!(finished.stderr.contains("guard overruled"), "{}", finished.stderr);
}

#[test]
fn a_store_that_cannot_be_read_stops_the_start_and_is_named_with_a_remedy() {
    let fleet = Fleet::new();
    let run = |folder: &Path| Steer::finish(folder, &["run", "--site", "fra"]);
    let state = fleet.folder.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::write(state.join("steer.redb"), "no store at all").unwrap();
    let finished = run(fleet.folder.path());
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    for part in ["state/steer.redb", "it is no store", "move the file away"] {
        assert!(finished.stderr.contains(part), "{}", finished.stderr);
    }
    fs::remove_dir_all(&state).unwrap();
    fs::write(&state, "no folder").unwrap();
    let finished = run(fleet.folder.path());
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("name another file"),
        "{}",
        finished.stderr
    );
    assert!(!finished.stderr.contains("steer started"), "{}", finished.stderr);
}

#[test]
fn a_second_steer_with_the_same_store_does_not_start() {
    let fleet = Fleet::new();
    let mut steer = fleet.start();
    fleet.until_settled(&mut steer);
    let config = fs::read_to_string(fleet.folder.path().join("steer.toml")).unwrap();
    let config = config
        .replace(&fleet.dns.to_string(), &free_port().to_string())
        .replace(&fleet.admin.0.to_string(), &free_port().to_string());
    fs::write(fleet.folder.path().join("second.toml"), config).unwrap();
    let args = ["run", "--site", "fra", "--config", "../second.toml"];
    let folder = fleet.folder.path().join("second");
    fs::create_dir(&folder).unwrap();
    let finished = Steer::finish(&folder, &args);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(
        finished.stderr.contains("another process has it open"),
        "{}",
        finished.stderr
    );
    assert_eq!(steer.stop().status.code(), Some(0));
}
