//! A passive route monitor: takes any peer on its listener, never announces, and reports what it hears.
//!
//! Every connection has a session of its own, whatever address it came from: several speakers on one host, as in
//! `steer quickstart`, are told apart by their BGP Identifiers.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use metrics::counter;
use serde::Serialize;
use steer_topology::{Asn, Prefix};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use crate::connection::Connection;
use crate::session::{Action, Config, Event, Negotiated, Peer, SessionId};
use crate::speaker::bind_listener;
use crate::wire::{self, Reason, Update};

/// Sessions at one time; more connections are closed at once and counted.
pub const MAX_SESSIONS: usize = 64;

/// Prefixes kept per session; more end the session (a monitor is no place for a full table).
pub const MAX_PREFIXES: usize = 100_000;

/// Hold time that we offer; the peer's shorter one wins.
const HOLD_TIME: Duration = Duration::from_secs(90);

/// Wait after an accept error: such errors come in storms.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Who said it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Source {
    /// The peer's end of the TCP connection.
    pub remote: SocketAddr,
    /// Its AS number.
    pub asn: Asn,
    /// Its BGP Identifier.
    pub peer_id: Ipv4Addr,
}

/// What the monitor heard, and when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct MonitorEvent {
    /// When the octets were read.
    pub at: Timestamp,
    /// From whom.
    pub from: Source,
    /// What.
    #[serde(flatten)]
    pub heard: Heard,
}

/// What a peer said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Heard {
    /// The session is up.
    SessionUp,
    /// The session is over; every route of it is gone (reported as withdrawn first).
    SessionDown {
        /// Why, for people.
        reason: String,
    },
    /// A route is new or has changed.
    Announced {
        /// The prefix.
        prefix: Prefix,
        /// Where packets should go.
        next_hop: IpAddr,
        /// AS numbers, nearest first.
        as_path: Vec<u32>,
    },
    /// A route is gone.
    Withdrawn {
        /// The prefix.
        prefix: Prefix,
    },
}

/// A monitor whose listener is bound.
#[derive(Debug)]
pub struct Monitor {
    listener: TcpListener,
    asn: Asn,
    router_id: Ipv4Addr,
}

impl Monitor {
    /// Binds the listener; must be called within the runtime.
    pub fn bind(listen: SocketAddr, asn: Asn, router_id: Ipv4Addr) -> io::Result<Self> {
        Ok(Self {
            listener: bind_listener(listen)?,
            asn,
            router_id,
        })
    }

