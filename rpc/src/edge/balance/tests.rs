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
