//! One prefix: what it waits for, where it stands, what it wants of the peers and of the kernel.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_health::{Drain, Holds};
use steer_topology::{Anycast, Bind, Community, FlapBudget, Lease, OnExpiry, Policy, Prefix, ToPeer};

use super::conditions::{Facts, Steady};
use super::flaps::Flaps;
use super::ladder::{self, Ladder, Position};
use super::lease::{RequestError, Tenancy};
use super::output::{Change, Output, Outputs, What, Why};
use super::table::{Effect, State, Trigger, step};
use super::{Moment, RETRY};
use crate::wanted::Decision;

/// What holds for all prefixes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Common {
    /// Number of the newest snapshot.
    pub(super) snapshot: u64,
    /// Start of the process.
    pub(super) started: Instant,
    /// How long answers of DNS that name this site stay in caches.
    pub(super) horizon: Duration,
    /// How long an address outlives the withdrawal.
    pub(super) linger: Duration,
    /// The orderly end.
    pub(super) stopping: bool,
}

/// All prefixes at one moment.
#[derive(Debug)]
pub(super) struct Context<'a> {
    pub(super) moment: Moment,
    pub(super) common: Common,
    pub(super) outputs: &'a mut Outputs,
    /// Those whose decisions changed.
    pub(super) changed: &'a mut Vec<Prefix>,
}

/// What becomes of a prefix whose configuration changed.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Plan {
    Stay,
    /// Its address changed: all of the old one must be gone first.
    Become(Box<Anycast>),
    /// It is no longer ours to announce.
    Retire,
}

/// What a prefix shall do now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wish {
    Announce,
    /// What stands stays.
    Keep(Wait),
    Withdraw(Why),
}

/// What a prefix waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wait {
    /// A condition is not decided.
    Unknown,
    HoldDown(Instant),
    Rise(Instant),
    /// Announced, and its conditions fail, but not for long enough.
    Fall(Instant),
    Flaps(Instant),
    /// A restart in the middle of a drain: the streams that are left decide which step is current.
    Streams,
}

/// One prefix of this site.
#[derive(Debug)]
pub(super) struct Route {
    pub(super) config: Anycast,
    plan: Plan,
    pub(super) state: State,
    /// Since when it is in this state.
    pub(super) since: Timestamp,
    pub(super) steady: Steady,
    pub(super) flaps: Flaps,
    pub(super) tenancy: Tenancy,
    pub(super) ladder: Option<Ladder>,
    /// Of lingering, or of the next try.
    timer: Option<Instant>,
    /// Why the kernel did not do what we asked.
    pub(super) trouble: Option<String>,
    /// Why it is not announced.
    pub(super) why: Option<Why>,
    pub(super) wait: Option<Wait>,
    /// What drain and lease add to the attributes.
    extra: Policy,
    /// The file may have other attributes now.
    reshape: bool,
    /// The step of the ladder that was told last.
    told: Option<usize>,
    pub(super) decision: Decision,
    /// Waits for nothing: neither time nor an answer will change it, only news.
    pub(super) quiet: bool,
}

impl Route {
    /// `policy`: that of `config`, shared by all prefixes that have the same.
    pub(super) fn new(config: Anycast, policy: Arc<Policy>, moment: Moment) -> Self {
        Self {
            decision: Decision {
                next_hop: config.next_hop,
                policy,
                to: config.to.clone(),
                ..Decision::default()
            },
            config,
            plan: Plan::Stay,
            state: State::Withdrawn,
            since: moment.at,
            steady: Steady::new(moment.now),
            flaps: Flaps::default(),
            tenancy: Tenancy::Vacant,
            ladder: None,
            timer: None,
            trouble: None,
            why: None,
            wait: None,
            extra: Policy::default(),
            reshape: false,
            told: None,
            quiet: false,
        }
    }

    pub(super) fn bind(&self) -> Option<&Bind> {
        self.config.bind.as_ref()
    }

    /// The configuration says something else now; `None`: it no longer has this prefix.
    pub(super) fn reconfigure(&mut self, config: Option<Anycast>) {
        self.quiet = false;
        self.plan = match config {
            None => Plan::Retire,
            Some(config) if config.bind == self.config.bind || self.state.is_clear() => {
                self.adopt_config(config);
                Plan::Stay
            }
            Some(config) => Plan::Become(Box::new(config)),
        };
    }

    fn adopt_config(&mut self, config: Anycast) {
        self.reshape = true;
        if config.lease.is_none() {
            self.tenancy = Tenancy::Vacant;
        }
        self.config = config;
    }

