//! A receiver of webhooks that looks at each signature, and knows by its id what came before.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::routing::post;
use steer_rpc::outbox::{Letter, Sink, SinkError, Webhook, verify};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::bed::{Bed, Came};

const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";

type Taken = Arc<Mutex<Vec<Came>>>;

pub(crate) struct AtWebhook {
    address: SocketAddr,
    taken: Taken,
    server: JoinHandle<()>,
    sink: Arc<Webhook>,
}

async fn take(State(taken): State<Taken>, headers: HeaderMap, body: Bytes) -> StatusCode {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let (id, at) = (header("webhook-id"), header("webhook-timestamp").parse().unwrap());
    if !verify(SECRET, &id, at, &body, &header("webhook-signature")).unwrap() {
        return StatusCode::UNAUTHORIZED;
    }
    let came = Came {
        id,
        partition: header("steer-partition"),
        payload: String::from_utf8(body.to_vec()).unwrap(),
    };
    let mut taken = taken.lock().unwrap();
    if !taken.contains(&came) {
        taken.push(came);
    }
    StatusCode::NO_CONTENT
}

async fn start(address: SocketAddr, taken: Taken) -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind(address).await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/hook", post(take)).with_state(taken);
    (
        address,
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() }),
    )
}

fn sink(address: SocketAddr) -> Webhook {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, SECRET).unwrap();
    Webhook::new(&format!("http://{address}/hook"), &file, Duration::from_secs(1)).unwrap()
}

impl Bed for AtWebhook {
    type Sink = Arc<Webhook>;

    async fn new(_: &str) -> Option<Self> {
        let taken = Taken::default();
        let (address, server) = start("127.0.0.1:0".parse().unwrap(), taken.clone()).await;
        Some(Self {
            address,
            taken,
            server,
            sink: Arc::new(sink(address)),
        })
    }

    fn sink(&self) -> Arc<Webhook> {
        self.sink.clone()
    }

    async fn came(&self) -> Vec<Came> {
        self.taken.lock().unwrap().clone()
    }

    /// Nobody listens, and who had a connection gets another answer than silence: it is closed.
    async fn go(&mut self) {
        self.server.abort();
        _ = (&mut self.server).await;
        // Connections that are open have tasks of their own; a new sink has none.
        self.sink = Arc::new(sink(self.address));
    }

    async fn come_back(&mut self) {
        (_, self.server) = start(self.address, self.taken.clone()).await;
    }
}

#[tokio::test]
async fn a_receiver_that_does_not_answer_in_time_has_failed_and_one_that_refuses_has_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent = sink(listener.local_addr().unwrap());
    let letter = Letter {
        id: "shop-1".to_owned(),
        subject: "shop.charged".to_owned(),
        partition: "ana".to_owned(),
        payload: Bytes::from_static(b"x"),
    };
    assert!(matches!(silent.tell(&letter).await, Err(SinkError::Failed(_))));
    let odd = Letter {
        subject: "two\nlines".to_owned(),
        ..letter
    };
    assert!(matches!(silent.tell(&odd).await, Err(SinkError::Refused(_))));
}
