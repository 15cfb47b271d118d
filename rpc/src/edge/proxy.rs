//! One call through the edge: the driver of a [`Call`].

mod admit;
mod alarm;
mod answer;
mod attempt;
mod trace;

use std::future::poll_fn;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::RecvStream;
use h2::server::SendResponse;
use http::{HeaderMap, Request, request};
use metrics::SharedString;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::balance::{Balance, LOAD_HEADER, Reading, parse_load};
use super::keep::Kept;
use super::members::Latest;
use super::meter::{AttemptMeter, CallMeter, Fates, Messages, Meters, Series};
use super::policy::Policies;
use super::rate::Rates;
use super::reflection::Reflection;
use super::reply::{Refusal, is_grpc, refuse, status_of, words};
use super::shed::{Outcome, PriorityRules, Shedder, Slot};
use super::trace::{CallTrace, Tracer};
use super::web::{Origins, Web};
use crate::attempt::{Answered, Event, Teller, Told};
use crate::fate::{Action, Budget, Call, Code, Deadline, End, Fate, How, News, Report, Why};
use crate::link::Links;

use alarm::Alarm;

pub(super) use trace::turned_away;

/// What is known of backends that may stand in for each other: the same for all workers.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) name: SharedString,
    /// How many calls it takes; absent: as many as come.
    pub(super) shedder: Option<Arc<Shedder>>,
    pub(super) balance: Mutex<Balance>,
    pub(super) budget: Mutex<Budget>,
}

impl Group {
    pub(super) fn balance(&self) -> MutexGuard<'_, Balance> {
        self.balance.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn budget(&self) -> MutexGuard<'_, Budget> {
        self.budget.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A group, with the connections of a worker to it.
#[derive(Debug)]
pub(super) struct Pool {
    pub(super) group: Arc<Group>,
    pub(super) backends: Vec<Arc<Links>>,
    pub(super) meters: Meters,
}

/// What holds for all calls.
#[derive(Debug)]
pub(super) struct Rules {
    pub(super) priority: PriorityRules,
    pub(super) rates: Option<Arc<Mutex<Rates>>>,
    /// How long a client may take nothing of an answer.
    pub(super) stall: Duration,
    pub(super) policies: Policies,
    /// Pages that may call by grpc-web; absent: it is not spoken.
    pub(super) web: Option<Origins>,
    /// Tells what services there are; absent: the backends do.
    pub(super) reflection: Option<Reflection>,
    /// Absent: nothing is recorded of calls.
    pub(super) traces: Option<Arc<Tracer>>,
    pub(super) snapshot: Latest,
}

/// What the calls of a worker share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) rules: Arc<Rules>,
    pub(super) pools: Vec<Arc<Pool>>,
    pub(super) fates: Fates,
}

/// Who calls.
#[derive(Debug, Clone)]
pub(super) struct Caller {
    pub(super) address: IpAddr,
    /// By its certificate.
    pub(super) name: Option<Arc<str>>,
}

/// What goes on beside the call, within its task.
type Work = Pin<Box<dyn Future<Output = ()> + Send>>;

/// An attempt under way or over.
struct Attempt {
    /// Sends the request, and waits for the head of the answer; none once both are done, or it was given up.
    work: Option<Work>,
    /// An answer that nobody has taken yet.
    head: Option<Box<Answered>>,
    backend: usize,
    began: Instant,
    meter: AttemptMeter,
    is_over: bool,
    /// Whether the balance has its reading.
    is_read: bool,
}

/// One call. It is on the heap, as what is awaited moves more than once before it begins.
pub(super) struct Proxy {
    shared: Arc<Shared>,
    pool: Arc<Pool>,
    meter: CallMeter,
    /// Where it is recorded.
    trace: Option<CallTrace>,
    slot: Option<Slot>,
    /// Attempts that somebody may have seen, when the last one began.
    previous: u32,
    head: Arc<request::Parts>,
    respond: SendResponse<Bytes>,
    web: Option<Web>,
    kept: Kept,
    /// Reads the request; none once it is read.
    filling: Option<Work>,
    deadline: Deadline,
    call: Call,
    attempts: Vec<Attempt>,
    told: Told,
    alarm: Alarm,
    rng: SmallRng,
}

/// What a call waits for.
enum Turn {
    Told(usize, Event),
    Time,
    /// The client is gone, wants no more of it, or says what cannot be read.
    Gone,
    /// The request is too long to be kept.
    Overflowed,
}

