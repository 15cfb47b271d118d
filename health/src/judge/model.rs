//! The guard against a model that knows nothing of how it works: 50 sites, 100,000 steps, one seed.
//!
//! Faults, recoveries, drains with and without force, set clocks and reloads come in any order. What is published
//! is counted anew from each snapshot. One site is ours, and the others say at random that theirs is down. Now and then all of it ends, and things must come to rest where they belong.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use steer_topology::{CheckId, CheckKind, Demand, EndpointId, Fleet, GuardPolicy, SiteId};

use super::{Change, Judge};
use crate::operator::{Drain, Force, Forced, Target};
use crate::snapshot::{Service, Snapshot, Verdict};
use crate::testing::FleetBuilder;

const SEED: u64 = 0x5eed;
const STEPS: usize = 100_000;
const SITES: u16 = 50;
const WINDOW: Duration = Duration::from_secs(60);
/// What each site can serve, and what the pools that stay need: three sites.
const LOAD: (u64, u64) = (100, 250);
const STAYING: usize = 3;
/// Ours; it has a part in each pool of those that stay.
const OWN: SiteId = SiteId(4);
/// Steps between two rests.
const REST_EVERY: usize = 500;

/// A pool everywhere, one with two endpoints at every second site, small ones, one without sites.
fn fleet(version: u32, keep_sites: u16, max_withdrawn: u16) -> Arc<Fleet> {
    let everywhere: Vec<_> = (0..SITES).map(Some).collect();
    let twice: Vec<_> = (0..SITES).step_by(2).flat_map(|site| [Some(site); 2]).collect();
    let pool = |fleet: FleetBuilder, sites: &[Option<u16>]| {
        // A port of its own for each: by it a reload knows an endpoint again.
        let at = |(site, port): (&Option<u16>, u16)| (*site, SocketAddr::from(([127, 0, 0, 1], port)));
        let endpoints: Vec<_> = sites.iter().zip(1_000..).map(at).collect();
        fleet.pool_at(&endpoints, Some(CheckId(0)))
    };
    let mut builder = FleetBuilder::new(CheckKind::Tcp)
        .sites(SITES)
        .guard(keep_sites, max_withdrawn, WINDOW);
    for sites in [&everywhere, &twice, &[3, 4, 5, 6].map(Some).to_vec()] {
        builder = pool(builder, sites);
    }
    // Every other version has pools that come and go, behind those that stay.
    if version % 2 == 1 {
        builder = pool(pool(builder, &[7, 8, 9].map(Some)), &[None; 5]);
    }
    let built = pool(builder, &[Some(1)]).load(LOAD.0, 0).build();
    let mut fleet = Arc::unwrap_or_clone(built);
    for pool in &mut fleet.pools[..STAYING] {
        pool.needs = Demand::Written(LOAD.1);
    }
    Arc::new(fleet)
}

/// The world and what the model remembers of it.
struct World {
    random: StdRng,
    judge: Judge,
    now: Instant,
    start: Instant,
    /// What the wall clock is off by.
    off: SignedDuration,
    last: Arc<Snapshot>,
    policy: GuardPolicy,
    version: u32,
    /// By endpoint, its unit; the units of a pool lie together.
    unit_of: Vec<usize>,
    /// By unit, its pool.
    pool_of: Vec<usize>,
    /// By pool: when a unit went out of service.
    taken: Vec<VecDeque<Instant>>,
    /// By pool: below `keep_sites` by an operator's will, until it is no more.
    excused: Vec<bool>,
    /// Whether the step that is being looked at overrules the guard.
    forced: bool,
    /// What sites say of their own is down.
    lost: BTreeSet<EndpointId>,
    /// When the checks took an endpoint of ours out.
    went_out: BTreeMap<EndpointId, Instant>,
    seen: Seen,
}

/// That the run met what it is there to meet.
#[derive(Debug, Default)]
struct Seen {
    snapshots: usize,
    held: usize,
    refused_keep: usize,
    refused_window: usize,
    drained: usize,
    forced: usize,
    /// Verdicts forced up, and down.
    worded: [usize; 2],
    expired: usize,
    rests: usize,
    most_taken: usize,
    came_back: usize,
}

