use std::time::Duration;

use steer_topology::SiteId;

use super::*;
use crate::judge::tests::{Bench, MINUTE, SITES, fleet};
use crate::testing::FleetBuilder;
use Verdict::{Down, Up};

const FRA: Target = Target::Site(SiteId(0));
const NRT: Target = Target::Site(SiteId(1));
const FRA_WEB: Target = Target::Endpoint(EndpointId(0));
const NRT_WEB: Target = Target::Endpoint(EndpointId(1));

fn wish(target: Target, to: Forced, at: Timestamp, time: Option<Duration>) -> Force {
    Force {
        target,
        to,
        reason: "the probe is wrong".to_owned(),
        author: "ana".to_owned(),
        since: at,
        until: time.map(|time| at + time),
    }
}

impl Bench {
    fn force_as(&mut self, force: Force, overrule: bool) -> Result<bool, String> {
        let next = self.judge.force(force, overrule, self.now, self.at());
        self.judge.tell();
        next.map(|next| self.note(next))
            .map_err(|refused| refused.to_string())
    }

    /// Without an end; returns what was refused.
    fn force(&mut self, target: Target, to: Forced) -> Result<bool, String> {
        self.force_as(wish(target, to, self.at(), None), false)
    }

    fn unforce(&mut self, target: Target) {
        let next = self.judge.unforce(target, "ana", self.now, self.at()).unwrap();
        assert!(self.note(next));
    }
}

/// Three sites; one must stay, and the window is wide open.
fn wide() -> FleetBuilder {
    fleet().guard(1, 9, MINUTE).pool(&SITES)
}

#[test]
fn what_is_forced_up_serves_though_its_checks_fail() {
    let mut bench = Bench::all_up(wide());
    bench.change(&[(0, Down)]);
    assert_eq!(bench.services(), ["out", "in", "in"]);
    assert_eq!(bench.force(FRA_WEB, Forced::Up), Ok(true));
    assert_eq!(bench.services(), ["in", "in", "in"]);
    assert!(
        bench
            .cause(0)
            .starts_with("forced up: the probe is wrong, by ana, until unforced; the checks say down"),
        "{}",
        bench.cause(0)
    );
    assert_eq!(bench.last.endpoint(EndpointId(0)).verdict, Up);
    bench.change(&[(0, Up)]);
    assert!(!bench.cause(0).contains("the checks say"), "{}", bench.cause(0));
    bench.change(&[(0, Down)]);
    assert_eq!(bench.services(), ["in", "in", "in"]);
    bench.unforce(FRA_WEB);
    assert_eq!(
        bench.services(),
        ["out", "in", "in"],
        "what the checks say counts again"
    );
}

#[test]
fn what_is_forced_down_is_out_though_its_checks_succeed_and_is_never_held() {
    let mut bench = Bench::all_up(wide());
    assert_eq!(bench.force(NRT_WEB, Forced::Down), Ok(true));
    assert_eq!(bench.services(), ["in", "out", "in"]);
    bench.change(&[(1, Down), (1, Up)]);
    assert_eq!(bench.services(), ["in", "out", "in"]);
    bench.unforce(NRT_WEB);
    assert_eq!(bench.services(), ["in", "in", "in"]);
}

#[test]
fn the_guard_refuses_to_force_the_last_one_down_unless_it_is_overruled() {
    let mut bench = Bench::all_up(wide());
    bench.change(&[(1, Down), (2, Down)]);
    let refused = bench.force(FRA, Forced::Down).unwrap_err();
    assert_eq!(
        refused,
        "forcing down fra would leave 0 of 3 sites of pool pool-0 up and in service, keep_sites is 1; \
         --force does it all the same"
    );
    assert_eq!(bench.services(), ["in", "out", "out"], "nothing has changed");
    let force = wish(FRA, Forced::Down, bench.at(), None);
    assert_eq!(bench.force_as(force, true), Ok(true));
    assert_eq!(bench.services(), ["out", "out", "out"]);
}

#[test]
fn what_is_forced_down_counts_against_the_window() {
    let mut bench = Bench::all_up(fleet().guard(0, 1, MINUTE).pool(&SITES));
    assert_eq!(bench.force(FRA, Forced::Down), Ok(true));
    assert!(
        bench
            .force(NRT, Forced::Down)
            .unwrap_err()
            .contains("max_withdrawn is 1")
    );
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services(), ["out", "held", "in"]);
}

