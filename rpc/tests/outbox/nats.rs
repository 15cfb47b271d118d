//! Debian's `nats-server` with JetStream, in a temporary folder.

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::stream::Config;
use steer_rpc::outbox::JetStream;
use tempfile::TempDir;

use crate::bed::{Bed, Came, PATIENCE};

const SERVER: &str = "/usr/sbin/nats-server";

const STREAM: &str = "SHOP";

pub(crate) struct InJetStream {
    folder: TempDir,
    port: u16,
    server: Child,
    sink: JetStream,
}

impl Drop for InJetStream {
    fn drop(&mut self) {
        if let Err(error) = self.server.kill().and_then(|()| self.server.wait().map(drop)) {
            eprintln!("nats-server of a test: {error}");
        }
    }
}

fn start(folder: &Path, port: u16) -> Child {
    Command::new(SERVER)
        .args(["--addr", "127.0.0.1", "--jetstream", "--port", &port.to_string()])
        .arg("--store_dir")
        .arg(folder)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

async fn client(address: &str) -> async_nats::Client {
    let began = Instant::now();
    loop {
        let options = async_nats::ConnectOptions::new().connection_timeout(Duration::from_secs(1));
        match options.connect(address).await {
            Ok(client) => return client,
            Err(error) => assert!(began.elapsed() < PATIENCE, "{error}"),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// A sink to a server that is there.
pub(crate) async fn connect(address: &str) -> JetStream {
    JetStream::new(client(address).await, Duration::from_millis(500))
}

impl InJetStream {
    pub(crate) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

impl Bed for InJetStream {
    type Sink = JetStream;

    async fn new(what: &str) -> Option<Self> {
        if !Path::new(SERVER).exists() {
            println!("skip: {what}: nats-server is not installed (Debian package nats-server)");
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let server = start(folder.path(), port);
        let address = format!("127.0.0.1:{port}");
        let context = async_nats::jetstream::new(client(&address).await);
        let config = Config {
            name: STREAM.to_owned(),
            subjects: vec!["shop.>".to_owned(), "mail.>".to_owned()],
            duplicate_window: Duration::from_secs(120),
            ..Config::default()
        };
        let began = Instant::now();
        while context.create_stream(config.clone()).await.is_err() {
            assert!(began.elapsed() < PATIENCE, "JetStream is not there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(Self {
            folder,
            port,
            server,
            sink: connect(&address).await,
        })
    }

    fn sink(&self) -> JetStream {
        self.sink.clone()
    }

    async fn came(&self) -> Vec<Came> {
        let context = async_nats::jetstream::new(client(&self.address()).await);
        let stream = context.get_stream(STREAM).await.unwrap();
        let last = stream.get_info().await.unwrap().state.last_sequence;
        let mut came = Vec::new();
        for number in 1..=last {
            let message = stream.get_raw_message(number).await.unwrap();
            let header = |name| message.headers.get(name).unwrap().as_str().to_owned();
            came.push(Came {
                id: header("Nats-Msg-Id"),
                partition: header("steer-partition"),
                payload: String::from_utf8(message.payload.to_vec()).unwrap(),
            });
        }
        came
    }

    async fn go(&mut self) {
        self.server.kill().unwrap();
        self.server.wait().unwrap();
    }

    async fn come_back(&mut self) {
        self.server = start(self.folder.path(), self.port);
        let context = async_nats::jetstream::new(client(&self.address()).await);
        let began = Instant::now();
        while context.get_stream(STREAM).await.is_err() {
            assert!(began.elapsed() < PATIENCE, "the stream is not there");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