impl World {
    fn new(seed: u64) -> Self {
        let fleet = fleet(0, 1, 1);
        let start = Instant::now();
        let judge = Judge::new(Arc::clone(&fleet), start, Timestamp::UNIX_EPOCH);
        let mut world = Self {
            random: StdRng::seed_from_u64(seed),
            last: Arc::new(judge.first_snapshot()),
            judge,
            now: start,
            start,
            off: SignedDuration::ZERO,
            policy: fleet.guard.clone(),
            version: 0,
            unit_of: Vec::new(),
            pool_of: Vec::new(),
            taken: Vec::new(),
            excused: Vec::new(),
            forced: false,
            lost: BTreeSet::new(),
            went_out: BTreeMap::new(),
            seen: Seen::default(),
        };
        world.lay_out(&fleet);
        world.judge.decides_for(Target::Site(OWN).endpoints(&fleet));
        world.tell_all(|_| Verdict::Up);
        assert!(world.last.settled);
        world
    }

    fn at(&self) -> Timestamp {
        let base: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        base + (self.now - self.start) + self.off
    }

    fn lay_out(&mut self, fleet: &Fleet) {
        (self.unit_of, self.pool_of) = (Vec::new(), Vec::new());
        for (pool, of) in fleet.pools.iter().enumerate() {
            let mut sites: Vec<(SiteId, usize)> = Vec::new();
            for id in &of.endpoints {
                let site = fleet.endpoint(*id).site;
                let known = sites.iter().find(|(other, _)| Some(*other) == site);
                let unit = known.map_or(self.pool_of.len(), |(_, unit)| *unit);
                if known.is_none() {
                    self.pool_of.push(pool);
                    sites.extend(site.map(|site| (site, unit)));
                }
                self.unit_of.push(unit);
            }
        }
        // A pool that comes and goes begins anew; those that stay keep their place.
        self.taken.resize_with(fleet.pools.len(), VecDeque::new);
        self.excused.resize(fleet.pools.len(), true);
    }

    /// By unit, whether anything of it is in service.
    fn in_service(&self, snapshot: &Snapshot) -> Vec<bool> {
        let mut units = vec![false; self.pool_of.len()];
        for (state, unit) in snapshot.endpoints.iter().zip(&self.unit_of) {
            units[*unit] |= matches!(state.service, Service::In | Service::Held { .. });
        }
        units
    }

    fn count(&self, units: &[bool], pool: usize) -> usize {
        let of_pool = units.iter().zip(&self.pool_of).filter(|(_, of)| **of == pool);
        of_pool.filter(|(serves, _)| **serves).count()
    }

    /// How many units of a pool must stay in service.
    fn least(&self, pool: usize) -> usize {
        let keep = usize::from(self.policy.keep_sites);
        let keep = if self.size(pool) > keep { keep } else { 0 };
        let load = if pool < STAYING {
            LOAD.1.div_ceil(LOAD.0)
        } else {
            0
        };
        keep.max(load as usize)
    }

    fn size(&self, pool: usize) -> usize {
        self.pool_of.iter().filter(|of| **of == pool).count()
    }

    /// Compares what is published with what was before.
    fn look(&mut self, next: Option<Arc<Snapshot>>) {
        let Some(next) = next else { return };
        assert_eq!(next.number, self.last.number + 1);
        self.seen.snapshots += 1;
        self.check_services(&next);
        let (old, new) = (self.in_service(&self.last), self.in_service(&next));
        let before: Vec<_> = self.taken.iter().map(VecDeque::len).collect();
        for (unit, _) in old
            .iter()
            .zip(&new)
            .enumerate()
            .filter(|(_, (old, new))| **old && !**new)
        {
            self.taken[self.pool_of[unit]].push_back(self.now);
        }
        for (pool, before) in before.into_iter().enumerate() {
            if self.taken[pool].len() > before {
                self.check_window(pool);
            }
            self.check_keep(pool, &old, &new);
        }
        self.check_together(&next);
        self.last = next;
    }

