//! The decisions on all prefixes, in two layers: what stands, and the few that came last.
//!
//! To change one of thousands in a map that others still read means to copy a part of it. A withdrawal does not wait for
//! that: it goes out from the small layer, and [`Decisions::fold`] does the rest when the peers have it.

use std::collections::BTreeMap;

use imbl::OrdMap;
use steer_topology::Prefix;

use super::Decision;

/// More changes than these go into the large layer at once: looking them up would cost more.
const LATEST_MAX: usize = 64;

/// By prefix. A copy shares with the original what neither changes.
#[derive(Debug, Clone, Default)]
pub struct Decisions {
    standing: OrdMap<Prefix, Decision>,
    /// Stands above `standing`, in order. `None`: no longer there.
    latest: Vec<(Prefix, Option<Decision>)>,
}

impl Decisions {
    /// The decision on `prefix`, if this site may announce it.
    #[must_use]
    pub fn get(&self, prefix: &Prefix) -> Option<&Decision> {
        match self.latest_on(prefix) {
            Some(latest) => latest.as_ref(),
            None => self.standing.get(prefix),
        }
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&Prefix, &Decision)> {
        let standing = self.standing.iter();
        let standing = standing.filter(|(prefix, _)| self.latest_on(prefix).is_none());
        let latest = self.latest.iter();
        standing.chain(latest.filter_map(|(prefix, decision)| Some((prefix, decision.as_ref()?))))
    }

    /// Their prefixes, in no order.
    pub fn keys(&self) -> impl Iterator<Item = &Prefix> {
        self.iter().map(|(prefix, _)| prefix)
    }

    /// Decides anew; `None`: this site may no longer announce it.
    pub fn change(&mut self, changes: BTreeMap<Prefix, Option<Decision>>) {
        self.fold();
        self.latest.extend(changes);
        if self.latest.len() > LATEST_MAX {
            self.fold();
        }
    }

    /// Whether there is but one layer.
    #[must_use]
    pub fn is_folded(&self) -> bool {
        self.latest.is_empty()
    }

    /// Makes one layer of the two. Says the same afterwards.
    pub fn fold(&mut self) {
        for (prefix, decision) in std::mem::take(&mut self.latest) {
            match decision {
                Some(decision) => drop(self.standing.insert(prefix, decision)),
                None => drop(self.standing.remove(&prefix)),
            }
        }
    }

    fn latest_on(&self, prefix: &Prefix) -> Option<&Option<Decision>> {
        let at = self.latest.binary_search_by_key(prefix, |(prefix, _)| *prefix);
        Some(&self.latest.get(at.ok()?)?.1)
    }
}

impl PartialEq for Decisions {
    fn eq(&self, other: &Self) -> bool {
        let is_in = |(prefix, decision)| other.get(prefix) == Some(decision);
        self.keys().count() == other.keys().count() && self.iter().all(is_in)
    }
}

impl Eq for Decisions {}

impl FromIterator<(Prefix, Decision)> for Decisions {
    fn from_iter<I: IntoIterator<Item = (Prefix, Decision)>>(decisions: I) -> Self {
        Self {
            standing: decisions.into_iter().collect(),
            latest: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(number: u8) -> Prefix {
        Prefix::new(std::net::Ipv4Addr::new(192, 0, 2, number).into(), 32).unwrap()
    }

    fn decision(by: u64) -> Decision {
        Decision {
            by,
            ..Decision::default()
        }
    }

    fn changes() -> impl Strategy<Value = BTreeMap<Prefix, Option<Decision>>> {
        let change = (
            any::<u8>().prop_map(prefix),
            prop::option::of((0_u64..4).prop_map(decision)),
        );
        prop::collection::btree_map(change.0, change.1, 0..2 * LATEST_MAX)
    }

    proptest! {
        #[test]
        fn they_are_what_a_map_would_be(
            rounds in prop::collection::vec((changes(), any::<bool>()), 0..6),
        ) {
            let (mut model, mut decisions) = (BTreeMap::new(), Decisions::default());
            for (changes, fold) in rounds {
                let before = (decisions.clone(), model.clone());
                for (prefix, decision) in &changes {
                    match decision {
                        Some(decision) => drop(model.insert(*prefix, decision.clone())),
                        None => drop(model.remove(prefix)),
                    }
                }
                decisions.change(changes);
                if fold {
                    decisions.fold();
                }
                let all: BTreeMap<_, _> = decisions.iter().map(|(at, what)| (*at, what.clone())).collect();
                prop_assert_eq!(&all, &model);
                prop_assert!((0..=255).map(prefix).all(|at| decisions.get(&at) == model.get(&at)));
                let same = model.clone().into_iter().collect::<Decisions>();
                prop_assert_eq!(&same, &decisions);
                prop_assert_eq!(before.0 == decisions, before.1 == model, "the copy stays as it was");
            }
        }
    }
}
