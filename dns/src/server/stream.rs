//! One connection: queries in, replies out, in the order in which they came (RFC 7766 §6.2.1.1).
//!
//! A query is answered at once, so nothing is gained by answering out of order. While replies wait for a slow
//! reader nothing more is read, so that a connection holds at most [`FLUSH_AT`] octets and one reply.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_util::sync::CancellationToken;

use super::frames::{self, Frames};
use crate::count;
use crate::engine::Engine;
use crate::reply::Transport;

/// Replies are written as soon as so many octets wait.
const FLUSH_AT: usize = 16 * 1024;
/// Octets that one read asks for.
const READ: usize = 4 * 1024;
/// At the end, so long a connection goes on with what has been received.
const LAST_TURN: Duration = Duration::from_millis(500);

/// Why a connection ended; a label of its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// The client closed it.
    Client,
    /// No whole query for too long (RFC 7766 §6.2.3).
    Idle,
    /// Replies were not taken for too long.
    Slow,
    /// Something came that no reply is due to: further octets would make no more sense.
    Nonsense,
    /// It broke.
    Error,
    /// We end.
    Shutdown,
}

/// What all connections of a listener share.
#[derive(Debug, Clone)]
pub(crate) struct Service {
    pub(crate) engine: Arc<Engine>,
    /// See [`End::Idle`] and [`End::Slow`].
    pub(crate) idle: Duration,
    pub(crate) stop: CancellationToken,
}

/// Serves one connection to its end.
pub(crate) async fn serve<S>(stream: S, client: IpAddr, transport: Transport, service: &Service) -> End
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut connection = Connection {
        stream,
        client,
        transport,
        service,
        frames: Frames::default(),
        out: Vec::new(),
        reply: Vec::new(),
    };
    let end = connection.run().await;
    // the end of the stream tells the client that nothing follows; whether it hears it is its affair
    let _ = timeout(LAST_TURN, connection.stream.shutdown()).await;
    end
}

struct Connection<'s, S> {
    stream: S,
    client: IpAddr,
    transport: Transport,
    service: &'s Service,
    frames: Frames,
    /// Replies that wait to be written.
    out: Vec<u8>,
    /// Kept for its room.
    reply: Vec<u8>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<'_, S> {
    async fn run(&mut self) -> End {
        // Octets of an unfinished query do not move it: who sends one at a time is idle as well.
        let mut deadline = Instant::now() + self.service.idle;
        loop {
            self.frames.buffer().reserve(READ);
            let read = tokio::select! {
                biased;
                () = self.service.stop.cancelled() => return self.last_turn().await,
                read = timeout_at(deadline, self.stream.read_buf(self.frames.buffer())) => read,
            };
            match read {
                Err(_) => return End::Idle,
                Ok(Err(_)) => return End::Error,
                Ok(Ok(0)) => return End::Client,
                Ok(Ok(_)) => {}
            }
            match self.answer_all().await {
                Ok(0) => {}
                Ok(_) => deadline = Instant::now() + self.service.idle,
                Err(end) => return end,
            }
        }
    }

    /// What has been received before the end is answered.
    async fn last_turn(&mut self) -> End {
        let deadline = Instant::now() + LAST_TURN;
        while Instant::now() < deadline {
            self.frames.buffer().reserve(READ);
            let read = timeout(Duration::ZERO, self.stream.read_buf(self.frames.buffer())).await;
            if !matches!(read, Ok(Ok(1..))) {
                break;
            }
            match timeout_at(deadline, self.answer_all()).await {
                Ok(Ok(_)) => {}
                Ok(Err(end)) => return end,
                Err(_) => return End::Slow,
            }
        }
        End::Shutdown
    }

    /// Answers every whole query that was read; how many those were.
    async fn answer_all(&mut self) -> Result<usize, End> {
        let mut answered = 0;
        while let Some(query) = self.frames.next() {
            let reply = super::answer(&self.service.engine, &query, self.client, self.transport);
            let Some(reply) = reply else {
                self.flush().await?;
                return Err(End::Nonsense);
            };
            answered += 1;
            self.reply.clear();
            let is_sent =
                reply.encode_into(&mut self.reply).is_ok() && frames::append(&mut self.out, &self.reply);
            if !is_sent {
                count::unsent(1);
            }
            if self.out.len() >= FLUSH_AT {
                self.flush().await?;
            }
        }
        self.flush().await?;
        Ok(answered)
    }

    async fn flush(&mut self) -> Result<(), End> {
        if self.out.is_empty() {
            return Ok(());
        }
        let written = async {
            self.stream.write_all(&self.out).await?;
            self.stream.flush().await
        };
        let result = match timeout(self.service.idle, written).await {
            Err(_) => Err(End::Slow),
            Ok(Err(_)) => Err(End::Error),
            Ok(Ok(())) => Ok(()),
        };
        self.out.clear();
        result
    }
}

#[cfg(test)]
#[path = "stream_tests.rs"]
mod tests;