    /// By unit, whether anything of it is in service, and not said to be down by its own site.
    fn standing(&self, snapshot: &Snapshot) -> Vec<bool> {
        let mut units = vec![false; self.pool_of.len()];
        for ((id, state), unit) in (0..).map(EndpointId).zip(&snapshot.endpoints).zip(&self.unit_of) {
            let serves = matches!(state.service, Service::In | Service::Held { .. });
            units[*unit] |= serves && !self.lost.contains(&id);
        }
        units
    }

    /// What the checks took out here of late is not out while too few others stand.
    fn check_together(&mut self, next: &Snapshot) {
        let standing = self.standing(next);
        for id in Target::Site(OWN).endpoints(&next.fleet) {
            let (was, is) = (&self.last.endpoint(id).service, &next.endpoint(id).service);
            let is_free = next.endpoint_force(id).is_none() && next.endpoint_drain(id).is_none();
            if matches!(was, Service::In | Service::Held { .. }) && *is == Service::Out && is_free {
                self.went_out.insert(id, self.now);
            }
            if *is != Service::Out || !is_free {
                self.went_out.remove(&id);
            }
            self.seen.came_back += usize::from(*was == Service::Out && matches!(is, Service::Held { .. }));
            let pool = self.pool_of[self.unit_of[id.0 as usize]];
            let is_new = self.went_out.get(&id).is_some_and(|at| self.now - *at < WINDOW);
            let others = self.count(&standing, pool) - usize::from(standing[self.unit_of[id.0 as usize]]);
            let is_alone = !standing[self.unit_of[id.0 as usize]];
            assert!(
                !(is_new && is_alone && others < self.least(pool)),
                "{id:?} went out together with the others: {others} are left, and it did not come back"
            );
        }
    }

    /// Other sites say something of their own.
    fn say_at_home(&mut self) {
        let everywhere = self.random.random_bool(0.3);
        let verdict = self.any_verdict();
        let mut said: Vec<_> = (0..self.random.random_range(1..6))
            .map(|_| self.any_endpoint())
            .collect();
        if everywhere {
            said = self.last.fleet.endpoint_ids().collect();
        }
        let fleet = Arc::clone(&self.last.fleet);
        said.retain(|id| fleet.endpoint(*id).site.is_some_and(|site| site != OWN));
        for id in said {
            self.judge.heard_from_home(id, verdict);
            match verdict {
                Verdict::Down => self.lost.insert(id),
                Verdict::Up | Verdict::Unknown => self.lost.remove(&id),
            };
        }
        self.tell(Vec::new());
    }

    fn check_services(&mut self, next: &Snapshot) {
        for id in next.fleet.endpoint_ids() {
            let state = next.endpoint(id);
            let is_drained = next.endpoint_drain(id).is_some();
            let held = matches!(state.service, Service::Held { .. });
            self.seen.held += usize::from(held);
            let force = next.endpoint_force(id);
            if let Some(force) = force {
                assert_eq!(state.verdict, force.to.verdict(), "{id:?}: {force}");
            }
            let is_right = match (state.verdict, is_drained) {
                (_, true) => state.service == Service::Drained,
                (Verdict::Down, false) if force.is_some() => state.service == Service::Out,
                (Verdict::Up | Verdict::Unknown, false) => state.service == Service::In,
                (Verdict::Down, false) => held || state.service == Service::Out,
            };
            assert!(is_right, "{id:?} drained {is_drained}: {state:?}");
        }
    }

    /// Never more than `max_withdrawn` per window; what was forced counts, but is not stopped.
    fn check_window(&mut self, pool: usize) {
        let taken = &mut self.taken[pool];
        while taken.front().is_some_and(|at| self.now - *at >= WINDOW) {
            taken.pop_front();
        }
        if !self.forced {
            let max = usize::from(self.policy.max_withdrawn);
            assert!(
                taken.len() <= max,
                "pool {pool}: {} taken out, not {max}",
                taken.len()
            );
            self.seen.most_taken = self.seen.most_taken.max(taken.len());
        }
    }

