//! Rate limits per client: GCRA by the crate `governor`, for a bounded number of clients. Sans-IO: `now` is told.
//!
//! Who is one client too many shares one bucket with all others of these: a flood of new names costs neither memory nor the
//! names that are known.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use governor::clock::{Clock, Reference as _};
use governor::middleware::NoOpMiddleware;
use governor::nanos::Nanos;
use governor::state::{InMemoryState, NotKeyed};
use governor::{Quota, RateLimiter};
use http::HeaderMap;
use http::header::HeaderName;

/// A longer name of a client is not remembered.
const NAME_MAX: usize = 256;

/// Those who have all of their burst again are forgotten this often at most.
const FORGET_EVERY: Duration = Duration::from_secs(1);

/// What a client may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RateRules {
    /// Who is one client.
    pub by: ClientBy,
    /// Calls per second.
    pub per_second: NonZeroU32,
    /// Calls at once.
    pub burst: NonZeroU32,
    /// Clients that are remembered. Default 10,000.
    pub clients: usize,
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

/// The time that is told.
#[derive(Debug, Clone)]
struct Told(Arc<AtomicU64>);

impl Clock for Told {
    type Instant = Nanos;

    fn now(&self) -> Nanos {
        self.0.load(Ordering::Relaxed).into()
    }
}

type Bucket = RateLimiter<NotKeyed, InMemoryState, Told, NoOpMiddleware<Nanos>>;

/// All clients.
#[derive(Debug)]
pub(super) struct Rates {
    rules: RateRules,
    began: Instant,
    clock: Told,
    clients: HashMap<Who, Client>,
    /// Of all that are too many.
    rest: Bucket,
    forgot: Instant,
}

/// One client: a name that somebody vouches for, or where it comes from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Who {
    Named(String),
    At(IpAddr),
}

#[derive(Debug)]
struct Client {
    bucket: Bucket,
    last: Instant,
}

impl Rates {
    pub(super) fn new(rules: RateRules, now: Instant) -> Self {
        let clock = Told(Arc::default());
        Self {
            rest: bucket(&rules, &clock),
            rules,
            began: now,
            clock,
            clients: HashMap::new(),
            forgot: now,
        }
    }

    pub(super) const fn rules(&self) -> &RateRules {
        &self.rules
    }

    /// Whether a client may call now; else after how long.
    pub(super) fn check(&mut self, client: Who, now: Instant) -> Result<(), Duration> {
        let told = now.saturating_duration_since(self.began).as_nanos();
        self.clock
            .0
            .store(u64::try_from(told).unwrap_or(u64::MAX), Ordering::Relaxed);
        if let Some(known) = self.clients.get_mut(&client) {
            known.last = now;
            return ask(&known.bucket, &self.clock);
        }
        if self.has_room(&client, now) {
            let fresh = Client {
                bucket: bucket(&self.rules, &self.clock),
                last: now,
            };
            let fresh = self.clients.entry(client).or_insert(fresh);
            return ask(&fresh.bucket, &self.clock);
        }
        metrics::counter!("steer_rpc_rate_clients_beyond_total").increment(1);
        ask(&self.rest, &self.clock)
    }

    /// For one who is not known.
    fn has_room(&mut self, client: &Who, now: Instant) -> bool {
        if matches!(client, Who::Named(name) if name.len() > NAME_MAX) {
            return false;
        }
        if self.clients.len() < self.rules.clients {
            return true;
        }
        if now.saturating_duration_since(self.forgot) >= FORGET_EVERY {
            self.forgot = now;
            let full = Duration::from_secs_f64(
                f64::from(self.rules.burst.get()) / f64::from(self.rules.per_second.get()),
            );
            self.clients
                .retain(|_, client| now.saturating_duration_since(client.last) < full);
        }
        self.clients.len() < self.rules.clients
    }

    /// Who calls.
    pub(super) fn client_of(&self, headers: &HeaderMap, tls: Option<&str>, address: IpAddr) -> Who {
        let named = match &self.rules.by {
            ClientBy::Address => None,
            ClientBy::Tls => tls.map(str::to_owned),
            ClientBy::Header(name) => headers
                .get(name)
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned()),
        };
        named.map_or_else(|| Who::At(host(address)), Who::Named)
    }
}

