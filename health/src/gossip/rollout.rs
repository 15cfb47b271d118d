//! One site after the other takes another file: who may begin, who waits for whom, and who stops all. Sans-IO.
//!
//! ```text
//! another file ─► waiting ─► trial ─► good          the others may
//!                    │          └───► bad, and back    the others that wait refuse the file
//!                    └─ somebody said bad of it ─► refused
//! ```
//!
//! A site tells its stage as one more word of its own, under [`key`]: versioned, repeated to who missed it, and good for as long as
//! all that it says. A file is known by its digest alone, so another one begins anew. Sites that are not there are not waited
//! for.
//!
//! As many sites try at once as have found the file good, and one at first. Of those that wait the smallest name goes first: what the
//! others do not know yet of somebody can then only make them wait longer, as long as words arrive within [`LISTEN`].

use std::fmt;
use std::time::{Duration, Instant};

use ring::digest;
use serde::Serialize;

use super::observation::{Key, REASON_MAX, cut};
use super::site::SiteName;

/// How long a site hears the others out before it begins.
pub const LISTEN: Duration = Duration::from_secs(2);

/// The stage of a site is told under this: no endpoint has such a name, for its pool would have none.
#[must_use]
pub fn key() -> Key {
    Key::of_name("//rollout")
}

/// What a file is known by: the first 64 bits of its SHA-256.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Digest(pub u64);

impl Digest {
    /// Of what the file says.
    #[must_use]
    pub fn of(octets: &[u8]) -> Self {
        let digest = digest::digest(&digest::SHA256, octets);
        let first = digest.as_ref().first_chunk().copied().unwrap_or_default();
        Self(u64::from_be_bytes(first))
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

/// How far a site is with its newest file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case", tag = "stage", content = "reason")]
pub enum Stage {
    /// It has it, and goes by the one of before.
    Waiting,
    /// It goes by it, and may go back.
    Trial,
    /// It goes by it.
    Good,
    /// It went by it and went back: why.
    Bad(String),
}

impl Stage {
    /// For people, and in a word.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Trial => "trial",
            Self::Good => "good",
            Self::Bad(_) => "bad",
        }
    }
}

/// What a site says of its newest file.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Word {
    /// Which file.
    pub digest: Digest,
    /// How far it is.
    #[serde(flatten)]
    pub stage: Stage,
}

impl Word {
    /// As it is told: `DIGEST STAGE [REASON]`, of [`REASON_MAX`] octets at most.
    #[must_use]
    pub fn encode(&self) -> String {
        let (digest, stage) = (self.digest, self.stage.as_str());
        let text = match &self.stage {
            Stage::Waiting | Stage::Trial | Stage::Good => format!("{digest} {stage}"),
            Stage::Bad(reason) => format!("{digest} {stage} {reason}"),
        };
        cut(&text).to_owned()
    }

    /// `None`: not one of these.
    #[must_use]
    pub fn decode(text: &str) -> Option<Self> {
        let mut parts = text.splitn(3, ' ');
        let digest = parts.next().filter(|digest| digest.len() == 16)?;
        let is_hex = digest
            .bytes()
            .all(|octet| matches!(octet, b'0'..=b'9' | b'a'..=b'f'));
        let digest = Digest(u64::from_str_radix(digest, 16).ok().filter(|_| is_hex)?);
        let (stage, reason) = (parts.next()?, parts.next());
        let stage = match (stage, reason) {
            ("waiting", None) => Stage::Waiting,
            ("trial", None) => Stage::Trial,
            ("good", None) => Stage::Good,
            ("bad", reason) => Stage::Bad(reason.unwrap_or_default().to_owned()),
            _ => return None,
        };
        Some(Self { digest, stage })
    }
}

const _: () = assert!(REASON_MAX > 16 + 1 + 7);

/// What a site does next with a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// It hears the others out, or waits for these.
    Wait(Vec<SiteName>),
    /// It begins its trial, now.
    Begin,
    /// It is on trial until then.
    Trial(Instant),
    /// It has tried it long enough, or had found so before.
    Good,
    /// Somebody tried it and went back; the file is not taken.
    Stopped {
        /// Who.
        by: SiteName,
        /// Why.
        reason: String,
    },
}

/// One file at one site, from the moment when it is to be taken.
#[derive(Debug, Clone)]
pub struct Rollout {
    me: SiteName,
    digest: Digest,
    /// How long a trial takes.
    takes: Duration,
    began: Instant,
    tried_since: Option<Instant>,
    stage: Stage,
}

impl Rollout {
    /// A file that is to be taken at `now`.
    #[must_use]
    pub fn new(me: SiteName, digest: Digest, takes: Duration, now: Instant) -> Self {
        Self {
            me,
            digest,
            takes,
            began: now,
            tried_since: None,
            stage: Stage::Waiting,
        }
    }

    /// What the others are to hear.
    #[must_use]
    pub fn word(&self) -> Word {
        Word {
            digest: self.digest,
            stage: self.stage.clone(),
        }
    }

    /// What to do at `now`, by what those sites say that are there. To be asked again when time passes or words come.
    pub fn step(&mut self, others: &[(SiteName, Word)], now: Instant) -> Next {
        match (&self.stage, self.tried_since) {
            (Stage::Waiting, _) => self.wait(others, now),
            (Stage::Trial, Some(since)) if now >= since + self.takes => {
                self.stage = Stage::Good;
                Next::Good
            }
            (Stage::Trial, since) => Next::Trial(since.unwrap_or(now) + self.takes),
            (Stage::Good, _) => Next::Good,
            (Stage::Bad(reason), _) => Next::Stopped {
                by: self.me,
                reason: reason.clone(),
            },
        }
    }

    fn wait(&mut self, others: &[(SiteName, Word)], now: Instant) -> Next {
        let with_it = || {
            let same = others.iter().filter(|(_, word)| word.digest == self.digest);
            same.filter(|(site, _)| *site != self.me)
                .map(|(site, word)| (*site, &word.stage))
        };
        let bad = with_it().find_map(|(site, stage)| match stage {
            Stage::Bad(reason) => Some((site, reason.clone())),
            Stage::Waiting | Stage::Trial | Stage::Good => None,
        });
        if let Some((by, reason)) = bad {
            return Next::Stopped { by, reason };
        }
        let at = |stage: Stage| {
            with_it()
                .filter(move |(_, one)| **one == stage)
                .map(|(site, _)| site)
        };
        let room = at(Stage::Good).count().max(1);
        // Who is ahead of us has its place already.
        let ahead = at(Stage::Trial).chain(at(Stage::Waiting).filter(|site| *site < self.me));
        let ahead: Vec<_> = ahead.collect();
        if now < self.began + LISTEN || ahead.len() >= room {
            return Next::Wait(ahead);
        }
        (self.stage, self.tried_since) = (Stage::Trial, Some(now));
        Next::Begin
    }

    /// The trial came to a bad end.
    pub fn goes_bad(&mut self, reason: &str) {
        self.stage = Stage::Bad(reason.to_owned());
    }
}

#[cfg(test)]
mod tests;
