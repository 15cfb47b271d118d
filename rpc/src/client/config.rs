//! What a client is made of: a text in TOML, or a value made by hand.
//!
//! ```toml
//! targets = ["https://rpc.example.net"]              # the anycast name, or several that may stand in for each other
//! fallback = ["https://ams.rpc.example.net"]         # straight to sites, when none of the targets is left
//! tls = { roots_file = "roots.pem" }                 # also certificate_file and key_file; without: no root is trusted
//! descriptor_sets = ["shop.pb"]
//! resolve_every_ms = 30_000
//!
//! [[method]]                                         # as for the edge, without `pool`
//! path = "/pay.Payment/Charge"
//! semantics = "keyed"
//! timeout_ms = 2_000
//! ```

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig as TlsConfig, RootCertStore};
use serde::Deserialize;

use super::breaker::BreakerLimits;
use super::target::{InvalidTarget, Target};
use crate::edge::config::{InvalidEdge, RawMethod, check_methods, read};
use crate::edge::descriptor;
use crate::edge::policy::{MethodRules, Policies};
use crate::fate::{Budget, Policy, Semantics};
use crate::link::KeepAlive;

/// Names are asked again after this long.
const RESOLVE_EVERY: Duration = Duration::from_secs(30);

/// As it is written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawClient {
    targets: Vec<String>,
    #[serde(default)]
    fallback: Vec<String>,
    tls: Option<RawTls>,
    #[serde(default)]
    descriptor_sets: Vec<PathBuf>,
    #[serde(default)]
    method: Vec<RawMethod>,
    resolve_every_ms: Option<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawTls {
    roots_file: PathBuf,
    certificate_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
}

/// A client, checked.
#[derive(Debug, Clone)]
pub struct ClientConfig {
    /// Where calls go.
    pub targets: Vec<Target>,
    /// Where they go when no target is left.
    pub fallback: Vec<Target>,
    /// For targets with `https`.
    pub tls: Arc<TlsConfig>,
    /// What holds for methods.
    pub policies: Policies,
    /// Of each address.
    pub breaker: BreakerLimits,
    /// Pings on connections in use.
    pub keepalive: KeepAlive,
    /// Of all retries and hedges together.
    pub budget: Budget,
    /// Names are asked again after this long, and when no connection can be had.
    pub resolve_every: Duration,
}

