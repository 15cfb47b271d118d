//! Random changes, sightings and vantages against a tracker that thinks in one line per question.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::*;

const GRACE: i64 = 10_000;

/// What the world is like, without any bookkeeping of what was told.
#[derive(Default)]
struct World {
    up: BTreeSet<Vantage>,
    has: BTreeSet<(Prefix, Vantage)>,
    newest: BTreeMap<Prefix, Change>,
    /// Since when a vantage does not show the newest change.
    wrong: BTreeMap<(Prefix, Vantage), i64>,
}

impl World {
    /// Brings `wrong` up to date after something happened at `ms`.
    fn settle(&mut self, ms: i64) {
        for (prefix, change) in &self.newest {
            for vantage in &self.up {
                let key = (*prefix, *vantage);
                if self.has.contains(&key) == change.announced {
                    self.wrong.remove(&key);
                } else {
                    self.wrong.entry(key).or_insert(ms);
                }
            }
        }
        self.wrong.retain(|(_, vantage), _| self.up.contains(vantage));
    }

    fn astray(&self, ms: i64) -> BTreeSet<(Prefix, Vantage)> {
        let old = self.wrong.iter().filter(|(_, since)| ms - **since >= GRACE);
        old.map(|(key, _)| *key).collect()
    }
}

#[derive(Debug, Clone)]
enum Step {
    Up(u8),
    Down(u8),
    Has(u8, u8, bool),
    Change(u8, bool),
    Pass(i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        1 => (0_u8..3).prop_map(Step::Up),
        1 => (0_u8..3).prop_map(Step::Down),
        4 => (0_u8..3, 0_u8..2, any::<bool>()).prop_map(|(vantage, prefix, has)| Step::Has(vantage, prefix, has)),
        2 => (0_u8..2, any::<bool>()).prop_map(|(prefix, announced)| Step::Change(prefix, announced)),
        2 => (1_i64..12_000).prop_map(Step::Pass),
    ]
}

proptest! {
    #[test]
    fn what_is_astray_is_what_has_been_wrong_for_the_grace(steps in prop::collection::vec(step(), 0..80)) {
        let prefixes: [Prefix; 2] = ["192.0.2.0/24".parse().unwrap(), "2001:db8::/32".parse().unwrap()];
        let (mut tracker, mut world) = (tracker(0), World::default());
        let (mut ms, mut made, mut reports) = (0, 0, 0);
        let mut told = BTreeSet::new();
        for step in steps {
            match step {
                Step::Up(number) => {
                    if world.up.insert(vantage(number)) {
                        tracker.vantage_up(vantage(number), at(ms));
                    }
                }
                Step::Down(number) => {
                    if world.up.remove(&vantage(number)) {
                        world.has.retain(|(_, vantage)| vantage.peer_id.octets()[3] != number);
                        tracker.vantage_down(vantage(number), at(ms));
                    }
                }
                Step::Has(number, prefix, has) => {
                    let (vantage, prefix) = (vantage(number), prefixes[usize::from(prefix)]);
                    if world.up.contains(&vantage) {
                        if has { world.has.insert((prefix, vantage)); } else { world.has.remove(&(prefix, vantage)); }
                        tracker.sighting(vantage, prefix, has, at(ms));
                    }
                }
                Step::Change(prefix, announced) => {
                    let prefix = prefixes[usize::from(prefix)];
                    let change = Change { prefix, announced, snapshot: 1, at: at(ms) };
                    let known = world.newest.get(&prefix).is_some_and(|old| {
                        old.announced == announced && old.at >= change.at
                    });
                    if !known {
                        made += 1;
                        world.newest.insert(prefix, change);
                        world.wrong.retain(|(other, _), _| *other != prefix);
                        tracker.change(change);
                    }
                }
                Step::Pass(passed) => ms += passed,
            }
            world.settle(ms);
            tracker.on_deadline(at(ms));
            while let Some(output) = tracker.poll_output() {
                match output {
                    Output::Spread(report) => {
                        reports += 1;
                        prop_assert!(report.reached <= report.vantages);
                        let complete = report.outcome == Outcome::Complete;
                        prop_assert_eq!(complete, report.unreached.is_empty());
                        prop_assert!(report.p50 <= report.p90 || report.p90.is_none());
                    }
                    Output::Astray(stray) => prop_assert!(told.insert((stray.change.prefix, stray.vantage))),
                    Output::Settled(stray) => prop_assert!(told.remove(&(stray.change.prefix, stray.vantage))),
                }
            }
            prop_assert_eq!(&told, &world.astray(ms));
            let now: BTreeSet<_> = tracker.strays().map(|stray| (stray.change.prefix, stray.vantage)).collect();
            prop_assert_eq!(&told, &now);
            prop_assert!(tracker.next_deadline().is_none_or(|next| next > at(ms)));
        }
        tracker.on_deadline(at(ms + GRACE));
        reports += outputs(&mut tracker).iter().filter(|output| matches!(output, Output::Spread(_))).count();
        prop_assert_eq!(reports, made, "every change is reported once");
    }
}
