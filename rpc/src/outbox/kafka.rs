//! A topic of Kafka as a sink. A row's partition is the key of its record, and the partition of the topic follows from it as
//! in Java's producer (murmur2), so that other producers agree. `steer-id` and `steer-subject` are headers.
//!
//! Kafka knows no record again: one that is told a second time is there twice, perhaps after some that came later. Consumers
//! know it by its `steer-id`, with an [`Inbox`](super::Inbox) for example.

use std::fmt;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rskafka::BackoffConfig;
use rskafka::BackoffError;
use rskafka::client::error::{Error, ProtocolError, RequestError};
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::{Client, ClientBuilder, Credentials, SaslConfig};
use rskafka::record::Record;
use rustls::ClientConfig;
use tokio::sync::OnceCell;

use super::{Letter, Sink, SinkError};

/// The header by which a consumer knows a record again.
const ID: &str = "steer-id";

/// The header that names the subject.
const SUBJECT: &str = "steer-subject";

/// Octets of a record, without what frames it. A broker refuses what is over `max.message.bytes` (1 MiB by default), but closes
/// the connection on what is over `socket.request.max.bytes` (100 MiB): that would look like a broker that is away.
const RECORD_MAX: usize = 64 << 20;

/// Octets of an answer; that with all topics of a cluster is the largest.
const ANSWER_MAX: usize = 64 << 20;

/// Octets of a topic's name, as Kafka has it.
const TOPIC_MAX: usize = 249;

/// After this long it is asked anew how many partitions the topic has (Java's `metadata.max.age.ms`).
const SESSION_AGE: Duration = Duration::from_secs(300);

/// Writes to one topic. Clones share their connections.
#[derive(Clone)]
pub struct Kafka {
    shared: Arc<Shared>,
}

struct Shared {
    settings: Settings,
    session: Mutex<Option<Arc<Session>>>,
    /// One opens; the others wait for what comes of it.
    opening: tokio::sync::Mutex<()>,
}

#[derive(Clone)]
struct Settings {
    brokers: Vec<String>,
    topic: String,
    wait: Duration,
    tls: Option<Arc<ClientConfig>>,
    user: Option<SaslConfig>,
}

impl fmt::Debug for Kafka {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never the password.
        f.debug_struct("Kafka")
            .field("brokers", &self.shared.settings.brokers)
            .field("topic", &self.shared.settings.topic)
            .finish_non_exhaustive()
    }
}

/// What is wrong with a topic of Kafka as a sink.
#[derive(Debug, thiserror::Error)]
pub enum InvalidKafka {
    /// No broker, or one that has no port.
    #[error("the broker {0:?} of Kafka; \"HOST:PORT\" is wanted, once at least")]
    Broker(String),
    /// A name that no topic can have.
    #[error(
        "Kafka's topic is {0:?}; 1 to 249 letters and digits of ASCII and '-', '_', '.' are wanted, and not \".\" or \"..\""
    )]
    Topic(String),
    /// The file of the password.
    #[error("{file}: {what}")]
    Password {
        /// Which.
        file: String,
        /// What; never what is in it.
        what: String,
    },
}

impl Kafka {
    /// Writes to `topic`, within `wait` each, which has to be less than [`Rules::batch_time`](super::Rules::batch_time). `brokers`
    /// (`HOST:PORT`) are asked where the others are. Nothing is connected yet.
    ///
    /// # Errors
    ///
    /// [`InvalidKafka::Broker`] and [`InvalidKafka::Topic`].
    pub fn new(brokers: &[&str], topic: &str, wait: Duration) -> Result<Self, InvalidKafka> {
        let wrong = brokers.iter().find(|broker| !is_broker(broker));
        if let Some(wrong) = wrong.or(brokers.is_empty().then_some(&"")) {
            return Err(InvalidKafka::Broker((*wrong).to_owned()));
        }
        if !is_topic(topic) {
            return Err(InvalidKafka::Topic(topic.to_owned()));
        }
        Ok(Self::of(Settings {
            brokers: brokers.iter().map(|broker| (*broker).to_owned()).collect(),
            topic: topic.to_owned(),
            wait,
            tls: None,
            user: None,
        }))
    }

    /// The same over TLS.
    #[must_use]
    pub fn with_tls(&self, tls: Arc<ClientConfig>) -> Self {
        let mut settings = self.shared.settings.clone();
        settings.tls = Some(tls);
        Self::of(settings)
    }

