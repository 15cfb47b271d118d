use steer_topology::SiteId;

use super::*;
use crate::judge::tests::{Bench, MINUTE, SITES, fleet, logged};
use crate::testing::FleetBuilder;
use Verdict::{Down, Up};

const FRA: Target = Target::Site(SiteId(0));
const NRT: Target = Target::Site(SiteId(1));
const JFK: Target = Target::Site(SiteId(2));

fn wish(target: Target, at: Timestamp, time: Option<Duration>) -> Drain {
    Drain {
        target,
        reason: "kernel update".to_owned(),
        author: "ana".to_owned(),
        since: at,
        until: time.map(|time| at + time),
    }
}

impl Bench {
    /// Drains without an end; returns what was refused.
    fn drain(&mut self, target: Target, force: bool) -> Result<bool, String> {
        self.drain_as(wish(target, self.at(), None), force)
    }

    fn drain_for(&mut self, target: Target, time: Duration) {
        let drain = wish(target, self.at(), Some(time));
        self.drain_as(drain, false).unwrap();
    }

    fn drain_as(&mut self, drain: Drain, force: bool) -> Result<bool, String> {
        let next = self.judge.drain(drain, force, self.now, self.at());
        self.judge.tell();
        next.map(|next| self.note(next))
            .map_err(|refused| refused.to_string())
    }

    fn undrain(&mut self, target: Target) {
        let next = self.judge.undrain(target, "ana", self.now, self.at()).unwrap();
        assert!(self.note(next));
    }
}

/// Three sites; one must stay, and the window is wide open.
fn wide() -> FleetBuilder {
    fleet().guard(1, 9, MINUTE).pool(&SITES)
}

#[test]
fn a_drain_stands_whatever_the_checks_say() {
    let mut bench = Bench::all_up(wide());
    assert_eq!(bench.drain(FRA, false), Ok(true));
    assert_eq!(bench.services(), ["drained", "in", "in"]);
    assert_eq!(bench.last.site_drain(Some(SiteId(0))).unwrap().author, "ana");
    bench.change(&[(0, Down)]);
    assert_eq!(bench.services(), ["drained", "in", "in"]);
    bench.change(&[(0, Up)]);
    assert_eq!(bench.services(), ["drained", "in", "in"]);
    bench.undrain(FRA);
    assert_eq!(bench.services(), ["in", "in", "in"]);
    assert!(bench.last.drains.is_empty());
}

#[test]
fn the_last_site_is_drained_only_by_force() {
    let mut bench = Bench::all_up(fleet().guard(1, 9, MINUTE).pool(&[Some(0), Some(1)]));
    bench.drain(NRT, false).unwrap();
    assert_eq!(
        bench.drain(FRA, false).unwrap_err(),
        "draining fra would leave 0 of 2 sites of pool pool-0 up and in service, keep_sites is 1; \
         --force does it all the same"
    );
    assert_eq!(bench.services(), ["in", "drained"], "a refusal changes nothing");
    assert_eq!(bench.judge.drains().len(), 1);
    assert_eq!(bench.drain(FRA, true), Ok(true));
    assert_eq!(bench.services(), ["drained", "drained"]);
}

#[test]
fn the_only_site_of_a_pool_is_drained_only_by_force() {
    let mut bench = Bench::all_up(fleet().guard(1, 9, MINUTE).pool(&[Some(0)]));
    let refused = bench.drain(FRA, false).unwrap_err();
    assert!(refused.contains("0 of 1 sites of pool pool-0"), "{refused}");
    assert_eq!(bench.drain(FRA, true), Ok(true));
}

#[test]
fn a_site_that_is_dead_already_may_be_drained_at_any_time() {
    let mut bench = Bench::all_up(fleet().guard(1, 1, MINUTE).pool(&[Some(0), Some(1)]));
    bench.change(&[(0, Down)]);
    assert_eq!(bench.services(), ["out", "in"]);
    assert_eq!(bench.drain(FRA, false), Ok(true), "it takes nothing out");
    assert_eq!(bench.services(), ["drained", "in"]);
}

