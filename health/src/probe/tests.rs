use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use steer_topology::CheckId;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use steer_topology::{CheckKind, Formula, HttpCheck};
use tokio::net::TcpStream;

use super::*;
use crate::driver::{Errand, send};
use crate::outcome::Failure;
use crate::testing::FleetBuilder;

/// Long enough that a loaded machine answers in time, short enough for those who never do.
const TIMEOUT: Duration = Duration::from_millis(700);

fn http() -> CheckKind {
    CheckKind::Http(page())
}

fn page() -> HttpCheck {
    HttpCheck {
        path: "/healthz?deep=1".to_owned(),
        ..HttpCheck::plain()
    }
}

/// Connected, but no answer.
const HALF_OPEN: Failure = Failure::HalfOpen {
    what: "answer",
    within: TIMEOUT,
};

fn status(got: u16) -> Outcome {
    let want = "200-299".to_owned();
    Outcome::Failure(Failure::Status { got, want })
}

fn prober(fleet: &Fleet) -> Arc<NetProber> {
    Arc::new(NetProber::new(
        fleet,
        &Arc::new(Evidence::of(fleet)),
        Instant::now(),
    ))
}

/// One probe through everything but the timer queue.
async fn probe(kind: CheckKind, address: SocketAddr) -> Outcome {
    let fleet = FleetBuilder::new(kind)
        .pool_at(&[(None, address)], Some(CheckId(0)))
        .build();
    let errand = Errand::of_test(1, TIMEOUT);
    send(prober(&fleet), errand).await.outcome
}

/// A server that treats each connection as `behave` says, and how many it has seen.
async fn server<F, Fut>(behave: F) -> (SocketAddr, Arc<AtomicUsize>)
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(behave(stream));
        }
    });
    (address, seen)
}

/// Reads the whole head of a request.
async fn request(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => head.push(byte),
            Err(_) => break,
        }
    }
    String::from_utf8(head).unwrap()
}

/// A server that answers with fixed bytes and then keeps the connection open.
async fn replies(answer: &'static str) -> (SocketAddr, Arc<AtomicUsize>) {
    server(move |mut stream| async move {
        request(&mut stream).await;
        let _gone = stream.write_all(answer.as_bytes()).await;
        std::future::pending::<()>().await;
    })
    .await
}

/// An address where a port is taken but nobody listens.
fn nobody_listens() -> (SocketAddr, socket2::Socket) {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    (socket.local_addr().unwrap().as_socket().unwrap(), socket)
}

#[tokio::test]
async fn a_closed_port_is_refused_for_every_kind() {
    let (address, _reserved) = nobody_listens();
    for kind in [CheckKind::Tcp, http()] {
        assert_eq!(
            probe(kind.clone(), address).await,
            Outcome::Failure(Failure::Refused),
            "{kind:?}"
        );
    }
}

#[tokio::test]
async fn a_status_within_the_range_is_a_success() {
    let (address, _) = replies("HTTP/1.1 204 No Content\r\n\r\n").await;
    assert_eq!(
        probe(http(), address).await,
        Outcome::Success(Answer::Status(204))
    );
}

