//! Watching a run from outside: every observer writes what it saw, and when, on one timeline.

pub(crate) mod answers;
pub(crate) mod capture;
pub(crate) mod flow;
pub(crate) mod load;
pub(crate) mod log;
pub(crate) mod replies;
pub(crate) mod routes;
pub(crate) mod table;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Nanoseconds since 1970 by the wall clock (`CLOCK_REALTIME`); good until 2262.
pub(crate) type Nanos = i64;

/// The wall clock, now.
pub(crate) fn now() -> Nanos {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    i64::try_from(since.as_nanos()).unwrap_or(i64::MAX)
}

/// Wall clock minus monotonic clock since the first call, nanoseconds: constant unless the wall clock is set.
pub(crate) fn clock_offset() -> i64 {
    static START: OnceLock<(SystemTime, Instant)> = OnceLock::new();
    let (wall, monotonic) = START.get_or_init(|| (SystemTime::now(), Instant::now()));
    let steady = i64::try_from(monotonic.elapsed().as_nanos()).unwrap_or(i64::MAX);
    let passed = match wall.elapsed() {
        Ok(forward) => i64::try_from(forward.as_nanos()).unwrap_or(i64::MAX),
        Err(back) => -i64::try_from(back.duration().as_nanos()).unwrap_or(i64::MAX),
    };
    passed - steady
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
    /// A request ended.
    Reply(Reply),
    /// A long-lived connection stands; its first reply said this.
    FlowStarted { body: String },
    /// It ended.
    FlowEnded { how: Ended },
    /// The near edge's route in the router's table is another.
    Table { near: Option<table::Route> },
}

/// What a request came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) method: Method,
    /// When it was to start.
    pub(crate) due: Nanos,
    /// When it did.
    pub(crate) opened: Nanos,
    /// Whether the connection took as long as one whose SYN was lost.
    pub(crate) syn_lost: bool,
    pub(crate) body: Result<String, String>,
}

/// How a long-lived connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Ended {
    /// FIN
    Closed,
    /// RST
    Reset,
    /// In the system's words.
    Otherwise(String),
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
    /// When the oldest request that is under way was due.
    oldest: Arc<AtomicI64>,
    stop: Arc<AtomicBool>,
}

impl Timeline {
    pub(crate) fn push(&self, at: Nanos, seen: Seen) {
        self.events
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Event { at, seen });
    }

    /// Takes what was seen since the last call. The observers do not wait for whoever reads.
    pub(crate) fn take(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every request that was due before this time has ended.
    pub(crate) fn oldest(&self) -> Nanos {
        self.oldest.load(Ordering::Acquire)
    }

    pub(crate) fn set_oldest(&self, due: Nanos) {
        self.oldest.store(due, Ordering::Release);
    }

    /// Tells every observer to end.
    pub(crate) fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    pub(crate) fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed)
    }
}
