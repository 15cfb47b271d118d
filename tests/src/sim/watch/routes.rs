//! What is announced, against the snapshot, the drains and the clock.

use std::collections::BTreeMap;
use std::time::Duration;

use steer_anycast::announcer::Announcer;
use steer_health::gossip::Moment;
use steer_health::{Drain, Service, Snapshot, Target, Verdict};
use steer_topology::{Anycast, Condition, DrainStep, Fleet, Prefix, SiteId};

use super::{Broken, Rule};

/// Longest that a step of a ladder, or an announcement, may come late.
const SLACK: Duration = Duration::from_secs(2);

/// What the conditions of a prefix say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Says {
    Yes,
    No,
    Unknown,
}

/// One process.
#[derive(Debug, Default)]
pub struct RoutesWatch {
    /// Since when the conditions of a prefix say what they say, and whether some drain is about it.
    says: BTreeMap<Prefix, (Says, bool, Duration)>,
    /// When each drain of the site was first seen, and how old it was then.
    drains: Vec<(Drain, Duration, Duration)>,
    /// Announced before.
    announced: BTreeMap<Prefix, bool>,
    /// When [`RoutesWatch::check`] last looked.
    looked_at: Option<Duration>,
}

/// When.
#[derive(Debug, Clone, Copy)]
pub struct Now {
    /// Since the beginning of the run.
    pub now: Duration,
    /// Since the start of the process.
    pub age: Duration,
    /// Its clocks.
    pub when: Moment,
}

impl RoutesWatch {
    /// Looks at what a process announces.
    ///
    /// # Errors
    /// It does not follow.
    pub fn check(
        &mut self,
        announcer: &Announcer,
        snapshot: &Snapshot,
        local: SiteId,
        now: Now,
    ) -> Result<(), Broken> {
        self.note_drains(snapshot, local, now);
        let fleet = &snapshot.fleet;
        for anycast in fleet
            .anycast
            .iter()
            .filter(|anycast| anycast.sites.contains(&local))
        {
            let decision = announcer.wanted().prefixes.get(&anycast.prefix);
            let is_announced = decision.is_some_and(|decision| decision.announce);
            self.check_one(anycast, is_announced, snapshot, local, now)?;
            self.announced.insert(anycast.prefix, is_announced);
        }
        self.looked_at = Some(now.now);
        Ok(())
    }

    /// A snapshot is out: what do the conditions say from now on?
    pub fn observe(&mut self, snapshot: &Snapshot, local: SiteId, now: Duration) {
        let fleet = &snapshot.fleet;
        let is_ours = |prefix: &Prefix| {
            let mut all = fleet.anycast.iter();
            all.any(|anycast| anycast.prefix == *prefix && anycast.sites.contains(&local))
        };
        self.says.retain(|prefix, _| is_ours(prefix));
        self.announced.retain(|prefix, _| is_ours(prefix));
        for anycast in fleet
            .anycast
            .iter()
            .filter(|anycast| anycast.sites.contains(&local))
        {
            let (says, touched) = says(anycast, snapshot, local);
            let entry = self.says.entry(anycast.prefix).or_insert((says, touched, now));
            if (entry.0, entry.1) != (says, touched) {
                *entry = (says, touched, now);
            }
        }
    }

    fn check_one(
        &mut self,
        anycast: &Anycast,
        is_announced: bool,
        snapshot: &Snapshot,
        local: SiteId,
        now: Now,
    ) -> Result<(), Broken> {
        let prefix = anycast.prefix;
        let Some((says, touched, since)) = self.says.get(&prefix).copied() else {
            return Err(Rule::Routes.broken(format!("{prefix} was never looked at")));
        };
        let stood = now.now - since;
        let was_announced = self.announced.get(&prefix).copied().unwrap_or(false);
        if is_announced && !snapshot.settled && !was_announced {
            return Err(Rule::Routes.broken(format!("{prefix} is announced before the first round is over")));
        }
        // What said yes at the last look may have been announced since, and said no since.
        let said_so_before = self.looked_at.is_some_and(|at| since <= at);
        if is_announced && !was_announced && says != Says::Yes && said_so_before {
            return Err(
                Rule::Routes.broken(format!("{prefix} is announced, and its conditions say {says:?}"))
            );
        }
        if is_announced && says == Says::No && stood > anycast.fall {
            return Err(Rule::Routes.broken(format!(
                "{prefix} is announced, and its conditions have said no for {stood:?}"
            )));
        }
        let due = anycast.rise + SLACK;
        let is_due = says == Says::Yes && !touched && stood > due && now.age > anycast.hold_down + SLACK;
        if !is_announced && snapshot.settled && is_due {
            return Err(Rule::Routes.broken(format!(
                "{prefix} is not announced, and its conditions have held for {stood:?}"
            )));
        }
        self.check_ladder(anycast, is_announced, &snapshot.fleet, local, now)
    }

