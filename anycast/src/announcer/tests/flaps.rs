//! The flap budget against a peer that decays in steps.

use proptest::prelude::*;
use steer_topology::FlapBudget;

use super::*;
use crate::announcer::flaps::{Flaps, GRAIN};

const BUDGET: FlapBudget = FlapBudget {
    penalty: 1_000,
    half_life: Duration::from_secs(900),
    suppress: 2_000,
};

#[test]
fn a_withdrawal_costs_its_penalty_and_halves_in_each_half_life() {
    let (mut flaps, start) = (Flaps::default(), Instant::now());
    assert_eq!(flaps.figure(&BUDGET, start), 0.0);
    flaps.withdrawn(&BUDGET, start);
    let figure = |after| flaps.figure(&BUDGET, start + after);
    assert_eq!(figure(Duration::ZERO), 1_000.0);
    assert_eq!(figure(GRAIN), 1_000.0, "no peer has decayed it yet for sure");
    assert_eq!(figure(GRAIN + s(900)), 500.0);
    assert_eq!(figure(GRAIN + s(1_800)), 250.0);
}

#[test]
fn the_figure_stops_at_the_ceiling() {
    let (mut flaps, start) = (Flaps::default(), Instant::now());
    for _ in 0..50 {
        flaps.withdrawn(&BUDGET, start);
    }
    assert_eq!(flaps.figure(&BUDGET, start), 12_000.0);
}

#[test]
fn a_penalty_as_high_as_suppress_can_still_come_back() {
    let budget = FlapBudget {
        penalty: 3_000,
        ..BUDGET
    };
    let (mut flaps, start) = (Flaps::default(), Instant::now());
    assert!(flaps.allow(&budget, start));
    flaps.withdrawn(&budget, start);
    let free = flaps.free_at(&budget, start).unwrap();
    assert!(flaps.allow(&budget, free) && !flaps.allow(&budget, free - s(1)));
    assert!(free - start < s(900 * 13), "{:?}", free - start);
}

const FLAPPING: &str = "while_up = \"pool:web@local\"\nflap_budget = { half_life = \"15m\" }";

#[test]
fn the_announcement_that_would_cross_the_budget_waits_and_withdrawals_never_do() {
    let mut world = World::new(one(FLAPPING));
    world.run(s(60));
    world.fra(DOWN);
    world.fra(UP);
    // 1000 + 1000 would reach 2000 at a peer that has not decayed yet.
    assert!(!world.announced());
    let status = world.status();
    assert_eq!(status.reason.as_deref(), Some("flap budget spent"));
    assert_eq!(status.flaps.as_ref().map(|flaps| flaps.figure), Some(1_000.0));
    assert_eq!(status.held_until, Some(world.moment().after(GRAIN + ms(1))));
    world.run(s(10));
    assert_eq!(world.flips()[2..], [(s(66) + ms(1), true)], "{:?}", world.told);
    world.fra(DOWN);
    assert!(!world.announced(), "at once");
    world.fra(UP);
    // Now near 2000: must come down to below 1000, about one half-life.
    let free = world.status().held_until.unwrap();
    let wait = Duration::try_from(free.duration_since(world.at_wall())).unwrap();
    assert!(wait > s(890) && wait < s(915), "{wait:?}");
    let held = world
        .told
        .iter()
        .filter(|(_, what)| matches!(what, What::Held { .. }));
    assert_eq!(held.count(), 2, "told once for each delay");
    world.run(wait - ms(1));
    assert!(!world.announced());
    world.run(ms(1));
    assert!(world.announced());
}

#[test]
fn clearing_the_flaps_announces_at_once() {
    let mut world = World::new(one(FLAPPING));
    for _ in 0..2 {
        world.fra(DOWN);
        world.fra(UP);
        world.run(s(10));
    }
    assert!(!world.announced());
    world.act(|announcer, moment| announcer.clear_flaps(prefix(P), moment).unwrap());
    assert!(world.announced());
    assert_eq!(world.status().flaps.map(|flaps| flaps.figure), Some(0.0));
    let moment = world.moment();
    let unknown = world.announcer.clear_flaps(prefix("192.0.2.9/32"), moment);
    assert!(unknown.unwrap_err().to_string().contains("192.0.2.9/32"));
}

