//! What the conditions of a prefix say, and for how long they have said it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use serde::Serialize;
use steer_health::{Drain, Holds, Snapshot};
use steer_topology::{At, Condition, Fleet, InService, SiteId, Subject};

/// All that a condition can ask for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts<'a> {
    pub(super) snapshot: &'a Snapshot,
    /// Where we run.
    pub(super) local: Option<SiteId>,
    /// The addresses of this host; `None` until the kernel has told them.
    pub(super) addresses: Option<&'a BTreeSet<IpAddr>>,
}

/// One condition of the file and what it says now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ConditionStatus {
    /// As in the file.
    pub condition: String,
    /// Its value.
    pub holds: Holds,
}

/// Whether drained endpoints that are up count: they do for what is announced, and the ladder is for those routes
/// that would fail without them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Drained {
    Counts,
    CountsNot,
}

impl<'a> Facts<'a> {
    /// All of them: one `No` decides; without one, one `Unknown` leaves it open.
    pub(super) fn all_hold(&self, conditions: &[Condition]) -> Holds {
        self.at_least(conditions.len(), conditions, Drained::Counts)
    }

    /// The drain that a prefix steps down by: of our site, or of endpoints without which it would not stand.
    pub(super) fn drain(&self, conditions: &[Condition]) -> Option<&'a Drain> {
        let of_site = self.snapshot.site_drain(self.local);
        of_site.or_else(|| {
            let leans = !self.snapshot.drains.is_empty()
                && self.all_hold(conditions) == Holds::Yes
                && self.at_least(conditions.len(), conditions, Drained::CountsNot) != Holds::Yes;
            leans.then(|| self.first_leant_on(conditions)).flatten()
        })
    }

    /// Each with its value, for people.
    pub(super) fn explain(&self, conditions: &[Condition]) -> Vec<ConditionStatus> {
        let fleet = &self.snapshot.fleet;
        let one = |condition| ConditionStatus {
            condition: spoken(fleet, condition),
            holds: self.holds(condition, Drained::Counts),
        };
        conditions.iter().map(one).collect()
    }

    /// Three-valued logic: what is unknown is told only where it decides.
    fn holds(&self, condition: &Condition, drained: Drained) -> Holds {
        match condition {
            Condition::InService(condition) => {
                let leans = || self.snapshot.leans_on(condition, self.local).is_some();
                if drained == Drained::CountsNot && leans() {
                    Holds::No
                } else {
                    self.snapshot.holds(condition, self.local)
                }
            }
            Condition::Address(address) => match self.addresses.map(|all| all.contains(address)) {
                Some(true) => Holds::Yes,
                Some(false) => Holds::No,
                None => Holds::Unknown,
            },
            Condition::All(all) => self.at_least(all.len(), all, drained),
            Condition::Any(any) => self.at_least(1, any, drained),
            Condition::AtLeast { count, of } => self.at_least(usize::from(count.get()), of, drained),
            Condition::Not(one) => match self.holds(one, drained) {
                Holds::Yes => Holds::No,
                Holds::No => Holds::Yes,
                Holds::Unknown => Holds::Unknown,
            },
        }
    }

    fn at_least(&self, count: usize, of: &[Condition], drained: Drained) -> Holds {
        let (mut yes, mut unknown) = (0, 0);
        for condition in of {
            match self.holds(condition, drained) {
                Holds::Yes => yes += 1,
                Holds::Unknown => unknown += 1,
                Holds::No => {}
            }
        }
        match (yes >= count, yes + unknown >= count) {
            (true, _) => Holds::Yes,
            (false, true) => Holds::Unknown,
            (false, false) => Holds::No,
        }
    }

    fn first_leant_on(&self, conditions: &[Condition]) -> Option<&'a Drain> {
        conditions.iter().find_map(|condition| match condition {
            Condition::InService(condition) => self.snapshot.leans_on(condition, self.local),
            Condition::Address(_) => None,
            Condition::All(of) | Condition::Any(of) | Condition::AtLeast { of, .. } => {
                self.first_leant_on(of)
            }
            Condition::Not(one) => self.first_leant_on(std::slice::from_ref(one)),
        })
    }
}

/// Whether one of them asks for an address of the host.
pub(super) fn ask_for_address(conditions: &[Condition]) -> bool {
    conditions.iter().any(|condition| match condition {
        Condition::InService(_) => false,
        Condition::Address(_) => true,
        Condition::All(of) | Condition::Any(of) | Condition::AtLeast { of, .. } => ask_for_address(of),
        Condition::Not(one) => ask_for_address(std::slice::from_ref(one)),
    })
}

/// A condition as the file has it.
fn spoken(fleet: &Fleet, condition: &Condition) -> String {
    let join = |all: &[Condition], word: &str| {
        let parts: Vec<String> = all.iter().map(|one| spoken_inner(fleet, one)).collect();
        parts.join(word)
    };
    match condition {
        Condition::InService(condition) => spoken_in_service(fleet, condition),
        Condition::Address(address) => format!("address:{address}"),
        Condition::All(all) => join(all, " and "),
        Condition::Any(any) => join(any, " or "),
        Condition::Not(one) => format!("not {}", spoken_inner(fleet, one)),
        Condition::AtLeast { count, of } => format!("{count} of ({})", join(of, ", ")),
    }
}

/// In brackets where it stands within another one and is made of several.
fn spoken_inner(fleet: &Fleet, condition: &Condition) -> String {
    let text = spoken(fleet, condition);
    match condition {
        Condition::All(_) | Condition::Any(_) => format!("({text})"),
        Condition::InService(_) | Condition::Address(_) | Condition::Not(_) | Condition::AtLeast { .. } => {
            text
        }
    }
}

fn spoken_in_service(fleet: &Fleet, condition: &InService) -> String {
    let at_least = condition.at_least.get();
    let count = if at_least > 1 {
        format!("{at_least} of ")
    } else {
        String::new()
    };
    let subject = match condition.subject {
        Subject::Pool(pool) => format!("pool:{}", fleet.pool(pool).name),
        Subject::Check(check) => format!("check:{}", fleet.check(check).name),
    };
    let place = match condition.at {
        At::Anywhere => String::new(),
        At::Local => "@local".to_owned(),
        At::Site(site) => format!("@{}", fleet.site(site).name),
    };
    format!("{count}{subject}{place}")
}

/// A value and since when it stands. `Unknown` is neither holding nor failing: it breaks both times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Steady {
    value: Holds,
    since: Instant,
}

impl Steady {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            value: Holds::Unknown,
            since: now,
        }
    }

    pub(super) fn observe(&mut self, value: Holds, now: Instant) {
        if self.value != value {
            *self = Self { value, since: now };
        }
    }

    pub(super) fn value(&self) -> Holds {
        self.value
    }

    /// When the value will have stood for `time`.
    pub(super) fn stands_at(&self, time: Duration) -> Instant {
        self.since + time
    }
}
