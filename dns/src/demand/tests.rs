//! A small world: sites with capacities, clients who follow the shares as resolvers let them, counts of what arrives.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use steer_health::{Load, Service};

use super::*;
use crate::testing::{fleet, snapshot};

/// Sites count, and tell, so often.
const TICK: Duration = Duration::from_secs(10);
/// Ticks until the last resolver has the new answer: the default TTL.
const LAG: usize = 3;
const CODES: [&str; 6] = ["fra", "nrt", "jfk", "lhr", "sin", "gru"];

#[derive(Debug)]
struct World {
    snapshot: Snapshot,
    demand: Demand,
    /// What the clients of each site ask for, in truth.
    truth: Vec<f64>,
    alive: Vec<bool>,
    /// Shares of the last ticks; clients follow the oldest.
    followed: VecDeque<Vec<Vec<f64>>>,
    noise: f64,
    rng: SmallRng,
    changes: usize,
}

/// Of a fleet with these sites and their capacities, an endpoint at each, all up.
fn snapshot_of(sites: &[(&str, u64)]) -> Snapshot {
    use std::fmt::Write as _;
    let mut text = String::new();
    for (code, capacity) in sites {
        write!(text, "[[site]]\nname = \"{code}\"\ncapacity = {capacity}\n").unwrap();
    }
    text.push_str("[[pool]]\nname = \"web\"\nendpoints = [\n");
    for (n, (code, _)) in sites.iter().enumerate() {
        writeln!(text, "{{ site = \"{code}\", address = \"198.51.100.{n}:443\" }},").unwrap();
    }
    text.push_str("]\n[[zone]]\nname = \"example.com\"\nfile = \"example.com.zone\"\n[[steer]]\n");
    text.push_str(
        "name = \"www.example.com\"\npool = \"web\"\nchain = [\"up\", \"nearest\", \"overflow\"]\n",
    );
    Arc::unwrap_or_clone(snapshot(&fleet(&text), &[]))
}

impl World {
    fn new(capacities: &[u64], truth: &[f64], noise: f64, seed: u64) -> Self {
        let sites: Vec<_> = CODES.into_iter().zip(capacities.iter().copied()).collect();
        let snapshot = snapshot_of(&sites);
        let demand = Demand::new(&snapshot);
        let followed = std::iter::repeat_n(demand.shares(), LAG + 1).collect();
        Self {
            alive: vec![true; capacities.len()],
            truth: truth.to_vec(),
            rng: SmallRng::seed_from_u64(seed),
            changes: 0,
            snapshot,
            demand,
            followed,
            noise,
        }
    }

    /// What arrives at each site, if all followed these shares.
    fn arrives(&self, shares: &[Vec<f64>]) -> Vec<f64> {
        let at = |to: usize| {
            self.truth
                .iter()
                .zip(shares)
                .map(|(demand, row)| demand * row[to])
                .sum()
        };
        (0..self.truth.len()).map(at).collect()
    }

    /// The same as soon as the last resolver follows.
    fn at_last(&self) -> Vec<f64> {
        self.arrives(&self.demand.shares())
    }

    fn obey(&mut self, next: Snapshot) {
        let changed = next.changed_since(&self.snapshot);
        if let Some(demand) = self.demand.next(&self.snapshot, &next, &changed) {
            self.changes += usize::from(demand.shares_differ(&self.demand));
            self.demand = demand;
        }
        self.snapshot = next;
    }

    fn tick(&mut self) {
        self.followed.push_back(self.demand.shares());
        self.followed.pop_front();
        let arrives = self.arrives(self.followed.front().unwrap());
        let at = self.snapshot.at + TICK;
        let mut next = Snapshot {
            number: self.snapshot.number + 1,
            at,
            ..self.snapshot.clone()
        };
        let mut count = |(arrives, alive): (f64, &bool)| {
            let noise = 1.0 + self.rng.random_range(-self.noise..=self.noise);
            alive.then(|| Load {
                per_second: (arrives * noise).round() as u64,
                at,
                until: at + 6 * TICK,
                author: "test".to_owned(),
            })
        };
        next.loads = arrives.into_iter().zip(&self.alive).map(&mut count).collect();
        self.obey(next);
    }

    fn set(&mut self, site: usize, alive: bool) {
        self.alive[site] = alive;
        let mut next = Snapshot {
            number: self.snapshot.number + 1,
            ..self.snapshot.clone()
        };
        next.endpoints[site].service = if alive { Service::In } else { Service::Out };
        self.obey(next);
    }

