//! One attempt: a stream to a backend.

use std::sync::Arc;
use std::time::Instant;

use http::header::HeaderValue;
use http::uri::{Authority, Scheme};
use http::{Request, Uri};
use tokio::sync::mpsc;

use super::Event;
use crate::edge::backend::{Backend, NoStream};
use crate::edge::keep::Kept;
use crate::edge::meter::Tally;
use crate::edge::pump;
use crate::fate::{Deadline, News, TIMEOUT_HEADER};

/// One attempt, to the head of its answer; then its request goes on until it has ended or the task is aborted.
pub(super) async fn try_once(
    backend: Arc<Backend>,
    (mut request, deadline): (Request<()>, Deadline),
    kept: Kept,
    (attempt, sent): (usize, Tally),
    events: mpsc::Sender<(usize, Event)>,
) {
    let tell = async |event| _ = events.send((attempt, event)).await;
    let end = kept.is_empty();
    let reader = kept.reader(attempt).counted(sent);
    *request.uri_mut() = toward(backend.scheme(), request.uri());
    let request = |now| leave(request, deadline, now);
    let mut opened = match backend.open(request, end).await {
        Ok(opened) => opened,
        Err(NoStream::Expired) => return tell(Event::Failed(News::Expired)).await,
        Err(error) => {
            tracing::debug!(%error, "no stream to a backend");
            return tell(Event::Failed(News::NoConnection)).await;
        }
    };
    tell(Event::Written).await;
    let sending = async {
        if !end && let Err(error) = pump::request(&reader, &mut opened.body).await {
            tracing::debug!(%error, "a request was not sent to its end");
        }
    };
    tokio::pin!(sending);
    let mut is_sent = false;
    let answer = loop {
        tokio::select! {
            answer = &mut opened.response => break answer,
            () = &mut sending, if !is_sent => is_sent = true,
        }
    };
    match answer {
        Ok(response) => {
            let (head, body) = response.into_parts();
            tell(Event::Head(head, body, opened.guard)).await;
            if !is_sent {
                sending.await;
            }
        }
        Err(error) => {
            let news = opened.guard.news(&error);
            tell(Event::Failed(news)).await;
        }
    }
}

/// The request as it leaves: with the time that is left, or not at all.
fn leave(mut request: Request<()>, deadline: Deadline, now: Instant) -> Option<Request<()>> {
    if deadline.is_over(now) {
        return None;
    }
    let left = deadline.forwarded(now);
    if let Some(left) = left.and_then(|left| HeaderValue::try_from(left).ok()) {
        request.headers_mut().insert(TIMEOUT_HEADER, left);
    }
    Some(request)
}

fn toward(scheme: Scheme, uri: &Uri) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.scheme = Some(scheme);
    if parts.authority.is_none() {
        parts.authority = Some(Authority::from_static("localhost"));
    }
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_call_that_waited_for_a_connection_leaves_with_the_time_that_is_left_or_not_at_all() {
        let now = Instant::now();
        let second = Duration::from_secs(1);
        let deadline = Deadline::at(now + 3 * second);
        let left = |at| leave(Request::new(()), deadline, at);
        let request = left(now + second).unwrap();
        assert_eq!(request.headers()[TIMEOUT_HEADER], "2000000u");
        assert!(left(now + 3 * second).is_none());
        let endless = leave(Request::new(()), Deadline::NONE, now).unwrap();
        assert!(!endless.headers().contains_key(TIMEOUT_HEADER));
    }
}
