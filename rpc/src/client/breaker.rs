//! Whether a target is asked at all. One breaker per target; no clock and no socket.
//!
//! ```text
//! closed ─ failures in a row ─► open ─ the wait is over ─► half open ─┬─ its probes succeed ─► closed
//!                                 ▲                                   │
//!                                 └───────── one of them fails ───────┘   the next wait is longer
//! ```

use std::time::{Duration, Instant};

use crate::fate::Backoff;

/// The limits of a breaker.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerLimits {
    /// So many failures in a row open it.
    pub failures: u32,
    /// How long it stays open: the first time, and at most; the longest of each wait, without jitter.
    pub open: Backoff,
    /// Calls that wait for an answer at the same time while it is half open, and successes that close it.
    pub probes: u32,
    /// Calls that wait for an answer at the same time, whatever its state is.
    pub calls: u32,
}

impl BreakerLimits {
    /// Five failures; 50 ms, doubled up to 1 s; two probes; a thousand calls.
    pub const DEFAULT: Self = Self {
        failures: 5,
        open: Backoff::DEFAULT,
        probes: 2,
        calls: 1000,
    };
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Calls pass.
    Closed {
        /// In a row.
        failures: u32,
    },
    /// No call passes before this moment.
    Open {
        /// When it is tried again.
        until: Instant,
    },
    /// A few calls pass, to see.
    HalfOpen {
        /// Those that have not ended.
        under_way: u32,
        /// Those that ended well.
        succeeded: u32,
    },
}

/// How a call to the target ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It answers.
    Well,
    /// It does not, and that is its fault or its network's.
    Badly,
    /// That says nothing of it.
    Silently,
}

/// Why a call does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Barred {
    /// Too many failures; again at this moment.
    #[error("it failed too often and is not asked")]
    Open(Instant),
    /// Others are looking whether it is back.
    #[error("it failed too often, and others are looking whether it is back")]
    Probing,
    /// As many calls as it may have.
    #[error("it has as many calls as it may have")]
    Full,
}

/// Leave for one call. Its end must be told with it.
#[derive(Debug)]
#[must_use = "a call that is not told to have ended counts as under way for ever"]
pub struct Leave {
    /// Of which era: what began before a change of state says nothing of what came after it.
    era: u64,
}

/// A breaker.
#[derive(Debug)]
pub struct Breaker {
    limits: BreakerLimits,
    state: State,
    era: u64,
    /// How often it opened since it was last closed.
    opened: u32,
    under_way: u32,
}

/// What follows from the end of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    Stay(State),
    Open,
    Close,
}

/// The one transition table.
const fn next(state: State, ended: Ended, limits: &BreakerLimits) -> Next {
    match (state, ended) {
        (State::Closed { .. }, Ended::Well) => Next::Stay(State::Closed { failures: 0 }),
        (State::Closed { failures }, Ended::Badly) if failures + 1 >= limits.failures => Next::Open,
        (State::Closed { failures }, Ended::Badly) => Next::Stay(State::Closed {
            failures: failures + 1,
        }),
        (State::HalfOpen { succeeded, .. }, Ended::Well) if succeeded + 1 >= limits.probes => Next::Close,
        (State::HalfOpen { under_way, succeeded }, Ended::Well) => Next::Stay(State::HalfOpen {
            under_way: under_way.saturating_sub(1),
            succeeded: succeeded + 1,
        }),
        (State::HalfOpen { .. }, Ended::Badly) => Next::Open,
        // A probe that said nothing makes room for another one.
        (State::HalfOpen { under_way, succeeded }, Ended::Silently) => Next::Stay(State::HalfOpen {
            under_way: under_way.saturating_sub(1),
            succeeded,
        }),
        (State::Closed { .. }, Ended::Silently) => Next::Stay(state),
        (State::Open { .. }, Ended::Well | Ended::Badly | Ended::Silently) => Next::Stay(state),
    }
}

impl Breaker {
    /// A closed one.
    #[must_use]
    pub const fn new(limits: BreakerLimits) -> Self {
        Self {
            limits,
            state: State::Closed { failures: 0 },
            era: 0,
            opened: 0,
            under_way: 0,
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// Whether a call would pass.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn allows(&self, now: Instant) -> Result<(), Barred> {
        if self.under_way >= self.limits.calls {
            return Err(Barred::Full);
        }
        match self.state {
            State::Closed { .. } => Ok(()),
            State::Open { until } if now < until => Err(Barred::Open(until)),
            State::Open { .. } => Ok(()),
            State::HalfOpen { under_way, succeeded } if under_way + succeeded >= self.limits.probes => {
                Err(Barred::Probing)
            }
            State::HalfOpen { .. } => Ok(()),
        }
    }

    /// Lets a call pass.
    ///
    /// # Errors
    ///
    /// Why not.
    pub fn admit(&mut self, now: Instant) -> Result<Leave, Barred> {
        self.allows(now)?;
        match self.state {
            State::Closed { .. } => {}
            State::Open { .. } => self.enter(State::HalfOpen {
                under_way: 1,
                succeeded: 0,
            }),
            State::HalfOpen { under_way, succeeded } => {
                self.state = State::HalfOpen {
                    under_way: under_way + 1,
                    succeeded,
                };
            }
        }
        self.under_way += 1;
        Ok(Leave { era: self.era })
    }

    /// A call has ended. Tells whether this opened the breaker.
    pub fn on_end(&mut self, leave: &Leave, ended: Ended, now: Instant) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        if leave.era != self.era {
            return false;
        }
        match next(self.state, ended, &self.limits) {
            Next::Stay(state) => self.state = state,
            Next::Close => {
                self.opened = 0;
                self.enter(State::Closed { failures: 0 });
            }
            Next::Open => {
                let wait: Duration = self.limits.open.ceiling(self.opened);
                self.opened = self.opened.saturating_add(1);
                self.enter(State::Open { until: now + wait });
                return true;
            }
        }
        false
    }

    fn enter(&mut self, state: State) {
        self.era += 1;
        self.state = state;
    }
}

#[cfg(test)]
mod tests;