    fn capacity(&self, site: usize) -> f64 {
        self.demand.figures[site].room.capacity.unwrap() as f64
    }

    fn most(&self, arrives: &[f64]) -> f64 {
        let fill = |(site, arrives): (usize, &f64)| arrives / self.capacity(site);
        arrives.iter().enumerate().map(fill).fold(0.0, f64::max)
    }

    fn all_in(&self) -> f64 {
        let alive = (0..self.alive.len()).filter(|site| self.alive[*site]);
        self.truth.iter().sum::<f64>() / alive.map(|site| self.capacity(site)).sum::<f64>()
    }
}

fn worlds(noise: f64) -> impl Strategy<Value = World> {
    let site = (50_u64..2_000, 0.0..3.0_f64);
    (prop::collection::vec(site, 2..=6), 0.2..0.84_f64, any::<u64>()).prop_map(move |(sites, fill, seed)| {
        let capacities: Vec<u64> = sites.iter().map(|(capacity, _)| capacity * 100).collect();
        let wish: Vec<f64> = sites
            .iter()
            .zip(&capacities)
            .map(|((_, part), c)| part * *c as f64 + 1.0)
            .collect();
        let scale = fill * capacities.iter().sum::<u64>() as f64 / wish.iter().sum::<f64>();
        let truth: Vec<f64> = wish.iter().map(|wish| wish * scale).collect();
        World::new(&capacities, &truth, noise, seed)
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    /// However the clients are spread: while the sum fits, no site is left above its capacity, and the shares come to
    /// rest.
    #[test]
    fn no_site_stays_above_its_capacity_while_the_sum_fits_and_the_shares_come_to_rest(mut world in worlds(0.01)) {
        for _ in 0..150 {
            world.tick();
        }
        prop_assert!(world.most(&world.at_last()) <= 1.0, "{:?} {:?}", world.at_last(), world.demand);
        let changes = world.changes;
        prop_assert!(changes <= 12, "{changes} changes");
        for _ in 0..100 {
            world.tick();
        }
        prop_assert_eq!(world.changes, changes, "noise of 1 % within a band of 5 %");
    }

    /// A site dies, any site: at once, and before anything new was counted, the others are sent no more than they can
    /// serve; and it stays so while they count what comes.
    #[test]
    fn the_death_of_a_site_topples_no_other(mut world in worlds(0.01), victim in any::<prop::sample::Index>()) {
        for _ in 0..150 {
            world.tick();
        }
        let victim = victim.index(world.alive.len());
        let rest: f64 = world.truth.iter().sum::<f64>();
        let others: f64 = (0..world.alive.len()).filter(|site| *site != victim).map(|site| world.capacity(site)).sum();
        prop_assume!(rest <= 0.85 * others);
        world.set(victim, false);
        prop_assert!(world.at_last()[victim] == 0.0);
        prop_assert!(world.most(&world.at_last()) <= 1.0, "{:?} {:?}", world.at_last(), world.demand);
        for _ in 0..100 {
            world.tick();
            prop_assert!(world.most(&world.at_last()) <= 1.0, "{:?} {:?}", world.at_last(), world.demand);
        }
        let changes = world.changes;
        world.set(victim, true);
        prop_assert!(world.most(&world.at_last()) <= 1.0);
        for _ in 0..100 {
            world.tick();
        }
        prop_assert!(world.most(&world.at_last()) <= 1.0);
        prop_assert!(
            world.changes <= changes + 8,
            "{} changes: {:?} of {:?}, {:?}",
            world.changes - changes,
            world.at_last(),
            world.truth,
            world.demand
        );
    }

    /// The sum of what is believed is the sum of what is counted, whatever is counted.
    #[test]
    fn what_is_counted_is_neither_lost_nor_made(mut world in worlds(0.0), factor in 0.3..2.0_f64) {
        for _ in 0..60 {
            world.tick();
        }
        world.truth.iter_mut().for_each(|truth| *truth *= factor);
        for _ in 0..150 {
            world.tick();
        }
        let believed: f64 = world.demand.figures.iter().map(|figure| figure.room.load as f64).sum();
        let asked: f64 = world.truth.iter().sum();
        let band: f64 = 0.05 * (0..world.alive.len()).map(|site| world.capacity(site)).sum::<f64>();
        prop_assert!((believed - asked).abs() <= band + 10.0, "{believed} for {asked}");
        if world.all_in() > 1.05 {
            prop_assert!(world.most(&world.at_last()) > 1.0, "nobody can make room");
        }
    }
}

fn two() -> World {
    World::new(&[1_000, 1_000], &[900.0, 100.0], 0.0, 0)
}

fn first(world: &World) -> Room {
    world.demand.room(SiteId(0))
}

#[test]
fn a_site_begins_to_give_away_above_enter_and_ends_below_leave() {
    let mut world = two();
    let mut at = |load: f64| {
        world.truth[0] = load;
        (0..40).for_each(|_| world.tick());
        let room = first(&world);
        (room.load, room.keeps)
    };
    assert_eq!(at(900.0), (900, 900), "below enter");
    assert_eq!(at(1_200.0), (1_200, 850), "above it: down to leave");
    let (load, keeps) = at(880.0);
    assert!(
        load > 850 && keeps == 850,
        "between them it goes on: {load}, {keeps}"
    );
    let (load, keeps) = at(600.0);
    assert_eq!(load, keeps, "below leave it ends");
    let (load, keeps) = at(900.0);
    assert_eq!(load, keeps, "and does not begin again before enter");
}

#[test]
fn no_count_is_looked_at_before_resolvers_have_followed() {
    let mut world = two();
    world.truth[0] = 1_200.0;
    world.tick();
    assert_eq!(world.changes, 1);
    let after = first(&world);
    for _ in 0..5 {
        world.tick(); // within 60 s: what arrives is still by the old shares
        assert_eq!(first(&world), after);
    }
    (0..20).for_each(|_| world.tick());
    assert_eq!(first(&world), after, "and then all is as expected");
}

#[test]
fn a_lease_that_ends_gives_the_site_back_its_written_load_but_a_lost_site_keeps_its_figure() {
    let mut world = two();
    (0..20).for_each(|_| world.tick());
    assert_eq!((first(&world).load, first(&world).is_counted), (900, true));
    world.set(0, false);
    let quiet = |world: &mut World| {
        let at = world.snapshot.at + Duration::from_secs(3_600);
        world.obey(Snapshot {
            number: world.snapshot.number + 1,
            at,
            ..world.snapshot.clone()
        });
    };
    quiet(&mut world);
    assert_eq!(first(&world).load, 900, "its clients are still there");
    world.set(0, true);
    assert_eq!(first(&world).load, 900, "nobody has had the time to count");
    quiet(&mut world);
    assert_eq!(
        (first(&world).load, first(&world).is_counted),
        (0, false),
        "nothing is written"
    );
}

#[test]
fn a_reload_keeps_what_is_known_of_each_site_by_its_name() {
    let mut world = World::new(&[100, 100, 100], &[150.0, 20.0, 40.0], 0.0, 1);
    (0..60).for_each(|_| world.tick());
    world.set(2, false);
    (0..60).for_each(|_| world.tick());
    let before = [0, 1, 2].map(|site| world.demand.room(SiteId(site)));
    assert!(before[0].load > 140 && before[2].load > 30, "{before:?}");

    // The same sites in another order, and a new one; the lost one is still lost.
    let mut next = snapshot_of(&[("jfk", 100), ("lhr", 100), ("nrt", 100), ("fra", 120)]);
    (next.number, next.at) = (world.snapshot.number + 1, world.snapshot.at + TICK);
    next.endpoints[0].service = Service::Out;
    next.loads = [None, None, Some(1), Some(0)]
        .map(|old| world.snapshot.load(SiteId(old?)).cloned())
        .into_iter()
        .collect();
    let renewed = world.demand.renewed(&world.snapshot.fleet, &next);
    let after = [3, 2, 0].map(|site| renewed.room(SiteId(site)));
    assert_eq!(after.map(|room| room.load), before.map(|room| room.load));
    assert_eq!(after[0].capacity, Some(120), "as it is written now");
    assert_eq!(
        renewed.view(SiteId(0)).settled_at,
        settled_at(&next),
        "other shares"
    );

    // Nothing has changed: nothing begins anew.
    let mut same = snapshot_of(&[("fra", 100), ("nrt", 100), ("jfk", 100)]);
    (same.number, same.at) = (next.number, next.at);
    same.endpoints[2].service = Service::Out;
    same.loads = world.snapshot.loads.clone();
    assert_eq!(world.demand.renewed(&world.snapshot.fleet, &same), world.demand);
}

#[test]
fn where_no_chain_asks_nothing_is_followed() {
    let text = crate::testing::config("[\"up\"]", "");
    let fleet = fleet(&text);
    let before = snapshot(&fleet, &[]);
    let demand = Demand::new(&before);
    let after = snapshot(&fleet, &["198.51.100.1"]);
    assert_eq!(demand.next(&before, &after, &after.changed_since(&before)), None);
}
