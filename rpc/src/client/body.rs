//! The answer of a call, to its end: whatever breaks it, it ends in a status.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use h2::RecvStream;
use http::{HeaderMap, StatusCode};
use http_body::{Body, Frame};
use tokio::time::Sleep;

use super::run::{Run, words};
use crate::edge::reply;
use crate::fate::{Code, News, Report, Stage};
use crate::link::Guard;

/// The octets of an answer. Dropped before its end, it resets its stream.
pub struct Answer(Option<Box<Coming>>);

struct Coming {
    run: Run,
    attempt: usize,
    status: StatusCode,
    body: RecvStream,
    guard: Guard,
    deadline: Option<Pin<Box<Sleep>>>,
    has_data_ended: bool,
}

impl std::fmt::Debug for Answer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answer")
            .field("is_over", &self.0.is_none())
            .finish()
    }
}

impl Answer {
    pub(super) const fn empty() -> Self {
        Self(None)
    }

    pub(super) fn new(run: Run, attempt: usize, status: StatusCode, body: RecvStream, guard: Guard) -> Self {
        let deadline = run.deadline().moment();
        Self(Some(Box::new(Coming {
            run,
            attempt,
            status,
            body,
            guard,
            deadline: deadline.map(|at| Box::pin(tokio::time::sleep_until(at.into()))),
            has_data_ended: false,
        })))
    }
}

impl Body for Answer {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(coming) = &mut self.0 else {
            return Poll::Ready(None);
        };
        let frame = std::task::ready!(coming.poll(cx));
        if frame.is_trailers() {
            self.0 = None;
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

impl Coming {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Frame<Bytes>> {
        if let Some(deadline) = &mut self.deadline
            && deadline.as_mut().poll(cx).is_ready()
        {
            return Poll::Ready(self.broken(News::Expired, Code::DeadlineExceeded));
        }
        if !self.has_data_ended {
            match std::task::ready!(self.body.poll_data(cx)) {
                Some(Ok(chunk)) => {
                    // The window opens as the application reads.
                    return match self.body.flow_control().release_capacity(chunk.len()) {
                        Ok(()) => Poll::Ready(Frame::data(chunk)),
                        Err(error) => Poll::Ready(self.lost(&error)),
                    };
                }
                Some(Err(error)) => return Poll::Ready(self.lost(&error)),
                None => self.has_data_ended = true,
            }
        }
        let trailers = std::task::ready!(self.body.poll_trailers(cx));
        Poll::Ready(match trailers {
            Ok(Some(trailers)) => self.ended(trailers),
            // An answer of gRPC has trailers. Whoever ends it without them has lost the application.
            Ok(None) => self.broken(News::Lost, Code::Unavailable),
            Err(error) => self.lost(&error),
        })
    }

    fn ended(&mut self, mut trailers: HeaderMap) -> Frame<Bytes> {
        if !trailers.contains_key("grpc-status") {
            return self.broken(News::Lost, Code::Unknown);
        }
        let report = reply::status_of(self.status, &trailers);
        let fate = self.run.ended(self.attempt, Stage::Answering, report);
        self.run.mark(&mut trailers, fate, report.code);
        Frame::trailers(trailers)
    }

    fn lost(&mut self, error: &h2::Error) -> Frame<Bytes> {
        let news = self.guard.news(error);
        self.broken(news, Code::Unavailable)
    }

    fn broken(&mut self, news: News, code: Code) -> Frame<Bytes> {
        let report = Report {
            code,
            ..Report::of(news)
        };
        let fate = self.run.ended(self.attempt, Stage::Answering, report);
        let mut trailers = reply::trailers(
            code,
            fate,
            &format!("{}, and its beginning had come", words(code)),
        );
        self.run.mark(&mut trailers, fate, code);
        Frame::trailers(trailers)
    }
}
