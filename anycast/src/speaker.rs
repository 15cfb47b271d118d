//! The driver: binds the listeners, compiles wanted routes once per snapshot, and runs one task per peer.
//!
//! ```text
//! SnapshotCell ─► decide ─► watch<Wanted> ─┬─► peer task: machine, reconciler, at most two connections
//! listeners ─► by address ─────────────────┴─► peer task ...
//! ```
//!
//! A `watch` holds only the newest wish: none waits behind older ones. Each peer has its own task, so that a
//! slow or mad peer costs only itself.

mod peer;
mod status;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use metrics::counter;
use steer_health::SnapshotCell;
use steer_topology::{Asn, Bgp, Fleet, Peer, SiteId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::observe::{ObserverStatus, Observers};
use crate::session::State;
use crate::tap::Tap;
use crate::wanted::{Wanted, decide};
use peer::PeerTask;
use status::locked;

pub use status::{Messages, PeerStatus, RouteStatus, SessionStatus, SpeakerStatus};

/// All is compared again this often, even when nothing was heard.
const RESYNC: Duration = Duration::from_secs(30);

/// Connections from one peer that may wait for its task; more are closed and counted.
const ACCEPT_QUEUE: usize = 4;

/// Wait after an accept error (out of file descriptors, say): such errors come in storms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Why a speaker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A listener.
    #[error("cannot listen for BGP on {address}: {source}; free the port, or correct [bgp] listen")]
    Listen {
        /// As configured.
        address: SocketAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// RFC 4271 §4.2 wants a BGP Identifier.
    #[error(
        "no BGP Identifier; set [bgp] router_id or the site's router_id to an IPv4 address other than 0.0.0.0"
    )]
    NoRouterId,
}

/// A BGP speaker whose listeners are bound.
#[derive(Debug)]
pub struct Speaker {
    site: Option<SiteId>,
    listeners: Vec<TcpListener>,
    /// Of this site, in the order of [`SpeakerStatus::peers`].
    peers: Vec<Peer>,
    status: Arc<SpeakerStatus>,
    tap: Arc<Tap>,
    observers: Observers,
}

impl Speaker {
    /// Binds every listener of `[bgp]`. A fleet without `[bgp]` gives a speaker that does nothing.
    #[expect(
        clippy::unused_async,
        reason = "binding needs the runtime; callers must be in it"
    )]
    pub async fn bind(fleet: &Fleet, site: Option<SiteId>) -> Result<Self, BindError> {
        let Some(bgp) = &fleet.bgp else {
            return Ok(Self::idle(site));
        };
        let router_id = fleet.router_id(site).ok_or(BindError::NoRouterId)?;
        let listeners = bgp.listen.iter().map(|address| listen(*address));
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        let bound = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        let here = |peer: &&Peer| peer.site.is_none() || peer.site == site;
        let peers: Vec<Peer> = bgp.peers.iter().filter(here).cloned().collect();
        let status = Arc::new(first_status(bgp, router_id, bound, &peers));
        let tap = Arc::new(Tap::new(bgp.asn, &peers, !bgp.bmp.is_empty()));
        let observers = Observers::new(fleet, bgp, site, &tap);
        Ok(Self {
            site,
            listeners,
            peers,
            status,
            tap,
            observers,
        })
    }

    /// The tap on all sessions.
    #[must_use]
    pub fn tap(&self) -> Arc<Tap> {
        Arc::clone(&self.tap)
    }

    /// The live status of what only looks on: BMP collectors and the RPKI cache.
    #[must_use]
    pub fn observers(&self) -> Arc<ObserverStatus> {
        self.observers.status()
    }

    /// The live status; stays readable while and after [`Speaker::run`] runs.
    #[must_use]
    pub fn status(&self) -> Arc<SpeakerStatus> {
        Arc::clone(&self.status)
    }

    /// Speaks until `shutdown`. Returns after the orderly stop of every session: all withdrawn, Cease with a
    /// Shutdown Communication, closed; a peer that does not take it is left after 2 s.
    pub async fn run(self, snapshots: Arc<SnapshotCell>, seed: u64, shutdown: CancellationToken) {
        let mut numbers = snapshots.subscribe();
        let wanted = watch::Sender::new(Arc::new(decide(&snapshots.load(), self.site, &Wanted::default())));
        let (doors, mut tasks) = self.spawn_peers(&wanted, seed, &shutdown);
        let doors = Arc::new(doors);
        let stop_observing = CancellationToken::new();
        let mut observing = self.observers.start(seed, &stop_observing);
        let mut listeners = JoinSet::new();
        for listener in self.listeners {
            listeners.spawn(accept(listener, Arc::clone(&doors), shutdown.clone()));
        }
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = numbers.changed() => if changed.is_err() { break },
                () = tokio::time::sleep(RESYNC) => {}
            }
            let next = decide(&snapshots.load(), self.site, &wanted.borrow());
            wanted.send_replace(Arc::new(next));
        }
        shutdown.cancelled().await;
        while tasks.join_next().await.is_some() {}
        while listeners.join_next().await.is_some() {}
        stop_observing.cancel(); // last: they tell how every session ended
        while observing.join_next().await.is_some() {}
    }

    fn idle(site: Option<SiteId>) -> Self {
        let status = SpeakerStatus {
            asn: None,
            router_id: None,
            listen: Vec::new(),
            peers: Vec::new(),
        };
        Self {
            site,
            listeners: Vec::new(),
            peers: Vec::new(),
            status: Arc::new(status),
            tap: Arc::new(Tap::new(Asn::TRANS, &[], false)), // nothing will ever be heard on it
            observers: Observers::none(),
        }
    }

    fn spawn_peers(
        &self,
        wanted: &watch::Sender<Arc<Wanted>>,
        seed: u64,
        shutdown: &CancellationToken,
    ) -> (Doors, JoinSet<()>) {
        let mut tasks = JoinSet::new();
        let mut senders = Vec::new();
        if let (Some(asn), Some(router_id)) = (self.status.asn, self.status.router_id) {
            for (index, peer) in self.peers.iter().enumerate() {
                let (sender, accepted) = mpsc::channel(ACCEPT_QUEUE);
                senders.push(sender);
                let seed = seed.wrapping_add(index as u64);
                let (status, tap) = (Arc::clone(&self.status), Arc::clone(&self.tap));
                let task = PeerTask::new(peer.clone(), index, asn, router_id, status, tap, seed);
                tasks.spawn(task.run(wanted.subscribe(), accepted, shutdown.clone()));
            }
        }
        (
            Doors {
                status: Arc::clone(&self.status),
                senders,
            },
            tasks,
        )
    }
}

