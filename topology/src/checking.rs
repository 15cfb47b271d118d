//! How endpoints are checked: what a probe does, when, and what the outcomes add up to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::{NonZeroU8, NonZeroU16};
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::{CheckId, Name};

/// How endpoints are probed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Check {
    /// Name that pools refer to.
    pub name: String,
    /// What a probe does.
    pub kind: CheckKind,
    /// Time between the starts of two probes of one endpoint. Default 1 s.
    pub interval: Duration,
    /// The same after a failure that has not decided anything yet; never longer than `interval`. Default half of it.
    pub fast_interval: Duration,
    /// A probe without an answer by then has failed. May be longer than `interval`: then the next
    /// probe waits for it. Default 300 ms (or `interval`, if shorter).
    pub timeout: Duration,
    /// Failures until an endpoint is down. Default 3.
    pub fall: NonZeroU8,
    /// Successes in a row until a down endpoint is up. Default 2.
    pub rise: NonZeroU8,
    /// Successes in a row that clear earlier failures. Default 1: failures count in a row.
    pub forget: NonZeroU8,
    /// What judges the outcomes. Default threshold and window.
    pub detect: Vec<DetectorRules>,
    /// What they come to together. Default any.
    pub combine: Combine,
    /// Hold a TCP connection to each endpoint; its end triggers the deciding probe at once. Default false.
    pub tripwire: bool,
    /// A file with the number of a process of this machine that serves the endpoints here; its exit triggers the
    /// deciding probe as well.
    pub process: Option<PathBuf>,
    /// Port to probe instead of the endpoint's own.
    pub port: Option<NonZeroU16>,
    /// Addresses to probe from.
    pub source: Sources,
    /// How many sites probe each endpoint, its own among them. Default `None`: all.
    pub vantage_points: Option<NonZeroU16>,
}

/// Addresses to probe from, by family; the kernel chooses where there is none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Sources {
    /// For IPv4 endpoints.
    pub v4: Option<Ipv4Addr>,
    /// For IPv6 endpoints.
    pub v6: Option<Ipv6Addr>,
}

impl Sources {
    /// The one to reach `target` from.
    #[must_use]
    pub fn to(self, target: SocketAddr) -> Option<IpAddr> {
        match target {
            SocketAddr::V4(_) => self.v4.map(IpAddr::V4),
            SocketAddr::V6(_) => self.v6.map(IpAddr::V6),
        }
    }
}

/// What a probe does.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum CheckKind {
    /// `GET` over HTTP/1.1, with TLS or without.
    Http(HttpCheck),
    /// A TCP connection that opens.
    Tcp,
    /// A TLS handshake.
    Tls(TlsRules),
    /// A query over UDP.
    Dns(DnsCheck),
    /// `grpc.health.v1.Health/Check`.
    Grpc(GrpcCheck),
    /// An ICMP or ICMPv6 echo.
    Icmp,
    /// A program; status 0 is a success.
    Exec {
        /// The program and its arguments.
        command: Vec<String>,
    },
    /// What others report through the admin API.
    External {
        /// How long a report stands without another one. Default 10 s.
        lease: Duration,
    },
    /// The path to a neighbour, as BFD sees it.
    Bfd {
        /// Address of a `[[bgp.peer]]` that has `bfd`.
        peer: IpAddr,
    },
    /// No verdict, but a number that steers.
    Load(LoadCheck),
    /// Other checks of the same endpoint.
    Calculated {
        /// What must hold of their outcomes.
        when: Formula,
    },
}

/// What an HTTP answer must be like.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct HttpCheck {
    /// Absent: plain HTTP.
    pub tls: Option<TlsRules>,
    /// Path and query, starting with `/`. Default `/`.
    pub path: String,
    /// `Host` header; default the endpoint's address.
    pub host: Option<String>,
    /// Lowest and highest of each range of statuses that count as success. Default 200 to 299.
    pub status: Vec<(u16, u16)>,
    /// What the body must contain or match.
    pub body: Option<BodyRule>,
    /// A header that must be there, and what its value must contain (an empty text: anything).
    pub header: Option<(String, String)>,
    /// A number in the body, and its limits.
    pub value: Option<ValueRule>,
    /// Keep the connection for the next probe. Default false.
    pub reuse: bool,
}

