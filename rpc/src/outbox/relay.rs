//! The driver: lanes that take the rows of one partition at a time.
//!
//! A lane holds a partition by an advisory lock that ends with its transaction. `FOR UPDATE SKIP LOCKED` over rows would
//! not do: a second relay would skip the rows that the first one is telling and overtake it with those after them. And a lock
//! on the first row alone ends when that row is deleted. The lock of a lane whose process dies ends with its session; one
//! that stands still loses its session after [`lease`], and what it tells after that is a second time of something
//! that whoever gets it knows by its id.
//!
//! The lock is taken by one statement and the rows are read by the next, which sees what the lane before it has committed.

use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use ring::digest::{SHA256, digest};
use tokio::sync::watch;
use tokio_postgres::{Client, Config, Error, Row};

use super::rate::Bucket;
use super::{INBOX_SCHEMA, Letter, Next, Rules, Sink, SinkError, next};
use crate::key::StoreError;
use crate::key::{connect, parse, words};

/// What the relay needs beside `steer_outbox`.
pub const OUTBOX_SCHEMA: &str = "
CREATE INDEX IF NOT EXISTS steer_outbox_partition ON steer_outbox (partition, id);
CREATE TABLE IF NOT EXISTS steer_outbox_try (
    id    bigint      PRIMARY KEY REFERENCES steer_outbox ON DELETE CASCADE,
    tries integer     NOT NULL,
    due   timestamptz NOT NULL,
    why   text        NOT NULL
);
CREATE TABLE IF NOT EXISTS steer_outbox_dead (
    id        bigint      PRIMARY KEY,
    subject   text        NOT NULL,
    partition text        NOT NULL,
    payload   bytea       NOT NULL,
    since     timestamptz NOT NULL,
    tries     integer     NOT NULL,
    why       text        NOT NULL,
    died      timestamptz NOT NULL DEFAULT clock_timestamp()
);
";

/// Partitions that are looked at in one turn, at most.
const CANDIDATES: i64 = 32;

/// Without work, a lane looks again after this long.
const POLL: Duration = Duration::from_millis(100);

/// Lanes of one relay, each with a session.
const LANES_MAX: usize = 16;

/// Octets of a reason that are kept.
const WHY_MAX: usize = 500;

/// Partitions with rows of this channel whose first one is due, after the given one, by an index that skips from one to
/// the next.
const FIND: &str = "
WITH RECURSIVE p(partition) AS (
    (SELECT partition FROM steer_outbox WHERE $1::text IS NULL OR partition > $1 ORDER BY partition LIMIT 1)
    UNION ALL
    SELECT (SELECT o.partition FROM steer_outbox o WHERE o.partition > p.partition ORDER BY o.partition LIMIT 1)
    FROM p WHERE p.partition IS NOT NULL
)
SELECT p.partition FROM p
JOIN LATERAL (SELECT o.id FROM steer_outbox o WHERE o.partition = p.partition AND starts_with(o.subject, $2)
              ORDER BY o.id LIMIT 1) head ON true
LEFT JOIN steer_outbox_try t ON t.id = head.id
WHERE t.due IS NULL OR t.due <= clock_timestamp()
LIMIT $3";

const LOCK: &str = "SELECT pg_try_advisory_xact_lock($1)";

const ROWS: &str = "
SELECT o.id, o.subject, o.payload, coalesce(t.tries, 0), coalesce(t.due <= clock_timestamp(), true)
FROM steer_outbox o LEFT JOIN steer_outbox_try t USING (id)
WHERE o.partition = $1 AND starts_with(o.subject, $2) ORDER BY o.id LIMIT $3";

const AGAIN: &str = "
INSERT INTO steer_outbox_try (id, tries, due, why)
VALUES ($1, $2, clock_timestamp() + $3 * interval '1 second', $4)
ON CONFLICT (id) DO UPDATE SET tries = excluded.tries, due = excluded.due, why = excluded.why";

const DEAD: &str = "
WITH gone AS (DELETE FROM steer_outbox WHERE id = $1 RETURNING *)
INSERT INTO steer_outbox_dead (id, subject, partition, payload, since, tries, why)
SELECT id, subject, partition, payload, since, $2, $3 FROM gone";

