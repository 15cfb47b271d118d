//! grpc-web, as a page in a browser speaks it.

use bytes::Bytes;
use data_encoding::BASE64;
use http::{Request, StatusCode};
use steer_rpc::edge::Running;

use crate::peers::{Backend, Script, Seen, client, edge_with, read, within};

const PAGE: &str = "https://shop.example";

async fn edge(backend: &Backend) -> Running {
    let head = format!("[grpc_web]\norigins = [\"{PAGE}\"]");
    edge_with(&head, &[backend.address], "", "").await
}

/// A call with a body of one frame, from a page.
async fn call(edge: &Running, kind: &str, body: &[u8]) -> Seen {
    let request = Request::builder()
        .method("POST")
        .uri("http://edge/pay.Payment/Charge")
        .header("content-type", kind)
        .header("origin", PAGE)
        .header("x-grpc-web", "1")
        .body(())
        .unwrap();
    let send = client(edge.address()).await;
    let work = async {
        let (response, mut to) = send.ready().await.unwrap().send_request(request, false).unwrap();
        to.send_data(Bytes::copy_from_slice(body), true).unwrap();
        read(response.await.unwrap()).await
    };
    within(work).await
}

/// A message, and the trailers as another.
fn message(octets: &[u8]) -> Vec<u8> {
    let length = u32::try_from(octets.len()).unwrap().to_be_bytes();
    [&[0][..], &length, octets].concat()
}

const TRAILERS: &[u8] = b"\x80\0\0\0\x10grpc-status: 0\r\n";

#[tokio::test]
async fn a_page_gets_its_answer_and_the_trailers_as_the_last_message() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&backend).await;
    let seen = call(&edge, "application/grpc-web+proto", &message(b"octets")).await;
    assert_eq!(seen.body, [&message(b"octets")[..], TRAILERS].concat());
    assert!(seen.trailers.is_empty());
    assert_eq!(seen.value("content-type"), Some("application/grpc-web+proto"));
    assert_eq!(seen.value("access-control-allow-origin"), Some(PAGE));
    let exposed = seen.value("access-control-expose-headers").unwrap();
    assert!(
        exposed.contains("grpc-status") && exposed.contains("steer-fate"),
        "{exposed}"
    );
    let head = backend.head(0);
    assert_eq!(
        (&head["content-type"], &head["te"]),
        (
            &"application/grpc+proto".parse().unwrap(),
            &"trailers".parse().unwrap()
        )
    );
}

#[tokio::test]
async fn where_a_page_can_only_read_text_both_bodies_are_base64() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&backend).await;
    let body = BASE64.encode(&message(b"octets"));
    let seen = call(&edge, "application/grpc-web-text", body.as_bytes()).await;
    let octets = BASE64.decode(&seen.body).unwrap();
    assert_eq!(octets, [&message(b"octets")[..], TRAILERS].concat());
}

#[tokio::test]
async fn what_is_no_base64_is_refused_and_no_backend_does_it() {
    let backend = Backend::start(&[Script::Silent]).await;
    let edge = edge(&backend).await;
    for body in [&b"!!!!"[..], b"AAA"] {
        let seen = call(&edge, "application/grpc-web-text", body).await;
        assert_eq!(seen.status(), "13", "{seen:?}");
        assert!(
            seen.value("grpc-message").unwrap().contains("no base64"),
            "{seen:?}"
        );
        assert_eq!(seen.value("content-type"), Some("application/grpc-web-text"));
    }
}

#[tokio::test]
async fn a_refusal_can_be_read_by_a_page() {
    let backend = Backend::start(&[Script::Status(7)]).await;
    let edge = edge(&backend).await;
    let seen = call(&edge, "application/grpc-web", &message(b"")).await;
    assert_eq!((seen.http, seen.status()), (StatusCode::OK, "7"));
    assert_eq!(seen.value("access-control-allow-origin"), Some(PAGE));
}

#[tokio::test]
async fn a_browser_that_asks_before_it_calls_is_answered_by_the_edge() {
    let backend = Backend::start(&[Script::Echo]).await;
    let edge = edge(&backend).await;
    let ask = async |origin: &str| {
        let request = Request::builder()
            .method("OPTIONS")
            .uri("http://edge/pay.Payment/Charge")
            .header("origin", origin)
            .header("access-control-request-method", "POST")
            .header("access-control-request-headers", "content-type")
            .body(())
            .unwrap();
        let send = client(edge.address()).await.ready().await;
        let (response, _) = send.unwrap().send_request(request, true).unwrap();
        read(within(response).await.unwrap()).await
    };
    let told = ask(PAGE).await;
    assert_eq!(told.http, StatusCode::NO_CONTENT);
    assert_eq!(told.value("access-control-allow-origin"), Some(PAGE));
    let told = ask("https://other.example").await;
    assert_eq!((told.http, told.head.len()), (StatusCode::FORBIDDEN, 0));
    assert_eq!(backend.seen(), 0);
}
