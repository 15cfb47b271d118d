//! Another configuration and other zones while steer runs: all or nothing, and no query is lost.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use steer_tests::dns::Question;
use steer_tests::{Admin, Steer, free_port};

const WAIT: Duration = Duration::from_secs(2);

/// One site, one endpoint that answers its checks, two zones.
struct Fleet {
    folder: tempfile::TempDir,
    dns: SocketAddr,
    admin: Admin,
    endpoint: TcpListener,
}

impl Fleet {
    fn new() -> Self {
        let fleet = Self {
            folder: tempfile::tempdir().unwrap(),
            dns: free_port(),
            admin: Admin(free_port()),
            // The kernel completes connections without anybody calling accept.
            endpoint: TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        };
        fleet.configure("");
        fleet.zone("example.com", 1, "");
        fleet.zone("example.net", 1, "");
        fleet
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn configure(&self, more: &str) {
        let Self {
            dns, admin, endpoint, ..
        } = self;
        let (admin, endpoint) = (admin.0, endpoint.local_addr().unwrap());
        let config = format!(
            r#"
[dns]
listen = ["{dns}"]
[admin]
listen = "{admin}"
[[check]]
name = "web"
kind = "tcp"
interval = "100ms"
timeout = "50ms"
[[pool]]
name = "web"
check = "web"
endpoints = [ {{ address = "{endpoint}" }} ]
[[zone]]
name = "example.com"
file = "example.com"
[[zone]]
name = "example.net"
file = "example.net"
[[steer]]
name = "www.example.com"
pool = "web"
{more}
"#
        );
        fs::write(self.path().join("steer.toml"), config).unwrap();
    }

    fn zone(&self, name: &str, serial: u32, more: &str) {
        let text = format!("@ 60 SOA ns host {serial} 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.1\n{more}");
        // As a careful operator does it: nobody sees half a file.
        let (new, file) = (self.path().join("new"), self.path().join(name));
        fs::write(&new, text).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn start(&self, args: &[&str]) -> Steer {
        let mut steer = Steer::start(self.path(), &[&["run"], args].concat());
        steer.until("the first round of checks", |steer| {
            steer
                .log()
                .contains("first round of checks is over")
                .then_some(())
        });
        steer
    }

    fn address(&self, name: &str) -> Option<IpAddr> {
        let answer = Question::new(name, RecordType::A).ask(self.dns, WAIT)?;
        answer.addresses().first().copied()
    }

    fn until_address(&self, steer: &mut Steer, name: &str, want: &str) {
        let want: IpAddr = want.parse().unwrap();
        steer.until(&format!("{name} at {want}"), |_| {
            (self.address(name) == Some(want)).then_some(())
        });
    }

    /// `steer_reloads_total{result=".."}`
    fn reloads(&self, result: &str) -> u64 {
        let metrics = http_get(self.admin.0, "/metrics");
        let label = format!("steer_reloads_total{{result=\"{result}\"}} ");
        let line = metrics.lines().find_map(|line| line.strip_prefix(&label));
        line.map_or(0, |count| count.parse().unwrap())
    }
}

fn http_get(server: SocketAddr, path: &str) -> String {
    use std::io::{Read, Write};
    let mut stream = std::net::TcpStream::connect(server).unwrap();
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    text
}

#[test]
fn a_reload_reads_what_has_changed_and_keeps_what_is_known() {
    let fleet = Fleet::new();
    let steer = fleet.start(&[]);
    let before = fleet.admin.json(&["status"]);
    fleet.zone("example.com", 2, "new 60 A 192.0.2.7\n");
    let done = fleet.admin.json(&["reload"]);
    assert_eq!(done["zones_read"], 1, "{done}");
    assert_eq!(
        (&done["zones"], &done["fleet_changed"]),
        (&2.into(), &false.into()),
        "{done}"
    );
    // The answer comes when the new tables are in force.
    assert_eq!(
        fleet.address("new.example.com."),
        Some("192.0.2.7".parse().unwrap())
    );
    let after = fleet.admin.json(&["status"]);
    assert_eq!(before["snapshot"], after["snapshot"], "no verdict was touched");
    assert_eq!(fleet.reloads("applied"), 1);
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn another_fleet_keeps_verdicts_and_takes_no_time_to_settle() {
    let fleet = Fleet::new();
    let mut steer = fleet.start(&[]);
    fleet.configure("[[steer]]\nname = \"also.example.net\"\npool = \"web\"\n");
    steer.signal(Signal::SIGHUP);
    fleet.until_address(&mut steer, "also.example.net.", "127.0.0.1");
    let status = fleet.admin.json(&["status"]);
    assert_eq!(status["settled"], true, "{status}");
    steer.until("the line in the log", |steer| {
        steer.log().contains("reloaded by=\"SIGHUP\"").then_some(())
    });
    // The checks go on: an endpoint that goes away is seen.
    drop(fleet.endpoint);
    steer.until("the endpoint is down", |steer| {
        steer.log().contains("down").then_some(())
    });
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn a_fault_anywhere_leaves_everything_as_it_was_and_is_told_with_all_others() {
    let fleet = Fleet::new();
    let steer = fleet.start(&[]);
    fleet.zone("example.com", 2, "new 60 A 192.0.2.7\n");
    fleet.zone("example.net", 2, "bad 60 A 192.0.2.256\nworse 60 AA x\n");
    fleet.admin.refused(
        &["reload"],
        2,
        &[
            "2 faults; everything stays as it was",
            "example.net:4:10: ",
            "example.net:5:10: ",
        ],
    );
    assert_eq!(
        fleet.address("new.example.com."),
        None,
        "nothing of it is applied"
    );
    fleet.configure("[nonsense]\n");
    fleet.admin.refused(&["reload"], 2, &["steer.toml", "nonsense"]);
    assert_eq!((fleet.reloads("refused"), fleet.reloads("applied")), (2, 0));
    fleet.configure("");
    fleet.zone("example.net", 3, "");
    fleet.admin.done(&["reload"]);
    assert_eq!(
        fleet.address("new.example.com."),
        Some("192.0.2.7".parse().unwrap())
    );
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn what_needs_a_restart_is_named_and_nothing_is_applied() {
    let mut fleet = Fleet::new();
    let steer = fleet.start(&[]);
    let old = fleet.dns;
    fleet.dns = free_port();
    fleet.configure("");
    fleet.dns = old;
    fleet.zone("example.com", 2, "new 60 A 192.0.2.7\n");
    let message = "`[dns] listen` has changed, which needs a restart";
    fleet.admin.refused(&["reload"], 2, &[message]);
    assert_eq!(fleet.address("new.example.com."), None);
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn a_changed_file_is_taken_where_files_are_watched() {
    let fleet = Fleet::new();
    let mut steer = fleet.start(&["--watch"]);
    fleet.zone("example.net", 2, "new 60 A 192.0.2.7\n");
    fleet.until_address(&mut steer, "new.example.net.", "192.0.2.7");
    steer.until("the line in the log", |steer| {
        steer.log().contains("reloaded by=\"watch\"").then_some(())
    });
    assert_eq!(steer.stop().status.code(), Some(0));
}

/// Asks without a pause on one socket, one question after the other.
fn load(server: SocketAddr, stop: &Arc<AtomicBool>) -> JoinHandle<Load> {
    let stop = Arc::clone(stop);
    let question = Question::new("stable.example.com.", RecordType::A);
    std::thread::spawn(move || {
        let socket = UdpSocket::bind((server.ip(), 0)).unwrap();
        socket.connect(server).unwrap();
        socket.set_read_timeout(Some(WAIT)).unwrap();
        let mut load = Load::default();
        while !stop.load(Ordering::Relaxed) {
            load.asked += 1;
            match question.ask_on(&socket) {
                None => load.lost += 1,
                Some(answer) => {
                    let rcode = answer.0.metadata.response_code;
                    load.wrong +=
                        usize::from(rcode != ResponseCode::NoError || answer.addresses().is_empty());
                }
            }
        }
        load
    })
}

#[derive(Debug, Default)]
struct Load {
    asked: usize,
    lost: usize,
    wrong: usize,
}

#[test]
fn no_query_is_lost_or_refused_while_zones_and_fleet_are_reloaded() {
    const RELOADS: u32 = 20;
    let fleet = Fleet::new();
    fleet.zone("example.com", 1, "stable 60 A 192.0.2.9\n");
    let steer = fleet.start(&[]);
    let stop = Arc::new(AtomicBool::new(false));
    let loads = [load(fleet.dns, &stop), load(fleet.dns, &stop)];
    for serial in 2..2 + RELOADS {
        fleet.zone("example.com", serial, "stable 60 A 192.0.2.9\n");
        // Every other time the fleet changes too, so that the checks start anew.
        let more = format!(
            "[[steer]]\nname = \"n{}.example.net\"\npool = \"web\"\n",
            serial / 2
        );
        fleet.configure(&more);
        fleet.admin.done(&["reload"]);
    }
    stop.store(true, Ordering::Relaxed);
    let loads = loads.map(|load| load.join().unwrap());
    println!("{RELOADS} reloads under load: {loads:?}");
    for Load { asked, lost, wrong } in loads {
        assert!(asked > 1_000, "{asked} questions are no load");
        assert_eq!((lost, wrong), (0, 0), "of {asked}");
    }
    assert_eq!(fleet.reloads("applied"), u64::from(RELOADS));
    assert_eq!(steer.stop().status.code(), Some(0));
}
