use std::collections::BTreeMap;
use std::io::Write;
use std::num::NonZeroU16;
use std::sync::Mutex;

use proptest::prelude::*;
use steer_topology::{At, CheckKind, InService, PoolId, SiteId, Subject};

use super::*;
use crate::memory::Remembered;
use crate::snapshot::Holds;
use crate::testing::FleetBuilder;
use Verdict::{Down, Unknown, Up};

pub(super) const MINUTE: Duration = Duration::from_secs(60);
pub(super) const SITES: [Option<u16>; 3] = [Some(0), Some(1), Some(2)];

const SITES_10: [Option<u16>; 10] = [
    Some(0),
    Some(1),
    Some(2),
    Some(3),
    Some(4),
    Some(5),
    Some(6),
    Some(7),
    Some(8),
    Some(9),
];

/// A judge and its clock.
pub(super) struct Bench {
    pub(super) judge: Judge,
    start: Instant,
    pub(super) now: Instant,
    pub(super) last: Arc<Snapshot>,
}

impl Bench {
    pub(super) fn new(fleet: FleetBuilder) -> Self {
        let start = Instant::now();
        let judge = Judge::new(fleet.build(), start, Timestamp::UNIX_EPOCH);
        let last = Arc::new(judge.first_snapshot());
        Self {
            judge,
            start,
            now: start,
            last,
        }
    }

    /// With every endpoint up.
    pub(super) fn all_up(fleet: FleetBuilder) -> Self {
        let mut bench = Self::new(fleet);
        let endpoints = bench.last.endpoints.len() as u32;
        bench.change(&(0..endpoints).map(|id| (id, Up)).collect::<Vec<_>>());
        assert!(bench.last.settled);
        bench
    }

    pub(super) fn at(&self) -> Timestamp {
        Timestamp::UNIX_EPOCH + (self.now - self.start)
    }

    /// Changes that arrive together; returns whether a snapshot came of it.
    pub(super) fn change(&mut self, changes: &[(u32, Verdict)]) -> bool {
        let changes = changes.iter().map(|(id, verdict)| Change {
            endpoint: EndpointId(*id),
            verdict: *verdict,
            cause: "test".to_owned(),
        });
        let next = self
            .judge
            .on_verdicts(changes.collect::<Vec<_>>(), self.now, self.at());
        self.note(next)
    }

    /// Time passes, with a call at each deadline on the way.
    pub(super) fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while let Some(due) = self.judge.next_deadline().filter(|due| *due <= end) {
            self.now = self.now.max(due);
            let next = self.judge.on_deadline(self.now, self.at());
            self.note(next);
            assert_ne!(
                self.judge.next_deadline(),
                Some(due),
                "a deadline that does not move spins the loop"
            );
        }
        self.now = end;
    }

    pub(super) fn reload(&mut self, fleet: Fleet) {
        let none = Judge::new(Arc::clone(&self.last.fleet), self.now, self.at());
        let judge = std::mem::replace(&mut self.judge, none);
        let (judge, next) = judge.reload(Arc::new(fleet), self.now, self.at());
        self.judge = judge;
        self.note(Some(next));
    }

    pub(super) fn note(&mut self, next: Option<Arc<Snapshot>>) -> bool {
        self.judge.tell();
        let came = next.is_some();
        if let Some(next) = next {
            assert_eq!(next.number, self.last.number + 1);
            self.last = next;
        }
        came
    }

    /// `in`, `out`, `held`, .. of each endpoint.
    pub(super) fn services(&self) -> Vec<&'static str> {
        self.last
            .endpoints
            .iter()
            .map(|state| state.service.as_str())
            .collect()
    }

    pub(super) fn cause(&self, endpoint: u32) -> &str {
        &self.last.endpoint(EndpointId(endpoint)).cause
    }

    pub(super) fn reason(&self, id: u32) -> &str {
        match &self.last.endpoint(EndpointId(id)).service {
            Service::Held { reason } => reason,
            other @ (Service::In | Service::Out | Service::Drained) => panic!("{other:?} is not held"),
        }
    }
}

