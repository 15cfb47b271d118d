//! `embedded`: a redb file, for one edge or service. One process has it open at a time, which the file's lock sees to.
//!
//! Claims are in memory only: they end with the process, and nobody else can have the file before it has. What is
//! durable is one transaction per call, with effect, answer and outbox rows.
//!
//! redb has one writer at a time. So a handler should compute first and take its transaction last.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use serde::{Deserialize, Serialize};

use super::claims::{Claims, Held};
use super::id::Fingerprint;
use super::store::{Claim, Clock, Epoch, Found, KeyStore, Message, StoreError, Terms};
use super::{Answer, KeyedCall, Standing};

/// By scope and key: until when (milliseconds since 1970), fingerprint, answer.
type Row = (u64, [u8; 32], &'static [u8]);
const ANSWERS: TableDefinition<'static, (&str, &str), Row> = TableDefinition::new("steer_answers");

/// By number, a [`Message`] in JSON.
const OUTBOX: TableDefinition<'static, u64, &[u8]> = TableDefinition::new("steer_outbox");

/// How often the file was opened; the upper half of an epoch.
const OPENED: TableDefinition<'static, (), u64> = TableDefinition::new("steer_opened");

/// The library's own default is 1 GiB.
const CACHE_BYTES: usize = 16 << 20;

/// An open file. Clones are the same.
#[derive(Clone)]
pub struct Embedded {
    inner: Arc<Inner>,
}

struct Inner {
    database: Database,
    claims: Mutex<Claims>,
    terms: Terms,
    clock: Clock,
}

impl fmt::Debug for Embedded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embedded").finish_non_exhaustive()
    }
}

/// An outbox row on disk.
#[derive(Serialize, Deserialize)]
struct StoredMessage {
    subject: String,
    partition: String,
    payload: Vec<u8>,
}

impl From<Message> for StoredMessage {
    fn from(message: Message) -> Self {
        let Message {
            subject,
            partition,
            payload,
        } = message;
        Self {
            subject,
            partition,
            payload,
        }
    }
}

impl From<StoredMessage> for Message {
    fn from(stored: StoredMessage) -> Self {
        let StoredMessage {
            subject,
            partition,
            payload,
        } = stored;
        Self {
            subject,
            partition,
            payload,
        }
    }
}

fn failed(error: impl Into<redb::Error>) -> StoreError {
    StoreError::Unavailable(format!("the store of keys: {}", error.into()))
}

impl Embedded {
    /// Opens or makes the file. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`] with what is wrong with the file; that another process has it open, for one.
    pub fn open(file: &Path, terms: Terms, clock: Clock) -> Result<Self, StoreError> {
        let mut builder = Database::builder();
        builder.set_cache_size(CACHE_BYTES);
        let database = builder
            .create(file)
            .map_err(|error| StoreError::Unavailable(format!("{}: {error}", file.display())))?;
        let opened = open_tables(&database).map_err(failed)?;
        let inner = Inner {
            database,
            claims: Mutex::new(Claims::new(terms.lease, Epoch(opened << 32))),
            terms,
            clock,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// What the file holds beside the keys: for reading effects.
    #[must_use]
    pub fn database(&self) -> &Database {
        &self.inner.database
    }

    /// Outbox rows that are committed and not [done](Embedded::told), the oldest first, so many at most. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub fn outbox(&self, at_most: usize) -> Result<Vec<(u64, Message)>, StoreError> {
        let reading = self.inner.database.begin_read().map_err(failed)?;
        let table = reading.open_table(OUTBOX).map_err(failed)?;
        let mut messages = Vec::new();
        for row in table.iter().map_err(failed)?.take(at_most) {
            let (number, stored) = row.map_err(failed)?;
            let stored: StoredMessage = serde_json::from_slice(stored.value()).map_err(|error| {
                StoreError::Unavailable(format!("row {} of the outbox: {error}", number.value()))
            })?;
            messages.push((number.value(), stored.into()));
        }
        Ok(messages)
    }

    /// Outbox rows that were told and are no longer needed. Blocks.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`].
    pub fn told(&self, numbers: &[u64]) -> Result<(), StoreError> {
        let writing = self.inner.database.begin_write().map_err(failed)?;
        {
            let mut table = writing.open_table(OUTBOX).map_err(failed)?;
            for number in numbers {
                table.remove(number).map_err(failed)?;
            }
        }
        writing.commit().map_err(failed)
    }

    /// Runs on a thread that may block.
    async fn blocking<T: Send + 'static>(
        &self,
        what: impl FnOnce(&Inner) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let inner = self.inner.clone();
        match tokio::task::spawn_blocking(move || what(&inner)).await {
            Ok(done) => done,
            // Only while the runtime ends; a commit may have been under way.
            Err(error) => Err(StoreError::InDoubt(error.to_string())),
        }
    }
}

