//! Clients that mean harm or are broken: what they see, what it costs, and that the others are served.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peers::{Backend, Script, call, call_on, client, edge_with, request, until, within};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const GOAWAY: u8 = 7;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;

const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

const REFUSED_STREAM: u32 = 7;
const ENHANCE_YOUR_CALM: u32 = 11;

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// The header block of a call: HPACK without a table, RFC 7541 §6.2.2.
fn block() -> Vec<u8> {
    let mut block = vec![0x83, 0x86]; // POST, http
    for (name, value) in [(4, "/pay.Payment/Charge"), (1, "edge")] {
        block.extend([name, u8::try_from(value.len()).unwrap()]);
        block.extend(value.bytes());
    }
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")] {
        block.push(0);
        for text in [name, value] {
            block.push(u8::try_from(text.len()).unwrap());
            block.extend(text.bytes());
        }
    }
    block
}

fn headers(stream: u32) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, stream, &block())
}

/// HTTP/2 by hand: answers nothing by itself.
struct Raw(TcpStream);

impl Raw {
    async fn connect(edge: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(edge).await.unwrap();
        stream.write_all(PREFACE).await.unwrap();
        stream.write_all(&frame(SETTINGS, 0, 0, &[])).await.unwrap();
        Self(stream)
    }

    /// Whether it could be written.
    async fn send(&mut self, octets: &[u8]) -> bool {
        within(self.0.write_all(octets)).await.is_ok()
    }

    /// The next frame: kind, stream, and the code of a reset or of a GOAWAY. `None`: the connection is closed.
    async fn next(&mut self) -> Option<(u8, u32, Option<u32>)> {
        let work = async {
            let mut head = [0; 9];
            self.0.read_exact(&mut head).await.ok()?;
            let [_, a, b, kind, _, stream @ ..] = head;
            let mut payload = vec![0; usize::from(a) << 8 | usize::from(b)];
            self.0.read_exact(&mut payload).await.ok()?;
            let code = match kind {
                RST_STREAM => payload.first_chunk(),
                GOAWAY => payload.get(4..).and_then(<[u8]>::first_chunk),
                _ => None,
            };
            Some((
                kind,
                u32::from_be_bytes(stream),
                code.copied().map(u32::from_be_bytes),
            ))
        };
        within(work).await
    }

    /// Reads to the end of the connection; the code of its GOAWAY, if there was one.
    async fn end(&mut self) -> Option<u32> {
        let mut told = None;
        while let Some((kind, _, code)) = self.next().await {
            if kind == GOAWAY {
                told = code;
            }
        }
        told
    }
}

/// Somebody else is served.
async fn is_well(edge: SocketAddr) {
    assert_eq!(call(edge, &[], b"octets").await.status(), "0");
}

#[tokio::test]
async fn continuation_frames_without_end_close_the_connection_after_a_few() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge_with("", &[backend.address], "", "").await;
    let mut raw = Raw::connect(edge.address()).await;
    raw.send(&frame(HEADERS, 0, 1, &block())).await;
    // Fields of 100 octets, in frames that are as long as they may be.
    let field = [&[0, 1, b'a', 100][..], &[b'x'; 100]].concat();
    let payload = field.repeat(16_384 / field.len());
    let flood = frame(CONTINUATION, 0, 1, &payload);
    for _ in 0..1000 {
        if !raw.send(&flood).await {
            break;
        }
    }
    // Its GOAWAY may be lost behind what we had still in flight.
    let told = raw.end().await;
    assert!(told.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{told:?}");
    assert_eq!(backend.seen(), 0);
    is_well(edge.address()).await;
}

#[tokio::test]
async fn a_small_block_that_unpacks_to_megabytes_is_a_request_with_too_large_headers() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge_with("", &[backend.address], "", "").await;
    let mut raw = Raw::connect(edge.address()).await;
    // RFC 7541 §6.2.1: a field of 3 KB goes into the table, and is named ten thousand times (§6.1).
    let mut bomb = block();
    bomb.extend([0x40, 1, b'a', 0x7f, 0xb9, 0x16]); // 3,000 = 127 + 2,873
    bomb.extend([b'x'; 3000]);
    bomb.extend([0xbe; 10_000]);
    raw.send(&frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb))
        .await;
    let answered = loop {
        match raw.next().await {
            Some((HEADERS | RST_STREAM | GOAWAY, ..)) | None => break true,
            Some(_) => {}
        }
    };
    assert!(answered);
    assert_eq!(backend.seen(), 0);
    is_well(edge.address()).await;
}

