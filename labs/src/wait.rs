//! Waiting for a condition instead of sleeping and hoping.

use std::time::{Duration, Instant};

/// The condition did not come true in time.
#[derive(Debug, thiserror::Error)]
#[error("not within {limit:?}: {last}")]
pub struct TimedOut {
    /// How long was waited.
    pub limit: Duration,
    /// What the last look saw.
    pub last: String,
}

/// Looks every `poll` until `look` gives a value; at least once. The error carries what the last look saw.
pub fn until<T>(
    limit: Duration,
    poll: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, TimedOut> {
    let start = Instant::now();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(last) if start.elapsed() >= limit => return Err(TimedOut { limit, last }),
            Err(_) => std::thread::sleep(poll),
        }
    }
}

/// Looks every `poll` until the value is there and has been the same for `settle`.
pub fn stable<T: PartialEq + std::fmt::Debug>(
    limit: Duration,
    poll: Duration,
    settle: Duration,
    mut look: impl FnMut() -> Result<T, String>,
) -> Result<T, TimedOut> {
    let start = Instant::now();
    let mut since: Option<(T, Instant)> = None;
    loop {
        let last = match look() {
            Ok(value) => match since.take() {
                Some((old, at)) if old == value => {
                    if at.elapsed() >= settle {
                        return Ok(value);
                    }
                    let last = format!("{value:?} for only {:?}", at.elapsed());
                    since = Some((old, at));
                    last
                }
                Some(_) | None => {
                    let last = format!("{value:?} just now");
                    since = Some((value, Instant::now()));
                    last
                }
            },
            Err(last) => {
                since = None;
                last
            }
        };
        if start.elapsed() >= limit {
            return Err(TimedOut { limit, last });
        }
        std::thread::sleep(poll);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Duration = Duration::from_millis(1);

    #[test]
    fn the_error_carries_what_was_last_seen() {
        let mut looks = 0;
        let error = until::<()>(TICK * 5, TICK, || {
            looks += 1;
            Err(format!("look {looks}"))
        });
        let error = error.unwrap_err().to_string();
        assert!(looks > 1 && error.ends_with(&format!("look {looks}")), "{error}");
    }

    #[test]
    fn a_value_that_flaps_is_not_stable() {
        let mut looks = 0;
        let result = stable(TICK * 50, TICK, TICK * 10, || {
            looks += 1;
            Ok(looks)
        });
        assert!(result.is_err());
        assert_eq!(stable(TICK * 500, TICK, TICK * 5, || Ok(7)).unwrap(), 7);
    }
}
