//! Whether a call is let in: its deadline, the rate of its client, and the room in its pool.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use http::request;
use rand::Rng;

use super::{Caller, Group, Rules};
use crate::edge::policy::MethodRules;
use crate::edge::reply::Refusal;
use crate::edge::shed::Slot;
use crate::fate::{Code, Deadline, Fate, TIMEOUT_HEADER, parse_timeout};

/// The deadline of a call, and its place in the pool. What is turned away was seen by no application.
pub(super) fn admit(
    of_all: &Rules,
    caller: &Caller,
    group: &Group,
    (head, rules): (&request::Parts, &MethodRules),
    rng: &mut impl Rng,
    now: Instant,
) -> Result<(Deadline, Option<Slot>), Refusal> {
    let asked = head.headers.get(TIMEOUT_HEADER);
    let timeout = match asked.map(|value| parse_timeout(value.as_bytes())) {
        None => rules.timeout,
        Some(Ok(timeout)) => Some(timeout),
        Some(Err(error)) => return Err(refusal(Code::Internal, error.to_string(), None)),
    };
    let deadline = Deadline::of(timeout, rules.max_timeout, now);
    check_rate(of_all, caller, head, now)?;
    // Expired work takes nobody's place; it is answered without being begun.
    let Some(shedder) = group.shedder.as_ref().filter(|_| !deadline.is_over(now)) else {
        return Ok((deadline, None));
    };
    let priority = of_all.priority.of(&head.headers);
    let slot = shedder.admit(priority, rng, now).map_err(|after| {
        let words = format!("the edge has as many calls of priority {priority} as the backends can do");
        refusal(Code::Unavailable, words, Some(after))
    })?;
    Ok((deadline, Some(slot)))
}

fn check_rate(of_all: &Rules, caller: &Caller, head: &request::Parts, now: Instant) -> Result<(), Refusal> {
    let Some(rates) = &of_all.rates else {
        return Ok(());
    };
    let mut rates = rates.lock().unwrap_or_else(PoisonError::into_inner);
    let client = rates.client_of(&head.headers, caller.name.as_deref(), caller.address);
    rates.check(client, now).map_err(|after| {
        metrics::counter!("steer_rpc_rate_limited_total").increment(1);
        let words = "the client calls more often than it may".to_owned();
        refusal(Code::ResourceExhausted, words, Some(after))
    })
}

fn refusal(code: Code, words: String, after: Option<Duration>) -> Refusal {
    Refusal {
        code,
        fate: Fate::Unprocessed,
        words,
        after,
    }
}
