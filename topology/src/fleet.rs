//! The checked configuration of a whole fleet. Whoever holds a [`Fleet`] need not check anything again.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::{
    Anycast, Bgp, Check, CountryCode, DampingRules, Dns, EtcdCluster, Name, Notify, OutlierRules, Position,
    Said, Steer, Subject,
};

/// Index of a site in [`Fleet::sites`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct SiteId(pub u16);

/// Index of a check in [`Fleet::checks`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct CheckId(pub u32);

/// Index of a pool in [`Fleet::pools`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct PoolId(pub u32);

/// Index of an endpoint in [`Fleet::endpoints`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
pub struct EndpointId(pub u32);

/// One checked `steer.toml`: every reference resolved to an index, every default filled in, every path absolute
/// or relative to the working directory (not to the file any more).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fleet {
    /// `[fleet] name`; "fleet" when absent. Shown in status and logs.
    pub name: String,
    /// `[fleet] geo`. Absent: the built-in country database, read only when a chain needs geography.
    pub geo: Option<GeoFiles>,
    /// `[fleet] latency`: round-trip times for the filter `latency`; absent: the built-in table.
    pub latency: Option<PathBuf>,
    /// `[fleet] guard`.
    pub guard: GuardPolicy,
    /// `[fleet] overflow`.
    pub overflow: OverflowPolicy,
    /// `[fleet] gossip`; absent: each site judges by its own checks.
    pub gossip: Option<GossipPolicy>,
    /// `[[site]]`
    pub sites: Vec<Site>,
    /// `[[check]]`
    pub checks: Vec<Check>,
    /// `[[pool]]`
    pub pools: Vec<Pool>,
    /// The endpoints of all pools, each pool's in one run.
    pub endpoints: Vec<Endpoint>,
    /// `[dns]`; present when it is written or when there is a zone.
    pub dns: Option<Dns>,
    /// `[[zone]]`
    pub zones: Vec<ZoneFile>,
    /// `[[steer]]`
    pub steers: Vec<Steer>,
    /// `[[anycast]]`
    pub anycast: Vec<Anycast>,
    /// `[bgp]`
    pub bgp: Option<Bgp>,
    /// `[edge]`; absent: no RPC edge within `steer run`.
    pub edge: Option<EdgePlace>,
    /// `[admin]`; absent: no admin listener.
    pub admin: Option<Admin>,
    /// `[fleet] store`: what keeps drains and other wishes of the operator; absent: they end with the process.
    pub store: Option<StorePlace>,
    /// `[[notify]]`: who is told what happens.
    pub notify: Vec<Notify>,
}

/// Where the geography comes from. All files are MMDB, in the nested GeoIP2 or the flat schema.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GeoFiles {
    /// Databases that give at least a country; the first that knows an address wins. One file with both
    /// families, or one file per family.
    pub country: Vec<PathBuf>,
    /// Databases that give coordinates; asked before `country`.
    pub city: Vec<PathBuf>,
    /// Databases that give the AS number; the first that knows an address wins.
    pub asn: Vec<PathBuf>,
}

/// Limits on what may be taken out of service, for DNS and BGP together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GuardPolicy {
    /// A service keeps at least this many sites. Applies to services with more sites than this. Default 1.
    pub keep_sites: u16,
    /// At most this many sites of a service are taken out per `window`. Default 1.
    pub max_withdrawn: u16,
    /// Sliding window of `max_withdrawn`. Default 60 s.
    pub window: Duration,
    /// More than so many per cent of the sites of a service down at once: nothing more is taken out. Applies to services
    /// with more than `keep_sites` sites, and more than one. 100: never. Default 70.
    pub panic: u8,
}

/// How the filter `overflow` follows what is counted at the sites.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OverflowPolicy {
    /// A site whose load is above so many per cent of its capacity begins to give clients away. Default 95.
    pub enter: u8,
    /// It gives away down to here, and ends when its load is below. Default 85.
    pub leave: u8,
    /// Counts that are off by no more than so many per cent of the capacity change nothing. Default 5.
    pub band: u8,
    /// No count is looked at for so long after the shares have changed. Default 60 s.
    pub settle: Duration,
}

impl Default for OverflowPolicy {
    fn default() -> Self {
        Self {
            enter: 95,
            leave: 85,
            band: 5,
            settle: Duration::from_secs(60),
        }
    }
}

