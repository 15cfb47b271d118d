//! The thread's share of the CPU: before everything else, where the system permits it.

#![expect(
    unsafe_code,
    reason = "sched_setscheduler(2) and setpriority(2), for which there is no safe wrapper here"
)]

use std::fmt;

use nix::libc;
use serde::{Serialize, Serializer};

/// Low among the real-time priorities: before all ordinary work, behind whatever an operator holds dearer.
const FIFO: i32 = 10;

/// Tried in turn where real time is not permitted.
const NICE: [i32; 2] = [-20, -10];

/// What the thread got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Priority {
    /// `SCHED_FIFO`: no ordinary thread delays it.
    RealTime(i32),
    /// An ordinary thread that goes before most.
    Nice(i32),
    /// An ordinary thread.
    Ordinary,
}

impl fmt::Display for Priority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::RealTime(priority) => write!(f, "real-time {priority}"),
            Self::Nice(nice) => write!(f, "nice {nice}"),
            Self::Ordinary => f.write_str("ordinary"),
        }
    }
}

impl Serialize for Priority {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Raises the calling thread as far as it may be. It yields the CPU at each wait, and works for microseconds.
pub(super) fn raise() -> Priority {
    let parameters = libc::sched_param { sched_priority: FIFO };
    // A thread or process that this one starts is an ordinary one again.
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: the pointer is to a live structure, which the call only reads; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, policy, &raw const parameters) } == 0 {
        return Priority::RealTime(FIFO);
    }
    for nice in NICE {
        // SAFETY: takes numbers alone; 0 is the calling thread, for Linux keeps a nice value per thread.
        if unsafe { libc::setpriority(libc::PRIO_PROCESS, 0, nice) } == 0 {
            return Priority::Nice(nice);
        }
    }
    Priority::Ordinary
}