/// Makes the tables, and counts this opening.
fn open_tables(database: &Database) -> Result<u64, redb::Error> {
    let writing = database.begin_write()?;
    let opened = {
        writing.open_table(ANSWERS)?;
        writing.open_table(OUTBOX)?;
        let mut table = writing.open_table(OPENED)?;
        let before = table.get(())?.map_or(0, |count| count.value());
        table.insert((), before + 1)?;
        before + 1
    };
    writing.commit()?;
    Ok(opened)
}

impl Inner {
    fn claims(&self) -> MutexGuard<'_, Claims> {
        self.claims.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks a key up that nobody holds but us.
    fn look(&self, call: &KeyedCall) -> Result<Option<Found<()>>, StoreError> {
        let reading = self.database.begin_read().map_err(failed)?;
        let table = reading.open_table(ANSWERS).map_err(failed)?;
        let row = table
            .get((call.scope.as_str(), call.key.as_str()))
            .map_err(failed)?;
        let Some(row) = row else {
            return Ok(None);
        };
        let (until, fingerprint, octets) = row.value();
        let kept = Some((from_ms(until), Fingerprint(fingerprint)));
        match Standing::of(kept, call.fingerprint, (self.clock)()) {
            Standing::Unknown => Ok(None),
            Standing::Other => Ok(Some(Found::OtherPayload)),
            Standing::Same => {
                let answer = Answer::from_bytes(octets);
                let answer = answer.map_err(|error| StoreError::Unavailable(error.to_string()))?;
                Ok(Some(Found::Answered(answer)))
            }
        }
    }

    fn expire(&self, at_most: u32) -> Result<u64, StoreError> {
        let now = to_ms((self.clock)());
        let writing = self.database.begin_write().map_err(failed)?;
        let count = {
            let mut table = writing.open_table(ANSWERS).map_err(failed)?;
            let mut left = at_most;
            let over = table
                .extract_if(|_, (until, ..)| {
                    let take = until <= now && left > 0;
                    left -= u32::from(take);
                    take
                })
                .map_err(failed)?;
            let mut count = 0;
            for row in over {
                row.map_err(failed)?;
                count += 1;
            }
            count
        };
        writing.commit().map_err(failed)?;
        Ok(count)
    }
}

fn to_ms(at: SystemTime) -> u64 {
    let since = at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

fn from_ms(ms: u64) -> SystemTime {
    let moment = SystemTime::UNIX_EPOCH.checked_add(Duration::from_millis(ms));
    moment.unwrap_or(SystemTime::UNIX_EPOCH)
}

impl KeyStore for Embedded {
    type Claim = EmbeddedClaim;

    async fn claim(&self, call: &KeyedCall) -> Result<Found<EmbeddedClaim>, StoreError> {
        let taken = self.inner.claims().take(call.place(), (self.inner.clock)());
        let Some(held) = taken else {
            return Ok(Found::InFlight);
        };
        // From here on it is given back when it is dropped.
        let claim = EmbeddedClaim {
            store: self.clone(),
            call: call.clone(),
            held,
            writing: None,
        };
        let call = call.clone();
        Ok(match self.blocking(move |inner| inner.look(&call)).await? {
            None => Found::Fresh(claim),
            Some(Found::Fresh(()) | Found::InFlight) => Found::InFlight,
            Some(Found::Answered(answer)) => Found::Answered(answer),
            Some(Found::OtherPayload) => Found::OtherPayload,
        })
    }

    async fn expire(&self, at_most: u32) -> Result<u64, StoreError> {
        self.blocking(move |inner| inner.expire(at_most)).await
    }
}

/// A claim. Its transaction is one of redb, in which the effect is written; the only one that writes, while it is open.
pub struct EmbeddedClaim {
    store: Embedded,
    call: KeyedCall,
    held: Held,
    writing: Option<WriteTransaction>,
}

impl fmt::Debug for EmbeddedClaim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EmbeddedClaim")
            .field("held", &self.held)
            .finish_non_exhaustive()
    }
}

impl EmbeddedClaim {
    /// Begins to write, unless the claim has ended.
    async fn begin(&mut self) -> Result<WriteTransaction, StoreError> {
        if let Some(writing) = self.writing.take() {
            return Ok(writing);
        }
        self.store
            .blocking(|inner| inner.database.begin_write().map_err(failed))
            .await
    }
}

