//! What a router tells, as events.

use super::super::reader::{Reader, Skipped};
use super::*;
use crate::monitor::{Heard, MonitorEvent, Only, Rib};
use crate::tap::tests::withdrawal;

const OUT: PeerFlags = PeerFlags {
    post_policy: true,
    adj_rib_out: true,
    two_octet: false,
    filtered: false,
};

fn reader() -> Reader {
    Reader::new("198.51.100.1:4000".parse().unwrap(), Only::default())
}

/// What a message makes the reader say.
#[expect(clippy::needless_pass_by_value, reason = "each message is made for the call")]
fn hear(reader: &mut Reader, message: Message) -> Vec<String> {
    let events = reader.on_message(read(&encode(&message)), Timestamp::now());
    events.unwrap().iter().map(word).collect()
}

fn word(event: &MonitorEvent) -> String {
    let rib = event.from.bmp.unwrap().rib.name();
    match &event.heard {
        Heard::SessionUp => format!("{rib} up"),
        Heard::SessionDown { reason } => format!("{rib} down: {reason}"),
        Heard::Announced { prefix, .. } => format!("{rib} +{prefix}"),
        Heard::Withdrawn { prefix, .. } => format!("{rib} -{prefix}"),
    }
}

fn up() -> Message {
    Message::PeerUp(header("192.0.2.2", PeerFlags::default()), peer_up())
}

fn update(flags: PeerFlags, update: Bytes) -> Message {
    Message::RouteMonitoring(header("192.0.2.2", flags), update)
}

#[test]
fn a_view_begins_with_its_first_update_and_ends_with_its_peer() {
    let mut reader = reader();
    assert_eq!(hear(&mut reader, up()), [""; 0]);
    let announced = announcement(&["192.0.2.1/32", "192.0.2.3/32"], 1);
    assert_eq!(
        hear(&mut reader, update(OUT, announced.clone())),
        [
            "adj-rib-out-post up",
            "adj-rib-out-post +192.0.2.1/32",
            "adj-rib-out-post +192.0.2.3/32"
        ]
    );
    assert_eq!(
        hear(&mut reader, update(PeerFlags::default(), announced)),
        [
            "adj-rib-in-pre up",
            "adj-rib-in-pre +192.0.2.1/32",
            "adj-rib-in-pre +192.0.2.3/32"
        ]
    );
    assert_eq!(
        hear(&mut reader, update(OUT, withdrawal("192.0.2.1/32"))),
        ["adj-rib-out-post -192.0.2.1/32"]
    );
    assert_eq!(
        hear(&mut reader, update(OUT, withdrawal("192.0.2.1/32"))),
        [""; 0],
        "it is gone"
    );
    let down = PeerDown::LocalNotification(notification());
    let told = hear(
        &mut reader,
        Message::PeerDown(header("192.0.2.2", PeerFlags::default()), down),
    );
    let reason = "the router sent Cease/Administrative Shutdown (6/2): \"steer stops\"";
    assert_eq!(
        told,
        [
            "adj-rib-in-pre -192.0.2.1/32".to_owned(),
            "adj-rib-in-pre -192.0.2.3/32".to_owned(),
            format!("adj-rib-in-pre down: {reason}"),
            "adj-rib-out-post -192.0.2.3/32".to_owned(),
            format!("adj-rib-out-post down: {reason}"),
        ]
    );
}

#[test]
fn a_loc_rib_is_a_view_of_its_own() {
    let mut reader = reader();
    let loc_rib = PeerHeader {
        kind: PeerKind::LocRib,
        address: Ipv4Addr::UNSPECIFIED.into(),
        ..header("192.0.2.2", PeerFlags::default())
    };
    hear(&mut reader, Message::PeerUp(loc_rib, peer_up()));
    let told = hear(
        &mut reader,
        Message::RouteMonitoring(loc_rib, announcement(&["192.0.2.1/32"], 1)),
    );
    assert_eq!(told, ["loc-rib up", "loc-rib +192.0.2.1/32"]);
}

