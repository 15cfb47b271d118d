//! Which calls are recorded. Sans-IO: time and chance come in through the door.
//!
//! ```text
//! no parent ─► a draw ─┐
//! sampled   ───────────┴─► so many per second ─► Record, or Limited
//! not sampled ─► Leave
//! ```
//!
//! The word of the parent holds (OpenTelemetry's `ParentBased`), so a trace is whole or not there. A client can say "sampled"
//! as often as it likes; the bound is for that.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use governor::clock::Clock;
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use rand::{Rng, RngExt};

/// What is done with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Decision {
    Record,
    /// It is passed on as it came.
    Leave,
    /// The same, because as many were recorded as may be.
    Limited,
}

/// The newest time that was told.
#[derive(Debug, Clone, Default)]
struct Told(Arc<AtomicU64>);

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

/// Decides for all threads; only a call that is wanted comes to what they share.
#[derive(Debug)]
pub(super) struct Sampler {
    sample: f64,
    began: Instant,
    clock: Told,
    bucket: RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>,
}

impl Sampler {
    /// Records this share of calls without a parent, from 0 to 1, and so many calls per second at most.
    pub(super) fn new(sample: f64, per_second: NonZeroU32, now: Instant) -> Self {
        let clock = Told::default();
        Self {
            sample,
            began: now,
            bucket: RateLimiter::direct_with_clock(Quota::per_second(per_second), clock.clone()),
            clock,
        }
    }

    /// `parent`: whether it is sampled, where there is one.
    pub(super) fn decide(&self, parent: Option<bool>, rng: &mut impl Rng, now: Instant) -> Decision {
        let is_wanted = parent.unwrap_or_else(|| rng.random::<f64>() < self.sample);
        if !is_wanted {
            return Decision::Leave;
        }
        let told = now.saturating_duration_since(self.began).as_nanos();
        let told = u64::try_from(told).unwrap_or(u64::MAX);
        self.clock.0.fetch_max(told, Ordering::Relaxed);
        if self.bucket.check().is_ok() {
            Decision::Record
        } else {
            Decision::Limited
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    fn sampler(sample: f64, per_second: u32, now: Instant) -> Sampler {
        Sampler::new(sample, NonZeroU32::new(per_second).unwrap(), now)
    }

    #[test]
    fn the_word_of_the_parent_holds_and_without_one_the_share_does() {
        let (now, mut rng) = (Instant::now(), SmallRng::seed_from_u64(1));
        for (sample, parent, expected) in [
            (0.0, Some(true), Decision::Record),
            (1.0, Some(false), Decision::Leave),
            (0.0, None, Decision::Leave),
            (1.0, None, Decision::Record),
        ] {
            let sampler = sampler(sample, 1_000, now);
            for _ in 0..100 {
                assert_eq!(
                    sampler.decide(parent, &mut rng, now),
                    expected,
                    "{sample} {parent:?}"
                );
            }
        }
        let sampler = sampler(0.1, 1_000_000, now);
        let drawn = (0..10_000).map(|_| sampler.decide(None, &mut rng, now));
        let recorded = drawn.filter(|decision| *decision == Decision::Record).count();
        assert!((900..1_100).contains(&recorded), "{recorded} of 10,000");
    }

    #[test]
    fn clients_cannot_have_more_recorded_than_the_bound() {
        let (mut now, mut rng) = (Instant::now(), SmallRng::seed_from_u64(1));
        let sampler = sampler(0.0, 10, now);
        let mut recorded = |now| {
            let asked = (0..1_000).map(|_| sampler.decide(Some(true), &mut rng, now));
            let (yes, no): (Vec<_>, Vec<_>) = asked.partition(|decision| *decision == Decision::Record);
            assert!(no.iter().all(|decision| *decision == Decision::Limited));
            yes.len()
        };
        assert_eq!(recorded(now), 10);
        now += Duration::from_millis(500);
        assert_eq!(recorded(now), 5);
        // A thread that is behind the others finds no time that was not there.
        assert_eq!(recorded(now.checked_sub(Duration::from_millis(400)).unwrap()), 0);
        now += Duration::from_secs(10);
        assert_eq!(recorded(now), 10, "no more is saved up");
    }
}