pub(super) fn fleet() -> FleetBuilder {
    FleetBuilder::new(CheckKind::Tcp)
}

#[test]
fn nothing_is_published_before_the_first_round_is_over() {
    let mut bench = Bench::new(fleet().pool(&SITES).unchecked_pool(&[None]));
    assert_eq!((bench.last.number, bench.last.settled), (1, false));
    assert!(
        bench
            .last
            .endpoints
            .iter()
            .all(|state| state.verdict == Unknown && state.service == Service::In)
    );
    assert!(!bench.change(&[(0, Down)]));
    assert!(!bench.change(&[(1, Up)]));
    assert!(bench.change(&[(2, Down)]));
    assert!(bench.last.settled);
    assert_eq!(bench.services(), ["out", "in", "out", "in"]);
}

#[test]
fn what_is_down_when_we_settle_is_out_and_costs_no_budget() {
    let mut bench = Bench::new(fleet().pool(&SITES));
    bench.change(&[(0, Down), (1, Up), (2, Up)]);
    assert_eq!(bench.services(), ["out", "in", "in"]);
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services(), ["out", "out", "in"]);
}

/// Facebook, 2021-10-04: the backbone went, and every site took itself for dead and withdrew its addresses.
#[test]
fn a_check_that_fails_everywhere_at_once_takes_nothing_out() {
    let mut bench = Bench::all_up(fleet().sites(10).guard(1, 9, MINUTE).panic(70).pool(&SITES_10));
    bench.change(&(0..10).map(|id| (id, Down)).collect::<Vec<_>>());
    assert_eq!(bench.services(), ["held"; 10]);
    assert_eq!(
        bench.reason(3),
        "10 of 10 sites are down at once, panic is 70 %: the checks are distrusted"
    );
    bench.pass(10 * MINUTE);
    assert_eq!(bench.services(), ["held"; 10]);
    // Those that are left dead are believed as soon as most live again.
    bench.change(&(2..10).map(|id| (id, Up)).collect::<Vec<_>>());
    assert_eq!(bench.services()[..3], ["out", "out", "in"]);
}

#[test]
fn a_pool_that_needs_what_is_measured_keeps_the_capacity_for_it() {
    let load = |bench: &Bench, per_second| crate::load::Load {
        per_second,
        at: bench.at(),
        until: bench.at() + MINUTE,
        author: "test".to_owned(),
    };
    let mut bench = Bench::all_up(fleet().guard(1, 9, MINUTE).pool(&SITES).measured(100));
    for site in 0..3 {
        let told = load(&bench, 70);
        let next = bench
            .judge
            .on_load(SiteId(site), Some(told), bench.now, bench.at());
        bench.note(next);
    }
    bench.change(&[(0, Down)]);
    assert_eq!(
        bench.reason(0),
        "sites for 200 requests/s would be left in service, the pool needs 210"
    );
    let told = load(&bench, 50);
    let next = bench.judge.on_load(SiteId(1), Some(told), bench.now, bench.at());
    bench.note(next);
    assert_eq!(bench.services(), ["out", "in", "in"], "the others can carry 190");
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services(), ["out", "held", "in"]);
    bench.pass(2 * MINUTE);
    assert_eq!(
        bench.services(),
        ["out", "out", "in"],
        "what nobody tells any more counts no more"
    );
}

#[test]
fn a_fleet_without_checks_is_settled_at_once() {
    for fleet in [fleet(), fleet().unchecked_pool(&SITES)] {
        let bench = Bench::new(fleet);
        assert!(bench.last.settled);
        assert_eq!(bench.judge.next_deadline(), None);
        assert!(
            bench
                .last
                .endpoints
                .iter()
                .all(|state| state.verdict == Up && state.cause == "not checked")
        );
    }
}

