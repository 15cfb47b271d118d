//! A restart while an endpoint is down: seconds later it is still known, and later it is not.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::time::{Duration, Instant};

use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use steer_tests::dns::Question;
use steer_tests::{Admin, Steer, free_port, served};

const FRA: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const NRT: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));

/// Older is unknown: `steer_health::memory::USABLE`, and some.
const TOO_OLD: Duration = Duration::from_secs(11);

/// The first round takes at most `fall` x the interval of 1 s, and some.
const ROUND: Duration = Duration::from_secs(6);

/// Two sites, of which fra is preferred and can be taken down.
struct Fleet {
    folder: tempfile::TempDir,
    dns: SocketAddr,
    admin: Admin,
    fra: SocketAddr,
    _nrt: TcpListener,
}

impl Fleet {
    /// fra answers as long as the listener lives.
    fn new() -> (Self, TcpListener) {
        let folder = tempfile::tempdir().unwrap();
        // The kernel completes connections without anybody calling accept.
        let [fra, nrt] = [FRA, NRT].map(|address| TcpListener::bind((address, 0)).unwrap());
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
interval = "1s"
[[pool]]
name = "web"
check = "web"
endpoints = [ {{ site = "fra", address = "{}" }}, {{ site = "nrt", address = "{}" }} ]
"#,
            fra.local_addr().unwrap(),
            nrt.local_addr().unwrap(),
        );
        let config = config + &served::www(dns, admin);
        fs::write(folder.path().join("steer.toml"), config).unwrap();
        served::write_zone(folder.path()).unwrap();
        let fleet = Self {
            folder,
            dns,
            admin: Admin(admin),
            fra: fra.local_addr().unwrap(),
            _nrt: nrt,
        };
        (fleet, fra)
    }

    fn start(&self) -> Steer {
        Steer::start(self.folder.path(), &["run", "--site", "fra"])
    }

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

    /// Runs until fra is out of service, and what is out is on the disk.
    fn fra_goes_down(&self, listener: TcpListener) -> Steer {
        let mut steer = self.start();
        self.until_answer(&mut steer, FRA);
        steer.until("the first round of checks", |steer| {
            steer
                .log()
                .contains("first round of checks is over")
                .then_some(())
        });
        drop(listener);
        self.until_answer(&mut steer, NRT);
        let file = self.folder.path().join("state/steer.redb.verdicts");
        steer.until("the memory of it", |_| {
            let text = fs::read_to_string(&file).ok()?;
            text.contains(&self.fra.to_string()).then_some(())
        });
        steer
    }
}

#[test]
fn an_endpoint_that_was_down_seconds_before_a_restart_is_never_answered_after_it() {
    let (fleet, listener) = Fleet::new();
    let mut steer = fleet.fra_goes_down(listener);
    for orderly in [false, true] {
        if orderly {
            assert_eq!(steer.stop().status.code(), Some(0));
        } else {
            steer.signal(Signal::SIGKILL);
            let _ = steer.wait();
        }
        steer = fleet.start();
        steer.until("the first answer", |_| fleet.answer());
        let end = Instant::now() + ROUND;
        let mut before_the_round = 0;
        while Instant::now() < end {
            assert_eq!(fleet.answer(), Some(NRT));
            let status = fleet.admin.json(&["status"]);
            if status["settled"] == false {
                before_the_round += 1;
                let cause = status["endpoints"][0]["cause"].as_str().unwrap();
                assert!(cause.ends_with("(before the restart)"), "{cause}");
            }
        }
        assert!(
            before_the_round > 0,
            "the first round was over before anybody looked"
        );
    }
    let back = TcpListener::bind(fleet.fra).unwrap();
    fleet.until_answer(&mut steer, FRA);
    drop(back);
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn an_endpoint_that_was_down_longer_ago_is_unknown_after_a_restart() {
    let (fleet, listener) = Fleet::new();
    let steer = fleet.fra_goes_down(listener);
    let stopped = Instant::now();
    assert_eq!(steer.stop().status.code(), Some(0));
    // Nothing can be waited for: it is time itself that makes a memory old.
    std::thread::sleep(TOO_OLD.saturating_sub(stopped.elapsed()) + Duration::from_secs(1));
    let mut steer = fleet.start();
    let first = steer.until("the first answer", |_| fleet.answer());
    assert_eq!(first, FRA, "unknown counts as serving");
    steer.until("the word that the memory is too old", |steer| {
        steer.log().contains("too old").then_some(())
    });
    fleet.until_answer(&mut steer, NRT);
    assert_eq!(steer.stop().status.code(), Some(0));
}
