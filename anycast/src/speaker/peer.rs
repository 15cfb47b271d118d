//! One peer: sockets and clock around [`crate::session::Peer`] and [`Reconciler`].
//!
//! One loop, one wait: see [`run`]. What waits for a blocked socket is at most [`BACKLOG`] octets; beyond that nothing is
//! encoded, and when the socket takes octets again the difference is computed anew, from the newest wish.
//!
//! A wish goes out first: whoever tells it has every peer write its octets, one after the other ([`PeerTask::obey`]). All else
//! that comes of it (the machine's turn, status, log, meters) is for the loops, afterwards: see [`notes`].

mod flow;
mod notes;
mod run;

use std::future::Future;
use std::io;
use std::net::Ipv4Addr;
use std::pin::Pin;
use std::sync::{Arc, MutexGuard};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use metrics::counter;
use steer_topology::{Asn, Peer};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tracing::{debug, info, warn};

use super::inbound::Inbound;
use super::status::{PeerStatus, SessionStatus, SpeakerStatus, locked};
use super::stop::{StopHandle, StopKind};
use super::wish::Wish;
use super::{RESYNC, SOFTWARE};
use crate::connection::{Connection, poll_any_ready};
use crate::reconcile::{Batch, Encodings, Reconciler, Terms, next_hop_of};
use crate::session::{self, Action, Config, End, Event, Negotiated, Refusal, SessionId};
use crate::tap::Tap;
use crate::transport::{Transport, global_address};
use crate::wire::{self, Family, Kind, Notification, Reason, Update};
use flow::Flow;
use notes::{Meters, Notes};

pub(super) use run::Follower;

/// Octets that may wait for the socket before we stop encoding.
const BACKLOG: usize = 64 * 1024;

/// The whole orderly stop.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// Closed connections that may still be flushing; more are dropped at once.
const MAX_CLOSING: usize = 8;

/// RFC 9003 text of the orderly end.
const STOP_TEXT: &str = "steer stops";

/// RFC 9003 text of a planned restart, for a peer that does not keep our routes meanwhile.
const RESTART_TEXT: &str = "steer restarts";

type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

/// What all peers of a speaker share.
#[derive(Debug)]
pub(super) struct Common {
    pub(super) local_asn: Asn,
    pub(super) router_id: Ipv4Addr,
    /// The site's name, for the peers' display.
    pub(super) hostname: Option<String>,
    pub(super) status: Arc<SpeakerStatus>,
    pub(super) encodings: Arc<Encodings>,
    pub(super) started: Instant,
    pub(super) stop: StopHandle,
    pub(super) tap: Arc<Tap>,
}

pub(super) struct PeerTask {
    peer: Peer,
    transport: Arc<Transport>,
    label: String,
    index: usize,
    common: Arc<Common>,
    machine: session::Peer,
    dial: Option<(SessionId, Dial)>,
    connections: Vec<Connection>,
    closing: JoinSet<()>,
    /// There while the session is up.
    up: Option<Up>,
    wish: Arc<Wish>,
    /// It came past the loop, which is to have its turn.
    obeyed: bool,
    /// What was written of it, and is to be accounted for.
    ahead: Option<Written>,
    /// Something may differ between wanted and announced.
    unsettled: bool,
    /// We may follow a process whose routes the peer still keeps (RFC 4724): until then at most.
    recovering: Option<Instant>,
    notes: Notes,
    meters: Meters,
    /// The last end that was logged; the same again is not.
    logged: Option<End>,
}

/// Octets that were handed to the socket of the session that is up.
struct Written {
    batch: Batch,
    failed: bool,
}

/// A session that is up.
struct Up {
    id: SessionId,
    reconciler: Reconciler,
    inbound: Inbound,
    flow: Flow,
    /// The peer keeps our routes while we restart.
    retained: bool,
}

impl PeerTask {
    pub(super) fn new(
        peer: Peer,
        transport: Arc<Transport>,
        index: usize,
        common: Arc<Common>,
        seed: u64,
    ) -> Self {
        let restart = peer.graceful_restart.map(|restart| restart.restart_time);
        let config = Config {
            restarted: restart.is_some(),
            hostname: common.hostname.clone(),
            software: Some(SOFTWARE.to_owned()),
            ..Config::of(&peer, common.local_asn, common.router_id)
        };
        let label = peer.address.to_string();
        Self {
            meters: Meters::new(&label),
            label,
            peer,
            transport,
            index,
            machine: session::Peer::new(config, seed),
            dial: None,
            connections: Vec::new(),
            closing: JoinSet::new(),
            up: None,
            wish: Arc::default(),
            obeyed: false,
            ahead: None,
            unsettled: true,
            recovering: restart.map(|time| common.started + time),
            notes: Notes::default(),
            logged: None,
            common,
        }
    }