#[tokio::test]
async fn a_request_with_too_large_headers_is_answered_431() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge_with("", &[backend.address], "", "").await;
    let large = "x".repeat(70 << 10);
    let seen = call(edge.address(), &[("x-large", &large)], b"").await;
    assert_eq!(seen.http.as_u16(), 431);
    assert_eq!(backend.seen(), 0);
}

#[tokio::test]
async fn streams_that_are_reset_before_they_are_taken_close_the_connection() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge_with("", &[backend.address], "", "").await;
    let mut raw = Raw::connect(edge.address()).await;
    let mut flood = Vec::new();
    for stream in (1..20_000).step_by(2) {
        flood.extend(headers(stream));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    raw.send(&flood).await;
    let told = raw.end().await;
    assert!(told.is_none_or(|code| code == ENHANCE_YOUR_CALM), "{told:?}");
    assert!(backend.seen() < 1000, "{} of 10,000", backend.seen());
    is_well(edge.address()).await;
}

#[tokio::test]
async fn calls_that_are_reset_as_soon_as_a_backend_has_them_close_the_connection() {
    let backend = Backend::start(&[Script::Silent]).await;
    let edge = edge_with("[clients]\nyoung_resets = 20", &[backend.address], "", "").await;
    let mut raw = Raw::connect(edge.address()).await;
    for number in 0..20 {
        let stream = 2 * number + 1;
        raw.send(&headers(stream)).await;
        until("the backend has it", || backend.seen() > number as usize).await;
        raw.send(&frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()))
            .await;
    }
    assert_eq!(raw.end().await, Some(ENHANCE_YOUR_CALM));
    until("the backend is told of each", || backend.resets() == 20).await;
}

#[tokio::test]
async fn more_streams_than_the_edge_has_announced_are_refused() {
    let backend = Backend::start(&[Script::Silent]).await;
    let edge = edge_with("[clients]\nstreams = 3", &[backend.address], "", "").await;
    let mut raw = Raw::connect(edge.address()).await;
    for stream in [1, 3, 5, 7] {
        raw.send(&headers(stream)).await;
    }
    let refused = loop {
        match raw.next().await {
            Some((RST_STREAM, stream, code)) => break (stream, code),
            Some(_) => {}
            None => panic!("the connection is closed"),
        }
    };
    assert_eq!(refused, (7, Some(REFUSED_STREAM)));
    until("the others are passed on", || backend.seen() == 3).await;
}

#[tokio::test]
async fn malformed_frames_end_their_connection_and_no_other() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge_with("", &[backend.address], "", "").await;
    let good = client(edge.address()).await;
    let rows: [(&str, Vec<u8>); 9] = [
        ("DATA of no stream", frame(DATA, 0, 0, b"x")),
        ("DATA of a stream that is not open", frame(DATA, 0, 9, b"x")),
        ("a stream of the server's", headers(2)),
        ("SETTINGS of five octets", frame(SETTINGS, 0, 0, &[0; 5])),
        (
            "a window that grows by nothing",
            frame(WINDOW_UPDATE, 0, 0, &[0; 4]),
        ),
        ("PING of seven octets", frame(PING, 0, 0, &[0; 7])),
        ("a frame that is too long", frame(DATA, 0, 1, &[0; 16_385])),
        (
            "CONTINUATION of nothing",
            frame(CONTINUATION, END_HEADERS, 1, b""),
        ),
        (
            "no HPACK",
            frame(HEADERS, END_HEADERS | END_STREAM, 1, &[0xff; 12]),
        ),
    ];
    for (what, octets) in rows {
        let mut raw = Raw::connect(edge.address()).await;
        raw.send(&octets).await;
        let told = raw.end().await;
        assert!(
            told.is_some_and(|code| code != 0),
            "{what}: {told:?}; a reason is wanted"
        );
        let seen = call_on(good.clone(), &[], b"octets").await.unwrap();
        assert_eq!(seen.status(), "0", "{what}");
    }
    // What is no HTTP/2 at all.
    let mut stream = TcpStream::connect(edge.address()).await.unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: edge\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    _ = within(stream.read_to_end(&mut answer)).await;
    is_well(edge.address()).await;
}