#[test]
fn sites_that_are_held_though_dead_are_not_leant_on() {
    let mut bench = Bench::all_up(fleet().guard(1, 1, MINUTE).pool(&SITES));
    bench.change(&[(0, Down), (1, Down)]);
    assert_eq!(bench.services(), ["out", "held", "in"]);
    bench.pass(Duration::from_secs(59));
    let refused = bench.drain(JFK, false).unwrap_err();
    assert!(refused.contains("would leave 0 of 3 sites"), "{refused}");
}

#[test]
fn a_site_that_fails_while_another_is_drained_is_held_as_the_last() {
    let mut bench = Bench::all_up(fleet().guard(1, 9, MINUTE).pool(&[Some(0), Some(1)]));
    bench.drain(FRA, false).unwrap();
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services(), ["drained", "held"]);
    assert_eq!(
        bench.reason(1),
        "0 of 2 sites would be left in service, keep_sites is 1"
    );
    bench.undrain(FRA);
    assert_eq!(bench.services(), ["in", "out"]);
}

#[test]
fn drains_and_failures_share_the_window() {
    let mut bench = Bench::all_up(fleet().guard(1, 1, MINUTE).pool(&SITES));
    bench.drain(FRA, false).unwrap();
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services(), ["drained", "held", "in"]);
    bench.pass(MINUTE);
    assert_eq!(bench.services(), ["drained", "out", "in"]);

    let mut bench = Bench::all_up(fleet().guard(1, 1, MINUTE).pool(&SITES));
    bench.change(&[(1, Down)]);
    assert_eq!(
        bench.drain(FRA, false).unwrap_err(),
        "draining fra is too soon: pool pool-0 had 1 taken out within 60 s, max_withdrawn is 1; \
         --force does it all the same"
    );
    bench.pass(MINUTE);
    assert_eq!(bench.drain(FRA, false), Ok(true));
}

#[test]
fn one_pool_that_refuses_costs_the_others_nothing() {
    let mut bench = Bench::all_up(
        fleet()
            .guard(1, 1, MINUTE)
            .pool(&SITES)
            .pool(&[Some(0)])
            .pool(&[Some(0)]),
    );
    let refused = bench.drain(FRA, false).unwrap_err();
    assert!(refused.contains("pool pool-1"), "{refused}");
    assert!(refused.contains("(and 1 other pool suffers)"), "{refused}");
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services()[1], "out", "the window of pool-0 was not charged");
}

#[test]
fn one_endpoint_of_a_site_may_be_drained_while_another_carries_it() {
    let shape = [Some(0), Some(0), Some(1)];
    let mut bench = Bench::all_up(fleet().guard(1, 0, MINUTE).pool(&shape));
    let endpoint = |id| Target::Endpoint(EndpointId(id));
    assert_eq!(bench.drain(endpoint(0), false), Ok(true));
    assert_eq!(bench.services(), ["drained", "in", "in"]);
    let refused = bench.drain(endpoint(1), false).unwrap_err();
    assert!(refused.contains("max_withdrawn is 0"), "{refused}");
    bench.undrain(endpoint(0));
    assert_eq!(bench.drain(endpoint(1), false), Ok(true));
}

#[test]
fn what_two_drains_are_about_comes_back_with_the_last() {
    let mut bench = Bench::all_up(wide());
    let endpoint = Target::Endpoint(EndpointId(0));
    bench.drain(endpoint, false).unwrap();
    bench.drain(FRA, false).unwrap();
    bench.undrain(endpoint);
    assert_eq!(bench.services(), ["drained", "in", "in"]);
    bench.undrain(FRA);
    assert_eq!(bench.services(), ["in", "in", "in"]);
}

