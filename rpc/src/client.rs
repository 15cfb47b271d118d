//! The client: a tower service under any client that tonic generates.
//!
//! ```text
//! SomeClient::new(client) ─► run: fate::Call ─► pool ─► site ─► links (h2, TLS, keepalive, TCP_USER_TIMEOUT)
//!                            deadline, key      names   breaker
//!                            retry, hedge       P2C, outliers
//! ```
//!
//! Which attempts follow on which is decided by [`crate::fate`], as at the edge; what holds for a method is said as it is
//! there ([`ClientConfig`]). Whatever happens, a call ends in a status, and its metadata have `steer-fate`, and
//! `idempotency-key` where it had one.

mod body;
mod breaker;
mod config;
mod outcome;
mod pool;
mod resuming;
mod run;
mod target;

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Request, Response};
use http_body::Body;

pub use body::Answer;
pub use breaker::{Barred, Breaker, BreakerLimits, Ended, Leave, State};
pub use config::{ClientConfig, InvalidClient};
pub use outcome::{Known, Outcome};
pub use resuming::{Messages, Resuming};
pub use target::{InvalidTarget, Target};

pub use crate::link::KeepAlive;

use crate::edge::keep::{End, Kept};
use crate::edge::policy::Policies;
use crate::fate::{Code, Deadline, Fate, TIMEOUT_HEADER, parse_timeout};
use pool::Pool;
use run::{Begin, Run, refusal};

/// What a client calls itself where the application does not say it.
const AGENT: &str = concat!("steer-rpc/", env!("CARGO_PKG_VERSION"));

/// A client. Clones are the same, with the same connections and the same budget.
#[derive(Clone)]
pub struct Client {
    pool: Arc<Pool>,
    policies: Arc<Policies>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

impl Client {
    /// Opens nothing yet: the first call asks for names and connects.
    #[must_use]
    pub fn new(config: ClientConfig) -> Self {
        Self {
            policies: Arc::new(config.policies.clone()),
            pool: Arc::new(Pool::new(config)),
        }
    }

    /// The application's time, or the method's.
    fn deadline(&self, head: &http::request::Parts, now: Instant) -> Result<Deadline, String> {
        let rules = self.policies.of(head.uri.path());
        let asked = asked(&head.headers)?;
        Ok(Deadline::of(asked.or(rules.timeout), rules.max_timeout, now))
    }

    fn begin<B>(&self, request: Request<B>) -> Result<Run, Response<Answer>>
    where
        B: Body<Data = Bytes> + Send + 'static,
    {
        let now = Instant::now();
        let (mut head, body) = request.into_parts();
        let deadline = self.deadline(&head, now);
        let deadline = deadline.map_err(|fault| refusal(Code::Internal, Fate::NotSent, &fault))?;
        let rules = self.policies.of(head.uri.path());
        head.headers
            .entry(http::header::USER_AGENT)
            .or_insert(HeaderValue::from_static(AGENT));
        let kept = Kept::new(body.is_end_stream());
        let filling = tokio::spawn(fill(kept.clone(), body)).into();
        let begin = Begin {
            pool: self.pool.clone(),
            head,
            kept,
            filling,
            policy: rules.policy,
            deadline,
        };
        Ok(Run::new(begin, now))
    }
}

impl<B> tower_service::Service<Request<B>> for Client
where
    B: Body<Data = Bytes> + Send + 'static,
{
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Answer>, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // What is too much is refused by the breaker of each target, and is told as such.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let run = self.begin(request);
        Box::pin(async move {
            Ok(match run {
                Ok(run) => run.answer().await,
                Err(refusal) => refusal,
            })
        })
    }
}

/// The time that the application gives.
fn asked(headers: &HeaderMap) -> Result<Option<std::time::Duration>, String> {
    let asked = headers.get(TIMEOUT_HEADER).map(HeaderValue::as_bytes);
    asked
        .map(parse_timeout)
        .transpose()
        .map_err(|error| error.to_string())
}

/// Reads what the application sends, no faster than it is taken.
async fn fill<B: Body<Data = Bytes>>(kept: Kept, body: B) {
    let mut body = std::pin::pin!(body);
    let end = loop {
        let next = std::future::poll_fn(|cx| body.as_mut().poll_frame(cx).map_err(drop));
        match next.await {
            None => break End::Whole(None),
            Some(Err(())) => break End::Broken,
            Some(Ok(frame)) => match frame.into_data() {
                Ok(chunk) => {
                    kept.push(chunk);
                    kept.room().await;
                }
                Err(frame) => break End::Whole(frame.into_trailers().ok()),
            },
        }
    };
    kept.finish(end);
}
