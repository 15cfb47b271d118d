use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;

const MS: Duration = Duration::from_millis(1);

/// Runs calls one after the other; `took` says what each backend does. Returns how many each got.
fn run(
    balance: &mut Balance,
    calls: usize,
    now: &mut Instant,
    took: impl Fn(usize) -> Reading,
) -> Vec<usize> {
    let mut rng = SmallRng::seed_from_u64(5);
    let mut counts = vec![0; balance.loads.len()];
    for _ in 0..calls {
        let backend = balance.pick(&[], &mut rng, *now).unwrap();
        counts[backend] += 1;
        *now += 10 * MS;
        balance.on_end(backend, took(backend), *now);
    }
    counts
}

#[test]
fn nobody_is_picked_of_none_and_the_only_one_of_one() {
    let now = Instant::now();
    let mut rng = SmallRng::seed_from_u64(5);
    assert_eq!(
        Balance::new(0, OutlierRules::DEFAULT, now).pick(&[], &mut rng, now),
        None
    );
    let mut one = Balance::new(1, OutlierRules::DEFAULT, now);
    assert_eq!(one.pick(&[], &mut rng, now), Some(0));
    assert_eq!(one.pick(&[0], &mut rng, now), Some(0), "tried, and the only one");
}

#[test]
fn a_slow_backend_gets_few_calls_and_equals_get_the_same() {
    let mut now = Instant::now();
    let mut balance = Balance::new(3, OutlierRules::DEFAULT, now);
    let speed = |backend| Reading::Answered(if backend == 2 { 50 * MS } else { 5 * MS });
    let counts = run(&mut balance, 3000, &mut now, speed);
    assert!(counts[2] < 300, "{counts:?}");
    assert!(counts[0] > 1000 && counts[1] > 1000, "{counts:?}");
}

#[test]
fn calls_under_way_weigh_as_much_as_latency() {
    let now = Instant::now();
    let mut rng = SmallRng::seed_from_u64(5);
    let mut balance = Balance::new(2, OutlierRules::DEFAULT, now);
    for backend in [0, 1] {
        balance.on_end(backend, Reading::Answered(5 * MS), now);
    }
    for _ in 0..100 {
        balance.pick(&[], &mut rng, now).unwrap();
    }
    let under_way: Vec<_> = balance.loads.iter().map(|load| load.under_way).collect();
    assert_eq!(under_way, [50, 50]);
}

#[test]
fn a_backend_that_fails_is_ejected_and_comes_back() {
    let mut now = Instant::now();
    let mut balance = Balance::new(3, OutlierRules::DEFAULT, now);
    let fails = |backend| {
        if backend == 0 {
            Reading::Failed
        } else {
            Reading::Answered(900 * MS)
        }
    };
    run(&mut balance, 1100, &mut now, fails);
    let counts = run(&mut balance, 500, &mut now, fails);
    assert_eq!(counts[0], 0, "ejected");
    now += OutlierRules::DEFAULT.base_ejection;
    let counts = run(&mut balance, 500, &mut now, |_| Reading::Answered(5 * MS));
    assert!(counts[0] > 0, "{counts:?}");
}

#[test]
fn what_was_tried_is_tried_again_only_where_there_is_nothing_else() {
    let now = Instant::now();
    let mut rng = SmallRng::seed_from_u64(5);
    let mut balance = Balance::new(3, OutlierRules::DEFAULT, now);
    for _ in 0..50 {
        assert_eq!(balance.pick(&[0, 2], &mut rng, now), Some(1));
    }
    assert!(balance.pick(&[0, 1, 2], &mut rng, now).is_some());
}

#[test]
fn a_call_that_says_nothing_changes_no_latency() {
    let now = Instant::now();
    let mut rng = SmallRng::seed_from_u64(5);
    let mut balance = Balance::new(1, OutlierRules::DEFAULT, now);
    balance.pick(&[], &mut rng, now);
    balance.on_end(0, Reading::Silent, now);
    assert_eq!((balance.loads[0].latency, balance.loads[0].under_way), (0.0, 0));
}

/// A pool that answers in 5 ms, with backend 0 out.
fn with_one_out(backends: usize, now: Instant) -> Balance {
    let mut balance = Balance::new(backends, BalanceRules::DEFAULT, now);
    for backend in 0..backends {
        balance.on_end(backend, Reading::Answered(5 * MS), now);
    }
    for _ in 0..BalanceRules::DEFAULT.consecutive {
        balance.on_end(0, Reading::Failed, now);
    }
    balance
}

#[test]
fn five_failures_in_a_row_are_enough_where_there_is_another() {
    for backends in [2, 3, 10] {
        let mut now = Instant::now();
        let mut balance = with_one_out(backends, now);
        let counts = run(&mut balance, 100, &mut now, |_| Reading::Answered(5 * MS));
        assert_eq!(counts[0], 0, "of {backends}");
    }
    let mut now = Instant::now();
    let mut alone = with_one_out(1, now);
    let counts = run(&mut alone, 10, &mut now, |_| Reading::Failed);
    assert_eq!(counts, [10], "the only one is used");
}

