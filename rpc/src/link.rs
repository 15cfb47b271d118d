//! Connections to one address, opened when they are needed and given up when they do not answer: the edge's to its backends,
//! and a client's to its targets.

mod goaway;

use std::fmt;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use http::uri::Scheme;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::fate::News;
use goaway::{Followed, LastStream};

/// Connections to one address at most.
const LINKS_MAX: usize = 8;

/// Streams on a connection, before another one is opened.
const STREAMS: usize = 100;

/// How long a connection may take: TCP, TLS and the peer's greeting.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A connection in use is asked whether it is there, and given up when it does not say so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepAlive {
    /// So often.
    pub every: Duration,
    /// So long it may take to answer.
    pub wait: Duration,
}

impl KeepAlive {
    /// Every 10 s, within 5 s.
    pub const DEFAULT: Self = Self {
        every: Duration::from_secs(10),
        wait: Duration::from_secs(5),
    };
}

/// Octets that are not acknowledged for so long break a connection (RFC 5482; `TCP_USER_TIMEOUT`).
const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// The window of a stream, and of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Octets of the headers of an answer.
const HEADERS_MAX: u32 = 64 << 10;

/// Octets of a stream that wait to be written.
const SEND_BUFFER_MAX: usize = 256 << 10;

/// What is in use of certificates and roots, and its number: connections that were made with another one get no new streams.
pub(crate) type Trust = Box<dyn Fn() -> (Arc<ClientConfig>, u64) + Send + Sync>;

/// TLS to an address.
pub(crate) struct Tls {
    pub(crate) trust: Trust,
    pub(crate) name: ServerName<'static>,
}

/// The connections to an address.
pub(crate) struct Links {
    address: SocketAddr,
    tls: Option<Tls>,
    pings: KeepAlive,
    open: Mutex<Vec<Link>>,
    /// Connections that could not be had.
    failures: AtomicU64,
    /// Whether the last one could not, and was told.
    is_told: AtomicBool,
}

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// A connection.
#[derive(Debug, Clone)]
struct Link {
    send: SendRequest<Bytes>,
    last: LastStream,
    streams: Arc<AtomicUsize>,
    /// Of the certificates and roots that it was made with.
    version: u64,
}

/// Why no stream could be opened. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NoStream {
    #[error("no connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("no TLS: {0}")]
    Tls(std::io::Error),
    #[error("no TLS: h2 is not offered (ALPN)")]
    Alpn,
    #[error("no connection within {CONNECT_MAX:?}")]
    Late,
    #[error("no connection: one that was waited for could not be had")]
    Shared,
    #[error("the connection was closed before anything was said")]
    NoGreeting,
    #[error("no stream: {0}")]
    Http(#[from] h2::Error),
    #[error("the deadline passed before there was a stream")]
    Expired,
}

impl NoStream {
    /// As in metrics.
    const fn cause(&self) -> &'static str {
        match self {
            Self::Io(_) => "connect",
            Self::Tls(_) | Self::Alpn => "tls",
            Self::Late => "late",
            Self::Shared => "shared",
            Self::NoGreeting => "no-greeting",
            Self::Http(_) => "http2",
            Self::Expired => "expired",
        }
    }
}

/// A stream that was opened.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) response: ResponseFuture,
    pub(crate) body: SendStream<Bytes>,
    pub(crate) guard: Guard,
}

/// Counts a stream for as long as it lives, and tells what an error of it means.
#[derive(Debug)]
pub(crate) struct Guard {
    number: u32,
    last: LastStream,
    streams: Arc<AtomicUsize>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.streams.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Guard {
    /// What an error says of the stream. A GOAWAY is looked at first: h2 gives streams that it disowned and streams that
    /// broke after it the same error.
    pub(crate) fn news(&self, error: &h2::Error) -> News {
        if let Some(news) = News::of_goaway(self.last.get(), self.number) {
            return news;
        }
        match error.reason() {
            Some(reason) if error.is_reset() && error.is_remote() => News::of_reset(reason.into()),
            Some(_) | None => News::Lost,
        }
    }
}

impl Links {
    pub(crate) fn new(address: SocketAddr, tls: Option<Tls>, pings: KeepAlive) -> Self {
        Self {
            address,
            tls,
            pings,
            open: Mutex::default(),
            failures: AtomicU64::new(0),
            is_told: AtomicBool::new(false),
        }
    }

    pub(crate) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// What its requests say.
    pub(crate) fn scheme(&self) -> Scheme {
        self.tls.as_ref().map_or(Scheme::HTTP, |_| Scheme::HTTPS)
    }

    /// Opens a stream. The request is made when there is a connection, as a deadline goes on while one is waited for; there is
    /// none when it has passed.
    pub(crate) async fn open(
        &self,
        request: impl FnOnce(Instant) -> Option<Request<()>>,
        end: bool,
    ) -> Result<Opened, NoStream> {
        let link = self.link().await?;
        let mut send = link.send.clone().ready().await?;
        let request = request(Instant::now()).ok_or(NoStream::Expired)?;
        link.streams.fetch_add(1, Ordering::Relaxed);
        let mut guard = Guard {
            number: 0,
            last: link.last,
            streams: link.streams,
        };
        let (response, body) = send.send_request(request, end)?;
        guard.number = response.stream_id().as_u32();
        Ok(Opened {
            response,
            body,
            guard,
        })
    }

