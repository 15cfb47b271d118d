//! What all peers obey now, and what it changed: found once, so that no peer looks at what stays.

use std::collections::BTreeMap;
use std::iter::Peekable;
use std::sync::Arc;

use steer_topology::Prefix;

use crate::wanted::{Decision, Wanted};

/// The newest wish.
#[derive(Debug, Clone, Default)]
pub(super) struct Wish {
    /// Counts up by one; who missed one compares everything.
    pub(super) number: u64,
    pub(super) wanted: Arc<Wanted>,
    /// What is decided otherwise than in the wish before.
    pub(super) changed: Arc<[Prefix]>,
    /// All that a start wants at first is wanted: the first full round of checks is over, and so is hold-down.
    pub(super) settled: bool,
}

impl Wish {
    /// The wish of a start: everything is new.
    pub(super) fn first(wanted: Arc<Wanted>, settled: bool) -> Self {
        Self::default().after(wanted, settled)
    }

    /// The next one; `None` where it would change nothing.
    pub(super) fn next(&self, wanted: Arc<Wanted>, settled: bool) -> Option<Self> {
        let next = self.after(wanted, settled);
        (!next.changed.is_empty() || next.settled != self.settled).then_some(next)
    }

    fn after(&self, wanted: Arc<Wanted>, settled: bool) -> Self {
        Self {
            number: self.number + 1,
            changed: changed(&self.wanted.prefixes, &wanted.prefixes).into(),
            wanted,
            settled,
        }
    }
}

/// The prefixes whose decisions differ, in order: one walk over both.
fn changed(before: &BTreeMap<Prefix, Decision>, after: &BTreeMap<Prefix, Decision>) -> Vec<Prefix> {
    let (mut before, mut after) = (before.iter().peekable(), after.iter().peekable());
    let mut changed = Vec::new();
    while let Some(prefix) = smaller(&mut before, &mut after) {
        let is = |decision: &(&Prefix, &Decision)| *decision.0 == prefix;
        let (old, new) = (before.next_if(is), after.next_if(is));
        if old.map(|(_, decision)| decision) != new.map(|(_, decision)| decision) {
            changed.push(prefix);
        }
    }
    changed
}

fn smaller<'a>(
    one: &mut Peekable<impl Iterator<Item = (&'a Prefix, &'a Decision)>>,
    other: &mut Peekable<impl Iterator<Item = (&'a Prefix, &'a Decision)>>,
) -> Option<Prefix> {
    let prefixes = [one.peek(), other.peek()];
    prefixes.into_iter().flatten().map(|(prefix, _)| **prefix).min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn wanted(decisions: &BTreeMap<u8, u64>) -> Arc<Wanted> {
        let prefixes = decisions.iter().map(|(number, by)| {
            let prefix = format!("192.0.2.{number}/32").parse().unwrap();
            (
                prefix,
                Decision {
                    by: *by,
                    ..Decision::default()
                },
            )
        });
        Arc::new(Wanted {
            snapshot: 1,
            prefixes: prefixes.collect(),
        })
    }

    fn decisions() -> impl Strategy<Value = BTreeMap<u8, u64>> {
        prop::collection::btree_map(0..20_u8, 0..3_u64, 0..20)
    }

    proptest! {
        #[test]
        fn a_wish_names_exactly_what_differs(before in decisions(), after in decisions()) {
            let first = Wish::first(wanted(&before), true);
            let keys = before.keys().chain(after.keys());
            let mut differs: Vec<u8> = keys.copied().filter(|key| before.get(key) != after.get(key)).collect();
            differs.sort_unstable();
            differs.dedup();
            let next = first.next(wanted(&after), true);
            prop_assert_eq!(next.is_none(), differs.is_empty());
            let named = next.map_or(Vec::new(), |next| next.changed.to_vec());
            let differs: Vec<Prefix> = differs.iter().map(|number| format!("192.0.2.{number}/32").parse().unwrap()).collect();
            prop_assert_eq!(named, differs);
        }
    }
}
