//! Deadlines: `grpc-timeout` on the wire, a moment inside, and never more time than the caller gave.

use std::time::{Duration, Instant};

/// The header that carries the time that is left.
pub const TIMEOUT_HEADER: &str = "grpc-timeout";

/// A `grpc-timeout` that is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no grpc-timeout: 1 to 8 digits and one of H, M, S, m, u, n are wanted")]
pub struct InvalidTimeout(pub String);

/// Units, the finest first, with their length in nanoseconds.
const UNITS: [(u8, u64); 6] = [
    (b'n', 1),
    (b'u', 1_000),
    (b'm', 1_000_000),
    (b'S', 1_000_000_000),
    (b'M', 60_000_000_000),
    (b'H', 3_600_000_000_000),
];

/// The largest number of 8 digits.
const VALUE_MAX: u128 = 99_999_999;

/// Reads `grpc-timeout`.
///
/// `PROTOCOL-HTTP2.md`: `Timeout → "grpc-timeout" TimeoutValue TimeoutUnit`; `TimeoutValue → {positive integer as ASCII
/// string of at most 8 digits}`. A value of 0 is read as well, though it is not positive: grpc-go sends `0n` for a
/// deadline that has just passed, and to refuse that as malformed would hide the true reason.
///
/// # Errors
///
/// When it is anything else.
pub fn parse_timeout(value: &[u8]) -> Result<Duration, InvalidTimeout> {
    let invalid = || InvalidTimeout(String::from_utf8_lossy(value).into_owned());
    let (unit, digits) = value.split_last().ok_or_else(invalid)?;
    let (_, nanos) = UNITS.iter().find(|(name, _)| name == unit).ok_or_else(invalid)?;
    if !(1..=8).contains(&digits.len()) || !digits.iter().all(u8::is_ascii_digit) {
        return Err(invalid());
    }
    let number = digits
        .iter()
        .fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    // At most 99999999 H, which is 3.6e20 ns and needs more than 64 bits.
    let nanos = u128::from(number) * u128::from(*nanos);
    Ok(from_nanos(nanos))
}

fn from_nanos(nanos: u128) -> Duration {
    const SECOND: u128 = 1_000_000_000;
    let seconds = u64::try_from(nanos / SECOND).unwrap_or(u64::MAX);
    Duration::new(seconds, (nanos % SECOND) as u32)
}

/// Writes `grpc-timeout`: the finest unit in which the number has 8 digits at most, rounded down, so that the next hop
/// never has more time than we have. What is longer than 99999999 hours becomes that.
#[must_use]
pub fn format_timeout(timeout: Duration) -> String {
    let nanos = timeout.as_nanos();
    for (unit, length) in UNITS {
        let number = nanos / u128::from(length);
        if number <= VALUE_MAX {
            return format!("{number}{}", char::from(unit));
        }
    }
    format!("{VALUE_MAX}H")
}

/// The moment by which a call must have its answer; or none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Option<Instant>);

impl Deadline {
    /// No end. `PROTOCOL-HTTP2.md`: "If Timeout is omitted a server should assume an infinite timeout."
    pub const NONE: Self = Self(None);

    /// What a caller asks for, at most `max`. A time so long that the clock cannot hold it is none.
    #[must_use]
    pub fn of(asked: Option<Duration>, max: Option<Duration>, now: Instant) -> Self {
        let timeout = match (asked, max) {
            (Some(asked), Some(max)) => Some(asked.min(max)),
            (asked, max) => asked.or(max),
        };
        Self(timeout.and_then(|timeout| now.checked_add(timeout)))
    }

    /// At this moment.
    #[must_use]
    pub const fn at(moment: Instant) -> Self {
        Self(Some(moment))
    }

    /// The moment.
    #[must_use]
    pub const fn moment(self) -> Option<Instant> {
        self.0
    }

    /// Whether it has passed: such work is dropped before it is started.
    #[must_use]
    pub fn is_over(self, now: Instant) -> bool {
        self.0.is_some_and(|at| now >= at)
    }

    /// What is left, never below zero; `None` without a deadline.
    #[must_use]
    pub fn remaining(self, now: Instant) -> Option<Duration> {
        self.0.map(|at| at.saturating_duration_since(now))
    }

    /// What the next hop is told in `grpc-timeout`: the time that is left, less the time spent here.
    #[must_use]
    pub fn forwarded(self, now: Instant) -> Option<String> {
        self.remaining(now).map(format_timeout)
    }

    /// Whether something that takes `wait` would still be in time.
    #[must_use]
    pub fn leaves(self, wait: Duration, now: Instant) -> bool {
        self.remaining(now).is_none_or(|left| wait < left)
    }
}

#[cfg(test)]
mod tests;
