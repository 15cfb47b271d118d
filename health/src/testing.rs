//! Fleets for tests, built without a file.

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::sync::Arc;
use std::time::Duration;

use steer_topology::{
    Bias, Check, CheckId, CheckKind, Combine, DampingRules, Demand, DetectorRules, Endpoint, EndpointId,
    Fleet, GossipPolicy, GuardPolicy, OutlierRules, OverflowPolicy, Pool, PoolId, Said, Site, SiteId,
    Sources,
};

use crate::check::Attempt;
use crate::checks::Job;
use crate::driver::{Errand, Purpose};
use crate::probe::Place;
use crate::snapshot::Verdict;

/// Every second, 3 of 3 down, 2 of 2 up, by counting alone and without a look between the slots.
pub(crate) fn plain(kind: CheckKind) -> Check {
    Check {
        name: String::new(),
        kind,
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_secs(1),
        timeout: Duration::from_millis(300),
        fall: NonZeroU8::new(3).unwrap(),
        rise: NonZeroU8::new(2).unwrap(),
        forget: NonZeroU8::MIN,
        detect: vec![DetectorRules::Threshold],
        combine: Combine::Any,
        tripwire: false,
        process: None,
        port: None,
        source: Sources::default(),
        vantage_points: None,
    }
}

/// More than half of the weight, our own word after 10 s.
pub(crate) fn gossip_policy() -> GossipPolicy {
    GossipPolicy {
        port: 7946,
        key_file: "gossip.key".into(),
        share: 50,
        own_after: Duration::from_secs(10),
        staged: Duration::ZERO,
        reference: None,
    }
}

/// A fleet that grows pool by pool; every pool has the one check unless it is made unchecked.
pub(crate) struct FleetBuilder(Fleet);

impl FleetBuilder {
    pub(crate) fn new(check: CheckKind) -> Self {
        let sites = ["fra", "nrt", "jfk", "gru"].map(|name| Site {
            name: name.to_owned(),
            city: String::new(),
            country: "XX".to_owned(),
            latitude: 0.0,
            longitude: 0.0,
            router_id: None,
            capacity: None,
            load: None,
            bias: Bias::NONE,
            gossip: None,
        });
        let check = Check {
            name: "web".to_owned(),
            ..plain(check)
        };
        Self(Fleet {
            name: "test".to_owned(),
            geo: None,
            overflow: OverflowPolicy::default(),
            gossip: None,
            guard: GuardPolicy {
                keep_sites: 1,
                max_withdrawn: 1,
                window: Duration::from_secs(60),
                panic: 100,
            },
            sites: sites.to_vec(),
            checks: vec![check],
            pools: Vec::new(),
            endpoints: Vec::new(),
            dns: None,
            zones: Vec::new(),
            steers: Vec::new(),
            anycast: Vec::new(),
            bgp: None,
            edge: None,
            admin: None,
            store: None,
            latency: None,
            notify: Vec::new(),
        })
    }

    /// Each site serves `capacity`, and each pool needs `needs`, in requests per second. Comes after the pools.
    pub(crate) fn load(mut self, capacity: u64, needs: u64) -> Self {
        self.0
            .sites
            .iter_mut()
            .for_each(|site| site.capacity = Some(capacity));
        self.0
            .pools
            .iter_mut()
            .for_each(|pool| pool.needs = Demand::Written(needs));
        self
    }

    pub(crate) fn guard(mut self, keep_sites: u16, max_withdrawn: u16, window: Duration) -> Self {
        self.0.guard = GuardPolicy {
            keep_sites,
            max_withdrawn,
            window,
            panic: 100,
        };
        self
    }

    /// So many sites instead of four, called `s00`, `s01`, ..
    pub(crate) fn sites(mut self, count: u16) -> Self {
        let named = |number| Site {
            name: format!("s{number:02}"),
            ..self.0.sites[0].clone()
        };
        self.0.sites = (0..count).map(named).collect();
        self
    }

