//! One session of a monitor: its machine, its connection, and what it heard.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::time::Instant;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{HOLD_TIME, Heard, MAX_PREFIXES, Monitor, MonitorEvent, Recorder, Source, Table, TooMany};
use crate::connection::{Connection, any_ready};
use crate::session::{Action, Event, Negotiated, Peer, SessionId, State};
use crate::tap::{Direction, Ends, Tapped, What, whole};
use crate::wire::{self, Context, Frame, Kind, Message, Reason, Update};

type Dial = Pin<Box<dyn Future<Output = io::Result<TcpStream>> + Send>>;

pub(super) struct Session {
    machine: Peer,
    /// Whom to dial, again and again; an accepted session ends with its connection.
    target: Option<SocketAddr>,
    dial: Option<(SessionId, Dial)>,
    /// At most one.
    connections: Vec<Connection>,
    local_asn: steer_topology::Asn,
    events: mpsc::Sender<MonitorEvent>,
    record: Option<Recorder>,
    /// There while the session is up.
    up: Option<(Source, Negotiated)>,
    table: Table,
    /// Of the newest connection.
    ends: Option<Ends>,
    state: State,
    /// Why there was no session the last time; the same again is not logged.
    logged: Option<String>,
    shutdown: CancellationToken,
    over: bool,
}

impl Session {
    /// A session that we open.
    pub(super) fn dialling(
        target: SocketAddr,
        monitor: &Monitor,
        events: mpsc::Sender<MonitorEvent>,
        shutdown: CancellationToken,
    ) -> Self {
        let mut session = Self::new(monitor, Some(target), events, shutdown);
        session.machine.handle(Event::Start, Instant::now());
        session
    }

    /// A session on a connection that somebody else opened; `None` where it is gone already.
    pub(super) fn accepted(
        stream: TcpStream,
        monitor: &Monitor,
        events: mpsc::Sender<MonitorEvent>,
        shutdown: CancellationToken,
    ) -> Option<Self> {
        let mut session = Self::new(monitor, None, events, shutdown);
        let now = Instant::now();
        session.machine.handle(Event::Start, now);
        let id = session.machine.accept(now).ok()?;
        let connection = Connection::new(id, stream).ok()?;
        session.connect(connection);
        Some(session)
    }

