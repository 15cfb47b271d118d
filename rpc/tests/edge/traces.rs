//! What a collector is told of calls, and what a backend gets of their trace.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use h2::Reason;
use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
use steer_rpc::edge::{Edge, EdgeConfig, Running, TraceParent};
use tokio::net::TcpStream;

use crate::collector::{Collector, Manner, Told};
use crate::keys::Root;
use crate::meter::{sample, scrape};
use crate::peers::{Backend, Script, call, call_on, client, edge_with, read, request, until, within};

const ONCE: &str = "semantics = \"at-most-once\"";
const KEYED: &str = "semantics = \"keyed\"";

/// A parent that is sampled, and one that is not.
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// Lines that tell a collector of calls.
fn traces(collector: SocketAddr, rest: &str) -> String {
    format!("admin = \"127.0.0.1:0\"\n[traces]\nendpoint = \"http://{collector}\"\n{rest}")
}

/// An edge that tells `collector` of all calls.
async fn edge(backends: &[SocketAddr], collector: &Collector, rules: &str) -> Running {
    edge_with(&traces(collector.address, "sample = 1"), backends, "", rules).await
}

/// All that the collector gets: a drain exports what waits.
async fn told(edge: Running, collector: &Collector) -> Vec<Told> {
    within(edge.drain()).await;
    collector.told()
}

/// What the backend got with its stream of this number.
fn parent(backend: &Backend, number: usize) -> TraceParent {
    TraceParent::parse(backend.head(number)["traceparent"].as_bytes()).unwrap()
}

/// Spans that were dropped; all edges of this process count together.
async fn dropped(edge: &Running, cause: &str) -> f64 {
    let text = scrape(edge.admin().unwrap()).await;
    sample(
        &text,
        &format!("steer_rpc_spans_dropped_total{{cause=\"{cause}\"}}"),
    )
}

#[tokio::test]
async fn a_call_is_a_span_and_its_attempt_one_below_it_that_the_backend_gets_as_its_parent() {
    let backend = Backend::start(&[Script::Echo]).await;
    let collector = Collector::start(Manner::Takes).await;
    let edge = edge(&[backend.address], &collector, ONCE).await;
    let seen = call(edge.address(), &[], b"octets").await;
    assert_eq!((seen.status(), &seen.body[..]), ("0", &b"octets"[..]));
    let told = told(edge, &collector).await;
    let [server, attempt] = &told[..] else {
        panic!("{told:?}");
    };
    assert_eq!(
        (server.kind(), attempt.kind()),
        (SpanKind::Server, SpanKind::Client)
    );
    assert_eq!(
        (server.span.name.as_str(), server.span.parent_span_id.len()),
        ("pay.Payment/Charge", 0)
    );
    let keys = [
        "rpc.system",
        "rpc.service",
        "rpc.method",
        "rpc.grpc.status_code",
        "client.address",
        "steer.fate",
        "steer.attempts",
        "steer.pool",
        "steer.priority",
        "steer.snapshot",
    ];
    let expected = [
        "grpc",
        "pay.Payment",
        "Charge",
        "0",
        "127.0.0.1",
        "committed",
        "1",
        "x",
        "none",
        "none",
    ];
    assert_eq!(server.all(keys), expected);
    let keys = [
        "rpc.method",
        "rpc.grpc.status_code",
        "server.address",
        "server.port",
        "steer.attempt",
        "steer.retry",
        "steer.fate",
    ];
    let port = backend.address.port().to_string();
    assert_eq!(
        attempt.all(keys),
        ["Charge", "0", "127.0.0.1", &port, "1", "none", "committed"]
    );
    assert!(!server.is_error() && !attempt.is_error());
    assert_eq!(server.service["service.name"], "steer-edge");

    assert_eq!(attempt.span.trace_id, server.span.trace_id);
    assert_eq!(attempt.span.parent_span_id, server.span.span_id);
    let parent = parent(&backend, 0);
    assert!(parent.is_sampled);
    assert_eq!(&parent.trace.octets()[..], &server.span.trace_id[..]);
    assert_eq!(&parent.span.octets()[..], &attempt.span.span_id[..]);
    let within = |span: &Told| (span.span.start_time_unix_nano, span.span.end_time_unix_nano);
    let ((began, ended), (first, last)) = (within(server), within(attempt));
    assert!(began <= first && first < last && last <= ended, "{told:?}");
}