    /// Whether nothing is left to do for a prefix that is no longer ours.
    pub(super) fn is_over(&self) -> bool {
        self.plan == Plan::Retire && self.state.is_clear()
    }

    /// Whether it will be announced in a moment unless something happens.
    pub(super) fn is_starting(&self) -> bool {
        let waits = match self.wait {
            Some(Wait::HoldDown(_) | Wait::Rise(_) | Wait::Streams) => true,
            Some(Wait::Unknown | Wait::Fall(_) | Wait::Flaps(_)) | None => false,
        };
        waits || self.state == State::Binding
    }

    /// Whether that is news.
    pub(super) fn observe(&mut self, facts: &Facts, moment: Moment) -> bool {
        let value = facts.all_hold(&self.config.while_up);
        let drain = facts.drain(&self.config.while_up);
        if value == self.steady.value() && drain.is_none() && self.ladder.is_none() {
            return false;
        }
        self.steady.observe(value, moment.now);
        self.observe_drain(drain, moment);
        true
    }

    fn observe_drain(&mut self, drain: Option<&Drain>, moment: Moment) {
        let Some(drain) = drain else {
            self.ladder = None;
            return;
        };
        match &mut self.ladder {
            Some(ladder) if ladder.drain.since == drain.since => ladder.drain.clone_from(drain),
            other => *other = Some(Ladder::new(drain.clone(), moment)),
        }
    }

    pub(super) fn position(&self, horizon: Duration, now: Instant) -> Option<Position> {
        let ladder = self.ladder.as_ref()?;
        Some(ladder.position(&self.config.on_drain, horizon, now))
    }

    /// Whether the streams to its address are to be counted.
    pub(super) fn counts_streams(&self, horizon: Duration, now: Instant) -> bool {
        let position = self.position(horizon, now);
        position.is_some_and(|position| position.waits_for_streams(&self.config.on_drain))
    }

    pub(super) fn on_streams(&mut self, count: u64, context: &mut Context) {
        let now = context.moment.now;
        let position = self.position(context.common.horizon, now);
        let step = position.and_then(|position| position.stream_step(&self.config.on_drain));
        if let (Some(step), Some(ladder)) = (step, &mut self.ladder) {
            ladder.count(step, count, self.state == State::Announced, now);
        }
        self.settle(context);
    }

    /// News of the kernel or of the sessions.
    pub(super) fn on_news(&mut self, trigger: Trigger, trouble: Option<String>, context: &mut Context) {
        if trouble.is_some() && trouble != self.trouble {
            self.note(What::Trouble(trouble.clone().unwrap_or_default()), context);
            self.trouble = trouble;
        }
        self.fire(trigger, Why::AddressGone, context);
        self.settle(context);
    }

    pub(super) fn on_lease<T>(
        &mut self,
        ask: impl FnOnce(&mut Tenancy, &Lease) -> Result<T, RequestError>,
        context: &mut Context,
    ) -> Result<T, RequestError> {
        let lease = self.config.lease.as_ref();
        let lease = lease.ok_or(RequestError::NotLeased(self.config.prefix))?;
        let granted = ask(&mut self.tenancy, lease)?;
        self.settle(context);
        Ok(granted)
    }

    pub(super) fn next_deadline(&self, horizon: Duration, now: Instant) -> Option<Instant> {
        let step = self
            .ladder
            .as_ref()
            .and_then(|ladder| self.position(horizon, now)?.next_deadline(ladder));
        let wait = self.wait.and_then(Wait::until);
        let lease = self.config.lease.as_ref().and(self.tenancy.next_deadline());
        [self.timer, step, wait, lease].into_iter().flatten().min()
    }

    /// Does what the time and the news ask for, until nothing is left to do.
    pub(super) fn settle(&mut self, context: &mut Context) {
        let moment = context.moment;
        if self.timer.is_some_and(|timer| timer <= moment.now) {
            self.fire(Trigger::Due, Why::AddressGone, context);
        }
        self.expire_lease(context);
        let position = loop {
            self.become_when_clear();
            let position = self.position(context.common.horizon, moment.now);
            let wish = self.wish(position.as_ref(), context);
            let before = self.state;
            match wish {
                Wish::Announce => self.fire(Trigger::Want, Why::Conditions, context),
                Wish::Withdraw(why) => self.fire(Trigger::Unwant, why, context),
                Wish::Keep(_) => {}
            }
            if self.state == before {
                self.note_wish(wish, context);
                break position;
            }
        };
        self.note_step(position.as_ref(), context);
        self.decide(position, context);
        self.quiet = self.waits_for_nothing();
    }

