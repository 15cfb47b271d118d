//! The driver: binds the listeners, compiles wanted routes once per snapshot, and runs one task per peer.
//!
//! ```text
//! SnapshotCell ─► announcer ─► watch<Wish> ─┬─► peer task: machine, reconciler, at most two connections
//! listeners ─► by address ──────────────────┴─► peer task ...
//! ```
//!
//! A `watch` holds only the newest wish: none waits behind older ones. A wish names what it changed, so that no
//! peer looks at the rest. Each peer has its own task, so that a
//! slow or mad peer costs only itself.

mod detection;
mod followers;
mod inbound;
mod peer;
mod status;
mod stop;
mod wish;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use metrics::counter;
use steer_health::SnapshotCell;
use steer_topology::{Asn, Bgp, Fleet, Peer, SiteId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::announcer::{AnnouncerHandle, Driver, Ended, Request, Settings};
use crate::observe::{ObserverStatus, Observers};
use crate::reconcile::Encodings;
use crate::tap::Tap;
use crate::transport::{self, Key, Transport};
use followers::Followers;
use inbound::Sample;
use peer::{Common, PeerTask};
use status::locked;

pub use crate::transport::KeyError;
pub(crate) use crate::transport::bind_listener;
pub use detection::{DetectionError, Detections};
pub use inbound::{InboundTotals, SampledRoute};
pub use status::{
    Messages, PeerStatus, RestartStatus, RouteStatus, SessionStatus, SpeakerStatus, TransportStatus,
};
pub use stop::{StopHandle, StopKind};

/// All is compared again this often, even when nothing was heard.
const RESYNC: Duration = Duration::from_secs(30);

/// Connections from one peer that may wait for its task; more are closed and counted.
const ACCEPT_QUEUE: usize = 4;

/// What peers are told of our software, for their display.
const SOFTWARE: &str = concat!("steer/", env!("CARGO_PKG_VERSION"));

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
    /// The key of a peer.
    #[error("peer {peer}: {source}")]
    Key {
        /// Its address.
        peer: IpAddr,
        /// What is wrong with its file.
        source: KeyError,
    },
    /// A kernel without TCP MD5.
    #[error(
        "peer {peer}: this kernel takes no TCP MD5 key (RFC 2385): {source}; \
         it needs CONFIG_TCP_MD5SIG, or the peer no password_file"
    )]
    NoMd5 {
        /// Its address.
        peer: IpAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// The kernel did not take a TCP-AO key.
    #[error("peer {peer}: tcp_ao: {source}")]
    NoAo {
        /// Its address.
        peer: IpAddr,
        /// The system's answer.
        source: io::Error,
    },
    /// BFD of a peer.
    #[error(transparent)]
    Detection(#[from] DetectionError),
    /// The kernel knows keys by address.
    #[error(
        "peers share the address {peer} but not the key; give all of them the same password_file or tcp_ao"
    )]
    TwoKeys {
        /// The address.
        peer: IpAddr,
    },
}

