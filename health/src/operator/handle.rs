//! The way from an operator to the judge: a bounded channel into the driver's loop, and the answer back.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot};

use super::{Drain, NoTarget};
use crate::judge::{DrainRefused, NotDrained};
use crate::load::{LEASE_MAX, Load};
use crate::outcome::{Answer as Good, Failure, Outcome};
use crate::snapshot::SnapshotCell;
use crate::store::keeper::{Keeper, KeeperHandle, Keeping};

/// Wishes that wait for the driver; whoever wishes more waits in line.
const QUEUE: usize = 16;

/// Longest that a wish waits for the store before it is answered without.
const STORE_LIMIT: Duration = Duration::from_secs(5);

/// Longest `reason` and `author`, in bytes.
const TEXT_MAX: usize = 500;

/// Longest `for`; longer is as good as without an end.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What an operator talks to. Cheap to copy.
#[derive(Debug, Clone)]
pub struct Operator {
    commands: mpsc::Sender<Command>,
    keeper: KeeperHandle,
    cell: Arc<SnapshotCell>,
}

/// The driver's end of the channel.
#[derive(Debug)]
pub struct Commands(mpsc::Receiver<Command>);

/// A wish for a drain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// A name for [`super::Target::find`].
    pub target: String,
    /// See [`Drain::reason`].
    pub reason: String,
    /// See [`Drain::author`].
    pub author: String,
    /// How long; without it until somebody undrains.
    pub time: Option<Duration>,
    /// Overrules the guard.
    pub force: bool,
}

/// A drain that stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drained {
    /// Its full name.
    pub name: String,
    /// What stands.
    pub drain: Drain,
    /// The snapshot that carries it.
    pub snapshot: u64,
    /// Whether it would survive a restart.
    pub kept: Kept,
}

/// A drain that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undrained {
    /// Its full name.
    pub name: String,
    /// The snapshot without it.
    pub snapshot: u64,
    /// Whether the store knows.
    pub kept: Kept,
}

/// Whether a wish is in the store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Kept {
    /// It survives a restart.
    Yes,
    /// No store is configured: it ends with the process.
    NoStore,
    /// The store failed, or did not answer in time.
    No(String),
}

/// Why a wish was not carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Nothing, or several things, go by that name.
    #[error(transparent)]
    NoTarget(#[from] NoTarget),
    /// The guard.
    #[error(transparent)]
    Guard(#[from] DrainRefused),
    /// There is no such drain.
    #[error(transparent)]
    NotDrained(#[from] NotDrained),
    /// A text that nobody will read to its end.
    #[error("the {what} has {got} bytes, and at most {TEXT_MAX} are kept")]
    TooLong {
        /// `reason` or `author`
        what: &'static str,
        /// Its length.
        got: usize,
    },
    /// No time at all, or more than anybody waits.
    #[error(
        "a drain lasts more than nothing and at most ten years; leave the time out for one without an end"
    )]
    Time,
    /// Nothing goes by that name.
    #[error("no site is called {site:?}; {known}")]
    NoSite {
        /// As it was written.
        site: String,
        /// What would be right.
        known: String,
    },
    /// A lease of nothing, or for longer than a figure can be true.
    #[error("a figure counts for more than nothing and at most a day; tell it again before that is over")]
    Lease,
    /// Its check looks for itself.
    #[error("{0} takes no reports: that is for endpoints under a check of kind \"external\"")]
    NotReported(String),
    /// The checks have stopped.
    #[error("steer is stopping")]
    Stopping,
}

/// A wish on its way.
#[derive(Debug)]
pub(crate) enum Command {
    Drain {
        order: Order,
        answer: Answer<(String, Drain, u64)>,
    },
    Undrain {
        target: String,
        author: String,
        answer: Answer<(String, u64)>,
    },
    Load {
        order: LoadOrder,
        answer: Answer<(String, Option<Load>)>,
    },
    Report {
        target: String,
        outcome: Outcome,
        answer: Answer<(String, u64)>,
    },
}

type Answer<T> = oneshot::Sender<Result<T, Refused>>;

/// What a site gets now, as somebody counted it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LoadOrder {
    /// The name of a site.
    pub site: String,
    /// Requests per second; `None` takes the last figure back.
    pub per_second: Option<u64>,
    /// How long it counts unless it is told again.
    pub lease: Duration,
    /// Who tells it.
    pub author: String,
}

impl Operator {
    /// An operator of the judge whose snapshots go to `cell` and whose drains `keeper` keeps; the other end is for
    /// [`crate::run`].
    #[must_use]
    pub fn new(cell: Arc<SnapshotCell>, keeper: &Keeper) -> (Self, Commands) {
        let (commands, receiver) = mpsc::channel(QUEUE);
        let operator = Self {
            commands,
            keeper: keeper.handle(),
            cell,
        };
        (operator, Commands(receiver))
    }

