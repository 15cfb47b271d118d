//! The one truth: an immutable, numbered picture of the fleet and its verdicts.

mod journal;
mod states;
mod trail;

use std::sync::Arc;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use steer_topology::{At, EndpointId, Fleet, InService, SiteId, Subject};
use tokio::sync::{mpsc, watch};

use crate::evidence::Evidence;
use crate::load::Load;
use crate::operator::{Drain, Force, Target};
use crate::pulse::Pulse;
use journal::Journal;

pub use states::States;
pub use trail::Trail;

/// What the checks say of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Not enough outcomes yet. Never acted upon as down.
    Unknown,
    /// It answers as it should.
    Up,
    /// The detectors of its check say so, or it is an outlier of its pool.
    Down,
}

impl Verdict {
    /// The word that logs, metrics and JSON use.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Up => "up",
            Self::Down => "down",
        }
    }
}

/// What both actuators do with an endpoint, after the guard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Service {
    /// In service.
    In,
    /// Taken out.
    Out,
    /// Down, but the guard refuses to take it out; stays in service.
    Held {
        /// The guard's reason with its numbers, for people.
        reason: String,
    },
    /// An operator drained it, or its site: nobody new is sent there. Says nothing of its health, and its routes
    /// step down by themselves.
    Drained,
}

impl Service {
    /// The word that logs, metrics and JSON use.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Out => "out",
            Self::Held { .. } => "held",
            Self::Drained => "drained",
        }
    }

    /// Whether new clients may be sent there.
    #[must_use]
    pub fn takes_new_clients(&self) -> bool {
        match self {
            Self::In | Self::Held { .. } => true,
            Self::Out | Self::Drained => false,
        }
    }
}

/// Why the verdict is what it is, for people: "connection refused", "status 503, want 200-299".
pub type Cause = String;

/// One endpoint in one snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EndpointState {
    /// What the checks say.
    pub verdict: Verdict,
    /// What follows from it.
    pub service: Service,
    /// The outcome that decided the verdict.
    pub cause: Cause,
    /// Since when the verdict stands.
    pub since: Timestamp,
    /// The weight that it tells of itself; absent: what is written counts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u32>,
}

/// An immutable picture: the checked fleet and what is in service. One snapshot decides DNS and BGP alike.
#[derive(Debug, Clone, Serialize)]
pub struct Snapshot {
    /// Counts up by one per snapshot, from 1. In every log line, metric and explanation.
    pub number: u64,
    /// When it was made.
    pub at: Timestamp,
    /// The fleet it speaks of.
    #[serde(skip)]
    pub fleet: Arc<Fleet>,
    /// Whether the first full round of checks is over. Before that nothing is announced or withdrawn, and
    /// every verdict is `Unknown`.
    pub settled: bool,
    /// By [`EndpointId`]; as many as the fleet has endpoints.
    pub endpoints: States,
    /// The operator's wishes that stand, oldest first.
    pub drains: Vec<Drain>,
    /// Who is up and held back, because it fell too often.
    pub damped: Vec<Damped>,
    /// The verdicts that an operator forces, oldest first.
    pub forces: Vec<Force>,
    /// What sites get now, by [`SiteId`]; `None`, or no entry: nobody says. Read by DNS for `overflow`.
    pub loads: Vec<Option<Load>>,
    /// What the last snapshots changed.
    #[serde(skip)]
    pub trail: Trail,
}

/// An endpoint that is up and held back; its verdict is `Down` meanwhile. See [`crate::damping`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Damped {
    /// Which.
    pub endpoint: EndpointId,
    /// Its figure of merit when the snapshot was made.
    pub figure: u32,
    /// When it comes back, if nothing happens.
    pub until: Timestamp,
}

/// A condition's value. `Unknown` changes nothing: what is announced stays, what is not stays not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Holds {
    /// At least one endpoint is in service.
    Yes,
    /// All are out.
    No,
    /// Not decided yet.
    Unknown,
}

