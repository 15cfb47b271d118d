//! What a speaker sends and receives in a while, as MRT in memory.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::encode;
use crate::tap::{Tap, Watcher};

/// What was heard.
#[derive(Debug, Clone)]
pub struct Dump {
    /// Whole records, in the order of their times.
    pub octets: Vec<u8>,
    /// How many.
    pub records: u64,
    /// How many more there were that the tap had no room for.
    pub lost: u64,
    /// Why it ended.
    pub end: DumpEnd,
}

/// Why a dump ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DumpEnd {
    /// The time was over.
    Time,
    /// It was as long as it may be.
    Limit,
    /// The speaker stopped.
    Stopped,
}

/// Records everything on these taps for `time`, in at most about `limit` octets.
pub async fn dump(taps: &[Arc<Tap>], time: Duration, limit: usize, stop: &CancellationToken) -> Dump {
    let until = Instant::now() + time;
    let used = Arc::new(AtomicUsize::new(0));
    let full = CancellationToken::new();
    let mut recording = JoinSet::new();
    for tap in taps {
        let listening = Listening {
            watcher: tap.sample(),
            used: Arc::clone(&used),
            limit,
            full: full.clone(),
        };
        recording.spawn(listening.run(until, stop.clone()));
    }
    let (mut records, mut lost) = (Vec::new(), 0);
    while let Some(recorded) = recording.join_next().await {
        if let Ok((some, missed)) = recorded {
            records.extend(some);
            lost += missed;
        }
    }
    records.sort_by_key(|(at, _)| *at); // stable: the order within a session stays
    let end = match (full.is_cancelled(), stop.is_cancelled()) {
        (true, _) => DumpEnd::Limit,
        (false, true) => DumpEnd::Stopped,
        (false, false) => DumpEnd::Time,
    };
    Dump {
        records: records.len() as u64,
        octets: records.iter().flat_map(|(_, record)| record).copied().collect(),
        lost,
        end,
    }
}

/// One tap.
struct Listening {
    watcher: Watcher,
    used: Arc<AtomicUsize>,
    limit: usize,
    full: CancellationToken,
}

impl Listening {
    async fn run(mut self, until: Instant, stop: CancellationToken) -> (Vec<(Timestamp, Bytes)>, u64) {
        let mut records = Vec::new();
        loop {
            let tapped = tokio::select! {
                tapped = self.watcher.next() => tapped,
                () = tokio::time::sleep_until(until) => break,
                () = self.full.cancelled() => break,
                () = stop.cancelled() => break,
            };
            let Some(record) = encode(&tapped) else { continue };
            if self.used.fetch_add(record.len(), Ordering::Relaxed) + record.len() > self.limit {
                self.full.cancel();
                break;
            }
            records.push((tapped.at, record));
        }
        (records, self.watcher.lost())
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::states_of;
    use super::*;
    use crate::session::State;
    use crate::tap::tests::{announcement, connection, tap};

    #[tokio::test]
    async fn a_dump_has_all_that_happened_meanwhile_in_order() {
        let (first, second) = (tap(false), tap(false));
        let (taps, stop) = (
            [Arc::clone(&first), Arc::clone(&second)],
            CancellationToken::new(),
        );
        let task = {
            let stop = stop.clone();
            tokio::spawn(async move { dump(&taps, Duration::from_secs(60), 1_000_000, &stop).await })
        };
        tokio::task::yield_now().await;
        let connection = connection(1).await;
        for state in State::ALL.windows(2) {
            first.state(0, state[0], state[1]);
            second.state(1, state[0], state[1]);
        }
        first.sent(0, &connection, &announcement(&["192.0.2.1/32"], 1));
        tokio::task::yield_now().await;
        stop.cancel();
        let dump = task.await.unwrap();
        assert_eq!((dump.records, dump.lost, dump.end), (11, 0, DumpEnd::Stopped));
        assert_eq!(states_of(&dump.octets), [1, 1, 2, 2, 3, 3, 4, 4, 5, 5]);
    }

    #[tokio::test]
    async fn a_dump_ends_with_its_time_or_at_its_limit() {
        let stop = CancellationToken::new();
        let quiet = dump(&[tap(false)], Duration::from_millis(20), 1_000, &stop).await;
        assert_eq!((quiet.records, quiet.end), (0, DumpEnd::Time));
        let loud = tap(false);
        let task = {
            let loud = [Arc::clone(&loud)];
            tokio::spawn(async move { dump(&loud, Duration::from_secs(60), 1_000, &stop).await })
        };
        tokio::task::yield_now().await;
        for _ in 0..100 {
            loud.state(0, State::Idle, State::Connect);
        }
        let loud = task.await.unwrap();
        assert_eq!(loud.end, DumpEnd::Limit);
        assert!(loud.octets.len() <= 1_000 && loud.records > 10);
    }
}
