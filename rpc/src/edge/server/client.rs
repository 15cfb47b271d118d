//! One connection of a client.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio_rustls::TlsAcceptor;

use super::live::Live;
use super::phase::{Farewell, Phase, Stay};
use super::places::Places;
use super::worker::Newcomer;
use crate::edge::config::ClientRules;
use crate::edge::proxy::{self, Caller};
use crate::edge::reflection::Reflection;
use crate::edge::reply::{Refusal, refuse};
use crate::edge::resets::Resets;
use crate::edge::tls;
use crate::fate::{Code, Fate};
use crate::link::{KeepAlive, keep_alive, tune};

/// The handshakes of TLS and HTTP/2 together.
const HANDSHAKE_MAX: Duration = Duration::from_secs(10);

/// The window of a stream of a client.
const STREAM_WINDOW: u32 = 256 << 10;
const CONNECTION_WINDOW: u32 = 4 << 20;

/// Octets of an answer that wait to be written to a client.
const SEND_BUFFER_MAX: usize = 256 << 10;

/// Octets of a frame that a client sends (`SETTINGS_MAX_FRAME_SIZE`; the least that RFC 9113 §6.5.2 allows), and of the table
/// of its header fields (`SETTINGS_HEADER_TABLE_SIZE`).
const FRAME_MAX: u32 = 16 << 10;
const HEADER_TABLE: u32 = 4 << 10;

/// Streams that were reset by us are remembered for as long, and so many at most: frames of them may be on their way.
const RESET_KEPT: Duration = Duration::from_secs(1);
const RESETS_KEPT: usize = 50;

/// What small frames that wait to be read may cost beside their octets, 256 each (h2 `data_frame_budget`).
const SMALL_FRAMES: usize = 2 << 20;

/// What a client that has no room is told to wait.
const FULL: Duration = Duration::from_secs(1);

/// How long the last frames of a connection that is given up may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

/// One connection.
pub(super) struct Client {
    pub(super) live: Arc<ArcSwap<Live>>,
    pub(super) rules: Arc<ClientRules>,
    pub(super) caller: Caller,
    pub(super) calls: Places,
    pub(super) phase: watch::Receiver<Phase>,
    pub(super) drain: Duration,
    pub(super) is_own: bool,
}

/// What happens on a connection.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and calls are what it mostly is"
)]
enum Turn {
    Call(Request<RecvStream>, SendResponse<Bytes>),
    Ended(Option<h2::Error>),
    Phase(Phase),
    /// Something of a drain is due.
    Due,
    /// Too many calls were given up young.
    Flood,
    /// Nobody answers pings.
    Silent,
}

/// What the calls of a connection tell it.
#[derive(Debug, Clone)]
struct Watch {
    resets: Arc<Mutex<Resets>>,
    is_flood: Arc<Notify>,
}

impl Watch {
    fn on_end(&self, lived: Duration, is_given_up: bool) {
        let mut resets = self.resets.lock().unwrap_or_else(PoisonError::into_inner);
        if resets.on_end(lived, is_given_up) {
            self.is_flood.notify_one();
        }
    }
}

/// The phases, once there is another one. Without an edge there is none.
async fn next(mut phases: watch::Receiver<Phase>) -> watch::Receiver<Phase> {
    if phases.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    phases
}

fn dropped(cause: &'static str) {
    metrics::counter!("steer_rpc_clients_dropped_total", "cause" => cause).increment(1);
}

/// Closes our side, and reads what still comes: a socket that is closed with octets in it is reset, and the reset overtakes
/// the alert that says why.
async fn linger(mut stream: TcpStream) {
    let mut rest = [0; 1024];
    if stream.shutdown().await.is_ok() {
        while stream.read(&mut rest).await.is_ok_and(|read| read > 0) {}
    }
}

