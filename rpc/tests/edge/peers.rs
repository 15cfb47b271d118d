//! An edge, backends with a script, and a client that shows everything.

use std::future::Future;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response, StatusCode};
use rustls::ServerConfig;
use steer_rpc::edge::{Edge, EdgeConfig, Running};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

/// TLS of a backend, that a test changes while it runs.
pub(crate) type SharedConfig = Arc<Mutex<Arc<ServerConfig>>>;

/// What is waited for at most.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// An edge before these backends; `rules` are lines of a `[[method]]` for all methods.
pub(crate) async fn edge(backends: &[SocketAddr], rules: &str) -> Running {
    edge_with("", backends, "", rules).await
}

/// The same; `head` are lines before the pool, `pool` are lines of it.
pub(crate) async fn edge_with(head: &str, backends: &[SocketAddr], pool: &str, rules: &str) -> Running {
    let backends: Vec<_> = backends.iter().map(|address| format!("\"{address}\"")).collect();
    let text = format!(
        "listen = \"127.0.0.1:0\"\ndrain_ms = 5000\n{head}\n[[pool]]\nname = \"x\"\nbackends = [{}]\n{pool}\n\
         [[method]]\npath = \"*\"\n{rules}\n",
        backends.join(", ")
    );
    let config = EdgeConfig::parse(&text, Path::new(".")).unwrap();
    Edge::bind(config).await.unwrap().run().unwrap()
}

/// What a backend does with a stream.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Script {
    /// Answers OK, with the octets it got.
    Echo,
    /// Answers with this `grpc-status`, trailers alone.
    Status(u8),
    /// RST_STREAM with this code.
    Reset(Reason),
    /// Closes the connection as soon as it has the request.
    Close,
    /// Says nothing.
    Silent,
    /// HEADERS, one message, and then the connection is closed.
    HalfAnswer,
    /// Answers OK, and tells that it can do so many calls per second (ORCA).
    Able(f64),
    /// An answer without end, as fast as it is taken.
    Endless,
}

/// A backend that follows a script: each stream the next line, and the last one for ever.
pub(crate) struct Backend {
    pub(crate) address: SocketAddr,
    seen: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<HeaderMap>>>,
    resets: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
}

impl Backend {
    pub(crate) async fn start(script: &[Script]) -> Self {
        Self::start_with(script, None).await
    }

    /// One that speaks TLS; what is in the cell holds for the next connection.
    pub(crate) async fn start_with(script: &[Script], tls: Option<SharedConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let backend = Self {
            address: listener.local_addr().unwrap(),
            seen: Arc::default(),
            heads: Arc::default(),
            resets: Arc::default(),
            connections: Arc::default(),
            sent: Arc::default(),
        };
        let story = Story {
            script: script.into(),
            seen: backend.seen.clone(),
            heads: backend.heads.clone(),
            resets: backend.resets.clone(),
            connections: backend.connections.clone(),
            sent: backend.sent.clone(),
        };
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let story = story.clone();
                let Some(tls) = &tls else {
                    tokio::spawn(connection(stream, story));
                    continue;
                };
                let acceptor = TlsAcceptor::from(tls.lock().unwrap().clone());
                tokio::spawn(async move {
                    // Who does not get through is what the test is about.
                    if let Ok(stream) = acceptor.accept(stream).await {
                        connection(stream, story).await;
                    }
                });
            }
        });
        backend
    }

    /// Streams that came.
    pub(crate) fn seen(&self) -> usize {
        self.seen.load(Ordering::SeqCst)
    }

    /// Connections that came, with TLS those that got through.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Octets of endless answers.
    pub(crate) fn sent(&self) -> usize {
        self.sent.load(Ordering::SeqCst)
    }

    /// Streams that the other side has reset.
    pub(crate) fn resets(&self) -> usize {
        self.resets.load(Ordering::SeqCst)
    }

    pub(crate) fn head(&self, number: usize) -> HeaderMap {
        self.heads.lock().unwrap()[number].clone()
    }
}

