//! One call through the edge: the driver of a [`Call`].

mod answer;
mod attempt;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{HeaderName, HeaderValue};
use http::{Request, request, response};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::backend::{Backend, Guard};
use super::balance::{Balance, Reading};
use super::keep::Kept;
use super::policy::Policies;
use super::reply::{refuse, status_of, words};
use crate::fate::{
    Action, Budget, Call, Code, Deadline, End, Fate, How, News, Report, TIMEOUT_HEADER, parse_timeout,
};

/// `grpc-previous-rpc-attempts` (gRFC A6).
const PREVIOUS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// Backends that may stand in for each other.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) backends: Vec<Arc<Backend>>,
    pub(super) balance: std::sync::Mutex<Balance>,
    pub(super) budget: std::sync::Mutex<Budget>,
}

impl Pool {
    fn balance(&self) -> MutexGuard<'_, Balance> {
        self.balance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What all calls share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) policies: Policies,
    pub(super) pools: Vec<Arc<Pool>>,
}

/// What an attempt tells.
enum Event {
    Written,
    Head(response::Parts, RecvStream, Guard),
    Failed(News),
}

/// An attempt under way or over.
struct Attempt {
    task: AbortHandle,
    backend: usize,
    began: Instant,
    /// Whether the balance has its reading.
    is_read: bool,
}

struct Proxy {
    pool: Arc<Pool>,
    head: request::Parts,
    kept: Kept,
    deadline: Deadline,
    call: Call,
    attempts: Vec<Attempt>,
    heads: BTreeMap<usize, (response::Parts, RecvStream, Guard)>,
    tell: mpsc::Sender<(usize, Event)>,
    told: mpsc::Receiver<(usize, Event)>,
    rng: SmallRng,
}

/// Passes a call on, and its answer back.
pub(super) async fn serve(
    shared: Arc<Shared>,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) {
    let (head, body) = request.into_parts();
    let rules = shared.policies.of(head.uri.path());
    let timeout = match head
        .headers
        .get(TIMEOUT_HEADER)
        .map(|value| parse_timeout(value.as_bytes()))
    {
        None => rules.timeout,
        Some(Ok(timeout)) => Some(timeout),
        Some(Err(error)) => {
            refuse(
                &mut respond,
                &head.headers,
                Code::Internal,
                Fate::Unprocessed,
                &error.to_string(),
            );
            return;
        }
    };
    let now = Instant::now();
    let deadline = Deadline::of(timeout, rules.max_timeout, now);
    let kept = Kept::new(body.is_end_stream());
    let filling = tokio::spawn(kept.clone().fill(body)).abort_handle();
    let (tell, told) = mpsc::channel(8);
    let proxy = Proxy {
        pool: shared.pools[rules.pool].clone(),
        head,
        kept,
        deadline,
        call: Call::new(rules.policy, deadline, now),
        attempts: Vec::new(),
        heads: BTreeMap::new(),
        tell,
        told,
        rng: SmallRng::from_rng(&mut rand::rng()),
    };
    proxy.run(respond).await;
    filling.abort();
}

impl Proxy {
    async fn run(mut self, mut respond: SendResponse<Bytes>) {
        let mut overflowed = false;
        loop {
            if let Some(end) = self.act() {
                return self.finish(end, respond).await;
            }
            let wake = self.call.next_deadline();
            let kept = self.kept.clone();
            tokio::select! {
                event = self.told.recv() => {
                    if let Some((attempt, event)) = event {
                        self.on_event(attempt, event);
                    }
                }
                () = sleep_until(wake) => {
                    let budget = self.pool.clone();
                    self.call.on_deadline(&budget.budget(), Instant::now());
                }
                // The client is gone, or wants no more of it.
                _ = poll_fn(|cx| respond.poll_reset(cx)) => self.call.on_cancel(),
                () = kept.overflowed(), if !overflowed => {
                    overflowed = true;
                    self.call.not_replayable();
                }
            }
        }
    }

    /// Does what the machine wants; its end, when it comes.
    fn act(&mut self) -> Option<End> {
        while let Some(action) = self.call.poll_action() {
            match action {
                Action::Start { attempt, previous } => self.start(attempt, previous),
                Action::Cancel { attempt } => self.cancel(attempt),
                Action::Finish(end) => return Some(end),
            }
        }
        None
    }

