//! DNS over TLS, HTTPS and QUIC, seen by other people's clients. The certificates are made by openssl.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use steer_dns::{Engine, Limits, Server};
use steer_topology::Tls;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{Running, query, tables, tool};

/// A server with a certificate, and the ports of its transports.
struct Encrypted {
    folder: TempDir,
    tls: String,
    https: String,
    quic: String,
    _running: Running,
}

/// Writes a new self-signed certificate with its key. `false`: openssl is not there.
fn certify(folder: &Path, name: &str) -> bool {
    let file = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (key, certificate) = (file("new.key"), file("new.pem"));
    let subject = format!("/CN={name}");
    let args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2";
    let alternative = "subjectAltName=DNS:localhost,IP:127.0.0.1";
    let made = Command::new("openssl")
        .args(args.split(' '))
        .args([
            "-subj",
            &subject,
            "-addext",
            alternative,
            "-keyout",
            &key,
            "-out",
            &certificate,
        ])
        .output();
    if !made.is_ok_and(|made| made.status.success()) {
        println!("skipped: openssl does not run");
        return false;
    }
    std::fs::rename(key, file("dns.key")).unwrap();
    std::fs::rename(certificate, file("dns.pem")).unwrap();
    true
}

impl Encrypted {
    fn start() -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        if !certify(folder.path(), "first") {
            return None;
        }
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut server = runtime.block_on(Server::bind(&[any], Limits::default())).unwrap();
        let tls = Tls {
            listen: vec![any],
            https: vec![any],
            quic: vec![any],
            certificate: folder.path().join("dns.pem"),
            key: folder.path().join("dns.key"),
        };
        runtime.block_on(async { server.bind_tls(&tls) }).unwrap();
        let ports: Vec<_> = server
            .tls_addrs()
            .iter()
            .map(|it| it.port().to_string())
            .collect();
        let address = server.local_addrs()[0];
        let engine = Arc::new(Engine::new(tables(1)));
        let shutdown = CancellationToken::new();
        runtime.spawn(server.run(Arc::clone(&engine), shutdown.clone()));
        Some(Self {
            folder,
            tls: ports[0].clone(),
            https: ports[1].clone(),
            quic: ports[2].clone(),
            _running: Running {
                address,
                engine,
                shutdown,
                runtime: Some(runtime),
            },
        })
    }
}

const NAME: &str = "www.example.com";
/// Its A records, RFC 8484 §4.1.1.
const GOOD: &str = "/dns-query?dns=AAABAAABAAAAAAAAA3d3dwdleGFtcGxlA2NvbQAAAQAB";

#[test]
fn kdig_and_dig_are_answered_over_tls_over_quic_and_over_https_by_get_and_by_post() {
    let Some(server) = Encrypted::start() else { return };
    let trust = format!("+tls-ca={}", server.folder.path().join("dns.pem").display());
    for (name, port, args) in [
        ("kdig", &server.tls, &["+tls", "+keepopen"][..]),
        ("kdig", &server.tls, &["+tls", &trust, "+tls-hostname=localhost"]),
        ("kdig", &server.https, &["+https"]),
        ("kdig", &server.https, &["+https-get"]),
        ("kdig", &server.quic, &["+quic"]),
        // kdig 3.2 breaks down where +quic comes first
        (
            "kdig",
            &server.quic,
            &[&trust, "+tls-hostname=localhost", "+quic"],
        ),
        ("dig", &server.tls, &["+tls"]),
        ("dig", &server.https, &["+https"]),
        ("dig", &server.https, &["+https-get"]),
    ] {
        let all = [&["@127.0.0.1", "-p", port][..], args, &[NAME, NAME]].concat();
        if let Some(text) = tool(name, &all) {
            assert_eq!(text.matches("198.51.100.1").count(), 2, "{name} {args:?}\n{text}");
            assert!(!text.contains("WARNING: Message"), "{name} {args:?}\n{text}");
        }
    }
    for (port, transport) in [(&server.tls, "+tls"), (&server.quic, "+quic")] {
        let padded = ["@127.0.0.1", "-p", port, transport, "+padding=128", NAME];
        if let Some(text) = tool("kdig", &padded) {
            assert!(text.contains("Received 468 B"), "{transport}\n{text}");
        }
    }
}

