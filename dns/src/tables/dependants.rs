//! Which plans depend on an endpoint.

use steer_topology::EndpointId;

/// By endpoint; made once per fleet.
#[derive(Debug)]
pub(crate) struct Dependants {
    /// Where the plans of each endpoint begin; one more for the end.
    starts: Vec<u32>,
    /// Indexes of plans.
    plans: Vec<u32>,
}

impl Dependants {
    /// `members`: the endpoints of each plan, of a fleet with so many endpoints.
    pub(crate) fn new(endpoints: usize, members: &[Vec<EndpointId>]) -> Self {
        let mut starts = vec![0_u32; endpoints + 1];
        for id in members.iter().flatten() {
            if let Some(next) = starts.get_mut(id.0 as usize + 1) {
                *next += 1;
            }
        }
        let mut sum = 0;
        for start in &mut starts {
            sum += *start;
            *start = sum;
        }
        let mut free = starts.clone();
        let mut plans = vec![0; sum as usize];
        for (plan, id) in (0_u32..)
            .zip(members)
            .flat_map(|(plan, ids)| ids.iter().map(move |id| (plan, id)))
        {
            if let Some(at) = free.get_mut(id.0 as usize) {
                if let Some(cell) = plans.get_mut(*at as usize) {
                    *cell = plan;
                }
                *at += 1;
            }
        }
        Self { starts, plans }
    }

    /// The plans of an endpoint.
    pub(crate) fn of(&self, id: EndpointId) -> &[u32] {
        let place = |index: usize| self.starts.get(index).map(|start| *start as usize);
        let range = place(id.0 as usize).zip(place(id.0 as usize + 1));
        range
            .and_then(|(first, end)| self.plans.get(first..end))
            .unwrap_or_default()
    }

    /// Bytes on the heap.
    pub(crate) fn bytes(&self) -> usize {
        (self.starts.capacity() + self.plans.capacity()) * size_of::<u32>()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn each_endpoint_has_just_the_plans_that_name_it(
            members in prop::collection::vec(prop::sample::subsequence((0..12).collect::<Vec<u32>>(), 0..12), 0..8),
        ) {
            let members: Vec<Vec<EndpointId>> =
                members.into_iter().map(|ids| ids.into_iter().map(EndpointId).collect()).collect();
            let made = Dependants::new(12, &members);
            for id in (0..12).map(EndpointId) {
                let expected: Vec<u32> =
                    (0..).zip(&members).filter(|(_, ids)| ids.contains(&id)).map(|(plan, _)| plan).collect();
                prop_assert_eq!(made.of(id), expected);
            }
            prop_assert_eq!(made.of(EndpointId(12)), [0_u32; 0]);
        }
    }
}
