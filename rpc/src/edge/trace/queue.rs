//! Calls that ended, on their way to the collector: bounded in spans. Who comes to a full queue is dropped and counted; no
//! call waits.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::record::Record;

/// Spans that are sent together (`OTEL_BSP_MAX_EXPORT_BATCH_SIZE`).
pub(super) const BATCH: usize = 512;

/// Counts spans that no collector will see.
pub(super) fn dropped(cause: &'static str, spans: usize) {
    metrics::counter!("steer_rpc_spans_dropped_total", "cause" => cause).increment(spans as u64);
}

#[derive(Debug)]
pub(super) struct Queue {
    /// Spans at most.
    most: usize,
    waiting: Mutex<Waiting>,
    wanted: Notify,
}

#[derive(Debug, Default)]
struct Waiting {
    records: VecDeque<Box<Record>>,
    spans: usize,
    is_closed: bool,
}

impl Queue {
    pub(super) fn new(most: usize) -> Self {
        Self {
            most,
            waiting: Mutex::default(),
            wanted: Notify::new(),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes all spans of a call, or none of them.
    pub(super) fn push(&self, record: Box<Record>) {
        let spans = record.spans();
        let mut waiting = self.lock();
        let before = waiting.spans;
        if waiting.is_closed || before + spans > self.most {
            let cause = if waiting.is_closed { "drain" } else { "queue" };
            drop(waiting);
            return dropped(cause, spans);
        }
        waiting.spans += spans;
        waiting.records.push_back(record);
        drop(waiting);
        // Whoever takes them looks now and then; it is only woken where that might be too late.
        let enough = BATCH.min(self.most.div_ceil(2));
        if before < enough && before + spans >= enough {
            self.wanted.notify_one();
        }
    }

    /// The oldest calls: as many as are sent together, and one at least where there is one.
    pub(super) fn take(&self) -> VecDeque<Box<Record>> {
        let mut waiting = self.lock();
        let (mut count, mut spans) = (0, 0);
        for record in &waiting.records {
            if count > 0 && spans + record.spans() > BATCH {
                break;
            }
            (count, spans) = (count + 1, spans + record.spans());
        }
        waiting.spans -= spans;
        waiting.records.drain(..count).collect()
    }

    /// Waits until there is enough for a batch, or until it is closed.
    pub(super) async fn wanted(&self) {
        self.wanted.notified().await;
    }

    /// Nothing else will come.
    pub(super) fn close(&self) {
        self.lock().is_closed = true;
        self.wanted.notify_one();
    }

    /// Whether it is closed, and nothing waits.
    pub(super) fn is_done(&self) -> bool {
        let waiting = self.lock();
        waiting.is_closed && waiting.records.is_empty()
    }

    /// Closes it, and tells how many spans will go nowhere.
    pub(super) fn abandon(&self) -> usize {
        let mut waiting = self.lock();
        waiting.is_closed = true;
        waiting.records.clear();
        std::mem::take(&mut waiting.spans)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::record;
    use super::*;

    #[test]
    fn a_full_queue_takes_no_more_and_what_is_taken_makes_room() {
        let queue = Queue::new(10);
        for _ in 0..5 {
            queue.push(record(2)); // a call and two attempts
        }
        let taken: Vec<_> = queue.take().iter().map(|record| record.spans()).collect();
        assert_eq!(taken, [3, 3, 3], "the others were dropped");
        queue.push(record(9));
        assert_eq!(queue.take().len(), 1);
        queue.push(record(10));
        assert_eq!(queue.take().len(), 0, "no call has more spans than there is room");
    }

    #[test]
    fn batches_are_bounded_and_nothing_is_lost_between_them() {
        let queue = Queue::new(10_000);
        for _ in 0..1_000 {
            queue.push(record(1));
        }
        let mut sizes = Vec::new();
        loop {
            let taken = queue.take();
            if taken.is_empty() {
                break;
            }
            sizes.push(taken.iter().map(|record| record.spans()).sum::<usize>());
        }
        assert_eq!(sizes, [512, 512, 512, 464]);
    }

    #[test]
    fn a_queue_that_is_closed_is_done_when_it_is_empty_and_takes_nothing() {
        let queue = Queue::new(10);
        queue.push(record(0));
        assert!(!queue.is_done());
        queue.close();
        queue.push(record(0));
        assert!(!queue.is_done());
        assert_eq!(queue.take().len(), 1);
        assert!(queue.is_done());
    }

    #[tokio::test]
    async fn who_takes_is_woken_when_there_is_enough() {
        let queue = Queue::new(10);
        let is_woken = || {
            let wanted = queue.wanted();
            let mut wanted = std::pin::pin!(wanted);
            let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
            wanted.as_mut().poll(&mut cx).is_ready()
        };
        for expected in [false, false, false, false, true, false] {
            queue.push(record(0));
            assert_eq!(is_woken(), expected);
        }
        queue.close();
        assert!(is_woken());
    }
}
