//! What `/metrics` tells of calls.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::peers::{Backend, PATIENCE, Script, call_path, edge_with, within};

/// One sample; 0 where there is none yet.
pub(crate) fn sample(text: &str, name: &str) -> f64 {
    let found = text
        .lines()
        .find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
    found.unwrap_or(0.0)
}

pub(crate) async fn scrape(admin: std::net::SocketAddr) -> String {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    let ask = b"GET /metrics HTTP/1.1\r\nhost: edge\r\nconnection: close\r\n\r\n";
    stream.write_all(ask).await.unwrap();
    let mut text = String::new();
    within(stream.read_to_string(&mut text)).await.unwrap();
    text
}

/// The recorder is one for the process, so the test has methods and a pool of its own.
#[tokio::test]
async fn calls_and_attempts_are_counted_under_the_names_of_grfc_a66() {
    let backend = Backend::start(&[Script::Status(14), Script::Echo]).await;
    let head = "admin = \"127.0.0.1:0\"";
    let method = "max_attempts = 3\n[[method]]\npath = \"/meter.Test/Unary\"\nsemantics = \"keyed\"";
    let edge = edge_with(head, &[backend.address], "", method).await;
    let message = [&[0, 0, 0, 0, 6][..], b"octets"].concat();
    for path in ["/meter.Test/Unary", "/meter.Test/Unknown"] {
        let seen = call_path(edge.address(), path, &message).await;
        assert_eq!((seen.status(), seen.body.len()), ("0", 11));
    }
    let method = "grpc_method=\"meter.Test/Unary\"";
    let unary = |name: &str, rest: &str| format!("{name}{{{method}{rest}}}");
    let (target, ok, lost) = (
        ",grpc_target=\"x\"",
        ",grpc_status=\"OK\"",
        ",grpc_status=\"UNAVAILABLE\"",
    );
    let both = format!("{target}{ok}");
    let first = format!("{target}{lost}");
    let expected = [
        (unary("grpc_server_call_started_total", ""), 1.0),
        (unary("grpc_server_call_duration_seconds_count", ok), 1.0),
        (
            unary(
                "grpc_server_call_rcvd_total_compressed_message_size_bytes_sum",
                ok,
            ),
            6.0,
        ),
        (
            unary(
                "grpc_server_call_sent_total_compressed_message_size_bytes_sum",
                ok,
            ),
            6.0,
        ),
        (unary("grpc_client_attempt_started_total", target), 2.0),
        (unary("grpc_client_attempt_duration_seconds_count", &both), 1.0),
        (unary("grpc_client_attempt_duration_seconds_count", &first), 1.0),
        (
            unary(
                "grpc_client_attempt_sent_total_compressed_message_size_bytes_sum",
                &both,
            ),
            6.0,
        ),
        (
            unary(
                "grpc_client_attempt_rcvd_total_compressed_message_size_bytes_sum",
                &both,
            ),
            6.0,
        ),
        (unary("grpc_client_call_duration_seconds_count", &both), 1.0),
    ];
    // A call is counted when it is over, which is a moment after its client has the answer.
    let began = std::time::Instant::now();
    loop {
        let text = scrape(edge.admin().unwrap()).await;
        let missing: Vec<_> = expected
            .iter()
            .filter(|(name, value)| (sample(&text, name) - value).abs() > 1e-9)
            .collect();
        if missing.is_empty() {
            assert!(text.contains("grpc_server_call_duration_seconds_bucket"));
            assert!(text.contains("grpc_server_call_started_total{grpc_method=\"other\"}"));
            assert!(!text.contains("meter.Test/Unknown"), "clients make no series");
            assert!(text.contains("steer_rpc_retries_total{kind=\"retry\"}"));
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{missing:?} in\n{text}");
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }
}