/// What a connection needs to know.
#[derive(Clone)]
struct Story {
    script: Arc<[Script]>,
    seen: Arc<AtomicUsize>,
    heads: Arc<Mutex<Vec<HeaderMap>>>,
    resets: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
    sent: Arc<AtomicUsize>,
}

async fn connection(stream: impl AsyncRead + AsyncWrite + Unpin, story: Story) {
    let Story {
        script,
        seen,
        heads,
        resets,
        connections,
        sent,
    } = story;
    connections.fetch_add(1, Ordering::SeqCst);
    let mut connection = h2::server::handshake(stream).await.unwrap();
    while let Some(Ok((request, respond))) = connection.accept().await {
        let number = seen.fetch_add(1, Ordering::SeqCst);
        let line = script[number.min(script.len() - 1)];
        heads.lock().unwrap().push(request.headers().clone());
        match line {
            Script::Close => return,
            Script::HalfAnswer => {
                let mut respond = respond;
                let mut body = respond.send_response(ok(), false).unwrap();
                body.send_data(Bytes::from_static(b"half"), false).unwrap();
                // Written out before the connection is dropped.
                let flushed = tokio::time::timeout(Duration::from_millis(200), connection.accept());
                assert!(flushed.await.is_err(), "nothing else comes");
                return;
            }
            Script::Endless => _ = tokio::spawn(pour(respond, resets.clone(), sent.clone())),
            Script::Echo | Script::Status(_) | Script::Able(_) | Script::Reset(_) | Script::Silent => {
                tokio::spawn(follow(line, request, respond, resets.clone()));
            }
        }
    }
}

fn ok() -> Response<()> {
    Response::builder()
        .header("content-type", "application/grpc")
        .body(())
        .unwrap()
}

async fn follow(
    line: Script,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    resets: Arc<AtomicUsize>,
) {
    match line {
        Script::Echo => {
            let mut body = request.into_body();
            let mut to = respond.send_response(ok(), false).unwrap();
            while let Some(Ok(chunk)) = body.data().await {
                body.flow_control().release_capacity(chunk.len()).unwrap();
                // An empty frame at the end is none amid the answer.
                if !chunk.is_empty() {
                    to.send_data(chunk, false).unwrap();
                }
            }
            to.send_trailers(status(0)).unwrap();
        }
        Script::Status(code) => {
            let mut response = ok();
            response.headers_mut().extend(status(code));
            respond.send_response(response, true).unwrap();
        }
        Script::Able(capacity) => {
            let mut to = respond.send_response(ok(), false).unwrap();
            let mut trailers = status(0);
            let report = data_encoding::BASE64_NOPAD.encode(&load_report(capacity));
            trailers.insert("endpoint-load-metrics-bin", report.parse().unwrap());
            to.send_trailers(trailers).unwrap();
        }
        Script::Reset(reason) => respond.send_reset(reason),
        Script::Silent | Script::Close | Script::HalfAnswer | Script::Endless => {
            if std::future::poll_fn(|cx| respond.poll_reset(cx)).await.is_ok() {
                resets.fetch_add(1, Ordering::SeqCst);
            }
        }
    }
}

/// An `OrcaLoadReport` with a utilization of a half: 1 is `cpu_utilization`, 6 is `rps_fractional`.
fn load_report(capacity: f64) -> Vec<u8> {
    let fields = [(1_u8, 0.5), (6, capacity / 2.0)];
    let field = |(number, value): (u8, f64)| [&[number << 3 | 1][..], &value.to_le_bytes()].concat();
    fields.into_iter().flat_map(field).collect()
}

