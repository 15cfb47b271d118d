//! Frames from one stream to another.

use std::future::poll_fn;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};

use super::keep::{End, Part, Reader};

/// Sends octets as far as the peer's window lets us.
pub(super) async fn send(to: &mut SendStream<Bytes>, mut octets: Bytes, end: bool) -> Result<(), h2::Error> {
    if octets.is_empty() {
        // An empty frame amid a stream says nothing, and h2 closes a connection that has had a hundred of them.
        return if end { to.send_data(octets, true) } else { Ok(()) };
    }
    while !octets.is_empty() {
        to.reserve_capacity(octets.len());
        let room = match poll_fn(|cx| to.poll_capacity(cx)).await {
            Some(room) => room?,
            None => return Err(Reason::STREAM_CLOSED.into()),
        };
        let part = octets.split_to(room.min(octets.len()));
        to.send_data(part, end && octets.is_empty())?;
    }
    Ok(())
}

/// Sends a request, as it comes.
pub(crate) async fn request(from: &Reader, to: &mut SendStream<Bytes>) -> Result<(), h2::Error> {
    loop {
        match from.next().await {
            Part::Chunk { octets, is_last } => {
                send(to, octets, is_last).await?;
                if is_last {
                    return Ok(());
                }
            }
            Part::End(End::Whole(None)) => return to.send_data(Bytes::new(), true),
            Part::End(End::Whole(Some(trailers))) => return to.send_trailers(trailers),
            Part::End(End::Broken | End::Malformed) => {
                to.send_reset(Reason::CANCEL);
                return Ok(());
            }
        }
    }
}

/// The next frame of an answer.
pub(super) async fn next(from: &mut RecvStream) -> Option<Result<Bytes, h2::Error>> {
    let chunk = from.data().await?;
    Some(chunk.and_then(|chunk| {
        // The window opens as we read; what the client does not take waits in `send`.
        from.flow_control().release_capacity(chunk.len())?;
        Ok(chunk)
    }))
}
