//! Every kind of check against real servers: what is right is up, and each way to fail has its own reason.
//!
//! One steer per test watches one pool per case; what `steer status` says of them must become, and stay, what the case
//! wants. Everything is on loopback.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod failures;
mod held;
mod loads;
mod servers;
mod timing;

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use steer_tests::{Admin, Steer, free_port, skip};

use servers::{Certificates, GrpcServer, Haproxy, Nginx, Unbound, listening};

/// A steer with a pool of one endpoint per case.
struct Watch {
    folder: tempfile::TempDir,
    config: String,
    admin: Admin,
    names: Vec<String>,
    _steer: Option<Steer>,
}

impl Watch {
    fn new() -> Self {
        let admin = free_port();
        Self {
            folder: tempfile::tempdir().unwrap(),
            config: format!("[admin]\nlisten = \"{admin}\"\n"),
            admin: Admin(admin),
            names: Vec::new(),
            _steer: None,
        }
    }

    /// A check with these keys of one address. Its time-out is long enough for a good answer on a busy machine.
    fn add(&mut self, name: &str, address: SocketAddr, check: &str) {
        let quick = "interval = \"700ms\"\ntimeout = \"600ms\"\nfall = 2\nrise = 1";
        let _ = write!(
            self.config,
            "[[check]]\nname = \"{name}\"\n{quick}\n{check}\n[[pool]]\nname = \"{name}\"\ncheck = \"{name}\"\n\
             endpoints = [{{ address = \"{address}\" }}]\n"
        );
        self.names.push(name.to_owned());
    }

    /// More of the configuration, before it starts.
    fn write(&mut self, more: &str) {
        self.config.push_str(more);
    }

    fn start(&mut self) {
        self.start_with(&["run"]);
    }

    fn start_with(&mut self, args: &[&str]) {
        fs::write(self.folder.path().join("steer.toml"), &self.config).unwrap();
        self._steer = Some(Steer::start(self.folder.path(), args));
        listening(self.admin.0);
    }

    /// Verdict and cause of one pool, of a status that is settled.
    fn shows(&self, name: &str) -> (String, String) {
        let status = self.admin.json(&["status"]);
        let rows = status["endpoints"].as_array().unwrap();
        let row = rows.iter().find(|row| row["pool"] == name).unwrap();
        let text = |key: &str| row[key].as_str().unwrap().to_owned();
        (text("verdict"), text("cause"))
    }

    /// Waits until each pool is as wanted, and looks again a little later.
    fn become_and_stay(&self, wanted: &[(&str, &str, &str)]) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut good = 0;
        while good < 2 {
            let status = self.admin.json(&["status"]);
            let rows = status["endpoints"].as_array().unwrap();
            let wrong: Vec<String> = wanted
                .iter()
                .filter_map(|(name, verdict, cause)| {
                    let row = rows.iter().find(|row| row["pool"] == *name)?;
                    let fits = row["verdict"] == *verdict && row["cause"].as_str()?.starts_with(cause);
                    (!fits).then(|| {
                        format!(
                            "{name}: {} {}, want {verdict} {cause}",
                            row["verdict"], row["cause"]
                        )
                    })
                })
                .collect();
            good = if wrong.is_empty() { good + 1 } else { 0 };
            assert!(Instant::now() < deadline, "{}", wrong.join("\n"));
            std::thread::sleep(Duration::from_millis(300)); // another look at what must be stable
        }
        for (name, verdict, _) in wanted {
            println!("{name}: {verdict}, {}", self.shows(name).1);
        }
    }
}

