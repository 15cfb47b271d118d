//! What the guard counts in: the endpoints of one pool at one site.

use std::collections::HashMap;

use steer_topology::{Demand, EndpointId, Fleet, Pool, PoolId};

use crate::guard::Standing;

/// Which endpoints serve, counted by unit and by pool, so that asking costs the same for any size of fleet.
///
/// A unit is the endpoints of one pool at one site; an endpoint without a site is a unit of its own.
#[derive(Debug)]
pub(crate) struct Units {
    /// By endpoint.
    members: Vec<Member>,
    /// By unit: how many of its endpoints serve, and what its site can.
    serving: Vec<Unit>,
    /// By pool.
    pools: Vec<PoolUnits>,
}

#[derive(Debug, Clone, Copy)]
struct Unit {
    endpoints: u32,
    /// Requests per second; 0 where it is not written.
    capacity: u64,
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
    /// What those can serve.
    capacity: u64,
    /// What they must.
    needs: u64,
}

impl PoolUnits {
    fn of(pool: &Pool) -> Self {
        Self {
            needs: match pool.needs {
                Demand::Written(needs) => needs,
                Demand::Measured => 0,
            },
            ..Self::default()
        }
    }
}

impl Units {
    /// The units of a fleet, none of them serving yet.
    pub(crate) fn of(fleet: &Fleet) -> Self {
        let mut units = Self {
            members: Vec::with_capacity(fleet.endpoints.len()),
            serving: Vec::new(),
            pools: fleet.pools.iter().map(PoolUnits::of).collect(),
        };
        let mut at_site = HashMap::new();
        for endpoint in &fleet.endpoints {
            let pool = endpoint.pool.0 as usize;
            let unit = match endpoint.site {
                Some(site) => {
                    let capacity = fleet.site(site).capacity.unwrap_or_default();
                    *at_site
                        .entry((pool, site))
                        .or_insert_with(|| units.add(pool, capacity))
                }
                None => units.add(pool, 0),
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
        let unit = &mut self.serving[member.unit];
        let stood = unit.endpoints > 0;
        if serves {
            unit.endpoints += 1;
        } else {
            unit.endpoints -= 1;
        }
        let pool = &mut self.pools[member.pool];
        match (stood, unit.endpoints > 0) {
            (false, true) => {
                pool.standing += 1;
                pool.capacity += unit.capacity;
            }
            (true, false) => {
                pool.standing -= 1;
                pool.capacity -= unit.capacity;
            }
            (false, false) | (true, true) => {}
        }
    }

    /// What would be left of the pool without this endpoint's unit; `None` when the unit stands without it.
    pub(crate) fn without(&self, endpoint: EndpointId) -> Option<Standing> {
        let member = &self.members[endpoint.0 as usize];
        let Unit { endpoints, capacity } = self.serving[member.unit];
        if endpoints > u32::from(member.serves) {
            return None;
        }
        let pool = &self.pools[member.pool];
        let stands = endpoints > 0;
        Some(Standing {
            units: pool.all,
            left: pool.standing - usize::from(stands),
            capacity: pool.capacity - if stands { capacity } else { 0 },
            needs: pool.needs,
            down: 0,
        })
    }

    /// What is measured of what a pool must serve.
    pub(crate) fn set_needs(&mut self, pool: PoolId, needs: u64) {
        self.pools[pool.0 as usize].needs = needs;
    }

    /// How many units of a pool have no endpoint that is counted.
    pub(crate) fn missing(&self, pool: PoolId) -> usize {
        let pool = &self.pools[pool.0 as usize];
        pool.all - pool.standing
    }

    fn add(&mut self, pool: usize, capacity: u64) -> usize {
        self.pools[pool].all += 1;
        self.serving.push(Unit {
            endpoints: 0,
            capacity,
        });
        self.serving.len() - 1
    }
}
