//! The window of a connection, that its calls share.

use std::path::Path;

use bytes::Bytes;
use http::Request;
use steer_rpc::edge::{Edge, EdgeConfig};

use crate::peers::{Backend, Script, client, read, until, within};

/// So many requests of so many octets, each in one frame where there is room for it: together the window of a client's
/// connection, 4 MiB, to its last octet.
const REQUESTS: [(usize, usize); 4] = [(256, 16 << 10), (17, 1 << 10), (17, 64), (70, 1)];

#[tokio::test]
async fn requests_that_were_read_hold_nothing_of_the_window_while_they_wait_for_their_answers() {
    let (silent, echo) = (
        Backend::start(&[Script::Silent]).await,
        Backend::start(&[Script::Echo]).await,
    );
    let text = format!(
        "listen = \"127.0.0.1:0\"\n[[pool]]\nname = \"silent\"\nbackends = [\"{}\"]\n\
         [[pool]]\nname = \"echo\"\nbackends = [\"{}\"]\n\
         [[method]]\npath = \"/silent.Silent/*\"\npool = \"silent\"\n[[method]]\npath = \"/echo.Echo/*\"\npool = \"echo\"\n",
        silent.address, echo.address
    );
    let config = EdgeConfig::parse(&text, Path::new(".")).unwrap();
    let edge = Edge::bind(config).await.unwrap().run().unwrap();
    let send = client(edge.address()).await;
    let begin = async |path: &str, octets: usize| {
        let request = Request::post(format!("http://edge{path}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(())
            .unwrap();
        let mut send = send.clone().ready().await.unwrap();
        let (response, mut body) = send.send_request(request, false).unwrap();
        body.send_data(Bytes::from(vec![7; octets]), true).unwrap();
        (response, body)
    };
    let mut waiting = Vec::new();
    for (count, octets) in REQUESTS {
        for _ in 0..count {
            waiting.push(within(begin("/silent.Silent/Wait", octets)).await);
        }
        until("all of them are at the backend", || {
            silent.seen() == waiting.len()
        })
        .await;
    }
    let (response, _body) = within(begin("/echo.Echo/Say", 5)).await;
    let seen = within(async { read(response.await.unwrap()).await }).await;
    assert_eq!((seen.status(), seen.body.len()), ("0", 5));
}
