//! `grpc.health.v1.Health/Watch` on an HTTP/2 connection that is held.
//!
//! The server tells each change of its status at once, and its end by GOAWAY, FIN or RST. One that knows no `Watch`
//! (UNIMPLEMENTED) still has its connection held. Coming back is not urgent and left to the probes and their `rise`: an
//! endpoint that is down is not watched.

use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use bytes::{Buf, Bytes, BytesMut};
use h2::client::{Connection, SendRequest};
use http::Request;

use super::dial::Stream;
use super::grpc::{MESSAGE_MAX, Status, UNIMPLEMENTED, request, request_message, serving};
use super::wire::of_error;
use crate::tripwire::Cut;

/// A connection with a call on it.
pub(crate) struct Watch {
    sender: SendRequest<Bytes>,
    connection: Connection<Box<dyn Stream>, Bytes>,
    request: Request<()>,
    service: String,
}

impl std::fmt::Debug for Watch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("service", &self.service)
            .finish_non_exhaustive()
    }
}

/// What became of the call.
enum Call {
    /// What it told, or how it ended, asks for a look.
    Cut(Cut),
    /// The server knows no such call; its connection is as good as any.
    NoWatch,
    /// The connection knows why.
    Lost,
}

impl Watch {
    pub(super) async fn begin(
        stream: Box<dyn Stream>,
        address: &str,
        service: &str,
    ) -> Result<Self, h2::Error> {
        let (sender, connection) = h2::client::handshake(stream).await?;
        let request = request(&format!("{address}/grpc.health.v1.Health/Watch"));
        Ok(Self {
            sender,
            connection,
            request,
            service: service.to_owned(),
        })
    }

    /// Returns when the endpoint is to be looked at.
    pub(super) async fn hold(self) -> Cut {
        let Self {
            sender,
            connection,
            request,
            service,
        } = self;
        let mut standing = sender.clone();
        let (mut call, mut connection) = (pin!(follow(sender, request, &service)), pin!(connection));
        let mut is_watched = true;
        poll_fn(|context| {
            // Twice: what the connection brings wakes the call.
            for _ in 0..2 {
                if is_watched && let Poll::Ready(call) = call.as_mut().poll(context) {
                    match call {
                        Call::Cut(cut) => return Poll::Ready(cut),
                        Call::NoWatch | Call::Lost => is_watched = false,
                    }
                }
                match connection.as_mut().poll(context) {
                    Poll::Ready(Ok(())) => return Poll::Ready(Cut::Closed),
                    Poll::Ready(Err(error)) => return Poll::Ready(of_h2_error(&error)),
                    Poll::Pending => {}
                }
            }
            match standing.poll_ready(context) {
                Poll::Ready(Err(error)) => Poll::Ready(of_h2_error(&error)),
                Poll::Ready(Ok(())) | Poll::Pending => Poll::Pending,
            }
        })
        .await
    }
}

async fn follow(sender: SendRequest<Bytes>, request: Request<()>, service: &str) -> Call {
    match watch(sender, request, service).await {
        Ok(call) => call,
        Err(error) if error.is_reset() && error.is_remote() => Call::Cut(Cut::Closed),
        Err(_) => Call::Lost,
    }
}

async fn watch(sender: SendRequest<Bytes>, request: Request<()>, service: &str) -> Result<Call, h2::Error> {
    let mut sender = sender.ready().await?;
    let (response, mut body) = sender.send_request(request, false)?;
    body.send_data(request_message(service), true)?;
    let response = response.await?;
    let ended = |status: Option<Status>| match status {
        Some(Status {
            code: UNIMPLEMENTED, ..
        })
        | None => Call::NoWatch,
        Some(_) => Call::Cut(Cut::Closed),
    };
    if let Some(status) = Status::of(response.headers()) {
        return Ok(ended(Some(status))); // a call that fails at once has its status in the header
    }
    let mut body = response.into_body();
    let mut carry = BytesMut::new();
    while let Some(part) = body.data().await {
        let part = part?;
        body.flow_control().release_capacity(part.len())?;
        carry.extend_from_slice(&part);
        while let Some(framed) = message(&mut carry) {
            match serving(&framed) {
                Some(1) => {}
                Some(_) => return Ok(Call::Cut(Cut::NotServing)),
                None => return Ok(Call::NoWatch), // whatever this is, it is no health service
            }
        }
        if carry.len() > MESSAGE_MAX {
            return Ok(Call::NoWatch);
        }
    }
    let trailers = body.trailers().await?;
    Ok(ended(trailers.as_ref().and_then(Status::of)))
}

/// Takes a whole message with its prefix, if there is one.
fn message(carry: &mut BytesMut) -> Option<BytesMut> {
    let mut prefix = carry.get(1..5)?;
    let whole = usize::try_from(prefix.get_u32()).ok()?.checked_add(5)?;
    (carry.len() >= whole).then(|| carry.split_to(whole))
}

fn of_h2_error(error: &h2::Error) -> Cut {
    match error.get_io() {
        Some(io) => of_error(io),
        None if error.is_go_away() && error.is_remote() => Cut::GoAway,
        None => Cut::Failed,
    }
}

#[cfg(test)]
mod tests;
