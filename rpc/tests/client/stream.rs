//! Streams through the stack: both ways at once, and what an application sees of one that breaks.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use steer_rpc::client::Outcome;
use steer_rpc::fate::Fate;

use crate::peers::{ECHO, Peer, Say, client, within};
use crate::shop::user_service_client::UserServiceClient;
use crate::shop::{ChatMessage, ListUsersRequest};

fn message(text: String) -> ChatMessage {
    ChatMessage {
        from: "ana".to_owned(),
        text,
        room: String::new(),
    }
}

#[tokio::test]
async fn messages_go_both_ways_at_once_and_more_than_is_kept() {
    let peer = Peer::start(&[ECHO]).await;
    let mut client = UserServiceClient::new(client(&[peer.address], "semantics = \"keyed\""));
    // 600 messages of 2 KiB: more than a request that is kept may have.
    let sent = (0..600).map(|number| message(format!("{number:2048}")));
    let mut heard = within(client.chat(stream::iter(sent))).await.unwrap();
    let outcome = heard.extensions().get::<Outcome>().unwrap().clone();
    for number in 0..600 {
        assert!(outcome.fate().is_none(), "the answer is still coming");
        let next = within(heard.get_mut().message()).await.unwrap().unwrap();
        assert_eq!(next.text.trim(), number.to_string());
    }
    assert_eq!(within(heard.get_mut().message()).await.unwrap(), None);
    assert_eq!(outcome.fate(), Some(Fate::Committed));
}

#[tokio::test]
async fn a_stream_that_breaks_ends_in_a_status_that_says_so() {
    let peer = Peer::start(&[Say::Half]).await;
    let mut client = UserServiceClient::new(client(&[peer.address], "semantics = \"keyed\""));
    let mut heard = within(client.chat(stream::iter([message("one".to_owned())])))
        .await
        .unwrap();
    assert_eq!(
        within(heard.get_mut().message()).await.unwrap().unwrap().text,
        "one"
    );
    let status = within(heard.get_mut().message()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(status.metadata().get("steer-fate").unwrap(), "ambiguous");
}

#[tokio::test]
async fn a_stream_ends_at_its_deadline_even_while_the_server_says_nothing() {
    static ASKED: AtomicBool = AtomicBool::new(false);
    let peer = Peer::start(&[ECHO]).await;
    let mut client = UserServiceClient::new(client(&[peer.address], "semantics = \"keyed\""));
    // One message, and then nothing more for ever.
    let sent = stream::iter([message("one".to_owned())]).chain(stream::poll_fn(|_| {
        ASKED.store(true, Ordering::SeqCst);
        std::task::Poll::Pending
    }));
    let mut request = tonic::Request::new(sent);
    request.set_timeout(Duration::from_millis(400));
    let mut heard = within(client.chat(request)).await.unwrap();
    assert_eq!(
        within(heard.get_mut().message()).await.unwrap().unwrap().text,
        "one"
    );
    let status = within(heard.get_mut().message()).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::DeadlineExceeded);
    assert_eq!(status.metadata().get("steer-fate").unwrap(), "ambiguous");
    assert!(ASKED.load(Ordering::SeqCst));
}

#[tokio::test]
async fn a_stream_of_a_server_that_refuses_it_ends_in_the_servers_status() {
    let peer = Peer::start(&[Say::Trailers(&[("grpc-status", "12")])]).await;
    let mut client = UserServiceClient::new(client(&[peer.address], "semantics = \"keyed\""));
    let status = within(client.list_users(ListUsersRequest {})).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unimplemented);
    assert_eq!(status.metadata().get("steer-fate").unwrap(), "committed");
}