    async fn link(&self) -> Result<Link, NoStream> {
        let failures = self.failures.load(Ordering::Acquire);
        let mut links = self.open.lock().await;
        let version = self.version();
        // No new streams on what has said goodbye, is closed, or was made with roots that are no longer in use.
        links.retain_mut(|link| link.last.get() == u32::MAX && link.version == version && link.is_open());
        let count = |link: &&Link| link.streams.load(Ordering::Relaxed);
        let idlest = links.iter().min_by_key(count).cloned();
        match idlest {
            Some(link) if count(&&link) < STREAMS || links.len() >= LINKS_MAX => Ok(link),
            // Who has waited for an attempt that failed does not wait for another one as long.
            None if self.failures.load(Ordering::Acquire) != failures => Err(NoStream::Shared),
            Some(_) | None => {
                // Seldom done, and large: every call would carry the room for it.
                let link = Box::pin(self.connect()).await?;
                links.push(link.clone());
                Ok(link)
            }
        }
    }

    fn version(&self) -> u64 {
        self.tls.as_ref().map_or(0, |tls| (tls.trust)().1)
    }

    async fn connect(&self) -> Result<Link, NoStream> {
        let dialled = tokio::time::timeout(CONNECT_MAX, self.dial()).await;
        let dialled = dialled.unwrap_or(Err(NoStream::Late));
        match &dialled {
            Ok(_) => self.is_told.store(false, Ordering::Relaxed),
            Err(error) => {
                self.failures.fetch_add(1, Ordering::Release);
                metrics::counter!("steer_rpc_connects_failed_total", "cause" => error.cause()).increment(1);
                if !self.is_told.swap(true, Ordering::Relaxed) {
                    tracing::warn!(address = %self.address, %error, "no connection; told once until there is one");
                }
            }
        }
        dialled
    }

    async fn dial(&self) -> Result<Link, NoStream> {
        let stream = TcpStream::connect(self.address).await?;
        tune(&stream)?;
        let Some(Tls { trust, name }) = &self.tls else {
            return self.greet(stream, 0).await;
        };
        let (config, version) = trust();
        let stream = TlsConnector::from(config)
            .connect(name.clone(), stream)
            .await
            .map_err(NoStream::Tls)?;
        if stream.get_ref().1.alpn_protocol() != Some(b"h2") {
            return Err(NoStream::Alpn);
        }
        self.greet(stream, version).await
    }

    /// A connection is one when the peer has greeted: see [`goaway`].
    async fn greet<T>(&self, stream: T, version: u64) -> Result<Link, NoStream>
    where
        T: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let (stream, last) = Followed::new(stream);
        let mut greeting = stream.greeting();
        let (send, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS_MAX)
            .max_send_buffer_size(SEND_BUFFER_MAX)
            .handshake(stream)
            .await?;
        tokio::select! {
            ended = &mut connection => {
                ended?;
                return Err(NoStream::NoGreeting);
            }
            has_greeted = greeting.came() => if !has_greeted {
                return Err(NoStream::NoGreeting);
            }
        }
        let streams = Arc::new(AtomicUsize::new(0));
        let pings = connection.ping_pong();
        let driven = Driven {
            streams: streams.clone(),
            address: self.address,
            times: self.pings,
        };
        tokio::spawn(driven.drive(connection, pings));
        Ok(Link {
            send,
            last,
            streams,
            version,
        })
    }
}

impl Link {
    fn is_open(&mut self) -> bool {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        !matches!(self.send.poll_ready(&mut cx), std::task::Poll::Ready(Err(_)))
    }
}

/// Quick, and never silent for long.
pub(crate) fn tune(stream: &TcpStream) -> std::io::Result<()> {
    stream.set_nodelay(true)?;
    let socket = SockRef::from(stream);
    socket.set_tcp_user_timeout(Some(USER_TIMEOUT))?;
    socket.set_tcp_keepalive(
        &TcpKeepalive::new()
            .with_time(USER_TIMEOUT)
            .with_interval(USER_TIMEOUT / 4),
    )
}

/// A connection that is run to its end.
struct Driven {
    streams: Arc<AtomicUsize>,
    address: SocketAddr,
    times: KeepAlive,
}

impl Driven {
    async fn drive<T>(self, connection: Connection<Followed<T>, Bytes>, pings: Option<PingPong>)
    where
        T: AsyncRead + AsyncWrite + Unpin,
    {
        // Servers count pings of idle connections as abuse.
        let is_used = || self.streams.load(Ordering::Relaxed) > 0;
        let ended = tokio::select! {
            ended = connection => ended.err().map(|error| error.to_string()),
            () = keep_alive(pings, self.times, is_used) => {
                Some(format!("no answer to a ping within {:?}", self.times.wait))
            }
        };
        if let Some(why) = ended {
            metrics::counter!("steer_rpc_links_lost_total").increment(1);
            tracing::info!(address = %self.address, why, "a connection ended");
        }
    }
}

/// Ends when a ping is not answered. Asks only while `is_wanted`.
pub(crate) async fn keep_alive(pings: Option<PingPong>, times: KeepAlive, is_wanted: impl Fn() -> bool) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(times.every).await;
        if !is_wanted() {
            continue;
        }
        match tokio::time::timeout(times.wait, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection is ending by itself, and says why.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}
