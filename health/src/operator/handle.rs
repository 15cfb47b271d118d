//! The way from an operator to the judge: a bounded channel into the driver's loop, and the answer back.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use steer_topology::Fleet;
use tokio::sync::{mpsc, oneshot, watch};

use super::{Drain, Force, Forced, NoTarget, Target};
use crate::judge::{DrainRefused, NotDrained, NotForced};
use crate::load::{LEASE_MAX, Load};
use crate::outcome::{Answer as Good, Failure, Outcome};
use crate::probe::Reporter;
use crate::snapshot::SnapshotCell;
use crate::store::etcd::{FleetStore, WriteError, Writer};
use crate::store::keeper::{Keeper, KeeperHandle, Keeping};
use crate::store::{Edit, StoredDrain, StoredForce, StoredWish, WishKey, WishKind, Wishes};

/// Wishes that wait for the driver; whoever wishes more waits in line.
const QUEUE: usize = 16;

/// Longest that a wish waits for the store before it is answered without.
const STORE_LIMIT: Duration = Duration::from_secs(5);

/// Longest that news of others is waited for before a wish is weighed anew.
const NEWS_LIMIT: Duration = Duration::from_millis(500);

/// How often a wish for the fleet is weighed anew because others were faster.
const WEIGH_TRIES: usize = 5;

/// Longest `reason` and `author`, in bytes.
const TEXT_MAX: usize = 500;

/// Longest `for`; longer is as good as without an end.
const TIME_MAX: Duration = Duration::from_secs(10 * 365 * 86_400);

/// What an operator talks to. Cheap to copy.
#[derive(Debug, Clone)]
pub struct Operator {
    commands: mpsc::Sender<Command>,
    keep: Keep,
    cell: Arc<SnapshotCell>,
}

/// Who keeps wishes.
#[derive(Debug, Clone)]
enum Keep {
    /// A store of this process: it follows what is decided here.
    Own(KeeperHandle),
    /// A store of the whole fleet: what is in it is decided.
    Fleet {
        keeping: watch::Receiver<Keeping>,
        writer: Arc<Writer>,
    },
}

/// The driver's end of the channel.
#[derive(Debug)]
pub struct Commands(mpsc::Receiver<Command>);

/// A wish that something be drained or forced.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Order {
    /// Which of them.
    pub what: What,
    /// A name for [`super::Target::find`].
    pub target: String,
    /// See [`Drain::reason`].
    pub reason: String,
    /// See [`Drain::author`].
    pub author: String,
    /// How long; without it until somebody takes it back.
    pub time: Option<Duration>,
    /// Overrules the guard.
    pub force: bool,
}

/// What is wished for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum What {
    /// Nobody new is sent there.
    Drain,
    /// A verdict in the place of the checks'.
    Force(Forced),
}

/// A wish that stands now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Done {
    /// What stands.
    pub wish: StoredWish,
    /// The snapshot that carries it.
    pub snapshot: u64,
    /// Whether it would survive a restart.
    pub kept: Kept,
}

/// A wish that is over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Over {
    /// Its target's full name.
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
    /// There is no such forced verdict.
    #[error(transparent)]
    NotForced(#[from] NotForced),
    /// The store of the fleet could not take it; nothing has changed anywhere.
    #[error("{0}; what stands goes on standing everywhere")]
    Store(String),
    /// The store of the fleet did not say whether it took it.
    #[error("{0}; whether it was taken is shown by `steer status` when the store answers again")]
    Doubt(String),
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
        "a wish lasts more than nothing and at most ten years; leave the time out for one without an end"
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
    /// Sites do not fall.
    #[error(
        "{0} is a site; only endpoints fall: name one as ADDRESS:PORT, POOL/ADDRESS:PORT@SITE or POOL@SITE"
    )]
    NoEndpoint(String),
    /// The checks have stopped.
    #[error("steer is stopping")]
    Stopping,
}

