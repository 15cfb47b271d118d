//! One call of a client: the driver of a [`Call`].

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use h2::RecvStream;
use http::header::HeaderValue;
use http::uri::PathAndQuery;
use http::{HeaderMap, Request, Response, Uri, request, response};
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::task::{AbortHandle, JoinHandle};

use super::body::Answer;
use super::breaker::Ended;
use super::outcome::Outcome;
use super::pool::{Asked, Nobody, Pool, Site};
use crate::attempt::{self, Answered, Event, Teller, Told, leave};
use crate::edge::keep::Kept;
use crate::edge::reply;
use crate::fate::{
    Action, Call, Code, Deadline, End, FATE_HEADER, Fate, How, News, Report, Semantics, Stage, Why,
};
use crate::key::{IdempotencyKey, KEY_HEADER, REPLAYED_HEADER};

/// A task that ends with whoever waits for it.
pub(super) struct Task(AbortHandle);

impl Drop for Task {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl From<JoinHandle<()>> for Task {
    fn from(task: JoinHandle<()>) -> Self {
        Self(task.abort_handle())
    }
}

/// The site that an attempt asks, once it has one.
type Slot = Arc<Mutex<Option<Asked>>>;

fn take(slot: &Slot) -> Option<Asked> {
    slot.lock().unwrap_or_else(PoisonError::into_inner).take()
}

/// An attempt under way or over.
struct Attempt {
    /// Sends its request, as long as there is something to send.
    task: Task,
    asked: Slot,
}

/// A call with all that it needs.
pub(super) struct Run {
    pool: Arc<Pool>,
    head: request::Parts,
    kept: Kept,
    deadline: Deadline,
    call: Call,
    attempts: Vec<Attempt>,
    heads: BTreeMap<usize, Box<Answered>>,
    /// Whom the attempts asked.
    tried: Arc<Mutex<Vec<SocketAddr>>>,
    told: Told,
    rng: SmallRng,
    outcome: Outcome,
    /// Reads the request.
    _filling: Task,
}

/// A call that begins.
pub(super) struct Begin {
    pub(super) pool: Arc<Pool>,
    pub(super) head: request::Parts,
    pub(super) kept: Kept,
    pub(super) filling: Task,
    pub(super) policy: crate::fate::Policy,
    pub(super) deadline: Deadline,
}

impl Run {
    pub(super) fn new(begin: Begin, now: Instant) -> Self {
        let Begin {
            pool,
            mut head,
            kept,
            filling,
            policy,
            deadline,
        } = begin;
        let mut rng = SmallRng::from_rng(&mut rand::rng());
        let outcome = head.extensions.remove::<Outcome>().unwrap_or_default();
        let key = key_of(&mut head.headers, policy.semantics, &mut rng);
        outcome.note(|known| {
            *known = super::outcome::Known {
                key,
                ..Default::default()
            };
        });
        Self {
            pool,
            head,
            kept,
            deadline,
            call: Call::new(policy, deadline, now),
            attempts: Vec::new(),
            heads: BTreeMap::new(),
            tried: Arc::default(),
            told: Told::default(),
            rng,
            outcome,
            _filling: filling,
        }
    }

    pub(super) const fn deadline(&self) -> Deadline {
        self.deadline
    }

    /// To the head of the answer, or to a status of our own.
    pub(super) async fn answer(mut self) -> Response<Answer> {
        let mut overflowed = false;
        loop {
            if let Some(end) = self.act() {
                return self.finish(end);
            }
            let wake = self.call.next_deadline();
            let kept = self.kept.clone();
            tokio::select! {
                // A process that stood still looks at the clock before it goes on with what lay there.
                biased;
                () = sleep_until(wake) => self.on_time(),
                (attempt, event) = self.told.next() => self.on_event(attempt, event),
                () = kept.overflowed(), if !overflowed => {
                    overflowed = true;
                    self.call.not_replayable();
                }
            }
        }
    }

    fn on_time(&mut self) {
        let now = Instant::now();
        if self.deadline.is_over(now) {
            // Who has not answered by then may be why: a path that swallows everything shows itself by nothing else.
            for attempt in &self.attempts {
                end(&attempt.asked, Ended::Badly);
            }
        }
        let pool = self.pool.clone();
        self.call.on_deadline(&pool.budget(), now);
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
        let asked = Slot::default();
        let work = Try {
            pool: self.pool.clone(),
            request: attempt::request(&self.head, previous),
            deadline: self.deadline,
            kept: self.kept.clone(),
            tried: self.tried.clone(),
            asked: asked.clone(),
            teller: Teller {
                attempt,
                told: self.told.clone(),
            },
        };
        self.attempts.push(Attempt {
            task: tokio::spawn(work.run(SmallRng::from_rng(&mut self.rng))).into(),
            asked,
        });
        self.outcome.note(|known| known.attempts += 1);
    }

