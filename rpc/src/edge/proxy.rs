//! One call through the edge: the driver of a [`Call`].

mod admit;
mod answer;
mod attempt;

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::net::IpAddr;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::header::{HeaderName, HeaderValue};
use http::{HeaderMap, Request, request, response};
use metrics::SharedString;
use rand::SeedableRng;
use rand::rngs::SmallRng;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;

use super::balance::{Balance, LOAD_HEADER, Reading, parse_load};
use super::keep::Kept;
use super::meter::{AttemptMeter, CallMeter, Labels, Messages};
use super::policy::Policies;
use super::rate::Rates;
use super::reply::{Refusal, is_grpc, refuse, status_of, words};
use super::shed::{Outcome, PriorityRules, Shedder, Slot};
use crate::attempt::{Event, Teller};
use crate::fate::{Action, Budget, Call, Code, Deadline, End, Fate, How, News, Report, Why};
use crate::link::{Guard, Links};

/// `grpc-previous-rpc-attempts` (gRFC A6).
const PREVIOUS: HeaderName = HeaderName::from_static("grpc-previous-rpc-attempts");

/// Backends that may stand in for each other.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) name: SharedString,
    /// How many calls it takes; absent: as many as come.
    pub(super) shedder: Option<Arc<Shedder>>,
    pub(super) backends: Vec<Arc<Links>>,
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
    pub(super) priority: PriorityRules,
    pub(super) rates: Option<std::sync::Mutex<Rates>>,
    /// How long a client may take nothing of an answer.
    pub(super) stall: Duration,
    pub(super) policies: Policies,
    pub(super) pools: Vec<Arc<Pool>>,
}

/// Who calls.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) address: IpAddr,
    /// By its certificate.
    pub(super) name: Option<Arc<str>>,
}

/// An attempt under way or over.
struct Attempt {
    task: AbortHandle,
    backend: usize,
    began: Instant,
    meter: AttemptMeter,
    is_over: bool,
    /// Whether the balance has its reading.
    is_read: bool,
}

struct Proxy {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    meter: CallMeter,
    slot: Option<Slot>,
    /// Attempts that somebody may have seen, when the last one began.
    previous: u32,
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

/// Passes a call on, and its answer back. Tells whether its client gave it up.
pub(super) async fn serve(
    shared: Arc<Shared>,
    caller: Caller,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> bool {
    let (head, body) = request.into_parts();
    let rules = shared.policies.of(head.uri.path());
    let pool = shared.pools[rules.pool].clone();
    let mut meter = CallMeter::new(shared.labels(&head, &pool));
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    let now = Instant::now();
    let admitted = admit::admit(&shared, &caller, &pool, (&head, &rules), &mut rng, now);
    let (deadline, slot) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            count(refusal.fate, refusal.code);
            meter.end(refusal.code);
            refuse(&mut respond, &head.headers, &refusal);
            return false;
        }
    };
    let kept = Kept::new(body.is_end_stream());
    meter.received = kept.received();
    let filling = tokio::spawn(kept.clone().fill(body)).abort_handle();
    let (tell, told) = mpsc::channel(8);
    let proxy = Proxy {
        shared,
        pool,
        meter,
        slot,
        previous: 0,
        head,
        kept,
        deadline,
        call: Call::new(rules.policy, deadline, now),
        attempts: Vec::new(),
        heads: BTreeMap::new(),
        tell,
        told,
        rng,
    };
    let is_given_up = proxy.run(respond).await;
    filling.abort();
    is_given_up
}

impl Shared {
    /// What a call is counted under; `None` for what is no gRPC.
    fn labels(&self, head: &request::Parts, pool: &Pool) -> Option<Labels> {
        if !is_grpc(&head.headers) {
            return None;
        }
        let path = head.uri.path();
        let method = if self.policies.names(path) {
            SharedString::from(Arc::<str>::from(path.trim_start_matches('/')))
        } else {
            SharedString::const_str("other")
        };
        let target = pool.name.clone();
        Some(Labels { method, target })
    }
}

impl Proxy {
    async fn run(mut self, mut respond: SendResponse<Bytes>) -> bool {
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
        self.count_again(previous);
        let meter = self.meter.attempt();
        let work = attempt::try_once(
            self.pool.backends[backend].clone(),
            request,
            (self.kept.clone(), meter.sent.clone()),
            Teller {
                attempt,
                events: self.tell.clone(),
            },
        );
        self.attempts.push(Attempt {
            task: tokio::spawn(work).abort_handle(),
            backend,
            began: now,
            meter,
            is_over: false,
            is_read: false,
        });
    }

