//! The edge of `steer run`: its file, and the task that has it follow snapshots, reloads and drains.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_anycast::announcer::AnnouncerHandle;
use steer_health::SnapshotCell;
use steer_rpc::edge::{Backends, Edge, EdgeConfig, Observer, Phase, Running, View};
use steer_topology::{Faults, Fleet, SiteId};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::farewell::{self, Farewell};
use super::{fault_at, read};
use crate::exit::Failure;

/// Between two looks at the routes of a drain.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long a stop waits for calls to end before it withdraws the routes.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// The edge of a fleet's file, checked as far as it can be without a socket.
pub(crate) fn load(fleet: &Fleet) -> Result<Option<Arc<EdgeConfig>>, Faults> {
    let Some(place) = &fleet.edge else {
        return Ok(None);
    };
    let (text, config) = read(&place.file)?;
    let fault = |words: String| Faults::from(fault_at(&place.file, &text, &words));
    if config.admin.is_some() {
        let words = "\"admin\" is for an edge alone; remove it, as /metrics of [admin] in steer.toml tells of this one too";
        return Err(fault(words.to_owned()));
    }
    let sites: Vec<Option<SiteId>> = match place.sites.is_empty() {
        true => vec![None],
        false => place.sites.iter().copied().map(Some).collect(),
    };
    for (backends, rules) in config.pools.iter().zip(&config.pool_rules) {
        let Backends::Fleet(pool) = backends else { continue };
        for site in &sites {
            pool.find(fleet, *site)
                .map_err(|error| fault(format!("[[pool]] {:?}: {error}", rules.name)))?;
        }
    }
    config.try_tls().map_err(|error| fault(format!("TLS: {error}")))?;
    Ok(Some(Arc::new(config)))
}

/// What of the next file would need another edge.
pub(crate) fn needs_restart(
    (fleet, edge): (&Fleet, Option<&EdgeConfig>),
    (next_fleet, next): (&Fleet, Option<&EdgeConfig>),
    sites: &[Option<SiteId>],
) -> Option<String> {
    let has_edge = |fleet: &Fleet| {
        let place = fleet.edge.as_ref();
        place.is_some_and(|place| sites.iter().any(|site| place.is_at(*site)))
    };
    if has_edge(fleet) != has_edge(next_fleet) {
        return Some("`[edge]`".to_owned());
    }
    let changed = edge.zip(next).and_then(|(edge, next)| edge.needs_restart(next));
    changed
        .filter(|_| has_edge(fleet))
        .map(|name| format!("{name} of the file of `[edge]`"))
}

/// An edge whose address is bound.
pub(crate) struct BoundEdge {
    edge: Edge,
    config: Arc<EdgeConfig>,
    file: PathBuf,
    site: Option<SiteId>,
}

/// The way to a running edge.
pub(crate) struct EdgeHandle {
    pub(crate) observer: Observer,
    config: watch::Sender<Arc<EdgeConfig>>,
    close: CancellationToken,
    end: CancellationToken,
    ended: CancellationToken,
}

impl BoundEdge {
    /// Binds the edge of a site, where it has one.
    pub(crate) async fn bind(config: Option<Arc<EdgeConfig>>, view: View) -> Result<Option<Self>, Failure> {
        let place = view.snapshot.fleet.edge.as_ref();
        let place = place.filter(|place| place.is_at(view.site));
        let Some((config, place)) = config.zip(place) else {
            return Ok(None);
        };
        let doing = format!("cannot start the edge on {}", config.listen);
        let edge = Edge::bind_within(EdgeConfig::clone(&config), Some(&view)).await;
        Ok(Some(Self {
            edge: edge.map_err(|error| Failure::runtime(&doing, &error))?,
            config,
            file: place.file.clone(),
            site: view.site,
        }))
    }

