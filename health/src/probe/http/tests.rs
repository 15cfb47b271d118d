use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use steer_topology::{CheckId, CheckKind, ValueAt, ValueRule};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::response::BODY_MAX;
use super::*;
use crate::driver::{Errand, send};
use crate::evidence::Evidence;
use crate::probe::NetProber;
use crate::testing::FleetBuilder;

/// A server that gives the same answer to each request, and closes after `most` of them. Counts connections.
async fn server(answer: String, most: usize) -> (std::net::SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let (address, seen) = (listener.local_addr().unwrap(), Arc::new(AtomicUsize::new(0)));
    let count = Arc::clone(&seen);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            count.fetch_add(1, Ordering::SeqCst);
            tokio::spawn(serve(stream, answer.clone(), most));
        }
    });
    (address, seen)
}

async fn serve(mut stream: TcpStream, answer: String, most: usize) {
    let mut heard = Vec::new();
    for _ in 0..most {
        while !heard.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(byte) => heard.push(byte),
                Err(_) => return,
            }
        }
        heard.clear();
        if stream.write_all(answer.as_bytes()).await.is_err() {
            return;
        }
    }
}

fn prober(rules: HttpCheck, address: std::net::SocketAddr) -> Arc<NetProber> {
    let fleet = FleetBuilder::new(CheckKind::Http(rules))
        .pool_at(&[(None, address)], Some(CheckId(0)))
        .build();
    Arc::new(NetProber::new(
        &fleet,
        &Arc::new(Evidence::of(&fleet)),
        Instant::now(),
    ))
}

async fn once(prober: &Arc<NetProber>) -> Outcome {
    let errand = Errand::of_test(1, Duration::from_secs(2));
    send(Arc::clone(prober), errand).await.outcome
}

/// What one answer means to the rules.
async fn judged(rules: HttpCheck, answer: &str) -> Outcome {
    let (address, _) = server(answer.to_owned(), usize::MAX).await;
    once(&prober(rules, address)).await
}

fn page(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\nX-Ready: yes, very\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn wrong(text: &str) -> Outcome {
    Outcome::Failure(Failure::Wrong(text.to_owned()))
}

const GOOD: Outcome = Outcome::Success(Answer::Status(200));

#[tokio::test]
async fn several_statuses_count_and_the_reason_lists_them() {
    let rules = |status: &[(u16, u16)]| HttpCheck {
        status: status.to_vec(),
        ..HttpCheck::plain()
    };
    let answer = "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n";
    assert_eq!(
        judged(rules(&[(200, 299), (404, 404)]), answer).await,
        Outcome::Success(Answer::Status(404))
    );
    let outcome = judged(rules(&[(200, 204), (301, 301)]), answer).await;
    assert_eq!(outcome.to_string(), "status 404, want 200-204, 301");
}

#[tokio::test]
async fn a_body_is_looked_through_and_what_was_seen_is_told() {
    let rules = |body| HttpCheck {
        body: Some(body),
        ..HttpCheck::plain()
    };
    let contains = || rules(BodyRule::Contains("ready".to_owned()));
    assert_eq!(judged(contains(), &page("all ready now")).await, GOOD);
    assert_eq!(
        judged(contains(), &page("maintenance")).await,
        wrong("body without \"ready\": \"maintenance\"")
    );
    let matches = || rules(BodyRule::Matches("^ok$".to_owned()));
    assert_eq!(judged(matches(), &page("ok")).await, GOOD);
    assert_eq!(
        judged(matches(), &page("ok?")).await,
        wrong("body does not match \"^ok$\": \"ok?\"")
    );
    let chunked = "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nrea\r\n2\r\ndy\r\n0\r\n\r\n";
    assert_eq!(judged(contains(), chunked).await, GOOD);
    let long = page(&format!("{}ready", "x".repeat(2 * BODY_MAX)));
    assert!(
        matches!(
            judged(contains(), &long).await,
            Outcome::Failure(Failure::Wrong(_))
        ),
        "beyond the bound"
    );
}

#[tokio::test]
async fn a_header_must_be_there_and_hold_the_text() {
    let rules = |name: &str, text: &str| HttpCheck {
        header: Some((name.to_owned(), text.to_owned())),
        ..HttpCheck::plain()
    };
    assert_eq!(judged(rules("x-ready", ""), &page("")).await, GOOD);
    assert_eq!(judged(rules("x-ready", "yes"), &page("")).await, GOOD);
    assert_eq!(
        judged(rules("x-ready", "no"), &page("")).await,
        wrong("want header x-ready with \"no\", it is \"yes, very\"")
    );
    assert_eq!(
        judged(rules("x-else", ""), &page("")).await,
        wrong("want header x-else, there is none")
    );
}

#[tokio::test]
async fn a_value_is_read_and_shown() {
    let rules = HttpCheck {
        value: Some(ValueRule {
            at: ValueAt::Json("/load".to_owned()),
            min: None,
            max: Some(0.8),
        }),
        ..HttpCheck::plain()
    };
    assert_eq!(
        judged(rules.clone(), &page("{\"load\": 0.5}")).await,
        Outcome::Success(Answer::Value(0.5))
    );
    assert_eq!(
        judged(rules, &page("{\"load\": 0.9}")).await,
        wrong("value 0.9, want at most 0.8")
    );
}

#[tokio::test]
async fn a_connection_is_kept_where_that_is_asked_for_and_its_loss_is_no_failure() {
    let reuse = HttpCheck {
        reuse: true,
        ..HttpCheck::plain()
    };
    let (address, connections) = server(page("ok"), 3).await;
    let prober = prober(reuse, address);
    for _ in 0..9 {
        assert_eq!(once(&prober).await, GOOD);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 3, "three requests each");
}

#[tokio::test]
async fn without_reuse_nothing_of_ours_waits_in_time_wait() {
    let (address, connections) = server(page("ok"), usize::MAX).await;
    let prober = prober(HttpCheck::plain(), address);
    for _ in 0..50 {
        assert_eq!(once(&prober).await, GOOD);
    }
    assert_eq!(connections.load(Ordering::SeqCst), 50);
    let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
    let port = format!(":{:04X} ", address.port());
    // State 06 is TIME_WAIT.
    let waiting = table
        .lines()
        .filter(|line| line.contains(&port) && line.split_whitespace().nth(3) == Some("06"));
    assert_eq!(waiting.count(), 0);
}
