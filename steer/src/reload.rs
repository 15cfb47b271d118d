//! Another configuration and other zones without a restart.
//!
//! ```text
//! SIGHUP ──────────┐
//! POST /v1/reload ─┼─► load everything ─► may it change now? ─► the checks stop ─► Judge::reload ─► publish, check on
//! --watch ─────────┘        │ no                 │ no
//!                           └─ the old state stays, and everything that is wrong is told
//! ```
//!
//! All or nothing. Answers come from the old tables until the new ones are swapped in, so no query waits. Where only
//! zones have changed, the checks run on undisturbed. BGP sessions are not touched: what belongs to them needs a
//! restart, and a file that changes it is refused as a whole.

mod compiler;
mod restart;
mod watch;

use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steer_health::gossip::GossipHandle;
use steer_health::{Commands, Judge, SnapshotCell};
use steer_topology::{Faults, SiteId};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::exit::Failure;
use crate::load::Loaded;

use compiler::Compiled;

pub(crate) use self::compiler::Compiler;
pub(crate) use self::watch::watch;

/// Reloads that wait for the one under way; whoever asks for more waits in line.
const QUEUE: usize = 4;

/// What came of a reload.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reloaded {
    /// The snapshot that is in force.
    pub(crate) snapshot: u64,
    /// Whether the fleet is another one: sites, checks, pools, steered names, prefixes.
    pub(crate) fleet_changed: bool,
    pub(crate) zones: usize,
    /// Those that were read; the others had not changed.
    pub(crate) zones_read: usize,
    pub(crate) warnings: usize,
}

/// Who may ask for a reload. Cheap to copy.
#[derive(Debug, Clone)]
pub(crate) struct Reloader(mpsc::Sender<Request>);

#[derive(Debug)]
pub(crate) struct Request {
    by: &'static str,
    answer: oneshot::Sender<Result<Reloaded, Failure>>,
}

/// The other end, for [`Reloading`].
pub(crate) type Requests = mpsc::Receiver<Request>;

impl Reloader {
    pub(crate) fn new() -> (Self, Requests) {
        let (sender, requests) = mpsc::channel(QUEUE);
        (Self(sender), requests)
    }

    /// Reloads. Returns when answers come from the new tables; an error says why everything stays as it was.
    pub(crate) async fn reload(&self, by: &'static str) -> Result<Reloaded, Failure> {
        let stopping = || Failure::Runtime("steer is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        let request = Request { by, answer };
        self.0.send(request).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }

    /// Asks for a reload that nobody waits for. One that finds the line full is as good as those before it.
    pub(crate) fn nudge(&self, by: &'static str) {
        let (answer, _) = oneshot::channel();
        let _ = self.0.try_send(Request { by, answer });
    }
}

/// The task that owns the checks between reloads.
pub(crate) struct Reloading {
    pub(crate) sites: Arc<[Option<SiteId>]>,
    pub(crate) current: Arc<ArcSwap<Loaded>>,
    pub(crate) cell: Arc<SnapshotCell>,
    pub(crate) compiled: Compiled,
    pub(crate) gossip: Option<GossipHandle>,
    pub(crate) requests: Requests,
    pub(crate) stop: CancellationToken,
}

type Checks = JoinHandle<(Judge, Commands)>;

impl Reloading {
    /// Runs the checks, and starts them anew with each other fleet, until `stop`. Ends early where they do.
    pub(crate) async fn run(mut self, judge: Judge, commands: Commands) -> Result<(), JoinError> {
        let mut round = self.stop.child_token();
        let mut checks = self.start(judge, commands, &round);
        loop {
            let Request { by, answer } = tokio::select! {
                ended = &mut checks => return ended.map(drop),
                Some(request) = self.requests.recv() => request,
            };
            let done = match self.prepare().await {
                Ok(next) if self.is_same_fleet(&next) => Ok(self.swap_zones(next).await),
                Ok(next) => {
                    round.cancel();
                    let (judge, commands) = (&mut checks).await?;
                    round = self.stop.child_token();
                    let (judge, done) = self.swap_fleet(judge, next).await?;
                    checks = self.start(judge, commands, &round);
                    Ok(done)
                }
                Err(failure) => Err(failure),
            };
            tell(by, done.as_ref());
            // Nobody may wait for it.
            let _ = answer.send(done);
        }
    }

    fn start(&self, judge: Judge, commands: Commands, round: &CancellationToken) -> Checks {
        let fleet = Arc::clone(judge.fleet());
        let cell = Arc::clone(&self.cell);
        tokio::spawn(steer_health::run(
            fleet,
            cell,
            judge,
            commands,
            rand::random(),
            self.gossip.clone(),
            round.clone(),
        ))
    }

