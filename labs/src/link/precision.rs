//! How late frames left.

use std::fmt;
use std::sync::Mutex;
use std::sync::PoisonError;

/// One bucket per power of two of a quarter of a microsecond.
const BUCKETS: usize = 32;
const SMALLEST_NS: u64 = 250;

/// Shared by the lines of a run.
#[derive(Debug, Default)]
pub(super) struct Precision(Mutex<State>);

#[derive(Debug, Clone, Default)]
struct State {
    buckets: [u64; BUCKETS],
    frames: u64,
    most: u64,
    lost_by_us: u64,
}

impl Precision {
    pub(super) fn left(&self, late_ns: u64) {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let bucket = (late_ns / SMALLEST_NS)
            .checked_ilog2()
            .map_or(0, |power| power as usize + 1);
        if let Some(count) = state.buckets.get_mut(bucket.min(BUCKETS - 1)) {
            *count += 1;
        }
        state.frames += 1;
        state.most = state.most.max(late_ns);
    }

    /// A frame that could not be sent, or for which there was no room.
    pub(super) fn lost(&self, count: u64) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).lost_by_us += count;
    }
}

impl State {
    /// Nobody in this share of the frames was later, microseconds: the upper end of a bucket.
    fn within_us(&self, share: f64) -> f64 {
        let wanted = (self.frames as f64 * share).ceil() as u64;
        let mut seen = 0;
        for (power, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return ((SMALLEST_NS << power).min(self.most.max(1))) as f64 / 1e3;
            }
        }
        self.most as f64 / 1e3
    }
}

impl fmt::Display for Precision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.0.lock().unwrap_or_else(PoisonError::into_inner).clone();
        write!(
            f,
            "{} frames, late by at most {:.0} µs (half of them), {:.0} µs (99 %), {:.0} µs (all)",
            state.frames,
            state.within_us(0.5),
            state.within_us(0.99),
            state.most as f64 / 1e3
        )?;
        if state.lost_by_us > 0 {
            write!(f, "; {} lost for want of room", state.lost_by_us)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_is_told_by_the_upper_end_of_its_bucket() {
        let precision = Precision::default();
        for _ in 0..99 {
            precision.left(30_000);
        }
        precision.left(1_500_000);
        assert_eq!(
            precision.to_string(),
            "100 frames, late by at most 32 µs (half of them), 32 µs (99 %), 1500 µs (all)"
        );
        precision.lost(2);
        assert!(precision.to_string().ends_with("; 2 lost for want of room"));
    }
}
