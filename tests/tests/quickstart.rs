//! The front door: `steer quickstart`, as a new user meets it.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::net::{IpAddr, SocketAddr, TcpListener};
use std::time::Duration;

use hickory_proto::rr::RecordType;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use steer_tests::dns::{Answer, Question};
use steer_tests::{Steer, free_port};
use steer_topology::{Classes, Fleet, Geography, Resolve};

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }
}

const LONDON: &str = "81.2.69.0";
const TOKYO: &str = "133.11.0.0";

/// The first of three free ports in a row.
fn three_ports() -> u16 {
    for _ in 0..64 {
        let first = free_port().port();
        let free = |port: u16| TcpListener::bind(("127.0.0.1", port)).is_ok();
        if first < 65_000 && free(first + 1) && free(first + 2) {
            return first;
        }
    }
    unreachable!("no three free ports in a row")
}

fn ask(dns: SocketAddr, subnet: &str) -> Option<Answer> {
    let subnet: IpAddr = subnet.parse().unwrap();
    Question::new("www.example.com.", RecordType::A)
        .from_subnet(subnet, 24)
        .ask(dns, Duration::from_millis(500))
}

fn address_of(dns: SocketAddr, subnet: &str) -> Option<String> {
    Some(ask(dns, subnet)?.addresses().first()?.to_string())
}

/// The pid in the copy-and-paste line that kills the endpoint of `site`.
fn pid_of(printed: &str, site: &str) -> Option<i32> {
    let line = printed
        .lines()
        .find(|line| line.contains(&format!("kill the endpoint of {site} ")))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// The scope that the shipped database gives a client of a fleet in Frankfurt, Washington and Tokyo.
fn right_scope(subnet: &str) -> u8 {
    let text = "[[site]]\nname = \"fra\"\n[[site]]\nname = \"iad\"\n[[site]]\nname = \"nrt\"\n";
    let fleet = Fleet::parse(text, std::path::Path::new("steer.toml"), &NoNames).unwrap();
    let classes = Classes::build(&Geography::built_in().unwrap(), &fleet.sites).unwrap();
    classes.find(subnet.parse().unwrap()).scope
}

#[test]
fn answer_and_route_change_together_when_an_endpoint_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let (dns, admin, monitor) = (free_port(), free_port(), free_port());
    let (dns_text, admin_text, monitor_text) = (dns.to_string(), admin.to_string(), monitor.to_string());
    let endpoints = three_ports().to_string();
    let mut steer = Steer::start(
        folder.path(),
        &[
            "quickstart",
            "--dns",
            &dns_text,
            "--admin",
            &admin_text,
            "--monitor",
            &monitor_text,
            "--endpoints",
            &endpoints,
        ],
    );
    steer.until("three routes", |steer| {
        (steer.printed().matches("+ 192.0.2.53/32 from").count() == 3).then_some(())
    });
    let explain = |client: &str| {
        let args = [
            "explain",
            "--admin",
            &admin_text,
            "--client",
            client,
            "--name",
            "www.example.com",
        ];
        let finished = Steer::finish(tempfile::tempdir().unwrap().path(), &args);
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
        finished.stdout
    };

    for (subnet, address) in [(LONDON, "198.51.100.10"), (TOKYO, "203.0.113.30")] {
        let answer = ask(dns, subnet).unwrap();
        assert_eq!(answer.addresses(), [address.parse::<IpAddr>().unwrap()]);
        assert_eq!(answer.scope(), Some(right_scope(subnet)), "{subnet}");
    }
    let before = explain("133.11.0.1");
    assert!(before.contains("nrt 203.0.113.30:80  up"), "{before}");

    let pid = steer.until("the kill line", |steer| pid_of(&steer.printed(), "nrt"));
    kill(Pid::from_raw(pid), Signal::SIGTERM).unwrap();
    steer.until("the end of the endpoint", |steer| {
        steer.printed().contains("nrt (pid").then_some(())
    });
    steer.until("the withdraw", |steer| {
        steer.printed().contains("- 192.0.2.53/32 from nrt").then_some(())
    });
    steer.until("the other answer", |_| {
        (address_of(dns, TOKYO)? == "198.51.100.10").then_some(())
    });
    assert_eq!(address_of(dns, LONDON).unwrap(), "198.51.100.10");
    let after = explain("133.11.0.1");
    assert!(
        after.contains("connection refused") && after.contains("out of service"),
        "{after}"
    );

    let elsewhere = tempfile::tempdir().unwrap();
    let status = Steer::finish(elsewhere.path(), &["status", "--admin", &admin_text, "--json"]);
    let status: serde_json::Value = serde_json::from_str(&status.stdout).unwrap();
    assert_eq!(status["endpoints"][2]["verdict"], "down");
    assert_eq!(
        status["bgp"][2]["peers"][0]["routes"]["192.0.2.53/32"]["announced"],
        false
    );
    assert_eq!(
        status["bgp"][0]["peers"][0]["routes"]["192.0.2.53/32"]["announced"],
        true
    );

    let finished = steer.stop();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    for port in 0..3 {
        let port = endpoints.parse::<u16>().unwrap() + port;
        let gone = || TcpListener::bind(("127.0.0.1", port)).is_ok();
        assert!(
            (0..1000).any(|_| gone() || {
                std::thread::sleep(Duration::from_millis(2));
                false
            }),
            "port {port}"
        );
    }
}

#[test]
fn a_port_in_use_is_named_and_no_endpoint_is_left() {
    let folder = tempfile::tempdir().unwrap();
    let held = TcpListener::bind("127.0.0.1:0").unwrap();
    let monitor = held.local_addr().unwrap().to_string();
    let (dns, admin, endpoints) = (free_port().to_string(), free_port().to_string(), three_ports());
    let finished = Steer::finish(
        folder.path(),
        &[
            "quickstart",
            "--dns",
            &dns,
            "--admin",
            &admin,
            "--monitor",
            &monitor,
            "--endpoints",
            &endpoints.to_string(),
        ],
    );
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains(&monitor), "{}", finished.stderr);
    assert!(TcpListener::bind(("127.0.0.1", endpoints)).is_ok());
}
