//! One connection of a client.

use std::future::poll_fn;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::server::{Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::Request;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::edge::config::ClientRules;
use crate::edge::proxy::{self, Caller, Shared};
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
    pub(super) shared: Arc<Shared>,
    pub(super) rules: Arc<ClientRules>,
    pub(super) caller: Caller,
    pub(super) calls: Arc<Semaphore>,
    pub(super) drained: watch::Receiver<bool>,
    pub(super) drain: Duration,
}

/// What happens on a connection.
#[expect(
    clippy::large_enum_variant,
    reason = "there is one at a time, and calls are what it mostly is"
)]
enum Turn {
    Call(Request<RecvStream>, SendResponse<Bytes>),
    Ended(Option<h2::Error>),
    Drained,
    /// The drain has taken as long as it may.
    Bound,
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

fn dropped(cause: &'static str) {
    metrics::counter!("steer_rpc_clients_dropped_total", "cause" => cause).increment(1);
}

impl Client {
    pub(super) async fn serve(mut self, stream: TcpStream, acceptor: Option<TlsAcceptor>) {
        if tune(&stream).is_err() {
            return; // it was closed already
        }
        let Some(acceptor) = acceptor else {
            return self.speak(stream).await;
        };
        match tokio::time::timeout(HANDSHAKE_MAX, acceptor.accept(stream)).await {
            Ok(Ok(stream)) => {
                let shown = stream.get_ref().1.peer_certificates();
                let first = shown.and_then(|chain| chain.first());
                self.caller.name = first.and_then(tls::client_name).map(Into::into);
                self.speak(stream).await;
            }
            Ok(Err(error)) => {
                tracing::debug!(%error, peer = %self.caller.address, "no TLS with a client");
                metrics::counter!("steer_rpc_handshakes_failed_total").increment(1);
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
        let mut until = None;
        loop {
            let bound = async {
                match until {
                    Some(until) => tokio::time::sleep_until(until).await,
                    None => std::future::pending().await,
                }
            };
            let mut drained = self.drained.clone();
            let turn = tokio::select! {
                accepted = connection.accept() => match accepted {
                    Some(Ok((request, respond))) => Turn::Call(request, respond),
                    Some(Err(error)) => Turn::Ended(Some(error)),
                    None => Turn::Ended(None),
                },
                _ = drained.wait_for(|drained| *drained), if until.is_none() => Turn::Drained,
                () = bound => Turn::Bound,
                () = watch.is_flood.notified() => Turn::Flood,
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
                // RFC 9113 §6.8: first with the highest number, and with the true one when that has arrived.
                Turn::Drained => {
                    connection.graceful_shutdown();
                    until = Some(tokio::time::Instant::now() + self.drain);
                }
                Turn::Bound => {
                    connection.abrupt_shutdown(Reason::NO_ERROR);
                    until = Some(tokio::time::Instant::now() + self.drain);
                }
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
        let Ok(permit) = self.calls.clone().try_acquire_owned() else {
            metrics::counter!("steer_rpc_calls_shed_total").increment(1);
            let refusal = Refusal {
                code: Code::Unavailable,
                fate: Fate::Unprocessed,
                words: "the edge has as many calls as it takes".to_owned(),
                after: Some(FULL),
            };
            return refuse(&mut respond, request.headers(), &refusal);
        };
        let call = proxy::serve(self.shared.clone(), self.caller.clone(), request, respond);
        tokio::spawn(async move {
            let began = Instant::now();
            let is_given_up = call.await;
            watch.on_end(began.elapsed(), is_given_up);
            drop(permit);
        });
    }
}
