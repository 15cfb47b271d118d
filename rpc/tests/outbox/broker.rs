//! A broker of Kafka of our own, in KRaft mode, from the jars of Maven Central. It ends with this process.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

/// The longest that a broker may take to start.
const PATIENCE: Duration = Duration::from_secs(90);

/// Seconds that the jars may take to come.
const DOWNLOAD: &str = "240";

const VERSION: &str = "3.9.1";

/// With a logger, so that a broker that does not start says why.
const POM: &str = r#"<project xmlns="http://maven.apache.org/POM/4.0.0">
  <modelVersion>4.0.0</modelVersion>
  <groupId>steer</groupId>
  <artifactId>broker-of-a-test</artifactId>
  <version>1</version>
  <dependencies>
    <dependency>
      <groupId>org.apache.kafka</groupId>
      <artifactId>kafka_2.13</artifactId>
      <version>VERSION</version>
    </dependency>
    <dependency>
      <groupId>org.slf4j</groupId>
      <artifactId>slf4j-simple</artifactId>
      <version>1.7.36</version>
    </dependency>
  </dependencies>
</project>
"#;

const COPY: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies";

/// Stops the broker when its standard input ends, as it does when we are gone, however that happens. The folder goes with it,
/// unless it is told that the broker comes back.
const KEEPER: &str = "folder=$1; shift; \"$@\" & server=$!; read -r word; kill -9 $server; wait $server; \
    [ \"$word\" = again ] || rm -r \"$folder\"";

/// Whose password is his name. steer may do everything, guest nothing.
const USERS: [&str; 2] = ["steer", "guest"];

/// A broker, running or not.
pub(crate) struct Broker {
    jars: PathBuf,
    folder: PathBuf,
    /// For everyone, in plain.
    port: u16,
    /// For users, over TLS.
    safe_port: u16,
    /// In PEM.
    pub(crate) certificate: String,
    keeper: Mutex<Option<Child>>,
}

/// The one broker of this process, which runs then; `None`, and a line that says so, where it cannot be had.
pub(crate) fn shared(what: &str) -> Option<&'static Broker> {
    static SHARED: Mutex<Option<Result<&'static Broker, String>>> = Mutex::new(None);
    let mut shared = SHARED.lock().unwrap();
    let broker = shared.get_or_insert_with(|| jars().map(|jars| &*Box::leak(Box::new(Broker::new(jars)))));
    match broker {
        Ok(broker) => {
            broker.start();
            Some(broker)
        }
        Err(why) => {
            println!("skip: {what}: no broker of Kafka: {why}");
            None
        }
    }
}

/// The folder with the jars, fetched once for each target folder.
fn jars() -> Result<PathBuf, String> {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let jars = cache.join(format!("kafka-{VERSION}"));
    if !is_there("java") {
        return Err("Java is not installed (Debian package default-jre-headless)".to_owned());
    }
    if jars.exists() {
        return Ok(jars);
    }
    if !is_there("mvn") {
        return Err("Maven is not installed (Debian package maven)".to_owned());
    }
    fs::create_dir_all(cache).unwrap();
    let work = tempfile::tempdir_in(cache).unwrap();
    fs::write(work.path().join("pom.xml"), POM.replace("VERSION", VERSION)).unwrap();
    let mut fetch = Command::new("timeout");
    fetch
        .args([
            DOWNLOAD,
            "mvn",
            "-B",
            "-q",
            COPY,
            "-DincludeScope=runtime",
            "-DoutputDirectory=jars",
        ])
        .current_dir(work.path());
    let fetched = fetch.output().unwrap();
    if !fetched.status.success() {
        let words = String::from_utf8_lossy(&fetched.stdout).into_owned();
        return Err(words.lines().next().unwrap_or("mvn said nothing").to_owned());
    }
    // Another process may have been quicker.
    let renamed = fs::rename(work.path().join("jars"), &jars);
    assert!(renamed.is_ok() || jars.exists(), "{renamed:?}");
    Ok(jars)
}

fn is_there(program: &str) -> bool {
    let mut ask = Command::new(program);
    ask.arg("-version")
        .output()
        .is_ok_and(|said| said.status.success())
}

/// Some that were free a moment ago.
fn ports() -> [u16; 3] {
    let listeners = [(); 3].map(|()| TcpListener::bind("127.0.0.1:0").unwrap());
    listeners.map(|listener| listener.local_addr().unwrap().port())
}

