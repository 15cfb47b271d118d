//! What the guard counts in: the endpoints of one pool at one site.

use std::collections::HashMap;

use steer_topology::{EndpointId, Fleet};

use crate::guard::Standing;

/// Which endpoints serve, counted by unit and by pool, so that asking costs the same for any size of fleet.
///
/// A unit is the endpoints of one pool at one site; an endpoint without a site is a unit of its own.
#[derive(Debug)]
pub(crate) struct Units {
    /// By endpoint.
    members: Vec<Member>,
    /// By unit: how many of its endpoints serve.
    serving: Vec<u32>,
    /// By pool.
    pools: Vec<PoolUnits>,
}

#[derive(Debug)]
struct Member {
    unit: usize,
    pool: usize,
    serves: bool,
}

#[derive(Debug, Clone, Default)]
struct PoolUnits {
    /// Units of the pool.
    all: usize,
    /// Those with at least one endpoint that serves.
    standing: usize,
}

impl Units {
    /// The units of a fleet, none of them serving yet.
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let mut units = Self {
            members: Vec::with_capacity(fleet.endpoints.len()),
            serving: Vec::new(),
            pools: vec![PoolUnits::default(); fleet.pools.len()],
        };
        let mut at_site = HashMap::new();
        for endpoint in &fleet.endpoints {
            let pool = endpoint.pool.0 as usize;
            let unit = match endpoint.site {
                Some(site) => *at_site.entry((pool, site)).or_insert_with(|| units.add(pool)),
                None => units.add(pool),
            };
            units.members.push(Member {
                unit,
                pool,
                serves: false,
            });
        }
        units
    }

    /// Notes whether an endpoint serves.
    pub(crate) fn set(&mut self, endpoint: EndpointId, serves: bool) {
        let member = &mut self.members[endpoint.0 as usize];
        if std::mem::replace(&mut member.serves, serves) == serves {
            return;
        }
        let serving = &mut self.serving[member.unit];
        let stood = *serving > 0;
        if serves {
            *serving += 1;
        } else {
            *serving -= 1;
        }
        let standing = &mut self.pools[member.pool].standing;
        match (stood, *serving > 0) {
            (false, true) => *standing += 1,
            (true, false) => *standing -= 1,
            (false, false) | (true, true) => {}
        }
    }

    /// What would be left of the pool without this endpoint's unit; `None` when the unit stands without it.
    pub(crate) fn without(&self, endpoint: EndpointId) -> Option<Standing> {
        let member = &self.members[endpoint.0 as usize];
        let serving = self.serving[member.unit];
        if serving > u32::from(member.serves) {
            return None;
        }
        let pool = &self.pools[member.pool];
        Some(Standing {
            units: pool.all,
            left: pool.standing - usize::from(serving > 0),
        })
    }

    fn add(&mut self, pool: usize) -> usize {
        self.pools[pool].all += 1;
        self.serving.push(0);
        self.serving.len() - 1
    }
}