fn first_status(bgp: &Bgp, router_id: Ipv4Addr, listen: Vec<SocketAddr>, peers: &[Peer]) -> SpeakerStatus {
    let since = Timestamp::now();
    let peers = peers.iter().map(|peer| {
        Mutex::new(PeerStatus {
            address: peer.address,
            port: peer.port,
            asn: peer.asn,
            state: State::Idle,
            since,
            session: None,
            last_error: None,
            last_error_at: None,
            messages_in: Messages::default(),
            messages_out: Messages::default(),
            prefixes_in: 0,
            routes: std::collections::BTreeMap::new(),
        })
    });
    SpeakerStatus {
        asn: Some(bgp.asn),
        router_id: Some(router_id),
        listen,
        peers: peers.collect(),
    }
}

fn listen(address: SocketAddr) -> Result<TcpListener, BindError> {
    bind_listener(address).map_err(|source| BindError::Listen { address, source })
}

/// An IPv6 listener takes IPv6 alone, so that `0.0.0.0` and `[::]` can stand side by side.
pub(crate) fn bind_listener(address: SocketAddr) -> io::Result<TcpListener> {
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, Some(socket2::Protocol::TCP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?; // a restart must not wait for TIME_WAIT
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(64)?;
    TcpListener::from_std(socket.into())
}

/// The way from a listener to the task of the peer that knocks.
struct Doors {
    status: Arc<SpeakerStatus>,
    senders: Vec<mpsc::Sender<TcpStream>>,
}

async fn accept(listener: TcpListener, doors: Arc<Doors>, shutdown: CancellationToken) {
    loop {
        let accepted = tokio::select! {
            () = shutdown.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, from)) => doors.knock(stream, from),
            Err(error) => {
                warn!(%error, "cannot accept a BGP connection");
                counter!("steer_anycast_accept_errors_total").increment(1);
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

impl Doors {
    /// A connection from an unknown address, or one too many, is closed at once by dropping it.
    fn knock(&self, stream: TcpStream, from: SocketAddr) {
        let cause = match self.door(from) {
            None => "unknown-peer",
            Some(door) if door.try_send(stream).is_err() => "queue-full",
            Some(_) => return,
        };
        counter!("steer_anycast_connections_refused_total", "cause" => cause).increment(1);
        debug!(%from, cause, "connection refused");
    }

    /// Where several peers share an address, the first that has no connection yet.
    fn door(&self, from: SocketAddr) -> Option<&mpsc::Sender<TcpStream>> {
        let address = from.ip().to_canonical();
        let mut known = None;
        for (peer, sender) in self.status.peers.iter().zip(&self.senders) {
            let peer = locked(peer);
            if peer.address != address {
                continue;
            }
            if !peer.state.is_connected() {
                return Some(sender);
            }
            known = known.or(Some(sender));
        }
        known
    }
}
