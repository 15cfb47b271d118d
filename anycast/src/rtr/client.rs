//! The client as a machine: no socket, no clock. PDUs and the time go in, PDUs and new data come out.
//!
//! ```text
//! Waiting ─► Connecting ─► Asked ─► Receiving ─► Current ─┐     Notify, or the refresh timer
//!    ▲            │          │ ▲         │          │     │
//!    └────────────┴── lost, malformed ───┴──────────┘     │
//!                              └──────────────────────────┘
//! ```
//!
//! What comes between Cache Response and End of Data is staged and counts as a whole or not at all. Data outlives
//! the connection until it expires.

use std::collections::{BTreeSet, VecDeque};
use std::time::{Duration, Instant};

use bytes::Bytes;
use serde::Serialize;
use steer_topology::Prefix;

use super::pdu::{Malformed, Pdu, Timing, Version, Vrp, code, encode};

/// VRPs that cover our prefixes; more are dropped, and [`Client::truncated`] says so.
pub const MAX_VRPS: usize = 4_096;

/// A cache that says nothing for so long, while it owes us something, is gone.
const ANSWER_LIMIT: Duration = Duration::from_secs(60);

/// Between two attempts to connect, as long as the cache has not said what it wants (RFC 8210 §6: retry).
const RECONNECT: Duration = Duration::from_secs(10);

/// Where the client stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// No connection, until the timer fires.
    Waiting,
    /// A connection is being made.
    Connecting,
    /// A query is out.
    Asked,
    /// Data comes.
    Receiving,
    /// All that there was has come, or the cache has nothing yet.
    Current,
}

/// News for the machine.
#[derive(Debug, Clone)]
pub enum Input {
    /// The connection is up.
    Connected,
    /// A PDU came.
    Pdu(Version, Pdu),
    /// What came is no PDU.
    Malformed(Malformed),
    /// There is no connection, or none any more.
    Lost(String),
}

/// What the driver has to do, in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Action {
    /// Make a connection.
    Connect,
    /// Send these octets.
    Send(Bytes),
    /// Flush and close.
    Close,
    /// [`Client::vrps`] has changed, or there is none any more.
    Changed,
    /// Something for the log.
    Trouble(String),
}

/// A client of one cache.
#[derive(Debug)]
pub struct Client {
    /// Ours: what does not cover one of these is not kept.
    prefixes: BTreeSet<Prefix>,
    state: State,
    /// Of this connection, or the one to try.
    version: Version,
    /// The cache has shown that it speaks `version`.
    agreed: bool,
    data: Option<Data>,
    /// The query that is out asks for everything.
    reset: bool,
    staged: Staged,
    timing: Timing,
    /// When to connect, ask again or give up, as the state says.
    deadline: Option<Instant>,
    expires: Option<Instant>,
    actions: VecDeque<Action>,
}

/// What a cache has told us in full.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Data {
    /// Sessions of two versions have nothing in common (RFC 8210 §5.1).
    version: Version,
    session: u16,
    serial: u32,
    vrps: BTreeSet<Vrp>,
    truncated: bool,
}

/// What comes just now.
#[derive(Debug, Default)]
struct Staged {
    session: u16,
    vrps: BTreeSet<Vrp>,
    truncated: bool,
}

