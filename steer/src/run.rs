//! `steer run`: bind everything, then start; stop in good order.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use jiff::Timestamp;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use steer_anycast::Speaker;
use steer_dns::{Engine, Limits, Server, Settings};
use steer_health::gossip::{GossipHandle, GossipService, GossipSockets};
use steer_health::{Judge, SnapshotCell};
use steer_rpc::edge::{EdgeConfig, View};
use steer_topology::{Dns, Fault, Faults, Fleet, SiteId};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::admin::{self, Admin};
use crate::cli::RunArgs;
use crate::edge::{BoundEdge, EdgeHandle};
use crate::exit::Failure;
use crate::load::Loaded;
use crate::logging;
use crate::notify::{Notifier, Sources};
use crate::paths::Paths;
use crate::reload::{self, Compiler, Reloader, Reloading};
use crate::runtimes::Runtimes;
use crate::wishes::{Wishes, memory_file};

/// Runs one site until SIGTERM or SIGINT.
pub(crate) fn run(args: &RunArgs) -> Result<(), Failure> {
    let _log = logging::install(&args.log)?;
    raise_file_limit();
    let loaded = Loaded::from_file(&args.config)?;
    let site = loaded.local_site(args.site.as_deref())?;
    refuse_idle(&loaded.fleet, &args.config)?;
    Runtimes::new()?.run(|serving| async {
        let mut stop = stop_on_signal()?;
        let bound = Bound::new(loaded, &[site], serving).await?;
        bound.start(args.watch)?.until(&mut stop).await
    })
}

/// A file that asks for nothing is a wrong file, or an empty one.
fn refuse_idle(fleet: &Fleet, config: &Path) -> Result<(), Failure> {
    if fleet.dns.is_some() || fleet.bgp.is_some() || fleet.admin.is_some() || fleet.edge.is_some() {
        return Ok(());
    }
    let remedy = "write [dns] with a [[zone]], [bgp] with a [[bgp.peer]], [edge], or [admin]";
    Err(Faults::from(Fault::of_file(
        config,
        "the file asks for nothing to be run",
        remedy,
    ))
    .into())
}

/// Each probe in flight holds a socket, and so does each client of the edge, and the usual soft limit of 1,024 files is below their number.
pub(crate) fn raise_file_limit() {
    let raised = getrlimit(Resource::RLIMIT_NOFILE)
        .and_then(|(_, hard)| setrlimit(Resource::RLIMIT_NOFILE, hard, hard));
    if let Err(error) = raised {
        warn!(%error, "cannot raise the limit of open files; many probes at once may fail for want of sockets");
    }
}

/// Every listener is open, and nothing runs yet.
pub(crate) struct Bound {
    serving: Handle,
    loaded: Arc<Loaded>,
    sites: Vec<Option<SiteId>>,
    wishes: Wishes,
    server: Option<Server>,
    talk: Settings,
    speakers: Vec<Speaker>,
    gossip: Option<GossipSockets>,
    edge: Option<BoundEdge>,
    admin: Option<TcpListener>,
}

impl Bound {
    /// Opens the listeners of all parts, for the given sites (one, but for `quickstart`).
    /// To be called on the control thread; see [`Runtimes`].
    pub(crate) async fn new(
        loaded: Loaded,
        sites: &[Option<SiteId>],
        serving: Handle,
    ) -> Result<Self, Failure> {
        let fleet = Arc::clone(&loaded.fleet);
        let wishes = serving.spawn(Wishes::open(Arc::clone(&fleet), sites.to_vec()));
        let wishes = wishes
            .await
            .map_err(|error| Failure::runtime("cannot open the store", &error))??;
        let listeners = serving.spawn(bind_serving(Arc::clone(&fleet)));
        let (server, admin) = listeners
            .await
            .map_err(|error| Failure::runtime("cannot open the listeners", &error))??;
        let gossip = serving.spawn(bind_gossip(Arc::clone(&fleet), sites.to_vec()));
        let gossip = gossip
            .await
            .map_err(|error| Failure::runtime("cannot start the gossip", &error))??;
        let edge = serving.spawn(bind_edge(loaded.edge.clone(), Arc::clone(&fleet), sites.to_vec()));
        let edge = edge
            .await
            .map_err(|error| Failure::runtime("cannot start the edge", &error))??;
        let talk = talk(&fleet, sites)?;
        let mut speakers = Vec::new();
        if fleet.bgp.is_some() {
            for site in sites {
                let speaker = Speaker::bind(&fleet, *site).await;
                speakers.push(speaker.map_err(|error| Failure::runtime("cannot start BGP", &error))?);
            }
        }
        Ok(Self {
            serving,
            loaded: Arc::new(loaded),
            sites: sites.to_vec(),
            wishes,
            server,
            talk,
            speakers,
            gossip,
            edge,
            admin,
        })
    }

