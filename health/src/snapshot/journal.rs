//! For who wants to see every snapshot, and not only the newest one.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::Snapshot;

/// The readers of a cell's journal.
#[derive(Debug, Default)]
pub(super) struct Journal(Mutex<Vec<mpsc::Sender<Arc<Snapshot>>>>);

impl Journal {
    pub(super) fn read(&self, capacity: usize) -> mpsc::Receiver<Arc<Snapshot>> {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        self.readers().push(sender);
        receiver
    }

    /// Nobody is waited for: who has no room misses this one, which is counted, and finds what it changed by the next one.
    pub(super) fn note(&self, snapshot: &Arc<Snapshot>) {
        self.readers()
            .retain(|reader| match reader.try_send(Arc::clone(snapshot)) {
                Ok(()) => true,
                Err(TrySendError::Full(_)) => {
                    metrics::counter!("steer_health_journal_missed_total").increment(1);
                    true
                }
                Err(TrySendError::Closed(_)) => false,
            });
    }

    fn readers(&self) -> MutexGuard<'_, Vec<mpsc::Sender<Arc<Snapshot>>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
