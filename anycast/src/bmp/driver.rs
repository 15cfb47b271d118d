//! The driver of one collector: dials it, tells it what the exporter says, and begins anew when that breaks.
//!
//! What waits for a slow collector is bounded twice: by [`ROOM`] octets here and by the queue of the tap. When
//! that is full the tap cuts us off; the connection is closed, and the next one begins with a full dump.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use jiff::Timestamp;
use metrics::{counter, gauge};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::Serialize;
use steer_topology::Bmp;
use tokio::io::Interest;
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::exporter::{Exporter, Identity};
use crate::tap::{Tap, Watcher};

/// Octets that may wait for the socket before no more is taken from the tap.
const ROOM: usize = 256 * 1024;

/// How often the statistics are reported. RFC 7854 §4.8 leaves it to us.
const STATISTICS: Duration = Duration::from_secs(60);

/// A connection attempt may take so long.
const CONNECT_LIMIT: Duration = Duration::from_secs(10);

/// The last words may take so long.
const STOP_LIMIT: Duration = Duration::from_secs(1);

/// Octets that nobody acknowledges for so long end the connection: the collector's host is gone.
const DEAD_AFTER: Duration = Duration::from_secs(60);

/// RFC 7854 §3.2: the wait between attempts grows to 720 s.
const MAX_WAIT: Duration = Duration::from_secs(720);

/// A connection that stood so long was a good one: the next wait is the short one again.
const STABLE: Duration = Duration::from_secs(10);

const STOP_TEXT: &str = "steer stops";

/// One collector, for people and machines.
#[derive(Debug, Clone, Serialize)]
pub struct CollectorStatus {
    /// As configured.
    pub address: SocketAddr,
    /// Where the connection stands.
    pub state: CollectorState,
    /// Since when.
    pub since: Timestamp,
    /// Why there is or was no connection.
    pub last_error: Option<String>,
    /// Messages told, over all connections.
    pub messages: u64,
    /// How often it did not keep up and had to begin anew.
    pub cut_off: u64,
}

/// Where a connection to a collector stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
#[expect(missing_docs, reason = "the names say it")]
pub enum CollectorState {
    Connecting,
    Up,
    Waiting,
    Stopped,
}

/// One collector with all that its task needs.
#[derive(Debug)]
pub(crate) struct Export {
    bmp: Bmp,
    identity: Identity,
    tap: Arc<Tap>,
    status: Arc<Mutex<CollectorStatus>>,
}

impl Export {
    pub(crate) fn new(bmp: Bmp, identity: Identity, tap: Arc<Tap>) -> Self {
        let status = CollectorStatus {
            address: bmp.address,
            state: CollectorState::Connecting,
            since: Timestamp::now(),
            last_error: None,
            messages: 0,
            cut_off: 0,
        };
        Self {
            bmp,
            identity,
            tap,
            status: Arc::new(Mutex::new(status)),
        }
    }

    /// Stays readable while and after [`export`] runs.
    pub(crate) fn status(&self) -> Arc<Mutex<CollectorStatus>> {
        Arc::clone(&self.status)
    }

    fn locked(&self) -> MutexGuard<'_, CollectorStatus> {
        self.status.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note(&self, state: CollectorState, error: Option<&str>) {
        let mut status = self.locked();
        if status.state != state {
            (status.state, status.since) = (state, Timestamp::now());
        }
        if let Some(error) = error {
            status.last_error = Some(error.to_owned());
        }
        drop(status);
        let up = if state == CollectorState::Up { 1.0 } else { 0.0 };
        gauge!("steer_anycast_bmp_up", "collector" => self.bmp.address.to_string()).set(up);
    }
}

/// Why a connection ended.
enum Ended {
    /// We were told to stop, and have said so.
    Stopped,
    /// The tap has cut us off.
    CutOff,
    /// The network, or the collector.
    Lost(String),
}

/// Tells one collector until `shutdown`.
pub(crate) async fn export(export: Export, seed: u64, shutdown: CancellationToken) {
    let mut wait = Wait::new(export.bmp.connect_retry, seed);
    let collector = export.bmp.address;
    let mut logged = None;
    while !shutdown.is_cancelled() {
        export.note(CollectorState::Connecting, None);
        let mut stood = Duration::ZERO;
        let ended = tokio::select! {
            () = shutdown.cancelled() => break,
            connected = connect(collector) => match connected {
                Ok(stream) => {
                    logged = None;
                    let started = Instant::now();
                    let ended = tell(&export, stream, &shutdown).await;
                    stood = started.elapsed();
                    ended
                }
                Err(error) => Ended::Lost(format!("cannot connect: {error}")),
            },
        };
        let reason = match ended {
            Ended::Stopped => break,
            Ended::CutOff => {
                counter!("steer_anycast_bmp_cut_off_total", "collector" => collector.to_string())
                    .increment(1);
                export.locked().cut_off += 1;
                "it did not keep up; closed, to begin anew with a full dump".to_owned()
            }
            Ended::Lost(reason) => reason,
        };
        export.note(CollectorState::Waiting, Some(&reason));
        if logged.as_ref() == Some(&reason) {
            debug!(%collector, %reason, "still no BMP collector");
        } else {
            warn!(%collector, %reason, "no BMP collector");
        }
        logged = Some(reason);
        let wait = wait.next(stood);
        tokio::select! {
            () = shutdown.cancelled() => {}
            () = tokio::time::sleep(wait) => {}
        }
    }
    export.note(CollectorState::Stopped, None);
}

