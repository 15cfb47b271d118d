//! Whoever obeys the newest wish: the sessions with the peers.
//!
//! They are run by the announcer's own task, not by tasks of their own: when a wish is told, every session writes at once,
//! one after the other, and nothing of the runtime stands between two of them. What else comes of it is for their loops. A loop
//! that has nothing to do is not looked at. A session that panics ends alone.

use std::collections::BTreeSet;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::task::{Context, Poll};

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt, StreamExt};
use steer_topology::Prefix;
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::detection::PathWatch;
use super::peer::{Follower, PeerTask};
use super::status::SpeakerStatus;
use super::wish::Wish;
use crate::announcer::{Driver, Sessions};
use crate::wanted::Wanted;

type Session = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Whoever obeys the newest wish.
pub(super) struct Followers {
    wish: Mutex<Arc<Wish>>,
    /// Each belongs to its loop: with that goes its connection, so that the peer hears of the end at once.
    sessions: Vec<Weak<Follower>>,
    status: Arc<SpeakerStatus>,
    crew: Crew,
}

/// Sessions that one task runs.
#[derive(Default)]
struct Crew {
    /// Locked while they are polled, which one task alone does.
    sessions: Mutex<FuturesUnordered<Session>>,
}

impl Followers {
    /// The first wish is the driver's of this moment. Nobody follows yet.
    pub(super) fn new(driver: &mut Driver, status: Arc<SpeakerStatus>) -> Self {
        let (wanted, settled) = driver.begin();
        Self {
            wish: Mutex::new(Arc::new(Wish::first(wanted, settled))),
            sessions: Vec::new(),
            status,
            crew: Crew::default(),
        }
    }

    /// From now on `peer` obeys every wish, and runs whenever the sessions are tended.
    pub(super) fn add(
        &mut self,
        mut peer: PeerTask,
        path: Option<PathWatch>,
        accepted: mpsc::Receiver<TcpStream>,
        shutdown: CancellationToken,
    ) {
        let wish = self.wish.get_mut().unwrap_or_else(PoisonError::into_inner);
        peer.begin(Arc::clone(wish)); // a next wish may come before its first turn
        let session = Arc::new(Follower::new(peer));
        self.sessions.push(Arc::downgrade(&session));
        let label = session.label().to_owned();
        self.crew.add(label, async move {
            session.run(path, accepted, shutdown).await;
        });
    }

    /// As if each had a defect.
    #[cfg(test)]
    pub(super) fn panic_in_all(&self) {
        let sessions = self.sessions.iter().filter_map(Weak::upgrade);
        sessions.for_each(|session| session.panic());
    }

    /// Until every session has ended.
    pub(super) async fn end(&self) {
        poll_fn(|cx| self.crew.poll(cx)).await;
    }
}

impl Crew {
    fn add(&mut self, label: String, session: impl Future<Output = ()> + Send + 'static) {
        let alone = async move {
            if AssertUnwindSafe(session).catch_unwind().await.is_err() {
                tell_panic(&label);
            }
        };
        let sessions = self.sessions.get_mut().unwrap_or_else(PoisonError::into_inner);
        sessions.push(Box::pin(alone));
    }

    /// Gives each session that has something to do its turn. Ready when none is left.
    fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        while let Poll::Ready(ended) = sessions.poll_next_unpin(cx) {
            if ended.is_none() {
                return Poll::Ready(());
            }
        }
        Poll::Pending
    }
}

pub(super) fn tell_panic(peer: &str) {
    error!(
        peer,
        "the session panicked, and is not begun again; this is a defect of steer"
    );
    metrics::counter!("steer_anycast_session_panics_total").increment(1);
}

impl Sessions for Followers {
    fn want(&self, wanted: &Arc<Wanted>, changed: BTreeSet<Prefix>, settled: bool) {
        let mut wish = self.wish.lock().unwrap_or_else(PoisonError::into_inner);
        let next = Arc::new(wish.next(Arc::clone(wanted), changed, settled));
        *wish = Arc::clone(&next);
        drop(wish);
        for session in self.sessions.iter().filter_map(Weak::upgrade) {
            session.obey(&next);
        }
    }

    fn tend(&self, cx: &mut Context<'_>) {
        // Those that have ended stay away; the announcer goes on without them.
        let _ = self.crew.poll(cx);
    }

    fn announce(&self, prefix: &Prefix) -> bool {
        self.status.is_announced(prefix)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::watch;

    use super::*;

    #[tokio::test]
    async fn a_session_that_panics_ends_alone_and_one_turn_reaches_all() {
        let (wishes, told) = watch::channel(0);
        let done = Arc::new(Mutex::new(Vec::new()));
        let mut crew = Crew::default();
        for number in 0..3 {
            let (mut told, done) = (told.clone(), Arc::clone(&done));
            crew.add(number.to_string(), async move {
                for _ in 0..2 {
                    told.changed().await.unwrap();
                    assert!(number != 1 || *told.borrow_and_update() != 1, "on purpose");
                    done.lock().unwrap().push(number);
                }
            });
        }
        let sorted = || {
            let mut done = done.lock().unwrap().clone();
            done.sort_unstable();
            done
        };
        let turn = || poll_fn(|cx| Poll::Ready(crew.poll(cx)));
        assert_eq!(turn().await, Poll::Pending);
        wishes.send_replace(1);
        assert_eq!(turn().await, Poll::Pending);
        assert_eq!(sorted(), [0, 2], "in one turn");
        wishes.send_replace(2);
        assert_eq!(turn().await, Poll::Ready(()));
        assert_eq!(sorted(), [0, 0, 2, 2]);
    }
}
