//! The task of one peer: sockets and clock around [`crate::session::Peer`] and [`Reconciler`].
//!
//! One loop, one wait. What waits for a blocked socket is at most [`BACKLOG`] octets; beyond that nothing is
//! encoded, and when the socket takes octets again the difference is computed anew, from the newest wish.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use metrics::{counter, gauge};
use steer_topology::{Asn, Peer, Prefix};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::RESYNC;
use super::status::{PeerStatus, RouteStatus, SessionStatus, SpeakerStatus, locked};
use crate::connection::{Connection, any_ready};
use crate::reconcile::{Batch, Reconciler, Terms};
use crate::session::{self, Action, Config, End, Event, Negotiated, Refusal, SessionId, State};
use crate::tap::Tap;
use crate::wanted::Wanted;
use crate::wire::{self, Kind, Notification, Reason, Update};

/// Octets that may wait for the socket before we stop encoding.
const BACKLOG: usize = 64 * 1024;

/// The whole orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Closed connections that may still be flushing; more are dropped at once.
const MAX_CLOSING: usize = 8;

/// RFC 9003 text of the orderly end.
const STOP_TEXT: &str = "steer stops";

type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

pub(super) struct PeerTask {
    peer: Peer,
    label: String,
    index: usize,
    local_asn: Asn,
    machine: session::Peer,
    dial: Option<(SessionId, Dial)>,
    connections: Vec<Connection>,
    closing: JoinSet<()>,
    /// There while the session is up.
    up: Option<(SessionId, Reconciler)>,
    wanted: Arc<Wanted>,
    /// Something may differ between wanted and announced.
    unsettled: bool,
    status: Arc<SpeakerStatus>,
    tap: Arc<Tap>,
    /// The last end that was logged; the same again is not.
    logged: Option<End>,
}

impl PeerTask {
    pub(super) fn new(
        peer: Peer,
        index: usize,
        local_asn: Asn,
        router_id: Ipv4Addr,
        status: Arc<SpeakerStatus>,
        tap: Arc<Tap>,
        seed: u64,
    ) -> Self {
        let config = Config {
            local_asn,
            router_id,
            peer_asn: Some(peer.asn),
            hold_time: peer.hold_time,
            connect_retry: peer.connect_retry,
            passive: peer.passive,
        };
        Self {
            label: peer.address.to_string(),
            peer,
            index,
            local_asn,
            machine: session::Peer::new(config, seed),
            dial: None,
            connections: Vec::new(),
            closing: JoinSet::new(),
            up: None,
            wanted: Arc::default(),
            unsettled: true,
            status,
            tap,
            logged: None,
        }
    }

    pub(super) async fn run(
        mut self,
        mut wanted: watch::Receiver<Arc<Wanted>>,
        mut accepted: mpsc::Receiver<TcpStream>,
        shutdown: CancellationToken,
    ) {
        self.wanted = Arc::clone(&wanted.borrow_and_update());
        self.machine.handle(Event::Start, Instant::now());
        let mut resync = tokio::time::interval(RESYNC);
        loop {
            self.turn();
            let deadline = self.machine.next_deadline();
            tokio::select! {
                () = shutdown.cancelled() => break,
                changed = wanted.changed() => {
                    if changed.is_err() { break }
                    self.wanted = Arc::clone(&wanted.borrow_and_update());
                    self.unsettled = true;
                }
                () = any_ready(&self.connections) => self.pump(),
                (id, result) = dialled(&mut self.dial) => self.on_dialled(id, result),
                Some(stream) = accepted.recv() => self.on_accepted(stream),
                () = until(deadline) => {
                    self.pump(); // what has come before the deadline counts
                    self.machine.on_deadline(Instant::now());
                }
                _ = resync.tick() => self.unsettled = true,
            }
        }
        self.stop().await;
    }

    /// After every wake-up, whatever it was: does what the machine asks for, brings announced to wanted.
    fn turn(&mut self) {
        self.act();
        if self.unsettled {
            self.reconcile();
            self.act(); // a failed write is news for the machine
        }
        self.note_state();
    }