/// The growing wait between attempts.
struct Wait {
    first: Duration,
    next: Duration,
    rng: StdRng,
}

impl Wait {
    fn new(first: Duration, seed: u64) -> Self {
        let rng = StdRng::seed_from_u64(seed);
        Self {
            first,
            next: first,
            rng,
        }
    }

    /// `stood` is how long the last connection stood.
    fn next(&mut self, stood: Duration) -> Duration {
        if stood >= STABLE {
            self.next = self.first;
        }
        let wait = self.next;
        self.next = (wait * 2).min(MAX_WAIT.max(self.first));
        wait.mul_f64(self.rng.random_range(0.75..=1.0))
    }
}

async fn connect(collector: SocketAddr) -> io::Result<TcpStream> {
    let connected = tokio::time::timeout(CONNECT_LIMIT, TcpStream::connect(collector)).await;
    let stream = connected.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    stream.set_nodelay(true)?;
    let socket = socket2::SockRef::from(&stream);
    socket.set_tcp_user_timeout(Some(DEAD_AFTER))?;
    let probes = socket2::TcpKeepalive::new()
        .with_time(DEAD_AFTER / 2)
        .with_interval(DEAD_AFTER / 6);
    socket.set_tcp_keepalive(&probes)?; // BMP has no keepalive of its own
    Ok(stream)
}

/// One connection from beginning to end.
async fn tell(export: &Export, stream: TcpStream, shutdown: &CancellationToken) -> Ended {
    let (standing, mut watcher) = export.tap.follow();
    let (sessions, cut_off) = (standing.len(), watcher.cut_off());
    let (mut exporter, first) = Exporter::begin(&export.identity, standing);
    let mut telling = Telling {
        stream,
        out: BytesMut::new(),
        messages: 0,
    };
    telling.queue(first);
    export.note(CollectorState::Up, None);
    info!(collector = %export.bmp.address, sessions, "telling a BMP collector");
    let mut statistics = tokio::time::interval_at(tokio::time::Instant::now() + STATISTICS, STATISTICS);
    let ended = loop {
        if let Err(error) = telling.flush() {
            break Ended::Lost(error.to_string());
        }
        tokio::select! {
            () = shutdown.cancelled() => {
                telling.stop(&mut exporter, &mut watcher).await;
                break Ended::Stopped;
            }
            () = cut_off.cancelled() => break Ended::CutOff,
            read = telling.ready() => if let Err(error) = read { break Ended::Lost(error.to_string()) },
            tapped = watcher.next(), if telling.out.len() < ROOM => telling.queue(exporter.on(tapped)),
            _ = statistics.tick(), if telling.out.len() < ROOM => {
                telling.queue(exporter.statistics(&export.tap.counts(), Timestamp::now()));
            }
        }
        telling.count(export);
    };
    telling.count(export);
    ended
}

/// One connection with what waits for it.
struct Telling {
    stream: TcpStream,
    out: BytesMut,
    /// Since they were counted last.
    messages: u64,
}

impl Telling {
    fn queue(&mut self, messages: impl IntoIterator<Item = bytes::Bytes>) {
        for message in messages {
            self.out.extend_from_slice(&message);
            self.messages += 1;
        }
    }

    fn count(&mut self, export: &Export) {
        let told = std::mem::take(&mut self.messages);
        if told != 0 {
            let collector = export.bmp.address.to_string();
            counter!("steer_anycast_bmp_messages_total", "collector" => collector).increment(told);
            export.locked().messages += told;
        }
    }

    /// Writes what the socket takes now.
    fn flush(&mut self) -> io::Result<()> {
        while !self.out.is_empty() {
            match self.stream.try_write(&self.out) {
                Ok(written) => drop(self.out.split_to(written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Waits until the socket takes more or has said something. RFC 7854 §3.2: what a collector says is ignored.
    async fn ready(&self) -> io::Result<()> {
        let interest = if self.out.is_empty() {
            Interest::READABLE
        } else {
            Interest::READABLE | Interest::WRITABLE
        };
        let ready = self.stream.ready(interest).await?;
        if ready.is_readable() {
            match self.stream.try_read(&mut [0; 4096]) {
                Ok(0) => return Err(io::Error::other("the collector closed the connection")),
                Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
                Ok(_) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// Tells the rest and says goodbye.
    async fn stop(&mut self, exporter: &mut Exporter, watcher: &mut Watcher) {
        while let Some(tapped) = watcher.try_next() {
            self.queue(exporter.on(tapped));
        }
        self.queue([Exporter::end(STOP_TEXT)]);
        let polite = async {
            while !self.out.is_empty() {
                self.stream.writable().await?;
                self.flush()?;
            }
            tokio::io::AsyncWriteExt::shutdown(&mut self.stream).await
        };
        // Late or failed, the connection ends here.
        let _ = tokio::time::timeout(STOP_LIMIT, polite).await;
    }
}
