//! A connection that is held to one endpoint for its end alone: when to make it, and what its end asks for.
//!
//! ```text
//!                Serves                 Connected
//! NotHeld ────────────────► Dialling ─────────────► Held
//!    ▲                       ▲    │                   │
//!    │ Down (from anywhere)  │    │ Refused: recheck  │ Cut: recheck
//!    │                   Due │    ▼                   │
//!    └───────────────────── Broken ◄──────────────────┘
//!                            waits for a probe that succeeds (Serves), then for the back-off (Due)
//! ```
//!
//! When the process behind a listening port dies, its kernel ends every connection with FIN or RST within
//! microseconds. That is no verdict (servers close idle connections too), but it is a reason to look at once: the
//! check probes, and that probe decides ([`Check::recheck`](crate::Check::recheck)). If it succeeds nothing happened,
//! and the wire is held again after a back-off. A wire that could be held for [`LONG`] starts over with the shortest
//! back-off, so an endpoint that closes at once is not asked all the time.

use std::collections::VecDeque;
use std::fmt;
use std::time::{Duration, Instant};

/// Back-off after the first cut; doubles with each that follows soon.
pub(crate) const BACKOFF_MIN: Duration = Duration::from_millis(10);

/// Longest back-off.
pub(crate) const BACKOFF_MAX: Duration = Duration::from_secs(30);

/// A wire that was held so long counts as one that can be held.
pub(crate) const LONG: Duration = Duration::from_secs(1);

/// How a held connection ended, or why it could not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// Closed in order (FIN).
    Closed,
    /// Torn down (RST).
    Reset,
    /// Not even made: nobody listens.
    Refused,
    /// It ended otherwise: no answer to keep-alives, no route, too much said on it.
    Failed,
    /// The peer is about to end it (GOAWAY of HTTP/2).
    GoAway,
    /// It stands, but on it the endpoint says of itself that it does not serve.
    NotServing,
    /// The process that serves there has exited.
    Exited,
}

/// What the driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Output {
    /// Connect, and tell what came of it under this number.
    Dial(Number),
    /// Let go of the connection, or of the attempt.
    Drop,
    /// The check is to look at once.
    Recheck(Cut),
}

/// The number of a connection, from 1. News of an older one are late and dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Number(pub(crate) u64);

/// One held connection to one endpoint: no socket, no task, no clock.
#[derive(Debug)]
pub(crate) struct Tripwire {
    state: State,
    last: Number,
    /// What the next redial waits.
    backoff: Duration,
    outputs: VecDeque<Output>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// The endpoint is not up: there is nothing to hold.
    NotHeld,
    /// A connection is being made.
    Dialling,
    /// It is held.
    Held {
        /// Since when.
        since: Instant,
    },
    /// It ended, or could not be made.
    Broken {
        /// When to dial again; not before a probe has succeeded when absent.
        redial: Option<Instant>,
    },
}

/// What may happen to a wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Event {
    /// A probe succeeded and the endpoint is up.
    Serves,
    /// The endpoint is not up any more.
    Down,
    /// The connection that was asked for stands.
    Connected,
    /// Nobody listens there.
    Refused,
    /// The connection could not be made for another reason, maybe our own: says nothing.
    Failed,
    /// The held connection ended.
    Cut(Cut),
    /// The time of [`Tripwire::next_deadline`] came.
    Due,
}

impl Tripwire {
    pub(crate) fn new() -> Self {
        Self {
            state: State::NotHeld,
            last: Number(0),
            backoff: BACKOFF_MIN,
            outputs: VecDeque::new(),
        }
    }

    /// When to tell [`Event::Due`], if ever.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Broken { redial } => redial,
            State::NotHeld | State::Dialling | State::Held { .. } => None,
        }
    }

    /// Whether the connection stands.
    pub(crate) fn is_held(&self) -> bool {
        matches!(self.state, State::Held { .. })
    }

    /// What to do next, in order; `None` when there is nothing more.
    pub(crate) fn poll_output(&mut self) -> Option<Output> {
        self.outputs.pop_front()
    }

    /// Whether news of this connection still matter.
    pub(crate) fn is_current(&self, number: Number) -> bool {
        number == self.last && self.state != State::NotHeld
    }

    /// The transition table.
    pub(crate) fn on_event(&mut self, event: Event, now: Instant) {
        self.state = match (self.state, event) {
            (State::NotHeld, Event::Serves) => self.dial(),
            (
                State::NotHeld,
                Event::Down | Event::Connected | Event::Refused | Event::Failed | Event::Cut(_) | Event::Due,
            ) => State::NotHeld,

            (State::Dialling, Event::Connected) => State::Held { since: now },
            // Between the last probe and now the listener went away.
            (State::Dialling, Event::Refused) => self.ask(Cut::Refused),
            (State::Dialling, Event::Failed) => self.wait(now),
            (State::Dialling, Event::Down) => self.let_go(),
            (State::Dialling, Event::Serves | Event::Cut(_) | Event::Due) => State::Dialling,

            (State::Held { since }, Event::Cut(cut)) => {
                if now.saturating_duration_since(since) >= LONG {
                    self.backoff = BACKOFF_MIN;
                }
                self.ask(cut)
            }
            (State::Held { .. }, Event::Down) => self.let_go(),
            (
                held @ State::Held { .. },
                Event::Serves | Event::Connected | Event::Refused | Event::Failed | Event::Due,
            ) => held,

            (State::Broken { redial: None }, Event::Serves) => self.wait(now),
            (State::Broken { redial: Some(at) }, Event::Due) if now >= at => self.dial(),
            (State::Broken { .. }, Event::Down) => self.let_go(),
            (
                broken @ State::Broken { .. },
                Event::Serves
                | Event::Connected
                | Event::Refused
                | Event::Failed
                | Event::Cut(_)
                | Event::Due,
            ) => broken,
        };
    }

    fn dial(&mut self) -> State {
        self.last = Number(self.last.0 + 1);
        self.outputs.push_back(Output::Dial(self.last));
        State::Dialling
    }

    fn ask(&mut self, cut: Cut) -> State {
        self.outputs.push_back(Output::Recheck(cut));
        State::Broken { redial: None }
    }

    fn wait(&mut self, now: Instant) -> State {
        let redial = Some(now + self.backoff);
        self.backoff = self.backoff.saturating_mul(2).min(BACKOFF_MAX);
        State::Broken { redial }
    }

    fn let_go(&mut self) -> State {
        self.backoff = BACKOFF_MIN;
        self.outputs.push_back(Output::Drop);
        State::NotHeld
    }
}

impl Cut {
    /// Value of the `how` label of `steer_health_tripwire_cuts_total`.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Reset => "reset",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::GoAway => "go-away",
            Self::NotServing => "not-serving",
            Self::Exited => "exited",
        }
    }

    /// Whether it leaves so little doubt that any failure of the probe that follows is a proof. After the end of a
    /// connection only a refusal or a reset is: servers close connections for many reasons.
    pub(crate) fn is_plain(self) -> bool {
        match self {
            Self::NotServing | Self::Exited => true,
            Self::Closed | Self::Reset | Self::Refused | Self::Failed | Self::GoAway => false,
        }
    }
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closed | Self::Reset | Self::Refused | Self::Failed => {
                write!(f, "held connection {}", self.label())
            }
            Self::GoAway => f.write_str("held connection is to end"),
            Self::NotServing => f.write_str("told while watched"),
            Self::Exited => f.write_str("process exited"),
        }
    }
}

#[cfg(test)]
mod tests;
