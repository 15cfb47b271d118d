//! What is still to be told to others, and how often it was: the newest goes first, each so many times.
//!
//! Holds names only; what is sent is what the store says at that moment, so nothing old is ever told.

use std::collections::BTreeSet;

use rustc_hash::FxHashMap;

use super::observation::Key;
use super::site::SiteName;

/// Most things to tell at once. When it is full, what was told most often is let go; the others then pull it.
pub const BACKLOG_MAX: usize = 16_384;

/// Something to tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum News {
    /// The newest beat of an origin.
    Beat(SiteName),
    /// Its word on an endpoint.
    Word(SiteName, Key),
}

/// The things to tell.
#[derive(Debug, Default)]
pub struct Backlog {
    /// By how often they were told, then by age.
    queue: BTreeSet<(u8, u64, News)>,
    places: FxHashMap<News, (u8, u64)>,
    next: u64,
    words: usize,
}

impl Backlog {
    /// There is news; what of it was to be told before is told anew as often.
    pub fn add(&mut self, news: News) {
        self.remove(news);
        if self.queue.len() >= BACKLOG_MAX
            && let Some((_, _, most_told)) = self.queue.last().copied()
        {
            self.remove(most_told);
        }
        self.put(news, 0);
    }

    /// Hands news out, least told first, as long as `take` has room for it. Each is told as many `times`. One that `take`
    /// has no room for waits, as does one that is not for this packet; one that is `Gone` is forgotten.
    pub fn tell(&mut self, times: impl Fn(News) -> u8, mut take: impl FnMut(News) -> Told) {
        let mut told = Vec::new();
        for (count, _, news) in &self.queue {
            match take(*news) {
                Told::Told => told.push((*news, count + 1)),
                Told::Gone => told.push((*news, u8::MAX)),
                Told::NotHere => {}
                Told::NoRoom => break,
            }
        }
        for (news, count) in told {
            self.remove(news);
            if count < times(news) {
                self.put(news, count);
            }
        }
    }

    /// Whether there is nothing to tell.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }

    /// How much there is to tell.
    #[must_use]
    pub fn len(&self) -> usize {
        self.queue.len()
    }

    /// Whether there is news of an endpoint.
    #[must_use]
    pub fn has_words(&self) -> bool {
        self.words > 0
    }

    fn put(&mut self, news: News, count: u8) {
        self.words += usize::from(matches!(news, News::Word(..)));
        self.next += 1;
        self.places.insert(news, (count, self.next));
        self.queue.insert((count, self.next, news));
    }

    fn remove(&mut self, news: News) {
        if let Some((count, order)) = self.places.remove(&news) {
            self.queue.remove(&(count, order, news));
            self.words -= usize::from(matches!(news, News::Word(..)));
        }
    }
}

/// What came of telling.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Told {
    /// It is in the packet.
    Told,
    /// It is not for this packet.
    NotHere,
    /// There is no such thing any more.
    Gone,
    /// The packet is full.
    NoRoom,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn word(key: u64) -> News {
        News::Word(SiteName::new("fra").unwrap(), Key(key))
    }

    /// One packet with room for so many.
    fn packet(backlog: &mut Backlog, times: u8, room: usize) -> Vec<News> {
        let mut taken = Vec::new();
        backlog.tell(
            |_| times,
            |news| {
                if taken.len() == room {
                    return Told::NoRoom;
                }
                taken.push(news);
                Told::Told
            },
        );
        taken
    }

    #[test]
    fn everything_is_told_so_many_times_and_the_least_told_first() {
        let mut backlog = Backlog::default();
        (1..=3).for_each(|key| backlog.add(word(key)));
        assert_eq!(packet(&mut backlog, 2, 2), [word(1), word(2)]);
        backlog.add(word(4));
        assert_eq!(packet(&mut backlog, 2, 2), [word(3), word(4)]);
        assert_eq!(packet(&mut backlog, 2, 9), [1, 2, 3, 4].map(word));
        assert!(backlog.is_empty() && backlog.places.is_empty());
    }

    #[test]
    fn news_of_the_same_thing_is_one_thing_told_anew() {
        let mut backlog = Backlog::default();
        backlog.add(word(1));
        packet(&mut backlog, 2, 9);
        backlog.add(word(1));
        assert_eq!(backlog.len(), 1);
        assert_eq!(
            packet(&mut backlog, 2, 9).len() + packet(&mut backlog, 2, 9).len(),
            2
        );
        assert!(backlog.is_empty());
    }

    #[test]
    fn a_full_backlog_lets_go_what_was_told_most() {
        let mut backlog = Backlog::default();
        backlog.add(word(0));
        packet(&mut backlog, 9, 1);
        (1..=BACKLOG_MAX as u64).for_each(|key| backlog.add(word(key)));
        assert_eq!(backlog.len(), BACKLOG_MAX);
        assert!(!backlog.places.contains_key(&word(0)));
        backlog.tell(|_| 9, |_| Told::Gone);
        assert!(backlog.is_empty());
    }
}