async fn pour(mut respond: SendResponse<Bytes>, resets: Arc<AtomicUsize>, sent: Arc<AtomicUsize>) {
    let mut body = respond.send_response(ok(), false).unwrap();
    loop {
        body.reserve_capacity(16 << 10);
        match std::future::poll_fn(|cx| body.poll_capacity(cx)).await {
            Some(Ok(room)) => {
                sent.fetch_add(room, Ordering::SeqCst);
                body.send_data(Bytes::from(vec![0; room]), false).unwrap();
            }
            Some(Err(_)) | None => {
                resets.fetch_add(1, Ordering::SeqCst);
                return;
            }
        }
    }
}

fn status(code: u8) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", u16::from(code).into());
    trailers
}

/// What a client sees.
#[derive(Debug)]
pub(crate) struct Seen {
    pub(crate) head: HeaderMap,
    pub(crate) http: StatusCode,
    pub(crate) body: Vec<u8>,
    pub(crate) trailers: HeaderMap,
}

impl Seen {
    /// From the trailers, or the head where that is all there is.
    pub(crate) fn value(&self, name: &str) -> Option<&str> {
        let value = self.trailers.get(name).or_else(|| self.head.get(name));
        value.map(|value| value.to_str().unwrap())
    }

    pub(crate) fn status(&self) -> &str {
        self.value("grpc-status").unwrap_or("none")
    }

    pub(crate) fn fate(&self) -> &str {
        self.value("steer-fate").unwrap_or("none")
    }
}

pub(crate) async fn client(edge: SocketAddr) -> SendRequest<Bytes> {
    speak(TcpStream::connect(edge).await.unwrap()).await
}

/// HTTP/2 over a connection.
pub(crate) async fn speak(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> SendRequest<Bytes> {
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    send
}

pub(crate) fn request(headers: &[(&str, &str)]) -> Request<()> {
    let mut request = Request::builder()
        .method("POST")
        .uri("http://edge/pay.Payment/Charge");
    for (name, value) in [("content-type", "application/grpc"), ("te", "trailers")]
        .iter()
        .chain(headers)
    {
        request = request.header(*name, *value);
    }
    request.body(()).unwrap()
}

/// One unary call with these octets, on a connection of its own.
pub(crate) async fn call(edge: SocketAddr, headers: &[(&str, &str)], octets: &[u8]) -> Seen {
    call_on(client(edge).await, headers, octets).await.unwrap()
}

pub(crate) async fn call_on(
    send: SendRequest<Bytes>,
    headers: &[(&str, &str)],
    octets: &[u8],
) -> Result<Seen, h2::Error> {
    let work = async {
        let (response, mut body) = send.ready().await?.send_request(request(headers), false)?;
        body.send_data(Bytes::copy_from_slice(octets), true)?;
        Ok(read(response.await?).await)
    };
    within(work).await
}

/// One unary call of another method.
pub(crate) async fn call_path(edge: SocketAddr, path: &str, octets: &[u8]) -> Seen {
    let send = client(edge).await;
    let mut request = request(&[]);
    *request.uri_mut() = format!("http://edge{path}").parse().unwrap();
    let work = async {
        let (response, mut body) = send.ready().await.unwrap().send_request(request, false).unwrap();
        body.send_data(Bytes::copy_from_slice(octets), true).unwrap();
        read(response.await.unwrap()).await
    };
    within(work).await
}

pub(crate) async fn read(response: Response<RecvStream>) -> Seen {
    let (head, mut body) = response.into_parts();
    let mut octets = Vec::new();
    while let Some(chunk) = body.data().await {
        let chunk = chunk.unwrap();
        body.flow_control().release_capacity(chunk.len()).unwrap();
        octets.extend(chunk);
    }
    Seen {
        head: head.headers,
        http: head.status,
        body: octets,
        trailers: body.trailers().await.unwrap().unwrap_or_default(),
    }
}

pub(crate) async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, work)
        .await
        .expect("it took too long")
}

/// Waits until something is so.
pub(crate) async fn until(what: &str, is: impl Fn() -> bool) {
    let began = std::time::Instant::now();
    while !is() {
        assert!(began.elapsed() < PATIENCE, "it never came: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}
