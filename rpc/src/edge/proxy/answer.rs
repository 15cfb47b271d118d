//! The answer, passed on to its end.

use std::future::poll_fn;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, Response, StatusCode};

use super::Proxy;
use crate::attempt::Answered;
use crate::edge::meter::Messages;
use crate::edge::pump;
use crate::edge::reply::{is_grpc, status_of, trailers, words};
use crate::edge::web::Web;
use crate::fate::{Code, Fate, News, Report};
use crate::key::REPLAYED_HEADER;
use crate::link::Guard;

impl Proxy {
    /// Passes an answer on to its end; tells how it ended.
    pub(super) async fn pass_on(&mut self, attempt: usize, answered: Box<Answered>) -> Report {
        let Answered {
            head,
            mut body,
            guard,
        } = *answered;
        let end = body.is_end_stream();
        let whole = status_of(head.status, &head.headers);
        count_replay(&head.headers);
        let mut response = Response::from_parts(head, ());
        if let Some(web) = &self.web {
            web.head(response.headers_mut());
        }
        let Ok(stream) = self.respond.send_response(response, end) else {
            return Report::of(News::Cancelled);
        };
        if end {
            return whole;
        }
        let web = self.web.take();
        let mut to = Outlet { stream, web };
        let passed = {
            let stall = self.shared.rules.stall;
            let passing = pass_frames(&mut body, &mut to, self.messages(attempt), stall);
            tokio::pin!(passing);
            let deadline = self.deadline.moment();
            poll_fn(|cx| {
                if self.alarm.poll(deadline, cx).is_ready() {
                    return Poll::Ready(Err(Broken::Late));
                }
                self.poll_work(cx); // the request may still be on its way
                passing.as_mut().poll(cx)
            })
            .await
        };
        match passed {
            Ok(Passed::Trailers(trailers)) => {
                let report = status_of(StatusCode::OK, &trailers);
                self.note_load(attempt, &trailers);
                count_replay(&trailers);
                to.end(trailers);
                report
            }
            Ok(Passed::Whole) => whole,
            Err(broken) => self.broken(broken, &guard, &mut to),
        }
    }

    /// An answer that has begun and does not end well.
    fn broken(&self, broken: Broken, guard: &Guard, to: &mut Outlet) -> Report {
        let (news, code) = match broken {
            Broken::Client => return Report::of(News::Cancelled),
            Broken::Stalled => {
                metrics::counter!("steer_rpc_stalls_total").increment(1);
                to.stream.send_reset(Reason::CANCEL);
                return Report::of(News::Cancelled);
            }
            Broken::Late => (News::Expired, Code::DeadlineExceeded),
            Broken::Backend(error) => {
                if let Some(reason) = error
                    .reason()
                    .filter(|_| error.is_reset() && !is_grpc(&self.head.headers))
                {
                    to.stream.send_reset(reason);
                    return Report::of(News::Lost);
                }
                (guard.news(&error), Code::Unavailable)
            }
        };
        if is_grpc(&self.head.headers) {
            to.end(trailers(code, Fate::Ambiguous, words(code, Fate::Ambiguous)));
        } else {
            to.stream.send_reset(Reason::CANCEL);
        }
        Report {
            code,
            ..Report::of(news)
        }
    }
}

/// Where an answer goes.
struct Outlet {
    stream: SendStream<Bytes>,
    web: Option<Web>,
}

impl Outlet {
    async fn send(&mut self, octets: Bytes, is_last: bool) -> Result<(), h2::Error> {
        let octets = match &self.web {
            Some(web) => web.octets(octets),
            None => octets,
        };
        pump::send(&mut self.stream, octets, is_last).await
    }

    fn end(&mut self, trailers: HeaderMap) {
        // A client that is gone needs no end.
        _ = match &self.web {
            Some(web) => self.stream.send_data(web.trailers(&trailers), true),
            None => self.stream.send_trailers(trailers),
        };
    }
}

/// How an answer ended that is whole.
enum Passed {
    Trailers(HeaderMap),
    Whole,
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
    to: &mut Outlet,
    mut messages: Messages,
    stall: Duration,
) -> Result<Passed, Broken> {
    loop {
        let chunk = tokio::select! {
            chunk = pump::next(from) => chunk,
            // The client is gone: what we hold of the answer is dropped, which resets its stream.
            _ = poll_fn(|cx| to.stream.poll_reset(cx)) => return Err(Broken::Client),
        };
        let Some(chunk) = chunk else {
            if let Some(trailers) = from.trailers().await.map_err(Broken::Backend)? {
                return Ok(Passed::Trailers(trailers));
            }
            let ended = to.stream.send_data(Bytes::new(), true);
            ended.map_err(|_| Broken::Client)?;
            return Ok(Passed::Whole);
        };
        let chunk = chunk.map_err(Broken::Backend)?;
        messages.take(&chunk);
        let is_last = from.is_end_stream();
        // One frame: who takes its octets one by one is as slow as who takes none.
        match tokio::time::timeout(stall, to.send(chunk, is_last)).await {
            Ok(sent) => sent.map_err(|_| Broken::Client)?,
            Err(_) => return Err(Broken::Stalled),
        }
        if is_last {
            return Ok(Passed::Whole);
        }
    }
}

/// A service had done it before, and says so.
fn count_replay(headers: &HeaderMap) {
    if headers.contains_key(REPLAYED_HEADER) {
        metrics::counter!("steer_rpc_replays_total").increment(1);
    }
}