impl Client {
    /// A client that connects at once.
    #[must_use]
    pub fn new(prefixes: BTreeSet<Prefix>, now: Instant) -> Self {
        Self {
            prefixes,
            state: State::Waiting,
            version: Version::V1,
            agreed: false,
            data: None,
            reset: true,
            staged: Staged::default(),
            timing: Timing {
                retry: RECONNECT,
                ..Timing::DEFAULT
            },
            deadline: Some(now),
            expires: None,
            actions: VecDeque::new(),
        }
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Version, session and serial of the data, if there is any.
    #[must_use]
    pub fn serial(&self) -> Option<(Version, u16, u32)> {
        self.data
            .as_ref()
            .map(|data| (data.version, data.session, data.serial))
    }

    /// The VRPs that cover our prefixes; `None` while nothing is known.
    #[must_use]
    pub fn vrps(&self) -> Option<&BTreeSet<Vrp>> {
        self.data.as_ref().map(|data| &data.vrps)
    }

    /// More VRPs covered our prefixes than are kept.
    #[must_use]
    pub fn truncated(&self) -> bool {
        self.data.as_ref().is_some_and(|data| data.truncated)
    }

    /// The next thing to do.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// When to call [`Client::on_deadline`] next.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.deadline.into_iter().chain(self.expires).min()
    }

    /// The time has come.
    pub fn on_deadline(&mut self, now: Instant) {
        if self.expires.is_some_and(|expires| expires <= now) {
            // RFC 8210 §6: what is not refreshed within the expire interval must not be used.
            self.expires = None;
            self.forget("the data of the cache has expired");
        }
        if self.deadline.is_none_or(|deadline| deadline > now) {
            return;
        }
        self.deadline = None;
        match self.state {
            State::Waiting => {
                self.state = State::Connecting;
                self.actions.push_back(Action::Connect);
                self.deadline = Some(now + ANSWER_LIMIT);
            }
            State::Connecting => self.lose("the cache does not answer", self.timing.retry, now),
            State::Asked | State::Receiving => {
                self.lose("the cache does not answer our query", self.timing.retry, now);
            }
            State::Current => self.ask(now),
        }
    }

    /// Takes one piece of news.
    pub fn handle(&mut self, input: Input, now: Instant) {
        match input {
            Input::Connected => {
                if self.state == State::Connecting {
                    self.agreed = false;
                    self.ask(now);
                }
            }
            Input::Lost(cause) => {
                if self.state != State::Waiting {
                    self.version = Version::V1;
                    self.lose(&cause, self.timing.retry, now);
                }
            }
            Input::Malformed(malformed) => self.refuse(malformed, now),
            Input::Pdu(version, pdu) => self.on_pdu(version, pdu, now),
        }
    }

    fn on_pdu(&mut self, version: Version, pdu: Pdu, now: Instant) {
        if matches!(self.state, State::Waiting | State::Connecting) {
            return; // of a connection that is gone
        }
        if let Err(code) = self.check_version(version, &pdu) {
            let text = format!(
                "the cache speaks RTR version {} in a session of version {}",
                version as u8, self.version as u8
            );
            return self.refuse_pdu(version, &pdu, code, text, now);
        }
        match (self.state, pdu) {
            (State::Waiting | State::Connecting, _) => {}
            // RFC 8210 §7: before the first answer a notification tells nothing of the version.
            (State::Asked | State::Receiving, Pdu::SerialNotify { .. }) => {}
            (State::Current, Pdu::SerialNotify { session, serial }) => {
                let news = self
                    .data
                    .as_ref()
                    .is_none_or(|data| (data.session, data.serial) != (session, serial));
                if news {
                    self.ask(now);
                }
            }
            (State::Asked, Pdu::CacheResponse { session }) => self.on_response(session, now),
            // RFC 8210 §5.9: what we have is too old for a difference; it stays until all has come anew.
            (State::Asked, Pdu::CacheReset) if !self.reset => self.ask_for(true, now),
            (State::Receiving, Pdu::Prefix { announce, vrp }) => self.on_prefix(announce, vrp, now),
            (State::Receiving, Pdu::RouterKey) => self.deadline = Some(now + ANSWER_LIMIT),
            (
                State::Receiving,
                Pdu::EndOfData {
                    session,
                    serial,
                    timing,
                },
            ) => self.on_end(session, serial, timing, now),
            (State::Asked | State::Receiving | State::Current, Pdu::ErrorReport { code, text, .. }) => {
                self.on_error(version, code, &text, now);
            }
            (
                State::Asked | State::Receiving | State::Current,
                pdu @ (Pdu::SerialQuery { .. } | Pdu::ResetQuery),
            ) => {
                let text = "the cache asks us".to_owned();
                self.refuse_pdu(version, &pdu, code::UNSUPPORTED_PDU, text, now);
            }
            (
                State::Asked,
                pdu @ (Pdu::CacheReset | Pdu::Prefix { .. } | Pdu::EndOfData { .. } | Pdu::RouterKey),
            )
            | (State::Receiving, pdu @ (Pdu::CacheResponse { .. } | Pdu::CacheReset))
            | (
                State::Current,
                pdu @ (Pdu::CacheResponse { .. }
                | Pdu::CacheReset
                | Pdu::Prefix { .. }
                | Pdu::EndOfData { .. }
                | Pdu::RouterKey),
            ) => {
                let text = format!("the cache sent {} while we are {:?}", pdu.name(), self.state);
                self.refuse_pdu(version, &pdu, code::CORRUPT_DATA, text, now);
            }
        }
    }