    /// Starts every part on what was bound. Must be called on the control thread.
    /// With `watched` a changed file is a reload.
    pub(crate) fn start(self, watched: bool) -> Result<Running, Failure> {
        let Self {
            serving,
            loaded,
            sites,
            mut wishes,
            server,
            talk,
            speakers,
            gossip,
            edge,
            admin,
        } = self;
        // Without a reader nothing is recorded: histograms that nobody drains would grow without bound.
        let metrics = admin.as_ref().map(|_| admin::install_metrics()).transpose()?;
        let mut judge = Judge::new(Arc::clone(&loaded.fleet), Instant::now(), Timestamp::now());
        wishes.restore(&mut judge, Instant::now(), Timestamp::now());
        judge.recall(&Wishes::remembered(&loaded.fleet));
        let cell = Arc::new(SnapshotCell::new(judge.first_snapshot()));
        let (operator, commands) = wishes.operator(Arc::clone(&cell));
        let engine = Arc::new(Engine::with(loaded.tables(cell.load()), talk));
        let statuses: Vec<_> = speakers.iter().map(Speaker::status).collect();
        let observers: Vec<_> = speakers.iter().map(Speaker::observers).collect();
        let taps: Vec<_> = speakers.iter().map(Speaker::tap).collect();
        let paths: Vec<_> = speakers
            .iter()
            .zip(&sites)
            .map(|(speaker, site)| Paths::of(speaker, *site))
            .collect();
        let announcers: Vec<_> = speakers.iter().map(Speaker::announcer).collect();
        let edge = edge.map(|edge| edge.start(Arc::clone(&cell), announcers.first().cloned(), &serving));
        let (edge, edge_task) = edge.transpose()?.unzip();
        let edge = edge.map(Arc::new);
        let stop_announcing = CancellationToken::new();
        let stop = CancellationToken::new();
        let (reloader, requests) = Reloader::new();
        log_start(&loaded, &sites, server.as_ref(), admin.as_ref());
        loaded.log_warnings();

        let mut announcing = JoinSet::new();
        for speaker in speakers {
            announcing.spawn(speaker.run(Arc::clone(&cell), rand::random(), stop_announcing.clone()));
        }
        let mut tasks = JoinSet::new();
        for paths in &paths {
            paths.tell(&cell, &operator, &stop, &mut tasks);
        }
        let sites: Arc<[Option<SiteId>]> = sites.into();
        let gossip = start_gossip(gossip, &loaded, &serving, &stop, &mut tasks);
        if let Some(file) = memory_file(&loaded.fleet) {
            tasks.spawn_on(
                steer_health::memory::keep(file, Arc::clone(&cell), stop.clone()),
                &serving,
            );
        }
        if let Some(task) = edge_task {
            tasks.spawn_on(task.run(), &serving);
        }
        let current = Arc::new(ArcSwap::from(loaded));
        let (compiler, compiled) =
            Compiler::new(Arc::clone(&current), Arc::clone(&cell), Arc::clone(&engine));
        tasks.spawn_on(compiler.run(stop.clone()), &serving);
        if watched {
            let watch = reload::watch(Arc::clone(&current), reloader.clone(), stop.clone());
            tasks.spawn_on(watch, &serving);
        }
        if let Some(server) = server {
            let (engine, stop) = (Arc::clone(&engine), stop.clone());
            tasks.spawn_on(async move { server.run(engine, stop).await }, &serving);
        }
        let keeping = wishes.run(operator.clone(), Arc::clone(&cell), stop.clone());
        tasks.spawn_on(keeping, &serving);
        let notifier = Notifier::default();
        let told_of = Sources {
            cell: Arc::clone(&cell),
            sites: Arc::clone(&sites),
            announcers: announcers.clone(),
        };
        tasks.spawn_on(notifier.clone().run(told_of, stop.clone()), &serving);
        if let Some((listener, metrics)) = admin.zip(metrics) {
            let admin = Admin {
                sites: Arc::clone(&sites),
                reloader: reloader.clone(),
                cell: Arc::clone(&cell),
                engine: Arc::clone(&engine),
                operator,
                gossip: gossip.clone(),
                edge: edge.as_ref().map(|edge| edge.observer.clone()),
                speakers: statuses.into(),
                observers: observers.into(),
                taps: taps.into(),
                announcers: announcers.into(),
                notifier,
                stop: stop.clone(),
            };
            tasks.spawn_on(admin::serve(listener, admin, metrics), &serving);
        }
        let reloading = Reloading {
            sites,
            current,
            cell: Arc::clone(&cell),
            compiled,
            gossip,
            edge: edge.clone(),
            requests,
            stop: stop.clone(),
        };
        tasks.spawn(async move {
            if let Err(error) = reloading.run(judge, commands).await {
                tracing::error!(%error, "the checks failed");
            }
        });
        Ok(Running {
            reloader,
            cell,
            engine,
            edge,
            announcing,
            tasks,
            stop_announcing,
            stop,
        })
    }
}

