//! Keeps the store equal to the wishes of the newest snapshot: compares and corrects, and never holds up a verdict.
//!
//! A disk may take its time. So the judge decides and the snapshot is published first; whoever needs to know that a
//! wish will survive a restart waits for the [`Keeping`] of its snapshot. When the store fails, what is known stays
//! in force, the failure is logged once and shown, and the store is opened anew every [`RETRY`].

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use tokio::sync::{mpsc, oneshot, watch};
use tokio_util::sync::CancellationToken;

use super::etcd::FleetKeeping;
use super::{Edit, Standing, Store, StoreError, StoredDrain, StoredForce, StoredWish, WishKey, Wishes};
use crate::judge::Judge;
use crate::snapshot::{Snapshot, SnapshotCell};

/// Time between two tries with a store that failed, and between two looks at whether it is still there.
const RETRY: Duration = Duration::from_secs(5);

/// Wishes that are to be forgotten at once, not yet looked at.
const FORGET_QUEUE: usize = 4;

/// How far the store is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Keeping {
    /// The newest snapshot whose wishes were looked at.
    pub snapshot: u64,
    /// Whether what is kept outlives the process at all.
    pub outlives_us: bool,
    /// Why the wishes of that snapshot are not in the store; absent: they are.
    pub trouble: Option<String>,
    /// Kept wishes whose target this fleet does not have.
    pub orphans: Vec<StoredWish>,
    /// Present where a cluster keeps the wishes of the whole fleet.
    pub fleet: Option<FleetKeeping>,
}

/// The task that keeps the store.
#[derive(Debug)]
pub struct Keeper {
    store: Store,
    /// What the store holds, as far as we know.
    have: Wishes,
    /// Kept though they are no wishes of this fleet: the site may come back, and would still be drained.
    orphans: Wishes,
    /// Why the store is behind; it is no more once a correction went through.
    trouble: Option<StoreError>,
    /// Whether a correction may be tried; false after a failure, until the store was opened anew.
    usable: bool,
    told: watch::Sender<Keeping>,
    forget: (mpsc::Sender<Forget>, mpsc::Receiver<Forget>),
}

/// A request to forget an orphan.
#[derive(Debug)]
struct Forget {
    key: WishKey,
    done: oneshot::Sender<bool>,
}

/// The other side of a [`Keeper`].
#[derive(Debug, Clone)]
pub(crate) struct KeeperHandle {
    told: watch::Receiver<Keeping>,
    forget: mpsc::Sender<Forget>,
}

