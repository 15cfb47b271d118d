//! How many calls a pool can do at the same time, learnt from how long they take. Sans-IO.
//!
//! The algorithm is `Gradient2Limit` of Netflix's `concurrency-limits`, with its constants: the limit is multiplied by the
//! ratio of the usual latency to that of the last window where the latter is more than `TOLERANCE` above, and a few calls
//! may queue, which is how it grows. Envoy's gradient controller is much the same, but measures the latency without load
//! by letting few calls in now and then; that would turn clients away where nothing is wrong.

use std::time::{Duration, Instant};

use super::Priority;

/// How much above the usual latency is not yet a queue (`rttTolerance`).
const TOLERANCE: f64 = 1.5;

/// The most that one window takes off (`gradient` is at least this).
const GRADIENT_MIN: f64 = 0.5;

/// So many calls may queue (`queueSize`).
const QUEUE: f64 = 4.0;

/// How much of a new limit is taken over (`smoothing`).
const SMOOTHING: f64 = 0.2;

/// Windows that make the usual latency (`longWindow`), and those of the beginning, which weigh the same.
const LONG: f64 = 600.0;
const WARM_UP: u32 = 10;

/// A usual latency this much above the last window's is forgotten faster, by this factor.
const DRIFT: f64 = 2.0;
const FORGET: f64 = 0.95;

/// A window lasts at least so long and has at least so many calls.
const WINDOW: Duration = Duration::from_millis(100);
const SAMPLES: u32 = 10;

/// The bounds of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ConcurrencyRules {
    /// Never less. Default 20.
    pub min: u32,
    /// Never more. Default 10,000.
    pub max: u32,
    /// Before anything is known. Default 100.
    pub initial: u32,
}

impl ConcurrencyRules {
    /// The defaults of the fields.
    pub const DEFAULT: Self = Self {
        min: 20,
        max: 10_000,
        initial: 100,
    };
}

/// A limit that follows latency.
#[derive(Debug)]
pub(super) struct Limit {
    rules: ConcurrencyRules,
    limit: f64,
    in_flight: u32,
    /// The usual latency in seconds, of so many windows.
    long: f64,
    windows: u32,
    window: Window,
}

#[derive(Debug)]
struct Window {
    began: Instant,
    count: u32,
    sum: f64,
    /// The most calls at the same time.
    peak: u32,
    /// Whether a call was turned away.
    has_shed: bool,
}

impl Window {
    const fn new(began: Instant, in_flight: u32) -> Self {
        Self {
            began,
            count: 0,
            sum: 0.0,
            peak: in_flight,
            has_shed: false,
        }
    }
}

impl Limit {
    pub(super) fn new(rules: ConcurrencyRules, now: Instant) -> Self {
        Self {
            rules,
            limit: f64::from(rules.initial.clamp(rules.min, rules.max)),
            in_flight: 0,
            long: 0.0,
            windows: 0,
            window: Window::new(now, 0),
        }
    }

    /// Whether a call may begin; it is under way then.
    pub(super) fn admit(&mut self, priority: Priority) -> bool {
        let room = (self.limit * priority.share()).max(1.0);
        if f64::from(self.in_flight) + 1.0 > room {
            self.window.has_shed = true;
            return false;
        }
        self.in_flight += 1;
        self.window.peak = self.window.peak.max(self.in_flight);
        true
    }

    /// A call that was let in is over, after so long where that tells something.
    pub(super) fn on_end(&mut self, took: Option<Duration>, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(took) = took else { return };
        self.window.count += 1;
        self.window.sum += took.as_secs_f64();
        let age = now.saturating_duration_since(self.window.began);
        if age >= WINDOW && self.window.count >= SAMPLES {
            let window = std::mem::replace(&mut self.window, Window::new(now, self.in_flight));
            self.learn(&window);
        }
    }

    /// The usual latency.
    pub(super) fn usual(&self) -> Duration {
        Duration::try_from_secs_f64(self.long).unwrap_or_default()
    }