    fn waits_for_nothing(&self) -> bool {
        let stands = match self.state {
            State::Withdrawn | State::Announced => true,
            State::Binding
            | State::BindFailed
            | State::Bound
            | State::Withdrawing
            | State::Lingering
            | State::Unbinding
            | State::UnbindFailed => false,
        };
        let leased = matches!(self.tenancy, Tenancy::Live { .. });
        stands && !leased && self.wait.is_none() && self.ladder.is_none() && self.plan == Plan::Stay
    }

    fn become_when_clear(&mut self) {
        let plan = std::mem::replace(&mut self.plan, Plan::Stay);
        match plan {
            Plan::Become(config) if self.state.is_clear() => self.adopt_config(*config),
            Plan::Become(_) | Plan::Retire | Plan::Stay => self.plan = plan,
        }
    }

    fn expire_lease(&mut self, context: &mut Context) {
        let Some(lease) = &self.config.lease else { return };
        if let Some(owner) = self.tenancy.expire(lease, context.moment) {
            let then = lease.on_expiry;
            self.note(What::LeaseExpired { owner, then }, context);
        }
    }

    fn wish(&self, position: Option<&Position>, context: &Context) -> Wish {
        if let Some(why) = self.forbidden(position, context) {
            return Wish::Withdraw(why);
        }
        let (now, announced) = (context.moment.now, self.state == State::Announced);
        match self.steady.value() {
            Holds::Unknown => Wish::Keep(Wait::Unknown),
            Holds::No => {
                let fallen = self.steady.stands_at(self.config.fall);
                // A drain is no time for patience: its traffic has somewhere else to go.
                if announced && fallen > now && position.is_none() {
                    Wish::Keep(Wait::Fall(fallen))
                } else {
                    Wish::Withdraw(Why::Conditions)
                }
            }
            Holds::Yes if announced => Wish::Announce,
            Holds::Yes if self.must_count_first(position) => Wish::Keep(Wait::Streams),
            Holds::Yes => self.held(context).map_or(Wish::Announce, Wish::Keep),
        }
    }

    fn must_count_first(&self, position: Option<&Position>) -> bool {
        let waits = position.is_some_and(|position| position.waits_for_streams(&self.config.on_drain));
        waits
            && self
                .ladder
                .as_ref()
                .is_some_and(|ladder| ladder.streams.is_none())
    }

    /// What no condition can outweigh.
    fn forbidden(&self, position: Option<&Position>, context: &Context) -> Option<Why> {
        if context.common.stopping {
            return Some(Why::Stopping);
        }
        match self.plan {
            Plan::Stay => {}
            Plan::Become(_) => return Some(Why::Reconfigured),
            Plan::Retire => return Some(Why::Unconfigured),
        }
        if self.config.lease.is_some() && self.tenancy == Tenancy::Vacant {
            return Some(Why::NoLease);
        }
        position
            .filter(|position| position.withdrawn)
            .map(|_| Why::Drained)
    }

    /// What delays an announcement that all conditions allow; the longest of it.
    fn held(&self, context: &Context) -> Option<Wait> {
        let now = context.moment.now;
        let budget = self.config.flap_budget.as_ref();
        let free = budget.and_then(|budget| self.flaps.free_at(budget, now));
        let waits = [
            Some(Wait::HoldDown(context.common.started + self.config.hold_down)),
            Some(Wait::Rise(self.steady.stands_at(self.config.rise))),
            free.map(Wait::Flaps),
        ];
        let waits = waits.into_iter().flatten();
        let longest = waits.max_by_key(|wait| wait.until())?;
        (longest.until() > Some(now)).then_some(longest)
    }

    fn note_wish(&mut self, wish: Wish, context: &mut Context) {
        let (why, wait) = match wish {
            Wish::Announce => (None, None),
            Wish::Keep(wait) => (self.why, Some(wait)),
            Wish::Withdraw(why) => (Some(why), None),
        };
        let newly_held = match (self.wait, wait) {
            (Some(Wait::Flaps(_)), Some(Wait::Flaps(_))) => None,
            (_, Some(Wait::Flaps(until))) => Some(until),
            (_, Some(Wait::Unknown | Wait::HoldDown(_) | Wait::Rise(_) | Wait::Fall(_) | Wait::Streams)) => {
                None
            }
            (_, None) => None,
        };
        (self.why, self.wait) = (why, wait);
        if let (Some(until), Some(budget)) = (newly_held, &self.config.flap_budget) {
            let what = What::Held {
                until: context.moment.at_instant(until),
                figure: self.flaps.figure(budget, context.moment.now),
            };
            self.note(what, context);
        }
    }

