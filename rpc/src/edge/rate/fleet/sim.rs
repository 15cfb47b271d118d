//! Several edges under virtual time, with a store that is slow, loses words, or is away.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;
use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};

use super::tests::{EVERY, rates, rules};
use super::*;
use crate::edge::rate::Who;
use crate::edge::rate::bucket::SLACK;

const STEP: Duration = Duration::from_millis(1);

/// What a run is made of.
#[derive(Debug, Clone)]
struct Scene {
    edges: usize,
    per_second: u32,
    burst: u32,
    seed: u64,
    /// Longest way of a word through the store, in milliseconds.
    delay: u64,
    /// Words that are lost, in percent, and most of one edge in a row.
    loss: (u32, u32),
    alone: Alone,
}

struct Edge {
    name: String,
    fleet: Fleet,
    rates: Mutex<Rates>,
    next: Instant,
    /// Of its words, at each other edge.
    lost_in_a_row: Vec<u32>,
}

/// A word on its way.
struct Word {
    at: Instant,
    to: usize,
    name: String,
    value: Vec<u8>,
}

struct World {
    scene: Scene,
    edges: Vec<Edge>,
    words: VecDeque<Word>,
    rng: SmallRng,
    now: Instant,
    is_store_away: bool,
    admitted: u64,
}

impl World {
    fn new(scene: Scene) -> Self {
        let now = Instant::now();
        let mut rng = SmallRng::seed_from_u64(scene.seed);
        let edges = (0..scene.edges).map(|number| {
            let rules = rules(scene.alone);
            let rates = rates(scene.per_second, scene.burst, rules.clone(), now);
            let name = format!("edge/{number}");
            Edge {
                fleet: Fleet::new(&rules, &name, &rates, now),
                name,
                rates,
                next: now + STEP * rng.random_range(1..=1_000),
                lost_in_a_row: vec![0; scene.edges],
            }
        });
        Self {
            edges: edges.collect(),
            scene,
            words: VecDeque::new(),
            rng,
            now,
            is_store_away: false,
            admitted: 0,
        }
    }

    /// One call of the client; whether it was admitted.
    fn call(&mut self, edge: usize) -> bool {
        let mut rates = lock(&self.edges[edge].rates);
        let is_admitted = rates.check(Who::Named(b"a"), self.now).is_ok();
        self.admitted += u64::from(is_admitted);
        is_admitted
    }

    /// A millisecond.
    fn step(&mut self) {
        self.now += STEP;
        for number in 0..self.edges.len() {
            if self.edges[number].next <= self.now {
                self.edges[number].next += EVERY;
                self.tick(number);
            }
        }
        while self.words.front().is_some_and(|word| word.at <= self.now) {
            if let Some(Word { to, name, value, .. }) = self.words.pop_front() {
                let Edge { fleet, rates, .. } = &mut self.edges[to];
                fleet.on_news(News::Put(name, value), rates, self.now);
            }
        }
    }

    fn tick(&mut self, from: usize) {
        let Edge { fleet, rates, .. } = &mut self.edges[from];
        let value = fleet.on_tick(rates, self.now);
        if self.is_store_away {
            return;
        }
        for to in 0..self.edges.len() {
            let (percent, in_a_row) = self.scene.loss;
            let lost = &mut self.edges[from].lost_in_a_row[to];
            if to != from && *lost < in_a_row && self.rng.random_range(0..100) < percent {
                *lost += 1;
                continue;
            }
            *lost = 0;
            let at = self.now + STEP * self.rng.random_range(0..=self.scene.delay as u32);
            let place = self.words.partition_point(|word| word.at <= at);
            let name = self.edges[from].name.clone();
            let value = value.clone();
            self.words.insert(place, Word { at, to, name, value });
        }
    }

    /// Longest time from a call to its charge at all others.
    fn lag(&self) -> f64 {
        let (percent, in_a_row) = self.scene.loss;
        let lost = if percent == 0 { 0 } else { in_a_row };
        EVERY.as_secs_f64() * f64::from(1 + lost) + self.scene.delay as f64 / 1_000.0
    }

    /// What the head of the module `rate` says, for so many seconds.
    fn bound(&self, seconds: f64) -> f64 {
        let (edges, rate) = (self.edges.len() as f64, f64::from(self.scene.per_second));
        let slack = (EVERY * SLACK)
            .as_secs_f64()
            .max(self.lag() + EVERY.as_secs_f64());
        let late = rate * ((edges - 1.0) * self.lag() + slack);
        rate * seconds + edges * f64::from(self.scene.burst) + late
    }
}

