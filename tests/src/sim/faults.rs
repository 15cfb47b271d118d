//! What goes wrong, drawn from the seed: when, where, and for how long.
//!
//! ```text
//! warm up ─► chaos ─► all faults end ─► the sites must agree ─► calm ─► chaos ─► ...
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;
use rand::{RngExt, SeedableRng};
use steer_health::{Drain, Target};

use super::draw::{GOOD_PATH, PEERS, SMALL_MAX, Shape, Variant, draw_guard};
use super::network::{Cut, Link, Stops};
use super::watch::Rule;
use super::watch::guard::Because;
use super::world::{AGREE_WITHIN, Event, Manner, World, keep};

/// Before the first fault.
const WARM_UP: Duration = Duration::from_secs(40);

/// From one heal to the next chaos: time to agree, and some to stay so.
const CALM: Duration = AGREE_WITHIN.saturating_add(Duration::from_secs(25));

/// The faults of a run.
pub(super) struct Faults {
    random: StdRng,
    sites: usize,
    /// What is wrong at the moment, by number.
    active: BTreeMap<u64, Active>,
    next: u64,
    /// Faults begin.
    is_chaos: bool,
    /// How often they began.
    chaoses: u64,
    /// The fleet is small enough for every own verdict to have a line.
    pub(super) is_small: bool,
}

/// A fault that ends.
enum Active {
    Manner(SocketAddr),
    Link(usize),
    Cut,
    Clock(usize),
    Store(usize),
    Configuration,
}

impl Faults {
    pub(super) fn new(seed: u64, sites: usize) -> Self {
        Self {
            random: StdRng::seed_from_u64(seed),
            sites,
            active: BTreeMap::new(),
            next: 0,
            is_chaos: false,
            chaoses: 0,
            is_small: sites <= 20,
        }
    }

    fn site(&mut self) -> usize {
        self.random.random_range(0..self.sites)
    }

    fn seconds(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(self.random.random_range(from * 1_000..=to * 1_000))
    }
}

/// Every so many chaoses have one fault alone, that all checks fail.
const ALONE_EVERY: u64 = 3;