/// All parts at work.
pub(crate) struct Running {
    pub(crate) cell: Arc<SnapshotCell>,
    pub(crate) engine: Arc<Engine>,
    edge: Option<Arc<EdgeHandle>>,
    reloader: Reloader,
    announcing: JoinSet<()>,
    tasks: JoinSet<()>,
    stop_announcing: CancellationToken,
    stop: CancellationToken,
}

impl Running {
    /// Runs until `stop` is signalled or a part fails; then withdraws, answers DNS until that is done, and ends.
    pub(crate) async fn until(mut self, signals: &mut StopSignals) -> Result<(), Failure> {
        let failed = tokio::select! {
            () = signals.wait_or_reload(&self.reloader) => None,
            Some(ended) = self.tasks.join_next() => Some(ended),
            Some(ended) = self.announcing.join_next() => Some(ended),
        };
        if let Some(Err(error)) = &failed {
            tracing::error!(%error, "a part failed; stopping in good order");
        }
        let reloader = self.reloader.clone();
        tokio::select! {
            () = self.stop_in_order() => {}
            () = signals.wait_or_reload(&reloader) => warn!("second signal: stopping at once"),
        }
        match failed {
            None => Ok(()),
            Some(_) => Err(Failure::Runtime(
                "a part of steer ended by itself; see the log".to_owned(),
            )),
        }
    }

    /// Routes go first: while they are withdrawn, clients that still come are still answered. Before them only the connections of the
    /// edge, which would be cut off with the routes.
    async fn stop_in_order(&mut self) {
        if let Some(edge) = &self.edge {
            info!("stopping: clients of the edge are told to go");
            edge.close().await;
        }
        info!(snapshot = self.cell.load().number, "stopping: withdrawing routes");
        self.stop_announcing.cancel();
        while self.announcing.join_next().await.is_some() {}
        if let Some(edge) = &self.edge {
            edge.end().await;
        }
        self.stop.cancel();
        // Each part bounds its own stop; this bound only keeps a defect from holding the process.
        let all_ended = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(STOP_LIMIT, all_ended).await.is_err() {
            warn!(limit = ?STOP_LIMIT, "a part did not stop in time; abandoned");
        }
        info!("stopped");
    }
}

/// How long the parts other than BGP may take to stop.
const STOP_LIMIT: Duration = Duration::from_secs(2);

/// What the serving threads listen on.
async fn bind_serving(fleet: Arc<Fleet>) -> Result<(Option<Server>, Option<TcpListener>), Failure> {
    let server = match &fleet.dns {
        Some(dns) => Some(bind_dns(dns).await?),
        None => None,
    };
    let admin = match &fleet.admin {
        Some(admin) => Some(bind_admin(admin.listen).await?),
        None => None,
    };
    Ok((server, admin))
}

/// The edge of the one site that this process runs as.
async fn bind_edge(
    config: Option<Arc<EdgeConfig>>,
    fleet: Arc<Fleet>,
    sites: Vec<Option<SiteId>>,
) -> Result<Option<BoundEdge>, Failure> {
    let [site] = sites.as_slice() else {
        return Ok(None);
    };
    // Nobody has been judged yet; the first snapshot that is published says how the backends stand.
    let judge = Judge::new(fleet, Instant::now(), Timestamp::now());
    let view = View {
        snapshot: Arc::new(judge.first_snapshot()),
        site: *site,
    };
    BoundEdge::bind(config, view).await
}