#[test]
fn an_endpoint_without_evidence_does_not_keep_us_from_settling_for_ever() {
    let mut bench = Bench::new(fleet().pool(&SITES));
    bench.change(&[(0, Up), (1, Down)]);
    bench.pass(Duration::from_secs(4));
    assert!(!bench.last.settled, "a spread start and fall x interval are 4 s");
    bench.pass(SETTLE_SLACK);
    assert!(bench.last.settled);
    assert_eq!(bench.services(), ["in", "out", "in"]);
    assert_eq!(bench.last.endpoint(EndpointId(2)).verdict, Unknown);
    // After that it is taken out like any other.
    bench.pass(MINUTE);
    bench.change(&[(2, Down)]);
    assert_eq!(bench.services(), ["in", "out", "out"]);
}

#[test]
fn every_row_of_the_service_table() {
    let held = || Service::Held {
        reason: "test".to_owned(),
    };
    let rows = [
        (Up, Service::In, "in", false),
        (Up, Service::Out, "in", false),
        (Up, held(), "in", false),
        (Down, Service::In, "in", true), // until the guard has spoken
        (Down, held(), "held", true),
        (Down, Service::Out, "out", false),
        (Unknown, Service::In, "in", false),
        (Unknown, Service::Out, "out", false),
        (Unknown, held(), "in", false),
    ];
    for (verdict, service, want, waits) in rows {
        let mut bench = Bench::all_up(fleet().pool(&SITES));
        let row = format!("{verdict:?} while {service:?}");
        bench.judge.entries[0].service = service;
        bench.judge.follow(EndpointId(0), verdict);
        assert_eq!(bench.judge.entries[0].service.as_str(), want, "{row}");
        assert_eq!(!bench.judge.waiting.is_empty(), waits, "{row}");
    }
}

#[test]
fn the_last_site_is_held_until_another_returns() {
    let mut bench = Bench::all_up(fleet().guard(1, 9, MINUTE).pool(&SITES));
    bench.change(&[(0, Down), (1, Down), (2, Down)]);
    assert_eq!(bench.services(), ["out", "out", "held"]);
    assert_eq!(
        bench.reason(2),
        "0 of 3 sites would be left in service, keep_sites is 1"
    );
    assert_eq!(
        bench.judge.next_deadline(),
        None,
        "no time that passes changes this"
    );
    bench.change(&[(1, Up)]);
    assert_eq!(bench.services(), ["out", "in", "out"]);
}

#[test]
fn a_site_that_the_load_needs_is_held_until_another_returns() {
    let mut bench = Bench::all_up(fleet().guard(1, 9, MINUTE).pool(&SITES).load(100, 200));
    bench.change(&[(0, Down), (1, Down)]);
    assert_eq!(bench.services(), ["out", "held", "in"]);
    assert_eq!(
        bench.reason(1),
        "sites for 100 requests/s would be left in service, the pool needs 200"
    );
    bench.change(&[(0, Up)]);
    assert_eq!(bench.services(), ["in", "out", "in"]);
}

#[test]
fn the_window_lets_one_out_after_the_other() {
    let mut bench = Bench::all_up(fleet().guard(0, 1, MINUTE).pool(&SITES));
    bench.change(&[(0, Down)]);
    bench.pass(Duration::from_secs(10));
    bench.change(&[(1, Down), (2, Down)]);
    assert_eq!(bench.services(), ["out", "held", "held"]);
    assert_eq!(bench.reason(1), "1 taken out within 60 s, max_withdrawn is 1");
    bench.pass(Duration::from_secs(50));
    assert_eq!(bench.services(), ["out", "out", "held"]);
    bench.pass(MINUTE);
    assert_eq!(bench.services(), ["out", "out", "out"]);
}

#[test]
fn flapping_does_not_buy_withdrawals() {
    let mut bench = Bench::all_up(fleet().pool(&SITES));
    bench.change(&[(0, Down)]);
    bench.change(&[(0, Up)]);
    assert_eq!(
        bench.services(),
        ["in", "in", "in"],
        "coming back is free and at once"
    );
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services(), ["in", "held", "in"]);
    bench.change(&[(1, Up)]);
    assert_eq!(bench.services(), ["in", "in", "in"]);
}

