//! `[fleet] gossip` `staged`: another file is tried by one site after the other, and a site that loses by it goes back.
//!
//! ```text
//! request ─► waiting ─► the file is applied, on trial ─┬─► good
//!               │                                      └─► an endpoint of ours that was up is not ─► back, and bad
//!               └─ another site said bad ─► refused, the old file goes on
//! ```
//!
//! Whose turn it is says [`steer_health::gossip::rollout`]; here is what it is about.

use std::path::Path;
use std::time::{Duration, Instant};

use steer_health::gossip::rollout::{Digest, LISTEN, Next, Rollout};
use steer_health::gossip::{GossipHandle, SiteName};
use steer_health::{Service, Snapshot, Target, Verdict};
use steer_topology::{Fault, Faults, SiteId};
use tracing::{error, info};

use crate::exit::Failure;
use crate::load::Loaded;

/// Between two looks at the others, and at our own endpoints.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(200);

/// A file on its way into force.
pub(super) struct Staged {
    pub(super) by: &'static str,
    gossip: GossipHandle,
    rollout: Rollout,
    takes: Duration,
    phase: Phase,
}

enum Phase {
    /// The file, read and checked.
    Waits(Box<Loaded>),
    Tries {
        /// What was in force.
        before: Box<Loaded>,
        /// Own endpoints that were up and in service.
        served: Vec<String>,
    },
    /// There is nothing to go back to any more.
    Over,
}

/// What is to be done now.
pub(super) enum Step {
    /// Nothing.
    Wait,
    /// The file is to be applied.
    Apply(Box<Loaded>),
    /// What was in force before is to be applied.
    GoBack(Box<Loaded>),
    /// The end: it is good, or it was refused.
    Over,
}

impl Staged {
    /// The stages of a file, where the file in force asks for them.
    pub(super) fn of(
        gossip: Option<&GossipHandle>,
        current: &Loaded,
        next: Loaded,
        by: &'static str,
    ) -> Result<Self, Box<Loaded>> {
        let takes = current
            .fleet
            .gossip
            .as_ref()
            .map_or(Duration::ZERO, |policy| policy.staged);
        let Some(gossip) = gossip.filter(|_| !takes.is_zero()) else {
            return Err(Box::new(next));
        };
        let rollout = Rollout::new(gossip.me(), next.digest, takes, Instant::now());
        let staged = Self {
            by,
            gossip: gossip.clone(),
            rollout,
            takes,
            phase: Phase::Waits(Box::new(next)),
        };
        staged.say();
        metrics::counter!("steer_reloads_total", "result" => "staged").increment(1);
        Ok(staged)
    }

    /// Whether it waits with this very file.
    pub(super) fn waits_with(&self, digest: Digest) -> bool {
        matches!(self.phase, Phase::Waits(_)) && self.rollout.word().digest == digest
    }

    /// The file was read again.
    pub(super) fn renew(&mut self, next: Loaded) {
        if let Phase::Waits(waits) = &mut self.phase {
            **waits = next;
        }
    }

    pub(super) fn is_on_trial(&self) -> bool {
        matches!(self.phase, Phase::Tries { .. })
    }

    fn say(&self) {
        self.gossip.say_rollout(Some(&self.rollout.word()));
    }

    /// It is not to be taken any more.
    pub(super) fn give_up(self) {
        self.gossip.say_rollout(None);
    }

    /// For whoever asked.
    pub(super) fn told(&mut self, config: &Path) -> Result<String, Failure> {
        let takes = self.takes;
        match self.rollout.step(&self.gossip.rollouts(), Instant::now()) {
            Next::Wait(whom) if whom.is_empty() => Ok(format!(
                "staged: hears the other sites out for {} s, then tries the file for {takes:?}",
                LISTEN.as_secs()
            )),
            Next::Wait(whom) => {
                let names: Vec<_> = whom.iter().map(SiteName::as_str).collect();
                Ok(format!("staged: waits for {}", names.join(", ")))
            }
            // That it may begin now is found again at the next look.
            Next::Begin | Next::Trial(_) => Ok(format!("staged: tries the file for {takes:?}")),
            Next::Good => Ok("staged: found good".to_owned()),
            Next::Stopped { by, reason } => Err(stopped(config, by.as_str(), &reason)),
        }
    }