    /// Serves, with its tasks on `serving`.
    pub(crate) fn start(
        self,
        cell: Arc<SnapshotCell>,
        announcer: Option<AnnouncerHandle>,
        serving: &Handle,
    ) -> Result<(EdgeHandle, EdgeTask), Failure> {
        let Self {
            edge,
            config,
            file,
            site,
        } = self;
        let entered = serving.enter();
        let edge = edge
            .run()
            .map_err(|error| Failure::runtime("cannot start the edge", &error))?;
        drop(entered);
        info!(listen = %edge.address(), "the edge serves");
        let (sender, configs) = watch::channel(config);
        let handle = EdgeHandle {
            observer: edge.observer(),
            config: sender,
            close: CancellationToken::new(),
            end: CancellationToken::new(),
            ended: CancellationToken::new(),
        };
        let task = EdgeTask {
            edge,
            file,
            site,
            cell,
            announcer,
            configs,
            close: handle.close.clone(),
            end: handle.end.clone(),
            ended: handle.ended.clone(),
            farewell: Farewell::default(),
        };
        Ok((handle, task))
    }
}

impl EdgeHandle {
    /// Another configuration, which was checked.
    pub(crate) fn renew(&self, config: Arc<EdgeConfig>) {
        self.config.send_replace(config);
    }

    /// Tells clients to go and takes no new ones; comes back when none is left, or soon.
    pub(crate) async fn close(&self) {
        self.close.cancel();
        let gone = async {
            while self.observer.status().connections > 0 && !self.ended.is_cancelled() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(CLOSE_MAX, gone).await.is_err() {
            let left = self.observer.status().connections;
            info!(
                left,
                "routes are withdrawn while clients of the edge are still connected"
            );
        }
    }

    /// Comes back when the last call has ended, or the bound of a drain has passed.
    pub(crate) async fn end(&self) {
        self.end.cancel();
        self.ended.cancelled().await;
    }
}

/// Has an edge follow the fleet.
pub(crate) struct EdgeTask {
    edge: Running,
    /// Of its configuration, for the log.
    file: PathBuf,
    site: Option<SiteId>,
    cell: Arc<SnapshotCell>,
    announcer: Option<AnnouncerHandle>,
    configs: watch::Receiver<Arc<EdgeConfig>>,
    close: CancellationToken,
    end: CancellationToken,
    ended: CancellationToken,
    farewell: Farewell,
}

impl EdgeTask {
    /// Until it is told to end.
    pub(crate) async fn run(mut self) {
        let _ended = self.ended.clone().drop_guard();
        let mut snapshots = self.cell.subscribe();
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.follow().await;
        loop {
            // A drain that has changed nothing yet is seen by its clock alone.
            let is_draining = !self.cell.peek().drains.is_empty() || self.edge.status().phase != Phase::Open;
            tokio::select! {
                biased;
                () = self.close.cancelled() => break,
                Ok(()) = self.configs.changed() => self.renew(),
                Ok(()) = snapshots.changed() => self.follow().await,
                _ = look.tick(), if is_draining => self.drain().await,
            }
        }
        self.edge.turn(Phase::Closing);
        self.end.cancelled().await;
        self.edge.drain().await;
    }

    fn view(&self) -> View {
        View {
            snapshot: self.cell.load(),
            site: self.site,
        }
    }

    async fn follow(&mut self) {
        if let Err(error) = self.edge.follow(&self.view()) {
            warn!("the edge goes on with the backends it had: {error}");
        }
        self.drain().await;
    }

    fn renew(&mut self) {
        let config = Arc::clone(&self.configs.borrow_and_update());
        let taken = self
            .edge
            .reload_within(EdgeConfig::clone(&config), Some(&self.view()));
        super::told(&self.file, taken.map_err(|error| error.to_string()));
    }

    /// Has clients go, or be welcome again.
    async fn drain(&mut self) {
        let snapshot = self.cell.load();
        let listen = self.edge.address();
        let routes = match &self.announcer {
            Some(announcer) if !snapshot.drains.is_empty() => announcer.status().await.unwrap_or_default(),
            Some(_) | None => Vec::new(),
        };
        let routes = farewell::leaving(&routes, &snapshot.fleet, listen.ip());
        let drained = farewell::is_drained(&snapshot, self.site, listen);
        let phase = self
            .farewell
            .phase(drained, &routes, Timestamp::now(), Instant::now());
        let before = self.edge.status();
        if phase != before.phase {
            self.edge.turn(phase);
            let (phase, connections) = (phase.as_str(), before.connections);
            info!(
                phase,
                connections,
                snapshot = snapshot.number,
                "the edge follows a drain"
            );
        }
    }
}
