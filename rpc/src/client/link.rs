//! Connections to one address of a target: opened when they are needed, given up when they do not answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio_rustls::TlsConnector;

use crate::edge::goaway::{Followed, LastStream};
use crate::edge::tune;
use crate::fate::News;

/// Connections to one address at most.
const LINKS_MAX: usize = 8;

/// Streams on a connection, before another one is opened.
const STREAMS: usize = 100;

/// How long connecting may take, with the handshakes of TLS and HTTP/2.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// The window of a stream, and of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// Octets of the headers of one answer.
const HEADERS_MAX: u32 = 64 << 10;

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

/// TLS to a target: whom we trust and who we are, and whom we want to speak to.
pub(super) type Tls = (Arc<ClientConfig>, ServerName<'static>);

/// The connections to an address.
pub(super) struct Links {
    address: SocketAddr,
    tls: Option<Tls>,
    pings: KeepAlive,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    links: Vec<Link>,
    /// When connecting failed last, and why: whoever was waiting for that is told the same and tries not anew.
    failed: Option<(Instant, String)>,
}

#[derive(Clone)]
struct Link {
    send: SendRequest<Bytes>,
    last: LastStream,
    streams: Arc<AtomicUsize>,
}

/// Why no stream could be opened. Nothing was sent.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoStream {
    #[error("no connection: {0}")]
    Io(#[from] std::io::Error),
    #[error("no connection within {CONNECT_MAX:?}")]
    Late,
    #[error("no stream: {0}")]
    Http(#[from] h2::Error),
    #[error("{0}")]
    Shared(String),
}

/// A stream that was opened.
pub(super) struct Opened {
    pub(super) response: ResponseFuture,
    pub(super) body: SendStream<Bytes>,
    pub(super) guard: Guard,
}

/// Counts a stream for as long as it lives, and tells what an error of it means.
#[derive(Debug)]
pub(super) struct Guard {
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
    pub(super) fn news(&self, error: &h2::Error) -> News {
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
    pub(super) fn new(address: SocketAddr, tls: Option<Tls>, pings: KeepAlive) -> Self {
        Self {
            address,
            tls,
            pings,
            open: Mutex::default(),
        }
    }

    pub(super) const fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens a stream.
    pub(super) async fn open(&self, request: Request<()>, end: bool) -> Result<Opened, NoStream> {
        let link = self.link(Instant::now()).await?;
        let mut send = link.send.clone().ready().await?;
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

    async fn link(&self, asked: Instant) -> Result<Link, NoStream> {
        let mut open = self.open.lock().await;
        // No new streams on what has said goodbye or is closed.
        open.links
            .retain_mut(|link| link.last.get() == u32::MAX && link.is_open());
        let count = |link: &&Link| link.streams.load(Ordering::Relaxed);
        let idlest = open.links.iter().min_by_key(count).cloned();
        match idlest {
            Some(link) if count(&&link) < STREAMS || open.links.len() >= LINKS_MAX => Ok(link),
            Some(_) | None => {
                if let Some((at, why)) = &open.failed
                    && *at >= asked
                {
                    return Err(NoStream::Shared(why.clone()));
                }
                let connected = self.connect().await;
                match connected {
                    Ok(link) => {
                        open.links.push(link.clone());
                        Ok(link)
                    }
                    Err(error) => {
                        open.failed = Some((Instant::now(), error.to_string()));
                        Err(error)
                    }
                }
            }
        }
    }

    async fn connect(&self) -> Result<Link, NoStream> {
        let dialled = tokio::time::timeout(CONNECT_MAX, self.dial()).await;
        dialled.unwrap_or(Err(NoStream::Late))
    }

    async fn dial(&self) -> Result<Link, NoStream> {
        let stream = TcpStream::connect(self.address).await?;
        tune(&stream)?;
        match &self.tls {
            None => self.shake(stream).await,
            Some((config, name)) => {
                let connector = TlsConnector::from(config.clone());
                self.shake(connector.connect(name.clone(), stream).await?).await
            }
        }
    }

    async fn shake(
        &self,
        stream: impl AsyncRead + AsyncWrite + Send + Unpin + 'static,
    ) -> Result<Link, NoStream> {
        let (stream, last) = Followed::new(stream);
        let (send, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(HEADERS_MAX)
            .handshake(stream)
            .await?;
        let streams = Arc::new(AtomicUsize::new(0));
        let pings = connection.ping_pong();
        let (address, counted, times) = (self.address, streams.clone(), self.pings);
        tokio::spawn(async move {
            let ended = tokio::select! {
                ended = connection => ended.err().map(|error| error.to_string()),
                () = keep_alive(pings, counted, times) => {
                    Some(format!("no answer to a ping within {:?}", times.wait))
                }
            };
            if let Some(why) = ended {
                metrics::counter!("steer_rpc_links_lost_total").increment(1);
                tracing::info!(%address, why, "a connection to a target ended");
            }
        });
        Ok(Link { send, last, streams })
    }
}

impl Link {
    fn is_open(&mut self) -> bool {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        !matches!(self.send.poll_ready(&mut cx), std::task::Poll::Ready(Err(_)))
    }
}

/// Ends when a ping is not answered. Asks only while there are streams, as servers count pings of idle connections as abuse.
async fn keep_alive(pings: Option<PingPong>, streams: Arc<AtomicUsize>, times: KeepAlive) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(times.every).await;
        if streams.load(Ordering::Relaxed) == 0 {
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