impl Keeper {
    /// Reads what the store holds.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn new(store: Store) -> Result<Self, StoreError> {
        let keeping = Keeping {
            snapshot: 0,
            outlives_us: store.outlives_us(),
            trouble: None,
            orphans: Vec::new(),
            fleet: None,
        };
        Ok(Self {
            have: store.wishes()?,
            store,
            orphans: Wishes::new(),
            trouble: None,
            usable: true,
            told: watch::Sender::new(keeping),
            forget: mpsc::channel(FORGET_QUEUE),
        })
    }

    /// Gives the kept wishes to the judge, before its first snapshot. What is over is not given, and leaves the
    /// store with the first correction.
    pub fn restore(&mut self, judge: &mut Judge, now: Instant, at: Timestamp) {
        let Standing {
            drains,
            forces,
            orphans,
        } = Standing::of(&self.have, judge.fleet(), at);
        for orphan in orphans {
            let WishKey { kind, target } = orphan.key();
            let kind = kind.as_str();
            tracing::warn!(
                kind,
                target,
                "a kept wish has no target in this fleet; it stays kept"
            );
            self.orphans.insert(orphan.key(), orphan);
        }
        judge.restore(drains, now, at);
        judge.restore_forces(forces, now, at);
    }

    pub(crate) fn handle(&self) -> KeeperHandle {
        KeeperHandle {
            told: self.told.subscribe(),
            forget: self.forget.0.clone(),
        }
    }

    /// Keeps until `shutdown`, and what was published by then.
    pub async fn run(mut self, cell: Arc<SnapshotCell>, shutdown: CancellationToken) {
        let mut published = cell.subscribe();
        let mut look = tokio::time::interval(RETRY);
        look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            let is_last = shutdown.is_cancelled();
            published.mark_unchanged();
            self = self.keep(cell.load()).await;
            if is_last {
                return;
            }
            tokio::select! {
                changed = published.changed() => if changed.is_err() { return },
                Some(forget) = self.forget.1.recv() => self.forget(forget),
                _ = look.tick() => self = self.look_after().await,
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Corrects the store to the wishes of a snapshot, off the async threads.
    async fn keep(mut self, snapshot: Arc<Snapshot>) -> Self {
        let edits = self.edits(&snapshot);
        if self.usable && !edits.is_empty() {
            self = self.blocking(move |keeper| keeper.write(&edits)).await;
        }
        if self.usable && self.trouble.take().is_some() {
            tracing::info!("the store works again");
        }
        self.tell(snapshot.number);
        self
    }

    /// What differs between the store and what it should hold.
    fn edits(&mut self, snapshot: &Snapshot) -> Vec<Edit> {
        self.orphans.retain(|_, orphan| !orphan.is_over(snapshot.at));
        let drains = snapshot.drains.iter();
        let drains = drains.map(|drain| StoredWish::Drain(StoredDrain::of(drain, &snapshot.fleet)));
        let forces = snapshot.forces.iter();
        let forces = forces.map(|force| StoredWish::Force(StoredForce::of(force, &snapshot.fleet)));
        let mut want: Wishes = drains.chain(forces).map(|wish| (wish.key(), wish)).collect();
        // An orphan whose target is back is no orphan: what was decided since is newer.
        self.orphans.retain(|key, _| !want.contains_key(key));
        want.extend(self.orphans.clone());
        let gone = self.have.keys().filter(|key| !want.contains_key(*key));
        let removals = gone.cloned().map(Edit::Remove);
        let changed = want
            .iter()
            .filter(|(key, wish)| self.have.get(*key) != Some(*wish));
        removals
            .chain(changed.map(|(_, wish)| Edit::Put(wish.clone())))
            .collect()
    }

    fn write(&mut self, edits: &[Edit]) {
        match self.store.write(edits) {
            Ok(()) => edits.iter().for_each(|edit| edit.apply(&mut self.have)),
            Err(error) => self.fails(error),
        }
    }

    /// Sees whether the store is still there; opens it anew when it is not, and the next correction fills it.
    async fn look_after(self) -> Self {
        self.blocking(|keeper| {
            if keeper.usable {
                match keeper.store.check() {
                    Ok(()) => return,
                    Err(error) => keeper.fails(error),
                }
            }
            let reopened = keeper.store.reopen();
            match reopened.and_then(|()| keeper.store.wishes()) {
                Ok(have) => (keeper.have, keeper.usable) = (have, true),
                Err(error) => keeper.fails(error),
            }
        })
        .await
    }

    /// The first failure is logged; the next ones only when they are others.
    fn fails(&mut self, error: StoreError) {
        if self.trouble.as_ref() != Some(&error) {
            metrics::counter!("steer_health_store_failures_total").increment(1);
            tracing::error!(%error, "wishes are not kept and would not survive a restart");
        }
        self.trouble = Some(error);
        self.usable = false;
    }

    fn forget(&mut self, Forget { key, done }: Forget) {
        let was_there = self.orphans.remove(&key).is_some();
        if was_there {
            let (kind, target) = (key.kind.as_str(), key.target);
            tracing::info!(kind, target, "a kept wish without target is forgotten");
        }
        // Nobody may wait for it any more.
        let _ = done.send(was_there);
    }

    fn tell(&self, snapshot: u64) {
        metrics::gauge!("steer_health_store_ok").set(if self.trouble.is_none() { 1.0 } else { 0.0 });
        let keeping = Keeping {
            snapshot,
            outlives_us: self.store.outlives_us(),
            trouble: self.trouble.as_ref().map(ToString::to_string),
            orphans: self.orphans.values().cloned().collect(),
            fleet: None,
        };
        self.told.send_if_modified(|told| {
            let differs = *told != keeping;
            *told = keeping;
            differs
        });
    }

    /// The disk is waited for on a thread that may wait.
    async fn blocking(mut self, work: impl FnOnce(&mut Self) + Send + 'static) -> Self {
        let done = tokio::task::spawn_blocking(move || {
            work(&mut self);
            self
        });
        match done.await {
            Ok(keeper) => keeper,
            // Every failure of the store is an error and no panic, and nobody aborts it.
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                // The runtime is being dropped, and we with it.
                Err(_cancelled) => std::future::pending().await,
            },
        }
    }
}

impl KeeperHandle {
    /// How far the store is now.
    pub(crate) fn keeping(&self) -> Keeping {
        self.told.borrow().clone()
    }

    /// Waits until the store has looked at a snapshot; `None` when the keeper ended before.
    pub(crate) async fn looked_at(&mut self, snapshot: u64) -> Option<Keeping> {
        let keeping = self.told.wait_for(|told| told.snapshot >= snapshot).await;
        keeping.ok().map(|keeping| keeping.clone())
    }

    /// Forgets a kept wish without target; false when there is none of that name.
    pub(crate) async fn forget(&self, key: WishKey) -> bool {
        let (done, answer) = oneshot::channel();
        let forget = Forget { key, done };
        self.forget.send(forget).await.is_ok() && answer.await.unwrap_or(false)
    }
}

#[cfg(test)]
mod tests;
