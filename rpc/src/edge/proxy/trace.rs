//! What a call leaves in its trace, where it has one.

use std::sync::Arc;
use std::time::Instant;

use h2::RecvStream;
use http::{Request, request};
use rand::rngs::SmallRng;
use rand::{Rng, SeedableRng};

use super::{Caller, Group, Proxy, Rules, Shared};
use crate::edge::reply::{Refusal, http_status};
use crate::edge::trace::{CallTrace, Ended, Incoming, Known, TRACESTATE, Tracer};
use crate::fate::{Action, Code, Fate};

/// A call comes that may be recorded.
pub(super) fn begin(
    tracer: &Arc<Tracer>,
    (rules, group): (&Rules, &Group),
    caller: &Caller,
    head: &mut request::Parts,
    (rng, now): (&mut impl Rng, Instant),
) -> Option<CallTrace> {
    let incoming = Incoming {
        headers: &head.headers,
        method: &head.method,
        uri: &head.uri,
        client: caller.address,
    };
    let priority = || {
        rules
            .priority
            .said(&head.headers)
            .unwrap_or(rules.priority.default)
    };
    let known = || Known {
        pool: Some(group.name.clone()),
        priority: group.shedder.as_ref().map(|_| priority()),
        snapshot: rules.snapshot.number(),
    };
    let trace = tracer.begin(&incoming, known, rng, now)?;
    if trace.is_root() {
        head.headers.remove(TRACESTATE);
    }
    Some(trace)
}

/// A call that is turned away at the door, before anything of it is looked at.
pub(in crate::edge) fn turned_away(
    shared: &Shared,
    caller: &Caller,
    request: &Request<RecvStream>,
    refusal: &Refusal,
) {
    let Some(tracer) = &shared.rules.traces else {
        return;
    };
    let incoming = Incoming {
        headers: request.headers(),
        method: request.method(),
        uri: request.uri(),
        client: caller.address,
    };
    let known = || Known {
        snapshot: shared.rules.snapshot.number(),
        ..Known::default()
    };
    let mut rng = SmallRng::from_rng(&mut rand::rng());
    if let Some(trace) = tracer.begin(&incoming, known, &mut rng, Instant::now()) {
        refused(trace, refusal);
    }
}

/// A call that is not let in.
pub(super) fn refused(trace: CallTrace, refusal: &Refusal) {
    let ended = Ended {
        code: refusal.code,
        fate: refusal.fate,
        status: http_status(refusal.code),
    };
    trace.end(ended, |_| None, Instant::now());
}

impl Proxy {
    /// The call is over; `answer`: the attempt that was passed on.
    pub(super) fn end_trace(&mut self, code: Code, fate: Fate, answer: Option<usize>) {
        let Some(trace) = self.trace.take() else {
            return;
        };
        let answered = answer.and_then(|attempt| trace.status(attempt));
        let ended = Ended {
            code,
            fate,
            status: answered.unwrap_or_else(|| http_status(code)),
        };
        trace.end(ended, |attempt| self.call.fate(attempt), Instant::now());
    }
}

impl Drop for Proxy {
    /// A thread that ends takes the calls along that a drain did not wait for.
    fn drop(&mut self) {
        if self.trace.is_none() {
            return;
        }
        self.call.on_cancel();
        let actions = std::iter::from_fn(|| self.call.poll_action());
        let ends = actions.filter_map(|action| match action {
            Action::Finish(end) => Some(end.fate),
            Action::Start { .. } | Action::Cancel { .. } => None,
        });
        // None, where an answer was being passed on.
        let fate = ends.last().unwrap_or(Fate::Ambiguous);
        self.end_trace(Code::Cancelled, fate, None);
    }
}