/// A number that has not changed for a while.
async fn stable(number: impl Fn() -> usize) -> usize {
    let work = async {
        let (mut last, mut times) = (number(), 0);
        while times < 25 {
            tokio::time::sleep(Duration::from_millis(10)).await;
            let now = number();
            times = if now == last && now > 0 { times + 1 } else { 0 };
            last = now;
        }
        last
    };
    within(work).await
}

#[tokio::test]
async fn a_client_that_reads_nothing_holds_back_the_backend_and_is_reset_after_a_while() {
    let backend = Backend::start(&[Script::Endless]).await;
    let edge = edge_with("[clients]\nstall_ms = 1500", &[backend.address], "", "").await;
    let send = client(edge.address()).await;
    let (response, _) = send
        .ready()
        .await
        .unwrap()
        .send_request(request(&[]), true)
        .unwrap();
    let mut body = within(response).await.unwrap().into_body();
    let sent = stable(|| backend.sent()).await;
    assert!(sent < 4 << 20, "{sent} octets wait in the edge");
    until("the backend is told", || backend.resets() == 1).await;
    let error = loop {
        match within(body.data()).await {
            Some(Ok(_)) => {} // what was on its way; we give no more room
            Some(Err(error)) => break error,
            None => panic!("it ended well"),
        }
    };
    assert_eq!(error.reason(), Some(h2::Reason::CANCEL));
}

#[tokio::test]
async fn a_message_that_nobody_takes_waits_at_the_client() {
    let backend = Backend::start(&[Script::Silent]).await;
    let edge = edge_with("", &[backend.address], "", "").await;
    let send = client(edge.address()).await;
    let (_response, mut body) = send
        .ready()
        .await
        .unwrap()
        .send_request(request(&[]), false)
        .unwrap();
    // A message of 4 GB begins.
    body.send_data(Bytes::from_static(&[0, 0xff, 0xff, 0xff, 0xff]), false)
        .unwrap();
    let mut sent = 0;
    loop {
        body.reserve_capacity(16 << 10);
        let room = std::future::poll_fn(|cx| body.poll_capacity(cx));
        let Ok(room) = tokio::time::timeout(Duration::from_millis(500), room).await else {
            break;
        };
        let room = room.unwrap().unwrap();
        sent += room;
        body.send_data(Bytes::from(vec![0; room]), false).unwrap();
        assert!(sent < 2 << 20, "the edge takes it all");
    }
    assert!(sent > 0);
}

#[tokio::test]
async fn a_client_that_is_half_gone_is_given_up_and_one_that_answers_is_not() {
    let backend = Backend::start(&[Script::Silent, Script::Silent, Script::Echo]).await;
    let edge = edge_with("[clients]\nping_ms = 300", &[backend.address], "", "").await;
    let alive = client(edge.address()).await;
    let (_pending, _body) = alive
        .clone()
        .ready()
        .await
        .unwrap()
        .send_request(request(&[]), false)
        .unwrap();
    until("the backend has a call of one who answers", || {
        backend.seen() == 1
    })
    .await;
    let mut gone = Raw::connect(edge.address()).await;
    gone.send(&headers(1)).await;
    until("and of one who will not", || backend.seen() == 2).await;
    // It reads what comes and answers no ping.
    gone.end().await;
    until("its call is given up", || backend.resets() == 1).await;
    // One who stops amid a header block has no call, and is given up as well.
    let mut amid = Raw::connect(edge.address()).await;
    amid.send(&frame(HEADERS, 0, 1, &block())).await;
    amid.end().await;
    let seen = call_on(alive, &[], b"octets").await.unwrap();
    assert_eq!((seen.status(), backend.resets()), ("0", 1));
}