impl Broker {
    fn new(jars: PathBuf) -> Self {
        let folder = tempfile::tempdir().unwrap().keep();
        let [port, safe_port, controller] = ports();
        let key = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let pem = key.signing_key.serialize_pem() + &key.cert.pem();
        fs::write(folder.join("key.pem"), pem).unwrap();
        let settings = format!(
            "process.roles=broker,controller\n\
             node.id=1\n\
             controller.quorum.voters=1@127.0.0.1:{controller}\n\
             controller.listener.names=CONTROLLER\n\
             inter.broker.listener.name=PLAINTEXT\n\
             listeners=PLAINTEXT://127.0.0.1:{port},SAFE://127.0.0.1:{safe_port},CONTROLLER://127.0.0.1:{controller}\n\
             advertised.listeners=PLAINTEXT://127.0.0.1:{port},SAFE://127.0.0.1:{safe_port}\n\
             listener.security.protocol.map=PLAINTEXT:PLAINTEXT,SAFE:SASL_SSL,CONTROLLER:PLAINTEXT\n\
             listener.name.safe.ssl.keystore.type=PEM\n\
             listener.name.safe.ssl.keystore.location={folder}/key.pem\n\
             listener.name.safe.sasl.enabled.mechanisms=SCRAM-SHA-512\n\
             listener.name.safe.scram-sha-512.sasl.jaas.config=\
             org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
             authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
             super.users=User:ANONYMOUS;User:steer\n\
             log.dirs={folder}/data\n\
             log.cleaner.enable=false\n\
             auto.create.topics.enable=false\n\
             # One that was killed is known again sooner.\n\
             broker.session.timeout.ms=4000\n\
             broker.heartbeat.interval.ms=500\n",
            folder = folder.display(),
        );
        fs::write(folder.join("settings"), settings).unwrap();
        let broker = Self {
            jars,
            folder,
            port,
            safe_port,
            certificate: key.cert.pem(),
            keeper: Mutex::new(None),
        };
        broker.format();
        broker
    }

    fn format(&self) {
        let mut format = self.java("kafka.tools.StorageTool");
        format
            .args(["format", "--cluster-id", "steer-tests-of-outbox-0", "--config"])
            .arg(self.folder.join("settings"));
        for user in USERS {
            let scram = format!("SCRAM-SHA-512=[name={user},password={user}]");
            format.args(["--add-scram", &scram]);
        }
        let formatted = format.output().unwrap();
        assert!(
            formatted.status.success(),
            "{}",
            String::from_utf8_lossy(&formatted.stderr)
        );
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where it listens over TLS.
    pub(crate) fn safe_address(&self) -> String {
        format!("127.0.0.1:{}", self.safe_port)
    }

    /// Java with the jars of the broker, which are also those of Java's client.
    pub(crate) fn java(&self, class: &str) -> Command {
        let mut java = Command::new("java");
        java.args(["-Xmx512m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"])
            .arg("-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
            .arg("-cp")
            .arg(self.jars.join("*"))
            .arg(class);
        java
    }

    /// Starts it, unless it runs.
    pub(crate) fn start(&self) {
        let mut keeper = self.keeper.lock().unwrap();
        if keeper.is_some() {
            return;
        }
        let mut server = self.java("kafka.Kafka");
        server.arg(self.folder.join("settings"));
        let mut sh = Command::new("/bin/sh");
        sh.args(["-c", KEEPER, "keeper"])
            .arg(&self.folder)
            .arg(server.get_program())
            .args(server.get_args())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(fs::File::create(self.folder.join("log")).unwrap());
        *keeper = Some(sh.spawn().unwrap());
        let began = Instant::now();
        while std::net::TcpStream::connect(self.address()).is_err() {
            let log = || fs::read_to_string(self.folder.join("log")).unwrap_or_default();
            assert!(began.elapsed() < PATIENCE, "no broker listens: {}", log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Kills it; what it had is there when it is started again.
    pub(crate) fn kill(&self) {
        let mut keeper = self.keeper.lock().unwrap();
        let Some(mut keeper) = keeper.take() else { return };
        let mut order = keeper.stdin.take().unwrap();
        std::io::Write::write_all(&mut order, b"again\n").unwrap();
        keeper.wait().unwrap();
    }
}
