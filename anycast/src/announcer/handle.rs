//! The way to a running announcer for the admin API: leases, flaps, status.

use std::time::Duration;

use steer_topology::Prefix;
use tokio::sync::{mpsc, oneshot};

use super::lease::{Granted, RequestError};
use super::status::PrefixStatus;
use super::{Announcer, Moment};

/// Requests that may wait for the announcer; whoever comes then waits for room.
const QUEUE: usize = 64;

/// A running announcer. Clones ask the same one.
#[derive(Debug, Clone)]
pub struct AnnouncerHandle {
    requests: mpsc::Sender<Request>,
}

/// Why a request came to nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HandleError {
    /// The announcer would not.
    #[error(transparent)]
    Refused(#[from] RequestError),
    /// There is no announcer any more, or the speaker has none.
    #[error("nothing is announced here any more: steer stops, or has no [bgp]")]
    Stopped,
}

/// A question and where its answer goes.
#[derive(Debug)]
pub(crate) enum Request {
    Lease(Prefix, Duration, String, Answer<Granted>),
    Renew(Prefix, Duration, String, Answer<Granted>),
    Delete(Prefix, String, Answer<()>),
    ClearFlaps(Prefix, Answer<()>),
    Status(oneshot::Sender<Vec<PrefixStatus>>),
}

type Answer<T> = oneshot::Sender<Result<T, RequestError>>;

impl AnnouncerHandle {
    /// A handle, and what its announcer must answer.
    pub(crate) fn new() -> (Self, mpsc::Receiver<Request>) {
        let (requests, inbox) = mpsc::channel(QUEUE);
        (Self { requests }, inbox)
    }

    /// [`Announcer::lease`]
    ///
    /// # Errors
    /// When it is refused, or nobody is there to grant it.
    pub async fn lease(&self, prefix: Prefix, ttl: Duration, owner: String) -> Result<Granted, HandleError> {
        self.ask(|answer| Request::Lease(prefix, ttl, owner, answer))
            .await
    }

    /// [`Announcer::renew`]
    ///
    /// # Errors
    /// As [`AnnouncerHandle::lease`].
    pub async fn renew(&self, prefix: Prefix, ttl: Duration, owner: String) -> Result<Granted, HandleError> {
        self.ask(|answer| Request::Renew(prefix, ttl, owner, answer))
            .await
    }

    /// [`Announcer::delete`]
    ///
    /// # Errors
    /// As [`AnnouncerHandle::lease`].
    pub async fn delete(&self, prefix: Prefix, owner: String) -> Result<(), HandleError> {
        self.ask(|answer| Request::Delete(prefix, owner, answer)).await
    }

    /// [`Announcer::clear_flaps`]
    ///
    /// # Errors
    /// When there is no such prefix, or no announcer.
    pub async fn clear_flaps(&self, prefix: Prefix) -> Result<(), HandleError> {
        self.ask(|answer| Request::ClearFlaps(prefix, answer)).await
    }

    /// [`Announcer::status`]
    ///
    /// # Errors
    /// When there is no announcer.
    pub async fn status(&self) -> Result<Vec<PrefixStatus>, HandleError> {
        let (answer, status) = oneshot::channel();
        let sent = self.requests.send(Request::Status(answer)).await;
        sent.map_err(|_| HandleError::Stopped)?;
        status.await.map_err(|_| HandleError::Stopped)
    }

    async fn ask<T>(&self, request: impl FnOnce(Answer<T>) -> Request) -> Result<T, HandleError> {
        let (answer, answered) = oneshot::channel();
        let sent = self.requests.send(request(answer)).await;
        sent.map_err(|_| HandleError::Stopped)?;
        let granted = answered.await.map_err(|_| HandleError::Stopped)?;
        Ok(granted?)
    }
}

impl Request {
    /// Whoever asked may be gone by now; what was granted stands.
    pub(crate) fn serve(self, announcer: &mut Announcer, moment: Moment) {
        match self {
            Self::Lease(prefix, ttl, owner, answer) => {
                drop(answer.send(announcer.lease(prefix, ttl, &owner, moment)));
            }
            Self::Renew(prefix, ttl, owner, answer) => {
                drop(answer.send(announcer.renew(prefix, ttl, &owner, moment)));
            }
            Self::Delete(prefix, owner, answer) => {
                drop(answer.send(announcer.delete(prefix, &owner, moment)));
            }
            Self::ClearFlaps(prefix, answer) => drop(answer.send(announcer.clear_flaps(prefix, moment))),
            Self::Status(answer) => drop(answer.send(announcer.status(moment))),
        }
    }
}
