//! The sessions of a speaker by hand: wishes that come at bad moments, and a session that panics.

use std::collections::BTreeSet;
use std::future::{pending, poll_fn};
use std::task::Poll;

use tokio::net::TcpListener;

use super::*;
use crate::announcer::{Driver, Sessions, Settings};
use crate::speaker::Doors;
use crate::speaker::followers::Followers;
use crate::wanted::{Decision, Wanted};

/// The sessions of a speaker with one peer, begun but not tended yet.
struct ByHand {
    followers: Followers,
    status: Arc<SpeakerStatus>,
    _doors: Doors,
}

impl ByHand {
    async fn begin(peer: SocketAddr) -> Self {
        let fleet = three_prefixes(peer);
        let mut speaker = Speaker::bind(&fleet, None).await.unwrap();
        let judge = Judge::new(Arc::clone(&fleet), Instant::now(), Timestamp::now());
        let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
        let requests = std::mem::replace(&mut speaker.requests, AnnouncerHandle::new().1);
        let mut driver = Driver::new(None, cell, requests, Settings::default());
        let status = speaker.status();
        let mut followers = Followers::new(&mut driver, Arc::clone(&status));
        let doors = speaker.begin_sessions(&mut followers, 1, &CancellationToken::new());
        Self {
            followers,
            status,
            _doors: doors,
        }
    }

    /// Wants this prefix alone.
    fn want(&self, prefix: &str) {
        let prefix = prefix_of(prefix);
        let decision = Decision {
            announce: true,
            ..Decision::default()
        };
        let wanted = Arc::new(Wanted {
            snapshot: 1,
            prefixes: [(prefix, decision)].into_iter().collect(),
        });
        self.followers.want(&wanted, BTreeSet::from([prefix]), false);
    }

    async fn turn(&self) {
        poll_fn(|cx| {
            self.followers.tend(cx);
            Poll::Ready(())
        })
        .await;
    }

    /// Tends the sessions as long as `work` takes.
    async fn beside<T>(&self, work: impl Future<Output = T>) -> T {
        let tending = poll_fn(|cx| {
            self.followers.tend(cx);
            Poll::<()>::Pending
        });
        let work = tokio::time::timeout(PATIENCE, work);
        tokio::select! {
            done = work => done.expect("in time"),
            () = tending => pending().await,
        }
    }
}

#[tokio::test]
async fn a_wish_that_comes_before_the_first_turn_of_a_session_is_not_lost() {
    let by_hand = ByHand::begin(free()).await;
    by_hand.want("198.51.100.0/24");
    by_hand.turn().await;
    let routes = &by_hand.status.peers()[0].routes;
    assert!(routes.contains_key(&prefix_of("198.51.100.0/24")), "{routes:?}");
}

#[tokio::test]
async fn the_connection_of_a_session_that_panicked_is_closed() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let by_hand = ByHand::begin(listener.local_addr().unwrap()).await;
    let (mut stream, _) = by_hand.beside(listener.accept()).await.unwrap();
    let mut octets = [0; 19];
    by_hand.beside(stream.read_exact(&mut octets)).await.unwrap();
    by_hand.followers.panic_in_all();
    by_hand.want("198.51.100.0/24");
    let mut rest = Vec::new();
    // An end or a reset: either tells the peer at once.
    let _ = by_hand.beside(stream.read_to_end(&mut rest)).await;
}