    /// Never fewer than `keep_sites` and than carry the load, forced drains aside; and what is fewer gets no fewer by itself.
    fn check_keep(&mut self, pool: usize, old: &[bool], new: &[bool]) {
        let keep = self.least(pool);
        let (before, after) = (self.count(old, pool), self.count(new, pool));
        self.excused[pool] |= self.forced && after < before;
        if after >= keep {
            self.excused[pool] = false;
        }
        assert!(
            after >= keep || self.excused[pool],
            "pool {pool}: {after} left in service, not {keep}"
        );
        let enough = before.min(keep);
        assert!(
            after >= enough || self.forced,
            "pool {pool} fell from {before} to {after}"
        );
    }

    fn step(&mut self) {
        match self.random.random_range(0..100) {
            0..31 => self.fail_or_recover_some(),
            31..35 => self.say_at_home(),
            35..38 => self.fail_or_recover_a_site(),
            38..40 => self.fail_or_recover_everything(),
            40..55 => self.drain(false),
            55..57 => self.drain(true),
            57..65 => self.undrain(),
            65..67 => self.set_the_clock(),
            69..72 => self.force(Forced::Up, false),
            72..76 => self.force(Forced::Down, false),
            76 => self.force(Forced::Down, true),
            77..81 => self.unforce(),
            67..69 => self.reload(),
            _ => {
                let passes = Duration::from_millis(self.random.random_range(0..30_000));
                self.pass(passes);
            }
        }
    }

    fn any_endpoint(&mut self) -> EndpointId {
        EndpointId(self.random.random_range(0..self.unit_of.len() as u32))
    }

    fn any_verdict(&mut self) -> Verdict {
        if self.random.random_bool(0.6) {
            Verdict::Up
        } else {
            Verdict::Down
        }
    }

    fn fail_or_recover_some(&mut self) {
        let count = self.random.random_range(1..6);
        let changes: Vec<_> = (0..count)
            .map(|_| (self.any_endpoint(), self.any_verdict()))
            .collect();
        self.tell(changes);
    }

    fn fail_or_recover_a_site(&mut self) {
        let (site, verdict) = (self.random.random_range(0..SITES), self.any_verdict());
        let of_site = Target::Site(SiteId(site)).endpoints(&self.last.fleet);
        self.tell(of_site.map(|id| (id, verdict)).collect());
    }

    fn fail_or_recover_everything(&mut self) {
        let verdict = self.any_verdict();
        self.tell_all(|_| verdict);
    }

    fn tell_all(&mut self, verdict: impl Fn(EndpointId) -> Verdict) {
        let fleet = Arc::clone(&self.last.fleet);
        self.tell(fleet.endpoint_ids().map(|id| (id, verdict(id))).collect());
    }

    fn tell(&mut self, verdicts: Vec<(EndpointId, Verdict)>) {
        let changes = verdicts.into_iter().map(|(endpoint, verdict)| Change {
            endpoint,
            verdict,
            cause: String::new(),
        });
        let next = self.judge.on_verdicts(changes, self.now, self.at());
        self.look(next);
    }

    fn any_target(&mut self) -> Target {
        if self.random.random_bool(0.5) {
            Target::Site(SiteId(self.random.random_range(0..SITES)))
        } else {
            Target::Endpoint(self.any_endpoint())
        }
    }

    /// What was forced up and is over by now goes before the next wish is weighed.
    fn end_what_is_over(&mut self) {
        let next = self.judge.on_deadline(self.now, self.at());
        self.look(next);
    }

    fn drain(&mut self, force: bool) {
        self.end_what_is_over();
        let target = self.any_target();
        let ends = self.random.random_bool(0.9);
        let time = Duration::from_secs(self.random.random_range(0..600));
        let drain = Drain {
            target,
            reason: String::new(),
            author: "model".to_owned(),
            since: self.at(),
            until: ends.then(|| self.at() + time),
        };
        let stood = self.judge.drains().to_vec();
        match self.judge.drain(drain, force, self.now, self.at()) {
            Ok(next) => {
                self.forced = force;
                let before = self.healthy();
                self.look(next);
                if !force {
                    self.check_drain(&before);
                }
                self.forced = false;
                self.seen.drained += 1;
                self.seen.forced += usize::from(force);
                assert!(self.judge.drains().iter().any(|drain| drain.target == target));
            }
            Err(refused) => {
                assert!(!force, "{refused}");
                self.seen.refused_keep += usize::from(refused.rule() == "keep_sites");
                self.seen.refused_window += usize::from(refused.rule() == "max_withdrawn");
                let stands = self.judge.drains();
                assert!(
                    stands
                        .iter()
                        .all(|drain| stood.contains(drain) && drain.target != target)
                );
                // What was over by now may have ended; that is told with the next news.
                let next = self.judge.on_deadline(self.now, self.at());
                self.look(next);
            }
        }
    }

