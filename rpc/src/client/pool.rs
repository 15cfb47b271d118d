//! The addresses of all targets as they are known now, and which of them a call asks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use rand::Rng;
use steer_topology::OutlierRules;

use super::breaker::{Breaker, BreakerLimits, Ended, Leave};
use super::config::ClientConfig;
use super::target::Target;
use crate::edge::{Balance, Reading};
use crate::fate::Budget;
use crate::link::{KeepAlive, Links, Tls};

/// After a failure to connect, names are asked again, but not more often than this.
const RESOLVE_MIN: Duration = Duration::from_secs(1);

/// An address of a target.
pub(super) struct Site {
    pub(super) target: Target,
    pub(super) links: Links,
    breaker: Mutex<Breaker>,
}

/// What is known at a moment. A call keeps the one that it began with.
pub(super) struct Fleet {
    sites: Vec<Arc<Site>>,
    /// So many of them come first; the others are for when none of these is left.
    first: usize,
    balance: Mutex<Balance>,
    since: Mutex<Instant>,
}

/// All that calls of a client share.
pub(super) struct Pool {
    targets: Vec<Target>,
    fallback: Vec<Target>,
    tls: Arc<rustls::ClientConfig>,
    limits: BreakerLimits,
    keepalive: KeepAlive,
    resolve_every: Duration,
    budget: Mutex<Budget>,
    fleet: Mutex<Option<Arc<Fleet>>>,
    /// One asks the name servers, the others wait or go on with what there is.
    resolving: tokio::sync::Mutex<()>,
}

/// A site that a call asks. Its end counts once; one that is dropped says nothing of the site.
pub(super) struct Asked {
    fleet: Arc<Fleet>,
    number: usize,
    leave: Option<Leave>,
    began: Instant,
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub(super) enum Nobody {
    #[error("no address: {0}")]
    NoAddress(String),
    #[error("every target failed too often, or has as many calls as it may have")]
    Barred,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Pool {
    pub(super) fn new(config: ClientConfig) -> Self {
        let ClientConfig {
            targets,
            fallback,
            tls,
            policies: _,
            breaker,
            keepalive,
            budget,
            resolve_every,
        } = config;
        Self {
            targets,
            fallback,
            tls,
            limits: breaker,
            keepalive,
            resolve_every,
            budget: budget.into(),
            fleet: Mutex::default(),
            resolving: tokio::sync::Mutex::default(),
        }
    }

    pub(super) fn budget(&self) -> MutexGuard<'_, Budget> {
        lock(&self.budget)
    }

    /// Picks a site, not one of those that were tried if there is another.
    pub(super) async fn ask(
        self: &Arc<Self>,
        tried: &[SocketAddr],
        rng: &mut (impl Rng + Send),
    ) -> Result<(Arc<Site>, Asked), Nobody> {
        let fleet = self.fleet().await?;
        Fleet::ask(&fleet, tried, rng, Instant::now())
    }

    /// What is known, made now where nothing is. What is old is renewed beside the calls, which go on with it.
    async fn fleet(self: &Arc<Self>) -> Result<Arc<Fleet>, Nobody> {
        let known = lock(&self.fleet).clone();
        match known {
            Some(fleet) => {
                if fleet.age() >= self.resolve_every {
                    self.renew();
                }
                Ok(fleet)
            }
            None => {
                let _one = self.resolving.lock().await;
                if let Some(fleet) = &*lock(&self.fleet) {
                    return Ok(fleet.clone());
                }
                self.resolve().await
            }
        }
    }

    /// No connection could be had: the names may lead elsewhere by now.
    pub(super) fn on_no_connection(self: &Arc<Self>) {
        let is_old = |fleet: &Arc<Fleet>| fleet.age() >= RESOLVE_MIN;
        let known = lock(&self.fleet).clone();
        if known.as_ref().is_some_and(is_old) {
            self.renew();
        }
    }

    fn renew(self: &Arc<Self>) {
        if !self.targets.iter().chain(&self.fallback).any(Target::is_name) {
            return;
        }
        let pool = self.clone();
        tokio::spawn(async move {
            // Whoever is at it already does it for all.
            if let Ok(_one) = pool.resolving.try_lock()
                && let Err(error) = pool.resolve().await
            {
                tracing::warn!(%error, "the names of targets; what was known is used on");
            }
        });
    }

    /// Asks for all names. A name that cannot be asked keeps the addresses that it had.
    async fn resolve(&self) -> Result<Arc<Fleet>, Nobody> {
        let before = lock(&self.fleet).clone();
        let mut faults = Vec::new();
        let mut sites = Vec::new();
        let mut first = 0;
        for (number, target) in self.targets.iter().chain(&self.fallback).enumerate() {
            match target.addresses().await {
                Ok(addresses) => sites.extend(
                    addresses
                        .iter()
                        .filter_map(|address| self.site(target, *address, before.as_deref())),
                ),
                Err(fault) => {
                    metrics::counter!("steer_rpc_resolve_failures_total").increment(1);
                    faults.push(fault);
                    let old = before.iter().flat_map(|fleet| &fleet.sites);
                    sites.extend(old.filter(|site| site.target == *target).cloned());
                }
            }
            if number + 1 == self.targets.len() {
                first = sites.len();
            }
        }
        if sites.is_empty() {
            return Err(Nobody::NoAddress(faults.join("; ")));
        }
        // Where nothing has changed, what is known of latencies stays. Where something has, all sites begin anew.
        if let Some(same) = before.filter(|fleet| fleet.has(&sites)) {
            *lock(&same.since) = Instant::now();
            return Ok(same);
        }
        let fleet = Arc::new(Fleet::new(sites, first));
        *lock(&self.fleet) = Some(fleet.clone());
        Ok(fleet)
    }

    /// A site with its connections and its breaker, where it was there before.
    fn site(&self, target: &Target, address: SocketAddr, before: Option<&Fleet>) -> Option<Arc<Site>> {
        let is = |site: &&Arc<Site>| site.links.address() == address && site.target == *target;
        if let Some(site) = before.and_then(|fleet| fleet.sites.iter().find(is)) {
            return Some(site.clone());
        }
        let tls = match target.is_tls() {
            true => {
                let config = self.tls.clone();
                Some(Tls {
                    trust: Box::new(move || (config.clone(), 0)),
                    name: target.server_name()?,
                })
            }
            false => None,
        };
        Some(Arc::new(Site {
            target: target.clone(),
            links: Links::new(address, tls, self.keepalive),
            breaker: Breaker::new(self.limits).into(),
        }))
    }
}

impl Fleet {
    fn new(sites: Vec<Arc<Site>>, first: usize) -> Self {
        let now = Instant::now();
        Self {
            balance: Balance::new(sites.len(), OutlierRules::DEFAULT, now).into(),
            sites,
            first,
            since: now.into(),
        }
    }