    /// From now on by this wish.
    pub(super) fn begin(&mut self, wish: Arc<Wish>) {
        self.wish = wish;
        self.compare_all();
        self.machine.handle(Event::Start, Instant::now());
    }

    /// When everything is compared first: spread over the peers, so that they do not all do so in one moment.
    fn first_resync(&self) -> Duration {
        let peers = self.common.status.peers.len().max(1);
        RESYNC.mul_f64((self.index + 1) as f64 / peers as f64)
    }

    /// After every wake-up, whatever it was: does what the machine asks for, brings announced to wanted.
    fn turn(&mut self) {
        self.obeyed = false;
        self.settle_accounts();
        self.act();
        if self.unsettled {
            self.reconcile();
            self.act(); // a failed write is news for the machine
        }
        self.note_state();
        if self.notes.are_due() {
            self.tell();
        }
    }

    /// Takes a wish and writes what it changes at once; the accounts are for the loop. Who has missed one cannot know what it
    /// changed.
    fn obey(&mut self, wish: &Arc<Wish>) {
        self.settle_accounts(); // of a wish that came just before
        self.obeyed = true;
        let missed = wish.number != self.wish.number + 1;
        self.wish = Arc::clone(wish);
        self.unsettled = true;
        if missed {
            return self.compare_all();
        }
        if let Some(up) = &mut self.up {
            up.reconciler.touch(&self.wish.changed);
        }
        self.notes.wish_obeyed();
        // A start that follows another process has more to weigh, and takes the usual way.
        if self.recovering.is_none() {
            self.ahead = self.write();
        }
    }

    fn settle_accounts(&mut self) {
        if let Some(written) = self.ahead.take() {
            self.unsettled = self.account(written);
        }
    }

    fn compare_all(&mut self) {
        if let Some(up) = &mut self.up {
            up.reconciler.touch_all();
        }
        self.notes.all_routes_changed();
        self.unsettled = true;
    }

    /// RFC 5882 §4: no deadline and no message of the peer stands before it.
    fn on_path(&mut self, news: [Option<Event>; 2]) {
        for event in news.into_iter().flatten() {
            self.machine.handle(event, Instant::now());
        }
    }

    fn next_deadline(&self) -> Option<Instant> {
        let flow = self.up.as_ref().and_then(|up| up.flow.next_look());
        let deadlines = [self.machine.next_deadline(), flow, self.recovering];
        deadlines.into_iter().flatten().min()
    }

    fn on_deadline(&mut self) {
        self.pump(); // what has come before the deadline counts
        let now = Instant::now();
        self.machine.on_deadline(now);
        self.look_at_flow(now);
        if self.recovering.is_some_and(|until| until <= now) {
            self.unsettled = true; // what was held back goes out now
        }
    }

    /// The orderly end. Returns what is still being closed.
    fn stop(&mut self) -> JoinSet<()> {
        self.settle_accounts();
        let kind = self.common.stop.kind();
        let retained = self.up.as_ref().is_some_and(|up| up.retained);
        // RFC 4724 §4: a peer that keeps our routes through a restart must not be told that they are gone.
        if kind == StopKind::Orderly || !retained {
            self.wish = Arc::new(Wish {
                wanted: Arc::new(self.wish.wanted.nothing()),
                ..(*self.wish).clone()
            });
            self.compare_all();
            self.reconcile();
        }
        let event = match kind {
            StopKind::Orderly => Event::Stop {
                reason: Reason::AdministrativeShutdown,
                text: STOP_TEXT.to_owned(),
            },
            StopKind::Restart => Event::Restart {
                text: RESTART_TEXT.to_owned(),
            },
        };
        self.machine.handle(event, Instant::now());
        self.act();
        self.note_state();
        self.tell();
        std::mem::take(&mut self.closing)
    }

