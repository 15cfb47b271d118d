//! The envelope: what is sent is secret, whole, from a site of the fleet, to this one, and new.
//!
//! ```text
//! octet  0        1      2..5     5..21     21..29    29..37         37..
//!        version  kind   sender   session   counter   milliseconds   ciphertext and tag (16)
//!        └──────────────── associated data, with the receiver ─────┘
//! ```
//!
//! ChaCha20-Poly1305 (RFC 8439) under a key of its own for each session of each sender: HKDF-SHA256 (RFC 5869) of the
//! fleet's key with the session as salt. A session is 128 random bits, drawn at start; the nonce is its counter. So no
//! nonce comes twice under one key, however many sites send for however long, which random nonces under one shared key
//! could not promise.
//!
//! Replays: the counter of each session through a window of [`WINDOW`] numbers, and the sender's clock, which may differ
//! from ours by [`CLOCKS_DIFFER_MAX`]: what is older than that is refused even by a process that has just begun and
//! remembers nothing. The receiver is bound too, so that a packet to one site is none to another.
//!
//! Floods: what stands in clear is looked at first, and costs next to nothing. The costly step, a key for a session that is
//! not known, is taken for each source only so often without success (`gate`). Who is known passes in any case: its session is 128
//! bits that nobody guesses, so no flood keeps members apart.

mod dropped;
mod gate;
mod replay;

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf;

use super::keys::{KEY_LENGTH, Keys};
use super::site::{Roster, SiteName};
use gate::Gate;
use replay::Window;

pub use dropped::Dropped;
pub use replay::WINDOW;

/// Longest datagram.
pub const DATAGRAM_MAX: usize = 1400;

/// Longest frame of a stream.
pub const FRAME_MAX: usize = 65_536;

/// What the envelope adds to its content.
pub const OVERHEAD: usize = HEADER + TAG;

/// How far the sender's clock may be from ours.
pub const CLOCKS_DIFFER_MAX: Duration = Duration::from_secs(60);

/// Sessions of one sender that are remembered; a site that restarts more often within [`CLOCKS_DIFFER_MAX`] could have
/// a packet of a forgotten one replayed, which says nothing new.
const SESSIONS_MAX: usize = 16;

const VERSION: u8 = 1;
const HEADER: usize = 37;
const TAG: usize = 16;

/// The number of a run of packets under one key: 128 random bits.
pub type SessionId = [u8; 16];

/// How an envelope travels. Part of what is authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A UDP datagram.
    Datagram,
    /// A frame of a TCP connection; every one but the first is bound to the session of the first.
    Frame,
}

impl Kind {
    fn octet(self) -> u8 {
        match self {
            Self::Datagram => 1,
            Self::Frame => 2,
        }
    }

    fn longest(self) -> usize {
        match self {
            Self::Datagram => DATAGRAM_MAX,
            Self::Frame => FRAME_MAX,
        }
    }
}

/// Seals what one site sends in one session.
#[derive(Debug)]
pub struct Sealer {
    me: SiteName,
    session: SessionId,
    key: LessSafeKey,
    counter: u64,
}

impl Sealer {
    /// `session` must be random and never used before.
    #[must_use]
    pub fn new(me: SiteName, keys: &Keys, session: SessionId) -> Self {
        Self {
            me,
            session,
            key: session_key(keys.sealing(), me, &session),
            counter: 0,
        }
    }

    /// Its session.
    #[must_use]
    pub fn session(&self) -> SessionId {
        self.session
    }