    fn check_ladder(
        &self,
        anycast: &Anycast,
        is_announced: bool,
        fleet: &Fleet,
        local: SiteId,
        now: Now,
    ) -> Result<(), Broken> {
        let Some((drain, seen, age_then)) = self
            .drains
            .iter()
            .find(|(drain, ..)| drain.target == Target::Site(local))
        else {
            return Ok(());
        };
        let age = *age_then + (now.now - *seen);
        match ladder(anycast, fleet, local) {
            Some(takes) if is_announced && age > takes + SLACK => Err(Rule::Drain.broken(format!(
                "{} is announced {age:?} after the drain by {} began, and its ladder takes {takes:?}",
                anycast.prefix, drain.author
            ))),
            Some(_) | None => Ok(()),
        }
    }

    fn note_drains(&mut self, snapshot: &Snapshot, local: SiteId, now: Now) {
        let ours = |drain: &&Drain| drain.target == Target::Site(local);
        let stands: Vec<_> = snapshot.drains.iter().filter(ours).collect();
        self.drains
            .retain(|(known, ..)| stands.iter().any(|drain| drain.since == known.since));
        for drain in stands {
            if !self.drains.iter().any(|(known, ..)| known.since == drain.since) {
                let age = Duration::try_from(now.when.at.duration_since(drain.since)).unwrap_or_default();
                self.drains.push((drain.clone(), now.now, age));
            }
        }
    }
}

/// How long a ladder takes until nothing is announced; `None`: it never does that.
fn ladder(anycast: &Anycast, fleet: &Fleet, local: SiteId) -> Option<Duration> {
    let mut takes = Duration::ZERO;
    for step in &anycast.on_drain {
        match step {
            DrainStep::Wait(time) | DrainStep::WaitStreams(time) => takes += *time,
            DrainStep::WaitDnsHorizon => takes = takes.max(horizon(fleet, local)),
            DrainStep::GracefulShutdown | DrainStep::Prepend(_) | DrainStep::Med(_) => {}
            DrainStep::Withdraw => return Some(takes),
        }
    }
    anycast.on_drain.is_empty().then_some(takes)
}

/// The longest TTL of a name with an endpoint here, and five seconds.
fn horizon(fleet: &Fleet, local: SiteId) -> Duration {
    let here = |pool| {
        let members = fleet.members(pool);
        members.iter().any(|id| fleet.endpoint(*id).site == Some(local))
    };
    let ttls = fleet.steers.iter().filter(|steer| here(steer.pool));
    let longest = ttls.map(|steer| steer.ttl.longest()).max();
    longest.map_or(Duration::ZERO, |ttl| ttl + Duration::from_secs(5))
}

/// What the conditions say, and whether something that they are about is drained. These fleets have `pool:NAME@local`
/// alone.
fn says(anycast: &Anycast, snapshot: &Snapshot, local: SiteId) -> (Says, bool) {
    let mut all = (
        Says::Yes,
        snapshot
            .drains
            .iter()
            .any(|drain| drain.target == Target::Site(local)),
    );
    if !snapshot.settled {
        return (Says::Unknown, all.1);
    }
    for condition in &anycast.while_up {
        let Condition::InService(condition) = condition else {
            continue;
        };
        let (mut serves, mut unknown) = (false, false);
        for id in snapshot.endpoints_at(condition.subject, condition.at, Some(local)) {
            let state = snapshot.endpoint(id);
            match (&state.service, state.verdict) {
                (Service::Drained, Verdict::Up) => (serves, all.1) = (true, true),
                (Service::Drained, Verdict::Unknown) => (unknown, all.1) = (true, true),
                (Service::Drained, Verdict::Down) => all.1 = true,
                (Service::In | Service::Held { .. }, Verdict::Up | Verdict::Down) => serves = true,
                (Service::In | Service::Held { .. }, Verdict::Unknown) => unknown = true,
                (Service::Out, _) => {}
            }
        }
        match (serves, unknown) {
            (true, _) => {}
            (false, true) => all.0 = Says::Unknown,
            (false, false) => return (Says::No, all.1),
        }
    }
    all
}