#[test]
fn nginx_over_http_and_https() {
    if servers::missing("/usr/sbin/nginx", "nginx_over_http_and_https") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let nginx = Nginx::start(folder.path(), &certificates);
    let roots = format!("roots = \"{}\"", certificates.root.display());
    let mut watch = Watch::new();
    let http = |more: &str| format!("kind = \"http\"\n{more}");
    let https = |more: &str| format!("kind = \"https\"\n{roots}\n{more}");
    for (name, more) in [
        ("good", "path = \"/ready\""),
        ("set", "path = \"/teapot\"\nstatus = [\"200-204\", 418]"),
        ("body", "path = \"/ready\"\nbody = \"ready\""),
        ("regex", "path = \"/ready\"\nbody_regex = \"^READY|ready$\""),
        ("header", "path = \"/ready\"\nheader = \"x-lag: 3\""),
        ("value", "path = \"/load\"\nvalue = \"json:/load/1\"\nmax = 0.8"),
        ("busy", "path = \"/load\"\nvalue = \"json:/load/1\"\nmax = 0.4"),
        (
            "metric",
            "path = \"/metrics\"\nvalue = \"prometheus:node_load1\"\nmax = 4",
        ),
        ("reused", "path = \"/ready\"\nreuse = true"),
        ("status", "path = \"/teapot\""),
        ("moved", "path = \"/moved\""),
        ("wrong-body", "path = \"/ready\"\nbody = \"steady\""),
        ("no-header", "path = \"/ready\"\nheader = \"x-other\""),
        ("closed", "path = \"/closed\""),
        ("reset", "path = \"/reset\""),
        ("hung", "path = \"/hung\""),
        ("unreachable-host", "host = \"other.example\"\npath = \"/ready\""),
    ] {
        watch.add(name, nginx.http, &http(more));
    }
    watch.add(
        "tls-good",
        nginx.https,
        &https("host = \"www.example.com\"\npath = \"/ready\""),
    );
    watch.add(
        "tls-soon",
        nginx.https,
        &https("server_name = \"www.example.com\"\nexpiry_warning = \"365d\""),
    );
    watch.add(
        "tls-name",
        nginx.https,
        &https("server_name = \"other.example.com\""),
    );
    watch.add(
        "tls-expired",
        nginx.expired,
        &https("server_name = \"www.example.com\""),
    );
    watch.add(
        "tls-unverified",
        nginx.expired,
        "kind = \"https\"\nverify = false",
    );
    watch.add(
        "tls-unknown",
        nginx.https,
        "kind = \"https\"\nserver_name = \"www.example.com\"",
    );
    watch.add(
        "tls-to-plain",
        nginx.http,
        &https("server_name = \"www.example.com\""),
    );
    watch.add("plain-to-tls", nginx.https, &http(""));
    watch.add(
        "shake",
        nginx.https,
        &format!("kind = \"tls\"\n{roots}\nserver_name = \"www.example.com\""),
    );
    watch.add(
        "shake-expired",
        nginx.expired,
        &format!("kind = \"tls\"\n{roots}\nserver_name = \"www.example.com\""),
    );
    watch.add("refused", free_port(), &http(""));
    watch.add("port", nginx.http, "kind = \"tcp\"");
    let both = "kind = \"calculated\"\nwhen = \"check:port and not check:status\"";
    watch.add("calculated", nginx.http, both);
    watch.add(
        "not-met",
        nginx.http,
        "kind = \"calculated\"\nwhen = \"2 of (check:port, check:status, check:moved)\"",
    );
    watch.start();
    watch.become_and_stay(&[
        ("good", "up", "status 200"),
        ("set", "up", "status 418"),
        ("body", "up", "status 200"),
        ("regex", "up", "status 200"),
        ("header", "up", "status 200"),
        ("value", "up", "value 0.5"),
        ("busy", "down", "value 0.5, want at most 0.4"),
        ("metric", "up", "value 0.25"),
        ("reused", "up", "status 200"),
        ("status", "down", "status 418, want 200-299"),
        ("moved", "down", "status 301, want 200-299"),
        ("wrong-body", "down", "body without \"steady\": \"all ready\""),
        ("no-header", "down", "want header x-other, there is none"),
        ("closed", "down", "connection closed before an answer"),
        ("reset", "down", "connection reset"),
        ("hung", "down", "connected, but no answer within 600 ms"),
        ("unreachable-host", "down", "status 421, want 200-299"),
        ("tls-good", "up", "status 200"),
        ("tls-soon", "up", "status 200"),
        (
            "tls-name",
            "down",
            "TLS: certificate not valid for name \"other.example.com\"",
        ),
        ("tls-expired", "down", "TLS: the certificate has expired"),
        ("tls-unverified", "up", "status 200"),
        (
            "tls-unknown",
            "down",
            "TLS: the certificate is signed by nobody known",
        ),
        ("tls-to-plain", "down", "TLS: received corrupt message"),
        ("plain-to-tls", "down", "status 400, want 200-299"),
        ("shake", "up", "TLS 1."),
        ("shake-expired", "down", "TLS: the certificate has expired"),
        ("refused", "down", "connection refused"),
        ("port", "up", "connected"),
        (
            "calculated",
            "up",
            "port: connected; status: status 418, want 200-299",
        ),
        (
            "not-met",
            "down",
            "port: connected; status: status 418, want 200-299; moved: status 301",
        ),
    ]);
    let text = watch.admin.done(&["status"]);
    let row = text.lines().find(|line| line.contains("tls-soon")).unwrap();
    assert!(text.contains("certificate ends 20"), "{row}");
}