#[test]
fn one_endpoint_of_a_site_may_go_while_another_carries_it() {
    let mut bench = Bench::all_up(fleet().guard(1, 0, MINUTE).pool(&[Some(0), Some(0), Some(1)]));
    bench.change(&[(0, Down)]);
    assert_eq!(bench.services(), ["out", "in", "in"]);
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services(), ["out", "held", "in"]);
    bench.change(&[(0, Up)]);
    assert_eq!(bench.services(), ["in", "out", "in"]);
}

#[test]
fn an_unknown_endpoint_is_not_leant_on() {
    let mut bench = Bench::new(fleet().guard(1, 9, MINUTE).pool(&[Some(0), Some(1)]));
    bench.change(&[(0, Up)]);
    bench.pass(MINUTE);
    assert!(bench.last.settled);
    bench.change(&[(0, Down)]);
    assert_eq!(bench.services(), ["held", "in"]);
}

#[test]
fn endpoints_without_a_site_are_units_of_their_own() {
    let mut bench = Bench::all_up(fleet().guard(1, 1, MINUTE).pool(&[None, None, None]));
    bench.change(&[(0, Down), (1, Down)]);
    assert_eq!(bench.services(), ["out", "held", "in"]);
}

#[test]
fn news_that_is_none_makes_no_snapshot() {
    let mut bench = Bench::all_up(fleet().pool(&SITES));
    assert!(!bench.change(&[]));
    assert!(!bench.change(&[(0, Up)]));
    assert!(!bench.change(&[(99, Down)]), "an id of another fleet");
    bench.now += MINUTE;
    let nothing = bench.judge.on_deadline(bench.now, bench.at());
    assert!(nothing.is_none());
}

#[test]
fn changes_that_arrive_together_share_a_snapshot() {
    let mut bench = Bench::all_up(fleet().guard(0, 9, MINUTE).pool(&SITES));
    let before = bench.last.number;
    bench.change(&[(0, Down), (1, Down), (2, Down), (1, Up)]);
    assert_eq!(bench.last.number, before + 1);
    assert_eq!(bench.services(), ["out", "in", "out"]);
}

#[test]
fn a_reload_keeps_what_is_known_and_what_the_guard_counted() {
    let reload = |bench: &mut Bench, fleet: FleetBuilder| {
        let judge = Judge::new(Arc::clone(bench.judge.fleet()), bench.now, bench.at());
        let old = std::mem::replace(&mut bench.judge, judge);
        let (judge, first) = old.reload(fleet.build(), bench.now, bench.at());
        bench.judge = judge;
        assert!(bench.note(Some(first)));
    };
    let mut bench = Bench::all_up(fleet().pool(&SITES));
    bench.change(&[(0, Down)]);
    bench.pass(Duration::from_secs(10));
    bench.change(&[(1, Down)]);
    assert_eq!(bench.services(), ["out", "held", "in"]);

    reload(
        &mut bench,
        fleet()
            .pool(&[Some(0), Some(1), Some(2), Some(3)])
            .unchecked_pool(&[None]),
    );
    assert!(bench.last.settled, "a new endpoint does not unsettle us");
    assert_eq!(bench.services(), ["out", "held", "in", "in", "in"]);
    let verdicts: Vec<_> = bench.last.endpoints.iter().map(|state| state.verdict).collect();
    assert_eq!(verdicts, [Down, Down, Up, Unknown, Up]);
    bench.pass(Duration::from_secs(49));
    assert_eq!(bench.services()[1], "held", "a reload does not clear the window");
    bench.pass(Duration::from_secs(1));
    assert_eq!(bench.services()[1], "out");

    reload(&mut bench, fleet().guard(1, 2, MINUTE).pool(&[Some(2), Some(1)]));
    assert_eq!(bench.services(), ["in", "out"]);
    assert_eq!(bench.last.endpoint(EndpointId(1)).cause, "test");
}