#[test]
fn without_a_budget_nothing_is_counted_or_delayed() {
    let mut world = World::new(one("while_up = \"pool:web@local\""));
    for _ in 0..10 {
        world.fra(DOWN);
        world.fra(UP);
        assert!(world.announced());
    }
    assert_eq!(world.status().flaps, None);
}

/// A peer as RFC 2439 §4.8 has it and FRR does it: a clock of whole seconds, decay by whole steps of 5 s at each
/// event, an integer figure.
struct Peer {
    figure: f64,
    /// Second of its last event.
    at: u64,
    suppressed: bool,
}

impl Peer {
    fn event(&mut self, second: u64, budget: &FlapBudget, withdrawal: bool) {
        let steps = (second - self.at) / 5;
        let per_step = 0.5_f64.powf(5.0 / budget.half_life.as_secs_f64());
        for _ in 0..steps {
            self.figure *= per_step; // by brute force
        }
        self.at = second;
        if withdrawal {
            self.figure += f64::from(budget.penalty);
            self.suppressed |= self.figure >= f64::from(budget.suppress);
        }
    }
}

fn any_budget() -> impl Strategy<Value = FlapBudget> {
    (100_u32..1_500, 10_u64..2_000, 1_u32..4_000).prop_map(|(penalty, half_life, more)| FlapBudget {
        penalty,
        half_life: s(half_life),
        suppress: penalty + more,
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_024))]

    /// Flaps as fast as the budget lets us, with pauses: no peer that starts its seconds at any phase suppresses us.
    #[test]
    fn no_peer_ever_suppresses_us(
        budget in any_budget(),
        pauses in prop::collection::vec((0_u64..30_000, 0_u64..30_000), 1..40),
        phase in 0_u64..1_000,
    ) {
        let start = Instant::now();
        let (mut flaps, mut now) = (Flaps::default(), start);
        let mut peer = Peer { figure: 0.0, at: 0, suppressed: false };
        let second = |now: Instant| ((now - start).as_millis() as u64 + phase) / 1_000;
        for (up, down) in pauses {
            if let Some(free) = flaps.free_at(&budget, now) {
                prop_assert!(free > now);
                prop_assert!(!flaps.allow(&budget, free - ms(2)), "no longer than it must");
                now = free;
            }
            prop_assert!(flaps.allow(&budget, now));
            flaps.announced(&budget, now);
            peer.event(second(now), &budget, false);
            now += ms(up);
            flaps.withdrawn(&budget, now);
            peer.event(second(now), &budget, true);
            let ours = flaps.figure(&budget, now);
            prop_assert!(ours < f64::from(budget.suppress), "{ours}");
            prop_assert!(peer.figure < ours + 1.5, "{} at the peer, {ours} here", peer.figure);
            prop_assert!(!peer.suppressed);
            now += ms(down);
        }
    }

    /// The figure against decay in steps of a millisecond.
    #[test]
    fn the_figure_decays_as_by_brute_force(half_life in 1_u64..20, waits in prop::collection::vec(0_u64..20_000, 1..8)) {
        let budget = FlapBudget { half_life: s(half_life), ..BUDGET };
        let per_millisecond = 0.5_f64.powf(0.001 / budget.half_life.as_secs_f64());
        let (mut flaps, mut now, mut model) = (Flaps::default(), Instant::now(), 0.0_f64);
        for wait in waits {
            flaps.withdrawn(&budget, now);
            model = (model + 1_000.0).min(12_000.0);
            now += ms(wait);
            for _ in GRAIN.as_millis() as u64..wait {
                model *= per_millisecond;
            }
            let figure = flaps.figure(&budget, now);
            prop_assert!((figure - model).abs() <= 1e-6 * model.max(1.0), "{figure} {model}");
        }
    }
}
