//! The answer, passed on to its end.

use std::future::poll_fn;
use std::time::Duration;

use bytes::Bytes;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode, response};

use super::{Proxy, sleep_until};
use crate::edge::meter::Messages;
use crate::edge::pump;
use crate::edge::reply::{is_grpc, status_of, trailers, words};
use crate::fate::{Code, Fate, News, Report};
use crate::key::REPLAYED_HEADER;
use crate::link::Guard;

impl Proxy {
    /// Passes an answer on to its end; tells how it ended.
    pub(super) async fn pass_on(
        &self,
        attempt: usize,
        (head, mut body, guard): (response::Parts, RecvStream, Guard),
        mut respond: SendResponse<Bytes>,
    ) -> Report {
        let end = body.is_end_stream();
        let whole = status_of(head.status, &head.headers);
        count_replay(&head.headers);
        let response = Response::from_parts(head, ());
        let Ok(mut to) = respond.send_response(response, end) else {
            return Report::of(News::Cancelled);
        };
        if end {
            return whole;
        }
        let passed = tokio::select! {
            passed = pass_frames(&mut body, &mut to, self.messages(attempt), self.shared.stall) => passed,
            () = sleep_until(self.deadline.moment()) => Err(Broken::Late),
        };
        match passed {
            Ok(Some(trailers)) => {
                let report = status_of(StatusCode::OK, &trailers);
                self.note_load(attempt, &trailers);
                count_replay(&trailers);
                _ = to.send_trailers(trailers);
                report
            }
            Ok(None) => {
                _ = to.send_data(Bytes::new(), true);
                whole
            }
            Err(broken) => self.broken(broken, &guard, &mut to),
        }
    }

    /// An answer that has begun and does not end well.
    fn broken(&self, broken: Broken, guard: &Guard, to: &mut SendStream<Bytes>) -> Report {
        let (news, code) = match broken {
            Broken::Client => return Report::of(News::Cancelled),
            Broken::Stalled => {
                metrics::counter!("steer_rpc_stalls_total").increment(1);
                to.send_reset(Reason::CANCEL);
                return Report::of(News::Cancelled);
            }
            Broken::Late => (News::Expired, Code::DeadlineExceeded),
            Broken::Backend(error) => {
                if let Some(reason) = error
                    .reason()
                    .filter(|_| error.is_reset() && !is_grpc(&self.head.headers))
                {
                    to.send_reset(reason);
                    return Report::of(News::Lost);
                }
                (guard.news(&error), Code::Unavailable)
            }
        };
        if is_grpc(&self.head.headers) {
            _ = to.send_trailers(trailers(code, Fate::Ambiguous, words(code, Fate::Ambiguous)));
        } else {
            to.send_reset(Reason::CANCEL);
        }
        Report {
            code,
            ..Report::of(news)
        }
    }
}

/// Why an answer broke.
enum Broken {
    Client,
    /// It is there, and takes nothing.
    Stalled,
    Late,
    Backend(h2::Error),
}

async fn pass_frames(
    from: &mut RecvStream,
    to: &mut SendStream<Bytes>,
    mut messages: Messages,
    stall: Duration,
) -> Result<Option<HeaderMap>, Broken> {
    loop {
        let chunk = tokio::select! {
            chunk = pump::next(from) => chunk,
            // The client is gone: what we hold of the answer is dropped, which resets its stream.
            _ = poll_fn(|cx| to.poll_reset(cx)) => return Err(Broken::Client),
        };
        let Some(chunk) = chunk else {
            return from.trailers().await.map_err(Broken::Backend);
        };
        let chunk = chunk.map_err(Broken::Backend)?;
        messages.take(&chunk);
        // One frame: who takes its octets one by one is as slow as who takes none.
        match tokio::time::timeout(stall, pump::send(to, chunk, false)).await {
            Ok(sent) => sent.map_err(|_| Broken::Client)?,
            Err(_) => return Err(Broken::Stalled),
        }
    }
}

/// A service had done it before, and says so.
fn count_replay(headers: &HeaderMap) {
    if headers.contains_key(REPLAYED_HEADER) {
        metrics::counter!("steer_rpc_replays_total").increment(1);
    }
}