#[tokio::test]
async fn each_attempt_of_a_call_says_why_it_follows_another_one() {
    let again = |script: Script, rules: &'static str| async move {
        let backend = Backend::start(&[script, Script::Echo]).await;
        let collector = Collector::start(Manner::Takes).await;
        let edge = edge(&[backend.address], &collector, rules).await;
        assert_eq!(call(edge.address(), &[], b"octets").await.status(), "0");
        let told = told(edge, &collector).await;
        let [server, first, second] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(server.all(["steer.attempts", "rpc.grpc.status_code"]), ["2", "0"]);
        for (number, attempt) in [(0, first), (1, second)] {
            assert_eq!(attempt.span.parent_span_id, server.span.span_id);
            assert_eq!(
                &parent(&backend, number).span.octets()[..],
                &attempt.span.span_id[..]
            );
            assert_eq!(attempt.value("steer.attempt"), Some((number + 1).to_string()));
        }
        let ends = |attempt: &Told| attempt.all(["steer.retry", "steer.fate", "rpc.grpc.status_code"]);
        assert!(first.is_error() && !second.is_error() && !server.is_error());
        (ends(first), ends(second))
    };
    let told = again(Script::Status(14), KEYED).await;
    let expected = [["none", "ambiguous", "14"], ["retry", "committed", "0"]];
    assert_eq!(
        told,
        (expected[0].map(str::to_owned), expected[1].map(str::to_owned))
    );
    let told = again(Script::Reset(Reason::REFUSED_STREAM), ONCE).await;
    let expected = [["none", "unprocessed", "14"], ["transparent", "committed", "0"]];
    assert_eq!(
        told,
        (expected[0].map(str::to_owned), expected[1].map(str::to_owned))
    );
    let told = again(Script::Silent, "semantics = \"keyed\"\nhedge_after_ms = 50").await;
    let expected = [["none", "ambiguous", "1"], ["hedge", "committed", "0"]];
    assert_eq!(
        told,
        (expected[0].map(str::to_owned), expected[1].map(str::to_owned))
    );
}

#[tokio::test]
async fn what_is_not_recorded_is_passed_on_as_it_came() {
    let backend = Backend::start(&[Script::Echo]).await;
    let collector = Collector::start(Manner::Takes).await;
    let head = traces(collector.address, "sample = 0");
    let edge = edge_with(&head, &[backend.address], "", ONCE).await;
    let state = ("tracestate", "vendor=opaque");
    let malformed = "00-not-a-parent-at-all";
    for headers in [
        &[("traceparent", UNSAMPLED), state][..],
        &[("traceparent", malformed), state],
        &[],
    ] {
        call(edge.address(), headers, b"x").await;
        let got = backend.head(backend.seen() - 1);
        for name in ["traceparent", "tracestate"] {
            let sent = headers.iter().find(|(sent, _)| *sent == name);
            let got = got.get(name).map(|value| value.to_str().unwrap());
            assert_eq!(got, sent.map(|(_, value)| *value), "{headers:?}");
        }
    }
    assert!(told(edge, &collector).await.is_empty());
    // Nor does an edge without `[traces]` touch it.
    let plain = edge_with("", &[backend.address], "", ONCE).await;
    call(plain.address(), &[("traceparent", SAMPLED)], b"x").await;
    assert_eq!(backend.head(backend.seen() - 1)["traceparent"], SAMPLED);
}

#[tokio::test]
async fn a_parent_that_is_sampled_is_obeyed_and_its_trace_goes_on() {
    let backend = Backend::start(&[Script::Echo]).await;
    let collector = Collector::start(Manner::Takes).await;
    let head = traces(collector.address, "sample = 0");
    let edge = edge_with(&head, &[backend.address], "", ONCE).await;
    let headers = [("traceparent", SAMPLED), ("tracestate", "a=1,b=2")];
    call(edge.address(), &headers, b"x").await;
    let told = told(edge, &collector).await;
    let [server, attempt] = &told[..] else {
        panic!("{told:?}");
    };
    let theirs = TraceParent::parse(SAMPLED.as_bytes()).unwrap();
    assert_eq!(&server.span.trace_id[..], theirs.trace.octets());
    assert_eq!(&server.span.parent_span_id[..], theirs.span.octets());
    assert_eq!(
        (server.span.trace_state.as_str(), server.span.flags),
        ("a=1,b=2", 0x301)
    );
    let ours = parent(&backend, 0);
    assert_eq!((ours.trace, ours.is_sampled), (theirs.trace, true));
    assert_eq!(&ours.span.octets()[..], &attempt.span.span_id[..]);
    assert_eq!(backend.head(0)["tracestate"], "a=1,b=2");
}