/// A BGP speaker whose listeners are bound.
#[derive(Debug)]
pub struct Speaker {
    site: Option<SiteId>,
    listeners: Vec<TcpListener>,
    /// Of this site, in the order of [`SpeakerStatus::peers`].
    peers: Vec<Peer>,
    /// Their sockets, in the same order.
    transports: Vec<Arc<Transport>>,
    /// What peers display as our name.
    hostname: Option<String>,
    status: Arc<SpeakerStatus>,
    stop: StopHandle,
    announcer: AnnouncerHandle,
    requests: mpsc::Receiver<Request>,
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
        let here = |peer: &&Peer| peer.site.is_none() || peer.site == site;
        let peers: Vec<Peer> = bgp.peers.iter().filter(here).cloned().collect();
        let transports = transports(bgp, &peers)?;
        let listeners = bgp.listen.iter().map(|address| listen(*address, &transports));
        let listeners = listeners.collect::<Result<Vec<_>, _>>()?;
        let bound = listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect();
        let detections = Arc::new(Detections::bind(bgp, &peers)?);
        let status = first_status(bgp, router_id, bound, &peers, &transports);
        let status = Arc::new(SpeakerStatus { detections, ..status });
        let (announcer, requests) = AnnouncerHandle::new();
        let tap = Arc::new(Tap::new(bgp.asn, &peers, !bgp.bmp.is_empty()));
        let observers = Observers::new(fleet, bgp, site, &tap);
        Ok(Self {
            site,
            listeners,
            peers,
            transports,
            hostname: site.map(|site| fleet.site(site).name.clone()),
            status,
            stop: StopHandle::default(),
            announcer,
            requests,
            tap,
            observers,
        })
    }

    /// The live status; stays readable while and after [`Speaker::run`] runs.
    #[must_use]
    pub fn status(&self) -> Arc<SpeakerStatus> {
        Arc::clone(&self.status)
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

    /// BFD of the peers: to hold one down, say.
    #[must_use]
    pub fn detections(&self) -> Arc<Detections> {
        Arc::clone(&self.status.detections)
    }

    /// Says how [`Speaker::run`] shall end.
    #[must_use]
    pub fn stop_handle(&self) -> StopHandle {
        self.stop.clone()
    }

    /// The way to the announcer once [`Speaker::run`] runs: leases, flaps, and what becomes of each prefix.
    #[must_use]
    pub fn announcer(&self) -> AnnouncerHandle {
        self.announcer.clone()
    }

    /// Speaks until `shutdown`. Returns after the orderly stop of every session: all withdrawn, Cease with a
    /// Shutdown Communication, closed; a peer that does not take it is left after 2 s. Service addresses go
    /// last. See [`StopKind`].
    pub async fn run(mut self, snapshots: Arc<SnapshotCell>, seed: u64, shutdown: CancellationToken) {
        let requests = std::mem::replace(&mut self.requests, AnnouncerHandle::new().1); // peers are still to be spawned
        let mut driver = Driver::new(self.site, snapshots, requests, Settings::default());
        let stop = self.stop.clone();
        let mut followers = Followers::new(&mut driver, Arc::clone(&self.status));
        let detections = self.detections();
        detections.start(seed);
        let doors = Arc::new(self.begin_sessions(&mut followers, seed, &shutdown));
        let stop_observing = CancellationToken::new();
        let mut observing = self.observers.start(seed, &stop_observing);
        let mut listeners = JoinSet::new();
        for listener in self.listeners {
            listeners.spawn(accept(listener, Arc::clone(&doors), shutdown.clone()));
        }
        driver.run(&followers, &shutdown).await;
        followers.end().await;
        detections.stop().await;
        while listeners.join_next().await.is_some() {}
        if stop.kind() == StopKind::Orderly {
            driver.release(&Ended).await; // else the peers still send traffic to the addresses
        }
        stop_observing.cancel(); // last: they tell how every session ended
        while observing.join_next().await.is_some() {}
    }

    fn idle(site: Option<SiteId>) -> Self {
        let status = SpeakerStatus {
            asn: None,
            router_id: None,
            listen: Vec::new(),
            peers: Vec::new(),
            samples: Vec::new(),
            detections: Arc::default(),
        };
        let (announcer, requests) = AnnouncerHandle::new();
        Self {
            site,
            listeners: Vec::new(),
            peers: Vec::new(),
            transports: Vec::new(),
            hostname: None,
            status: Arc::new(status),
            stop: StopHandle::default(),
            announcer,
            requests,
            tap: Arc::new(Tap::new(Asn::TRANS, &[], false)), // nothing will ever be heard on it
            observers: Observers::none(),
        }
    }

    fn begin_sessions(&self, followers: &mut Followers, seed: u64, shutdown: &CancellationToken) -> Doors {
        let mut senders = Vec::new();
        if let (Some(local_asn), Some(router_id)) = (self.status.asn, self.status.router_id) {
            let common = Arc::new(Common {
                local_asn,
                router_id,
                hostname: self.hostname.clone(),
                status: Arc::clone(&self.status),
                encodings: Arc::new(Encodings::default()),
                started: Instant::now(),
                stop: self.stop.clone(),
                tap: Arc::clone(&self.tap),
            });
            for (index, peer) in self.peers.iter().enumerate() {
                let (sender, accepted) = mpsc::channel(ACCEPT_QUEUE);
                senders.push(sender);
                let (seed, common) = (seed.wrapping_add(index as u64), Arc::clone(&common));
                let transport = Arc::clone(&self.transports[index]);
                let path = self.status.detections.watch(index);
                let task = PeerTask::new(peer.clone(), transport, index, common, seed);
                followers.add(task, path, accepted, shutdown.clone());
            }
        }
        Doors {
            status: Arc::clone(&self.status),
            transports: self.transports.clone(),
            senders,
        }
    }
}

