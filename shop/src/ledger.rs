//! What PostgreSQL has of the charges: the one witness beside the journals.

use std::collections::BTreeMap;

use tokio_postgres::{NoTls, Row};

use crate::payment::OPENING;

/// A line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The number that the reply had.
    pub receipt: i64,
    /// The idempotency key.
    pub key: String,
    /// Who paid.
    pub account: String,
    /// Cents.
    pub amount: i64,
}

/// All lines, and what is missing on each account.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ledger {
    /// In order of their numbers.
    pub lines: Vec<Line>,
    /// Cents.
    pub spent: BTreeMap<String, i64>,
}

/// A ledger that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the ledger")]
pub struct LedgerError(#[from] tokio_postgres::Error);

impl Ledger {
    /// Reads it from the database of the shop, as of one moment.
    ///
    /// # Errors
    ///
    /// When the database is not there, or is no shop's.
    pub async fn read(database: &str) -> Result<Self, LedgerError> {
        let (mut sql, connection) = tokio_postgres::connect(database, NoTls).await?;
        let connection = tokio::spawn(connection);
        let moment = sql.build_transaction();
        let moment = moment.isolation_level(tokio_postgres::IsolationLevel::RepeatableRead);
        let moment = moment.read_only(true).start().await?;
        let lines = moment
            .query(
                "SELECT receipt, key, account, amount FROM ledger ORDER BY receipt",
                &[],
            )
            .await?;
        let accounts = moment.query("SELECT name, balance FROM account", &[]).await?;
        moment.commit().await?;
        drop(sql);
        // It has nothing to say any more.
        _ = connection.await;
        Ok(Self {
            lines: lines.iter().map(line).collect::<Result<_, _>>()?,
            spent: accounts.iter().map(spent).collect::<Result<_, _>>()?,
        })
    }
}

fn line(row: &Row) -> Result<Line, tokio_postgres::Error> {
    Ok(Line {
        receipt: row.try_get(0)?,
        key: row.try_get(1)?,
        account: row.try_get(2)?,
        amount: row.try_get(3)?,
    })
}

fn spent(row: &Row) -> Result<(String, i64), tokio_postgres::Error> {
    let balance: i64 = row.try_get(1)?;
    Ok((row.try_get(0)?, OPENING.saturating_sub(balance)))
}