    fn force(&mut self, to: Forced, overrule: bool) {
        self.end_what_is_over();
        let target = self.any_target();
        let ends = self.random.random_bool(0.9);
        let time = Duration::from_secs(self.random.random_range(0..600));
        let force = Force {
            target,
            to,
            reason: String::new(),
            author: "model".to_owned(),
            since: self.at(),
            until: ends.then(|| self.at() + time),
        };
        match self.judge.force(force, overrule, self.now, self.at()) {
            Ok(next) => {
                self.forced = overrule;
                let before = self.healthy();
                self.look(next);
                if !overrule {
                    self.check_drain(&before);
                }
                self.forced = false;
                self.seen.worded[usize::from(to == Forced::Down)] += 1;
            }
            Err(refused) => {
                assert!(!overrule && to == Forced::Down, "{refused}");
                let stands = self.judge.forces().iter();
                assert!(
                    !stands
                        .clone()
                        .any(|force| (force.target, force.to) == (target, to))
                );
                let next = self.judge.on_deadline(self.now, self.at());
                self.look(next);
            }
        }
    }

    fn unforce(&mut self) {
        let forces = self.judge.forces();
        if forces.is_empty() {
            return;
        }
        let target = forces[self.random.random_range(0..forces.len())].target;
        let next = self.judge.unforce(target, "model", self.now, self.at()).unwrap();
        self.look(next);
    }

    /// By unit, whether anything of it is in service and up.
    fn healthy(&self) -> Vec<bool> {
        let mut units = vec![false; self.pool_of.len()];
        for ((id, state), unit) in (0..).map(EndpointId).zip(&self.last.endpoints).zip(&self.unit_of) {
            let is_up = (state.verdict, &state.service) == (Verdict::Up, &Service::In);
            units[*unit] |= is_up && !self.lost.contains(&id);
        }
        units
    }

    /// What the guard permitted to drain leaves enough that is not only in service but up.
    fn check_drain(&self, before: &[bool]) {
        let after = self.healthy();
        for pool in 0..self.taken.len() {
            let left = self.count(&after, pool);
            let enough = self.least(pool);
            assert!(
                left >= enough.min(self.count(before, pool)),
                "pool {pool}: a drain left {left} up"
            );
        }
    }

    fn undrain(&mut self) {
        let drains = self.judge.drains();
        if drains.is_empty() {
            return;
        }
        let target = drains[self.random.random_range(0..drains.len())].target;
        let next = self.judge.undrain(target, "model", self.now, self.at()).unwrap();
        self.look(next);
    }

    fn set_the_clock(&mut self) {
        self.off += SignedDuration::from_secs(self.random.random_range(-600..600));
    }

    /// Another policy, and pools that come or go. What the policy excuses is not our fault.
    fn reload(&mut self) {
        self.version += 1;
        let keep = self.random.random_range(0..4);
        let max = self.random.random_range(0..5);
        let fleet = fleet(self.version, keep, max);
        let empty = Judge::new(Arc::clone(&fleet), self.now, self.at());
        let old = std::mem::replace(&mut self.judge, empty);
        // The old picture in the new layout: by name, which for the pools that stay is their place.
        let (judge, first) = old.reload(Arc::clone(&fleet), self.now, self.at());
        self.judge = judge;
        self.policy = fleet.guard.clone();
        let kept = if self.version % 2 == 1 {
            3
        } else {
            self.taken.len().min(3)
        };
        self.taken.truncate(kept);
        self.excused.truncate(kept);
        let before = self.in_service(&self.last);
        self.lay_out(&fleet);
        let after = self.in_service(&first);
        self.note_reload(&before, &after);
        self.excused.fill(true);
        self.check_services(&first);
        self.last = first;
        // Nobody has said anything of what is new, and the ids are others.
        self.judge.decides_for(Target::Site(OWN).endpoints(&fleet));
        self.went_out.clear();
        for id in std::mem::take(&mut self.lost) {
            self.judge.heard_from_home(id, Verdict::Up);
        }
        for id in fleet.endpoint_ids() {
            self.judge.heard_from_home(id, Verdict::Up);
        }
        self.tell(Vec::new());
    }

