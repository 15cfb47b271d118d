//! Clients: their connections, and the drain.
//!
//! ```text
//! door ─► worker, a thread each: clients, their calls, connections to backends
//! drain: phases of the door ([`Phase`]); for each connection
//!   GOAWAY 2^31-1, PING ─► GOAWAY last ─► streams end, or the bound passes ─► closed
//! ```

mod client;
mod live;
mod phase;
mod places;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use socket2::SockRef;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::admin::Admin;
use super::config::EdgeConfig;
use super::members::View;
use super::rate::Keeper;

use live::{Live, Prepared};
use places::Places;
use worker::{Clients, Newcomer, Worker};

pub use live::NotPrepared;
pub use phase::Phase;

/// Wait after an accept error: no descriptor is free, and others are freed as connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An edge that is bound and does not serve yet.
#[derive(Debug)]
pub struct Edge {
    listener: TcpListener,
    admin: Option<Admin>,
    prepared: Prepared,
    config: EdgeConfig,
}

/// An edge that serves.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    prepared: Arc<ArcSwap<Prepared>>,
    live: Vec<Arc<ArcSwap<Live>>>,
    phase: watch::Sender<Phase>,
    observer: Observer,
    config: ArcSwap<EdgeConfig>,
    keeper: Keeper,
    task: tokio::task::JoinHandle<()>,
}

/// An edge at a moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EdgeStatus {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Whether clients are welcome.
    pub phase: Phase,
    /// Connections of clients.
    pub connections: usize,
    /// Calls under way.
    pub calls: usize,
}

/// Looks at an edge, also when it has ended.
#[derive(Debug, Clone)]
pub struct Observer {
    listen: SocketAddr,
    phase: watch::Receiver<Phase>,
    connections: Places,
    calls: Places,
}

impl Observer {
    /// What it is at.
    #[must_use]
    pub fn status(&self) -> EdgeStatus {
        EdgeStatus {
            listen: self.listen,
            phase: *self.phase.borrow(),
            connections: self.connections.taken(),
            calls: self.calls.taken(),
        }
    }
}

/// Why a configuration was not taken. The one before it goes on.
#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    /// Sockets and threads are made once.
    #[error("{0} cannot change while the edge runs; start another edge and drain this one")]
    Fixed(&'static str),
    /// Files of TLS, or pools.
    #[error(transparent)]
    Prepared(#[from] NotPrepared),
}

impl From<NotPrepared> for io::Error {
    fn from(error: NotPrepared) -> Self {
        match error {
            NotPrepared::Tls(error) => error,
            NotPrepared::Members(_) | NotPrepared::Alone(_) => Self::other(error),
        }
    }
}

impl Edge {
    /// Binds it.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, certificate and key do not fit, or it has backends in a fleet.
    pub async fn bind(config: EdgeConfig) -> io::Result<Self> {
        Self::bind_within(config, None).await
    }

    /// Binds one that is within a fleet.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, certificate and key do not fit, or the fleet has no such pools.
    pub async fn bind_within(config: EdgeConfig, view: Option<&View>) -> io::Result<Self> {
        let admin = match config.admin {
            Some(address) => Some(Admin::bind(address).await?),
            None => None,
        };
        Ok(Self {
            admin,
            prepared: Prepared::new(config.clone(), view, None, Instant::now())?,
            listener: TcpListener::bind(config.listen).await?,
            config,
        })
    }

    /// Serves until it is drained.
    ///
    /// # Errors
    ///
    /// When the address cannot be told, or a thread cannot be had.
    pub fn run(self) -> io::Result<Running> {
        let Self {
            listener,
            admin,
            prepared,
            config,
        } = self;
        let address = listener.local_addr()?;
        let admin_address = admin.as_ref().map(Admin::address).transpose()?;
        let (phase, phases) = watch::channel(Phase::Open);
        let live: Vec<_> = (0..config.workers.get())
            .map(|_| Arc::new(ArcSwap::from_pointee(prepared.live(None))))
            .collect();
        let calls = Places::default();
        let start = |(number, live): (usize, &Arc<ArcSwap<Live>>)| {
            let clients = Clients {
                live: live.clone(),
                calls: calls.clone(),
                phase: phases.clone(),
            };
            Worker::start(number, clients)
        };
        let workers = live.iter().enumerate().map(start).collect::<io::Result<_>>()?;
        let keeper = Keeper::start(prepared.rates());
        let prepared = Arc::new(ArcSwap::from_pointee(prepared));
        let connections = Places::default();
        let door = Door {
            listener,
            prepared: prepared.clone(),
            workers,
            connections: connections.clone(),
        };
        let task = tokio::spawn(async move {
            let serving = door.accept(phases);
            match admin {
                None => serving.await,
                // It can be asked until the last call has ended.
                Some(admin) => tokio::select! {
                    () = serving => {}
                    () = async { admin.serve().await; std::future::pending().await } => {}
                },
            }
        });
        Ok(Running {
            address,
            admin: admin_address,
            prepared,
            live,
            observer: Observer {
                listen: address,
                phase: phase.subscribe(),
                connections,
                calls,
            },
            phase,
            config: ArcSwap::from_pointee(config),
            keeper,
            task,
        })
    }
}

/// Where clients come in.
struct Door {
    listener: TcpListener,
    prepared: Arc<ArcSwap<Prepared>>,
    workers: Vec<Worker>,
    connections: Places,
}

/// Whether a client is this host: the kernel has it come from where it goes.
fn is_own(stream: &std::net::TcpStream, from: SocketAddr) -> bool {
    let from = from.ip().to_canonical();
    stream
        .local_addr()
        .is_ok_and(|here| here.ip().to_canonical() == from)
}

/// Sends a client away: RST, as if nobody listened, so that it tries elsewhere or again.
fn refuse(stream: &std::net::TcpStream, cause: &'static str) {
    metrics::counter!("steer_rpc_connections_refused_total", "cause" => cause).increment(1);
    // Closed in good order, if the kernel will not.
    _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
}

impl Door {
    async fn accept(self, mut phases: watch::Receiver<Phase>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = phases.wait_for(|phase| *phase == Phase::Over) => break,
            };
            let accepted = accepted.and_then(|(stream, address)| Ok((stream.into_std()?, address)));
            let Ok((stream, address)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let is_own = is_own(&stream, address);
            if !phases.borrow().serves(is_own) {
                refuse(&stream, "drain");
                continue;
            }
            let prepared = self.prepared.load_full();
            let Some(place) = self.connections.take(prepared.clients.connections) else {
                refuse(&stream, "full");
                continue;
            };
            let newcomer = Newcomer {
                stream,
                address,
                tls: prepared.tls.as_ref().map(live::Listening::config),
                is_own,
                place,
            };
            let there = self.workers.iter().filter(|worker| worker.is_there());
            match there.min_by_key(|worker| worker.clients()) {
                Some(idlest) => idlest.serve(newcomer).await,
                None => refuse(&newcomer.stream, "no worker"),
            }
        }
        drop(self.listener);
        for worker in self.workers {
            worker.finish().await;
        }
    }
}

