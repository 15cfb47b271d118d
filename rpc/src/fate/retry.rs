//! Whether to send a call again: its fate, the method's semantics, the server's word, the deadline and the budget.

use std::time::Duration;

use rand::Rng;

use super::{Budget, Code, Fate, Policy, Pushback};

/// gRFC A6: `maxAttempts` above 5 is treated as 5.
pub const ATTEMPTS_MAX: u32 = 5;

/// Attempts that nobody saw are not counted, and are sent again this often at most. A6 sets no bound for what never left
/// the client; a proxy needs one.
pub const TRANSPARENT_MAX: u32 = 8;

/// An attempt that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Ended {
    pub(super) fate: Fate,
    pub(super) code: Code,
    pub(super) pushback: Pushback,
}

/// Where a call stands when one of its attempts has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Standing {
    /// Attempts begun that count, the ended one among them.
    pub counted: u32,
    /// Attempts that nobody saw and that were sent again without being counted.
    pub transparent: u32,
    /// Whether the request can be sent again and nothing of an answer was passed on.
    pub replayable: bool,
    /// The time that is left, if there is a deadline.
    pub remaining: Option<Duration>,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// Send it again.
    Again {
        /// After this long.
        after: Duration,
        /// Nobody saw the attempt that ended, so it does not count (A6 "Transparent Retries").
        transparent: bool,
    },
    /// Pass on what there is.
    Stop(Why),
}

/// Why a call is not sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// There is an answer.
    Answered,
    /// It may have been done, and the method is done once at most.
    Semantics,
    /// The request was not kept, or a part of an answer was passed on.
    NotReplayable,
    /// The policy does not retry this status.
    Code,
    /// As many attempts as the policy allows.
    Attempts,
    /// The server wants no retry.
    Pushback,
    /// The wait would reach the deadline, or it has passed.
    Deadline,
    /// Retries are throttled.
    Budget,
    /// The caller is gone.
    Cancelled,
}

impl Why {
    /// As in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Semantics => "semantics",
            Self::NotReplayable => "not-replayable",
            Self::Code => "code",
            Self::Attempts => "attempts",
            Self::Pushback => "pushback",
            Self::Deadline => "deadline",
            Self::Budget => "budget",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Decides on an attempt that ended with `fate`, and with `code` where it ended in a status (else the one that the caller
/// would be told).
pub fn decide(
    policy: &Policy,
    (fate, code, pushback): (Fate, Code, Pushback),
    standing: Standing,
    budget: &Budget,
    rng: &mut impl Rng,
) -> Decision {
    let ended = Ended { fate, code, pushback };
    match refusal(policy, ended, standing, budget) {
        Some(why) => Decision::Stop(why),
        None => again(policy, ended, standing, rng),
    }
}

fn refusal(policy: &Policy, ended: Ended, standing: Standing, budget: &Budget) -> Option<Why> {
    if ended.fate == Fate::Committed {
        return Some(Why::Answered);
    }
    if !policy.semantics.allows(ended.fate) {
        return Some(Why::Semantics);
    }
    if !standing.replayable {
        return Some(Why::NotReplayable);
    }
    if is_transparent(ended, standing) {
        return None;
    }
    if ended.fate == Fate::Ambiguous && !policy.retry_on.has(ended.code) {
        return Some(Why::Code);
    }
    if ended.pushback == Pushback::Never {
        return Some(Why::Pushback);
    }
    if standing.counted >= policy.max_attempts.min(ATTEMPTS_MAX) {
        return Some(Why::Attempts);
    }
    (!budget.allows()).then_some(Why::Budget)
}

/// A6: what never left is sent again at will; what a server's library refused is sent again once. A server that says when
/// is obeyed, and so it counts.
fn is_transparent(ended: Ended, standing: Standing) -> bool {
    let bound = match ended.fate {
        Fate::NotSent => TRANSPARENT_MAX,
        Fate::Unprocessed => 1,
        Fate::Ambiguous | Fate::Committed => 0,
    };
    ended.pushback == Pushback::Silent && standing.transparent < bound
}

fn again(policy: &Policy, ended: Ended, standing: Standing, rng: &mut impl Rng) -> Decision {
    let transparent = is_transparent(ended, standing);
    let after = match (ended.pushback, transparent) {
        (Pushback::After(wait), _) => wait,
        // The first goes elsewhere at once; a whole pool that refuses is not to be asked in a tight loop.
        (Pushback::Silent | Pushback::Never, true) if standing.transparent == 0 => Duration::ZERO,
        (Pushback::Silent | Pushback::Never, true) => policy.backoff.draw(standing.transparent - 1, rng),
        (Pushback::Silent | Pushback::Never, false) => {
            policy.backoff.draw(standing.counted.saturating_sub(1), rng)
        }
    };
    if standing.remaining.is_some_and(|left| after >= left) {
        return Decision::Stop(Why::Deadline);
    }
    Decision::Again { after, transparent }
}

#[cfg(test)]
mod tests;