    /// The envelope around `content`. `answers` is the session that this answers, on a stream.
    #[must_use]
    pub fn seal(
        &mut self,
        kind: Kind,
        to: SiteName,
        answers: Option<SessionId>,
        content: &[u8],
        at: Timestamp,
    ) -> Vec<u8> {
        self.counter += 1; // 2^64 packets outlive us
        let mut envelope = Vec::with_capacity(HEADER + content.len() + TAG);
        envelope.extend([VERSION, kind.octet()]);
        envelope.extend(self.me.octets());
        envelope.extend(self.session);
        envelope.extend(self.counter.to_be_bytes());
        envelope.extend(at.as_millisecond().to_be_bytes());
        let bound = bound(&envelope, to, answers);
        let mut body = content.to_vec();
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(self.counter), Aad::from(bound), &mut body);
        envelope.append(&mut body);
        // Fails for contents of 256 GiB alone; without its tag the envelope opens nowhere.
        if let Ok(tag) = tag {
            envelope.extend(tag.as_ref());
        }
        envelope
    }
}

/// What was in an envelope.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Who sealed it.
    pub sender: SiteName,
    /// In which session.
    pub session: SessionId,
    /// What it says.
    pub content: Vec<u8>,
}

/// Opens what others send to one site.
#[derive(Debug)]
pub struct Opener {
    me: SiteName,
    keys: Keys,
    sessions: HashMap<SiteName, Vec<Session>>,
    gate: Gate,
}

/// From where an envelope came, and when.
#[derive(Debug, Clone, Copy)]
pub struct Source {
    /// Whose address it has; anybody may write any.
    pub from: IpAddr,
    /// By the steady clock.
    pub now: Instant,
}

#[derive(Debug)]
struct Session {
    id: SessionId,
    /// The fleet's key that `key` was made of.
    of: [u8; KEY_LENGTH],
    key: LessSafeKey,
    seen: Window,
    /// Our clock at the last packet.
    last: Timestamp,
}

/// What stands in clear.
struct Header {
    kind: u8,
    sender: SiteName,
    session: SessionId,
    counter: u64,
    sealed_at: i64,
}

impl Opener {
    /// Opens for `me`.
    #[must_use]
    pub fn new(me: SiteName, keys: Keys) -> Self {
        Self {
            me,
            keys,
            sessions: HashMap::new(),
            gate: Gate::default(),
        }
    }

    /// Opens with other keys from now on. What was sealed with a key that is gone is refused.
    pub fn set_keys(&mut self, keys: Keys) {
        self.keys = keys;
        for sessions in self.sessions.values_mut() {
            sessions.retain(|session| self.keys.opening().any(|key| *key == session.of));
        }
    }

    /// The content of an envelope, once.
    ///
    /// # Errors
    /// Why it was dropped. The cheap reasons come first.
    pub fn open(
        &mut self,
        kind: Kind,
        roster: &Roster,
        answers: Option<SessionId>,
        envelope: &[u8],
        at: Timestamp,
    ) -> Result<Opened, Dropped> {
        self.open_from(None, kind, roster, answers, envelope, at)
    }

    /// The same, with a bound on what one source may cost.
    ///
    /// # Errors
    /// As [`Opener::open`].
    pub fn open_from(
        &mut self,
        source: Option<Source>,
        kind: Kind,
        roster: &Roster,
        answers: Option<SessionId>,
        envelope: &[u8],
        at: Timestamp,
    ) -> Result<Opened, Dropped> {
        if envelope.len() > kind.longest() {
            return Err(Dropped::Oversized);
        }
        let (clear, sealed) = envelope.split_at_checked(HEADER).ok_or(Dropped::Malformed)?;
        let header = Header::read(clear)?;
        if header.kind != kind.octet() || sealed.len() < TAG {
            return Err(Dropped::Malformed);
        }
        if header.sender == self.me {
            return Err(Dropped::Reflected);
        }
        if !roster.has(header.sender) {
            return Err(Dropped::UnknownMember);
        }
        let differ = header.sealed_at.abs_diff(at.as_millisecond());
        if u128::from(differ) > CLOCKS_DIFFER_MAX.as_millis() {
            return Err(Dropped::Stale);
        }
        let bound = bound(clear, self.me, answers);
        let content = self.open_sealed(source, &header, &bound, sealed, at)?;
        Ok(Opened {
            sender: header.sender,
            session: header.session,
            content,
        })
    }

