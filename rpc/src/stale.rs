//! Requests that lay in the socket of a service that stood still (a pause of a collector, SIGSTOP, a host without CPU).
//!
//! `grpc-timeout` is a time and no moment, so a process that wakes up takes what it finds for new, and would do for nobody
//! what was given up long ago. It can see that it stood still, though: a [`Pulse`] that ought to beat did not. A request
//! that is read right after that, and has less time than the process stood still, is refused before it is begun, as
//! unprocessed. One that came in the last moment is refused as well; nothing is lost by that, as it may be sent again.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use http::{HeaderValue, Request, Response};

use crate::edge::reply;
use crate::fate::{Code, Fate, TIMEOUT_HEADER, parse_timeout};

/// It beats this often.
const BEAT: Duration = Duration::from_millis(50);

/// A beat that is later than this is a pause, and not the scheduler's.
const LATE: Duration = Duration::from_millis(300);

/// For so long after a pause, what is read may have come in it.
const SETTLE: Duration = Duration::from_millis(100);

/// Whether the process stands still. Sans-IO.
#[derive(Debug)]
pub struct Pulse {
    last: Instant,
    /// The last pause: its length, and its end.
    pause: Option<(Duration, Instant)>,
}

impl Pulse {
    /// One that begins to beat.
    #[must_use]
    pub const fn new(now: Instant) -> Self {
        Self {
            last: now,
            pause: None,
        }
    }

    /// It beats.
    pub fn on_beat(&mut self, now: Instant) {
        let gap = now.saturating_duration_since(self.last);
        if gap > LATE {
            self.pause = Some((gap, now));
        }
        self.last = now;
    }

    /// How long something that is read now may have waited, because the process stood still.
    #[must_use]
    pub fn age(&self, now: Instant) -> Duration {
        let since = now.saturating_duration_since(self.last);
        if since > LATE {
            return since;
        }
        match self.pause {
            Some((gap, end)) if now.saturating_duration_since(end) <= SETTLE => gap,
            Some(_) | None => Duration::ZERO,
        }
    }
}

/// A layer for servers: `Server::builder().layer(Discard::start())`. Clones are the same.
#[derive(Debug, Clone)]
pub struct Discard {
    pulse: Arc<Mutex<Pulse>>,
}

fn lock(pulse: &Mutex<Pulse>) -> MutexGuard<'_, Pulse> {
    pulse.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Discard {
    /// Begins to beat, in the runtime that it is called in, for as long as it is used.
    #[must_use]
    pub fn start() -> Self {
        let pulse = Arc::new(Mutex::new(Pulse::new(Instant::now())));
        let beating = Arc::downgrade(&pulse);
        tokio::spawn(async move {
            while let Some(pulse) = beating.upgrade() {
                lock(&pulse).on_beat(Instant::now());
                drop(pulse);
                tokio::time::sleep(BEAT).await;
            }
        });
        Self { pulse }
    }
}

impl<S> tower_layer::Layer<S> for Discard {
    type Service = Discarding<S>;

    fn layer(&self, inner: S) -> Discarding<S> {
        Discarding {
            inner,
            pulse: self.pulse.clone(),
        }
    }
}

/// A service that gets nothing stale.
#[derive(Debug, Clone)]
pub struct Discarding<S> {
    inner: S,
    pulse: Arc<Mutex<Pulse>>,
}

impl<S, B, A> tower_service::Service<Request<B>> for Discarding<S>
where
    S: tower_service::Service<Request<B>, Response = Response<A>>,
    S::Future: Send + 'static,
    A: Default + 'static,
{
    type Response = Response<A>;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Response<A>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let age = lock(&self.pulse).age(Instant::now());
        let timeout = request.headers().get(TIMEOUT_HEADER).map(HeaderValue::as_bytes);
        let timeout = timeout.and_then(|text| parse_timeout(text).ok());
        if !age.is_zero() && timeout.is_some_and(|timeout| timeout <= age) {
            metrics::counter!("steer_rpc_stale_calls_total").increment(1);
            return Box::pin(async move { Ok(refusal(age)) });
        }
        Box::pin(self.inner.call(request))
    }
}

fn refusal<A: Default>(age: Duration) -> Response<A> {
    let words = format!("the service stood still for {age:?}, and this may have waited for as long");
    let mut response = Response::new(A::default());
    *response.headers_mut() = reply::trailers(Code::Unavailable, Fate::Unprocessed, &words);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    #[test]
    fn what_is_read_in_time_has_no_age() {
        let now = Instant::now();
        let mut pulse = Pulse::new(now);
        for beat in 1..10 {
            pulse.on_beat(now + beat * BEAT);
            assert_eq!(pulse.age(now + beat * BEAT + 40 * MS), Duration::ZERO);
        }
    }

    #[test]
    fn what_is_read_first_after_a_pause_may_be_as_old_whoever_wakes_up_first() {
        let now = Instant::now();
        let mut pulse = Pulse::new(now);
        let woken = now + 2000 * MS;
        assert_eq!(pulse.age(woken), 2000 * MS, "before the beat");
        pulse.on_beat(woken);
        assert_eq!(pulse.age(woken + 5 * MS), 2000 * MS, "after it");
        pulse.on_beat(woken + BEAT);
        assert_eq!(pulse.age(woken + SETTLE), 2000 * MS);
        pulse.on_beat(woken + 3 * BEAT);
        assert_eq!(pulse.age(woken + 3 * BEAT), Duration::ZERO, "later");
    }
}
