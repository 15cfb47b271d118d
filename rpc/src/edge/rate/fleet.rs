//! The fleet, as one edge sees it: what it tells and hears, and when it is alone. Sans-IO.
//!
//! ```text
//! tick: interval closed ─► own word ─► store ─► news: the others' words ─► charged to the buckets here
//!                                       └─────► news: the own word     ─► in touch
//! in touch ── own word not heard for some intervals ─► alone: share of the rate ── heard ─► in touch
//! ```

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use steer_health::store::etcd::News;
use steer_topology::EtcdCluster;

use super::bucket::{Standing, WINDOW};
use super::told::Told;
use super::who::{Mark, Secret};
use super::{Charge, Rates};

/// An edge that has not heard its own word for so many intervals is alone. Less than the window, so that nothing is missed
/// by an edge that is not.
pub(super) const ALONE_AFTER: u32 = 5;

/// Most edges that are known: a limit for who writes keys without end.
const OTHERS_MAX: usize = 1_000;

/// The fleet whose edges keep one rate together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FleetRules {
    /// Where the edges tell each other.
    pub cluster: EtcdCluster,
    /// Of the fleet: edges of the same name count together.
    pub name: String,
    /// Of this edge, for people.
    pub edge: String,
    /// How often it tells what it admitted. Default 1 s.
    pub every: Duration,
    /// What it does while the store is away. Default: its share.
    pub alone: Alone,
    /// What the clients' names are hashed with; absent: nothing that is secret.
    pub secret: Option<Secret>,
}

/// What an edge gives a client while it does not hear of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Alone {
    /// The rate divided by the edges that it knew last: the fleet's rate is kept.
    #[default]
    Share,
    /// All of the rate, as if there was no other edge.
    Full,
}

/// What one edge knows of the others.
#[derive(Debug)]
pub(super) struct Fleet {
    every: Duration,
    alone: Alone,
    mark: Mark,
    /// The own name in the store.
    own: String,
    /// The newest interval that was told.
    number: u64,
    others: HashMap<String, Other>,
    /// When the own word was heard last.
    heard: Instant,
    is_alone: bool,
    /// There are more others than are known.
    is_crowded: bool,
    /// What the store's last failure was.
    why: String,
}

/// Another edge.
#[derive(Debug, Default)]
struct Other {
    /// The newest interval that was heard.
    number: Option<u64>,
    /// Its last word could not be read.
    is_refused: bool,
}

impl Fleet {
    /// `own` is the name of the own value. It is in touch until the store has had its time.
    pub(super) fn new(rules: &FleetRules, own: &str, rates: &Mutex<Rates>, now: Instant) -> Self {
        Self {
            every: rules.every,
            alone: rules.alone,
            mark: lock(rates).mark(),
            own: own.to_owned(),
            number: 0,
            others: HashMap::new(),
            heard: now,
            is_alone: false,
            is_crowded: false,
            why: "it has not answered yet".to_owned(),
        }
    }

    /// An interval is over: what is to be told.
    pub(super) fn on_tick(&mut self, rates: &Mutex<Rates>, now: Instant) -> Vec<u8> {
        let age = now.saturating_duration_since(self.heard);
        metrics::gauge!("steer_rpc_rate_fleet_age_seconds").set(age.as_secs_f64());
        if !self.is_alone && age > self.every * ALONE_AFTER {
            self.is_alone = true;
            tracing::error!(
                why = self.why,
                edges = self.members(),
                alone = ?self.alone,
                "the rates of the fleet: the store is away, and this edge limits by itself"
            );
        }
        self.stand(rates);
        let (clients, left_out) = lock(rates).close();
        if left_out > 0 {
            metrics::counter!("steer_rpc_rate_fleet_left_out_total").increment(left_out as u64);
        }
        self.number = self.number.saturating_add(1);
        let told = Told {
            mark: self.mark,
            number: self.number,
            every: self.every,
            clients,
        };
        told.encode()
    }

