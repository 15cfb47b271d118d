//! The comparison.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::Timestamp;
use steer_topology::{EndpointId, EventKind};

use super::{Event, Fact, Facts, Key, Place, RouteState};
use crate::operator::Target;
use crate::snapshot::{Service, Snapshot, Verdict};
use crate::store::{StoredDrain, StoredForce};

/// What a prefix is at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RoutePicture {
    /// The prefix and its site: `192.0.2.53/32@fra`.
    pub name: String,
    /// Where it stands and why; absent while it is on its way: what was told stays.
    pub stands: Option<(RouteState, Option<String>)>,
    /// The snapshot that brought it, and since when it is so.
    pub by: Moment,
}

/// A snapshot and a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Moment {
    /// Its number.
    pub snapshot: u64,
    /// When.
    pub at: Timestamp,
}

/// What there is to tell after `after`, when `told` is what was told so far.
///
/// `before` is the snapshot that was compared last. With it the comparison costs what has changed since, as long as the
/// fleet is the same; without it, everything.
#[must_use]
pub fn events(told: &Facts, before: Option<&Snapshot>, after: &Snapshot) -> Vec<Event> {
    if !after.settled {
        return Vec::new();
    }
    let mut comparison = Comparison {
        told,
        events: Vec::new(),
    };
    let same = before.filter(|before| before.settled && Arc::ptr_eq(&before.fleet, &after.fleet));
    match same {
        Some(before) => {
            for id in after.changed_since(before) {
                comparison.endpoint(after, id);
            }
        }
        None => comparison.all_endpoints(after),
    }
    comparison.wishes(after);
    comparison.events
}

/// The same for the prefixes that this process announces; `now` is all of them.
#[must_use]
pub fn route_events(told: &Facts, now: &[RoutePicture], moment: Moment) -> Vec<Event> {
    let mut comparison = Comparison {
        told,
        events: Vec::new(),
    };
    for picture in now {
        if let Some((state, why)) = &picture.stands {
            let fact = Fact::Route {
                state: *state,
                why: why.clone(),
            };
            comparison.note(EventKind::Route, &picture.name, Some(fact), picture.by, None);
        }
    }
    let names = now.iter().map(|picture| picture.name.clone()).collect();
    comparison.end_others(EventKind::Route, &names, moment);
    comparison.events
}

/// What was told when these events are told too.
pub fn apply(told: &mut Facts, events: &[Event]) {
    for event in events {
        match &event.to {
            Some(fact) => told.insert(event.key.clone(), fact.clone()),
            None => told.remove(&event.key),
        };
    }
}

struct Comparison<'t> {
    told: &'t Facts,
    events: Vec<Event>,
}

impl Comparison<'_> {
    fn all_endpoints(&mut self, after: &Snapshot) {
        let mut names = BTreeSet::new();
        for id in after.fleet.endpoint_ids() {
            self.endpoint(after, id);
            names.insert(Target::Endpoint(id).name(&after.fleet));
        }
        for kind in [EventKind::Verdict, EventKind::Guard] {
            self.end_others(kind, &names, of(after));
        }
    }

    fn endpoint(&mut self, after: &Snapshot, id: EndpointId) {
        let (name, state) = (Target::Endpoint(id).name(&after.fleet), after.endpoint(id));
        let place = || Some(place(after, id));
        let key = Key {
            kind: EventKind::Verdict,
            name: name.clone(),
        };
        // Nobody knew it, and nobody does.
        if state.verdict != Verdict::Unknown || self.told.contains_key(&key) {
            let fact = Fact::Verdict {
                verdict: state.verdict,
                cause: state.cause.clone(),
            };
            self.note(EventKind::Verdict, &name, Some(fact), of(after), place());
        }
        let held = match &state.service {
            Service::Held { reason } => Some(Fact::Guard {
                reason: reason.clone(),
            }),
            Service::In | Service::Out | Service::Drained => None,
        };
        self.note(EventKind::Guard, &name, held, of(after), place());
    }

    fn wishes(&mut self, after: &Snapshot) {
        let fleet = &after.fleet;
        let mut names = BTreeSet::new();
        for drain in &after.drains {
            let drain = StoredDrain::of(drain, fleet);
            names.insert(drain.target.clone());
            let name = drain.target.clone();
            self.note(EventKind::Drain, &name, Some(Fact::Drain(drain)), of(after), None);
        }
        self.end_others(EventKind::Drain, &names, of(after));
        names.clear();
        for force in &after.forces {
            let force = StoredForce::of(force, fleet);
            names.insert(force.target.clone());
            let name = force.target.clone();
            self.note(EventKind::Force, &name, Some(Fact::Force(force)), of(after), None);
        }
        self.end_others(EventKind::Force, &names, of(after));
    }

    /// What was told of a kind, of subjects that are not there any more.
    fn end_others(&mut self, kind: EventKind, names: &BTreeSet<String>, moment: Moment) {
        let told = self.told;
        let first = Key {
            kind,
            name: String::new(),
        };
        let of_kind = told.range(first..).take_while(|(key, _)| key.kind == kind);
        for (key, _) in of_kind.filter(|(key, _)| !names.contains(&key.name)) {
            self.note(kind, &key.name, None, moment, None);
        }
    }

    fn note(&mut self, kind: EventKind, name: &str, to: Option<Fact>, moment: Moment, place: Option<Place>) {
        let key = Key {
            kind,
            name: name.to_owned(),
        };
        let from = self.told.get(&key);
        let is_same = match (from, &to) {
            (None, None) => true,
            (Some(from), Some(to)) => from.is_same(to),
            (None, Some(_)) | (Some(_), None) => false,
        };
        if !is_same {
            self.events.push(Event {
                from: from.cloned(),
                key,
                to,
                snapshot: moment.snapshot,
                at: moment.at,
                place,
            });
        }
    }
}

fn of(snapshot: &Snapshot) -> Moment {
    Moment {
        snapshot: snapshot.number,
        at: snapshot.at,
    }
}

fn place(snapshot: &Snapshot, id: EndpointId) -> Place {
    let (fleet, endpoint) = (&snapshot.fleet, snapshot.fleet.endpoint(id));
    Place {
        pool: fleet.pool(endpoint.pool).name.clone(),
        address: endpoint.address.to_string(),
        site: endpoint.site.map(|site| fleet.site(site).name.clone()),
        service: snapshot.endpoint(id).service.as_str(),
    }
}
