//! A client of the shop under load.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderMap;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::channel::Channel;
use crate::charges::Charges;
use crate::chats::Chats;
use crate::generated::health::{HealthCheckRequest, HealthCheckResponse};
use crate::journal::{Journal, JournalError};
use crate::pulse::Pulse;
use crate::wire::Lost;

const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// Between two looks whether the edge answers.
const LOOK: Duration = Duration::from_millis(100);

/// What it does.
#[derive(Debug, Clone)]
pub struct Load {
    /// Where it calls.
    pub edge: SocketAddr,
    /// Of its accounts and streams: no other client has it.
    pub name: String,
    /// Charges.
    pub per_second: u32,
    /// Streams that stay open.
    pub streams: u32,
    /// A charge that is acknowledged later than this was hit.
    pub late: Duration,
    /// Where it writes what it knows.
    pub journal: PathBuf,
}

/// Why it ended before it was stopped.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The journal cannot be made.
    #[error("cannot make the journal")]
    Journal(#[from] JournalError),
    /// The journal cannot be written.
    #[error("cannot go on")]
    Io(#[from] io::Error),
}

/// Waits until the edge answers, then calls until `stop` comes true; then waits until everything that was begun has ended.
///
/// # Errors
///
/// See [`LoadError`].
pub async fn run(load: &Load, stop: impl Future<Output = ()>) -> Result<(), LoadError> {
    let journal = Arc::new(Journal::create(&load.journal)?);
    let pulse = Arc::new(Pulse::default());
    let (stopping, stopped) = watch::channel(false);
    let charges = Arc::new(Charges::new(load, Arc::clone(&journal), Arc::clone(&pulse)));
    let chats = Arc::new(Chats::new(load, journal, Arc::clone(&pulse)));
    let work = async {
        until_answered(load.edge, stopped.clone()).await;
        tokio::try_join!(charges.run(stopped.clone()), chats.run(stopped))
    };
    let stop = async {
        stop.await;
        _ = stopping.send(true);
        std::future::pending::<()>().await;
    };
    tokio::select! {
        worked = work => worked.map(drop).map_err(LoadError::from),
        () = pulse.beat(load.streams.into()) => Ok(()),
        () = stop => Ok(()),
    }
}

/// A service answers through the edge, or it is stopped.
async fn until_answered(edge: SocketAddr, stopped: watch::Receiver<bool>) {
    let channel = Channel::new(edge);
    while !*stopped.borrow() {
        match timeout(LOOK * 10, ask(&channel)).await {
            Ok(Ok(())) => return,
            Ok(Err(_)) | Err(_) => sleep(LOOK).await,
        }
    }
}

async fn ask(channel: &Channel) -> Result<(), Lost> {
    let link = channel.link().await?;
    let request = HealthCheckRequest::default();
    let answer = link.unary::<HealthCheckResponse>(HEALTH, HeaderMap::new(), &request);
    answer.await.map(drop)
}
