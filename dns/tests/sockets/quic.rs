//! DNS over QUIC, seen by a client of `quinn` that can also break the rules. kdig asks in `encrypted`.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use quinn::crypto::rustls::QuicClientConfig;
use quinn::{ClientConfig, Connection, ConnectionError, Endpoint, VarInt};
use rustls::RootCertStore;
use rustls::pki_types::CertificateDer;
use steer_dns::{Engine, Limits, Server};
use steer_topology::Tls;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

use crate::{Running, query, tables};

const LIMIT: Duration = Duration::from_secs(10);

/// A server with a certificate, and a client that trusts it.
struct Quic {
    folder: TempDir,
    certificate: CertificateDer<'static>,
    address: SocketAddr,
    server: Running,
}

/// Writes a new certificate with its key.
fn certify(folder: &Path) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(folder.join("dns.key"), made.signing_key.serialize_pem()).unwrap();
    std::fs::write(folder.join("dns.pem"), made.cert.pem()).unwrap();
    made.cert.der().clone()
}

fn client(trusted: &CertificateDer<'static>, alpn: &[u8]) -> Endpoint {
    let mut roots = RootCertStore::empty();
    roots.add(trusted.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![alpn.to_vec()];
    let crypto = QuicClientConfig::try_from(tls).unwrap();
    let mut endpoint = Endpoint::client((Ipv4Addr::LOCALHOST, 0).into()).unwrap();
    endpoint.set_default_client_config(ClientConfig::new(Arc::new(crypto)));
    endpoint
}

impl Quic {
    fn start() -> Self {
        Self::with(Limits::default())
    }

    fn with(limits: Limits) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let certificate = certify(folder.path());
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let mut server = runtime.block_on(Server::bind(&[any], limits)).unwrap();
        let tls = Tls {
            listen: Vec::new(),
            https: Vec::new(),
            quic: vec![any],
            certificate: folder.path().join("dns.pem"),
            key: folder.path().join("dns.key"),
        };
        runtime.block_on(async { server.bind_tls(&tls) }).unwrap();
        let quic = server.tls_addrs()[0];
        let address = server.local_addrs()[0];
        let engine = Arc::new(Engine::new(tables(1)));
        let shutdown = CancellationToken::new();
        runtime.spawn(server.run(Arc::clone(&engine), shutdown.clone()));
        Self {
            folder,
            certificate,
            address: quic,
            server: Running {
                address,
                engine,
                shutdown,
                runtime: Some(runtime),
            },
        }
    }

    /// Runs a test's client beside the server.
    fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        let work = async { tokio::time::timeout(3 * LIMIT, work).await.expect("in time") };
        self.server.runtime.as_ref().unwrap().block_on(work)
    }

    async fn connect(&self) -> Connection {
        try_connect(self.address, &self.certificate).await.unwrap()
    }
}

async fn try_connect(
    address: SocketAddr,
    trusted: &CertificateDer<'static>,
) -> Result<Connection, ConnectionError> {
    client(trusted, b"doq")
        .connect(address, "localhost")
        .unwrap()
        .await
}

fn framed(message: &[u8]) -> Vec<u8> {
    [&(message.len() as u16).to_be_bytes()[..], message].concat()
}

/// Sends octets on a stream of their own and gives all that comes back.
async fn send(connection: &Connection, octets: &[u8]) -> Vec<u8> {
    let (mut send, mut receive) = connection.open_bi().await.unwrap();
    send.write_all(octets).await.unwrap();
    send.finish().unwrap();
    receive.read_to_end(1 << 17).await.unwrap_or_default()
}

/// Messages with the id 0: names, types, and options.
fn queries() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    for name in [
        &b"\x03www\x07example\x03com\x00"[..],
        b"\x03WwW\x07example\x03com\x00",
        b"\x05plain\x07example\x03com\x00",
        b"\x05alias\x07example\x03com\x00",
        b"\x01x\x03sub\x07example\x03com\x00",
        b"\x01x\x03old\x07example\x03com\x00",
        b"\x02no\x07example\x03com\x00",
        b"\x07example\x03net\x00",
    ] {
        for rtype in [1, 2, 6, 16, 28, 255] {
            for options in [
                None,
                Some(&[][..]),
                Some(&[0, 8, 0, 7, 0, 1, 24, 0, 192, 0, 2, 0, 3, 0, 0]),
            ] {
                let mut message = vec![0, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(options.is_some())];
                message.extend(name);
                message.extend([0, rtype, 0, 1]);
                if let Some(options) = options {
                    message.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, options.len() as u8]);
                    message.extend(options);
                }
                all.push(message);
            }
        }
    }
    all
}

