//! One keyed call at the service that does it: claim, wait, run, commit, answer. Sans-IO.

use std::time::{Duration, Instant};

use crate::fate::{Code, Deadline, Fate};

/// Where a keyed call stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum State {
    /// The store is asked for the key.
    Asking,
    /// Another has the key; it is asked for again after a while.
    Waiting,
    /// The handler runs.
    Running,
    /// The store commits.
    Committing,
    /// The claim is given back.
    Releasing,
    /// It is over.
    Ended,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(
    missing_docs,
    reason = "the names of `Found`, of `Handled` and of `StoreError`"
)]
pub enum Event {
    Fresh,
    InFlight,
    Answered,
    OtherPayload,
    Unavailable,
    /// The wait is over.
    Due,
    /// The handler has an answer to be kept.
    Kept,
    /// The handler has failed and wants nothing kept.
    Dropped,
    Committed,
    Fenced,
    InDoubt,
    Released,
    /// The deadline has passed, or is so close that the caller must be told now.
    Expired,
}

/// What to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Do {
    /// Ask the store for the key.
    Claim,
    /// Nothing until [`Desk::next_deadline`].
    Wait,
    /// Run the handler, in the claim's transaction.
    Run,
    /// Commit its answer.
    Commit,
    /// Stop the handler if it runs, and give the claim back.
    Release,
    /// Tell the caller the answer, now that it is committed.
    Answer,
    /// Tell the caller the answer that was found, and that it was given before.
    Replay,
    /// Tell the caller what the handler failed with.
    Fail,
    /// Tell the caller that nothing comes of it.
    Refuse(Refusal),
    /// Go on with what is under way.
    Nothing,
}

/// Why nothing comes of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// Another has the key, and still had it when there was no more time.
    InFlight,
    /// The key was used for another payload.
    OtherPayload,
    /// The store could not be asked, and nothing was done.
    Unavailable,
    /// The outcome of a commit is not known.
    InDoubt,
    /// There was no time to begin, or to end; nothing was done.
    Expired,
}

impl Refusal {
    /// The status, the fate that goes with it in [`crate::fate::FATE_HEADER`], and the words.
    #[must_use]
    pub const fn told(self) -> (Code, Fate, &'static str) {
        match self {
            // The other attempt may be doing it right now.
            Self::InFlight => (
                Code::Aborted,
                Fate::Ambiguous,
                "a call with this idempotency key is in flight; try again with the same key",
            ),
            Self::OtherPayload => (
                Code::FailedPrecondition,
                Fate::Committed,
                "this idempotency key was used with another payload; use a new key for a new call",
            ),
            Self::Unavailable => (
                Code::Unavailable,
                Fate::Unprocessed,
                "the store of idempotency keys cannot be reached",
            ),
            Self::InDoubt => (
                Code::Unavailable,
                Fate::Ambiguous,
                "the outcome of a commit is not known; try again with the same key",
            ),
            Self::Expired => (
                Code::DeadlineExceeded,
                Fate::Unprocessed,
                "the deadline passed, and nothing was done",
            ),
        }
    }
}

impl State {
    /// The table. `doubt`: an earlier commit of this call had an outcome that is not known.
    #[must_use]
    pub const fn next(self, event: Event, doubt: bool) -> (Self, Do) {
        match (self, event) {
            (Self::Asking, Event::Fresh) => (Self::Running, Do::Run),
            (Self::Asking, Event::InFlight) => (Self::Waiting, Do::Wait),
            (Self::Asking, Event::Answered) => (Self::Ended, Do::Replay),
            (Self::Asking, Event::OtherPayload) => (Self::Ended, Do::Refuse(Refusal::OtherPayload)),
            (Self::Asking, Event::Unavailable) if doubt => (Self::Ended, Do::Refuse(Refusal::InDoubt)),
            (Self::Asking, Event::Unavailable) => (Self::Ended, Do::Refuse(Refusal::Unavailable)),
            // What the store is asked for may be granted at any moment: it has to be given back.
            (Self::Asking, Event::Expired) => (Self::Asking, Do::Nothing),

            (Self::Waiting, Event::Due) => (Self::Asking, Do::Claim),
            (Self::Waiting, Event::Expired) => (Self::Ended, Do::Refuse(Refusal::InFlight)),

            (Self::Running, Event::Kept) => (Self::Committing, Do::Commit),
            (Self::Running, Event::Dropped | Event::Expired) => (Self::Releasing, Do::Release),
            // The handler has met it when it used its transaction.
            (Self::Running, Event::Fenced | Event::Unavailable | Event::InDoubt) => {
                (Self::Releasing, Do::Release)
            }

            (Self::Committing, Event::Committed) => (Self::Ended, Do::Answer),
            // Another has the key, or had it: it knows the answer, or nobody does.
            (Self::Committing, Event::Fenced | Event::InDoubt) => (Self::Asking, Do::Claim),
            (Self::Committing, Event::Unavailable) => (Self::Ended, Do::Refuse(Refusal::Unavailable)),
            // A commit under way cannot be called back.
            (Self::Committing, Event::Expired) => (Self::Committing, Do::Nothing),

            (Self::Releasing, Event::Released) => (Self::Ended, Do::Fail),
            (Self::Releasing, Event::Expired) => (Self::Releasing, Do::Nothing),

            // What cannot come in a state changes nothing in it.
            (
                Self::Asking,
                Event::Due
                | Event::Kept
                | Event::Dropped
                | Event::Committed
                | Event::Fenced
                | Event::InDoubt
                | Event::Released,
            )
            | (
                Self::Waiting,
                Event::Fresh
                | Event::InFlight
                | Event::Answered
                | Event::OtherPayload
                | Event::Unavailable
                | Event::Kept
                | Event::Dropped
                | Event::Committed
                | Event::Fenced
                | Event::InDoubt
                | Event::Released,
            )
            | (
                Self::Running,
                Event::Fresh
                | Event::InFlight
                | Event::Answered
                | Event::OtherPayload
                | Event::Due
                | Event::Committed
                | Event::Released,
            )
            | (
                Self::Committing,
                Event::Fresh
                | Event::InFlight
                | Event::Answered
                | Event::OtherPayload
                | Event::Due
                | Event::Kept
                | Event::Dropped
                | Event::Released,
            )
            | (
                Self::Releasing,
                Event::Fresh
                | Event::InFlight
                | Event::Answered
                | Event::OtherPayload
                | Event::Unavailable
                | Event::Due
                | Event::Kept
                | Event::Dropped
                | Event::Committed
                | Event::Fenced
                | Event::InDoubt,
            )
            | (
                Self::Ended,
                Event::Fresh
                | Event::InFlight
                | Event::Answered
                | Event::OtherPayload
                | Event::Unavailable
                | Event::Due
                | Event::Kept
                | Event::Dropped
                | Event::Committed
                | Event::Fenced
                | Event::InDoubt
                | Event::Released
                | Event::Expired,
            ) => (self, Do::Nothing),
        }
    }
}

