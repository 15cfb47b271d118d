//! `--watch`: a reload when a file changes.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Reloader;
use crate::load::Loaded;

/// Between two looks at the files. A change is taken when it is one look old, so that a file that is still being
/// written is left alone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Asks for a reload whenever a file of the current load has changed, until `stop`.
pub(crate) async fn watch(current: Arc<ArcSwap<Loaded>>, reloader: Reloader, stop: CancellationToken) {
    let mut every = tokio::time::interval(LOOK_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut changes = Changes::default();
    loop {
        tokio::select! {
            _ = every.tick() => {}
            () = stop.cancelled() => return,
        }
        let files = current.load_full();
        let Ok(seen) = tokio::task::spawn_blocking(move || look(&files.files())).await else {
            return;
        };
        if changes.take(seen) {
            // A refused reload is logged, and is tried again with the next change.
            let _ = reloader.reload("watch", Vec::new(), false).await;
        }
    }
}

/// Length and time stamp of each file; absent where there is none.
type Look = Vec<(PathBuf, Option<(u64, SystemTime)>)>;

fn look(files: &[PathBuf]) -> Look {
    let stamp = |path: &Path| {
        let metadata = fs::metadata(path).ok()?;
        Some((metadata.len(), metadata.modified().ok()?))
    };
    files.iter().map(|path| (path.clone(), stamp(path))).collect()
}

/// What was seen so far.
#[derive(Default)]
struct Changes {
    /// What the last reload, or the start, took.
    taken: Option<Look>,
    last: Option<Look>,
}

impl Changes {
    /// Whether there is a change that has come to rest.
    fn take(&mut self, seen: Look) -> bool {
        let is_at_rest = self.last.as_ref() == Some(&seen);
        self.last = Some(seen.clone());
        match &self.taken {
            None => {
                self.taken = Some(seen);
                false
            }
            Some(taken) if *taken == seen || !is_at_rest => false,
            Some(_) => {
                self.taken = Some(seen);
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_taken_once_when_it_has_come_to_rest() {
        let at = |length| vec![(PathBuf::from("a"), Some((length, SystemTime::UNIX_EPOCH)))];
        let mut changes = Changes::default();
        let taken: Vec<bool> = [1, 1, 2, 3, 3, 3, 1, 1]
            .map(|length| changes.take(at(length)))
            .into();
        assert_eq!(taken, [false, false, false, false, true, false, false, true]);
    }
}