#[test]
fn a_reload_before_we_settle_publishes_nothing_known() {
    let mut bench = Bench::new(fleet().pool(&SITES));
    bench.change(&[(0, Down), (1, Up)]);
    let old = Judge::new(Arc::clone(bench.judge.fleet()), bench.now, bench.at());
    let old = std::mem::replace(&mut bench.judge, old);
    let (judge, first) = old.reload(
        fleet().pool(&[Some(0), Some(1), Some(3)]).build(),
        bench.now,
        bench.at(),
    );
    bench.judge = judge;
    bench.note(Some(first));
    assert!(!bench.last.settled);
    assert!(
        bench
            .last
            .endpoints
            .iter()
            .all(|state| state.verdict == Unknown && state.service == Service::In)
    );
    bench.change(&[(2, Up)]);
    assert_eq!(
        bench.services(),
        ["out", "in", "in"],
        "what was known before the reload still is"
    );
}

/// What the log said while `work` ran, one JSON object per line.
pub(super) fn logged(work: impl FnOnce()) -> Vec<serde_json::Value> {
    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);
    impl Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let lines = Lines::default();
    let writer = lines.clone();
    let subscriber = tracing_subscriber::fmt()
        .json()
        .with_writer(move || writer.clone())
        .finish();
    tracing::subscriber::with_default(subscriber, work);
    let text = String::from_utf8(lines.0.lock().unwrap().clone()).unwrap();
    text.lines()
        .map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["fields"].clone())
        .collect()
}

#[test]
fn a_change_is_logged_once_with_the_number_of_the_snapshot_that_carries_it() {
    let mut bench = Bench::all_up(fleet().pool(&SITES));
    let lines = logged(|| {
        bench.change(&[(0, Down)]);
        bench.change(&[(1, Down)]);
        bench.change(&[(1, Down)]);
    });
    let told: Vec<_> = lines
        .iter()
        .map(|line| (line["message"].as_str().unwrap(), &line["snapshot"]))
        .collect();
    let (third, fourth) = (3.into(), 4.into());
    let want = [
        ("verdict changed", &third),
        ("service changed", &third),
        ("verdict changed", &fourth),
        ("service changed", &fourth),
        ("guard refused", &fourth),
    ];
    assert_eq!(told, want);
    let first = serde_json::json!({
        "message": "verdict changed", "snapshot": 3, "endpoint": "127.0.0.1:9", "pool": "pool-0", "site": "fra",
        "from": "up", "verdict": "down", "cause": "test", "at": bench.at().to_string(),
    });
    assert_eq!(lines[0], first);
}

/// The parts of a random run.
#[derive(Debug, Clone)]
enum Step {
    Together(Vec<(u32, bool)>),
    Pass(u64),
}

/// Three sites with two endpoints at one of them; two sites; two endpoints nowhere; one alone.
const SHAPE: [&[Option<u16>]; 4] = [
    &[Some(0), Some(0), Some(1), Some(2)],
    &[Some(0), Some(1)],
    &[None, None],
    &[Some(3)],
];
const ENDPOINTS: u32 = 9;

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let change = (0..ENDPOINTS, any::<bool>());
    let step = prop_oneof![
        3 => prop::collection::vec(change, 1..5).prop_map(Step::Together),
        2 => (0u64..40).prop_map(Step::Pass),
    ];
    prop::collection::vec(step, 1..60)
}

type Unit = (PoolId, Option<SiteId>, Option<EndpointId>);

/// By unit, whether any of its endpoints is in service; counted anew from the snapshot alone.
fn units_in_service(snapshot: &Snapshot) -> BTreeMap<Unit, bool> {
    let mut units = BTreeMap::new();
    for id in snapshot.fleet.endpoint_ids() {
        let endpoint = snapshot.fleet.endpoint(id);
        let alone = endpoint.site.is_none().then_some(id);
        let unit = units
            .entry((endpoint.pool, endpoint.site, alone))
            .or_insert(false);
        *unit |= snapshot.endpoint(id).service != Service::Out;
    }
    units
}

