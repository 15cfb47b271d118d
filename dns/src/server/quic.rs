//! DNS over QUIC, RFC 9250: an endpoint, its connections, and one query with its reply on each of their streams.
//!
//! Bounds, per connection: [`STREAMS`] queries at a time of [`LONGEST`] octets each, [`WINDOW`] octets of them that are
//! not read, and as many of replies that are not taken. Without a whole query for `tcp_idle` it is closed; packets that
//! keep it alive do not count, nor do streams on which no query is whole.
//!
//! 0-RTT is off: what it saves, a connection that is kept open saves too, and nothing can be replayed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use quinn::{
    Connection, ConnectionError, Endpoint, EndpointConfig, Incoming, ReadToEndError, RecvStream, SendStream,
    ServerConfig, TokioRuntime, TransportConfig, VarInt,
};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::task::TaskTracker;

use super::certificate::Certificate;
use super::frames;
use super::gate::{Gate, Place};
use super::socket;
use super::stream::{End, Service};
use crate::count::{self, Dropped};
use crate::reply::Transport;

/// Queries of one connection at a time.
const STREAMS: u32 = 100;
/// Octets of one query with its length in front (RFC 9250 §4.2).
const LONGEST: usize = 2 + u16::MAX as usize;
/// Octets of one connection that wait to be read or to be taken.
const WINDOW: u32 = 4 * LONGEST as u32;
/// Connections that wait for us to take them.
const BACKLOG: usize = 1024;
/// At the end, so long queries under way may take.
const LAST_TURN: Duration = Duration::from_millis(500);

/// Why we close a connection or give up a stream: RFC 9250 §4.3.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Code {
    /// DOQ_NO_ERROR
    None = 0,
    /// DOQ_INTERNAL_ERROR
    Internal = 1,
    /// DOQ_PROTOCOL_ERROR
    Protocol = 2,
    /// DOQ_REQUEST_CANCELLED
    Cancelled = 3,
    /// DOQ_EXCESSIVE_LOAD
    Load = 4,
}

impl From<Code> for VarInt {
    fn from(code: Code) -> Self {
        Self::from_u32(code as u32)
    }
}

/// A bound endpoint. It takes no connections yet.
pub(super) fn bind(address: SocketAddr) -> io::Result<Endpoint> {
    let socket = socket::datagrams(address)?;
    Endpoint::new(EndpointConfig::default(), None, socket, Arc::new(TokioRuntime))
}

/// Takes connections until the service stops, then ends when the last of them has.
pub(super) async fn listen(
    endpoint: Endpoint,
    certificate: Arc<Certificate>,
    gate: Arc<Gate>,
    service: Service,
) {
    let base = config(&certificate, service.idle);
    endpoint.set_server_config(Some(base.clone()));
    let connections = TaskTracker::new();
    loop {
        let incoming = tokio::select! {
            biased;
            () = service.stop.cancelled() => break,
            incoming = endpoint.accept() => incoming,
        };
        let Some(incoming) = incoming else { break };
        let Some((incoming, place)) = admit(incoming, &gate) else {
            continue;
        };
        let mut config = base.clone();
        config.crypto = certificate.quic();
        let service = service.clone();
        connections.spawn(async move {
            converse(incoming, config, &service).await;
            drop(place);
        });
    }
    // whoever comes now is refused
    endpoint.set_server_config(None);
    connections.close();
    connections.wait().await;
    endpoint.close(Code::None.into(), b"");
    let _ = timeout(LAST_TURN, endpoint.wait_idle()).await;
}

fn config(certificate: &Certificate, idle: Duration) -> ServerConfig {
    let mut transport = TransportConfig::default();
    transport
        .max_concurrent_bidi_streams(STREAMS.into())
        // RFC 9250 §4.2: there is no use for them
        .max_concurrent_uni_streams(0_u32.into())
        .datagram_receive_buffer_size(None)
        .stream_receive_window(WINDOW.into())
        .receive_window(WINDOW.into())
        .send_window(WINDOW.into())
        .max_idle_timeout(idle.try_into().ok())
        // RFC 9250 §5.4: lengths shall tell nothing, in packets where that can be had
        .pad_to_mtu(true);
    let mut config = ServerConfig::with_crypto(certificate.quic());
    config.transport_config(Arc::new(transport)).max_incoming(BACKLOG);
    config
}

/// A place for a connection. RFC 9000 §8.1.2: when places become few, a client must show first that its address is
/// its own; so forged senders keep nobody out.
fn admit(incoming: Incoming, gate: &Arc<Gate>) -> Option<(Incoming, Place)> {
    let peer = incoming.remote_address().ip();
    let is_doubtful = !incoming.remote_address_validated() && incoming.may_retry();
    if is_doubtful && gate.is_busy(peer) {
        count::dropped(Dropped::Unvalidated);
        // fails only where no retry may be asked for
        let _ = incoming.retry();
        return None;
    }
    match gate.enter(peer) {
        Ok(place) => Some((incoming, place)),
        Err(full) => {
            count::dropped(full.into());
            incoming.refuse();
            None
        }
    }
}

async fn converse(incoming: Incoming, config: ServerConfig, service: &Service) {
    let _open = count::Open::new(Transport::Quic);
    let handshake = async { incoming.accept_with(Arc::new(config))?.await };
    let connection = tokio::select! {
        connection = timeout(service.idle, handshake) => connection,
        () = service.stop.cancelled() => return,
    };
    let Ok(Ok(connection)) = connection else {
        count::dropped(Dropped::Handshake);
        return;
    };
    let end = serve(&connection, service).await;
    let code = match end {
        End::Client | End::Idle | End::Error | End::Shutdown => Code::None,
        End::Nonsense => Code::Protocol,
        End::Slow => Code::Load,
    };
    connection.close(code.into(), b"");
    count::closed(Transport::Quic, end);
}

