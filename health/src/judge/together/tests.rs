use std::time::Duration;

use super::*;
use crate::judge::tests::{Bench, MINUTE, SITES, fleet};
use crate::snapshot::Verdict::{Down, Unknown, Up};

const SECOND: Duration = Duration::from_secs(1);
const OWN: EndpointId = EndpointId(0);

/// Three sites, of which the first is ours.
fn bench(keep: u16, max: u16) -> Bench {
    let mut bench = Bench::all_up(fleet().guard(keep, max, MINUTE).pool(&SITES));
    bench.judge.decides_for([OWN]);
    bench
}

impl Bench {
    /// Other sites say of their own endpoints.
    fn say_at_home(&mut self, said: &[(u32, Verdict)]) {
        for (endpoint, verdict) in said {
            self.judge.heard_from_home(EndpointId(*endpoint), *verdict);
        }
        self.change(&[]);
    }
}

#[test]
fn what_went_out_at_every_site_at_once_comes_back() {
    let mut bench = bench(1, 9);
    bench.change(&[(0, Down)]);
    assert_eq!(
        bench.services(),
        ["out", "in", "in"],
        "at once, and without asking anybody"
    );
    bench.pass(SECOND);
    bench.say_at_home(&[(1, Down)]);
    assert_eq!(bench.services(), ["out", "in", "in"], "one is left");
    // The votes say nothing: who sees everybody else down is not believed.
    bench.say_at_home(&[(2, Down)]);
    assert_eq!(bench.services(), ["held", "in", "in"]);
    assert_eq!(
        bench.reason(0),
        "went out together with the others: 0 of 3 sites would be left in service, keep_sites is 1"
    );
    bench.pass(MINUTE * 10);
    assert_eq!(bench.services(), ["held", "in", "in"], "and it stays");
}

#[test]
fn what_came_back_goes_out_again_when_others_are_up_and_not_before() {
    let mut bench = bench(1, 1);
    bench.change(&[(0, Down)]);
    bench.say_at_home(&[(1, Down), (2, Down)]);
    assert_eq!(bench.services(), ["held", "in", "in"]);
    // What is held elsewhere is nothing to lean on, whatever happens to it.
    bench.change(&[(1, Down), (2, Down)]);
    bench.change(&[(1, Up)]);
    assert_eq!(bench.services()[0], "held");
    bench.say_at_home(&[(1, Up)]);
    assert_eq!(
        bench.reason(0),
        "went out together with the others: 1 taken out within 60 s, max_withdrawn is 1"
    );
    bench.pass(MINUTE);
    assert_eq!(bench.services()[..2], ["out", "in"], "by the ordinary rules");
}

#[test]
fn what_is_well_again_is_in_like_anything_else() {
    let mut bench = bench(1, 9);
    bench.change(&[(0, Down)]);
    bench.say_at_home(&[(1, Down), (2, Down)]);
    bench.change(&[(0, Up)]);
    assert_eq!(bench.services(), ["in", "in", "in"]);
    bench.change(&[(0, Down)]);
    assert_eq!(bench.services(), ["held", "in", "in"], "now it knows beforehand");
    assert_eq!(
        bench.reason(0),
        "0 of 3 sites would be left in service, keep_sites is 1"
    );
}

#[test]
fn what_went_out_before_the_window_stays_out() {
    let mut bench = bench(1, 9);
    bench.change(&[(0, Down)]);
    bench.pass(MINUTE);
    bench.say_at_home(&[(1, Down), (2, Down)]);
    assert_eq!(bench.services(), ["out", "in", "in"]);
}

#[test]
fn what_was_down_at_the_first_round_or_is_drained_or_forced_does_not_come_back() {
    let mut bench = Bench::new(fleet().guard(1, 9, MINUTE).pool(&SITES));
    bench.judge.decides_for([OWN]);
    bench.change(&[(0, Down), (1, Up), (2, Up)]);
    bench.say_at_home(&[(1, Down), (2, Down)]);
    assert_eq!(bench.services(), ["out", "in", "in"]);

    let mut bench = self::bench(1, 9);
    bench.change(&[(0, Down)]);
    let drain = crate::operator::Drain {
        target: crate::operator::Target::Endpoint(OWN),
        reason: String::new(),
        author: "test".to_owned(),
        since: bench.at(),
        until: None,
    };
    let next = bench.judge.drain(drain, true, bench.now, bench.at()).unwrap();
    bench.note(next);
    bench.say_at_home(&[(1, Down), (2, Down)]);
    assert_eq!(bench.services(), ["drained", "in", "in"]);
}

#[test]
fn a_pool_that_has_nothing_to_fall_back_on_goes_out_whole() {
    for keep in [0, 3] {
        let mut bench = bench(keep, 9);
        bench.change(&[(0, Down)]);
        bench.say_at_home(&[(1, Down), (2, Down)]);
        assert_eq!(bench.services(), ["out", "in", "in"], "keep_sites {keep}");
    }
}

#[test]
fn what_the_load_needs_comes_back_too() {
    let mut bench = Bench::all_up(fleet().guard(1, 9, MINUTE).pool(&SITES).load(100, 200));
    bench.judge.decides_for([OWN]);
    bench.change(&[(0, Down)]);
    bench.say_at_home(&[(1, Down)]);
    assert_eq!(
        bench.reason(0),
        "went out together with the others: sites for 100 requests/s would be left in service, the pool needs 200"
    );
}

#[test]
fn who_falls_silent_has_said_nothing_else() {
    let mut bench = bench(1, 9);
    bench.change(&[(0, Down)]);
    bench.say_at_home(&[(1, Down), (2, Down)]);
    bench.say_at_home(&[(1, Unknown), (2, Unknown)]);
    bench.pass(MINUTE * 2);
    assert_eq!(bench.services(), ["held", "in", "in"]);
}

#[test]
fn a_reload_forgets_nothing_of_it() {
    let built = || fleet().guard(1, 9, MINUTE).pool(&SITES).build();
    let mut bench = bench(1, 9);
    bench.change(&[(0, Down)]);
    bench.say_at_home(&[(1, Down)]);
    bench.reload(Arc::unwrap_or_clone(built()));
    assert_eq!(bench.services(), ["out", "in", "in"]);
    bench.say_at_home(&[(2, Down)]);
    assert_eq!(bench.services(), ["held", "in", "in"]);
    bench.reload(Arc::unwrap_or_clone(built()));
    assert_eq!(bench.services(), ["held", "in", "in"]);
    bench.pass(MINUTE * 2);
    assert_eq!(bench.services(), ["held", "in", "in"]);
}

#[test]
fn a_drain_does_not_lean_on_what_its_own_site_takes_for_dead() {
    let mut bench = bench(1, 9);
    bench.say_at_home(&[(1, Down), (2, Down)]);
    let drain = crate::operator::Drain {
        target: crate::operator::Target::Endpoint(OWN),
        reason: String::new(),
        author: "test".to_owned(),
        since: bench.at(),
        until: None,
    };
    assert!(bench.judge.drain(drain, false, bench.now, bench.at()).is_err());
}