    /// Why another attempt begins, as in gRFC A6 and A96.
    fn count_again(&mut self, previous: u32) {
        let before = std::mem::replace(&mut self.previous, previous);
        if self.attempts.is_empty() {
            return;
        }
        let kind = if self.attempts.iter().any(|attempt| !attempt.is_over) {
            "hedge"
        } else if previous == before {
            "transparent"
        } else {
            "retry"
        };
        metrics::counter!("steer_rpc_retries_total", "kind" => kind).increment(1);
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
        let now = Instant::now();
        self.heads.remove(&attempt);
        let began = self.attempts.get(attempt).map_or(now, |attempt| attempt.began);
        let (code, reading) = if self.deadline.is_over(now) {
            // A path that swallows everything shows itself by nothing else; gRFC A50 counts it too.
            (Code::DeadlineExceeded, Reading::Failed)
        } else if self.heads.is_empty() {
            (Code::Cancelled, Reading::Silent) // the client is gone
        } else {
            // Another one was quicker: this one takes as long as that at least.
            (
                Code::Cancelled,
                Reading::Answered(now.saturating_duration_since(began)),
            )
        };
        self.read(attempt, reading);
        self.over(attempt, code);
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
                    self.note_load(number, &head.headers);
                    status_of(head.status, &head.headers)
                } else {
                    Report::of(News::Headers)
                };
                self.heads.insert(number, (head, body, guard));
                report
            }
        };
        if !matches!(report.news, News::Written | News::Headers) {
            self.over(number, report.code);
        }
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

    /// An attempt is over.
    fn over(&mut self, number: usize, code: Code) {
        if let Some(attempt) = self.attempts.get_mut(number) {
            attempt.is_over = true;
            attempt.meter.end(code);
        }
    }

    /// What the messages of an answer are counted in.
    fn messages(&self, number: usize) -> Messages {
        let tally = self
            .attempts
            .get(number)
            .map(|attempt| attempt.meter.received.clone());
        Messages::new(tally.unwrap_or_default())
    }

    /// What a backend tells of its load at the end of an answer.
    fn note_load(&self, number: usize, headers: &HeaderMap) {
        let (Some(attempt), Some(value)) = (self.attempts.get(number), headers.get(LOAD_HEADER)) else {
            return;
        };
        match parse_load(value.as_bytes()) {
            Ok(Some(capacity)) => {
                let mut balance = self.pool.balance();
                balance.on_report(attempt.backend, capacity, Instant::now());
            }
            Ok(None) => {}
            Err(_) => metrics::counter!("steer_rpc_load_reports_invalid_total").increment(1),
        }
    }

    fn report(&mut self, attempt: usize, report: Report) {
        let pool = self.pool.clone();
        let mut budget = pool.budget();
        self.call
            .on_news(attempt, report, &mut budget, &mut self.rng, Instant::now());
    }

    async fn finish(mut self, end: End, mut respond: SendResponse<Bytes>) -> bool {
        self.give_slot_back(end.how);
        // What is cancelled with the end comes before it; nothing is left to do.
        match end.how {
            How::Failed { code, why } => {
                count(end.fate, code);
                self.meter.end(code);
                let words = format!(
                    "{} ({}, the call is {})",
                    words(code, end.fate),
                    why.name(),
                    end.fate
                );
                let refusal = Refusal {
                    code,
                    fate: end.fate,
                    words,
                    after: None,
                };
                refuse(&mut respond, &self.head.headers, &refusal);
                self.end_all();
                why == Why::Cancelled
            }
            How::Answer { attempt } => {
                self.kept.let_go();
                let Some(answer) = self.heads.remove(&attempt) else {
                    self.end_all();
                    return false;
                };
                if let Some(attempt) = self.attempts.get(attempt) {
                    self.meter.sent = attempt.meter.received.clone();
                }
                let report = self.pass_on(attempt, answer, respond).await;
                let is_given_up = report.news == News::Cancelled;
                let code = if is_given_up { Code::Cancelled } else { report.code };
                count(Fate::Committed, code);
                self.over(attempt, code);
                self.meter.end(code);
                self.report(attempt, report);
                self.end_all();
                is_given_up
            }
        }
    }

    /// The pool has room for another call: once an answer begins, how long it lasts is the client's affair as well.
    fn give_slot_back(&mut self, how: How) {
        let outcome = match how {
            How::Answer { .. } => Outcome::Answered,
            How::Failed {
                code: Code::DeadlineExceeded,
                ..
            } => Outcome::Late,
            How::Failed { .. } => Outcome::Other,
        };
        if let Some(slot) = self.slot.take() {
            slot.end(outcome, Instant::now());
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
