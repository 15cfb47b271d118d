//! One attempt of a call: what leaves on a stream that was opened, and what comes back. For the edge and for a client.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use h2::RecvStream;
use http::header::{HeaderName, HeaderValue};
use http::{Request, request, response};
use tokio::sync::Notify;

use crate::edge::keep::Reader;
use crate::edge::pump;
use crate::fate::{Deadline, News, TIMEOUT_HEADER};
use crate::link::{Guard, NoStream, Opened};

/// `grpc-previous-rpc-attempts` (gRFC A6).
const PREVIOUS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// What an attempt tells.
pub(crate) enum Event {
    Written,
    Head(Box<Answered>),
    Failed(News),
}

/// An answer that begins.
pub(crate) struct Answered {
    pub(crate) head: response::Parts,
    pub(crate) body: RecvStream,
    pub(crate) guard: Guard,
}

/// What the attempts of a call have told, with their numbers: two things each at most. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Told(Arc<Queue>);

#[derive(Default)]
struct Queue {
    events: Mutex<VecDeque<(usize, Event)>>,
    come: Notify,
}

impl Told {
    fn lock(&self) -> MutexGuard<'_, VecDeque<(usize, Event)>> {
        self.0.events.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was told first.
    pub(crate) fn take(&self) -> Option<(usize, Event)> {
        self.lock().pop_front()
    }

    /// Waits for it.
    pub(crate) async fn next(&self) -> (usize, Event) {
        loop {
            if let Some(told) = self.take() {
                return told;
            }
            self.0.come.notified().await;
        }
    }
}

/// Where an attempt tells it.
pub(crate) struct Teller {
    pub(crate) attempt: usize,
    pub(crate) told: Told,
}

impl Teller {
    pub(crate) fn tell(&self, event: Event) {
        self.told.lock().push_back((self.attempt, event));
        self.told.0.come.notify_one();
    }

    /// There is no stream: nothing was sent.
    pub(crate) fn no_stream(&self, error: &NoStream) {
        let news = match error {
            NoStream::Expired => News::Expired,
            NoStream::Io(_)
            | NoStream::Tls(_)
            | NoStream::Alpn
            | NoStream::Late
            | NoStream::Shared
            | NoStream::NoGreeting
            | NoStream::Http(_) => News::NoConnection,
        };
        tracing::debug!(%error, "no stream");
        self.tell(Event::Failed(news));
    }

    /// To the head of the answer; then the request goes on until it has ended or the task is aborted. `end`: it has no body.
    pub(crate) async fn exchange(&self, mut opened: Opened, reader: &Reader, end: bool) {
        self.tell(Event::Written);
        let sending = async {
            if !end && let Err(error) = pump::request(reader, &mut opened.body).await {
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
                let guard = opened.guard;
                self.tell(Event::Head(Box::new(Answered { head, body, guard })));
                if !is_sent {
                    sending.await;
                }
            }
            Err(error) => self.tell(Event::Failed(opened.guard.news(&error))),
        }
    }
}

/// The request of an attempt. `previous`: attempts before it that somebody may have seen; what a caller says of that is not
/// passed on.
pub(crate) fn request(head: &request::Parts, previous: u32) -> Request<()> {
    let mut request = Request::new(());
    *request.method_mut() = head.method.clone();
    *request.uri_mut() = head.uri.clone();
    *request.version_mut() = http::Version::HTTP_2;
    let headers = request.headers_mut();
    *headers = head.headers.clone();
    headers.remove(PREVIOUS);
    if previous > 0 {
        headers.insert(PREVIOUS, HeaderValue::from(previous));
    }
    request
}

/// The request as it leaves: with the time that is left, or not at all.
pub(crate) fn leave(mut request: Request<()>, deadline: Deadline, now: Instant) -> Option<Request<()>> {
    if deadline.is_over(now) {
        return None;
    }
    let left = deadline.forwarded(now);
    if let Some(mut left) = left.and_then(|left| HeaderValue::try_from(left).ok()) {
        // It is another one each time: in the table of the header fields (RFC 7541 §2.3.2) it would displace what comes again.
        left.set_sensitive(true);
        request.headers_mut().insert(TIMEOUT_HEADER, left);
    }
    Some(request)
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