/// A kind of fault, how often it comes among the others, and how it begins.
type Kind = (&'static str, u32, fn(&mut World));

/// All of them.
const KINDS: [Kind; 16] = [
    ("endpoint fails", 8, World::endpoint_fails),
    ("site fails", 2, World::all_of_a_site_fail),
    ("process crashes", 4, World::process_crashes),
    ("process restarts", 2, World::process_restarts),
    ("process pauses", 4, World::process_pauses),
    ("paths degrade", 5, World::paths_degrade),
    ("fleet parts", 3, World::fleet_parts),
    ("site is cut off", 4, World::site_is_cut_off),
    ("some pairs are cut one way", 4, World::pairs_are_cut),
    ("clock jumps", 3, World::clock_jumps),
    ("checks are wrong everywhere", 1, World::checks_go_wrong),
    ("wrong file", 1, World::wrong_file),
    ("file changes", 2, World::file_changes),
    ("store is lost", 2, World::store_is_lost),
    ("operator drains", 5, World::operator_drains),
    ("session breaks", 3, World::session_breaks),
];

/// What hits all sites at once. In a large fleet it comes no more often than in a small one, though other faults do.
const OF_THE_WHOLE: [&str; 3] = ["fleet parts", "checks are wrong everywhere", "file changes"];

/// It comes as often as in a fleet of so many sites.
const AS_IN: usize = 20;

impl World {
    /// The first chaos begins after the warm-up.
    pub(super) fn plan_faults(&mut self) {
        self.push(WARM_UP, Event::Fault);
    }

    /// One fault begins; the first of a chaos also says when it ends.
    pub(super) fn fault(&mut self) {
        if !self.faults.is_chaos {
            (self.faults.is_chaos, self.calm) = (true, false);
            let ends = self.now + self.faults.seconds(60, 110);
            self.push(ends, Event::Heal);
            self.say(format_args!("-- chaos begins"));
            self.push(ends + CALM, Event::Fault);
            self.faults.chaoses += 1;
            if self.faults.chaoses.is_multiple_of(ALONE_EVERY) {
                self.checks_alone_go_wrong();
                return;
            }
        }
        let all: u32 = KINDS.iter().map(|(_, weight, _)| weight).sum();
        let mut drawn = self.faults.random.random_range(0..all);
        for (kind, weight, begin) in KINDS {
            if drawn < weight {
                if self.comes(kind) {
                    *self.counts.faults.entry(kind).or_default() += 1;
                    begin(self);
                }
                break;
            }
            drawn -= weight;
        }
        self.refresh_paths();
        let pace = 4_000 / (1 + self.faults.sites as u64 / 20);
        let next = self.now + Duration::from_millis(self.faults.random.random_range(pace / 4..=pace * 2));
        self.push(next, Event::End(NEXT));
    }

    fn comes(&mut self, kind: &str) -> bool {
        let sites = self.faults.sites;
        let is_rare = sites > SMALL_MAX && OF_THE_WHOLE.contains(&kind);
        !is_rare || self.faults.random.random_bool(AS_IN as f64 / sites as f64)
    }

    /// A fault ends.
    pub(super) fn end(&mut self, number: u64) {
        if number == NEXT {
            if self.faults.is_chaos {
                self.fault();
            }
            return;
        }
        let Some(active) = self.faults.active.remove(&number) else {
            return; // a heal came first
        };
        match active {
            Active::Manner(endpoint) => drop(self.manners.insert(endpoint, Manner::Answers)),
            Active::Link(site) => self.network.links[site] = Link::default(),
            Active::Cut => self.network.cuts.retain(|(cut, ..)| *cut != number),
            Active::Clock(site) => self.set_clock(site, SignedDuration::ZERO),
            Active::Store(site) => self.store_is_back(site),
            Active::Configuration => self.roll_out(&Variant {
                path: GOOD_PATH,
                ..self.variant.clone()
            }),
        }
        self.say(format_args!("fault {number} ends"));
        self.refresh_paths();
    }

    /// Everything is well again, but for endpoints of one site, perhaps.
    pub(super) fn heal(&mut self) {
        self.faults.is_chaos = false;
        self.say(format_args!("-- all faults end"));
        for number in self.faults.active.keys().copied().collect::<Vec<_>>() {
            self.end(number);
        }
        if self.variant.path != GOOD_PATH {
            self.roll_out(&Variant {
                path: GOOD_PATH,
                ..self.variant.clone()
            });
        }
        for manner in self.manners.values_mut() {
            *manner = Manner::Answers;
        }
        if self.faults.random.random_bool(0.5) {
            self.some_stay_dead();
        }
        for site in 0..self.sites.len() {
            if self.sites[site].paused {
                self.push(self.now, Event::Resume(site));
            }
            if self.sites[site].process.is_none() {
                self.push(self.now, Event::Start(site));
            }
            for peer in self.sites[site].sessions.down() {
                self.push(self.now + Duration::from_secs(2), Event::SessionUp { site, peer });
            }
            if self.faults.random.random_bool(0.7) {
                self.undrain_all(site);
            }
        }
        self.refresh_paths();
        self.healed = Some(self.now);
    }

    /// Endpoints of one site alone: a site that sees most others down is rightly not believed.
    fn some_stay_dead(&mut self) {
        let site = self.faults.site();
        let Some(endpoints) = self.endpoints_of(site) else {
            return;
        };
        for endpoint in endpoints {
            if self.faults.random.random_bool(0.5) {
                let manner = [Manner::Refuses, Manner::Hangs][self.faults.random.random_range(0..2)];
                self.manners.insert(endpoint, manner);
                self.say(format_args!("{endpoint} stays dead: {manner:?}"));
            }
        }
    }

    fn endpoints_of(&mut self, site: usize) -> Option<Vec<SocketAddr>> {
        let variant = Variant {
            is_whole: true,
            ..self.variant.clone()
        };
        let fleet = Arc::clone(&self.load(&variant)?.fleet);
        let id = self.sites[site].id;
        let here = fleet
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.site == Some(id));
        Some(here.map(|endpoint| endpoint.address).collect())
    }

    fn begins(&mut self, active: Active, time: Duration) -> u64 {
        self.faults.next += 1;
        let number = self.faults.next;
        self.faults.active.insert(number, active);
        self.push(self.now + time, Event::End(number));
        number
    }

    fn manner(&mut self) -> Manner {
        let random = &mut self.faults.random;
        match random.random_range(0..8) {
            0..3 => Manner::Refuses,
            3..5 => Manner::Hangs,
            5 => Manner::Slow(Duration::from_millis(random.random_range(100..1_500))),
            _ => Manner::Flaky(random.random_range(0.2..0.9)),
        }
    }

    fn endpoint_fails(&mut self) {
        let endpoints: Vec<_> = self.manners.keys().copied().collect();
        let count = 1 + endpoints.len() / 200;
        for _ in 0..count {
            let Some(endpoint) = endpoints.choose(&mut self.faults.random).copied() else {
                return;
            };
            let (manner, time) = (self.manner(), self.faults.seconds(1, 60));
            let number = self.begins(Active::Manner(endpoint), time);
            self.manners.insert(endpoint, manner);
            self.say(format_args!("fault {number}: {endpoint} {manner:?} for {time:?}"));
        }
    }

    fn all_of_a_site_fail(&mut self) {
        let (site, time) = (self.faults.site(), self.faults.seconds(5, 60));
        let name = self.sites[site].name;
        for endpoint in self.endpoints_of(site).unwrap_or_default() {
            let number = self.begins(Active::Manner(endpoint), time);
            self.manners.insert(endpoint, Manner::Refuses);
            self.say(format_args!(
                "fault {number}: {endpoint} of {name} refuses for {time:?}"
            ));
        }
    }

    fn process_crashes(&mut self) {
        let (site, time) = (self.faults.site(), self.faults.seconds(0, 40));
        let name = self.sites[site].name;
        self.say(format_args!("{name} crashes, and starts again after {time:?}"));
        self.stop(site, false);
        self.push(self.now + time, Event::Start(site));
    }

    fn process_restarts(&mut self) {
        let (site, time) = (self.faults.site(), self.faults.seconds(1, 10));
        if self.sites[site].paused {
            return;
        }
        let name = self.sites[site].name;
        self.say(format_args!(
            "{name} is stopped in order, and starts again after {time:?}"
        ));
        self.stop(site, true);
        self.push(self.now + time, Event::Start(site));
    }

    fn process_pauses(&mut self) {
        let site = self.faults.site();
        let time = if self.faults.random.random_bool(0.7) {
            Duration::from_millis(self.faults.random.random_range(50..3_000))
        } else {
            self.faults.seconds(3, 40)
        };
        let name = self.sites[site].name;
        self.say(format_args!("{name} stands still for {time:?}"));
        self.pause(site, time);
    }

    fn paths_degrade(&mut self) {
        let (site, time) = (self.faults.site(), self.faults.seconds(5, 60));
        let random = &mut self.faults.random;
        let mut some = |of: f64| {
            if random.random_bool(0.4) {
                random.random_range(0.0..of)
            } else {
                0.0
            }
        };
        let link = Link {
            loss: some(0.6),
            twice: some(0.5),
            damage: some(0.3),
            late: Duration::from_micros(some(400_000.0) as u64),
        };
        let number = self.begins(Active::Link(site), time);
        self.network.links[site] = link;
        let name = self.sites[site].name;
        self.say(format_args!(
            "fault {number}: paths of {name} {link:?} for {time:?}"
        ));
    }

    fn stops(&mut self) -> Stops {
        *[Stops::Both, Stops::Both, Stops::Gossip, Stops::Probes]
            .choose(&mut self.faults.random)
            .unwrap_or(&Stops::Both)
    }

    fn cut(&mut self, cut: Cut) {
        let (stops, time) = (self.stops(), self.faults.seconds(2, 70));
        let number = self.begins(Active::Cut, time);
        self.say(format_args!("fault {number}: {cut:?} {stops:?} for {time:?}"));
        self.network.cuts.push((number, stops, cut));
    }

    fn fleet_parts(&mut self) {
        let sides = (0..self.faults.sites)
            .map(|_| self.faults.random.random_bool(0.5))
            .collect();
        self.cut(Cut::Sides(sides));
    }

    fn site_is_cut_off(&mut self) {
        let site = self.faults.site();
        let sides = (0..self.faults.sites).map(|one| one == site).collect();
        self.cut(Cut::Sides(sides));
    }

    fn pairs_are_cut(&mut self) {
        let count = self.faults.random.random_range(1..=self.faults.sites * 2);
        let mut pairs = BTreeSet::new();
        for _ in 0..count {
            let pair = (self.faults.site(), self.faults.site());
            if pair.0 != pair.1 {
                pairs.insert(pair);
            }
        }
        self.cut(Cut::OneWay(pairs));
    }

    fn clock_jumps(&mut self) {
        let (site, time) = (self.faults.site(), self.faults.seconds(1, 60));
        let far = if self.faults.random.random_bool(0.5) {
            50_000
        } else {
            7_200_000
        };
        let skew = SignedDuration::from_millis(self.faults.random.random_range(-far..=far));
        let number = self.begins(Active::Clock(site), time);
        let name = self.sites[site].name;
        self.say(format_args!(
            "fault {number}: the clock of {name} jumps by {skew:?} for {time:?}"
        ));
        self.set_clock(site, skew);
    }

    fn set_clock(&mut self, site: usize, skew: SignedDuration) {
        self.sites[site].skew = skew;
    }

    /// All sites get another file, within a few seconds.
    fn roll_out(&mut self, variant: &Variant) {
        self.say(format_args!("all files say {variant:?}"));
        self.variant = variant.clone();
        for site in 0..self.faults.sites {
            let at = self.now + self.faults.seconds(0, 3);
            self.sites[site].variant = variant.clone();
            self.push(at, Event::Reload(site));
        }
    }

    fn checks_go_wrong(&mut self) {
        let time = self.faults.seconds(5, 40);
        self.begins(Active::Configuration, time);
        self.roll_out(&Variant {
            path: "/wrong",
            ..self.variant.clone()
        });
    }

    /// Nothing else is wrong: the sites hear each other, and each takes itself for dead.
    fn checks_alone_go_wrong(&mut self) {
        *self.counts.faults.entry("checks alone are wrong").or_default() += 1;
        for site in 0..self.sites.len() {
            self.undrain_all(site);
        }
        let time = self.faults.seconds(40, 60);
        self.begins(Active::Configuration, time);
        self.roll_out(&Variant {
            path: "/wrong",
            ..self.variant.clone()
        });
    }

    /// A file with a fault is refused: nothing of it runs.
    fn wrong_file(&mut self) {
        let text = self.shape.text(&self.variant);
        let wrong = match self.faults.random.random_range(0..3) {
            0 => text.replace("keep_sites", "keep_site"),
            1 => text.replace("check = \"web\"", "check = \"wep\""),
            _ => format!("{text}\n[[pool]]\nname = \"p0\"\nendpoints = []\n"),
        };
        let result = match Shape::load(&wrong) {
            Ok(_) => Err(Rule::Names.broken("a wrong file is taken")),
            Err(faults) => {
                let first = faults.lines().next().unwrap_or_default().to_owned();
                self.say(format_args!("a wrong file is refused: {first}"));
                Ok(())
            }
        };
        self.check(0, result);
    }

    fn file_changes(&mut self) {
        let mut variant = self.variant.clone();
        if let Some(other) = self.shape.other_vantage_points(&variant)
            && self.faults.random.random_bool(0.5)
        {
            variant = other;
        } else if self.faults.random.random_bool(0.5) {
            variant.guard = draw_guard(&mut self.faults.random);
        } else {
            variant.is_whole = !variant.is_whole;
        }
        self.roll_out(&variant);
    }

    fn store_is_lost(&mut self) {
        let (site, time) = (self.faults.site(), self.faults.seconds(5, 50));
        let number = self.begins(Active::Store(site), time);
        self.sites[site].store_is_lost = true;
        let name = self.sites[site].name;
        self.say(format_args!(
            "fault {number}: the store of {name} is lost for {time:?}"
        ));
    }

    fn store_is_back(&mut self, site: usize) {
        let site = &mut self.sites[site];
        site.store_is_lost = false;
        if let Some(process) = &site.process {
            let snapshot = Arc::clone(&process.snapshot);
            keep(site, &snapshot);
        }
    }

    fn session_breaks(&mut self) {
        let (site, peer) = (self.faults.site(), self.faults.random.random_range(0..PEERS));
        self.sites[site].sessions.down_one(peer);
        let at = self.now + self.faults.seconds(1, 15);
        self.push(at, Event::SessionUp { site, peer });
    }

    /// Sites have drains of their own: an operator drains at one, or goes round to all.
    fn operator_drains(&mut self) {
        let whom = self.faults.site();
        let everywhere = self.faults.random.random_bool(0.5);
        let (undrain, force) = (
            self.faults.random.random_bool(0.3),
            self.faults.random.random_bool(0.2),
        );
        let time = self
            .faults
            .random
            .random_bool(0.5)
            .then(|| self.faults.seconds(10, 120));
        let whole = self.faults.random.random_bool(0.6);
        for site in 0..self.faults.sites {
            if !(everywhere || site == whom) || self.sites[site].paused {
                continue;
            }
            if undrain {
                self.undrain_all(site);
            } else {
                self.drain(site, whom, whole, force, time);
            }
        }
    }

    fn drain(&mut self, at_site: usize, whom: usize, whole: bool, force: bool, time: Option<Duration>) {
        let (when, target) = (self.moment(at_site), self.sites[whom].id);
        let site = &mut self.sites[at_site];
        let Some(process) = &mut site.process else { return };
        let fleet = Arc::clone(process.checks.fleet());
        let of_site = || {
            fleet
                .endpoint_ids()
                .find(|id| fleet.endpoint(*id).site == Some(target))
        };
        let target = match of_site().filter(|_| !whole) {
            Some(endpoint) => Target::Endpoint(endpoint),
            None => Target::Site(target),
        };
        let until = time.and_then(|time| when.at.checked_add(time).ok());
        let drain = Drain {
            target,
            reason: String::new(),
            author: "sim".to_owned(),
            since: when.at,
            until,
        };
        let name = target.name(&fleet);
        let drained = process.checks.judge_mut().drain(drain, force, when.now, when.at);
        let here = site.name;
        match drained {
            Ok(next) => {
                self.sites[at_site].wished.insert(name.clone(), until);
                self.say(format_args!("{here} drains {name}, forced: {force}"));
                if let Some(next) = next {
                    let because = if force { Because::Force } else { Because::Wish };
                    self.publish(at_site, &next, because);
                }
                self.turn(at_site);
            }
            Err(refused) => self.say(format_args!("{here}: {refused}")),
        }
    }

    fn undrain_all(&mut self, at_site: usize) {
        let when = self.moment(at_site);
        let site = &mut self.sites[at_site];
        let Some(process) = &site.process else { return };
        if site.paused {
            return;
        }
        let targets: Vec<_> = process.snapshot.drains.iter().map(|drain| drain.target).collect();
        for target in targets {
            let site = &mut self.sites[at_site];
            let Some(process) = &mut site.process else { return };
            let name = target.name(process.checks.fleet());
            site.wished.remove(&name);
            let (here, undrained) = (
                site.name,
                process
                    .checks
                    .judge_mut()
                    .undrain(target, "sim", when.now, when.at),
            );
            self.say(format_args!("{here} undrains {name}"));
            match undrained {
                Ok(Some(next)) => self.publish(at_site, &next, Because::Wish),
                Ok(None) => {}
                // Its time was over by then.
                Err(error) => self.say(format_args!("{here}: {error}")),
            }
        }
        self.turn(at_site);
    }
}

/// Not the end of a fault, but the beginning of the next one.
const NEXT: u64 = 0;
