//! Two machines over a link that loses, delays and reorders, in virtual time, from one seed.

use std::collections::BTreeMap;

use steer_topology::BfdAuthKind;

use super::keyed::keyed;
use super::*;

/// One way of the link.
#[derive(Clone, Copy)]
struct Way {
    /// Share of packets that are lost; 1.0 is a cut.
    loss: f64,
    least: Duration,
    most: Duration,
    /// No packet overtakes another.
    orderly: bool,
}

const CLEAN: Way = Way {
    loss: 0.0,
    least: Duration::from_micros(50),
    most: Duration::from_micros(500),
    orderly: true,
};

struct World {
    now: Instant,
    rng: StdRng,
    machines: [Session; 2],
    configs: [Config; 2],
    /// To each machine.
    ways: [Way; 2],
    /// By time and order of sending.
    travelling: BTreeMap<(Instant, u64), (usize, Octets)>,
    sent: u64,
    last_arrival: [Instant; 2],
    /// What clients were told, and when.
    told: [Vec<(Instant, PathState)>; 2],
    last_number: u32,
}

impl World {
    fn new(seed: u64, configs: [Config; 2]) -> Self {
        let now = Instant::now();
        let mut last_number = 0;
        let machines = configs.clone().map(|config| {
            last_number += 1;
            let seed = seed ^ (u64::from(last_number) << 32);
            Session::new(config, number(last_number), seed, now)
        });
        Self {
            now,
            rng: StdRng::seed_from_u64(seed),
            machines,
            configs,
            ways: [CLEAN; 2],
            travelling: BTreeMap::new(),
            sent: 0,
            last_arrival: [now; 2],
            told: Default::default(),
            last_number,
        }
    }

    fn act(&mut self, at: usize) {
        while let Some(output) = self.machines[at].poll_output() {
            match output {
                Output::Send(octets) => self.send(1 - at, octets),
                Output::Path(path) => self.told[at].push((self.now, path)),
            }
        }
    }

    fn send(&mut self, to: usize, octets: Octets) {
        let way = self.ways[to];
        if !self.rng.random_bool(way.loss) {
            let mut at = self.now + self.rng.random_range(way.least..=way.most);
            if way.orderly {
                at = at.max(self.last_arrival[to]);
            }
            self.last_arrival[to] = at;
            self.sent += 1;
            self.travelling.insert((at, self.sent), (to, octets));
        }
    }

    /// The driver's part of RFC 5880 §6.8.6: a packet for another discriminator is dropped.
    fn arrive(&mut self, to: usize, octets: &[u8]) {
        let received = wire::decode(octets).unwrap();
        let meant = received.packet.your_discriminator;
        let machine = &mut self.machines[to];
        if meant == 0 || meant == machine.discriminator().get() {
            let _ = machine.receive(&received, self.now, self.now);
        }
        self.act(to);
        self.check();
    }

    fn run(&mut self, time: Duration) {
        let end = self.now + time;
        loop {
            let due = |at: usize| Some((self.machines[at].next_deadline(self.now)?, at));
            let timer = [0, 1].into_iter().filter_map(due).min();
            let parcel = self.travelling.first_key_value().map(|((at, _), _)| *at);
            let next = timer.map(|(at, _)| at).into_iter().chain(parcel).min();
            let Some(next) = next.filter(|at| *at <= end) else {
                break;
            };
            self.now = self.now.max(next);
            // What arrives at the deadline counts.
            if parcel.is_some_and(|at| at <= self.now) {
                let (_, (to, octets)) = self.travelling.pop_first().unwrap();
                self.arrive(to, &octets);
            } else if let Some((_, at)) = timer {
                self.machines[at].on_deadline(self.now, self.now);
                self.act(at);
                self.check();
            }
        }
        self.now = end;
    }

    fn both_up(&self) -> bool {
        self.machines.iter().all(|machine| machine.state() == State::Up)
    }