    async fn stop(mut self) {
        self.wanted = Arc::new(self.wanted.nothing());
        self.reconcile();
        let (reason, text) = (Reason::AdministrativeShutdown, STOP_TEXT.to_owned());
        self.machine.handle(Event::Stop { reason, text }, Instant::now());
        self.act();
        self.note_state();
        let closed = async { while self.closing.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, closed).await.is_err() {
            warn!(peer = %self.label, "the peer did not take our last messages in time");
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Dial(id) => self.dial = Some((id, Box::pin(dial(self.peer.clone())))),
                Action::SendOpen(id, open) => self.send(id, Kind::Open, &wire::encode_open(&open)),
                Action::SendKeepalive(id) => self.send_keepalive(id),
                Action::SendNotification(id, notification) => {
                    self.count_notification(&notification, "out");
                    self.send(id, Kind::Notification, &wire::encode_notification(&notification));
                }
                Action::Close(id) => self.close(id),
                Action::Up(id, negotiated) => self.on_up(id, &negotiated),
                Action::Ended { id, established, end } => self.on_ended(id, established, end),
                Action::Refresh(id, family) => {
                    info!(peer = %self.label, %family, "the peer asks for our routes again");
                    if let Some((_, reconciler)) = self.up.as_mut().filter(|(up, _)| *up == id) {
                        reconciler.refresh(family);
                        self.unsettled = true;
                    }
                }
                Action::Inbound(_, update) => self.on_inbound(&update),
            }
        }
    }

    /// Reads from every connection and hands whole messages to the machine.
    fn pump(&mut self) {
        for index in 0..self.connections.len() {
            self.pump_one(index);
        }
    }

    fn pump_one(&mut self, index: usize) {
        let Some(connection) = self.connections.get_mut(index) else {
            return;
        };
        let (now, id) = (Instant::now(), connection.id);
        // What was read counts before what failed: it may say why.
        let result = connection.flush().and(connection.fill());
        let mut frames = Vec::new();
        let malformed = loop {
            match connection.next_frame() {
                Ok(Some(frame)) => {
                    self.tap.received(self.index, connection, &frame);
                    frames.push(frame);
                }
                Ok(None) => break None,
                Err(malformed) => break Some(malformed),
            }
        };
        for frame in frames {
            self.count_in(frame.kind);
            self.machine.handle(Event::Frame(id, frame), now);
        }
        if let Some(malformed) = malformed {
            self.machine.handle(Event::Malformed(id, malformed), now);
        } else if let Err(error) = result {
            self.machine.handle(Event::Lost(id, error.to_string()), now);
        }
    }

    fn on_dialled(&mut self, id: SessionId, result: io::Result<TcpStream>) {
        self.dial = None;
        let event = match result.and_then(|stream| Connection::new(id, stream)) {
            Ok(connection) => {
                self.connections.push(connection);
                Event::Connected(id)
            }
            Err(error) => {
                let address = SocketAddr::new(self.peer.address, self.peer.port);
                Event::Lost(id, format!("cannot connect to {address}: {error}"))
            }
        };
        self.machine.handle(event, Instant::now());
    }

    fn on_accepted(&mut self, stream: TcpStream) {
        let accepted = self.machine.accept(Instant::now());
        let id = *accepted.as_ref().unwrap_or(&SessionId(0));
        let Ok(mut connection) = Connection::new(id, stream) else {
            return self.machine.handle(
                Event::Lost(id, "connection lost at once".to_owned()),
                Instant::now(),
            );
        };
        match accepted {
            Ok(_) => {
                self.connections.push(connection);
                self.act(); // sends our OPEN, and closes an older connection: two at most stay
            }
            Err(refusal) => {
                let (reason, cause) = match refusal {
                    Refusal::Established => (Reason::ConnectionCollision, "established"),
                    Refusal::Damped => (Reason::ConnectionRejected, "damped"),
                    Refusal::Stopped => (Reason::ConnectionRejected, "stopped"),
                };
                debug!(peer = %self.label, cause, "connection refused");
                counter!("steer_anycast_connections_refused_total", "cause" => cause).increment(1);
                connection.queue(&wire::encode_notification(&Notification::bare(reason)));
                self.linger(connection);
            }
        }
    }

    fn on_up(&mut self, id: SessionId, negotiated: &Negotiated) {
        let Some(connection) = self.connections.iter().find(|connection| connection.id == id) else {
            return;
        };
        let terms = Terms::of(negotiated, self.local_asn, connection.local.ip());
        let session = SessionStatus {
            local: connection.local,
            remote: connection.remote,
            peer_id: negotiated.peer_id,
            hold_time_s: negotiated.hold_time.as_secs(),
            families: negotiated.families.iter().collect(),
            four_octet_as: negotiated.four_octet,
            internal: negotiated.internal,
        };
        info!(
            peer = %self.label, peer_id = %session.peer_id, local = %session.local, remote = %session.remote,
            hold_time_s = session.hold_time_s, families = ?session.families, "session established"
        );
        self.tap.up(self.index, connection, negotiated);
        self.logged = None;
        self.up = Some((id, Reconciler::new(terms)));
        self.unsettled = true;
        let mut status = self.status();
        status.session = Some(session);
        status.prefixes_in = 0;
    }

    fn on_ended(&mut self, id: SessionId, established: bool, end: End) {
        let cause = end.cause();
        counter!("steer_anycast_session_ends_total", "peer" => self.label.clone(), "cause" => cause)
            .increment(1);
        if let End::Notified(notification) = &end {
            self.count_notification(notification, "in");
        }
        self.tap.ended(self.index, id, &end);
        if self.up.as_ref().is_some_and(|(up, _)| *up == id) {
            self.up = None;
            self.unsettled = true;
            self.note_all_lost();
        }
        let text = end.to_string();
        // A connection that the other one of the same peer replaced is no trouble to show.
        if established || end != End::Collision {
            let mut status = self.status();
            status.last_error = Some(text.clone());
            status.last_error_at = Some(Timestamp::now());
        }
        match (established, &end, self.logged.as_ref() == Some(&end)) {
            (true, End::Stopped(_), _) => info!(peer = %self.label, reason = %text, "session down"),
            (true, ..) => warn!(peer = %self.label, reason = %text, "session down"),
            (false, End::Collision | End::Stopped(_), _) => {
                debug!(peer = %self.label, reason = %text, "connection ended");
            }
            (false, _, false) => warn!(peer = %self.label, reason = %text, "no session"),
            (false, _, true) => debug!(peer = %self.label, reason = %text, "still no session"),
        }
        self.logged = Some(end);
    }

    /// Default reject (RFC 8212 §3): counted, never kept.
    fn on_inbound(&mut self, update: &Update) {
        let announced: usize = update.reachable.iter().map(|reach| reach.prefixes.len()).sum();
        for fault in &update.faults {
            let action = match fault.action {
                wire::Action::Discard => "discard",
                wire::Action::TreatAsWithdraw => "treat-as-withdraw",
                wire::Action::Reset => "reset",
            };
            counter!("steer_anycast_attribute_faults_total", "peer" => self.label.clone(), "action" => action)
                .increment(1);
        }
        counter!("steer_anycast_prefixes_rejected_total", "peer" => self.label.clone())
            .increment(announced as u64);
        self.status().prefixes_in += announced as u64;
    }

    /// Sends the difference, as far as the socket takes it; the rest waits for the socket.
    fn reconcile(&mut self) {
        self.unsettled = self.send_difference();
        self.note_wanted();
    }

    /// Whether something is left to send.
    fn send_difference(&mut self) -> bool {
        let Some((id, reconciler)) = &mut self.up else {
            return false; // all is sent when a session comes up
        };
        let Some(index) = self
            .connections
            .iter()
            .position(|connection| connection.id == *id)
        else {
            return false;
        };
        let connection = &mut self.connections[index];
        loop {
            let room = BACKLOG.saturating_sub(connection.backlog());
            if room == 0 {
                return true;
            }
            let batch = reconciler.reconcile(&self.wanted, room);
            for message in &batch.messages {
                connection.queue(message);
            }
            let written = connection.flush();
            for message in &batch.messages {
                self.tap.sent(self.index, connection, message);
            }
            note_batch(&batch, &self.wanted, &self.label, &self.status, self.index);
            let announced = reconciler.announced().len() as f64;
            gauge!("steer_anycast_routes_announced", "peer" => self.label.clone()).set(announced);
            if written.is_err() {
                self.pump_one(index); // finds the error again, after what the peer may have said
                return false;
            }
            if batch.complete {
                return false;
            }
        }
    }

    fn send_keepalive(&mut self, id: SessionId) {
        let blocked = self
            .connections
            .iter()
            .any(|connection| connection.id == id && connection.backlog() >= BACKLOG);
        if !blocked {
            // Behind a full backlog it would say nothing: the UPDATEs before it keep the session alive.
            self.send(id, Kind::Keepalive, &wire::encode_keepalive());
        }
    }

    fn send(&mut self, id: SessionId, kind: Kind, message: &bytes::Bytes) {
        let Some(index) = self.connections.iter().position(|connection| connection.id == id) else {
            return;
        };
        self.connections[index].queue(message);
        let written = self.connections[index].flush();
        self.tap.sent(self.index, &self.connections[index], message);
        self.count_out(kind, 1);
        if written.is_err() {
            self.pump_one(index); // finds the error again, after what the peer may have said
        }
    }

    fn close(&mut self, id: SessionId) {
        if self.dial.as_ref().is_some_and(|(dialling, _)| *dialling == id) {
            self.dial = None;
        }
        if let Some(index) = self.connections.iter().position(|connection| connection.id == id) {
            let connection = self.connections.swap_remove(index);
            self.linger(connection);
        }
    }

    fn linger(&mut self, connection: Connection) {
        while self.closing.try_join_next().is_some() {}
        if self.closing.len() < MAX_CLOSING {
            self.closing.spawn(connection.close());
        } else {
            counter!("steer_anycast_closes_cut_total").increment(1);
        }
    }

    fn status(&self) -> MutexGuard<'_, PeerStatus> {
        locked(&self.status.peers[self.index]) // made with one entry per peer
    }

    fn note_state(&mut self) {
        let state = self.machine.state();
        let mut status = self.status();
        if status.state != state {
            let before = std::mem::replace(&mut status.state, state);
            status.since = Timestamp::now();
            drop(status);
            self.tap.state(self.index, before, state);
            counter!("steer_anycast_session_states_total", "peer" => self.label.clone(), "state" => state.name())
                .increment(1);
            let up = if state == State::Established { 1.0 } else { 0.0 };
            gauge!("steer_anycast_session_up", "peer" => self.label.clone()).set(up);
        }
    }

    fn note_all_lost(&self) {
        gauge!("steer_anycast_routes_announced", "peer" => self.label.clone()).set(0.0);
        let mut status = self.status();
        status.session = None;
        let now = Timestamp::now();
        for route in status.routes.values_mut().filter(|route| route.announced) {
            (route.announced, route.since) = (false, now);
        }
    }

    /// Brings the wanted half of the route table up to date.
    fn note_wanted(&self) {
        let terms = self.up.as_ref().map(|(_, reconciler)| reconciler.terms());
        let mut status = self.status();
        let before = std::mem::take(&mut status.routes);
        let now = Timestamp::now();
        let mut routes = BTreeMap::new();
        for (prefix, decision) in &self.wanted.prefixes {
            let obstacle = terms
                .and_then(|terms| terms.next_hop(prefix, decision).err())
                .filter(|_| decision.announce);
            let old = before.get(prefix);
            let since = old
                .filter(|old| old.wanted == decision.announce)
                .map_or(now, |old| old.since);
            let announced = old.is_some_and(|old| old.announced);
            let (wanted, snapshot) = (decision.announce, decision.by);
            routes.insert(
                *prefix,
                RouteStatus {
                    wanted,
                    announced,
                    obstacle,
                    since,
                    snapshot,
                },
            );
        }
        status.routes = routes;
    }

    fn count_in(&self, kind: Kind) {
        let labels = [
            ("peer", self.label.clone()),
            ("type", kind.name().to_owned()),
            ("direction", "in".to_owned()),
        ];
        counter!("steer_anycast_messages_total", &labels).increment(1);
        self.status().messages_in.count(kind);
    }

    fn count_out(&self, kind: Kind, count: u64) {
        count_out(&self.label, kind, count, &mut self.status());
    }

    fn count_notification(&self, notification: &Notification, direction: &'static str) {
        let code = format!("{}/{}", notification.code, notification.subcode);
        let labels = [
            ("peer", self.label.clone()),
            ("code", code),
            ("direction", direction.to_owned()),
        ];
        counter!("steer_anycast_notifications_total", &labels).increment(1);
    }
}

