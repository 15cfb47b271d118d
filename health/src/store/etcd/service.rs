//! The thin part: one task that reads, watches, adopts, keeps a copy, and begins anew when a member is lost.

use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rand::SeedableRng;
use rand::rngs::StdRng;
use steer_topology::EtcdStore;
use tokio::sync::{oneshot, watch};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::follow::{Follower, Past};
use super::link::{Access, Link, LinkError, is_over};
use super::names::Names;
use super::proto::{KeyValue, WatchResponse};
use super::turns::Turns;
use super::writer::{addition, removal};
use super::{FleetKeeping, Lost, Presence, Writer};
use crate::judge::Judge;
use crate::operator::{Adopted, Command, Operator};
use crate::snapshot::SnapshotCell;
use crate::store::embedded::Embedded;
use crate::store::keeper::Keeping;
use crate::store::{Standing, StoreError, StoredWish, WishKey};

/// How long a start waits for the cluster: with a cache that can stand in for it, and without.
const START_LIMIT: (Duration, Duration) = (Duration::from_secs(3), Duration::from_secs(15));

/// A site is taken for gone so long after its last word, in seconds.
const LEASE: i64 = 15;

/// Between two words.
const RENEW: Duration = Duration::from_secs(5);

/// Between two looks at what is over, and at a cache that failed.
const LOOK: Duration = Duration::from_secs(5);

/// A wish that is over leaves the cluster so much later, for the sake of sites whose clocks are behind.
const GRACE: SignedDuration = SignedDuration::from_mins(1);

/// Longest that an orderly end waits to give its lease back.
const LEAVE_LIMIT: Duration = Duration::from_millis(500);

/// Wishes of a fleet that an etcd cluster keeps.
#[derive(Debug)]
pub struct FleetStore {
    access: Access,
    names: Names,
    follower: Follower,
    cache: Cache,
    writer: Arc<Writer>,
    /// What we show of ourselves; absent where we run as no site.
    me: Option<Presence>,
    lease: Arc<AtomicI64>,
    turns: Turns,
    /// Whose connection was good last.
    link: Option<Link>,
    /// Who tells us.
    member: Option<String>,
    reached: Option<Timestamp>,
    lost: Option<Lost>,
    orphans: Vec<StoredWish>,
    snapshot: u64,
    /// The revision that is in force here.
    adopted: i64,
    told: watch::Sender<Keeping>,
}

/// The copy on our disk.
#[derive(Debug)]
struct Cache {
    /// Absent while it is being written.
    file: Option<Embedded>,
    trouble: Option<StoreError>,
}

impl FleetStore {
    /// Reads the cluster, or where that does not answer the cache. `me`: how we show that we are there.
    ///
    /// # Errors
    /// The cache cannot be opened; or the cluster does not answer, and the cache never saw it.
    pub async fn open(store: &EtcdStore, me: Option<Presence>, seed: u64) -> Result<Self, StoreError> {
        Self::open_within(store, me, seed, START_LIMIT).await
    }

    pub(super) async fn open_within(
        store: &EtcdStore,
        me: Option<Presence>,
        seed: u64,
        (with_cache, without): (Duration, Duration),
    ) -> Result<Self, StoreError> {
        let file = store.cache.clone();
        let opened = tokio::task::spawn_blocking(move || {
            let cache = Embedded::open(&file)?;
            let picture = (cache.past()?, cache.wishes()?);
            Ok((cache, picture))
        });
        let (cache, (past, wishes)) = opened.await.unwrap_or_else(|error| {
            Err(StoreError {
                place: store.cache.clone(),
                what: error.to_string(),
                remedy: "start again",
            })
        })?;
        let names = Names::new(&store.prefix);
        let follower = Follower::new(names.clone(), past, wishes);
        let mut opened = Self {
            access: Access::new(store.cluster.clone()),
            names,
            follower,
            cache: Cache {
                file: Some(cache),
                trouble: None,
            },
            writer: Arc::new(Writer::new(store.clone())),
            me,
            lease: Arc::default(),
            turns: Turns::new(StdRng::seed_from_u64(seed)),
            link: None,
            member: None,
            reached: None,
            lost: None,
            orphans: Vec::new(),
            snapshot: 0,
            adopted: 0,
            told: watch::Sender::new(Keeping::default()),
        };
        let limit = if past.is_some() { with_cache } else { without };
        opened.first_read(store, past.is_some(), limit).await?;
        opened.tell();
        Ok(opened)
    }

