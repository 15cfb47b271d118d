//! What foca wants to be woken for, in order.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use foca::Timer;

use super::awareness::Awareness;
use crate::gossip::member::Instance;

/// Foca's timers, by time; of equal ones in the order that foca wants.
#[derive(Debug, Default)]
pub(super) struct Timers {
    queue: BinaryHeap<Reverse<(Instant, Timer<Instance>, u64)>>,
    set: u64,
}

impl Timers {
    /// Sets one. What judges others takes as much longer as we are not well.
    pub(super) fn set(&mut self, timer: Timer<Instance>, after: Duration, now: Instant, health: Awareness) {
        let after = if judges(&timer) {
            health.stretch(after)
        } else {
            after
        };
        self.set += 1;
        self.queue.push(Reverse((now + after, timer, self.set)));
    }

    pub(super) fn next(&self) -> Option<Instant> {
        self.queue.peek().map(|Reverse((at, ..))| *at)
    }

    pub(super) fn pop_due(&mut self, now: Instant) -> Option<Timer<Instance>> {
        if self.next()? > now {
            return None;
        }
        self.queue.pop().map(|Reverse((_, timer, _))| timer)
    }

    /// Puts off whatever judges others: time in which we were not let run is not theirs to answer in.
    pub(super) fn put_off(&mut self, by: Duration) {
        let queue = std::mem::take(&mut self.queue).into_vec();
        let later = |Reverse((at, timer, set))| {
            let at = if judges(&timer) { at + by } else { at };
            Reverse((at, timer, set))
        };
        self.queue = queue.into_iter().map(later).collect();
    }
}

/// Whether a timer ends the time that another member has to answer.
fn judges(timer: &Timer<Instance>) -> bool {
    match timer {
        Timer::ProbeRandomMember(_) | Timer::SendIndirectProbe { .. } | Timer::ChangeSuspectToDown { .. } => {
            true
        }
        Timer::PeriodicAnnounce(_)
        | Timer::PeriodicGossip(_)
        | Timer::PeriodicAnnounceDown(_)
        | Timer::RemoveDown(_) => false,
    }
}
