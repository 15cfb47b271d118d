//! `edge.toml`: raw shape in, checked shape out.
//!
//! ```toml
//! listen = "192.0.2.53:443"
//! descriptor_sets = ["shop.pb"]
//! reflection = true                  # the edge tells what is in the descriptor sets (grpc.reflection); default: false
//! drain_ms = 30_000                  # how long a drain waits for calls to end
//! admin = "127.0.0.1:9090"           # /metrics; absent: nowhere
//! workers = 2                        # threads that serve; absent: one for each core
//!
//! [tls]                              # absent: clear text
//! certificate_file = "edge.pem"      # files of TLS are read again when they change
//! key_file = "edge.key"
//! client_roots_files = ["clients.pem"] # absent: clients are not asked for a certificate
//! client_certificates = "required"   # or "asked"
//!
//! [clients]                          # bounds that a client can reach; these are the defaults: see `ClientRules`
//! connections = 20_000
//! calls = 50_000
//! streams = 1_000                    # SETTINGS_MAX_CONCURRENT_STREAMS
//! header_octets = 65_536             # SETTINGS_MAX_HEADER_LIST_SIZE
//! pending_resets = 50                # then ENHANCE_YOUR_CALM
//! faults = 100                       # then ENHANCE_YOUR_CALM
//! young_resets = 500                 # then ENHANCE_YOUR_CALM
//! stall_ms = 60_000
//! ping_ms = 20_000
//!
//! [rate_limit]                       # absent: none; RESOURCE_EXHAUSTED and unprocessed
//! client = "address"                 # or "tls" (the name in the certificate), or "header:x-api-key"
//! per_second = 100
//! burst = 200                        # as much as per_second, where it is not said
//! clients = 10_000                   # that are remembered; the others share one limit
//!
//! [rate_limit.fleet]                 # absent: this edge limits for itself; else the edges of a name limit together
//! store = "etcd://10.0.0.1:2379,10.0.0.2:2379" # or "etcds://..", with TLS
//! name = "shop"
//! edge = "fra"                       # for people: a part of the key in etcd
//! every_ms = 1_000                   # what was admitted is told so often; a rate holds with this lag
//! alone = "share"                    # while the store is away: the rate divided by the edges that were there; or "full"
//! secret_file = "rates.secret"       # names of clients are hashed with it; absent: who tries all addresses finds them
//! ca_file = "etcd-ca.pem"            # with "etcds://": absent: whom the system trusts
//! cert_file = "fra.pem"              # what the edge shows to etcd; absent: nothing
//! key_file = "fra.key"
//! user = "edges"                     # of etcd; absent: none
//! password_file = "etcd.password"
//!
//! [grpc_web]                         # absent: not spoken
//! origins = ["https://shop.example"] # pages that may call; "*": all; absent: those of the edge's own origin
//!
//! [priority]                         # for `concurrency` of a pool
//! header = "x-priority"              # sheddable, sheddable-plus, critical, critical-plus; absent: not asked for
//! default = "critical"
//!
//! [traces]                           # absent: none; what a call brings is passed on
//! endpoint = "http://127.0.0.1:4317" # a collector: OTLP over gRPC; or "https://.."
//! roots_file = "roots.pem"           # for https; absent: the roots of the system; read when the configuration is
//! server_name = "collector.internal" # absent: the host of the endpoint
//! sample = 0.01                      # the share of calls without a parent that is recorded, 0 to 1; the parent decides for others
//! per_second = 1_000                 # calls that are recorded at most, whatever their parents say
//! service = "steer-edge"             # service.name
//! queue = 4_096                      # spans that wait for the collector; those above it are dropped
//!
//! [[pool]]
//! name = "pay"
//! backends = ["10.0.0.1:50051", "10.0.0.2:50051"] # or "pool:shop", a pool of the fleet: within `steer run`
//! eject = { consecutive = 5, percent = 10, base_ms = 30_000, max_ms = 300_000, panic_percent = 50 } # the defaults
//! slow_start_ms = 10_000             # for a backend that is back; 0: at once
//! concurrency = { min = 20, initial = 100, max = 10_000 } # adaptive; absent: no limit
//!
//! [pool.tls]                         # absent: clear text
//! roots_files = ["backends.pem"]     # several roots in a file, or several files: any of them will do
//! server_name = "pay.internal"       # absent: the address must be in the certificate
//! certificate_file = "edge.pem"      # what the edge shows; absent: nothing
//! key_file = "edge.key"
//!
//! [[method]]
//! path = "/pay.Payment/Charge"       # or "/pay.Payment/*", or "*"
//! pool = "pay"
//! semantics = "keyed"                # at-most-once (default), at-least-once, keyed
//! timeout_ms = 2_000                 # for calls that bring none
//! max_timeout_ms = 10_000            # for all
//! max_attempts = 3                   # 1 to 5
//! hedge_after_ms = 80                # not for at-most-once
//! ```