    /// The store said something.
    pub(super) fn on_news(&mut self, news: News, rates: &Mutex<Rates>, now: Instant) {
        match news {
            News::All(values) => {
                self.others
                    .retain(|name, _| values.iter().any(|(there, _)| there == name));
                for (name, value) in values {
                    if name != self.own {
                        self.hear(&name, &value, rates, now);
                    }
                }
            }
            News::Put(name, _) if name == self.own => self.in_touch(now),
            News::Put(name, value) => self.hear(&name, &value, rates, now),
            News::Gone(name) => drop(self.others.remove(&name)),
            News::Lost(why) => {
                metrics::counter!("steer_rpc_rate_fleet_losses_total").increment(1);
                tracing::debug!(why, "the rates of the fleet: a member of the store is lost");
                self.why = why;
                return;
            }
        }
        self.stand(rates);
    }

    /// The store has the own word, and tells what it has.
    fn in_touch(&mut self, now: Instant) {
        self.heard = now;
        if std::mem::take(&mut self.is_alone) {
            let edges = self.members();
            tracing::info!(edges, "the rates of the fleet: the store is back");
        }
    }

    /// The word of another edge.
    fn hear(&mut self, name: &str, value: &[u8], rates: &Mutex<Rates>, now: Instant) {
        if self.others.len() >= OTHERS_MAX && !self.others.contains_key(name) {
            metrics::counter!("steer_rpc_rate_fleet_refused_total").increment(1);
            if !std::mem::replace(&mut self.is_crowded, true) {
                tracing::error!(
                    edge = name,
                    "the rates of the fleet: more than {OTHERS_MAX} other edges"
                );
            }
            return;
        }
        let told = Told::decode(value).map_err(|error| error.to_string());
        let told = told.and_then(|told| match told.mark == self.mark {
            true => Ok(told),
            false => Err("its clients' names are made with another `secret_file`".to_owned()),
        });
        let other = self.others.entry(name.to_owned()).or_default();
        let told = match told {
            Ok(told) => told,
            Err(why) => {
                metrics::counter!("steer_rpc_rate_fleet_refused_total").increment(1);
                if !std::mem::replace(&mut other.is_refused, true) {
                    tracing::error!(
                        edge = name,
                        why,
                        "the rates of the fleet: an edge's word is not taken"
                    );
                }
                return;
            }
        };
        other.is_refused = false;
        let before = other.number.replace(told.number);
        // Alone an edge charges its calls for the others too.
        if !self.is_alone {
            charge(&told, before, &mut lock(rates), now);
        }
    }

    fn stand(&self, rates: &Mutex<Rates>) {
        let members = self.members();
        metrics::gauge!("steer_rpc_rate_fleet_members").set(members as f64);
        metrics::gauge!("steer_rpc_rate_fleet_alone").set(if self.is_alone { 1.0 } else { 0.0 });
        lock(rates).stand(Standing {
            members,
            has_share: self.is_alone && self.alone == Alone::Share,
        });
    }

    /// Edges that are known, this one among them.
    pub(super) fn members(&self) -> usize {
        self.others.len() + 1
    }
}

/// Takes what is new in a word, the oldest first.
fn charge(told: &Told, before: Option<u64>, rates: &mut Rates, now: Instant) {
    let window = WINDOW as u64;
    let first = told.number.saturating_sub(window);
    let before = before.map_or(first, |before| {
        let missed = first.saturating_sub(before);
        if missed > 0 {
            metrics::counter!("steer_rpc_rate_fleet_missed_total").increment(missed);
        }
        before.max(first)
    });
    // Nothing, where a word comes again or an older one late.
    let news = usize::try_from(told.number.saturating_sub(before)).unwrap_or(WINDOW);
    for (client, calls) in &told.clients {
        for (back, &calls) in calls.iter().enumerate().take(news).rev() {
            if calls > 0 {
                let age = told.every * (u32::try_from(back).unwrap_or(u32::MAX).saturating_add(1));
                rates.charge(*client, Charge { calls, age }, now);
            }
        }
    }
}

fn lock(rates: &Mutex<Rates>) -> MutexGuard<'_, Rates> {
    rates.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod sim;
#[cfg(test)]
mod tests;
