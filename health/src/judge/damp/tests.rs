use std::time::Duration;

use steer_topology::DampingRules;

use super::*;
use crate::damping::tests::RULES;
use crate::judge::tests::{Bench, MINUTE, SITES, fleet};
use crate::snapshot::Verdict::{Down, Up};
use crate::testing::FleetBuilder;

const SECOND: Duration = Duration::from_secs(1);

/// Three sites that are damped; one must stay, and the window is wide open.
fn damped() -> FleetBuilder {
    fleet().guard(1, 99, MINUTE).pool(&SITES).damping(RULES)
}

impl Bench {
    /// Falls and comes back so often.
    fn flap(&mut self, endpoint: u32, times: usize) {
        for _ in 0..times {
            self.change(&[(endpoint, Down)]);
            self.pass(SECOND);
            self.change(&[(endpoint, Up)]);
        }
    }
}

#[test]
fn who_falls_too_often_stays_out_until_its_figure_has_decayed() {
    let mut bench = Bench::all_up(damped());
    bench.flap(0, 3);
    assert_eq!(bench.services(), ["in", "in", "in"], "three falls are forgiven");
    bench.flap(0, 1);
    assert_eq!(bench.services(), ["out", "in", "in"]);
    assert_eq!(bench.last.endpoint(EndpointId(0)).verdict, Down);
    assert!(
        bench.cause(0).starts_with("damped for 118 s: test, but"),
        "{}",
        bench.cause(0)
    );
    let [damped] = &bench.last.damped[..] else {
        panic!("{:?}", bench.last.damped)
    };
    assert_eq!(damped.endpoint, EndpointId(0));
    let wait = damped.until.duration_since(bench.at());
    bench.pass(Duration::try_from(wait).unwrap() - SECOND);
    assert_eq!(bench.services(), ["out", "in", "in"]);
    bench.pass(2 * SECOND);
    assert_eq!(bench.services(), ["in", "in", "in"]);
    assert_eq!(
        (bench.cause(0), &bench.last.damped[..]),
        ("test (was damped)", &[][..])
    );
}

#[test]
fn who_falls_while_it_is_held_back_says_so_and_waits_longer() {
    let mut bench = Bench::all_up(damped());
    bench.flap(0, 4);
    let first = bench.last.damped[0].until;
    assert!(bench.change(&[(0, Down)]));
    assert_eq!((bench.cause(0), bench.last.damped.len()), ("test", 0));
    bench.change(&[(0, Up)]);
    assert!(bench.last.damped[0].until > first);
}

#[test]
fn the_only_site_of_a_pool_is_never_held_back() {
    let mut bench = Bench::all_up(fleet().guard(1, 99, MINUTE).pool(&[Some(0)]).damping(RULES));
    bench.flap(0, 9);
    assert_eq!(bench.services(), ["in"]);
}

#[test]
fn who_is_held_back_comes_back_when_it_is_the_last_one_that_lives() {
    let mut bench = Bench::all_up(damped());
    bench.flap(0, 4);
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services(), ["out", "out", "in"]);
    bench.change(&[(2, Down)]);
    assert_eq!(
        bench.services(),
        ["in", "out", "out"],
        "a site that lives is better than a dead one"
    );
    assert_eq!(bench.cause(0), "test (damped no longer: too few others serve)");
}

#[test]
fn capacity_that_is_needed_is_not_held_back() {
    let mut bench = Bench::all_up(damped().load(100, 250));
    bench.flap(0, 9);
    assert_eq!(bench.services(), ["in", "in", "in"]);
}

#[test]
fn an_operator_forgives_the_flaps() {
    let mut bench = Bench::all_up(damped());
    bench.flap(0, 4);
    let next = bench.judge.clear_flaps(EndpointId(0), bench.now, bench.at());
    assert!(bench.note(next));
    assert_eq!((bench.services(), bench.last.damped.len()), (vec!["in"; 3], 0));
    bench.flap(0, 3);
    assert_eq!(bench.services(), ["in", "in", "in"], "the figure began anew");
    let nothing = bench.judge.clear_flaps(EndpointId(1), bench.now, bench.at());
    assert!(nothing.is_none());
}

#[test]
fn a_reload_keeps_who_is_held_back_and_lets_go_whom_the_file_damps_no_longer() {
    for (rules, services) in [(Some(RULES), ["out", "in", "in"]), (None, ["in", "in", "in"])] {
        let mut bench = Bench::all_up(damped());
        bench.flap(0, 4);
        let mut fleet = Arc::unwrap_or_clone(damped().build());
        fleet.pools[0].damping = rules.clone();
        bench.reload(fleet);
        assert_eq!(bench.services(), services);
        assert_eq!(bench.last.damped.len(), usize::from(rules.is_some()));
        bench.pass(10 * MINUTE);
        assert_eq!(bench.services(), ["in", "in", "in"]);
    }
}

#[test]
fn a_window_that_is_used_up_does_not_keep_anybody_out() {
    let rules = DampingRules {
        suppress: 1500,
        ..RULES
    };
    let mut bench = Bench::all_up(fleet().guard(1, 2, MINUTE).pool(&SITES).damping(rules));
    bench.flap(0, 2);
    assert_eq!(bench.services(), ["out", "in", "in"]);
    bench.pass(10 * MINUTE);
    assert_eq!(bench.services(), ["in", "in", "in"]);
}
