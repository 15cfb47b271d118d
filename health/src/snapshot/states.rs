//! The states of all endpoints. A snapshot shares with the one before it what stays: a verdict in a large fleet copies a
//! few hundred states and not all.

use std::iter::FlatMap;
use std::ops::{Index, IndexMut};
use std::slice;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::EndpointState;

/// So many states are copied where one of them changes.
const CHUNK: usize = 256;

/// By [`steer_topology::EndpointId`]. Cheap to copy.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct States(Vec<Chunk>);

type Chunk = Arc<Vec<EndpointState>>;
type Each<'s> = FlatMap<slice::Iter<'s, Chunk>, &'s [EndpointState], fn(&Chunk) -> &[EndpointState]>;
type EachMut<'s> =
    FlatMap<slice::IterMut<'s, Chunk>, &'s mut [EndpointState], fn(&mut Chunk) -> &mut [EndpointState]>;

impl States {
    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().map(|chunk| chunk.len()).sum()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The state at a place.
    #[must_use]
    pub fn get(&self, index: usize) -> Option<&EndpointState> {
        self.0.get(index / CHUNK)?.get(index % CHUNK)
    }

    /// The same, to change it.
    pub fn get_mut(&mut self, index: usize) -> Option<&mut EndpointState> {
        Arc::make_mut(self.0.get_mut(index / CHUNK)?).get_mut(index % CHUNK)
    }

    /// All of them, in order.
    pub fn iter(&self) -> Each<'_> {
        self.0.iter().flat_map(|chunk| chunk.as_slice())
    }

    /// The same, to change them.
    pub fn iter_mut(&mut self) -> EachMut<'_> {
        self.0
            .iter_mut()
            .flat_map(|chunk| Arc::make_mut(chunk).as_mut_slice())
    }
}

impl FromIterator<EndpointState> for States {
    fn from_iter<I: IntoIterator<Item = EndpointState>>(states: I) -> Self {
        let mut states = states.into_iter().peekable();
        let mut chunks = Vec::new();
        while states.peek().is_some() {
            chunks.push(Arc::new(states.by_ref().take(CHUNK).collect()));
        }
        Self(chunks)
    }
}

/// Panics where there is no such endpoint, as a slice does: ids come from the same fleet.
impl Index<usize> for States {
    type Output = EndpointState;

    fn index(&self, index: usize) -> &EndpointState {
        &self.0[index / CHUNK][index % CHUNK]
    }
}

impl IndexMut<usize> for States {
    fn index_mut(&mut self, index: usize) -> &mut EndpointState {
        &mut Arc::make_mut(&mut self.0[index / CHUNK])[index % CHUNK]
    }
}

impl<'s> IntoIterator for &'s States {
    type Item = &'s EndpointState;
    type IntoIter = Each<'s>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<'s> IntoIterator for &'s mut States {
    type Item = &'s mut EndpointState;
    type IntoIter = EachMut<'s>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter_mut()
    }
}

impl Serialize for States {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::snapshot::{Service, Verdict};

    fn state(second: i64) -> EndpointState {
        EndpointState {
            verdict: Verdict::Up,
            service: Service::In,
            cause: String::new(),
            since: Timestamp::from_second(second).unwrap(),
            weight: None,
        }
    }

    proptest! {
        #[test]
        fn they_are_what_a_list_would_be(
            count in 0_i64..1_000,
            changes in prop::collection::vec((0_usize..1_000, 0_i64..9), 0..8),
        ) {
            let mut list: Vec<_> = (0..count).map(state).collect();
            let first: States = list.iter().cloned().collect();
            let mut states = first.clone();
            for (at, second) in changes {
                if at >= list.len() {
                    continue;
                }
                list[at] = state(second);
                states[at] = state(second);
            }
            prop_assert_eq!(states.iter().collect::<Vec<_>>(), list.iter().collect::<Vec<_>>());
            prop_assert_eq!((states.len(), states.is_empty()), (list.len(), list.is_empty()));
            prop_assert_eq!(states.get(list.len()), None);
            prop_assert!(list.iter().enumerate().all(|(at, state)| states[at] == *state));
            prop_assert_eq!(first, (0..count).map(state).collect::<States>(), "the copy stays as it was");
        }
    }
}