impl Claim for EmbeddedClaim {
    type Transaction = WriteTransaction;

    fn epoch(&self) -> Epoch {
        self.held.epoch
    }

    async fn transaction(&mut self) -> Result<&mut WriteTransaction, StoreError> {
        let writing = self.begin().await?;
        Ok(self.writing.insert(writing))
    }

    async fn commit(mut self, answer: &Answer, outbox: &[Message]) -> Result<(), StoreError> {
        let writing = self.begin().await?;
        let (call, held) = (self.call.clone(), self.held.clone());
        let (answer, outbox) = (answer.to_bytes(), outbox.to_vec());
        let committing = move |inner: &Inner| {
            if !inner.claims().stands(&held) {
                return Err(StoreError::Fenced(held.epoch));
            }
            write(inner, &writing, &call, held.epoch, &answer, &outbox)?;
            // Gap: redb does not tell a commit that failed from one that failed after it was durable.
            writing
                .commit()
                .map_err(|error| StoreError::InDoubt(error.to_string()))
        };
        self.store.blocking(committing).await
    }

    async fn release(self) {}
}

fn write(
    inner: &Inner,
    writing: &WriteTransaction,
    call: &KeyedCall,
    epoch: Epoch,
    answer: &[u8],
    outbox: &[Message],
) -> Result<(), StoreError> {
    let now = (inner.clock)();
    let until = to_ms(now + inner.terms.keep);
    let mut answers = writing.open_table(ANSWERS).map_err(failed)?;
    let place = (call.scope.as_str(), call.key.as_str());
    // The key may have been taken from one whose lease ended while it was committing. There is one writer at a time, so
    // its answer is seen here if it came through.
    let there = answers
        .get(place)
        .map_err(failed)?
        .map(|row| from_ms(row.value().0));
    if there.is_some_and(|until| now < until) {
        return Err(StoreError::Fenced(epoch));
    }
    answers
        .insert(place, (until, call.fingerprint.0, answer))
        .map_err(failed)?;
    let mut table = writing.open_table(OUTBOX).map_err(failed)?;
    let last = table.last().map_err(failed)?.map(|(number, _)| number.value());
    let first = last.map_or(0, |last| last + 1);
    for (number, message) in (first..).zip(outbox) {
        let stored = StoredMessage::from(message.clone());
        let stored = serde_json::to_vec(&stored)
            .map_err(|error| StoreError::Unavailable(format!("a message of the outbox: {error}")))?;
        table.insert(number, stored.as_slice()).map_err(failed)?;
    }
    Ok(())
}

impl Drop for EmbeddedClaim {
    fn drop(&mut self) {
        self.store.inner.claims().end(&self.held);
    }
}

#[cfg(test)]
mod tests {
    use super::super::{IdempotencyKey, system_clock};
    use super::*;

    #[tokio::test]
    async fn who_took_the_key_of_one_that_was_committing_finds_its_answer_before_committing() {
        let folder = tempfile::tempdir().unwrap();
        let store =
            Embedded::open(&folder.path().join("keys.redb"), Terms::default(), system_clock()).unwrap();
        let key = IdempotencyKey::parse(b"k").unwrap();
        let call = KeyedCall::new("me", "/x", key, b"p").unwrap();
        let Found::Fresh(late) = store.claim(&call).await.unwrap() else {
            panic!("the key is fresh");
        };
        // The first has passed its check, and commits while the second already holds the key.
        let writing = store.inner.database.begin_write().unwrap();
        let answer = Answer::ok("first");
        write(&store.inner, &writing, &call, Epoch(1), &answer.to_bytes(), &[]).unwrap();
        writing.commit().unwrap();
        let fenced = StoreError::Fenced(late.epoch());
        assert_eq!(late.commit(&Answer::ok("second"), &[]).await, Err(fenced));
        let found = store.claim(&call).await.unwrap();
        assert!(matches!(found, Found::Answered(kept) if kept == answer));
    }

    #[tokio::test]
    async fn a_second_process_is_refused_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("keys.redb");
        let first = Embedded::open(&file, Terms::default(), system_clock()).unwrap();
        let error = Embedded::open(&file, Terms::default(), system_clock()).unwrap_err();
        assert!(error.to_string().contains("keys.redb"), "{error}");
        drop(first);
        Embedded::open(&file, Terms::default(), system_clock()).unwrap();
    }
}
