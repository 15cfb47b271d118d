//! What a client sees that is turned away: too many calls, too often, or of too little weight.

use std::time::{Duration, Instant};

use crate::peers::{Backend, Script, call, call_on, client, edge_with, read, request, until, within};

#[tokio::test]
async fn what_the_backends_have_no_room_for_is_unavailable_and_unprocessed_with_a_time_to_wait() {
    let backend = Backend::start(&[Script::Silent]).await;
    let head = "[priority]\nheader = \"x-priority\"\ndefault = \"critical\"";
    let pool = "concurrency = { min = 10, initial = 10, max = 10 }";
    let edge = edge_with(head, &[backend.address], pool, "").await;
    let send = client(edge.address()).await;
    // Nine of ten places are for `critical`.
    let mut open = Vec::new();
    for _ in 0..9 {
        let mut send = send.clone().ready().await.unwrap();
        open.push(send.send_request(request(&[]), true).unwrap());
    }
    until("the backend has them", || backend.seen() == 9).await;
    for priority in ["sheddable", "sheddable-plus", "critical", "unheard-of"] {
        let seen = call(edge.address(), &[("x-priority", priority)], b"x").await;
        assert_eq!((seen.status(), seen.fate()), ("14", "unprocessed"), "{priority}");
        let wait: u64 = seen.value("grpc-retry-pushback-ms").unwrap().parse().unwrap();
        assert!((10..=1000).contains(&wait), "{wait}");
    }
    assert_eq!(backend.seen(), 9);
    // The last place is for what matters most.
    let best = [("x-priority", "critical-plus"), ("grpc-timeout", "100m")];
    assert_eq!(call(edge.address(), &best, b"x").await.status(), "4");
    assert_eq!(backend.seen(), 10);
    // A client that leaves makes room.
    open.clear();
    until("they are given up", || backend.resets() == 10).await;
    let late = [("grpc-timeout", "100m")];
    let again = async { while call(edge.address(), &late, b"x").await.status() != "4" {} };
    within(again).await;
}

#[tokio::test]
async fn a_backend_that_tells_that_it_can_do_more_gets_more_calls() {
    let strong = Backend::start(&[Script::Able(900.0)]).await;
    let weak = Backend::start(&[Script::Able(100.0)]).await;
    let edge = edge_with("", &[weak.address, strong.address], "", "").await;
    let send = client(edge.address()).await;
    let one = async || {
        let seen = call_on(send.clone(), &[], b"x").await.unwrap();
        assert_eq!(seen.status(), "0");
        assert!(
            seen.value("endpoint-load-metrics-bin").is_some(),
            "it is passed on"
        );
    };
    // What is told counts after 10 s (A58).
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(10_500) {
        one().await;
    }
    assert!(weak.seen() > 10, "both were asked before: {}", weak.seen());
    let before = strong.seen();
    for _ in 0..200 {
        one().await;
    }
    let share = strong.seen() - before;
    assert!(share > 150, "{share} of 200");
}

#[tokio::test]
async fn expired_work_takes_nobodys_place() {
    let backend = Backend::start(&[Script::Silent]).await;
    let pool = "concurrency = { min = 1, initial = 1, max = 1 }";
    let edge = edge_with("", &[backend.address], pool, "").await;
    let send = client(edge.address()).await;
    let _open = send
        .clone()
        .ready()
        .await
        .unwrap()
        .send_request(request(&[]), true);
    until("the backend has it", || backend.seen() == 1).await;
    let seen = call(edge.address(), &[("grpc-timeout", "0n")], b"x").await;
    assert_eq!((seen.status(), seen.fate()), ("4", "not-sent"));
}

#[tokio::test]
async fn a_client_that_calls_too_often_is_told_when_to_come_again_and_the_others_are_served() {
    let backend = Backend::start(&[Script::Echo]).await;
    let head = "[rate_limit]\nclient = \"header:x-key\"\nper_second = 1\nburst = 3";
    let edge = edge_with(head, &[backend.address], "", "").await;
    let mut statuses = Vec::new();
    for _ in 0..4 {
        let seen = call(edge.address(), &[("x-key", "a")], b"x").await;
        statuses.push(seen.status().to_owned());
        if seen.status() == "8" {
            assert_eq!(seen.fate(), "unprocessed");
            let wait: u64 = seen.value("grpc-retry-pushback-ms").unwrap().parse().unwrap();
            assert!(wait <= 1000, "{wait}");
        }
    }
    assert_eq!(statuses, ["0", "0", "0", "8"]);
    assert_eq!(backend.seen(), 3);
    assert_eq!(call(edge.address(), &[("x-key", "b")], b"x").await.status(), "0");
    // What is no gRPC is told in HTTP.
    let plain = http::Request::get("http://edge/page")
        .header("x-key", "a")
        .body(())
        .unwrap();
    let send = client(edge.address()).await;
    let (response, _) = send.ready().await.unwrap().send_request(plain, true).unwrap();
    let seen = read(within(response).await.unwrap()).await;
    assert_eq!(
        (seen.http.as_u16(), seen.head["retry-after"].as_bytes()),
        (429, &b"1"[..])
    );
}

#[tokio::test]
async fn a_client_of_this_edge_that_is_an_edge_sends_again_what_was_shed() {
    let (busy, free) = (
        Backend::start(&[Script::Silent]).await,
        Backend::start(&[Script::Echo]).await,
    );
    let pool = "concurrency = { min = 1, initial = 1, max = 1 }";
    let full = edge_with("", &[busy.address], pool, "").await;
    let send = client(full.address()).await;
    let _open = send.ready().await.unwrap().send_request(request(&[]), true);
    until("it is full", || busy.seen() == 1).await;
    let front = edge_with(
        "",
        &[full.address(), free.address],
        "",
        "semantics = \"at-most-once\"",
    )
    .await;
    let send = client(front.address()).await;
    for _ in 0..20 {
        let seen = call_on(send.clone(), &[], b"octets").await.unwrap();
        assert_eq!(seen.status(), "0", "what was not done may be done elsewhere");
    }
    assert_eq!(busy.seen(), 1);
}
