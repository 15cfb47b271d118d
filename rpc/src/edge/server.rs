//! Clients: their connections, and the drain.
//!
//! ```text
//! serving ─ drain ─► GOAWAY 2^31-1, PING ─► GOAWAY last ─► streams end, or the bound passes ─► closed
//! ```

mod client;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ServerConfig;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::admin::Admin;
use super::balance::Balance;
use super::config::{ClientRules, EdgeConfig, PoolRules};
use super::proxy::{Caller, Pool, Shared};
use super::rate::Rates;
use super::shed::Shedder;
use super::tls::{self, Current};
use crate::fate::Budget;
use crate::link::{KeepAlive, Links, Tls};

use client::Client;

/// Wait after an accept error: no descriptor is free, and others are freed as connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// An edge that is bound and does not serve yet.
#[derive(Debug)]
pub struct Edge {
    listener: TcpListener,
    tls: Option<Arc<Current<ServerConfig>>>,
    shared: Arc<Shared>,
    clients: Arc<ClientRules>,
    admin: Option<Admin>,
    drain: Duration,
}

/// An edge that serves.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
    admin: Option<SocketAddr>,
    drain: watch::Sender<bool>,
    task: tokio::task::JoinHandle<()>,
}

impl Edge {
    /// Binds it.
    ///
    /// # Errors
    ///
    /// When the address cannot be had, or certificate and key do not fit.
    pub async fn bind(config: EdgeConfig) -> io::Result<Self> {
        let EdgeConfig {
            listen,
            tls,
            pools,
            pool_rules,
            policies,
            drain,
            admin,
            clients,
            rate_limit,
            priority,
        } = config;
        let now = Instant::now();
        let mut rules = pool_rules.into_iter();
        let pools: io::Result<Vec<_>> = pools
            .iter()
            .map(|addresses| make_pool(addresses, &rules.next().unwrap_or_default(), now).map(Arc::new))
            .collect();
        let admin = match admin {
            Some(address) => Some(Admin::bind(address).await?),
            None => None,
        };
        Ok(Self {
            admin,
            tls: tls.map(tls::listener).transpose()?,
            listener: TcpListener::bind(listen).await?,
            shared: Arc::new(Shared {
                priority,
                rates: rate_limit.map(|rules| Rates::new(rules, now).into()),
                stall: clients.stall,
                policies,
                pools: pools?,
            }),
            clients: Arc::new(clients),
            drain,
        })
    }

    /// Serves until it is drained.
    ///
    /// # Errors
    ///
    /// When the address cannot be told.
    pub fn run(mut self) -> io::Result<Running> {
        let address = self.listener.local_addr()?;
        let admin = self.admin.take();
        let admin_address = admin.as_ref().map(Admin::address).transpose()?;
        let (drain, drained) = watch::channel(false);
        let task = tokio::spawn(async move {
            let serving = self.accept(drained);
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
            drain,
            task,
        })
    }

    async fn accept(self, mut drained: watch::Receiver<bool>) {
        let connections = Arc::new(Semaphore::new(self.clients.connections));
        let calls = Arc::new(Semaphore::new(self.clients.calls));
        let mut clients = JoinSet::new();
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = drained.wait_for(|drained| *drained) => break,
            };
            while clients.try_join_next().is_some() {}
            let Ok((stream, peer)) = stream else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(permit) = connections.clone().try_acquire_owned() else {
                metrics::counter!("steer_rpc_connections_refused_total").increment(1);
                continue;
            };
            let client = Client {
                shared: self.shared.clone(),
                rules: self.clients.clone(),
                caller: Caller {
                    address: peer.ip(),
                    name: None,
                },
                calls: calls.clone(),
                drained: drained.clone(),
                drain: self.drain,
            };
            let config = self.tls.as_ref().map(|tls| tls.get().value.clone());
            let acceptor = config.map(TlsAcceptor::from);
            clients.spawn(async move {
                client.serve(stream, acceptor).await;
                drop(permit);
            });
        }
        drop(self.listener);
        while clients.join_next().await.is_some() {}
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

    /// Takes no more connections and no more streams, lets those that are there end, and ends.
    pub async fn drain(self) {
        _ = self.drain.send(true);
        _ = self.task.await;
    }
}

fn make_pool(addresses: &[SocketAddr], rules: &PoolRules, now: Instant) -> io::Result<Pool> {
    let config = rules.tls.as_ref().map(tls::backends).transpose()?;
    let side = |address| {
        let (tls, config) = (rules.tls.as_ref()?, config.clone()?);
        let trust = Box::new(move || {
            let current = config.get();
            (current.value.clone(), current.number)
        });
        let name = tls::name_of(tls, address);
        Some(Tls { trust, name })
    };
    let backend = |address: &SocketAddr| Arc::new(Links::new(*address, side(*address), KeepAlive::DEFAULT));
    Ok(Pool {
        backends: addresses.iter().map(backend).collect(),
        balance: Balance::new(addresses.len(), rules.balance.clone(), now).into(),
        name: Arc::<str>::from(&*rules.name).into(),
        shedder: rules.concurrency.map(|rules| Shedder::new(rules, now)),
        budget: Budget::DEFAULT.into(),
    })
}
