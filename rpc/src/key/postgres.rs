//! PostgreSQL: the store of a fleet. Claim, effect, answer and outbox rows are one transaction.
//!
//! ```text
//! BEGIN; try the key's advisory lock; look for an answer; take an epoch     claim       (one round trip)
//! the handler's statements                                                  effect
//! INSERT the key with its answer; INSERT the outbox rows                    answer
//! COMMIT                                                                    all or nothing
//! ```
//!
//! A claim lives in its session. When the process ends, the server sees its socket close and rolls back, so the key is
//! free at once. When the process stands still, or its host is gone without a word, the server ends the session after
//! the lease (`idle_in_transaction_session_timeout`, `statement_timeout`, `tcp_user_timeout`); whoever wakes up then has
//! no session left to commit in. So the fence is the server's, and the primary key is the last word: of two that insert
//! the same key one fails, with its effect.
//!
//! Gap: connections are not encrypted; use a Unix socket, the loopback or a network that is.

pub(crate) mod pool;

use std::fmt;
use std::sync::Arc;

use futures_util::future::try_join_all;
use ring::digest::{SHA256, digest};
use tokio_postgres::error::SqlState;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Error, Row};

use super::id::Fingerprint;
use super::store::{Claim, Epoch, Found, KeyStore, Message, StoreError, Terms};
use super::{Answer, KeyedCall};
use pool::{Lease, Pool};

/// The tables. `steer_epoch` is a sequence, which a rollback does not set back.
pub const SCHEMA: &str = "
CREATE SEQUENCE IF NOT EXISTS steer_epoch;
CREATE TABLE IF NOT EXISTS steer_key (
    scope       text        NOT NULL,
    key         text        NOT NULL,
    fingerprint bytea       NOT NULL,
    epoch       bigint      NOT NULL,
    answer      bytea       NOT NULL,
    until       timestamptz NOT NULL,
    PRIMARY KEY (scope, key)
);
CREATE INDEX IF NOT EXISTS steer_key_until ON steer_key (until);
CREATE TABLE IF NOT EXISTS steer_outbox (
    id        bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    subject   text        NOT NULL,
    partition text        NOT NULL,
    payload   bytea       NOT NULL,
    since     timestamptz NOT NULL DEFAULT clock_timestamp()
);
";

/// Two services that make the tables at the same time would stumble over each other.
const SCHEMA_LOCK: &str = "SELECT pg_advisory_xact_lock(7308327813469073490)";

/// A pool of sessions. Clones are the same.
#[derive(Clone)]
pub struct Postgres {
    pool: Arc<Pool>,
    terms: Terms,
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Postgres").finish_non_exhaustive()
    }
}

fn failed(error: &Error) -> StoreError {
    StoreError::Unavailable(pool::words(error))
}

impl Postgres {
    /// Makes the tables that are missing, in the database that `config` names. Needs the right to create them, which the
    /// service itself can do without.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: what is wrong with the configuration or the server.
    pub async fn make_tables(config: &str) -> Result<(), StoreError> {
        let config = pool::parse(config)?;
        let client = pool::connect(&config).await.map_err(|error| failed(&error))?;
        let make = format!("BEGIN; {SCHEMA_LOCK}; {SCHEMA} COMMIT");
        client.batch_execute(&make).await.map_err(|error| failed(&error))
    }

    /// At most so many sessions with the server that `config` names (`host=/run/postgresql user=pay dbname=pay`), which
    /// has the tables of [`SCHEMA`]. Opens the first one, to see that it can.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: what is wrong with the configuration or the server.
    pub async fn connect(config: &str, sessions: usize, terms: Terms) -> Result<Self, StoreError> {
        let store = Self {
            pool: Arc::new(Pool::new(config, sessions, terms.lease)?),
            terms,
        };
        store.pool.get().await?.give_back();
        Ok(store)
    }

