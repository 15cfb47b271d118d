use std::net::Ipv4Addr;

use tokio::io::DuplexStream;

use super::*;
use crate::testing::tables;

const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// One engine for all tests.
fn engine() -> Arc<Engine> {
    static ENGINE: std::sync::OnceLock<Arc<Engine>> = std::sync::OnceLock::new();
    Arc::clone(ENGINE.get_or_init(|| Arc::new(Engine::new(tables("[\"up\"]", &[])))))
}

/// A connection of which the test holds the client's end; `room` octets fit between them.
fn connect(room: usize) -> (DuplexStream, CancellationToken, tokio::task::JoinHandle<End>) {
    let (client, server) = tokio::io::duplex(room);
    let stop = CancellationToken::new();
    let service = Service {
        engine: engine(),
        idle: Duration::from_secs(10),
        stop: stop.clone(),
    };
    let task = tokio::spawn(async move { serve(server, CLIENT, Transport::Tcp, &service).await });
    (client, stop, task)
}

/// `plain.example.com A` with its length.
fn query(id: u16) -> Vec<u8> {
    let mut message = id.to_be_bytes().to_vec();
    message
        .extend(b"\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x05plain\x07example\x03com\x00\x00\x01\x00\x01");
    let mut framed = Vec::new();
    assert!(frames::append(&mut framed, &message));
    framed
}

async fn reply(client: &mut DuplexStream) -> Vec<u8> {
    let length = client.read_u16().await.unwrap();
    let mut reply = vec![0; usize::from(length)];
    client.read_exact(&mut reply).await.unwrap();
    reply
}

#[tokio::test(start_paused = true)]
async fn many_queries_in_one_write_are_answered_in_order() {
    let (mut client, _stop, _task) = connect(64 * 1024);
    let all: Vec<u8> = (0..500).flat_map(query).collect();
    client.write_all(&all).await.unwrap();
    for id in 0..500_u16 {
        assert_eq!(reply(&mut client).await[..2], id.to_be_bytes());
    }
}

#[tokio::test(start_paused = true)]
async fn a_query_octet_by_octet_is_answered() {
    let (mut client, _stop, _task) = connect(64);
    for octet in query(7) {
        client.write_all(&[octet]).await.unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(reply(&mut client).await[..2], [0, 7]);
}

#[tokio::test(start_paused = true)]
async fn who_closes_its_half_still_gets_what_it_asked_for() {
    let (mut client, _stop, task) = connect(4096);
    client.write_all(&[query(1), query(2)].concat()).await.unwrap();
    client.shutdown().await.unwrap();
    assert_eq!(reply(&mut client).await[..2], [0, 1]);
    assert_eq!(reply(&mut client).await[..2], [0, 2]);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(task.await.unwrap(), End::Client);
}

#[tokio::test(start_paused = true)]
async fn idle_connections_end_and_a_trickle_is_idle_too() {
    let began = Instant::now();
    let (client, _stop, task) = connect(64);
    assert_eq!(task.await.unwrap(), End::Idle);
    assert_eq!(began.elapsed(), Duration::from_secs(10));
    drop(client);

    let began = Instant::now();
    let (mut client, _stop, task) = connect(64);
    for octet in query(7).into_iter().take(30) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if client.write_all(&[octet]).await.is_err() {
            break;
        }
    }
    assert_eq!(task.await.unwrap(), End::Idle);
    assert!(began.elapsed() < Duration::from_secs(12));
}

#[tokio::test(start_paused = true)]
async fn every_answered_query_gives_a_connection_its_time_again() {
    let (mut client, _stop, task) = connect(4096);
    for id in 0..5 {
        tokio::time::sleep(Duration::from_secs(9)).await;
        client.write_all(&query(id)).await.unwrap();
        assert_eq!(reply(&mut client).await[1], id as u8);
    }
    assert_eq!(task.await.unwrap(), End::Idle);
}

#[tokio::test(start_paused = true)]
async fn a_reader_that_does_not_read_is_let_go_with_a_bounded_backlog() {
    let (mut client, _stop, task) = connect(1024);
    let writer = async {
        for id in 0..10_000 {
            if client.write_all(&query(id)).await.is_err() {
                return id;
            }
        }
        10_000
    };
    let (taken, end) = tokio::join!(writer, task);
    assert_eq!(end.unwrap(), End::Slow);
    // what one read and the pipe hold, and not more
    assert!(taken < 500, "{taken} queries were read");
}

#[tokio::test(start_paused = true)]
async fn what_no_reply_is_due_to_ends_the_connection_after_the_replies_before_it() {
    for nonsense in [
        &[0, 0][..],
        &[0, 3, 1, 2, 3],
        &[0, 12, 0, 1, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0],
    ] {
        let (mut client, _stop, task) = connect(4096);
        client
            .write_all(&[&query(1), nonsense, &query(2)].concat())
            .await
            .unwrap();
        assert_eq!(reply(&mut client).await[..2], [0, 1]);
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
        assert_eq!(task.await.unwrap(), End::Nonsense);
    }
}

#[tokio::test(start_paused = true)]
async fn at_the_end_what_was_received_is_answered() {
    let (mut client, stop, task) = connect(4096);
    client
        .write_all(&[query(1), query(2), vec![0, 33, 1]].concat())
        .await
        .unwrap();
    stop.cancel();
    assert_eq!(reply(&mut client).await[..2], [0, 1]);
    assert_eq!(reply(&mut client).await[..2], [0, 2]);
    assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0);
    assert_eq!(task.await.unwrap(), End::Shutdown);
}

#[tokio::test(start_paused = true)]
async fn a_stream_cut_at_any_octet_gives_the_whole_queries_their_replies_and_no_more() {
    let two = [query(1), query(2)].concat();
    for length in 0..=two.len() {
        let (mut client, _stop, task) = connect(4096);
        client.write_all(&two[..length]).await.unwrap();
        client.shutdown().await.unwrap();
        for id in 1..=length / query(1).len() {
            assert_eq!(reply(&mut client).await[..2], (id as u16).to_be_bytes());
        }
        assert_eq!(client.read(&mut [0; 8]).await.unwrap(), 0, "{length}");
        assert_eq!(task.await.unwrap(), End::Client);
    }
}
