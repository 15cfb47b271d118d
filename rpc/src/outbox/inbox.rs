//! The inbox of a consumer: what comes twice is done once.

use std::time::Duration;

use tokio_postgres::Client;

use crate::key::StoreError;
use crate::key::words;

/// The table of inboxes.
pub const INBOX_SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS steer_inbox (
    consumer text        NOT NULL,
    message  text        NOT NULL,
    since    timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (consumer, message)
);
CREATE INDEX IF NOT EXISTS steer_inbox_since ON steer_inbox (since);
";

/// The inbox of one consumer.
#[derive(Debug, Clone)]
pub struct Inbox {
    consumer: String,
}

impl Inbox {
    /// Of the consumer with this name. Two processes that do the same have the same name.
    #[must_use]
    pub fn of(consumer: &str) -> Self {
        Self {
            consumer: consumer.to_owned(),
        }
    }

    /// Whether a message is new. To be asked in the transaction that its effect is written in, before it is: then the two
    /// are committed together or not at all. Who asks for the same message at the same time waits until that transaction has ended.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: what the server said.
    pub async fn is_new(&self, transaction: &Client, message: &str) -> Result<bool, StoreError> {
        const INSERT: &str =
            "INSERT INTO steer_inbox (consumer, message) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let inserted = transaction.execute(INSERT, &[&self.consumer, &message]).await;
        let inserted = inserted.map_err(|error| StoreError::Unavailable(words(&error)))?;
        Ok(inserted == 1)
    }

    /// Forgets messages that came longer ago, so many at most, and tells how many they were. A message that comes again after
    /// that is new: keep them longer than any relay goes on trying.
    ///
    /// # Errors
    ///
    /// [`StoreError::Unavailable`]: what the server said.
    pub async fn forget(&self, client: &Client, older: Duration, at_most: u32) -> Result<u64, StoreError> {
        const DELETE: &str = "DELETE FROM steer_inbox WHERE (consumer, message) IN \
            (SELECT consumer, message FROM steer_inbox \
             WHERE consumer = $1 AND since <= clock_timestamp() - $2 * interval '1 second' LIMIT $3)";
        let (seconds, at_most) = (older.as_secs_f64(), i64::from(at_most));
        let deleted = client
            .execute(DELETE, &[&self.consumer, &seconds, &at_most])
            .await;
        deleted.map_err(|error| StoreError::Unavailable(words(&error)))
    }
}