impl Snapshot {
    /// The state of one endpoint of this snapshot's fleet.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> &EndpointState {
        &self.endpoints[id.0 as usize]
    }

    /// The endpoints that traffic sees otherwise than in `before`, which is of the same fleet. The cause of a verdict
    /// is for people and does not count. Costs what was changed, where `before` is one of the last snapshots.
    #[must_use]
    pub fn changed_since(&self, before: &Self) -> Vec<EndpointId> {
        let differs = |id: &EndpointId| {
            let index = id.0 as usize;
            match (self.endpoints.get(index), before.endpoints.get(index)) {
                (Some(now), Some(before)) => {
                    let seen = |state: &EndpointState| {
                        (state.verdict, state.service.clone(), state.since, state.weight)
                    };
                    seen(now) != seen(before)
                }
                (None, _) | (_, None) => false,
            }
        };
        match self.trail.since(before.number) {
            Some(touched) => touched.into_iter().filter(differs).collect(),
            None => self.fleet.endpoint_ids().filter(differs).collect(),
        }
    }

    /// The weight of an endpoint: its own word, or what is written.
    #[must_use]
    pub fn weight(&self, id: EndpointId) -> u32 {
        let told = self.endpoints.get(id.0 as usize).and_then(|state| state.weight);
        told.unwrap_or(self.fleet.endpoint(id).weight)
    }

    /// What a site gets now, if somebody says so.
    #[must_use]
    pub fn load(&self, site: SiteId) -> Option<&Load> {
        let load = self.loads.get(usize::from(site.0))?.as_ref();
        load.filter(|load| load.counts(self.at))
    }

    /// The drain of a whole site, if there is one.
    #[must_use]
    pub fn site_drain(&self, site: Option<SiteId>) -> Option<&Drain> {
        let target = Target::Site(site?);
        self.drains.iter().find(|drain| drain.target == target)
    }

    /// The drain that keeps an endpoint from new clients: its own, or its site's.
    #[must_use]
    pub fn endpoint_drain(&self, id: EndpointId) -> Option<&Drain> {
        let own = |drain: &&Drain| drain.target == Target::Endpoint(id);
        let drain = self.drains.iter().find(own);
        drain.or_else(|| self.site_drain(self.fleet.endpoint(id).site))
    }

    /// The forced verdict of an endpoint: its own or its site's, and of the two what is forced down.
    #[must_use]
    pub fn endpoint_force(&self, id: EndpointId) -> Option<&Force> {
        crate::judge::governing(&self.forces, id, self.fleet.endpoint(id).site)
    }

    /// Evaluates a condition for the process that runs as `local`.
    ///
    /// A drain is no failure: an endpoint that is up counts, drained or not, because the routes of a drained site
    /// step down one by one and are not cut off.
    #[must_use]
    pub fn holds(&self, condition: &InService, local: Option<SiteId>) -> Holds {
        if !self.settled {
            return Holds::Unknown;
        }
        let want = usize::from(condition.at_least.get());
        let (mut serving, mut unknown) = (0, 0);
        for id in self.endpoints_at(condition.subject, condition.at, local) {
            let state = self.endpoint(id);
            match (&state.service, state.verdict) {
                (Service::In | Service::Held { .. }, Verdict::Up | Verdict::Down) => serving += 1,
                (Service::Drained, Verdict::Up) => serving += 1,
                (Service::In | Service::Held { .. } | Service::Drained, Verdict::Unknown) => unknown += 1,
                // The guard holds nothing of what is drained.
                (Service::Drained, Verdict::Down) => {}
                (Service::Out, Verdict::Unknown | Verdict::Up | Verdict::Down) => {}
            }
        }
        match (serving >= want, serving + unknown >= want) {
            (true, _) => Holds::Yes,
            (false, true) => Holds::Unknown,
            (false, false) => Holds::No,
        }
    }

    /// The drain that a condition leans on: it holds, but would not if drained endpoints did not count.
    ///
    /// So the drain of a site's only endpoint is seen by the routes of that site too.
    #[must_use]
    pub fn leans_on(&self, condition: &InService, local: Option<SiteId>) -> Option<&Drain> {
        if self.holds(condition, local) != Holds::Yes {
            return None;
        }
        let mut drained = None;
        let mut left = usize::from(condition.at_least.get());
        for id in self.endpoints_at(condition.subject, condition.at, local) {
            match self.endpoint(id).service {
                Service::In | Service::Held { .. } => left = left.saturating_sub(1),
                Service::Drained => drained = drained.or_else(|| self.endpoint_drain(id)),
                Service::Out => {}
            }
        }
        drained.filter(|_| left > 0)
    }

    /// The endpoints of `subject` that stand at `at`.
    pub fn endpoints_at(
        &self,
        subject: Subject,
        at: At,
        local: Option<SiteId>,
    ) -> impl Iterator<Item = EndpointId> + '_ {
        let site = match at {
            At::Anywhere => None,
            At::Local => local,
            At::Site(site) => Some(site),
        };
        let pools = self.fleet.pools_of(subject);
        let endpoints = pools.flat_map(|id| self.fleet.pool(id).endpoints.iter().copied());
        endpoints.filter(move |id| site.is_none() || self.fleet.endpoint(*id).site == site)
    }
}

