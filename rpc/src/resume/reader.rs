//! Who reads a stream that may be cut: which messages are new, and where it goes on. The one transition table.
//!
//! ```text
//! opening ─ head ─► reading ─ end ─► over
//!    ▲                │ cut
//!    └── the wait ── waiting ─ too often without a message ─► over
//! ```

use std::time::Duration;

use rand::Rng;

use super::{Mark, StreamToken};
use crate::fate::Backoff;

/// The limits of a reader.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Limits {
    /// So often it is asked for in a row without a new message.
    pub tries: u32,
    /// Waits before that.
    pub backoff: Backoff,
    /// So many messages that are known may come again each time.
    pub overlap: u64,
}

impl Limits {
    /// Five tries; 1,000 messages.
    pub const DEFAULT: Self = Self {
        tries: 5,
        backoff: Backoff::DEFAULT,
        overlap: 1000,
    };
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It was asked for, and there is no answer yet.
    Opening,
    /// Messages come.
    Reading,
    /// It was cut, and is asked for again after a wait.
    Waiting,
    /// It has ended, for good or not.
    Over,
}

/// What happens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The head of an answer; with a place where the service can go on.
    Opened(Option<Mark>),
    /// A whole message.
    Message,
    /// Nobody answers, or no more, and asking again may help.
    Cut,
    /// The end, in a status that stands.
    Ended,
    /// The wait is over.
    Due,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Do {
    /// Nothing.
    Nothing,
    /// Give the message to the application.
    Pass,
    /// It is known already.
    Drop,
    /// Wait so long; then [`Event::Due`].
    Wait(Duration),
    /// Ask for it again, with this place.
    Open(Mark),
    /// Pass on the status that there is.
    End,
    /// It cannot go on, and the application has to know.
    Fail(Why),
}

/// Why a stream cannot go on.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Why {
    /// Another one was answered, or one without a place.
    #[error("the stream {0} is not known any more")]
    Forgotten(StreamToken),
    /// Messages are missing.
    #[error("message {wanted} is wanted, and {next} comes next: what is between them is lost")]
    Gap {
        /// The number that is wanted.
        wanted: u64,
        /// The number that comes.
        next: u64,
    },
    /// It goes back too far.
    #[error("message {wanted} is wanted, and {next} comes next: more is told again than may be")]
    Overlap {
        /// The number that is wanted.
        wanted: u64,
        /// The number that comes.
        next: u64,
    },
    /// Something happened that cannot.
    #[error("{0} came out of turn")]
    OutOfTurn(&'static str),
}

/// A reader.
#[derive(Debug)]
pub struct Reader {
    limits: Limits,
    state: State,
    token: Option<StreamToken>,
    /// The number of the first message that the application does not have.
    wanted: u64,
    /// The number of the message that comes next.
    comes: u64,
    /// Tries in a row without a new message.
    tries: u32,
}

impl Reader {
    /// Of a stream that was asked for.
    #[must_use]
    pub const fn new(limits: Limits) -> Self {
        Self {
            limits,
            state: State::Opening,
            token: None,
            wanted: 0,
            comes: 0,
            tries: 0,
        }
    }

    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> State {
        self.state
    }

    /// The number of the message that the application gets next.
    #[must_use]
    pub const fn wanted(&self) -> u64 {
        self.wanted
    }

    /// Something happened.
    pub fn on_event(&mut self, event: Event, rng: &mut impl Rng) -> Do {
        let (state, what) = match (self.state, event) {
            (State::Opening, Event::Opened(mark)) => self.open(mark),
            (State::Opening | State::Reading, Event::Cut) => self.cut(rng),
            (State::Opening | State::Reading, Event::Ended) => (State::Over, Do::End),
            (State::Reading, Event::Message) => (State::Reading, self.message()),
            (State::Waiting, Event::Due) => self.again(),

            (State::Opening, Event::Message) => out_of_turn("a message"),
            (State::Reading, Event::Opened(_)) => out_of_turn("a head"),
            (State::Opening | State::Reading, Event::Due) => (self.state, Do::Nothing),
            // Late news of what was cut.
            (State::Waiting, Event::Opened(_) | Event::Message | Event::Cut | Event::Ended) => {
                (State::Waiting, Do::Nothing)
            }
            (State::Over, Event::Opened(_) | Event::Message | Event::Cut | Event::Ended | Event::Due) => {
                (State::Over, Do::Nothing)
            }
        };
        self.state = state;
        what
    }

    fn open(&mut self, mark: Option<Mark>) -> (State, Do) {
        let fail = |why| (State::Over, Do::Fail(why));
        match (&self.token, mark) {
            // One that cannot go on is read all the same.
            (None, None) => (State::Reading, Do::Nothing),
            (None, Some(mark)) => {
                (self.wanted, self.comes) = (mark.next, mark.next);
                self.token = Some(mark.token);
                (State::Reading, Do::Nothing)
            }
            (Some(token), Some(mark)) if *token == mark.token => {
                let (wanted, next) = (self.wanted, mark.next);
                if next > wanted {
                    return fail(Why::Gap { wanted, next });
                }
                if wanted - next > self.limits.overlap {
                    return fail(Why::Overlap { wanted, next });
                }
                self.comes = next;
                (State::Reading, Do::Nothing)
            }
            (Some(token), Some(_) | None) => fail(Why::Forgotten(token.clone())),
        }
    }

    fn message(&mut self) -> Do {
        let is_new = self.comes >= self.wanted;
        self.comes = self.comes.saturating_add(1);
        if !is_new {
            return Do::Drop;
        }
        self.wanted = self.comes;
        self.tries = 0;
        Do::Pass
    }

    fn cut(&mut self, rng: &mut impl Rng) -> (State, Do) {
        if self.token.is_none() || self.tries >= self.limits.tries {
            return (State::Over, Do::End);
        }
        // The first time elsewhere at once, where nothing says that all of them are in trouble.
        let wait = match self.tries {
            0 => Duration::ZERO,
            tries => self.limits.backoff.draw(tries - 1, rng),
        };
        self.tries += 1;
        (State::Waiting, Do::Wait(wait))
    }

    fn again(&self) -> (State, Do) {
        match &self.token {
            Some(token) => {
                let mark = Mark {
                    token: token.clone(),
                    next: self.wanted,
                };
                (State::Opening, Do::Open(mark))
            }
            // Nobody waits without a name; the table sees to it.
            None => (State::Over, Do::End),
        }
    }
}

const fn out_of_turn(what: &'static str) -> (State, Do) {
    (State::Over, Do::Fail(Why::OutOfTurn(what)))
}

#[cfg(test)]
mod tests;