    /// Where it listens.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Listens until `shutdown`, then closes every session. A receiver that does not keep up slows the peers
    /// down; nothing is dropped.
    pub async fn run(self, events: mpsc::Sender<MonitorEvent>, shutdown: CancellationToken) {
        let mut sessions = JoinSet::new();
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = sessions.join_next() => continue,
                accepted = self.listener.accept() => accepted,
            };
            match accepted {
                Ok(_) if sessions.len() >= MAX_SESSIONS => {
                    counter!("steer_anycast_monitor_refused_total").increment(1);
                }
                Ok((stream, _)) => {
                    let listening = Listening::new(self.config(), events.clone(), shutdown.clone());
                    sessions.spawn(listening.run(stream));
                }
                Err(error) => {
                    warn!(%error, "the monitor cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        while sessions.join_next().await.is_some() {}
    }

    fn config(&self) -> Config {
        Config {
            hold_time: HOLD_TIME,
            connect_retry: HOLD_TIME,
            passive: true,
            ..Config::basic(self.asn, self.router_id)
        }
    }
}

/// One connection with its session.
struct Listening {
    machine: Peer,
    events: mpsc::Sender<MonitorEvent>,
    /// There while the session is up.
    from: Option<Source>,
    routes: BTreeSet<Prefix>,
    shutdown: CancellationToken,
    over: bool,
}

impl Listening {
    fn new(config: Config, events: mpsc::Sender<MonitorEvent>, shutdown: CancellationToken) -> Self {
        // The seed only jitters keepalives; nothing of a monitor needs to be unpredictable.
        Self {
            machine: Peer::new(config, 0),
            events,
            from: None,
            routes: BTreeSet::new(),
            shutdown,
            over: false,
        }
    }

    async fn run(mut self, stream: TcpStream) {
        let now = Instant::now();
        self.machine.handle(Event::Start, now);
        let Ok(id) = self.machine.accept(now) else { return };
        let Ok(mut connection) = Connection::new(id, stream) else {
            return;
        };
        while !self.over {
            self.act(&mut connection).await;
            let deadline = self
                .machine
                .next_deadline()
                .unwrap_or_else(|| Instant::now() + HOLD_TIME);
            tokio::select! {
                () = self.shutdown.cancelled() => {
                    let (reason, text) = (Reason::AdministrativeShutdown, "the route monitor stops".to_owned());
                    self.machine.handle(Event::Stop { reason, text }, Instant::now());
                }
                () = connection.ready() => self.pump(&mut connection),
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.pump(&mut connection); // what has come before the deadline counts
                    self.machine.on_deadline(Instant::now());
                }
            }
        }
        connection.close().await;
    }

    fn pump(&mut self, connection: &mut Connection) {
        let now = Instant::now();
        let id = connection.id;
        let read = connection.flush().and_then(|()| connection.fill());
        loop {
            match connection.next_frame(self.machine.frame_limit(id)) {
                Ok(Some(frame)) => self.machine.handle(Event::Frame(id, frame), now),
                Ok(None) => break,
                Err(malformed) => return self.machine.handle(Event::Malformed(id, malformed), now),
            }
        }
        if let Err(error) = read {
            self.machine.handle(Event::Lost(id, error.to_string()), now);
        }
    }

    async fn act(&mut self, connection: &mut Connection) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::SendOpen(_, open) => connection.queue(&wire::encode_open(&open)),
                Action::SendKeepalive(_) => connection.queue(&wire::encode_keepalive()),
                Action::SendNotification(_, notification) => {
                    connection.queue(&wire::encode_notification(&notification));
                }
                Action::Up(_, negotiated) => self.up(connection, &negotiated).await,
                Action::Inbound(id, update) => self.hear(id, *update).await,
                Action::Ended { end, .. } => self.down(end.to_string()).await,
                Action::Close(_) => self.over = true,
                // A passive machine dials nothing, and we have no routes to send again.
                Action::Dial(_) | Action::Refresh(..) => {}
                Action::Demarcation(..) => {} // never asked for
            }
        }
        if let Err(error) = connection.flush() {
            self.machine
                .handle(Event::Lost(connection.id, error.to_string()), Instant::now());
        }
    }

    async fn up(&mut self, connection: &Connection, negotiated: &Negotiated) {
        let Negotiated {
            peer_asn: asn,
            peer_id,
            ..
        } = *negotiated;
        self.from = Some(Source {
            remote: connection.remote,
            asn,
            peer_id,
        });
        self.tell(Heard::SessionUp).await;
    }

    async fn down(&mut self, reason: String) {
        for prefix in std::mem::take(&mut self.routes) {
            self.tell(Heard::Withdrawn { prefix }).await;
        }
        self.tell(Heard::SessionDown { reason }).await;
        self.from = None;
        self.over = true;
    }

    async fn hear(&mut self, id: SessionId, update: Update) {
        let Update {
            withdrawn,
            reachable,
            path,
            leaked: _,
            faults: _,
            end_of_rib: _,
        } = update;
        for prefix in withdrawn {
            if self.routes.remove(&prefix) {
                self.tell(Heard::Withdrawn { prefix }).await;
            }
        }
        let as_path: Vec<u32> = path.iter().flat_map(wire::Path::asns).collect();
        for reach in reachable {
            for prefix in reach.prefixes {
                self.routes.insert(prefix);
                let next_hop = reach.next_hop.address;
                self.tell(Heard::Announced {
                    prefix,
                    next_hop,
                    as_path: as_path.clone(),
                })
                .await;
            }
        }
        if self.routes.len() > MAX_PREFIXES {
            let text = format!("more than {MAX_PREFIXES} prefixes");
            let malformed = wire::Malformed::new(Reason::MaximumPrefixes, &[], text);
            self.machine
                .handle(Event::Malformed(id, malformed), Instant::now());
        }
    }

    async fn tell(&self, heard: Heard) {
        let Some(from) = self.from else { return };
        let event = MonitorEvent {
            at: Timestamp::now(),
            from,
            heard,
        };
        tokio::select! {
            biased;
            // A receiver that is gone wants to hear no more; the session goes on until the shutdown.
            _ = self.events.send(event) => {}
            // The queue is full and we are told to stop: what is left is not worth waiting for.
            () = self.shutdown.cancelled() => {}
        }
    }
}
