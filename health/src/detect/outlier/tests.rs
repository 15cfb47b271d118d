use proptest::prelude::*;

use super::*;

const RULES: OutlierRules = OutlierRules::DEFAULT;

struct Pool {
    outliers: Outliers,
    now: Instant,
}

impl Pool {
    fn of(members: usize) -> Self {
        let now = Instant::now();
        Self {
            outliers: Outliers::new(RULES, members, now),
            now,
        }
    }

    /// One interval in which each member fails so many of ten probes and takes so many milliseconds for the others.
    fn interval(&mut self, members: &[(u32, u64)]) -> Vec<Verdict> {
        for (number, (failures, took)) in members.iter().enumerate() {
            for probe in 0..10 {
                let took = Duration::from_millis(*took);
                let seen = if probe < *failures {
                    Seen::Failure
                } else {
                    Seen::Success { took }
                };
                self.outliers.observe(number, seen);
            }
        }
        self.now = self.outliers.next_deadline();
        self.outliers.on_deadline(self.now)
    }
}

fn ejects(verdicts: &[Verdict]) -> Vec<usize> {
    let ejected = verdicts.iter().filter_map(|verdict| match verdict {
        Verdict::Eject { member, .. } => Some(*member),
        Verdict::Return { .. } => None,
    });
    ejected.collect()
}

#[test]
fn of_one_endpoint_nobody_is_ejected() {
    let mut pool = Pool::of(1);
    assert_eq!(pool.interval(&[(9, 10)]), []);
}

#[test]
fn of_two_and_of_three_at_most_one_is_ejected() {
    for members in [2, 3] {
        let mut pool = Pool::of(members);
        let mut state = vec![(0, 10); members];
        pool.interval(&state);
        state[0].0 = 9;
        let verdicts = pool.interval(&state);
        assert_eq!(ejects(&verdicts), [0], "of {members}");
        state[1].0 = 8;
        assert_eq!(pool.interval(&state), [], "of {members}");
    }
}

#[test]
fn where_all_fail_alike_nobody_is_an_outlier() {
    for members in [2, 3, 5, 20] {
        let mut pool = Pool::of(members);
        pool.interval(&vec![(0, 10); members]);
        assert_eq!(pool.interval(&vec![(9, 10); members]), [], "of {members}");
        assert_eq!(
            pool.interval(&vec![(0, 1000); members]),
            [],
            "of {members}: our own path is slow"
        );
    }
}

#[test]
fn the_one_that_fails_more_is_told_from_the_pool_and_the_reason_has_both_shares() {
    let mut pool = Pool::of(10);
    pool.interval(&[(0, 10); 10]);
    let mut state = vec![(0, 10); 10];
    state[7].0 = 2; // below `failure`, but 1900 thousandths of a deviation above the mean
    let because = "outlier: 20 % of its checks fail, 0 % of its pool's".to_owned();
    assert_eq!(pool.interval(&state), [Verdict::Eject { member: 7, because }]);
}

#[test]
fn the_one_that_became_slow_is_told_from_the_pool_wherever_it_stands() {
    let mut pool = Pool::of(3);
    // The third one is far away, and that is not its fault.
    for _ in 0..5 {
        assert_eq!(pool.interval(&[(0, 4), (0, 5), (0, 180)]), []);
    }
    let because = "outlier: takes 80 ms instead of 4 ms, and its pool does not".to_owned();
    assert_eq!(
        pool.interval(&[(0, 80), (0, 5), (0, 180)]),
        [Verdict::Eject { member: 0, because }]
    );
    let mut quick = Pool::of(3);
    quick.interval(&[(0, 1); 3]);
    assert_eq!(
        quick.interval(&[(0, 8), (0, 1), (0, 1)]),
        [],
        "8 ms are slow for nobody"
    );
}

#[test]
fn a_time_out_ends_and_is_longer_the_next_time() {
    let mut pool = Pool::of(2);
    let (well, ill) = ([(0, 10), (0, 10)], [(9, 10), (0, 10)]);
    pool.interval(&well);
    assert_eq!(ejects(&pool.interval(&ill)), [0]);
    for _ in 0..2 {
        assert_eq!(pool.interval(&ill), []);
    }
    let verdicts = pool.interval(&ill);
    assert_eq!(verdicts[0], Verdict::Return { member: 0 });
    assert_eq!(ejects(&verdicts), [0], "as ill as before");
    for _ in 0..5 {
        assert_eq!(pool.interval(&well), []);
    }
    assert_eq!(
        pool.interval(&well),
        [Verdict::Return { member: 0 }],
        "60 s this time"
    );
}

#[test]
fn too_few_outcomes_say_nothing() {
    let mut pool = Pool::of(2);
    pool.interval(&[(0, 10), (0, 10)]);
    for _ in 0..4 {
        pool.outliers.observe(0, Seen::Failure);
    }
    assert_eq!(pool.outliers.on_deadline(pool.outliers.next_deadline()), []);
}

proptest! {
    #[test]
    fn the_limits_hold_for_any_pool_and_any_history(
        members in 1_usize..12,
        history in prop::collection::vec(prop::collection::vec((0_u32..=10, 1_u64..500), 12), 1..30),
    ) {
        let mut pool = Pool::of(members);
        for state in history {
            pool.interval(&state[..members]);
            let out = (0..members).filter(|member| pool.outliers.is_ejected(*member)).count();
            prop_assert!(out < members && out <= (members / 10).max(1), "{} of {}", out, members);
        }
    }
}
