//! The last messages of a stream, for a service that cannot make them again.

use std::collections::VecDeque;

/// A bounded number of messages with their numbers.
#[derive(Debug)]
pub struct Window<T> {
    kept: VecDeque<T>,
    max: usize,
    /// The number of the first one that is kept.
    first: u64,
}

/// Messages that are kept no longer, or have not come yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("message {wanted} is wanted, and {first} to {last} can be had")]
pub struct Gone {
    /// The number that is asked for.
    pub wanted: u64,
    /// The first one that is kept.
    pub first: u64,
    /// The one that comes next.
    pub last: u64,
}

impl<T: Clone> Window<T> {
    /// Of so many messages; at least one.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self {
            kept: VecDeque::new(),
            max: max.max(1),
            first: 0,
        }
    }

    /// Adds a message, and forgets the oldest where there are too many. Its number.
    pub fn push(&mut self, message: T) -> u64 {
        if self.kept.len() == self.max {
            self.kept.pop_front();
            self.first += 1;
        }
        self.kept.push_back(message);
        self.next() - 1
    }

    /// The number of the message that comes next.
    #[must_use]
    pub fn next(&self) -> u64 {
        self.first + self.kept.len() as u64
    }

    /// Who reads has all before this number: they are kept no longer.
    pub fn acknowledge(&mut self, next: u64) {
        while self.first < next && self.kept.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// All messages from this number on.
    ///
    /// # Errors
    ///
    /// [`Gone`], to be told as OUT_OF_RANGE.
    pub fn from(&self, wanted: u64) -> Result<Vec<T>, Gone> {
        if !(self.first..=self.next()).contains(&wanted) {
            return Err(Gone {
                wanted,
                first: self.first,
                last: self.next(),
            });
        }
        let skip = usize::try_from(wanted - self.first).unwrap_or(usize::MAX);
        Ok(self.kept.iter().skip(skip).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_window_has_what_was_pushed_last_and_says_what_is_gone(
            max in 1_usize..6, steps in prop::collection::vec((any::<bool>(), 0_u64..20), 0..40)
        ) {
            let mut window = Window::new(max);
            let (mut first, mut next) = (0_u64, 0_u64);
            for (is_push, number) in steps {
                if is_push {
                    prop_assert_eq!(window.push(next), next);
                    next += 1;
                    first = first.max(next.saturating_sub(max as u64));
                } else {
                    window.acknowledge(number);
                    first = first.max(number.min(next));
                }
                prop_assert!(window.from(first).unwrap().len() <= max);
                for wanted in 0..next + 2 {
                    let expected: Vec<_> = (wanted..next).collect();
                    match window.from(wanted) {
                        Ok(messages) => {
                            prop_assert!(wanted >= first && wanted <= next);
                            prop_assert_eq!(messages, expected);
                        }
                        Err(gone) => prop_assert_eq!(gone, Gone { wanted, first, last: next }),
                    }
                }
            }
        }
    }
}
