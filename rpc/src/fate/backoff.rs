//! How long to wait before an attempt: exponential, with full jitter.

use std::time::Duration;

use rand::{Rng, RngExt};

/// Waits grow by a factor up to a bound; each is drawn evenly between nothing and that (full jitter), so that who
/// failed together does not come back together.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Backoff {
    initial: Duration,
    max: Duration,
    multiplier: f64,
}

/// A back-off that cannot be.
#[derive(Debug, Clone, Copy, PartialEq, thiserror::Error)]
pub enum InvalidBackoff {
    /// Retries without any wait.
    #[error("the first wait is 0; it must be longer")]
    Zero,
    /// A bound below the first wait.
    #[error("the longest wait {max:?} is below the first one {initial:?}")]
    MaxBelowInitial {
        /// The first.
        initial: Duration,
        /// The bound.
        max: Duration,
    },
    /// Waits that shrink, or no number.
    #[error("the multiplier is {0}; it must be 1 or more")]
    Multiplier(f64),
}

impl Backoff {
    /// The defaults of a method that sets none: 50 ms, doubled up to 1 s.
    pub const DEFAULT: Self = Self {
        initial: Duration::from_millis(50),
        max: Duration::from_secs(1),
        multiplier: 2.0,
    };

    /// Checked.
    ///
    /// # Errors
    ///
    /// See [`InvalidBackoff`].
    pub fn new(initial: Duration, max: Duration, multiplier: f64) -> Result<Self, InvalidBackoff> {
        if initial.is_zero() {
            return Err(InvalidBackoff::Zero);
        }
        if max < initial {
            return Err(InvalidBackoff::MaxBelowInitial { initial, max });
        }
        if !(multiplier.is_finite() && multiplier >= 1.0) {
            return Err(InvalidBackoff::Multiplier(multiplier));
        }
        Ok(Self {
            initial,
            max,
            multiplier,
        })
    }

    /// The longest that the wait before retry number `retry` (from 0) can be.
    #[must_use]
    pub fn ceiling(&self, retry: u32) -> Duration {
        let factor = self.multiplier.powi(i32::try_from(retry).unwrap_or(i32::MAX));
        let grown = Duration::try_from_secs_f64(self.initial.as_secs_f64() * factor);
        grown.unwrap_or(self.max).min(self.max)
    }

    /// The wait before retry number `retry` (from 0).
    pub fn draw(&self, retry: u32, rng: &mut impl Rng) -> Duration {
        self.ceiling(retry).mul_f64(rng.random::<f64>())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn the_ceiling_doubles_up_to_the_bound_and_never_overflows() {
        let ceilings =
            [0, 1, 2, 4, 5, 40, 5000, u32::MAX].map(|retry| Backoff::DEFAULT.ceiling(retry) / 1000);
        let expected = [50, 100, 200, 800, 1000, 1000, 1000, 1000].map(|ms| MS * ms / 1000);
        assert_eq!(ceilings, expected);
    }

    #[test]
    fn draws_fill_the_whole_range_evenly() {
        let mut rng = SmallRng::seed_from_u64(1);
        let draws: Vec<_> = (0..4000).map(|_| Backoff::DEFAULT.draw(1, &mut rng)).collect();
        for quarter in 0..4 {
            let (from, to) = (25 * quarter * MS, 25 * (quarter + 1) * MS);
            let inside = draws.iter().filter(|draw| (from..to).contains(*draw)).count();
            assert!((900..1100).contains(&inside), "{inside} in {from:?}..{to:?}");
        }
        assert!(draws.iter().all(|draw| *draw < 100 * MS));
    }

    #[test]
    fn a_backoff_that_cannot_be_is_refused_with_its_value() {
        assert_eq!(Backoff::new(Duration::ZERO, MS, 2.0), Err(InvalidBackoff::Zero));
        assert!(
            Backoff::new(2 * MS, MS, 2.0)
                .unwrap_err()
                .to_string()
                .contains("1ms")
        );
        for multiplier in [0.5, f64::INFINITY] {
            assert_eq!(
                Backoff::new(MS, MS, multiplier),
                Err(InvalidBackoff::Multiplier(multiplier))
            );
        }
        assert!(Backoff::new(MS, MS, f64::NAN).is_err());
    }
}
