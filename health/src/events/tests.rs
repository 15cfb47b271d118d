//! Events of a judge's own snapshots.

mod random;
mod routes;

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use steer_topology::{CheckKind, EndpointId, EventKind, Fleet, SiteId};

use super::*;
use crate::judge::{Change, Judge};
use crate::operator::{Drain, Force, Forced, Target};
use crate::snapshot::Snapshot;
use crate::testing::FleetBuilder;
use Verdict::{Down, Up};

const FRA: Target = Target::Site(SiteId(0));

/// A judge, what was told of its snapshots, and the clock.
struct Bench {
    judge: Option<Judge>,
    last: Arc<Snapshot>,
    told: Facts,
    now: Instant,
    seconds: i64,
}

impl Bench {
    fn new(fleet: Arc<Fleet>) -> Self {
        let now = Instant::now();
        let judge = Judge::new(fleet, now, Timestamp::UNIX_EPOCH);
        Self {
            last: Arc::new(judge.first_snapshot()),
            judge: Some(judge),
            told: Facts::new(),
            now,
            seconds: 0,
        }
    }

    fn at(&self) -> Timestamp {
        Timestamp::from_second(self.seconds).unwrap()
    }

    fn pass(&mut self, seconds: i64) {
        self.seconds += seconds;
        self.now += Duration::from_secs(seconds.unsigned_abs());
    }

    /// What is told of a snapshot, news or not.
    fn tell(&mut self, next: Option<Arc<Snapshot>>) -> Vec<Event> {
        let Some(next) = next else { return Vec::new() };
        let events = events(&self.told, Some(&self.last), &next);
        apply(&mut self.told, &events);
        self.last = next;
        events
    }

    /// News in words.
    fn news(&mut self, next: Option<Arc<Snapshot>>) -> Vec<String> {
        let news = self.tell(next).into_iter().filter(Event::is_news);
        news.map(|event| event.to_string()).collect()
    }

    fn judge(&mut self) -> &mut Judge {
        self.judge.as_mut().unwrap()
    }

    fn verdicts(&mut self, verdicts: &[(u32, Verdict)]) -> Option<Arc<Snapshot>> {
        let changes = verdicts.iter().map(|(id, verdict)| Change {
            endpoint: EndpointId(*id),
            verdict: *verdict,
            cause: if *verdict == Down {
                "status 503"
            } else {
                "status 200"
            }
            .to_owned(),
        });
        let (now, at) = (self.now, self.at());
        self.judge().on_verdicts(changes, now, at)
    }

    fn drain(&mut self, reason: &str, seconds: Option<i64>) -> Option<Arc<Snapshot>> {
        let (now, at) = (self.now, self.at());
        let drain = Drain {
            target: FRA,
            reason: reason.to_owned(),
            author: "ana".to_owned(),
            since: at,
            until: seconds.map(|seconds| Timestamp::from_second(self.seconds + seconds).unwrap()),
        };
        self.judge().drain(drain, true, now, at).unwrap()
    }

    fn reload(&mut self, fleet: Arc<Fleet>) -> Option<Arc<Snapshot>> {
        let (now, at) = (self.now, self.at());
        let (judge, next) = self.judge.take().unwrap().reload(fleet, now, at);
        self.judge = Some(judge);
        Some(next)
    }
}

fn fleet(sites: &[Option<u16>]) -> Arc<Fleet> {
    FleetBuilder::new(CheckKind::Tcp)
        .guard(1, 9, Duration::from_secs(60))
        .pool(sites)
        .build()
}

/// All of three sites are up, and that was told.
fn all_up() -> Bench {
    let mut bench = Bench::new(fleet(&[Some(0), Some(1), Some(2)]));
    let next = bench.verdicts(&[(0, Up), (1, Up), (2, Up)]);
    assert_eq!(bench.news(next), [""; 0], "that all is well is no news");
    assert_eq!(bench.told.len(), 3, "and is remembered");
    bench
}

#[test]
fn nothing_is_told_before_the_first_round_and_then_what_is_down() {
    let mut bench = Bench::new(fleet(&[Some(0), Some(1), Some(2)]));
    let next = bench.verdicts(&[(0, Down), (1, Up)]);
    assert_eq!(bench.tell(next), []);
    let next = bench.verdicts(&[(2, Up)]);
    let events = bench.tell(next);
    let [down, ..] = &events[..] else {
        panic!("{events:?}")
    };
    assert_eq!(
        (down.from_word(), down.to_word(), down.cause()),
        ("unknown", "down", Some("status 503"))
    );
    assert_eq!(events.iter().filter(|event| event.is_news()).count(), 1);
    assert_eq!(down.snapshot, bench.last.number);
}

#[test]
fn a_verdict_that_changes_is_told_with_what_it_was_and_why_and_its_cause_alone_is_no_news() {
    let mut bench = all_up();
    let next = bench.verdicts(&[(0, Down)]);
    let events = bench.tell(next);
    assert_eq!(events.len(), 1);
    assert_eq!(events[0].to_string(), "pool-0 down at 127.0.0.1:9 (status 503)");
    assert_eq!((events[0].from_word(), events[0].to_word()), ("up", "down"));
    assert_eq!(events[0].place.as_ref().unwrap().service, "out");
    let mut again = (*bench.last).clone();
    again.number += 1;
    again.endpoints[0].cause = "refused".to_owned();
    assert_eq!(bench.tell(Some(Arc::new(again))), []);
    let next = bench.verdicts(&[(0, Up)]);
    assert_eq!(bench.news(next), ["pool-0 up at 127.0.0.1:9 (status 200)"]);
}