#[test]
fn the_time_is_the_routers_where_it_tells_one() {
    let mut reader = reader();
    reader.on_message(up(), Timestamp::now()).unwrap();
    let announced = announcement(&["192.0.2.1/32"], 1);
    let events = reader.on_message(update(OUT, announced.clone()), Timestamp::now());
    assert_eq!(events.unwrap()[1].at, header("192.0.2.2", OUT).at.unwrap());
    let unknown = PeerHeader {
        at: None,
        ..header("192.0.2.2", OUT)
    };
    let now = Timestamp::now();
    let events = reader.on_message(Message::RouteMonitoring(unknown, announced), now);
    assert_eq!(events.unwrap()[0].at, now);
}

#[test]
fn what_cannot_be_read_for_sure_is_skipped_and_counted() {
    let mut reader = reader();
    let announced = announcement(&["192.0.2.1/32"], 1);
    hear(&mut reader, update(OUT, announced.clone())); // nobody said that the peer is up
    let capable = wire::encode_open(&wire::Open {
        asn: steer_topology::Asn::new(64_500).unwrap(),
        hold_time: 90,
        identifier: Ipv4Addr::new(10, 0, 0, 9),
        capabilities: wire::Capabilities {
            others: vec![(69, vec![0, 1, 1, 3])],
            ..wire::Capabilities::default()
        },
    });
    let with_paths = PeerUp {
        sent_open: capable.clone(),
        received_open: capable,
        ..peer_up()
    };
    hear(
        &mut reader,
        Message::PeerUp(header("192.0.2.2", PeerFlags::default()), with_paths),
    );
    assert_eq!(hear(&mut reader, update(OUT, announced)), [""; 0]);
    hear(&mut reader, up()); // again, without ADD-PATH
    assert_eq!(
        hear(&mut reader, update(OUT, open(64_500))),
        [""; 0],
        "an OPEN is no UPDATE"
    );
    let skipped = Skipped {
        malformed: 1,
        add_path: 1,
        views: 0,
        unknown: 1,
    };
    assert_eq!(reader.skipped(), skipped);
}

#[test]
fn only_what_is_asked_for_is_kept_and_told() {
    let only = Only::these(["192.0.2.3/32".parse().unwrap()]);
    let mut reader = Reader::new("198.51.100.1:4000".parse().unwrap(), only.clone());
    hear(&mut reader, up());
    let announced = announcement(&["192.0.2.1/32", "192.0.2.3/32"], 1);
    assert_eq!(
        hear(&mut reader, update(OUT, announced.clone())),
        ["adj-rib-out-post up", "adj-rib-out-post +192.0.2.3/32"]
    );
    only.add("192.0.2.1/32".parse().unwrap());
    let told = hear(&mut reader, update(OUT, announced));
    assert_eq!(
        told,
        ["adj-rib-out-post +192.0.2.1/32", "adj-rib-out-post +192.0.2.3/32"]
    );
}

#[test]
fn the_end_of_the_connection_withdraws_everything() {
    let mut reader = reader();
    hear(
        &mut reader,
        Message::Initiation(vec![Tlv::text(Initiation::SYS_NAME, "edge\x1b[2J")]),
    );
    assert_eq!(
        reader.name(),
        Some("edge\\u{1b}[2J"),
        "no control over our terminal"
    );
    hear(&mut reader, up());
    hear(&mut reader, update(OUT, announcement(&["192.0.2.1/32"], 1)));
    let goodbye = Message::Termination(vec![Tlv::text(Termination::STRING, "reboot")]);
    let reason = reader.on_message(goodbye, Timestamp::now()).unwrap_err();
    assert_eq!(reason, "the router ends it: reboot");
    let told: Vec<_> = reader.end(&reason, Timestamp::now()).iter().map(word).collect();
    assert_eq!(
        told,
        [
            "adj-rib-out-post -192.0.2.1/32",
            "adj-rib-out-post down: the router ends it: reboot"
        ]
    );
    assert!(reader.end(&reason, Timestamp::now()).is_empty());
    assert_eq!(Rib::LocRib.name(), "loc-rib");
}
