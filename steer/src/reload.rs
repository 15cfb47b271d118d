//! Another configuration and other zones without a restart.
//!
//! ```text
//! SIGHUP ──────────┐
//! POST /v1/reload ─┼─► load everything ─► may it change now? ─► the checks stop ─► Judge::reload ─► publish, check on
//! --watch ─────────┘        │ no                 │ no
//!                           └─ the old state stays, and everything that is wrong is told
//! ```
//!
//! A file that takes a prefix or a name from more sites than the guard would let go is refused, unless it was confirmed
//! ([`withdrawal`]).
//!
//! All or nothing. Answers come from the old tables until the new ones are swapped in, so no query waits. Where only
//! zones have changed, the checks run on undisturbed. Sites may take another fleet one after the other ([`staged`]). BGP sessions are not touched: what belongs to them needs a
//! restart, and a file that changes it is refused as a whole.

mod compiler;
mod restart;
mod staged;
mod watch;
mod withdrawal;

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
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{error, info};

use crate::edge::EdgeHandle;
use crate::exit::Failure;
use crate::load::Loaded;

use compiler::Compiled;
use staged::{LOOK_EVERY, Staged, Step};

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
    /// It is not in force yet, and what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) staged: Option<String>,
}

/// Who may ask for a reload. Cheap to copy.
#[derive(Debug, Clone)]
pub(crate) struct Reloader(mpsc::Sender<Request>);

#[derive(Debug)]
pub(crate) struct Request {
    by: &'static str,
    /// What may be taken away from all sites; see [`withdrawal`].
    allowed: Vec<String>,
    /// Without the stages.
    at_once: bool,
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
    /// `allowed` are the prefixes and names that may leave more sites than the guard would let go.
    /// `at_once`: without the stages of `[fleet] gossip` `staged`, which else are only begun.
    pub(crate) async fn reload(
        &self,
        by: &'static str,
        allowed: Vec<String>,
        at_once: bool,
    ) -> Result<Reloaded, Failure> {
        let stopping = || Failure::Runtime("steer is stopping".to_owned());
        let (answer, answered) = oneshot::channel();
        let request = Request {
            by,
            allowed,
            at_once,
            answer,
        };
        self.0.send(request).await.map_err(|_| stopping())?;
        answered.await.map_err(|_| stopping())?
    }

    /// Asks for a reload that nobody waits for. One that finds the line full is as good as those before it.
    pub(crate) fn nudge(&self, by: &'static str) {
        let (answer, _) = oneshot::channel();
        let _ = self.0.try_send(Request {
            by,
            allowed: Vec::new(),
            at_once: false,
            answer,
        });
    }
}

/// The task that owns the checks between reloads.
pub(crate) struct Reloading {
    pub(crate) sites: Arc<[Option<SiteId>]>,
    pub(crate) current: Arc<ArcSwap<Loaded>>,
    pub(crate) cell: Arc<SnapshotCell>,
    pub(crate) compiled: Compiled,
    pub(crate) gossip: Option<GossipHandle>,
    pub(crate) edge: Option<Arc<EdgeHandle>>,
    pub(crate) requests: Requests,
    pub(crate) stop: CancellationToken,
}

type Checks = JoinHandle<(Judge, Commands)>;

/// The checks, and what ends them for the next ones.
struct Running {
    checks: Checks,
    round: CancellationToken,
}

