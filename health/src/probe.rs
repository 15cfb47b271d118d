//! The probes themselves: what each kind of check does once.
//!
//! Every connection is a new one unless the check asks for `reuse`, and is closed with a reset (`SO_LINGER` 0): our side
//! then keeps no `TIME_WAIT`, however many endpoints there are and however often they are asked.

mod calculated;
mod dial;
mod dns;
mod exec;
mod external;
mod grpc;
mod http;
mod icmp;
mod process;
mod tls;
mod value;
mod watch;
mod wire;

use std::collections::HashSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use steer_topology::{Check, CheckKind, Endpoint, EndpointId, Fleet, HttpCheck};
use tokio::sync::Semaphore;

use crate::driver::Errand;
use crate::evidence::Evidence;
use crate::outcome::{Answer, Failure, Outcome, Void};
use crate::tripwire::Cut;

use calculated::Calculated;
use dial::{Dial, Manner};
use dns::DnsProbe;
use exec::Exec;
use external::External;
use grpc::Grpc;
use http::Http;
use icmp::Ping;
use tls::{Roots, Tls};

/// Sends one probe, or holds a connection. The driver sets the time limit, and drops the future when it is over.
pub(crate) trait Prober: Send + Sync + 'static {
    /// What is held for its end alone.
    type Wire: Send + 'static;

    /// Probes once, and notes in `progress` how far it got; the driver sets the limit of the time.
    fn probe(&self, errand: Errand, progress: &Progress) -> impl Future<Output = Outcome> + Send;

    /// Reads the number by which `endpoint` steers; as [`Prober::probe`].
    fn read(&self, errand: Errand, progress: &Progress) -> impl Future<Output = Outcome> + Send;

    /// `by` reported on `endpoint`. False where its check takes no reports of theirs.
    fn reported(&self, endpoint: EndpointId, by: Reporter, now: Instant) -> bool;

    /// Connects to where `endpoint` is probed; what it comes to otherwise is worded as of a probe.
    fn dial(
        &self,
        endpoint: EndpointId,
        timeout: Duration,
    ) -> impl Future<Output = Result<Self::Wire, Outcome>> + Send;

    /// Returns when the connection has ended.
    fn hold(&self, wire: Self::Wire) -> impl Future<Output = Cut> + Send;
}

/// Who reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reporter {
    /// Somebody who looks after endpoints of kind `external`.
    Outside,
    /// BFD, for endpoints of kind `bfd`.
    Bfd,
}

/// Which thread a probe runs on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Place {
    /// That of the loop.
    Loop,
    /// That of the probes.
    Thread,
}

/// How far a probe got: what is missing when its time is over.
#[derive(Debug, Default)]
pub(crate) struct Progress(AtomicU8);

/// Waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Anything at all.
    Anything,
    /// The TLS handshake, on a connection that is open.
    Handshake,
    /// The answer, on a connection that is open.
    Answer,
    /// The end of a program.
    Exit,
}

impl Progress {
    /// Now this is waited for.
    pub(crate) fn wait_for(&self, stage: Stage) {
        self.0.store(stage as u8, Ordering::Relaxed);
    }

    /// What the time-out means.
    pub(crate) fn timed_out(&self, within: Duration) -> Outcome {
        let half_open = |what| Failure::HalfOpen { what, within };
        let stages = [Stage::Anything, Stage::Handshake, Stage::Answer, Stage::Exit];
        let reached = self.0.load(Ordering::Relaxed);
        let stage = stages.into_iter().find(|stage| *stage as u8 == reached);
        Outcome::Failure(match stage.unwrap_or(Stage::Anything) {
            Stage::Anything => Failure::NoAnswer(within),
            Stage::Handshake => half_open("TLS handshake"),
            Stage::Answer => half_open("answer"),
            Stage::Exit => Failure::Exec(format!(
                "killed: it ran longer than {}",
                crate::outcome::spoken(within)
            )),
        })
    }
}

/// Probes over the real network.
#[derive(Debug)]
pub(crate) struct NetProber {
    /// By endpoint; `None` where it is not checked.
    targets: Vec<Option<Target>>,
    /// By endpoint: where it tells a number.
    numbers: Vec<Option<Target>>,
    /// By endpoint: what is held.
    wires: Vec<wire::Plan>,
}

