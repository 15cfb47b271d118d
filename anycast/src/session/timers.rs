//! Timers as a table: one slot per kind, nothing to cancel elsewhere.

use std::time::Instant;

/// The timers of one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Timer {
    /// IdleHoldTimer (RFC 4271 §8.1.1): leaves Idle.
    Restart,
    /// ConnectRetryTimer
    Retry,
    /// HoldTimer
    Hold,
    /// KeepaliveTimer
    Keepalive,
    /// SendHoldTimer (RFC 9687). It runs only while octets wait that the peer does not take.
    SendHold,
}

impl Timer {
    /// All, in order.
    pub const ALL: [Self; 5] = [
        Self::Restart,
        Self::Retry,
        Self::Hold,
        Self::Keepalive,
        Self::SendHold,
    ];
}

/// When each timer fires, if it runs.
#[derive(Debug, Clone, Default)]
pub struct Timers([Option<Instant>; Timer::ALL.len()]);

impl Timers {
    /// Starts a timer, or moves it.
    pub fn arm(&mut self, timer: Timer, at: Instant) {
        self.0[timer as usize] = Some(at);
    }

    /// Stops a timer.
    pub fn stop(&mut self, timer: Timer) {
        self.0[timer as usize] = None;
    }

    /// Stops all.
    pub fn clear(&mut self) {
        self.0 = Default::default();
    }

    /// Whether a timer runs.
    #[must_use]
    pub fn runs(&self, timer: Timer) -> bool {
        self.0[timer as usize].is_some()
    }

    /// The earliest.
    #[must_use]
    pub fn next(&self) -> Option<Instant> {
        self.0.iter().flatten().min().copied()
    }

    /// Takes one timer that is due, the earliest first.
    pub fn pop_due(&mut self, now: Instant) -> Option<Timer> {
        let due = Timer::ALL
            .into_iter()
            .filter(|timer| self.0[*timer as usize].is_some_and(|at| at <= now));
        let timer = due.min_by_key(|timer| self.0[*timer as usize])?;
        self.stop(timer);
        Some(timer)
    }
}
