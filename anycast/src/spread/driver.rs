//! The driver of a tracker: the clock, the speaker's status, what monitors hear; log and metrics.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use metrics::{counter, gauge, histogram};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::changes::Changes;
use super::report::{Report, StrayKind, Summary};
use super::tracker::{Output, Settings, Tracker};
use crate::monitor::MonitorEvent;
use crate::speaker::SpeakerStatus;

/// How often the speaker's status is looked at. The times are its own; this only bounds how late they are known.
const LOOK: Duration = Duration::from_millis(200);

/// A closed loop around one speaker.
#[derive(Debug)]
pub struct Spread {
    tracker: Mutex<Tracker>,
}

impl Spread {
    /// A loop that is not running yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let tracker = Mutex::new(Tracker::new(settings));
        Self { tracker }
    }

    /// Everything at this moment.
    #[must_use]
    pub fn summary(&self) -> Summary {
        self.locked().summary()
    }

    /// Follows what the speaker announces and what `heard` brings, until `shutdown`.
    pub async fn run(
        self: Arc<Self>,
        speaker: Arc<SpeakerStatus>,
        mut heard: mpsc::Receiver<MonitorEvent>,
        shutdown: CancellationToken,
    ) {
        let mut changes = Changes::default();
        let mut look = tokio::time::interval(LOOK);
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return,
                Some(event) = heard.recv() => {
                    let mut tracker = self.locked();
                    tracker.hear(&event);
                    gauge!("steer_anycast_vantages").set(tracker.vantages() as f64);
                }
                _ = look.tick() => {
                    let fresh = changes.look_at(&speaker.peers());
                    let mut tracker = self.locked();
                    for (change, baseline) in fresh {
                        if baseline { tracker.baseline(change) } else { tracker.change(change) }
                    }
                    tracker.on_deadline(Timestamp::now());
                }
            }
            let mut tracker = self.locked();
            let mut said = false;
            while let Some(output) = tracker.poll_output() {
                note(&output);
                said = true;
            }
            if said {
                note_strays(&tracker);
            }
        }
    }

    /// A panic elsewhere leaves numbers that are still worth showing.
    fn locked(&self) -> MutexGuard<'_, Tracker> {
        self.tracker.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Log and metrics of one thing that a tracker says.
pub fn note(output: &Output) {
    match output {
        Output::Spread(report) => note_report(report),
        Output::Astray(stray) => {
            counter!("steer_anycast_strays_total", "kind" => stray.kind.name()).increment(1);
            warn!(prefix = %stray.change.prefix, vantage = %stray.vantage, kind = stray.kind.name(), since = %stray.since, "{stray}");
        }
        Output::Settled(stray) => {
            info!(prefix = %stray.change.prefix, vantage = %stray.vantage, kind = stray.kind.name(), "not astray any more");
        }
    }
}

fn note_report(report: &Report) {
    let change = if report.change.announced {
        "announce"
    } else {
        "withdraw"
    };
    let outcome = report.outcome.name();
    counter!("steer_anycast_spread_changes_total", "change" => change, "outcome" => outcome).increment(1);
    for (share, time) in [("50", report.p50), ("90", report.p90), ("99", report.p99)] {
        if let Some(time) = time {
            histogram!("steer_anycast_spread_seconds", "change" => change, "share" => share).record(time);
        }
    }
    info!(prefix = %report.change.prefix, snapshot = report.change.snapshot, outcome, "{report}");
}

fn note_strays(tracker: &Tracker) {
    for kind in [StrayKind::Zombie, StrayKind::Missing] {
        let count = tracker.strays().filter(|stray| stray.kind == kind).count();
        gauge!("steer_anycast_strays", "kind" => kind.name()).set(count as f64);
    }
}