impl Client {
    pub(super) async fn serve(mut self, newcomer: Newcomer) {
        let Newcomer {
            stream,
            tls,
            place: _place,
            address: _,
            is_own: _,
        } = newcomer;
        let Ok(stream) = TcpStream::from_std(stream) else {
            return dropped("register");
        };
        if tune(&stream).is_err() {
            return; // it was closed already
        }
        let Some(acceptor) = tls.map(TlsAcceptor::from) else {
            return self.speak(stream).await;
        };
        let accepting = acceptor.accept(stream).into_fallible();
        match tokio::time::timeout(HANDSHAKE_MAX, accepting).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates();
                let first = shown.and_then(|chain| chain.first());
                self.caller.name = first.and_then(tls::client_name).map(Into::into);
                self.speak(stream).await;
            }
            Ok(Err((error, stream))) => {
                tracing::debug!(%error, peer = %self.caller.address, "no TLS with a client");
                metrics::counter!("steer_rpc_handshakes_failed_total").increment(1);
                _ = tokio::time::timeout(GOODBYE_MAX, linger(stream)).await;
            }
            Err(_) => metrics::counter!("steer_rpc_handshakes_failed_total").increment(1),
        }
    }

    async fn speak(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let ClientRules {
            streams,
            header_octets,
            pending_resets,
            faults,
            ..
        } = *self.rules;
        let mut builder = h2::server::Builder::new();
        builder
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER_MAX)
            .max_frame_size(FRAME_MAX)
            .header_table_size(HEADER_TABLE)
            .reset_stream_duration(RESET_KEPT)
            .max_concurrent_reset_streams(RESETS_KEPT)
            .data_frame_budget(SMALL_FRAMES)
            .max_concurrent_streams(streams)
            .max_header_list_size(header_octets)
            .max_pending_accept_reset_streams(pending_resets)
            .max_local_error_reset_streams(Some(faults));
        match tokio::time::timeout(HANDSHAKE_MAX, builder.handshake(stream)).await {
            Ok(Ok(connection)) => self.accept(connection).await,
            Ok(Err(_)) | Err(_) => metrics::counter!("steer_rpc_handshakes_failed_total").increment(1),
        }
    }

    async fn accept<T: AsyncRead + AsyncWrite + Unpin>(self, mut connection: Connection<T, Bytes>) {
        let watch = Watch {
            resets: Arc::new(Resets::new(self.rules.young_resets).into()),
            is_flood: Arc::default(),
        };
        let times = KeepAlive {
            every: self.rules.ping,
            wait: self.rules.ping,
        };
        // Always: who stops amid a header block has no stream yet, and cannot answer.
        let alive = keep_alive(connection.ping_pong(), times, || true);
        tokio::pin!(alive);
        let mut phases = self.phase.clone();
        let phase = *phases.borrow_and_update();
        let mut stay = Stay::new(self.is_own, self.drain, phase, Instant::now());
        let changed = next(phases);
        let flood = watch.is_flood.clone();
        let flood = flood.notified();
        tokio::pin!(changed, flood);
        loop {
            let due = async {
                match stay.deadline() {
                    Some(at) => tokio::time::sleep_until(at.into()).await,
                    None => std::future::pending().await,
                }
            };
            let turn = tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => Turn::Call(request, respond),
                    Some(Err(error)) => Turn::Ended(Some(error)),
                    None => Turn::Ended(None),
                },
                phases = &mut changed => {
                    let phase = *phases.borrow();
                    changed.set(next(phases));
                    Turn::Phase(phase)
                }
                () = due => Turn::Due,
                () = &mut flood => Turn::Flood,
                () = &mut alive => Turn::Silent,
            };
            match turn {
                Turn::Call(request, respond) => self.begin(request, respond, watch.clone()),
                // In order or not; the calls learn it from their streams.
                Turn::Ended(error) => {
                    if error.is_some_and(|error| error.is_go_away() && error.is_library()) {
                        dropped("http2");
                    }
                    return;
                }
                Turn::Phase(phase) => stay.on_phase(phase, Instant::now()),
                Turn::Due => match stay.on_time(Instant::now()) {
                    Some(Farewell::Tell) => connection.graceful_shutdown(),
                    Some(Farewell::End) => connection.abrupt_shutdown(Reason::NO_ERROR),
                    None => {}
                },
                Turn::Flood => {
                    dropped("resets");
                    connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                    _ = tokio::time::timeout(GOODBYE_MAX, poll_fn(|cx| connection.poll_closed(cx))).await;
                    return;
                }
                Turn::Silent => return dropped("silent"),
            }
        }
    }

    fn begin(&self, request: Request<RecvStream>, mut respond: SendResponse<Bytes>, watch: Watch) {
        let live = self.live.load();
        let web = live.shared.rules.web.as_ref();
        if let Some(told) = web.and_then(|origins| origins.preflight(&request)) {
            // A client that is gone needs no answer.
            _ = respond.send_response(told, true);
            return;
        }
        let Some(place) = self.calls.take(live.clients.calls) else {
            metrics::counter!("steer_rpc_calls_shed_total").increment(1);
            let refusal = Refusal {
                code: Code::Unavailable,
                fate: Fate::Unprocessed,
                words: "the edge has as many calls as it takes".to_owned(),
                after: Some(FULL),
            };
            proxy::turned_away(&live.shared, &self.caller, &request, &refusal);
            return refuse(&mut respond, (request.headers(), None), &refusal);
        };
        let began = Instant::now();
        let reflection = live.shared.rules.reflection.as_ref();
        if let Some(reflection) = reflection.filter(|_| Reflection::is_asked(&request)) {
            let answer = reflection.clone().answer(request, respond);
            tokio::spawn(async move {
                let is_given_up = !answer.await;
                watch.on_end(began.elapsed(), is_given_up);
                drop(place);
            });
            return;
        }
        match proxy::begin(live.shared.clone(), &self.caller, request, respond) {
            Some(call) => drop(tokio::spawn(async move {
                let is_given_up = call.run().await;
                watch.on_end(began.elapsed(), is_given_up);
                drop(place);
            })),
            None => watch.on_end(began.elapsed(), false),
        }
    }
}
