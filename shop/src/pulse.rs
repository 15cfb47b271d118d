//! How the load goes, a line each second: so that a lab knows when all is well.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use crate::journal::now_us;

/// So many seconds without anything bad are steady.
const CALM: u32 = 3;

/// What happened since the last line.
#[derive(Debug, Default)]
pub(crate) struct Pulse {
    good: AtomicU64,
    bad: AtomicU64,
    open: AtomicU64,
}

/// A line.
#[derive(Debug, Serialize)]
struct Beat {
    at_us: i64,
    /// Charges that were acknowledged in time.
    good: u64,
    /// Others that were due, and messages that were not heard.
    bad: u64,
    /// Streams that are open.
    open: u64,
    steady: bool,
}

impl Pulse {
    pub(crate) fn note(&self, is_good: bool) {
        let counter = if is_good { &self.good } else { &self.bad };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn opened(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn ended(&self) {
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// Tells, for ever. `wanted`: streams that are to be open.
    pub(crate) async fn beat(&self, wanted: u64) {
        let mut second = interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        second.tick().await; // the first is at once
        let mut calm = 0;
        loop {
            second.tick().await;
            let (good, bad) = (
                self.good.swap(0, Ordering::Relaxed),
                self.bad.swap(0, Ordering::Relaxed),
            );
            let open = self.open.load(Ordering::Relaxed);
            calm = if bad == 0 && open == wanted { calm + 1 } else { 0 };
            let beat = Beat {
                at_us: now_us(),
                good,
                bad,
                open,
                steady: calm >= CALM,
            };
            if let Ok(line) = serde_json::to_string(&beat) {
                println!("{line}");
            }
        }
    }
}