impl HttpCheck {
    /// `GET /`, statuses 200 to 299, nothing else.
    #[must_use]
    pub fn plain() -> Self {
        Self {
            tls: None,
            path: "/".to_owned(),
            host: None,
            status: vec![(200, 299)],
            body: None,
            header: None,
            value: None,
            reuse: false,
        }
    }
}

/// A number that an endpoint tells of itself, and what is made of it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LoadCheck {
    /// How it is asked; always with a `value`.
    pub page: HttpCheck,
    /// What the number stands for.
    pub feeds: Feeds,
    /// What it is multiplied by. Default 1.
    pub scale: f64,
    /// How long a number counts without another one. Default 10 s.
    pub lease: Duration,
}

/// What a number steers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Feeds {
    /// Requests per second that the endpoint gets; all of a site together are the load of that site, for `overflow`.
    Load,
    /// Its weight, for `weighted` and `sticky`.
    Weight,
}

/// What a body must be like.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum BodyRule {
    /// It contains this text.
    Contains(String),
    /// This regular expression matches somewhere in it.
    Matches(String),
}

/// A number in a body.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ValueRule {
    /// Where it stands.
    pub at: ValueAt,
    /// The least that is right.
    pub min: Option<f64>,
    /// The most that is right.
    pub max: Option<f64>,
}

/// Where a number stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueAt {
    /// A JSON pointer (RFC 6901).
    Json(String),
    /// A sample of the Prometheus text format, with its labels as they are written there.
    Prometheus(String),
}

/// How a TLS server is judged.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TlsRules {
    /// Server name that is sent and that the certificate must have. Default: that of `host`, or the endpoint's host
    /// name, or its address.
    pub server_name: Option<String>,
    /// Whether the certificate must be good. Default true.
    pub verify: bool,
    /// Certificates (PEM) that sign good ones, instead of the machine's own.
    pub roots: Option<PathBuf>,
    /// Warn when the certificate ends within this time. Default 14 days.
    pub expiry_warning: Duration,
}

/// What a DNS server must answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DnsCheck {
    /// The name that is asked for.
    pub query: Name,
    /// Mnemonic of the type, such as `A`.
    pub rtype: String,
    /// The response code, such as `NOERROR`.
    pub rcode: String,
    /// A record that must be in the answer, as it is written in a master file; absent: none is needed.
    pub answer: Option<String>,
}

/// What `grpc.health.v1` is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct GrpcCheck {
    /// The service; empty stands for the whole server.
    pub service: String,
    /// Absent: HTTP/2 without TLS.
    pub tls: Option<TlsRules>,
}

/// What must hold of the outcomes of other checks.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Formula {
    /// This check succeeds.
    Check(CheckId),
    /// All of these.
    All(Vec<Formula>),
    /// At least so many of these.
    AtLeast(u16, Vec<Formula>),
    /// This does not hold.
    Not(Box<Formula>),
}

impl Formula {
    /// Every check that it names, each once.
    #[must_use]
    pub fn checks(&self) -> Vec<CheckId> {
        let mut found = Vec::new();
        self.gather(&mut found);
        found
    }

    fn gather(&self, found: &mut Vec<CheckId>) {
        match self {
            Self::Check(id) if found.contains(id) => {}
            Self::Check(id) => found.push(*id),
            Self::All(of) | Self::AtLeast(_, of) => of.iter().for_each(|one| one.gather(found)),
            Self::Not(one) => one.gather(found),
        }
    }

    /// Whether it holds; `None` where that hangs on a check of which nothing is known.
    pub fn holds(&self, succeeds: &impl Fn(CheckId) -> Option<bool>) -> Option<bool> {
        match self {
            Self::Check(id) => succeeds(*id),
            Self::All(of) => at_least(of.len(), of, succeeds),
            Self::AtLeast(count, of) => at_least(usize::from(*count), of, succeeds),
            Self::Not(one) => one.holds(succeeds).map(|holds| !holds),
        }
    }
}

