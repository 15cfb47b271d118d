//! Sessions with a server, each for one claim at a time.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::{Client, Config, Error, NoTls, Statement};

use super::super::StoreError;

/// So long a claim waits for a session at most, where all are in use.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// So long the server may take to let us in.
const CONNECT_MAX: Duration = Duration::from_secs(2);

/// A bounded number of sessions.
pub(super) struct Pool {
    config: Config,
    setup: String,
    sessions: usize,
    permits: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Session>>>,
}

/// A session with its prepared statements.
struct Session {
    client: Client,
    statements: Statements,
}

/// What each claim runs.
#[derive(Clone)]
pub(super) struct Statements {
    pub(super) lock: Statement,
    pub(super) look: Statement,
    pub(super) epoch: Statement,
    pub(super) keep: Statement,
    pub(super) outbox: Statement,
}

impl Statements {
    async fn prepare(client: &Client) -> Result<Self, Error> {
        Ok(Self {
            lock: client.prepare("SELECT pg_try_advisory_xact_lock($1)").await?,
            look: client
                .prepare(
                    "SELECT fingerprint, answer FROM steer_key \
                     WHERE scope = $1 AND key = $2 AND until > clock_timestamp()",
                )
                .await?,
            epoch: client.prepare("SELECT nextval('steer_epoch')").await?,
            keep: client
                .prepare(
                    "INSERT INTO steer_key (scope, key, fingerprint, epoch, answer, until) \
                     VALUES ($1, $2, $3, $4, $5, clock_timestamp() + $6 * interval '1 second') \
                     ON CONFLICT (scope, key) DO UPDATE SET fingerprint = excluded.fingerprint, \
                     epoch = excluded.epoch, answer = excluded.answer, until = excluded.until \
                     WHERE steer_key.until <= clock_timestamp()",
                )
                .await?,
            outbox: client
                .prepare("INSERT INTO steer_outbox (subject, partition, payload) VALUES ($1, $2, $3)")
                .await?,
        })
    }
}

impl Pool {
    pub(super) fn new(config: &str, sessions: usize, lease: Duration) -> Result<Self, StoreError> {
        let config = parse(config)?;
        let ms = lease.as_millis().max(1);
        Ok(Self {
            config,
            // The server ends a session whose process has stopped, and with it the claim.
            setup: format!(
                "SET idle_in_transaction_session_timeout = {ms}; SET statement_timeout = {ms}; \
                 SET tcp_user_timeout = {ms}; SET tcp_keepalives_idle = 5; \
                 SET default_transaction_isolation = 'read committed'; SET synchronous_commit = on"
            ),
            sessions,
            permits: Arc::new(Semaphore::new(sessions)),
            idle: Arc::default(),
        })
    }

    /// A session of one's own.
    pub(super) async fn get(&self) -> Result<Lease, StoreError> {
        let permit = tokio::time::timeout(WAIT_MAX, self.permits.clone().acquire_owned()).await;
        let Ok(Ok(permit)) = permit else {
            metrics::counter!("steer_rpc_key_sessions_busy_total").increment(1);
            return Err(StoreError::Unavailable(format!(
                "all {} sessions with PostgreSQL were in use for {WAIT_MAX:?}",
                self.sessions
            )));
        };
        let idle = self.pop();
        let was_used = idle.is_some();
        let session = match idle {
            Some(session) => session,
            None => self.open().await.map_err(|error| {
                StoreError::Unavailable(format!("no session with PostgreSQL: {}", words(&error)))
            })?,
        };
        Ok(Lease {
            session,
            was_used,
            idle: self.idle.clone(),
            _permit: permit,
        })
    }

    fn pop(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        std::iter::from_fn(|| idle.pop()).find(|session| !session.client.is_closed())
    }

    async fn open(&self) -> Result<Session, Error> {
        let client = connect(&self.config).await?;
        client.batch_execute(&self.setup).await?;
        let statements = Statements::prepare(&client).await?;
        Ok(Session { client, statements })
    }
}

/// Reads the settings of a connection.
pub(crate) fn parse(config: &str) -> Result<Config, StoreError> {
    let wrong =
        |error: Error| StoreError::Unavailable(format!("the settings of PostgreSQL: {}", words(&error)));
    let mut config: Config = config.parse().map_err(wrong)?;
    config.connect_timeout(CONNECT_MAX).application_name("steer");
    Ok(config)
}

/// A connection with a task that drives it.
pub(crate) async fn connect(config: &Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(async move {
        // Whoever uses the client learns of it, too.
        if let Err(error) = connection.await {
            tracing::debug!(error = words(&error), "a session with PostgreSQL ended");
        }
    });
    Ok(client)
}

/// A session in use. One that is dropped is closed, which rolls back what was begun in it.
pub(super) struct Lease {
    session: Session,
    was_used: bool,
    idle: Arc<Mutex<Vec<Session>>>,
    _permit: OwnedSemaphorePermit,
}

impl Lease {
    pub(super) const fn client(&self) -> &Client {
        &self.session.client
    }

    pub(super) const fn client_mut(&mut self) -> &mut Client {
        &mut self.session.client
    }

    pub(super) const fn statements(&self) -> &Statements {
        &self.session.statements
    }

    /// Whether it comes from before, so that its server may have gone since.
    pub(super) const fn was_used(&self) -> bool {
        self.was_used
    }

    /// Nothing is open in it: the next one may have it.
    pub(super) fn give_back(self) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        idle.push(self.session);
    }

    /// Takes back what is open in it. A session that cannot is closed.
    pub(super) async fn roll_back(self) {
        if self.client().batch_execute("ROLLBACK").await.is_ok() {
            self.give_back();
        }
    }
}

impl AsRef<Client> for Lease {
    fn as_ref(&self) -> &Client {
        self.client()
    }
}

/// What the server said, or else what the network did; the library's own text is "db error" alone.
pub(crate) fn words(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) => format!("{} ({})", said.message(), said.code().code()),
        None => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            text
        }
    }
}
