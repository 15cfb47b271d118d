//! The contract of [`Detector`], kept by each of them.

use proptest::prelude::*;
use steer_topology::{LatencyRules, PhiModel, PhiRules, WindowRules};

use super::*;

const STEP: Duration = Duration::from_millis(100);
const GOOD: Seen = Seen::Success {
    took: Duration::from_millis(5),
};

fn window(latency: Option<LatencyRules>) -> Window {
    Window::new(WindowRules {
        size: 10,
        min_success: 50,
        recover: 80,
        latency,
    })
}

fn phi(model: PhiModel) -> Phi {
    Phi::new(PhiRules {
        threshold: 8,
        samples: 100,
        model,
        pause: Duration::ZERO,
    })
}

fn all() -> Vec<(&'static str, Box<dyn Detector>)> {
    let latency = LatencyRules {
        quantile: 90,
        max: Duration::from_millis(100),
    };
    vec![
        ("threshold", Box::new(Threshold::new(3, 2, 1, Verdict::Unknown))),
        (
            "threshold that forgets slowly",
            Box::new(Threshold::new(3, 2, 4, Verdict::Unknown)),
        ),
        ("window", Box::new(window(None))),
        ("window with latency", Box::new(window(Some(latency)))),
        ("phi, normal", Box::new(phi(PhiModel::Normal))),
        ("phi, empirical", Box::new(phi(PhiModel::Empirical))),
    ]
}

/// Tells a detector the same thing once per step, and returns what it thought after each.
fn tell(detector: &mut dyn Detector, seen: Seen, times: usize, now: &mut Instant) -> Vec<Verdict> {
    let one = |_| {
        *now += STEP;
        detector.observe(seen, *now);
        detector.opinion(*now)
    };
    (0..times).map(one).collect()
}

#[test]
fn nothing_is_known_before_anything_is_seen() {
    for (name, detector) in all() {
        let now = Instant::now();
        assert_eq!(detector.opinion(now + STEP * 1000), Verdict::Unknown, "{name}");
        assert_eq!(
            (detector.next_deadline(), detector.because(now)),
            (None, None),
            "{name}"
        );
    }
}

#[test]
fn what_goes_well_is_never_down_and_up_in_the_end() {
    for (name, mut detector) in all() {
        let opinions = tell(&mut *detector, GOOD, 500, &mut Instant::now());
        assert!(!opinions.contains(&Verdict::Down), "{name}");
        assert_eq!(opinions.last(), Some(&Verdict::Up), "{name}");
    }
}

#[test]
fn what_fails_for_good_is_down_in_the_end_and_what_is_mended_is_up_again() {
    for (name, mut detector) in all() {
        let mut now = Instant::now();
        tell(&mut *detector, GOOD, 50, &mut now);
        let failing = tell(&mut *detector, Seen::Failure, 50, &mut now);
        assert_ne!(failing[0], Verdict::Down, "{name}: one failure is none");
        assert_eq!(failing.last(), Some(&Verdict::Down), "{name}");
        let mended = tell(&mut *detector, GOOD, 50, &mut now);
        assert_eq!(mended.last(), Some(&Verdict::Up), "{name}");
        let back = mended.iter().position(|verdict| *verdict == Verdict::Up).unwrap();
        assert!(
            mended[back..].iter().all(|verdict| *verdict == Verdict::Up),
            "{name}: it flaps"
        );
    }
}

#[test]
fn after_forgetting_a_detector_is_as_new() {
    for ((name, mut used), (_, mut new)) in all().into_iter().zip(all()) {
        let mut now = Instant::now();
        tell(&mut *used, GOOD, 30, &mut now);
        tell(&mut *used, Seen::Failure, 30, &mut now);
        used.forget();
        assert_eq!(used.opinion(now), Verdict::Unknown, "{name}");
        for seen in [GOOD, Seen::Failure, GOOD] {
            let mut other = now;
            let told = tell(&mut *used, seen, 15, &mut now);
            assert_eq!(told, tell(&mut *new, seen, 15, &mut other), "{name}");
        }
    }
}

proptest! {
    /// Whatever is seen whenever: no panic, no change of mind but by news or by the deadline, reasons for what is down.
    #[test]
    fn an_opinion_changes_by_what_is_seen_or_by_the_deadline_alone(
        steps in prop::collection::vec((0_u64..4000, 0_u8..10, 0_u64..300), 1..200)
    ) {
        for (name, mut detector) in all() {
            let mut now = Instant::now();
            let mut opinion = Verdict::Unknown;
            for (wait, kind, took) in &steps {
                let then = now + Duration::from_millis(*wait);
                let deadline = detector.next_deadline().filter(|at| *at > now && *at <= then);
                let just_before = deadline.map_or(then, |at| at - Duration::from_nanos(1));
                prop_assert_eq!(detector.opinion(just_before), opinion, "{} by itself", name);
                if let Some(at) = deadline {
                    prop_assert_eq!(detector.opinion(at), Verdict::Down, "{} at its deadline", name);
                }
                now = then;
                let seen = match kind {
                    0..6 => Seen::Success { took: Duration::from_millis(*took) },
                    6..9 => Seen::Failure,
                    _ => Seen::Gone,
                };
                detector.observe(seen, now);
                opinion = detector.opinion(now);
            }
        }
    }
}
