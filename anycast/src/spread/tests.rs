//! The tracker by hand and against a model; the changes of a speaker.

use std::net::Ipv4Addr;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use steer_topology::{Asn, Community, Prefix};

use super::*;
use crate::monitor::{Attributes, Heard, MonitorEvent};

mod model;

const PREFIX: &str = "192.0.2.53/32";

/// `ms` milliseconds after the test began.
fn at(ms: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(1) + SignedDuration::from_millis(ms)
}

fn vantage(number: u8) -> Vantage {
    Vantage {
        address: Ipv4Addr::new(198, 51, 100, number).into(),
        asn: Asn::new(64_500).unwrap(),
        peer_id: Ipv4Addr::new(10, 0, 0, number),
        bmp: None,
    }
}

fn prefix() -> Prefix {
    PREFIX.parse().unwrap()
}

fn change(announced: bool, ms: i64) -> Change {
    Change {
        prefix: prefix(),
        announced,
        snapshot: 7,
        at: at(ms),
    }
}

/// A tracker with a grace of 10 s and vantages 1 to `count`.
fn tracker(count: u8) -> Tracker {
    let grace = Duration::from_secs(10);
    let mut tracker = Tracker::new(Settings { grace, tag: None });
    for number in 1..=count {
        tracker.vantage_up(vantage(number), at(0));
    }
    tracker
}

fn outputs(tracker: &mut Tracker) -> Vec<Output> {
    std::iter::from_fn(|| tracker.poll_output()).collect()
}

/// The one report that is out, and nothing else.
fn report(tracker: &mut Tracker) -> Report {
    match outputs(tracker).as_slice() {
        [Output::Spread(report)] => report.clone(),
        other => panic!("{other:?}"),
    }
}

/// The one thing that was said, in a word and the number of the vantage.
fn said(tracker: &mut Tracker) -> Vec<String> {
    let words = outputs(tracker).into_iter().map(|output| match output {
        Output::Spread(report) => report.outcome.name().to_owned(),
        Output::Astray(stray) => format!("{} at {}", stray.kind.name(), stray.vantage.peer_id.octets()[3]),
        Output::Settled(stray) => {
            format!(
                "no {} at {}",
                stray.kind.name(),
                stray.vantage.peer_id.octets()[3]
            )
        }
    });
    words.collect()
}

#[test]
fn a_change_is_reported_when_the_last_vantage_shows_it() {
    let mut tracker = tracker(10);
    tracker.change(change(true, 1_000));
    for number in 1..=10 {
        assert!(outputs(&mut tracker).is_empty());
        let delay = i64::from(number) * 100;
        tracker.sighting(vantage(number), prefix(), true, at(1_000 + delay));
    }
    let report = report(&mut tracker);
    assert_eq!(
        (report.outcome, report.vantages, report.reached),
        (Outcome::Complete, 10, 10)
    );
    let ms = |time: Option<Duration>| time.unwrap().as_millis();
    assert_eq!(
        (ms(report.p50), ms(report.p90), ms(report.p99)),
        (500, 900, 1_000)
    );
    assert_eq!(
        report.to_string(),
        "announcement of 192.0.2.53/32 (snapshot 7): 10 of 10 vantages, \
         50 % in 500.0 ms, 90 % in 900.0 ms, 99 % in 1000.0 ms"
    );
}

#[test]
fn what_was_seen_before_we_were_told_counts_all_the_same() {
    let mut tracker = tracker(2);
    tracker.sighting(vantage(1), prefix(), true, at(1_020));
    tracker.sighting(vantage(2), prefix(), true, at(1_040));
    tracker.change(change(true, 1_000));
    let report = report(&mut tracker);
    assert_eq!((report.vantages, report.already), (2, 0));
    assert_eq!(report.p99, Some(Duration::from_millis(40)));
}

#[test]
fn a_withdrawal_is_seen_only_where_the_route_was() {
    let mut tracker = tracker(3);
    tracker.baseline(change(true, 0));
    tracker.sighting(vantage(1), prefix(), true, at(10));
    tracker.sighting(vantage(2), prefix(), true, at(10));
    tracker.change(change(false, 1_000));
    tracker.sighting(vantage(1), prefix(), false, at(1_010));
    assert!(outputs(&mut tracker).is_empty());
    tracker.sighting(vantage(2), prefix(), false, at(1_030));
    let report = report(&mut tracker);
    assert_eq!((report.vantages, report.already), (2, 1));
    assert_eq!(report.p50, Some(Duration::from_millis(10)));
}

