//! Decision tables, made anew for each snapshot and each load.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use steer_dns::Engine;
use steer_health::SnapshotCell;
use tokio::sync::watch as news;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::load::Loaded;

/// Makes the tables: whenever there is another snapshot, or what it is read with.
pub(crate) struct Compiler {
    pub(crate) current: Arc<ArcSwap<Loaded>>,
    pub(crate) cell: Arc<SnapshotCell>,
    pub(crate) engine: Arc<Engine>,
    wanted: news::Receiver<u64>,
    made: news::Sender<u64>,
    /// What the engine was told last.
    is_stale: bool,
}

/// How long after the moment it meant to the health checker may look before answers are called stale.
const STALE_AFTER: Duration = Duration::from_secs(3);
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Asks the [`Compiler`] for tables, and waits for them.
pub(crate) struct Compiled {
    wanted: news::Sender<u64>,
    made: news::Receiver<u64>,
}

impl Compiled {
    /// Returns when answers come from this generation of files. At once where nothing answers any more.
    pub(super) async fn until(&mut self, generation: u64) {
        self.wanted.send_replace(generation);
        let _ = self.made.wait_for(|made| *made >= generation).await;
    }
}

impl Compiler {
    pub(crate) fn new(
        current: Arc<ArcSwap<Loaded>>,
        cell: Arc<SnapshotCell>,
        engine: Arc<Engine>,
    ) -> (Self, Compiled) {
        let (wanted, wanting) = news::channel(0);
        let (made, making) = news::channel(0);
        let compiler = Self {
            current,
            cell,
            engine,
            wanted: wanting,
            made,
            is_stale: false,
        };
        let compiled = Compiled { wanted, made: making };
        (compiler, compiled)
    }

    /// DNS obeys each snapshot as soon as its tables are compiled. Ends when `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut published = self.cell.subscribe();
        let mut looks = tokio::time::interval(LOOK_EVERY);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut have = (self.engine.tables().snapshot_number(), 0);
        while !stop.is_cancelled() {
            let (loaded, snapshot) = (self.current.load_full(), self.cell.load());
            let want = (snapshot.number, loaded.generation);
            // In the middle of a reload the two do not belong together; the snapshot that does comes at once.
            if want != have && Arc::ptr_eq(&loaded.fleet, &snapshot.fleet) {
                let tables = if want.1 == have.1 {
                    self.engine.tables().next(snapshot) // only what the snapshot changed
                } else {
                    loaded.tables_after(&self.engine.tables(), snapshot)
                };
                self.engine.publish(tables);
                info!(snapshot = want.0, "decision tables published");
                have = want;
                self.made.send_replace(loaded.generation);
            }
            let ages_at = self.engine.tables().ages_at();
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return },
                changed = self.wanted.changed() => if changed.is_err() { return },
                () = at(ages_at) => self.engine.publish(self.engine.tables().aged(Timestamp::now())),
                _ = looks.tick() => self.look(),
                () = stop.cancelled() => return,
            }
        }
    }

    /// Fail static: answers go on with what was last known, and say so.
    fn look(&mut self) {
        let is_stale = self.cell.pulse().is_late(Instant::now(), STALE_AFTER);
        if is_stale == self.is_stale {
            return;
        }
        self.is_stale = is_stale;
        self.engine.mark_stale(is_stale);
        metrics::gauge!("steer_health_stale").set(f64::from(u8::from(is_stale)));
        let snapshot = self.engine.tables().snapshot_number();
        if is_stale {
            error!(
                snapshot,
                "the health checker has stopped looking; answers go on with what was last known"
            );
        } else {
            info!(snapshot, "the health checker looks again");
        }
    }
}

/// Waits for a moment of the wall clock, for ever where there is none.
async fn at(moment: Option<Timestamp>) {
    let Some(moment) = moment else {
        return std::future::pending().await;
    };
    let left = moment.duration_since(Timestamp::now()).unsigned_abs();
    let is_past = moment <= Timestamp::now();
    // A clock that is set meanwhile is looked at again after a minute at most.
    let wait = if is_past {
        Duration::ZERO
    } else {
        left.min(Duration::from_mins(1))
    };
    tokio::time::sleep(wait).await;
}
