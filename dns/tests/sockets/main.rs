//! The server through real sockets on 127.0.0.1.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod encrypted;
mod quic;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use steer_dns::{Engine, Limits, Server, Tables, Zones};
use steer_health::{EndpointState, Service, Snapshot, Trail, Verdict};
use steer_topology::{Classes, Fleet, Resolve, Rrl};
use tokio_util::sync::CancellationToken;

const CONFIG: &str = r#"
[[site]]
name = "fra"
[[pool]]
name = "web"
endpoints = [{ site = "fra", address = "198.51.100.1:443" }, { site = "fra", address = "[2001:db8::1]:443" }]
[[zone]]
name = "example.com"
file = "example.com.zone"
[[steer]]
name = "www.example.com"
pool = "web"
chain = ["up"]
"#;

struct NoHosts;

impl Resolve for NoHosts {
    fn resolve(&self, host: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Err(io::Error::other(host.to_owned()))
    }
}

fn tables(number: u64) -> Tables {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/steer.toml");
    let fleet = Arc::new(Fleet::parse(CONFIG, &path, &NoHosts).unwrap());
    let zones = Arc::new(Zones::load(&fleet).unwrap());
    let state = EndpointState {
        verdict: Verdict::Up,
        service: Service::In,
        cause: String::new(),
        since: Timestamp::UNIX_EPOCH,
        weight: None,
    };
    let endpoints = std::iter::repeat_n(state, fleet.endpoints.len()).collect();
    let snapshot = Snapshot {
        number,
        at: Timestamp::UNIX_EPOCH,
        fleet,
        settled: true,
        endpoints,
        drains: Vec::new(),
        damped: Vec::new(),
        forces: Vec::new(),
        loads: Vec::new(),
        trail: Trail::default(),
    };
    Tables::compile(Arc::new(snapshot), zones, Arc::new(Classes::single()), None)
}

/// A running server; stops when dropped.
struct Running {
    address: SocketAddr,
    engine: Arc<Engine>,
    shutdown: CancellationToken,
    runtime: Option<tokio::runtime::Runtime>,
}

impl Running {
    fn start() -> Self {
        Self::with(Ipv4Addr::LOCALHOST, Limits::default())
    }

    fn with(listen: Ipv4Addr, limits: Limits) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let listen = [SocketAddr::from((listen, 0))];
        let server = runtime.block_on(Server::bind(&listen, limits)).unwrap();
        let address = server.local_addrs()[0];
        let engine = Arc::new(Engine::new(tables(1)));
        let shutdown = CancellationToken::new();
        runtime.spawn(server.run(Arc::clone(&engine), shutdown.clone()));
        Self {
            address,
            engine,
            shutdown,
            runtime: Some(runtime),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.shutdown.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(5));
        }
    }
}

/// `www.example.com A`
fn query(id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message.extend(b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01");
    message
}

fn udp(address: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect(address).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    socket
}

fn exchange(socket: &UdpSocket, query: &[u8]) -> Vec<u8> {
    socket.send(query).unwrap();
    let mut reply = [0; 4096];
    let length = socket.recv(&mut reply).unwrap();
    reply[..length].to_vec()
}

#[test]
fn udp_and_tcp_give_the_same_reply_on_the_same_port() {
    let server = Running::start();
    let by_udp = exchange(&udp(server.address), &query(7));
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    // two queries in one write (RFC 7766 §6.2.1.1)
    let framed = |id| [&29_u16.wrapping_add(4).to_be_bytes()[..], &query(id)].concat();
    assert_eq!(query(7).len(), 33);
    stream.write_all(&[framed(7), framed(8)].concat()).unwrap();
    for id in [7_u16, 8] {
        let mut length = [0; 2];
        stream.read_exact(&mut length).unwrap();
        let mut reply = vec![0; usize::from(u16::from_be_bytes(length))];
        stream.read_exact(&mut reply).unwrap();
        assert_eq!(reply[..2], id.to_be_bytes());
        assert_eq!(reply[2..], by_udp[2..]);
    }
    assert_eq!(by_udp[7], 1, "one answer");
}

#[test]
fn dig_reads_the_reply_over_both_transports() {
    let server = Running::start();
    let port = server.address.port().to_string();
    for transport in ["+notcp", "+tcp"] {
        let args = [
            "@127.0.0.1",
            "-p",
            &port,
            "+tries=1",
            "+time=5",
            "+subnet=192.0.2.0/24",
            transport,
        ];
        let output = match Command::new("dig")
            .args(args)
            .args(["WwW.example.com", "A"])
            .output()
        {
            Ok(output) => output,
            Err(error) => {
                println!("skipped: dig does not run: {error}");
                return;
            }
        };
        let text = String::from_utf8_lossy(&output.stdout);
        let expected = [
            "status: NOERROR",
            "flags: qr aa rd;",
            "CLIENT-SUBNET: 192.0.2.0/24/0",
            "udp: 1232",
            ";WwW.example.com.",
        ];
        for part in expected.iter().chain(&["198.51.100.1"]) {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(
            !text.contains("Warning") && !text.contains("WARNING: Message"),
            "{text}"
        );
    }
}

#[test]
fn responses_and_short_messages_get_no_reply_and_the_server_goes_on() {
    let server = Running::start();
    let socket = udp(server.address);
    let mut response = query(1);
    response[2] |= 0x80;
    for message in [&response[..], &[0; 5], &[]] {
        socket.send(message).unwrap();
    }
    // the first that comes back answers the good one
    assert_eq!(exchange(&socket, &query(99))[..2], 99_u16.to_be_bytes());
}

#[test]
fn a_malformed_message_gets_formerr_with_its_question_and_opt_record() {
    let server = Running::start();
    let mut message = query(5);
    message[11] = 1;
    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0, 7]); // an OPT record and one octet more
    let reply = exchange(&udp(server.address), &message);
    assert_eq!((&reply[..2], reply[3] & 0xf), (&[0, 5][..], 1));
    assert_eq!(
        (reply[5], reply[7], reply[11]),
        (1, 0, 1),
        "question, no answer, OPT"
    );
    assert_eq!(reply[12..33], query(5)[12..33]);
}

