//! The guard: what may be taken out of service, however convincing the checks are.
//!
//! It counts in *units*: the endpoints of one pool at one site, or one endpoint where a fleet has no sites.
//!
//! - **keep**: a pool of more than `keep_sites` units keeps `keep_sites` of them in service. A smaller pool has
//!   nothing to fall back on, and its operator wants it withdrawn when it is dead.
//! - **capacity**: the sites of a pool that stay in service can together serve what the pool `needs`.
//! - **panic**: when more than `panic` per cent of a pool's units are down at once, the checks are what is distrusted, and
//!   nothing more is taken out.
//! - **window**: at most `max_withdrawn` units of a pool are taken out within the sliding `window`.
//!
//! Coming back is always free and at once. It does not give a withdrawal back: otherwise a flapping unit could
//! buy a withdrawal of another one with each of its returns.
//!
//! A drain counts like a failure and is asked for with more care: what it takes out still works, so it may not
//! empty a small pool either, and only units that are up count as left. An operator may overrule the guard; what
//! is taken out so counts against the window all the same.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use steer_topology::{GuardPolicy, Pool, PoolId};

use crate::outcome::spoken;

/// Counts what was taken out, per pool, and refuses what would be too much. Sans-IO.
#[derive(Debug)]
pub struct Guard {
    policy: GuardPolicy,
    /// By pool: when units were taken out, oldest first, for as long as the longest window: a reload may bring one. At
    /// most [`TAKEN_MAX`] each.
    taken: Vec<VecDeque<Instant>>,
}

/// The highest `max_withdrawn` there is: what was taken out before the newest so many decides nothing.
const TAKEN_MAX: usize = u16::MAX as usize;

/// The longest `window` that a file may say.
const WINDOW_MAX: Duration = Duration::from_hours(24);

/// A pool as the guard sees it when it is asked for one of its units.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// How many units the pool has, in service or not.
    pub units: usize,
    /// How many would be in service, known not to be mere hope (`Unknown`), without the one in question.
    pub left: usize,
    /// What those can serve, in requests per second.
    pub capacity: u64,
    /// What they must be able to serve; 0: no demand.
    pub needs: u64,
    /// How many units have no endpoint that might be up, the one in question among them.
    pub down: usize,
}

/// Why a unit stays in service although it is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too few others.
    #[error("{left} of {units} sites would be left in service, keep_sites is {keep}")]
    Keep {
        /// Units left in service without this one.
        left: usize,
        /// Units of the pool.
        units: usize,
        /// `keep_sites`
        keep: u16,
    },
    /// The others cannot carry the load.
    #[error("sites for {left} requests/s would be left in service, the pool needs {needs}")]
    Capacity {
        /// Requests per second that the others can serve.
        left: u64,
        /// `needs`
        needs: u64,
    },
    /// Too many to be true.
    #[error("{down} of {units} sites are down at once, panic is {panic} %: the checks are distrusted")]
    Panic {
        /// Units that are down.
        down: usize,
        /// Units of the pool.
        units: usize,
        /// `panic`
        panic: u8,
    },
    /// Too many, too fast.
    #[error("{taken} taken out within {}, max_withdrawn is {max}", spoken(*.window))]
    Window {
        /// Units taken out within the window.
        taken: usize,
        /// `max_withdrawn`
        max: u16,
        /// `window`
        window: Duration,
    },
}

impl Guard {
    /// A guard that has let nothing out yet, for `pools` pools.
    #[must_use]
    pub fn new(policy: GuardPolicy, pools: usize) -> Self {
        Self {
            policy,
            taken: vec![VecDeque::new(); pools],
        }
    }

    /// Asks to take a unit of `pool` out at `now`; a permission counts against the window from then on.
    ///
    /// # Errors
    /// The first rule that forbids it.
    pub fn ask(&mut self, pool: PoolId, standing: Standing, now: Instant) -> Result<(), Refusal> {
        self.check_keep(standing)?;
        self.check_panic(standing)?;
        self.check_window(pool, now)?;
        self.count(pool, now);
        Ok(())
    }