#[test]
fn a_vantage_that_turns_back_is_counted_by_its_last_turn() {
    let mut tracker = tracker(2);
    tracker.sighting(vantage(1), prefix(), true, at(0));
    tracker.sighting(vantage(2), prefix(), true, at(0));
    tracker.change(change(false, 1_000));
    tracker.sighting(vantage(1), prefix(), false, at(1_010));
    tracker.sighting(vantage(1), prefix(), true, at(1_020)); // another path
    tracker.sighting(vantage(1), prefix(), false, at(1_500));
    tracker.sighting(vantage(2), prefix(), false, at(1_100));
    assert_eq!(report(&mut tracker).p99, Some(Duration::from_millis(500)));
}

#[test]
fn a_zombie_is_told_once_and_its_end_too() {
    let mut tracker = tracker(2);
    tracker.sighting(vantage(1), prefix(), true, at(0));
    tracker.sighting(vantage(2), prefix(), true, at(0));
    tracker.change(change(false, 1_000));
    tracker.sighting(vantage(2), prefix(), false, at(1_010));
    assert_eq!(tracker.next_deadline(), Some(at(11_000)));
    tracker.on_deadline(at(10_999));
    assert!(outputs(&mut tracker).is_empty());
    tracker.on_deadline(at(11_000));
    assert_eq!(said(&mut tracker), ["zombie at 1", "incomplete"]);
    assert_eq!(tracker.strays().count(), 1);
    assert_eq!(tracker.next_deadline(), None);
    tracker.on_deadline(at(99_000));
    assert!(outputs(&mut tracker).is_empty());
    tracker.sighting(vantage(1), prefix(), false, at(100_000));
    assert_eq!(said(&mut tracker), ["no zombie at 1"]);
    assert_eq!(tracker.strays().count(), 0);
}

#[test]
fn a_route_that_comes_back_after_the_report_is_a_zombie_too() {
    let mut tracker = tracker(1);
    tracker.sighting(vantage(1), prefix(), true, at(0));
    tracker.change(change(false, 1_000));
    tracker.sighting(vantage(1), prefix(), false, at(1_010));
    assert_eq!(said(&mut tracker), ["complete"]);
    tracker.sighting(vantage(1), prefix(), true, at(50_000));
    tracker.on_deadline(at(59_999));
    assert!(outputs(&mut tracker).is_empty(), "it may be path hunting");
    tracker.on_deadline(at(60_000));
    assert_eq!(said(&mut tracker), ["zombie at 1"]);
}

#[test]
fn a_missing_route_is_told() {
    let mut tracker = tracker(2);
    tracker.change(change(true, 1_000));
    tracker.sighting(vantage(1), prefix(), true, at(1_010));
    tracker.on_deadline(at(11_000));
    let told = outputs(&mut tracker);
    let [Output::Astray(stray), Output::Spread(report)] = told.as_slice() else {
        panic!("{told:?}")
    };
    assert_eq!(
        stray.to_string(),
        "192.0.2.53/32 is announced, but AS64500 198.51.100.2 does not have it"
    );
    assert_eq!((report.vantages, report.reached, report.p99), (2, 1, None));
    assert_eq!(report.p50, Some(Duration::from_millis(10)));
    assert_eq!(report.unreached, [vantage(2)]);
}

#[test]
fn the_next_change_takes_the_place_of_the_one_before() {
    let mut tracker = tracker(1);
    tracker.change(change(true, 1_000));
    tracker.change(change(false, 1_500));
    assert_eq!(said(&mut tracker), ["superseded", "complete"], "nobody had it");
    tracker.change(change(false, 1_500));
    assert_eq!(said(&mut tracker), [""; 0], "told twice");
    tracker.on_deadline(at(60_000));
    assert_eq!(said(&mut tracker), [""; 0]);
    tracker.change(change(true, 70_000));
    tracker.on_deadline(at(80_000));
    assert_eq!(said(&mut tracker), ["missing at 1", "incomplete"]);
    tracker.change(change(false, 90_000));
    assert_eq!(said(&mut tracker), ["no missing at 1", "complete"]);
}

#[test]
fn a_vantage_that_is_lost_is_waited_for_no_longer() {
    let mut tracker = tracker(2);
    tracker.change(change(true, 1_000));
    tracker.sighting(vantage(1), prefix(), true, at(1_010));
    tracker.vantage_down(vantage(2), at(2_000));
    let report = report(&mut tracker);
    assert_eq!((report.outcome, report.vantages), (Outcome::Complete, 1));
}

#[test]
fn a_vantage_that_comes_later_is_no_part_of_the_report_but_may_lack_the_route() {
    let mut tracker = tracker(1);
    tracker.change(change(true, 1_000));
    tracker.vantage_up(vantage(2), at(5_000));
    tracker.sighting(vantage(1), prefix(), true, at(6_000));
    assert_eq!(report(&mut tracker).vantages, 1);
    tracker.on_deadline(at(15_000));
    assert_eq!(said(&mut tracker), ["missing at 2"]);
}