/// Where the current snapshot lives. Readers load a pointer and never wait; actuators may wait for the next.
#[derive(Debug)]
pub struct SnapshotCell {
    current: ArcSwap<Snapshot>,
    /// For who must not wait for the others; its lock orders the publishers.
    first: watch::Sender<u64>,
    others: watch::Sender<u64>,
    journal: Arc<Journal>,
    /// What was seen last, of the fleet that is probed now.
    evidence: ArcSwap<Evidence>,
    pulse: Pulse,
}

/// A snapshot was published and [`SnapshotCell::subscribe_first`] told. All other subscribers are told when this is
/// dropped: to wake another thread takes as long as several withdrawals.
#[derive(Debug)]
#[must_use = "most subscribers are told when this is dropped"]
pub struct Published {
    others: watch::Sender<u64>,
    journal: Arc<Journal>,
    snapshot: Arc<Snapshot>,
    is_newest: bool,
}

impl Published {
    /// False: somebody had published a newer one, and nothing was done.
    #[must_use]
    pub fn is_newest(&self) -> bool {
        self.is_newest
    }
}

impl Drop for Published {
    fn drop(&mut self) {
        let newest = self.snapshot.number;
        self.others.send_if_modified(|number| raise(number, newest));
        if self.is_newest {
            self.journal.note(&self.snapshot);
        }
    }
}

fn raise(number: &mut u64, to: u64) -> bool {
    let higher = to > *number;
    if higher {
        *number = to;
    }
    higher
}

impl SnapshotCell {
    /// A cell that holds its first snapshot.
    #[must_use]
    pub fn new(first: Snapshot) -> Self {
        let [first_told, others] = [(); 2].map(|()| watch::Sender::new(first.number));
        Self {
            evidence: ArcSwap::from_pointee(Evidence::of(&first.fleet)),
            current: ArcSwap::from_pointee(first),
            first: first_told,
            others,
            journal: Arc::default(),
            pulse: Pulse::default(),
        }
    }

    /// Whether somebody still looks.
    #[must_use]
    pub fn pulse(&self) -> &Pulse {
        &self.pulse
    }

    /// The current snapshot.
    #[must_use]
    pub fn load(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// What was seen last of each endpoint of the fleet that is probed now.
    #[must_use]
    pub fn evidence(&self) -> Arc<Evidence> {
        self.evidence.load_full()
    }

    pub(crate) fn keep_evidence(&self, evidence: Arc<Evidence>) {
        self.evidence.store(evidence);
    }

    /// The current snapshot for a short look, cheaper than [`SnapshotCell::load`]. Do not hold it across an `await`.
    #[must_use]
    pub fn peek(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.current.load()
    }

    /// Swaps in the next snapshot and wakes who must be first, or does nothing when it is no newer than the current
    /// one. Older snapshots never queue: only the newest matters.
    pub fn publish(&self, next: Arc<Snapshot>) -> Published {
        let number = next.number;
        // Under the watch's lock, so that two publishers cannot cross. Readers of the snapshot do not take it.
        let is_newest = self.first.send_if_modified(|current| {
            let newer = raise(current, number);
            if newer {
                self.current.store(Arc::clone(&next));
            }
            newer
        });
        Published {
            others: self.others.clone(),
            journal: Arc::clone(&self.journal),
            snapshot: next,
            is_newest,
        }
    }

    /// As [`SnapshotCell::subscribe`], for whoever withdraws routes: it runs before the other subscribers.
    #[must_use]
    pub fn subscribe_first(&self) -> watch::Receiver<u64> {
        self.first.subscribe()
    }

    /// Changes soon after a snapshot is published ([`Published`]); read the snapshot itself with [`SnapshotCell::load`].
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.others.subscribe()
    }