fn first_status(
    bgp: &Bgp,
    router_id: Ipv4Addr,
    listen: Vec<SocketAddr>,
    peers: &[Peer],
    transports: &[Arc<Transport>],
) -> SpeakerStatus {
    let statuses = peers.iter().zip(transports);
    let samples = peers.iter().zip(0..);
    SpeakerStatus {
        asn: Some(bgp.asn),
        router_id: Some(router_id),
        listen,
        peers: statuses
            .map(|(peer, transport)| Mutex::new(PeerStatus::new(peer, transport)))
            .collect(),
        samples: samples
            .map(|(peer, seed)| Arc::new(Mutex::new(Sample::new(peer.sample, seed))))
            .collect(),
        detections: Arc::default(),
    }
}

/// How each peer's sockets are set up. Keys are read here, and nowhere else.
fn transports(bgp: &Bgp, peers: &[Peer]) -> Result<Vec<Arc<Transport>>, BindError> {
    let mut transports: Vec<Arc<Transport>> = Vec::with_capacity(peers.len());
    for peer in peers {
        let address = peer.address;
        let transport = Transport::of(peer, bgp.asn).map_err(|source| BindError::Key {
            peer: address,
            source,
        })?;
        let peer = address;
        transport::try_key(&transport).map_err(|source| match transport.key() {
            Some(Key::Ao(_)) => BindError::NoAo { peer, source },
            Some(Key::Md5(_)) | None => BindError::NoMd5 { peer, source },
        })?;
        if transports
            .iter()
            .any(|other| other.address == address && !other.shares_key(&transport))
        {
            return Err(BindError::TwoKeys { peer: address });
        }
        transports.push(Arc::new(transport));
    }
    Ok(transports)
}

fn listen(address: SocketAddr, transports: &[Arc<Transport>]) -> Result<TcpListener, BindError> {
    transport::bind_for_peers(address, transports).map_err(|source| BindError::Listen { address, source })
}

/// The way from a listener to the task of the peer that knocks.
struct Doors {
    status: Arc<SpeakerStatus>,
    transports: Vec<Arc<Transport>>,
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
    /// A connection from an unknown address, from too far away, or one too many, is closed at once by dropping it.
    fn knock(&self, stream: TcpStream, from: SocketAddr) {
        let cause = match self.door(from) {
            None => "unknown-peer",
            Some((transport, door)) => match transport.admit(&stream) {
                Err(refused) => refused.cause(),
                Ok(()) if door.try_send(stream).is_err() => "queue-full",
                Ok(()) => return,
            },
        };
        counter!("steer_anycast_connections_refused_total", "cause" => cause).increment(1);
        debug!(%from, cause, "connection refused");
    }

    /// Where several peers share an address, the first that has no connection yet.
    fn door(&self, from: SocketAddr) -> Option<(&Transport, &mpsc::Sender<TcpStream>)> {
        let mut known = None;
        for ((peer, transport), sender) in self.status.peers.iter().zip(&self.transports).zip(&self.senders) {
            if !transport.is(from) {
                continue;
            }
            if !locked(peer).state.is_connected() {
                return Some((transport, sender));
            }
            known = known.or(Some((&**transport, sender)));
        }
        known
    }
}
