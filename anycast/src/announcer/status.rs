//! What the announcer is doing with each prefix, for people and machines.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;
use steer_health::Holds;
use steer_topology::{FlapBudget, Policy, Prefix};

use super::Moment;
use super::conditions::{ConditionStatus, Facts};
use super::ladder::DrainStatus;
use super::lease::Tenancy;
use super::route::{Route, Wait};
use super::table::State;

/// One prefix at one moment.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PrefixStatus {
    /// The prefix.
    pub prefix: Prefix,
    /// What stands.
    pub state: State,
    /// Since when it is in this state.
    pub since: Timestamp,
    /// The snapshot that brought the decision.
    pub snapshot: u64,
    /// Why it is not announced, or not yet withdrawn; absent when nothing is out of the ordinary.
    pub reason: Option<String>,
    /// Whether it is on its way up or not decided yet: what it was before the start may still be what it will be.
    #[serde(skip)]
    pub is_undecided: bool,
    /// When the clock alone will change that.
    pub held_until: Option<Timestamp>,
    /// All conditions together.
    pub holds: Holds,
    /// Each of them.
    pub conditions: Vec<ConditionStatus>,
    /// Attributes for every peer, as they are now.
    pub policy: Arc<Policy>,
    /// The drain that it steps down by.
    pub drain: Option<DrainStatus>,
    /// What the peers' damping is assumed to think; absent without a budget.
    pub flaps: Option<FlapStatus>,
    /// Absent where the prefix takes no lease.
    pub lease: Option<LeaseStatus>,
    /// Absent where the prefix has no service address of ours.
    pub bind: Option<BindStatus>,
}

/// A flap budget.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlapStatus {
    /// The figure of merit now.
    pub figure: f64,
    /// What the next withdrawal adds.
    pub penalty: u32,
    /// Where the peers suppress the prefix.
    pub suppress: u32,
    /// No announcement before that.
    pub held_until: Option<Timestamp>,
}

/// A lease.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct LeaseStatus {
    /// Who holds it, or held it last; absent: nobody.
    pub owner: Option<String>,
    /// Until when.
    pub until: Option<Timestamp>,
    /// Nobody renewed it, and the configuration lets the route stay.
    pub expired: bool,
}

/// A service address.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BindStatus {
    /// The address.
    pub address: IpAddr,
    /// Where.
    pub interface: String,
    /// It is there.
    pub bound: bool,
    /// Why the kernel would not.
    pub error: Option<String>,
}

impl PrefixStatus {
    pub(super) fn of(route: &Route, facts: Option<&Facts>, horizon: Duration, moment: Moment) -> Self {
        let config = &route.config;
        let position = route.position(horizon, moment.now);
        let drain = route.ladder.as_ref().zip(position);
        Self {
            prefix: config.prefix,
            state: route.state,
            since: route.since,
            snapshot: route.decision.by,
            reason: reason(route),
            is_undecided: is_undecided(route),
            held_until: held_until(route, moment),
            holds: route.steady.value(),
            conditions: facts.map_or_else(Vec::new, |facts| facts.explain(&config.while_up)),
            policy: Arc::clone(&route.decision.policy),
            drain: drain.map(|(ladder, position)| ladder.status(&config.on_drain, &position, moment)),
            flaps: config
                .flap_budget
                .as_ref()
                .map(|budget| flap_status(route, budget, moment)),
            lease: config.lease.as_ref().map(|_| lease_status(&route.tenancy)),
            bind: route.bind().map(|bind| BindStatus {
                address: bind.address,
                interface: bind.interface.clone(),
                bound: route.state.is_bound(),
                error: route.trouble.clone(),
            }),
        }
    }
}

fn reason(route: &Route) -> Option<String> {
    if let Some(error) = &route.trouble {
        return Some(error.clone());
    }
    match (route.state, route.wait) {
        (State::Announced, Some(Wait::Fall(_))) => {
            Some("its conditions fail, but not long enough".to_owned())
        }
        (State::Announced, _) => None,
        (_, Some(wait)) => Some(wait.to_string()),
        (_, None) => route.why.map(|why| why.to_string()),
    }
}

fn is_undecided(route: &Route) -> bool {
    let waits = match route.wait {
        Some(Wait::Unknown | Wait::HoldDown(_) | Wait::Rise(_) | Wait::Streams) => true,
        Some(Wait::Fall(_) | Wait::Flaps(_)) | None => false,
    };
    let is_coming = match route.state {
        State::Binding | State::Bound => true,
        State::Withdrawn
        | State::BindFailed
        | State::Announced
        | State::Withdrawing
        | State::Lingering
        | State::Unbinding
        | State::UnbindFailed => false,
    };
    waits || is_coming
}

fn held_until(route: &Route, moment: Moment) -> Option<Timestamp> {
    let until = route.wait.and_then(Wait::until)?;
    Some(moment.at_instant(until))
}

fn flap_status(route: &Route, budget: &FlapBudget, moment: Moment) -> FlapStatus {
    let held = match route.wait {
        Some(Wait::Flaps(until)) => Some(moment.at_instant(until)),
        _ => None,
    };
    FlapStatus {
        figure: route.flaps.figure(budget, moment.now),
        penalty: budget.penalty,
        suppress: budget.suppress,
        held_until: held,
    }
}

fn lease_status(tenancy: &Tenancy) -> LeaseStatus {
    let (owner, until, expired) = match tenancy {
        Tenancy::Vacant => (None, None, false),
        Tenancy::Live { owner, until_at, .. } => (Some(owner.clone()), Some(*until_at), false),
        Tenancy::Expired { owner, at } => (Some(owner.clone()), Some(*at), true),
    };
    LeaseStatus {
        owner,
        until,
        expired,
    }
}

impl std::fmt::Display for Wait {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Unknown => "its conditions are not decided yet",
            Self::HoldDown(_) => "hold-down after the start",
            Self::Rise(_) => "its conditions hold, but not long enough",
            Self::Fall(_) => "its conditions fail, but not long enough",
            Self::Flaps(_) => "flap budget spent",
            Self::Streams => "the streams that a drain waits for are not counted yet",
        })
    }
}