#[test]
fn replies_leave_from_the_address_that_was_asked_also_where_all_are_listened_on() {
    let server = Running::with(Ipv4Addr::UNSPECIFIED, Limits::default());
    for host in [1, 9, 200] {
        // a connected socket takes replies of its peer's address alone
        let asked = SocketAddr::from((Ipv4Addr::new(127, 0, 0, host), server.address.port()));
        assert_eq!(exchange(&udp(asked), &query(1))[..2], [0, 1], "{asked}");
    }
}

#[test]
fn what_was_received_before_the_end_is_answered() {
    let server = Running::start();
    let sockets: Vec<_> = (0..8).map(|_| udp(server.address)).collect();
    let mut stream = TcpStream::connect(server.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    stream.write_all(&[&[0, 33][..], &query(1)].concat()).unwrap();
    let mut first = [0; 2];
    stream.read_exact(&mut first).unwrap();
    for id in 0..20 {
        for socket in &sockets {
            socket.send(&query(id)).unwrap();
        }
    }
    stream.write_all(&[&[0, 33][..], &query(2)].concat()).unwrap();
    server.shutdown.cancel();
    for socket in &sockets {
        for _ in 0..20 {
            assert_eq!(socket.recv(&mut [0; 512]).unwrap(), 49);
        }
    }
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 49 + 2 + 49, "both replies, then the end");
}

#[test]
fn connections_beyond_the_limit_are_closed_and_the_others_go_on() {
    let limits = Limits {
        tcp_connections_per_client: 2,
        ..Limits::default()
    };
    let server = Running::with(Ipv4Addr::LOCALHOST, limits);
    let ask = |stream: &mut TcpStream| {
        stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        stream.write_all(&[&[0, 33][..], &query(1)].concat())?;
        let mut reply = [0; 2 + 49];
        stream.read_exact(&mut reply)
    };
    let connect = || TcpStream::connect(server.address).unwrap();
    let (mut first, mut second) = (connect(), connect());
    ask(&mut first).unwrap();
    ask(&mut second).unwrap();
    assert!(ask(&mut connect()).is_err(), "closed at once");
    ask(&mut first).unwrap();
    drop(second);
    // the place is given back as soon as the server has seen the end
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while ask(&mut connect()).is_err() {
        assert!(std::time::Instant::now() < deadline);
        std::thread::sleep(Duration::from_millis(1));
    }
}

#[test]
fn a_network_beyond_its_rate_is_sent_to_tcp_and_a_good_cookie_lifts_the_limit() {
    let limits = Limits {
        rrl: Some(Rrl {
            rate: 1,
            slip: 1,
            v4_prefix: 24,
            v6_prefix: 56,
            table: 1024,
            log_only: false,
        }),
        ..Limits::default()
    };
    let server = Running::with(Ipv4Addr::LOCALHOST, limits);
    let socket = udp(server.address);
    let with_cookie = |cookie: &[u8]| {
        let mut message = query(1);
        message[11] = 1;
        let length = cookie.len() as u8;
        message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4 + length, 0, 10, 0, length]);
        message.extend(cookie);
        message
    };
    let is_cut = |reply: &[u8]| reply[2] & 2 != 0;
    let first = exchange(&socket, &with_cookie(&[7; 8]));
    assert!(!is_cut(&first));
    let cookie = &first[first.len() - 24..];
    // within one second at most one more is due
    let cut = (0..20).filter(|_| is_cut(&exchange(&socket, &query(1)))).count();
    assert!(cut >= 15, "{cut}");
    for _ in 0..20 {
        assert!(!is_cut(&exchange(&socket, &with_cookie(cookie))));
    }
}