    fn new(
        monitor: &Monitor,
        target: Option<SocketAddr>,
        events: mpsc::Sender<MonitorEvent>,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            // The seed only jitters timers; nothing of a monitor needs to be unpredictable.
            machine: Peer::new(monitor.config(target.is_none()), 0),
            target,
            dial: None,
            connections: Vec::new(),
            local_asn: monitor.asn,
            events,
            record: monitor.record.clone(),
            up: None,
            table: Table::new(monitor.only.clone()),
            ends: None,
            state: State::Idle,
            logged: None,
            shutdown,
            over: false,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            self.act().await;
            self.note_state();
            if self.over {
                break;
            }
            let deadline = self.machine.next_deadline();
            let deadline = deadline.unwrap_or_else(|| Instant::now() + HOLD_TIME);
            tokio::select! {
                () = self.shutdown.cancelled() => {
                    let (reason, text) = (Reason::AdministrativeShutdown, "the route monitor stops".to_owned());
                    self.machine.handle(Event::Stop { reason, text }, Instant::now());
                    self.over = true;
                    self.act().await;
                    self.note_state();
                    break;
                }
                () = any_ready(&self.connections) => self.pump(),
                (id, result) = dialled(&mut self.dial) => self.on_dialled(id, result),
                () = tokio::time::sleep_until(deadline.into()) => {
                    self.pump(); // what has come before the deadline counts
                    self.machine.on_deadline(Instant::now());
                }
            }
        }
        for connection in self.connections {
            connection.close().await;
        }
    }

    fn pump(&mut self) {
        let now = Instant::now();
        let Some(connection) = self.connections.first_mut() else {
            return;
        };
        let (id, limit) = (connection.id, self.machine.frame_limit(connection.id));
        let read = connection.flush().and_then(|()| connection.fill());
        let mut frames = Vec::new();
        let malformed = loop {
            match connection.next_frame(limit) {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break None,
                Err(malformed) => break Some(malformed),
            }
        };
        for frame in frames {
            self.learn(&frame);
            if self.record.is_some() {
                self.record(Direction::In, whole(&frame));
            }
            self.machine.handle(Event::Frame(id, frame), now);
            self.note_state(); // several may have come at once
        }
        if let Some(malformed) = malformed {
            self.machine.handle(Event::Malformed(id, malformed), now);
        } else if let Err(error) = read {
            self.machine.handle(Event::Lost(id, error.to_string()), now);
        }
    }

    /// An OPEN tells whose records these are, its own first: what follows may come in the same read.
    fn learn(&mut self, frame: &Frame) {
        if frame.kind != Kind::Open {
            return;
        }
        if let (Ok(Message::Open(open)), Some(ends)) =
            (wire::decode(frame, Context::default()), &mut self.ends)
        {
            ends.peer_asn = Some(open.asn);
        }
    }

    fn on_dialled(&mut self, id: SessionId, result: io::Result<TcpStream>) {
        self.dial = None;
        let event = match result.and_then(|stream| Connection::new(id, stream)) {
            Ok(connection) => {
                self.connect(connection);
                Event::Connected(id)
            }
            Err(error) => Event::Lost(id, error.to_string()),
        };
        self.machine.handle(event, Instant::now());
    }

    fn connect(&mut self, connection: Connection) {
        self.ends = Some(Ends {
            local: connection.local,
            remote: connection.remote,
            local_asn: self.local_asn,
            peer_asn: None,
        });
        self.connections = vec![connection];
    }

    async fn act(&mut self) {
        while let Some(action) = self.machine.poll_action() {
            match action {
                Action::Dial(id) => self.dial(id),
                Action::SendOpen(_, open) => self.send(wire::encode_open(&open)),
                Action::SendKeepalive(_) => self.send(wire::encode_keepalive()),
                Action::SendNotification(_, notification) => {
                    self.send(wire::encode_notification(&notification));
                }
                Action::Up(_, negotiated) => self.up(negotiated).await,
                Action::Inbound(id, update) => self.hear(id, *update).await,
                Action::Ended { end, established, .. } => self.ended(established, &end.to_string()).await,
                Action::Close(id) => self.close(id),
                // We have no routes to send again.
                Action::Refresh(..) => {}
                Action::Demarcation(..) => {} // never asked for
            }
        }
        let flushed = self.connections.first_mut().map(Connection::flush);
        if let (Some(Err(error)), Some(connection)) = (flushed, self.connections.first()) {
            let lost = Event::Lost(connection.id, error.to_string());
            self.machine.handle(lost, Instant::now());
        }
    }

    fn dial(&mut self, id: SessionId) {
        if let Some(target) = self.target {
            self.dial = Some((id, Box::pin(TcpStream::connect(target))));
        }
    }

    fn send(&mut self, message: Bytes) {
        if let Some(connection) = self.connections.first_mut() {
            connection.queue(&message);
            self.record(Direction::Out, message);
        }
    }

    fn close(&mut self, id: SessionId) {
        if self.dial.as_ref().is_some_and(|(dialling, _)| *dialling == id) {
            self.dial = None;
        }
        // A dialled session goes on; an accepted one closes its connection at its end.
        self.over |= self.target.is_none();
        if !self.over
            && let Some(at) = self.connections.iter().position(|connection| connection.id == id)
        {
            tokio::spawn(self.connections.swap_remove(at).close()); // bounded by its own limit
        }
    }

    async fn up(&mut self, negotiated: Negotiated) {
        let Some(connection) = self.connections.first() else {
            return;
        };
        let from = Source {
            remote: connection.remote,
            asn: negotiated.peer_asn,
            peer_id: negotiated.peer_id,
            bmp: None,
        };
        self.up = Some((from, negotiated));
        self.logged = None;
        self.tell(Heard::SessionUp).await;
    }

    async fn ended(&mut self, established: bool, reason: &str) {
        if let Some(peer) = self.target.filter(|_| !established)
            && self.logged.as_deref() != Some(reason)
        {
            warn!(%peer, reason, "no session with this peer yet");
            self.logged = Some(reason.to_owned());
        }
        for gone in self.table.clear() {
            self.tell(gone).await;
        }
        let reason = reason.to_owned();
        self.tell(Heard::SessionDown { reason }).await;
        self.up = None;
    }

    async fn hear(&mut self, id: SessionId, update: Update) {
        match self.table.hear(update) {
            Ok(heard) => {
                for heard in heard {
                    self.tell(heard).await;
                }
            }
            Err(TooMany) => {
                let text = format!("more than {MAX_PREFIXES} prefixes");
                let malformed = wire::Malformed::new(Reason::MaximumPrefixes, &[], text);
                self.machine
                    .handle(Event::Malformed(id, malformed), Instant::now());
            }
        }
    }

    async fn tell(&mut self, heard: Heard) {
        let Some((from, _)) = self.up else { return };
        let at = Timestamp::now();
        let event = MonitorEvent { at, from, heard };
        tokio::select! {
            biased;
            // A receiver that is gone wants to hear no more; the session goes on until the shutdown.
            _ = self.events.send(event) => {}
            // The queue is full and we are told to stop: what is left is not worth waiting for.
            () = self.shutdown.cancelled() => {}
        }
    }

    fn note_state(&mut self) {
        let (from, to) = (self.state, self.machine.state());
        if from != to {
            self.state = to;
            if let Some(ends) = self.ends {
                self.keep(What::State { ends, from, to });
            }
        }
    }

    fn record(&self, direction: Direction, octets: Bytes) {
        if let Some(ends) = self.ends {
            let four_octet = self.up.as_ref().map(|(_, negotiated)| negotiated.four_octet);
            self.keep(What::Message {
                ends,
                direction,
                four_octet,
                octets,
            });
        }
    }

    fn keep(&self, what: What) {
        if let Some(recorder) = &self.record {
            let (at, peer) = (Timestamp::now(), 0);
            recorder.keep(Tapped { at, peer, what });
        }
    }
}

async fn dialled(dial: &mut Option<(SessionId, Dial)>) -> (SessionId, io::Result<TcpStream>) {
    match dial {
        Some((id, future)) => (*id, future.await),
        None => std::future::pending().await,
    }
}
