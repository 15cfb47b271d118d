//! Charges as an open loop: each is due at its time whatever became of those before, has a key of its own, and is sent
//! again with the same key until it is answered or a bound passes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use http::{HeaderMap, HeaderValue};
use rand::RngExt;
use steer_rpc::fate::Code;
use steer_rpc::key::{IdempotencyKey, KEY_HEADER, REPLAYED_HEADER};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::channel::Channel;
use crate::generated::shop::{ChargeReply, ChargeRequest};
use crate::journal::{Entry, Journal, now_us};
use crate::load::Load;
use crate::payment::METHOD;
use crate::pulse::Pulse;
use crate::wire::{Lost, timeout_header};

/// Charges under way; beyond it one that is due is shed, and counted.
const UNDER_WAY_MAX: usize = 10_000;

/// Connections, so that one that breaks does not take all calls with it.
const CHANNELS: usize = 4;

/// Accounts of one client.
const ACCOUNTS: u64 = 500;

/// One try; the edge is told the same.
const TRY_MAX: Duration = Duration::from_millis(1_000);

/// All tries of a charge.
const CHARGE_MAX: Duration = Duration::from_secs(20);

/// Before the second try, doubled for each one after it up to the largest; half of it is drawn.
const PAUSE: Duration = Duration::from_millis(4);
const PAUSE_MAX: Duration = Duration::from_millis(100);

/// What is due is looked at so often.
const TICK: Duration = Duration::from_millis(1);

#[derive(Debug)]
pub(crate) struct Charges {
    channels: Vec<Channel>,
    name: String,
    per_second: f64,
    late: Duration,
    journal: Arc<Journal>,
    pulse: Arc<Pulse>,
}

/// What became of a charge.
enum Fate {
    Acked { receipt: i64, replayed: bool },
    GaveUp(String),
}

impl Charges {
    pub(crate) fn new(load: &Load, journal: Arc<Journal>, pulse: Arc<Pulse>) -> Self {
        Self {
            channels: (0..CHANNELS).map(|_| Channel::new(load.edge)).collect(),
            name: load.name.clone(),
            per_second: f64::from(load.per_second),
            late: load.late,
            journal,
            pulse,
        }
    }

    /// Until it is stopped and every charge that was begun has ended.
    pub(crate) async fn run(self: Arc<Self>, mut stopped: watch::Receiver<bool>) -> io::Result<()> {
        if self.per_second == 0.0 {
            _ = stopped.wait_for(|stopped| *stopped).await;
            return Ok(());
        }
        let permits = Arc::new(Semaphore::new(UNDER_WAY_MAX));
        let (start, start_us) = (Instant::now(), now_us());
        let mut tick = interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut charges = JoinSet::new();
        let mut number = 0_u64;
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                _ = stopped.wait_for(|stopped| *stopped) => break,
            }
            while let Some(ended) = charges.try_join_next() {
                ended.map_err(io::Error::other)??;
            }
            let due = |number: u64| Duration::from_secs_f64(number as f64 / self.per_second);
            while due(number) <= start.elapsed() {
                let after = due(number);
                let at_us = start_us + i64::try_from(after.as_micros()).unwrap_or(i64::MAX);
                if let Ok(permit) = Arc::clone(&permits).try_acquire_owned() {
                    let charge = Arc::clone(&self).charge(number, start + after, at_us);
                    charges.spawn(async move {
                        let ended = charge.await;
                        drop(permit);
                        ended
                    });
                } else {
                    self.pulse.note(false);
                    self.journal.write(&Entry::Shed { at_us })?;
                }
                number += 1;
            }
        }
        while let Some(ended) = charges.join_next().await {
            ended.map_err(io::Error::other)??;
        }
        Ok(())
    }

    async fn charge(self: Arc<Self>, number: u64, due: Instant, at_us: i64) -> io::Result<()> {
        let key = IdempotencyKey::random(&mut rand::rng());
        let request = ChargeRequest {
            account: format!("{}-{}", self.name, number % ACCOUNTS),
            amount: 1 + number % 99,
        };
        self.journal.write(&Entry::Begun {
            key: key.to_string(),
            at_us,
            account: request.account.clone(),
            amount: request.amount,
        })?;
        let (fate, tries) = self.until_answered(number, &key, &request).await;
        let is_acked = matches!(fate, Fate::Acked { .. });
        self.pulse.note(is_acked && due.elapsed() <= self.late);
        let (key, at_us) = (key.to_string(), now_us());
        self.journal.write(&match fate {
            Fate::Acked { receipt, replayed } => Entry::Acked {
                key,
                at_us,
                receipt,
                tries,
                replayed,
            },
            Fate::GaveUp(why) => Entry::GaveUp {
                key,
                at_us,
                tries,
                why,
            },
        })
    }

    async fn until_answered(
        &self,
        number: u64,
        key: &IdempotencyKey,
        request: &ChargeRequest,
    ) -> (Fate, u32) {
        let began = Instant::now();
        let mut tries = 0;
        let mut pause = PAUSE;
        loop {
            let left = CHARGE_MAX.saturating_sub(began.elapsed());
            let channel = &self.channels[number as usize % CHANNELS];
            tries += 1;
            let error = match once(channel, key, request, TRY_MAX.min(left)).await {
                Ok(fate) => return (fate, tries),
                Err(error) => error,
            };
            // The same refusal each time: it was kept with the key.
            let is_final = matches!(error, Lost::Status(code) if code == Code::FailedPrecondition);
            if is_final || began.elapsed() + pause >= CHARGE_MAX {
                return (Fate::GaveUp(error.to_string()), tries);
            }
            let share = 0.5 + rand::rng().random::<f64>() / 2.0;
            tokio::time::sleep(pause.mul_f64(share)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }
}

async fn once(
    channel: &Channel,
    key: &IdempotencyKey,
    request: &ChargeRequest,
    limit: Duration,
) -> Result<Fate, Lost> {
    let link = channel.link().await?;
    let mut headers = HeaderMap::new();
    timeout_header(&mut headers, limit);
    if let Ok(key) = HeaderValue::from_str(key.as_str()) {
        headers.insert(KEY_HEADER, key);
    }
    match timeout(limit, link.unary::<ChargeReply>(METHOD, headers, request)).await {
        Ok(Ok((reply, head))) => Ok(Fate::Acked {
            receipt: reply.receipt,
            replayed: head.contains_key(REPLAYED_HEADER),
        }),
        Ok(Err(error)) => Err(error),
        Err(_) => {
            channel.give_up(&link).await;
            Err(Lost::Late)
        }
    }
}
