//! Each way in which a call can be lost: what the application is told, and how often a server was asked.

use std::time::{Duration, Instant};

use h2::Reason;
use steer_rpc::client::{Client, KeepAlive};
use steer_rpc::fate::{Why, parse_timeout};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use crate::peers::{ECHO, LONG, Peer, Say, UNAVAILABLE, call, client, config, nowhere, until};

const KEYED: &str = "semantics = \"keyed\"";
const ONCE: &str = "semantics = \"at-most-once\"";

fn seen(code: i32, fate: &str) -> (i32, String) {
    (code, fate.to_owned())
}

#[tokio::test]
async fn a_call_is_answered_and_committed_and_says_by_whom() {
    let peer = Peer::start(&[ECHO]).await;
    let view = call(&client(&[peer.address], ONCE), LONG).await;
    assert_eq!(view.told(), seen(0, "committed"));
    let known = view.outcome.known();
    assert_eq!(
        (known.attempts, known.target, known.key),
        (1, Some(peer.address), None)
    );
    let agent = peer.head(0)["user-agent"].to_str().unwrap().to_owned();
    assert!(agent.starts_with("steer-rpc/"), "{agent}");
}

#[tokio::test]
async fn a_request_that_is_lost_is_ambiguous_at_its_deadline_and_the_server_is_told() {
    let peer = Peer::start(&[Say::Silent]).await;
    let began = Instant::now();
    let view = call(&client(&[peer.address], KEYED), Duration::from_millis(300)).await;
    assert_eq!(view.told(), seen(4, "ambiguous"));
    assert!(began.elapsed() >= Duration::from_millis(300));
    let told = parse_timeout(peer.head(0)["grpc-timeout"].as_bytes()).unwrap();
    assert!(told < Duration::from_millis(300), "{told:?} is left");
    until("the stream is reset", || peer.resets() == 1).await;
}

#[tokio::test]
async fn of_a_server_that_crashes_before_it_answers_nobody_knows_and_only_a_key_is_sent_again() {
    for say in [Say::Close, Say::Reset(Reason::INTERNAL_ERROR), UNAVAILABLE] {
        let peer = Peer::start(&[say, ECHO]).await;
        let view = call(&client(&[peer.address], ONCE), LONG).await;
        assert_eq!(view.told(), seen(14, "ambiguous"), "{say:?}");
        assert_eq!(view.outcome.known().why, Some(Why::Semantics));
        assert_eq!(peer.seen(), 1, "{say:?}");

        let peer = Peer::start(&[say, ECHO]).await;
        let view = call(&client(&[peer.address], KEYED), LONG).await;
        assert_eq!(view.told(), seen(0, "committed"), "{say:?}");
        let keys: Vec<_> = (0..2)
            .map(|at| peer.head(at)["idempotency-key"].clone())
            .collect();
        assert_eq!(keys[0], keys[1], "made once, and the same for each attempt");
        assert_eq!(peer.head(1)["grpc-previous-rpc-attempts"], "1");
    }
}

#[tokio::test]
async fn who_gets_no_answer_gets_the_key_to_try_again_with() {
    let peer = Peer::start(&[UNAVAILABLE]).await;
    let client = client(&[peer.address], "semantics = \"keyed\"\nmax_attempts = 1");
    let view = call(&client, LONG).await;
    let status = view.answer.as_ref().unwrap_err();
    let key = status.metadata().get("idempotency-key").unwrap();
    assert_eq!(key.as_encoded_bytes(), peer.head(0)["idempotency-key"].as_bytes());
    assert_eq!(view.outcome.known().key.unwrap().as_str(), key.to_str().unwrap());
}

#[tokio::test]
async fn a_refused_stream_goes_elsewhere_even_if_done_once_at_most() {
    let first = Peer::start(&[Say::Reset(Reason::REFUSED_STREAM)]).await;
    let second = Peer::start(&[ECHO]).await;
    let client = client(&[first.address, second.address], ONCE);
    for _ in 0..6 {
        assert_eq!(call(&client, LONG).await.told(), seen(0, "committed"));
    }
}

#[tokio::test]
async fn a_refused_connection_costs_nothing_where_there_is_another_target_and_was_not_sent_where_there_is_none()
 {
    let peer = Peer::start(&[ECHO]).await;
    let both = client(&[nowhere(), peer.address], ONCE);
    for _ in 0..10 {
        assert_eq!(call(&both, LONG).await.told(), seen(0, "committed"));
    }
    let alone = client(&[nowhere()], ONCE);
    let view = call(&alone, Duration::from_millis(300)).await;
    assert_eq!(view.told().1, "not-sent");
}

#[tokio::test]
async fn a_target_that_closes_before_it_has_greeted_was_not_sent_the_call() {
    // As a server of TLS 1.3 does that does not like our certificate, or one that dies while it starts.
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mute = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut preface = [0; 24];
            _ = stream.read_exact(&mut preface).await;
        }
    });
    let peer = Peer::start(&[ECHO]).await;
    let both = client(&[mute, peer.address], ONCE);
    for _ in 0..10 {
        assert_eq!(call(&both, LONG).await.told(), seen(0, "committed"));
    }
    let view = call(&client(&[mute], ONCE), Duration::from_millis(300)).await;
    assert_eq!(view.told().1, "not-sent");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_ambiguous_and_not_asked_for_again() {
    let peer = Peer::start(&[Say::Half, ECHO]).await;
    let view = call(&client(&[peer.address], KEYED), LONG).await;
    assert_eq!(view.told(), seen(14, "ambiguous"));
    assert_eq!(peer.seen(), 1);
}