    /// Everything anew, off the threads that answer.
    async fn prepare(&self) -> Result<Loaded, Failure> {
        let current = self.current.load_full();
        let sites = Arc::clone(&self.sites);
        let load = move || {
            let next = current.reload()?;
            let faults = restart::needed(&current.fleet, &next.fleet, &sites, &current.config);
            if faults.is_empty() {
                Ok(next)
            } else {
                Err(Failure::Configuration(Faults(faults)))
            }
        };
        tokio::task::spawn_blocking(load)
            .await
            .map_err(|error| Failure::runtime("the files could not be read", &error))?
    }

    fn is_same_fleet(&self, next: &Loaded) -> bool {
        Arc::ptr_eq(&self.current.load().fleet, &next.fleet)
    }

    /// The checks go on; the next tables are made of the snapshot that stands.
    async fn swap_zones(&mut self, next: Loaded) -> Reloaded {
        let number = self.cell.peek().number;
        self.swap(next, number, false).await
    }

    /// In this order: no table is made of one fleet's zones and another's verdicts.
    async fn swap_fleet(&mut self, judge: Judge, next: Loaded) -> Result<(Judge, Reloaded), JoinError> {
        let fleet = Arc::clone(&next.fleet);
        let reload = move || judge.reload(fleet, Instant::now(), Timestamp::now());
        // A large fleet takes its time, and the sessions are not to wait.
        let (judge, snapshot) = tokio::task::spawn_blocking(reload).await?;
        let number = snapshot.number;
        let cell = Arc::clone(&self.cell);
        let done = self
            .swap_and(next, number, true, || {
                // A judge that goes on is never behind what it published.
                drop(cell.publish(snapshot));
            })
            .await;
        Ok((judge, done))
    }

    async fn swap(&mut self, next: Loaded, snapshot: u64, fleet_changed: bool) -> Reloaded {
        self.swap_and(next, snapshot, fleet_changed, || {}).await
    }

    async fn swap_and(
        &mut self,
        next: Loaded,
        snapshot: u64,
        fleet_changed: bool,
        publish: impl FnOnce(),
    ) -> Reloaded {
        let done = Reloaded {
            snapshot,
            fleet_changed,
            zones: next.zones.len(),
            zones_read: next.zones.len() - next.zones.kept(),
            warnings: next.zones.warnings().len(),
        };
        next.log_warnings();
        let generation = next.generation;
        if let Some((gossip, keys)) = self.gossip.as_ref().zip(next.keys.as_ref()) {
            gossip.renew(&next.fleet, keys);
        }
        self.current.store(Arc::new(next));
        publish();
        self.compiled.until(generation).await;
        done
    }
}

/// Says what came of it, where nobody else does.
fn tell(by: &'static str, done: Result<&Reloaded, &Failure>) {
    let result = match done {
        Ok(Reloaded {
            snapshot,
            fleet_changed,
            zones,
            zones_read,
            warnings,
        }) => {
            info!(
                by,
                snapshot, fleet_changed, zones, zones_read, warnings, "reloaded"
            );
            "applied"
        }
        Err(Failure::Configuration(Faults(faults))) => {
            for fault in faults {
                error!(by, "{fault}");
            }
            error!(
                by,
                faults = faults.len(),
                "reload refused; everything stays as it was"
            );
            "refused"
        }
        Err(Failure::Usage(error) | Failure::Runtime(error)) => {
            error!(by, "reload failed, everything stays as it was: {error}");
            "refused"
        }
    };
    metrics::counter!("steer_reloads_total", "result" => result).increment(1);
}

/// `steer reload`
pub(crate) fn ask(args: &crate::cli::ReloadArgs) -> Result<(), Failure> {
    crate::runtimes::serving()?.block_on(async {
        let client = crate::client::AdminClient::new(args.admin.admin)?;
        let done = client
            .post(&["v1", "reload"], &[], &serde_json::json!({}))
            .await?;
        if args.json {
            println!("{done}");
            return Ok(());
        }
        let done: Reloaded = Deserialize::deserialize(&done)
            .map_err(|error| Failure::runtime("the answer is no steer's", &error))?;
        println!("{}", said(&done));
        Ok(())
    })
}

fn said(done: &Reloaded) -> String {
    let Reloaded {
        snapshot,
        fleet_changed,
        zones,
        zones_read,
        warnings,
    } = done;
    let fleet = if *fleet_changed {
        "another fleet"
    } else {
        "the same fleet"
    };
    let warned = match warnings {
        0 => String::new(),
        1 => "\n1 warning: `steer check` shows it".to_owned(),
        many => format!("\n{many} warnings: `steer check` shows them"),
    };
    format!(
        "reloaded: {fleet}, {zones_read} of {zones} zones read anew, in force with snapshot {snapshot}{warned}"
    )
}