/// Everything about a probe that does not change from one to the next.
#[derive(Debug)]
pub(crate) enum Target {
    Tcp(Dial),
    Tls(Dial, Box<Tls>),
    Http(Box<Http>),
    Dns(Box<DnsProbe>),
    Grpc(Box<Grpc>),
    Icmp(Ping),
    Exec(Box<Exec>),
    External(External),
    /// BFD tells; nothing is sent.
    Bfd,
    Calculated(Box<Calculated>),
    /// Cannot be probed, and why. It stays `Unknown`, which is never acted upon.
    Impossible(String),
}

/// What the targets of one fleet share while they are made.
struct Making<'f> {
    fleet: &'f Fleet,
    roots: Roots,
    evidence: &'f Arc<Evidence>,
    now: Instant,
    /// Checks that cannot run: each is told of once.
    told: HashSet<String>,
    programs: Arc<Semaphore>,
}

impl NetProber {
    pub(crate) fn new(fleet: &Fleet, evidence: &Arc<Evidence>, now: Instant) -> Self {
        let mut making = Making {
            fleet,
            roots: Roots::default(),
            evidence,
            now,
            told: HashSet::new(),
            programs: Arc::new(Semaphore::new(exec::PROGRAMS_MAX)),
        };
        let targets = fleet.endpoint_ids().map(|id| {
            let check = fleet.check(fleet.pool(fleet.endpoint(id).pool).check?);
            Some(making.target(check, id))
        });
        let targets = targets.collect();
        let numbers = fleet.endpoint_ids().map(|id| {
            let check = fleet.check(fleet.pool(fleet.endpoint(id).pool).load?);
            Some(making.target(check, id))
        });
        let numbers = numbers.collect();
        let wire = |endpoint: &Endpoint| {
            let check = fleet.pool(endpoint.pool).check.map(|id| fleet.check(id));
            wire::Plan::new(check, endpoint)
        };
        Self {
            targets,
            numbers,
            wires: fleet.endpoints.iter().map(wire).collect(),
        }
    }
}

impl Making<'_> {
    fn target(&mut self, check: &Check, id: EndpointId) -> Target {
        self.try_target(check, id).unwrap_or_else(|why| {
            if self.told.insert(check.name.clone()) {
                tracing::error!(check = check.name, %why, "a check cannot run; its endpoints stay unknown");
            }
            Target::Impossible(why)
        })
    }

    fn try_target(&mut self, check: &Check, id: EndpointId) -> Result<Target, String> {
        let endpoint = self.fleet.endpoint(id);
        let dial = Dial::new(Some(check), endpoint);
        Ok(match &check.kind {
            CheckKind::Tcp => Target::Tcp(dial),
            CheckKind::Tls(rules) => {
                let tls = Tls::new(rules, None, endpoint, id, &[], &mut self.roots, self.evidence)?;
                Target::Tls(dial.with(Manner::Often), Box::new(tls))
            }
            CheckKind::Http(rules) => self.page(rules, dial, id)?,
            CheckKind::Load(rules) => self.page(&rules.page, dial, id)?,
            CheckKind::Dns(rules) => Target::Dns(Box::new(DnsProbe::new(rules, dial)?)),
            CheckKind::Grpc(rules) => {
                let tls = rules
                    .tls
                    .as_ref()
                    .map(|tls| Tls::new(tls, None, endpoint, id, &[b"h2"], &mut self.roots, self.evidence));
                Target::Grpc(Box::new(Grpc::new(rules, dial, tls.transpose()?)))
            }
            CheckKind::Icmp => Target::Icmp(Ping::new(dial)),
            CheckKind::Exec { command } => Target::Exec(Box::new(Exec::new(
                command,
                self.fleet,
                id,
                dial.address,
                &self.programs,
            ))),
            CheckKind::External { lease } => Target::External(External::new(*lease, self.now)),
            CheckKind::Bfd { .. } => Target::Bfd,
            CheckKind::Calculated { when } => {
                let parts = when.checks().into_iter().map(|part| {
                    let check = self.fleet.check(part);
                    (part, check.name.clone(), self.target(check, id))
                });
                let parts = parts.collect();
                Target::Calculated(Box::new(Calculated::new(when.clone(), parts)))
            }
        })
    }
}

impl Making<'_> {
    fn page(&mut self, rules: &HttpCheck, dial: Dial, id: EndpointId) -> Result<Target, String> {
        let (host, endpoint) = (rules.host.as_deref(), self.fleet.endpoint(id));
        let tls = rules.tls.as_ref().map(|tls| {
            let names: &[&[u8]] = &[b"http/1.1"];
            Tls::new(tls, host, endpoint, id, names, &mut self.roots, self.evidence)
        });
        Ok(Target::Http(Box::new(Http::new(rules, dial, tls.transpose()?)?)))
    }
}

