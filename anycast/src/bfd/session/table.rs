//! The transition table (RFC 5880 §6.2, §6.8.4, §6.8.6, §6.8.16): every state answers every trigger.

use super::super::wire::{Diagnostic, State};

/// What can happen to a session. Whether a packet is good is decided before.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Trigger {
    /// The peer's operator holds it down.
    HeardAdminDown,
    /// The peer does not hear us, as far as it knows.
    HeardDown,
    /// The peer hears us.
    HeardInit,
    /// The peer knows that we hear it.
    HeardUp,
    /// Nothing came for a Detection Time.
    Silence,
    /// Our operator's wish.
    Disable,
    /// Our operator wants it back.
    Enable,
}

impl Trigger {
    /// All, in order.
    pub const ALL: [Self; 7] = [
        Self::HeardAdminDown,
        Self::HeardDown,
        Self::HeardInit,
        Self::HeardUp,
        Self::Silence,
        Self::Disable,
        Self::Enable,
    ];

    pub(super) fn heard(state: State) -> Self {
        match state {
            State::AdminDown => Self::HeardAdminDown,
            State::Down => Self::HeardDown,
            State::Init => Self::HeardInit,
            State::Up => Self::HeardUp,
        }
    }
}

/// What a transition does to `bfd.LocalDiag`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Effect {
    /// Nothing.
    Keep,
    /// It becomes this.
    Blame(Diagnostic),
}

/// One transition.
#[must_use]
pub fn step(state: State, trigger: Trigger) -> (State, Effect) {
    use Effect::{Blame, Keep};
    use State::{AdminDown, Down, Init, Up};
    use Trigger::{Disable, Enable, HeardAdminDown, HeardDown, HeardInit, HeardUp, Silence};

    const FINE: Effect = Blame(Diagnostic::NONE);
    const TOLD: Effect = Blame(Diagnostic::NEIGHBOR_SIGNALED);
    const DEAF: Effect = Blame(Diagnostic::DETECTION_TIME_EXPIRED);
    const WISH: Effect = Blame(Diagnostic::ADMINISTRATIVELY_DOWN);

    match (state, trigger) {
        // §6.8.6: nothing that a peer says ends it.
        (AdminDown, HeardAdminDown | HeardDown | HeardInit | HeardUp | Silence) => (AdminDown, Keep),
        (AdminDown, Disable) => (AdminDown, Keep),
        (AdminDown, Enable) => (Down, FINE),

        (Down, HeardAdminDown) => (Down, Keep),
        (Down, HeardDown) => (Init, Keep),
        (Down, HeardInit) => (Up, FINE),
        (Down, HeardUp) => (Down, Keep), // it has not seen yet that we are down
        (Down, Silence) => (Down, Keep),
        (Down, Disable) => (AdminDown, WISH),
        (Down, Enable) => (Down, Keep),

        (Init, HeardAdminDown) => (Down, TOLD),
        (Init, HeardDown) => (Init, Keep),
        (Init, HeardInit | HeardUp) => (Up, FINE),
        (Init, Silence) => (Down, DEAF),
        (Init, Disable) => (AdminDown, WISH),
        (Init, Enable) => (Init, Keep),

        (Up, HeardAdminDown | HeardDown) => (Down, TOLD),
        (Up, HeardInit | HeardUp) => (Up, Keep),
        (Up, Silence) => (Down, DEAF),
        (Up, Disable) => (AdminDown, WISH),
        (Up, Enable) => (Up, Keep),
    }
}
