//! Any operations of a judge: what is told, put upon what was told before, is what is so.

use proptest::prelude::*;

use super::*;
use crate::snapshot::Service;
use crate::store::{StoredDrain, StoredForce};

#[derive(Debug, Clone)]
enum Step {
    Verdict(u32, Verdict),
    Drain(u16, Option<i64>),
    Undrain(u16),
    Force(u32, Forced),
    Unforce(u32),
    Pass(i64),
    Reload(usize),
    /// The process begins anew, with what was told.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    let verdict = prop_oneof![Just(Up), Just(Down), Just(Verdict::Unknown)];
    let forced = prop_oneof![Just(Forced::Up), Just(Forced::Down)];
    prop_oneof![
        8 => (0..4_u32, verdict).prop_map(|(id, verdict)| Step::Verdict(id, verdict)),
        2 => (0..3_u16, prop::option::of(1..20_i64)).prop_map(|(site, time)| Step::Drain(site, time)),
        1 => (0..3_u16).prop_map(Step::Undrain),
        1 => (0..3_u32, forced).prop_map(|(id, to)| Step::Force(id, to)),
        1 => (0..3_u32).prop_map(Step::Unforce),
        2 => (1..15_i64).prop_map(Step::Pass),
        1 => (0..3_usize).prop_map(Step::Reload),
        1 => Just(Step::Restart),
    ]
}

fn fleets() -> [Arc<Fleet>; 3] {
    [
        fleet(&[Some(0), Some(1), Some(2)]),
        fleet(&[Some(2), Some(0), Some(3), Some(1)]),
        fleet(&[Some(1), Some(2)]),
    ]
}

/// The model: everything that a snapshot says, by name.
fn facts(snapshot: &Snapshot) -> Facts {
    let mut facts = Facts::new();
    let mut put = |kind, name: &str, fact| {
        let name = name.to_owned();
        facts.insert(Key { kind, name }, fact)
    };
    for id in snapshot.fleet.endpoint_ids() {
        let (name, state) = (Target::Endpoint(id).name(&snapshot.fleet), snapshot.endpoint(id));
        let (verdict, cause) = (state.verdict, state.cause.clone());
        put(EventKind::Verdict, &name, Fact::Verdict { verdict, cause });
        if let Service::Held { reason } = &state.service {
            let reason = reason.clone();
            put(EventKind::Guard, &name, Fact::Guard { reason });
        }
    }
    for drain in &snapshot.drains {
        let drain = StoredDrain::of(drain, &snapshot.fleet);
        put(EventKind::Drain, &drain.target.clone(), Fact::Drain(drain));
    }
    for force in &snapshot.forces {
        let force = StoredForce::of(force, &snapshot.fleet);
        put(EventKind::Force, &force.target.clone(), Fact::Force(force));
    }
    facts
}

/// Without words, and without what nobody knows.
fn stripped(facts: &Facts) -> Vec<(Key, String)> {
    let known = facts.iter().filter(|(_, fact)| {
        !matches!(
            fact,
            Fact::Verdict {
                verdict: Verdict::Unknown,
                ..
            }
        )
    });
    let plain = known.map(|(key, fact)| match fact {
        Fact::Verdict { verdict, .. } => (key.clone(), verdict.as_str().to_owned()),
        Fact::Guard { .. } => (key.clone(), "held".to_owned()),
        Fact::Drain(_) | Fact::Force(_) | Fact::Route { .. } => (key.clone(), format!("{fact:?}")),
    });
    plain.collect()
}

impl Bench {
    fn take(&mut self, step: &Step) -> Option<Arc<Snapshot>> {
        let (now, at) = (self.now, self.at());
        let endpoints = self.last.fleet.endpoints.len() as u32;
        match step {
            Step::Verdict(id, verdict) => self.verdicts(&[(id % endpoints, *verdict)]),
            Step::Drain(site, time) => {
                let drain = Drain {
                    target: Target::Site(SiteId(*site)),
                    reason: String::new(),
                    author: "ana".to_owned(),
                    since: at,
                    until: time.map(|time| Timestamp::from_second(self.seconds + time).unwrap()),
                };
                self.judge().drain(drain, true, now, at).ok().flatten()
            }
            Step::Undrain(site) => {
                let target = Target::Site(SiteId(*site));
                self.judge().undrain(target, "ana", now, at).ok().flatten()
            }
            Step::Force(id, to) => {
                let force = Force {
                    target: Target::Endpoint(EndpointId(id % endpoints)),
                    to: *to,
                    reason: String::new(),
                    author: "ana".to_owned(),
                    since: at,
                    until: None,
                };
                self.judge().force(force, true, now, at).ok().flatten()
            }
            Step::Unforce(id) => {
                let target = Target::Endpoint(EndpointId(id % endpoints));
                self.judge().unforce(target, "ana", now, at).ok().flatten()
            }
            Step::Pass(seconds) => {
                self.pass(*seconds);
                self.verdicts(&[])
            }
            Step::Reload(which) => self.reload(fleets()[*which].clone()),
            Step::Restart => {
                let told = std::mem::take(&mut self.told);
                let seconds = self.seconds;
                *self = Self::new(Arc::clone(&self.last.fleet));
                (self.told, self.seconds) = (told, seconds);
                None
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_told_upon_what_was_told_is_what_is_so(steps in prop::collection::vec(step(), 0..60)) {
        let mut bench = Bench::new(fleets()[0].clone());
        for step in steps {
            let Some(next) = bench.take(&step) else { continue };
            let without_hint = events(&bench.told, None, &next);
            let told = bench.tell(Some(Arc::clone(&next)));
            if !next.settled {
                prop_assert_eq!(told, []);
                continue;
            }
            for event in &told {
                let is_change = match (&event.from, &event.to) {
                    (Some(from), Some(to)) => !from.is_same(to),
                    (None, None) => false,
                    (None, Some(_)) | (Some(_), None) => true,
                };
                prop_assert!(is_change, "{:?}", event);
            }
            prop_assert_eq!(told, without_hint, "the snapshot of before is a hint and no more");
            prop_assert_eq!(stripped(&bench.told), stripped(&facts(&next)));
            prop_assert_eq!(events(&bench.told, None, &next), [], "nothing is told twice");
        }
    }
}