    /// Whether a unit of `pool` that works may be drained at `now`. `healthy.left` are units in service *and* up.
    /// Costs nothing: the caller may need the word of several pools, and then says [`Guard::count`].
    ///
    /// # Errors
    /// The first rule that forbids it.
    pub fn weigh_drain(&mut self, pool: PoolId, healthy: Standing, now: Instant) -> Result<(), Refusal> {
        let Standing { units, left, .. } = healthy;
        let keep = self.policy.keep_sites;
        if left < usize::from(keep) {
            return Err(Refusal::Keep { left, units, keep });
        }
        check_capacity(healthy)?;
        self.check_window(pool, now)
    }

    /// Whether a unit that is up may stay out while `healthy.left` others are in service and up.
    #[must_use]
    pub fn leaves_enough(&self, healthy: Standing) -> bool {
        let keep = usize::from(self.policy.keep_sites).max(1);
        healthy.left >= keep && check_capacity(healthy).is_ok()
    }

    /// Counts a unit of `pool` as taken out, permitted or not.
    pub fn count(&mut self, pool: PoolId, now: Instant) {
        self.forget_old(pool, now);
        if let Some(taken) = self.taken.get_mut(pool.0 as usize) {
            if taken.len() >= TAKEN_MAX {
                taken.pop_front();
            }
            taken.push_back(now);
        }
    }

    /// When the window that refused a unit of `pool` lets the next one out; `None` when it never will.
    #[must_use]
    pub fn frees_at(&self, pool: PoolId) -> Option<Instant> {
        let taken = self.taken.get(pool.0 as usize)?;
        // As many as are too many must leave the window; with `max_withdrawn = 0` that helps nobody.
        let last_to_leave = taken.len().checked_sub(usize::from(self.policy.max_withdrawn))?;
        taken.get(last_to_leave)?.checked_add(self.policy.window)
    }

    /// Takes over what another guard counted, for the pools that go by the same name.
    pub(crate) fn inherit(&mut self, old: &Self, old_pools: &[Pool], pools: &[Pool]) {
        for (taken, pool) in self.taken.iter_mut().zip(pools) {
            let before = old_pools
                .iter()
                .zip(&old.taken)
                .find(|(old, _)| old.name == pool.name);
            if let Some((_, before)) = before {
                taken.clone_from(before);
            }
        }
    }

    /// Whether too few would be left of a pool for a unit of it to be out because it is down.
    ///
    /// # Errors
    /// Too few, or too weak.
    pub fn check_keep(&self, standing: Standing) -> Result<(), Refusal> {
        let Standing { units, left, .. } = standing;
        let keep = self.policy.keep_sites;
        if units > usize::from(keep) && left < usize::from(keep) {
            return Err(Refusal::Keep { left, units, keep });
        }
        check_capacity(standing)
    }

    fn check_panic(&self, standing: Standing) -> Result<(), Refusal> {
        let Standing { units, down, .. } = standing;
        let panic = self.policy.panic;
        let applies = units > usize::from(self.policy.keep_sites).max(1);
        if applies && down * 100 > units * usize::from(panic) {
            return Err(Refusal::Panic { down, units, panic });
        }
        Ok(())
    }

    fn check_window(&self, pool: PoolId, now: Instant) -> Result<(), Refusal> {
        let GuardPolicy {
            keep_sites: _,
            max_withdrawn: max,
            window,
            panic: _,
        } = self.policy;
        let is_old = |at: &Instant| now.saturating_duration_since(*at) >= window;
        let taken = self.taken.get(pool.0 as usize);
        let taken = taken.map_or(0, |taken| taken.len() - taken.partition_point(is_old));
        if taken >= usize::from(max) {
            return Err(Refusal::Window { taken, max, window });
        }
        Ok(())
    }

    /// Drops what has left every window.
    fn forget_old(&mut self, pool: PoolId, now: Instant) {
        let window = WINDOW_MAX.max(self.policy.window);
        let Some(taken) = self.taken.get_mut(pool.0 as usize) else {
            return;
        };
        while taken
            .front()
            .is_some_and(|first| now.saturating_duration_since(*first) >= window)
        {
            taken.pop_front();
        }
    }
}

fn check_capacity(standing: Standing) -> Result<(), Refusal> {
    let Standing {
        capacity: left,
        needs,
        ..
    } = standing;
    if left < needs {
        return Err(Refusal::Capacity { left, needs });
    }
    Ok(())
}