    /// The same as this user, by SCRAM-SHA-512; the password is in a file. Without TLS whoever listens can try passwords on what
    /// goes over the line.
    ///
    /// # Errors
    ///
    /// [`InvalidKafka::Password`].
    pub fn with_user(&self, name: &str, password_file: &Path) -> Result<Self, InvalidKafka> {
        let wrong = |what: String| InvalidKafka::Password {
            file: password_file.display().to_string(),
            what,
        };
        let text = std::fs::read_to_string(password_file).map_err(|error| wrong(error.to_string()))?;
        let password = text.trim();
        if password.is_empty() {
            return Err(wrong("there is no password in it".to_owned()));
        }
        let credentials = Credentials::new(name.to_owned(), password.to_owned());
        let mut settings = self.shared.settings.clone();
        settings.user = Some(SaslConfig::ScramSha512(credentials));
        Ok(Self::of(settings))
    }

    fn of(settings: Settings) -> Self {
        Self {
            shared: Arc::new(Shared {
                settings,
                session: Mutex::new(None),
                opening: tokio::sync::Mutex::new(()),
            }),
        }
    }

    fn current(&self) -> MutexGuard<'_, Option<Arc<Session>>> {
        self.shared.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn young(&self) -> Option<Arc<Session>> {
        self.current().clone().filter(|session| session.is_young())
    }

    /// The session that all lanes share, new where there is none or an old one.
    async fn session(&self) -> Result<Arc<Session>, Error> {
        if let Some(session) = self.young() {
            return Ok(session);
        }
        let _alone = self.shared.opening.lock().await;
        if let Some(session) = self.young() {
            return Ok(session);
        }
        let session = Arc::new(Session::open(&self.shared.settings).await?);
        *self.current() = Some(session.clone());
        Ok(session)
    }

    /// Leaves a session, unless another lane has done so: a connection may be dead without a word, and the brokers elsewhere.
    fn leave(&self, session: &Arc<Session>) {
        let mut current = self.current();
        if current
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, session))
        {
            *current = None;
        }
    }
}

impl Sink for Kafka {
    async fn tell(&self, letter: &Letter) -> Result<(), SinkError> {
        let record = record(letter);
        let octets = record.approximate_size();
        if octets > RECORD_MAX {
            return Err(SinkError::Refused(format!(
                "the record has {octets} octets; {RECORD_MAX} at most are sent to a broker"
            )));
        }
        let (wait, mut used) = (self.shared.settings.wait, None);
        let telling = async {
            let session = used.insert(self.session().await?);
            session.produce(record, &letter.partition).await
        };
        let told = match tokio::time::timeout(wait, telling).await {
            Ok(told) => told.map_err(|error| of(&error)),
            Err(_) => Err(SinkError::Away(format!("no word of the brokers within {wait:?}"))),
        };
        if let (Some(session), Err(SinkError::Away(_) | SinkError::Failed(_))) = (&used, &told) {
            self.leave(session);
        }
        told
    }
}

/// Connections to the brokers, and what they said about the topic.
struct Session {
    client: Client,
    topic: String,
    /// One for each partition of the topic, connected to its leader when it is first needed.
    partitions: Vec<OnceCell<PartitionClient>>,
    opened: Instant,
}

impl Session {
    async fn open(settings: &Settings) -> Result<Self, Error> {
        let client = connect(settings).await?;
        // Asked by its name: the list of all topics is silent about one that is not there, or is not ours to see.
        let first = client.partition_client(&settings.topic, 0, UnknownTopicHandling::Error);
        let first = first.await?;
        let topics = client.list_topics().await?;
        let topic = topics.iter().find(|topic| topic.name == settings.topic);
        // The list may be of a broker that has not heard of the topic yet.
        let count = topic.map_or(0, |topic| topic.partitions.len());
        if count == 0 {
            return Err(Error::InvalidResponse(format!(
                "a broker does not know the topic {:?} yet",
                settings.topic
            )));
        }
        let others = std::iter::repeat_with(OnceCell::new).take(count - 1);
        Ok(Self {
            client,
            topic: settings.topic.clone(),
            partitions: std::iter::once(OnceCell::new_with(Some(first)))
                .chain(others)
                .collect(),
            opened: Instant::now(),
        })
    }

    fn is_young(&self) -> bool {
        self.opened.elapsed() < SESSION_AGE
    }

    async fn produce(&self, record: Record, key: &str) -> Result<(), Error> {
        let number = partition_of(key.as_bytes(), self.partitions.len());
        let cell = self
            .partitions
            .get(number)
            .ok_or_else(|| Error::InvalidResponse(format!("no partition {number}")))?;
        let index = i32::try_from(number).unwrap_or(i32::MAX);
        let connect = || {
            self.client
                .partition_client(&self.topic, index, UnknownTopicHandling::Error)
        };
        let partition = cell.get_or_try_init(connect).await?;
        // It comes back when all replicas that are in sync have it (acks=all).
        partition
            .produce(vec![record], Compression::NoCompression)
            .await
            .map(drop)
    }
}