/// The gossip of the one site that this process runs as.
async fn bind_gossip(
    fleet: Arc<Fleet>,
    sites: Vec<Option<SiteId>>,
) -> Result<Option<GossipSockets>, Failure> {
    let [Some(site)] = sites.as_slice() else {
        return Ok(None);
    };
    let sockets = GossipSockets::bind(&fleet, *site).await;
    let sockets = sockets.map_err(|error| Failure::Runtime(error.to_string()))?;
    if sockets.is_none() && fleet.gossip.is_some() {
        let site = fleet.site(*site).name.as_str();
        warn!(
            site,
            "this site has no `gossip` address: it judges by its own checks alone"
        );
    }
    Ok(sockets)
}

fn start_gossip(
    sockets: Option<GossipSockets>,
    loaded: &Loaded,
    serving: &Handle,
    stop: &CancellationToken,
    tasks: &mut JoinSet<()>,
) -> Option<GossipHandle> {
    let (sockets, keys) = sockets.zip(loaded.keys.clone())?;
    let (service, handle) = GossipService::new(sockets, &loaded.fleet, keys, rand::random())?;
    tasks.spawn_on(service.run(stop.clone()), serving);
    Some(handle)
}

async fn bind_dns(dns: &Dns) -> Result<Server, Failure> {
    let failed = |error: std::io::Error| Failure::runtime("cannot start DNS", &error);
    let mut server = Server::bind(&dns.listen, Limits::of(dns)).await.map_err(failed)?;
    if let Some(tls) = &dns.tls {
        server.bind_tls(tls).map_err(failed)?;
    }
    Ok(server)
}

/// How the name server talks. A process that stands for several sites has the name of none.
fn talk(fleet: &Fleet, sites: &[Option<SiteId>]) -> Result<Settings, Failure> {
    let Some(dns) = &fleet.dns else {
        return Ok(Settings::default());
    };
    let site = match sites {
        [Some(site)] => Some(fleet.site(*site).name.as_str()),
        _ => None,
    };
    Settings::load(dns, site).map_err(|error| Failure::Runtime(error.to_string()))
}

async fn bind_admin(listen: SocketAddr) -> Result<TcpListener, Failure> {
    let doing = format!("cannot start the admin API on {listen}");
    TcpListener::bind(listen)
        .await
        .map_err(|error| Failure::runtime(&doing, &error))
}

fn log_start(
    loaded: &Loaded,
    sites: &[Option<SiteId>],
    server: Option<&Server>,
    admin: Option<&TcpListener>,
) {
    let fleet = &loaded.fleet;
    let names: Vec<_> = sites
        .iter()
        .flatten()
        .map(|id| fleet.site(*id).name.as_str())
        .collect();
    info!(
        version = env!("CARGO_PKG_VERSION"),
        fleet = fleet.name,
        site = names.join(","),
        dns = ?server.map(Server::local_addrs).unwrap_or_default(),
        admin = ?admin.and_then(|listener| listener.local_addr().ok()),
        endpoints = fleet.endpoints.len(),
        prefixes = fleet.anycast.len(),
        "steer started"
    );
}

/// SIGTERM and SIGINT end the process in good order. SIGHUP reloads `steer run`.
pub(crate) struct StopSignals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

/// Takes over the signals. From here on none of them kills the process by default.
pub(crate) fn stop_on_signal() -> Result<StopSignals, Failure> {
    let take = |kind| signal(kind).map_err(|error| Failure::runtime("cannot take over signals", &error));
    Ok(StopSignals {
        terminate: take(SignalKind::terminate())?,
        interrupt: take(SignalKind::interrupt())?,
        hangup: take(SignalKind::hangup())?,
    })
}

impl StopSignals {
    /// Returns on the next SIGTERM or SIGINT. Here SIGHUP has nothing to reload.
    pub(crate) async fn wait(&mut self) {
        self.wait_with(|| warn!("SIGHUP ignored: there is nothing to reload"))
            .await;
    }

    /// The same, and SIGHUP reloads `steer run`.
    async fn wait_or_reload(&mut self, reloader: &Reloader) {
        self.wait_with(|| reloader.nudge("SIGHUP")).await;
    }

    /// The same, and SIGHUP does what is said.
    pub(crate) async fn wait_with(&mut self, on_hangup: impl Fn()) {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return,
                _ = self.interrupt.recv() => return,
                _ = self.hangup.recv() => on_hangup(),
            }
        }
    }
}
