//! One attempt of a call: what leaves on a stream that was opened, and what comes back. For the edge and for a client.

use std::time::Instant;

use h2::RecvStream;
use http::header::HeaderValue;
use http::{Request, response};
use tokio::sync::mpsc;

use crate::edge::keep::Reader;
use crate::edge::pump;
use crate::fate::{Deadline, News, TIMEOUT_HEADER};
use crate::link::{Guard, NoStream, Opened};

/// What an attempt tells.
pub(crate) enum Event {
    Written,
    Head(response::Parts, RecvStream, Guard),
    Failed(News),
}

/// Where an attempt tells it, with its number.
pub(crate) struct Teller {
    pub(crate) attempt: usize,
    pub(crate) events: mpsc::Sender<(usize, Event)>,
}

impl Teller {
    pub(crate) async fn tell(&self, event: Event) {
        // Whoever waited may be gone.
        _ = self.events.send((self.attempt, event)).await;
    }

    /// There is no stream: nothing was sent.
    pub(crate) async fn no_stream(&self, error: &NoStream) {
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
        self.tell(Event::Failed(news)).await;
    }

    /// To the head of the answer; then the request goes on until it has ended or the task is aborted. `end`: it has no body.
    pub(crate) async fn exchange(&self, mut opened: Opened, reader: &Reader, end: bool) {
        self.tell(Event::Written).await;
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
                self.tell(Event::Head(head, body, opened.guard)).await;
                if !is_sent {
                    sending.await;
                }
            }
            Err(error) => self.tell(Event::Failed(opened.guard.news(&error))).await,
        }
    }
}

/// The request as it leaves: with the time that is left, or not at all.
pub(crate) fn leave(mut request: Request<()>, deadline: Deadline, now: Instant) -> Option<Request<()>> {
    if deadline.is_over(now) {
        return None;
    }
    let left = deadline.forwarded(now);
    if let Some(left) = left.and_then(|left| HeaderValue::try_from(left).ok()) {
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