    /// Whenever both are up, each means the other.
    fn check(&self) {
        if self.both_up() {
            for (one, other) in [(0, 1), (1, 0)] {
                let meant = self.machines[one].picture().remote_discriminator;
                assert_eq!(meant, self.machines[other].discriminator().get());
            }
        }
    }

    fn failures(&self) -> usize {
        let fails = |told: &Vec<(Instant, PathState)>| {
            let steps = told.windows(2);
            steps
                .filter(|pair| pair[0].1 == PathState::Up && matches!(pair[1].1, PathState::Down(_)))
                .count()
        };
        self.told.iter().map(fails).sum()
    }

    /// The process dies and starts anew, with another discriminator. That takes longer than packets travel: one of
    /// the old process could make the peer mean that one again, until the next packet of the new one.
    fn restart(&mut self, at: usize) {
        self.travelling.retain(|_, (to, _)| *to == at);
        self.last_number += 1;
        let (config, seed) = (self.configs[at].clone(), self.rng.random());
        self.machines[at] = Session::new(config, number(self.last_number), seed, self.now);
        self.told[at].clear();
    }
}

fn configs(rng: &mut StdRng) -> [Config; 2] {
    let intervals = [10, 50, 300, 1000];
    [(); 2].map(|()| config(intervals[rng.random_range(0..4)] * MS, rng.random_range(2..=5)))
}

/// How long the end `silent` may be silent before the other one sees it.
fn detection_bound(configs: &[Config; 2], silent: usize) -> Duration {
    let (there, here) = (&configs[silent], &configs[1 - silent]);
    let interval = here.intervals.required_min_rx.max(there.intervals.desired_min_tx);
    micros(interval) * u32::from(there.multiplier.get())
}

#[test]
fn two_ends_come_up_within_two_seconds_and_stay_up() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(seed, configs(&mut rng));
        world.run(2 * SECOND);
        assert!(world.both_up(), "seed {seed}");
        world.run(60 * SECOND);
        assert_eq!((world.both_up(), world.failures()), (true, 0), "seed {seed}");
    }
}

#[test]
fn without_loss_no_jitter_of_the_link_brings_a_session_down() {
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let configs = configs(&mut rng);
        let mut world = World::new(seed, configs.clone());
        world.run(3 * SECOND);
        // One interval of jitter, and packets that overtake each other.
        for silent in [0, 1] {
            let interval = detection_bound(&configs, silent) / u32::from(configs[silent].multiplier.get());
            let way = &mut world.ways[1 - silent];
            (way.most, way.orderly) = (CLEAN.least + interval - MS / 100, false);
        }
        world.run(60 * SECOND);
        assert_eq!((world.both_up(), world.failures()), (true, 0), "seed {seed}");
    }
}

#[test]
fn a_cut_is_seen_within_the_detection_time_and_its_end_within_two_seconds() {
    for seed in 0..200 {
        let mut rng = StdRng::seed_from_u64(seed);
        let configs = configs(&mut rng);
        let mut world = World::new(seed, configs.clone());
        world.run(5 * SECOND);
        world.run(MS * rng.random_range(0..1000));
        let cut = world.now;
        let both_ways = rng.random_bool(0.5);
        world.ways[0].loss = 1.0;
        world.ways[1].loss = if both_ways { 1.0 } else { 0.0 };
        world.run(20 * SECOND);
        for end in [0, 1] {
            let (at, path) = world.told[end][1];
            // An end that is still heard hears of it from the other one.
            let deaf = both_ways || end == 0;
            let silent = if deaf { 1 - end } else { end };
            let bound = detection_bound(&configs, silent) + 2 * CLEAN.most;
            assert!(at - cut <= bound, "seed {seed}: {path:?} after {:?}", at - cut);
            let heard = [Diagnostic::NEIGHBOR_SIGNALED, Diagnostic::DETECTION_TIME_EXPIRED];
            let first = cut + detection_bound(&configs, 1 - end) > at;
            assert!(!deaf || first || path == PathState::Down(heard[1]), "seed {seed}");
            assert!(deaf || path == PathState::Down(heard[0]), "seed {seed}");
        }
        world.ways = [CLEAN; 2];
        world.run(2 * SECOND);
        assert!(world.both_up(), "seed {seed}");
    }
}

