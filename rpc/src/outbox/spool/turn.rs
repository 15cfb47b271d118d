//! One turn of a channel: the row whose turn it is, and what follows from telling it.

use std::time::Instant;

use redb::{ReadableDatabase, WriteTransaction};

use super::queue::Turn;
use super::table::{Open, ROWS};
use super::{Look, Waiting};
use crate::outbox::Next;

impl Open {
    pub(super) fn look(&mut self, name: &str, channel: &str, now: Instant) -> Result<Look, redb::Error> {
        let turn = self
            .queues
            .get_mut(channel)
            .map_or(Turn::Empty, |queue| queue.turn(now));
        let number = match turn {
            Turn::Row(number) => number,
            Turn::Later(due) => return Ok(Look::Later(due)),
            Turn::Empty => return Ok(Look::Empty),
        };
        let reading = self.database.begin_read()?;
        let row = reading.open_table(ROWS)?.get((channel, number))?;
        let Some(row) = row else { return Ok(Look::Empty) };
        let (subject, partition, tries, payload) = row.value();
        Ok(Look::Tell(Waiting {
            number,
            letter: self.letter(name, number, (subject, partition, payload)),
            tries,
        }))
    }

    pub(super) fn settle(
        &mut self,
        channel: &str,
        number: u64,
        next: Next,
        is_away: bool,
        why: &str,
        now: Instant,
    ) -> Result<(), redb::Error> {
        let writing = self.database.begin_write()?;
        match next {
            Next::Told => {
                writing.open_table(ROWS)?.remove((channel, number))?;
            }
            // Nothing of it is to be remembered.
            Next::Again { .. } if is_away => {}
            Next::Again { tries, .. } => count_try(&writing, channel, number, tries)?,
            Next::Dead { tries } => self.bury(&writing, channel, number, tries, why)?,
        }
        writing.commit()?;
        let Some(queue) = self.queues.get_mut(channel) else {
            return Ok(());
        };
        match next {
            Next::Told => queue.remove(number),
            Next::Again { after, .. } => queue.again(number, now + after, is_away),
            Next::Dead { .. } => {
                queue.remove(number);
                let dead = self.dead.entry(channel.to_owned()).or_default();
                *dead = (*dead + 1).min(self.limits.dead);
            }
        }
        Ok(())
    }
}

fn count_try(writing: &WriteTransaction, channel: &str, number: u64, tries: u32) -> Result<(), redb::Error> {
    let mut rows = writing.open_table(ROWS)?;
    let Some(row) = rows.remove((channel, number))? else {
        return Ok(());
    };
    let (subject, partition, payload) = {
        let (subject, partition, _, payload) = row.value();
        (subject.to_owned(), partition.to_owned(), payload.to_vec())
    };
    drop(row);
    let row = (subject.as_str(), partition.as_str(), tries, payload.as_slice());
    rows.insert((channel, number), row)?;
    Ok(())
}
