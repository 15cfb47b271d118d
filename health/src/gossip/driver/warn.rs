//! What is dropped is said once for each cause and source in a while, and a flood from everywhere does not fill the log.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::gossip::seal::Dropped;

/// Between two lines of the same cause and source.
const EVERY: Duration = Duration::from_secs(60);

/// Lines in that time, at most; the counter has the rest.
const LINES_MAX: usize = 64;

#[derive(Debug, Default)]
pub(super) struct Warnings(HashMap<(Dropped, IpAddr), Instant>);

impl Warnings {
    /// Whether to say it.
    pub(super) fn is_due(&mut self, cause: Dropped, from: IpAddr, now: Instant) -> bool {
        let lately = |at: &Instant| now.saturating_duration_since(*at) < EVERY;
        if self.0.get(&(cause, from)).is_some_and(lately) {
            return false;
        }
        if self.0.len() >= LINES_MAX {
            self.0.retain(|_, at| lately(at));
        }
        if self.0.len() >= LINES_MAX {
            return false;
        }
        self.0.insert((cause, from), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_cause_and_source_is_said_once_a_minute_and_only_so_many() {
        let mut warnings = Warnings::default();
        let start = Instant::now();
        let from = |number: u32| IpAddr::from(number.to_be_bytes());
        assert!(warnings.is_due(Dropped::WrongKey, from(1), start));
        assert!(!warnings.is_due(Dropped::WrongKey, from(1), start));
        assert!(warnings.is_due(Dropped::Malformed, from(1), start));
        assert!(warnings.is_due(Dropped::WrongKey, from(2), start));
        let said = (3..100_000).filter(|number| warnings.is_due(Dropped::WrongKey, from(*number), start));
        assert_eq!(said.count(), LINES_MAX - 3);
        let later = start + EVERY;
        assert!(warnings.is_due(Dropped::WrongKey, from(1), later));
        assert!(warnings.0.len() == 1);
    }
}