    fn cancel(&mut self, attempt: usize) {
        self.heads.remove(&attempt);
        if let Some(attempt) = self.attempts.get(attempt) {
            attempt.task.0.abort();
            if let Some(asked) = take(&attempt.asked) {
                asked.overtaken();
            }
        }
    }

    fn on_event(&mut self, number: usize, event: Event) {
        let report = match event {
            Event::Written => Report::of(News::Written),
            Event::Failed(news) => Report::of(news),
            Event::Head(answered) => {
                let Answered { head, body, .. } = &*answered;
                let report = if is_whole(head, body) {
                    reply::status_of(head.status, &head.headers)
                } else {
                    Report::of(News::Headers)
                };
                self.heads.insert(number, answered);
                report
            }
        };
        if let (Some(ended), Some(attempt)) = (of_site(report.news), self.attempts.get(number)) {
            end(&attempt.asked, ended);
        }
        if report.news == News::NoConnection {
            self.pool.on_no_connection();
        }
        self.report(number, report);
    }

    pub(super) fn report(&mut self, attempt: usize, report: Report) {
        let pool = self.pool.clone();
        let mut budget = pool.budget();
        self.call
            .on_news(attempt, report, &mut budget, &mut self.rng, Instant::now());
    }

    fn finish(mut self, end: End) -> Response<Answer> {
        // What is cancelled with the end comes before it; nothing is left to do.
        match end.how {
            How::Failed { code, why } => {
                self.settle(end.fate, code, Some(why));
                let words = format!("{} ({}, the call is {})", words(code), why.name(), end.fate);
                self.refusal(code, end.fate, &words)
            }
            How::Answer { attempt } => {
                self.kept.let_go();
                let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner).clone();
                match self.heads.remove(&attempt) {
                    Some(answered) => self.pass_on((attempt, tried), *answered),
                    // Only a driver with a fault comes here.
                    None => self.refusal(Code::Internal, Fate::Ambiguous, "the answer is gone"),
                }
            }
        }
    }

    fn pass_on(mut self, (attempt, tried): (usize, Vec<SocketAddr>), answered: Answered) -> Response<Answer> {
        let Answered {
            mut head,
            body,
            guard,
        } = answered;
        let replayed = head.headers.contains_key(REPLAYED_HEADER);
        self.outcome.note(|known| {
            known.replayed = replayed;
            // The last one asked, where there was one attempt; with several, the one of that number.
            known.target = tried.get(attempt).or(tried.last()).copied();
        });
        head.extensions.insert(self.outcome.clone());
        if is_whole(&head, &body) {
            let report = reply::status_of(head.status, &head.headers);
            let fate = self.ended(attempt, Stage::Sent, report);
            let status = HeaderValue::from(u16::from(report.code.number()));
            head.headers.entry("grpc-status").or_insert(status);
            self.mark(&mut head.headers, fate, report.code);
            return Response::from_parts(head, Answer::empty());
        }
        let answer = Answer::new(self, attempt, head.status, body, guard);
        Response::from_parts(head, answer)
    }

    /// The end of an answer that had come so far; its fate.
    pub(super) fn ended(&mut self, attempt: usize, stage: Stage, report: Report) -> Fate {
        self.report(attempt, report);
        let fate = stage.next(report.news).fate().unwrap_or(Fate::Ambiguous);
        self.settle(fate, report.code, None);
        fate
    }

    fn settle(&self, fate: Fate, code: Code, why: Option<Why>) {
        self.outcome.note(|known| {
            known.fate = Some(fate);
            known.why = why;
        });
        metrics::counter!("steer_rpc_client_calls_total", "fate" => fate.name(), "status" => code.name())
            .increment(1);
    }

    /// What says the fate and the key in the metadata of a status.
    pub(super) fn mark(&self, trailers: &mut HeaderMap, fate: Fate, code: Code) {
        mark(trailers, fate, self.outcome.known().key.as_ref(), code);
    }

    fn refusal(&self, code: Code, fate: Fate, words: &str) -> Response<Answer> {
        let mut response = refusal(code, fate, words);
        self.mark(response.headers_mut(), fate, code);
        response.extensions_mut().insert(self.outcome.clone());
        response
    }
}