    /// Every snapshot from now on, also those that are not the newest any more; it gets each after all subscribers. Whoever
    /// is so many behind misses some, which is counted (`steer_health_journal_missed_total`). Two publishers may cross: who
    /// reads passes over a number that is not higher than the last.
    #[must_use]
    pub fn journal(&self, capacity: usize) -> mpsc::Receiver<Arc<Snapshot>> {
        self.journal.read(capacity)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use std::num::NonZeroU16;

    use steer_topology::{CheckKind, PoolId};

    use super::*;
    use crate::judge::Judge;
    use crate::testing::FleetBuilder;

    fn snapshot(number: u64) -> Snapshot {
        let fleet = FleetBuilder::new(CheckKind::Tcp)
            .pool(&[Some(0), Some(1)])
            .build();
        let first = Judge::new(fleet, Instant::now(), Timestamp::UNIX_EPOCH).first_snapshot();
        Snapshot {
            number,
            settled: true,
            ..first
        }
    }

    fn first_pool(at: At) -> InService {
        InService {
            subject: Subject::Pool(PoolId(0)),
            at,
            at_least: NonZeroU16::MIN,
        }
    }

    /// The services and verdicts of the two endpoints, the first of them local.
    fn holds(states: [(Service, Verdict); 2], at: At) -> Holds {
        let mut snapshot = snapshot(1);
        for (endpoint, (service, verdict)) in snapshot.endpoints.iter_mut().zip(states) {
            (endpoint.service, endpoint.verdict) = (service, verdict);
        }
        snapshot.holds(&first_pool(at), Some(SiteId(0)))
    }

    #[test]
    fn a_condition_holds_by_what_is_in_service_at_its_place() {
        let (up, out) = ((Service::In, Verdict::Up), (Service::Out, Verdict::Down));
        let unknown = (Service::In, Verdict::Unknown);
        let held = (
            Service::Held {
                reason: String::new(),
            },
            Verdict::Down,
        );
        let [drained, drained_down, drained_unknown] =
            [Verdict::Up, Verdict::Down, Verdict::Unknown].map(|verdict| (Service::Drained, verdict));
        let rows = [
            ([&up, &out], At::Anywhere, Holds::Yes),
            ([&up, &out], At::Local, Holds::Yes),
            ([&up, &out], At::Site(SiteId(1)), Holds::No),
            ([&out, &up], At::Local, Holds::No),
            ([&out, &out], At::Anywhere, Holds::No),
            ([&held, &out], At::Local, Holds::Yes),
            ([&unknown, &up], At::Anywhere, Holds::Yes),
            ([&unknown, &up], At::Local, Holds::Unknown),
            ([&unknown, &out], At::Anywhere, Holds::Unknown),
            ([&drained, &out], At::Local, Holds::Yes),
            ([&drained_down, &up], At::Local, Holds::No),
            ([&drained_unknown, &out], At::Local, Holds::Unknown),
        ];
        for (states, at, want) in rows {
            assert_eq!(holds(states.map(Clone::clone), at), want, "{states:?} {at:?}");
        }
    }

    #[test]
    fn an_endpoint_is_drained_by_its_own_drain_or_its_sites() {
        let mut snapshot = snapshot(1);
        let drain = |target, reason: &str| Drain {
            target,
            reason: reason.to_owned(),
            author: String::new(),
            since: Timestamp::UNIX_EPOCH,
            until: None,
        };
        let site = Target::Site(SiteId(0));
        let reason = |drain: Option<&Drain>| drain.map(|drain| drain.reason.clone());
        snapshot.drains = vec![drain(site, "site")];
        assert_eq!(
            reason(snapshot.endpoint_drain(EndpointId(0))).as_deref(),
            Some("site")
        );
        assert_eq!(snapshot.endpoint_drain(EndpointId(1)), None);
        assert_eq!(
            reason(snapshot.site_drain(Some(SiteId(0)))).as_deref(),
            Some("site")
        );
        assert_eq!(snapshot.site_drain(None), None);
        snapshot
            .drains
            .push(drain(Target::Endpoint(EndpointId(0)), "own"));
        assert_eq!(
            reason(snapshot.endpoint_drain(EndpointId(0))).as_deref(),
            Some("own")
        );
    }

    #[test]
    fn a_condition_leans_on_a_drain_when_too_few_others_are_in_service() {
        let mut snapshot = snapshot(1);
        let leans = |snapshot: &Snapshot, at| snapshot.leans_on(&first_pool(at), Some(SiteId(0))).is_some();
        for state in &mut snapshot.endpoints {
            state.verdict = Verdict::Up;
        }
        assert!(!leans(&snapshot, At::Local));
        snapshot.endpoints[0].service = Service::Drained;
        snapshot.drains.push(Drain {
            target: Target::Endpoint(EndpointId(0)),
            reason: String::new(),
            author: String::new(),
            since: Timestamp::UNIX_EPOCH,
            until: None,
        });
        assert!(leans(&snapshot, At::Local));
        assert!(!leans(&snapshot, At::Anywhere), "the other one carries it");
        snapshot.endpoints[0].verdict = Verdict::Down;
        assert!(!leans(&snapshot, At::Local), "it does not hold at all");
    }

    #[test]
    fn nothing_holds_or_fails_before_we_settle() {
        let mut snapshot = snapshot(1);
        snapshot.settled = false;
        snapshot
            .endpoints
            .iter_mut()
            .for_each(|state| state.verdict = Verdict::Up);
        assert_eq!(snapshot.holds(&first_pool(At::Anywhere), None), Holds::Unknown);
    }

    #[tokio::test]
    async fn publishing_wakes_the_subscriber_after_the_swap() {
        let cell = Arc::new(SnapshotCell::new(snapshot(1)));
        let mut news = cell.subscribe();
        let reader = Arc::clone(&cell);
        let woken = tokio::spawn(async move {
            news.changed().await.unwrap();
            (*news.borrow(), reader.load().number)
        });
        tokio::task::yield_now().await;
        assert!(cell.publish(Arc::new(snapshot(2))).is_newest());
        assert_eq!(woken.await.unwrap(), (2, 2));
    }

    #[test]
    fn who_is_first_is_told_before_the_others_and_they_when_the_publisher_is_done() {
        let cell = SnapshotCell::new(snapshot(1));
        let (mut first, mut other) = (cell.subscribe_first(), cell.subscribe());
        let mut told = |first_is: bool, other_is: bool| {
            assert_eq!(first.has_changed().unwrap(), first_is);
            assert_eq!(other.has_changed().unwrap(), other_is);
            first.mark_unchanged();
            other.mark_unchanged();
        };
        let older = cell.publish(Arc::new(snapshot(2)));
        told(true, false);
        let newer = cell.publish(Arc::new(snapshot(3)));
        told(true, false);
        drop(newer);
        told(false, true);
        drop(older);
        told(false, false);
    }

    #[test]
    fn a_journal_has_every_snapshot_after_all_subscribers_were_told_and_never_holds_anybody_up() {
        let cell = SnapshotCell::new(snapshot(1));
        let mut other = cell.subscribe();
        let mut journal = cell.journal(2);
        let published = cell.publish(Arc::new(snapshot(2)));
        assert!(journal.try_recv().is_err(), "who is first is first");
        drop(published);
        assert!(other.has_changed().unwrap());
        other.mark_unchanged();
        for number in 3..=5 {
            drop(cell.publish(Arc::new(snapshot(number))));
        }
        drop(cell.publish(Arc::new(snapshot(4)))); // refused, and so never there
        let numbers = std::iter::from_fn(|| journal.try_recv().ok()).map(|snapshot| snapshot.number);
        assert_eq!(numbers.collect::<Vec<_>>(), [2, 3], "there was room for two");
        drop(cell.publish(Arc::new(snapshot(6))));
        assert_eq!(journal.try_recv().unwrap().number, 6, "and there is again");
        drop(journal);
        drop(cell.publish(Arc::new(snapshot(7))));
        assert_eq!(cell.load().number, 7);
    }

    #[test]
    fn an_older_snapshot_never_replaces_a_newer_one() {
        let cell = SnapshotCell::new(snapshot(5));
        let news = cell.subscribe();
        assert!(!cell.publish(Arc::new(snapshot(5))).is_newest());
        assert!(!cell.publish(Arc::new(snapshot(4))).is_newest());
        assert_eq!((cell.load().number, cell.peek().number), (5, 5));
        assert!(!news.has_changed().unwrap());
    }
}
