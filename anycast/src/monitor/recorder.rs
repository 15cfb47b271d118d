//! The way from sessions to whoever writes them down: bounded, never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use metrics::counter;
use tokio::sync::mpsc;

use crate::tap::Tapped;

/// Takes messages and states. What there is no room for is dropped and counted. Clones share the queue.
#[derive(Debug, Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Tapped>,
    lost: Arc<AtomicU64>,
}

impl Recorder {
    /// A recorder with room for so many, and what reads them; the reader's end comes when the last recorder is
    /// gone.
    #[must_use]
    pub fn new(room: usize) -> (Self, mpsc::Receiver<Tapped>) {
        let (sender, receiver) = mpsc::channel(room);
        let lost = Arc::default();
        (Self { sender, lost }, receiver)
    }

    /// How many were dropped so far; stays readable when the recorder is gone.
    #[must_use]
    pub fn lost(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.lost)
    }

    pub(super) fn keep(&self, tapped: Tapped) {
        if self.sender.try_send(tapped).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
            counter!("steer_anycast_monitor_unrecorded_total").increment(1);
        }
    }
}