#[tokio::test]
async fn a_parent_that_is_none_begins_a_new_trace_without_its_state() {
    let backend = Backend::start(&[Script::Echo]).await;
    let collector = Collector::start(Manner::Takes).await;
    let edge = edge(&[backend.address], &collector, ONCE).await;
    let rows: [&[(&str, &str)]; 3] = [
        &[
            (
                "traceparent",
                "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            ),
            ("tracestate", "a=1"),
        ],
        &[
            ("traceparent", SAMPLED),
            ("traceparent", SAMPLED),
            ("tracestate", "a=1"),
        ],
        &[("tracestate", "a=1")],
    ];
    for headers in rows {
        call(edge.address(), headers, b"x").await;
    }
    let told = told(edge, &collector).await;
    let servers: Vec<_> = told
        .iter()
        .filter(|told| told.kind() == SpanKind::Server)
        .collect();
    assert_eq!(servers.len(), rows.len());
    let theirs = TraceParent::parse(SAMPLED.as_bytes()).unwrap();
    for (number, server) in servers.iter().enumerate() {
        assert_eq!(
            (server.span.parent_span_id.len(), server.span.trace_state.as_str()),
            (0, "")
        );
        let got = parent(&backend, number);
        assert_eq!(&got.trace.octets()[..], &server.span.trace_id[..]);
        assert_ne!(got.trace, theirs.trace);
        assert!(!backend.head(number).contains_key("tracestate"));
        assert_eq!(backend.head(number).get_all("traceparent").iter().count(), 1);
    }
}

#[tokio::test]
async fn a_call_that_is_turned_away_is_a_span_with_its_status_and_fate() {
    let backend = Backend::start(&[Script::Silent]).await;
    let collector = Collector::start(Manner::Takes).await;
    let rest = "sample = 1\n[rate_limit]\nclient = \"header:x-key\"\nper_second = 1\nburst = 1\n\
                [clients]\ncalls = 2\n[priority]\nheader = \"x-priority\"";
    let head = traces(collector.address, rest);
    let pool = "concurrency = { min = 1, initial = 1, max = 1 }";
    let edge = edge_with(&head, &[backend.address], pool, ONCE).await;
    let address = edge.address();
    let late = call(address, &[("x-key", "a"), ("grpc-timeout", "0n")], b"x").await;
    let often = call(address, &[("x-key", "a")], b"x").await;
    let malformed = call(address, &[("x-key", "b"), ("grpc-timeout", "soon")], b"x").await;
    let send = client(address).await;
    let begin = async |key: &str| {
        let mut send = send.clone().ready().await.unwrap();
        send.send_request(request(&[("x-key", key), ("grpc-timeout", "1S")]), true)
            .unwrap()
    };
    let open = begin("c").await;
    until("the only place is taken", || backend.seen() == 1).await;
    let shed = call(address, &[("x-key", "d"), ("x-priority", "sheddable")], b"x").await;
    let statuses =
        [late, often, malformed, shed].map(|seen| (seen.status().to_owned(), seen.fate().to_owned()));
    drop(open);
    let told = told(edge, &collector).await;
    let turned_away = told
        .iter()
        .filter(|told| told.value("steer.attempts").as_deref() == Some("0"));
    let keys = ["rpc.grpc.status_code", "steer.fate", "steer.priority"];
    let turned_away: Vec<_> = turned_away.map(|told| told.all(keys)).collect();
    let expected = [
        ["4", "not-sent", "critical"],
        ["8", "unprocessed", "critical"],
        ["13", "unprocessed", "critical"],
        ["14", "unprocessed", "sheddable"],
    ];
    assert_eq!(turned_away, expected.map(|row| row.map(str::to_owned)));
    for (seen, [status, fate, _]) in statuses.iter().zip(expected) {
        assert_eq!(
            (seen.0.as_str(), seen.1.as_str()),
            (status, fate),
            "what the client was told"
        );
    }
    // And the one that was let in, whose client left.
    let left: Vec<_> = told
        .iter()
        .filter(|told| told.value("steer.attempts").as_deref() != Some("0"))
        .collect();
    assert_eq!(left.len(), 2);
    assert_eq!(
        left[0].all(["rpc.grpc.status_code", "steer.fate", "steer.attempts"]),
        ["1", "ambiguous", "1"]
    );
}

#[tokio::test]
async fn a_call_that_the_edge_has_no_place_for_is_a_span_too() {
    let backend = Backend::start(&[Script::Silent]).await;
    let collector = Collector::start(Manner::Takes).await;
    let head = traces(collector.address, "sample = 1\n[clients]\ncalls = 1");
    let edge = edge_with(&head, &[backend.address], "", ONCE).await;
    let send = client(edge.address()).await;
    let mut send = send.ready().await.unwrap();
    let open = send.send_request(request(&[]), true).unwrap();
    until("the only place is taken", || backend.seen() == 1).await;
    assert_eq!(call(edge.address(), &[], b"x").await.status(), "14");
    drop(open);
    let told = told(edge, &collector).await;
    let away: Vec<_> = told
        .iter()
        .filter(|told| told.value("steer.pool").is_none())
        .collect();
    let servers: Vec<_> = away
        .iter()
        .filter(|told| told.kind() == SpanKind::Server)
        .collect();
    assert_eq!(servers.len(), 1);
    assert_eq!(
        servers[0].all(["rpc.grpc.status_code", "steer.fate", "rpc.method"]),
        ["14", "unprocessed", "Charge"]
    );
}

#[tokio::test]
async fn a_deadline_that_passes_and_an_answer_that_breaks_off_are_told_with_their_attempt() {
    for (script, timeout, status, fate) in [
        (Script::Silent, "200m", "4", "ambiguous"),
        (Script::HalfAnswer, "9S", "14", "ambiguous"),
    ] {
        let backend = Backend::start(&[script]).await;
        let collector = Collector::start(Manner::Takes).await;
        let edge = edge(&[backend.address], &collector, ONCE).await;
        call(edge.address(), &[("grpc-timeout", timeout)], b"x").await;
        let told = told(edge, &collector).await;
        let [server, attempt] = &told[..] else {
            panic!("{told:?}");
        };
        assert_eq!(server.all(["rpc.grpc.status_code", "steer.fate"]), [status, fate]);
        assert_eq!(
            attempt.all(["rpc.grpc.status_code", "steer.fate"]),
            [status, "ambiguous"]
        );
        assert!(server.is_error() && attempt.is_error());
    }
}

#[tokio::test]
async fn what_is_no_grpc_is_told_under_the_names_of_http() {
    let backend = Backend::start(&[Script::Echo, Script::Close]).await;
    let collector = Collector::start(Manner::Takes).await;
    let edge = edge(&[backend.address], &collector, ONCE).await;
    for _ in 0..2 {
        let plain = http::Request::get("http://edge/page").body(()).unwrap();
        let send = client(edge.address()).await.ready().await;
        let (response, _) = send.unwrap().send_request(plain, true).unwrap();
        read(within(response).await.unwrap()).await;
    }
    let told = told(edge, &collector).await;
    let keys = [
        "http.request.method",
        "url.path",
        "http.response.status_code",
        "rpc.system",
    ];
    let servers = told.iter().filter(|told| told.kind() == SpanKind::Server);
    let servers: Vec<_> = servers
        .map(|told| (told.all(keys), told.span.name.clone()))
        .collect();
    let row = |status: &str| {
        (
            ["GET", "/page", status, "none"].map(str::to_owned),
            "GET".to_owned(),
        )
    };
    assert_eq!(servers, [row("200"), row("503")]);
}

#[tokio::test]
async fn of_two_edges_in_a_row_the_second_goes_on_with_the_trace_of_the_first() {
    let backend = Backend::start(&[Script::Echo]).await;
    let collector = Collector::start(Manner::Takes).await;
    let head = traces(collector.address, "sample = 0\nservice = \"inner\"");
    let inner = edge_with(&head, &[backend.address], "", ONCE).await;
    let outer = edge(&[inner.address()], &collector, ONCE).await;
    call(outer.address(), &[], b"x").await;
    within(outer.drain()).await;
    let told = told(inner, &collector).await;
    let ids = |told: &Told| (told.span.span_id.clone(), told.span.parent_span_id.clone());
    let chain: Vec<_> = told.iter().map(ids).collect();
    assert_eq!(chain.len(), 4);
    assert!(chain.windows(2).all(|pair| pair[1].1 == pair[0].0), "{told:?}");
    let services: Vec<_> = told
        .iter()
        .map(|told| told.service["service.name"].as_str())
        .collect();
    assert_eq!(services, ["steer-edge", "steer-edge", "inner", "inner"]);
}

#[tokio::test]
async fn clients_cannot_have_more_calls_recorded_than_the_bound() {
    let backend = Backend::start(&[Script::Echo]).await;
    let collector = Collector::start(Manner::Takes).await;
    let head = traces(collector.address, "sample = 0\nper_second = 1");
    let edge = edge_with(&head, &[backend.address], "", ONCE).await;
    let send = client(edge.address()).await;
    let began = Instant::now();
    for _ in 0..50 {
        let headers = [("traceparent", SAMPLED)];
        call_on(send.clone(), &headers, b"x").await.unwrap();
    }
    let seconds = began.elapsed().as_secs() as usize;
    let beyond = backend.head(49);
    let text = scrape(edge.admin().unwrap()).await;
    assert!(sample(&text, "steer_rpc_traces_limited_total") > 0.0);
    drop(send);
    let told = told(edge, &collector).await;
    let calls = told.iter().filter(|told| told.kind() == SpanKind::Server).count();
    assert!((1..=2 + seconds).contains(&calls), "{calls} in {seconds} s");
    if seconds == 0 {
        assert_eq!(beyond["traceparent"], SAMPLED, "who is not recorded is passed on");
    }
}

#[tokio::test]
async fn a_collector_that_says_nothing_slows_no_call_and_what_it_does_not_take_is_counted() {
    let backend = Backend::start(&[Script::Echo]).await;
    let collector = Collector::start(Manner::Hangs).await;
    let head = traces(
        collector.address,
        "sample = 1\nper_second = 1_000_000\nqueue = 16",
    );
    let edge = edge_with(&head, &[backend.address], "", ONCE).await;
    let before = dropped(&edge, "queue").await;
    let send = client(edge.address()).await;
    let began = Instant::now();
    let mut slowest = Duration::ZERO;
    for _ in 0..200 {
        let began = Instant::now();
        assert_eq!(call_on(send.clone(), &[], b"x").await.unwrap().status(), "0");
        slowest = slowest.max(began.elapsed());
    }
    // An export that is waited for takes ten seconds.
    assert!(
        slowest < Duration::from_secs(2),
        "{slowest:?} of {:?}",
        began.elapsed()
    );
    until("it is asked", || collector.exports() > 0).await;
    let lost = dropped(&edge, "queue").await - before;
    // 400 spans, of which 16 wait, and 16 were on their way.
    assert!(lost >= 360.0, "{lost}");
    drop(send);
    let began = Instant::now();
    within(edge.drain()).await;
    let took = began.elapsed();
    assert!(
        took < Duration::from_secs(4),
        "a drain waits 2 s for a collector: {took:?}"
    );
    assert!(collector.told().is_empty());
}

#[tokio::test]
async fn what_is_not_taken_for_ten_seconds_is_dropped_and_counted_and_a_later_call_is_exported() {
    // A port that nobody listens on: bound and closed again.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nowhere.local_addr().unwrap();
    drop(nowhere);
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge_with(&traces(address, "sample = 1"), &[backend.address], "", ONCE).await;
    let before = dropped(&edge, "unavailable").await;
    call(edge.address(), &[], b"lost").await;
    let began = Instant::now();
    // No other test waits so long for a collector that is away.
    while dropped(&edge, "unavailable").await < before + 1.5 {
        assert!(began.elapsed() < crate::peers::PATIENCE, "it is never counted");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert!(began.elapsed() > Duration::from_secs(9), "{:?}", began.elapsed());
    let collector = Collector::start_at(address, Manner::Takes, None).await;
    call(edge.address(), &[], b"told").await;
    until("it is told", || collector.told().len() == 2).await;
    assert!(
        within(told(edge, &collector)).await.len() == 2,
        "what was dropped is gone"
    );
}

#[tokio::test]
async fn a_collector_that_is_not_ready_yet_gets_the_same_spans_again() {
    let backend = Backend::start(&[Script::Echo]).await;
    let collector = Collector::start(Manner::NotYet(3)).await;
    let edge = edge(&[backend.address], &collector, ONCE).await;
    call(edge.address(), &[], b"x").await;
    until("it is told", || collector.told().len() == 2).await;
    assert_eq!(collector.exports(), 4);
}

#[tokio::test]
async fn a_collector_that_restarts_amid_an_export_gets_the_same_spans_again() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge_with(&traces(address, "sample = 1"), &[backend.address], "", ONCE).await;
    call(edge.address(), &[], b"x").await;
    let export = async {
        let (stream, _) = listener.accept().await.unwrap();
        let mut connection = h2::server::handshake(stream).await.unwrap();
        connection.accept().await.unwrap().unwrap()
    };
    drop(within(export).await);
    drop(listener);
    let collector = Collector::start_at(address, Manner::Takes, None).await;
    until("it is told", || collector.told().len() == 2).await;
}

#[tokio::test]
async fn what_a_collector_refuses_is_counted_and_not_sent_again() {
    for (manner, taken, refused) in [(Manner::RefusesOne, 1, 1.0), (Manner::RefusesAll, 0, 2.0)] {
        let backend = Backend::start(&[Script::Echo]).await;
        let collector = Collector::start(manner).await;
        let edge = edge(&[backend.address], &collector, ONCE).await;
        // No other test has a collector that refuses.
        let before = dropped(&edge, "refused").await;
        call(edge.address(), &[], b"x").await;
        let began = Instant::now();
        while dropped(&edge, "refused").await < before + refused - 1e-9 {
            assert!(began.elapsed() < crate::peers::PATIENCE, "it is never counted");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        assert!(dropped(&edge, "refused").await < before + refused + 1e-9);
        assert_eq!(
            (told(edge, &collector).await.len(), collector.exports()),
            (taken, 1)
        );
    }
}

#[tokio::test]
async fn spans_reach_the_collector_without_a_drain_too() {
    let backend = Backend::start(&[Script::Echo]).await;
    let collector = Collector::start(Manner::Takes).await;
    let edge = edge(&[backend.address], &collector, ONCE).await;
    call(edge.address(), &[], b"x").await;
    until("it is told", || collector.told().len() == 2).await;
    assert_eq!(backend.seen(), 1);
    drop(edge);
}

/// An edge whose drain is short.
fn config(backend: SocketAddr, traces: &str) -> EdgeConfig {
    let text = format!(
        "listen = \"127.0.0.1:0\"\ndrain_ms = 200\nworkers = 1\n{traces}\n[[pool]]\nname = \"x\"\nbackends = [\"{backend}\"]\n"
    );
    EdgeConfig::parse(&text, Path::new(".")).unwrap()
}

#[tokio::test]
async fn a_call_that_a_drain_does_not_wait_for_is_told_as_cancelled() {
    let backend = Backend::start(&[Script::Silent]).await;
    let collector = Collector::start(Manner::Takes).await;
    let traces = format!(
        "[traces]\nendpoint = \"http://{}\"\nsample = 1",
        collector.address
    );
    let config = config(backend.address, &traces);
    let edge = Edge::bind(config).await.unwrap().run().unwrap();
    let send = client(edge.address()).await;
    let open = send.ready().await.unwrap().send_request(request(&[]), true);
    until("the backend has it", || backend.seen() == 1).await;
    let told = told(edge, &collector).await;
    let [server, attempt] = &told[..] else {
        panic!("{told:?}");
    };
    for span in [server, attempt] {
        assert_eq!(
            span.all(["rpc.grpc.status_code", "steer.fate"]),
            ["1", "ambiguous"]
        );
    }
    drop(open);
}

/// Its thread ends with its last client, before it has come to all of the calls.
#[tokio::test]
async fn calls_whose_client_goes_amid_a_drain_are_all_told() {
    const CALLS: usize = 400;
    let backend = Backend::start(&[Script::Silent]).await;
    let collector = Collector::start(Manner::Takes).await;
    let traces = format!(
        "[traces]\nendpoint = \"http://{}\"\nsample = 1",
        collector.address
    );
    let edge = Edge::bind(config(backend.address, &traces)).await.unwrap();
    let edge = edge.run().unwrap();
    let address = edge.address();
    let stream = TcpStream::connect(address).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut open = Vec::new();
    for _ in 0..CALLS {
        let mut send = send.clone().ready().await.unwrap();
        open.push(send.send_request(request(&[]), true).unwrap());
    }
    until("the backend has them", || backend.seen() == CALLS).await;
    let drained = tokio::spawn(edge.drain());
    let refused = async { while TcpStream::connect(address).await.is_ok() {} };
    within(refused).await;
    connection.abort();
    within(drained).await.unwrap();
    let told = collector.told();
    assert_eq!(told.len(), 2 * CALLS);
    let keys = ["rpc.grpc.status_code", "steer.fate"];
    assert!(told.iter().all(|told| told.all(keys) == ["1", "ambiguous"]));
}

#[tokio::test]
async fn a_reload_tells_another_collector_and_the_one_before_gets_what_began_before() {
    let backend = Backend::start(&[Script::Echo]).await;
    let (old, new) = (
        Collector::start(Manner::Takes).await,
        Collector::start(Manner::Takes).await,
    );
    let lines = |collector: &Collector| {
        format!(
            "[traces]\nendpoint = \"http://{}\"\nsample = 1",
            collector.address
        )
    };
    let edge = Edge::bind(config(backend.address, &lines(&old))).await.unwrap();
    let edge = edge.run().unwrap();
    let send = client(edge.address()).await;
    call_on(send.clone(), &[], b"old").await.unwrap();
    // The same again is no change; then it is another one, and then none.
    edge.reload(config(backend.address, &lines(&old))).unwrap();
    edge.reload(config(backend.address, &lines(&new))).unwrap();
    until("the old one is told", || old.told().len() == 2).await;
    call_on(send.clone(), &[], b"new").await.unwrap();
    edge.reload(config(backend.address, "")).unwrap();
    call_on(send.clone(), &[("traceparent", SAMPLED)], b"none")
        .await
        .unwrap();
    assert_eq!(backend.head(2)["traceparent"], SAMPLED);
    drop(send);
    assert_eq!(told(edge, &new).await.len(), 2);
    assert_eq!((old.told().len(), backend.connections()), (2, 1));
}

#[tokio::test]
async fn a_collector_is_spoken_to_in_tls_with_the_roots_and_the_name_that_are_written() {
    let (folder, root) = (tempfile::tempdir().unwrap(), Root::new("root"));
    let roots = folder.path().join("roots.pem");
    let backend = Backend::start(&[Script::Echo]).await;
    for name in ["collector.internal", "other.internal"] {
        std::fs::write(&roots, root.pem()).unwrap();
        let own = root.sign(name);
        let address = "127.0.0.1:0".parse().unwrap();
        let collector = Collector::start_at(address, Manner::Takes, Some(&own)).await;
        let lines = format!(
            "[traces]\nendpoint = \"https://{}\"\nsample = 1\nserver_name = \"collector.internal\"\nroots_file = {roots:?}",
            collector.address
        );
        let edge = Edge::bind(config(backend.address, &lines)).await.unwrap();
        let edge = edge.run().unwrap();
        call(edge.address(), &[], b"x").await;
        let expected = if name == "collector.internal" { 2 } else { 0 };
        assert_eq!(told(edge, &collector).await.len(), expected, "{name}");
    }
}

#[tokio::test]
async fn a_reload_reads_the_roots_of_the_collector_again() {
    let (folder, root, other) = (
        tempfile::tempdir().unwrap(),
        Root::new("root"),
        Root::new("other"),
    );
    let roots = folder.path().join("roots.pem");
    std::fs::write(&roots, other.pem()).unwrap();
    let own = root.sign("127.0.0.1");
    let address = "127.0.0.1:0".parse().unwrap();
    let collector = Collector::start_at(address, Manner::Takes, Some(&own)).await;
    let backend = Backend::start(&[Script::Echo]).await;
    let lines = format!(
        "[traces]\nendpoint = \"https://{}\"\nsample = 1\nroots_file = {roots:?}",
        collector.address
    );
    let edge = Edge::bind(config(backend.address, &lines)).await.unwrap();
    let edge = edge.run().unwrap();
    std::fs::write(&roots, root.pem()).unwrap();
    edge.reload(config(backend.address, &lines)).unwrap();
    call(edge.address(), &[], b"x").await;
    assert_eq!(told(edge, &collector).await.len(), 2);
}