    /// A session outside of any claim, for reading.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn session(&self) -> Result<impl AsRef<Client> + Send + use<>, StoreError> {
        self.pool.get().await
    }

    /// Outbox rows that are committed and not [told](Postgres::told), the oldest first, so many at most.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn outbox(&self, at_most: u32) -> Result<Vec<(i64, Message)>, StoreError> {
        // By what is there and not by a last number: numbers are drawn before the commit, so a smaller one may come later.
        const ROWS: &str = "SELECT id, subject, partition, payload FROM steer_outbox ORDER BY id LIMIT $1";
        let lease = self.pool.get().await?;
        let rows = lease.client().query(ROWS, &[&i64::from(at_most)]).await;
        let rows = rows.map_err(|error| failed(&error))?;
        lease.give_back();
        rows.iter().map(message).collect()
    }

    /// Outbox rows that were told and are no longer needed.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub async fn told(&self, numbers: &[i64]) -> Result<(), StoreError> {
        const DELETE: &str = "DELETE FROM steer_outbox WHERE id = ANY($1)";
        let lease = self.pool.get().await?;
        let deleted = lease.client().execute(DELETE, &[&numbers]).await;
        deleted.map_err(|error| failed(&error))?;
        lease.give_back();
        Ok(())
    }
}

fn message(row: &Row) -> Result<(i64, Message), StoreError> {
    let read = || -> Result<_, Error> {
        let message = Message {
            subject: row.try_get(1)?,
            partition: row.try_get(2)?,
            payload: row.try_get(3)?,
        };
        Ok((row.try_get(0)?, message))
    };
    read().map_err(|error| failed(&error))
}

/// The number of a key's advisory lock. Two keys with the same one only wait for each other.
fn lock_number(call: &KeyedCall) -> i64 {
    let digest = digest(&SHA256, format!("{}\0{}", call.scope, call.key).as_bytes());
    let mut octets = [0; 8];
    for (octet, of_digest) in octets.iter_mut().zip(digest.as_ref()) {
        *octet = *of_digest;
    }
    i64::from_be_bytes(octets)
}

impl KeyStore for Postgres {
    type Claim = PostgresClaim;

    async fn claim(&self, call: &KeyedCall) -> Result<Found<PostgresClaim>, StoreError> {
        loop {
            let lease = self.pool.get().await?;
            match begin(&lease, call).await {
                Ok(Begun::Fresh(epoch)) => {
                    return Ok(Found::Fresh(PostgresClaim {
                        lease,
                        call: call.clone(),
                        epoch,
                        terms: self.terms,
                    }));
                }
                Ok(Begun::InFlight) => {
                    lease.roll_back().await;
                    return Ok(Found::InFlight);
                }
                Ok(Begun::OtherPayload) => {
                    lease.roll_back().await;
                    return Ok(Found::OtherPayload);
                }
                Ok(Begun::Answered(octets)) => {
                    lease.roll_back().await;
                    let answer = Answer::from_bytes(&octets);
                    let answer = answer.map_err(|error| StoreError::Unavailable(error.to_string()));
                    return answer.map(Found::Answered);
                }
                // A session from before the server began anew; a new one will tell whether there is a server.
                Err(_) if lease.was_used() && lease.client().is_closed() => {}
                Err(error) => return Err(failed(&error)),
            }
        }
    }

    async fn expire(&self, at_most: u32) -> Result<u64, StoreError> {
        const DELETE: &str = "DELETE FROM steer_key WHERE ctid IN \
            (SELECT ctid FROM steer_key WHERE until <= clock_timestamp() LIMIT $1 FOR UPDATE SKIP LOCKED)";
        let lease = self.pool.get().await?;
        let deleted = lease.client().execute(DELETE, &[&i64::from(at_most)]).await;
        let deleted = deleted.map_err(|error| failed(&error))?;
        lease.give_back();
        Ok(deleted)
    }
}

/// What the first round trip came to.
enum Begun {
    Fresh(Epoch),
    InFlight,
    OtherPayload,
    Answered(Vec<u8>),
}