#[test]
fn a_reply_over_quic_is_that_over_tcp() {
    let quic = Quic::start();
    let mut tcp = TcpStream::connect(quic.server.address).unwrap();
    tcp.set_read_timeout(Some(LIMIT)).unwrap();
    quic.block_on(async {
        let connection = quic.connect().await;
        for message in queries() {
            let by_quic = send(&connection, &framed(&message)).await;
            tcp.write_all(&framed(&message)).unwrap();
            let mut by_tcp = vec![0; by_quic.len()];
            tcp.read_exact(&mut by_tcp).unwrap();
            assert_eq!(by_quic, by_tcp, "{message:?}");
        }
        assert_eq!(connection.close_reason(), None);
    });
}

#[test]
fn many_streams_of_one_connection_are_answered_each_on_its_own() {
    let quic = Quic::start();
    quic.block_on(async {
        let connection = quic.connect().await;
        let ask = |_| {
            let connection = connection.clone();
            tokio::spawn(async move { send(&connection, &framed(&query(0))).await })
        };
        let replies: Vec<_> = (0..500).map(ask).collect();
        for reply in replies {
            assert_eq!(reply.await.unwrap().len(), 2 + 49);
        }
    });
}

#[test]
fn padding_is_given_to_those_who_pad() {
    let quic = Quic::start();
    quic.block_on(async {
        let connection = quic.connect().await;
        let mut padded = query(0);
        padded[11] = 1;
        padded.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 6, 0, 12, 0, 2, 0, 0]);
        assert_eq!(send(&connection, &framed(&padded)).await.len(), 2 + 468);
    });
}

/// RFC 9250 §4.3.3.
#[test]
fn what_breaks_the_protocol_ends_the_connection_with_doq_protocol_error() {
    let quic = Quic::start();
    let mut response = query(0);
    response[2] |= 0x80;
    let mut keepalive = query(0);
    keepalive[11] = 1;
    keepalive.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 4, 0, 11, 0, 0]);
    let whole = framed(&query(0));
    quic.block_on(async {
        for (what, octets) in [
            ("an id", framed(&query(7))),
            ("edns-tcp-keepalive (§5.5.2)", framed(&keepalive)),
            ("a response", framed(&response)),
            ("two queries on a stream", [&whole[..], &whole].concat()),
            ("the end before the message's", whole[..20].to_vec()),
            ("the end within the length", vec![0]),
            ("nothing at all", vec![]),
            ("no header", framed(&[0, 0])),
        ] {
            let connection = quic.connect().await;
            send(&connection, &octets).await;
            let ConnectionError::ApplicationClosed(close) = connection.closed().await else {
                panic!("{what}: {:?}", connection.close_reason());
            };
            assert_eq!(close.error_code, VarInt::from_u32(2), "{what}");
        }
        let uni = quic.connect().await;
        let opened = tokio::time::timeout(Duration::from_millis(300), uni.open_uni()).await;
        assert!(opened.is_err(), "no stream of one direction may be opened");
    });
}

#[test]
fn a_query_that_is_taken_back_costs_the_others_nothing() {
    let quic = Quic::start();
    quic.block_on(async {
        let connection = quic.connect().await;
        for _ in 0..300 {
            let (mut given_up, _receive) = connection.open_bi().await.unwrap();
            given_up.write_all(&[0, 33, 0]).await.unwrap();
            given_up.reset(VarInt::from_u32(3)).unwrap(); // DOQ_REQUEST_CANCELLED
        }
        assert_eq!(send(&connection, &framed(&query(0))).await.len(), 2 + 49);
    });
}

#[test]
fn a_client_without_the_protocol_name_is_refused() {
    let quic = Quic::start();
    quic.block_on(async {
        let connecting = client(&quic.certificate, b"h3")
            .connect(quic.address, "localhost")
            .unwrap();
        assert!(matches!(
            connecting.await,
            Err(ConnectionError::ConnectionClosed(_))
        ));
    });
}

#[test]
fn a_connection_without_a_query_is_closed_though_it_is_kept_alive() {
    let quic = Quic::with(Limits {
        tcp_idle: Duration::from_secs(2),
        ..Limits::default()
    });
    quic.block_on(async {
        let began = Instant::now();
        let connection = quic.connect().await;
        // packets that mean nothing, sooner than the idle time of QUIC itself
        let (mut dangling, _receive) = connection.open_bi().await.unwrap();
        let close = loop {
            let _ = dangling.write_all(&[0]).await;
            if let Ok(close) = tokio::time::timeout(Duration::from_millis(200), connection.closed()).await {
                break close;
            }
            assert!(began.elapsed() < LIMIT);
        };
        let ConnectionError::ApplicationClosed(close) = close else {
            panic!("{close:?}")
        };
        assert_eq!(close.error_code, VarInt::from_u32(0), "DOQ_NO_ERROR");
        assert!(began.elapsed() >= Duration::from_secs(2));
    });
}

