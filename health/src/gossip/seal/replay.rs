//! Which counters of a session were seen, as in RFC 6479.

/// Counters further behind the highest than this count as seen.
pub const WINDOW: u64 = 1024;

const WORDS: usize = 16;

/// A sliding window over the counters of one session. Counters begin at 1.
#[derive(Debug, Default)]
pub(super) struct Window {
    highest: u64,
    /// A ring: bit `counter % WINDOW`.
    seen: [u64; WORDS],
}

impl Window {
    /// Whether a counter was seen, or may have been.
    pub(super) fn has(&self, counter: u64) -> bool {
        if counter == 0 || self.highest.saturating_sub(counter) >= WINDOW {
            return true;
        }
        let (word, bit) = place(counter);
        counter <= self.highest && self.seen[word] & bit != 0
    }

    /// Notes a counter that was authenticated.
    pub(super) fn note(&mut self, counter: u64) {
        if counter > self.highest {
            let gone = (counter - self.highest).min(WINDOW);
            for passed in counter - gone + 1..=counter {
                let (word, bit) = place(passed);
                self.seen[word] &= !bit;
            }
            self.highest = counter;
        }
        let (word, bit) = place(counter);
        self.seen[word] |= bit;
    }
}

fn place(counter: u64) -> (usize, u64) {
    let index = counter % WINDOW;
    ((index / 64) as usize, 1 << (index % 64))
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn the_window_knows_what_a_set_knows(counters in prop::collection::vec(prop_oneof![1..40_u64, 1..5_000_u64], 1..300)) {
            let (mut window, mut set, mut highest) = (Window::default(), HashSet::new(), 0);
            for counter in counters {
                let old = highest >= WINDOW + counter;
                prop_assert_eq!(window.has(counter), old || set.contains(&counter));
                if !old {
                    window.note(counter);
                    set.insert(counter);
                    highest = highest.max(counter);
                }
            }
        }
    }

    #[test]
    fn zero_is_no_counter_and_the_last_one_is() {
        let mut window = Window::default();
        assert!(window.has(0));
        assert!(!window.has(u64::MAX));
        window.note(u64::MAX);
        assert!(window.has(u64::MAX) && !window.has(u64::MAX - 1) && window.has(1));
    }
}