#[tokio::test]
async fn a_status_outside_the_range_says_both() {
    let (address, _) = replies("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n").await;
    let outcome = probe(http(), address).await;
    assert_eq!(outcome, status(503));
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let (elsewhere, visits) = replies("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let (address, _) = server(move |mut stream| async move {
        request(&mut stream).await;
        let answer =
            format!("HTTP/1.1 302 Found\r\nLocation: http://{elsewhere}/\r\nContent-Length: 0\r\n\r\n");
        let _gone = stream.write_all(answer.as_bytes()).await;
    })
    .await;
    let outcome = probe(http(), address).await;
    assert_eq!(outcome, status(302));
    assert_eq!(visits.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_body_that_never_ends_does_not_matter() {
    let (address, _) = replies("HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\nslow").await;
    assert_eq!(
        probe(http(), address).await,
        Outcome::Success(Answer::Status(200))
    );
}

#[tokio::test]
async fn headers_that_never_end_are_half_open() {
    let (address, _) = replies("HTTP/1.1 200 OK\r\nX-Slow: ").await;
    assert_eq!(probe(http(), address).await, Outcome::Failure(HALF_OPEN));
}

#[tokio::test]
async fn a_server_that_accepts_and_says_nothing_is_half_open() {
    let (address, _) = replies("").await;
    assert_eq!(probe(http(), address).await, Outcome::Failure(HALF_OPEN));
    assert_eq!(
        probe(CheckKind::Tcp, address).await,
        Outcome::Success(Answer::Connected)
    );
}

/// A stopped process: the kernel still completes handshakes, until the queue is full.
#[tokio::test]
async fn a_listener_that_stopped_accepting_is_half_open_until_its_queue_is_full() {
    let (address, socket) = nobody_listens();
    socket.listen(0).unwrap();
    assert_eq!(probe(http(), address).await, Outcome::Failure(HALF_OPEN));
    let _filling = std::net::TcpStream::connect_timeout(&address, TIMEOUT);
    let _overflowing = std::net::TcpStream::connect_timeout(&address, TIMEOUT);
    assert_eq!(
        probe(CheckKind::Tcp, address).await,
        Outcome::Failure(Failure::NoAnswer(TIMEOUT))
    );
}

#[tokio::test]
async fn a_reset_and_an_orderly_close_are_told_apart() {
    let (resets, _) = server(|mut stream| async move {
        request(&mut stream).await;
        socket2::SockRef::from(&stream)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
    })
    .await;
    assert_eq!(probe(http(), resets).await, Outcome::Failure(Failure::Reset));
    let (closes, _) = server(|mut stream| async move {
        request(&mut stream).await;
    })
    .await;
    assert_eq!(probe(http(), closes).await, Outcome::Failure(Failure::Closed));
}

#[tokio::test]
async fn what_is_not_http_is_malformed_not_a_success() {
    for garbage in [
        "220 mail.example.com ESMTP\r\n\r\n",
        "SSH-2.0-x\r\n\r\n",
        "\0\u{1}\u{2}\r\n\r\n",
    ] {
        let (address, _) = replies(garbage).await;
        let outcome = probe(http(), address).await;
        assert!(
            matches!(outcome, Outcome::Failure(Failure::Malformed(_))),
            "{garbage:?}: {outcome:?}"
        );
    }
}

#[tokio::test]
async fn each_probe_is_one_request_with_its_host_on_a_connection_of_its_own() {
    let (tell, mut heard) = tokio::sync::mpsc::unbounded_channel();
    let (address, connections) = server(move |mut stream| {
        let tell = tell.clone();
        async move {
            tell.send(request(&mut stream).await).unwrap();
            let _gone = stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
                .await;
            std::future::pending::<()>().await;
        }
    })
    .await;
    let host = Some("www.example.com".to_owned());
    let kind = CheckKind::Http(HttpCheck {
        host,
        status: vec![(200, 200)],
        ..page()
    });
    let fleet = FleetBuilder::new(kind)
        .pool_at(&[(None, address)], Some(CheckId(0)))
        .build();
    let prober = prober(&fleet);
    for number in 1..=3 {
        let errand = Errand::of_test(number, TIMEOUT);
        let outcome = send(Arc::clone(&prober), errand).await.outcome;
        assert_eq!(outcome, Outcome::Success(Answer::Status(200)));
        let request = heard.recv().await.unwrap().to_ascii_lowercase();
        assert!(
            request.starts_with("get /healthz?deep=1 http/1.1\r\n"),
            "{request}"
        );
        assert!(request.contains("\r\nhost: www.example.com\r\n"), "{request}");
        assert_eq!(request.matches("host:").count(), 1, "{request}");
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn ipv6_addresses_are_probed() {
    let Ok(listener) = TcpListener::bind("[::1]:0").await else {
        eprintln!("skipped: this machine has no IPv6 loopback");
        return;
    };
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                request(&mut stream).await;
                let _gone = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await;
            });
        }
    });
    assert_eq!(
        probe(http(), address).await,
        Outcome::Success(Answer::Status(200))
    );
    assert_eq!(
        probe(CheckKind::Tcp, address).await,
        Outcome::Success(Answer::Connected)
    );
}

#[tokio::test]
async fn a_target_that_cannot_be_built_says_nothing_of_the_endpoint() {
    let kind = CheckKind::Http(HttpCheck {
        host: Some("bad\nhost".to_owned()),
        ..HttpCheck::plain()
    });
    let outcome = probe(kind, SocketAddr::from(([127, 0, 0, 1], 9))).await;
    assert!(matches!(outcome, Outcome::Void(Void::Local(_))), "{outcome:?}");
}

