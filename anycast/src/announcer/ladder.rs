//! The drain ladder of one prefix: which step it is on, what that changes, when the next one comes.
//!
//! The position is computed from the beginning of the drain, so that a restart finds it again, and an undrain has
//! nothing to take back. Waits add up: each begins where the one before ends. A wait for DNS ends when answers
//! from before the drain are out of the caches, whatever was waited for since. A wait for streams ends with the
//! first count of zero; what a restart finds without streams was without them from the start of that step on.

use std::time::{Duration, Instant};

use jiff::Timestamp;
use serde::Serialize;
use steer_health::Drain;
use steer_topology::{AllDown, Community, DrainStep, Fleet, Policy, SiteId};

use super::Moment;

/// Beyond the longest TTL: caches count whole seconds, and the last answer takes its time to get there.
pub const DNS_SLACK: Duration = Duration::from_secs(5);

/// A drain that this prefix goes down by.
#[derive(Debug, Clone)]
pub(super) struct Ladder {
    pub(super) drain: Drain,
    /// Our clock when we first saw it, and how old it was by then: from there on only our clock counts.
    seen: Instant,
    age_then: Duration,
    /// By step: the age at which a wait for streams ended.
    ended: Vec<Option<Duration>>,
    /// The newest count.
    pub(super) streams: Option<u64>,
}

/// Where a prefix stands on its ladder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Position {
    /// Index of the step that is current; as many as there are steps when all are done.
    pub(super) step: usize,
    /// What the steps so far add to the attributes.
    pub(super) policy: Policy,
    /// The bottom: not announced any more.
    pub(super) withdrawn: bool,
    /// The age at which the current step began.
    began: Duration,
    /// The age at which the next step comes, by the clock alone.
    ends: Option<Duration>,
}

/// A drain in progress, for people.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DrainStatus {
    /// Why, in the operator's words.
    pub reason: String,
    /// Who asked for it.
    pub author: String,
    /// When it began.
    pub since: Timestamp,
    /// When it ends by itself.
    pub until: Option<Timestamp>,
    /// The current step, counted from 1; 0 without steps: withdrawn at once.
    pub step: usize,
    /// How many steps there are.
    pub steps: usize,
    /// The current step as the file has it.
    pub doing: String,
    /// When the next step comes at the latest.
    pub next_at: Option<Timestamp>,
    /// TCP connections to the service address that are left; known while they are waited for.
    pub streams: Option<u64>,
}

impl Ladder {
    pub(super) fn new(drain: Drain, moment: Moment) -> Self {
        let age = moment.at.duration_since(drain.since);
        Self {
            drain,
            seen: moment.now,
            age_then: Duration::try_from(age).unwrap_or_default(), // begun in the future: by another clock
            ended: Vec::new(),
            streams: None,
        }
    }

    fn age(&self, now: Instant) -> Duration {
        self.age_then + now.saturating_duration_since(self.seen)
    }

    /// Where `steps` have led by `now`; `horizon`: how long answers from before the drain are cached.
    pub(super) fn position(&self, steps: &[DrainStep], horizon: Duration, now: Instant) -> Position {
        let age = self.age(now);
        let mut at = Position {
            step: 0,
            policy: Policy::default(),
            withdrawn: steps.is_empty(),
            began: Duration::ZERO,
            ends: None,
        };
        for step in steps {
            let end = match step {
                DrainStep::GracefulShutdown => {
                    at.add(|policy| policy.communities.push(Community::GRACEFUL_SHUTDOWN));
                    continue;
                }
                DrainStep::Prepend(times) => {
                    at.add(|policy| policy.prepend = policy.prepend.saturating_add(*times));
                    continue;
                }
                DrainStep::Med(med) => {
                    at.add(|policy| policy.med = Some(*med));
                    continue;
                }
                DrainStep::Wait(time) => at.began.saturating_add(*time),
                DrainStep::WaitDnsHorizon => at.began.max(horizon),
                DrainStep::WaitStreams(most) => {
                    let ended = self.ended.get(at.step).copied().flatten();
                    ended.unwrap_or(at.began.saturating_add(*most))
                }
                DrainStep::Withdraw => {
                    at.withdrawn = true;
                    return at;
                }
            };
            if age < end {
                at.ends = Some(end);
                return at;
            }
            at.began = end;
            at.step += 1;
        }
        at
    }