impl Target {
    /// One probe.
    pub(crate) async fn probe(&self, place: Place, timeout: Duration, progress: &Progress) -> Outcome {
        match self {
            Self::Tcp(dial) => connect(dial, timeout).await,
            Self::Tls(dial, tls) => handshake(dial, tls, timeout, progress).await,
            Self::Http(http) => http.probe(place, timeout, progress).await,
            Self::Dns(dns) => dns.probe(timeout).await,
            Self::Grpc(grpc) => grpc.probe(timeout, progress).await,
            Self::Icmp(ping) => ping.probe(timeout).await,
            Self::Exec(exec) => exec.probe(timeout, progress).await,
            Self::External(external) => external.probe(crate::driver::now()),
            Self::Bfd => Outcome::Void(Void::NoReport),
            Self::Calculated(calculated) => Box::pin(calculated.probe(place, timeout)).await,
            Self::Impossible(why) => Outcome::Void(Void::Local(why.clone())),
        }
    }
}

impl Target {
    fn reported(&self, by: Reporter, now: Instant) -> bool {
        match self {
            Self::External(external) if by == Reporter::Outside => {
                external.reported(now);
                true
            }
            Self::Bfd => by == Reporter::Bfd,
            Self::External(_)
            | Self::Tcp(_)
            | Self::Tls(..)
            | Self::Http(_)
            | Self::Dns(_)
            | Self::Grpc(_)
            | Self::Icmp(_)
            | Self::Exec(_)
            | Self::Calculated(_)
            | Self::Impossible(_) => false,
        }
    }
}

impl Prober for NetProber {
    type Wire = wire::Wire;

    async fn probe(&self, errand: Errand, progress: &Progress) -> Outcome {
        match self.targets.get(errand.job.endpoint.0 as usize) {
            Some(Some(target)) => target.probe(errand.place, errand.job.timeout, progress).await,
            Some(None) | None => Outcome::Void(Void::Local("the endpoint has no check".to_owned())),
        }
    }

    async fn read(&self, errand: Errand, progress: &Progress) -> Outcome {
        match self.numbers.get(errand.job.endpoint.0 as usize) {
            Some(Some(target)) => target.probe(errand.place, errand.job.timeout, progress).await,
            Some(None) | None => Outcome::Void(Void::Local("the endpoint tells no number".to_owned())),
        }
    }

    fn reported(&self, endpoint: EndpointId, by: Reporter, now: Instant) -> bool {
        let target = self.targets.get(endpoint.0 as usize).and_then(Option::as_ref);
        target.is_some_and(|target| target.reported(by, now))
    }

    async fn dial(&self, endpoint: EndpointId, timeout: Duration) -> Result<wire::Wire, Outcome> {
        let Some(plan) = self.wires.get(endpoint.0 as usize) else {
            return Err(Outcome::Void(Void::Local("the endpoint is unknown".to_owned())));
        };
        let target = self.targets.get(endpoint.0 as usize).and_then(Option::as_ref);
        plan.dial(target, timeout).await
    }

    async fn hold(&self, wire: wire::Wire) -> Cut {
        wire::hold(wire).await
    }
}

async fn connect(dial: &Dial, timeout: Duration) -> Outcome {
    match dial.connect().await {
        Ok(_closed_at_once) => Outcome::Success(Answer::Connected),
        Err(error) => Outcome::of_io_error(&error, timeout),
    }
}

async fn handshake(dial: &Dial, tls: &Tls, timeout: Duration, progress: &Progress) -> Outcome {
    let stream = match dial.connect().await {
        Ok(stream) => stream,
        Err(error) => return Outcome::of_io_error(&error, timeout),
    };
    progress.wait_for(Stage::Handshake);
    match tls.shake(stream).await {
        Ok((_closed_at_once, answer)) => Outcome::Success(answer),
        Err(error) => tls::of_error(&error, timeout),
    }
}

/// `198.51.100.10:443`, which a check may probe elsewhere.
fn probed(check: Option<&Check>, endpoint: &Endpoint) -> SocketAddr {
    let mut address = endpoint.probe;
    if let Some(port) = check.and_then(|check| check.port) {
        address.set_port(port.get());
    }
    address
}

#[cfg(test)]
mod tests;