#[test]
fn streams_that_never_become_queries_keep_no_connection_open() {
    let quic = Quic::with(Limits {
        tcp_idle: Duration::from_secs(1),
        ..Limits::default()
    });
    quic.block_on(async {
        let connection = quic.connect().await;
        let began = Instant::now();
        let mut open = Vec::new();
        let close = loop {
            if let Ok((mut send, receive)) = connection.open_bi().await {
                let _ = send.write_all(&[0, 33]).await;
                open.push((send, receive));
            }
            if let Ok(close) = tokio::time::timeout(Duration::from_millis(200), connection.closed()).await {
                break close;
            }
            assert!(began.elapsed() < LIMIT, "still open");
        };
        let ConnectionError::ApplicationClosed(close) = close else {
            panic!("{close:?}")
        };
        assert_eq!(close.error_code, VarInt::from_u32(0), "DOQ_NO_ERROR");
    });
}

/// Passes datagrams to and fro, and counts those of the server that are Retry packets (RFC 9000 §17.2.5).
fn between(server: SocketAddr) -> (SocketAddr, Arc<std::sync::atomic::AtomicUsize>) {
    let retries = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let (inner, outer) = (
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap(),
    );
    inner.connect(server).unwrap();
    let address = outer.local_addr().unwrap();
    let (inner2, outer2) = (inner.try_clone().unwrap(), outer.try_clone().unwrap());
    let counted = Arc::clone(&retries);
    let (tell, peer) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let mut octets = [0; 2048];
        while let Ok((length, from)) = outer.recv_from(&mut octets) {
            let _ = tell.send(from);
            let _ = inner.send(&octets[..length]);
        }
    });
    std::thread::spawn(move || {
        let mut octets = [0; 2048];
        let peer = peer.recv().unwrap();
        while let Ok(length) = inner2.recv(&mut octets) {
            if octets[0] & 0xf0 == 0xf0 {
                counted.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            }
            let _ = outer2.send_to(&octets[..length], peer);
        }
    });
    (address, retries)
}

#[test]
fn places_are_bounded_and_clients_must_show_their_address_when_they_become_few() {
    let quic = Quic::with(Limits {
        tcp_connections_per_client: 4,
        ..Limits::default()
    });
    quic.block_on(async {
        let mut open = Vec::new();
        for number in 0..4 {
            let (address, retries) = between(quic.address);
            let connection = try_connect(address, &quic.certificate).await.unwrap();
            assert_eq!(send(&connection, &framed(&query(0))).await.len(), 2 + 49);
            let asked = retries.load(std::sync::atomic::Ordering::Relaxed);
            assert_eq!(asked, usize::from(number == 3), "connection {number}");
            open.push(connection);
        }
        let beyond = try_connect(quic.address, &quic.certificate).await;
        assert!(
            matches!(beyond, Err(ConnectionError::ConnectionClosed(_))),
            "{beyond:?}"
        );
        assert_eq!(send(&open[0], &framed(&query(0))).await.len(), 2 + 49);
        open.pop().unwrap().close(VarInt::from_u32(0), b"");
        let began = Instant::now();
        while try_connect(quic.address, &quic.certificate).await.is_err() {
            assert!(began.elapsed() < LIMIT, "a place comes back");
        }
    });
}

#[test]
fn a_new_certificate_is_shown_to_new_connections() {
    let quic = Quic::start();
    quic.block_on(async {
        let old = quic.connect().await;
        let second = certify(quic.folder.path());
        let began = Instant::now();
        while try_connect(quic.address, &second).await.is_err() {
            assert!(began.elapsed() < LIMIT);
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        assert_eq!(send(&old, &framed(&query(0))).await.len(), 2 + 49);
    });
}

#[test]
fn at_the_end_what_was_received_is_answered_and_the_connection_is_closed_without_an_error() {
    let quic = Quic::start();
    quic.block_on(async {
        let connection = quic.connect().await;
        assert_eq!(send(&connection, &framed(&query(0))).await.len(), 2 + 49);
        let mut streams = Vec::new();
        for _ in 0..50 {
            let (mut send, receive) = connection.open_bi().await.unwrap();
            send.write_all(&framed(&query(0))).await.unwrap();
            send.finish().unwrap();
            streams.push((send, receive));
        }
        for (send, _) in &streams {
            // the server has it
            send.stopped().await.unwrap();
        }
        quic.server.shutdown.cancel();
        for (_, mut receive) in streams {
            assert_eq!(receive.read_to_end(1 << 17).await.unwrap().len(), 2 + 49);
        }
        let ConnectionError::ApplicationClosed(close) = connection.closed().await else {
            panic!("{:?}", connection.close_reason());
        };
        assert_eq!(close.error_code, VarInt::from_u32(0));
    });
}