#[tokio::test]
async fn a_server_that_is_slow_but_not_dead_is_overtaken_by_a_hedge_and_told() {
    let slow = Peer::start(&[Say::Silent]).await;
    let quick = Peer::start(&[ECHO]).await;
    let client = client(
        &[slow.address, quick.address],
        "semantics = \"keyed\"\nhedge_after_ms = 40",
    );
    let mut hedged = 0;
    for _ in 0..8 {
        let began = Instant::now();
        let view = call(&client, LONG).await;
        assert_eq!(view.told(), seen(0, "committed"));
        assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
        hedged += view.outcome.known().attempts - 1;
    }
    assert_eq!(hedged, slow.seen());
    until("what was overtaken is reset", || slow.resets() == slow.seen()).await;
}

#[tokio::test]
async fn a_server_that_is_slow_gets_few_calls() {
    let slow = Peer::start(&[Say::Echo(80)]).await;
    let quick = Peer::start(&[ECHO]).await;
    let client = client(&[slow.address, quick.address], ONCE);
    for _ in 0..40 {
        assert_eq!(call(&client, LONG).await.told(), seen(0, "committed"));
    }
    assert!(slow.seen() < 12, "{} of 40", slow.seen());
}

#[tokio::test]
async fn an_overloaded_server_is_asked_again_when_it_says_and_never_where_it_says_never() {
    const LATER: Say = Say::Trailers(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "400")]);
    let peer = Peer::start(&[LATER, ECHO]).await;
    let view = call(&client(&[peer.address], KEYED), LONG).await;
    assert_eq!(view.told(), seen(0, "committed"));
    assert!(
        peer.between() >= Duration::from_millis(400),
        "{:?}",
        peer.between()
    );

    const NEVER: Say = Say::Trailers(&[("grpc-status", "14"), ("grpc-retry-pushback-ms", "-1")]);
    let peer = Peer::start(&[NEVER, ECHO]).await;
    let view = call(&client(&[peer.address], KEYED), LONG).await;
    assert_eq!(view.told(), seen(14, "ambiguous"));
    assert_eq!((peer.seen(), view.outcome.known().why), (1, Some(Why::Pushback)));
}

#[tokio::test]
async fn an_edge_that_sheds_load_disclaims_and_what_is_done_once_at_most_waits_and_goes_again() {
    const SHED: Say = Say::Trailers(&[
        ("grpc-status", "14"),
        ("steer-fate", "unprocessed"),
        ("grpc-retry-pushback-ms", "100"),
    ]);
    let peer = Peer::start(&[SHED, ECHO]).await;
    let view = call(&client(&[peer.address], ONCE), LONG).await;
    assert_eq!(view.told(), seen(0, "committed"));
    assert!(peer.between() >= Duration::from_millis(100));
}

#[tokio::test]
async fn the_word_of_an_application_is_committed_and_not_asked_for_again() {
    const TOO_LITTLE: Say = Say::Trailers(&[("grpc-status", "9"), ("grpc-message", "too little")]);
    let peer = Peer::start(&[TOO_LITTLE]).await;
    let view = call(&client(&[peer.address], KEYED), LONG).await;
    assert_eq!(view.told(), seen(9, "committed"));
    assert_eq!(view.answer.unwrap_err().message(), "too little");
    assert_eq!(peer.seen(), 1);
}

/// Accepts connections and never says a word on them.
async fn mute() -> (std::net::SocketAddr, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let kept = tokio::spawn(async move {
        let mut streams = Vec::new();
        while let Ok((stream, _)) = listener.accept().await {
            streams.push(stream);
        }
    });
    (address, kept)
}

#[tokio::test]
async fn a_connection_that_is_half_open_is_found_by_a_ping_and_the_call_goes_elsewhere() {
    let (address, _kept) = mute().await;
    let peer = Peer::start(&[ECHO]).await;
    let mut config = config(&[address, peer.address], KEYED);
    config.keepalive = KeepAlive {
        every: Duration::from_millis(100),
        wait: Duration::from_millis(200),
    };
    let client = Client::new(config);
    for _ in 0..6 {
        let began = Instant::now();
        assert_eq!(call(&client, LONG).await.told(), seen(0, "committed"));
        assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    }
}

#[tokio::test]
async fn a_deadline_that_is_over_or_malformed_reaches_no_server() {
    let peer = Peer::start(&[ECHO]).await;
    let client = client(&[peer.address], KEYED);
    let view = call(&client, Duration::ZERO).await;
    assert_eq!(view.told(), seen(4, "not-sent"));
    assert_eq!(peer.seen(), 0);
}

#[tokio::test]
async fn an_application_that_leaves_takes_its_call_along() {
    let peer = Peer::start(&[Say::Silent]).await;
    let client = client(&[peer.address], KEYED);
    let under_way = tokio::spawn(async move { call(&client, LONG).await.told() });
    until("the server has the call", || peer.seen() == 1).await;
    under_way.abort();
    until("the stream is reset", || peer.resets() == 1).await;
    assert_eq!(peer.seen(), 1, "nobody wants it any more");
}
