//! What a call did, told to a collector of OTLP.
//!
//! ```text
//! traceparent ─► Sampler ─ no ─► the call goes on as it came
//!                   └─ yes ─► CallTrace ─► Queue ─► Exporter ─► collector
//!                             attempts      bounded   a task beside the threads that serve
//! ```
//!
//! A call that is recorded is a span of kind SERVER, and each of its attempts a span of kind CLIENT below it; its backend gets
//! the attempt as parent. A call that is not costs a look at a header and a draw.

mod context;
mod exporter;
mod queue;
mod record;
mod sampling;
#[cfg(test)]
mod tests;
mod wire;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Instant, SystemTime};

use http::{HeaderMap, Method, StatusCode, Uri};
use rand::Rng;

use super::config::TraceRules;
use super::reply::is_grpc;
use crate::fate::{Code, Fate};
use queue::Queue;
use record::{Asked, Attempt, Record};
use sampling::{Decision, Sampler};

pub use context::{InvalidTraceParent, SpanId, TraceId, TraceParent};
pub(super) use context::{TRACEPARENT, TRACESTATE};
pub(super) use exporter::Exporters;
pub(super) use record::{Ended, Known};

/// Records calls, by the rules of one configuration. Whoever drops the last handle lets its exporter send what waits, and end.
#[derive(Debug)]
pub(super) struct Tracer {
    rules: TraceRules,
    sampler: Sampler,
    queue: Arc<Queue>,
}

/// What a call is asked by, and by whom.
pub(super) struct Incoming<'a> {
    pub(super) headers: &'a HeaderMap,
    pub(super) method: &'a Method,
    pub(super) uri: &'a Uri,
    pub(super) client: IpAddr,
}

/// A call that is recorded.
#[derive(Debug)]
pub(super) struct CallTrace {
    tracer: Arc<Tracer>,
    record: Box<Record>,
}

impl Tracer {
    /// Begins to export, among the exporters of an edge.
    ///
    /// # Errors
    ///
    /// When TLS cannot be had, or there is no runtime.
    pub(super) fn start(
        rules: TraceRules,
        exporters: &Exporters,
        now: Instant,
    ) -> std::io::Result<Arc<Self>> {
        let queue = Arc::new(Queue::new(rules.queue));
        exporters.start(&rules, queue.clone())?;
        Ok(Arc::new(Self {
            sampler: Sampler::new(rules.sample, rules.per_second, now),
            rules,
            queue,
        }))
    }

    pub(super) const fn rules(&self) -> &TraceRules {
        &self.rules
    }

    /// No call will be recorded any more.
    pub(super) fn close(&self) {
        self.queue.close();
    }

    /// A call comes; none where it is not recorded.
    pub(super) fn begin(
        self: &Arc<Self>,
        incoming: &Incoming<'_>,
        known: impl FnOnce() -> Known,
        rng: &mut impl Rng,
        now: Instant,
    ) -> Option<CallTrace> {
        let parent = TraceParent::of(incoming.headers);
        let sampled = parent.map(|parent| parent.is_sampled);
        match self.sampler.decide(sampled, rng, now) {
            Decision::Record => {}
            Decision::Leave => return None,
            Decision::Limited => {
                metrics::counter!("steer_rpc_traces_limited_total").increment(1);
                return None;
            }
        }
        let own = TraceParent {
            trace: parent.map_or_else(|| TraceId::draw(rng), |parent| parent.trace),
            span: SpanId::draw(rng),
            is_sampled: true,
        };
        let record = Record {
            own,
            parent: parent.map(|parent| parent.span),
            // §4.3: without a good `traceparent` it means nothing.
            state: parent
                .map(|_| context::state(incoming.headers))
                .unwrap_or_default(),
            asked: Asked::new(is_grpc(incoming.headers), incoming.method, incoming.uri.path()),
            wall: SystemTime::now(),
            began: now,
            client: incoming.client.to_canonical(),
            known: known(),
            attempts: Vec::with_capacity(1),
            end: None,
        };
        Some(CallTrace {
            tracer: self.clone(),
            record: Box::new(record),
        })
    }
}

impl Drop for Tracer {
    fn drop(&mut self) {
        self.queue.close();
    }
}

impl CallTrace {
    /// Whether the trace begins with this call: what it brought of another one is not passed on (§4.3).
    pub(super) fn is_root(&self) -> bool {
        self.record.parent.is_none()
    }

    /// An attempt begins; what its backend gets. `again`: why it follows another one.
    pub(super) fn attempt(
        &mut self,
        (number, again): (usize, Option<&'static str>),
        server: SocketAddr,
        rng: &mut impl Rng,
        now: Instant,
    ) -> TraceParent {
        let span = SpanId::draw(rng);
        self.record.attempts.push(Attempt {
            span,
            number,
            again,
            server,
            began: now,
            end: None,
            status: None,
            fate: None,
        });
        TraceParent {
            span,
            ..self.record.own
        }
    }

    fn find(&mut self, number: usize) -> Option<&mut Attempt> {
        let mut attempts = self.record.attempts.iter_mut();
        attempts.find(|attempt| attempt.number == number)
    }

    /// The answer of an attempt begins.
    pub(super) fn answering(&mut self, number: usize, status: StatusCode) {
        if let Some(attempt) = self.find(number) {
            attempt.status = Some(status);
        }
    }

    /// The status of HTTP with which an attempt answered.
    pub(super) fn status(&self, number: usize) -> Option<StatusCode> {
        let mut attempts = self.record.attempts.iter();
        attempts.find(|attempt| attempt.number == number)?.status
    }

    /// An attempt is over; what is said after that does not count.
    pub(super) fn over(&mut self, number: usize, code: Code, now: Instant) {
        if let Some(attempt) = self.find(number) {
            attempt.end.get_or_insert((now, code));
        }
    }

    /// The call is over. `fate_of`: what is known of its attempts.
    pub(super) fn end(self, ended: Ended, fate_of: impl Fn(usize) -> Option<Fate>, now: Instant) {
        let Self { tracer, mut record } = self;
        record.end = Some((now, ended));
        for attempt in &mut record.attempts {
            attempt.fate = fate_of(attempt.number);
            // Its task was dropped, and it with it.
            attempt.end.get_or_insert((now, Code::Cancelled));
        }
        tracer.queue.push(record);
    }
}