async fn connect(settings: &Settings) -> Result<Client, Error> {
    let mut builder = ClientBuilder::new(settings.brokers.clone())
        .client_id("steer-rpc")
        .max_message_size(ANSWER_MAX)
        .backoff_config(once());
    if let Some(tls) = &settings.tls {
        builder = builder.tls_config(tls.clone());
    }
    if let Some(user) = &settings.user {
        builder = builder.sasl_config(user.clone());
    }
    builder.build().await
}

/// The client tries everything once: the relay is who tries again.
fn once() -> BackoffConfig {
    BackoffConfig {
        deadline: Some(Duration::ZERO),
        ..BackoffConfig::default()
    }
}

fn record(letter: &Letter) -> Record {
    let header = |name: &str, value: &str| (name.to_owned(), value.as_bytes().to_vec());
    let mut record = Record {
        key: Some(letter.partition.as_bytes().to_vec()),
        // An empty one is not none, which would be a tombstone.
        value: Some(letter.payload.to_vec()),
        headers: [header(ID, &letter.id), header(SUBJECT, &letter.subject)].into(),
        timestamp: Default::default(),
    };
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    record.timestamp += now.unwrap_or_default();
    record
}

/// What an error of the client means for a row.
fn of(error: &Error) -> SinkError {
    let words = error.to_string();
    match error {
        Error::ServerError { protocol_error, .. } => of_code(*protocol_error, words),
        Error::RetryFailed(tried) => {
            let BackoffError::DeadlineExceded { source, .. } = tried;
            source.downcast_ref().map_or(SinkError::Away(words), of)
        }
        Error::Request(request) => of_request(request, words),
        // Of these none has looked at the row: no connection, or an answer about the topic that cannot be used.
        Error::Connection(_) | Error::InvalidResponse(_) | Error::Timeout => SinkError::Away(words),
        _ => SinkError::Failed(words),
    }
}

fn of_request(error: &RequestError, words: String) -> SinkError {
    match error {
        RequestError::Poisoned(cause) => of_request(cause, words),
        RequestError::IO(_)
        | RequestError::ReadFramedMessageError(_)
        // A broker that is too old or too new.
        | RequestError::NoVersionMatch { .. } => SinkError::Away(words),
        RequestError::WriteError(_) | RequestError::WriteMessageError(_) => SinkError::Refused(words),
        RequestError::ReadError(_)
        | RequestError::ReadVersionedError(_)
        | RequestError::TooMuchData { .. } => SinkError::Failed(words),
        _ => SinkError::Failed(words),
    }
}

/// What a broker says. Those that are not named may be another word next time.
fn of_code(code: ProtocolError, words: String) -> SinkError {
    use ProtocolError as Code;
    let is_away = matches!(
        code,
        Code::UnknownTopicOrPartition
            | Code::UnknownTopicId
            | Code::LeaderNotAvailable
            | Code::NotLeaderOrFollower
            | Code::FencedLeaderEpoch
            | Code::UnknownLeaderEpoch
            | Code::RequestTimedOut
            | Code::BrokerNotAvailable
            | Code::ReplicaNotAvailable
            | Code::ListenerNotFound
            | Code::NetworkException
            | Code::NotEnoughReplicas
            | Code::NotEnoughReplicasAfterAppend
            | Code::InvalidReplicationFactor // a topic that is made on demand, with too few brokers for it
            | Code::KafkaStorageError
            | Code::ThrottlingQuotaExceeded
    );
    let is_refused = matches!(
        code,
        Code::MessageTooLarge
            | Code::RecordListTooLarge
            | Code::InvalidRecord
            | Code::InvalidTopicException
            | Code::PolicyViolation
            | Code::TopicAuthorizationFailed
            | Code::ClusterAuthorizationFailed
    );
    if is_away {
        SinkError::Away(words)
    } else if is_refused {
        SinkError::Refused(words)
    } else {
        SinkError::Failed(words)
    }
}

fn is_broker(text: &str) -> bool {
    text.rsplit_once(':')
        .is_some_and(|(host, port)| !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port != 0))
}

fn is_topic(name: &str) -> bool {
    let fine = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    (1..=TOPIC_MAX).contains(&name.len()) && name.chars().all(fine) && !matches!(name, "." | "..")
}

/// The partition of a key, as Java's producer has it; 0 where there is none.
fn partition_of(key: &[u8], partitions: usize) -> usize {
    let positive = usize::try_from(murmur2(key) & 0x7fff_ffff);
    positive
        .unwrap_or_default()
        .checked_rem(partitions)
        .unwrap_or_default()
}

