//! Poll Sequences: how intervals change while a session is up (RFC 5880 §6.5, §6.8.3).

use super::config::Intervals;

/// Where we are with telling the peer of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Poll {
    phase: Phase,
    /// A change waits for its turn.
    wanted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Phase {
    #[default]
    Idle,
    /// Our packets carry the P bit until one with the F bit comes.
    Running,
    /// Over; but the answer to an earlier packet may still come, so a new one waits for a packet without the F
    /// bit (§6.8.3, the third choice).
    Settling,
}

impl Poll {
    pub(super) fn want(&mut self) {
        self.wanted = true;
    }

    pub(super) fn may_begin(self) -> bool {
        self.wanted && self.phase == Phase::Idle
    }

    /// Takes the turn; where nothing `changed` there is nothing to tell.
    pub(super) fn begin(&mut self, changed: bool) {
        self.wanted = false;
        if changed {
            self.phase = Phase::Running;
        }
    }

    pub(super) fn is_running(self) -> bool {
        self.phase == Phase::Running
    }

    /// A packet with the F bit: whether it ends one.
    pub(super) fn end(&mut self) -> bool {
        let ends = self.is_running();
        if ends {
            self.phase = Phase::Settling;
        }
        ends
    }

    /// A packet without the F bit.
    pub(super) fn settle(&mut self) {
        if self.phase == Phase::Settling {
            self.phase = Phase::Idle;
        }
    }
}

/// The intervals that we say, and those that we still keep while the peer may not know the new ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Promises {
    said: Intervals,
    kept: Intervals,
}

impl Promises {
    pub(super) fn new(intervals: Intervals) -> Self {
        Self {
            said: intervals,
            kept: intervals,
        }
    }

    /// What packets carry.
    pub(super) fn said(&self) -> Intervals {
        self.said
    }

    /// What timers are made of.
    pub(super) fn kept(&self) -> Intervals {
        self.kept
    }

    /// While up: says other intervals. We go slower, and expect the peer to be faster, only when it has answered.
    pub(super) fn change(&mut self, to: Intervals) -> bool {
        let changed = self.said != to;
        self.said = to;
        self.kept = Intervals {
            desired_min_tx: self.kept.desired_min_tx.min(to.desired_min_tx),
            required_min_rx: self.kept.required_min_rx.max(to.required_min_rx),
        };
        changed
    }

    /// The peer has answered.
    pub(super) fn keep(&mut self) {
        self.kept = self.said;
    }
}
