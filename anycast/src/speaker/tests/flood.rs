//! A peer that sends everything it knows.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use bytes::Bytes;
use steer_health::Verdict;
use steer_topology::Prefix;

use super::client::{Client, capabilities, open};
use super::{Running, fleet, free};
use crate::session::State;
use crate::wire::{self, Family, Message, Outbound, Path, Segment, SegmentKind};

const PEER: u32 = 64_500;

fn text(listen: SocketAddr, more: &str) -> String {
    format!(
        "[fleet]\nguard = {{ max_withdrawn = 1000 }}\n[[check]]\nname = \"web\"\nkind = \"tcp\"\n\
         [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [ {{ address = \"127.0.0.1:1\" }} ]\n\
         [bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"{listen}\"]\n\
         [[bgp.peer]]\naddress = \"127.0.0.1\"\nasn = {PEER}\npassive = true\n{more}\n\
         [[anycast]]\nprefix = \"192.0.2.2/32\"\nwhile_up = [\"pool:web\"]\n"
    )
}

/// UPDATEs with so many prefixes, a few hundred in each.
fn table(count: u32) -> Vec<Bytes> {
    let prefixes = (0..count).map(|number| {
        let address = Ipv4Addr::from_bits(0x0100_0000 + (number << 8));
        Prefix::new(address.into(), 24).expect("a prefix")
    });
    let prefixes: Vec<Prefix> = prefixes.collect();
    let path = Path {
        as_path: vec![Segment {
            kind: SegmentKind::Sequence,
            asns: vec![PEER, 64_501, 64_502],
        }],
        ..Path::default()
    };
    let next_hop: IpAddr = Ipv4Addr::new(192, 0, 2, 77).into();
    let mut messages = Vec::new();
    let mut rest = prefixes.as_slice();
    while !rest.is_empty() {
        let (message, sent) = wire::encode_reach(
            Family::Ipv4Unicast,
            rest,
            next_hop.into(),
            &path,
            &Outbound::PLAIN,
        );
        messages.push(message);
        rest = &rest[sent..];
    }
    messages
}

#[tokio::test]
async fn one_prefix_too_many_ends_the_session_with_the_limit_in_the_notification() {
    let listen = free();
    let speaker = Running::start(fleet(&text(listen, "max_prefixes = 1000"))).await;
    let mut client = Client::session(listen, &open(PEER, capabilities())).await;
    client.first_round().await;
    for message in table(1000).iter().chain(&table(1000)) {
        client.send(message).await; // the second time is no more than the first
    }
    speaker
        .until_peer("all of the table", |peer| {
            peer.prefixes_in == 2000 && peer.inbound.held == Some(1000)
        })
        .await;
    assert_eq!(speaker.status.peers()[0].state, State::Established);
    for message in table(1001) {
        client.send(&message).await;
    }
    let Some(Message::Notification(notification)) = client.said().await else {
        panic!("a NOTIFICATION")
    };
    assert_eq!((notification.code, notification.subcode), (6, 1));
    // RFC 4486 §4: AFI, SAFI and the limit.
    assert_eq!(notification.data, [0, 1, 1, 0, 0, 3, 232]);
    speaker.end().await;
}

#[tokio::test]
async fn a_sample_of_a_table_shows_in_the_status_and_goes_with_the_session() {
    let listen = free();
    let speaker = Running::start(fleet(&text(listen, "sample = 10"))).await;
    let mut client = Client::session(listen, &open(PEER, capabilities())).await;
    client.first_round().await;
    for message in table(5000) {
        client.send(&message).await;
    }
    speaker
        .until_peer("all of the table", |peer| peer.prefixes_in == 5000)
        .await;
    let sample = speaker.status.peers()[0].sample.clone();
    assert_eq!(sample.len(), 10);
    assert!(sample.iter().all(|route| route.as_path == [PEER, 64_501, 64_502]));
    drop(client);
    speaker
        .until_peer("the loss", |peer| peer.session.is_none())
        .await;
    let mut client = Client::session(listen, &open(PEER, capabilities())).await;
    client.first_round().await;
    speaker
        .until_peer("a new session", |peer| {
            peer.session.is_some() && peer.sample.is_empty()
        })
        .await;
    speaker.end().await;
}

#[tokio::test]
async fn a_verdict_reaches_a_peer_that_floods_us() {
    let listen = free();
    let mut speaker = Running::start(fleet(&text(listen, ""))).await;
    let mut client = Client::session(listen, &open(PEER, capabilities())).await;
    client.first_round().await;
    let messages: Arc<[Bytes]> = table(200_000).into();
    let (mut verdict, mut heard) = (Verdict::Up, 0);
    for part in messages.chunks(messages.len().div_ceil(8)) {
        for message in part {
            client.send(message).await;
        }
        speaker.verdict(verdict);
        let update = client.update().await;
        assert_eq!(update.reachable.is_empty(), verdict == Verdict::Down);
        heard += 1;
        verdict = if verdict == Verdict::Up {
            Verdict::Down
        } else {
            Verdict::Up
        };
    }
    assert_eq!(heard, 8);
    speaker
        .until_peer("all of the table", |peer| peer.prefixes_in == 200_000)
        .await;
    speaker.end().await;
}
