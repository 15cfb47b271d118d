//! A drain: whoever is served is served to the end, and nobody is left in doubt.

use std::net::SocketAddr;

use bytes::Bytes;
use h2::Reason;
use steer_rpc::edge::Phase;
use tokio::net::{TcpSocket, TcpStream};

use crate::peers::{Backend, Script, client, edge, read, request, until, within};

#[tokio::test]
async fn a_drained_edge_ends_the_calls_it_has_and_takes_no_more() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&[backend.address], "").await;
    let address = edge.address();
    let send = client(address).await;
    let (response, mut body) = send
        .clone()
        .ready()
        .await
        .unwrap()
        .send_request(request(&[]), false)
        .unwrap();
    body.send_data(Bytes::from_static(b"before "), false).unwrap();
    until("the backend has the call", || backend.seen() == 1).await;

    let drained = tokio::spawn(edge.drain());
    // The client is told, and opens no stream on this connection any more.
    let told = async {
        loop {
            match send.clone().ready().await {
                Ok(mut send) => match send.send_request(request(&[]), true) {
                    // Sent before the GOAWAY came: it is answered, as the first GOAWAY names no stream.
                    Ok((response, _)) => assert_eq!(read(response.await.unwrap()).await.status(), "0"),
                    Err(error) => return error,
                },
                Err(error) => return error,
            }
        }
    };
    let error = within(told).await;
    assert_eq!(error.reason(), Some(Reason::NO_ERROR), "{error}");
    assert!(TcpStream::connect(address).await.is_err(), "nobody listens");

    body.send_data(Bytes::from_static(b"and after"), true).unwrap();
    let seen = read(within(response).await.unwrap()).await;
    assert_eq!((seen.status(), &seen.body[..]), ("0", &b"before and after"[..]));
    within(drained).await.unwrap();
}

#[tokio::test]
async fn a_call_that_does_not_end_is_ended_when_the_drain_has_waited_long_enough() {
    let backend = Backend::start(&[Script::Silent]).await;
    let edge = edge(&[backend.address], "").await;
    let send = client(edge.address()).await;
    let (response, _body) = send
        .ready()
        .await
        .unwrap()
        .send_request(request(&[]), false)
        .unwrap();
    until("the backend has the call", || backend.seen() == 1).await;
    within(edge.drain()).await;
    assert!(response.await.is_err());
    until("the backend is told", || backend.resets() == 1).await;
}

/// A connection from another address than the edge's, and whether a call over it is answered.
async fn is_served_from(from: &str, edge: SocketAddr) -> bool {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
    // A reset may come before the connection is known here, or after it.
    let Ok(stream) = socket.connect(edge).await else {
        return false;
    };
    let Ok((send, connection)) = h2::client::handshake(stream).await else {
        return false;
    };
    tokio::spawn(connection);
    let Ok(mut send) = send.ready().await else {
        return false;
    };
    let Ok((response, _)) = send.send_request(request(&[]), true) else {
        return false;
    };
    match within(response).await {
        Ok(response) => read(response).await.status() == "0",
        Err(_) => false,
    }
}

#[tokio::test]
async fn a_closing_edge_takes_its_own_host_alone_and_an_undrained_one_everybody() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&[backend.address], "").await;
    let address = edge.address();
    let send = client(address).await;
    for (phase, others) in [
        (Phase::Closing, false),
        (Phase::Leaving, true),
        (Phase::Closing, false),
        (Phase::Open, true),
    ] {
        edge.turn(phase);
        assert_eq!(is_served_from("127.0.0.2", address).await, others, "{phase:?}");
        assert!(is_served_from("127.0.0.1", address).await, "{phase:?}");
    }
    let (response, _) = send
        .ready()
        .await
        .unwrap()
        .send_request(request(&[]), true)
        .unwrap();
    assert_eq!(
        read(within(response).await.unwrap()).await.status(),
        "0",
        "this host was not told to go"
    );
}

#[tokio::test]
async fn clients_of_a_closing_edge_are_told_to_go_and_their_calls_end() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&[backend.address], "").await;
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    let stream = socket.connect(edge.address()).await.unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let mut send = send.ready().await.unwrap();
    let (response, mut body) = send.send_request(request(&[]), false).unwrap();
    until("the backend has the call", || backend.seen() == 1).await;
    edge.turn(Phase::Closing);
    until("it was told", || {
        send.clone().send_request(request(&[]), true).is_err()
    })
    .await;
    body.send_data(Bytes::from_static(b"to the end"), true).unwrap();
    let seen = read(within(response).await.unwrap()).await;
    assert_eq!((seen.status(), &seen.body[..]), ("0", &b"to the end"[..]));
    drop(send);
    within(connection).await.unwrap().unwrap();
    until("nobody is left", || edge.status().connections == 0).await;
    assert_eq!(edge.status().phase, Phase::Closing);
}
