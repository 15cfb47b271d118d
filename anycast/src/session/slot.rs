//! One connection of a machine, and what its triggers carry.

use std::time::{Duration, Instant};

use crate::wire::{Capabilities, Malformed, Notification, Reason};

use super::{Action, End, Negotiated, SessionId, State, Timers};

/// One connection and its state.
#[derive(Debug)]
pub(super) struct Slot {
    pub(super) id: SessionId,
    pub(super) state: State,
    pub(super) timers: Timers,
    pub(super) connected_at: Option<Instant>,
    /// Of our OPEN on this connection.
    pub(super) offered: Capabilities,
    /// There from OpenConfirm on.
    pub(super) negotiated: Option<Negotiated>,
    pub(super) established_at: Option<Instant>,
}

impl Slot {
    pub(super) fn new() -> Self {
        let (id, state) = (SessionId(0), State::Idle);
        Self {
            id,
            state,
            timers: Timers::default(),
            connected_at: None,
            offered: Capabilities::default(),
            negotiated: None,
            established_at: None,
        }
    }

    /// How long the connection has been open.
    pub(super) fn opened(&self, now: Instant) -> Duration {
        self.connected_at
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    /// How long the session has been up.
    pub(super) fn stood(&self, now: Instant) -> Duration {
        self.established_at
            .map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }
}

/// What a trigger carries, for effects and for the end that it may bring.
#[derive(Debug, Default)]
pub(super) struct News {
    pub(super) notification: Option<Notification>,
    pub(super) end: Option<End>,
    pub(super) delivery: Option<Action>,
}

impl News {
    /// The peer is refused: it gets the NOTIFICATION, we the text.
    pub(super) fn refusing(malformed: Malformed) -> Self {
        let Malformed { notification, text } = malformed;
        Self::telling(notification.clone(), End::Refused(notification, text))
    }

    /// An end that the peer is told of.
    pub(super) fn telling(notification: Notification, end: End) -> Self {
        Self {
            notification: Some(notification),
            end: Some(end),
            delivery: None,
        }
    }

    /// An end without a word.
    pub(super) fn ending(end: End) -> Self {
        Self {
            end: Some(end),
            ..Self::default()
        }
    }

    /// Something for the driver, if the state allows it.
    pub(super) fn delivering(delivery: Option<Action>) -> Self {
        Self {
            delivery,
            ..Self::default()
        }
    }

    pub(super) fn collision() -> Self {
        Self::telling(Notification::bare(Reason::ConnectionCollision), End::Collision)
    }
}
