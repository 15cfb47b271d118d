//! The loop of one peer, and the way past it for a wish.
//!
//! Both belong to one task, that of the announcer: nothing here ever waits for the lock, which is never held while
//! something is waited for.

use std::future::poll_fn;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Instant;

use futures_util::task::AtomicWaker;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{PeerTask, STOP_LIMIT};
use crate::speaker::RESYNC;
use crate::speaker::detection::{PathWatch, path_news};
use crate::speaker::followers::tell_panic;
use crate::speaker::wish::Wish;

/// A peer that obeys wishes. Poisoned: it panicked, and ends with its next turn.
pub(in crate::speaker) struct Follower {
    task: Mutex<PeerTask>,
    label: String,
    /// Wakes the loop after a wish.
    obeyed: AtomicWaker,
}

impl Follower {
    pub(in crate::speaker) fn new(task: PeerTask) -> Self {
        Self {
            label: task.label.clone(),
            task: Mutex::new(task),
            obeyed: AtomicWaker::new(),
        }
    }

    pub(in crate::speaker) fn label(&self) -> &str {
        &self.label
    }

    /// The kernel has the octets when this returns, as far as it takes them.
    pub(in crate::speaker) fn obey(&self, wish: &Arc<Wish>) {
        let obey = || self.with(|task| task.obey(wish));
        if catch_unwind(AssertUnwindSafe(obey)).is_err() {
            tell_panic(&self.label);
        }
        self.obeyed.wake();
    }

    /// Until `shutdown`, and the orderly end after it.
    pub(in crate::speaker) async fn run(
        &self,
        mut path: Option<PathWatch>,
        mut accepted: mpsc::Receiver<TcpStream>,
        shutdown: CancellationToken,
    ) {
        let Some(first) = self.with(|task| task.first_resync()) else {
            return;
        };
        let mut resync = tokio::time::interval_at(tokio::time::Instant::now() + first, RESYNC);
        loop {
            let turn = self.with(|task| {
                task.turn();
                task.next_deadline()
            });
            let Some(deadline) = turn else { return };
            tokio::select! {
                biased; // wishes are few, and none of the others is ready for ever
                () = shutdown.cancelled() => break,
                () = self.has_obeyed() => {}
                () = self.ready() => self.act(PeerTask::pump),
                (id, result) = self.dialled() => self.act(|task| task.on_dialled(id, result)),
                Some(stream) = accepted.recv() => self.act(|task| task.on_accepted(stream)),
                news = path_news(&mut path) => self.act(|task| task.on_path(news)),
                () = until(deadline) => self.act(PeerTask::on_deadline),
                _ = resync.tick() => self.act(PeerTask::compare_all),
            }
        }
        if let Some(closing) = self.with(PeerTask::stop) {
            self.close(closing).await;
        }
    }

    async fn close(&self, mut closing: JoinSet<()>) {
        let closed = async { while closing.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, closed).await.is_err() {
            warn!(peer = %self.label, "the peer did not take our last messages in time");
        }
    }

    /// As if it had a defect.
    #[cfg(test)]
    pub(in crate::speaker) fn panic(&self) {
        let defect = || self.with(|_| -> () { panic!("on purpose") });
        assert!(catch_unwind(AssertUnwindSafe(defect)).is_err());
    }

    /// `None`: it panicked before.
    fn with<T>(&self, act: impl FnOnce(&mut PeerTask) -> T) -> Option<T> {
        self.task.lock().ok().map(|mut task| act(&mut task))
    }

    fn act(&self, act: impl FnOnce(&mut PeerTask)) {
        let _ = self.with(act); // the next turn finds out
    }

    /// Returns when a wish was obeyed since the last turn, or the task is gone.
    async fn has_obeyed(&self) {
        poll_fn(|cx| {
            self.obeyed.register(cx.waker());
            match self.with(|task| task.obeyed) {
                Some(false) => Poll::Pending,
                Some(true) | None => Poll::Ready(()),
            }
        })
        .await;
    }

    async fn ready(&self) {
        poll_fn(|cx| self.with(|task| task.poll_ready(cx)).unwrap_or(Poll::Pending)).await;
    }

    async fn dialled(&self) -> (crate::session::SessionId, std::io::Result<TcpStream>) {
        poll_fn(|cx| self.with(|task| task.poll_dial(cx)).unwrap_or(Poll::Pending)).await
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
        None => std::future::pending().await,
    }
}
