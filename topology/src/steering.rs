//! `[[steer]]`: names whose answers depend on the client and on health.

use std::collections::BTreeSet;
use std::fmt;
use std::num::NonZeroU8;
use std::time::Duration;

use serde::Serialize;

use crate::{Asn, Binding, Continent, CountryCode, Fleet, Kinds, Name, PoolId, Prefix, SiteId};

/// A name whose answers depend on the client and on health.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Steer {
    /// Owner name; lies in one of the zones.
    pub name: Name,
    /// Index into [`Fleet::zones`] of the closest enclosing zone.
    pub zone: usize,
    /// What it answers. Default: addresses.
    pub kinds: Kinds,
    /// For HTTPS and SVCB.
    pub binding: Binding,
    /// Candidates.
    pub pool: PoolId,
    /// TTL of the answers. Default 30 s.
    pub ttl: Ttl,
    /// Filters, in order. Default `["up", "nearest", "take 1"]`; in a fleet without sites `["up", "take 1"]`.
    pub chain: Vec<Filter>,
    /// What to answer when every candidate is down.
    pub if_all_down: AllDown,
    /// For the filters `country`, `continent`, `asn` and `cidr`.
    pub maps: Maps,
}

/// TTL of the answers of a name. All in whole seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ttl {
    /// Always the same.
    Fixed(Duration),
    /// `min` while a change is likely or would not be mended by routing, else `max`.
    Auto {
        /// Default 5 s.
        min: Duration,
        /// Default 300 s.
        max: Duration,
    },
}

impl Ttl {
    /// The longest that an answer may be kept.
    #[must_use]
    pub fn longest(self) -> Duration {
        match self {
            Self::Fixed(ttl) => ttl,
            Self::Auto { min: _, max } => max,
        }
    }
}

/// One step of a chain: candidates in, candidates out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Filter {
    /// Keeps what is not down (unknown counts as serving).
    Up,
    /// Orders by great-circle distance from the client and the bias of the sites, nearest first; ties keep their
    /// order.
    Nearest,
    /// Orders by round-trip time, shortest first; ties keep their order.
    Latency,
    /// Keeps what the map says for the client's country.
    Country,
    /// Keeps what the map says for the client's continent.
    Continent,
    /// Keeps what the map says for the AS that the client's address belongs to.
    Asn,
    /// Keeps what the map says for the narrowest network around the client.
    Cidr,
    /// Keeps what stands in the client's own region, and refuses where that leaves nothing.
    Geofence(Fence),
    /// Orders at random, share by weight, anew for each query.
    Weighted,
    /// Orders at random, all alike, anew for each query.
    Shuffle,
    /// Orders by a hash of the client's network, share by weight: the same for each query.
    Sticky(Sticky),
    /// Puts another site first for as many queries as the first one has no capacity for.
    Overflow,
    /// Keeps only the lowest tier that has a candidate.
    Failover,
    /// Like `failover`, but so many of 100 queries get the next tier.
    Trickle(NonZeroU8),
    /// Keeps the first `n`.
    Take(NonZeroU8),
}

/// The region that `geofence` does not leave.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fence {
    /// The client's country.
    Country,
    /// The client's continent.
    Continent,
}

/// How much of a client's address `sticky` looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct Sticky {
    /// Prefix length for IPv4, 1 to 32.
    pub v4: u8,
    /// Prefix length for IPv6, 1 to 128.
    pub v6: u8,
}

impl Sticky {
    /// What RFC 7871 §11.1 lets resolvers send at most is what may be told apart: /24, and /48 as routed at least.
    pub const DEFAULT: Self = Self { v4: 24, v6: 48 };
}

/// What to answer when every candidate is down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllDown {
    /// As if all were up (the checks may be what is broken). The default.
    ServeAll,
    /// As if those were up that were when something last was.
    ServeLastGood,
    /// Another pool, whatever its checks say.
    Pool(PoolId),
    /// An empty answer.
    Nodata,
    /// SERVFAIL.
    Servfail,
}

/// The maps of one name, from what the client is to where it is sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default, Serialize)]
pub struct Maps {
    /// For the filter `country`.
    pub country: ClientMap<CountryCode>,
    /// For the filter `continent`.
    pub continent: ClientMap<Continent>,
    /// For the filter `asn`.
    pub asn: ClientMap<Asn>,
    /// For the filter `cidr`; the narrowest network decides.
    pub cidr: ClientMap<Prefix>,
}

/// Where clients of a kind are sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct ClientMap<K> {
    /// In file order, each key once.
    pub entries: Vec<(K, Vec<Target>)>,
    /// For clients that no entry speaks of; empty: the filter leaves their list as it is.
    pub default: Vec<Target>,
}

/// Some of the candidates of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Target {
    /// Those at a site.
    Site(SiteId),
    /// Those of a tier.
    Tier(u16),
}

impl<K> Default for ClientMap<K> {
    fn default() -> Self {
        Self {
            entries: Vec::new(),
            default: Vec::new(),
        }
    }
}

impl<K: PartialEq> ClientMap<K> {
    /// Whether an entry speaks of a client.
    #[must_use]
    pub fn has(&self, key: &K) -> bool {
        self.entries.iter().any(|(known, _)| known == key)
    }

    /// What the map says of a client.
    #[must_use]
    pub fn targets(&self, key: Option<&K>) -> &[Target] {
        let entry = key.and_then(|key| self.entries.iter().find(|(known, _)| known == key));
        entry.map_or(&self.default, |(_, targets)| targets)
    }
}

impl ClientMap<Prefix> {
    /// What the map says of a client in `network`, which no entry divides: the narrowest entry around it decides.
    #[must_use]
    pub fn around(&self, network: Option<&Prefix>) -> &[Target] {
        self.targets(self.narrowest(network).as_ref())
    }