    /// A reload asks the guard again with the new policy, and may take out what that allows.
    fn note_reload(&mut self, before: &[bool], after: &[bool]) {
        let stays = self.pool_of.iter().take_while(|pool| **pool < 3).count();
        let gone: Vec<_> = (0..stays).filter(|unit| before[*unit] && !after[*unit]).collect();
        for pool in gone.iter().map(|unit| self.pool_of[*unit]) {
            self.taken[pool].push_back(self.now);
        }
        for unit in gone {
            self.check_window(self.pool_of[unit]);
        }
    }

    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.judge.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let stood = self.judge.drains().len();
            let next = self.judge.on_deadline(self.now, self.at());
            self.seen.expired += stood - self.judge.drains().len();
            self.look(next);
            assert_ne!(
                self.judge.next_deadline(),
                Some(due),
                "a deadline that does not move"
            );
        }
        self.now = end;
    }

    /// Faults end: things must come to rest where they belong.
    fn rest(&mut self) {
        self.seen.rests += 1;
        let up: Vec<_> = self
            .unit_of
            .iter()
            .map(|_| self.random.random_bool(0.5))
            .collect();
        let verdict = |up: bool| if up { Verdict::Up } else { Verdict::Down };
        self.tell_all(|id| verdict(up[id.0 as usize]));
        // Longer than any drain with an end and any clock that was set back, and time for each unit to go out.
        self.pass(Duration::from_secs(3_600) + WINDOW * 60);
        let at = self.at();
        let is_over = |drain: &Drain| drain.until.is_some_and(|until| until <= at);
        assert!(!self.last.drains.iter().any(is_over), "a drain outlived its end");
        let is_over = |force: &Force| force.until.is_some_and(|until| until <= at);
        assert!(
            !self.last.forces.iter().any(is_over),
            "a forced verdict outlived its end"
        );
        let units = self.standing(&self.last);
        for (id, up) in self.last.fleet.endpoint_ids().zip(&up) {
            self.check_rest(id, *up, &units);
        }
    }

    fn check_rest(&self, id: EndpointId, up: bool, units: &[bool]) {
        let state = self.last.endpoint(id);
        let is_drained = self.last.endpoint_drain(id).is_some();
        if is_drained || self.last.endpoint_force(id).is_some() {
            return; // see `check_services`
        }
        if up {
            assert_eq!(state.service, Service::In);
            return;
        }
        let pool = self.pool_of[self.unit_of[id.0 as usize]];
        match &state.service {
            Service::Held { reason } => {
                let least = self.least(pool);
                let is_needed = least > 0 && self.count(units, pool) <= least;
                let max = self.policy.max_withdrawn;
                assert!(
                    is_needed || max == 0,
                    "{id:?} is held for no reason that lasts: {reason}"
                );
            }
            other @ (Service::In | Service::Out | Service::Drained) => {
                assert_eq!(*other, Service::Out, "{id:?}");
            }
        }
    }
}

#[test]
fn no_hundred_thousand_steps_over_fifty_sites_get_past_the_guard() {
    let mut world = World::new(SEED);
    for step in 1..=STEPS {
        world.step();
        if step % REST_EVERY == 0 {
            world.rest();
        }
    }
    println!("{:?}", world.seen);
    let Seen {
        snapshots,
        held,
        refused_keep,
        refused_window,
        drained,
        forced,
        worded,
        expired,
        rests,
        most_taken,
        came_back,
    } = world.seen;
    assert_eq!(rests, STEPS / REST_EVERY);
    for count in [
        snapshots,
        held,
        refused_window,
        drained,
        forced,
        worded[0],
        worded[1],
    ] {
        assert!(count > 1_000, "the run met too little");
    }
    assert!(
        refused_keep > 100 && most_taken == 4 && came_back > 50 && expired > 500,
        "the run met too little"
    );
}