fn count(units: &BTreeMap<Unit, bool>, pool: PoolId, in_service: bool) -> usize {
    units
        .iter()
        .filter(|((of, ..), serves)| *of == pool && (**serves || !in_service))
        .count()
}

/// Watches what is published and knows nothing of how it came about.
struct Watcher {
    keep: usize,
    max: usize,
    window: Duration,
    before: Arc<Snapshot>,
    withdrawn: Vec<(PoolId, Instant)>,
}

impl Watcher {
    fn look(&mut self, after: &Arc<Snapshot>, now: Instant) {
        if Arc::ptr_eq(&self.before, after) {
            return;
        }
        assert!(after.number > self.before.number);
        assert!(after.settled, "nothing is published before we settle");
        for state in &after.endpoints {
            match state.verdict {
                Up | Unknown => assert_eq!(state.service, Service::In),
                Down => assert_ne!(state.service, Service::In, "down is out, or held with a reason"),
            }
        }
        if self.before.settled {
            self.check_guard(after, now);
        }
        self.before = Arc::clone(after);
    }

    fn check_guard(&mut self, after: &Snapshot, now: Instant) {
        let (old, new) = (units_in_service(&self.before), units_in_service(after));
        for (unit, _) in old.iter().filter(|(unit, served)| **served && !new[unit]) {
            self.withdrawn.push((unit.0, now));
        }
        for pool in (0..SHAPE.len() as u32).map(PoolId) {
            let recent = |(of, at): &&(PoolId, Instant)| *of == pool && now - *at < self.window;
            let taken = self.withdrawn.iter().filter(recent).count();
            assert!(taken <= self.max, "{pool:?}: {taken} taken out within the window");
            let least = count(&old, pool, true).min(self.keep);
            if count(&old, pool, false) > self.keep {
                assert!(count(&new, pool, true) >= least, "{pool:?} fell below keep_sites");
            }
        }
    }
}

fn watched_pass(bench: &mut Bench, watcher: &mut Watcher, time: Duration) {
    let end = bench.now + time;
    while let Some(due) = bench.judge.next_deadline().filter(|due| *due <= end) {
        bench.pass(due.saturating_duration_since(bench.now));
        watcher.look(&bench.last, bench.now);
    }
    bench.now = end;
}

proptest! {
    #[test]
    fn no_order_of_verdicts_gets_past_the_guard(
        keep in 0u16..3, max in 1u16..3, window_s in 1u64..60, steps in steps(), finally in prop::collection::vec(any::<bool>(), 9)
    ) {
        let window = Duration::from_secs(window_s);
        let builder = SHAPE.iter().fold(fleet().guard(keep, max, window), |fleet, sites| fleet.pool(sites));
        let mut bench = Bench::new(builder);
        let mut watcher = Watcher {
            keep: keep.into(), max: max.into(), window, before: Arc::clone(&bench.last), withdrawn: vec![],
        };
        let verdict = |up: bool| if up { Up } else { Down };
        for step in steps {
            match step {
                Step::Together(changes) => {
                    bench.change(&changes.iter().map(|(id, up)| (*id, verdict(*up))).collect::<Vec<_>>());
                }
                Step::Pass(seconds) => watched_pass(&mut bench, &mut watcher, Duration::from_secs(seconds)),
            }
            watcher.look(&bench.last, bench.now);
        }
        // The last word of the checks; then nothing changes any more.
        bench.change(&(0..).zip(&finally).map(|(id, up)| (id, verdict(*up))).collect::<Vec<_>>());
        watcher.look(&bench.last, bench.now);
        watched_pass(&mut bench, &mut watcher, window * 10);
        prop_assert_eq!(bench.judge.next_deadline(), None);
        let units = units_in_service(&bench.last);
        for (id, up) in bench.judge.fleet().endpoint_ids().zip(finally) {
            let state = bench.last.endpoint(id);
            prop_assert_eq!(state.verdict, verdict(up));
            if matches!(state.service, Service::Held { .. }) {
                let in_service = count(&units, bench.judge.fleet().endpoint(id).pool, true);
                prop_assert!(in_service <= usize::from(keep), "held for no reason that lasts: {state:?}");
            }
        }
    }
}