/// How the sites talk to each other, and come to one verdict.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GossipPolicy {
    /// Port of the sites whose `gossip` address has none. UDP and TCP. Default 7946.
    pub port: u16,
    /// The file with the shared secret: one or two keys, one a line.
    pub key_file: PathBuf,
    /// An endpoint is down when more than this per cent of the weight says so. Default 50.
    pub share: u8,
    /// How long no other site must have had a word on an endpoint until a site's own check decides. Default 10 s.
    pub own_after: Duration,
    /// How long a site tries another configuration before the others take it too; zero: all take it when they are told.
    /// Default 0.
    pub staged: Duration,
    /// Endpoints that are not ours, by which a site knows that it is itself cut off: all of them down, and it does not
    /// believe its own checks.
    pub reference: Option<PoolId>,
}

/// Where the operator's wishes are kept.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum StorePlace {
    /// `embedded:PATH`: a file of this process. Its wishes are this site's.
    Embedded(PathBuf),
    /// `etcd://..`: a cluster. Its wishes are those of all sites.
    Etcd(Box<EtcdStore>),
}

/// An etcd cluster, as `[fleet] store` and `[fleet] etcd` say.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EtcdStore {
    /// Where it is, and who we are there.
    #[serde(flatten)]
    pub cluster: EtcdCluster,
    /// What the names of all keys begin with. Ends with `/`. Default `/steer/` and the name of the fleet.
    pub prefix: String,
    /// The file that keeps what was last read, for a start without the cluster.
    pub cache: PathBuf,
}

/// A point of presence.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Site {
    /// IATA airport code, lower case.
    pub name: String,
    /// City of the airport.
    pub city: String,
    /// ISO 3166-1 alpha-2, upper case.
    pub country: String,
    /// Degrees north.
    pub latitude: f64,
    /// Degrees east.
    pub longitude: f64,
    /// BGP Identifier of this site's speaker; overrides `[bgp] router_id`.
    pub router_id: Option<Ipv4Addr>,
    /// Requests per second that it can serve; absent: not counted.
    pub capacity: Option<u64>,
    /// Requests per second that its own clients send, in normal times; absent: not known.
    pub load: Option<u64>,
    /// How much nearer than it is `nearest` takes it to be.
    pub bias: Bias,
    /// Where the other sites reach it, UDP and TCP; absent: it takes no part in the gossip.
    pub gossip: Option<SocketAddr>,
}

/// Shifts a site's catchment under `nearest`. Positive: it takes more clients.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Bias {
    /// So many kilometres are taken off the distance.
    Km(f64),
    /// The distance is so many per cent shorter.
    Percent(f64),
}

impl Bias {
    /// As if it were not written.
    pub const NONE: Self = Self::Km(0.0);

    /// The distance that `nearest` compares; below zero where a site is nearer than its bias.
    #[must_use]
    pub fn apply(self, km: f64) -> f64 {
        match self {
            Self::Km(less) => km - less,
            Self::Percent(less) => km * (1.0 - less / 100.0),
        }
    }
}

impl Site {
    /// Where it stands.
    #[must_use]
    pub fn position(&self) -> Option<Position> {
        Position::new(self.latitude, self.longitude)
    }

    /// Its country, if the built-in table knows it.
    #[must_use]
    pub fn country_code(&self) -> Option<CountryCode> {
        self.country.parse().ok()
    }
}

/// A named set of endpoints under one check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// Name that steered names and conditions refer to.
    pub name: String,
    /// The check; `None` where the pool is never checked and so always up.
    pub check: Option<CheckId>,
    /// A check of kind `load`: where its endpoints tell a number that steers.
    pub load: Option<CheckId>,
    /// Its own endpoints, in file order.
    pub endpoints: Vec<EndpointId>,
    /// The pools in it, in file order. Never in a circle, and no pool is in another in two ways.
    pub nested: Vec<Nested>,
    /// What its sites in service must be able to serve together. Default: nothing.
    pub needs: Demand,
    /// How its endpoints are compared with each other; absent: not at all.
    pub outlier: Option<OutlierRules>,
    /// Whether endpoints that go down again and again stay down longer each time; absent: they do not.
    pub damping: Option<DampingRules>,
}

/// What a pool needs, in requests per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Demand {
    /// So much; 0: no demand.
    Written(u64),
    /// As much as its sites get at the moment, as far as somebody tells.
    Measured,
}