    /// Whether something can be read or, where something waits to go out, written.
    fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        poll_any_ready(&self.connections, cx)
    }

    fn poll_dial(&mut self, cx: &mut Context<'_>) -> Poll<(SessionId, io::Result<TcpStream>)> {
        match &mut self.dial {
            Some((id, dial)) => dial.as_mut().poll(cx).map(|result| (*id, result)),
            None => Poll::Pending,
        }
    }

    fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Dial(id) => {
                    self.dial = Some((id, Box::pin(Arc::clone(&self.transport).dial())));
                }
                Action::SendOpen(id, open) => self.send(id, Kind::Open, &wire::encode_open(&open)),
                Action::SendKeepalive(id) => self.send_keepalive(id),
                Action::SendNotification(id, notification) => {
                    self.count_notification(&notification, "out");
                    self.send(id, Kind::Notification, &wire::encode_notification(&notification));
                }
                Action::Close(id) => self.close(id),
                Action::Up(id, negotiated) => self.on_up(id, &negotiated),
                Action::Ended { id, established, end } => self.on_ended(id, established, end),
                Action::Refresh(id, family) => self.on_refresh(id, family),
                Action::Inbound(id, update) => self.on_inbound(id, &update),
                Action::Demarcation(..) => {} // nothing of the peer is kept
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
        let limit = self.machine.frame_limit(id);
        // What was read counts before what failed: it may say why.
        let result = connection.flush().and(connection.fill());
        let mut frames = Vec::new();
        let malformed = loop {
            match connection.next_frame(limit) {
                Ok(Some(frame)) => {
                    self.common.tap.received(self.index, connection, &frame);
                    frames.push(frame);
                }
                Ok(None) => break None,
                Err(malformed) => break Some(malformed),
            }
        };
        for frame in frames {
            self.notes.received(frame.kind);
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
                let remote = self.transport.remote();
                Event::Lost(id, format!("cannot connect to {remote}: {error}"))
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
                    Refusal::PathDown => (Reason::ConnectionRejected, "bfd-down"),
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
        let global = self.peer.interface.as_deref().and_then(global_address);
        let local = next_hop_of(connection.local.ip(), global);
        let terms = Terms::of(negotiated, &self.peer, self.common.local_asn, local);
        let session = SessionStatus::new(negotiated, connection.local, connection.remote);
        info!(
            peer = %self.label, peer_id = %session.peer_id, local = %session.local, remote = %session.remote,
            hold_time_s = session.hold_time_s, families = ?session.families,
            extended_messages = negotiated.extended_messages, "session established"
        );
        self.common.tap.up(self.index, connection, negotiated);
        self.logged = None;
        let sample = Arc::clone(&self.common.status.samples[self.index]); // made with one entry per peer
        self.up = Some(Up {
            id,
            reconciler: Reconciler::new(terms, Arc::clone(&self.common.encodings)),
            inbound: Inbound::new(self.peer.max_prefixes, sample),
            flow: Flow::default(),
            retained: !negotiated.retained.is_empty(),
        });
        self.compare_all();
        self.status().session = Some(session);
    }

    fn on_ended(&mut self, id: SessionId, established: bool, end: End) {
        let cause = end.cause();
        counter!("steer_anycast_session_ends_total", "peer" => self.label.clone(), "cause" => cause)
            .increment(1);
        if let End::Notified(notification) = &end {
            self.count_notification(notification, "in");
        }
        self.common.tap.ended(self.index, id, &end);
        if self.up.as_ref().is_some_and(|up| up.id == id) {
            self.up = None;
            self.compare_all();
            self.status().session = None;
        }
        let text = end.to_string();
        // A connection that the other one of the same peer replaced is no trouble to show.
        if established || end != End::Collision {
            let mut status = self.status();
            status.last_error = Some(text.clone());
            status.last_error_at = Some(Timestamp::now());
        }
        match (established, &end, self.logged.as_ref() == Some(&end)) {
            (true, End::Stopped(_) | End::Left, _) => {
                info!(peer = %self.label, reason = %text, "session down");
            }
            (true, ..) => warn!(peer = %self.label, reason = %text, "session down"),
            (false, End::Collision | End::Stopped(_) | End::Left, _) => {
                debug!(peer = %self.label, reason = %text, "connection ended");
            }
            (false, _, false) => warn!(peer = %self.label, reason = %text, "no session"),
            (false, _, true) => debug!(peer = %self.label, reason = %text, "still no session"),
        }
        self.logged = Some(end);
    }

    fn on_refresh(&mut self, id: SessionId, family: Family) {
        info!(peer = %self.label, %family, "the peer asks for our routes again");
        if let Some(up) = self.up.as_mut().filter(|up| up.id == id) {
            up.reconciler.refresh(family);
            self.unsettled = true;
        }
    }

    /// Default reject (RFC 8212 §3): counted, never used.
    fn on_inbound(&mut self, id: SessionId, update: &Update) {
        let Some(up) = self.up.as_mut().filter(|up| up.id == id) else {
            return;
        };
        for fault in &update.faults {
            let action = match fault.action {
                wire::Action::Discard => "discard",
                wire::Action::TreatAsWithdraw => "treat-as-withdraw",
                wire::Action::Reset => "reset",
            };
            counter!("steer_anycast_attribute_faults_total", "peer" => self.label.clone(), "action" => action)
                .increment(1);
        }
        let before = up.inbound.totals().announced;
        let taken = up.inbound.take(update);
        self.notes.rejected(up.inbound.totals().announced - before);
        if let Err(excess) = taken {
            let (family, limit) = (excess.family, excess.limit);
            let event = Event::TooManyPrefixes { id, family, limit };
            self.machine.handle(event, Instant::now());
        }
    }

    /// Sends the difference, as far as the socket takes it; the rest waits for the socket.
    fn reconcile(&mut self) {
        let now = Instant::now();
        let held = self.recovering.is_some_and(|until| until > now) && !self.wish.settled;
        if let Some(up) = &mut self.up {
            up.reconciler.hold_end_of_rib(held && up.retained);
        }
        self.unsettled = self.send_difference();
        let told = self.up.as_ref().is_some_and(|up| up.reconciler.is_synchronised());
        let late = self.recovering.is_some_and(|until| until <= now);
        if late || (self.recovering.is_some() && self.wish.settled && told) {
            self.recovering = None;
            self.machine.handle(Event::Recovered, now);
        }
    }

    /// Whether something is left to send.
    fn send_difference(&mut self) -> bool {
        loop {
            let Some(written) = self.write() else {
                return self.is_blocked(); // without a session: all is sent when one comes up
            };
            if !self.account(written) {
                return false;
            }
        }
    }

    /// The connection of the session that is up.
    fn outlet(&self) -> Option<usize> {
        let id = self.up.as_ref()?.id;
        self.connections.iter().position(|connection| connection.id == id)
    }

    /// Whether as much waits for the socket as may.
    fn is_blocked(&self) -> bool {
        self.outlet()
            .is_some_and(|index| self.connections[index].backlog() >= BACKLOG)
    }

    /// Hands the difference to the socket, as far as it has room; `None`: it has none, or no session is up.
    fn write(&mut self) -> Option<Written> {
        let index = self.outlet()?;
        let connection = &mut self.connections[index];
        let room = BACKLOG
            .checked_sub(connection.backlog())
            .filter(|room| *room > 0)?;
        let batch = self.up.as_mut()?.reconciler.reconcile(&self.wish.wanted, room);
        for message in &batch.messages {
            connection.queue(message);
        }
        let failed = connection.flush().is_err();
        Some(Written { batch, failed })
    }

    /// Takes down what was written. Whether more is to be.
    fn account(&mut self, Written { batch, failed }: Written) -> bool {
        let Some(index) = self.outlet() else {
            return false;
        };
        let connection = &self.connections[index];
        self.common.tap.sent_all(self.index, connection, &batch.messages);
        if let Some(up) = &mut self.up {
            up.flow.wrote(Instant::now());
        }
        let complete = batch.complete;
        self.notes
            .sent(batch, self.wish.wanted.snapshot, connection.queued());
        if failed {
            self.pump_one(index); // finds the error again, after what the peer may have said
        }
        !(complete || failed)
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
        self.common
            .tap
            .sent(self.index, &self.connections[index], message);
        self.notes.sent_one(kind);
        if let Some(up) = self.up.as_mut().filter(|up| up.id == id) {
            up.flow.wrote(Instant::now());
        }
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
        locked(&self.common.status.peers[self.index]) // made with one entry per peer
    }

    fn note_state(&mut self) {
        let state = self.machine.state();
        let mut status = self.status();
        if status.state != state {
            let before = std::mem::replace(&mut status.state, state);
            status.since = Timestamp::now();
            drop(status);
            self.common.tap.state(self.index, before, state);
            self.meters.state(state);
        }
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