    /// Tells what somebody else saw of an endpoint under a check of kind `external`. Returns its full name,
    /// and the number of the snapshot that stands then.
    ///
    /// # Errors
    /// Why not; then nothing has changed.
    pub async fn report(&self, target: &str, is_up: bool, reason: &str) -> Result<(String, u64), Refused> {
        check_text("reason", reason)?;
        let outcome = if is_up {
            Outcome::Success(Good::Seen(match reason {
                "" => "reported up".into(),
                reason => format!("reported up: {reason}").into(),
            }))
        } else {
            let reason = if reason.is_empty() {
                "no reason given"
            } else {
                reason
            };
            Outcome::Failure(Failure::Reported(reason.to_owned()))
        };
        let (answer, told) = oneshot::channel();
        let command = Command::Report {
            target: target.to_owned(),
            outcome,
            answer,
        };
        self.commands.send(command).await.map_err(|_| Refused::Stopping)?;
        told.await.map_err(|_| Refused::Stopping)?
    }

    /// Drains. Returns when the snapshot that says so is published, and the store has it or has failed.
    ///
    /// # Errors
    /// Why not; then nothing has changed.
    pub async fn drain(&self, order: Order) -> Result<Drained, Refused> {
        check_text("reason", &order.reason)?;
        check_text("author", &order.author)?;
        if order.time.is_some_and(|time| time.is_zero() || time > TIME_MAX) {
            return Err(Refused::Time);
        }
        let command = |answer| Command::Drain { order, answer };
        let (name, drain, snapshot) = self.ask(command).await?;
        Ok(Drained {
            name,
            drain,
            snapshot,
            kept: self.kept(snapshot).await,
        })
    }

    /// Ends a drain, also one that is kept for a target that this fleet does not have.
    ///
    /// # Errors
    /// Why not; then nothing has changed.
    pub async fn undrain(&self, target: &str, author: &str) -> Result<Undrained, Refused> {
        check_text("author", author)?;
        let command = |answer| Command::Undrain {
            target: target.to_owned(),
            author: author.to_owned(),
            answer,
        };
        let (name, snapshot) = match self.ask(command).await {
            Err(Refused::NoTarget(_)) if self.keeper.forget(target).await => {
                // The store looks at the newest snapshot again after that.
                (target.to_owned(), self.cell.peek().number)
            }
            other => other?,
        };
        Ok(Undrained {
            name,
            snapshot,
            kept: self.kept(snapshot).await,
        })
    }

    /// Tells what a site gets. It is in a snapshot within a second. Returns the full name of the site and what counts.
    ///
    /// # Errors
    /// Why not; then nothing has changed.
    pub async fn load(&self, order: LoadOrder) -> Result<(String, Option<Load>), Refused> {
        check_text("author", &order.author)?;
        if order.lease.is_zero() || order.lease > LEASE_MAX {
            return Err(Refused::Lease);
        }
        self.ask(|answer| Command::Load { order, answer }).await
    }

    /// How far the store is.
    #[must_use]
    pub fn keeping(&self) -> Keeping {
        self.keeper.keeping()
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Refused> {
        let (sender, answer) = oneshot::channel();
        let sent = self.commands.send(command(sender)).await;
        sent.map_err(|_closed| Refused::Stopping)?;
        answer.await.map_err(|_dropped| Refused::Stopping)?
    }

    async fn kept(&self, snapshot: u64) -> Kept {
        let mut keeper = self.keeper.clone();
        match tokio::time::timeout(STORE_LIMIT, keeper.looked_at(snapshot)).await {
            Ok(Some(keeping)) => match keeping.trouble {
                Some(trouble) => Kept::No(trouble),
                None if keeping.outlives_us => Kept::Yes,
                None => Kept::NoStore,
            },
            Ok(None) => Kept::No("steer is stopping".to_owned()),
            Err(_elapsed) => Kept::No(format!("the store did not answer within {STORE_LIMIT:?}")),
        }
    }
}

impl Commands {
    /// Nobody ever commands: for checks that run without an operator.
    #[must_use]
    pub fn none() -> Self {
        Self(mpsc::channel(1).1)
    }

    /// The next wish; `None` when nobody can wish any more.
    pub(crate) async fn next(&mut self) -> Option<Command> {
        self.0.recv().await
    }
}

impl Order {
    /// The drain that follows from it, once its target is found.
    pub(crate) fn drain(self, target: super::Target, at: Timestamp) -> Drain {
        let Self {
            target: _,
            reason,
            author,
            time,
            force: _,
        } = self;
        Drain {
            target,
            reason,
            author,
            since: at,
            // What lies beyond the end of time has no end.
            until: time.and_then(|time| at.checked_add(time).ok()),
        }
    }
}

fn check_text(what: &'static str, text: &str) -> Result<(), Refused> {
    if text.len() > TEXT_MAX {
        return Err(Refused::TooLong {
            what,
            got: text.len(),
        });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