/// Lets a call in, to be run; one that is not let in is answered here.
pub(super) fn begin(
    shared: Arc<Shared>,
    caller: &Caller,
    request: Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
) -> Option<Box<Proxy>> {
    let (mut head, body) = request.into_parts();
    let web = shared.rules.web.as_ref();
    let web = web.and_then(|origins| Web::of(&mut head.headers, origins));
    let rules = shared.rules.policies.of(head.uri.path());
    let pool = shared.pools[rules.pool].clone();
    let now = Instant::now();
    let mut meter = CallMeter::new(shared.series(&head, &pool), now);
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    let tracer = shared.rules.traces.as_ref();
    let trace = tracer.and_then(|tracer| {
        let known = (&*shared.rules, &*pool.group);
        trace::begin(tracer, known, caller, &mut head, (&mut rng, now))
    });
    let admitted = admit::admit(&shared.rules, caller, &pool.group, (&head, &rules), &mut rng, now);
    let (deadline, slot) = match admitted {
        Ok(admitted) => admitted,
        Err(refusal) => {
            shared.fates.count(refusal.fate, refusal.code);
            meter.end(refusal.code);
            if let Some(trace) = trace {
                trace::refused(trace, &refusal);
            }
            refuse(&mut respond, (&head.headers, web.as_ref()), &refusal);
            return None;
        }
    };
    let kept = Kept::new(body.is_end_stream());
    meter.received = kept.received();
    let text = web.as_ref().and_then(Web::text);
    let filling: Option<Work> =
        (!body.is_end_stream()).then(|| Box::pin(kept.clone().fill(body, text)) as Work);
    Some(Box::new(Proxy {
        shared,
        pool,
        meter,
        trace,
        slot,
        previous: 0,
        head: Arc::new(head),
        respond,
        web,
        kept,
        filling,
        deadline,
        call: Call::new(rules.policy, deadline, now),
        attempts: Vec::with_capacity(1),
        told: Told::default(),
        alarm: Alarm::default(),
        rng,
    }))
}

impl Shared {
    /// What a call is counted in; `None` for what is no gRPC.
    fn series(&self, head: &request::Parts, pool: &Pool) -> Option<Arc<Series>> {
        if !is_grpc(&head.headers) {
            return None;
        }
        let path = head.uri.path();
        let named = self.rules.policies.names(path);
        Some(pool.meters.of(named.then(|| path.trim_start_matches('/'))))
    }
}

fn poll_work(work: &mut Option<Work>, cx: &mut Context<'_>) {
    if let Some(going) = work
        && going.as_mut().poll(cx).is_ready()
    {
        *work = None;
    }
}

impl Proxy {
    /// Passes it on, and its answer back. Tells whether its client gave it up.
    pub(super) async fn run(mut self: Box<Self>) -> bool {
        let mut overflowed = false;
        loop {
            if let Some(end) = self.act() {
                return self.finish(end).await;
            }
            match poll_fn(|cx| self.poll_turn(overflowed, cx)).await {
                Turn::Told(attempt, event) => self.on_event(attempt, event),
                Turn::Time => {
                    let pool = self.pool.clone();
                    self.call.on_deadline(&pool.group.budget(), Instant::now());
                }
                Turn::Gone => self.call.on_cancel(),
                Turn::Overflowed => {
                    overflowed = true;
                    self.call.not_replayable();
                }
            }
        }
    }

    fn poll_turn(&mut self, overflowed: bool, cx: &mut Context<'_>) -> Poll<Turn> {
        if self.alarm.poll(self.call.next_deadline(), cx).is_ready() {
            return Poll::Ready(Turn::Time);
        }
        self.poll_work(cx);
        if let Some((attempt, event)) = self.told.take() {
            return Poll::Ready(Turn::Told(attempt, event));
        }
        // Only what is read as base64 can be no base64.
        let is_malformed = self.web.is_some() && self.kept.is_malformed();
        if self.respond.poll_reset(cx).is_ready() || is_malformed {
            return Poll::Ready(Turn::Gone);
        }
        if !overflowed && !self.kept.is_replayable() {
            return Poll::Ready(Turn::Overflowed);
        }
        Poll::Pending
    }