const TOLD: &str = "DELETE FROM steer_outbox WHERE id = ANY($1)";

/// A relay of one channel. Clones are the same.
pub struct Relay<S> {
    shared: Arc<Shared<S>>,
}

impl<S> Clone for Relay<S> {
    fn clone(&self) -> Self {
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl<S> std::fmt::Debug for Relay<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay")
            .field("name", &self.shared.name)
            .finish_non_exhaustive()
    }
}

struct Shared<S> {
    config: Config,
    name: String,
    prefix: String,
    rules: Rules,
    sink: S,
    pace: Mutex<Pace>,
}

/// What the lanes of a process share.
struct Pace {
    bucket: Bucket,
    /// The sink is away; it is looked for again then.
    away_until: Option<Instant>,
    /// The partition that was last worked at: each has its turn.
    after: Option<String>,
}

/// What is wrong with a relay.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRelay {
    /// The settings of PostgreSQL.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A name that cannot be in every message.
    #[error("the outbox's name is {0:?}; 1 to 100 letters and digits of ASCII and '-', '_', '.' are wanted")]
    Name(String),
}

/// What one turn of a lane came to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Turn {
    /// Rows that were told.
    pub told: u64,
    /// Rows that are tried again.
    pub again: u64,
    /// Rows that are dead.
    pub dead: u64,
}

/// Makes the tables that a relay and inboxes need, beside those of [`crate::key::Postgres::make_tables`].
///
/// # Errors
///
/// [`StoreError::Unavailable`]: what is wrong with the settings or the server.
pub async fn make_tables(config: &str) -> Result<(), StoreError> {
    let client = connect(&parse(config)?).await.map_err(|error| failed(&error))?;
    let make = format!(
        "BEGIN; SELECT pg_advisory_xact_lock(7308327813469073491); {OUTBOX_SCHEMA} {INBOX_SCHEMA} COMMIT"
    );
    client.batch_execute(&make).await.map_err(|error| failed(&error))
}

fn failed(error: &Error) -> StoreError {
    StoreError::Unavailable(words(error))
}

/// The longest that a lane can stand still and keep its partition.
fn lease(rules: &Rules) -> Duration {
    2 * rules.batch_time + Duration::from_secs(5)
}

impl<S: Sink + 'static> Relay<S> {
    /// Of the rows whose subject begins with `prefix` (all, where it is empty), in the database that `config` names. `name`
    /// is the outbox's own: two databases with one stream have two.
    ///
    /// # Errors
    ///
    /// See [`InvalidRelay`].
    pub fn new(config: &str, name: &str, prefix: &str, rules: Rules, sink: S) -> Result<Self, InvalidRelay> {
        let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if !(1..=100).contains(&name.len()) || !name.chars().all(fine) {
            return Err(InvalidRelay::Name(name.to_owned()));
        }
        let pace = Pace {
            bucket: Bucket::new(rules.rate, Instant::now()),
            away_until: None,
            after: None,
        };
        Ok(Self {
            shared: Arc::new(Shared {
                config: parse(config)?,
                name: name.to_owned(),
                prefix: prefix.to_owned(),
                rules,
                sink,
                pace: pace.into(),
            }),
        })
    }

    /// Relays until `stop`, with so many lanes (1 to 16); a turn that has begun is ended first.
    pub async fn run(&self, lanes: usize, stop: impl Future<Output = ()>) {
        let (tell, told) = watch::channel(false);
        let lanes = (0..lanes.clamp(1, LANES_MAX)).map(|_| tokio::spawn(self.clone().lane(told.clone())));
        let lanes: Vec<_> = lanes.collect();
        stop.await;
        _ = tell.send(true);
        for lane in lanes {
            _ = lane.await;
        }
    }

    async fn lane(self, mut stopped: watch::Receiver<bool>) {
        let mut lane = Lane::new(self);
        while !*stopped.borrow() {
            let pause = match lane.turn().await {
                Ok(turn) if turn == Turn::default() => POLL,
                Ok(_) => Duration::ZERO,
                Err(error) => {
                    metrics::counter!("steer_rpc_outbox_errors_total").increment(1);
                    tracing::warn!(%error, "the outbox");
                    Duration::from_secs(1)
                }
            };
            if !pause.is_zero() {
                _ = tokio::time::timeout(pause, stopped.wait_for(|stopped| *stopped)).await;
            }
        }
    }

    /// One turn of a lane of its own: the rows of one partition, if there are any that are due.
    ///
    /// # Errors
    ///
    /// [`StoreError`]: what the server said. What was told and not deleted is told again.
    pub async fn turn(&self) -> Result<Turn, StoreError> {
        Lane::new(self.clone()).turn().await
    }
}

