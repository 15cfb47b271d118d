//! The driver of one channel of a [`Spool`]: a row, the rate, the sink, what follows.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::rate::Bucket;
use super::spool::{Look, Spool, Waiting};
use super::{Letter, Next, Rules, Sink, SinkError, next};
use crate::key::StoreError;

/// After a failure of the spool it is tried again after this long.
const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// How a channel is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Rows that were told since the start.
    pub told: u64,
    /// Why the last row was not taken, until one is.
    pub trouble: Option<String>,
    /// Whether that was because nobody was there.
    pub is_away: bool,
    /// When a row was taken last, after 1970.
    pub last_told: Option<Duration>,
}

/// A channel with its sink.
pub struct Channel<S> {
    spool: Spool,
    name: String,
    rules: Rules,
    sink: S,
    standing: Arc<Mutex<Standing>>,
}

impl<S> std::fmt::Debug for Channel<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Channel")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl<S: Sink> Channel<S> {
    /// Of the rows of `spool` that are for `name`. How it is can be read in `standing`. `batch` of the rules means nothing
    /// here: rows are told one by one, each within `batch_time`.
    pub fn new(spool: Spool, name: &str, rules: Rules, sink: S, standing: Arc<Mutex<Standing>>) -> Self {
        Self {
            spool,
            name: name.to_owned(),
            rules,
            sink,
            standing,
        }
    }

    /// Tells rows until it is dropped, which may be at any moment: a row that was on its way is told again by the next one.
    pub async fn run(self) {
        let mut rng = SmallRng::from_rng(&mut rand::rng());
        let mut bucket = Bucket::new(self.rules.rate, Instant::now());
        let mut grown = self.spool.grown();
        loop {
            // Marked before the look, so that nothing that comes in between is missed.
            grown.borrow_and_update();
            let pause = self.turn(&mut bucket, &mut rng).await;
            let more = async {
                // The sender lives as long as the spool, which is ours.
                if grown.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            };
            match pause {
                Some(pause) => drop(tokio::time::timeout(pause, more).await),
                None => more.await,
            }
        }
    }

    /// One turn: how long nothing is to be done, or until something comes in.
    async fn turn(&self, bucket: &mut Bucket, rng: &mut SmallRng) -> Option<Duration> {
        let name = self.name.clone();
        let look = self.at_last(move |spool| spool.look(&name, Instant::now())).await;
        let waiting = match look {
            Look::Tell(waiting) => waiting,
            Look::Later(due) => return Some(due.saturating_duration_since(Instant::now())),
            Look::Empty => return None,
        };
        tokio::time::sleep(bucket.take(Instant::now())).await;
        let outcome = tell(&self.sink, &waiting.letter, self.rules.batch_time).await;
        let next = next(&outcome, waiting.tries, &self.rules, rng);
        self.note(&waiting, &outcome, next);
        let is_away = matches!(outcome, Err(SinkError::Away(_)));
        let why = outcome.err().map(|error| error.words().to_owned());
        let (name, number) = (self.name.clone(), waiting.number);
        self.at_last(move |spool| {
            let why = why.as_deref().unwrap_or_default();
            spool.settle(&name, number, next, is_away, why, Instant::now())
        })
        .await;
        Some(Duration::ZERO)
    }

    /// Does something of the spool until it succeeds: a full disk must not have a letter told again and again.
    async fn at_last<T: Send + 'static>(
        &self,
        what: impl Fn(&Spool) -> Result<T, StoreError> + Clone + Send + 'static,
    ) -> T {
        let mut is_said = false;
        loop {
            match self.spool.blocking(what.clone()).await {
                Ok(done) => return done,
                Err(error) => {
                    metrics::counter!("steer_notify_spool_errors_total").increment(1);
                    if !std::mem::replace(&mut is_said, true) {
                        tracing::warn!(channel = self.name, %error, "nothing can be told");
                    }
                }
            }
            tokio::time::sleep(SPOOL_PAUSE).await;
        }
    }

    /// Counts and logs it; that somebody is away is logged once.
    fn note(&self, waiting: &Waiting, outcome: &Result<(), SinkError>, next: Next) {
        let (channel, id) = (&self.name, &waiting.letter.id);
        let mut standing = self.standing();
        match outcome {
            Ok(()) => {
                if standing.trouble.take().is_some() {
                    tracing::info!(channel, "letters are taken again");
                }
                standing.is_away = false;
                standing.told += 1;
                standing.last_told = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok();
            }
            Err(error) => {
                let why = error.words();
                let is_away = matches!(error, SinkError::Away(_));
                match next {
                    Next::Again { .. } if is_away && standing.is_away => {}
                    Next::Again { .. } if is_away => {
                        tracing::warn!(channel, why, "nobody takes letters; all wait");
                    }
                    Next::Told | Next::Again { .. } => {
                        tracing::info!(channel, id, why, "a letter failed and is tried again");
                    }
                    Next::Dead { tries } => tracing::warn!(channel, id, tries, why, "a letter is dead"),
                }
                standing.trouble = Some(why.to_owned());
                standing.is_away = is_away;
            }
        }
        drop(standing);
        let what = match next {
            Next::Told => "told",
            Next::Again { .. } => "again",
            Next::Dead { .. } => "dead",
        };
        metrics::counter!("steer_notify_letters_total", "channel" => channel.clone(), "what" => what)
            .increment(1);
    }

    fn standing(&self) -> MutexGuard<'_, Standing> {
        self.standing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Tells one letter within `wait`.
async fn tell(sink: &impl Sink, letter: &Letter, wait: Duration) -> Result<(), SinkError> {
    let told = tokio::time::timeout(wait, sink.tell(letter)).await;
    told.unwrap_or_else(|_| Err(SinkError::Failed(format!("it took longer than {wait:?}"))))
}
