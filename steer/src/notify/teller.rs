//! The task that compares, and appends to the spool what there is to tell.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use steer_health::Snapshot;
use steer_health::events::{Event, Fact, Facts, Key, Moment, apply, events, route_events};
use steer_rpc::key::StoreError;
use steer_rpc::outbox::Spool;
use steer_rpc::outbox::spool::{Post, Told};
use steer_topology::{EventKind, Fleet, SiteId};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use super::channels::follow;
use super::routes::{next_look, pictures};
use super::{Notifier, Payload, Sources};

/// Snapshots that may wait to be compared. Beyond that some are compared together.
const JOURNAL: usize = 1024;

/// After a failure of the spool everything is compared anew after this long.
const RETRY: Duration = Duration::from_secs(1);

pub(super) struct Teller {
    notifier: Notifier,
    spool: Spool,
    sources: Sources,
    told: Facts,
    /// The snapshot that was compared last; absent: everything is compared.
    before: Option<Arc<Snapshot>>,
    /// The fleet whose channels run.
    fleet: Option<Arc<Fleet>>,
    /// Something could not be appended; it is tried again then.
    retry_at: Option<Instant>,
    /// When to look at the routes; absent where there are none.
    look_at: Option<Instant>,
}

impl Teller {
    pub(super) fn new(notifier: Notifier, spool: Spool, sources: Sources) -> Self {
        Self {
            notifier,
            spool,
            look_at: (!sources.announcers.is_empty()).then(Instant::now),
            sources,
            told: Facts::new(),
            before: None,
            fleet: None,
            retry_at: None,
        }
    }

    pub(super) async fn run(mut self, stop: CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = self.tell() => {}
        }
        // The channels end with it; what was on its way is told again at the next start.
        self.notifier.0.channels.store(Arc::default());
    }

    async fn tell(&mut self) {
        let mut journal = self.sources.cell.journal(JOURNAL);
        while let Err(error) = self.recall().await {
            error!(%error, "what was told before cannot be read");
            tokio::time::sleep(RETRY).await;
        }
        self.on_snapshot(self.sources.cell.load()).await;
        loop {
            tokio::select! {
                snapshot = next(&mut journal) => {
                    let last = self.before.as_ref().map_or(0, |before| before.number);
                    if snapshot.number > last {
                        self.on_snapshot(snapshot).await;
                    }
                }
                () = until(self.look_at) => self.look_at_routes().await,
                () = until(self.retry_at) => self.on_snapshot(self.sources.cell.load()).await,
            }
        }
    }

    /// What was told by the processes before this one.
    async fn recall(&mut self) -> Result<(), StoreError> {
        let kept = self.spool.blocking(Spool::told).await?;
        let told = kept.into_iter().filter_map(|(subject, state)| {
            let read = read_key(&subject).zip(serde_json::from_slice(&state).ok());
            if read.is_none() {
                warn!(subject, "what was told of it makes no sense; it is told anew");
            }
            read
        });
        self.told = told.collect();
        Ok(())
    }

    async fn on_snapshot(&mut self, snapshot: Arc<Snapshot>) {
        self.follow(&snapshot).await;
        let events = events(&self.told, self.before.as_deref(), &snapshot);
        if self.append(events, &snapshot.fleet).await {
            self.before = Some(snapshot);
        }
    }

    async fn look_at_routes(&mut self) {
        let snapshot = self.sources.cell.load();
        let wanted = self.notifier.channels();
        let wanted = wanted
            .iter()
            .any(|live| live.tells && live.config.events.contains(&EventKind::Route));
        // Nothing is announced before that, whatever was before the start.
        let is_time = snapshot.settled && wanted;
        let Sources {
            announcers, sites, ..
        } = &self.sources;
        let pictures = match is_time {
            true => pictures(announcers, sites, &snapshot.fleet).await,
            false => None,
        };
        let count = pictures.as_ref().map_or(0, Vec::len);
        self.look_at = Some(Instant::now() + next_look(count));
        if let Some(pictures) = pictures {
            let moment = Moment {
                snapshot: snapshot.number,
                at: snapshot.at,
            };
            let events = route_events(&self.told, &pictures, moment);
            self.append(events, &snapshot.fleet).await;
        }
    }

    /// Starts and ends channels after another configuration.
    async fn follow(&mut self, snapshot: &Snapshot) {
        if self
            .fleet
            .as_ref()
            .is_some_and(|fleet| Arc::ptr_eq(fleet, &snapshot.fleet))
        {
            return;
        }
        let before = self.notifier.channels();
        let live = follow(&before, &snapshot.fleet, &self.sources.sites, &self.spool).await;
        self.notifier.0.channels.store(Arc::new(live));
        self.fleet = Some(Arc::clone(&snapshot.fleet));
    }

    /// Whether it was kept. If not, nothing counts as told, and everything is compared anew in a moment.
    async fn append(&mut self, events: Vec<Event>, fleet: &Fleet) -> bool {
        if events.is_empty() {
            self.retry_at = None;
            return true;
        }
        let posts = self.posts(&events, fleet);
        let told: Vec<Told> = events.iter().map(told).collect();
        match self.spool.blocking(move |spool| spool.append(posts, &told)).await {
            Ok(()) => {
                apply(&mut self.told, &events);
                self.retry_at = None;
                true
            }
            Err(error) => {
                if self.retry_at.is_none() {
                    error!(%error, "what happened cannot be told yet; it is tried again");
                }
                metrics::counter!("steer_notify_spool_errors_total").increment(1);
                self.before = None;
                self.retry_at = Some(Instant::now() + RETRY);
                false
            }
        }
    }

    fn posts(&self, events: &[Event], fleet: &Fleet) -> Vec<Post> {
        let channels = self.notifier.channels();
        let site = teller_site(fleet, &self.sources.sites);
        let news = events.iter().filter(|event| event.is_news());
        let posts = news.filter_map(|event| {
            let wanted = channels.iter().filter(|live| live.wants(event));
            let wanted: Vec<_> = wanted.map(|live| live.config.name.clone()).collect();
            (!wanted.is_empty()).then(|| post(event, fleet, site.clone(), wanted))
        });
        posts.collect()
    }
}

