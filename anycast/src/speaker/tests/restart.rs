//! How a speaker ends and comes back, as a peer sees it: the cause decides.

use std::net::SocketAddr;

use steer_health::Verdict;

use super::client::{Client, capabilities, open};
use super::{PATIENCE, Running, fleet, free};
use crate::speaker::StopKind;
use crate::wire::{Capabilities, Families, Message, RestartCapability, Update};

const PEER: u32 = 64_500;

fn text(listen: SocketAddr, restart: &str) -> String {
    format!(
        "[[check]]\nname = \"web\"\nkind = \"tcp\"\n\
         [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [ {{ address = \"127.0.0.1:1\" }} ]\n\
         [bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"{listen}\"]\n\
         [[bgp.peer]]\naddress = \"127.0.0.1\"\nasn = {PEER}\npassive = true\n{restart}\n\
         [[anycast]]\nprefix = \"192.0.2.1/32\"\n\
         [[anycast]]\nprefix = \"192.0.2.2/32\"\nwhile_up = [\"pool:web\"]\n"
    )
}

/// A helper: it keeps the routes of a peer that restarts.
fn helper() -> Capabilities {
    Capabilities {
        graceful_restart: Some(RestartCapability {
            families: Families::ALL,
            notification: true,
            ..RestartCapability::default()
        }),
        ..capabilities()
    }
}

/// What is said until the end of the connection.
async fn rest(client: &mut Client) -> (usize, Option<[u8; 2]>) {
    let (mut withdrawn, mut notification) = (0, None);
    while let Some(message) = client.said().await {
        match message {
            Message::Update(update) => withdrawn += update.withdrawn.len(),
            Message::Notification(told) => notification = Some([told.code, told.subcode]),
            other @ (Message::Open(_) | Message::Keepalive | Message::RouteRefresh(_)) => panic!("{other:?}"),
        }
    }
    (withdrawn, notification)
}

const RESTART: &str = "graceful_restart = { restart_time = \"30s\", notification = false }";

#[tokio::test]
async fn a_planned_restart_says_nothing_to_a_peer_that_keeps_our_routes() {
    let listen = free();
    let mut speaker = Running::start(fleet(&text(listen, RESTART))).await;
    speaker.verdict(Verdict::Up);
    let mut client = Client::session(listen, &open(PEER, helper())).await;
    client.first_round().await;
    speaker.kind.set(StopKind::Restart);
    let end = tokio::spawn(speaker.end());
    assert_eq!(rest(&mut client).await, (0, None));
    drop(client);
    end.await.expect("in good order");
}

#[tokio::test]
async fn a_planned_restart_withdraws_where_the_peer_keeps_nothing() {
    let listen = free();
    let mut speaker = Running::start(fleet(&text(listen, RESTART))).await;
    speaker.verdict(Verdict::Up);
    let mut client = Client::session(listen, &open(PEER, capabilities())).await;
    client.first_round().await;
    speaker.kind.set(StopKind::Restart);
    let end = tokio::spawn(speaker.end());
    // Cease, Administrative Reset (RFC 4486 §4).
    assert_eq!(rest(&mut client).await, (2, Some([6, 4])));
    drop(client);
    end.await.expect("in good order");
}

#[tokio::test]
async fn an_orderly_stop_withdraws_even_where_the_peer_would_keep_our_routes() {
    let listen = free();
    let mut speaker = Running::start(fleet(&text(listen, RESTART))).await;
    speaker.verdict(Verdict::Up);
    let mut client = Client::session(listen, &open(PEER, helper())).await;
    client.first_round().await;
    let end = tokio::spawn(speaker.end());
    let (withdrawn, notification) = rest(&mut client).await;
    assert_eq!(withdrawn, 2);
    assert_eq!(notification.map(|[code, _]| code), Some(6));
    drop(client);
    end.await.expect("in good order");
}

#[tokio::test]
async fn after_a_restart_end_of_rib_waits_for_the_first_full_round() {
    let listen = free();
    let mut speaker = Running::start(fleet(&text(listen, RESTART))).await;
    let mut client = Client::connect("127.0.0.1".parse().expect("address"), listen, |_| Ok(()))
        .await
        .expect("listening");
    let theirs = client.establish(&open(PEER, helper())).await;
    let offer = theirs.capabilities.graceful_restart.expect("offered");
    assert!(offer.restarted, "a start may be one after a restart");
    // What has no condition goes out at once.
    assert_eq!(client.update().await.reachable[0].prefixes.len(), 1);
    let early = tokio::time::timeout(std::time::Duration::from_millis(300), client.said()).await;
    assert!(early.is_err(), "{early:?} before the checks have spoken");
    speaker.verdict(Verdict::Up);
    let updates: Vec<Update> = client.first_round().await;
    assert_eq!(updates.len(), 1);
    // The next session of this process follows no restart any more.
    drop(client);
    let look = async {
        loop {
            let mut client = Client::session(listen, &open(PEER, helper())).await;
            if client.first_round().await.len() == 1 {
                break client;
            }
        }
    };
    drop(tokio::time::timeout(PATIENCE, look).await.expect("a session"));
    let mut client = Client::connect("127.0.0.1".parse().expect("address"), listen, |_| Ok(()))
        .await
        .expect("listening");
    let theirs = client.establish(&open(PEER, helper())).await;
    assert!(!theirs.capabilities.graceful_restart.expect("offered").restarted);
    speaker.end().await;
}

#[tokio::test]
async fn end_of_rib_waits_no_longer_than_the_restart_time() {
    let listen = free();
    let restart = "graceful_restart = { restart_time = \"1s\" }";
    let speaker = Running::start(fleet(&text(listen, restart))).await;
    let mut client = Client::session(listen, &open(PEER, helper())).await;
    let updates = client.first_round().await;
    assert_eq!(updates.len(), 1, "nothing that depends on a check");
    speaker.end().await;
}

#[tokio::test]
async fn without_graceful_restart_nothing_waits() {
    let listen = free();
    let speaker = Running::start(fleet(&text(listen, ""))).await;
    let mut client = Client::session(listen, &open(PEER, helper())).await;
    assert_eq!(client.first_round().await.len(), 1);
    speaker.end().await;
}
