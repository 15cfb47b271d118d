//! Rows that are not told any more, until somebody sends them again.

use std::time::{Duration, SystemTime};

use redb::{ReadableDatabase, ReadableTable, WriteTransaction};

use super::DeadLetter;
use super::table::{DEAD, Open, ROWS, count_letters};

/// Octets of a reason that are kept.
const WHY_MAX: usize = 500;

impl Open {
    pub(super) fn bury(
        &self,
        writing: &WriteTransaction,
        channel: &str,
        number: u64,
        tries: u32,
        why: &str,
    ) -> Result<(), redb::Error> {
        let mut rows = writing.open_table(ROWS)?;
        let Some(row) = rows.remove((channel, number))? else {
            return Ok(());
        };
        let (subject, partition, _, payload) = row.value();
        let mut dead = writing.open_table(DEAD)?;
        let why: String = why.chars().take(WHY_MAX).collect();
        let died = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap_or_default();
        let died = u64::try_from(died.as_millis()).unwrap_or(u64::MAX);
        dead.insert(
            (channel, number),
            (subject, partition, tries, payload, died, why.as_str()),
        )?;
        if self.dead.get(channel).copied().unwrap_or_default() >= self.limits.dead {
            let oldest = dead
                .range((channel, 0)..=(channel, u64::MAX))?
                .next()
                .transpose()?;
            if let Some(oldest) = oldest.map(|(at, _)| at.value().1) {
                dead.remove((channel, oldest))?;
                count_letters(channel, "dropped", 1);
            }
        }
        Ok(())
    }

    pub(super) fn dead(
        &self,
        name: &str,
        channel: &str,
        at_most: usize,
    ) -> Result<Vec<DeadLetter>, redb::Error> {
        let reading = self.database.begin_read()?;
        let table = reading.open_table(DEAD)?;
        let mut letters = Vec::new();
        for row in table.range((channel, 0)..=(channel, u64::MAX))?.take(at_most) {
            let (at, row) = row?;
            let (subject, partition, tries, payload, died, why) = row.value();
            let number = at.value().1;
            letters.push(DeadLetter {
                number,
                letter: self.letter(name, number, (subject, partition, payload)),
                tries,
                died: Duration::from_millis(died),
                why: why.to_owned(),
            });
        }
        Ok(letters)
    }

    pub(super) fn resend(
        &mut self,
        name: &str,
        channel: &str,
        ids: Option<&[String]>,
    ) -> Result<usize, redb::Error> {
        let meant = |letter: &DeadLetter| ids.is_none_or(|ids| ids.contains(&letter.letter.id));
        let letters = self.dead(name, channel, usize::MAX)?.into_iter();
        let letters: Vec<_> = letters.filter(meant).collect();
        let writing = self.database.begin_write()?;
        {
            let (mut rows, mut dead) = (writing.open_table(ROWS)?, writing.open_table(DEAD)?);
            for DeadLetter { number, letter, .. } in &letters {
                let at = (channel, *number);
                let row = (
                    letter.subject.as_str(),
                    letter.partition.as_str(),
                    0,
                    &letter.payload[..],
                );
                dead.remove(at)?;
                rows.insert(at, row)?;
            }
        }
        writing.commit()?;
        let queue = self.queues.entry(channel.to_owned()).or_default();
        for DeadLetter { number, letter, .. } in &letters {
            queue.push(*number, &letter.partition);
        }
        let left = self.dead.entry(channel.to_owned()).or_default();
        *left = left.saturating_sub(letters.len());
        Ok(letters.len())
    }
}
