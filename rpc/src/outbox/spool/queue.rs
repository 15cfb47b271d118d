//! Whose turn it is in one channel. Sans-IO.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Instant;

/// The rows of a channel that wait, by number.
#[derive(Debug, Default)]
pub(super) struct Queue {
    waiting: BTreeMap<u64, Arc<str>>,
    /// Partitions whose first row is tried again then.
    held: HashMap<Arc<str>, Instant>,
    /// Nobody takes anything until then.
    away: Option<Instant>,
}

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    Row(u64),
    Later(Instant),
    Empty,
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.waiting.len()
    }

    pub(super) fn push(&mut self, number: u64, partition: &str) {
        self.waiting.insert(number, partition.into());
    }

    pub(super) fn oldest(&self) -> Option<u64> {
        self.waiting.keys().next().copied()
    }

    /// It waits no more: told, dead or dropped.
    pub(super) fn remove(&mut self, number: u64) {
        if let Some(partition) = self.waiting.remove(&number) {
            self.held.remove(&partition);
        }
    }

    /// It is tried again at `due`, and what is behind it in its partition waits for it; `is_away`: all others too.
    pub(super) fn again(&mut self, number: u64, due: Instant, is_away: bool) {
        if is_away {
            self.away = Some(due);
        } else if let Some(partition) = self.waiting.get(&number) {
            self.held.insert(Arc::clone(partition), due);
        }
    }

    pub(super) fn turn(&mut self, now: Instant) -> Turn {
        if self.waiting.is_empty() {
            return Turn::Empty;
        }
        if let Some(until) = self.away.filter(|until| *until > now) {
            return Turn::Later(until);
        }
        self.away = None;
        self.held.retain(|_, due| *due > now);
        let free = self
            .waiting
            .iter()
            .find(|(_, partition)| !self.held.contains_key(*partition));
        match (free, self.held.values().min()) {
            (Some((number, _)), _) => Turn::Row(*number),
            (None, Some(due)) => Turn::Later(*due),
            (None, None) => Turn::Empty,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_row_that_fails_holds_up_its_partition_and_no_other() {
        let now = Instant::now();
        let (soon, later) = (now + Duration::from_secs(1), now + Duration::from_secs(2));
        let mut queue = Queue::default();
        assert_eq!(queue.turn(now), Turn::Empty);
        for (number, partition) in [(1, "a"), (2, "a"), (3, "b")] {
            queue.push(number, partition);
        }
        assert_eq!(queue.turn(now), Turn::Row(1));
        queue.again(1, soon, false);
        assert_eq!(queue.turn(now), Turn::Row(3), "2 waits for 1");
        queue.again(3, later, false);
        assert_eq!(queue.turn(now), Turn::Later(soon));
        assert_eq!(queue.turn(soon), Turn::Row(1));
        queue.remove(1);
        assert_eq!(queue.turn(now), Turn::Row(2), "nothing holds it any more");
        assert_eq!((queue.len(), queue.oldest()), (2, Some(2)));
    }

    #[test]
    fn while_nobody_is_there_nothing_is_told_and_what_comes_waits_too() {
        let now = Instant::now();
        let back = now + Duration::from_secs(1);
        let mut queue = Queue::default();
        queue.push(1, "a");
        queue.again(1, back, true);
        queue.push(2, "b");
        assert_eq!(queue.turn(now), Turn::Later(back));
        assert_eq!(queue.turn(back), Turn::Row(1));
    }
}