/// What is wrong with a client.
#[derive(Debug, thiserror::Error)]
pub enum InvalidClient {
    /// No TOML, an unknown key, or a wrong type; the text has line and column.
    #[error("{0}")]
    Syntax(#[from] toml::de::Error),
    /// A target that is none.
    #[error("{0}")]
    Target(#[from] InvalidTarget),
    /// Nowhere to go.
    #[error("targets is empty; at least one is wanted")]
    NoTarget,
    /// A file, a method or a descriptor set.
    #[error("{0}")]
    Rules(#[from] InvalidEdge),
    /// Certificates or a key.
    #[error("{file}: {what}")]
    Tls {
        /// Where.
        file: String,
        /// What, and what would be right.
        what: String,
    },
}

impl ClientConfig {
    /// To these targets; every method is done once at most, and nobody's certificate is trusted.
    ///
    /// # Errors
    ///
    /// See [`InvalidClient`].
    pub fn to(targets: &[&str]) -> Result<Self, InvalidClient> {
        let targets: Result<Vec<Target>, _> = targets.iter().map(|target| target.parse()).collect();
        Self::with(targets?, Vec::new(), tls(RootCertStore::empty(), None)?)
    }

    fn with(targets: Vec<Target>, fallback: Vec<Target>, tls: Arc<TlsConfig>) -> Result<Self, InvalidClient> {
        if targets.is_empty() {
            return Err(InvalidClient::NoTarget);
        }
        Ok(Self {
            targets,
            fallback,
            tls,
            policies: Policies::new(MethodRules {
                pool: 0,
                policy: Policy::new(Semantics::AtMostOnce),
                timeout: None,
                max_timeout: None,
            }),
            breaker: BreakerLimits::DEFAULT,
            keepalive: KeepAlive::DEFAULT,
            budget: Budget::DEFAULT,
            resolve_every: RESOLVE_EVERY,
        })
    }

    /// Reads a text; files in it are relative to `folder`.
    ///
    /// # Errors
    ///
    /// See [`InvalidClient`].
    pub fn parse(text: &str, folder: &Path) -> Result<Self, InvalidClient> {
        let raw: RawClient = toml::from_str(text)?;
        let all = |texts: &[String]| texts.iter().map(|text| text.parse()).collect();
        let (targets, fallback): (Result<_, _>, Result<_, _>) = (all(&raw.targets), all(&raw.fallback));
        let tls = match &raw.tls {
            None => tls(RootCertStore::empty(), None)?,
            Some(raw) => read_tls(raw, folder)?,
        };
        let mut config = Self::with(targets?, fallback?, tls)?;
        config.policies = check_methods(raw.method, &[])?;
        for file in raw.descriptor_sets {
            let file = folder.join(file);
            let levels = descriptor::levels(&read(&file)?);
            let levels = levels.map_err(|source| InvalidEdge::Descriptor { file, source })?;
            config.policies.learn(levels);
        }
        if let Some(ms) = raw.resolve_every_ms {
            config.resolve_every = Duration::from_millis(ms.max(1));
        }
        Ok(config)
    }
}

type Identity = (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>);

fn tls(roots: RootCertStore, identity: Option<Identity>) -> Result<Arc<TlsConfig>, InvalidClient> {
    let wrong = |error: rustls::Error| InvalidClient::Tls {
        file: "tls".to_owned(),
        what: error.to_string(),
    };
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = TlsConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(wrong)?
        .with_root_certificates(roots);
    let mut config = match identity {
        None => builder.with_no_client_auth(),
        Some((certificates, key)) => builder.with_client_auth_cert(certificates, key).map_err(wrong)?,
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Ok(Arc::new(config))
}

fn read_tls(raw: &RawTls, folder: &Path) -> Result<Arc<TlsConfig>, InvalidClient> {
    let file = folder.join(&raw.roots_file);
    let mut roots = RootCertStore::empty();
    for root in certificates(&file)? {
        roots
            .add(root)
            .map_err(|error| wrong(&file, &error.to_string()))?;
    }
    let identity = match (&raw.certificate_file, &raw.key_file) {
        (None, None) => None,
        (Some(certificate), Some(key)) => {
            let (certificate, key) = (folder.join(certificate), folder.join(key));
            let read_key = PrivateKeyDer::from_pem_slice(&read(&key)?);
            // The error of a key file may not have what is in it.
            let read_key = read_key.map_err(|_| wrong(&key, "no private key in PEM is in it"))?;
            Some((certificates(&certificate)?, read_key))
        }
        (Some(file), None) => return Err(wrong(file, "certificate_file wants key_file beside it")),
        (None, Some(file)) => return Err(wrong(file, "key_file wants certificate_file beside it")),
    };
    tls(roots, identity)
}

fn wrong(file: &Path, what: &str) -> InvalidClient {
    InvalidClient::Tls {
        file: file.display().to_string(),
        what: what.to_owned(),
    }
}

fn certificates(file: &Path) -> Result<Vec<CertificateDer<'static>>, InvalidClient> {
    let octets = read(file)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&octets).collect();
    let found = found.map_err(|error| wrong(file, &format!("no certificates in PEM: {error}")))?;
    if found.is_empty() {
        return Err(wrong(file, "there is no certificate in it; PEM is wanted"));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(text: &str) -> String {
        ClientConfig::parse(text, Path::new("/nowhere"))
            .unwrap_err()
            .to_string()
    }

    #[test]
    fn what_is_written_of_a_method_holds_as_it_does_at_the_edge() {
        let text = "targets = [\"http://127.0.0.1:1\"]\nresolve_every_ms = 5\n\
            [[method]]\npath = \"/a.A/*\"\nsemantics = \"keyed\"\ntimeout_ms = 9\n";
        let config = ClientConfig::parse(text, Path::new(".")).unwrap();
        let rules = config.policies.of("/a.A/B");
        assert_eq!(rules.policy.semantics, Semantics::Keyed);
        assert_eq!(rules.timeout, Some(Duration::from_millis(9)));
        assert_eq!(
            config.policies.of("/b.B/C").policy.semantics,
            Semantics::AtMostOnce
        );
        assert_eq!(config.resolve_every, Duration::from_millis(5));
    }

    #[test]
    fn each_fault_names_the_place_the_value_and_what_would_be_right() {
        let targets = "targets = [\"http://127.0.0.1:1\"]\n";
        let rows = [
            ("targets = []".to_owned(), "targets is empty"),
            ("targets = [\"a\"]".to_owned(), "\"a\" is no target"),
            (format!("{targets}fallback = [\"a\"]"), "\"a\" is no target"),
            (
                format!("{targets}tls = {{ roots_file = \"r.pem\" }}"),
                "/nowhere/r.pem",
            ),
            (format!("{targets}target = []"), "unknown field `target`"),
            (
                format!("{targets}[[method]]\npath = \"/a.A/B\"\npool = \"x\""),
                "no pool \"x\"",
            ),
            (
                format!("{targets}[[method]]\npath = \"/a.A/B\"\nsemantics = \"once\""),
                "is no semantics",
            ),
        ];
        for (text, expected) in rows {
            let fault = fault(&text);
            assert!(fault.contains(expected), "{fault}");
        }
    }
}