    /// The narrowest entry around a network that no entry divides.
    #[must_use]
    pub fn narrowest(&self, network: Option<&Prefix>) -> Option<Prefix> {
        let network = *network?;
        let entries = self.entries.iter().map(|(prefix, _)| *prefix);
        entries
            .filter(|prefix| prefix.covers(network))
            .max_by_key(Prefix::length)
    }
}

/// What a filter that goes by the client alone looks at: of each candidate it can be said before the query comes
/// whether such a filter keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ByClient {
    /// `country`
    Country,
    /// `continent`
    Continent,
    /// `asn`
    Asn,
    /// `cidr`
    Cidr,
    /// `geofence`
    Fence(Fence),
}

impl Filter {
    /// What it looks at, if that is the client alone.
    #[must_use]
    pub fn by_client(self) -> Option<ByClient> {
        match self {
            Self::Country => Some(ByClient::Country),
            Self::Continent => Some(ByClient::Continent),
            Self::Asn => Some(ByClient::Asn),
            Self::Cidr => Some(ByClient::Cidr),
            Self::Geofence(fence) => Some(ByClient::Fence(fence)),
            Self::Up
            | Self::Nearest
            | Self::Latency
            | Self::Weighted
            | Self::Shuffle
            | Self::Sticky(_)
            | Self::Overflow
            | Self::Failover
            | Self::Trickle(_)
            | Self::Take(_) => None,
        }
    }

    /// Whether the outcome may differ from query to query, or from client to client of one class: such a filter
    /// and what follows it run when the query comes.
    #[must_use]
    pub fn is_drawn(self) -> bool {
        match self {
            Self::Weighted | Self::Shuffle | Self::Sticky(_) | Self::Overflow | Self::Trickle(_) => true,
            Self::Up
            | Self::Nearest
            | Self::Latency
            | Self::Country
            | Self::Continent
            | Self::Asn
            | Self::Cidr
            | Self::Geofence(_)
            | Self::Failover
            | Self::Take(_) => false,
        }
    }

    /// Whether it looks at what the geo databases say of the client.
    #[must_use]
    pub fn needs_geography(self) -> bool {
        self.needs_class() && self != Self::Cidr
    }

    /// Whether clients of two classes may get different lists from it.
    #[must_use]
    pub fn needs_class(self) -> bool {
        matches!(self, Self::Nearest | Self::Latency) || self.by_client().is_some()
    }
}

/// As the configuration writes it.
impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Up => f.write_str("up"),
            Self::Nearest => f.write_str("nearest"),
            Self::Latency => f.write_str("latency"),
            Self::Country => f.write_str("country"),
            Self::Continent => f.write_str("continent"),
            Self::Asn => f.write_str("asn"),
            Self::Cidr => f.write_str("cidr"),
            Self::Geofence(Fence::Country) => f.write_str("geofence country"),
            Self::Geofence(Fence::Continent) => f.write_str("geofence continent"),
            Self::Weighted => f.write_str("weighted"),
            Self::Shuffle => f.write_str("shuffle"),
            Self::Sticky(Sticky { v4, v6 }) => write!(f, "sticky {v4} {v6}"),
            Self::Overflow => f.write_str("overflow"),
            Self::Failover => f.write_str("failover"),
            Self::Trickle(percent) => write!(f, "trickle {percent}%"),
            Self::Take(n) => write!(f, "take {n}"),
        }
    }
}

/// What the chains of a fleet need to know of a client. Classes are divided by nothing else.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Traits {
    /// The order of the sites by distance.
    pub nearest: bool,
    /// Their order by round-trip time.
    pub latency: bool,
    /// Countries that some chain treats in a way of their own.
    pub countries: BTreeSet<CountryCode>,
    /// Continents, likewise.
    pub continents: BTreeSet<Continent>,
    /// AS numbers, likewise.
    pub asns: BTreeSet<Asn>,
    /// Networks, likewise.
    pub networks: BTreeSet<Prefix>,
}

impl Traits {
    /// What the chains of `fleet` use.
    #[must_use]
    pub fn of(fleet: &Fleet) -> Self {
        let mut traits = Self::default();
        for steer in &fleet.steers {
            for filter in &steer.chain {
                traits.add(*filter, &steer.maps, fleet);
            }
        }
        traits
    }

    fn add(&mut self, filter: Filter, maps: &Maps, fleet: &Fleet) {
        match filter {
            Filter::Nearest => self.nearest = true,
            Filter::Latency => self.latency = true,
            Filter::Country => self
                .countries
                .extend(maps.country.entries.iter().map(|(key, _)| *key)),
            Filter::Continent => {
                let keys = maps.continent.entries.iter().map(|(key, _)| *key);
                self.continents.extend(keys);
            }
            Filter::Asn => self.asns.extend(maps.asn.entries.iter().map(|(key, _)| *key)),
            Filter::Cidr => self
                .networks
                .extend(maps.cidr.entries.iter().map(|(key, _)| *key)),
            Filter::Geofence(Fence::Country) => {
                self.countries
                    .extend(fleet.sites.iter().filter_map(crate::Site::country_code));
            }
            Filter::Geofence(Fence::Continent) => {
                let countries = fleet.sites.iter().filter_map(crate::Site::country_code);
                self.continents
                    .extend(countries.filter_map(CountryCode::continent));
            }
            Filter::Up
            | Filter::Weighted
            | Filter::Shuffle
            | Filter::Sticky(_)
            | Filter::Overflow
            | Filter::Failover
            | Filter::Trickle(_)
            | Filter::Take(_) => {}
        }
    }
}
