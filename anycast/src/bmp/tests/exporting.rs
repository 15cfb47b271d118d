//! What one collector is told, message by message.

use super::super::exporter::{Exporter, Identity};
use super::*;
use crate::connection::Connection;
use crate::session::{End, SessionId};
use crate::tap::tests::{connection, negotiated, tap, withdrawal};
use crate::tap::{RouteCounts, Tap, Watcher};

fn identity() -> Identity {
    Identity {
        name: "fra.example".to_owned(),
        description: "steer".to_owned(),
    }
}

/// Both OPENs of a connection.
fn greet(tap: &Tap, peer: usize, connection: &Connection) {
    tap.sent(peer, connection, &open(64_512));
    tap.received(peer, connection, &wire::tests::frame(&open(64_500)));
}

/// A word per message, with what matters of it.
fn words(messages: &[Bytes]) -> Vec<String> {
    messages.iter().map(|message| word(&read(message))).collect()
}

fn word(message: &Message) -> String {
    match message {
        Message::RouteMonitoring(peer, update) => {
            let out = peer.flags.adj_rib_out && peer.flags.post_policy;
            let update = wire::tests::read_update_of(&wire::tests::frame(update));
            let what = match (update.end_of_rib, update.withdrawn.as_slice()) {
                (Some(family), _) => format!("end of {family}"),
                (None, []) => format!("+{}", update.reachable[0].prefixes[0]),
                (None, withdrawn) => format!("-{}", withdrawn[0]),
            };
            format!("{what}{}", if out { "" } else { " with wrong flags" })
        }
        Message::Statistics(peer, stats) => format!("statistics of {}: {}", peer.asn, stats.len()),
        Message::PeerDown(peer, down) => match down {
            PeerDown::LocalNotification(_) => format!("down {} by us", peer.asn),
            PeerDown::RemoteNotification(_) => format!("down {} by it", peer.asn),
            PeerDown::RemoteNoData => format!("down {} lost", peer.asn),
            other @ (PeerDown::LocalNoNotification(_) | PeerDown::Deconfigured | PeerDown::LocalTlvs(_)) => {
                format!("{other:?}")
            }
        },
        Message::PeerUp(peer, _) => format!("up {}", peer.asn),
        Message::Initiation(_) => "initiation".to_owned(),
        Message::Termination(_) => "termination".to_owned(),
        other @ (Message::RouteMirroring(..) | Message::Unknown(_)) => format!("{other:?}"),
    }
}

fn drain(exporter: &mut Exporter, watcher: &mut Watcher) -> Vec<String> {
    let tapped = std::iter::from_fn(|| watcher.try_next());
    let told: Vec<Bytes> = tapped.filter_map(|tapped| exporter.on(tapped)).collect();
    words(&told)
}

#[tokio::test]
async fn a_collector_hears_who_we_are_what_stands_and_what_follows() {
    let tap = tap(true);
    let (first, second) = (connection(1).await, connection(2).await);
    greet(&tap, 0, &first);
    greet(&tap, 1, &second);
    tap.up(0, &first, &negotiated(64_500));
    tap.sent(0, &first, &announcement(&["192.0.2.1/32"], 1));
    let (standing, mut watcher) = tap.follow();
    let (mut exporter, begin) = Exporter::begin(&identity(), standing);
    assert_eq!(
        words(&begin),
        [
            "initiation",
            "up 64500",
            "+192.0.2.1/32",
            "end of ipv4-unicast",
            "end of ipv6-unicast"
        ]
    );
    let Message::PeerUp(_, up) = read(&begin[1]) else {
        panic!("a Peer Up")
    };
    assert_eq!(up.sent_open, open(64_512));

    tap.sent(0, &first, &wire::encode_keepalive()); // no UPDATE: does not concern it
    tap.sent(0, &first, &withdrawal("192.0.2.1/32"));
    tap.up(1, &second, &negotiated(64_501));
    tap.sent(1, &second, &announcement(&["2001:db8::1/128"], 1));
    let stopped = End::Stopped(Notification::bare(Reason::AdministrativeShutdown));
    tap.ended(0, SessionId(1), &stopped);
    tap.ended(
        1,
        SessionId(2),
        &End::Notified(Notification::bare(Reason::HoldTimerExpired)),
    );
    assert_eq!(
        drain(&mut exporter, &mut watcher),
        [
            "-192.0.2.1/32",
            "up 64501",
            "+2001:db8::1/128",
            "down 64500 by us",
            "down 64501 by it"
        ]
    );
    assert_eq!(words(&[Exporter::end("bye")]), ["termination"]);
}

#[tokio::test]
async fn statistics_speak_of_sessions_that_the_collector_knows() {
    let tap = tap(true);
    let first = connection(1).await;
    greet(&tap, 0, &first);
    tap.up(0, &first, &negotiated(64_500));
    tap.sent(0, &first, &announcement(&["192.0.2.1/32"], 1));
    let (exporter, _) = Exporter::begin(&identity(), tap.follow().0);
    let mut counts = tap.counts();
    counts.push((1, RouteCounts::default()));
    let told = exporter.statistics(&counts, Timestamp::now());
    assert_eq!(words(&told), ["statistics of 64500: 3"]);
    let Message::Statistics(peer, stats) = read(&told[0]) else {
        panic!("statistics")
    };
    assert!(!peer.flags.adj_rib_out, "RFC 8671 §6.2");
    assert_eq!(stats[0].value, StatValue::Gauge(1));
}

#[tokio::test]
async fn a_session_with_2_octet_numbers_has_the_a_flag() {
    let tap = tap(true);
    let first = connection(1).await;
    greet(&tap, 0, &first);
    let mut old = negotiated(64_500);
    old.four_octet = false;
    tap.up(0, &first, &old);
    let (_, begin) = Exporter::begin(&identity(), tap.follow().0);
    let Message::PeerUp(peer, _) = read(&begin[1]) else {
        panic!("a Peer Up")
    };
    assert!(peer.flags.two_octet);
}

#[tokio::test]
async fn the_second_reader_takes_every_message() {
    let tap = tap(true);
    let first = connection(1).await;
    greet(&tap, 0, &first);
    tap.up(0, &first, &negotiated(64_500));
    tap.sent(0, &first, &announcement(&["192.0.2.1/32", "192.0.2.2/32"], 1));
    let (standing, mut watcher) = tap.follow();
    let (mut exporter, mut told) = Exporter::begin(&identity(), standing);
    tap.sent(0, &first, &withdrawal("192.0.2.1/32"));
    told.extend(exporter.statistics(&tap.counts(), Timestamp::now()));
    tap.ended(0, SessionId(1), &End::Lost("gone".to_owned()));
    told.extend(std::iter::from_fn(|| watcher.try_next()).filter_map(|tapped| exporter.on(tapped)));
    told.push(Exporter::end("bye"));
    assert_eq!(told.len(), 9);
    for message in &mut told {
        bgpkit_parser::parse_bmp_msg(message).unwrap();
        assert!(message.is_empty());
    }
}
