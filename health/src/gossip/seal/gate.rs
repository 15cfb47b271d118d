//! How often a source may have us try our keys on a session that is not known, and fail.
//!
//! A fixed number of buckets, by a hash that nobody outside knows: memory and work are bounded however many sources are
//! forged, and the worst that they do is keep newcomers waiting that share a bucket with them.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::time::{Duration, Instant};

const BUCKETS: usize = 1024;

/// Failures that a source may have at once.
pub(super) const BURST: u32 = 100;

/// After this it may have one more: 20,000 a second for all sources together, a tenth of a core.
const EVERY: Duration = Duration::from_millis(50);

#[derive(Debug, Default)]
pub(super) struct Gate {
    hash: RandomState,
    /// Made when somebody fails first.
    buckets: Vec<Bucket>,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    failures: u32,
    /// Up to here failures were forgiven.
    at: Option<Instant>,
}

impl Gate {
    /// Whether the keys may be tried on one more.
    pub(super) fn is_open(&mut self, from: IpAddr, now: Instant) -> bool {
        let number = self.number(from);
        let Some(bucket) = self.buckets.get_mut(number) else {
            return true;
        };
        let at = *bucket.at.get_or_insert(now);
        let forgiven = now.saturating_duration_since(at).as_nanos() / EVERY.as_nanos();
        let forgiven = u32::try_from(forgiven).unwrap_or(u32::MAX);
        bucket.failures = bucket.failures.saturating_sub(forgiven);
        bucket.at = if bucket.failures == 0 {
            None
        } else {
            Some(at + EVERY.saturating_mul(forgiven))
        };
        bucket.failures < BURST
    }

    /// None opened it.
    pub(super) fn count(&mut self, from: IpAddr) {
        let empty = Bucket {
            failures: 0,
            at: None,
        };
        self.buckets.resize(BUCKETS, empty);
        let number = self.number(from);
        if let Some(bucket) = self.buckets.get_mut(number) {
            bucket.failures = bucket.failures.saturating_add(1);
        }
    }

    /// An IPv6 host has 2^64 addresses of its own.
    fn number(&self, from: IpAddr) -> usize {
        let network = match from.to_canonical() {
            IpAddr::V4(address) => u64::from(address.to_bits()),
            IpAddr::V6(address) => (address.to_bits() >> 64) as u64,
        };
        (self.hash.hash_one(network) % BUCKETS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_fails_is_shut_out_and_let_in_again_slowly() {
        let mut gate = Gate::default();
        let start = Instant::now();
        let from: IpAddr = [192, 0, 2, 1].into();
        let tried = |gate: &mut Gate, count: u32, now| {
            let open = (0..count).filter(|_| {
                let is_open = gate.is_open(from, now);
                if is_open {
                    gate.count(from);
                }
                is_open
            });
            open.count()
        };
        assert_eq!(tried(&mut gate, 1_000, start), BURST as usize);
        assert_eq!(tried(&mut gate, 1_000, start + Duration::from_secs(1)), 20);
        assert_eq!(
            tried(&mut gate, 1_000, start + Duration::from_secs(601)),
            BURST as usize
        );
    }

    #[test]
    fn any_number_of_sources_comes_to_a_bounded_number_of_tries() {
        let mut gate = Gate::default();
        let start = Instant::now();
        let mut tried = 0;
        for millis in 0..2_000_u64 {
            for source in 0..500_u32 {
                let from = IpAddr::from((millis as u32 * 500 + source).to_be_bytes());
                if gate.is_open(from, start + Duration::from_millis(millis)) {
                    gate.count(from);
                    tried += 1;
                }
            }
        }
        assert!(tried <= BUCKETS * (BURST as usize + 41), "{tried} of 1,000,000");
        let many: Vec<IpAddr> = (0..9_u128)
            .map(|low| IpAddr::from((1 << 100 | low).to_be_bytes()))
            .collect();
        assert!(many.iter().all(|from| gate.number(*from) == gate.number(many[0])));
    }
}