#[test]
fn a_drain_ends_at_its_time() {
    let mut bench = Bench::all_up(wide());
    bench.drain_for(FRA, MINUTE * 5);
    bench.pass(MINUTE * 5 - Duration::from_secs(1));
    assert_eq!(bench.services(), ["drained", "in", "in"]);
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.services(), ["in", "in", "in"]);
    assert!(bench.last.drains.is_empty());
    assert_eq!(bench.judge.next_deadline(), None);
}

#[test]
fn a_drain_ends_by_the_wall_clock_though_that_is_set() {
    let mut bench = Bench::all_up(wide());
    bench.drain_for(FRA, MINUTE * 60);
    let look = bench.judge.next_deadline().unwrap();
    let set = |bench: &mut Bench, by: Duration| {
        let next = bench.judge.on_deadline(look, bench.at() + by);
        bench.note(next)
    };
    assert!(!set(&mut bench, MINUTE * 59));
    assert_eq!(bench.services()[0], "drained");
    assert!(set(&mut bench, MINUTE * 61));
    assert_eq!(bench.services()[0], "in");

    // Back an hour: the deadline comes, the time has not, and the loop must not spin.
    bench.drain_for(FRA, Duration::from_secs(1));
    let due = bench.judge.next_deadline().unwrap();
    let early = bench.at() - MINUTE * 60;
    assert!(bench.judge.on_deadline(due, early).is_none());
    assert_eq!(bench.judge.next_deadline(), Some(due + LOOK_AGAIN));
}

#[test]
fn an_end_that_has_passed_already_ends_it_at_once() {
    let mut bench = Bench::all_up(wide());
    let drain = wish(FRA, Timestamp::UNIX_EPOCH, Some(Duration::ZERO));
    bench.drain_as(drain, false).unwrap();
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.services()[0], "in");
}

#[test]
fn what_is_down_when_its_drain_ends_is_out_and_costs_no_budget() {
    let mut bench = Bench::all_up(fleet().guard(1, 1, MINUTE).pool(&SITES));
    bench.drain(FRA, false).unwrap();
    bench.change(&[(0, Down)]);
    bench.pass(MINUTE);
    bench.undrain(FRA);
    assert_eq!(bench.services(), ["out", "in", "in"]);
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services(), ["out", "out", "in"]);
}

#[test]
fn what_is_down_when_its_drain_ends_is_held_when_too_few_are_left() {
    let mut bench = Bench::all_up(fleet().guard(1, 9, MINUTE).pool(&[Some(0), Some(1)]));
    bench.change(&[(0, Down), (1, Down)]);
    assert_eq!(bench.services(), ["out", "held"]);
    bench.drain(NRT, true).unwrap();
    assert_eq!(bench.services(), ["out", "drained"]);
    bench.undrain(NRT);
    assert_eq!(bench.services(), ["out", "held"]);
    bench.change(&[(0, Up)]);
    assert_eq!(bench.services(), ["in", "out"]);
}

#[test]
fn a_second_drain_of_the_same_target_renews_it_and_costs_nothing() {
    let mut bench = Bench::all_up(fleet().guard(1, 1, MINUTE).pool(&SITES));
    bench.drain(FRA, false).unwrap();
    let began = bench.at();
    bench.pass(Duration::from_secs(10));
    let renewed = wish(FRA, bench.at(), Some(MINUTE));
    assert_eq!(bench.drain_as(renewed.clone(), false), Ok(true));
    let stands = &bench.last.drains[0];
    assert_eq!((stands.since, stands.until), (began, renewed.until));
    assert_eq!(bench.drain_as(renewed, false), Ok(false), "nothing new");
}

#[test]
fn nothing_can_be_undrained_that_is_not_drained() {
    let mut bench = Bench::all_up(wide());
    bench.drain(FRA, false).unwrap();
    let error = bench
        .judge
        .undrain(NRT, "ana", bench.now, bench.at())
        .unwrap_err();
    assert_eq!(error.to_string(), "nrt is not drained");
}

