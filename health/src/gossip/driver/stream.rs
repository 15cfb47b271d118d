//! One TCP connection: a frame that asks, frames that answer, each with its length before it.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};

use super::STREAM_LIMIT;
use crate::gossip::core::SYNC_FRAMES_MAX;
use crate::gossip::seal::{FRAME_MAX, SessionId};

/// Within this a connection must stand and the first frame have come.
const FIRST_LIMIT: Duration = Duration::from_secs(5);

/// A frame for the loop to look at.
#[derive(Debug)]
pub(super) enum Frame {
    /// Somebody asks; no frames as answer close the stream.
    Asked {
        from: SocketAddr,
        octets: Vec<u8>,
        answer: oneshot::Sender<Vec<Vec<u8>>>,
    },
    /// An answer to what we asked in `session`.
    Told {
        from: SocketAddr,
        session: SessionId,
        octets: Vec<u8>,
        is_last: oneshot::Sender<bool>,
    },
}

/// Asks `at`, and hands on what comes.
pub(super) async fn ask(at: SocketAddr, session: SessionId, request: Vec<u8>, loop_: mpsc::Sender<Frame>) {
    let asked = tokio::time::timeout(STREAM_LIMIT, ask_at(at, session, &request, &loop_)).await;
    count(
        at,
        "asked",
        asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
    );
}

async fn ask_at(
    at: SocketAddr,
    session: SessionId,
    request: &[u8],
    loop_: &mpsc::Sender<Frame>,
) -> io::Result<()> {
    let mut stream = tokio::time::timeout(FIRST_LIMIT, TcpStream::connect(at)).await??;
    write(&mut stream, request).await?;
    for _ in 0..=SYNC_FRAMES_MAX {
        let octets = read(&mut stream).await?;
        let (is_last, answered) = oneshot::channel();
        let told = Frame::Told {
            from: at,
            session,
            octets,
            is_last,
        };
        if loop_.send(told).await.is_err() || answered.await.unwrap_or(true) {
            return Ok(());
        }
    }
    Err(io::Error::other("too many frames"))
}

/// Answers who asks.
pub(super) async fn answer(stream: TcpStream, from: SocketAddr, loop_: mpsc::Sender<Frame>) {
    let answered = tokio::time::timeout(STREAM_LIMIT, answer_on(stream, from, &loop_)).await;
    count(
        from,
        "answered",
        answered.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
    );
}

async fn answer_on(mut stream: TcpStream, from: SocketAddr, loop_: &mpsc::Sender<Frame>) -> io::Result<()> {
    let octets = tokio::time::timeout(FIRST_LIMIT, read(&mut stream)).await??;
    let (answer, answered) = oneshot::channel();
    let asked = Frame::Asked { from, octets, answer };
    if loop_.send(asked).await.is_err() {
        return Ok(());
    }
    let frames = answered.await.unwrap_or_default();
    if frames.is_empty() {
        return Err(io::ErrorKind::PermissionDenied.into());
    }
    for frame in frames {
        write(&mut stream, &frame).await?;
    }
    stream.shutdown().await
}

async fn read(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let length = stream.read_u32().await?;
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    if length > FRAME_MAX {
        return Err(io::Error::other("the frame is too long"));
    }
    let mut octets = vec![0; length];
    stream.read_exact(&mut octets).await?;
    Ok(octets)
}

async fn write(stream: &mut TcpStream, frame: &[u8]) -> io::Result<()> {
    stream.write_u32(frame.len() as u32).await?; // FRAME_MAX at most
    stream.write_all(frame).await
}

fn count(with: SocketAddr, what: &'static str, result: io::Result<()>) {
    let result = match result {
        Ok(()) => what,
        Err(error) => {
            tracing::debug!(%with, %error, "a stream of gossip failed");
            "failed"
        }
    };
    metrics::counter!("steer_health_gossip_streams_total", "result" => result).increment(1);
}
