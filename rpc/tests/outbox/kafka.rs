//! Topics of a real broker, and what is Kafka's own: keys, records that are too large, brokers that are killed or say nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use rskafka::BackoffConfig;
use rskafka::client::error::{Error, ProtocolError};
use rskafka::client::partition::{OffsetAt, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder};
use rskafka::record::Record;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use steer_rpc::outbox::{Inbox, Kafka, Letter, Rate, Rules, Sink, SinkError};
use tokio::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use crate::bed::{Base, Bed, Came, PATIENCE, check, rules};
use crate::broker::{self, Broker};

/// Partitions of each topic.
const PARTITIONS: i32 = 3;

/// What one letter may take.
const WAIT: Duration = Duration::from_secs(3);

/// Who takes the broker away waits until nobody else is at it.
static USE: RwLock<()> = RwLock::const_new(());

/// A topic of its own at the shared broker.
pub(crate) struct InKafka {
    broker: &'static Broker,
    topic: String,
    sink: Kafka,
    together: Option<RwLockReadGuard<'static, ()>>,
    alone: Option<RwLockWriteGuard<'static, ()>>,
}

async fn client(address: &str) -> Result<Client, Error> {
    let patience = BackoffConfig {
        deadline: Some(Duration::from_secs(1)),
        ..BackoffConfig::default()
    };
    ClientBuilder::new(vec![address.to_owned()])
        .backoff_config(patience)
        .build()
        .await
}