/// A lane with its session.
struct Lane<S> {
    relay: Relay<S>,
    session: Option<Client>,
    rng: SmallRng,
}

/// A row as it was read.
struct Waiting {
    id: i64,
    letter: Letter,
    tries: u32,
    is_due: bool,
}

impl<S: Sink + 'static> Lane<S> {
    fn new(relay: Relay<S>) -> Self {
        Self {
            relay,
            session: None,
            rng: SmallRng::from_rng(&mut rand::rng()),
        }
    }

    fn pace(&self) -> MutexGuard<'_, Pace> {
        let pace = &self.relay.shared.pace;
        pace.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn turn(&mut self) -> Result<Turn, StoreError> {
        let away = self.pace().away_until.is_some_and(|until| Instant::now() < until);
        if away {
            return Ok(Turn::default());
        }
        // One that fails, or is dropped in the midst of something, is closed, and the server takes back what was open.
        let session = match self.session.take().filter(|session| !session.is_closed()) {
            Some(session) => session,
            None => self.connect().await.map_err(|error| failed(&error))?,
        };
        let turn = self.look(&session).await.map_err(|error| failed(&error))?;
        self.session = Some(session);
        Ok(turn)
    }

    async fn connect(&self) -> Result<Client, Error> {
        let session = connect(&self.relay.shared.config).await?;
        let ms = lease(&self.relay.shared.rules).as_millis();
        let setup = format!(
            "SET idle_in_transaction_session_timeout = {ms}; SET statement_timeout = {ms}; \
             SET tcp_user_timeout = {ms}; SET tcp_keepalives_idle = 5; \
             SET default_transaction_isolation = 'read committed'; SET synchronous_commit = on"
        );
        session.batch_execute(&setup).await?;
        Ok(session)
    }

    async fn look(&mut self, session: &Client) -> Result<Turn, Error> {
        let after = self.pace().after.clone();
        let mut found = self.find(session, after.as_deref()).await?;
        if found.is_empty() && after.is_some() {
            found = self.find(session, None).await?;
        }
        for partition in found {
            let turn = self.work(session, &partition).await?;
            self.pace().after = Some(partition);
            if let Some(turn) = turn {
                return Ok(turn);
            }
        }
        Ok(Turn::default())
    }

    async fn find(&self, session: &Client, after: Option<&str>) -> Result<Vec<String>, Error> {
        let prefix = &self.relay.shared.prefix;
        let rows = session.query(FIND, &[&after, prefix, &CANDIDATES]).await?;
        rows.iter().map(|row| row.try_get(0)).collect()
    }

    /// The rows of a partition; nothing where another lane has it.
    async fn work(&mut self, session: &Client, partition: &str) -> Result<Option<Turn>, Error> {
        let shared = self.relay.shared.clone();
        let lock = lock_number(&shared.prefix, partition);
        let batch = i64::from(shared.rules.batch.max(1));
        session.batch_execute("BEGIN").await?;
        let locked = session.query_one(LOCK, &[&lock]).await?;
        if !locked.try_get::<_, bool>(0)? {
            session.batch_execute("ROLLBACK").await?;
            return Ok(None);
        }
        let rows = session.query(ROWS, &[&partition, &shared.prefix, &batch]).await?;
        let rows: Result<Vec<_>, Error> = rows
            .iter()
            .map(|row| waiting(row, &shared.name, partition))
            .collect();
        let turn = self.tell_all(session, rows?).await?;
        session.batch_execute("COMMIT").await?;
        count(turn);
        Ok((turn != Turn::default()).then_some(turn))
    }

    async fn tell_all(&mut self, session: &Client, rows: Vec<Waiting>) -> Result<Turn, Error> {
        let shared = self.relay.shared.clone();
        let (mut turn, mut told) = (Turn::default(), Vec::new());
        let began = Instant::now();
        for row in rows {
            if !row.is_due || began.elapsed() >= shared.rules.batch_time {
                break;
            }
            let outcome = self.tell(&row.letter).await;
            let why = outcome.as_ref().err().map_or("", SinkError::words);
            match next(&outcome, row.tries, &shared.rules, &mut self.rng) {
                Next::Told => told.push(row.id),
                Next::Again { after, tries } => {
                    if matches!(outcome, Err(SinkError::Away(_))) {
                        self.pace().away_until = Some(Instant::now() + after);
                    }
                    tracing::info!(
                        id = row.letter.id,
                        tries,
                        why,
                        "a row of the outbox is tried again"
                    );
                    let (tries, wait) = (i32::try_from(tries).unwrap_or(i32::MAX), after.as_secs_f64());
                    session
                        .execute(AGAIN, &[&row.id, &tries, &wait, &cut(why)])
                        .await?;
                    turn.again += 1;
                    // Those after it wait for it: that is their order.
                    break;
                }
                Next::Dead { tries } => {
                    tracing::warn!(id = row.letter.id, tries, why, "a row of the outbox is dead");
                    let tries = i32::try_from(tries).unwrap_or(i32::MAX);
                    session.execute(DEAD, &[&row.id, &tries, &cut(why)]).await?;
                    turn.dead += 1;
                }
            }
        }
        if !told.is_empty() {
            turn.told = session.execute(TOLD, &[&told]).await?;
        }
        Ok(turn)
    }

    async fn tell(&self, letter: &Letter) -> Result<(), SinkError> {
        let Rules { batch_time, .. } = self.relay.shared.rules;
        let wait = self.pace().bucket.take(Instant::now());
        tokio::time::sleep(wait.min(batch_time)).await;
        let told = tokio::time::timeout(batch_time, self.relay.shared.sink.tell(letter)).await;
        told.unwrap_or_else(|_| Err(SinkError::Failed(format!("it took longer than {batch_time:?}"))))
    }
}

