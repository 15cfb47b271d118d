//! The bucket of one client: GCRA, as two theoretical arrival times in nanoseconds. Sans-IO.
//!
//! ```text
//! own   what this edge admitted                          ─┐ both must conform
//! all   the same, and what the other edges say that they did ─┘
//! ```
//!
//! A call moves both on by the time that one call is worth, and conforms where neither is further ahead of now than the burst. The
//! others' calls come in lumps and late. So `all` keeps what was not used in the last intervals for them, where `own` keeps
//! nothing beyond its burst; and it may be in debt.

use std::num::NonZeroU32;
use std::time::Duration;

/// Intervals that are told with each word, the newest first: so many words may be lost one after the other.
pub(in crate::edge) const WINDOW: usize = 8;

/// How much further back than now `all` reaches, in intervals: a word is an interval old, and may be late by one.
pub(super) const SLACK: u32 = 2;

/// The speed of all buckets. Times are nanoseconds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pace {
    /// What a call is worth.
    call: u64,
    /// What a call here costs: more where this edge has only its share.
    cost: u64,
    /// All of a burst.
    burst: u64,
    /// How much longer than now `all` reaches back.
    slack: u64,
    /// Most that the others' calls can take beyond the burst.
    debt: u64,
    /// An interval, where calls are told.
    every: Option<u64>,
}

/// How an edge stands to the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Standing {
    /// Edges that are known, this one among them.
    pub(super) members: usize,
    /// Whether this edge has only its share of each rate.
    pub(super) has_share: bool,
}

/// One client.
#[derive(Debug, Clone, Default)]
pub(super) struct Bucket {
    own: u64,
    all: u64,
    /// Calls that this edge admitted: in the interval that is open, and in those before it.
    calls: [u32; WINDOW],
}

impl Pace {
    pub(super) fn new(per_second: NonZeroU32, burst: NonZeroU32, every: Option<Duration>) -> Self {
        // Rounded so that it is never more than the rate.
        let call = 1_000_000_000_u64.div_ceil(u64::from(per_second.get()));
        let every = every.map(nanos);
        Self {
            call,
            cost: call,
            burst: call.saturating_mul(u64::from(burst.get())),
            slack: every.unwrap_or(0).saturating_mul(u64::from(SLACK)),
            debt: 0,
            every,
        }
    }

    /// Another standing. A debt is at most what all others can have admitted before they heard of each other.
    pub(super) fn stand(&mut self, Standing { members, has_share }: Standing) {
        let members = u64::try_from(members.max(1)).unwrap_or(u64::MAX);
        let share = if has_share { members } else { 1 };
        let unheard = self.every.unwrap_or(0).saturating_mul(WINDOW as u64);
        let each = self.burst.saturating_add(unheard);
        self.cost = self.call.saturating_mul(share);
        self.debt = each.saturating_mul(members - 1);
    }
}

impl Bucket {
    /// One call: whether it conforms; else after how long it does.
    pub(super) fn take(&mut self, now: u64, pace: &Pace) -> Result<(), u64> {
        let own = self.own.max(now);
        let all = self.all.max(now.saturating_sub(pace.slack));
        let ahead = now.saturating_add(pace.burst.saturating_sub(pace.cost));
        let wait = own.max(all).saturating_sub(ahead);
        if wait > 0 {
            return Err(wait);
        }
        self.own = own.saturating_add(pace.cost);
        self.all = all.saturating_add(pace.cost);
        self.calls[0] = self.calls[0].saturating_add(1);
        Ok(())
    }

    /// Calls that another edge admitted; the interval in which it did began `age` ago.
    pub(super) fn charge(&mut self, calls: u32, age: u64, now: u64, pace: &Pace) {
        let all = self.all.max(now.saturating_sub(pace.slack.max(age)));
        let charged = all.saturating_add(pace.call.saturating_mul(u64::from(calls)));
        let most = now.saturating_add(pace.burst).saturating_add(pace.debt);
        self.all = charged.min(most);
    }

    /// Whether a new bucket would be the same.
    pub(super) fn is_idle(&self, now: u64, pace: &Pace) -> bool {
        let is_told = pace.every.is_none() || self.calls.iter().all(|&calls| calls == 0);
        is_told && self.own <= now && self.all <= now.saturating_sub(pace.slack)
    }

    /// Closes the interval: what was admitted in it and in those before it, the newest first.
    pub(super) fn close(&mut self) -> [u32; WINDOW] {
        let closed = self.calls;
        self.calls.copy_within(..WINDOW - 1, 1);
        self.calls[0] = 0;
        closed
    }
}