fn remembered(endpoint: &str) -> Remembered {
    Remembered {
        endpoint: endpoint.to_owned(),
        cause: "connection refused".to_owned(),
        since: "2026-01-01T00:00:00Z".parse().unwrap(),
        last: None,
    }
}

/// Three sites after a restart, of which fra was out.
fn restarted() -> Bench {
    let mut bench = Bench::new(fleet().pool(&SITES));
    bench.judge.recall(&[
        remembered("pool-0/127.0.0.1:9@fra"),
        remembered("no-such-pool@fra"),
    ]);
    bench.last = Arc::new(bench.judge.first_snapshot());
    bench
}

#[test]
fn what_was_out_before_a_restart_is_not_served_before_its_check_has_spoken() {
    let mut bench = restarted();
    assert!(!bench.last.settled, "routes wait for the first round as ever");
    assert_eq!(bench.services(), ["out", "in", "in"]);
    assert_eq!(
        bench.last.endpoint(EndpointId(0)).cause,
        "connection refused (before the restart)"
    );
    let condition = InService {
        subject: Subject::Pool(PoolId(0)),
        at: At::Site(SiteId(0)),
        at_least: NonZeroU16::MIN,
    };
    assert_eq!(bench.last.holds(&condition, None), Holds::Unknown);
    assert!(!bench.change(&[(0, Down)]), "and it still is");
    assert_eq!(bench.services(), ["out", "in", "in"]);
    bench.change(&[(1, Up), (2, Up)]);
    assert!(bench.last.settled);
    assert_eq!(bench.services(), ["out", "in", "in"]);
    let since = bench.last.endpoint(EndpointId(0)).since;
    assert_eq!(
        since.to_string(),
        "2026-01-01T00:00:00Z",
        "it was down all the time"
    );
}

#[test]
fn what_was_out_before_a_restart_is_served_at_once_when_it_is_seen_up() {
    let mut bench = restarted();
    assert!(bench.change(&[(0, Up)]), "clients need not wait for the others");
    assert!(!bench.last.settled);
    assert_eq!(bench.services(), ["in", "in", "in"]);
}

#[test]
fn what_was_out_before_a_restart_and_is_never_seen_is_unknown_when_the_first_round_is_over() {
    let mut bench = restarted();
    bench.change(&[(1, Up), (2, Up)]);
    bench.pass(MINUTE);
    assert!(bench.last.settled);
    assert_eq!(bench.last.endpoint(EndpointId(0)).verdict, Unknown);
    assert_eq!(bench.services(), ["in", "in", "in"]);
}

#[test]
fn meta_2021_10_04_no_condition_on_the_fleet_fails_when_each_site_sees_all_down_at_once() {
    // The backbone goes, and every site judges itself unhealthy, a moment before all the others.
    for own in 0..3 {
        let mut bench = Bench::all_up(fleet().guard(1, 9, MINUTE).pool(&SITES));
        bench.change(&[(own, Down)]);
        let others: Vec<_> = (0..3).filter(|id| *id != own).map(|id| (id, Down)).collect();
        bench.change(&others);
        let condition = InService {
            subject: Subject::Pool(PoolId(0)),
            at: At::Anywhere,
            at_least: NonZeroU16::MIN,
        };
        for _ in 0..3 {
            assert_eq!(bench.last.holds(&condition, Some(SiteId(own as u16))), Holds::Yes);
            assert_eq!(
                bench
                    .services()
                    .iter()
                    .filter(|service| **service == "held")
                    .count(),
                1
            );
            bench.pass(MINUTE * 10);
        }
        bench.change(&[(0, Up), (1, Up), (2, Up)]);
        assert_eq!(
            bench.services(),
            ["in", "in", "in"],
            "and all of it is back at once"
        );
    }
}
