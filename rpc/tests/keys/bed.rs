//! What the battery needs of a store beyond its trait: a ledger to write into, and a way to let time go by.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use redb::{ReadableDatabase, ReadableTable, TableDefinition};
use steer_rpc::key::{
    Answer, Claim, Clock, Embedded, Found, IdempotencyKey, KeyStore, KeyedCall, Memory, Message, Postgres,
    StoreError, Terms,
};

use crate::postgres::{self, Cluster};

/// Effects of the battery are lines of a ledger, in which a line may stand twice if the store lets it.
pub(crate) const LEDGER: TableDefinition<'static, u64, &str> = TableDefinition::new("ledger");

/// The same in SQL: no key, no constraint.
pub(crate) const LEDGER_SQL: &str = "CREATE TABLE IF NOT EXISTS ledger (line text NOT NULL)";

/// A lease that a test can wait for. Long enough that no claim of ours ends by itself on a slow machine.
pub(crate) const LEASE: Duration = Duration::from_millis(1500);

/// What is waited for at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A store with its ledger.
pub(crate) trait Bed: Sized + Sync {
    type Store: KeyStore + Clone + Send + 'static;

    /// An empty one; `None` where it cannot be had, after a line that says so.
    fn new(terms: Terms, what: &str) -> impl Future<Output = Option<Self>>;
    fn store(&self) -> &Self::Store;
    /// Writes a line in the transaction of a claim.
    fn write(claim: &mut ClaimOf<Self>, line: &str) -> impl Future<Output = Result<(), StoreError>> + Send;
    fn ledger(&self) -> impl Future<Output = Vec<String>>;
    fn outbox(&self) -> impl Future<Output = Vec<Message>>;
    /// Lets time go by, where that is for us to say.
    fn pass(&self, time: Duration);
}

pub(crate) type ClaimOf<B> = <<B as Bed>::Store as KeyStore>::Claim;

/// A clock that a test sets.
#[derive(Clone, Default)]
pub(crate) struct Watch(Arc<AtomicU64>);

impl Watch {
    pub(crate) fn clock(&self) -> Clock {
        let ms = self.0.clone();
        Arc::new(move || SystemTime::UNIX_EPOCH + Duration::from_millis(ms.load(Ordering::SeqCst)))
    }

    pub(crate) fn pass(&self, time: Duration) {
        self.0.fetch_add(time.as_millis() as u64, Ordering::SeqCst);
    }
}

pub(crate) struct InMemory {
    store: Memory<String>,
    watch: Watch,
}

impl Bed for InMemory {
    type Store = Memory<String>;

    async fn new(terms: Terms, _: &str) -> Option<Self> {
        let watch = Watch::default();
        let store = Memory::new(terms, watch.clock());
        Some(Self { store, watch })
    }

    fn store(&self) -> &Memory<String> {
        &self.store
    }

    async fn write(claim: &mut ClaimOf<Self>, line: &str) -> Result<(), StoreError> {
        claim.transaction().await?.push(line.to_owned());
        Ok(())
    }

    async fn ledger(&self) -> Vec<String> {
        self.store.effects()
    }

    async fn outbox(&self) -> Vec<Message> {
        self.store.outbox()
    }

    fn pass(&self, time: Duration) {
        self.watch.pass(time);
    }
}

pub(crate) struct InFile {
    store: Embedded,
    watch: Watch,
    _folder: tempfile::TempDir,
}

impl Bed for InFile {
    type Store = Embedded;

    async fn new(terms: Terms, _: &str) -> Option<Self> {
        let folder = tempfile::tempdir().unwrap();
        let watch = Watch::default();
        let store = Embedded::open(&folder.path().join("keys.redb"), terms, watch.clock()).unwrap();
        Some(Self {
            store,
            watch,
            _folder: folder,
        })
    }

    fn store(&self) -> &Embedded {
        &self.store
    }

    async fn write(claim: &mut ClaimOf<Self>, line: &str) -> Result<(), StoreError> {
        let transaction = claim.transaction().await?;
        let mut table = transaction.open_table(LEDGER).unwrap();
        let next = table.last().unwrap().map_or(0, |(number, _)| number.value() + 1);
        table.insert(next, line).unwrap();
        Ok(())
    }

    async fn ledger(&self) -> Vec<String> {
        lines_of_file(&self.store)
    }

