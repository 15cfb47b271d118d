//! Other checks of the same endpoint, side by side, and what must hold of them.

use std::time::Duration;

use futures_util::future::join_all;
use steer_topology::{CheckId, Formula};

use super::{Place, Progress, Target};
use crate::outcome::{Answer, Failure, Outcome, Void, shortened};

/// A formula and the probes that it needs.
#[derive(Debug)]
pub(crate) struct Calculated {
    when: Formula,
    parts: Vec<Part>,
}

#[derive(Debug)]
struct Part {
    check: CheckId,
    name: String,
    target: Target,
}

impl Calculated {
    pub(super) fn new(when: Formula, parts: Vec<(CheckId, String, Target)>) -> Self {
        let part = |(check, name, target)| Part { check, name, target };
        Self {
            when,
            parts: parts.into_iter().map(part).collect(),
        }
    }

    /// Each part has the whole time; those that need more have failed.
    pub(super) async fn probe(&self, place: Place, timeout: Duration) -> Outcome {
        // Each ends a little before the whole does, or the whole would take the word from them.
        let each = timeout.saturating_sub(Duration::from_millis(2).min(timeout / 10));
        let parts = self.parts.iter().map(|part| async move {
            let progress = Progress::default();
            let probe = tokio::time::timeout(each, part.target.probe(place, timeout, &progress));
            probe.await.unwrap_or_else(|_| progress.timed_out(timeout))
        });
        self.judge(&join_all(parts).await)
    }

    fn judge(&self, outcomes: &[Outcome]) -> Outcome {
        let of = |check: CheckId| {
            let mut parts = self.parts.iter().zip(outcomes);
            let (_, outcome) = parts.find(|(part, _)| part.check == check)?;
            match outcome {
                Outcome::Success(_) => Some(true),
                Outcome::Failure(_) => Some(false),
                Outcome::Void(_) => None,
            }
        };
        match self.when.holds(&of) {
            Some(true) => Outcome::Success(Answer::Seen(self.told(outcomes, |_| true).into())),
            Some(false) => Outcome::Failure(Failure::Wrong(self.told(outcomes, |_| true))),
            None => Outcome::Void(Void::Local(
                self.told(outcomes, |one| matches!(one, Outcome::Void(_))),
            )),
        }
    }

    /// `web: status 200; dns: no answer within 300 ms`
    fn told(&self, outcomes: &[Outcome], which: impl Fn(&Outcome) -> bool) -> String {
        let parts = self
            .parts
            .iter()
            .zip(outcomes)
            .filter(|(_, outcome)| which(outcome));
        let told = parts.map(|(part, outcome)| {
            let text = outcome.to_string();
            format!("{}: {}", part.name, shortened(&text))
        });
        told.collect::<Vec<_>>().join("; ")
    }
}