#[test]
fn a_drain_before_the_first_round_is_over_needs_force() {
    let mut bench = Bench::new(wide());
    let refused = bench.drain(FRA, false).unwrap_err();
    assert!(
        refused.contains("the first round of checks is not over"),
        "{refused}"
    );
    assert_eq!(bench.drain(FRA, true), Ok(true));
    assert!(!bench.last.settled);
    assert_eq!(bench.services(), ["drained", "in", "in"]);
    bench.change(&[(0, Down), (1, Up), (2, Up)]);
    assert!(bench.last.settled);
    assert_eq!(bench.services(), ["drained", "in", "in"]);
    bench.undrain(FRA);
    assert_eq!(bench.services(), ["out", "in", "in"]);
}

#[test]
fn drains_that_stood_before_a_restart_stand_in_the_first_snapshot_and_cost_nothing() {
    let mut bench = Bench::new(fleet().guard(1, 1, MINUTE).pool(&SITES));
    let at = bench.at();
    let old = [
        wish(FRA, at, Some(MINUTE * 9)),
        wish(NRT, at, Some(Duration::ZERO)),
    ];
    bench.judge.restore(old, bench.now, at);
    bench.last = Arc::new(bench.judge.first_snapshot());
    assert_eq!((bench.last.number, bench.last.settled), (1, false));
    assert_eq!(bench.services(), ["drained", "in", "in"]);
    assert_eq!(bench.last.drains.len(), 1, "what was over is not put back");
    bench.change(&[(0, Up), (1, Up), (2, Up)]);
    assert_eq!(bench.services(), ["drained", "in", "in"]);
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services(), ["drained", "out", "in"]);
    bench.pass(MINUTE * 9);
    assert_eq!(bench.services(), ["in", "out", "in"]);
}

#[test]
fn a_reload_keeps_drains_by_name() {
    let mut bench = Bench::all_up(wide());
    bench.drain(NRT, false).unwrap();
    bench.drain(Target::Endpoint(EndpointId(2)), true).unwrap();
    let empty = Judge::new(fleet().build(), bench.now, bench.at());
    let old = std::mem::replace(&mut bench.judge, empty);
    let grown = fleet().guard(1, 9, MINUTE).pool(&[Some(1), Some(0)]);
    let grown = grown.unchecked_pool(&[Some(1), Some(3)]);
    let (judge, first) = old.reload(grown.build(), bench.now, bench.at());
    bench.judge = judge;
    bench.note(Some(first));
    assert_eq!(
        bench.services(),
        ["drained", "in", "drained", "in"],
        "new endpoints of a drained site are drained; jfk's is gone, and its drain with it"
    );
    assert_eq!(bench.last.drains.len(), 1);
    bench.undrain(NRT);
    assert_eq!(bench.services(), ["in", "in", "in", "in"]);
}

#[test]
fn every_wish_is_logged_with_its_author_and_what_was_overruled() {
    let mut bench = Bench::all_up(fleet().guard(1, 9, MINUTE).pool(&[Some(0), Some(1)]));
    let lines = logged(|| {
        bench.drain(FRA, false).unwrap();
        bench.drain(NRT, false).unwrap_err();
        bench.drain(NRT, true).unwrap();
        bench.undrain(FRA);
    });
    let messages: Vec<_> = lines
        .iter()
        .map(|line| line["message"].as_str().unwrap())
        .collect();
    let want = [
        "drain begins",
        "service changed",
        "drain refused",
        "guard overruled",
        "drain begins",
        "service changed",
        "drain ended",
        "service changed",
    ];
    assert_eq!(messages, want);
    assert!(lines[2]["reason"].as_str().unwrap().contains("keep_sites is 1"));
    assert!(
        lines[3]["overruled"]
            .as_str()
            .unwrap()
            .contains("keep_sites is 1")
    );
    assert_eq!(
        (&lines[3]["author"], &lines[4]["forced"]),
        (&"ana".into(), &true.into())
    );
    assert_eq!(lines[6]["cause"], "undrained by ana");
}