/// Serves one connection until it must be closed.
async fn serve(connection: &Connection, service: &Service) -> End {
    let mut queries = JoinSet::new();
    let asked = Asked::default();
    let begin = |send, receive| one(connection.clone(), send, receive, service.clone(), asked.clone());
    let mut deadline = Instant::now() + service.idle;
    loop {
        tokio::select! {
            biased;
            () = service.stop.cancelled() => break,
            stream = connection.accept_bi() => match stream {
                Ok((send, receive)) => {
                    queries.spawn(begin(send, receive));
                }
                Err(error) => return ended(&error),
            },
            Some(done) = queries.join_next() => match done {
                Ok(Ok(Outcome::Answered)) => deadline = Instant::now() + service.idle,
                Ok(Ok(Outcome::GivenUp)) => {}
                Ok(Err(end)) => return end,
                Err(_) => return End::Error,
            },
            () = tokio::time::sleep_until(deadline) => {
                if asked.is_none() {
                    return End::Idle;
                }
                deadline = Instant::now() + service.idle; // a reply that is not taken has a bound of its own
            }
        }
    }
    // What has been received is answered.
    let deadline = Instant::now() + LAST_TURN;
    while Instant::now() < deadline
        && let Ok(Ok((send, receive))) = timeout(Duration::ZERO, connection.accept_bi()).await
    {
        queries.spawn(begin(send, receive));
    }
    while let Ok(Some(_)) = timeout_at(deadline, queries.join_next()).await {}
    End::Shutdown
}

fn ended(error: &ConnectionError) -> End {
    match error {
        ConnectionError::ConnectionClosed(_) | ConnectionError::ApplicationClosed(_) => End::Client,
        ConnectionError::TimedOut => End::Idle,
        ConnectionError::LocallyClosed => End::Shutdown,
        ConnectionError::VersionMismatch
        | ConnectionError::TransportError(_)
        | ConnectionError::Reset
        | ConnectionError::CidsExhausted => End::Error,
    }
}

/// What became of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// The client has its reply.
    Answered,
    /// There was no whole query, or the client does not want the reply.
    GivenUp,
}

/// How many queries of a connection are whole and have not yet ended in a reply that is taken.
#[derive(Debug, Clone, Default)]
struct Asked(Arc<AtomicUsize>);

/// One of them while it lives.
struct OneAsked(Asked);

impl Asked {
    fn one(self) -> OneAsked {
        self.0.fetch_add(1, Ordering::Relaxed);
        OneAsked(self)
    }

    fn is_none(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

impl Drop for OneAsked {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// One query. An error ends the connection.
async fn one(
    connection: Connection,
    mut send: SendStream,
    mut receive: RecvStream,
    service: Service,
    asked: Asked,
) -> Result<Outcome, End> {
    // RFC 9250 §4.2: a query is whole when its stream ends, and nothing follows it.
    let message = match timeout(service.idle, receive.read_to_end(LONGEST)).await {
        Ok(Ok(message)) => message,
        Ok(Err(ReadToEndError::TooLong)) => return Err(End::Nonsense),
        // RFC 9250 §4.3.1: who takes its query back wants no reply.
        Ok(Err(ReadToEndError::Read(_))) => {
            give_up(&mut send, Code::Cancelled);
            return Ok(Outcome::GivenUp);
        }
        Err(_) => {
            let _ = receive.stop(Code::Load.into());
            give_up(&mut send, Code::Load);
            return Ok(Outcome::GivenUp);
        }
    };
    let query = query(&message).ok_or(End::Nonsense)?;
    let _asked = asked.one();
    // the client may have moved since the handshake
    let client = connection.remote_address().ip();
    let reply = super::answer(&service.engine, query, client, Transport::Quic).ok_or(End::Nonsense)?;
    let mut framed = Vec::new();
    let is_whole = reply
        .encode()
        .is_ok_and(|octets| frames::append(&mut framed, &octets));
    if !is_whole {
        count::unsent(1);
        give_up(&mut send, Code::Internal);
        return Ok(Outcome::GivenUp);
    }
    let taken = async {
        send.write_all(&framed).await.ok()?;
        send.finish().ok()?;
        // a connection that is closed takes with it what has not arrived
        send.stopped().await.ok()
    };
    match timeout(service.idle, taken).await {
        Ok(Some(_)) => Ok(Outcome::Answered),
        Ok(None) => Ok(Outcome::GivenUp),
        Err(_) => Err(End::Slow),
    }
}

/// Whether the stream is still there does not matter.
fn give_up(send: &mut SendStream, code: Code) {
    let _ = send.reset(code.into());
}

/// The message behind its length. `None`, RFC 9250 §4.3.3: the stream ended early, or more than one query is on it.
fn query(stream: &[u8]) -> Option<&[u8]> {
    let (length, message) = stream.split_first_chunk()?;
    (message.len() == usize::from(u16::from_be_bytes(*length))).then_some(message)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stream_holds_one_message_and_nothing_else() {
        assert_eq!(query(&[0, 2, 7, 8]), Some(&[7, 8][..]));
        for stream in [&[][..], &[0], &[0, 2, 7], &[0, 2, 7, 8, 9]] {
            assert_eq!(query(stream), None, "{stream:?}");
        }
    }
}
