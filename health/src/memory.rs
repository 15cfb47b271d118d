//! What was out of service when the process ended, for the next one that starts within seconds.
//!
//! ```text
//! every second, each change, the end:  snapshot ─► FILE.verdicts (made beside, then renamed)
//! start:  FILE.verdicts ─► written within the last 10 s of this boot? ─► Judge::recall
//! ```
//!
//! Only what was *out* is remembered. What was up needs no memory: unknown is served like it. Nothing of this settles a
//! judge: routes wait for the first round of checks as ever.
//!
//! The age is told by the clock that counts from the boot and goes on while the machine sleeps. So nothing is younger
//! than it is because somebody set a clock, and nothing outlives a boot. A crash of the machine therefore needs no sync.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use steer_topology::Fleet;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::evidence::Evidence;
use crate::operator::Target;
use crate::snapshot::{Cause, Service, Snapshot, SnapshotCell, Verdict};

/// Older is unknown.
pub const USABLE: Duration = Duration::from_secs(10);

/// Between two words that we are alive.
const BEAT: Duration = Duration::from_secs(1);

/// Shortest time between two writes.
const WRITE_EVERY: Duration = Duration::from_millis(250);

const VERSION: u64 = 1;

/// One endpoint that was out of service because it was down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Remembered {
    /// [`Target::name`]
    pub endpoint: String,
    /// The outcome that decided it.
    pub cause: Cause,
    /// Since when it was down.
    pub since: Timestamp,
    /// What was seen last, in words, and when; absent where another site decided.
    pub last: Option<(String, Timestamp)>,
}

/// A moment of the machine's life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Moment {
    /// Which boot: the kernel's own random number.
    pub boot: String,
    /// Milliseconds since then.
    pub millis: u64,
}

/// What is written.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Record {
    version: u64,
    /// When all of it was true.
    at: Moment,
    out: Vec<Remembered>,
}

impl Moment {
    /// This one.
    ///
    /// # Errors
    /// The kernel does not tell.
    pub fn now() -> io::Result<Self> {
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id")?;
        let since = Duration::from(clock_gettime(ClockId::CLOCK_BOOTTIME)?);
        Ok(Self {
            boot: boot.trim().to_owned(),
            millis: u64::try_from(since.as_millis()).unwrap_or(u64::MAX),
        })
    }

    /// How long ago it was at `now`; `None`: before this boot, or never.
    #[must_use]
    pub fn age(&self, now: &Self) -> Option<Duration> {
        let millis = now.millis.checked_sub(self.millis)?;
        (self.boot == now.boot).then(|| Duration::from_millis(millis))
    }
}

/// The file beside a store.
#[must_use]
pub fn beside(store: &Path) -> PathBuf {
    store.with_added_extension("verdicts")
}

/// What a file remembers, where that is young enough. A file that cannot be read remembers nothing, and is said to.
#[must_use]
pub fn read(file: &Path, now: &Moment) -> Vec<Remembered> {
    let bytes = match fs::read(file) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Vec::new(),
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the verdicts of before cannot be read; all begin unknown");
            return Vec::new();
        }
    };
    let record: Record = match serde_json::from_slice(&bytes) {
        Ok(record) => record,
        Err(error) => {
            tracing::warn!(file = %file.display(), %error, "the verdicts of before make no sense; all begin unknown");
            return Vec::new();
        }
    };
    let Record { version, at, out } = record;
    match at.age(now) {
        Some(age) if version == VERSION && age <= USABLE => out,
        age => {
            tracing::info!(file = %file.display(), version, ?age, "the verdicts of before are too old; all begin unknown");
            Vec::new()
        }
    }
}

/// Writes the file so that a reader finds the old one or the new one.
///
/// # Errors
/// It cannot be written; then the old one stands.
pub fn write(file: &Path, at: Moment, out: Vec<Remembered>) -> io::Result<()> {
    let record = Record {
        version: VERSION,
        at,
        out,
    };
    let new = file.with_added_extension("new");
    fs::write(&new, serde_json::to_vec(&record)?)?;
    fs::rename(&new, file)
}

/// What of a snapshot is worth to be remembered; `None` before the first round is over, when nothing is known yet.
#[must_use]
pub fn of(snapshot: &Snapshot, evidence: &Evidence) -> Option<Vec<Remembered>> {
    if !snapshot.settled {
        return None;
    }
    let fleet: &Arc<Fleet> = &snapshot.fleet;
    let out = fleet.endpoint_ids().filter_map(|id| {
        let state = snapshot.endpoint(id);
        let is_out = (state.verdict, &state.service) == (Verdict::Down, &Service::Out);
        // What an operator forces is in the store.
        if !is_out || snapshot.endpoint_force(id).is_some() {
            return None;
        }
        let last = evidence.latest(id).outcome;
        Some(Remembered {
            endpoint: Target::Endpoint(id).name(fleet),
            cause: state.cause.clone(),
            since: state.since,
            last: last.map(|(outcome, at)| (outcome.to_string(), at)),
        })
    });
    Some(out.collect())
}