#[test]
fn all_are_used_where_too_few_are_left() {
    let mut now = Instant::now();
    let rules = BalanceRules {
        outliers: OutlierRules {
            max_ejected: 100,
            ..OutlierRules::DEFAULT
        },
        ..BalanceRules::DEFAULT
    };
    for (out, is_panic) in [(2, false), (3, true)] {
        let mut balance = Balance::new(4, rules.clone(), now);
        for backend in 0..out {
            for _ in 0..rules.consecutive {
                balance.on_end(backend, Reading::Failed, now);
            }
        }
        now += Duration::from_millis(1);
        assert_eq!(balance.candidates(&[]).len() == 4, is_panic, "{out} of 4 are out");
    }
}

#[test]
fn a_backend_that_is_back_gets_a_part_that_rises_evenly() {
    let mut now = Instant::now();
    let mut balance = with_one_out(2, now);
    now += OutlierRules::DEFAULT.base_ejection;
    // 10 s of calls 10 ms apart: each second of them.
    let mut counts = Vec::new();
    for _ in 0..12 {
        counts.push(run(&mut balance, 100, &mut now, |_| Reading::Answered(5 * MS))[0]);
    }
    let (early, late) = (
        counts[..2].iter().sum::<usize>(),
        counts[10..].iter().sum::<usize>(),
    );
    assert!(early < 40, "{counts:?}");
    assert!((70..=130).contains(&late), "{counts:?}");
}

#[test]
fn who_can_do_twice_as_much_gets_twice_as_many_calls() {
    let mut now = Instant::now();
    let mut balance = Balance::new(2, OutlierRules::DEFAULT, now);
    let tell = |balance: &mut Balance, now| {
        balance.on_report(0, 200.0, now);
        balance.on_report(1, 100.0, now);
    };
    tell(&mut balance, now);
    now += Duration::from_secs(10);
    tell(&mut balance, now);
    for backend in [0, 1] {
        balance.on_end(backend, Reading::Answered(5 * MS), now);
    }
    let mut rng = SmallRng::seed_from_u64(5);
    for _ in 0..300 {
        balance.pick(&[], &mut rng, now).unwrap();
    }
    let under_way: Vec<_> = balance.loads.iter().map(|load| load.under_way).collect();
    assert_eq!(under_way, [200, 100]);
}

fn standing(is_used: bool, weight: u32) -> Standing {
    Standing { is_used, weight }
}

#[test]
fn who_is_not_in_service_gets_no_call_and_where_nobody_is_all_get_some() {
    let mut now = Instant::now();
    let mut balance = Balance::new(3, OutlierRules::DEFAULT, now);
    let speed = |_| Reading::Answered(5 * MS);
    let [local, remote] = [standing(true, 1), standing(false, 1)];
    assert!(balance.stand(&[local, local, remote], now));
    assert!(!balance.stand(&[local, local, remote], now), "as before");
    let counts = run(&mut balance, 300, &mut now, speed);
    assert_eq!(counts[2], 0, "{counts:?}");
    assert!(balance.stand(&[remote, remote, local], now));
    assert_eq!(run(&mut balance, 300, &mut now, speed), [0, 0, 300]);
    balance.stand(&[remote; 3], now);
    let counts = run(&mut balance, 300, &mut now, speed);
    assert!(counts.iter().all(|count| *count > 30), "{counts:?}");
}

#[test]
fn an_ejected_backend_in_service_is_used_before_one_that_is_not() {
    let mut now = Instant::now();
    let mut balance = Balance::new(3, OutlierRules::DEFAULT, now);
    balance.stand(&[standing(true, 1), standing(false, 1), standing(false, 1)], now);
    assert_eq!(run(&mut balance, 50, &mut now, |_| Reading::Failed), [50, 0, 0]);
}

#[test]
fn weights_are_shares_of_the_calls() {
    let mut now = Instant::now();
    let mut balance = Balance::new(3, OutlierRules::DEFAULT, now);
    balance.stand(&[standing(true, 6), standing(true, 3), standing(true, 1)], now);
    let counts = run(&mut balance, 10_000, &mut now, |_| Reading::Answered(5 * MS));
    for (count, weight) in counts.iter().zip([6.0, 3.0, 1.0]) {
        let share = *count as f64 / 1000.0;
        assert!((share - weight).abs() < 0.6, "{counts:?}");
    }
}

#[test]
fn who_comes_into_service_beside_others_gets_its_calls_slowly() {
    let mut now = Instant::now();
    let mut balance = Balance::new(2, OutlierRules::DEFAULT, now);
    let speed = |_| Reading::Answered(5 * MS);
    balance.stand(&[standing(true, 1), standing(false, 1)], now);
    run(&mut balance, 10, &mut now, speed);
    balance.stand(&[standing(true, 1); 2], now);
    let counts = run(&mut balance, 100, &mut now, speed);
    assert!(counts[1] < 25, "in the first second of ten: {counts:?}");
    now += BalanceRules::DEFAULT.slow_start;
    let counts = run(&mut balance, 1000, &mut now, speed);
    assert!(counts[1] > 400, "{counts:?}");
}
