//! Exporter and receiver over loopback TCP, and a collector that does not read.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use steer_topology::Bmp;
use tokio::io::AsyncReadExt;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::super::driver::{CollectorState, CollectorStatus, Export, export};
use super::super::exporter::Identity;
use super::super::receiver::Receiver;
use super::*;
use crate::monitor::{Heard, MonitorEvent, Only};
use crate::session::{End, SessionId};
use crate::tap::Tap;
use crate::tap::tests::{connection, negotiated, tap, withdrawal};

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

struct Exporting {
    status: Arc<Mutex<CollectorStatus>>,
    stop: CancellationToken,
    task: tokio::task::JoinHandle<()>,
}

fn start(tap: &Arc<Tap>, address: SocketAddr) -> Exporting {
    let identity = Identity {
        name: "fra".to_owned(),
        description: "steer".to_owned(),
    };
    let bmp = Bmp {
        address,
        connect_retry: Duration::from_millis(50),
    };
    let exporting = Export::new(bmp, identity, Arc::clone(tap));
    let (status, stop) = (exporting.status(), CancellationToken::new());
    let task = tokio::spawn(export(exporting, 1, stop.clone()));
    Exporting { status, stop, task }
}

impl Exporting {
    async fn until(&self, what: &str, fine: impl Fn(&CollectorStatus) -> bool) {
        let look = async {
            while !fine(&self.status.lock().unwrap()) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, look).await;
        assert!(
            seen.is_ok(),
            "waited in vain for {what}: {:?}",
            self.status.lock().unwrap()
        );
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.unwrap();
        assert_eq!(self.status.lock().unwrap().state, CollectorState::Stopped);
    }
}

async fn next(events: &mut mpsc::Receiver<MonitorEvent>) -> String {
    let event = tokio::time::timeout(PATIENCE, events.recv()).await;
    match event.expect("in time").expect("the receiver runs").heard {
        Heard::SessionUp => "up".to_owned(),
        Heard::SessionDown { reason } => format!("down: {reason}"),
        Heard::Announced { prefix, .. } => format!("+{prefix}"),
        Heard::Withdrawn { prefix, .. } => format!("-{prefix}"),
    }
}

#[tokio::test]
async fn our_own_receiver_hears_what_our_exporter_tells() {
    let receiver = Receiver::bind("127.0.0.1:0".parse().unwrap(), Only::default()).unwrap();
    let address = receiver.local_addr().unwrap();
    let (sender, mut events) = mpsc::channel(16);
    let stop = CancellationToken::new();
    let receiving = tokio::spawn(receiver.run(sender, stop.clone()));

    let tap = tap(true);
    let session = connection(1).await;
    tap.sent(0, &session, &open(64_512));
    tap.received(0, &session, &wire::tests::frame(&open(64_500)));
    tap.up(0, &session, &negotiated(64_500));
    tap.sent(0, &session, &announcement(&["192.0.2.1/32"], 1));
    let exporting = start(&tap, address);
    assert_eq!(next(&mut events).await, "up");
    assert_eq!(next(&mut events).await, "+192.0.2.1/32");
    tap.sent(0, &session, &announcement(&["2001:db8::1/128"], 1));
    assert_eq!(next(&mut events).await, "+2001:db8::1/128");
    tap.sent(0, &session, &withdrawal("192.0.2.1/32"));
    assert_eq!(next(&mut events).await, "-192.0.2.1/32");
    tap.ended(0, SessionId(1), &End::Lost("gone".to_owned()));
    assert_eq!(next(&mut events).await, "-2001:db8::1/128");
    assert_eq!(next(&mut events).await, "down: the connection was lost");
    // A session that comes and goes right before the stop is told of all the same.
    tap.up(0, &session, &negotiated(64_500));
    exporting.end().await;
    stop.cancel();
    receiving.await.unwrap();
}

/// The collector's end of a connection.
struct Collecting {
    stream: tokio::net::TcpStream,
    inbox: BytesMut,
}

impl Collecting {
    async fn accept(listener: &TcpListener) -> Self {
        let accepted = tokio::time::timeout(PATIENCE, listener.accept()).await;
        let (stream, _) = accepted.expect("in time").unwrap();
        let inbox = BytesMut::new();
        Self { stream, inbox }
    }

    /// Reads until a message is what is waited for; all that came.
    async fn until(&mut self, wanted: impl Fn(&Message) -> bool) -> Vec<Message> {
        let mut messages = Vec::new();
        let read = async {
            loop {
                while let Some(message) = take_message(&mut self.inbox).unwrap() {
                    messages.push(message);
                    if messages.last().is_some_and(&wanted) {
                        return;
                    }
                }
                let octets = self.stream.read_buf(&mut self.inbox).await.unwrap();
                assert_ne!(octets, 0, "closed after {} messages", messages.len());
            }
        };
        tokio::time::timeout(PATIENCE, read).await.expect("in time");
        messages
    }
}

#[tokio::test]
async fn a_collector_that_does_not_read_is_cut_off_and_begins_anew_without_a_gap() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let tap = tap(true);
    let session = connection(1).await;
    tap.sent(0, &session, &open(64_512));
    tap.received(0, &session, &wire::tests::frame(&open(64_500)));
    tap.up(0, &session, &negotiated(64_500));
    let exporting = start(&tap, listener.local_addr().unwrap());
    let first = Collecting::accept(&listener).await;
    exporting
        .until("the connection", |status| status.state == CollectorState::Up)
        .await;
    // Nobody reads from it. The sessions go on at full speed all the while.
    let mut med = 0;
    while exporting.status.lock().unwrap().cut_off == 0 {
        for _ in 0..1_000 {
            med += 1;
            tap.sent(0, &session, &announcement(&["192.0.2.1/32"], med));
        }
        tokio::task::yield_now().await;
        assert!(med < 10_000_000, "the queue is bounded");
    }
    drop(first);
    let mut second = Collecting::accept(&listener).await;
    let is_end =
        |message: &Message| matches!(message, Message::RouteMonitoring(_, update) if update.len() < 30);
    let told = second.until(is_end).await;
    let kinds: Vec<u8> = told.iter().map(|message| encode(message)[5]).collect();
    assert_eq!(kinds[..4], [4, 3, 0, 0], "initiation, up, the one route, end");
    let Message::RouteMonitoring(_, update) = &told[2] else {
        panic!("{told:?}")
    };
    assert_eq!(
        *update,
        announcement(&["192.0.2.1/32"], med),
        "the newest, and it alone"
    );
    assert_eq!(exporting.status.lock().unwrap().cut_off, 1);
    exporting.end().await;
    second
        .until(|message| matches!(message, Message::Termination(_)))
        .await;
}

#[tokio::test]
async fn a_collector_that_is_not_there_yet_is_dialled_until_it_is() {
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = free.local_addr().unwrap();
    drop(free);
    let exporting = start(&tap(true), address);
    exporting
        .until("an error", |status| status.last_error.is_some())
        .await;
    let listener = TcpListener::bind(address).await.unwrap();
    let mut collecting = Collecting::accept(&listener).await;
    let told = collecting.until(|_| true).await;
    assert!(matches!(told[0], Message::Initiation(_)));
    drop(collecting);
    exporting
        .until("the loss", |status| {
            status.last_error.as_deref() == Some("the collector closed the connection")
        })
        .await;
    exporting.end().await;
}
