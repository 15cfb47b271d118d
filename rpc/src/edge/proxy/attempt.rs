//! One attempt at a backend.

use std::sync::Arc;
use std::time::Instant;

use http::uri::{Authority, Scheme};
use http::{Request, Uri, request};

use crate::attempt::{self, Teller};
use crate::edge::keep::Kept;
use crate::edge::meter::Tally;
use crate::edge::trace::{TRACEPARENT, TraceParent};
use crate::fate::Deadline;
use crate::link::Links;

/// The head of a request, as it is sent to a backend.
pub(super) struct Outgoing {
    pub(super) head: Arc<request::Parts>,
    /// Attempts before it that somebody may have seen.
    pub(super) previous: u32,
    /// The attempt's own span, where it is recorded; else what the call brought goes on.
    pub(super) parent: Option<TraceParent>,
    pub(super) deadline: Deadline,
}

impl Outgoing {
    fn request(&self, scheme: Scheme, now: Instant) -> Option<Request<()>> {
        let mut request = attempt::request(&self.head, self.previous);
        *request.uri_mut() = toward(scheme, &self.head.uri);
        if let Some(parent) = self.parent.and_then(TraceParent::value) {
            request.headers_mut().insert(TRACEPARENT, parent);
        }
        attempt::leave(request, self.deadline, now)
    }
}

/// To the head of its answer; then its request goes on until it has ended.
pub(super) async fn try_once(
    backend: Arc<Links>,
    outgoing: Outgoing,
    (kept, sent): (Kept, Tally),
    teller: Teller,
) {
    let end = kept.is_empty();
    let reader = kept.reader(teller.attempt).counted(sent);
    let opened = backend.open(|now| outgoing.request(backend.scheme(), now), end);
    match opened.await {
        Ok(opened) => teller.exchange(opened, &reader, end).await,
        Err(error) => teller.no_stream(&error),
    }
}

fn toward(scheme: Scheme, uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(scheme);
    if parts.authority.is_none() {
        parts.authority = Some(Authority::from_static("localhost"));
    }
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}