    fn start(&mut self, attempt: usize, previous: u32) {
        let now = Instant::now();
        let tried: Vec<_> = self.attempts.iter().map(|attempt| attempt.backend).collect();
        let picked = self.pool.balance().pick(&tried, &mut self.rng, now);
        let Some(backend) = picked else {
            // A pool has a backend at least; the configuration sees to it.
            return self.report(attempt, Report::of(News::NoConnection));
        };
        let request = (self.request(previous), self.deadline);
        let work = attempt::try_once(
            self.pool.backends[backend].clone(),
            request,
            self.kept.clone(),
            attempt,
            self.tell.clone(),
        );
        self.attempts.push(Attempt {
            task: tokio::spawn(work).abort_handle(),
            backend,
            began: now,
            is_read: false,
        });
    }

    /// The request as it goes to a backend; see [`attempt::try_once`] for the rest.
    fn request(&self, previous: u32) -> Request<()> {
        let mut request = Request::new(());
        *request.method_mut() = self.head.method.clone();
        *request.uri_mut() = self.head.uri.clone();
        *request.version_mut() = http::Version::HTTP_2;
        let headers = request.headers_mut();
        *headers = self.head.headers.clone();
        headers.remove(PREVIOUS);
        if previous > 0 {
            headers.insert(PREVIOUS, HeaderValue::from(previous));
        }
        request
    }

    fn cancel(&mut self, attempt: usize) {
        self.read(attempt, Reading::Silent);
        self.heads.remove(&attempt);
        if let Some(attempt) = self.attempts.get(attempt) {
            attempt.task.abort();
        }
    }

    fn on_event(&mut self, number: usize, event: Event) {
        let report = match event {
            Event::Written => Report::of(News::Written),
            Event::Failed(news) => Report::of(news),
            Event::Head(head, body, guard) => {
                let report = if body.is_end_stream() {
                    status_of(head.status, &head.headers)
                } else {
                    Report::of(News::Headers)
                };
                self.heads.insert(number, (head, body, guard));
                report
            }
        };
        let began = self.attempts.get(number).map(|attempt| attempt.began);
        match report.news {
            News::Written => {}
            News::Headers | News::Answered => {
                let took = began.map(|began| began.elapsed()).unwrap_or_default();
                self.read(number, Reading::Answered(took));
            }
            News::Refused | News::NoConnection | News::Lost | News::Doubtful => {
                self.read(number, Reading::Failed);
            }
            // A backend that goes in order has not failed.
            News::Disowned | News::Disclaimed | News::Expired | News::Cancelled => {
                self.read(number, Reading::Silent);
            }
        }
        self.report(number, report);
    }

    fn read(&mut self, number: usize, reading: Reading) {
        if let Some(attempt) = self.attempts.get_mut(number)
            && !std::mem::replace(&mut attempt.is_read, true)
        {
            let backend = attempt.backend;
            self.pool.balance().on_end(backend, reading, Instant::now());
        }
    }

    fn report(&mut self, attempt: usize, report: Report) {
        let pool = self.pool.clone();
        let mut budget = pool.budget();
        self.call
            .on_news(attempt, report, &mut budget, &mut self.rng, Instant::now());
    }

    async fn finish(mut self, end: End, mut respond: SendResponse<Bytes>) {
        // What is cancelled with the end comes before it; nothing is left to do.
        match end.how {
            How::Failed { code, why } => {
                count(end.fate, code);
                let words = format!("{} ({}, the call is {})", words(code), why.name(), end.fate);
                refuse(&mut respond, &self.head.headers, code, end.fate, &words);
                self.end_all();
            }
            How::Answer { attempt } => {
                self.kept.let_go();
                let Some((head, body, guard)) = self.heads.remove(&attempt) else {
                    return self.end_all();
                };
                let report = self.pass_on(head, body, &guard, respond).await;
                count(Fate::Committed, report.code);
                self.report(attempt, report);
                self.end_all();
            }
        }
    }

    fn end_all(&self) {
        for attempt in &self.attempts {
            attempt.task.abort();
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}

fn count(fate: Fate, code: Code) {
    metrics::counter!("steer_rpc_calls_total", "fate" => fate.name(), "status" => code.name()).increment(1);
}
