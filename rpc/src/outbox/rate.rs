//! How many rows a channel tells in a second or a minute: a bucket of tokens. Sans-IO.

use std::time::{Duration, Instant};

/// A rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    interval: Duration,
    burst: u32,
}

impl Rate {
    /// So many a second, evenly, and a tenth of that at once.
    #[must_use]
    pub const fn per_second(rows: u32) -> Self {
        Self::within(rows, 1)
    }

    /// So many a minute, evenly, and a tenth of that at once.
    #[must_use]
    pub const fn per_minute(rows: u32) -> Self {
        Self::within(rows, 60)
    }

    const fn within(rows: u32, seconds: u64) -> Self {
        let rows = if rows == 0 { 1 } else { rows };
        Self {
            interval: Duration::from_nanos(seconds * 1_000_000_000 / rows as u64),
            burst: if rows < 10 { 1 } else { rows / 10 },
        }
    }
}

/// The state of a rate: the moment at which the next row would be due if all came evenly (GCRA).
#[derive(Debug)]
pub(super) struct Bucket {
    rate: Rate,
    due: Instant,
}

impl Bucket {
    pub(super) const fn new(rate: Rate, now: Instant) -> Self {
        Self { rate, due: now }
    }

    /// Takes the place of one row: how long it has to wait. Who does not wait has the place all the same.
    pub(super) fn take(&mut self, now: Instant) -> Duration {
        let slack = self.rate.interval * (self.rate.burst - 1);
        let at = self.due.max(now);
        self.due = at + self.rate.interval;
        at.saturating_duration_since(now).saturating_sub(slack)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_at_once_and_then_they_come_evenly() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Rate::per_second(50), now);
        let waits: Vec<_> = (0..8).map(|_| bucket.take(now).as_millis()).collect();
        assert_eq!(waits, [0, 0, 0, 0, 0, 20, 40, 60]);
        let later = now + Duration::from_secs(10);
        assert_eq!(bucket.take(later), Duration::ZERO, "and it fills again");
    }

    #[test]
    fn no_more_pass_in_any_time_than_the_rate_and_one_burst() {
        let start = Instant::now();
        let (mut bucket, mut now) = (Bucket::new(Rate::per_second(100), start), start);
        let mut passed = 0;
        while now < start + Duration::from_secs(5) {
            now += bucket.take(now);
            passed += 1;
        }
        assert!((500..=511).contains(&passed), "{passed}");
    }

    #[test]
    fn a_rate_may_be_by_the_minute() {
        let now = Instant::now();
        let mut bucket = Bucket::new(Rate::per_minute(20), now);
        let waits: Vec<_> = (0..4).map(|_| bucket.take(now).as_secs()).collect();
        assert_eq!(waits, [0, 0, 3, 6]);
    }

    #[test]
    fn a_rate_of_nothing_is_one_a_second() {
        assert_eq!(Rate::per_second(0), Rate::per_second(1));
    }
}
