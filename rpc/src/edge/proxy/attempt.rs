//! One attempt at a backend.

use std::sync::Arc;

use http::uri::{Authority, Scheme};
use http::{Request, Uri};

use crate::attempt::{Teller, leave};
use crate::edge::keep::Kept;
use crate::edge::meter::Tally;
use crate::fate::Deadline;
use crate::link::Links;

/// To the head of its answer; then its request goes on until it has ended or the task is aborted.
pub(super) async fn try_once(
    backend: Arc<Links>,
    (mut request, deadline): (Request<()>, Deadline),
    (kept, sent): (Kept, Tally),
    teller: Teller,
) {
    let end = kept.is_empty();
    let reader = kept.reader(teller.attempt).counted(sent);
    *request.uri_mut() = toward(backend.scheme(), request.uri());
    match backend.open(|now| leave(request, deadline, now), end).await {
        Ok(opened) => teller.exchange(opened, &reader, end).await,
        Err(error) => teller.no_stream(&error).await,
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
