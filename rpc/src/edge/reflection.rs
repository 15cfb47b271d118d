//! Server reflection (`grpc.reflection.v1` and `v1alpha`): the edge itself tells what its descriptor sets describe, whatever its backends
//! do. The service is that of the crate `tonic-reflection`; here are the frames to it and back.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::Request;
use http_body::{Body, Frame};
use tonic::service::Routes;
use tonic_reflection::server::{Builder, Error};
use tower_service::Service as _;

use super::pump;
use super::reply::is_grpc;

/// What methods of it begin with.
const PREFIX: &str = "/grpc.reflection.";

/// Tells what services there are. Clones are the same.
#[derive(Debug, Clone)]
pub struct Reflection(Routes);

impl Reflection {
    /// Of these descriptor sets.
    ///
    /// # Errors
    ///
    /// When one is none, or two say different things of a name.
    pub(super) fn new(sets: &[Vec<u8>]) -> Result<Self, Error> {
        let builder = || {
            let builder = Builder::configure();
            sets.iter().fold(builder, |builder, set| {
                builder.register_encoded_file_descriptor_set(set)
            })
        };
        let routes = Routes::new(builder().build_v1()?);
        Ok(Self(routes.add_service(builder().build_v1alpha()?)))
    }

    /// Whether a call is for it. Pages in browsers cannot ask, as the service has streams in both directions.
    pub(super) fn is_asked(request: &Request<RecvStream>) -> bool {
        request.uri().path().starts_with(PREFIX) && is_grpc(request.headers())
    }

    /// Answers a call. False: its client has gone before the end.
    pub(super) async fn answer(
        mut self,
        request: Request<RecvStream>,
        mut respond: SendResponse<Bytes>,
    ) -> bool {
        let Ok(response) = self.0.call(request.map(Asked)).await;
        let (head, mut body) = response.into_parts();
        let Ok(mut to) = respond.send_response(http::Response::from_parts(head, ()), body.is_end_stream())
        else {
            return false;
        };
        if body.is_end_stream() {
            return true;
        }
        loop {
            let frame = tokio::select! {
                frame = poll_fn(|cx| Pin::new(&mut body).poll_frame(cx)) => frame,
                _ = poll_fn(|cx| to.poll_reset(cx)) => return false,
            };
            if let Some(is_told) = pass_on(frame.map(Result::ok), &mut to).await {
                return is_told;
            }
        }
    }
}

/// At the end, whether the client has it.
async fn pass_on(frame: Option<Option<Frame<Bytes>>>, to: &mut SendStream<Bytes>) -> Option<bool> {
    match frame.map(|frame| frame.map(Frame::into_data)) {
        Some(Some(Ok(octets))) => match pump::send(to, octets, false).await {
            Ok(()) => None,
            Err(_) => Some(false),
        },
        Some(Some(Err(frame))) => {
            // There are frames of data and of trailers.
            let trailers = frame.into_trailers().unwrap_or_default();
            Some(to.send_trailers(trailers).is_ok())
        }
        // The service broke off, or has ended without trailers.
        Some(None) | None => {
            to.send_reset(Reason::INTERNAL_ERROR);
            Some(true)
        }
    }
}

/// The body of a call.
struct Asked(RecvStream);

impl Body for Asked {
    type Data = Bytes;
    type Error = h2::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, h2::Error>>> {
        let Self(stream) = &mut *self;
        if let Some(chunk) = ready!(stream.poll_data(cx)) {
            let frame = chunk.and_then(|chunk| {
                stream.flow_control().release_capacity(chunk.len())?;
                Ok(Frame::data(chunk))
            });
            return Poll::Ready(Some(frame));
        }
        let trailers = ready!(stream.poll_trailers(cx));
        Poll::Ready(trailers.map(|trailers| trailers.map(Frame::trailers)).transpose())
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_end_stream()
    }
}