/// Keeps the file until `shutdown`, and writes it a last time then.
pub async fn keep(file: PathBuf, cell: Arc<SnapshotCell>, shutdown: CancellationToken) {
    let mut published = cell.subscribe();
    let mut beat = tokio::time::interval(BEAT);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failed = false;
    loop {
        let is_last = shutdown.is_cancelled();
        if let Some(out) = of(&cell.load(), &cell.evidence()) {
            let file = file.clone();
            let writing = tokio::task::spawn_blocking(move || write(&file, Moment::now()?, out));
            match writing.await {
                Ok(Ok(())) => failed = false,
                Ok(Err(error)) => {
                    if !std::mem::replace(&mut failed, true) {
                        metrics::counter!("steer_health_memory_failures_total").increment(1);
                        tracing::error!(%error, "verdicts are not kept: after a restart all begin unknown");
                    }
                }
                Err(_dropped) => return,
            }
        }
        if is_last {
            return;
        }
        tokio::select! {
            _ = beat.tick() => {}
            changed = published.changed() => if changed.is_err() { return },
            () = shutdown.cancelled() => continue,
        }
        tokio::select! {
            () = tokio::time::sleep(WRITE_EVERY) => {}
            () = shutdown.cancelled() => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use steer_topology::CheckKind;

    use super::*;
    use crate::judge::Judge;
    use crate::testing::FleetBuilder;

    fn moment(boot: &str, millis: u64) -> Moment {
        Moment {
            boot: boot.to_owned(),
            millis,
        }
    }

    fn remembered() -> Remembered {
        Remembered {
            endpoint: "pool-0/127.0.0.1:9@fra".to_owned(),
            cause: "connection refused".to_owned(),
            since: Timestamp::UNIX_EPOCH,
            last: Some(("no answer within 300 ms".to_owned(), Timestamp::UNIX_EPOCH)),
        }
    }

    #[test]
    fn what_is_a_few_seconds_old_is_usable_and_what_is_older_is_unknown() {
        let folder = tempfile::tempdir().unwrap();
        let file = beside(&folder.path().join("steer.redb"));
        assert!(file.ends_with("steer.redb.verdicts"));
        assert_eq!(read(&file, &moment("a", 5_000)), [], "nothing was written");
        write(&file, moment("a", 5_000), vec![remembered()]).unwrap();
        let rows = [
            (moment("a", 5_000), 1),
            (moment("a", 15_000), 1),
            (moment("a", 15_001), 0),
            (moment("b", 6_000), 0),
            (moment("a", 4_999), 0),
        ];
        for (now, count) in rows {
            assert_eq!(read(&file, &now).len(), count, "{now:?}");
        }
        assert_eq!(
            read(&file, &moment("a", 6_000)),
            [remembered()],
            "nothing is lost"
        );
    }

    #[test]
    fn a_file_that_makes_no_sense_remembers_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("verdicts");
        let now = moment("a", 6_000);
        let newer = r#"{"version":2,"at":{"boot":"a","millis":5000},"out":[]}"#;
        for text in ["", "{", "[]", "{\"version\":1}", newer, "\u{fffd}"] {
            fs::write(&file, text).unwrap();
            assert_eq!(read(&file, &now), [], "{text:?}");
        }
        assert_eq!(read(folder.path(), &now), [], "a folder is no file");
    }

    #[test]
    fn this_moment_comes_after_the_one_before_it() {
        let (one, other) = (Moment::now().unwrap(), Moment::now().unwrap());
        assert!(one.age(&other).is_some_and(|age| age < Duration::from_secs(5)));
        assert!(!one.boot.is_empty());
    }

    #[test]
    fn only_what_is_out_because_it_is_down_is_remembered() {
        let fleet = FleetBuilder::new(CheckKind::Tcp)
            .guard(1, 1, Duration::from_secs(60))
            .pool(&[Some(0), Some(1), Some(2)])
            .build();
        let evidence = Evidence::of(&fleet);
        let now = std::time::Instant::now();
        let mut judge = Judge::new(Arc::clone(&fleet), now, Timestamp::UNIX_EPOCH);
        assert_eq!(
            of(&judge.first_snapshot(), &evidence),
            None,
            "nothing is known yet"
        );
        let change = |id, verdict| crate::judge::Change {
            endpoint: steer_topology::EndpointId(id),
            verdict,
            cause: "connection refused".to_owned(),
        };
        let all = (0..3).map(|id| change(id, Verdict::Up));
        judge.on_verdicts(all, now, Timestamp::UNIX_EPOCH);
        let two = [change(0, Verdict::Down), change(1, Verdict::Down)];
        let next = judge.on_verdicts(two, now, Timestamp::UNIX_EPOCH).unwrap();
        let out = of(&next, &evidence).unwrap();
        let names: Vec<_> = out.iter().map(|one| one.endpoint.as_str()).collect();
        assert_eq!(
            names,
            ["pool-0/127.0.0.1:9@fra"],
            "the other one is held in service"
        );
    }
}