/// The site of a process that runs as one.
pub(crate) fn teller_site(fleet: &Fleet, sites: &[Option<SiteId>]) -> Option<String> {
    match sites {
        [Some(site)] => fleet.sites.get(usize::from(site.0)).map(|site| site.name.clone()),
        _ => None,
    }
}

fn post(event: &Event, fleet: &Fleet, site: Option<String>, channels: Vec<String>) -> Post {
    let (told, fleet) = (event.clone(), fleet.name.clone());
    Post {
        subject: format!("steer.{}", event.key.kind.as_str()),
        // It goes into a header.
        partition: event.key.name.escape_default().to_string(),
        payload: Box::new(move |id| Bytes::from(Payload::of(&told, id, &fleet, site.as_deref()).json())),
        channels,
    }
}

fn told(event: &Event) -> Told {
    let Key { kind, name } = &event.key;
    let state = event.to.as_ref().map(|fact: &Fact| {
        // It has neither maps with odd keys nor anything else that could fail.
        serde_json::to_vec(fact).unwrap_or_default()
    });
    (format!("{} {name}", kind.as_str()), state)
}

fn read_key(subject: &str) -> Option<Key> {
    let (word, name) = subject.split_once(' ')?;
    let kind = EventKind::ALL.into_iter().find(|kind| kind.as_str() == word)?;
    Some(Key {
        kind,
        name: name.to_owned(),
    })
}

async fn next(journal: &mut mpsc::Receiver<Arc<Snapshot>>) -> Arc<Snapshot> {
    match journal.recv().await {
        Some(snapshot) => snapshot,
        None => std::future::pending().await,
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}
