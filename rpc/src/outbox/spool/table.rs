//! The file of a spool, and what is known of it in memory: which rows wait, but not what they say.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use bytes::Bytes;
use redb::backends::InMemoryBackend;
use redb::{Database, ReadableDatabase, ReadableTable, Table, TableDefinition};

use super::queue::Queue;
use super::{Counts, Limits, Post, Told};
use crate::key::StoreError;
use crate::outbox::Letter;

/// A channel and a number.
pub(super) type At = (&'static str, u64);
/// Subject, partition, tries, payload.
pub(super) type Row = (&'static str, &'static str, u32, &'static [u8]);
/// A row, with when it died (milliseconds since 1970) and why.
pub(super) type DeadRow = (&'static str, &'static str, u32, &'static [u8], u64, &'static str);

pub(super) const ROWS: TableDefinition<'static, At, Row> = TableDefinition::new("rows");
pub(super) const DEAD: TableDefinition<'static, At, DeadRow> = TableDefinition::new("dead");
const TOLD: TableDefinition<'static, &str, &[u8]> = TableDefinition::new("told");
/// `next`: the number of the next row; `random`: what its ids have in common.
const META: TableDefinition<'static, &str, u64> = TableDefinition::new("meta");

/// The library's own default is 1 GiB.
const CACHE_BYTES: usize = 4 << 20;

/// An open spool.
pub(super) struct Open {
    pub(super) database: Database,
    pub(super) limits: Limits,
    pub(super) queues: BTreeMap<String, Queue>,
    pub(super) dead: BTreeMap<String, usize>,
    next: u64,
    random: u64,
    /// That a queue is full was said.
    said_full: bool,
}

impl Open {
    pub(super) fn new(file: Option<&Path>, limits: Limits) -> Result<Self, StoreError> {
        let name = || file.map_or_else(|| "memory".to_owned(), |file| file.display().to_string());
        let unavailable =
            |error: &dyn std::fmt::Display| StoreError::Unavailable(format!("{}: {error}", name()));
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = match file {
            Some(file) => {
                if let Some(folder) = file.parent().filter(|folder| !folder.as_os_str().is_empty()) {
                    fs::create_dir_all(folder).map_err(|error| unavailable(&error))?;
                }
                builder.create(file)
            }
            None => builder.create_with_backend(InMemoryBackend::new()),
        };
        let database = database.map_err(|error| unavailable(&error))?;
        Self::read(database, limits).map_err(|error| unavailable(&error))
    }

    /// Makes what is missing, and finds what waits.
    fn read(database: Database, limits: Limits) -> Result<Self, redb::Error> {
        let writing = database.begin_write()?;
        let (mut queues, mut dead) = (BTreeMap::<String, Queue>::new(), BTreeMap::new());
        let (next, random) = {
            let mut meta = writing.open_table(META)?;
            let next = meta.get("next")?.map_or(1, |next| next.value());
            let random = meta
                .get("random")?
                .map_or_else(rand::random, |random| random.value());
            meta.insert("random", random)?;
            for row in writing.open_table(ROWS)?.iter()? {
                let (at, row) = row?;
                let (channel, number) = at.value();
                let queue = queues.entry(channel.to_owned()).or_default();
                queue.push(number, row.value().1);
            }
            for row in writing.open_table(DEAD)?.iter()? {
                *dead.entry(row?.0.value().0.to_owned()).or_insert(0) += 1;
            }
            writing.open_table(TOLD)?;
            (next, random)
        };
        writing.commit()?;
        Ok(Self {
            database,
            limits,
            queues,
            dead,
            next,
            random,
            said_full: false,
        })
    }

    pub(super) fn id(&self, name: &str, number: u64) -> String {
        format!("{name}-{:016x}-{number}", self.random)
    }

    /// Subject, partition and payload of a row, as they are told.
    pub(super) fn letter(
        &self,
        name: &str,
        number: u64,
        (subject, partition, payload): (&str, &str, &[u8]),
    ) -> Letter {
        Letter {
            id: self.id(name, number),
            subject: subject.to_owned(),
            partition: partition.to_owned(),
            payload: Bytes::copy_from_slice(payload),
        }
    }

    pub(super) fn told(&self) -> Result<BTreeMap<String, Vec<u8>>, redb::Error> {
        let mut told = BTreeMap::new();
        for entry in self.database.begin_read()?.open_table(TOLD)?.iter()? {
            let (subject, state) = entry?;
            told.insert(subject.value().to_owned(), state.value().to_vec());
        }
        Ok(told)
    }

    pub(super) fn append(&mut self, name: &str, posts: Vec<Post>, told: &[Told]) -> Result<(), redb::Error> {
        let writing = self.database.begin_write()?;
        let mut next = self.next;
        let mut new = Vec::new();
        {
            let mut rows = writing.open_table(ROWS)?;
            for post in posts {
                let Post {
                    subject,
                    partition,
                    payload,
                    channels,
                } = post;
                let payload = payload(&self.id(name, next));
                for channel in channels {
                    let row = (subject.as_str(), partition.as_str(), 0, &payload[..]);
                    rows.insert((channel.as_str(), next), row)?;
                    new.push((channel, next, partition.clone()));
                }
                next += 1;
            }
            self.drop_oldest(&mut rows, &new)?;
            writing.open_table(META)?.insert("next", next)?;
            let mut subjects = writing.open_table(TOLD)?;
            for (subject, state) in told {
                match state {
                    Some(state) => subjects.insert(subject.as_str(), state.as_slice())?,
                    None => subjects.remove(subject.as_str())?,
                };
            }
        }
        writing.commit()?;
        self.next = next;
        for (channel, number, partition) in new {
            let queue = self.queues.entry(channel).or_default();
            queue.push(number, &partition);
            while queue.len() > self.limits.rows
                && let Some(oldest) = queue.oldest()
            {
                queue.remove(oldest);
            }
        }
        Ok(())
    }

    /// Makes room: the oldest row goes for each that would be too many.
    fn drop_oldest(
        &mut self,
        rows: &mut Table<'_, At, Row>,
        new: &[(String, u64, String)],
    ) -> Result<(), redb::Error> {
        let mut coming = BTreeMap::<&str, usize>::new();
        for (channel, ..) in new {
            *coming.entry(channel).or_default() += 1;
        }
        for (channel, count) in coming {
            let waiting = self.queues.get(channel).map_or(0, Queue::len);
            let excess = (waiting + count).saturating_sub(self.limits.rows);
            for _ in 0..excess {
                let oldest = rows
                    .range((channel, 0)..=(channel, u64::MAX))?
                    .next()
                    .transpose()?;
                let Some(number) = oldest.map(|(at, _)| at.value().1) else {
                    break;
                };
                rows.remove((channel, number))?;
            }
            if excess > 0 {
                count_letters(channel, "dropped", excess);
                if !std::mem::replace(&mut self.said_full, true) {
                    let limit = self.limits.rows;
                    tracing::error!(channel, limit, "too much waits to be told: the oldest is dropped");
                }
            }
        }
        Ok(())
    }

    pub(super) fn keep_only(&mut self, channels: &[String]) -> Result<Vec<(String, Counts)>, redb::Error> {
        let known = self.queues.keys().chain(self.dead.keys());
        let mut gone: Vec<_> = known.filter(|name| !channels.contains(name)).cloned().collect();
        gone.sort_unstable();
        gone.dedup();
        let writing = self.database.begin_write()?;
        for channel in &gone {
            let all = (channel.as_str(), 0)..=(channel.as_str(), u64::MAX);
            writing.open_table(ROWS)?.retain_in(all.clone(), |_, _| false)?;
            writing.open_table(DEAD)?.retain_in(all, |_, _| false)?;
        }
        writing.commit()?;
        let forgotten = gone.into_iter().map(|channel| {
            let counts = self.counts(&channel);
            self.queues.remove(&channel);
            self.dead.remove(&channel);
            (channel, counts)
        });
        let forgotten = forgotten.filter(|(_, counts)| *counts != Counts::default());
        Ok(forgotten.collect())
    }

    pub(super) fn all_counts(&self) -> BTreeMap<String, Counts> {
        let known = self.queues.keys().chain(self.dead.keys());
        known
            .map(|channel| (channel.clone(), self.counts(channel)))
            .collect()
    }

    fn counts(&self, channel: &str) -> Counts {
        Counts {
            waiting: self.queues.get(channel).map_or(0, Queue::len),
            dead: self.dead.get(channel).copied().unwrap_or_default(),
        }
    }
}

pub(super) fn count_letters(channel: &str, what: &'static str, count: usize) {
    let count = u64::try_from(count).unwrap_or(u64::MAX);
    metrics::counter!("steer_notify_letters_total", "channel" => channel.to_owned(), "what" => what)
        .increment(count);
}
