//! A passive route monitor: takes any peer on its listener, dials whom it is told to, never announces, and
//! reports what it hears.
//!
//! Every connection has a session of its own, whatever address it came from: several speakers on one host, as in
//! `steer quickstart`, are told apart by their BGP Identifiers.

mod heard;
mod recorder;
mod session;
mod table;

#[cfg(test)]
mod tests;

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use metrics::counter;
use steer_topology::Asn;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::session::Config;
use crate::speaker::bind_listener;
use session::Session;

pub use heard::{Attributes, BmpView, Heard, MonitorEvent, Rib, Source};
pub use recorder::Recorder;
pub use table::Only;
pub(crate) use table::{Table, TooMany};

/// Sessions at one time that others opened; more connections are closed at once and counted.
pub const MAX_SESSIONS: usize = 64;

/// Prefixes kept per session; more end the session (a monitor is no place for a full table, unless it is told
/// which prefixes count: [`Monitor::only`]).
pub const MAX_PREFIXES: usize = 100_000;

/// Hold time that we offer; the peer's shorter one wins.
const HOLD_TIME: Duration = Duration::from_secs(90);

/// Mean time between two attempts to dial a peer.
const CONNECT_RETRY: Duration = Duration::from_secs(5);

/// Wait after an accept error: such errors come in storms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A monitor whose listener, if any, is bound.
#[derive(Debug)]
pub struct Monitor {
    listener: Option<TcpListener>,
    dial: Vec<SocketAddr>,
    asn: Asn,
    router_id: Ipv4Addr,
    only: Only,
    record: Option<Recorder>,
}

impl Monitor {
    /// Binds the listener; must be called within the runtime.
    pub fn bind(listen: SocketAddr, asn: Asn, router_id: Ipv4Addr) -> io::Result<Self> {
        let listener = bind_listener(listen)?;
        Ok(Self {
            listener: Some(listener),
            ..Self::without_listener(asn, router_id)
        })
    }

    /// A monitor that only dials.
    #[must_use]
    pub fn without_listener(asn: Asn, router_id: Ipv4Addr) -> Self {
        Self {
            listener: None,
            dial: Vec::new(),
            asn,
            router_id,
            only: Only::default(),
            record: None,
        }
    }

    /// Dials these peers too, for ever.
    #[must_use]
    pub fn dialling(mut self, peers: &[SocketAddr]) -> Self {
        self.dial.extend_from_slice(peers);
        self
    }

    /// Looks at these prefixes and at no others.
    #[must_use]
    pub fn only(mut self, only: Only) -> Self {
        self.only = only;
        self
    }

    /// Hands every message and state to `recorder`, for MRT.
    #[must_use]
    pub fn recording(mut self, recorder: Recorder) -> Self {
        self.record = Some(recorder);
        self
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        match &self.listener {
            Some(listener) => listener.local_addr(),
            None => Err(io::Error::new(io::ErrorKind::NotConnected, "no listener")),
        }
    }

    /// Listens and dials until `shutdown`, then closes every session. A receiver that does not keep up slows the
    /// peers down; nothing is dropped.
    pub async fn run(mut self, events: mpsc::Sender<MonitorEvent>, shutdown: CancellationToken) {
        let mut dialled = JoinSet::new();
        for peer in std::mem::take(&mut self.dial) {
            let session = Session::dialling(peer, &self, events.clone(), shutdown.clone());
            dialled.spawn(session.run());
        }
        if let Some(listener) = self.listener.take() {
            self.accept(listener, events, &shutdown).await;
        }
        while dialled.join_next().await.is_some() {}
    }

    async fn accept(
        &self,
        listener: TcpListener,
        events: mpsc::Sender<MonitorEvent>,
        shutdown: &CancellationToken,
    ) {
        let mut sessions = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = sessions.join_next() => continue,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok(_) if sessions.len() >= MAX_SESSIONS => {
                    counter!("steer_anycast_monitor_refused_total").increment(1);
                }
                Ok((stream, _)) => {
                    let session = Session::accepted(stream, self, events.clone(), shutdown.clone());
                    if let Some(session) = session {
                        sessions.spawn(session.run());
                    }
                }
                Err(error) => {
                    warn!(%error, "the monitor cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        while sessions.join_next().await.is_some() {}
    }

    fn config(&self, passive: bool) -> Config {
        Config {
            hold_time: HOLD_TIME,
            connect_retry: CONNECT_RETRY,
            passive,
            ..Config::basic(self.asn, self.router_id)
        }
    }
}
