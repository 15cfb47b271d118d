//! Rate limits per client: GCRA, for a bounded number of clients. Sans-IO: `now` is told.
//!
//! ```text
//! call ─► who ─► id ─► bucket ─► goes on, or RESOURCE_EXHAUSTED
//!                        ▲ │
//!   what others admitted │ │ what this edge admitted
//!                      fleet ◄─► keeper: a task, the store
//! ```
//!
//! Who is one client too many shares one bucket with all others of these: a flood of new names costs neither memory nor the
//! names that are known.
//!
//! With [`FleetRules`] the buckets of all edges are one, with a lag: each edge charges to its own what the others say that they
//! admitted. No call waits for that. With `n` edges, a lag `L` from a call to its charge at all others (an interval, and the
//! way through the store) and the slack `W` of two intervals, the fleet admits of a client in any time `T` that starts with
//! nothing used
//!
//! ```text
//! at most  per_second × T  +  n × burst  +  per_second × ((n - 1) × L + max(W, L + an interval))
//! ```
//!
//! and in the long run `per_second`. An edge that hears nothing for five intervals goes on alone ([`Alone`]).

mod bucket;
mod fleet;
mod keeper;
mod told;
mod who;

use std::collections::HashMap;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use http::header::HeaderName;
use http::{HeaderMap, HeaderValue};

use bucket::{Bucket, Pace, Standing, WINDOW, nanos};
use who::{Ids, host};

pub use fleet::{Alone, FleetRules};
pub(super) use keeper::{Held, Keeper};
pub(super) use told::EVERY;
pub use told::{InvalidTold, Told};
pub(super) use who::Who;
pub use who::{ClientId, Mark, Secret};

/// A longer name of a client is not remembered.
const NAME_MAX: usize = 256;

/// Those who have all of their burst again are forgotten this often at most.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// The buckets' clock when the edge began, so that there is a time before it.
const BEGAN: u64 = 1 << 50;

/// What a client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateRules {
    /// Who is one client.
    pub by: ClientBy,
    /// Calls per second.
    pub per_second: NonZeroU32,
    /// Calls at once.
    pub burst: NonZeroU32,
    /// Clients that are remembered, and as many again that only other edges have seen. Default 10,000.
    pub clients: usize,
    /// The edges that keep the rate together; absent: this one for itself.
    pub fleet: Option<FleetRules>,
}

/// Who is one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientBy {
    /// An IPv4 address, or 64 bits of an IPv6 address, which is what one host has.
    Address,
    /// The name in its certificate; the address of those who have none.
    Tls,
    /// The value of a header; the address of those who send none. Only where something in front has checked it.
    Header(HeaderName),
}

/// All clients.
#[derive(Debug)]
pub(super) struct Rates {
    rules: RateRules,
    pace: Pace,
    ids: Ids,
    began: Instant,
    /// The clients that called here. Each has a bucket.
    named: HashMap<Box<[u8]>, ClientId>,
    at: HashMap<IpAddr, ClientId>,
    /// Of these, and of those that called at other edges.
    buckets: HashMap<ClientId, Bucket>,
    /// Of all that are too many.
    rest: Bucket,
    forgot: Instant,
}

/// Calls that another edge admitted.
#[derive(Debug, Clone, Copy)]
struct Charge {
    calls: u32,
    /// How long ago the interval began in which it did.
    age: Duration,
}

/// What an edge admitted in the last intervals, and how many clients there was no room to tell of.
type Closed = (Vec<(ClientId, [u32; WINDOW])>, usize);

impl Rates {
    pub(super) fn new(rules: RateRules, now: Instant) -> Self {
        let fleet = rules.fleet.as_ref();
        Self {
            pace: Pace::new(rules.per_second, rules.burst, fleet.map(|fleet| fleet.every)),
            ids: Ids::new(fleet.and_then(|fleet| fleet.secret)),
            rules,
            began: now,
            named: HashMap::new(),
            at: HashMap::new(),
            buckets: HashMap::new(),
            rest: Bucket::default(),
            forgot: now,
        }
    }

    pub(super) const fn rules(&self) -> &RateRules {
        &self.rules
    }

    /// Whether a client may call now; else after how long.
    pub(super) fn check(&mut self, client: Who<'_>, now: Instant) -> Result<(), Duration> {
        let at = self.clock(now);
        let known = match client {
            Who::Named(name) => self.named.get(name),
            Who::At(address) => self.at.get(&address),
        };
        if let Some(bucket) = known.and_then(|id| self.buckets.get_mut(id)) {
            return bucket.take(at, &self.pace).map_err(Duration::from_nanos);
        }
        let bucket = if self.has_room(client, now) {
            let id = self.meet(client);
            self.buckets.entry(id).or_default() // another edge may have told of it
        } else {
            metrics::counter!("steer_rpc_rate_clients_beyond_total").increment(1);
            &mut self.rest
        };
        bucket.take(at, &self.pace).map_err(Duration::from_nanos)
    }

