//! What happened, told from two pictures: what others were told last, and what is so now. Pure: no clock, no channel.
//!
//! ```text
//! told: Facts ──┐
//!               ├─► events() ─► Events ─► apply() ─► told: Facts
//! Snapshot ─────┘        (and route_events() for what the announcer says)
//! ```
//!
//! Nobody calls in here when something happens, so nothing can be forgotten to be told: whatever differs from what was told
//! is told. What was told may be as old as the process before this one. All of it goes by names, since no id outlives a
//! reload.
//!
//! - Before the first full round of checks nothing is compared: nothing is known yet.
//! - The first time that an endpoint is seen up, or a prefix announced, is remembered and is no news ([`Event::is_news`]).
//! - Causes and numbers are for people: where only they differ nothing has happened.

mod compare;
mod fact;
#[cfg(test)]
mod tests;
mod text;

use std::collections::BTreeMap;

use jiff::Timestamp;
use steer_topology::EventKind;

use crate::snapshot::Verdict;

pub use compare::{Moment, RoutePicture, apply, events, route_events};
pub use fact::{Fact, RouteState};

/// What was told last of each subject.
pub type Facts = BTreeMap<Key, Fact>;

/// What something is told of.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// What kind of thing.
    pub kind: EventKind,
    /// An endpoint or a site by [`crate::Target::name`], or a prefix and its site: `192.0.2.53/32@fra`.
    pub name: String,
}

/// Where an endpoint stands and what becomes of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its pool.
    pub pool: String,
    /// Its address and port.
    pub address: String,
    /// Its site.
    pub site: Option<String>,
    /// The word of [`crate::Service`]: what follows from its verdict.
    pub service: &'static str,
}

/// Something that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// To what.
    pub key: Key,
    /// What was told before; absent: nothing.
    pub from: Option<Fact>,
    /// What stands now; absent: nothing any more.
    pub to: Option<Fact>,
    /// The snapshot that brought it.
    pub snapshot: u64,
    /// When that was.
    pub at: Timestamp,
    /// Of an endpoint that the configuration still has.
    pub place: Option<Place>,
}

/// What happened, in a word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum What {
    /// Another verdict; or other words of a drain or a forced verdict.
    Changed,
    /// An endpoint that was down is not in the configuration any more.
    Gone,
    /// The guard refused to take an endpoint out.
    Refused,
    /// The guard holds it no more.
    Released,
    /// A wish of an operator began.
    Begun,
    /// Somebody ended it.
    Ended,
    /// Its time is over.
    Expired,
    /// A prefix is announced.
    Announced,
    /// It steps down by a drain.
    Draining,
    /// It is held back.
    HeldBack,
    /// It is not announced any more.
    Withdrawn,
}

impl What {
    /// The word that payloads use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Gone => "gone",
            Self::Refused => "refused",
            Self::Released => "released",
            Self::Begun => "begun",
            Self::Ended => "ended",
            Self::Expired => "expired",
            Self::Announced => "announced",
            Self::Draining => "draining",
            Self::HeldBack => "held-back",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Event {
    /// What happened.
    #[must_use]
    pub fn what(&self) -> What {
        match (self.key.kind, &self.from, &self.to) {
            (EventKind::Verdict, _, Some(_)) => What::Changed,
            (EventKind::Verdict, _, None) => What::Gone,
            (EventKind::Guard, _, Some(_)) => What::Refused,
            (EventKind::Guard, _, None) => What::Released,
            (EventKind::Drain | EventKind::Force, None, Some(_)) => What::Begun,
            (EventKind::Drain | EventKind::Force, Some(_), Some(_)) => What::Changed,
            (EventKind::Drain | EventKind::Force, from, None) => {
                let until = from.as_ref().and_then(Fact::until);
                match until.is_some_and(|until| until <= self.at) {
                    true => What::Expired,
                    false => What::Ended,
                }
            }
            (EventKind::Route, _, to) => match to {
                Some(Fact::Route { state, .. }) => match state {
                    RouteState::Announced => What::Announced,
                    RouteState::Draining => What::Draining,
                    RouteState::Held => What::HeldBack,
                    RouteState::Withdrawn => What::Withdrawn,
                },
                Some(Fact::Verdict { .. } | Fact::Guard { .. } | Fact::Drain(_) | Fact::Force(_)) | None => {
                    What::Withdrawn
                }
            },
        }
    }

    /// Whether anybody is to be told. That something is well when it is first looked at is remembered and not told; nor is it
    /// told that the configuration has no more what was well, or withdrawn.
    #[must_use]
    pub fn is_news(&self) -> bool {
        match (&self.from, &self.to) {
            (None, Some(Fact::Verdict { verdict, .. })) | (Some(Fact::Verdict { verdict, .. }), None) => {
                *verdict == Verdict::Down
            }
            (None, Some(Fact::Route { state, .. })) => *state != RouteState::Announced,
            (Some(Fact::Route { state, .. }), None) => *state != RouteState::Withdrawn,
            (None | Some(_), _) => true,
        }
    }

    /// What was, in a word.
    #[must_use]
    pub fn from_word(&self) -> &'static str {
        self.from.as_ref().map_or_else(|| self.nothing(), Fact::word)
    }

    /// What is, in a word.
    #[must_use]
    pub fn to_word(&self) -> &'static str {
        match (&self.to, self.key.kind, &self.place) {
            (Some(fact), _, _) => fact.word(),
            (None, EventKind::Guard, Some(place)) => place.service,
            (None, EventKind::Guard | EventKind::Verdict, _) => "gone",
            (None, EventKind::Route, _) => RouteState::Withdrawn.as_str(),
            (None, EventKind::Drain | EventKind::Force, _) => self.nothing(),
        }
    }

    /// What stands where nothing was told.
    fn nothing(&self) -> &'static str {
        match self.key.kind {
            EventKind::Verdict => Verdict::Unknown.as_str(),
            EventKind::Guard => "not-held",
            EventKind::Drain => "not-drained",
            EventKind::Force => "not-forced",
            EventKind::Route => "unknown",
        }
    }

    /// Why; absent where nobody said.
    #[must_use]
    pub fn cause(&self) -> Option<&str> {
        let words = match (&self.to, self.key.kind) {
            (Some(Fact::Verdict { cause, .. }), _) => cause,
            (Some(Fact::Guard { reason }), _) => reason,
            (Some(Fact::Drain(drain)), _) => &drain.reason,
            (Some(Fact::Force(force)), _) => &force.reason,
            (Some(Fact::Route { why, .. }), _) => why.as_ref()?,
            (None, EventKind::Route | EventKind::Verdict) => {
                return Some("the configuration does not have it any more");
            }
            (None, EventKind::Guard | EventKind::Drain | EventKind::Force) => return None,
        };
        Some(words.as_str()).filter(|words| !words.is_empty())
    }
}