async fn begin(lease: &Lease, call: &KeyedCall) -> Result<Begun, Error> {
    let client = lease.client();
    let statements = lease.statements();
    let number = lock_number(call);
    let (lock, key): ([&(dyn ToSql + Sync); 1], [&(dyn ToSql + Sync); 2]) =
        ([&number], [&call.scope, &call.key.as_str()]);
    // One after the other in one round trip. Each statement sees what was committed before it began, so the look-up sees
    // the answer of whoever held the lock before.
    let (_, locked, kept, epoch) = futures_util::try_join!(
        client.batch_execute("BEGIN"),
        client.query_one(&statements.lock, &lock),
        client.query_opt(&statements.look, &key),
        client.query_one(&statements.epoch, &[]),
    )?;
    if !locked.try_get::<_, bool>(0)? {
        return Ok(Begun::InFlight);
    }
    let Some(kept) = kept else {
        let epoch: i64 = epoch.try_get(0)?;
        return Ok(Begun::Fresh(Epoch(epoch.unsigned_abs())));
    };
    let fingerprint: &[u8] = kept.try_get(0)?;
    if fingerprint != call.fingerprint.0 {
        return Ok(Begun::OtherPayload);
    }
    Ok(Begun::Answered(kept.try_get(1)?))
}

/// A claim. Its transaction is the session's: whatever is done with the client is in it. It must not be ended there.
pub struct PostgresClaim {
    lease: Lease,
    call: KeyedCall,
    epoch: Epoch,
    terms: Terms,
}

impl fmt::Debug for PostgresClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresClaim")
            .field("epoch", &self.epoch)
            .finish_non_exhaustive()
    }
}

impl PostgresClaim {
    /// An error before the commit. Where the session is gone, the server has rolled back, and the claim has ended with it.
    fn before_commit(&self, error: &Error) -> StoreError {
        let is_over = error
            .code()
            .is_some_and(|code| *code == SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT);
        if is_over || self.lease.client().is_closed() {
            StoreError::Fenced(self.epoch)
        } else {
            failed(error)
        }
    }

    async fn write(&self, answer: &Answer, outbox: &[Message]) -> Result<(), StoreError> {
        let client = self.lease.client();
        let statements = self.lease.statements();
        let Fingerprint(fingerprint) = self.call.fingerprint;
        let epoch = i64::try_from(self.epoch.0).unwrap_or(i64::MAX);
        let keep = self.terms.keep.as_secs_f64();
        let (octets, key) = (answer.to_bytes(), self.call.key.as_str());
        let row: [&(dyn ToSql + Sync); 6] =
            [&self.call.scope, &key, &&fingerprint[..], &epoch, &octets, &keep];
        let message = async |message: &Message| {
            let Message {
                subject,
                partition,
                payload,
            } = message;
            client
                .execute(&statements.outbox, &[subject, partition, payload])
                .await
        };
        let written = async {
            let written = client.execute(&statements.keep, &row).await?;
            try_join_all(outbox.iter().map(message)).await?;
            Ok(written)
        };
        let written = written.await.map_err(|error| self.before_commit(&error))?;
        // Another's answer was there: the advisory lock was not ours alone. The primary key is the last word.
        if written == 1 {
            Ok(())
        } else {
            Err(StoreError::Fenced(self.epoch))
        }
    }
}

impl Claim for PostgresClaim {
    type Transaction = Client;

    fn epoch(&self) -> Epoch {
        self.epoch
    }

    async fn transaction(&mut self) -> Result<&mut Client, StoreError> {
        if self.lease.client().is_closed() {
            return Err(StoreError::Fenced(self.epoch));
        }
        Ok(self.lease.client_mut())
    }

    async fn commit(self, answer: &Answer, outbox: &[Message]) -> Result<(), StoreError> {
        // The session of one that fails here is closed with it, and so rolled back.
        self.write(answer, outbox).await?;
        match self.lease.client().batch_execute("COMMIT").await {
            Ok(()) => {
                self.lease.give_back();
                Ok(())
            }
            Err(error) => Err(at_commit(&error)),
        }
    }

    async fn release(self) {
        self.lease.roll_back().await;
    }
}

/// An error in answer to COMMIT. The server's own errors say that it rolled back; that it is going down, or that nothing
/// came at all, says nothing.
fn at_commit(error: &Error) -> StoreError {
    // Class 57: operator intervention.
    let is_word = error.code().is_some_and(|code| !code.code().starts_with("57"));
    if is_word {
        failed(error)
    } else {
        StoreError::InDoubt(pool::words(error))
    }
}