impl Refusal {
    /// Value of the `rule` label of `steer_health_guard_refusals_total`.
    #[must_use]
    pub fn rule(&self) -> &'static str {
        match self {
            Self::Keep { .. } => "keep_sites",
            Self::Capacity { .. } => "capacity",
            Self::Panic { .. } => "panic",
            Self::Window { .. } => "max_withdrawn",
        }
    }
}

#[cfg(test)]
mod tests {
    use steer_topology::Demand;

    use super::*;

    const POOL: PoolId = PoolId(0);
    const MINUTE: Duration = Duration::from_secs(60);

    fn guard(keep_sites: u16, max_withdrawn: u16) -> Guard {
        Guard::new(
            GuardPolicy {
                keep_sites,
                max_withdrawn,
                window: MINUTE,
                panic: 70,
            },
            2,
        )
    }

    fn three(left: usize) -> Standing {
        Standing {
            units: 3,
            left,
            capacity: 0,
            needs: 0,
            down: 1,
        }
    }

    #[test]
    fn when_too_many_are_down_at_once_nothing_more_is_taken_out() {
        let ask = |units, down| {
            let standing = Standing {
                units,
                down,
                ..three(units)
            };
            guard(1, 9).ask(POOL, standing, Instant::now())
        };
        assert_eq!(ask(3, 2), Ok(()), "67 %");
        assert_eq!(ask(10, 7), Ok(()), "70 %");
        let refusal = ask(10, 8).unwrap_err();
        assert_eq!(
            refusal.to_string(),
            "8 of 10 sites are down at once, panic is 70 %: the checks are distrusted"
        );
        assert_eq!(ask(1, 1), Ok(()), "who has one site wants it withdrawn");
    }

    #[test]
    fn the_last_site_stays() {
        let refusal = guard(1, 9).ask(POOL, three(0), Instant::now());
        assert_eq!(
            refusal,
            Err(Refusal::Keep {
                left: 0,
                units: 3,
                keep: 1
            })
        );
        assert_eq!(
            refusal.unwrap_err().to_string(),
            "0 of 3 sites would be left in service, keep_sites is 1"
        );
        assert_eq!(guard(1, 9).ask(POOL, three(1), Instant::now()), Ok(()));
    }

