//! A drain: whoever is served is served to the end, and nobody is left in doubt.

use bytes::Bytes;
use h2::Reason;
use tokio::net::TcpStream;

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