/// A wish on its way.
#[derive(Debug)]
pub(crate) enum Command {
    Wish {
        order: Order,
        answer: Answer<(StoredWish, u64)>,
    },
    TakeBack {
        kind: WishKind,
        target: String,
        author: String,
        answer: Answer<(String, u64)>,
    },
    /// Whether a wish would be permitted, and what it would be; nothing changes.
    Weigh {
        order: Order,
        answer: Answer<StoredWish>,
    },
    /// The wishes of the fleet, all of them.
    Adopt {
        wishes: Arc<Wishes>,
        answer: oneshot::Sender<Adopted>,
    },
    Load {
        order: LoadOrder,
        answer: Answer<(String, Option<Load>)>,
    },
    ClearFlaps {
        target: String,
        answer: Answer<(String, u64)>,
    },
    Report {
        target: String,
        by: Reporter,
        outcome: Outcome,
        answer: Answer<(String, u64)>,
    },
}

/// The wishes of the fleet are in force.
#[derive(Debug)]
pub(crate) struct Adopted {
    /// The snapshot that carries them.
    pub(crate) snapshot: u64,
    /// Those without a target in this fleet.
    pub(crate) orphans: Vec<StoredWish>,
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
        Self::with(cell, Keep::Own(keeper.handle()))
    }

    /// An operator whose wishes are those of the whole fleet.
    #[must_use]
    pub fn of_fleet(cell: Arc<SnapshotCell>, store: &FleetStore) -> (Self, Commands) {
        let keep = Keep::Fleet {
            keeping: store.keeping(),
            writer: store.writer(),
        };
        Self::with(cell, keep)
    }

    fn with(cell: Arc<SnapshotCell>, keep: Keep) -> (Self, Commands) {
        let (commands, receiver) = mpsc::channel(QUEUE);
        let operator = Self { commands, keep, cell };
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
        self.tell(target, Reporter::Outside, outcome).await
    }

    /// BFD tells of the path to a neighbour: an endpoint by its full name, under a check of kind `bfd`.
    ///
    /// # Errors
    /// Why it was not taken.
    pub async fn path(
        &self,
        target: &str,
        failure: Option<String>,
        seen: String,
    ) -> Result<(String, u64), Refused> {
        let outcome = match failure {
            None => Outcome::Success(Good::Seen(seen.into())),
            Some(why) => Outcome::Failure(Failure::Path(why)),
        };
        self.tell(target, Reporter::Bfd, outcome).await
    }

    async fn tell(&self, target: &str, by: Reporter, outcome: Outcome) -> Result<(String, u64), Refused> {
        let target = target.to_owned();
        let command = |answer| Command::Report {
            target,
            by,
            outcome,
            answer,
        };
        self.ask(command).await
    }

    /// The falls of an endpoint are forgotten, and it is held back no more (`damping` of a pool). Returns its full name,
    /// and the number of the snapshot that stands then.
    ///
    /// # Errors
    /// Why not; then nothing has changed.
    pub async fn clear_flaps(&self, target: &str) -> Result<(String, u64), Refused> {
        let (answer, told) = oneshot::channel();
        let target = target.to_owned();
        let command = Command::ClearFlaps { target, answer };
        self.commands.send(command).await.map_err(|_| Refused::Stopping)?;
        told.await.map_err(|_| Refused::Stopping)?
    }

    /// Carries out a wish. Returns when the snapshot that says so is published, and the store has it or has failed.
    /// With a store of the whole fleet it is the other way round: what that does not take is not done.
    ///
    /// # Errors
    /// Why not; then nothing has changed, but for [`Refused::Doubt`].
    pub async fn wish(&self, order: Order) -> Result<Done, Refused> {
        check_text("reason", &order.reason)?;
        check_text("author", &order.author)?;
        if order.time.is_some_and(|time| time.is_zero() || time > TIME_MAX) {
            return Err(Refused::Time);
        }
        let keeper = match &self.keep {
            Keep::Own(keeper) => keeper,
            Keep::Fleet { keeping, writer } => {
                return self.wish_for_fleet(order, keeping.clone(), writer).await;
            }
        };
        let (wish, snapshot) = self.ask(|answer| Command::Wish { order, answer }).await?;
        Ok(Done {
            wish,
            snapshot,
            kept: kept(keeper, snapshot).await,
        })
    }

    /// Weighed here, written there, and in force when it comes back.
    async fn wish_for_fleet(
        &self,
        order: Order,
        mut keeping: watch::Receiver<Keeping>,
        writer: &Writer,
    ) -> Result<Done, Refused> {
        for _ in 0..WEIGH_TRIES {
            // Looked at before the judge weighs: what it knows is no older than that.
            let (base, member) = (in_force(&keeping.borrow()), member(&keeping.borrow()));
            let order = order.clone();
            let wish = self.ask(|answer| Command::Weigh { order, answer }).await?;
            match writer
                .write(&[Edit::Put(wish.clone())], Some(base), member.as_deref())
                .await
            {
                Ok(revision) => {
                    let (snapshot, kept) = came_back(&mut keeping, revision).await?;
                    return Ok(Done { wish, snapshot, kept });
                }
                Err(WriteError::Changed(revision)) => {
                    // The revision may be that of somebody else's key, of which we are never told.
                    let told = keeping.wait_for(|keeping| in_force(keeping) >= revision);
                    let _ = tokio::time::timeout(NEWS_LIMIT, told).await;
                }
                Err(error) => return Err(error.into()),
            }
        }
        Err(Refused::Store(
            "other sites changed what is wished each time that this was weighed; try again".to_owned(),
        ))
    }

    async fn take_back_for_fleet(
        &self,
        key: WishKey,
        author: &str,
        mut keeping: watch::Receiver<Keeping>,
        writer: &Writer,
    ) -> Result<Over, Refused> {
        let snapshot = self.cell.load();
        let is_orphan = keeping.borrow().orphans.iter().any(|orphan| orphan.key() == key);
        let target = match Target::find(&snapshot.fleet, &key.target) {
            Err(_) if is_orphan => key.target,
            Err(unknown) => return Err(unknown.into()),
            Ok(target) => {
                let name = target.name(&snapshot.fleet);
                let (drained, forced) = (
                    snapshot.drains.iter().any(|drain| drain.target == target),
                    snapshot.forces.iter().any(|force| force.target == target),
                );
                match key.kind {
                    WishKind::Drain if !drained => return Err(NotDrained(name).into()),
                    WishKind::Force if !forced => return Err(NotForced(name).into()),
                    WishKind::Drain | WishKind::Force => name,
                }
            }
        };
        let kind = key.kind;
        let edit = Edit::Remove(WishKey {
            kind,
            target: target.clone(),
        });
        let member = member(&keeping.borrow());
        let revision = writer.write(&[edit], None, member.as_deref()).await?;
        tracing::info!(
            kind = kind.as_str(),
            target,
            author,
            revision,
            "taken back in the store of the fleet"
        );
        let (snapshot, kept) = came_back(&mut keeping, revision).await?;
        Ok(Over {
            name: target,
            snapshot,
            kept,
        })
    }

    /// Ends a wish, also one that is kept for a target that this fleet does not have.
    ///
    /// # Errors
    /// As for [`Operator::wish`].
    pub async fn take_back(&self, kind: WishKind, target: &str, author: &str) -> Result<Over, Refused> {
        check_text("author", author)?;
        let key = WishKey {
            kind,
            target: target.to_owned(),
        };
        let keeper = match &self.keep {
            Keep::Own(keeper) => keeper,
            Keep::Fleet { keeping, writer } => {
                return self
                    .take_back_for_fleet(key, author, keeping.clone(), writer)
                    .await;
            }
        };
        let command = |answer| Command::TakeBack {
            kind,
            target: target.to_owned(),
            author: author.to_owned(),
            answer,
        };
        let (name, snapshot) = match self.ask(command).await {
            Err(Refused::NoTarget(_)) if keeper.forget(key).await => {
                // The store looks at the newest snapshot again after that.
                (target.to_owned(), self.cell.peek().number)
            }
            other => other?,
        };
        Ok(Over {
            name,
            snapshot,
            kept: kept(keeper, snapshot).await,
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
        match &self.keep {
            Keep::Own(keeper) => keeper.keeping(),
            Keep::Fleet { keeping, .. } => keeping.borrow().clone(),
        }
    }

    /// For the store of the fleet. What it has to say is lost only where nobody judges any more.
    pub(crate) async fn command(&self, command: Command) {
        let _ = self.commands.send(command).await;
    }

    async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T, Refused> {
        let (sender, answer) = oneshot::channel();
        let sent = self.commands.send(command(sender)).await;
        sent.map_err(|_closed| Refused::Stopping)?;
        answer.await.map_err(|_dropped| Refused::Stopping)?
    }
}

async fn kept(keeper: &KeeperHandle, snapshot: u64) -> Kept {
    let mut keeper = keeper.clone();
    match tokio::time::timeout(STORE_LIMIT, keeper.looked_at(snapshot)).await {
        Ok(Some(keeping)) => said(&keeping),
        Ok(None) => Kept::No("steer is stopping".to_owned()),
        Err(_elapsed) => Kept::No(format!("the store did not answer within {STORE_LIMIT:?}")),
    }
}

fn said(keeping: &Keeping) -> Kept {
    match &keeping.trouble {
        Some(trouble) => Kept::No(trouble.clone()),
        None if keeping.outlives_us => Kept::Yes,
        None => Kept::NoStore,
    }
}

fn in_force(keeping: &Keeping) -> i64 {
    keeping.fleet.as_ref().map_or(0, |fleet| fleet.revision)
}

fn member(keeping: &Keeping) -> Option<String> {
    keeping.fleet.as_ref()?.member.clone()
}

/// Waits until a revision of the store of the fleet is in force here.
async fn came_back(keeping: &mut watch::Receiver<Keeping>, revision: i64) -> Result<(u64, Kept), Refused> {
    let is_here = keeping.wait_for(|keeping| in_force(keeping) >= revision);
    match tokio::time::timeout(STORE_LIMIT, is_here).await {
        Ok(Ok(keeping)) => Ok((keeping.snapshot, said(&keeping))),
        Ok(Err(_closed)) => Err(Refused::Stopping),
        Err(_elapsed) => Err(Refused::Doubt(format!(
            "the store of the fleet took it, and has not told us of it within {STORE_LIMIT:?}"
        ))),
    }
}

impl From<WriteError> for Refused {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Changed(revision) => Self::Store(format!(
                "the store of the fleet has changed by revision {revision}; try again"
            )),
            WriteError::Away(why) => Self::Store(why),
            WriteError::Doubt(why) => Self::Doubt(why),
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

/// A wish whose target is found.
#[derive(Debug, Clone)]
pub(crate) enum Wish {
    Drain(Drain),
    Force(Force),
}

impl Wish {
    pub(crate) fn stored(&self, fleet: &Fleet) -> StoredWish {
        match self {
            Self::Drain(drain) => StoredWish::Drain(StoredDrain::of(drain, fleet)),
            Self::Force(force) => StoredWish::Force(StoredForce::of(force, fleet)),
        }
    }
}

impl Order {
    /// The wish that follows from it, once its target is found.
    pub(crate) fn wish(self, target: Target, at: Timestamp) -> Wish {
        let Self {
            what,
            target: _,
            reason,
            author,
            time,
            force: _,
        } = self;
        // What lies beyond the end of time has no end.
        let until = time.and_then(|time| at.checked_add(time).ok());
        match what {
            What::Drain => Wish::Drain(Drain {
                target,
                reason,
                author,
                since: at,
                until,
            }),
            What::Force(to) => Wish::Force(Force {
                target,
                to,
                reason,
                author,
                since: at,
                until,
            }),
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