    async fn outbox(&self) -> Vec<Message> {
        let rows = self.store.outbox(1000).unwrap();
        rows.into_iter().map(|(_, message)| message).collect()
    }

    fn pass(&self, time: Duration) {
        self.watch.pass(time);
    }
}

pub(crate) fn lines_of_file(store: &Embedded) -> Vec<String> {
    let reading = store.database().begin_read().unwrap();
    let Ok(table) = reading.open_table(LEDGER) else {
        return Vec::new(); // nobody has written a line
    };
    let lines = table.iter().unwrap();
    lines.map(|line| line.unwrap().1.value().to_owned()).collect()
}

pub(crate) struct InPostgres {
    store: Postgres,
    _cluster: Arc<Cluster>,
}

impl Bed for InPostgres {
    type Store = Postgres;

    async fn new(terms: Terms, what: &str) -> Option<Self> {
        let cluster = postgres::shared(what)?;
        let config = cluster.database();
        let store = open(&config, terms).await;
        Some(Self {
            store,
            _cluster: cluster,
        })
    }

    fn store(&self) -> &Postgres {
        &self.store
    }

    async fn write(claim: &mut ClaimOf<Self>, line: &str) -> Result<(), StoreError> {
        write_line(claim, line).await
    }

    async fn ledger(&self) -> Vec<String> {
        lines_of_server(&self.store).await
    }

    async fn outbox(&self) -> Vec<Message> {
        let rows = self.store.outbox(1000).await.unwrap();
        rows.into_iter().map(|(_, message)| message).collect()
    }

    /// The server has a clock of its own; a test waits for it where it asks the store again.
    fn pass(&self, _: Duration) {}
}

pub(crate) async fn write_line(claim: &mut ClaimOf<InPostgres>, line: &str) -> Result<(), StoreError> {
    let client = claim.transaction().await?;
    let written = client.execute("INSERT INTO ledger VALUES ($1)", &[&line]).await;
    written.map_err(|error| StoreError::Unavailable(error.to_string()))?;
    Ok(())
}

/// With the tables made.
pub(crate) async fn open(config: &str, terms: Terms) -> Postgres {
    Postgres::make_tables(config).await.unwrap();
    let store = Postgres::connect(config, 16, terms).await.unwrap();
    let session = store.session().await.unwrap();
    session.as_ref().batch_execute(LEDGER_SQL).await.unwrap();
    store
}

pub(crate) async fn lines_of_server(store: &Postgres) -> Vec<String> {
    let session = store.session().await.unwrap();
    let rows = session
        .as_ref()
        .query("SELECT line FROM ledger", &[])
        .await
        .unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

pub(crate) fn call(key: &str, payload: &str) -> KeyedCall {
    call_of("ana", key, payload)
}

pub(crate) fn call_of(client: &str, key: &str, payload: &str) -> KeyedCall {
    let key = IdempotencyKey::parse(key.as_bytes()).unwrap();
    KeyedCall::new(client, "/pay.Payment/Charge", key, payload.as_bytes()).unwrap()
}

pub(crate) fn message(text: &str) -> Message {
    Message {
        subject: "charged".to_owned(),
        partition: "ana".to_owned(),
        payload: text.as_bytes().to_vec(),
    }
}

/// A claim that must be ours at once.
pub(crate) async fn fresh<S: KeyStore>(store: &S, call: &KeyedCall) -> S::Claim {
    match store.claim(call).await.unwrap() {
        Found::Fresh(claim) => claim,
        Found::InFlight => panic!("{} is in flight", call.key()),
        Found::Answered(_) | Found::OtherPayload => panic!("{} is answered", call.key()),
    }
}

/// Asks until nobody else holds the key.
pub(crate) async fn settled<S: KeyStore>(store: &S, call: &KeyedCall) -> Found<S::Claim> {
    until(|| async {
        match store.claim(call).await {
            Ok(Found::InFlight) | Err(StoreError::Unavailable(_)) => None,
            Ok(found) => Some(found),
            Err(error) => panic!("{error}"),
        }
    })
    .await
}

/// Asks until there is something.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(ask: impl Fn() -> F) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = ask().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "it never came");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub(crate) async fn replayed<S: KeyStore>(store: &S, call: &KeyedCall) -> Answer {
    match store.claim(call).await.unwrap() {
        Found::Answered(answer) => answer,
        Found::Fresh(_) | Found::InFlight | Found::OtherPayload => panic!("{} has no answer", call.key()),
    }
}