/// Whether the head of an answer is all of it. Who answers with another status of HTTP speaks no gRPC, and what it has to
/// say is of no use.
fn is_whole(head: &response::Parts, body: &RecvStream) -> bool {
    body.is_end_stream() || head.status != http::StatusCode::OK
}

fn end(slot: &Slot, ended: Ended) {
    if let Some(asked) = take(slot) {
        asked.end(ended);
    }
}

/// What news of an attempt says of its site; nothing as long as it may still answer.
const fn of_site(news: News) -> Option<Ended> {
    match news {
        News::Written => None,
        News::Headers | News::Answered => Some(Ended::Well),
        News::Refused | News::NoConnection | News::Lost | News::Doubtful => Some(Ended::Badly),
        // Who goes in order has not failed.
        News::Disowned | News::Disclaimed | News::Expired | News::Cancelled => Some(Ended::Silently),
    }
}

/// The key of a keyed call: the application's, or one made now, for all attempts.
fn key_of(headers: &mut HeaderMap, semantics: Semantics, rng: &mut SmallRng) -> Option<IdempotencyKey> {
    if let Some(given) = headers.get(KEY_HEADER) {
        // A wrong one is for the service to refuse: it knows what it takes.
        return IdempotencyKey::parse(given.as_bytes()).ok();
    }
    match semantics {
        Semantics::AtMostOnce | Semantics::AtLeastOnce => None,
        Semantics::Keyed => {
            let key = IdempotencyKey::random(rng);
            if let Ok(value) = HeaderValue::from_str(key.as_str()) {
                headers.insert(KEY_HEADER, value);
            }
            Some(key)
        }
    }
}

fn mark(trailers: &mut HeaderMap, fate: Fate, key: Option<&IdempotencyKey>, code: Code) {
    trailers.insert(FATE_HEADER, HeaderValue::from_static(fate.name()));
    // Who wants to try again needs it.
    if let Some(key) = key.filter(|_| code != Code::Ok)
        && let Ok(value) = HeaderValue::from_str(key.as_str())
    {
        trailers.insert(KEY_HEADER, value);
    }
}

/// A status of our own, trailers alone.
pub(super) fn refusal(code: Code, fate: Fate, words: &str) -> Response<Answer> {
    let mut response = Response::new(Answer::empty());
    *response.headers_mut() = reply::trailers(code, fate, words);
    let kind = HeaderValue::from_static("application/grpc");
    response.headers_mut().insert(http::header::CONTENT_TYPE, kind);
    response
}

/// For `grpc-message`.
pub(super) fn words(code: Code) -> &'static str {
    if code == Code::DeadlineExceeded {
        "the deadline passed"
    } else {
        "no answer came"
    }
}

/// One attempt.
struct Try {
    pool: Arc<Pool>,
    /// Without the authority of a target and the time that is left.
    request: Request<()>,
    deadline: Deadline,
    kept: Kept,
    tried: Arc<Mutex<Vec<SocketAddr>>>,
    asked: Slot,
    teller: Teller,
}

impl Try {
    /// To the head of its answer; then its request goes on until it has ended or the task is aborted.
    async fn run(self, mut rng: SmallRng) {
        let end = self.kept.is_empty();
        let reader = self.kept.reader(self.teller.attempt);
        let site = match self.site(&mut rng).await {
            Ok(site) => site,
            Err(error) => {
                tracing::debug!(%error, "nobody can be asked");
                return self.teller.tell(Event::Failed(News::NoConnection));
            }
        };
        let request = addressed(&self.request, &site);
        let opened = site.links.open(|now| leave(request, self.deadline, now), end);
        match opened.await {
            Ok(opened) => self.teller.exchange(opened, &reader, end).await,
            Err(error) => self.teller.no_stream(&error),
        }
    }

    /// Whom it asks.
    async fn site(&self, rng: &mut SmallRng) -> Result<Arc<Site>, Nobody> {
        let tried = self.tried.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let (site, asked) = self.pool.ask(&tried, rng).await?;
        *self.asked.lock().unwrap_or_else(PoisonError::into_inner) = Some(asked);
        self.tried
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(site.links.address());
        Ok(site)
    }
}

/// The request as it goes to one site.
fn addressed(request: &Request<()>, site: &Site) -> Request<()> {
    let mut request = request.clone();
    let path = request.uri().path_and_query().cloned();
    let uri = Uri::builder()
        .scheme(site.target.scheme.clone())
        .authority(site.target.authority.clone())
        .path_and_query(path.unwrap_or_else(|| PathAndQuery::from_static("/")));
    if let Ok(uri) = uri.build() {
        *request.uri_mut() = uri;
    }
    request
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at.into()).await,
        None => std::future::pending().await,
    }
}
