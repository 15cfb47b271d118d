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
use steer_anycast::speaker::{Detections, SpeakerStatus};
use steer_health::{Judge, SnapshotCell};
use steer_labs::netns::{NetError, Node, World, can_run};
use steer_labs::wait;
use steer_tests::peers::{Bird, Frr, Peer, Running, missing};
use steer_tests::skip;
use steer_topology::{Fleet, Resolve};
use tokio_util::sync::CancellationToken;

use crate::bgp::{CONFIG, INTERVAL_MS, line};

const PATIENCE: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(5);

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

fn holds(peer: &dyn Peer) {
    let name = format!("bfd-held-{}", peer.name());
    if let Err(reason) = can_run().and_then(|()| missing(peer)) {
        return skip(&name, &reason);
    }
    let world = World::new(&name).unwrap();
    let (node, _switch, running) = line(&world, peer, Some(INTERVAL_MS));
    let speaker = Ours::start(&node);
    let settle = Duration::from_millis(1500);
    wait::stable(PATIENCE, POLL, settle, || speaker.stands(&running)).unwrap();

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
    wait::stable(PATIENCE, POLL, settle, || speaker.stands(&running)).unwrap();
    speaker.until_path(PathState::Up);
    let what = if kept {
        "the peer keeps BGP".to_owned()
    } else {
        format!("the peer drops BGP: {why}")
    };
    println!(
        "| {} | BGP and BFD, {INTERVAL_MS} ms x 3; BFD held down by us while BGP stands | {what} |",
        peer.name()
    );
    speaker.stop();
}

/// Our speaker on a thread of a namespace.
struct Ours {
    status: Arc<SpeakerStatus>,
    detections: Arc<Detections>,
    stop: CancellationToken,
    thread: JoinHandle<Result<(), NetError>>,
}

impl Ours {
    fn start(node: &Node) -> Self {
        let config = CONFIG.replace("strict = true", "strict = false");
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
                ready.send((speaker.status(), speaker.detections())).unwrap();
                speaker.run(cell, 1, shutdown).await;
            });
        };
        let thread = node.thread("speaker", body).unwrap();
        let (status, detections) = bound.recv().unwrap();
        Self {
            status,
            detections,
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
