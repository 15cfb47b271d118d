//! One TCP connection with its two buffers. Knows frames, no messages.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::session::SessionId;
use crate::transport::unacknowledged;
use crate::wire::{Frame, Malformed, take_frame};

/// Octets read per turn: one large read, so that a flooding peer does not starve timers and writes.
const READ_CHUNK: usize = 64 * 1024;

/// How long a closed connection may take to flush and to hear the peer's FIN. Without reading on, the kernel
/// answers late octets with RST, which can take our last NOTIFICATION with it.
const LINGER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: SessionId,
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    stream: TcpStream,
    inbox: BytesMut,
    outbox: BytesMut,
    /// Octets that were ever queued: where the end of the outbox stands in the stream.
    queued: u64,
}

impl Connection {
    pub(crate) fn new(id: SessionId, stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let (local, remote) = (canonical(stream.local_addr()?), canonical(stream.peer_addr()?));
        Ok(Self {
            id,
            local,
            remote,
            stream,
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            queued: 0,
        })
    }

    /// Whether something can be read or, where something waits to go out, written. One task at a time may ask.
    pub(crate) fn poll_ready(&self, cx: &mut Context<'_>) -> Poll<()> {
        // An error shows up at the next read or write.
        let is_writable = !self.outbox.is_empty() && self.stream.poll_write_ready(cx).is_ready();
        let is_readable = self.stream.poll_read_ready(cx).is_ready();
        if is_writable || is_readable {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    /// Octets that wait for the socket.
    pub(crate) fn backlog(&self) -> usize {
        self.outbox.len()
    }

    pub(crate) fn queue(&mut self, message: &Bytes) {
        self.outbox.extend_from_slice(message);
        self.queued += message.len() as u64;
    }

    /// How many octets were ever queued.
    pub(crate) fn queued(&self) -> u64 {
        self.queued
    }

    /// How many of them the peer's TCP has acknowledged. `None`: the kernel does not tell.
    pub(crate) fn acknowledged(&self) -> Option<u64> {
        let written = self.queued - self.outbox.len() as u64;
        let under_way = unacknowledged(&self.stream).ok()?;
        Some(written.saturating_sub(under_way)) // our FIN counts as one octet
    }

    /// Writes what the socket takes now.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        while !self.outbox.is_empty() {
            match self.stream.try_write(&self.outbox) {
                Ok(written) => drop(self.outbox.split_to(written)),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Reads what has come, once.
    pub(crate) fn fill(&mut self) -> io::Result<()> {
        self.inbox.reserve(READ_CHUNK);
        match self.stream.try_read_buf(&mut self.inbox) {
            Ok(0) => Err(io::Error::new(
                io::ErrorKind::UnexpectedEof,
                "the peer closed the connection",
            )),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// The next whole message that has been read; none is longer than `limit`.
    pub(crate) fn next_frame(&mut self, limit: usize) -> Result<Option<Frame>, Malformed> {
        take_frame(&mut self.inbox, limit)
    }

    /// Flushes, says FIN, and hears the peer out, all within [`LINGER`].
    pub(crate) async fn close(mut self) {
        let polite = async {
            self.stream.write_all(&self.outbox).await?;
            self.stream.shutdown().await?;
            let mut sink = [0; 4096];
            while self.stream.read(&mut sink).await? > 0 {}
            io::Result::Ok(())
        };
        // Late or failed, the connection ends here.
        let _ = tokio::time::timeout(LINGER, polite).await;
    }
}

/// Whether [`Connection::poll_ready`] says so of any; each is asked, so that each wakes us.
pub(crate) fn poll_any_ready(connections: &[Connection], cx: &mut Context<'_>) -> Poll<()> {
    let ready = connections.iter().map(|connection| connection.poll_ready(cx));
    match ready.filter(Poll::is_ready).count() {
        0 => Poll::Pending,
        _ => Poll::Ready(()),
    }
}

/// Waits for the first of the connections; without any it waits for ever.
pub(crate) async fn any_ready(connections: &[Connection]) {
    poll_fn(|cx| poll_any_ready(connections, cx)).await;
}

/// An IPv4 peer on a dual-stack listener is an IPv4 peer.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}