/// A pool in a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Nested {
    /// The inner pool.
    pub pool: PoolId,
    /// Share of all its endpoints together. Default 1.
    pub weight: u32,
    /// Tier of its lowest tier. Without any `tier` in the outer pool: the order in the file.
    pub tier: u16,
    /// How many own endpoints of the outer pool stand before it.
    pub behind: usize,
}

/// One address that serves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Endpoint {
    /// The pool it belongs to.
    pub pool: PoolId,
    /// Where it stands; `None` only in a fleet without sites.
    pub site: Option<SiteId>,
    /// The address that answers carry, and the port of the service.
    pub address: SocketAddr,
    /// The host name `address` came from, if one was written.
    pub host: Option<String>,
    /// Where to probe; `address` unless `probe` is written.
    pub probe: SocketAddr,
    /// Relative share for `weighted`. 0 takes no new traffic while others can. Default 1.
    pub weight: u32,
    /// Tier for `failover`, lowest first. Without any `tier` in a pool: the order in the file.
    pub tier: u16,
    /// What records other than addresses carry.
    pub said: Said,
}

/// An ordinary RFC 1035 master file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ZoneFile {
    /// Origin and apex.
    pub name: Name,
    /// Path of the master file.
    pub file: PathBuf,
}

/// `[edge]`: where an RPC edge runs within `steer run`. What it does is in its own file, which only the edge can read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EdgePlace {
    /// Its file, as for `steer edge`.
    pub file: PathBuf,
    /// The sites that have one. Default: all.
    pub sites: Vec<SiteId>,
}

impl EdgePlace {
    /// Whether the process that runs as `site` has an edge.
    #[must_use]
    pub fn is_at(&self, site: Option<SiteId>) -> bool {
        site.is_none_or(|site| self.sites.contains(&site))
    }
}

/// `[admin]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Admin {
    /// `/metrics`, `/v1/status`, `/v1/explain`. Loopback only. Default 127.0.0.1:8053.
    pub listen: SocketAddr,
}

impl Fleet {
    /// The endpoint behind an id of this fleet.
    #[must_use]
    pub fn endpoint(&self, id: EndpointId) -> &Endpoint {
        &self.endpoints[id.0 as usize]
    }

    /// The pool behind an id of this fleet.
    #[must_use]
    pub fn pool(&self, id: PoolId) -> &Pool {
        &self.pools[id.0 as usize]
    }

    /// The endpoints of a pool and of the pools in it, in file order.
    #[must_use]
    pub fn members(&self, id: PoolId) -> Vec<EndpointId> {
        let pool = self.pool(id);
        let mut members = Vec::with_capacity(pool.endpoints.len());
        let mut next = 0;
        for nested in &pool.nested {
            members.extend(pool.endpoints.iter().take(nested.behind).skip(next));
            next = nested.behind;
            members.extend(self.members(nested.pool));
        }
        members.extend(pool.endpoints.iter().skip(next));
        members
    }

    /// Whether `inner` is `outer` or a pool in it.
    #[must_use]
    pub fn is_within(&self, inner: PoolId, outer: PoolId) -> bool {
        let mut nested = self.pool(outer).nested.iter();
        inner == outer || nested.any(|nested| self.is_within(inner, nested.pool))
    }

    /// The pools whose own endpoints a condition on `subject` asks for, in file order.
    pub fn pools_of(&self, subject: Subject) -> impl Iterator<Item = PoolId> + '_ {
        let is_meant = move |id: &PoolId| match subject {
            Subject::Pool(outer) => self.is_within(*id, outer),
            Subject::Check(check) => self.pool(*id).check == Some(check),
        };
        (0..self.pools.len() as u32).map(PoolId).filter(is_meant)
    }

    /// The check behind an id of this fleet.
    #[must_use]
    pub fn check(&self, id: CheckId) -> &Check {
        &self.checks[id.0 as usize]
    }

    /// The site behind an id of this fleet.
    #[must_use]
    pub fn site(&self, id: SiteId) -> &Site {
        &self.sites[usize::from(id.0)]
    }

    /// The site called `name`, in any case.
    #[must_use]
    pub fn site_named(&self, name: &str) -> Option<SiteId> {
        let index = self
            .sites
            .iter()
            .position(|site| site.name.eq_ignore_ascii_case(name))?;
        u16::try_from(index).ok().map(SiteId)
    }

    /// All endpoint ids, in order.
    pub fn endpoint_ids(&self) -> impl Iterator<Item = EndpointId> + use<> {
        (0..self.endpoints.len() as u32).map(EndpointId)
    }
}
