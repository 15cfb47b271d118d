//! The listener for routers that tell by BMP: one task per connection around a [`Reader`].

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::BytesMut;
use jiff::Timestamp;
use metrics::counter;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::message::take_message;
use super::reader::Reader;
use crate::monitor::{MonitorEvent, Only};
use crate::speaker::bind_listener;

/// Routers at one time; more connections are closed at once and counted.
const MAX_ROUTERS: usize = 64;

/// Octets read per turn.
const READ_CHUNK: usize = 64 * 1024;

/// Wait after an accept error: such errors come in storms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A receiver whose listener is bound.
#[derive(Debug)]
pub struct Receiver {
    listener: TcpListener,
    only: Only,
}

impl Receiver {
    /// Binds the listener; must be called within the runtime.
    pub fn bind(listen: SocketAddr, only: Only) -> io::Result<Self> {
        let listener = bind_listener(listen)?;
        Ok(Self { listener, only })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Listens until `shutdown`. A receiver of events that does not keep up slows the routers down; nothing is
    /// dropped here.
    pub async fn run(self, events: mpsc::Sender<MonitorEvent>, shutdown: CancellationToken) {
        let mut routers = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = routers.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok(_) if routers.len() >= MAX_ROUTERS => {
                    counter!("steer_anycast_bmp_refused_total").increment(1);
                }
                Ok((stream, from)) => {
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    let reader = Reader::new(from, self.only.clone());
                    routers.spawn(hear(reader, from, stream, events.clone(), shutdown.clone()));
                }
                Err(error) => {
                    warn!(%error, "the BMP receiver cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        while routers.join_next().await.is_some() {}
    }
}

/// One router from beginning to end.
async fn hear(
    mut reader: Reader,
    router: SocketAddr,
    mut stream: TcpStream,
    events: mpsc::Sender<MonitorEvent>,
    shutdown: CancellationToken,
) {
    info!(%router, "a router tells by BMP");
    let reason = tokio::select! {
        () = shutdown.cancelled() => "the monitor stops".to_owned(),
        reason = hear_all(&mut reader, &mut stream, &events) => reason,
    };
    info!(%router, name = reader.name(), %reason, skipped = ?reader.skipped(), "BMP connection over");
    for event in reader.end(&reason, Timestamp::now()) {
        tokio::select! {
            biased;
            // A receiver that is gone wants to hear no more.
            _ = events.send(event) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

/// Reads until the connection cannot go on; says why.
async fn hear_all(
    reader: &mut Reader,
    stream: &mut TcpStream,
    events: &mpsc::Sender<MonitorEvent>,
) -> String {
    let mut inbox = BytesMut::new();
    loop {
        inbox.reserve(READ_CHUNK);
        match stream.read_buf(&mut inbox).await {
            Ok(0) => return "the router closed the connection".to_owned(),
            Ok(_) => {}
            Err(error) => return error.to_string(),
        }
        loop {
            let heard = match take_message(&mut inbox) {
                Ok(Some(message)) => reader.on_message(message, Timestamp::now()),
                Ok(None) => break,
                Err(malformed) => return malformed.to_string(),
            };
            match heard {
                Ok(heard) => {
                    for event in heard {
                        let _ = events.send(event).await; // as above
                    }
                }
                Err(reason) => return reason,
            }
        }
    }
}
