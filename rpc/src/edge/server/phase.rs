//! Whether clients are welcome: the drain of an edge, as its connections see it. Sans-IO.
//!
//! | Phase | who connects | who is connected |
//! | --- | --- | --- |
//! | open | is served | is served |
//! | leaving | is served, and told to go 10 s later | is told to go |
//! | closing | is refused, but for this host | is told to go, but for this host |
//! | over | is refused | is told to go |
//!
//! *Closing* is for the moment in which a route changes: who comes then would be cut off with it. *Leaving* is for the time after that:
//! who comes although there is a better way may have no other.
//!
//! To go is GOAWAY, and the end of the connection when its calls have ended or the bound of a drain has passed.

use std::time::{Duration, Instant};

/// See the table above.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not draining.
    Open,
    /// Draining, and whoever comes is served.
    Leaving,
    /// Draining, and whoever comes is sent away.
    Closing,
    /// The edge ends when its last connection does.
    Over,
}

/// Who connects while clients are leaving is told to go after this long: it may come back, and is to get something done.
const YOUNG: Duration = Duration::from_secs(10);

impl Phase {
    /// The word that status and metrics use.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Leaving => "leaving",
            Self::Closing => "closing",
            Self::Over => "over",
        }
    }

    /// Whether one who connects is served; `is_own`: it is this host, whose checks go on in a drain.
    pub(super) const fn serves(self, is_own: bool) -> bool {
        match self {
            Self::Open | Self::Leaving => true,
            Self::Closing => is_own,
            Self::Over => false,
        }
    }
}

/// What a connection is waiting for, so that it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stay {
    began: Instant,
    is_own: bool,
    bound: Duration,
    goes: Goes,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Goes {
    /// Not yet asked to.
    Not,
    /// It is to be told then.
    At(Instant),
    /// It was told, and may take until then.
    Told(Instant),
}

/// What is to be done with a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Farewell {
    /// GOAWAY: first with the highest number, and with the true one when that has arrived (RFC 9113 §6.8).
    Tell,
    /// It had its time.
    End,
}

impl Stay {
    /// A connection that begins in a phase; `bound`: how long it may take to go.
    pub(super) fn new(is_own: bool, bound: Duration, phase: Phase, now: Instant) -> Self {
        let mut stay = Self {
            began: now,
            is_own,
            bound,
            goes: Goes::Not,
        };
        stay.goes = stay.wanted(phase, now + YOUNG);
        stay
    }

    fn wanted(&self, phase: Phase, at: Instant) -> Goes {
        match phase {
            Phase::Open => Goes::Not,
            Phase::Leaving | Phase::Closing if self.is_own => Goes::Not,
            Phase::Leaving | Phase::Closing => Goes::At(at),
            Phase::Over => Goes::At(self.began),
        }
    }

    /// Another phase. Who was told goes, also when the drain is over: it has another connection by now.
    pub(super) fn on_phase(&mut self, phase: Phase, now: Instant) {
        self.goes = match self.goes {
            Goes::Told(until) => Goes::Told(until),
            Goes::At(at) => self.wanted(phase, at),
            Goes::Not => self.wanted(phase, now),
        };
    }

    /// When there is something to do.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        match self.goes {
            Goes::Not => None,
            Goes::At(at) | Goes::Told(at) => Some(at),
        }
    }

    /// What is due by now.
    pub(super) fn on_time(&mut self, now: Instant) -> Option<Farewell> {
        let (at, farewell) = match self.goes {
            Goes::Not => return None,
            Goes::At(at) => (at, Farewell::Tell),
            Goes::Told(until) => (until, Farewell::End),
        };
        if now < at {
            return None;
        }
        self.goes = Goes::Told(now + self.bound);
        Some(farewell)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUND: Duration = Duration::from_secs(30);

    fn stay(is_own: bool, phase: Phase, now: Instant) -> Stay {
        Stay::new(is_own, BOUND, phase, now)
    }

    #[test]
    fn who_is_connected_is_told_at_once_and_ended_when_its_time_is_over() {
        for phase in [Phase::Leaving, Phase::Closing, Phase::Over] {
            let mut now = Instant::now();
            let mut one = stay(false, Phase::Open, now);
            assert_eq!((one.deadline(), one.on_time(now)), (None, None));
            now += YOUNG * 3;
            one.on_phase(phase, now);
            assert_eq!(one.on_time(now), Some(Farewell::Tell), "{phase:?}");
            assert_eq!(one.on_time(now), None);
            assert_eq!(one.deadline(), Some(now + BOUND));
            assert_eq!(one.on_time(now + BOUND), Some(Farewell::End));
        }
    }

    #[test]
    fn who_comes_while_others_leave_is_told_later_whatever_the_phase_becomes() {
        let now = Instant::now();
        let mut one = stay(false, Phase::Leaving, now);
        assert_eq!(one.on_time(now), None);
        one.on_phase(Phase::Closing, now);
        assert_eq!(one.deadline(), Some(now + YOUNG));
        assert_eq!(one.on_time(now + YOUNG), Some(Farewell::Tell));
    }

    #[test]
    fn this_host_stays_until_the_edge_ends() {
        let now = Instant::now();
        let mut own = stay(true, Phase::Leaving, now);
        own.on_phase(Phase::Closing, now);
        assert_eq!(own.deadline(), None);
        own.on_phase(Phase::Over, now);
        assert_eq!(own.on_time(now), Some(Farewell::Tell));
    }

    #[test]
    fn an_undrain_keeps_who_was_not_told_and_nobody_else() {
        let now = Instant::now();
        let mut young = stay(false, Phase::Leaving, now);
        young.on_phase(Phase::Open, now);
        assert_eq!(young.deadline(), None);
        let mut old = stay(false, Phase::Open, now);
        old.on_phase(Phase::Leaving, now);
        assert_eq!(old.on_time(now), Some(Farewell::Tell));
        old.on_phase(Phase::Open, now);
        assert_eq!(old.on_time(now + BOUND), Some(Farewell::End));
    }
}