/// What ends a held connection whose server does this with it.
async fn held<F, Fut>(behave: F) -> Cut
where
    F: Fn(TcpStream) -> Fut + Send + 'static,
    Fut: Future<Output = ()> + Send + 'static,
{
    let (address, _) = server(behave).await;
    let fleet = FleetBuilder::new(CheckKind::Tcp)
        .check(|check| check.tripwire = true)
        .pool_at(&[(None, address)], Some(CheckId(0)))
        .build();
    let prober = prober(&fleet);
    let wire = prober.dial(EndpointId(0), TIMEOUT).await.unwrap();
    prober.hold(wire).await
}

#[tokio::test]
async fn the_end_of_a_held_connection_says_how() {
    let closes = held(|stream| async { drop(stream) }).await;
    assert_eq!(closes, Cut::Closed);
    let greets_and_closes = held(|mut stream| async move {
        stream.write_all(b"220 mx.example.com ESMTP\r\n").await.unwrap();
    })
    .await;
    assert_eq!(greets_and_closes, Cut::Closed);
    let resets = held(|stream| async move { stream.set_zero_linger().unwrap() }).await;
    assert_eq!(resets, Cut::Reset);
    let talks_on =
        held(|mut stream| async move { while stream.write_all(&[b'x'; 1024]).await.is_ok() {} }).await;
    assert_eq!(talks_on, Cut::Failed);
}

#[tokio::test]
async fn a_wire_to_nobody_is_refused_in_the_words_of_a_probe() {
    let (address, _reserved) = nobody_listens();
    let fleet = FleetBuilder::new(CheckKind::Tcp)
        .check(|check| check.tripwire = true)
        .pool_at(&[(None, address)], Some(CheckId(0)))
        .build();
    let refused = prober(&fleet).dial(EndpointId(0), TIMEOUT).await;
    assert_eq!(refused.unwrap_err(), Outcome::Failure(Failure::Refused));
}

#[tokio::test]
async fn what_was_asked_of_other_checks_is_put_together() {
    let (address, _) = replies("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n").await;
    let calculated = |when: Formula| {
        let fleet = FleetBuilder::new(CheckKind::Calculated { when })
            .another("page", http())
            .another("port", CheckKind::Tcp)
            .pool_at(&[(None, address)], Some(CheckId(0)))
            .build();
        let errand = Errand::of_test(1, TIMEOUT);
        async move { send(prober(&fleet), errand).await.outcome }
    };
    let [page, port] = [1, 2].map(|id| Formula::Check(CheckId(id)));
    let told = "page: status 503, want 200-299; port: connected";
    let all = calculated(Formula::All(vec![page.clone(), port.clone()])).await;
    assert_eq!(all, Outcome::Failure(Failure::Wrong(told.to_owned())));
    let any = calculated(Formula::AtLeast(1, vec![page.clone(), port.clone()])).await;
    assert_eq!(any, Outcome::Success(Answer::Seen(told.into())));
    let but = calculated(Formula::All(vec![Formula::Not(Box::new(page)), port])).await;
    assert_eq!(but, Outcome::Success(Answer::Seen(told.into())));
}

#[tokio::test]
async fn a_probe_comes_from_the_address_and_goes_to_the_port_of_its_check() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let elsewhere = SocketAddr::from(([127, 0, 0, 1], 9));
    let fleet = FleetBuilder::new(CheckKind::Tcp)
        .check(|check| {
            check.port = std::num::NonZeroU16::new(port);
            check.source.v4 = Some([127, 0, 0, 77].into());
        })
        .pool_at(&[(None, elsewhere)], Some(CheckId(0)))
        .build();
    let errand = Errand::of_test(1, TIMEOUT);
    assert_eq!(
        send(prober(&fleet), errand).await.outcome,
        Outcome::Success(Answer::Connected)
    );
    let (_, from) = listener.accept().await.unwrap();
    assert_eq!(from.ip().to_string(), "127.0.0.77");
}