pub(super) fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A moment long after the start.
    const NOW: u64 = 1_000_000_000_000;

    const MS: u64 = 1_000_000;

    fn pace(members: usize, has_share: bool) -> Pace {
        let (rate, burst) = (NonZeroU32::new(10).unwrap(), NonZeroU32::new(5).unwrap());
        let mut pace = Pace::new(rate, burst, Some(Duration::from_secs(1)));
        pace.stand(Standing { members, has_share });
        pace
    }

    /// Calls until one is refused; how many were not, and the wait.
    fn exhaust(bucket: &mut Bucket, now: u64, pace: &Pace) -> (u32, u64) {
        let mut taken = 0;
        loop {
            match bucket.take(now, pace) {
                Ok(()) => taken += 1,
                Err(wait) => return (taken, wait),
            }
        }
    }

    #[test]
    fn what_the_others_admitted_is_gone_here() {
        let (pace, mut bucket) = (pace(2, false), Bucket::default());
        // Two intervals are kept for the others: 20 calls, and the burst.
        bucket.charge(22, 0, NOW, &pace);
        assert_eq!(exhaust(&mut bucket, NOW, &pace), (3, 100 * MS));
        bucket.charge(10, 0, NOW, &pace);
        assert_eq!(exhaust(&mut bucket, NOW, &pace), (0, 1_100 * MS), "a debt");
        assert_eq!(exhaust(&mut bucket, NOW + 1_100 * MS, &pace).0, 1);
    }

    #[test]
    fn a_debt_is_bounded_by_what_the_others_can_have_admitted_unheard() {
        let mut bucket = Bucket::default();
        for _ in 0..10 {
            bucket.charge(u32::MAX, 0, NOW, &pace(3, false));
        }
        // Of two others: the burst of half a second, and eight intervals.
        let wait = 2 * (500 + 8_000) * MS + 100 * MS;
        assert_eq!(exhaust(&mut bucket, NOW, &pace(3, false)), (0, wait));
        let mut alone = Bucket::default();
        alone.charge(u32::MAX, 0, NOW, &pace(1, false));
        assert_eq!(exhaust(&mut alone, NOW, &pace(1, false)).1, 100 * MS);
    }

    #[test]
    fn what_was_admitted_long_ago_is_paid_with_the_time_since() {
        let (pace, mut bucket) = (pace(2, false), Bucket::default());
        bucket.charge(60, 6_000 * MS, NOW, &pace);
        assert_eq!(exhaust(&mut bucket, NOW, &pace).0, 5);
    }

    #[test]
    fn a_share_is_a_part_of_the_rate_and_of_the_burst_and_at_least_one_call() {
        let mut bucket = Bucket::default();
        assert_eq!(exhaust(&mut bucket, NOW, &pace(2, true)), (2, 100 * MS));
        let mut now = NOW;
        let mut taken = 0;
        while now < NOW + 10_000 * MS {
            match bucket.take(now, &pace(2, true)) {
                Ok(()) => taken += 1,
                Err(wait) => now += wait,
            }
        }
        assert_eq!(taken, 50, "half of ten a second");
        let mut small = Bucket::default();
        assert_eq!(exhaust(&mut small, NOW, &pace(50, true)), (1, 5_000 * MS));
    }

    #[test]
    fn calls_are_told_of_as_long_as_the_window_and_an_idle_bucket_has_none_left() {
        let (pace, mut bucket) = (pace(2, false), Bucket::default());
        bucket.take(NOW, &pace).unwrap();
        bucket.take(NOW, &pace).unwrap();
        for told in 0..WINDOW {
            assert!(!bucket.is_idle(NOW + 60_000 * MS, &pace), "{told}");
            let mut want = [0; WINDOW];
            want[told] = 2;
            assert_eq!(bucket.close(), want);
        }
        assert_eq!(bucket.close(), [0; WINDOW]);
        assert!(!bucket.is_idle(NOW + 199 * MS, &pace));
        assert!(bucket.is_idle(NOW + 200 * MS, &pace));
        bucket.charge(25, 0, NOW, &pace);
        assert!(
            !bucket.is_idle(NOW + 2_499 * MS, &pace),
            "what is kept for the others is not whole yet"
        );
    }

    #[test]
    fn a_rate_is_never_more_than_it_is_said_to_be() {
        for rate in [1, 3, 7, 1_000_003, 999_999_999, u32::MAX] {
            let pace = Pace::new(NonZeroU32::new(rate).unwrap(), NonZeroU32::MIN, None);
            assert!(u128::from(pace.call) * u128::from(rate) >= 1_000_000_000);
        }
    }
}
