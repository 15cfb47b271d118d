//! Sockets around the engine.
//!
//! ```text
//! udp     threads, a socket each per address ─► mmsg: batches of datagrams
//! tcp     a listener per address ─► gate: how many connections ─► stream: one of them ─► frames: its messages
//!                                   certificate: TLS around it ─► https: requests instead
//! quic    an endpoint per address ─► gate ─► a query per stream
//! ```
//!
//! Bounds. UDP: a batch is answered before the next is read, and what the kernel does not take is lost and
//! counted. Streams: the number of connections in all and per client network ([`Limits`]); one that is beyond is
//! closed and counted; one without a whole query for [`Limits::tcp_idle`], or whose replies are not taken for as
//! long, is closed and counted.

mod certificate;
mod frames;
mod gate;
mod https;
mod mmsg;
mod quic;
mod socket;
pub(crate) mod stream;
mod tcp;
mod udp;

use std::cell::RefCell;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroUsize;
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use nix::sys::eventfd::{EfdFlags, EventFd};
use quinn::Endpoint;
use rand::rngs::SmallRng;
use steer_topology::{Dns, Rrl, Tls};
use tokio::net::TcpListener;
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use self::certificate::{Certificate, Inside};
use self::gate::Gate;
use self::socket::Sockets;
pub(crate) use self::stream::End;
use self::stream::Service;
use self::tcp::Speech;
use self::udp::Worker;
use crate::count;
use crate::engine::{Engine, seconds};
use crate::reply::{Reply, Transport};
use crate::rrl::Limiter;

/// What the sockets may cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Threads that answer over UDP.
    pub udp_threads: NonZeroUsize,
    /// TCP connections at a time, of all clients.
    pub tcp_connections: usize,
    /// TCP connections at a time of one client network: a /24 or a /56.
    pub tcp_connections_per_client: usize,
    /// A TCP connection without a query for so long is closed. RFC 7766 §6.2.3 asks for "a few seconds".
    pub tcp_idle: Duration,
    /// How many replies a client network gets over UDP.
    pub rrl: Option<Rrl>,
}

impl Limits {
    /// What `[dns]` asks for.
    #[must_use]
    pub fn of(dns: &Dns) -> Self {
        let cores = || thread::available_parallelism().unwrap_or(NonZeroUsize::MIN);
        Self {
            udp_threads: dns.udp_threads.map_or_else(cores, NonZeroUsize::from),
            tcp_connections: dns.tcp_connections as usize,
            tcp_connections_per_client: dns.tcp_connections_per_client as usize,
            tcp_idle: dns.tcp_idle,
            rrl: dns.rrl.clone(),
        }
    }
}

/// What an empty `[dns]` asks for.
impl Default for Limits {
    fn default() -> Self {
        Self::of(&Dns::default())
    }
}

/// Bound sockets that do not answer yet.
#[derive(Debug)]
pub struct Server {
    limits: Limits,
    sockets: Vec<Sockets>,
    encrypted: Option<Encrypted>,
    /// Wakes the threads when they shall end.
    alarm: Arc<EventFd>,
}

/// Listeners that show a certificate.
#[derive(Debug)]
struct Encrypted {
    certificate: Arc<Certificate>,
    listeners: Vec<(Inside, TcpListener)>,
    quic: Vec<Endpoint>,
}

