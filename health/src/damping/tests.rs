use proptest::prelude::*;
use steer_topology::CheckKind;

use super::*;
use crate::testing::FleetBuilder;
use Verdict::{Down, Unknown, Up};

pub(crate) const RULES: DampingRules = DampingRules {
    penalty: 1000,
    half_life: Duration::from_secs(60),
    suppress: 3000,
    reuse: 1000,
    max: Duration::from_secs(600),
};

const ENDPOINT: EndpointId = EndpointId(0);

fn change(verdict: Verdict) -> Change {
    Change {
        endpoint: ENDPOINT,
        verdict,
        cause: "test".to_owned(),
    }
}

#[test]
fn a_start_is_no_flap_and_neither_is_what_nobody_knows() {
    let fleet = FleetBuilder::new(CheckKind::Tcp)
        .pool(&[None])
        .damping(RULES)
        .build();
    let (mut damping, now) = (Damping::of(&fleet), Instant::now());
    for _ in 0..9 {
        for verdict in [Down, Unknown, Up, Unknown] {
            assert_eq!(damping.on_change(&fleet, change(verdict), now), change(verdict));
        }
    }
}

#[test]
fn a_pool_without_rules_is_not_damped() {
    let fleet = FleetBuilder::new(CheckKind::Tcp).pool(&[None]).build();
    let (mut damping, now) = (Damping::of(&fleet), Instant::now());
    for verdict in [Up, Down].into_iter().cycle().take(99) {
        assert_eq!(damping.on_change(&fleet, change(verdict), now), change(verdict));
    }
    assert_eq!(damping.next_deadline(), None);
}

proptest! {
    /// The rules in words, from the times of all falls and not from a running figure.
    #[test]
    fn it_holds_back_as_the_sum_of_all_falls_says(
        steps in prop::collection::vec((prop_oneof![Just(Up), Just(Down), Just(Unknown)], 0_u64..90), 0..60),
        max in 60_u64..900,
    ) {
        let rules = DampingRules { max: Duration::from_secs(max), ..RULES };
        let fleet = FleetBuilder::new(CheckKind::Tcp).pool(&[None]).damping(rules.clone()).build();
        let (mut damping, start) = (Damping::of(&fleet), Instant::now());
        let (mut now, mut verdict, mut said) = (start, Unknown, Unknown);
        let mut falls: Vec<Instant> = Vec::new();
        let mut suppressed = false;
        let figure = |falls: &[Instant], now: Instant| -> f64 {
            let age = |at: &Instant| (now - *at).as_secs_f64() / 60.0;
            falls.iter().map(|at| 1000.0 * (-age(at)).exp2()).sum()
        };
        for (next, pause) in steps {
            let target = now + Duration::from_secs(pause);
            while let Some(due) = damping.next_deadline().filter(|due| *due <= target) {
                let changes = damping.on_deadline(due);
                prop_assert_eq!(changes.len(), 1, "a deadline lets somebody go");
                prop_assert_eq!(changes[0].verdict, Up);
                prop_assert!(figure(&falls, due) < 1000.1 || due - falls[falls.len() - 1] >= rules.max);
                (said, suppressed) = (Up, false);
            }
            now = target;
            if next == verdict {
                continue; // only changes are told
            }
            if (verdict, next) == (Up, Down) {
                falls.push(now);
                suppressed |= figure(&falls, now) >= 3000.0;
            }
            let passed = damping.on_change(&fleet, change(next), now);
            let quiet = falls.last().is_none_or(|last| now - *last >= rules.max) || figure(&falls, now) < 1000.0;
            suppressed &= next != Up || !quiet;
            let want = if next == Up && suppressed { Down } else { next };
            prop_assert_eq!(passed.verdict, want);
            prop_assert_eq!(damping.held(now).count(), usize::from(next == Up && suppressed));
            (verdict, said) = (next, want);
        }
        if let Some(due) = damping.next_deadline() {
            prop_assert!(said == Down && due <= falls[falls.len() - 1] + rules.max);
        }
    }
}