#[test]
fn the_baseline_is_not_timed_but_zombies_of_it_are_told() {
    let mut tracker = tracker(1);
    tracker.baseline(change(false, -3_600_000));
    tracker.sighting(vantage(1), prefix(), true, at(0));
    tracker.on_deadline(at(10_000));
    assert_eq!(said(&mut tracker), ["zombie at 1"]);
}

#[test]
fn two_connections_of_a_vantage_are_one_vantage() {
    let mut tracker = tracker(1);
    tracker.vantage_up(vantage(1), at(0));
    tracker.change(change(true, 1_000));
    tracker.vantage_down(vantage(1), at(1_500));
    assert_eq!(said(&mut tracker), [""; 0]);
    tracker.vantage_down(vantage(1), at(1_600));
    assert_eq!(said(&mut tracker), ["complete"]);
    tracker.vantage_down(vantage(1), at(1_700)); // late news
    assert_eq!(tracker.vantages(), 0);
}

#[test]
fn everything_is_bounded_and_what_is_ignored_is_counted() {
    let mut tracker = tracker(0);
    for number in 0..=u8::try_from(MAX_VANTAGES).unwrap() {
        tracker.vantage_up(vantage(number), at(0));
    }
    assert_eq!((tracker.vantages(), tracker.summary().ignored), (MAX_VANTAGES, 1));
    let prefixes = (0..=u32::try_from(MAX_PREFIXES).unwrap()).map(|number| {
        let address = Ipv4Addr::from_bits(number << 8);
        Prefix::new(address.into(), 24).unwrap()
    });
    for prefix in prefixes {
        tracker.sighting(vantage(0), prefix, true, at(0));
    }
    assert_eq!(tracker.summary().ignored, 2);
    tracker.vantage_down(vantage(0), at(0));
    tracker.sighting(vantage(1), prefix(), true, at(0));
    assert_eq!(
        tracker.summary().ignored,
        2,
        "what nobody speaks of takes no room"
    );
}

fn event(heard: Heard) -> MonitorEvent {
    let from = Source {
        remote: "198.51.100.1:4000".parse().unwrap(),
        asn: Asn::new(64_500).unwrap(),
        peer_id: Ipv4Addr::new(10, 0, 0, 1),
        bmp: None,
    };
    let at = at(1_010);
    MonitorEvent { at, from, heard }
}

fn announced(communities: &[Community]) -> Heard {
    let attributes = Attributes {
        origin: crate::wire::Origin::Igp,
        med: None,
        local_pref: None,
        communities: communities.to_vec(),
    };
    Heard::Announced {
        prefix: prefix(),
        next_hop: "192.0.2.1".parse().unwrap(),
        as_path: vec![64_500, 64_512],
        attributes: std::sync::Arc::new(attributes),
    }
}

#[test]
fn a_lost_session_is_no_withdrawal() {
    let mut tracker = tracker(0);
    tracker.hear(&event(Heard::SessionUp));
    tracker.hear(&event(announced(&[])));
    tracker.change(change(false, 1_000));
    let (prefix, lost) = (prefix(), true);
    tracker.hear(&event(Heard::Withdrawn { prefix, lost }));
    assert_eq!(said(&mut tracker), [""; 0]);
    let reason = "gone".to_owned();
    tracker.hear(&event(Heard::SessionDown { reason }));
    let report = report(&mut tracker);
    assert_eq!(
        (report.vantages, report.reached),
        (0, 0),
        "it has told nothing of the change"
    );
}

#[test]
fn with_a_tag_the_route_of_another_site_is_not_ours() {
    let tag = Community::Large([64_512, 1, 1]);
    let mut tracker = Tracker::new(Settings {
        tag: Some(tag),
        ..Settings::default()
    });
    tracker.hear(&event(Heard::SessionUp));
    tracker.hear(&event(announced(&[tag])));
    tracker.change(change(false, 1_000));
    tracker.hear(&event(announced(&[Community::Large([64_512, 1, 2])])));
    let report = report(&mut tracker);
    assert_eq!((report.outcome, report.reached), (Outcome::Complete, 1));
}

#[test]
fn a_prefix_is_announced_with_its_first_peer_and_withdrawn_with_its_last() {
    let route = |announced, ms| Route {
        prefix: prefix(),
        announced,
        since: at(ms),
        snapshot: 7,
    };
    let mut changes = Changes::default();
    assert_eq!(
        changes.look([route(false, 0), route(false, 5)]),
        [(change(false, 5), true)]
    );
    assert_eq!(changes.look([route(false, 0), route(false, 5)]), []);
    assert_eq!(
        changes.look([route(true, 100), route(true, 90)]),
        [(change(true, 90), false)]
    );
    assert_eq!(changes.look([route(true, 100), route(false, 200)]), []);
    assert_eq!(
        changes.look([route(false, 300), route(false, 200)]),
        [(change(false, 300), false)]
    );
}
