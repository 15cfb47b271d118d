//! What a client is told, and how often a backend is asked, for each way in which a call can be lost.

use std::time::{Duration, Instant};

use h2::Reason;

use crate::peers::{Backend, Script, call, client, edge, request, until, within};

const KEYED: &str = "semantics = \"keyed\"";
const ONCE: &str = "semantics = \"at-most-once\"";

#[tokio::test]
async fn a_call_is_passed_on_and_its_answer_back() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&[backend.address], ONCE).await;
    let seen = call(edge.address(), &[("x-own", "value")], b"octets").await;
    assert_eq!((seen.status(), &seen.body[..]), ("0", &b"octets"[..]));
    assert_eq!(
        seen.fate(),
        "none",
        "an answer of the backend is passed on as it is"
    );
    assert_eq!(backend.head(0)["x-own"], "value");
    assert_eq!(backend.head(0)["te"], "trailers");
}

#[tokio::test]
async fn a_refused_stream_goes_to_another_backend_even_if_done_once_at_most() {
    let (first, second) = (
        Backend::start(&[Script::Reset(Reason::REFUSED_STREAM)]).await,
        Backend::start(&[Script::Reset(Reason::REFUSED_STREAM), Script::Echo]).await,
    );
    let edge = edge(&[first.address, second.address], ONCE).await;
    let seen = call(edge.address(), &[], b"octets").await;
    assert_eq!((seen.status(), &seen.body[..]), ("0", &b"octets"[..]));
    // Nobody has seen what was refused, so it is no previous attempt.
    assert!(
        !second
            .head(second.seen() - 1)
            .contains_key("grpc-previous-rpc-attempts")
    );
}

#[tokio::test]
async fn any_other_reset_is_ambiguous_and_what_is_done_once_at_most_is_not_sent_again() {
    for script in [
        Script::Reset(Reason::INTERNAL_ERROR),
        Script::Close,
        Script::Status(14),
    ] {
        let backend = Backend::start(&[script, Script::Echo]).await;
        let edge = edge(&[backend.address], ONCE).await;
        let seen = call(edge.address(), &[], b"octets").await;
        assert_eq!((seen.status(), seen.fate()), ("14", "ambiguous"), "{script:?}");
        assert_eq!(backend.seen(), 1, "{script:?}");
    }
}

#[tokio::test]
async fn what_has_a_key_is_sent_again_with_the_same_octets_and_says_so() {
    for script in [
        Script::Reset(Reason::INTERNAL_ERROR),
        Script::Close,
        Script::Status(14),
    ] {
        let backend = Backend::start(&[script, Script::Echo]).await;
        let edge = edge(&[backend.address], KEYED).await;
        let key = [("idempotency-key", "k")];
        let seen = call(edge.address(), &key, b"octets").await;
        assert_eq!(
            (seen.status(), &seen.body[..]),
            ("0", &b"octets"[..]),
            "{script:?}"
        );
        assert_eq!(backend.seen(), 2, "{script:?}");
        assert_eq!(backend.head(1)["idempotency-key"], "k");
        assert_eq!(backend.head(1)["grpc-previous-rpc-attempts"], "1");
    }
}

#[tokio::test]
async fn the_word_of_the_application_is_never_asked_for_again() {
    for code in [0, 3, 5, 6, 9, 10, 11, 15] {
        let backend = Backend::start(&[Script::Status(code)]).await;
        let edge = edge(&[backend.address], KEYED).await;
        let seen = call(edge.address(), &[], b"octets").await;
        assert_eq!(seen.status(), code.to_string());
        assert_eq!(backend.seen(), 1, "status {code}");
    }
}

