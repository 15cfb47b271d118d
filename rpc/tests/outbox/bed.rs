//! What the battery needs of a sink beyond its trait: to see what came, and to take it away.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use steer_rpc::fate::Backoff;
use steer_rpc::key::Postgres;
use steer_rpc::outbox::{self, Letter, Rate, Relay, Rules, Sink, SinkError};
use tokio_postgres::{Client, NoTls};

use crate::postgres::{self, Cluster};

/// What is waited for at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Something that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Came {
    pub(crate) id: String,
    pub(crate) partition: String,
    pub(crate) payload: String,
}

/// A sink with its other side.
pub(crate) trait Bed: Sized + Send {
    type Sink: Sink + Clone + 'static;

    /// `None` where it cannot be had, after a line that says so.
    fn new(what: &str) -> impl Future<Output = Option<Self>>;
    fn sink(&self) -> Self::Sink;
    /// What came, in its order; what came twice and was known by its id is there once.
    fn came(&self) -> impl Future<Output = Vec<Came>>;
    /// Nobody is there.
    fn go(&mut self) -> impl Future<Output = ()>;
    /// It is back, with all that it had.
    fn come_back(&mut self) -> impl Future<Output = ()>;
}

/// The database of a test, with a session to write and to look.
pub(crate) struct Base {
    pub(crate) config: String,
    pub(crate) client: Client,
    _cluster: Arc<Cluster>,
}

impl Base {
    pub(crate) async fn new(what: &str) -> Option<Self> {
        let cluster = postgres::shared(what)?;
        let config = cluster.database();
        Postgres::make_tables(&config).await.unwrap();
        outbox::make_tables(&config).await.unwrap();
        let (client, connection) = tokio_postgres::connect(&config, NoTls).await.unwrap();
        tokio::spawn(connection);
        Some(Self {
            config,
            client,
            _cluster: cluster,
        })
    }

    /// Rows of some partitions, in turn; the payload is the number within the partition.
    pub(crate) async fn fill(&self, partitions: u32, each: u32) {
        for number in 0..each {
            for partition in 0..partitions {
                self.row(&format!("p{partition}"), &number.to_string()).await;
            }
        }
    }

    pub(crate) async fn row(&self, partition: &str, payload: &str) {
        const INSERT: &str =
            "INSERT INTO steer_outbox (subject, partition, payload) VALUES ('shop.charged', $1, $2)";
        let inserted = self
            .client
            .execute(INSERT, &[&partition, &payload.as_bytes()])
            .await;
        assert_eq!(inserted.unwrap(), 1);
    }

    pub(crate) async fn count(&self, table: &str) -> i64 {
        let question = format!("SELECT count(*) FROM {table}");
        let counted = self.client.query_one(question.as_str(), &[]).await;
        counted.unwrap().get(0)
    }

    pub(crate) fn relay<S: Sink + 'static>(&self, rules: Rules, sink: S) -> Relay<S> {
        Relay::new(&self.config, "shop", "", rules, sink).unwrap()
    }

    /// Relays until nothing is left.
    pub(crate) async fn drain<S: Sink + 'static>(&self, relay: &Relay<S>) {
        let began = Instant::now();
        while self.count("steer_outbox").await > 0 {
            assert!(
                began.elapsed() < PATIENCE,
                "{} rows are left",
                self.count("steer_outbox").await
            );
            relay.turn().await.unwrap();
        }
    }
}

/// Rules under which a test need not wait.
pub(crate) fn rules() -> Rules {
    Rules {
        tries_max: 3,
        backoff: Backoff::new(Duration::from_millis(2), Duration::from_millis(20), 2.0).unwrap(),
        batch: 7,
        rate: Rate::per_second(100_000),
        ..Rules::DEFAULT
    }
}

/// Each partition has all its rows, once, in their order.
pub(crate) fn check(came: &[Came], partitions: u32, each: u32) {
    for partition in 0..partitions {
        let name = format!("p{partition}");
        let numbers: Vec<_> = came.iter().filter(|came| came.partition == name).collect();
        let numbers: Vec<_> = numbers.iter().map(|came| came.payload.clone()).collect();
        let expected: Vec<_> = (0..each).map(|number| number.to_string()).collect();
        assert_eq!(numbers, expected, "{name}");
    }
    assert_eq!(came.len(), (partitions * each) as usize);
}

/// A sink that fails for what a test says, before the real one is asked.
#[derive(Clone)]
pub(crate) struct Poisoned<S> {
    pub(crate) sink: S,
    pub(crate) error: SinkError,
    pub(crate) on: Arc<AtomicBool>,
}

impl<S> Poisoned<S> {
    pub(crate) fn new(sink: S, error: SinkError) -> Self {
        Self {
            sink,
            error,
            on: Arc::new(AtomicBool::new(true)),
        }
    }
}

impl<S: Sink> Sink for Poisoned<S> {
    async fn tell(&self, letter: &Letter) -> Result<(), SinkError> {
        if self.on.load(Ordering::SeqCst) && &letter.payload[..] == b"poison" {
            return Err(self.error.clone());
        }
        self.sink.tell(letter).await
    }
}