    fn fire(&mut self, trigger: Trigger, why: Why, context: &mut Context) {
        let (next, effects) = step(self.state, trigger, self.config.bind.is_some());
        if next != self.state {
            (self.state, self.since) = (next, context.moment.at);
        }
        for effect in effects {
            self.apply(*effect, why, context);
        }
        if trigger != Trigger::Due && !self.is_in_trouble() {
            self.trouble = None; // kept until the next try ends
        }
    }

    fn is_in_trouble(&self) -> bool {
        match self.state {
            State::Binding | State::BindFailed | State::Unbinding | State::UnbindFailed => true,
            State::Withdrawn | State::Bound | State::Announced | State::Withdrawing | State::Lingering => {
                false
            }
        }
    }

    fn apply(&mut self, effect: Effect, why: Why, context: &mut Context) {
        let Moment { now, .. } = context.moment;
        let prefix = self.config.prefix;
        match effect {
            Effect::Bind => {
                let bind = self.config.bind.iter().cloned();
                context
                    .outputs
                    .extend(bind.map(|bind| Output::Bind(prefix, bind)));
            }
            Effect::Unbind => {
                let bind = self.config.bind.iter().cloned();
                context
                    .outputs
                    .extend(bind.map(|bind| Output::Unbind(prefix, bind)));
            }
            Effect::Announce => {
                self.count_flap(Flaps::announced, now);
                self.note(What::Announced, context);
            }
            Effect::Withdraw => {
                self.count_flap(Flaps::withdrawn, now);
                self.why = Some(why);
                self.note(What::Withdrawn(why), context);
            }
            Effect::ArmLinger => self.timer = Some(now + context.common.linger),
            Effect::ArmRetry => self.timer = Some(now + RETRY),
            Effect::ClearTimer => self.timer = None,
        }
    }

    fn count_flap(&mut self, count: fn(&mut Flaps, &FlapBudget, Instant), now: Instant) {
        if let Some(budget) = &self.config.flap_budget {
            count(&mut self.flaps, budget, now);
        }
    }

    /// Brings the decision up to date with the state, the ladder and the lease.
    fn decide(&mut self, position: Option<Position>, context: &mut Context) {
        let mut extra = position.map_or_else(Policy::default, |position| position.policy);
        let on_expiry = self.config.lease.as_ref().map(|lease| lease.on_expiry);
        if matches!(self.tenancy, Tenancy::Expired { .. })
            && on_expiry == Some(OnExpiry::Deprefer)
            && !extra.communities.contains(&Community::GRACEFUL_SHUTDOWN)
        {
            extra.communities.push(Community::GRACEFUL_SHUTDOWN);
        }
        let mut policy = Arc::clone(&self.decision.policy); // the same `Arc`, so that peers see at a glance
        if std::mem::take(&mut self.reshape) || extra != self.extra {
            policy = Arc::new(extra.over(&self.config.policy));
            self.extra = extra;
        }
        let next = Decision {
            announce: self.state == State::Announced,
            next_hop: self.config.next_hop,
            policy,
            to: self.to_peers(),
            by: self.decision.by,
        };
        if next != self.decision {
            context.changed.push(self.config.prefix);
            self.decision = Decision {
                by: context.common.snapshot,
                ..next
            };
        }
    }

    /// A peer's own MED would outdo the drain's.
    fn to_peers(&self) -> Vec<ToPeer> {
        let mut to = self.config.to.clone();
        if let Some(med) = self.extra.med {
            for peer in to.iter_mut().filter(|peer| peer.policy.med.is_some()) {
                peer.policy.med = Some(med);
            }
        }
        to
    }

    fn note_step(&mut self, position: Option<&Position>, context: &mut Context) {
        let steps = &self.config.on_drain;
        let step = position.map(|position| position.step);
        if step == self.told {
            return;
        }
        self.told = step;
        let what = match step {
            None => What::Undrained,
            Some(step) => What::Step {
                step: (step + 1).min(steps.len()),
                of: steps.len(),
                doing: ladder::doing(steps, step),
            },
        };
        self.note(what, context);
    }

    fn note(&self, what: What, context: &mut Context) {
        context.outputs.push_back(Output::Changed(Change {
            prefix: self.config.prefix,
            snapshot: context.common.snapshot,
            what,
        }));
    }

    /// The address whose streams a drain waits for; `None`: any within the prefix.
    pub(super) fn service_address(&self) -> Option<IpAddr> {
        self.bind().map(|bind| bind.address)
    }
}

impl Wait {
    /// Until when, where the clock decides.
    pub(super) fn until(self) -> Option<Instant> {
        match self {
            Self::Unknown | Self::Streams => None,
            Self::HoldDown(until) | Self::Rise(until) | Self::Fall(until) | Self::Flaps(until) => Some(until),
        }
    }
}