#[tokio::test]
async fn a_backend_that_is_not_there_costs_nothing_but_the_time_and_the_call_was_not_sent() {
    let gone = Backend::start(&[Script::Echo]).await;
    // A port that nobody listens on: bound and closed again.
    let nowhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = nowhere.local_addr().unwrap();
    drop(nowhere);
    let both = edge(&[address, gone.address], ONCE).await;
    for _ in 0..10 {
        assert_eq!(call(both.address(), &[], b"x").await.status(), "0");
    }
    let alone = edge(&[address], ONCE).await;
    let seen = call(alone.address(), &[("grpc-timeout", "300m")], b"x").await;
    assert_eq!(seen.fate(), "not-sent");
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_ended_with_a_status_and_not_sent_again() {
    let backend = Backend::start(&[Script::HalfAnswer]).await;
    let edge = edge(&[backend.address], KEYED).await;
    let seen = call(edge.address(), &[], b"x").await;
    assert_eq!(
        (&seen.body[..], seen.status(), seen.fate()),
        (&b"half"[..], "14", "ambiguous")
    );
    assert_eq!(backend.seen(), 1);
}

#[tokio::test]
async fn the_time_that_is_left_is_passed_on_and_at_its_end_the_backend_is_told() {
    let backend = Backend::start(&[Script::Silent]).await;
    let edge = edge(&[backend.address], KEYED).await;
    let began = Instant::now();
    let seen = call(edge.address(), &[("grpc-timeout", "200m")], b"x").await;
    assert_eq!((seen.status(), seen.fate()), ("4", "ambiguous"));
    assert!(began.elapsed() >= Duration::from_millis(200));
    let passed_on = steer_rpc::fate::parse_timeout(backend.head(0)["grpc-timeout"].as_bytes()).unwrap();
    assert!(passed_on < Duration::from_millis(200), "{passed_on:?}");
    until("the backend's stream is reset", || backend.resets() == 1).await;
}

#[tokio::test]
async fn expired_work_never_reaches_a_backend_and_a_malformed_deadline_neither() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&[backend.address], KEYED).await;
    let seen = call(edge.address(), &[("grpc-timeout", "0n")], b"x").await;
    assert_eq!((seen.status(), seen.fate()), ("4", "not-sent"));
    let seen = call(edge.address(), &[("grpc-timeout", "soon")], b"x").await;
    assert_eq!((seen.status(), seen.fate()), ("13", "unprocessed"));
    assert_eq!(backend.seen(), 0);
}

#[tokio::test]
async fn a_client_that_leaves_takes_its_call_along() {
    let backend = Backend::start(&[Script::Silent]).await;
    let edge = edge(&[backend.address], KEYED).await;
    let send = client(edge.address()).await;
    let (response, mut body) = send
        .ready()
        .await
        .unwrap()
        .send_request(request(&[]), false)
        .unwrap();
    until("the backend has the call", || backend.seen() == 1).await;
    body.send_reset(Reason::CANCEL);
    drop(response);
    until("the backend's stream is reset", || backend.resets() == 1).await;
    assert_eq!(backend.seen(), 1, "nobody wants it any more");
}

#[tokio::test]
async fn of_two_hedged_attempts_the_first_answer_wins_and_the_other_is_reset() {
    let backend = Backend::start(&[Script::Silent, Script::Echo]).await;
    let rules = format!("{KEYED}\nhedge_after_ms = 50");
    let edge = edge(&[backend.address], &rules).await;
    let seen = call(edge.address(), &[], b"octets").await;
    assert_eq!((seen.status(), &seen.body[..]), ("0", &b"octets"[..]));
    until("the other is reset", || backend.resets() == 1).await;
}

#[tokio::test]
async fn a_backend_that_hedges_overtake_is_known_as_slow_and_gets_few_calls() {
    let (hung, quick) = (
        Backend::start(&[Script::Silent]).await,
        Backend::start(&[Script::Echo]).await,
    );
    let rules = format!("{KEYED}\nhedge_after_ms = 60");
    let edge = edge(&[hung.address, quick.address], &rules).await;
    for _ in 0..30 {
        assert_eq!(call(edge.address(), &[], b"octets").await.status(), "0");
    }
    assert!(hung.seen() < 8, "{} of 30", hung.seen());
}

#[tokio::test]
async fn a_backend_that_lets_deadlines_pass_has_failed_and_is_left_out() {
    let (hung, quick) = (
        Backend::start(&[Script::Silent]).await,
        Backend::start(&[Script::Echo]).await,
    );
    let edge = edge(&[hung.address, quick.address], ONCE).await;
    for _ in 0..30 {
        call(edge.address(), &[("grpc-timeout", "60m")], b"octets").await;
    }
    assert!(hung.seen() < 8, "{} of 30", hung.seen());
}

#[tokio::test]
async fn a_request_of_megabytes_passes_and_is_not_kept() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&[backend.address], KEYED).await;
    let send = client(edge.address()).await;
    let (response, mut body) = send
        .ready()
        .await
        .unwrap()
        .send_request(request(&[]), false)
        .unwrap();
    let octets: Vec<u8> = (0..3_000_000_u32).map(|at| at as u8).collect();
    let reading = tokio::spawn(async move { crate::peers::read(response.await.unwrap()).await });
    for chunk in octets.chunks(10_000) {
        body.reserve_capacity(chunk.len());
        let mut chunk = bytes::Bytes::copy_from_slice(chunk);
        while !chunk.is_empty() {
            let room = within(std::future::poll_fn(|cx| body.poll_capacity(cx)))
                .await
                .unwrap()
                .unwrap();
            let part = chunk.split_to(room.min(chunk.len()));
            body.send_data(part, false).unwrap();
        }
    }
    body.send_data(bytes::Bytes::new(), true).unwrap();
    let seen = within(reading).await.unwrap();
    assert_eq!(seen.status(), "0");
    assert!(seen.body == octets, "every octet, in its order");
}

