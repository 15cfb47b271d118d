//! One call with all its attempts: retries, hedges, the deadline, and the fate that its caller is told.
//!
//! ```text
//! new ─► Start(0) ─► on_news(0, ..) ─┬─ answer begins ─► Cancel(others), Finish(Answer)
//!                                    ├─ may be sent again ─► on_deadline(later) ─► Start(1)
//!                                    └─ may not ─► Finish(Failed)
//! ```

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use rand::Rng;

use super::{
    Backoff, Budget, Code, Codes, Deadline, Decision, Fate, News, Pushback, Semantics, Stage, Standing, Why,
    decide,
};

/// The rules of a method.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Policy {
    /// How often it may be done.
    pub semantics: Semantics,
    /// Attempts that count, the first among them; above [`super::ATTEMPTS_MAX`] it is that.
    pub max_attempts: u32,
    /// Waits between them.
    pub backoff: Backoff,
    /// Which statuses of an ambiguous end are worth another attempt.
    pub retry_on: Codes,
    /// A second attempt while the first is under way, where the semantics allow it.
    pub hedge: Option<Hedge>,
}

/// When to hedge.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hedge {
    /// After so long without a word of the last attempt. About the 95th percentile of the method's latency keeps the
    /// added load at a twentieth.
    pub after: Duration,
}

impl Policy {
    /// Three attempts on UNAVAILABLE, no hedge.
    #[must_use]
    pub fn new(semantics: Semantics) -> Self {
        Self {
            semantics,
            max_attempts: 3,
            backoff: Backoff::DEFAULT,
            retry_on: Codes::of(&[Code::Unavailable]),
            hedge: None,
        }
    }
}

/// What the driver is to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Begin an attempt.
    Start {
        /// Its number, from 0; give it back with its news.
        attempt: usize,
        /// For `grpc-previous-rpc-attempts` (A6): how many that may have been seen came before.
        previous: u32,
    },
    /// Reset the stream of an attempt; its news are of no interest any more.
    Cancel {
        /// Which.
        attempt: usize,
    },
    /// The call is over, or its answer begins. Nothing comes after it but [`Action::Cancel`].
    Finish(End),
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct End {
    /// Of all attempts together: the one of which most may have happened, unless there is an answer.
    pub fate: Fate,
    /// With what.
    pub how: How,
}

/// With what a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Pass on what this attempt answers. Its end is its own; the fate is [`Fate::Ambiguous`] while it is not known.
    Answer {
        /// Which.
        attempt: usize,
    },
    /// There is no answer.
    Failed {
        /// The status to tell the caller.
        code: Code,
        /// Why nothing more was tried.
        why: Why,
    },
}

/// News of an attempt, with the status where it ended in one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Report {
    /// What happened.
    pub news: News,
    /// The status of the trailers, or the one that such an end means.
    pub code: Code,
    /// The server's word in the trailers.
    pub pushback: Pushback,
}

impl Report {
    /// Of news without a status: UNAVAILABLE is what gRPC makes of them.
    #[must_use]
    pub const fn of(news: News) -> Self {
        Self {
            news,
            code: Code::Unavailable,
            pushback: Pushback::Silent,
        }
    }

    /// Of the end of a stream.
    #[must_use]
    pub const fn of_status(code: Code, told: Option<Fate>, pushback: Pushback) -> Self {
        Self {
            news: News::of_status(code, told),
            code,
            pushback,
        }
    }
}

/// One call. Sans-IO: time, chance and the shared budget come in through the door.
#[derive(Debug)]
pub struct Call {
    policy: Policy,
    deadline: Deadline,
    stages: Vec<Stage>,
    transparent: u32,
    replayable: bool,
    /// When the next attempt begins, if one is wanted.
    next: Option<Instant>,
    /// When to hedge.
    hedge: Option<Instant>,
    ended: bool,
    actions: VecDeque<Action>,
}

impl Call {
    /// A call that begins. One whose deadline is over is not begun at all.
    #[must_use]
    pub fn new(policy: Policy, deadline: Deadline, now: Instant) -> Self {
        let mut call = Self {
            policy,
            deadline,
            stages: Vec::new(),
            transparent: 0,
            replayable: true,
            next: None,
            hedge: None,
            ended: false,
            actions: VecDeque::new(),
        };
        if deadline.is_over(now) {
            call.fail(Code::DeadlineExceeded, Why::Deadline);
        } else {
            call.start(now);
        }
        call
    }

    /// What to do next, in order.
    pub fn poll_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The fate of an attempt; none while it goes on.
    #[must_use]
    pub fn fate(&self, attempt: usize) -> Option<Fate> {
        self.stages.get(attempt)?.fate()
    }

