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
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use metrics::counter;
use steer_health::SnapshotCell;
use steer_topology::{Bgp, Fleet, Peer, SiteId};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::session::State;
use crate::transport::{self, Transport};
use crate::wanted::{Wanted, decide};
use peer::PeerTask;
use status::locked;

pub use crate::transport::KeyError;
pub(crate) use crate::transport::bind_listener;
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
    /// The kernel knows keys by address.
    #[error("peers share the address {peer} but not the key; give all of them the same password_file")]
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
    status: Arc<SpeakerStatus>,
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
        let status = Arc::new(first_status(bgp, router_id, bound, &peers));
        Ok(Self {
            site,
            listeners,
            peers,
            transports,
            status,
        })
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
            transports: Vec::new(),
            status: Arc::new(status),
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
                let status = Arc::clone(&self.status);
                let transport = Arc::clone(&self.transports[index]);
                let task = PeerTask::new(peer.clone(), transport, index, asn, router_id, status, seed);
                tasks.spawn(task.run(wanted.subscribe(), accepted, shutdown.clone()));
            }
        }
        (
            Doors {
                status: Arc::clone(&self.status),
                transports: self.transports.clone(),
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

/// How each peer's sockets are set up. Keys are read here, and nowhere else.
fn transports(bgp: &Bgp, peers: &[Peer]) -> Result<Vec<Arc<Transport>>, BindError> {
    let mut transports: Vec<Arc<Transport>> = Vec::with_capacity(peers.len());
    for peer in peers {
        let address = peer.address;
        let transport = Transport::of(peer, bgp.asn).map_err(|source| BindError::Key {
            peer: address,
            source,
        })?;
        transport::try_key(&transport).map_err(|source| BindError::NoMd5 {
            peer: address,
            source,
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