impl Running {
    /// Where it listens.
    #[must_use]
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where `/metrics` is.
    #[must_use]
    pub const fn admin(&self) -> Option<SocketAddr> {
        self.admin
    }

    /// What it is at.
    #[must_use]
    pub fn status(&self) -> EdgeStatus {
        self.observer.status()
    }

    /// Who looks on.
    #[must_use]
    pub fn observer(&self) -> Observer {
        self.observer.clone()
    }

    /// Takes another configuration, or none of it. Calls and connections that have begun go on with the old one; a connection's
    /// next call has the new one.
    ///
    /// # Errors
    ///
    /// See [`NotReloaded`].
    pub fn reload(&self, config: EdgeConfig) -> Result<(), NotReloaded> {
        self.reload_within(config, None)
    }

    /// The same for an edge within a fleet.
    ///
    /// # Errors
    ///
    /// See [`NotReloaded`].
    pub fn reload_within(&self, config: EdgeConfig, view: Option<&View>) -> Result<(), NotReloaded> {
        if let Some(name) = self.config.load().needs_restart(&config) {
            return Err(NotReloaded::Fixed(name));
        }
        let before = self.prepared.load_full();
        let next = Prepared::new(config.clone(), view, Some(&before), Instant::now())?;
        for live in &self.live {
            live.store(Arc::new(next.live(Some(&live.load()))));
        }
        self.keeper.hold(next.rates());
        self.prepared.store(Arc::new(next));
        self.config.store(Arc::new(config));
        Ok(())
    }

    /// Has the backends that are pools of the fleet stand as in another snapshot.
    ///
    /// # Errors
    ///
    /// When the fleet has such pools no more: all goes on as before.
    pub fn follow(&self, view: &View) -> Result<(), NotReloaded> {
        if self.prepared.load().follow(view, Instant::now()) {
            return Ok(());
        }
        self.reload_within(EdgeConfig::clone(&self.config.load()), Some(view))
    }

    /// Enters a phase of a drain, or leaves the drain. [`Running::drain`] is the end of it.
    pub fn turn(&self, phase: Phase) {
        self.phase
            .send_if_modified(|now| std::mem::replace(now, phase) != phase);
    }

    /// Takes no more connections and no more streams, lets those that are there end, exports the last traces, and ends.
    pub async fn drain(self) {
        self.turn(Phase::Over);
        _ = self.task.await;
        self.prepared.load_full().flush().await;
        self.keeper.end().await;
    }
}