fn waiting(row: &Row, name: &str, partition: &str) -> Result<Waiting, Error> {
    let id: i64 = row.try_get(0)?;
    let payload: Vec<u8> = row.try_get(2)?;
    let tries: i32 = row.try_get(3)?;
    Ok(Waiting {
        id,
        letter: Letter {
            id: format!("{name}-{id}"),
            subject: row.try_get(1)?,
            partition: partition.to_owned(),
            payload: Bytes::from(payload),
        },
        tries: tries.unsigned_abs(),
        is_due: row.try_get(4)?,
    })
}

/// The number of the lock of a partition. Two with the same one only wait for each other.
fn lock_number(prefix: &str, partition: &str) -> i64 {
    let digest = digest(&SHA256, format!("outbox\0{prefix}\0{partition}").as_bytes());
    let mut octets = [0; 8];
    for (octet, of_digest) in octets.iter_mut().zip(digest.as_ref()) {
        *octet = *of_digest;
    }
    i64::from_be_bytes(octets)
}

/// A text that a column takes: not too long, and without the one character that PostgreSQL refuses.
fn cut(why: &str) -> String {
    why.chars().filter(|c| *c != '\0').take(WHY_MAX).collect()
}

fn count(turn: Turn) {
    for (what, rows) in [("told", turn.told), ("again", turn.again), ("dead", turn.dead)] {
        if rows > 0 {
            metrics::counter!("steer_rpc_outbox_rows_total", "what" => what).increment(rows);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_is_cut_to_what_a_column_takes() {
        assert_eq!(cut("a\0b"), "ab");
        assert_eq!(cut(&"\u{e9}".repeat(600)).chars().count(), WHY_MAX);
    }

    #[test]
    fn partitions_and_channels_have_locks_of_their_own() {
        assert_ne!(lock_number("a", "b"), lock_number("a", "c"));
        assert_ne!(lock_number("a", "b"), lock_number("", "b"));
    }
}