    /// Who calls.
    pub(super) fn client_of<'a>(
        &self,
        headers: &'a HeaderMap,
        tls: Option<&'a str>,
        address: IpAddr,
    ) -> Who<'a> {
        let named = match &self.rules.by {
            ClientBy::Address => None,
            ClientBy::Tls => tls.map(str::as_bytes),
            ClientBy::Header(name) => headers.get(name).map(HeaderValue::as_bytes),
        };
        named.map_or_else(|| Who::At(host(address)), Who::Named)
    }

    /// Remembers one who is not known.
    fn meet(&mut self, client: Who<'_>) -> ClientId {
        let id = self.ids.of(client);
        match client {
            Who::Named(name) => self.named.insert(name.into(), id),
            Who::At(address) => self.at.insert(address, id),
        };
        id
    }

    /// For one who is not known.
    fn has_room(&mut self, client: Who<'_>, now: Instant) -> bool {
        if matches!(client, Who::Named(name) if name.len() > NAME_MAX) {
            return false;
        }
        if self.here() >= self.rules.clients {
            self.forget(now);
        }
        self.here() < self.rules.clients
    }

    /// Clients that called here.
    fn here(&self) -> usize {
        self.named.len() + self.at.len()
    }

    /// Forgets those that have all of their burst again, unless it just did.
    fn forget(&mut self, now: Instant) {
        if now.saturating_duration_since(self.forgot) < FORGET_EVERY {
            return;
        }
        self.forgot = now;
        let at = self.clock(now);
        self.buckets.retain(|_, bucket| !bucket.is_idle(at, &self.pace));
        self.named.retain(|_, id| self.buckets.contains_key(id));
        self.at.retain(|_, id| self.buckets.contains_key(id));
    }

    /// Another edge admitted calls of a client, which may never have called here.
    fn charge(&mut self, client: ClientId, Charge { calls, age }: Charge, now: Instant) {
        let at = self.clock(now);
        let bucket = if client == ClientId::REST {
            &mut self.rest
        } else if self.buckets.contains_key(&client) || self.has_room_elsewhere(now) {
            self.buckets.entry(client).or_default()
        } else {
            metrics::counter!("steer_rpc_rate_fleet_beyond_total").increment(1);
            return;
        };
        bucket.charge(calls, nanos(age), at, &self.pace);
    }

    /// For one who has called at other edges only: they take nobody's place here.
    fn has_room_elsewhere(&mut self, now: Instant) -> bool {
        let is_full = |rates: &Self| rates.buckets.len().saturating_sub(rates.here()) >= rates.rules.clients;
        if is_full(self) {
            self.forget(now);
        }
        !is_full(self)
    }

    /// Closes an interval: what was admitted lately, of the clients with most of it.
    fn close(&mut self) -> Closed {
        let buckets = self.buckets.iter_mut().map(|(id, bucket)| (*id, bucket));
        let all = buckets.chain([(ClientId::REST, &mut self.rest)]);
        let busy = all.filter_map(|(id, bucket)| {
            let calls = bucket.close();
            let sum: u64 = calls.iter().copied().map(u64::from).sum();
            (sum > 0).then_some((sum, id, calls))
        });
        let mut busy: Vec<_> = busy.collect();
        let mut left_out = 0;
        if busy.len() > told::TOLD_MAX {
            busy.select_nth_unstable_by_key(told::TOLD_MAX, |&(sum, id, _)| (std::cmp::Reverse(sum), id));
            left_out = busy[told::TOLD_MAX..]
                .iter()
                .filter(|(_, _, calls)| calls[0] > 0)
                .count();
            busy.truncate(told::TOLD_MAX);
        }
        (
            busy.into_iter().map(|(_, id, calls)| (id, calls)).collect(),
            left_out,
        )
    }

    /// Another standing to the other edges.
    fn stand(&mut self, standing: Standing) {
        self.pace.stand(standing);
    }

    fn mark(&self) -> Mark {
        self.ids.mark()
    }

    /// The buckets' clock.
    fn clock(&self, now: Instant) -> u64 {
        nanos(now.saturating_duration_since(self.began)).saturating_add(BEGAN)
    }
}

#[cfg(test)]
mod tests;
