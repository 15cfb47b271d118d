//! The queue between the tap and one watcher: bounded in messages and in octets, never waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use metrics::counter;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::{Direction, Tap, Tapped, What};

/// Things that may wait.
const MAX_WAITING: usize = 16_384;

/// Octets of messages that may wait.
const MAX_OCTETS: usize = 8 * 1024 * 1024;

/// What a watcher hears, and what a full queue means to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Want {
    /// Everything; a full queue drops.
    Sample,
    /// Sessions and what we send; a full queue ends it.
    Follow,
}

impl Want {
    fn wants(self, what: &What) -> bool {
        match (self, what) {
            (Self::Sample, What::Message { .. } | What::State { .. }) => true,
            (Self::Sample, What::Up(_) | What::Down(..)) => false, // the messages tell it
            (Self::Follow, What::Up(_) | What::Down(..)) => true,
            (Self::Follow, What::Message { direction, .. }) => *direction == Direction::Out,
            (Self::Follow, What::State { .. }) => false,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Sample => "sample",
            Self::Follow => "follow",
        }
    }
}

/// The tap's end.
#[derive(Debug)]
pub(super) struct Queue {
    want: Want,
    sender: mpsc::Sender<Tapped>,
    octets: AtomicUsize,
    lost: AtomicU64,
    cut: CancellationToken,
}

impl Queue {
    /// Hands it on; false: this watcher is to be forgotten.
    pub(super) fn offer(&self, tapped: &Tapped) -> bool {
        if !self.want.wants(&tapped.what) {
            return true;
        }
        let octets = octets_of(tapped);
        // Added before it is sent, so that the watcher never takes off what is not there yet.
        let waiting = self.octets.fetch_add(octets, Ordering::Relaxed);
        if waiting + octets <= MAX_OCTETS && self.sender.try_send(tapped.clone()).is_ok() {
            return true;
        }
        self.octets.fetch_sub(octets, Ordering::Relaxed);
        counter!("steer_anycast_tap_dropped_total", "watcher" => self.want.name()).increment(1);
        self.lost.fetch_add(1, Ordering::Relaxed);
        match self.want {
            Want::Sample => true,
            Want::Follow => {
                self.cut.cancel();
                false
            }
        }
    }
}

/// The watcher's end. Dropping it ends the watching.
#[derive(Debug)]
pub struct Watcher {
    tap: Arc<Tap>,
    queue: Arc<Queue>,
    receiver: mpsc::Receiver<Tapped>,
}

pub(super) fn channel(want: Want, tap: Arc<Tap>) -> (Arc<Queue>, Watcher) {
    let (sender, receiver) = mpsc::channel(MAX_WAITING);
    let queue = Arc::new(Queue {
        want,
        sender,
        octets: AtomicUsize::new(0),
        lost: AtomicU64::new(0),
        cut: CancellationToken::new(),
    });
    let watcher = Watcher {
        tap,
        queue: Arc::clone(&queue),
        receiver,
    };
    (queue, watcher)
}

impl Watcher {
    /// The next thing. Pends for ever once it is cut off and all is heard.
    pub async fn next(&mut self) -> Tapped {
        match self.receiver.recv().await {
            Some(tapped) => {
                self.took(&tapped);
                tapped
            }
            None => std::future::pending().await, // we hold a sender ourselves
        }
    }

    /// The next thing, if one waits.
    pub fn try_next(&mut self) -> Option<Tapped> {
        let tapped = self.receiver.try_recv().ok()?;
        self.took(&tapped);
        Some(tapped)
    }

    /// How many things were dropped so far.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.queue.lost.load(Ordering::Relaxed)
    }

    /// Cancelled when this watcher did not keep up: it hears nothing new any more.
    #[must_use]
    pub fn cut_off(&self) -> CancellationToken {
        self.queue.cut.clone()
    }

    fn took(&self, tapped: &Tapped) {
        self.queue.octets.fetch_sub(octets_of(tapped), Ordering::Relaxed);
    }
}

impl Drop for Watcher {
    fn drop(&mut self) {
        self.tap.unwatch(&self.queue);
    }
}

fn octets_of(tapped: &Tapped) -> usize {
    match &tapped.what {
        What::Message { octets, .. } => octets.len(),
        What::State { .. } | What::Up(_) | What::Down(..) => 0,
    }
}