    /// RFC 8210 §7: the first answer tells whether the cache knows our version; from then on it must not change.
    fn check_version(&mut self, version: Version, pdu: &Pdu) -> Result<(), u16> {
        let answer = matches!(pdu, Pdu::CacheResponse { .. } | Pdu::CacheReset);
        if version == self.version {
            self.agreed |= answer;
            return Ok(());
        }
        // Neither binds: one is a refusal, the other comes unasked.
        let unbinding = matches!(pdu, Pdu::ErrorReport { .. } | Pdu::SerialNotify { .. });
        if unbinding && !self.agreed {
            return Ok(());
        }
        if answer && !self.agreed && version < self.version {
            self.version = version;
            self.agreed = true;
            return Ok(());
        }
        Err(code::UNEXPECTED_VERSION)
    }

    fn on_response(&mut self, session: u16, now: Instant) {
        let ours = self.data.as_ref().filter(|_| !self.reset);
        let same = |data: &Data| (data.version, data.session) == (self.version, session);
        if ours.is_some_and(|data| !same(data)) {
            // RFC 8210 §5.5: the cache has begun anew; what we have means nothing any more.
            self.forget("the cache has begun a new session");
            return self.lose("the session of the cache is another one", Duration::ZERO, now);
        }
        self.staged = Staged {
            session,
            vrps: ours.map(|data| data.vrps.clone()).unwrap_or_default(),
            truncated: ours.is_some_and(|data| data.truncated),
        };
        self.state = State::Receiving;
        self.deadline = Some(now + ANSWER_LIMIT);
    }

    fn on_prefix(&mut self, announce: bool, vrp: Vrp, now: Instant) {
        self.deadline = Some(now + ANSWER_LIMIT);
        if !self.covers_ours(&vrp) {
            return;
        }
        let Staged { vrps, truncated, .. } = &mut self.staged;
        let fault = match (announce, vrps.contains(&vrp)) {
            (true, true) => Some((code::DUPLICATE, "announced twice")),
            (true, false) if vrps.len() == MAX_VRPS => {
                *truncated = true;
                None
            }
            (true, false) => {
                vrps.insert(vrp);
                None
            }
            (false, true) => {
                vrps.remove(&vrp);
                None
            }
            // Of what was dropped nobody knows.
            (false, false) if *truncated => None,
            (false, false) => Some((code::UNKNOWN_WITHDRAWAL, "withdrawn but never announced")),
        };
        if let Some((code, what)) = fault {
            let pdu = Pdu::Prefix { announce, vrp };
            self.refuse_pdu(self.version, &pdu, code, format!("{vrp} was {what}"), now);
        }
    }

    /// Whether it covers a prefix of ours. In their order a prefix stands right before what it covers.
    fn covers_ours(&self, vrp: &Vrp) -> bool {
        let next = self.prefixes.range(vrp.prefix..).next();
        next.is_some_and(|prefix| vrp.covers(prefix))
    }