    pub(crate) fn timing(mut self, interval: Duration, timeout: Duration) -> Self {
        (self.0.checks[0].interval, self.0.checks[0].timeout) = (interval, timeout);
        self.0.checks[0].fast_interval = interval;
        self
    }

    /// Changes the one check.
    pub(crate) fn check(mut self, change: impl FnOnce(&mut Check)) -> Self {
        change(&mut self.0.checks[0]);
        self
    }

    /// One more check, that no pool is under.
    pub(crate) fn another(mut self, name: &str, kind: CheckKind) -> Self {
        self.0.checks.push(Check {
            name: name.to_owned(),
            ..plain(kind)
        });
        self
    }

    /// Compares the endpoints of the last pool.
    pub(crate) fn outlier(mut self, rules: OutlierRules) -> Self {
        self.0.pools.last_mut().unwrap().outlier = Some(rules);
        self
    }

    /// Holds back who falls too often in the last pool.
    pub(crate) fn damping(mut self, rules: DampingRules) -> Self {
        self.0.pools.last_mut().unwrap().damping = Some(rules);
        self
    }

    pub(crate) fn tripwire(mut self) -> Self {
        self.0.checks[0].tripwire = true;
        self
    }

    pub(crate) fn fall(mut self, fall: u8) -> Self {
        self.0.checks[0].fall = NonZeroU8::new(fall).unwrap();
        self
    }

    /// From more than so many per cent down at once on the checks are distrusted.
    pub(crate) fn panic(mut self, percent: u8) -> Self {
        self.0.guard.panic = percent;
        self
    }

    /// The last pool needs what is measured; each site serves `capacity`.
    pub(crate) fn measured(mut self, capacity: u64) -> Self {
        self = self.load(capacity, 0);
        self.0.pools.last_mut().unwrap().needs = Demand::Measured;
        self
    }

    /// A pool with one endpoint per entry, at that site or nowhere.
    pub(crate) fn pool(self, sites: &[Option<u16>]) -> Self {
        let at = |site: &Option<u16>| (*site, SocketAddr::from(([127, 0, 0, 1], 9)));
        self.pool_at(&sites.iter().map(at).collect::<Vec<_>>(), Some(CheckId(0)))
    }

    pub(crate) fn unchecked_pool(self, sites: &[Option<u16>]) -> Self {
        let mut grown = self.pool(sites);
        grown.0.pools.last_mut().unwrap().check = None;
        grown
    }

    pub(crate) fn pool_at(mut self, endpoints: &[(Option<u16>, SocketAddr)], check: Option<CheckId>) -> Self {
        let pool = PoolId(self.0.pools.len() as u32);
        let first = self.0.endpoints.len() as u32;
        let ids = (first..first + endpoints.len() as u32).map(EndpointId).collect();
        self.0.pools.push(Pool {
            name: format!("pool-{}", pool.0),
            check,
            load: None,
            endpoints: ids,
            nested: Vec::new(),
            needs: Demand::Written(0),
            outlier: None,
            damping: None,
        });
        self.0
            .endpoints
            .extend(endpoints.iter().map(|(site, address)| Endpoint {
                pool,
                site: site.map(SiteId),
                address: *address,
                host: None,
                probe: *address,
                weight: 1,
                tier: 0,
                said: Said::default(),
            }));
        self
    }

    pub(crate) fn build(self) -> Arc<Fleet> {
        Arc::new(self.0)
    }
}

impl Errand {
    /// A probe of the first endpoint.
    pub(crate) fn of_test(attempt: u64, timeout: Duration) -> Self {
        let job = Job {
            endpoint: EndpointId(0),
            attempt: Attempt(attempt),
            timeout,
            verdict: Verdict::Unknown,
            decides_alone: false,
        };
        let (place, purpose) = (Place::Thread, Purpose::Check);
        Self { job, place, purpose }
    }
}