    /// The request is read, and what the attempts do goes on.
    fn poll_work(&mut self, cx: &mut Context<'_>) {
        poll_work(&mut self.filling, cx);
        for attempt in &mut self.attempts {
            poll_work(&mut attempt.work, cx);
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
        let picked = self.pool.group.balance().pick(&tried, &mut self.rng, now);
        let Some(backend) = picked else {
            // A pool has a backend at least; the configuration sees to it.
            return self.report(attempt, Report::of(News::NoConnection));
        };
        let again = self.count_again(previous);
        let meter = self.meter.attempt(now);
        let link = self.pool.backends[backend].clone();
        let parent = self.trace.as_mut().map(|trace| {
            let server = link.address();
            trace.attempt((attempt, again), server, &mut self.rng, now)
        });
        let work = attempt::try_once(
            link,
            attempt::Outgoing {
                head: self.head.clone(),
                previous,
                parent,
                deadline: self.deadline,
            },
            (self.kept.clone(), meter.sent.clone()),
            Teller {
                attempt,
                told: self.told.clone(),
            },
        );
        self.attempts.push(Attempt {
            work: Some(Box::pin(work)),
            head: None,
            backend,
            began: now,
            meter,
            is_over: false,
            is_read: false,
        });
    }

    /// Why another attempt begins, as in gRFC A6 and A96.
    fn count_again(&mut self, previous: u32) -> Option<&'static str> {
        let before = std::mem::replace(&mut self.previous, previous);
        if self.attempts.is_empty() {
            return None;
        }
        let kind = if self.attempts.iter().any(|attempt| !attempt.is_over) {
            "hedge"
        } else if previous == before {
            "transparent"
        } else {
            "retry"
        };
        metrics::counter!("steer_rpc_retries_total", "kind" => kind).increment(1);
        Some(kind)
    }

    fn cancel(&mut self, attempt: usize) {
        let now = Instant::now();
        if let Some(attempt) = self.attempts.get_mut(attempt) {
            (attempt.work, attempt.head) = (None, None);
        }
        let began = self.attempts.get(attempt).map_or(now, |attempt| attempt.began);
        let (code, reading) = if self.deadline.is_over(now) {
            // A path that swallows everything shows itself by nothing else; gRFC A50 counts it too.
            (Code::DeadlineExceeded, Reading::Failed)
        } else if self.attempts.iter().all(|attempt| attempt.head.is_none()) {
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
    }

    fn on_event(&mut self, number: usize, event: Event) {
        let report = match event {
            Event::Written => Report::of(News::Written),
            Event::Failed(news) => Report::of(news),
            Event::Head(answered) => {
                let Answered { head, body, .. } = &*answered;
                let report = if body.is_end_stream() {
                    self.note_load(number, &head.headers);
                    status_of(head.status, &head.headers)
                } else {
                    Report::of(News::Headers)
                };
                if let Some(trace) = &mut self.trace {
                    trace.answering(number, head.status);
                }
                if let Some(attempt) = self.attempts.get_mut(number) {
                    attempt.head = Some(answered);
                }
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
            self.pool.group.balance().on_end(backend, reading, Instant::now());
        }
    }

    /// An attempt is over.
    fn over(&mut self, number: usize, code: Code) {
        if let Some(attempt) = self.attempts.get_mut(number) {
            attempt.is_over = true;
            attempt.meter.end(code);
        }
        if let Some(trace) = &mut self.trace {
            trace.over(number, code, Instant::now());
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
                let mut balance = self.pool.group.balance();
                balance.on_report(attempt.backend, capacity, Instant::now());
            }
            Ok(None) => {}
            Err(_) => metrics::counter!("steer_rpc_load_reports_invalid_total").increment(1),
        }
    }

    fn report(&mut self, attempt: usize, report: Report) {
        let pool = self.pool.clone();
        let mut budget = pool.group.budget();
        self.call
            .on_news(attempt, report, &mut budget, &mut self.rng, Instant::now());
    }

    async fn finish(&mut self, end: End) -> bool {
        self.give_slot_back(end.how);
        // What is cancelled with the end comes before it; nothing is left to do.
        match end.how {
            How::Failed { code, why } => {
                self.shared.fates.count(end.fate, code);
                self.meter.end(code);
                let (code, what) = if self.kept.is_malformed() {
                    (Code::Internal, "the request is no base64")
                } else {
                    (code, words(code, end.fate))
                };
                self.end_trace(code, end.fate, None);
                let words = format!("{what} ({}, the call is {})", why.name(), end.fate);
                let refusal = Refusal {
                    code,
                    fate: end.fate,
                    words,
                    after: None,
                };
                refuse(
                    &mut self.respond,
                    (&self.head.headers, self.web.as_ref()),
                    &refusal,
                );
                why == Why::Cancelled
            }
            How::Answer { attempt } => {
                self.kept.let_go();
                let Some(answering) = self.attempts.get_mut(attempt) else {
                    return false;
                };
                let Some(answer) = answering.head.take() else {
                    return false;
                };
                self.meter.sent = answering.meter.received.clone();
                let report = self.pass_on(attempt, answer).await;
                let is_given_up = report.news == News::Cancelled;
                let code = if is_given_up { Code::Cancelled } else { report.code };
                self.shared.fates.count(Fate::Committed, code);
                self.over(attempt, code);
                self.meter.end(code);
                self.report(attempt, report);
                let fate = self.call.fate(attempt).unwrap_or(Fate::Ambiguous);
                self.end_trace(code, fate, Some(attempt));
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
}