/// The shortest and the longest wait for another's claim.
const POLL: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(50));

/// So long before the deadline a caller is told that there is no more time, so that it hears of it.
const MARGIN: Duration = Duration::from_millis(10);

/// A commit that is fenced or in doubt is looked after this often.
const RETURNS_MAX: u32 = 8;

/// One keyed call.
#[derive(Debug)]
pub struct Desk {
    state: State,
    deadline: Deadline,
    poll: Duration,
    due: Option<Instant>,
    doubt: bool,
    returns: u32,
    /// Why it is released, unless the handler said so.
    released: Option<Refusal>,
}

impl Desk {
    /// A call that has come. Work whose deadline is over is not begun.
    #[must_use]
    pub fn new(deadline: Deadline, now: Instant) -> (Self, Do) {
        let over = deadline.is_over(now);
        let desk = Self {
            state: if over { State::Ended } else { State::Asking },
            deadline,
            poll: POLL.0,
            due: None,
            doubt: false,
            returns: 0,
            released: None,
        };
        let first = if over {
            Do::Refuse(Refusal::Expired)
        } else {
            Do::Claim
        };
        (desk, first)
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// When to call [`Desk::on_deadline`].
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        match self.state {
            State::Waiting => self.due.into_iter().chain(self.last_moment()).min(),
            State::Running => self.deadline.moment(),
            State::Asking | State::Committing | State::Releasing | State::Ended => None,
        }
    }

    /// The time came.
    pub fn on_deadline(&mut self, now: Instant) -> Do {
        match self.state {
            State::Waiting if self.last_moment().is_some_and(|at| now >= at) => {
                self.on_event(Event::Expired, now)
            }
            State::Waiting if self.due.is_some_and(|due| now >= due) => self.on_event(Event::Due, now),
            State::Running if self.deadline.is_over(now) => self.on_event(Event::Expired, now),
            State::Asking
            | State::Waiting
            | State::Running
            | State::Committing
            | State::Releasing
            | State::Ended => Do::Nothing,
        }
    }

    /// Something happened.
    pub fn on_event(&mut self, event: Event, now: Instant) -> Do {
        let (state, next) = self.state.next(event, self.doubt);
        if self.state == State::Running && state == State::Releasing {
            self.released = released_by(event);
        }
        self.doubt |= self.state == State::Committing && event == Event::InDoubt;
        let came_back = self.state == State::Committing && state == State::Asking;
        self.state = state;
        match next {
            Do::Wait => {
                self.due = Some(now + self.poll);
                self.poll = (self.poll * 2).min(POLL.1);
                next
            }
            // The key is ours, and too late: given back before anything is begun.
            Do::Run if self.deadline.is_over(now) => {
                (self.state, self.released) = (State::Releasing, Some(Refusal::Expired));
                Do::Release
            }
            Do::Claim if came_back => self.come_back(),
            Do::Fail => self
                .released
                .map_or(Do::Fail, |refusal| Do::Refuse(self.in_doubt_or(refusal))),
            Do::Claim
            | Do::Run
            | Do::Commit
            | Do::Release
            | Do::Answer
            | Do::Replay
            | Do::Refuse(_)
            | Do::Nothing => next,
        }
    }

    fn come_back(&mut self) -> Do {
        self.returns += 1;
        if self.returns > RETURNS_MAX {
            self.state = State::Ended;
            return Do::Refuse(self.in_doubt_or(Refusal::Unavailable));
        }
        Do::Claim
    }

    /// "Nothing was done" is no word of a call of which an earlier commit may have been.
    const fn in_doubt_or(&self, refusal: Refusal) -> Refusal {
        if self.doubt { Refusal::InDoubt } else { refusal }
    }

    fn last_moment(&self) -> Option<Instant> {
        let moment = self.deadline.moment()?;
        Some(moment.checked_sub(MARGIN).unwrap_or(moment))
    }
}

/// Why a handler was stopped; `None` where it said itself that it failed.
const fn released_by(event: Event) -> Option<Refusal> {
    match event {
        Event::Expired => Some(Refusal::Expired),
        Event::Fenced | Event::Unavailable => Some(Refusal::Unavailable),
        Event::InDoubt => Some(Refusal::InDoubt),
        Event::Fresh
        | Event::InFlight
        | Event::Answered
        | Event::OtherPayload
        | Event::Due
        | Event::Kept
        | Event::Dropped
        | Event::Committed
        | Event::Released => None,
    }
}

#[cfg(test)]
mod tests;