    fn has(&self, sites: &[Arc<Site>]) -> bool {
        self.sites.len() == sites.len()
            && self
                .sites
                .iter()
                .zip(sites)
                .all(|(one, other)| Arc::ptr_eq(one, other))
    }

    fn age(&self) -> Duration {
        lock(&self.since).elapsed()
    }

    fn ask(
        this: &Arc<Self>,
        tried: &[SocketAddr],
        rng: &mut impl Rng,
        now: Instant,
    ) -> Result<(Arc<Site>, Asked), Nobody> {
        let all = 0..this.sites.len();
        let closed = |number: &usize| lock(&this.sites[*number].breaker).allows(now).is_err();
        let barred: Vec<_> = all.clone().filter(closed).collect();
        let is_tried = |number: usize| tried.contains(&this.sites[number].links.address());
        let mut avoided: Vec<_> = all
            .clone()
            .filter(|number| barred.contains(number) || is_tried(*number))
            .collect();
        // Those that come first, as long as one of them is left.
        if (0..this.first).any(|number| !avoided.contains(&number)) {
            avoided.extend(this.first..this.sites.len());
        }
        let picked = lock(&this.balance).pick(&avoided, rng, now);
        let picked = picked.filter(|number| !barred.contains(number) || this.put_back(*number, now));
        // What is left may be an outlier whose breaker is closed, or one that was tried.
        let picked = picked.or_else(|| all.clone().find(|number| !barred.contains(number)));
        let number = picked.ok_or(Nobody::Barred)?;
        let site = this.sites[number].clone();
        let leave = lock(&site.breaker).admit(now).map_err(|_| Nobody::Barred)?;
        let asked = Asked {
            fleet: this.clone(),
            number,
            leave: Some(leave),
            began: now,
        };
        Ok((site, asked))
    }

    /// Tells the balance that a site which it picked is not asked.
    fn put_back(&self, number: usize, now: Instant) -> bool {
        lock(&self.balance).on_end(number, Reading::Silent, now);
        false
    }
}

impl Asked {
    /// How the site behaved.
    pub(super) fn end(mut self, ended: Ended) {
        self.tell(ended, ended == Ended::Well);
    }

    /// Another one was quicker: this one takes as long as that at least, which says nothing of whether it works.
    pub(super) fn overtaken(mut self) {
        self.tell(Ended::Silently, true);
    }

    fn tell(&mut self, ended: Ended, is_timed: bool) {
        let Some(leave) = self.leave.take() else {
            return;
        };
        let now = Instant::now();
        let reading = match ended {
            Ended::Well | Ended::Silently if is_timed => {
                Reading::Answered(now.saturating_duration_since(self.began))
            }
            Ended::Badly => Reading::Failed,
            Ended::Well | Ended::Silently => Reading::Silent,
        };
        lock(&self.fleet.balance).on_end(self.number, reading, now);
        let site = &self.fleet.sites[self.number];
        if lock(&site.breaker).on_end(&leave, ended, now) {
            metrics::counter!("steer_rpc_breakers_opened_total").increment(1);
            tracing::warn!(target = %site.target, address = %site.links.address(), "a target failed too often and is left alone");
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        self.tell(Ended::Silently, false);
    }
}
