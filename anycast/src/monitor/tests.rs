//! The monitor with a real session over loopback; its other end is a monitor too.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use steer_topology::{Community, Prefix};

use super::*;
use crate::tap::What;
use crate::tap::tests::{announcement, withdrawal};
use crate::wire::tests::{frame, read_update_of};
use crate::wire::{Origin, Path, Update};

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

const ID: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 250);

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

struct Running {
    events: mpsc::Receiver<MonitorEvent>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn run(monitor: Monitor) -> Running {
    let (sender, events) = mpsc::channel(64);
    let stop = CancellationToken::new();
    let task = tokio::spawn(monitor.run(sender, stop.clone()));
    Running { events, stop, task }
}

impl Running {
    async fn next(&mut self) -> MonitorEvent {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event.expect("in time").expect("it runs")
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
    }
}

#[tokio::test]
async fn a_monitor_dials_and_tells_both_ends_and_records_every_message() {
    let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
    let passive = Monitor::bind(listen, asn(64_500), ID).unwrap();
    let address = passive.local_addr().unwrap();
    let mut passive = run(passive);
    let (recorder, mut records) = Recorder::new(64);
    let active = Monitor::without_listener(asn(64_501), Ipv4Addr::new(192, 0, 2, 251))
        .dialling(&[address])
        .recording(recorder);
    let mut active = run(active);
    let up = active.next().await;
    assert_eq!(
        (up.heard, up.from.asn, up.from.peer_id),
        (Heard::SessionUp, asn(64_500), ID)
    );
    assert_eq!(up.from.remote, address);
    let up = passive.next().await;
    assert_eq!((up.heard, up.from.asn), (Heard::SessionUp, asn(64_501)));
    passive.end().await;
    let Heard::SessionDown { reason } = active.next().await.heard else {
        panic!("the session ends")
    };
    assert!(reason.contains("the route monitor stops"), "{reason}");
    active.end().await;
    let (mut sent, mut received, mut states) = (Vec::new(), Vec::new(), Vec::new());
    while let Some(tapped) = records.recv().await {
        match tapped.what {
            What::Message {
                direction, octets, ..
            } => match direction {
                crate::tap::Direction::In => received.push(octets[18]),
                crate::tap::Direction::Out => sent.push(octets[18]),
            },
            What::State { to, .. } => states.push(to.name()),
            other @ (What::Up(_) | What::Down(..)) => panic!("{other:?}"),
        }
    }
    assert_eq!(
        (sent.as_slice(), received.as_slice()),
        ([1, 4].as_slice(), [1, 4, 3].as_slice())
    );
    assert_eq!(states[..3], ["OpenSent", "OpenConfirm", "Established"]);
}

#[tokio::test]
async fn a_monitor_dials_again_and_again() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    let monitor = Monitor::without_listener(asn(64_501), ID).dialling(&[address]);
    let running = run(monitor);
    free.set_nonblocking(true).unwrap();
    let listener = TcpListener::from_std(free).unwrap();
    for _ in 0..2 {
        // Closed at once, it comes back.
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        drop(accepted.expect("in time").unwrap());
    }
    running.end().await;
}

fn update(octets: &bytes::Bytes) -> Update {
    read_update_of(&frame(octets))
}

#[test]
fn a_table_tells_what_changes_and_only_that() {
    let mut table = Table::new(Only::default());
    let heard = table.hear(update(&announcement(&["192.0.2.1/32"], 5))).unwrap();
    let Heard::Announced {
        next_hop,
        as_path,
        attributes,
        ..
    } = &heard[0]
    else {
        panic!("{heard:?}")
    };
    assert_eq!(next_hop.to_string(), "192.0.2.254");
    assert_eq!(
        (as_path.as_slice(), attributes.med),
        ([64_512].as_slice(), Some(5))
    );
    let prefix: Prefix = "192.0.2.1/32".parse().unwrap();
    let gone = Heard::Withdrawn { prefix, lost: false };
    assert_eq!(table.hear(update(&withdrawal("192.0.2.1/32"))), Ok(vec![gone]));
    assert_eq!(table.hear(update(&withdrawal("192.0.2.1/32"))), Ok(Vec::new()));
    table.hear(update(&announcement(&["192.0.2.1/32"], 5))).unwrap();
    let lost = Heard::Withdrawn { prefix, lost: true };
    assert_eq!(table.clear().collect::<Vec<_>>(), [lost]);
}

#[test]
fn prefixes_that_nobody_asked_for_take_no_room() {
    let mut table = Table::new(Only::these([]));
    for number in 0..=u8::MAX {
        let prefixes = [format!("10.{number}.0.0/16")];
        let texts: Vec<&str> = prefixes.iter().map(String::as_str).collect();
        assert_eq!(table.hear(update(&announcement(&texts, 1))), Ok(Vec::new()));
    }
    assert_eq!(table.clear().count(), 0);
}

#[test]
fn a_route_is_one_line_and_one_object() {
    let path = Path {
        origin: Origin::Incomplete,
        as_path: Vec::new(),
        med: Some(7),
        local_pref: None,
        communities: vec![0xffff_0000, 64_500 << 16 | 666],
        large_communities: vec![[64_500, 1, 2]],
        extended_communities: vec![[0, 2, 0xfb, 0xf4, 0, 0, 0, 1]],
        only_to_customer: None,
    };
    let attributes = Attributes::of(&path);
    assert_eq!(
        attributes.to_string(),
        " origin incomplete med 7 graceful-shutdown 64500:666 ext:0x0002fbf400000001 64500:1:2"
    );
    assert!(attributes.communities.contains(&Community::GRACEFUL_SHUTDOWN));
    let event = MonitorEvent {
        at: jiff::Timestamp::UNIX_EPOCH,
        from: Source {
            remote: "192.0.2.2:179".parse().unwrap(),
            asn: asn(64_500),
            peer_id: ID,
            bmp: None,
        },
        heard: Heard::Announced {
            prefix: "192.0.2.1/32".parse().unwrap(),
            next_hop: "192.0.2.254".parse().unwrap(),
            as_path: vec![64_500],
            attributes: Arc::new(attributes),
        },
    };
    let object = serde_json::to_value(&event).unwrap();
    assert_eq!(
        object,
        serde_json::json!({
            "at": "1970-01-01T00:00:00Z",
            "from": { "remote": "192.0.2.2:179", "asn": 64_500, "peer_id": "192.0.2.250" },
            "event": "announced",
            "prefix": "192.0.2.1/32",
            "next_hop": "192.0.2.254",
            "as_path": [64_500],
            "origin": "incomplete",
            "med": 7,
            "communities": ["graceful-shutdown", "64500:666", "ext:0x0002fbf400000001", "64500:1:2"],
        })
    );
}