/// Asks until it is answered.
async fn until_ok<T, F: Future<Output = Result<T, Error>>>(ask: impl Fn() -> F) -> T {
    let began = Instant::now();
    loop {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

async fn until(what: &str, is: impl AsyncFn() -> bool) {
    let began = Instant::now();
    while !is().await {
        assert!(began.elapsed() < PATIENCE, "{what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl InKafka {
    async fn make_topic(&self) -> Result<(), Error> {
        let controller = client(&self.broker.address()).await?.controller_client()?;
        match controller.create_topic(&self.topic, PARTITIONS, 1, 5000).await {
            // An answer of before was lost.
            Err(Error::ServerError {
                protocol_error: ProtocolError::TopicAlreadyExists,
                ..
            }) => Ok(()),
            made => made,
        }
    }

    /// Waits until nobody else is at the broker.
    async fn alone(&mut self) {
        if self.alone.is_none() {
            self.together = None;
            self.alone = Some(USE.write().await);
        }
    }

    /// What each partition has, with all that is there twice.
    async fn partitions(&self) -> Result<Vec<Vec<Record>>, Error> {
        let client = client(&self.broker.address()).await?;
        let mut partitions = Vec::new();
        for number in 0..PARTITIONS {
            let one = client.partition_client(&self.topic, number, UnknownTopicHandling::Error);
            let (one, mut records) = (one.await?, Vec::new());
            let end = one.get_offset(OffsetAt::Latest).await?;
            while i64::try_from(records.len()).unwrap() < end {
                let from = i64::try_from(records.len()).unwrap();
                let (more, _) = one.fetch_records(from, 1..1_000_000, 1000).await?;
                records.extend(more.into_iter().map(|more| more.record));
            }
            partitions.push(records);
        }
        Ok(partitions)
    }

    fn letter(number: u32, partition: &str) -> Letter {
        Letter {
            id: format!("shop-{number}"),
            subject: "shop.charged".to_owned(),
            partition: partition.to_owned(),
            payload: Bytes::from(number.to_string()),
        }
    }
}

fn text(octets: Option<&Vec<u8>>) -> String {
    String::from_utf8(octets.unwrap().clone()).unwrap()
}

/// All partitions as one, each in its order, by the time of their records.
fn merge(partitions: Vec<Vec<Record>>) -> Vec<Record> {
    let mut queues: Vec<_> = partitions
        .into_iter()
        .map(|records| records.into_iter().peekable())
        .collect();
    let mut merged = Vec::new();
    loop {
        let heads = queues
            .iter_mut()
            .filter_map(|queue| Some((queue.peek()?.timestamp, queue)));
        let Some((_, earliest)) = heads.min_by_key(|(at, _)| *at) else {
            return merged;
        };
        merged.extend(earliest.next());
    }
}

impl Bed for InKafka {
    type Sink = Kafka;

    async fn new(what: &str) -> Option<Self> {
        let together = USE.read().await;
        let broker = broker::shared(what)?;
        static TOPICS: AtomicU32 = AtomicU32::new(0);
        let topic = format!("outbox-{}", TOPICS.fetch_add(1, Ordering::Relaxed));
        let bed = Self {
            broker,
            sink: Kafka::new(&[&broker.address()], &topic, WAIT).unwrap(),
            topic,
            together: Some(together),
            alone: None,
        };
        until_ok(|| bed.make_topic()).await;
        until_ok(|| bed.partitions()).await;
        Some(bed)
    }

    fn sink(&self) -> Kafka {
        self.sink.clone()
    }

    async fn came(&self) -> Vec<Came> {
        let mut known = BTreeSet::new();
        let records = merge(self.partitions().await.unwrap()).into_iter();
        let came = records.map(|record| Came {
            id: text(record.headers.get("steer-id")),
            partition: text(record.key.as_ref()),
            payload: text(record.value.as_ref()),
        });
        came.filter(|came| known.insert(came.id.clone())).collect()
    }

    async fn go(&mut self) {
        self.alone().await;
        self.broker.kill();
    }

    async fn come_back(&mut self) {
        self.broker.start();
        until_ok(|| self.partitions()).await;
        self.alone = None;
        self.together = Some(USE.read().await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_broker_that_is_killed_midway_costs_no_row_a_try_and_no_row_is_lost() {
    let what = "a broker that is killed midway";
    let (Some(base), Some(mut bed)) = (Base::new(what).await, InKafka::new(what).await) else {
        return;
    };
    bed.alone().await;
    base.fill(4, 100).await;
    let slow = Rules {
        rate: Rate::per_second(200),
        ..rules()
    };
    let relay = base.relay(slow, bed.sink());
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(async move { relay.run(2, async { _ = stopped.await }).await });
    until("some are told", async || base.count("steer_outbox").await <= 300).await;
    bed.go().await;
    until("one is tried again", async || {
        base.count("steer_outbox_try").await > 0
    })
    .await;
    println!(
        "{} of 400 rows were left when the broker was gone",
        base.count("steer_outbox").await
    );
    bed.come_back().await;
    until("all are told", async || {
        let counted = base
            .client
            .query("SELECT 1 FROM steer_outbox_try WHERE tries > 0", &[]);
        assert!(counted.await.unwrap().is_empty());
        base.count("steer_outbox").await == 0
    })
    .await;
    stop.send(()).unwrap();
    running.await.unwrap();
    check(&bed.came().await, 4, 100);
    assert_eq!(base.count("steer_outbox_dead").await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_row_that_is_too_large_for_the_broker_is_dead_at_once_and_its_partition_goes_on() {
    let what = "a row that is too large";
    let (Some(base), Some(bed)) = (Base::new(what).await, InKafka::new(what).await) else {
        return;
    };
    base.row("p0", "0").await;
    base.row("p0", &"x".repeat(1_500_000)).await;
    base.row("p0", "1").await;
    let turn = base.relay(rules(), bed.sink()).turn().await.unwrap();
    assert_eq!((turn.told, turn.again, turn.dead), (2, 0, 1));
    check(&bed.came().await, 1, 2);
    let dead = base
        .client
        .query_one("SELECT tries, why FROM steer_outbox_dead", &[]);
    let dead = dead.await.unwrap();
    assert_eq!(dead.get::<_, i32>(0), 1);
    let why: &str = dead.get(1);
    assert!(why.contains("MessageTooLarge"), "{why}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_with_an_inbox_does_once_what_is_in_the_topic_twice() {
    let what = "a consumer of Kafka";
    let (Some(base), Some(bed)) = (Base::new(what).await, InKafka::new(what).await) else {
        return;
    };
    // As a relay does that dies before its transaction is committed, and the one after it.
    for _ in 0..2 {
        for number in 0..6 {
            let letter = InKafka::letter(number, &format!("p{}", number % 2));
            bed.sink().tell(&letter).await.unwrap();
        }
    }
    let records = merge(bed.partitions().await.unwrap());
    assert_eq!(records.len(), 12);
    let done = "CREATE TABLE done (what text)";
    base.client.batch_execute(done).await.unwrap();
    let inbox = Inbox::of("mail");
    for record in records {
        assert_eq!(text(record.headers.get("steer-subject")), "shop.charged");
        base.client.batch_execute("BEGIN").await.unwrap();
        let id = text(record.headers.get("steer-id"));
        if inbox.is_new(&base.client, &id).await.unwrap() {
            let insert = "INSERT INTO done VALUES ($1)";
            base.client.execute(insert, &[&id]).await.unwrap();
        }
        base.client.batch_execute("COMMIT").await.unwrap();
    }
    let done = base
        .client
        .query("SELECT what FROM done ORDER BY what", &[])
        .await;
    let done: Vec<String> = done.unwrap().iter().map(|row| row.get(0)).collect();
    assert_eq!(done, ["shop-0", "shop-1", "shop-2", "shop-3", "shop-4", "shop-5"]);
}

/// Writes one record for each key and says where it lies.
const PRODUCER: &str = r#"
import java.util.Map;
import org.apache.kafka.clients.producer.*;
import org.apache.kafka.common.serialization.StringSerializer;

class Peer {
    public static void main(String[] args) throws Exception {
        var settings = Map.<String, Object>of("bootstrap.servers", args[0]);
        try (var producer = new KafkaProducer<>(settings, new StringSerializer(), new StringSerializer())) {
            for (int i = 2; i < args.length; i++) {
                var record = new ProducerRecord<>(args[1], args[i], "of java");
                System.out.println(producer.send(record).get().partition());
            }
        }
    }
}
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_lies_in_the_partition_that_javas_producer_has_for_it() {
    let what = "the keys of Java's producer";
    let Some(bed) = InKafka::new(what).await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("Peer.java");
    std::fs::write(&source, PRODUCER).unwrap();
    let keys = [
        "a",
        "ab",
        "abc",
        "abcd",
        "ana",
        "order-17",
        "\u{e9}t\u{e9}",
        "p0",
        "p1",
        "p2",
        "",
    ];
    let mut java = bed.broker.java(source.to_str().unwrap());
    java.args([&bed.broker.address(), &bed.topic]).args(keys);
    java.env("LC_ALL", "C.UTF-8");
    let said = java.output().unwrap();
    if !said.status.success() {
        let words = String::from_utf8_lossy(&said.stderr);
        assert!(words.contains("jdk.compiler"), "{words}");
        println!("skip: {what}: no compiler of Java is there (Debian package default-jdk-headless)");
        return;
    }
    for (number, key) in (0..).zip(keys) {
        bed.sink().tell(&InKafka::letter(number, key)).await.unwrap();
    }
    let mut places = BTreeMap::<_, Vec<usize>>::new();
    for (number, records) in bed.partitions().await.unwrap().iter().enumerate() {
        for record in records {
            places.entry(text(record.key.as_ref())).or_default().push(number);
        }
    }
    println!("{places:?}");
    assert_eq!(places.len(), keys.len());
    assert!(
        places
            .values()
            .all(|place| place.len() == 2 && place[0] == place[1])
    );
    let used: BTreeSet<_> = places.values().map(|place| place[0]).collect();
    assert_eq!(used.len(), 3, "each partition has some");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_topic_that_is_not_there_is_away_until_it_is() {
    let Some(bed) = InKafka::new("a topic that is not there").await else {
        return;
    };
    let later = format!("{}-later", bed.topic);
    let sink = Kafka::new(&[&bed.broker.address()], &later, WAIT).unwrap();
    let letter = InKafka::letter(1, "p0");
    let told = sink.tell(&letter).await;
    assert!(matches!(told, Err(SinkError::Away(_))), "{told:?}");
    let controller = client(&bed.broker.address()).await.unwrap().controller_client();
    let made = controller.unwrap().create_topic(&later, 1, 1, 5000).await;
    made.unwrap();
    let began = Instant::now();
    while let Err(error) = sink.tell(&letter).await {
        assert!(matches!(error, SinkError::Away(_)), "{error:?}");
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Trusts this certificate and no other.
fn tls(certificate: &str) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let certificate = CertificateDer::from_pem_slice(certificate.as_bytes());
    roots.add(certificate.unwrap()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots);
    Arc::new(config.with_no_client_auth())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_a_user_may_write_what_the_broker_lets_him_and_one_with_another_password_nothing() {
    let Some(bed) = InKafka::new("users of Kafka over TLS").await else {
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    let password = |text: &str| {
        let file = folder.path().join(text);
        std::fs::write(&file, text).unwrap();
        file
    };
    let safe = Kafka::new(&[&bed.broker.safe_address()], &bed.topic, WAIT).unwrap();
    let safe = safe.with_tls(tls(&bed.broker.certificate));
    let letter = InKafka::letter(1, "p0");

    let steer = safe.with_user("steer", &password("steer")).unwrap();
    steer.tell(&letter).await.unwrap();
    assert_eq!(bed.came().await.len(), 1);

    let guest = safe.with_user("guest", &password("guest")).unwrap();
    let told = guest.tell(&letter).await.unwrap_err();
    assert!(
        matches!(&told, SinkError::Refused(why) if why.contains("TopicAuthorizationFailed")),
        "{told:?}"
    );

    let other = safe.with_user("steer", &password("guess")).unwrap();
    let told = other.tell(&letter).await.unwrap_err();
    assert!(
        matches!(&told, SinkError::Away(why) if why.contains("SaslAuthenticationFailed")),
        "{told:?}"
    );

    let stranger = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let told = steer
        .with_tls(tls(&stranger.cert.pem()))
        .tell(&letter)
        .await
        .unwrap_err();
    assert!(
        matches!(&told, SinkError::Away(why) if why.contains("certificate")),
        "{told:?}"
    );
    assert_eq!(bed.came().await.len(), 1);
}

#[tokio::test]
async fn brokers_that_do_not_listen_or_say_nothing_are_away_and_cost_no_more_than_the_wait() {
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobodys = nobody.local_addr().unwrap().to_string();
    drop(nobody);
    let wait = Duration::from_millis(300);
    for address in [silent.local_addr().unwrap().to_string(), nobodys] {
        let sink = Kafka::new(&[&address], "shop", wait).unwrap();
        for _ in 0..2 {
            let began = Instant::now();
            let told = sink.tell(&InKafka::letter(1, "p0")).await;
            assert!(matches!(told, Err(SinkError::Away(_))), "{told:?}");
            assert!(began.elapsed() < wait * 2, "{:?}", began.elapsed());
        }
    }
}