    fn on_end(&mut self, session: u16, serial: u32, timing: Option<Timing>, now: Instant) {
        let staged = std::mem::take(&mut self.staged);
        if session != staged.session {
            let pdu = Pdu::EndOfData {
                session,
                serial,
                timing,
            };
            let text = format!(
                "session {session} at the end of the data of session {}",
                staged.session
            );
            return self.refuse_pdu(self.version, &pdu, code::CORRUPT_DATA, text, now);
        }
        let data = Data {
            version: self.version,
            session,
            serial,
            vrps: staged.vrps,
            truncated: staged.truncated,
        };
        let unchanged = self
            .data
            .as_ref()
            .is_some_and(|old| (&old.vrps, old.truncated) == (&data.vrps, data.truncated));
        self.data = Some(data);
        self.timing = timing.unwrap_or(Timing::DEFAULT).bounded();
        self.state = State::Current;
        self.deadline = Some(now + self.timing.refresh);
        self.expires = Some(now + self.timing.expire);
        if !unchanged {
            self.actions.push_back(Action::Changed);
        }
    }

    fn on_error(&mut self, version: Version, code: u16, text: &str, now: Instant) {
        let told = format!("the cache reports error {code}: {text}");
        match code {
            code::NO_DATA => {
                // RFC 8210 §12: the one error that does not end the session.
                self.actions.push_back(Action::Trouble(told));
                self.state = State::Current;
                self.deadline = Some(now + self.timing.retry);
            }
            code::UNSUPPORTED_VERSION if !self.agreed && version < self.version => {
                // RFC 8210 §7: the cache may have hung up with it.
                self.lose(&told, Duration::ZERO, now);
                self.version = Version::V0;
            }
            _ => {
                self.version = Version::V1;
                self.lose(&told, self.timing.retry, now);
            }
        }
    }

    fn ask(&mut self, now: Instant) {
        let known = self
            .data
            .as_ref()
            .is_some_and(|data| data.version == self.version);
        self.ask_for(!known, now);
    }

    fn ask_for(&mut self, reset: bool, now: Instant) {
        let serial = |data: &Data| Pdu::SerialQuery {
            session: data.session,
            serial: data.serial,
        };
        let query = self.data.as_ref().filter(|_| !reset).map(serial);
        self.reset = query.is_none();
        let query = encode(&query.unwrap_or(Pdu::ResetQuery), self.version);
        self.actions.push_back(Action::Send(query));
        self.state = State::Asked;
        self.deadline = Some(now + ANSWER_LIMIT);
    }

    fn refuse_pdu(&mut self, version: Version, pdu: &Pdu, code: u16, text: String, now: Instant) {
        let quoted = encode(pdu, version);
        let code = Some(code);
        self.refuse(Malformed { code, text, quoted }, now);
    }

    fn refuse(&mut self, malformed: Malformed, now: Instant) {
        let Malformed { code, text, quoted } = malformed;
        if let Some(code) = code {
            let report = Pdu::ErrorReport {
                code,
                quoted,
                text: text.clone(),
            };
            self.actions
                .push_back(Action::Send(encode(&report, self.version)));
        }
        self.version = Version::V1;
        self.lose(&text, self.timing.retry, now);
    }

    fn lose(&mut self, cause: &str, wait: Duration, now: Instant) {
        self.actions.push_back(Action::Close);
        self.actions.push_back(Action::Trouble(cause.to_owned()));
        self.state = State::Waiting;
        self.agreed = false;
        self.staged = Staged::default();
        self.deadline = Some(now + wait);
    }

    fn forget(&mut self, why: &str) {
        self.expires = None;
        if self.data.take().is_some() {
            self.actions.push_back(Action::Trouble(why.to_owned()));
            self.actions.push_back(Action::Changed);
        }
    }
}