#[test]
fn a_drain_goes_before_a_forced_verdict_and_leaves_it_standing() {
    let mut bench = Bench::all_up(wide());
    bench.force(FRA, Forced::Up).unwrap();
    let drain = Drain {
        target: FRA,
        reason: String::new(),
        author: "ana".to_owned(),
        since: bench.at(),
        until: None,
    };
    let (now, at) = (bench.now, bench.at());
    let next = bench.judge.drain(drain, false, now, at).unwrap();
    bench.note(next);
    assert_eq!(bench.services()[0], "drained");
    bench.force(FRA, Forced::Down).unwrap();
    assert_eq!(bench.services()[0], "drained");
    let next = bench.judge.undrain(FRA, "ana", now, at).unwrap();
    bench.note(next);
    assert_eq!(bench.services()[0], "out", "and now the forced verdict shows");
}

#[test]
fn of_what_is_forced_for_an_endpoint_and_for_its_site_down_counts() {
    let mut bench = Bench::all_up(wide());
    bench.force(FRA_WEB, Forced::Up).unwrap();
    bench.force(FRA, Forced::Down).unwrap();
    assert_eq!(bench.services()[0], "out");
    bench.unforce(FRA);
    assert_eq!(bench.services()[0], "in");
    bench.unforce(FRA_WEB);
    bench.force(FRA_WEB, Forced::Down).unwrap();
    bench.force(FRA, Forced::Up).unwrap();
    assert_eq!(bench.services()[0], "out");
    bench.unforce(FRA_WEB);
    assert_eq!(bench.services()[0], "in");
}

#[test]
fn what_was_forced_up_and_fails_is_asked_about_when_that_ends() {
    let mut bench = Bench::all_up(wide());
    bench.force(FRA, Forced::Up).unwrap();
    bench.change(&[(0, Down), (1, Down), (2, Down)]);
    assert_eq!(bench.services(), ["in", "out", "out"]);
    bench.unforce(FRA);
    assert_eq!(bench.services(), ["held", "out", "out"], "the last one is held");
}

#[test]
fn a_forced_verdict_ends_at_its_time() {
    let mut bench = Bench::all_up(wide());
    let force = wish(FRA, Forced::Down, bench.at(), Some(MINUTE));
    bench.force_as(force, false).unwrap();
    assert_eq!(bench.services()[0], "out");
    bench.pass(MINUTE);
    assert_eq!(bench.services()[0], "in");
    assert!(bench.judge.forces().is_empty());
}

#[test]
fn a_reload_keeps_what_is_forced_and_what_the_checks_said_below() {
    let mut bench = Bench::all_up(wide());
    bench.change(&[(0, Down)]);
    bench.force(FRA, Forced::Up).unwrap();
    bench.force(NRT, Forced::Down).unwrap();
    let next = wide().unchecked_pool(&[Some(3)]).build();
    let empty = Judge::new(Arc::clone(&next), bench.now, bench.at());
    let old = std::mem::replace(&mut bench.judge, empty);
    (bench.judge, bench.last) = old.reload(next, bench.now, bench.at());
    assert_eq!(bench.services(), ["in", "out", "in", "in"]);
    bench.unforce(FRA);
    bench.unforce(NRT);
    assert_eq!(bench.services(), ["out", "in", "in", "in"]);
}

#[test]
fn the_wishes_of_the_fleet_take_the_place_of_those_that_stand() {
    let mut bench = Bench::all_up(wide());
    let (now, at) = (bench.now, bench.at());
    let drain = Drain {
        target: FRA,
        reason: String::new(),
        author: "bo".to_owned(),
        since: at,
        until: None,
    };
    let down = wish(NRT, Forced::Down, at, None);
    let next = bench
        .judge
        .adopt(vec![drain.clone()], vec![down.clone()], now, at);
    assert!(bench.note(next));
    assert_eq!(bench.services(), ["drained", "out", "in"]);
    let next = bench.judge.adopt(vec![drain], vec![down], now, at);
    assert!(next.is_none(), "the same again is no news");
    let next = bench.judge.adopt(Vec::new(), Vec::new(), now, at);
    assert!(bench.note(next));
    assert_eq!(bench.services(), ["in", "in", "in"]);
}

#[test]
fn what_is_forced_shows_before_the_first_round_is_over() {
    let fleet = wide().build();
    let at = Timestamp::UNIX_EPOCH;
    let mut judge = Judge::new(fleet, Instant::now(), at);
    judge.restore_forces([wish(FRA, Forced::Down, at, None)], Instant::now(), at);
    let first = judge.first_snapshot();
    assert!(!first.settled);
    assert_eq!(first.endpoint(EndpointId(0)).service, Service::Out);
    assert_eq!(first.endpoint(EndpointId(1)).service, Service::In);
}
