//! What follows from telling a row. Sans-IO.

use std::time::Duration;

use rand::Rng;

use super::SinkError;
use crate::fate::Backoff;

/// The rules of a channel.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rules {
    /// A row that has failed so often is dead; at least 1.
    pub tries_max: u32,
    /// Waits between its tries, and between two looks for a sink that is away.
    pub backoff: Backoff,
    /// Rows of a partition that are told and deleted together, at most.
    pub batch: u32,
    /// So long a batch may take: nothing more is begun after that.
    pub batch_time: Duration,
    /// Rows a second, and so many at once.
    pub rate: super::Rate,
}

impl Rules {
    /// Ten tries, from a twentieth of a second up to a second apart; 100 rows within 5 s; 1,000 a second.
    pub const DEFAULT: Self = Self {
        tries_max: 10,
        backoff: Backoff::DEFAULT,
        batch: 100,
        batch_time: Duration::from_secs(5),
        rate: super::Rate::per_second(1000),
    };
}

/// What to do with a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It is told: delete it.
    Told,
    /// Again after this long; its partition waits for it.
    Again {
        /// The wait.
        after: Duration,
        /// Its tries so far.
        tries: u32,
    },
    /// Keep it with the dead.
    Dead {
        /// Its tries so far.
        tries: u32,
    },
}

/// Decides on a row that had been tried `tries` times before.
pub fn next(outcome: &Result<(), SinkError>, tries: u32, rules: &Rules, rng: &mut impl Rng) -> Next {
    let counted = tries.saturating_add(1);
    match outcome {
        Ok(()) => Next::Told,
        Err(SinkError::Away(_)) => Next::Again {
            after: rules.backoff.ceiling(u32::MAX).mul_f64(0.5) + rules.backoff.draw(0, rng),
            tries,
        },
        Err(SinkError::Failed(_)) if counted >= rules.tries_max => Next::Dead { tries: counted },
        Err(SinkError::Failed(_)) => Next::Again {
            after: rules.backoff.draw(tries, rng),
            tries: counted,
        },
        Err(SinkError::Refused(_)) => Next::Dead { tries: counted },
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand::rngs::SmallRng;

    use super::*;

    #[test]
    fn what_follows_is_as_specified_row_by_row() {
        let mut rng = SmallRng::seed_from_u64(1);
        let rules = Rules {
            tries_max: 3,
            ..Rules::DEFAULT
        };
        let mut ask = |outcome: Result<(), SinkError>, tries| next(&outcome, tries, &rules, &mut rng);
        assert_eq!(ask(Ok(()), 0), Next::Told);
        assert_eq!(ask(Ok(()), 2), Next::Told);
        for tries in [0, 2, 1000] {
            let away = ask(Err(SinkError::Away(String::new())), tries);
            assert!(matches!(away, Next::Again { tries: same, after } if same == tries && !after.is_zero()));
        }
        let failed = || Err(SinkError::Failed(String::new()));
        assert!(matches!(ask(failed(), 0), Next::Again { tries: 1, .. }));
        assert!(matches!(ask(failed(), 1), Next::Again { tries: 2, .. }));
        assert_eq!(ask(failed(), 2), Next::Dead { tries: 3 });
        let refused = ask(Err(SinkError::Refused(String::new())), 0);
        assert_eq!(refused, Next::Dead { tries: 1 });
    }
}
