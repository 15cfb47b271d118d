//! The driver of one cache: the socket around the client, and what its data mean for our announcements.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::BytesMut;
use jiff::Timestamp;
use metrics::{counter, gauge};
use serde::Serialize;
use steer_topology::{Asn, Prefix};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::client::{Action, Client, Input, State};
use super::pdu::{Vrp, take_pdu};
use super::validity::{Validity, validate};

/// Octets read per turn.
const READ_CHUNK: usize = 64 * 1024;

/// VRPs that are shown with a route.
const MAX_SHOWN: usize = 16;

/// A cache and what it says of our announcements, for people and machines.
#[derive(Debug, Clone, Serialize)]
pub struct RpkiStatus {
    /// As configured.
    pub cache: SocketAddr,
    /// Where the client stands.
    pub state: State,
    /// Since when.
    pub since: Timestamp,
    /// Session and serial of the data, while there are any.
    pub serial: Option<(u16, u32)>,
    /// When data came last.
    pub updated: Option<Timestamp>,
    /// VRPs that cover a prefix of ours.
    pub vrps: usize,
    /// More of them than are kept: a route may be valid by one that was dropped.
    pub truncated: bool,
    /// What went wrong last.
    pub last_error: Option<String>,
    /// Each prefix that this site may announce.
    pub routes: BTreeMap<Prefix, RouteValidity>,
}

/// One announcement of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteValidity {
    /// What a validating router makes of it.
    pub validity: Validity,
    /// Since when.
    pub since: Timestamp,
    /// The VRPs that cover it; the first of them where they are many.
    pub covered_by: Vec<Vrp>,
}

/// One cache with all that its task needs.
#[derive(Debug)]
pub(crate) struct Watch {
    origin: Asn,
    prefixes: BTreeSet<Prefix>,
    cache: SocketAddr,
    status: Arc<Mutex<RpkiStatus>>,
}

impl Watch {
    /// `origin` is the AS that the world sees behind our announcements.
    pub(crate) fn new(cache: SocketAddr, origin: Asn, prefixes: BTreeSet<Prefix>) -> Self {
        let since = Timestamp::now();
        let unknown = || RouteValidity {
            validity: Validity::Unknown,
            since,
            covered_by: Vec::new(),
        };
        let status = RpkiStatus {
            cache,
            state: State::Waiting,
            since,
            serial: None,
            updated: None,
            vrps: 0,
            truncated: false,
            last_error: None,
            routes: prefixes.iter().map(|prefix| (*prefix, unknown())).collect(),
        };
        Self {
            origin,
            prefixes,
            cache,
            status: Arc::new(Mutex::new(status)),
        }
    }

    /// Stays readable while and after [`watch`] runs.
    pub(crate) fn status(&self) -> Arc<Mutex<RpkiStatus>> {
        Arc::clone(&self.status)
    }