    /// What is to be done, by what the others say and by how our own endpoints are. `served`: of now.
    pub(super) fn step(&mut self, snapshot: &Snapshot, current: &Loaded, local: SiteId) -> Step {
        let lost = match &self.phase {
            Phase::Tries { served, .. } => served.iter().find_map(|name| loss(snapshot, name)),
            Phase::Waits(_) | Phase::Over => None,
        };
        if let Some(reason) = lost {
            return self.go_back(&reason);
        }
        match self.rollout.step(&self.gossip.rollouts(), Instant::now()) {
            Next::Wait(_) => Step::Wait,
            Next::Begin | Next::Trial(_) => self.begin(snapshot, current, local),
            Next::Good => {
                info!(
                    by = self.by,
                    "the file did well for {:?}: the other sites follow", self.takes
                );
                self.say();
                Step::Over
            }
            Next::Stopped { by, reason } => {
                if let Failure::Configuration(faults) = stopped(&current.config, by.as_str(), &reason) {
                    error!(by = self.by, "{faults}");
                }
                metrics::counter!("steer_reloads_total", "result" => "refused").increment(1);
                self.gossip.say_rollout(None);
                Step::Over
            }
        }
    }

    fn begin(&mut self, snapshot: &Snapshot, current: &Loaded, local: SiteId) -> Step {
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Waits(next) => {
                self.phase = Phase::Tries {
                    before: Box::new(current.clone()),
                    served: served(snapshot, local),
                };
                self.say();
                info!(by = self.by, "tries the file for {:?}", self.takes);
                Step::Apply(next)
            }
            phase @ (Phase::Tries { .. } | Phase::Over) => {
                self.phase = phase;
                Step::Wait
            }
        }
    }

    fn go_back(&mut self, reason: &str) -> Step {
        self.rollout.goes_bad(reason);
        self.say();
        match std::mem::replace(&mut self.phase, Phase::Over) {
            Phase::Tries { before, .. } => {
                error!(
                    by = self.by,
                    reason, "the file does harm here: back to the one of before"
                );
                metrics::counter!("steer_reloads_total", "result" => "went-back").increment(1);
                Step::GoBack(before)
            }
            Phase::Waits(_) | Phase::Over => Step::Over,
        }
    }
}

fn stopped(config: &Path, by: &str, reason: &str) -> Failure {
    let message = format!("reload refused: {by} tried it and lost {reason}; it went back");
    let remedy = "mend the file; or look at that site, and `steer reload --now` takes it all the same";
    Failure::Configuration(Faults(vec![Fault::of_file(config, message, remedy)]))
}

/// Own endpoints that are up and in service.
fn served(snapshot: &Snapshot, local: SiteId) -> Vec<String> {
    let fleet = &snapshot.fleet;
    let serves = |target: &Target| match target {
        Target::Endpoint(id) => {
            let state = snapshot.endpoint(*id);
            state.verdict == Verdict::Up && state.service.takes_new_clients()
        }
        Target::Site(_) => false,
    };
    let own = Target::Site(local).endpoints(fleet).map(Target::Endpoint);
    own.filter(serves).map(|target| target.name(fleet)).collect()
}

/// Why an endpoint does not serve any more, if its check says so. One that the file has no more is gone as its author wished, as
/// is what an operator took out meanwhile.
fn loss(snapshot: &Snapshot, name: &str) -> Option<String> {
    let Ok(Target::Endpoint(id)) = Target::find(&snapshot.fleet, name) else {
        return None;
    };
    let state = snapshot.endpoint(id);
    let is_out = match state.service {
        Service::In => state.verdict == Verdict::Down,
        Service::Held { .. } | Service::Out => true,
        Service::Drained => false,
    };
    let is_forced = snapshot.endpoint_force(id).is_some();
    let endpoint = snapshot.fleet.endpoint(id);
    let pool = &snapshot.fleet.pool(endpoint.pool).name;
    (is_out && !is_forced).then(|| format!("{pool}/{} ({})", endpoint.address, state.cause))
}