    /// A count of the streams; `alive`: the route is announced, so that those streams may just have ended.
    pub(super) fn count(&mut self, (step, began): (usize, Duration), count: u64, alive: bool, now: Instant) {
        let known_before = self.streams.replace(count).is_some();
        if count > 0 {
            return;
        }
        if self.ended.len() <= step {
            self.ended.resize(step + 1, None);
        }
        let ended = if alive || known_before {
            self.age(now)
        } else {
            began
        };
        self.ended[step].get_or_insert(ended);
    }

    pub(super) fn at_age(&self, age: Duration) -> Option<Instant> {
        self.seen.checked_add(age.saturating_sub(self.age_then))
    }

    pub(super) fn status(&self, steps: &[DrainStep], at: &Position, moment: Moment) -> DrainStatus {
        let next = at.ends.and_then(|age| self.at_age(age));
        DrainStatus {
            reason: self.drain.reason.clone(),
            author: self.drain.author.clone(),
            since: self.drain.since,
            until: self.drain.until,
            step: (at.step + 1).min(steps.len()),
            steps: steps.len(),
            doing: doing(steps, at.step),
            next_at: next.map(|next| moment.at_instant(next)),
            streams: self.streams.filter(|_| at.waits_for_streams(steps)),
        }
    }
}

impl Position {
    fn add(&mut self, change: impl FnOnce(&mut Policy)) {
        change(&mut self.policy);
        self.step += 1;
    }

    /// The step, and when it began, if it waits for streams.
    pub(super) fn stream_step(&self, steps: &[DrainStep]) -> Option<(usize, Duration)> {
        self.waits_for_streams(steps).then_some((self.step, self.began))
    }

    pub(super) fn waits_for_streams(&self, steps: &[DrainStep]) -> bool {
        matches!(steps.get(self.step), Some(DrainStep::WaitStreams(_)))
    }

    /// When the next step comes.
    pub(super) fn next_deadline(&self, ladder: &Ladder) -> Option<Instant> {
        self.ends.and_then(|age| ladder.at_age(age))
    }
}

/// How long answers that name an endpoint of `site` may be cached after the last of them; zero when none is named.
pub(super) fn dns_horizon(fleet: &Fleet, site: Option<SiteId>) -> Duration {
    let here = |pool| {
        let mut endpoints = fleet.members(pool).into_iter();
        endpoints.any(|id| fleet.endpoint(id).site == site)
    };
    let fallback = |rule| match rule {
        AllDown::Pool(pool) => here(pool),
        AllDown::ServeAll | AllDown::ServeLastGood | AllDown::Nodata | AllDown::Servfail => false,
    };
    let ttls = fleet
        .steers
        .iter()
        .filter(|steer| here(steer.pool) || fallback(steer.if_all_down))
        .map(|steer| steer.ttl.longest());
    ttls.max().map_or(Duration::ZERO, |ttl| ttl + DNS_SLACK)
}

/// The step at `index`, or the last one when all are done.
pub(super) fn doing(steps: &[DrainStep], index: usize) -> String {
    let step = steps.get(index).or(steps.last());
    step.map_or_else(|| "withdraw".to_owned(), spoken) // no steps: at once
}

/// A step as the file has it.
fn spoken(step: &DrainStep) -> String {
    match step {
        DrainStep::GracefulShutdown => "graceful-shutdown".to_owned(),
        DrainStep::Prepend(times) => format!("prepend {times}"),
        DrainStep::Med(med) => format!("med {med}"),
        DrainStep::Wait(time) => format!("wait {time:?}"),
        DrainStep::WaitDnsHorizon => "wait dns-horizon".to_owned(),
        DrainStep::WaitStreams(most) => format!("wait streams {most:?}"),
        DrainStep::Withdraw => "withdraw".to_owned(),
    }
}