#[test]
fn the_guard_is_told_of_with_its_numbers_and_when_it_lets_go() {
    let mut bench = all_up();
    let next = bench.verdicts(&[(0, Down), (1, Down)]);
    assert_eq!(bench.tell(next).len(), 2);
    let next = bench.verdicts(&[(2, Down)]);
    let told = bench.news(next);
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!(
        told[1],
        "pool-0 kept in service by the guard at 127.0.0.1:9 \
         (0 of 3 sites would be left in service, keep_sites is 1)"
    );
    let next = bench.verdicts(&[(0, Up)]);
    let told = bench.news(next);
    assert!(
        told.contains(&"pool-0 no longer kept by the guard: out at 127.0.0.1:9".to_owned()),
        "{told:?}"
    );
}

#[test]
fn a_drain_is_told_when_it_begins_changes_ends_and_expires() {
    let mut bench = all_up();
    let next = bench.drain("kernel update", None);
    assert_eq!(
        bench.news(next),
        ["fra drained by ana, until it is ended (kernel update)"]
    );
    let next = bench.drain("disk", Some(60));
    assert_eq!(
        bench.news(next),
        ["fra drained anew by ana, until 1970-01-01T00:01:00Z (disk)"]
    );
    bench.pass(61);
    let next = bench.verdicts(&[]);
    assert_eq!(bench.news(next), ["drain of fra expired"]);
    let next = bench.drain("", Some(60));
    assert_eq!(bench.news(next).len(), 1);
    let (now, at) = (bench.now, bench.at());
    let next = bench.judge().undrain(FRA, "ana", now, at).unwrap();
    let events = bench.tell(next);
    assert_eq!(events[0].what(), What::Ended);
    assert_eq!(
        (events[0].from_word(), events[0].to_word()),
        ("drained", "not-drained")
    );
}

#[test]
fn a_forced_verdict_is_told_beside_what_it_does() {
    let mut bench = all_up();
    let (now, at) = (bench.now, bench.at());
    let force = Force {
        target: Target::Endpoint(EndpointId(0)),
        to: Forced::Down,
        reason: "bad disk".to_owned(),
        author: "bo".to_owned(),
        since: at,
        until: None,
    };
    let next = bench.judge().force(force, true, now, at).unwrap();
    let told = bench.news(next);
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0].starts_with("pool-0 down at 127.0.0.1:9"), "{told:?}");
    assert_eq!(
        told[1],
        "pool-0/127.0.0.1:9@fra forced down by bo, until it is ended (bad disk)"
    );
    let endpoint = Target::Endpoint(EndpointId(0));
    let next = bench.judge().unforce(endpoint, "bo", now, at).unwrap();
    let told = bench.news(next);
    assert!(
        told.contains(&"forced verdict (down) of pool-0/127.0.0.1:9@fra is over".to_owned()),
        "{told:?}"
    );
}

#[test]
fn a_reload_is_compared_by_name_whatever_the_ids() {
    let mut bench = all_up();
    let next = bench.verdicts(&[(0, Down)]);
    assert_eq!(bench.news(next).len(), 1);
    // The ids of nrt and jfk are others now, a new site is not known, and fra is gone while it is down.
    let next = bench.reload(fleet(&[Some(2), Some(1), Some(3)]));
    assert_eq!(
        bench.news(next),
        ["pool-0/127.0.0.1:9@fra gone (the configuration does not have it any more)"]
    );
    let next = bench.verdicts(&[(2, Up)]);
    assert_eq!(bench.news(next), [""; 0], "seen up for the first time");
    let next = bench.verdicts(&[(0, Down)]);
    let events = bench.tell(next);
    assert_eq!(events[0].key.name, "pool-0/127.0.0.1:9@jfk");
}

#[test]
fn what_changed_while_nobody_looked_is_told_once_at_the_first_settled_snapshot() {
    let mut before = all_up();
    let next = before.verdicts(&[(0, Down)]);
    before.tell(next);
    let text = serde_json::to_string(&before.told.values().collect::<Vec<_>>()).unwrap();
    let kept: Vec<Fact> = serde_json::from_str(&text).unwrap();
    let mut after = Bench::new(fleet(&[Some(0), Some(1), Some(2)]));
    after.told = before.told.keys().cloned().zip(kept).collect();
    let next = after.verdicts(&[(0, Down), (1, Down)]);
    assert_eq!(after.news(next), [""; 0]);
    let next = after.verdicts(&[(2, Up)]);
    let events = after.tell(next);
    let news: Vec<_> = events.iter().filter(|event| event.is_news()).collect();
    assert_eq!(news.len(), 1, "{events:?}");
    assert_eq!(
        (news[0].key.name.as_str(), news[0].from_word()),
        ("pool-0/127.0.0.1:9@nrt", "up")
    );
}