#[tokio::test]
async fn calls_that_wait_for_the_same_connection_in_vain_do_not_wait_one_after_the_other() {
    // It accepts and says nothing, so that a connection takes as long as it may: 2 s.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let good = Backend::start(&[Script::Echo]).await;
    let edge = edge(&[silent.local_addr().unwrap(), good.address], ONCE).await;
    let began = Instant::now();
    let address = edge.address();
    let calls: Vec<_> = (0..30)
        .map(|_| tokio::spawn(async move { call(address, &[], b"octets").await }))
        .collect();
    for call in calls {
        assert_eq!(within(call).await.unwrap().status(), "0");
    }
    assert!(began.elapsed() < Duration::from_secs(12), "{:?}", began.elapsed());
}

/// h2 closes a connection after a hundred empty frames that end nothing.
#[tokio::test]
async fn an_empty_frame_that_ends_a_request_becomes_no_frame_amid_it() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&[backend.address], ONCE).await;
    let send = client(edge.address()).await;
    for _ in 0..150 {
        let mut send = send.clone().ready().await.unwrap();
        let (response, mut body) = send.send_request(request(&[]), false).unwrap();
        body.send_data(bytes::Bytes::from_static(b"octets"), false)
            .unwrap();
        body.send_data(bytes::Bytes::new(), true).unwrap();
        let seen = crate::peers::read(within(response).await.unwrap()).await;
        assert_eq!((seen.status(), &seen.body[..]), ("0", &b"octets"[..]));
    }
    assert_eq!(backend.connections(), 1);
}

#[tokio::test]
async fn what_is_no_grpc_is_answered_in_http() {
    let backend = Backend::start(&[Script::Close]).await;
    let edge = edge(&[backend.address], ONCE).await;
    let send = client(edge.address()).await;
    let plain = http::Request::get("http://edge/page").body(()).unwrap();
    let (response, _) = send.ready().await.unwrap().send_request(plain, true).unwrap();
    let seen = crate::peers::read(within(response).await.unwrap()).await;
    assert_eq!((seen.http.as_u16(), seen.fate()), (503, "ambiguous"));
}

/// Speaks HTTP/2 by hand: disowns the first stream of each connection with a GOAWAY, once the request is there, and closes
/// it. `last` is the last stream that it says it has looked at.
async fn goes_away(
    last: u32,
) -> (
    std::net::SocketAddr,
    std::sync::Arc<std::sync::atomic::AtomicUsize>,
) {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    const PREFACE: usize = 24;
    const HEADERS: u8 = 1;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let seen = std::sync::Arc::new(AtomicUsize::new(0));
    let counted = seen.clone();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            stream.write_all(&[0, 0, 0, 4, 0, 0, 0, 0, 0]).await.unwrap(); // SETTINGS
            stream.read_exact(&mut [0; PREFACE]).await.unwrap();
            loop {
                let mut head = [0; 9];
                stream.read_exact(&mut head).await.unwrap();
                let mut payload = vec![0; usize::from(head[1]) << 8 | usize::from(head[2])];
                stream.read_exact(&mut payload).await.unwrap();
                if head[3] == HEADERS {
                    break;
                }
            }
            counted.fetch_add(1, Ordering::SeqCst);
            let mut goaway = vec![0, 0, 8, 7, 0, 0, 0, 0, 0];
            goaway.extend(last.to_be_bytes());
            goaway.extend([0; 4]); // NO_ERROR
            stream.write_all(&goaway).await.unwrap();
        }
    });
    (address, seen)
}

#[tokio::test]
async fn a_call_that_a_goaway_disowned_goes_elsewhere_and_one_that_it_did_not_is_ambiguous() {
    for (last, status, fate) in [(0, "0", "none"), (1, "14", "ambiguous")] {
        let (leaving, seen) = goes_away(last).await;
        let staying = Backend::start(&[Script::Echo]).await;
        let edge = edge(&[leaving, staying.address], ONCE).await;
        // Whichever is drawn first: calls until the one that leaves was asked.
        loop {
            let answer = call(edge.address(), &[], b"octets").await;
            if seen.load(std::sync::atomic::Ordering::SeqCst) > 0 {
                assert_eq!((answer.status(), answer.fate()), (status, fate), "last {last}");
                break;
            }
        }
    }
}