#[test]
fn both_ends_agree_again_after_any_faults_and_restarts() {
    for seed in 0..300 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(seed, configs(&mut rng));
        for _ in 0..20 {
            for way in &mut world.ways {
                way.loss = [0.0, 0.1, 0.5, 0.9, 1.0][rng.random_range(0..5)];
                way.most = CLEAN.least + MS * rng.random_range(1..400);
                way.orderly = rng.random_bool(0.5);
            }
            world.run(MS * rng.random_range(1..3000));
            let at = rng.random_range(0..2);
            match rng.random_range(0..6) {
                0 => world.restart(at),
                1 => world.machines[at].disable(world.now),
                2 => world.machines[at].enable(world.now),
                3 => {
                    let interval = Intervals::both(MS * rng.random_range(10..1500));
                    world.machines[at].set_intervals(interval, world.now);
                }
                _ => {}
            }
            world.act(at);
        }
        world.ways = [CLEAN; 2];
        for at in [0, 1] {
            world.machines[at].enable(world.now);
            world.act(at);
        }
        // The longest Detection Time of all is 5 times 1.5 s; then a second until the next packet.
        world.run(10 * SECOND);
        assert!(world.both_up(), "seed {seed}");
        let told = world.told.clone().map(|told| told.len());
        world.run(60 * SECOND);
        assert_eq!(world.told.map(|told| told.len()), told, "seed {seed}: stable");
    }
}

#[test]
fn new_intervals_of_both_ends_are_agreed_on_without_a_flap() {
    for seed in 0..100 {
        let mut rng = StdRng::seed_from_u64(seed);
        let mut world = World::new(seed, configs(&mut rng));
        world.run(3 * SECOND);
        for way in &mut world.ways {
            way.most = 5 * MS;
        }
        for _ in 0..20 {
            let at = rng.random_range(0..2);
            let interval = Intervals::both(MS * rng.random_range(10..1500));
            world.machines[at].set_intervals(interval, world.now);
            world.configs[at].intervals = interval;
            world.act(at);
            world.run(MS * rng.random_range(0..2000));
        }
        world.run(10 * SECOND);
        assert_eq!((world.both_up(), world.failures()), (true, 0), "seed {seed}");
        for at in [0, 1] {
            let detection = world.machines[at].picture().detection_time;
            let agreed = detection_bound(&world.configs, 1 - at);
            assert_eq!(detection, Some(agreed), "seed {seed}");
        }
    }
}

#[test]
fn one_lost_packet_does_not_turn_a_wish_into_a_failure() {
    for seed in 0..100 {
        let mut world = World::new(seed, [config(50 * MS, 3), config(50 * MS, 3)]);
        world.run(3 * SECOND);
        world.ways[1].loss = 1.0;
        world.machines[0].disable(world.now);
        world.act(0);
        world.ways[1].loss = 0.0;
        world.run(10 * SECOND);
        let told = world.told[1].last().unwrap().1;
        assert_eq!(told, PathState::PeerAdminDown, "seed {seed}");
        assert_eq!(world.failures(), 0);
    }
}

#[test]
fn two_ends_with_one_key_stay_up_and_with_two_keys_never_come_up() {
    for kind in [BfdAuthKind::KeyedSha1, BfdAuthKind::MeticulousKeyedSha1] {
        for seed in 0..20 {
            let mut world = World::new(seed, [keyed(kind, b"one"), keyed(kind, b"one")]);
            for way in &mut world.ways {
                way.loss = 0.1;
            }
            world.run(30 * SECOND);
            world.ways = [CLEAN; 2];
            world.run(60 * SECOND);
            assert!(world.both_up(), "seed {seed}");
            let mut world = World::new(seed, [keyed(kind, b"one"), keyed(kind, b"two")]);
            world.run(60 * SECOND);
            assert!(world.told.iter().all(Vec::is_empty), "seed {seed}");
        }
    }
}