fn bucket(rules: &RateRules, clock: &Told) -> Bucket {
    let quota = Quota::per_second(rules.per_second).allow_burst(rules.burst);
    RateLimiter::direct_with_clock(quota, clock.clone())
}

fn ask(bucket: &Bucket, clock: &Told) -> Result<(), Duration> {
    bucket.check().map_err(|not_until| {
        let at = not_until.earliest_possible();
        at.duration_since(clock.now()).into()
    })
}

/// What one host has: an IPv4 address, or 64 bits of an IPv6 address.
fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(clients: usize, now: Instant) -> Rates {
        let rules = RateRules {
            by: ClientBy::Tls,
            per_second: NonZeroU32::new(10).unwrap(),
            burst: NonZeroU32::new(5).unwrap(),
            clients,
        };
        Rates::new(rules, now)
    }

    fn named(name: &str) -> Who {
        Who::Named(name.to_owned())
    }

    /// Calls until one is refused; how many were not, and the wait.
    fn exhaust(rates: &mut Rates, client: &str, now: Instant) -> (usize, Duration) {
        for count in 0..1000 {
            if let Err(wait) = rates.check(named(client), now) {
                return (count, wait);
            }
        }
        panic!("there is no limit for {client}");
    }

    #[test]
    fn a_client_has_its_burst_and_then_its_rate_and_the_others_have_theirs() {
        let mut now = Instant::now();
        let mut rates = rates(100, now);
        let (burst, wait) = exhaust(&mut rates, "a", now);
        assert_eq!((burst, wait), (5, Duration::from_millis(100)));
        assert_eq!(exhaust(&mut rates, "b", now).0, 5);
        now += wait;
        assert_eq!(
            exhaust(&mut rates, "a", now).0,
            1,
            "after the time that it was told"
        );
        now += Duration::from_secs(10);
        assert_eq!(
            exhaust(&mut rates, "a", now).0,
            5,
            "no more than the burst is saved up"
        );
    }

    #[test]
    fn a_flood_of_names_is_remembered_as_one_client_and_moves_out_nobody() {
        let mut now = Instant::now();
        let mut rates = rates(3, now);
        for client in ["a", "b", "c"] {
            exhaust(&mut rates, client, now);
        }
        let passed = (0..10_000).filter(|name| rates.check(named(&name.to_string()), now).is_ok());
        assert_eq!(passed.count(), 5, "all of them together");
        assert_eq!(rates.clients.len(), 3);
        assert!(
            rates.check(named("a"), now).is_err(),
            "who was remembered still is"
        );
        // They have their burst again after half a second, and are forgotten when room is needed.
        now += FORGET_EVERY;
        assert_eq!(exhaust(&mut rates, "new", now).0, 5);
        assert_eq!(rates.clients.len(), 1);
    }

    #[test]
    fn a_name_that_is_too_long_is_not_remembered() {
        let now = Instant::now();
        let mut rates = rates(3, now);
        rates.check(named(&"x".repeat(NAME_MAX + 1)), now).unwrap();
        assert_eq!(rates.clients.len(), 0);
    }

    #[test]
    fn a_client_is_its_name_or_else_its_address_or_its_network() {
        let mut rates = rates(3, Instant::now());
        let at = |address: &str| Who::At(address.parse().unwrap());
        let v4 = "192.0.2.7".parse().unwrap();
        let v6 = "2001:db8:1:2:3:4:5:6".parse().unwrap();
        let mapped = "::ffff:192.0.2.7".parse().unwrap();
        let headers = HeaderMap::from_iter([(HeaderName::from_static("x-key"), "k".parse().unwrap())]);
        let none = HeaderMap::new();
        assert_eq!(rates.client_of(&headers, Some("shop"), v4), named("shop"));
        assert_eq!(rates.client_of(&headers, None, v4), at("192.0.2.7"));
        rates.rules.by = ClientBy::Header(HeaderName::from_static("x-key"));
        assert_eq!(rates.client_of(&headers, Some("shop"), v4), named("k"));
        assert_eq!(rates.client_of(&none, Some("shop"), mapped), at("192.0.2.7"));
        rates.rules.by = ClientBy::Address;
        assert_eq!(rates.client_of(&headers, Some("shop"), v6), at("2001:db8:1:2::"));
    }
}
