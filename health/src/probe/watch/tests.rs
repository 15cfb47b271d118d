use tokio::io::{DuplexStream, duplex};

use super::*;

/// What a server of one call does; it has the whole connection.
async fn held<F: Future<Output = ()> + Send + 'static>(
    serve: impl FnOnce(h2::server::Connection<DuplexStream, Bytes>) -> F,
) -> Cut {
    let (ours, theirs) = duplex(64 * 1024);
    let (watch, server) = tokio::join!(
        Watch::begin(Box::new(ours), "http://192.0.2.1:50051", "shop.Cart"),
        h2::server::handshake(theirs)
    );
    let server = tokio::spawn(serve(server.unwrap()));
    let cut = tokio::time::timeout(std::time::Duration::from_secs(20), watch.unwrap().hold()).await;
    server.abort();
    cut.unwrap()
}

fn told(status: u8) -> Bytes {
    Bytes::from(vec![0, 0, 0, 0, 2, 8, status])
}

fn trailers(code: &str) -> http::HeaderMap {
    let mut trailers = http::HeaderMap::new();
    trailers.insert("grpc-status", code.parse().unwrap());
    trailers
}

/// Answers the call, says SERVING, and goes on with the rest while the connection lives.
async fn answer(
    mut connection: h2::server::Connection<DuplexStream, Bytes>,
    then: impl AsyncFnOnce(h2::SendStream<Bytes>),
) {
    let (request, mut respond) = connection.accept().await.unwrap().unwrap();
    assert_eq!(request.uri().path(), "/grpc.health.v1.Health/Watch");
    let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
    stream.send_data(told(1), false).unwrap();
    let drive = async { while connection.accept().await.is_some() {} };
    tokio::join!(drive, then(stream));
}

#[tokio::test]
async fn a_status_other_than_serving_is_told_at_once_in_whatever_pieces_it_comes() {
    let cut = held(|connection| {
        answer(connection, async |mut stream| {
            for octet in told(1).iter().chain(told(2).iter()) {
                stream
                    .send_data(Bytes::copy_from_slice(&[*octet]), false)
                    .unwrap();
                tokio::task::yield_now().await;
            }
            std::future::pending::<()>().await;
        })
    });
    assert_eq!(cut.await, Cut::NotServing);
}

#[tokio::test]
async fn where_watch_is_unimplemented_the_connection_is_held_all_the_same() {
    let cut = held(|mut connection| async move {
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut response = http::Response::new(());
        *response.headers_mut() = trailers("12");
        respond.send_response(response, true).unwrap();
        // The answer is out when a ping is answered; only then the connection ends.
        let mut ping = connection.ping_pong().unwrap();
        tokio::select! {
            pong = ping.ping(h2::Ping::opaque()) => drop(pong.unwrap()),
            _ = connection.accept() => {}
        }
    });
    assert!(matches!(cut.await, Cut::Closed | Cut::Failed));
}

#[tokio::test]
async fn a_call_that_the_server_ends_asks_for_a_look_and_so_does_goaway() {
    let ended = held(|connection| {
        answer(connection, async |mut stream| {
            stream.send_trailers(trailers("14")).unwrap();
            std::future::pending::<()>().await;
        })
    });
    assert_eq!(ended.await, Cut::Closed);
    let leaving = held(|mut connection| async move {
        let (_, mut respond) = connection.accept().await.unwrap().unwrap();
        let mut stream = respond.send_response(http::Response::new(()), false).unwrap();
        stream.send_data(told(1), false).unwrap();
        connection.graceful_shutdown();
        while connection.accept().await.is_some() {}
        drop(stream);
    });
    assert_eq!(leaving.await, Cut::GoAway);
}
