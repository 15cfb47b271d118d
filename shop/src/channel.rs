//! A connection to the edge that is made anew when it is gone, is going, or gave no answer.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use crate::wire::{Link, Lost};

/// How long the edge may take to let us in.
const CONNECT_MAX: Duration = Duration::from_millis(500);

/// Whoever waited for a connection that failed takes that for its own answer for so long.
const FAILED_FOR: Duration = Duration::from_millis(5);

#[derive(Debug)]
pub(crate) struct Channel {
    address: SocketAddr,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    link: Option<Link>,
    dialled: u64,
    failed: Option<(Instant, Lost)>,
}

impl Channel {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self {
            address,
            state: Mutex::default(),
        }
    }

    /// The connection, made if there is none.
    pub(crate) async fn link(&self) -> Result<Link, Lost> {
        let mut state = self.state.lock().await;
        if let Some(link) = &mut state.link
            && link.is_open()
        {
            return Ok(link.clone());
        }
        state.link = None;
        if let Some((at, error)) = &state.failed
            && at.elapsed() < FAILED_FOR
        {
            return Err(error.clone());
        }
        state.dialled += 1;
        let dialled = timeout(CONNECT_MAX, Link::dial(self.address, state.dialled)).await;
        let dialled = dialled.unwrap_or_else(|_| Err(Lost::NoConnection("not in time".to_owned())));
        match &dialled {
            Ok(link) => state.link = Some(link.clone()),
            Err(error) => state.failed = Some((Instant::now(), error.clone())),
        }
        dialled
    }

    /// Nothing came back on this connection in time: the next call takes another one.
    pub(crate) async fn give_up(&self, link: &Link) {
        let mut state = self.state.lock().await;
        if state.link.as_ref().is_some_and(|ours| ours.number == link.number) {
            state.link = None;
        }
    }
}
