use std::net::Ipv4Addr;
use std::time::{Duration, UNIX_EPOCH};

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::trace::v1::Span;

use super::*;
use crate::edge::shed::Priority;

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A call with so many attempts, of which each takes a second more than the one before it.
pub(super) fn record(attempts: usize) -> Box<Record> {
    let own = TraceParent::parse(PARENT.as_bytes()).unwrap();
    let began = Instant::now();
    let attempt = |number| Attempt {
        span: own.span,
        number,
        again: (number > 0).then_some("retry"),
        server: SocketAddr::from(([10, 0, 0, 1], 50051)),
        began,
        end: Some((began + Duration::from_secs(number as u64), Code::Unavailable)),
        status: None,
        fate: Some(Fate::Ambiguous),
    };
    Box::new(Record {
        own,
        parent: None,
        state: String::new(),
        asked: Asked::new(true, &Method::POST, "/pay.Payment/Charge"),
        wall: UNIX_EPOCH + Duration::from_secs(1_000),
        began,
        client: Ipv4Addr::LOCALHOST.into(),
        known: Known::default(),
        attempts: (0..attempts).map(attempt).collect(),
        end: None,
    })
}

fn spans(record: Box<Record>) -> Vec<Span> {
    let request = wire::request(&wire::resource("edge"), &[record].into());
    let [of_resource] = <[_; 1]>::try_from(request.resource_spans).unwrap();
    let [of_scope] = <[_; 1]>::try_from(of_resource.scope_spans).unwrap();
    of_scope.spans
}

/// Attributes as text, in their order.
fn attributes(span: &Span) -> Vec<(String, String)> {
    let pairs = span.attributes.iter().map(|pair| {
        let value = pair.value.clone().and_then(|value| text_of(value.value?));
        (pair.key.clone(), value.expect("text or a number"))
    });
    pairs.collect()
}

/// The two kinds that there are.
fn text_of(value: Value) -> Option<String> {
    if let Value::StringValue(text) = value {
        return Some(text);
    }
    let Value::IntValue(number) = value else {
        return None;
    };
    Some(number.to_string())
}

fn text(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    let pair = |(key, value): &(&str, &str)| ((*key).to_owned(), (*value).to_owned());
    pairs.iter().map(pair).collect()
}

fn ended(code: Code, fate: Fate, status: u16) -> Ended {
    let status = StatusCode::from_u16(status).unwrap();
    Ended { code, fate, status }
}

#[test]
fn a_call_of_grpc_has_the_names_of_the_conventions_and_what_only_steer_knows() {
    let mut record = record(2);
    record.known = Known {
        pool: Some("pay".into()),
        priority: Some(Priority::CriticalPlus),
        snapshot: Some(7),
    };
    record.parent = Some(record.own.span);
    let late = record.began + Duration::from_millis(2_500);
    record.end = Some((late, ended(Code::Unavailable, Fate::Ambiguous, 503)));
    let spans = spans(record);
    let [server, first, second] = <[_; 3]>::try_from(spans).unwrap();
    assert_eq!((server.name.as_str(), server.kind), ("pay.Payment/Charge", 2));
    let of_method = [
        ("rpc.system", "grpc"),
        ("rpc.service", "pay.Payment"),
        ("rpc.method", "Charge"),
    ];
    let expected = [
        ("client.address", "127.0.0.1"),
        ("rpc.grpc.status_code", "14"),
        ("steer.fate", "ambiguous"),
        ("steer.attempts", "2"),
        ("steer.pool", "pay"),
        ("steer.priority", "critical-plus"),
        ("steer.snapshot", "7"),
    ];
    assert_eq!(attributes(&server), text(&[&of_method[..], &expected].concat()));
    assert_eq!(server.flags, 0x301, "the parent is of another process");
    assert_eq!(server.status.unwrap().code, 2);
    let times = (server.start_time_unix_nano, server.end_time_unix_nano);
    assert_eq!(times, (1_000_000_000_000, 1_002_500_000_000));

    assert_eq!((first.name.as_str(), first.kind), ("pay.Payment/Charge", 3));
    assert_eq!(first.parent_span_id, server.span_id);
    assert_eq!(first.flags, 0x101);
    let expected = [
        ("server.address", "10.0.0.1"),
        ("server.port", "50051"),
        ("rpc.grpc.status_code", "14"),
        ("steer.attempt", "2"),
        ("steer.retry", "retry"),
        ("steer.fate", "ambiguous"),
    ];
    assert_eq!(attributes(&second), text(&[&of_method[..], &expected].concat()));
    assert!(!attributes(&first).iter().any(|(key, _)| key == "steer.retry"));
    assert_eq!(second.end_time_unix_nano, 1_001_000_000_000);
}

#[test]
fn what_is_no_grpc_has_the_names_of_http() {
    let mut record = record(1);
    record.asked = Asked::new(false, &Method::GET, "/page");
    record.attempts[0].status = Some(StatusCode::NOT_FOUND);
    record.end = Some((record.began, ended(Code::Unimplemented, Fate::Committed, 404)));
    let [server, attempt] = <[_; 2]>::try_from(spans(record)).unwrap();
    assert_eq!(server.name, "GET");
    let expected = [
        ("http.request.method", "GET"),
        ("url.path", "/page"),
        ("client.address", "127.0.0.1"),
        ("http.response.status_code", "404"),
        ("steer.fate", "committed"),
        ("steer.attempts", "1"),
    ];
    assert_eq!(attributes(&server), text(&expected));
    // By the conventions for HTTP a 404 is an error of its client alone.
    assert_eq!(
        (server.status, attempt.status.clone().map(|status| status.code)),
        (None, Some(2))
    );
    assert!(attributes(&attempt).contains(&("http.response.status_code".to_owned(), "404".to_owned())));
}

#[test]
fn statuses_that_are_the_clients_affair_are_no_errors_of_a_server() {
    let is_error = |code| {
        let mut record = record(0);
        record.end = Some((record.began, ended(code, Fate::Committed, 200)));
        spans(record)[0].status.is_some()
    };
    let errors: Vec<_> = Code::ALL.into_iter().filter(|code| is_error(*code)).collect();
    let expected = [
        Code::Unknown,
        Code::DeadlineExceeded,
        Code::Unimplemented,
        Code::Internal,
        Code::Unavailable,
        Code::DataLoss,
    ];
    assert_eq!(errors, expected);
}

#[test]
fn what_a_client_writes_is_recorded_within_bounds() {
    let long = format!("/{}", "\u{e9}".repeat(10_000));
    let Asked::Grpc(method) = Asked::new(true, &Method::POST, &long) else {
        panic!("it is gRPC");
    };
    assert_eq!(method.len(), 254, "256 octets, less the slash and half a letter");
    let odd = Method::from_bytes(&[b'X'; 1_000]).unwrap();
    let Asked::Http { method, .. } = Asked::new(false, &odd, "/") else {
        panic!("it is HTTP");
    };
    assert_eq!(method.len(), 32);
}
