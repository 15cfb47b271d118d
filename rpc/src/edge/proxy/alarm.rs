//! The next moment at which a call has something to do.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Instant;

use tokio::time::Sleep;

/// A timer that is made when it is first needed, and set anew when the moment is another.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    sleep: Option<Pin<Box<Sleep>>>,
    at: Option<Instant>,
}

impl Alarm {
    /// Ready when the moment has come; never where there is none.
    pub(super) fn poll(&mut self, at: Option<Instant>, cx: &mut Context<'_>) -> Poll<()> {
        let Some(moment) = at else {
            return Poll::Pending;
        };
        let sleep = match &mut self.sleep {
            Some(sleep) => {
                if self.at != at {
                    sleep.as_mut().reset(moment.into());
                }
                sleep
            }
            none => none.insert(Box::pin(tokio::time::sleep_until(moment.into()))),
        };
        self.at = at;
        sleep.as_mut().poll(cx)
    }
}