fn scenes() -> impl Strategy<Value = Scene> {
    let alone = prop_oneof![Just(Alone::Share), Just(Alone::Full)];
    let rate = (1..=5_usize, 1..=300_u32, 1..=400_u32);
    (rate, any::<u64>(), 0..=1_500_u64, (0..=60_u32, 1..=3_u32), alone).prop_map(
        |((edges, per_second, burst), seed, delay, loss, alone)| Scene {
            edges,
            per_second,
            burst,
            seed,
            delay,
            loss,
            alone,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// A client that calls as often as it can, now here and now there and now everywhere.
    #[test]
    fn a_client_gets_the_rate_of_one_edge_from_all_of_them_together(scene in scenes()) {
        let mut world = World::new(scene);
        let start = world.now;
        let count = world.edges.len();
        let mut busy = vec![true; count];
        let seconds = 60;
        for ms in 0..seconds * 1_000_u32 {
            if ms % 700 == 0 {
                busy.iter_mut().for_each(|busy| *busy = world.rng.random());
            }
            for (edge, _) in busy.iter().enumerate().filter(|(_, busy)| **busy) {
                while world.call(edge) {}
            }
            let passed = (world.now - start).as_secs_f64();
            prop_assert!(
                (world.admitted as f64) <= world.bound(passed),
                "{} of {} after {passed} s", world.admitted, world.bound(passed)
            );
            world.step();
        }
    }

    /// What the fleet has is given: a client that calls everywhere all the time loses nothing to the lag.
    #[test]
    fn a_client_that_takes_all_that_it_can_gets_its_rate(scene in scenes()) {
        let mut world = World::new(scene);
        let seconds = 60;
        for _ in 0..seconds * 1_000_u32 {
            for edge in 0..world.edges.len() {
                while world.call(edge) {}
            }
            world.step();
        }
        let rate = f64::from(world.scene.per_second);
        // The last debts are still to be paid with time that is over.
        let least = rate * (f64::from(seconds) - (world.edges.len() as f64) * world.lag()) * 0.9;
        prop_assert!(world.admitted as f64 >= least, "{} of {least}", world.admitted);
    }

    /// Nine tenths of its rate, evenly, at whichever edges.
    #[test]
    fn a_client_within_its_rate_is_not_refused_while_words_come_in_time(
        scene in scenes(), delay in 0..=900_u64, sticky in 1..500_u32,
    ) {
        let mut world = World::new(Scene { delay, loss: (0, 1), ..scene });
        let per_ms = f64::from(world.scene.per_second) * 0.9 / 1_000.0;
        let (mut due, mut edge) = (0.0, 0);
        for ms in 0..60_000_u32 {
            if ms % sticky == 0 {
                edge = world.rng.random_range(0..world.edges.len());
            }
            // Never two in one millisecond, where a burst is one.
            due += per_ms;
            while due >= 1.0 {
                due -= 1.0;
                prop_assert!(world.call(edge), "at {ms} ms");
            }
            world.step();
        }
    }

    /// The same where words are lost and late.
    #[test]
    fn a_client_within_its_rate_is_never_refused_for_long(scene in scenes(), sticky in 1..500_u32) {
        let mut world = World::new(scene);
        let per_ms = f64::from(world.scene.per_second) * 0.9 / 1_000.0;
        let (mut due, mut edge) = (0.0, 0);
        let mut refused_since = None;
        for ms in 0..60_000_u32 {
            if ms % sticky == 0 {
                edge = world.rng.random_range(0..world.edges.len());
            }
            due += per_ms;
            while due >= 1.0 {
                due -= 1.0;
                if world.call(edge) {
                    refused_since = None;
                } else {
                    let since = *refused_since.get_or_insert(world.now);
                    let long = (world.now - since).as_secs_f64();
                    let gap = 1.0 / f64::from(world.scene.per_second);
                    prop_assert!(long <= world.lag() + 2.0 * gap, "{long} s");
                }
            }
            world.step();
        }
    }

    /// Half a minute without a store, in the middle.
    #[test]
    fn without_the_store_each_has_its_share_and_with_it_they_are_one_again(scene in scenes()) {
        let mut world = World::new(Scene { alone: Alone::Share, ..scene });
        let start = world.now;
        let mut marks = BTreeMap::new();
        for ms in 0..90_000_u32 {
            world.is_store_away = (30_000..60_000).contains(&ms);
            for edge in 0..world.edges.len() {
                while world.call(edge) {}
            }
            if ms % 1_000 == 0 {
                marks.insert(ms / 1_000, world.admitted as f64);
            }
            world.step();
        }
        let (edges, rate) = (world.edges.len() as f64, f64::from(world.scene.per_second));
        // From the last word to the tick that finds itself alone, each edge has all of the rate.
        let alone = (EVERY * (ALONE_AFTER + 2)).as_secs_f64();
        let passed = (world.now - start).as_secs_f64();
        let bound = world.bound(passed) + edges * (rate * alone + f64::from(world.scene.burst) + 1.0);
        prop_assert!((world.admitted as f64) <= bound, "{} of {bound}", world.admitted);
        let shares = marks[&60] - marks[&45];
        prop_assert!(shares <= rate * 15.0 + edges, "{shares}");
        // Where what was owed before has been paid by then.
        let owed = (edges - 1.0) * (world.lag() + f64::from(world.scene.burst) / rate);
        if owed < 9.0 {
            let least = 0.9 * rate * 15.0 - edges;
            prop_assert!(shares >= least, "{shares} of {least}");
        }
    }
}