/// MurmurHash2 with Kafka's seed.
fn murmur2(octets: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    let (words, rest) = octets.as_chunks::<4>();
    // The lengths of keys are those of rows, far below 4 GiB; Java's are an int.
    let mut hash = SEED ^ u32::try_from(octets.len()).unwrap_or(u32::MAX);
    for word in words {
        let mut word = u32::from_le_bytes(*word).wrapping_mul(M);
        word ^= word >> 24;
        hash = hash.wrapping_mul(M) ^ word.wrapping_mul(M);
    }
    if !rest.is_empty() {
        let shifted = rest
            .iter()
            .zip([0, 8, 16])
            .map(|(octet, by)| u32::from(*octet) << by);
        hash = shifted.fold(hash, |hash, octet| hash ^ octet).wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_the_hash_that_kafkas_own_tests_expect() {
        for (key, expected) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            ("lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8", -58_897_971),
            ("abc", 479_470_107),
        ] {
            assert_eq!(murmur2(key.as_bytes()).cast_signed(), expected, "{key}");
        }
        assert_eq!(partition_of(b"abc", 7), 479_470_107 % 7);
        assert_eq!(partition_of(b"21", 10), 0, "the sign is left out, and not turned");
        assert_eq!(partition_of(b"abc", 0), 0);
    }

    #[test]
    fn what_a_broker_says_of_a_row_is_told_from_what_it_says_of_itself() {
        let said = |code| {
            let Some(code) = ProtocolError::new(code) else {
                panic!("{code} is no error")
            };
            of_code(code, String::new())
        };
        for away in [3, 5, 6, 7, 8, 19, 20, 56, 74, 89] {
            assert!(matches!(said(away), SinkError::Away(_)), "{away}");
        }
        for failed in [-1, 2, 32, 35, 1234] {
            assert!(matches!(said(failed), SinkError::Failed(_)), "{failed}");
        }
        for refused in [10, 17, 18, 29, 31, 44, 87] {
            assert!(matches!(said(refused), SinkError::Refused(_)), "{refused}");
        }
    }

    #[test]
    fn the_clients_own_word_about_its_one_try_is_not_what_counts() {
        let inner = Error::ServerError {
            protocol_error: ProtocolError::LeaderNotAvailable,
            error_message: None,
            request: rskafka::client::error::RequestContext::Topic("t".to_owned()),
            response: None,
            is_virtual: false,
        };
        let tried = |source: Error| {
            Error::RetryFailed(BackoffError::DeadlineExceded {
                deadline: Duration::ZERO,
                source: source.into(),
            })
        };
        assert!(matches!(of(&tried(inner)), SinkError::Away(_)));
        let lost = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
        let lost = Error::Request(RequestError::Poisoned(Arc::new(RequestError::IO(lost))));
        assert!(matches!(of(&tried(lost)), SinkError::Away(_)));
    }

    #[test]
    fn a_password_that_is_none_is_named_by_its_file_and_one_that_is_there_is_never_shown() {
        let kafka = Kafka::new(&["kafka:9092"], "shop", Duration::from_secs(1)).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let fault = kafka.with_user("steer", &file).unwrap_err().to_string();
        assert!(fault.contains("password: No such file"), "{fault}");
        std::fs::write(&file, "\n").unwrap();
        let fault = kafka.with_user("steer", &file).unwrap_err().to_string();
        assert!(fault.contains("there is no password in it"), "{fault}");
        std::fs::write(&file, "hush\n").unwrap();
        let shown = format!("{:?}", kafka.with_user("steer", &file).unwrap());
        assert!(shown.contains("shop") && !shown.contains("hush"), "{shown}");
    }

    #[test]
    fn brokers_and_topics_that_cannot_be_are_refused_at_once() {
        let wait = Duration::from_secs(1);
        assert!(Kafka::new(&["[::1]:9092", "kafka.example:9092"], "shop.events_1-a", wait).is_ok());
        for brokers in [
            &[][..],
            &["kafka"],
            &["kafka:9092", ":9092"],
            &["kafka:0"],
            &["kafka:x"],
        ] {
            let fault = Kafka::new(brokers, "shop", wait).unwrap_err().to_string();
            assert!(fault.contains("HOST:PORT"), "{fault}");
        }
        for topic in ["", ".", "..", "a b", "a/b", &"a".repeat(250)] {
            let fault = Kafka::new(&["kafka:9092"], topic, wait).unwrap_err().to_string();
            assert!(fault.contains("1 to 249 letters"), "{fault}");
        }
    }
}
