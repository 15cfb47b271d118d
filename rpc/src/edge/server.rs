//! Clients: their connections, and the drain.
//!
//! ```text
//! serving ─ drain ─► GOAWAY 2^31-1, PING ─► GOAWAY last ─► streams end, or the bound passes ─► closed
//! ```

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use h2::server::Connection;
use rustls::ServerConfig;
use steer_topology::OutlierRules;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use super::backend::{Backend, BackendSide, tune};
use super::balance::Balance;
use super::config::{EdgeConfig, PoolRules};
use super::proxy::{self, Pool, Shared};
use super::reply::refuse;
use super::tls::{self, Current};
use crate::fate::{Budget, Code, Fate};

/// Wait after an accept error: no descriptor is free, and others are freed as connections end.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Connections of clients at most; more are closed at once, and counted.
const CONNECTIONS_MAX: usize = 20_000;

/// Calls at the same time at most; more are answered UNAVAILABLE and unprocessed.
const CALLS_MAX: usize = 50_000;

/// Streams of one client.
const STREAMS_MAX: u32 = 1_000;

/// Octets of the headers of one request.
const HEADERS_MAX: u32 = 64 << 10;

/// The handshakes of TLS and HTTP/2 together.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// The window of a stream of a client.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// An edge that is bound and does not serve yet.
#[derive(Debug)]
pub struct Edge {
    listener: TcpListener,
    tls: Option<Arc<Current<ServerConfig>>>,
    shared: Arc<Shared>,
    drain: Duration,
}

/// An edge that serves.
#[derive(Debug)]
pub struct Running {
    address: SocketAddr,
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
        } = config;
        let now = Instant::now();
        let mut rules = pool_rules.into_iter();
        let pools: io::Result<Vec<_>> = pools
            .iter()
            .map(|addresses| make_pool(addresses, &rules.next().unwrap_or_default(), now).map(Arc::new))
            .collect();
        Ok(Self {
            tls: tls.map(tls::listener).transpose()?,
            listener: TcpListener::bind(listen).await?,
            shared: Arc::new(Shared {
                policies,
                pools: pools?,
            }),
            drain,
        })
    }

    /// Serves until it is drained.
    ///
    /// # Errors
    ///
    /// When the address cannot be told.
    pub fn run(self) -> io::Result<Running> {
        let address = self.listener.local_addr()?;
        let (drain, drained) = watch::channel(false);
        let task = tokio::spawn(self.accept(drained));
        Ok(Running { address, drain, task })
    }

    async fn accept(self, mut drained: watch::Receiver<bool>) {
        let connections = Arc::new(Semaphore::new(CONNECTIONS_MAX));
        let calls = Arc::new(Semaphore::new(CALLS_MAX));
        let mut clients = JoinSet::new();
        loop {
            let stream = tokio::select! {
                accepted = self.listener.accept() => accepted,
                _ = drained.wait_for(|drained| *drained) => break,
            };
            while clients.try_join_next().is_some() {}
            let Ok((stream, _)) = stream else {
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            };
            let Ok(permit) = connections.clone().try_acquire_owned() else {
                metrics::counter!("steer_rpc_connections_refused_total").increment(1);
                continue;
            };
            let client = Client {
                shared: self.shared.clone(),
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
        let name = tls::name_of(tls, address);
        Some(BackendSide { config, name })
    };
    let backend = |address: &SocketAddr| Arc::new(Backend::new(*address, side(*address)));
    Ok(Pool {
        backends: addresses.iter().map(backend).collect(),
        balance: Balance::new(addresses.len(), OutlierRules::DEFAULT, now).into(),
        budget: Budget::DEFAULT.into(),
    })
}

/// One connection.
struct Client {
    shared: Arc<Shared>,
    calls: Arc<Semaphore>,
    drained: watch::Receiver<bool>,
    drain: Duration,
}

impl Client {
    async fn serve(self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        if tune(&stream).is_err() {
            return; // it was closed already
        }
        let Some(acceptor) = acceptor else {
            return self.speak(stream).await;
        };
        match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => self.speak(stream).await,
            Ok(Err(_)) | Err(_) => metrics::counter!("steer_rpc_handshakes_failed_total").increment(1),
        }
    }

    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_concurrent_streams(STREAMS_MAX)
            .max_header_list_size(HEADERS_MAX);
        match tokio::time::timeout(HANDSHAKE_MAX, builder.handshake(stream)).await {
            Ok(Ok(connection)) => self.accept(connection).await,
            Ok(Err(_)) | Err(_) => metrics::counter!("steer_rpc_handshakes_failed_total").increment(1),
        }
    }

    async fn accept<T: AsyncRead + AsyncWrite + Unpin>(self, mut connection: Connection<T, Bytes>) {
        let mut until = None;
        loop {
            let bound = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let mut drained = self.drained.clone();
            let is_drain = tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => {
                        self.begin(request, respond);
                        false
                    }
                    // The connection has ended, in order or not; the calls learn it from their streams.
                    Some(Err(_)) | None => return,
                },
                // RFC 9113 §6.8: first with the highest number, and with the true one when that has arrived.
                _ = drained.wait_for(|drained| *drained), if until.is_none() => {
                    connection.graceful_shutdown();
                    true
                }
                () = bound => {
                    connection.abrupt_shutdown(Reason::NO_ERROR);
                    true
                }
            };
            if is_drain {
                until = Some(tokio::time::Instant::now() + self.drain);
            }
        }
    }

    fn begin(&self, request: http::Request<h2::RecvStream>, mut respond: h2::server::SendResponse<Bytes>) {
        let Ok(permit) = self.calls.clone().try_acquire_owned() else {
            metrics::counter!("steer_rpc_calls_shed_total").increment(1);
            let words = "the edge has as many calls as it takes";
            refuse(
                &mut respond,
                request.headers(),
                Code::Unavailable,
                Fate::Unprocessed,
                words,
            );
            return;
        };
        let call = proxy::serve(self.shared.clone(), request, respond);
        tokio::spawn(async move {
            call.await;
            drop(permit);
        });
    }
}
