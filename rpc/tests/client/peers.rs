//! Peers that say exactly what a test wants said, and a client before them.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use steer_rpc::client::{Client, ClientConfig, Outcome};
use tokio::net::{TcpListener, TcpStream};
use tonic::Status;

use crate::shop::user_service_client::UserServiceClient;
use crate::shop::{GetUserRequest, User};

/// What is waited for at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// What a peer does with a stream.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Say {
    /// Answers OK with the octets that it got, after a time.
    Echo(u64),
    /// Trailers alone.
    Trailers(&'static [(&'static str, &'static str)]),
    /// RST_STREAM with this code.
    Reset(Reason),
    /// Closes the connection as soon as it has the request.
    Close,
    /// Nothing.
    Silent,
    /// HEADERS and the octets, and then the connection is closed.
    Half,
}

pub(crate) const ECHO: Say = Say::Echo(0);
pub(crate) const UNAVAILABLE: Say = Say::Trailers(&[("grpc-status", "14")]);

/// A peer that follows a script: each stream the next line, and the last one for ever.
pub(crate) struct Peer {
    pub(crate) address: SocketAddr,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    heads: Mutex<Vec<(Instant, HeaderMap)>>,
    resets: AtomicUsize,
}

impl Peer {
    pub(crate) async fn start(script: &[Say]) -> Self {
        Self::listen(TcpListener::bind("127.0.0.1:0").await.unwrap(), script)
    }

    pub(crate) fn listen(listener: TcpListener, script: &[Say]) -> Self {
        let peer = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
        };
        let (seen, script) = (peer.seen.clone(), Arc::<[Say]>::from(script));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(connection(stream, script.clone(), seen.clone()));
            }
        });
        peer
    }

    /// Streams that came.
    pub(crate) fn seen(&self) -> usize {
        self.seen.heads.lock().unwrap().len()
    }

    /// Streams that the other side has reset.
    pub(crate) fn resets(&self) -> usize {
        self.seen.resets.load(Ordering::SeqCst)
    }

    pub(crate) fn head(&self, number: usize) -> HeaderMap {
        self.seen.heads.lock().unwrap()[number].1.clone()
    }

    /// How long after the first stream the second one came.
    pub(crate) fn between(&self) -> Duration {
        let heads = self.seen.heads.lock().unwrap();
        heads[1].0 - heads[0].0
    }
}

async fn connection(stream: TcpStream, script: Arc<[Say]>, seen: Arc<Seen>) {
    let Ok(mut connection) = h2::server::handshake(stream).await else {
        return;
    };
    while let Some(Ok((request, respond))) = connection.accept().await {
        let number = {
            let mut heads = seen.heads.lock().unwrap();
            heads.push((Instant::now(), request.headers().clone()));
            heads.len() - 1
        };
        match script[number.min(script.len() - 1)] {
            Say::Close => return,
            Say::Half => {
                half(request, respond, &mut connection).await;
                return;
            }
            say @ (Say::Echo(_) | Say::Trailers(_) | Say::Reset(_) | Say::Silent) => {
                _ = tokio::spawn(follow(say, request, respond, seen.clone()));
            }
        }
    }
}

/// An answer that breaks off after its first message.
async fn half(
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    connection: &mut h2::server::Connection<TcpStream, Bytes>,
) {
    let mut body = request.into_body();
    let answer = async {
        let octets = body.data().await.unwrap().unwrap();
        let mut to = respond.send_response(ok(), false).unwrap();
        to.send_data(octets, false).unwrap();
        std::future::pending::<()>().await;
    };
    // The connection is driven until all of it is written.
    let driven = async { while let Some(Ok(_)) = connection.accept().await {} };
    let both = async { tokio::join!(answer, driven) };
    assert!(
        tokio::time::timeout(Duration::from_millis(300), both)
            .await
            .is_err()
    );
}

fn ok() -> Response<()> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
    let pairs = pairs
        .iter()
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
    pairs.collect()
}

async fn follow(say: Say, request: Request<RecvStream>, mut respond: SendResponse<Bytes>, seen: Arc<Seen>) {
    match say {
        Say::Echo(ms) => {
            let mut body = request.into_body();
            tokio::time::sleep(Duration::from_millis(ms)).await;
            let Ok(mut to) = respond.send_response(ok(), false) else {
                return; // nobody waits any more
            };
            while let Some(Ok(chunk)) = body.data().await {
                body.flow_control().release_capacity(chunk.len()).unwrap();
                if to.send_data(chunk, false).is_err() {
                    return;
                }
            }
            _ = to.send_trailers(headers(&[("grpc-status", "0")]));
        }
        Say::Trailers(pairs) => {
            let mut response = ok();
            response.headers_mut().extend(headers(pairs));
            respond.send_response(response, true).unwrap();
        }
        Say::Reset(reason) => respond.send_reset(reason),
        Say::Silent | Say::Close | Say::Half => {
            if std::future::poll_fn(|cx| respond.poll_reset(cx)).await.is_ok() {
                seen.resets.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// An address that nobody listens on.
pub(crate) fn nowhere() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

/// The configuration of a client of these; `rules` are lines of a `[[method]]` for all methods.
pub(crate) fn config(targets: &[SocketAddr], rules: &str) -> ClientConfig {
    let targets: Vec<_> = targets
        .iter()
        .map(|target| format!("\"http://{target}\""))
        .collect();
    let text = format!(
        "targets = [{}]\n[[method]]\npath = \"*\"\n{rules}\n",
        targets.join(", ")
    );
    ClientConfig::parse(&text, Path::new(".")).unwrap()
}

pub(crate) fn client(targets: &[SocketAddr], rules: &str) -> Client {
    Client::new(config(targets, rules))
}

/// What an application sees of a call.
pub(crate) struct View {
    pub(crate) answer: Result<User, Status>,
    pub(crate) outcome: Outcome,
}

impl View {
    /// Status, and the fate as the extensions have it.
    pub(crate) fn told(&self) -> (i32, String) {
        let code = match &self.answer {
            Ok(_) => 0,
            Err(status) => i32::from(status.code()),
        };
        let fate = self
            .outcome
            .fate()
            .map_or("open".to_owned(), |fate| fate.to_string());
        if let Err(status) = &self.answer {
            let metadata = status.metadata().get("steer-fate").unwrap();
            assert_eq!(
                metadata.to_str().unwrap(),
                fate,
                "metadata and extensions say the same"
            );
        }
        (code, fate)
    }
}

/// One call with its time; its answer is what it asked.
pub(crate) async fn call(client: &Client, timeout: Duration) -> View {
    let outcome = Outcome::default();
    let mut request = tonic::Request::new(GetUserRequest {
        name: "ana".to_owned(),
    });
    request.set_timeout(timeout);
    request.extensions_mut().insert(outcome.clone());
    let answer = within(UserServiceClient::new(client.clone()).get_user(request)).await;
    if let Ok(answer) = &answer {
        let in_answer = answer.extensions().get::<Outcome>().unwrap();
        assert_eq!(in_answer.known(), outcome.known());
        assert_eq!(answer.get_ref().name, "ana");
    }
    View {
        answer: answer.map(tonic::Response::into_inner),
        outcome,
    }
}

/// Time enough for whatever a test does.
pub(crate) const LONG: Duration = Duration::from_secs(10);

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("it took too long")
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is: impl Fn() -> bool) {
    let began = Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