mod backends;
mod clients;
mod fleet;
mod pool;
mod tls;
mod traces;
mod web;

use std::collections::BTreeSet;
use std::fs;
use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use serde::Deserialize;

use super::descriptor;
use super::policy::{MethodRules, Policies};
use super::rate::RateRules;
use super::reflection::Reflection;
use super::shed::PriorityRules;
use super::web::Origins;
use crate::fate::{ATTEMPTS_MAX, Hedge, InvalidSemantics, Policy, Semantics};

use clients::{RawClients, RawPriority, RawRate, check_clients, check_priority, check_rate};
use pool::{RawConcurrency, RawEject, RawRules, check_rules};
use tls::{RawBackendTls, RawListenTls, check_listener};
use traces::{RawTraces, check_traces};
use web::{RawWeb, check_web};

pub use backends::{Backends, FleetPool, InvalidFleetPool};
pub use clients::ClientRules;
pub use pool::PoolRules;
pub use tls::{BackendTls, ClientRoots, Identity, ListenTls};
pub use traces::{CollectorTls, TraceRules};

/// Threads that serve, at most: each has connections of its own to every backend.
const WORKERS_MAX: usize = 256;

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEdge {
    listen: SocketAddr,
    tls: Option<RawListenTls>,
    #[serde(default)]
    descriptor_sets: Vec<PathBuf>,
    #[serde(default)]
    reflection: bool,
    #[serde(default)]
    pool: Vec<RawPool>,
    #[serde(default)]
    method: Vec<RawMethod>,
    drain_ms: Option<u64>,
    admin: Option<SocketAddr>,
    workers: Option<usize>,
    #[serde(default)]
    clients: RawClients,
    rate_limit: Option<RawRate>,
    grpc_web: Option<RawWeb>,
    #[serde(default)]
    priority: RawPriority,
    traces: Option<RawTraces>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPool {
    name: String,
    backends: Backends,
    tls: Option<RawBackendTls>,
    eject: Option<RawEject>,
    slow_start_ms: Option<u64>,
    concurrency: Option<RawConcurrency>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RawMethod {
    path: String,
    pool: Option<String>,
    semantics: Option<String>,
    timeout_ms: Option<u64>,
    max_timeout_ms: Option<u64>,
    max_attempts: Option<u32>,
    hedge_after_ms: Option<u64>,
}

/// An edge, checked.
#[derive(Debug, Clone)]
pub struct EdgeConfig {
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it speaks TLS.
    pub tls: Option<ListenTls>,
    /// The backends of each pool; the first pool is where calls go that nothing is said of.
    pub pools: Vec<Backends>,
    /// What holds for each pool, in the same order; the defaults where nothing is said.
    pub pool_rules: Vec<PoolRules>,
    /// What holds for methods.
    pub policies: Policies,
    /// Tells clients what services there are; absent: a backend does, or nobody.
    pub reflection: Option<Reflection>,
    /// How long a drain waits for calls to end. Default 30 s.
    pub drain: Duration,
    /// Where `/metrics` is; absent: nowhere.
    pub admin: Option<SocketAddr>,
    /// Threads that serve. Default: one for each core.
    pub workers: NonZeroUsize,
    /// What clients may do.
    pub clients: ClientRules,
    /// How often a client may call; absent: as often as it likes.
    pub rate_limit: Option<RateRules>,
    /// Which pages may call by grpc-web; absent: it is not spoken.
    pub grpc_web: Option<Origins>,
    /// Who goes first.
    pub priority: PriorityRules,
    /// Which calls are recorded, and who is told; absent: none.
    pub traces: Option<TraceRules>,
}

/// What is wrong with an edge.
#[derive(Debug, thiserror::Error)]
pub enum InvalidEdge {
    /// No TOML, an unknown key, or a wrong type; the text has line and column.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A file that cannot be read.
    #[error("{}: {source}", file.display())]
    File {
        /// Which.
        file: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A descriptor set that is none.
    #[error("{}: no descriptor set: {source}", file.display())]
    Descriptor {
        /// Which.
        file: PathBuf,
        /// Why.
        source: prost::DecodeError,
    },
    /// Nothing to call.
    #[error("there is no [[pool]]; at least one with a backend is wanted")]
    NoPool,
    /// A pool without backends.
    #[error("[[pool]] {0:?} has no backends")]
    NoBackends(String),
    /// Two of a name.
    #[error("[[pool]] {0:?} is there twice")]
    Twice(String),
    /// A pool that is not there.
    #[error("[[method]] {path:?}: there is no pool {pool:?}; there are {known}")]
    UnknownPool {
        /// Of the method.
        path: String,
        /// What it names.
        pool: String,
        /// What there is.
        known: String,
    },
    /// Another fault.
    #[error("{place}: {what}")]
    Place {
        /// Where.
        place: String,
        /// What, and what would be right.
        what: String,
    },
    /// Another fault of a method.
    #[error("[[method]] {path:?}: {what}")]
    Method {
        /// Which.
        path: String,
        /// What, and what would be right.
        what: String,
    },
}

impl EdgeConfig {
    /// Reads a file; names in it are relative to its folder.
    ///
    /// # Errors
    ///
    /// See [`InvalidEdge`].
    pub fn read(file: &Path) -> Result<Self, InvalidEdge> {
        let text = String::from_utf8_lossy(&read(file)?).into_owned();
        Self::parse(&text, file.parent().unwrap_or(Path::new(".")))
    }

    /// Reads a text.
    ///
    /// # Errors
    ///
    /// See [`InvalidEdge`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, InvalidEdge> {
        let RawEdge {
            listen,
            tls,
            descriptor_sets,
            reflection,
            pool,
            method,
            drain_ms,
            admin,
            workers,
            clients,
            rate_limit,
            grpc_web,
            priority,
            traces,
        } = toml::from_str(text)?;
        let (names, pools, pool_rules) = check_pools(pool, folder)?;
        let mut policies = check_methods(method, &names)?;
        let mut sets = Vec::new();
        for file in descriptor_sets {
            let file = folder.join(file);
            let set = read(&file)?;
            let levels = descriptor::levels(&set);
            policies.learn(levels.map_err(|source| InvalidEdge::Descriptor { file, source })?);
            sets.push(set);
        }
        let tls = tls.map(|tls| check_listener(tls, folder)).transpose()?;
        Ok(Self {
            listen,
            tls,
            pools,
            pool_rules,
            policies,
            reflection: reflection.then(|| check_reflection(&sets)).transpose()?,
            drain: Duration::from_millis(drain_ms.unwrap_or(30_000)),
            admin,
            workers: check_workers(workers)?,
            clients: check_clients(&clients)?,
            rate_limit: rate_limit.map(|raw| check_rate(raw, folder)).transpose()?,
            grpc_web: grpc_web.as_ref().map(check_web).transpose()?,
            priority: check_priority(priority)?,
            traces: traces.map(|raw| check_traces(raw, folder)).transpose()?,
        })
    }
}

impl EdgeConfig {
    /// What of another configuration needs another edge: sockets and threads are made once.
    #[must_use]
    pub fn needs_restart(&self, next: &Self) -> Option<&'static str> {
        let differences = [
            (self.listen != next.listen, "`listen`"),
            (self.admin != next.admin, "`admin`"),
            (self.workers != next.workers, "`workers`"),
        ];
        let mut names = differences.iter().filter(|(differs, _)| *differs);
        names.next().map(|(_, name)| *name)
    }

    /// Reads the files of TLS, and sees that they go together.
    ///
    /// # Errors
    ///
    /// When one cannot be read, or is not what it should be.
    pub fn try_tls(&self) -> io::Result<()> {
        if let Some(tls) = &self.tls {
            crate::edge::tls::listener(tls.clone())?;
        }
        for rules in &self.pool_rules {
            rules.tls.as_ref().map(crate::edge::tls::backends).transpose()?;
        }
        Ok(())
    }
}

fn check_reflection(sets: &[Vec<u8>]) -> Result<Reflection, InvalidEdge> {
    let fault = |what| InvalidEdge::Place {
        place: "reflection".to_owned(),
        what,
    };
    if sets.is_empty() {
        let what = "there is nothing to tell; name descriptor_sets, or leave it to the backends";
        return Err(fault(what.to_owned()));
    }
    Reflection::new(sets).map_err(|error| fault(format!("{error}; descriptor sets must fit together")))
}

fn check_workers(asked: Option<usize>) -> Result<NonZeroUsize, InvalidEdge> {
    let Some(asked) = asked else {
        return Ok(thread::available_parallelism().unwrap_or(NonZeroUsize::MIN));
    };
    let possible = NonZeroUsize::new(asked).filter(|workers| workers.get() <= WORKERS_MAX);
    possible.ok_or_else(|| InvalidEdge::Place {
        place: "workers".to_owned(),
        what: format!("{asked} threads; 1 to {WORKERS_MAX} are possible"),
    })
}

pub(crate) fn read(file: &Path) -> Result<Vec<u8>, InvalidEdge> {
    fs::read(file).map_err(|source| InvalidEdge::File {
        file: file.to_owned(),
        source,
    })
}

type Pools = (Vec<String>, Vec<Backends>, Vec<PoolRules>);

fn check_pools(raw: Vec<RawPool>, folder: &Path) -> Result<Pools, InvalidEdge> {
    if raw.is_empty() {
        return Err(InvalidEdge::NoPool);
    }
    let (mut names, mut pools, mut rules) = (Vec::new(), Vec::new(), Vec::new());
    for raw in raw {
        let RawPool {
            name,
            backends,
            tls,
            eject,
            slow_start_ms,
            concurrency,
        } = raw;
        if backends == Backends::Addresses(Vec::new()) {
            return Err(InvalidEdge::NoBackends(name));
        }
        if names.contains(&name) {
            return Err(InvalidEdge::Twice(name));
        }
        let raw = RawRules {
            tls,
            eject,
            slow_start_ms,
            concurrency,
        };
        rules.push(check_rules(&name, raw, folder)?);
        names.push(name);
        pools.push(backends);
    }
    Ok((names, pools, rules))
}

pub(crate) fn check_methods(raw: Vec<RawMethod>, pools: &[String]) -> Result<Policies, InvalidEdge> {
    let mut paths = BTreeSet::new();
    if let Some(twice) = raw.iter().find(|method| !paths.insert(&method.path)) {
        return Err(InvalidEdge::Method {
            path: twice.path.clone(),
            what: "is there twice; write one table for it".to_owned(),
        });
    }
    let (all, some): (Vec<_>, Vec<_>) = raw.into_iter().partition(|method| method.path == "*");
    let careful = MethodRules {
        pool: 0,
        policy: Policy::new(Semantics::AtMostOnce),
        timeout: None,
        max_timeout: None,
    };
    let default = match all.into_iter().next() {
        Some(all) => check_method(&all, pools)?,
        None => careful,
    };
    let mut policies = Policies::new(default);
    for method in some {
        if !method.path.starts_with('/') {
            let what = "a path begins with '/', or is \"*\"".to_owned();
            return Err(InvalidEdge::Method {
                path: method.path,
                what,
            });
        }
        policies.insert(&method.path, check_method(&method, pools)?);
    }
    Ok(policies)
}

fn check_method(raw: &RawMethod, pools: &[String]) -> Result<MethodRules, InvalidEdge> {
    let RawMethod {
        path,
        pool,
        semantics,
        timeout_ms,
        max_timeout_ms,
        max_attempts,
        hedge_after_ms,
    } = raw;
    let wrong = |what: String| InvalidEdge::Method {
        path: path.clone(),
        what,
    };
    let pool = match pool {
        None => 0,
        Some(name) => pools
            .iter()
            .position(|one| one == name)
            .ok_or_else(|| InvalidEdge::UnknownPool {
                path: path.clone(),
                pool: name.clone(),
                known: pools.join(", "),
            })?,
    };
    let semantics = match semantics {
        None => Semantics::AtMostOnce,
        Some(text) => text
            .parse()
            .map_err(|error: InvalidSemantics| wrong(error.to_string()))?,
    };
    if hedge_after_ms.is_some() && !semantics.allows_hedging() {
        return Err(wrong(format!(
            "hedge_after_ms with {semantics} would do it twice"
        )));
    }
    let max_attempts = max_attempts.unwrap_or(3);
    if !(1..=ATTEMPTS_MAX).contains(&max_attempts) {
        return Err(wrong(format!(
            "max_attempts is {max_attempts}; 1 to {ATTEMPTS_MAX} are possible"
        )));
    }
    if let (Some(timeout), Some(max)) = (timeout_ms, max_timeout_ms)
        && timeout > max
    {
        return Err(wrong(format!(
            "timeout_ms {timeout} is above max_timeout_ms {max}"
        )));
    }
    Ok(MethodRules {
        pool,
        policy: Policy {
            max_attempts,
            hedge: hedge_after_ms.map(|ms| Hedge {
                after: Duration::from_millis(ms),
            }),
            ..Policy::new(semantics)
        },
        timeout: timeout_ms.map(Duration::from_millis),
        max_timeout: max_timeout_ms.map(Duration::from_millis),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: &str = "listen = \"127.0.0.1:0\"\n";
    const POOL: &str = "[[pool]]\nname = \"pay\"\nbackends = [\"127.0.0.1:1\"]\n";

    fn fault(rest: &str) -> String {
        let text = format!("{HEAD}{rest}");
        EdgeConfig::parse(&text, Path::new(".")).unwrap_err().to_string()
    }

    #[test]
    fn an_edge_with_one_pool_is_careful_with_every_method() {
        let edge = EdgeConfig::parse(&format!("{HEAD}{POOL}"), Path::new(".")).unwrap();
        let rules = edge.policies.of("/any.Thing/AtAll");
        assert_eq!((rules.pool, rules.policy.semantics), (0, Semantics::AtMostOnce));
    }

    #[test]
    fn what_is_written_of_a_method_holds() {
        let method = "[[method]]\npath = \"/pay.Payment/*\"\npool = \"pay\"\nsemantics = \"keyed\"\ntimeout_ms = 5\n\
            max_timeout_ms = 9\nmax_attempts = 2\nhedge_after_ms = 3\n";
        let edge = EdgeConfig::parse(&format!("{HEAD}{POOL}{method}"), Path::new(".")).unwrap();
        let rules = edge.policies.of("/pay.Payment/Charge");
        assert_eq!(rules.policy.semantics, Semantics::Keyed);
        assert_eq!(rules.policy.max_attempts, 2);
        assert_eq!(
            rules.policy.hedge,
            Some(Hedge {
                after: Duration::from_millis(3)
            })
        );
        assert_eq!(rules.timeout, Some(Duration::from_millis(5)));
        assert_eq!(rules.max_timeout, Some(Duration::from_millis(9)));
    }

    #[test]
    fn each_fault_names_the_place_the_value_and_what_would_be_right() {
        let method = |rest: &str| format!("{POOL}[[method]]\npath = \"/a.A/B\"\n{rest}\n");
        let rows = [
            (String::new(), "no [[pool]]"),
            (
                format!("workers = 0\n{POOL}"),
                "workers: 0 threads; 1 to 256 are possible",
            ),
            (
                format!("reflection = true\n{POOL}"),
                "reflection: there is nothing to tell; name descriptor_sets",
            ),
            (
                format!("[grpc_web]\norigins = [\"https://shop.example/\"]\n{POOL}"),
                "[grpc_web]: \"https://shop.example/\" is no origin; one as",
            ),
            (
                "[[pool]]\nname = \"x\"\nbackends = []\n".to_owned(),
                "\"x\" has no backends",
            ),
            (format!("{POOL}{POOL}"), "\"pay\" is there twice"),
            (
                format!("{POOL}[[method]]\npath = \"*\"\n[[method]]\npath = \"*\"\n"),
                "[[method]] \"*\": is there twice",
            ),
            (
                method("[[method]]\npath = \"/a.A/B\""),
                "[[method]] \"/a.A/B\": is there twice",
            ),
            (method("pool = \"pya\""), "no pool \"pya\"; there are pay"),
            (
                method("semantics = \"once\""),
                "\"once\" is no semantics; there are at-most-once",
            ),
            (
                method("hedge_after_ms = 5"),
                "with at-most-once would do it twice",
            ),
            (method("max_attempts = 0"), "max_attempts is 0; 1 to 5"),
            (
                method("timeout_ms = 5\nmax_timeout_ms = 4"),
                "timeout_ms 5 is above max_timeout_ms 4",
            ),
            (method("attempts = 5"), "unknown field `attempts`"),
            (format!("{POOL}[[method]]\npath = \"a.A/B\"\n"), "begins with '/'"),
            (
                format!("{POOL}eject = {{ percent = 101 }}\n"),
                "\"pay\" eject: percent is 101; 0 to 100",
            ),
            (
                format!("{POOL}concurrency = {{ min = 200 }}\n"),
                "min is 200, initial 100, max 10000; 1 <= min",
            ),
            (
                format!("{POOL}[clients]\nstreams = 0\n"),
                "[clients]: streams is 0; at least 1",
            ),
            (
                format!("{POOL}[clients]\nping_ms = 0\n"),
                "[clients]: ping_ms is 0; at least 1",
            ),
            (
                format!("{POOL}[rate_limit]\nper_second = 0\n"),
                "[rate_limit]: per_second is 0",
            ),
            (
                format!("{POOL}[rate_limit]\nper_second = 1\nclient = \"ip\"\n"),
                "client is \"ip\"; \"address\", \"tls\" or \"header:NAME\"",
            ),
            (
                format!("{POOL}[priority]\ndefault = \"high\"\n"),
                "\"high\" is no priority; there are sheddable",
            ),
            (
                format!("{POOL}[priority]\nheader = \"a b\"\n"),
                "header is \"a b\"; the name of a header",
            ),
            (format!("{POOL}[pool.tls]\n"), "\"pay\" tls: roots_files is empty"),
            (
                format!(
                    "{POOL}[tls]\ncertificate_file = \"a\"\nkey_file = \"b\"\nclient_certificates = \"asked\"\n"
                ),
                "client_certificates without client_roots_files",
            ),
            (
                format!("{POOL}[tls]\ncertificate_file = \"gone.pem\"\nkey_file = \"b\"\n"),
                "gone.pem",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"127.0.0.1:4317\"\n"),
                "[traces]: endpoint is \"127.0.0.1:4317\"; a collector of OTLP over gRPC",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"http://collector:4318/v1/traces\"\n"),
                "\"http://collector:4318/v1/traces\"; a collector of OTLP over gRPC is wanted, as in \"http://",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"http://a b\"\n"),
                "endpoint is \"http://a b\", invalid uri",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"http://a\"\nroots_file = \"b.pem\"\n"),
                "endpoint is \"http://a\"; with roots_file or server_name one of https",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"https://a\"\nroots_file = \"gone.pem\"\n"),
                "gone.pem",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"https://a\"\nroots_file = \"Cargo.toml\"\n"),
                "[traces]: roots_file is \"Cargo.toml\", which has no certificate; PEM",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"https://a\"\nserver_name = \"a b\"\n"),
                "server_name is \"a b\"; a DNS name or an address",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"http://a\"\nsample = 1.5\n"),
                "[traces]: sample is 1.5; 0 to 1 are possible",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"http://a\"\nsample = nan\n"),
                "[traces]: sample is NaN; 0 to 1 are possible",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"http://a\"\nper_second = 0\n"),
                "[traces]: per_second is 0; at least 1",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"http://a\"\nservice = \"\"\n"),
                "[traces]: service is \"\"; a name is wanted",
            ),
            (
                format!("{POOL}[traces]\nendpoint = \"http://a\"\nqueue = 3\n"),
                "[traces]: queue is 3; 16 to 100000 spans",
            ),
            (
                format!("{POOL}[traces]\nsample = 1\n"),
                "missing field `endpoint`",
            ),
            (
                format!("descriptor_sets = [\"nowhere.pb\"]\n{POOL}"),
                "nowhere.pb",
            ),
        ];
        for (rest, expected) in rows {
            let fault = fault(&rest);
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
