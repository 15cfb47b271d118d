//! Tells others what happens: `[[notify]]`.
//!
//! ```text
//! SnapshotCell ─► journal ─► events ─┐
//! announcer ────► pictures ─► events ─┼─► Spool ─┬─► channel ─► webhook
//!                              told ◄─┘          └─► channel ─► mail
//! ```
//!
//! Nothing waits for it: the journal takes what comes and whoever decides goes on. What was told is kept with what is to
//! be told, so after a crash the comparison begins where it ended.

mod ask;
mod channels;
mod mail;
mod payload;
mod routes;
mod sink;
mod teller;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use steer_anycast::announcer::AnnouncerHandle;
use steer_health::SnapshotCell;
use steer_rpc::outbox::Spool;
use steer_rpc::outbox::spool::Limits;
use steer_topology::{Fleet, SiteId, StorePlace};
use tokio_util::sync::CancellationToken;

pub(crate) use ask::{channel_table, run};
pub(crate) use channels::Live;
pub(crate) use payload::Payload;
pub(crate) use sink::check;
pub(crate) use teller::teller_site;

use teller::Teller;

/// What the admin API sees of it. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Notifier(Arc<Shared>);

#[derive(Default)]
struct Shared {
    /// Opened when there is the first channel.
    spool: OnceLock<Spool>,
    /// In the order of the file.
    channels: ArcSwap<Vec<Live>>,
}

/// Who this process is, and what it looks at.
pub(crate) struct Sources {
    pub(crate) cell: Arc<SnapshotCell>,
    pub(crate) sites: Arc<[Option<SiteId>]>,
    /// By site, where there is `[bgp]`.
    pub(crate) announcers: Vec<AnnouncerHandle>,
}

impl Notifier {
    /// What waits, once there was a channel.
    pub(crate) fn spool(&self) -> Option<&Spool> {
        self.0.spool.get()
    }

    /// The channels that run.
    pub(crate) fn channels(&self) -> Arc<Vec<Live>> {
        self.0.channels.load_full()
    }

    /// Tells until `stop`. Where the file has no channel it waits for one that has.
    pub(crate) async fn run(self, sources: Sources, stop: CancellationToken) {
        let mut published = sources.cell.subscribe();
        let needed = published.wait_for(|_| !sources.cell.peek().fleet.notify.is_empty());
        tokio::select! {
            () = stop.cancelled() => return,
            needed = needed => if needed.is_err() { return },
        }
        let snapshot = sources.cell.load();
        let spool = open(&snapshot.fleet, &name(&snapshot.fleet, &sources.sites)).await;
        let spool = self.0.spool.get_or_init(|| spool).clone();
        Teller::new(self, spool, sources).run(stop).await;
    }
}

/// What ids begin with: the site, where this process runs as one.
fn name(fleet: &Fleet, sites: &[Option<SiteId>]) -> String {
    match sites {
        [Some(site)] => fleet.site(*site).name.clone(),
        _ => "steer".to_owned(),
    }
}

/// A spool that cannot be opened must not keep anybody from being told.
async fn open(fleet: &Fleet, name: &str) -> Spool {
    let file = events_file(fleet);
    if file.is_none() {
        tracing::warn!("[[notify]] without [fleet] store: what waits to be told ends with the process");
    }
    loop {
        let (file, name) = (file.clone(), name.to_owned());
        let opened = tokio::task::spawn_blocking(move || {
            let kept = Spool::open(file.as_deref(), &name, Limits::DEFAULT);
            kept.or_else(|error| {
                tracing::error!(%error, "what waits to be told ends with the process: its file cannot be used");
                Spool::open(None, &name, Limits::DEFAULT)
            })
        });
        match opened.await {
            Ok(Ok(spool)) => return spool,
            // Memory alone does not fail: the runtime ends.
            Ok(Err(_)) | Err(_) => tokio::time::sleep(Duration::from_secs(1)).await,
        }
    }
}

/// Where it is kept: beside the file of the store.
fn events_file(fleet: &Fleet) -> Option<PathBuf> {
    let store = match fleet.store.as_ref()? {
        StorePlace::Embedded(file) => file,
        StorePlace::Etcd(etcd) => &etcd.cache,
    };
    Some(store.with_added_extension("events"))
}