    fn change<T>(&self, body: impl FnOnce(&mut RpkiStatus) -> T) -> T {
        body(&mut self.status.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Keeps an eye on the cache until `shutdown`.
pub(crate) async fn watch(watch: Watch, shutdown: CancellationToken) {
    let client = Client::new(watch.prefixes.clone(), Instant::now());
    let mut watching = Watching {
        watch,
        client,
        stream: None,
        connecting: false,
        inbox: BytesMut::new(),
        logged: None,
    };
    loop {
        watching.act().await;
        watching.note_state();
        tokio::select! {
            () = shutdown.cancelled() => return,
            input = watching.wait() => {
                if let Some(input) = input {
                    watching.on_input(input);
                }
            }
        }
    }
}

struct Watching {
    watch: Watch,
    client: Client,
    stream: Option<TcpStream>,
    connecting: bool,
    inbox: BytesMut,
    /// The last trouble that was logged; the same again is not.
    logged: Option<String>,
}

/// What woke us.
enum Woken {
    Connected(io::Result<TcpStream>),
    Read(io::Result<usize>),
}

impl Watching {
    /// `None`: the time has come, and the client was told.
    async fn wait(&mut self) -> Option<Woken> {
        let deadline = self.client.next_deadline();
        let timer = async {
            match deadline {
                Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                None => std::future::pending().await,
            }
        };
        let (cache, connecting) = (self.watch.cache, self.connecting);
        self.inbox.reserve(READ_CHUNK);
        let (stream, inbox) = (&mut self.stream, &mut self.inbox);
        let news = async {
            match stream {
                Some(stream) => Woken::Read(stream.read_buf(inbox).await),
                None if connecting => Woken::Connected(TcpStream::connect(cache).await),
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            woken = news => Some(woken),
            () = timer => {
                self.client.on_deadline(Instant::now());
                None
            }
        }
    }

    fn on_input(&mut self, woken: Woken) {
        let now = Instant::now();
        match woken {
            Woken::Connected(Ok(stream)) => {
                self.connecting = false;
                self.stream = Some(stream);
                self.client.handle(Input::Connected, now);
            }
            Woken::Connected(Err(error)) => {
                self.connecting = false;
                let text = format!("cannot connect: {error}");
                self.client.handle(Input::Lost(text), now);
            }
            Woken::Read(Ok(0)) => {
                let text = "the cache closed the connection".to_owned();
                self.client.handle(Input::Lost(text), now);
            }
            Woken::Read(Ok(_)) => self.take_pdus(now),
            Woken::Read(Err(error)) => self.client.handle(Input::Lost(error.to_string()), now),
        }
    }

    fn take_pdus(&mut self, now: Instant) {
        loop {
            match take_pdu(&mut self.inbox) {
                Ok(Some((version, pdu))) => self.client.handle(Input::Pdu(version, pdu), now),
                Ok(None) => return,
                Err(malformed) => {
                    self.inbox.clear(); // the rest means nothing
                    return self.client.handle(Input::Malformed(malformed), now);
                }
            }
        }
    }

    async fn act(&mut self) {
        while let Some(action) = self.client.poll_action() {
            match action {
                Action::Connect => self.connecting = true,
                Action::Send(octets) => {
                    // A few octets: they fit the socket's buffer, or the connection is of no use.
                    let written = match &mut self.stream {
                        Some(stream) => stream.write_all(&octets).await,
                        None => Ok(()),
                    };
                    if let Err(error) = written {
                        self.client.handle(Input::Lost(error.to_string()), Instant::now());
                    }
                }
                Action::Close => {
                    (self.stream, self.connecting) = (None, false);
                    self.inbox.clear();
                }
                Action::Changed => self.judge(),
                Action::Trouble(text) => self.note_trouble(text),
            }
        }
    }

    fn note_trouble(&mut self, text: String) {
        let cache = self.watch.cache;
        if self.logged.as_ref() == Some(&text) {
            debug!(%cache, reason = %text, "still no RPKI data");
        } else {
            warn!(%cache, reason = %text, "trouble with the RPKI cache");
        }
        counter!("steer_anycast_rpki_troubles_total").increment(1);
        self.watch.change(|status| status.last_error = Some(text.clone()));
        self.logged = Some(text);
    }

    fn note_state(&mut self) {
        let (state, serial) = (self.client.state(), self.client.serial());
        self.watch.change(|status| {
            let serial = serial.map(|(_, session, serial)| (session, serial));
            if status.serial != serial && serial.is_some() {
                status.updated = Some(Timestamp::now());
            }
            status.serial = serial;
            if status.state != state {
                (status.state, status.since) = (state, Timestamp::now());
            }
        });
        if state == State::Current {
            self.logged = None;
        }
        gauge!("steer_anycast_rpki_current").set(if serial.is_some() { 1.0 } else { 0.0 });
    }

    /// The data have changed: what do they mean for us?
    fn judge(&mut self) {
        let (vrps, truncated) = (self.client.vrps(), self.client.truncated());
        if truncated {
            warn!(
                kept = super::client::MAX_VRPS,
                "more VRPs cover our prefixes than are kept; what is called invalid may be valid"
            );
        }
        let (origin, now) = (self.watch.origin, Timestamp::now());
        self.watch.change(|status| {
            status.vrps = vrps.map_or(0, BTreeSet::len);
            status.truncated = truncated;
            for (prefix, route) in &mut status.routes {
                let covering = vrps.into_iter().flatten().filter(|vrp| vrp.covers(prefix));
                let covered_by: Vec<Vrp> = covering.copied().collect();
                let validity = match vrps {
                    Some(_) => validate(&covered_by, prefix, origin),
                    None => Validity::Unknown,
                };
                note_route(prefix, origin, route, validity, &covered_by, now);
                route.covered_by = covered_by.into_iter().take(MAX_SHOWN).collect();
            }
        });
    }
}

/// Logs a change once, and keeps the gauge.
fn note_route(
    prefix: &Prefix,
    origin: Asn,
    route: &mut RouteValidity,
    validity: Validity,
    covered_by: &[Vrp],
    now: Timestamp,
) {
    let invalid = if validity == Validity::Invalid { 1.0 } else { 0.0 };
    gauge!("steer_anycast_rpki_invalid", "prefix" => prefix.to_string()).set(invalid);
    if route.validity == validity {
        return;
    }
    let before = route.validity.name();
    match validity {
        Validity::Invalid => {
            let roas = covered_by.iter().take(MAX_SHOWN).map(ToString::to_string);
            let roas = roas.collect::<Vec<_>>().join("; ");
            warn!(
                %prefix, %origin, before, %roas,
                "our announcement is RPKI invalid: many networks drop it; correct the ROAs, the prefix or [bgp] asn"
            );
        }
        Validity::Valid | Validity::NotFound | Validity::Unknown => {
            info!(%prefix, %origin, before, validity = validity.name(), "RPKI validity of our announcement");
        }
    }
    (route.validity, route.since) = (validity, now);
}