/// A name server that gives `answer` to each query, made from its octets.
async fn name_server(answer: impl Fn(Vec<u8>) -> Vec<u8> + Send + 'static) -> SocketAddr {
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut query = [0; 512];
        while let Ok((length, from)) = socket.recv_from(&mut query).await {
            let _gone = socket.send_to(&answer(query[..length].to_vec()), from).await;
        }
    });
    address
}

#[tokio::test]
async fn dns_answers_are_told_from_forged_and_broken_ones() {
    let kind = || {
        CheckKind::Dns(steer_topology::DnsCheck {
            query: "example.com".parse().unwrap(),
            rtype: "A".to_owned(),
            rcode: "NOERROR".to_owned(),
            answer: None,
        })
    };
    let answers = name_server(|mut query| {
        query[2] |= 0x80;
        query
    });
    let empty = Outcome::Success(Answer::Seen("NOERROR, 0 records".into()));
    assert_eq!(probe(kind(), answers.await).await, empty);
    let refuses = name_server(|mut query| {
        (query[2], query[3]) = (query[2] | 0x80, 5);
        query
    });
    let outcome = probe(kind(), refuses.await).await;
    assert_eq!(
        outcome,
        Outcome::Failure(Failure::Wrong("REFUSED, want NOERROR".to_owned()))
    );
    let forges = name_server(|mut query| {
        (query[0], query[2]) = (!query[0], query[2] | 0x80);
        query
    });
    let nothing = Outcome::Failure(Failure::NoAnswer(TIMEOUT));
    assert_eq!(
        probe(kind(), forges.await).await,
        nothing,
        "another id is nobody's answer"
    );
    let cut = name_server(|query| query[..8].to_vec()).await;
    let outcome = probe(kind(), cut).await;
    assert!(
        matches!(&outcome, Outcome::Failure(Failure::Wrong(why)) if why.starts_with("no DNS answer")),
        "{outcome:?}"
    );
    let (closed, _reserved) = {
        let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        (socket.local_addr().unwrap(), ())
    };
    assert_eq!(probe(kind(), closed).await, Outcome::Failure(Failure::Refused));
}

#[tokio::test]
async fn an_echo_is_answered_by_this_machine() {
    for address in ["127.0.0.1:9", "[::1]:9"] {
        let outcome = probe(CheckKind::Icmp, address.parse().unwrap()).await;
        match outcome {
            Outcome::Void(Void::Local(why)) => eprintln!("skip: an echo of {address}: {why}"),
            other @ (Outcome::Success(_) | Outcome::Failure(_) | Outcome::Void(_)) => {
                assert_eq!(other, Outcome::Success(Answer::Seen("echo".into())), "{address}");
            }
        }
    }
}

#[tokio::test]
async fn grpc_that_is_something_else_says_what() {
    let kind = || {
        CheckKind::Grpc(steer_topology::GrpcCheck {
            service: String::new(),
            tls: None,
        })
    };
    let (address, _) = replies("HTTP/1.1 400 Bad Request\r\n\r\n").await;
    let outcome = probe(kind(), address).await;
    assert!(
        matches!(&outcome, Outcome::Failure(Failure::Wrong(why)) if why.starts_with("no HTTP/2 answer")),
        "{outcome:?}"
    );
    let (address, _reserved) = nobody_listens();
    assert_eq!(probe(kind(), address).await, Outcome::Failure(Failure::Refused));
}

#[tokio::test]
async fn reports_are_taken_for_external_checks_alone_and_their_lease_ends() {
    let lease = Duration::from_millis(50);
    let fleet = FleetBuilder::new(CheckKind::External { lease })
        .pool(&[None])
        .build();
    let external = prober(&fleet);
    let look = || async {
        external
            .probe(Errand::of_test(1, TIMEOUT), &Progress::default())
            .await
    };
    assert_eq!(
        look().await,
        Outcome::Void(Void::NoReport),
        "nobody had time to report yet"
    );
    tokio::time::sleep(lease).await;
    assert_eq!(look().await, Outcome::Failure(Failure::LeaseOver(lease)));
    assert!(external.reported(EndpointId(0), Reporter::Outside, Instant::now()));
    assert_eq!(look().await, Outcome::Void(Void::NoReport));
    let fleet = FleetBuilder::new(CheckKind::Tcp).pool(&[None]).build();
    assert!(!prober(&fleet).reported(EndpointId(0), Reporter::Outside, Instant::now()));
}