impl Server {
    /// Binds UDP and TCP on every address, or nothing at all. Port 0 takes a port that is free in both. The
    /// error names protocol and address, and the process that holds it where that can be seen.
    ///
    /// Needs a tokio runtime around it, but waits for nothing.
    #[expect(
        clippy::unused_async,
        reason = "tells callers that a runtime is needed, and leaves room to wait"
    )]
    pub async fn bind(listen: &[SocketAddr], limits: Limits) -> io::Result<Self> {
        let sockets = listen
            .iter()
            .map(|address| Sockets::open(*address, limits.udp_threads.get()))
            .collect::<io::Result<_>>()?;
        let alarm = EventFd::from_flags(EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK)?;
        Ok(Self {
            limits,
            sockets,
            encrypted: None,
            alarm: Arc::new(alarm),
        })
    }

    /// Binds encrypted transports too, or nothing at all. Reads the certificate.
    pub fn bind_tls(&mut self, tls: &Tls) -> io::Result<()> {
        let certificate = Arc::new(Certificate::read(tls)?);
        let dns = tls.listen.iter().map(|address| (Inside::Dns, *address));
        let http = tls.https.iter().map(|address| (Inside::Http, *address));
        let listeners = dns
            .chain(http)
            .map(|(inside, address)| Ok((inside, socket::listener(address)?)));
        self.encrypted = Some(Encrypted {
            certificate,
            listeners: listeners.collect::<io::Result<_>>()?,
            quic: tls
                .quic
                .iter()
                .map(|address| quic::bind(*address))
                .collect::<io::Result<_>>()?,
        });
        Ok(())
    }

    /// The addresses of encrypted transports: those of DNS over TLS, then of DNS over HTTPS, then of DNS over QUIC.
    #[must_use]
    pub fn tls_addrs(&self) -> Vec<SocketAddr> {
        let Some(encrypted) = &self.encrypted else {
            return Vec::new();
        };
        let listeners = encrypted
            .listeners
            .iter()
            .map(|(_, listener)| listener.local_addr());
        let quic = encrypted.quic.iter().map(Endpoint::local_addr);
        listeners.chain(quic).filter_map(Result::ok).collect()
    }

    /// The addresses in the order of `bind`, with the port that was taken for port 0.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.sockets.iter().map(|sockets| sockets.address).collect()
    }

    /// Answers until `shutdown`; queries that have been received by then get their reply.
    pub async fn run(self, engine: Arc<Engine>, shutdown: CancellationToken) {
        let Self {
            limits,
            sockets,
            encrypted,
            alarm,
        } = self;
        let alarm = Alarm(alarm);
        let service = Service {
            engine: Arc::clone(&engine),
            idle: limits.tcp_idle,
            stop: shutdown.child_token(),
        };
        let limiter = limits.rrl.map(|rules| Arc::new(Limiter::new(rules)));
        let gate = Gate::new(limits.tcp_connections, limits.tcp_connections_per_client);
        let mut shares: Vec<Vec<_>> = (0..limits.udp_threads.get()).map(|_| Vec::new()).collect();
        let mut parts = JoinSet::new();
        for Sockets { address, udp, tcp } in sockets {
            tracing::info!(%address, "answering DNS over UDP and TCP");
            for (share, socket) in shares.iter_mut().zip(udp) {
                share.push(socket);
            }
            parts.spawn(tcp::listen(
                tcp,
                Speech::Plain,
                Arc::clone(&gate),
                service.clone(),
            ));
        }
        if let Some(Encrypted {
            certificate,
            listeners,
            quic,
        }) = encrypted
        {
            for endpoint in quic {
                tracing::info!(address = ?endpoint.local_addr().ok(), "answering DNS over QUIC");
                let (certificate, gate) = (Arc::clone(&certificate), Arc::clone(&gate));
                parts.spawn(quic::listen(endpoint, certificate, gate, service.clone()));
            }
            for (inside, listener) in listeners {
                tracing::info!(address = ?listener.local_addr().ok(), ?inside, "answering inside TLS");
                let speech = Speech::Tls(Arc::clone(&certificate), inside);
                parts.spawn(tcp::listen(listener, speech, Arc::clone(&gate), service.clone()));
            }
            parts.spawn(certificate.follow(service.stop.clone()));
        }
        for (number, sockets) in shares.into_iter().enumerate() {
            let worker = Worker {
                sockets,
                engine: Arc::clone(&engine),
                limiter: limiter.clone(),
                stop: Arc::clone(&alarm.0),
            };
            parts.spawn(on_thread(number, worker));
        }
        tokio::select! {
            () = shutdown.cancelled() => {}
            Some(_) = parts.join_next() => tracing::error!("a part of the DNS server ended"),
        }
        service.stop.cancel();
        drop(alarm);
        while parts.join_next().await.is_some() {}
    }
}

/// Rings when dropped, so that the threads end also where [`Server::run`] is abandoned.
struct Alarm(Arc<EventFd>);

impl Drop for Alarm {
    fn drop(&mut self) {
        if let Err(error) = self.0.write(1) {
            tracing::error!(%error, "the DNS threads cannot be told to end");
        }
    }
}

/// Runs a worker on a thread of its own and waits for it without holding up the runtime.
async fn on_thread(number: usize, worker: Worker) {
    let (tell, ended) = oneshot::channel();
    let body = move || {
        let _ = tell.send(worker.run());
    };
    let thread = thread::Builder::new()
        .name(format!("dns-udp-{number}"))
        .spawn(body);
    let result = match thread {
        // a thread that panicked has said so, and sends nothing
        Ok(_) => ended.await.unwrap_or(Ok(())),
        Err(error) => Err(error),
    };
    if let Err(error) = result {
        tracing::error!(%error, "a DNS thread ended");
    }
}

thread_local! {
    static RNG: RefCell<SmallRng> = RefCell::new(rand::make_rng());
}

/// The engine's reply, for those who have no random numbers of their own.
fn answer(engine: &Engine, query: &[u8], client: IpAddr, transport: Transport) -> Option<Reply> {
    let (began, now) = (Instant::now(), seconds(SystemTime::now()));
    let reply = RNG.with_borrow_mut(|rng| engine.answer(query, client, transport, now, rng));
    count::took(began.elapsed());
    reply
}
