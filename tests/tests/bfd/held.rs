//! Our speaker, with the BFD session of its peer held down while BGP stands: no failure to us, and whatever the peer
//! makes of it.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use steer_anycast::Speaker;
use steer_anycast::bfd::PathState;
use steer_anycast::session::State;
use steer_anycast::speaker::{Detections, SpeakerStatus, StopHandle, StopKind};
use steer_health::{Judge, SnapshotCell};
use steer_labs::netns::{NetError, Node, World, can_run};
use steer_labs::wait;
use steer_tests::peers::{Bird, Features, Frr, Peer, Running, missing};
use steer_tests::skip;
use steer_topology::{Fleet, Resolve};
use tokio_util::sync::CancellationToken;

use crate::bgp::{CONFIG, INTERVAL_MS, below_bgp, line};

const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(5);
const SETTLE: Duration = Duration::from_millis(1500);

/// Long after a Detection Time.
const HELD: Duration = Duration::from_secs(2);

#[test]
fn bird_hears_that_we_hold_bfd_down_and_bgp_is_ours_to_keep() {
    holds(&Bird);
}

#[test]
fn frr_hears_that_we_hold_bfd_down_and_bgp_is_ours_to_keep() {
    holds(&Frr);
}

#[test]
fn bird_keeps_our_route_through_a_planned_restart_though_bfd_goes_with_us() {
    restarts(&Bird);
}

#[test]
fn frr_keeps_our_route_through_a_planned_restart_though_bfd_goes_with_us() {
    restarts(&Frr);
}

fn holds(peer: &dyn Peer) {
    let name = format!("bfd-held-{}", peer.name());
    if let Err(reason) = can_run().and_then(|()| missing(peer)) {
        return skip(&name, &reason);
    }
    let world = World::new(&name).unwrap();
    let (node, _switch, running) = line(&world, peer, features(false));
    let speaker = Ours::start(&node, false);
    wait::stable(PATIENCE, POLL, SETTLE, || speaker.stands(&running)).unwrap();

    speaker.detections.hold_down(0, true);
    speaker.until_path(PathState::AdminDown);
    let since = Instant::now();
    while since.elapsed() < HELD && speaker.stands(&running).is_ok() {
        std::thread::sleep(POLL);
    }
    let kept = speaker.stands(&running).is_ok();
    let why = speaker.status.peers()[0].last_error.clone().unwrap_or_default();
    if !kept {
        assert!(!why.contains("BFD is down"), "we took our own wish for a failure");
    }

    speaker.detections.hold_down(0, false);
    wait::stable(PATIENCE, POLL, SETTLE, || speaker.stands(&running)).unwrap();
    speaker.until_path(PathState::Up);
    let what = if kept {
        "the peer keeps BGP".to_owned()
    } else {
        format!("the peer drops BGP: {why}")
    };
    let rows = below_bgp([("we hold BFD down while BGP stands".to_owned(), what)]);
    crate::show("4-held", peer.name(), peer.package(), &rows);
    speaker.stop();
}

/// A planned restart with graceful restart (RFC 4724): BFD shares our fate, and the peer knows (RFC 5882 §4.3).
fn restarts(peer: &dyn Peer) {
    let name = format!("bfd-restart-{}", peer.name());
    if let Err(reason) = can_run().and_then(|()| missing(peer)) {
        return skip(&name, &reason);
    }
    let world = World::new(&name).unwrap();
    let (node, _switch, running) = line(&world, peer, features(true));
    let speaker = Ours::start(&node, true);
    wait::stable(PATIENCE, POLL, SETTLE, || speaker.stands(&running)).unwrap();
    speaker.kind.set(StopKind::Restart);
    speaker.stop();
    let since = Instant::now();
    while since.elapsed() < HELD {
        let routes = running.routes().unwrap();
        assert_eq!(routes.len(), 1, "gone {:?} after we went", since.elapsed());
        std::thread::sleep(POLL);
    }
    let again = Ours::start(&node, true);
    wait::stable(PATIENCE, POLL, SETTLE, || again.stands(&running)).unwrap();
    again.stop();
    let rows = [(
        "planned graceful restart: the route stays".to_owned(),
        "ok".to_owned(),
    )];
    crate::show("3-restart", peer.name(), peer.package(), &rows);
}

fn features(graceful_restart: bool) -> Features {
    Features {
        bfd_ms: Some(INTERVAL_MS),
        graceful_restart,
        ..Features::default()
    }
}

/// Our speaker on a thread of a namespace.
struct Ours {
    status: Arc<SpeakerStatus>,
    detections: Arc<Detections>,
    kind: StopHandle,
    stop: CancellationToken,
    thread: JoinHandle<Result<(), NetError>>,
}

impl Ours {
    fn start(node: &Node, graceful: bool) -> Self {
        let mut config = CONFIG.replace("strict = true", "strict = false");
        if graceful {
            let key = "hold_time = \"90s\"\ngraceful_restart = { restart_time = \"15s\" }";
            config = config.replace("hold_time = \"90s\"", key);
        }
        let fleet = Arc::new(Fleet::parse(&config, Path::new("steer.toml"), &NoNames).unwrap());
        let judge = Judge::new(Arc::clone(&fleet), Instant::now(), jiff::Timestamp::now());
        let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
        let stop = CancellationToken::new();
        let (ready, bound) = mpsc::channel();
        let shutdown = stop.clone();
        let body = move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
            runtime.unwrap().block_on(async {
                let speaker = Speaker::bind(&fleet, None).await.unwrap();
                let handles = (speaker.status(), speaker.detections(), speaker.stop_handle());
                ready.send(handles).unwrap();
                speaker.run(cell, 1, shutdown).await;
            });
        };
        let thread = node.thread("speaker", body).unwrap();
        let (status, detections, kind) = bound.recv().unwrap();
        Self {
            status,
            detections,
            kind,
            stop,
            thread,
        }
    }

    /// The session is up and the peer has the route.
    fn stands(&self, peer: &Running<'_>) -> Result<(), String> {
        let state = self.status.peers()[0].state;
        let routes = peer.routes()?;
        if state == State::Established && routes.len() == 1 {
            Ok(())
        } else {
            Err(format!("{state:?}, {routes:?}"))
        }
    }

    fn until_path(&self, wanted: PathState) {
        let look = || match self.detections.status(0).map(|status| status.path.state) {
            Some(state) if state == wanted => Ok(()),
            state => Err(format!("{state:?}")),
        };
        wait::until(PATIENCE, POLL, look).unwrap();
    }

    fn stop(self) {
        self.stop.cancel();
        self.thread.join().unwrap().unwrap();
    }
}

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }
}