fn at_least(count: usize, of: &[Formula], succeeds: &impl Fn(CheckId) -> Option<bool>) -> Option<bool> {
    let (mut yes, mut unknown) = (0, 0);
    for one in of {
        match one.holds(succeeds) {
            Some(true) => yes += 1,
            Some(false) => {}
            None => unknown += 1,
        }
    }
    if yes >= count {
        Some(true)
    } else if yes + unknown < count {
        Some(false)
    } else {
        None
    }
}

/// One detector of a check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum DetectorRules {
    /// `fall`, `rise` and `forget` of the check.
    Threshold,
    /// Shares over the last outcomes.
    Window(WindowRules),
    /// Unusual silence.
    Phi(PhiRules),
}

/// What several detectors come to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Combine {
    /// Down when one of them says so.
    Any,
    /// Down when all of them say so.
    All,
}

/// `[check.window]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct WindowRules {
    /// How many of the last outcomes count. Default 10, or twice `fall` if that is more: then an outage is seen by
    /// `fall` first.
    pub size: u16,
    /// Per cent that must succeed. Default 50.
    pub min_success: u8,
    /// Per cent that must succeed until it is up again. Default 80.
    pub recover: u8,
    /// A limit for the latency. Default none.
    pub latency: Option<LatencyRules>,
}

/// A limit for the latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct LatencyRules {
    /// So many per cent of the answers must come within `max`. Default 90.
    pub quantile: u8,
    /// The longest time.
    pub max: Duration,
}

/// `[check.phi]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PhiRules {
    /// φ from which on an endpoint is down. Default 8.
    pub threshold: u8,
    /// How many intervals are kept. Default 1000.
    pub samples: u16,
    /// How arrivals are estimated. Default normal.
    pub model: PhiModel,
    /// Silence that is borne on top. Default 0.
    pub pause: Duration,
}

/// How arrivals are estimated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PhiModel {
    /// A normal distribution, as in the paper.
    Normal,
    /// A histogram, for streams with pauses.
    Empirical,
}

/// `damping` of a pool, in the terms of RFC 2439 §4.2.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct DampingRules {
    /// What each fall adds to the figure of an endpoint. Default 1000.
    pub penalty: u32,
    /// Time in which the figure halves. Default 1 min.
    pub half_life: Duration,
    /// From this figure on an endpoint that is up again is held back. Default 3000.
    pub suppress: u32,
    /// Below this one it comes back. Default 1000.
    pub reuse: u32,
    /// Longest that anybody is held back. Default 10 min.
    pub max: Duration,
}

/// `outlier` of a pool.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct OutlierRules {
    /// Time between two comparisons. Default 10 s.
    pub interval: Duration,
    /// An endpoint with fewer outcomes in an interval is not judged. Default 5.
    pub samples: u32,
    /// How many thousandths of a standard deviation above the mean failure rate are too much. Default 1900.
    pub stdev_factor: u32,
    /// Per cent of failures that are too many in a pool of any size. Default 30.
    pub failure: u8,
    /// How many times its usual latency is too slow. Default 5.
    pub slower: u16,
    /// First ejection; each in a row is longer by as much. Default 30 s.
    pub base_ejection: Duration,
    /// Longest ejection. Default 5 min.
    pub max_ejection: Duration,
    /// Per cent of the pool that may be ejected at once; at least one endpoint, and never the last one. Default 10.
    pub max_ejected: u8,
}

impl OutlierRules {
    /// The defaults of the fields.
    pub const DEFAULT: Self = Self {
        interval: Duration::from_secs(10),
        samples: 5,
        stdev_factor: 1900,
        failure: 30,
        slower: 5,
        base_ejection: Duration::from_secs(30),
        max_ejection: Duration::from_secs(300),
        max_ejected: 10,
    };
}