    fn learn(&mut self, window: &Window) {
        let short = (window.sum / f64::from(window.count)).max(1e-6);
        self.observe(short);
        // Who is not near the limit learns nothing of it.
        let is_full = window.has_shed || f64::from(window.peak) * 2.0 >= self.limit;
        if !is_full {
            return;
        }
        let gradient = (TOLERANCE * self.long / short).clamp(GRADIENT_MIN, 1.0);
        let wanted = self.limit * gradient + QUEUE;
        let limit = self.limit * (1.0 - SMOOTHING) + wanted * SMOOTHING;
        self.limit = limit.clamp(f64::from(self.rules.min), f64::from(self.rules.max));
    }

    fn observe(&mut self, short: f64) {
        self.windows = self.windows.saturating_add(1);
        let weight = if self.windows <= WARM_UP {
            1.0 / f64::from(self.windows)
        } else {
            2.0 / (LONG + 1.0)
        };
        self.long += weight * (short - self.long);
        if self.long / short > DRIFT {
            self.long *= FORGET;
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MS: Duration = Duration::from_millis(1);
    const RULES: ConcurrencyRules = ConcurrencyRules::DEFAULT;

    /// A server that does `workers` calls at the same time, each for 10 ms; clients that always want more. Returns the limit
    /// after each window.
    fn run(limit: &mut Limit, now: &mut Instant, workers: f64, windows: u32) -> Vec<u32> {
        let mut limits = Vec::new();
        for _ in 0..windows {
            while limit.admit(Priority::CriticalPlus) {}
            let calls = f64::from(limit.in_flight);
            let took = (10 * MS).mul_f64((calls / workers).max(1.0));
            *now += WINDOW;
            for _ in 0..limit.in_flight.max(SAMPLES) {
                limit.on_end(Some(took), *now);
            }
            limits.push(limit.limit as u32);
        }
        limits
    }

    #[test]
    fn the_limit_grows_while_calls_take_no_longer() {
        let mut now = Instant::now();
        let mut limit = Limit::new(RULES, now);
        let limits = run(&mut limit, &mut now, f64::INFINITY, 200);
        assert!(limits[199] > 200, "{limits:?}");
        let most = run(&mut limit, &mut now, f64::INFINITY, 20_000);
        assert_eq!(most.last(), Some(&10_000));
    }

    #[test]
    fn a_server_that_becomes_slow_gets_fewer_calls_within_seconds() {
        let mut now = Instant::now();
        let mut limit = Limit::new(RULES, now);
        let before = *run(&mut limit, &mut now, f64::INFINITY, 300).last().unwrap();
        // It has lost most of its workers.
        let after = run(&mut limit, &mut now, 20.0, 30);
        assert!(after[29] < before / 4, "{before} {after:?}");
        assert!(after[29] >= RULES.min);
    }

    #[test]
    fn a_limit_that_is_not_used_stays() {
        let mut now = Instant::now();
        let mut limit = Limit::new(RULES, now);
        for _ in 0..10_000 {
            assert!(limit.admit(Priority::Critical));
            now += 10 * MS;
            limit.on_end(Some(10 * MS), now);
        }
        assert_eq!(limit.limit as u32, RULES.initial);
    }

    #[test]
    fn what_matters_less_is_turned_away_first() {
        let mut limit = Limit::new(RULES, Instant::now());
        let mut counts = Vec::new();
        for priority in Priority::ALL {
            while limit.admit(priority) {}
            counts.push(limit.in_flight);
        }
        assert_eq!(counts, [50, 75, 90, 100]);
    }

    proptest! {
        #[test]
        fn the_limit_stays_within_its_bounds_and_every_call_that_ends_makes_room(
            steps in prop::collection::vec((0_u8..4, 0_u64..5_000), 0..400)
        ) {
            let rules = ConcurrencyRules { min: 2, max: 30, initial: 7 };
            let mut now = Instant::now();
            let mut limit = Limit::new(rules, now);
            let mut open = 0_u32;
            for (step, ms) in steps {
                if step == 0 && open > 0 {
                    now += ms as u32 * MS;
                    limit.on_end((ms % 3 > 0).then_some(ms as u32 * MS), now);
                    open -= 1;
                } else if limit.admit(Priority::ALL[usize::from(step)]) {
                    open += 1;
                }
                prop_assert_eq!(limit.in_flight, open);
                prop_assert!((2.0..=30.0).contains(&limit.limit));
            }
            while open > 0 {
                limit.on_end(None, now);
                open -= 1;
            }
            prop_assert!(limit.admit(Priority::Sheddable));
        }
    }
}