#[test]
fn a_busy_connection_is_answered_query_by_query() {
    let Some(server) = Encrypted::start() else { return };
    let file = |name: &str, content: &[u8]| {
        let path = server.folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path.to_string_lossy().into_owned()
    };
    let queries = file("queries", b"www.example.com A\nno.example.com A\n");
    let dot = [
        "-s",
        "127.0.0.1",
        "-p",
        &server.tls,
        "-d",
        &queries,
        "-n",
        "500",
        "-c",
        "4",
        "-m",
        "dot",
    ];
    if let Some(text) = tool("dnsperf", &dot) {
        assert!(text.contains("1000 (100.00%)"), "{text}");
    }
    // dnsperf 2.10 loses replies of concurrent HTTP streams
    let (get, post) = (
        format!("https://127.0.0.1:{}{GOOD}", server.https),
        format!("https://127.0.0.1:{}/dns-query", server.https),
    );
    let body = file("body", &query(0));
    let kind = "content-type: application/dns-message";
    for more in [&[get.as_str()][..], &["-d", &body, "-H", kind, &post]] {
        if let Some(text) = tool("h2load", &[&["-n", "2000", "-c", "4", "-m", "50"], more].concat()) {
            assert!(text.contains("status codes: 2000 2xx"), "{text}");
        }
    }
}

#[test]
fn http_requests_are_answered_by_status_and_with_the_age_they_may_have() {
    let Some(server) = Encrypted::start() else { return };
    let url = |rest: &str| format!("https://127.0.0.1:{}{rest}", server.https);
    let ask = |args: &[&str], rest: &str| {
        let url = url(rest);
        let common = ["-sk", "--http2", "-o", "/dev/null", "-D", "-", &url];
        tool("curl", &[&common[..], args].concat())
    };
    let Some(text) = ask(&[], GOOD) else { return };
    assert!(text.starts_with("HTTP/2 200"), "{text}");
    assert!(text.contains("content-type: application/dns-message"), "{text}");
    assert!(text.contains("cache-control: max-age=30"), "{text}");
    for (args, rest, status) in [
        (&[][..], "/other", "404"),
        (&[], "/dns-query", "400"),
        (&[], "/dns-query?dns=AAAB", "400"),
        (&[], "/dns-query?dns=AA==", "400"),
        (&["-X", "DELETE"], "/dns-query", "405"),
        (&["-d", "x"], "/dns-query", "415"),
        (
            &["-H", "content-type: application/dns-message", "-d", "x"],
            "/dns-query",
            "400",
        ),
    ] {
        let text = ask(args, rest).unwrap();
        assert!(
            text.starts_with(&format!("HTTP/2 {status}")),
            "{rest} {args:?}\n{text}"
        );
    }
}

#[test]
fn a_new_certificate_is_shown_without_a_restart_and_a_bad_one_is_not() {
    let Some(server) = Encrypted::start() else { return };
    let shown = || {
        let address = format!("127.0.0.1:{}", server.tls);
        let args = ["s_client", "-connect", &address, "-alpn", "dot"];
        let output = Command::new("openssl")
            .args(args)
            .stdin(std::process::Stdio::null())
            .output();
        String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
    };
    assert!(shown().contains("CN = first"), "{}", shown());
    std::fs::write(server.folder.path().join("dns.pem"), "no certificate").unwrap();
    let deadline = Instant::now() + Duration::from_secs(20);
    assert!(certify(server.folder.path(), "second"));
    while !shown().contains("CN = second") {
        assert!(Instant::now() < deadline, "{}", shown());
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(shown().contains("ALPN protocol: dot"));
}

#[test]
fn a_certificate_that_cannot_be_used_is_told_by_its_file() {
    let folder = tempfile::tempdir().unwrap();
    if !certify(folder.path(), "first") {
        return;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    let mut server = runtime
        .block_on(Server::bind(
            &[SocketAddr::from((Ipv4Addr::LOCALHOST, 0))],
            Limits::default(),
        ))
        .unwrap();
    let path = |name: &str| folder.path().join(name);
    std::fs::write(path("empty"), "").unwrap();
    for (certificate, key, named) in [
        ("missing", "dns.key", "missing"),
        ("empty", "dns.key", "empty: no certificate"),
        ("dns.pem", "missing", "missing"),
        ("dns.pem", "dns.pem", "dns.pem"),
    ] {
        let tls = Tls {
            listen: Vec::new(),
            https: Vec::new(),
            quic: Vec::new(),
            certificate: path(certificate),
            key: path(key),
        };
        let error = runtime.block_on(async { server.bind_tls(&tls) }).unwrap_err();
        assert!(error.to_string().contains(named), "{error}");
    }
}
