//! The speaker and the route monitor over loopback TCP.

mod client;
mod flood;
mod latency;
mod lease;
mod policy;
mod restart;
mod security;
mod wishes;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_health::{Judge, SnapshotCell, Verdict};
use steer_topology::{Asn, EndpointId, Fleet, Prefix, Resolve};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{Speaker, SpeakerStatus, StopHandle};
use crate::announcer::AnnouncerHandle;
use crate::monitor::{Attributes, Heard, Monitor, MonitorEvent};
use crate::session::State;
use crate::wire::Origin;

/// Longer than anything here takes, even on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }
}

fn fleet(text: &str) -> Arc<Fleet> {
    Arc::new(Fleet::parse(text, Path::new("steer.toml"), &NoNames).expect("a sound configuration"))
}

/// One speaker under test with the cell that it obeys.
struct Running {
    judge: Judge,
    cell: Arc<SnapshotCell>,
    status: Arc<SpeakerStatus>,
    kind: StopHandle,
    announcer: AnnouncerHandle,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Running {
    async fn start(fleet: Arc<Fleet>) -> Self {
        let judge = Judge::new(Arc::clone(&fleet), Instant::now(), Timestamp::now());
        let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
        let speaker = Speaker::bind(&fleet, None).await.expect("free ports");
        let (status, kind) = (speaker.status(), speaker.stop_handle());
        let announcer = speaker.announcer();
        let stop = CancellationToken::new();
        let task = tokio::spawn(speaker.run(Arc::clone(&cell), 1, stop.clone()));
        Self {
            judge,
            cell,
            status,
            kind,
            announcer,
            stop,
            task,
        }
    }

    fn verdict(&mut self, verdict: Verdict) {
        let (now, at) = (Instant::now(), Timestamp::now());
        let next = self
            .judge
            .on_verdict(EndpointId(0), verdict, "test".to_owned(), now, at);
        if let Some(next) = next {
            drop(self.cell.publish(next));
        }
    }

    async fn until_peer(&self, what: &str, mut fine: impl FnMut(&super::PeerStatus) -> bool) {
        let look = async {
            while !fine(&self.status.peers()[0]) {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        };
        let seen = tokio::time::timeout(PATIENCE, look).await;
        assert!(
            seen.is_ok(),
            "waited in vain for {what}: {:?}",
            self.status.peers()
        );
    }

    async fn end(self) {
        self.stop.cancel();
        self.task.await.expect("the speaker ends in good order");
    }
}

/// A monitor under test.
struct Watch {
    address: SocketAddr,
    events: mpsc::Receiver<MonitorEvent>,
    stop: CancellationToken,
}

fn watch() -> Watch {
    let asn = Asn::new(64_500).expect("not zero");
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let monitor = Monitor::bind(listen, asn, Ipv4Addr::new(192, 0, 2, 250)).expect("a free port");
    let address = monitor.local_addr().expect("bound");
    let (sender, events) = mpsc::channel(64);
    let stop = CancellationToken::new();
    tokio::spawn(monitor.run(sender, stop.clone()));
    Watch {
        address,
        events,
        stop,
    }
}

impl Watch {
    async fn next(&mut self) -> Heard {
        let event = tokio::time::timeout(PATIENCE, self.events.recv()).await;
        event
            .expect("the monitor hears something in time")
            .expect("the monitor runs")
            .heard
    }
}

fn announced(prefix: &str, next_hop: &str) -> Heard {
    Heard::Announced {
        prefix: prefix_of(prefix),
        next_hop: next_hop.parse().expect("address"),
        as_path: vec![4_200_000_001],
        attributes: Arc::new(Attributes {
            origin: Origin::Igp,
            med: None,
            local_pref: None,
            communities: Vec::new(),
        }),
    }
}

fn withdrawn(prefix: &str) -> Heard {
    Heard::Withdrawn {
        prefix: prefix_of(prefix),
        lost: false,
    }
}

fn prefix_of(text: &str) -> Prefix {
    text.parse().expect("prefix")
}

/// A fixed prefix of each family and one that follows the pool.
fn three_prefixes(monitor: SocketAddr) -> Arc<Fleet> {
    fleet(&format!(
        "[[check]]\nname = \"web\"\nkind = \"tcp\"\n\
         [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [ {{ address = \"127.0.0.1:1\" }} ]\n\
         [bgp]\nasn = 4200000001\nrouter_id = \"10.0.0.1\"\n\
         [[bgp.peer]]\naddress = \"{}\"\nport = {}\nasn = 64500\nconnect_retry = \"1s\"\n\
         [[anycast]]\nprefix = \"192.0.2.1/32\"\n\
         [[anycast]]\nprefix = \"2001:db8::1/128\"\nnext_hop = \"2001:db8::ff\"\n\
         [[anycast]]\nprefix = \"192.0.2.53/32\"\nwhile_up = [\"pool:web\"]\n",
        monitor.ip(),
        monitor.port()
    ))
}

#[tokio::test]
async fn routes_follow_the_verdict_and_an_orderly_stop_leaves_nothing() {
    let mut watch = watch();
    let mut speaker = Running::start(three_prefixes(watch.address)).await;
    assert_eq!(watch.next().await, Heard::SessionUp);
    // Before the first full round only what has no condition is announced.
    assert_eq!(watch.next().await, announced("192.0.2.1/32", "127.0.0.1"));
    assert_eq!(watch.next().await, announced("2001:db8::1/128", "2001:db8::ff"));
    speaker.verdict(Verdict::Up);
    assert_eq!(watch.next().await, announced("192.0.2.53/32", "127.0.0.1"));
    speaker.verdict(Verdict::Down);
    assert_eq!(watch.next().await, withdrawn("192.0.2.53/32"));
    speaker.verdict(Verdict::Up);
    assert_eq!(watch.next().await, announced("192.0.2.53/32", "127.0.0.1"));
    speaker.end().await;
    let mut gone = [watch.next().await, watch.next().await, watch.next().await].to_vec();
    gone.sort_by_key(|heard| format!("{heard:?}"));
    assert_eq!(
        gone,
        [
            withdrawn("192.0.2.1/32"),
            withdrawn("192.0.2.53/32"),
            withdrawn("2001:db8::1/128")
        ]
    );
    let Heard::SessionDown { reason } = watch.next().await else {
        panic!("the session ends")
    };
    assert!(
        reason.contains("Administrative Shutdown") && reason.contains("steer stops"),
        "{reason}"
    );
    watch.stop.cancel();
}

#[tokio::test]
async fn a_session_that_was_lost_comes_back_with_every_route() {
    let mut watch = watch();
    let speaker = Running::start(three_prefixes(watch.address)).await;
    assert_eq!(watch.next().await, Heard::SessionUp);
    watch.next().await;
    watch.next().await;
    watch.stop.cancel();
    speaker
        .until_peer("the loss", |peer| peer.session.is_none())
        .await;
    let asn = Asn::new(64_500).expect("not zero");
    let monitor =
        Monitor::bind(watch.address, asn, Ipv4Addr::new(192, 0, 2, 250)).expect("the port is free again");
    let (sender, mut events) = mpsc::channel(64);
    let stop = CancellationToken::new();
    let again = tokio::spawn(monitor.run(sender, stop.clone()));
    let mut heard = Vec::new();
    while heard.len() < 3 {
        let event = tokio::time::timeout(PATIENCE, events.recv())
            .await
            .expect("in time")
            .expect("runs");
        heard.push(event.heard);
    }
    assert_eq!(
        heard,
        [
            Heard::SessionUp,
            announced("192.0.2.1/32", "127.0.0.1"),
            announced("2001:db8::1/128", "2001:db8::ff")
        ]
    );
    speaker.end().await;
    stop.cancel();
    again.await.expect("the monitor ends in good order");
}

#[tokio::test]
async fn a_monitor_that_nobody_reads_still_stops() {
    let asn = Asn::new(64_500).expect("not zero");
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let monitor = Monitor::bind(listen, asn, Ipv4Addr::new(192, 0, 2, 250)).expect("a free port");
    let address = monitor.local_addr().expect("bound");
    let (sender, _unread) = mpsc::channel(1);
    let stop = CancellationToken::new();
    let task = tokio::spawn(monitor.run(sender.clone(), stop.clone()));
    let speaker = Running::start(three_prefixes(address)).await;
    speaker
        .until_peer("the session", |peer| peer.session.is_some())
        .await;
    let full = async {
        while sender.capacity() > 0 {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(PATIENCE, full)
        .await
        .expect("the queue fills");
    stop.cancel();
    let ended = tokio::time::timeout(PATIENCE, task).await;
    ended.expect("the monitor stops in time").expect("in good order");
    speaker.end().await;
}

fn listener_fleet(listen: SocketAddr) -> Arc<Fleet> {
    fleet(&format!(
        "[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"{listen}\"]\n\
         [[bgp.peer]]\naddress = \"127.0.0.1\"\nasn = 64500\npassive = true\nhold_time = \"3s\"\n\
         [[anycast]]\nprefix = \"192.0.2.1/32\"\n"
    ))
}

/// A loopback port that was free a moment ago.
fn free() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound")
}

/// Reads until the other end closes; the octets.
async fn read_all(stream: &mut TcpStream) -> Vec<u8> {
    let mut octets = Vec::new();
    let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut octets)).await;
    read.expect("the speaker closes in time")
        .expect("no reset before the NOTIFICATION");
    octets
}

#[tokio::test]
async fn garbage_gets_a_notification_and_the_speaker_goes_on() {
    let listen = free();
    let speaker = Running::start(listener_fleet(listen)).await;
    let mut stream = TcpStream::connect(listen).await.expect("listening");
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: bgp\r\n\r\n")
        .await
        .expect("open");
    let octets = read_all(&mut stream).await;
    // Our OPEN, then NOTIFICATION 1/1: Connection Not Synchronized (RFC 4271 §6.1).
    assert_eq!(octets[18], 1);
    let open = usize::from(u16::from_be_bytes([octets[16], octets[17]]));
    assert_eq!(octets[open + 18..open + 21], [3, 1, 1]);
    speaker
        .until_peer("the reason", |peer| peer.last_error.is_some())
        .await;
    assert_ne!(speaker.status.peers()[0].state, State::Established);
    speaker.end().await;
}

#[tokio::test]
async fn an_unknown_address_is_closed_at_once() {
    let listen = free();
    let speaker = Running::start(fleet(&format!(
        "[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"{listen}\"]\n\
         [[bgp.peer]]\naddress = \"127.0.0.9\"\nasn = 64500\npassive = true\n"
    )))
    .await;
    let mut stream = TcpStream::connect(listen).await.expect("listening");
    assert!(read_all(&mut stream).await.is_empty());
    speaker.end().await;
}

#[tokio::test]
async fn a_port_in_use_is_named() {
    let held = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    let listen = held.local_addr().expect("bound");
    let error = Speaker::bind(&listener_fleet(listen), None)
        .await
        .expect_err("in use");
    assert!(error.to_string().contains(&listen.to_string()), "{error}");
}

#[tokio::test]
async fn a_peer_that_never_reads_does_not_hold_the_stop() {
    let listen = free();
    let speaker = Running::start(listener_fleet(listen)).await;
    let stream = TcpStream::connect(listen).await.expect("listening");
    speaker
        .until_peer("the connection", |peer| peer.state.is_connected())
        .await;
    let started = Instant::now();
    speaker.end().await;
    assert!(started.elapsed() < PATIENCE, "{:?}", started.elapsed());
    drop(stream);
}
