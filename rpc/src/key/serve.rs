//! The thin driver of a [`Desk`]: any store, any handler.

use std::future::Future;
use std::time::Instant;

use super::desk::{Desk, Do, Event, Refusal};
use super::store::{Claim, Found, KeyStore, Message, StoreError};
use super::{Answer, KeyedCall};
use crate::fate::{Code, Deadline, Fate};

/// What a handler came to.
#[derive(Debug)]
pub enum Handled {
    /// An answer to be kept and given again: a success, or a refusal that would be the same next time.
    Keep(Answer, Vec<Message>),
    /// A failure. What was done in the transaction is taken back, and the key is free.
    Drop(Answer),
    /// The claim's transaction failed.
    Failed(StoreError),
}

/// What does the work of a call.
pub trait Handler<C: Claim>: Send {
    /// Does it in the claim's transaction. May be dropped at any await, when the deadline passes, and may be called again for
    /// the same call, after what it did before was taken back.
    fn run(&mut self, claim: &mut C) -> impl Future<Output = Handled> + Send;
}

/// What the caller is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reply {
    /// The answer, or a status made of a refusal.
    pub answer: Answer,
    /// Whether it was given before: [`super::REPLAYED_HEADER`].
    pub replayed: bool,
    /// For [`crate::fate::FATE_HEADER`].
    pub fate: Fate,
}

impl Reply {
    fn refusal(refusal: Refusal) -> Self {
        let (code, fate, words) = refusal.told();
        Self {
            answer: Answer::refusal(code, words),
            replayed: false,
            fate,
        }
    }

    const fn of(answer: Answer, replayed: bool) -> Self {
        Self {
            answer,
            replayed,
            fate: Fate::Committed,
        }
    }
}

/// Serves one keyed call. Takes as long as the deadline allows, and the time of a commit.
///
/// One that is dropped has done nothing, unless its commit was under way.
pub async fn serve<S: KeyStore>(
    store: &S,
    call: &KeyedCall,
    deadline: Deadline,
    handler: &mut impl Handler<S::Claim>,
) -> Reply {
    let (desk, mut next) = Desk::new(deadline, Instant::now());
    let mut work = Work {
        store,
        call,
        desk,
        claim: None,
        kept: None,
        outcome: None,
    };
    loop {
        next = match next {
            Do::Claim => work.claim().await,
            Do::Wait | Do::Nothing => work.wait().await,
            Do::Run => work.run(handler).await,
            Do::Commit => work.commit().await,
            Do::Release => work.release().await,
            Do::Answer => return work.reply(false),
            Do::Replay => return work.reply(true),
            Do::Fail => {
                let reply = work.reply(false);
                // The handler's word: nothing stays, whatever its status is.
                return Reply {
                    fate: Fate::Unprocessed,
                    ..reply
                };
            }
            Do::Refuse(refusal) => {
                metrics::counter!("steer_rpc_key_refusals_total", "why" => format!("{refusal:?}"))
                    .increment(1);
                return Reply::refusal(refusal);
            }
        };
    }
}

struct Work<'a, S: KeyStore> {
    store: &'a S,
    call: &'a KeyedCall,
    desk: Desk,
    claim: Option<S::Claim>,
    kept: Option<(Answer, Vec<Message>)>,
    outcome: Option<Answer>,
}

impl<S: KeyStore> Work<'_, S> {
    async fn claim(&mut self) -> Do {
        let event = match self.store.claim(self.call).await {
            Ok(Found::Fresh(claim)) => {
                self.claim = Some(claim);
                Event::Fresh
            }
            Ok(Found::InFlight) => Event::InFlight,
            Ok(Found::Answered(answer)) => {
                self.outcome = Some(answer);
                Event::Answered
            }
            Ok(Found::OtherPayload) => Event::OtherPayload,
            Err(error) => failed(&error),
        };
        self.tell(event)
    }

    async fn wait(&mut self) -> Do {
        match self.desk.next_deadline() {
            Some(at) => tokio::time::sleep_until(at.into()).await,
            // Only a table with a fault comes here; to ask again is the harmless thing to do.
            None => return Do::Refuse(Refusal::InDoubt),
        }
        self.desk.on_deadline(Instant::now())
    }

    async fn run(&mut self, handler: &mut impl Handler<S::Claim>) -> Do {
        let Some(claim) = &mut self.claim else {
            return self.tell(Event::Unavailable);
        };
        let at = self.desk.next_deadline();
        let handled = match at {
            None => Some(handler.run(claim).await),
            Some(at) => tokio::time::timeout_at(at.into(), handler.run(claim)).await.ok(),
        };
        let event = match handled {
            None => return self.desk.on_deadline(Instant::now()),
            Some(Handled::Keep(answer, outbox)) => {
                self.kept = Some((answer, outbox));
                Event::Kept
            }
            Some(Handled::Drop(answer)) => {
                self.outcome = Some(answer);
                Event::Dropped
            }
            Some(Handled::Failed(error)) => failed(&error),
        };
        self.tell(event)
    }

    async fn commit(&mut self) -> Do {
        let (Some(claim), Some((answer, outbox))) = (self.claim.take(), self.kept.take()) else {
            return self.tell(Event::Unavailable);
        };
        let event = match claim.commit(&answer, &outbox).await {
            Ok(()) => {
                self.outcome = Some(answer);
                Event::Committed
            }
            Err(error) => failed(&error),
        };
        self.tell(event)
    }

    async fn release(&mut self) -> Do {
        if let Some(claim) = self.claim.take() {
            claim.release().await;
        }
        self.tell(Event::Released)
    }

    fn tell(&mut self, event: Event) -> Do {
        self.desk.on_event(event, Instant::now())
    }

    fn reply(self, replayed: bool) -> Reply {
        let nothing = || Answer::refusal(Code::Internal, "the handler gave no answer");
        Reply::of(self.outcome.unwrap_or_else(nothing), replayed)
    }
}

fn failed(error: &StoreError) -> Event {
    tracing::warn!(%error, "idempotency keys");
    match error {
        StoreError::Fenced(_) => Event::Fenced,
        StoreError::Unavailable(_) => Event::Unavailable,
        StoreError::InDoubt(_) => Event::InDoubt,
    }
}
