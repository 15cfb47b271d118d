//! One backend: connections to it, opened when they are needed and given up when they do not answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{Connection, ResponseFuture, SendRequest};
use h2::{Ping, PingPong, SendStream};
use http::Request;
use socket2::{SockRef, TcpKeepalive};
use tokio::net::TcpStream;
use tokio::sync::Mutex;

use super::goaway::{Followed, LastStream};
use crate::fate::News;

/// Connections to one backend at most.
const LINKS_MAX: usize = 8;

/// Streams on a connection, before another one is opened.
const STREAMS: usize = 100;

/// How long a handshake may take.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A connection in use is asked this often whether it is there, and given up when it does not say so.
const PING_EVERY: Duration = Duration::from_secs(10);
const PING_MAX: Duration = Duration::from_secs(5);

/// Octets that are not acknowledged for so long break a connection (RFC 5482; `TCP_USER_TIMEOUT`).
pub(super) const USER_TIMEOUT: Duration = Duration::from_secs(10);

/// The window of a stream, and of a connection.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 8 << 20;

/// A backend.
#[derive(Debug)]
pub(super) struct Backend {
    address: SocketAddr,
    links: Mutex<Vec<Link>>,
}

/// A connection.
#[derive(Debug, Clone)]
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
}

/// A stream that was opened.
#[derive(Debug)]
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

impl Backend {
    pub(super) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            links: Mutex::default(),
        }
    }

    /// Opens a stream.
    pub(super) async fn open(&self, request: Request<()>, end: bool) -> Result<Opened, NoStream> {
        let link = self.link().await?;
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

    async fn link(&self) -> Result<Link, NoStream> {
        let mut links = self.links.lock().await;
        // No new streams on what has said goodbye or is closed.
        links.retain_mut(|link| link.last.get() == u32::MAX && link.is_open());
        let count = |link: &&Link| link.streams.load(Ordering::Relaxed);
        let idlest = links.iter().min_by_key(count).cloned();
        match idlest {
            Some(link) if count(&&link) < STREAMS || links.len() >= LINKS_MAX => Ok(link),
            Some(_) | None => {
                let link = self.connect().await?;
                links.push(link.clone());
                Ok(link)
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
        let (stream, last) = Followed::new(stream);
        let (send, mut connection) = h2::client::Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .handshake(stream)
            .await?;
        let streams = Arc::new(AtomicUsize::new(0));
        let pings = connection.ping_pong();
        tokio::spawn(drive(connection, pings, streams.clone(), self.address));
        Ok(Link { send, last, streams })
    }
}

impl Link {
    fn is_open(&mut self) -> bool {
        let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
        !matches!(self.send.poll_ready(&mut cx), std::task::Poll::Ready(Err(_)))
    }
}

/// Quick, and never silent for long: for both sides of the edge.
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

/// Runs a connection to its end.
async fn drive(
    connection: Connection<Followed<TcpStream>, Bytes>,
    pings: Option<PingPong>,
    streams: Arc<AtomicUsize>,
    address: SocketAddr,
) {
    let ended = tokio::select! {
        ended = connection => ended.err().map(|error| error.to_string()),
        () = keep_alive(pings, streams) => Some(format!("no answer to a ping within {PING_MAX:?}")),
    };
    if let Some(why) = ended {
        metrics::counter!("steer_rpc_links_lost_total").increment(1);
        tracing::info!(%address, why, "a connection to a backend ended");
    }
}

/// Ends when a ping is not answered. Asks only while there are streams, as servers count pings of idle connections as abuse.
async fn keep_alive(pings: Option<PingPong>, streams: Arc<AtomicUsize>) {
    let Some(mut pings) = pings else {
        return std::future::pending().await;
    };
    loop {
        tokio::time::sleep(PING_EVERY).await;
        if streams.load(Ordering::Relaxed) == 0 {
            continue;
        }
        match tokio::time::timeout(PING_MAX, pings.ping(Ping::opaque())).await {
            Ok(Ok(_)) => {}
            // The connection is ending by itself, and says why.
            Ok(Err(_)) => return std::future::pending().await,
            Err(_) => return,
        }
    }
}