    async fn first_read(
        &mut self,
        store: &EtcdStore,
        has_cache: bool,
        limit: Duration,
    ) -> Result<(), StoreError> {
        let mut why = "no member was asked".to_owned();
        let tries = async {
            loop {
                match self.read().await {
                    Ok(_) => return,
                    Err(error) => why = error,
                }
                let wait = self.turns.on_failure(self.access.members());
                tokio::time::sleep(wait).await;
            }
        };
        if tokio::time::timeout(limit, tries).await.is_ok() {
            self.save().await;
            return Ok(());
        }
        if has_cache {
            self.is_lost(why);
            return Ok(());
        }
        Err(StoreError {
            place: PathBuf::from(format!("etcd://{}", store.cluster.members.join(","))),
            what: format!("no member answers within {limit:?} ({why})"),
            remedy: "start the cluster first: without it nobody knows what is drained, \
                     and the file of `[fleet] etcd` never saw it",
        })
    }

    /// Gives the wishes to the judge, before its first snapshot.
    pub fn restore(&mut self, judge: &mut Judge, now: Instant, at: Timestamp) {
        let Standing {
            drains,
            forces,
            orphans,
        } = Standing::of(self.follower.wishes(), judge.fleet(), at);
        self.orphans = orphans;
        self.adopted = self.follower.past().map_or(0, |past| past.revision);
        judge.restore(drains, now, at);
        judge.restore_forces(forces, now, at);
        self.tell();
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> &crate::store::Wishes {
        self.follower.wishes()
    }

    pub(crate) fn keeping(&self) -> watch::Receiver<Keeping> {
        self.told.subscribe()
    }

    pub(crate) fn writer(&self) -> Arc<Writer> {
        Arc::clone(&self.writer)
    }

    /// Follows the cluster until `shutdown`. `operator` is the way to the judge.
    pub async fn run(mut self, operator: Operator, cell: Arc<SnapshotCell>, shutdown: CancellationToken) {
        let stopped = shutdown.clone();
        let follow = async {
            loop {
                let why = self.session(&operator, &cell).await;
                tracing::debug!(why, "the store's member is lost");
                if self.member.take().is_some() {
                    self.reached = Some(Timestamp::now());
                }
                let wait = self.turns.on_failure(self.access.members());
                if wait > Duration::ZERO {
                    self.is_lost(why);
                }
                tokio::time::sleep(wait).await;
            }
        };
        tokio::select! {
            () = stopped.cancelled() => {}
            () = follow => {}
        }
        self.leave().await;
    }

    /// Gives our lease back, so that nobody waits for its end.
    async fn leave(&self) {
        let lease = self.lease.load(Ordering::Relaxed);
        if let Some(link) = self.link.as_ref().filter(|_| lease != 0 && self.lost.is_none()) {
            let left = tokio::time::timeout(LEAVE_LIMIT, link.revoke(lease)).await;
            if !matches!(left, Ok(Ok(()))) {
                tracing::debug!(lease, "the lease was not given back; it ends by itself");
            }
        }
    }

    /// Connects to the member whose turn it is, and reads all.
    async fn read(&mut self) -> Result<(Link, Past), String> {
        let member = self.turns.member(self.access.members()).to_owned();
        let link = self.access.open(&member).await.map_err(|error| error.why)?;
        let read = link.read(self.names.all()).await;
        let (past, keys) = read.map_err(|error| format!("{member}: {}", error.why))?;
        self.take(past, &keys, &link).await;
        self.member = Some(member);
        self.link = Some(link.clone());
        self.reached = Some(Timestamp::now());
        Ok((link, past))
    }

    async fn take(&mut self, past: Past, keys: &[KeyValue], link: &Link) {
        let Some(forgot) = self.follower.on_read(past, keys) else {
            return;
        };
        tracing::error!(
            why = forgot.why,
            wishes = forgot.lost.len(),
            "the store of the fleet has lost its past: what it does not know is put into it again"
        );
        metrics::counter!("steer_health_store_forgot_total").increment(1);
        for wish in forgot.lost {
            let key = self.names.wish(&wish.key());
            let done = match wish.to_bytes() {
                Ok(value) => link
                    .transact(addition(key, value))
                    .await
                    .map_err(|error| error.why),
                Err(error) => Err(error.to_string()),
            };
            if let Err(why) = done {
                // It stands here all the same, and goes in with the next such read.
                tracing::error!(wish = ?wish.key(), why, "a wish could not be put into the store again");
            }
        }
    }

    /// One member for as long as it lasts. Returns why it does not any more.
    async fn session(&mut self, operator: &Operator, cell: &SnapshotCell) -> String {
        let (link, past) = match self.read().await {
            Ok(read) => read,
            Err(why) => return why,
        };
        let mut watch = match link
            .watch(self.names.all(), past.revision.saturating_add(1))
            .await
        {
            Ok(watch) => watch,
            Err(error) => return error.why,
        };
        self.works();
        self.adopt(operator).await;
        let mut fleet = Arc::clone(&cell.load().fleet);
        let mut published = cell.subscribe();
        let mut look = tokio::time::interval(LOOK);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut beat = pin!(hold_lease(
            link.clone(),
            self.me.clone().map(|me| (self.names.site(&me.site), me)),
            Arc::clone(&self.lease),
        ));
        loop {
            tokio::select! {
                told = watch.next() => match told {
                    Ok(told) => match self.on_message(&told) {
                        Ok(true) => self.adopt(operator).await,
                        Ok(false) => self.tell(),
                        Err(why) => return why,
                    },
                    Err(why) => return why,
                },
                why = &mut beat => return why,
                _ = look.tick() => {
                    self.remove_what_is_over(&link).await;
                    if self.cache.trouble.is_some() {
                        self.save().await;
                    }
                }
                changed = published.changed() => {
                    if changed.is_err() {
                        return "steer is stopping".to_owned();
                    }
                    let now = Arc::clone(&cell.load().fleet);
                    if !Arc::ptr_eq(&now, &fleet) {
                        // Names that meant nothing may mean something now, and the other way round.
                        fleet = now;
                        self.adopt(operator).await;
                    }
                }
            }
        }
    }

    /// Returns whether the wishes are others now, or why the watch is over.
    fn on_message(&mut self, message: &WatchResponse) -> Result<bool, String> {
        if let Some(why) = is_over(message) {
            return Err(why);
        }
        self.reached = Some(Timestamp::now());
        if message.created {
            return Ok(false); // its header says where the store is, and not what we were told of it
        }
        // The header of events may be ahead of them, while more are to come.
        let told = message
            .events
            .iter()
            .filter_map(|event| Some(event.kv.as_ref()?.mod_revision));
        let header = message.header.as_ref().map_or(0, |header| header.revision);
        let revision = told.max().unwrap_or(header);
        let changed = self.follower.on_events(revision, &message.events);
        if !changed {
            // Nothing to adopt: what is in force is what the revision has.
            self.adopted = self.follower.past().map_or(0, |past| past.revision);
        }
        Ok(changed)
    }

    /// Brings the wishes in force, and then into the cache.
    async fn adopt(&mut self, operator: &Operator) {
        let wishes = Arc::new(self.follower.wishes().clone());
        let revision = self.follower.past().map_or(0, |past| past.revision);
        let (answer, adopted) = oneshot::channel();
        operator.command(Command::Adopt { wishes, answer }).await;
        let Ok(Adopted { snapshot, orphans }) = adopted.await else {
            return; // steer is stopping
        };
        (self.snapshot, self.orphans, self.adopted) = (snapshot, orphans, revision);
        self.tell();
        self.save().await;
    }

    async fn remove_what_is_over(&self, link: &Link) {
        let late = Timestamp::now().saturating_sub(GRACE).unwrap_or(Timestamp::MIN);
        let wishes = self.follower.wishes();
        let over: Vec<WishKey> = wishes
            .iter()
            .filter(|(_, wish)| wish.is_over(late))
            .map(|(key, _)| key.clone())
            .collect();
        for key in over {
            if let Some(revision) = self.follower.revision_of(&key) {
                // Another site may have been faster, and a failure is tried again with the next look.
                let removed = link.transact(removal(self.names.wish(&key), revision)).await;
                if let Err(error) = removed {
                    tracing::debug!(
                        ?key,
                        why = error.why,
                        "a wish that is over stays in the store for now"
                    );
                    return;
                }
            }
        }
    }

    /// Writes the cache, off the async threads.
    async fn save(&mut self) {
        let Some((mut file, past)) = self.cache.file.take().zip(self.follower.past()) else {
            return;
        };
        let wishes = self.follower.wishes().clone();
        let reopen = self.cache.trouble.is_some();
        let saving = tokio::task::spawn_blocking(move || {
            let saved = if reopen { file.reopen() } else { Ok(()) };
            let saved = saved.and_then(|()| file.save(&wishes, past));
            (file, saved)
        });
        let Ok((file, saved)) = saving.await else {
            return; // the runtime is being dropped
        };
        self.cache.file = Some(file);
        let trouble = saved.err();
        match &trouble {
            Some(error) if self.cache.trouble.as_ref() != Some(error) => {
                metrics::counter!("steer_health_store_failures_total").increment(1);
                tracing::error!(%error, "what the cluster said is not kept for a start without it");
            }
            None if self.cache.trouble.is_some() => tracing::info!("the cache of the store works again"),
            Some(_) | None => {}
        }
        self.cache.trouble = trouble;
        self.tell();
    }

    /// The first failure is logged; the next ones only shown.
    fn is_lost(&mut self, why: String) {
        if self.lost.is_none() {
            metrics::counter!("steer_health_store_failures_total").increment(1);
            tracing::error!(
                why,
                "the store of the fleet is away: what it said last stands, and nothing can be wished"
            );
        }
        self.lost = Some(Lost {
            since: self.reached,
            why,
        });
        self.tell();
    }

    fn works(&mut self) {
        self.turns.on_success();
        if self.lost.take().is_some() {
            tracing::info!(member = self.member, "the store of the fleet works again");
        }
    }

    fn tell(&self) {
        metrics::gauge!("steer_health_store_ok").set(if self.lost.is_none() { 1.0 } else { 0.0 });
        metrics::gauge!("steer_health_store_revision").set(self.adopted as f64);
        let keeping = Keeping {
            snapshot: self.snapshot,
            outlives_us: true,
            trouble: self.cache.trouble.as_ref().map(ToString::to_string),
            orphans: self.orphans.clone(),
            fleet: Some(FleetKeeping {
                cluster: self.follower.past().map(|past| format!("{:x}", past.cluster)),
                revision: self.adopted,
                member: self.member.clone(),
                lost: self.lost.clone(),
                sites: self.follower.sites(),
                unreadable: self.follower.unreadable(),
            }),
        };
        self.told.send_if_modified(|told| {
            let differs = *told != keeping;
            *told = keeping;
            differs
        });
    }
}

/// Shows that we are there, for as long as the member takes it. Returns why it does not.
async fn hold_lease(link: Link, me: Option<(Vec<u8>, Presence)>, held: Arc<AtomicI64>) -> String {
    let Some((key, me)) = me else {
        return std::future::pending().await;
    };
    let value = match serde_json::to_vec(&me) {
        Ok(value) => value,
        Err(error) => return error.to_string(),
    };
    loop {
        let lease = match held.load(Ordering::Relaxed) {
            0 => match show(&link, &key, &value).await {
                Ok(lease) => lease,
                Err(error) => return error.why,
            },
            held => held,
        };
        held.store(lease, Ordering::Relaxed);
        match link.renew(lease).await {
            Ok(true) => tokio::time::sleep(RENEW).await,
            Ok(false) => held.store(0, Ordering::Relaxed), // it was over
            Err(error) => return error.why,
        }
    }
}

async fn show(link: &Link, key: &[u8], value: &[u8]) -> Result<i64, LinkError> {
    let lease = link.grant(LEASE).await?;
    link.put(key.to_vec(), value.to_vec(), lease).await?;
    Ok(lease)
}
