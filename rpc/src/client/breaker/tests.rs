use proptest::prelude::*;

use super::*;

const MS: Duration = Duration::from_millis(1);

fn limits() -> BreakerLimits {
    BreakerLimits {
        failures: 3,
        open: Backoff::new(100 * MS, 400 * MS, 2.0).unwrap(),
        probes: 2,
        calls: 5,
    }
}

/// A breaker with its clock.
struct Desk {
    breaker: Breaker,
    now: Instant,
}

impl Desk {
    fn new() -> Self {
        Self {
            breaker: Breaker::new(limits()),
            now: Instant::now(),
        }
    }

    fn call(&mut self, ended: Ended) {
        let leave = self.breaker.admit(self.now).unwrap();
        self.breaker.on_end(&leave, ended, self.now);
    }

    fn open(&mut self) {
        for _ in 0..3 {
            self.call(Ended::Badly);
        }
    }

    fn wait(&self) -> Duration {
        match self.breaker.allows(self.now) {
            Err(Barred::Open(until)) => until - self.now,
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn the_table_is_as_specified_row_by_row() {
    let until = Instant::now();
    let closed = |failures| State::Closed { failures };
    let half = |under_way, succeeded| State::HalfOpen { under_way, succeeded };
    let open = State::Open { until };
    let rows = [
        (closed(2), Ended::Well, Next::Stay(closed(0))),
        (closed(1), Ended::Badly, Next::Stay(closed(2))),
        (closed(2), Ended::Badly, Next::Open),
        (closed(2), Ended::Silently, Next::Stay(closed(2))),
        (open, Ended::Well, Next::Stay(open)),
        (open, Ended::Badly, Next::Stay(open)),
        (open, Ended::Silently, Next::Stay(open)),
        (half(2, 0), Ended::Well, Next::Stay(half(1, 1))),
        (half(1, 1), Ended::Well, Next::Close),
        (half(1, 1), Ended::Badly, Next::Open),
        (half(2, 0), Ended::Silently, Next::Stay(half(1, 0))),
    ];
    for (state, ended, expected) in rows {
        assert_eq!(next(state, ended, &limits()), expected, "{state:?} {ended:?}");
    }
}

#[test]
fn failures_in_a_row_open_it_and_a_success_between_them_does_not() {
    let mut desk = Desk::new();
    for ended in [
        Ended::Badly,
        Ended::Badly,
        Ended::Well,
        Ended::Badly,
        Ended::Badly,
    ] {
        desk.call(ended);
    }
    assert_eq!(desk.breaker.allows(desk.now), Ok(()));
    desk.call(Ended::Badly);
    assert_eq!(desk.wait(), 100 * MS);
}

#[test]
fn half_open_lets_so_many_probes_pass_and_closes_when_they_end_well() {
    let mut desk = Desk::new();
    desk.open();
    desk.now += 100 * MS;
    let probes = [(); 2].map(|()| desk.breaker.admit(desk.now).unwrap());
    assert_eq!(desk.breaker.allows(desk.now), Err(Barred::Probing));
    for probe in probes {
        desk.breaker.on_end(&probe, Ended::Well, desk.now);
    }
    assert_eq!(desk.breaker.state(), State::Closed { failures: 0 });
}

#[test]
fn each_probe_that_fails_doubles_the_wait_up_to_the_bound_and_a_close_forgets_it() {
    let mut desk = Desk::new();
    desk.open();
    for expected in [200, 400, 400] {
        desk.now += desk.wait();
        desk.call(Ended::Badly);
        assert_eq!(desk.wait(), expected * MS);
    }
    desk.now += desk.wait();
    desk.call(Ended::Well);
    desk.call(Ended::Well);
    desk.open();
    assert_eq!(desk.wait(), 100 * MS);
}

#[test]
fn what_began_before_it_opened_says_nothing_of_its_probes() {
    let mut desk = Desk::new();
    let early = desk.breaker.admit(desk.now).unwrap();
    desk.open();
    desk.now += 100 * MS;
    let probe = desk.breaker.admit(desk.now).unwrap();
    desk.breaker.on_end(&early, Ended::Badly, desk.now);
    let still = State::HalfOpen {
        under_way: 1,
        succeeded: 0,
    };
    assert_eq!(desk.breaker.state(), still);
    desk.breaker.on_end(&probe, Ended::Silently, desk.now);
}

#[test]
fn no_more_calls_are_under_way_than_it_may_have() {
    let mut desk = Desk::new();
    let leaves: Vec<_> = (0..5).map(|_| desk.breaker.admit(desk.now).unwrap()).collect();
    assert_eq!(desk.breaker.admit(desk.now).unwrap_err(), Barred::Full);
    desk.breaker.on_end(&leaves[0], Ended::Well, desk.now);
    assert_eq!(desk.breaker.allows(desk.now), Ok(()));
}

proptest! {
    #[test]
    fn whatever_happens_it_lets_calls_pass_again_in_time_and_never_too_many(
        steps in prop::collection::vec((0_u8..4, 0_usize..5, 0_u32..150), 0..80)
    ) {
        let mut desk = Desk::new();
        let mut leaves = Vec::new();
        for (step, which, wait) in steps {
            desk.now += wait * MS;
            match step {
                0 => leaves.extend(desk.breaker.admit(desk.now)),
                _ if leaves.is_empty() => {}
                _ => {
                    let leave = leaves.remove(which % leaves.len());
                    let ended = [Ended::Well, Ended::Badly, Ended::Silently][usize::from(step) - 1];
                    desk.breaker.on_end(&leave, ended, desk.now);
                }
            }
            prop_assert!(leaves.len() <= 5);
            if let State::HalfOpen { under_way, .. } = desk.breaker.state() {
                prop_assert!(under_way <= 2);
            }
        }
        for leave in leaves {
            desk.breaker.on_end(&leave, Ended::Silently, desk.now);
        }
        desk.now += 400 * MS;
        prop_assert_eq!(desk.breaker.allows(desk.now), Ok(()));
    }
}
