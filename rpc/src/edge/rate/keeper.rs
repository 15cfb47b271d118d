//! The task beside the threads that serve, which tells and hears what the edges of a fleet admit.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use steer_health::store::etcd::Slate;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use super::Rates;
use super::fleet::{ALONE_AFTER, Fleet, FleetRules};

/// Words of others that wait to be charged; the watch waits behind them.
const HEARD: usize = 64;

/// Shortest lease: etcd gives none that is shorter than an election.
const LEASE_MIN: std::time::Duration = std::time::Duration::from_secs(5);

/// The rates that hold, where there are some.
pub(in crate::edge) type Held = Option<Arc<Mutex<Rates>>>;

/// Keeps the rates that hold in touch with those of the other edges.
#[derive(Debug)]
pub(in crate::edge) struct Keeper {
    held: watch::Sender<Held>,
    task: JoinHandle<()>,
}

impl Keeper {
    pub(in crate::edge) fn start(rates: Held) -> Self {
        let (held, follow) = watch::channel(rates);
        Self {
            held,
            task: tokio::spawn(keep(follow)),
        }
    }

    /// From now on these hold.
    pub(in crate::edge) fn hold(&self, rates: Held) {
        self.held.send_if_modified(|held| {
            let is_same = match (&*held, &rates) {
                (None, None) => true,
                (Some(held), Some(rates)) => Arc::ptr_eq(held, rates),
                (None, Some(_)) | (Some(_), None) => false,
            };
            *held = rates;
            !is_same
        });
    }

    /// Says no more, and takes the last word away.
    pub(in crate::edge) async fn end(self) {
        drop(self.held);
        _ = self.task.await;
    }
}

async fn keep(mut follow: watch::Receiver<Held>) {
    let mut goes_on = true;
    while goes_on {
        let held = follow.borrow_and_update().clone();
        let fleet = held.and_then(|rates| {
            let locked = rates.lock().unwrap_or_else(PoisonError::into_inner);
            let rules = locked.rules().fleet.clone();
            drop(locked);
            Some((rates, rules?))
        });
        let stop = async { goes_on = follow.changed().await.is_ok() };
        match fleet {
            None => stop.await,
            Some((rates, rules)) => speak(&rates, &rules, stop).await,
        }
    }
}

/// Tells and hears until it shall stop.
async fn speak(rates: &Mutex<Rates>, rules: &FleetRules, stop: impl Future<Output = ()>) {
    // Another one for each start: an edge that is back counts from nothing, and two of one name are two.
    let own = format!("{}/{:016x}", rules.edge, rand::random::<u64>());
    let prefix = format!("/steer/rates/{}/", rules.name);
    let lease = LEASE_MIN.max(rules.every * ALONE_AFTER);
    let slate = Slate::new(rules.cluster.clone(), &prefix, &own, lease, rand::random());
    let (word, words) = watch::channel(Vec::new());
    let (news, mut heard) = mpsc::channel(HEARD);
    let mut fleet = Fleet::new(rules, &own, rates, Instant::now());
    let mut tick = tokio::time::interval(rules.every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let counting = async {
        loop {
            tokio::select! {
                Some(news) = heard.recv() => fleet.on_news(news, rates, Instant::now()),
                _ = tick.tick() => {
                    word.send_replace(fleet.on_tick(rates, Instant::now()));
                }
            }
        }
    };
    tokio::select! {
        () = slate.run(words, news, stop) => {}
        () = counting => {}
    }
    metrics::gauge!("steer_rpc_rate_fleet_members").set(0.0);
    metrics::gauge!("steer_rpc_rate_fleet_alone").set(0.0);
}
