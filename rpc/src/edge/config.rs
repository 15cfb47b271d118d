//! `edge.toml`: raw shape in, checked shape out.
//!
//! ```toml
//! listen = "192.0.2.53:443"
//! tls = { certificate_file = "edge.pem", key_file = "edge.key" }
//! descriptor_sets = ["shop.pb"]
//!
//! [[pool]]
//! name = "pay"
//! backends = ["10.0.0.1:50051", "10.0.0.2:50051"]
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

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

use super::descriptor;
use super::policy::{MethodRules, Policies};
use crate::fate::{ATTEMPTS_MAX, Hedge, InvalidSemantics, Policy, Semantics};

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawEdge {
    listen: SocketAddr,
    tls: Option<RawTls>,
    #[serde(default)]
    descriptor_sets: Vec<PathBuf>,
    #[serde(default)]
    pool: Vec<RawPool>,
    #[serde(default)]
    method: Vec<RawMethod>,
    drain_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    certificate_file: PathBuf,
    key_file: PathBuf,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawPool {
    name: String,
    backends: Vec<SocketAddr>,
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
    /// Certificates and key in PEM, where it speaks TLS.
    pub tls: Option<Tls>,
    /// The backends of each pool; the first pool is where calls go that nothing is said of.
    pub pools: Vec<Vec<SocketAddr>>,
    /// What holds for methods.
    pub policies: Policies,
    /// How long a drain waits for calls to end. Default 30 s.
    pub drain: Duration,
}

/// Files for TLS, read.
#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM.
    pub certificate: Vec<u8>,
    /// PEM.
    pub key: Vec<u8>,
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
        source: std::io::Error,
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
            pool,
            method,
            drain_ms,
        } = toml::from_str(text)?;
        let (names, pools) = check_pools(pool)?;
        let mut policies = check_methods(method, &names)?;
        for file in descriptor_sets {
            let file = folder.join(file);
            let levels = descriptor::levels(&read(&file)?);
            policies.learn(levels.map_err(|source| InvalidEdge::Descriptor { file, source })?);
        }
        let tls = tls.map(|tls| check_tls(&tls, folder)).transpose()?;
        Ok(Self {
            listen,
            tls,
            pools,
            policies,
            drain: Duration::from_millis(drain_ms.unwrap_or(30_000)),
        })
    }
}

pub(crate) fn read(file: &Path) -> Result<Vec<u8>, InvalidEdge> {
    fs::read(file).map_err(|source| InvalidEdge::File {
        file: file.to_owned(),
        source,
    })
}

fn check_tls(raw: &RawTls, folder: &Path) -> Result<Tls, InvalidEdge> {
    let RawTls {
        certificate_file,
        key_file,
    } = raw;
    Ok(Tls {
        certificate: read(&folder.join(certificate_file))?,
        key: read(&folder.join(key_file))?,
    })
}

fn check_pools(raw: Vec<RawPool>) -> Result<(Vec<String>, Vec<Vec<SocketAddr>>), InvalidEdge> {
    if raw.is_empty() {
        return Err(InvalidEdge::NoPool);
    }
    let (mut names, mut pools) = (Vec::new(), Vec::new());
    for RawPool { name, backends } in raw {
        if backends.is_empty() {
            return Err(InvalidEdge::NoBackends(name));
        }
        if names.contains(&name) {
            return Err(InvalidEdge::Twice(name));
        }
        names.push(name);
        pools.push(backends);
    }
    Ok((names, pools))
}

pub(crate) fn check_methods(raw: Vec<RawMethod>, pools: &[String]) -> Result<Policies, InvalidEdge> {
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
                "[[pool]]\nname = \"x\"\nbackends = []\n".to_owned(),
                "\"x\" has no backends",
            ),
            (format!("{POOL}{POOL}"), "\"pay\" is there twice"),
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