    fn open_sealed(
        &mut self,
        source: Option<Source>,
        header: &Header,
        bound: &[u8],
        sealed: &[u8],
        at: Timestamp,
    ) -> Result<Vec<u8>, Dropped> {
        let sessions = self.sessions.entry(header.sender).or_default();
        if let Some(session) = sessions.iter_mut().find(|session| session.id == header.session) {
            if session.seen.has(header.counter) {
                return Err(Dropped::Replayed);
            }
            let content = open(&session.key, header.counter, bound, sealed).ok_or(Dropped::WrongKey)?;
            session.seen.note(header.counter);
            session.last = at;
            return Ok(content);
        }
        if source.is_some_and(|source| !self.gate.is_open(source.from, source.now)) {
            return Err(Dropped::Flood);
        }
        for of in self.keys.opening() {
            let key = session_key(of, header.sender, &header.session);
            if let Some(content) = open(&key, header.counter, bound, sealed) {
                if sessions.len() >= SESSIONS_MAX {
                    let oldest = (0..sessions.len()).min_by_key(|index| sessions[*index].last);
                    oldest.map(|index| sessions.swap_remove(index));
                }
                let mut seen = Window::default();
                seen.note(header.counter);
                sessions.push(Session {
                    id: header.session,
                    of: *of,
                    key,
                    seen,
                    last: at,
                });
                return Ok(content);
            }
        }
        if let Some(source) = source {
            self.gate.count(source.from);
        }
        Err(Dropped::WrongKey)
    }
}

impl Header {
    fn read(clear: &[u8]) -> Result<Self, Dropped> {
        let octet = |at: usize| clear.get(at).copied().ok_or(Dropped::Malformed);
        if octet(0)? != VERSION {
            return Err(Dropped::Version);
        }
        let sender = SiteName::from_octets(fixed(clear, 2)?).ok_or(Dropped::UnknownMember)?;
        Ok(Self {
            kind: octet(1)?,
            sender,
            session: fixed(clear, 5)?,
            counter: u64::from_be_bytes(fixed(clear, 21)?),
            sealed_at: i64::from_be_bytes(fixed(clear, 29)?),
        })
    }
}

fn fixed<const N: usize>(octets: &[u8], at: usize) -> Result<[u8; N], Dropped> {
    let octets = octets.get(at..at + N).ok_or(Dropped::Malformed)?;
    octets.try_into().map_err(|_| Dropped::Malformed)
}

/// The associated data.
fn bound(clear: &[u8], to: SiteName, answers: Option<SessionId>) -> Vec<u8> {
    let mut bound = clear.to_vec();
    bound.extend(to.octets());
    bound.extend(answers.unwrap_or_default());
    bound
}

fn open(key: &LessSafeKey, counter: u64, bound: &[u8], sealed: &[u8]) -> Option<Vec<u8>> {
    let mut body = sealed.to_vec();
    let length = key
        .open_in_place(nonce(counter), Aad::from(bound), &mut body)
        .ok()?
        .len();
    body.truncate(length);
    Some(body)
}

fn nonce(counter: u64) -> Nonce {
    let mut nonce = [0; NONCE_LEN];
    nonce[NONCE_LEN - 8..].copy_from_slice(&counter.to_be_bytes());
    Nonce::assume_unique_for_key(nonce)
}

fn session_key(key: &[u8; KEY_LENGTH], sender: SiteName, session: &SessionId) -> LessSafeKey {
    let info = [b"steer gossip 1 ".as_slice(), &sender.octets()];
    let salt = hkdf::Salt::new(hkdf::HKDF_SHA256, session);
    let secret = salt.extract(key);
    #[expect(clippy::expect_used, reason = "32 octets are one block of SHA-256")]
    let derived = secret.expand(&info, &CHACHA20_POLY1305).expect("one block");
    LessSafeKey::new(UnboundKey::from(derived))
}

#[cfg(test)]
mod tests;
