//! Clients: their connections, and the drain.
//!
//! ```text
//! door ─► worker, a thread each: clients, their calls, connections to backends
//! serving ─ drain ─► GOAWAY 2^31-1, PING ─► GOAWAY last ─► streams end, or the bound passes ─► closed
//! ```

mod client;
mod live;
mod places;
mod worker;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use tokio::net::TcpListener;
use tokio::sync::watch;

use super::admin::Admin;
use super::config::EdgeConfig;
use super::rate::Keeper;

use live::{Live, Prepared};
use places::Places;
use worker::{Clients, Newcomer, Worker};

/// Wait after an accept error: no descriptor is free, and others are freed as connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An edge that is bound and does not serve yet.
#[derive(Debug)]
pub struct Edge {
    listener: TcpListener,
    admin: Option<Admin>,
    prepared: Prepared,
    fixed: Fixed,
}

/// What stays as it is until the edge ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Fixed {
    listen: SocketAddr,
    admin: Option<SocketAddr>,
    workers: NonZeroUsize,
}

/// An edge that serves.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    fixed: Fixed,
    prepared: Arc<ArcSwap<Prepared>>,
    live: Vec<Arc<ArcSwap<Live>>>,
    keeper: Keeper,
    drain: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

/// Why a configuration was not taken. The one before it goes on.
#[derive(Debug, thiserror::Error)]
pub enum NotReloaded {
    /// Sockets and threads are made once.
    #[error("{0} cannot change while the edge runs; start another edge and drain this one")]
    Fixed(&'static str),
    /// A certificate, key or root.
    #[error(transparent)]
    Tls(#[from] io::Error),
}

impl Fixed {
    const fn of(config: &EdgeConfig) -> Self {
        Self {
            listen: config.listen,
            admin: config.admin,
            workers: config.workers,
        }
    }

    /// What another configuration wants to have different.
    fn differs(&self, other: &Self) -> Option<&'static str> {
        let Self {
            listen,
            admin,
            workers,
        } = self;
        let differences = [
            (*listen != other.listen, "`listen`"),
            (*admin != other.admin, "`admin`"),
            (*workers != other.workers, "`workers`"),
        ];
        let mut names = differences.iter().filter(|(differs, _)| *differs);
        names.next().map(|(_, name)| *name)
    }
}

impl Edge {
    /// Binds it.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, or certificate and key do not fit.
    pub async fn bind(config: EdgeConfig) -> io::Result<Self> {
        let fixed = Fixed::of(&config);
        let admin = match config.admin {
            Some(address) => Some(Admin::bind(address).await?),
            None => None,
        };
        Ok(Self {
            admin,
            prepared: Prepared::new(config, None, Instant::now())?,
            listener: TcpListener::bind(fixed.listen).await?,
            fixed,
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
            fixed,
        } = self;
        let address = listener.local_addr()?;
        let admin_address = admin.as_ref().map(Admin::address).transpose()?;
        let (drain, drained) = watch::channel(false);
        let live: Vec<_> = (0..fixed.workers.get())
            .map(|_| Arc::new(ArcSwap::from_pointee(prepared.live(None))))
            .collect();
        let calls = Places::default();
        let start = |(number, live): (usize, &Arc<ArcSwap<Live>>)| {
            let clients = Clients {
                live: live.clone(),
                calls: calls.clone(),
                drained: drained.clone(),
            };
            Worker::start(number, clients)
        };
        let workers = live.iter().enumerate().map(start).collect::<io::Result<_>>()?;
        let keeper = Keeper::start(prepared.rates());
        let prepared = Arc::new(ArcSwap::from_pointee(prepared));
        let door = Door {
            listener,
            prepared: prepared.clone(),
            workers,
        };
        let task = tokio::spawn(async move {
            let serving = door.accept(drained);
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
            fixed,
            prepared,
            live,
            keeper,
            drain,
            task,
        })
    }
}

/// Where clients come in.
struct Door {
    listener: TcpListener,
    prepared: Arc<ArcSwap<Prepared>>,
    workers: Vec<Worker>,
}

impl Door {
    async fn accept(self, mut drained: watch::Receiver<bool>) {
        let connections = Places::default();
        loop {
            let accepted = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = drained.wait_for(|drained| *drained) => break,
            };
            let accepted = accepted.and_then(|(stream, address)| Ok((stream.into_std()?, address)));
            let Ok((stream, address)) = accepted else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let prepared = self.prepared.load_full();
            let Some(place) = connections.take(prepared.clients.connections) else {
                metrics::counter!("steer_rpc_connections_refused_total").increment(1);
                continue;
            };
            let newcomer = Newcomer {
                stream,
                address,
                tls: prepared.tls.as_ref().map(live::Listening::config),
                place,
            };
            let there = self.workers.iter().filter(|worker| worker.is_there());
            match there.min_by_key(|worker| worker.clients()) {
                Some(idlest) => idlest.serve(newcomer).await,
                None => metrics::counter!("steer_rpc_connections_refused_total").increment(1),
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

    /// Takes another configuration, or none of it. Calls and connections that have begun go on with the old one; a connection's
    /// next call has the new one.
    ///
    /// # Errors
    ///
    /// See [`NotReloaded`].
    pub fn reload(&self, config: EdgeConfig) -> Result<(), NotReloaded> {
        if let Some(name) = self.fixed.differs(&Fixed::of(&config)) {
            return Err(NotReloaded::Fixed(name));
        }
        let next = Prepared::new(config, Some(&self.prepared.load()), Instant::now())?;
        for live in &self.live {
            live.store(Arc::new(next.live(Some(&live.load()))));
        }
        self.keeper.hold(next.rates());
        self.prepared.store(Arc::new(next));
        Ok(())
    }

    /// Takes no more connections and no more streams, lets those that are there end, and ends.
    pub async fn drain(self) {
        _ = self.drain.send(true);
        _ = self.task.await;
        self.keeper.end().await;
    }
}