fn count_out(label: &str, kind: Kind, count: u64, status: &mut PeerStatus) {
    let labels = [
        ("peer", label.to_owned()),
        ("type", kind.name().to_owned()),
        ("direction", "out".to_owned()),
    ];
    counter!("steer_anycast_messages_total", &labels).increment(count);
    for _ in 0..count {
        status.messages_out.count(kind);
    }
}

/// Logs and shows what a batch changed; after the write, so that nothing stands before it.
fn note_batch(batch: &Batch, wanted: &Wanted, peer: &str, status: &SpeakerStatus, index: usize) {
    if batch.messages.is_empty() {
        return;
    }
    let snapshot = wanted.snapshot;
    for (prefix, announced) in &batch.changes {
        match announced {
            true => info!(snapshot, %prefix, peer, "route announced"),
            false => info!(snapshot, %prefix, peer, "route withdrawn"),
        }
    }
    let mut status = locked(&status.peers[index]);
    count_out(peer, Kind::Update, batch.messages.len() as u64, &mut status);
    let now = Timestamp::now();
    for (prefix, announced) in &batch.changes {
        note_change(&mut status.routes, *prefix, *announced, now, snapshot);
    }
}

fn note_change(
    routes: &mut BTreeMap<Prefix, RouteStatus>,
    prefix: Prefix,
    announced: bool,
    now: Timestamp,
    snapshot: u64,
) {
    let fresh = RouteStatus {
        wanted: announced,
        announced,
        obstacle: None,
        since: now,
        snapshot,
    };
    let route = routes.entry(prefix).or_insert(fresh);
    (route.announced, route.since) = (announced, now);
    route.wanted = announced;
}

// Gap: RFC 5082 (GTSM) and RFC 2385 (TCP MD5): the socket has the system's defaults.
async fn dial(peer: Peer) -> io::Result<TcpStream> {
    let address = SocketAddr::new(peer.address, peer.port);
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    if let Some(source) = peer.source {
        socket.bind(SocketAddr::new(source, 0))?;
    }
    socket.connect(address).await
}

async fn dialled(dial: &mut Option<(SessionId, Dial)>) -> (SessionId, io::Result<TcpStream>) {
    match dial {
        Some((id, future)) => (*id, future.await),
        None => std::future::pending().await,
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
