//! A minimal plain DNS server is four lines of configuration.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use steer_tests::dns::Question;
use steer_tests::{Steer, free_port, skip};

const ZONE: &str = "\
$ORIGIN example.com.
$TTL 300
@   IN SOA ns1 hostmaster 1 7200 900 1209600 60
    IN NS ns1
ns1 IN A 192.0.2.1
www IN A 192.0.2.80
";

fn minimal(folder: &Path) -> std::net::SocketAddr {
    let listen = free_port();
    let config = format!(
        "[dns]\nlisten = [\"{listen}\"]\n[[zone]]\nname = \"example.com.\"\nfile = \"example.com.zone\"\n"
    );
    fs::write(folder.join("steer.toml"), config).unwrap();
    fs::write(folder.join("example.com.zone"), ZONE).unwrap();
    listen
}

#[test]
fn the_minimal_server_answers_within_100_ms_of_its_start() {
    // The best of a few starts: what is bounded is steer's own start, not how busy this machine is.
    let mut best = Duration::MAX;
    for _ in 0..5 {
        let folder = tempfile::tempdir().unwrap();
        let listen = minimal(folder.path());
        let question = Question::new("www.example.com.", RecordType::A);
        let started = Instant::now();
        let mut steer = Steer::start(folder.path(), &["run", "--config", "steer.toml"]);
        let answer = steer.until("an answer", |_| question.ask(listen, Duration::from_millis(5)));
        best = best.min(started.elapsed());
        assert_eq!(
            answer.addresses(),
            ["192.0.2.80".parse::<std::net::IpAddr>().unwrap()]
        );
        assert!(answer.0.metadata.authoritative);
        let finished = steer.stop();
        assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
    }
    assert!(
        best <= Duration::from_millis(100),
        "the quickest of 5 starts took {best:?}"
    );
}

#[test]
fn sigint_and_sigterm_end_it_with_0_and_the_log_is_on_stderr() {
    for signal in [Signal::SIGINT, Signal::SIGTERM] {
        let folder = tempfile::tempdir().unwrap();
        let listen = minimal(folder.path());
        let mut steer = Steer::start(folder.path(), &["run", "--config", "steer.toml"]);
        let question = Question::new("example.com.", RecordType::SOA);
        steer.until("an answer", |_| question.ask(listen, Duration::from_millis(50)));
        steer.signal(signal);
        let finished = steer.wait();
        assert_eq!(finished.status.code(), Some(0), "{signal}: {}", finished.stderr);
        assert_eq!(finished.stdout, "");
        assert!(finished.stderr.contains("steer started"), "{}", finished.stderr);
        assert!(finished.stderr.contains("stopped"), "{}", finished.stderr);
    }
}

#[test]
fn a_hang_up_does_not_end_it() {
    let folder = tempfile::tempdir().unwrap();
    let listen = minimal(folder.path());
    let mut steer = Steer::start(folder.path(), &["run", "--config", "steer.toml"]);
    let question = Question::new("example.com.", RecordType::SOA);
    steer.until("an answer", |_| question.ask(listen, Duration::from_millis(50)));
    steer.signal(Signal::SIGHUP);
    steer.until("the reload", |steer| steer.log().contains("SIGHUP").then_some(()));
    assert!(question.ask(listen, Duration::from_secs(2)).is_some());
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn a_name_outside_its_zones_is_refused_and_a_missing_one_does_not_exist() {
    let folder = tempfile::tempdir().unwrap();
    let listen = minimal(folder.path());
    let mut steer = Steer::start(folder.path(), &["run", "--config", "steer.toml"]);
    let ask = |name: &str| Question::new(name, RecordType::A).ask(listen, Duration::from_secs(2));
    steer.until("an answer", |_| {
        Question::new("example.com.", RecordType::SOA).ask(listen, Duration::from_millis(50))
    });
    assert_eq!(
        ask("example.org.").unwrap().0.metadata.response_code,
        ResponseCode::Refused
    );
    assert_eq!(
        ask("no.example.com.").unwrap().0.metadata.response_code,
        ResponseCode::NXDomain
    );
    assert_eq!(steer.stop().status.code(), Some(0));
}

/// Records of the answer section, as kdig prints them, and whether it asked in the way it was told to.
fn kdig(listen: std::net::SocketAddr, transport: &str, name: &str, rtype: &str) -> String {
    let port = listen.port().to_string();
    let kdig = Command::new("kdig")
        .args([
            "@127.0.0.1",
            "-p",
            &port,
            transport,
            "+edns",
            "+noall",
            "+header",
            "+answer",
            "+authority",
        ])
        .args([name, rtype])
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&kdig.stdout).into_owned();
    assert!(kdig.status.success(), "{transport} {name}: {text}");
    // the id, which is always 0 over HTTPS and QUIC, and the line that names the session
    let is_same =
        |line: &&str| !line.contains("HEADER") && !line.contains(" session ") && !line.contains("HTTP");
    let status = text
        .split("opcode: QUERY; status: ")
        .nth(1)
        .and_then(|rest| rest.split(';').next());
    let lines: Vec<_> = text.lines().filter(is_same).collect();
    format!("{status:?}\n{}", lines.join("\n"))
}

#[test]
fn one_file_serves_every_transport_and_all_say_the_same_to_kdig() {
    const TEST: &str = "one_file_serves_every_transport_and_all_say_the_same_to_kdig";
    if Command::new("kdig").arg("--version").output().is_err() {
        return skip(TEST, "kdig does not run (Debian package knot-dnsutils)");
    }
    let folder = tempfile::tempdir().unwrap();
    let listen = minimal(folder.path());
    let certificate = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=localhost -keyout dns.key -out dns.pem";
    let made = Command::new("openssl")
        .args(certificate.split(' '))
        .current_dir(folder.path())
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        return skip(TEST, "openssl does not run");
    }
    // one port number for connections and for datagrams
    let (tls, https) = (free_port(), free_port());
    let encrypted = format!(
        "[dns.tls]\nlisten = \"{tls}\"\nquic = \"{tls}\"\nhttps = \"{https}\"\ncertificate = \"dns.pem\"\nkey = \"dns.key\"\n"
    );
    let config = fs::read_to_string(folder.path().join("steer.toml")).unwrap();
    fs::write(folder.path().join("steer.toml"), config + &encrypted).unwrap();
    let mut steer = Steer::start(folder.path(), &["run", "--config", "steer.toml"]);
    steer.until("an answer", |_| {
        Question::new("example.com.", RecordType::SOA).ask(listen, Duration::from_millis(50))
    });
    for (name, rtype) in [
        ("www.example.com", "A"),
        ("www.example.com", "AAAA"),
        ("example.com", "NS"),
        ("no.example.com", "A"),
        ("example.org", "A"),
    ] {
        let by_udp = kdig(listen, "+notcp", name, rtype);
        for (address, transport) in [(listen, "+tcp"), (tls, "+tls"), (tls, "+quic"), (https, "+https")] {
            // asked twice: what is remembered says no other thing
            assert_eq!(kdig(address, transport, name, rtype), by_udp, "{transport}");
            assert_eq!(kdig(listen, "+notcp", name, rtype), by_udp);
        }
    }
    let finished = steer.stop();
    assert_eq!(finished.status.code(), Some(0), "{}", finished.stderr);
}