/// What a tool prints, or nothing where it is not installed.
fn tool(name: &str, args: &[&str]) -> Option<String> {
    match Command::new(name).args(args).output() {
        Ok(output) => Some(String::from_utf8_lossy(&output.stdout).into_owned()),
        Err(error) => {
            println!("skipped: {name} does not run: {error}");
            None
        }
    }
}

#[test]
fn other_clients_read_the_replies_too() {
    let server = Running::start();
    let port = server.address.port().to_string();
    let name = "www.example.com";
    for transport in ["+notcp", "+tcp"] {
        let args = [
            "@127.0.0.1",
            "-p",
            &port,
            transport,
            "+cookie",
            "+keepopen",
            name,
            name,
        ];
        if let Some(text) = tool("kdig", &args) {
            assert_eq!(text.matches("198.51.100.1").count(), 2, "{text}");
            assert!(!text.contains("WARNING") && !text.contains("malformed"), "{text}");
        }
    }
    for transport in ["-u", "-t"] {
        if let Some(text) = tool("drill", &[transport, "-p", &port, "@127.0.0.1", name]) {
            assert!(
                text.contains("rcode: NOERROR") && text.contains("198.51.100.1"),
                "{text}"
            );
        }
    }
    for transport in ["+notcp", "+tcp"] {
        if let Some(text) = tool("delv", &["@127.0.0.1", "-p", &port, "-i", transport, name]) {
            assert!(text.contains("198.51.100.1"), "{text}");
        }
    }
}

#[test]
fn many_queries_at_once_are_all_answered() {
    let server = Running::start();
    let port = server.address.port().to_string();
    let queries = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(
        queries.path(),
        "www.example.com A\nwww.example.com AAAA\nno.example.com A\n",
    )
    .unwrap();
    let file = queries.path().to_string_lossy().into_owned();
    for mode in ["udp", "tcp"] {
        let args = [
            "-s",
            "127.0.0.1",
            "-p",
            &port,
            "-d",
            &file,
            "-n",
            "2000",
            "-m",
            mode,
            "-c",
            "8",
            "-q",
            "64",
        ];
        if let Some(text) = tool("dnsperf", &args) {
            let completed = text
                .lines()
                .find(|line| line.contains("Queries completed"))
                .unwrap_or(&text);
            assert!(completed.contains("6000 (100.00%)"), "{mode}\n{text}");
        }
    }
}

#[test]
fn new_tables_come_in_without_losing_a_query() {
    let server = Running::start();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut number = 1;
            while !done.load(Ordering::Relaxed) {
                number += 1;
                server.engine.publish(tables(number));
            }
            number
        });
        let clients: Vec<_> = (0..4)
            .map(|_| {
                scope.spawn(|| {
                    let socket = udp(server.address);
                    for id in 0..500 {
                        let reply = exchange(&socket, &query(id));
                        assert_eq!(
                            (&reply[..2], reply[3] & 0xf, reply[7]),
                            (&id.to_be_bytes()[..], 0, 1)
                        );
                    }
                })
            })
            .collect();
        let results: Vec<_> = clients
            .into_iter()
            .map(std::thread::ScopedJoinHandle::join)
            .collect();
        done.store(true, Ordering::Relaxed);
        assert!(publisher.join().unwrap() > 2);
        assert!(results.iter().all(Result::is_ok));
    });
}

#[test]
fn a_port_in_use_is_told_with_address_and_holder_and_nothing_stays_bound() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    // An address that no other test uses: one of their sockets could take the port that is freed here.
    let own = Ipv4Addr::new(127, 0, 0, 77);
    let held = UdpSocket::bind((own, 0)).unwrap();
    let free = UdpSocket::bind((own, 0)).unwrap();
    let (held, free_address) = (
        held.local_addr().map(|address| (held, address)).unwrap(),
        free.local_addr().unwrap(),
    );
    drop(free);
    let error = runtime
        .block_on(Server::bind(&[free_address, held.1], Limits::default()))
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::AddrInUse);
    let text = error.to_string();
    assert!(
        text.starts_with(&format!("cannot listen on UDP {}: ", held.1)),
        "{text}"
    );
    assert!(
        text.contains(&format!("process {}", std::process::id())),
        "{text}"
    );
    // A program that a test beside this one starts holds copies of our sockets between its fork and its exec.
    let deadline = std::time::Instant::now() + Duration::from_secs(5);
    while let Err(error) = UdpSocket::bind(free_address) {
        assert!(
            std::time::Instant::now() < deadline,
            "the first address stays bound: {error}"
        );
        std::thread::sleep(Duration::from_millis(1));
    }
}