    #[test]
    fn what_is_left_must_carry_the_load() {
        let mut guard = guard(1, 9);
        let standing = |capacity| Standing {
            capacity,
            needs: 300,
            ..three(2)
        };
        let refused = guard.ask(POOL, standing(299), Instant::now()).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "sites for 299 requests/s would be left in service, the pool needs 300"
        );
        assert_eq!(
            guard.weigh_drain(POOL, standing(299), Instant::now()),
            Err(refused)
        );
        assert_eq!(guard.ask(POOL, standing(300), Instant::now()), Ok(()));
    }

    #[test]
    fn a_pool_no_larger_than_keep_sites_may_go_out_whole() {
        let now = Instant::now();
        assert_eq!(
            guard(1, 9).ask(POOL, Standing { units: 1, ..three(0) }, now),
            Ok(())
        );
        assert_eq!(guard(3, 9).ask(POOL, three(0), now), Ok(()));
        assert!(guard(2, 9).ask(POOL, three(1), now).is_err());
    }

    #[test]
    fn the_window_slides_for_each_pool_apart() {
        let (mut guard, start) = (guard(0, 2), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(guard.frees_at(POOL), None);
        assert_eq!(guard.ask(POOL, three(2), at(0)), Ok(()));
        assert_eq!(guard.ask(POOL, three(1), at(20)), Ok(()));
        let refusal = Refusal::Window {
            taken: 2,
            max: 2,
            window: MINUTE,
        };
        assert_eq!(guard.ask(POOL, three(0), at(59)), Err(refusal));
        assert_eq!(guard.ask(PoolId(1), three(0), at(59)), Ok(()));
        assert_eq!(guard.frees_at(POOL), Some(at(60)));
        assert_eq!(guard.ask(POOL, three(0), at(60)), Ok(()));
        assert_eq!(guard.frees_at(POOL), Some(at(80)));
        assert_eq!(guard.ask(POOL, three(0), at(79)), Err(refusal));
    }

    #[test]
    fn a_tighter_limit_after_a_reload_counts_what_the_looser_one_let_out() {
        let (mut loose, start) = (guard(0, 2), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        let pools = [Pool {
            name: "web".to_owned(),
            check: None,
            load: None,
            endpoints: Vec::new(),
            nested: Vec::new(),
            outlier: None,
            damping: None,
            needs: Demand::Written(0),
        }];
        assert_eq!(loose.ask(POOL, three(2), at(0)), Ok(()));
        assert_eq!(loose.ask(POOL, three(1), at(20)), Ok(()));
        let mut tight = guard(0, 1);
        tight.inherit(&loose, &pools, &pools);
        assert_eq!(tight.frees_at(POOL), Some(at(80)), "both must leave the window");
        assert!(tight.ask(POOL, three(0), at(79)).is_err());
        assert_eq!(tight.ask(POOL, three(0), at(80)), Ok(()));
    }

    #[test]
    fn a_longer_window_after_a_reload_counts_what_the_shorter_one_had_forgotten() {
        let (mut short, start) = (guard(0, 2), Instant::now());
        let at = |seconds| start + Duration::from_secs(seconds);
        short.policy.window = Duration::from_secs(20);
        for second in [0, 1, 21, 22] {
            assert_eq!(short.ask(POOL, three(2), at(second)), Ok(()));
        }
        let pools = [Pool {
            name: "web".to_owned(),
            check: None,
            load: None,
            endpoints: Vec::new(),
            nested: Vec::new(),
            outlier: None,
            damping: None,
            needs: Demand::Written(0),
        }];
        let mut long = guard(0, 4);
        long.inherit(&short, &pools, &pools);
        assert!(long.ask(POOL, three(2), at(43)).is_err(), "four within a minute");
        assert_eq!(long.frees_at(POOL), Some(at(60)));
        assert_eq!(long.ask(POOL, three(2), at(60)), Ok(()));
    }

    #[test]
    fn a_refusal_costs_nothing() {
        let (mut guard, start) = (guard(1, 1), Instant::now());
        assert!(guard.ask(POOL, three(0), start).is_err());
        assert_eq!(guard.ask(POOL, three(1), start), Ok(()));
    }

    #[test]
    fn a_drain_may_not_empty_a_small_pool_either() {
        let now = Instant::now();
        let alone = Standing { units: 1, ..three(0) };
        let refusal = Refusal::Keep {
            left: 0,
            units: 1,
            keep: 1,
        };
        assert_eq!(guard(1, 9).weigh_drain(POOL, alone, now), Err(refusal));
        assert_eq!(guard(0, 9).weigh_drain(POOL, alone, now), Ok(()));
        assert_eq!(guard(1, 9).weigh_drain(POOL, three(1), now), Ok(()));
    }

    #[test]
    fn a_drain_counts_against_the_window_once_it_is_done() {
        let (mut guard, now) = (guard(0, 1), Instant::now());
        assert_eq!(guard.weigh_drain(POOL, three(2), now), Ok(()));
        assert_eq!(guard.weigh_drain(POOL, three(2), now), Ok(()), "weighing is free");
        guard.count(POOL, now);
        assert!(guard.weigh_drain(POOL, three(1), now).is_err());
        assert!(guard.ask(POOL, three(1), now).is_err(), "and failures feel it");
        guard.count(POOL, now);
        assert_eq!(
            guard.frees_at(POOL),
            Some(now + MINUTE),
            "forced ones leave in time too"
        );
        assert_eq!(guard.ask(POOL, three(1), now + MINUTE), Ok(()));
    }

    #[test]
    fn forced_drains_do_not_pile_up_for_ever() {
        let (mut guard, now) = (guard(0, 1), Instant::now());
        for _ in 0..TAKEN_MAX + 9 {
            guard.count(POOL, now);
        }
        assert_eq!(guard.taken[0].len(), TAKEN_MAX);
    }

    #[test]
    fn max_withdrawn_zero_never_lets_anything_out() {
        let mut guard = guard(0, 0);
        assert!(guard.ask(POOL, three(2), Instant::now()).is_err());
        assert_eq!(guard.frees_at(POOL), None);
    }
}