    /// When to call [`Call::on_deadline`]; `None` when there is nothing to wait for.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.ended {
            return None;
        }
        let moments = [self.next, self.hedge, self.deadline.moment()];
        moments.into_iter().flatten().min()
    }

    /// The request was too large to keep, so from now on no other attempt can begin. A call that was waiting for one is over.
    pub fn not_replayable(&mut self) {
        self.replayable = false;
        (self.next, self.hedge) = (None, None);
        if !self.ended && self.is_idle() {
            self.fail(Code::Unavailable, Why::NotReplayable);
        }
    }

    /// News of an attempt.
    pub fn on_news(
        &mut self,
        attempt: usize,
        report: Report,
        budget: &mut Budget,
        rng: &mut impl Rng,
        now: Instant,
    ) {
        let Some(stage) = self.stages.get_mut(attempt) else {
            return;
        };
        let before = std::mem::replace(stage, stage.next(report.news));
        match (before, *stage) {
            // Late news.
            (Stage::Ended(_), _) => {}
            (_, Stage::Ended(fate)) => self.on_end(attempt, fate, report, budget, rng, now),
            // A6: headers commit the call to this attempt.
            // Gap: a unary answer could be held back until its first message, and a loss between the two be retried.
            (Stage::Waiting | Stage::Sent, Stage::Answering) => self.answer(attempt, Fate::Ambiguous),
            (
                Stage::Waiting | Stage::Sent | Stage::Answering,
                Stage::Waiting | Stage::Sent | Stage::Answering,
            ) => {}
        }
    }

    /// The time came.
    pub fn on_deadline(&mut self, budget: &Budget, now: Instant) {
        if self.ended {
            return;
        }
        if self.deadline.is_over(now) {
            self.end_all(News::Expired);
            self.fail(Code::DeadlineExceeded, Why::Deadline);
            return;
        }
        let retry = self.next.take_if(|at| now >= *at).is_some();
        let hedge = !retry && self.hedge.take_if(|at| now >= *at).is_some();
        if retry || (hedge && self.may_hedge(budget)) {
            self.start(now);
        }
    }

    /// The caller is gone: nothing goes on for nobody.
    pub fn on_cancel(&mut self) {
        if !self.ended {
            self.end_all(News::Cancelled);
            self.fail(Code::Cancelled, Why::Cancelled);
        }
    }

    fn start(&mut self, now: Instant) {
        let attempt = self.stages.len();
        let previous = self.seen();
        self.stages.push(Stage::FIRST);
        self.actions.push_back(Action::Start { attempt, previous });
        let hedge = self
            .policy
            .hedge
            .filter(|_| self.policy.semantics.allows_hedging());
        self.hedge = hedge.and_then(|hedge| now.checked_add(hedge.after));
    }

    /// How many attempts may have been seen by the server.
    fn seen(&self) -> u32 {
        let harmless = |stage: &&Stage| !stage.fate().is_some_and(Fate::is_harmless);
        u32::try_from(self.stages.iter().filter(harmless).count()).unwrap_or(u32::MAX)
    }

    fn counted(&self) -> u32 {
        let begun = u32::try_from(self.stages.len()).unwrap_or(u32::MAX);
        begun.saturating_sub(self.transparent)
    }

    fn may_hedge(&self, budget: &Budget) -> bool {
        let bound = self.policy.max_attempts.min(super::ATTEMPTS_MAX);
        self.replayable && self.next.is_none() && self.counted() < bound && budget.allows()
    }

    fn on_end(
        &mut self,
        attempt: usize,
        fate: Fate,
        report: Report,
        budget: &mut Budget,
        rng: &mut impl Rng,
        now: Instant,
    ) {
        self.charge(fate, report, budget);
        if self.ended {
            return; // its answer is being passed on
        }
        let standing = Standing {
            counted: self.counted(),
            transparent: self.transparent,
            replayable: self.replayable,
            remaining: self.deadline.remaining(now),
        };
        match decide(
            &self.policy,
            (fate, report.code, report.pushback),
            standing,
            budget,
            rng,
        ) {
            Decision::Again { after, transparent } => self.again(now + after, transparent),
            Decision::Stop(Why::Answered) => self.answer(attempt, Fate::Committed),
            // Of no use to wait for the others: they are the same call.
            Decision::Stop(why @ (Why::Code | Why::Pushback)) => self.give_up(report.code, why),
            Decision::Stop(why) if self.is_idle() => self.fail(report.code, why),
            Decision::Stop(_) => {}
        }
    }

    /// A6: throttling counts what asks for a retry as a failure, and any other end as a success. What no server saw is
    /// neither.
    fn charge(&self, fate: Fate, report: Report, budget: &mut Budget) {
        if report.pushback == Pushback::Never {
            budget.on_failure();
            return;
        }
        match fate {
            Fate::NotSent | Fate::Unprocessed => {}
            Fate::Ambiguous if self.policy.retry_on.has(report.code) => budget.on_failure(),
            Fate::Ambiguous => {}
            Fate::Committed => budget.on_success(),
        }
    }

    fn again(&mut self, at: Instant, transparent: bool) {
        self.transparent += u32::from(transparent);
        let at = self.next.map_or(at, |next| next.min(at));
        self.next = Some(at);
        self.hedge = None;
    }

    /// Whether nothing is under way and nothing is to come.
    fn is_idle(&self) -> bool {
        self.next.is_none() && self.stages.iter().all(|stage| stage.fate().is_some())
    }

    fn answer(&mut self, attempt: usize, fate: Fate) {
        self.end_others(Some(attempt), News::Cancelled);
        self.finish(fate, How::Answer { attempt });
    }

    fn give_up(&mut self, code: Code, why: Why) {
        self.end_all(News::Cancelled);
        self.fail(code, why);
    }

    fn fail(&mut self, code: Code, why: Why) {
        let fates = self.stages.iter().filter_map(|stage| stage.fate());
        let fate = fates.max().unwrap_or(Fate::NotSent);
        self.finish(fate, How::Failed { code, why });
    }

    fn end_all(&mut self, news: News) {
        self.end_others(None, news);
    }

    fn end_others(&mut self, but: Option<usize>, news: News) {
        for (attempt, stage) in self.stages.iter_mut().enumerate() {
            if but != Some(attempt) && stage.fate().is_none() {
                *stage = stage.next(news);
                self.actions.push_back(Action::Cancel { attempt });
            }
        }
    }

    fn finish(&mut self, fate: Fate, how: How) {
        (self.ended, self.next, self.hedge) = (true, None, None);
        self.actions.push_back(Action::Finish(End { fate, how }));
    }
}

#[cfg(test)]
mod tests;