#[test]
fn unbound_over_dns() {
    if servers::missing("/usr/sbin/unbound", "unbound_over_dns") {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut unbound = Unbound::start(folder.path());
    let mut watch = Watch::new();
    for (name, more) in [
        ("good", "query = \"www.test\""),
        ("data", "query = \"www.test\"\nanswer = \"192.0.2.1\""),
        (
            "v6",
            "query = \"www.test\"\ntype = \"AAAA\"\nanswer = \"2001:db8:0::1\"",
        ),
        (
            "text",
            "query = \"www.test\"\ntype = \"TXT\"\nanswer = \"all is well\"",
        ),
        ("none-such", "query = \"nowhere.test\"\nrcode = \"NXDOMAIN\""),
        ("refused", "query = \"a.refused.test\"\nrcode = \"REFUSED\""),
        ("wrong-code", "query = \"nowhere.test\""),
        ("wrong-data", "query = \"www.test\"\nanswer = \"192.0.2.9\""),
        (
            "no-data",
            "query = \"www.test\"\ntype = \"MX\"\nanswer = \"10 mx.test\"",
        ),
        ("dropped", "query = \"a.dropped.test\""),
    ] {
        watch.add(name, unbound.address, &format!("kind = \"dns\"\n{more}"));
    }
    watch.add("closed", free_port(), "kind = \"dns\"\nquery = \"www.test\"");
    watch.start();
    watch.become_and_stay(&[
        ("good", "up", "NOERROR, 1 records"),
        ("data", "up", "NOERROR, with 192.0.2.1"),
        ("v6", "up", "NOERROR, with 2001:db8:0::1"),
        ("text", "up", "NOERROR, with all is well"),
        ("none-such", "up", "NXDOMAIN, 0 records"),
        ("refused", "up", "REFUSED, 0 records"),
        ("wrong-code", "down", "NXDOMAIN, want NOERROR"),
        ("wrong-data", "down", "answer has 192.0.2.1, want 192.0.2.9"),
        ("no-data", "down", "answer has no record, want 10 mx.test"),
        ("dropped", "down", "no answer within 600 ms"),
        ("closed", "down", "connection refused"),
    ]);
    unbound.process.signal(Signal::SIGSTOP);
    watch.become_and_stay(&[("good", "down", "no answer within 600 ms")]);
    unbound.process.signal(Signal::SIGCONT);
    watch.become_and_stay(&[("good", "up", "NOERROR")]);
    unbound.process.kill();
    watch.become_and_stay(&[("good", "down", "connection refused")]);
}

#[test]
fn haproxy_whose_servers_are_gone_deceives_tcp_and_not_http() {
    if servers::missing(
        "/usr/sbin/haproxy",
        "haproxy_whose_servers_are_gone_deceives_tcp_and_not_http",
    ) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut haproxy = Haproxy::start(folder.path());
    let mut watch = Watch::new();
    watch.add("http", haproxy.http, "kind = \"http\"\npath = \"/healthz\"");
    watch.add("no-server", haproxy.http, "kind = \"http\"\npath = \"/other\"");
    watch.add("tcp-port", haproxy.tcp, "kind = \"tcp\"");
    watch.add("tcp-page", haproxy.tcp, "kind = \"http\"");
    watch.add("reject", haproxy.reject, "kind = \"http\"");
    watch.start();
    watch.become_and_stay(&[
        ("http", "up", "status 200"),
        ("no-server", "down", "status 503, want 200-299"),
        ("tcp-port", "up", "connected"),
        ("tcp-page", "down", "connection closed before an answer"),
        ("reject", "down", "connection closed before an answer"),
    ]);
    haproxy.process.signal(Signal::SIGSTOP);
    watch.become_and_stay(&[("http", "down", "connected, but no answer within 600 ms")]);
    haproxy.process.signal(Signal::SIGCONT);
    watch.become_and_stay(&[("http", "up", "status 200")]);
    haproxy.process.kill();
    watch.become_and_stay(&[
        ("http", "down", "connection refused"),
        ("tcp-port", "down", "connection refused"),
    ]);
}

#[test]
fn grpcio_and_what_is_no_health_service() {
    let name = "grpcio_and_what_is_no_health_service";
    if servers::missing(servers::GRPCIO, name) || servers::missing("/usr/sbin/nginx", name) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(folder.path());
    let plain = GrpcServer::start(folder.path(), None);
    let secure = GrpcServer::start(folder.path(), Some(&certificates));
    let nginx = Nginx::start(folder.path(), &certificates);
    let tls = format!(
        "tls = true\nserver_name = \"www.example.com\"\nroots = \"{}\"",
        certificates.root.display()
    );
    let mut watch = Watch::new();
    let grpc = |more: &str| format!("kind = \"grpc\"\n{more}");
    watch.add("server", plain.address, &grpc(""));
    watch.add("service", plain.address, &grpc("service = \"shop.Cart\""));
    watch.add("unknown", plain.address, &grpc("service = \"shop.None\""));
    watch.add("odd", plain.address, &grpc("service = \"shop.Odd\""));
    watch.add("secure", secure.address, &grpc(&tls));
    watch.add("plain-to-tls", secure.address, &grpc(""));
    watch.add("tls-to-plain", plain.address, &grpc(&tls));
    watch.add("http1", nginx.http, &grpc(""));
    watch.add("refused", free_port(), &grpc(""));
    watch.start();
    watch.become_and_stay(&[
        ("server", "up", "SERVING"),
        ("service", "down", "service \"shop.Cart\" is NOT_SERVING"),
        ("unknown", "down", "service \"shop.None\" is unknown"),
        ("odd", "down", "gRPC status 8: too many checks"),
        ("secure", "up", "SERVING"),
        ("plain-to-tls", "down", ""),
        ("tls-to-plain", "down", "TLS: "),
        ("http1", "down", ""),
        ("refused", "down", "connection refused"),
    ]);
    plain.process.signal(Signal::SIGSTOP);
    watch.become_and_stay(&[("server", "down", "connected, but no answer within 600 ms")]);
    plain.process.signal(Signal::SIGCONT);
    watch.become_and_stay(&[("server", "up", "SERVING")]);
}

#[test]
fn programs_echoes_and_reports() {
    if servers::missing("/usr/bin/curl", "programs_echoes_and_reports") {
        return;
    }
    let mut watch = Watch::new();
    let nobody = free_port();
    let exec = |script: &str| format!("kind = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", {script:?}]");
    watch.add("exec-good", nobody, &exec("echo lag 3 ms"));
    watch.add("exec-bad", nobody, &exec("echo disk full; exit 2"));
    watch.add("exec-long", nobody, &exec("sleep 100"));
    watch.add("echo", nobody, "kind = \"icmp\"");
    watch.add("report", nobody, "kind = \"external\"\nlease = \"1s\"");
    watch.start();
    watch.become_and_stay(&[
        ("exec-good", "up", "lag 3 ms"),
        ("exec-bad", "down", "exit status 2: disk full"),
        ("exec-long", "down", "killed: it ran longer than 600 ms"),
        ("report", "down", "no report within 1 s"),
    ]);
    let (verdict, cause) = watch.shows("echo");
    match verdict.as_str() {
        "unknown" => skip("echo", "no ping socket here"),
        _ => assert_eq!((verdict.as_str(), cause.as_str()), ("up", "echo")),
    }
    let report = |target: &str, state: &str| {
        let url = format!(
            "http://{}/v1/reports/{target}?state={state}&reason=agent%207",
            watch.admin.0
        );
        let curl = std::process::Command::new("/usr/bin/curl")
            .args(["-s", "-X", "PUT", &url])
            .output()
            .unwrap();
        String::from_utf8(curl.stdout).unwrap()
    };
    let target = format!("report/{nobody}");
    let taken = report(&target, "up");
    assert!(
        taken.starts_with(&format!("{{\"target\":\"{target}\",\"snapshot\":")),
        "{taken}"
    );
    assert_eq!(
        watch.shows("report"),
        ("up".to_owned(), "reported up: agent 7".to_owned())
    );
    // `fall` is 2 here; by default one report is enough.
    report(&target, "down");
    assert_eq!(watch.shows("report").0, "up");
    report(&target, "down");
    let told = watch.shows("report");
    assert!(
        told.0 == "down" && told.1.starts_with("reported down: agent 7"),
        "{told:?}"
    );
    report(&target, "up");
    watch.become_and_stay(&[("report", "down", "no report within 1 s")]);
    assert!(report("report/192.0.2.1:9", "up").contains("no endpoint is called"));
    assert!(report(&format!("echo/{nobody}"), "up").contains("takes no reports"));
    assert!(report(&target, "sideways").contains("write up or down"));
}
