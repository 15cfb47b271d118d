//! Watching a run from outside: every observer writes what it saw, and when, on one timeline.

pub(crate) mod answers;
pub(crate) mod capture;
pub(crate) mod log;
pub(crate) mod replies;
pub(crate) mod routes;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970 by the wall clock (`CLOCK_REALTIME`); good until 2262.
pub(crate) type Nanos = i64;

/// The wall clock, now.
pub(crate) fn now() -> Nanos {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Milliseconds from one time to another.
pub(crate) fn ms_between(from: Nanos, to: Nanos) -> f64 {
    // Differences within a run are far below 2^53 ns.
    (to - from) as f64 / 1e6
}

/// Which client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Method {
    Anycast,
    Dns,
}

/// Something that was seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Seen {
    /// An UPDATE arrived that takes the prefix back.
    Withdrawn { peer: Ipv4Addr },
    /// An UPDATE arrived that announces the prefix.
    Announced { peer: Ipv4Addr },
    /// The router's kernel forwards the prefix there now.
    Routed { gateway: Option<IpAddr> },
    /// The near edge's DNS server answered otherwise than before.
    Answer { addresses: Vec<IpAddr> },
    /// A request ended; `due` is when it was to start.
    Reply {
        method: Method,
        due: Nanos,
        body: Result<String, String>,
    },
}

/// What was seen, and when.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    pub(crate) at: Nanos,
    pub(crate) seen: Seen,
}

/// Shared by the observers and the one who asks them.
#[derive(Debug, Clone, Default)]
pub(crate) struct Timeline {
    events: Arc<Mutex<Vec<Event>>>,
    stop: Arc<AtomicBool>,
}

impl Timeline {
    pub(crate) fn push(&self, at: Nanos, seen: Seen) {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Event { at, seen });
    }

    /// Looks at all events since the last [`Timeline::forget`].
    pub(crate) fn look<T>(&self, look: impl FnOnce(&[Event]) -> T) -> T {
        look(&self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Drops old events but for the last that tells each state, so that memory stays bounded over repetitions.
    pub(crate) fn forget(&self, before: Nanos) {
        let mut events = self.events.lock().unwrap_or_else(PoisonError::into_inner);
        let last = |wanted: fn(&Seen) -> bool| events.iter().rposition(|event| wanted(&event.seen));
        let states = [
            last(|seen| matches!(seen, Seen::Routed { .. })),
            last(|seen| matches!(seen, Seen::Answer { .. })),
        ];
        let mut index = 0;
        events.retain(|event| {
            let keep = event.at >= before || states.contains(&Some(index));
            index += 1;
            keep
        });
    }

    /// Tells every observer to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