impl Reloading {
    /// Runs the checks, and starts them anew with each other fleet, until `stop`. Ends early where they do.
    pub(crate) async fn run(mut self, judge: Judge, commands: Commands) -> Result<(), JoinError> {
        let round = self.stop.child_token();
        let checks = self.start(judge, commands, &round);
        let mut checks = Running { checks, round };
        let mut staged: Option<Staged> = None;
        let mut look = tokio::time::interval(LOOK_EVERY);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            let request = tokio::select! {
                ended = &mut checks.checks => return ended.map(drop),
                Some(request) = self.requests.recv() => Some(request),
                _ = look.tick(), if staged.is_some() => None,
            };
            match request {
                Some(request) => self.on_request(request, &mut checks, &mut staged).await?,
                None => self.on_look(&mut checks, &mut staged).await?,
            }
        }
    }

    async fn on_request(
        &mut self,
        request: Request,
        checks: &mut Running,
        staged: &mut Option<Staged>,
    ) -> Result<(), JoinError> {
        let Request {
            by,
            allowed,
            at_once,
            answer,
        } = request;
        let done = match self.prepare(allowed).await {
            Ok(next) if at_once => {
                staged.take().into_iter().for_each(Staged::give_up);
                Ok(self.apply(next, checks).await?)
            }
            Ok(next) if self.is_same_fleet(&next) => {
                // A file that waits is not the newest any more; one that is tried is in force.
                staged
                    .take_if(|staged| !staged.is_on_trial())
                    .into_iter()
                    .for_each(Staged::give_up);
                Ok(self.swap_zones(next).await)
            }
            Ok(next) => self.stage(next, by, checks, staged).await?,
            Err(failure) => Err(failure),
        };
        tell(by, done.as_ref());
        // Nobody may wait for it.
        let _ = answer.send(done);
        Ok(())
    }

    /// Begins the stages of another fleet, or applies it where there are none.
    async fn stage(
        &mut self,
        next: Loaded,
        by: &'static str,
        checks: &mut Running,
        staged: &mut Option<Staged>,
    ) -> Result<Result<Reloaded, Failure>, JoinError> {
        let (config, zones) = (next.config.clone(), next.zones.len());
        if let Some(staged) = staged.as_mut().filter(|staged| staged.waits_with(next.digest)) {
            staged.renew(next);
        } else {
            match Staged::of(self.gossip.as_ref(), &self.current.load(), next, by) {
                Ok(one) => *staged = Some(one),
                Err(next) => return Ok(Ok(self.apply(*next, checks).await?)),
            }
        }
        let told = staged.as_mut().map(|staged| staged.told(&config));
        match told.transpose() {
            Ok(told) => Ok(Ok(Reloaded {
                snapshot: self.cell.peek().number,
                fleet_changed: true,
                zones,
                zones_read: 0,
                warnings: 0,
                staged: told,
            })),
            Err(failure) => {
                staged.take().into_iter().for_each(Staged::give_up);
                Ok(Err(failure))
            }
        }
    }

    /// Goes on with a file that is on its way into force.
    async fn on_look(&mut self, checks: &mut Running, staged: &mut Option<Staged>) -> Result<(), JoinError> {
        let Some((local, one)) = self.gossip.as_ref().map(GossipHandle::local).zip(staged.as_mut()) else {
            return Ok(());
        };
        let by = one.by;
        let step = one.step(&self.cell.peek(), &self.current.load(), local);
        match step {
            Step::Wait => {}
            Step::Apply(next) => {
                let done = self.apply(*next, checks).await?;
                tell(by, Ok(&done));
            }
            Step::GoBack(before) => {
                *staged = None;
                let before = before.again(&self.current.load());
                self.apply(before, checks).await?;
            }
            Step::Over => *staged = None,
        }
        Ok(())
    }

    /// Puts another configuration in force.
    async fn apply(&mut self, next: Loaded, running: &mut Running) -> Result<Reloaded, JoinError> {
        if self.is_same_fleet(&next) {
            return Ok(self.swap_zones(next).await);
        }
        running.round.cancel();
        let (judge, commands) = (&mut running.checks).await?;
        running.round = self.stop.child_token();
        let (judge, done) = self.swap_fleet(judge, next).await?;
        running.checks = self.start(judge, commands, &running.round);
        Ok(done)
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
    async fn prepare(&self, allowed: Vec<String>) -> Result<Loaded, Failure> {
        let current = self.current.load_full();
        let sites = Arc::clone(&self.sites);
        let load = move || {
            let next = current.reload()?;
            let mut faults = restart::needed(&current.fleet, &next.fleet, &sites, &current.config);
            faults.extend(restart::of_the_edge(&current, &next, &sites));
            faults.extend(withdrawal::refused(
                &current.fleet,
                &next.fleet,
                &allowed,
                &current.config,
            ));
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
            staged: None,
        };
        next.log_warnings();
        let generation = next.generation;
        if let Some((gossip, keys)) = self.gossip.as_ref().zip(next.keys.as_ref()) {
            gossip.renew(&next.fleet, keys);
        }
        let edge = next.edge.clone();
        self.current.store(Arc::new(next));
        publish();
        // It may ask for what the new fleet alone has.
        if let Some((handle, edge)) = self.edge.as_ref().zip(edge) {
            handle.renew(edge);
        }
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
            staged: None,
        }) => {
            info!(
                by,
                snapshot, fleet_changed, zones, zones_read, warnings, "reloaded"
            );
            "applied"
        }
        Ok(Reloaded {
            staged: Some(staged), ..
        }) => {
            info!(by, "{staged}");
            return;
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
            .post(
                &["v1", "reload"],
                &[],
                &serde_json::json!({ "allow_withdraw": args.allow_withdraw, "now": args.now }),
            )
            .await?;
        crate::client::told(args.json, &done, said)
    })
}

fn said(done: &Reloaded) -> String {
    let Reloaded {
        snapshot,
        fleet_changed,
        zones,
        zones_read,
        warnings,
        staged,
    } = done;
    if let Some(staged) = staged {
        return staged.clone();
    }
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
