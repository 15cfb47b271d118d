//! Where calls go: names that are asked again, and addresses.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use http::uri::{Authority, Scheme};
use rustls::pki_types::ServerName;

/// Addresses of one name that are used at most; the others are left out, and counted.
const ADDRESSES_MAX: usize = 16;

/// So long a name server may take.
const RESOLVE_MAX: Duration = Duration::from_secs(2);

/// `https://rpc.example.net` or `http://192.0.2.1:50051`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    pub(super) authority: Authority,
    pub(super) scheme: Scheme,
    host: String,
    port: u16,
}

/// A text that is no target.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no target: {what}; \"https://NAME\" or \"http://ADDRESS:PORT\" is wanted")]
pub struct InvalidTarget {
    text: String,
    what: String,
}

impl FromStr for Target {
    type Err = InvalidTarget;

    fn from_str(text: &str) -> Result<Self, InvalidTarget> {
        let wrong = |what: &str| InvalidTarget {
            text: text.to_owned(),
            what: what.to_owned(),
        };
        let uri: http::Uri = text
            .parse()
            .map_err(|error: http::uri::InvalidUri| wrong(&error.to_string()))?;
        let parts = uri.into_parts();
        let scheme = parts.scheme.ok_or_else(|| wrong("it has no scheme"))?;
        let port = match scheme.as_str() {
            "http" => 80,
            "https" => 443,
            _ => return Err(wrong("its scheme is neither http nor https")),
        };
        if parts.path_and_query.is_some_and(|path| path.as_str() != "/") {
            return Err(wrong("it has a path, and methods bring their own"));
        }
        let authority = parts.authority.ok_or_else(|| wrong("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(wrong("it has a user, and secrets do not belong here"));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        if ServerName::try_from(host.clone()).is_err() {
            return Err(wrong("its host is neither a name nor an address"));
        }
        Ok(Self {
            port: authority.port_u16().unwrap_or(port),
            authority,
            scheme,
            host,
        })
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme, self.authority)
    }
}

impl Target {
    pub(super) fn is_tls(&self) -> bool {
        self.scheme == Scheme::HTTPS
    }

    /// Whether its address is a matter of names.
    pub(super) fn is_name(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }

    /// What its certificate has to be for.
    pub(super) fn server_name(&self) -> Option<ServerName<'static>> {
        ServerName::try_from(self.host.clone()).ok()
    }

    /// Its addresses, in an order that stays.
    pub(super) async fn addresses(&self) -> Result<Vec<SocketAddr>, String> {
        if let Ok(address) = self.host.parse::<IpAddr>() {
            return Ok(vec![(address, self.port).into()]);
        }
        let asked = tokio::net::lookup_host((self.host.as_str(), self.port));
        let found = match tokio::time::timeout(RESOLVE_MAX, asked).await {
            Ok(Ok(found)) => found.collect::<BTreeSet<_>>(),
            Ok(Err(error)) => return Err(format!("{self}: {error}")),
            Err(_) => {
                return Err(format!(
                    "{self}: no answer of a name server within {RESOLVE_MAX:?}"
                ));
            }
        };
        if found.len() > ADDRESSES_MAX {
            metrics::counter!("steer_rpc_addresses_left_out_total")
                .increment((found.len() - ADDRESSES_MAX) as u64);
        }
        Ok(found.into_iter().take(ADDRESSES_MAX).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_has_a_scheme_a_host_and_a_port() {
        let rows = [
            ("https://rpc.example.net", true, true, 443),
            ("http://192.0.2.1:50051", false, false, 50051),
            ("http://[2001:db8::1]:80/", false, false, 80),
        ];
        for (text, tls, name, port) in rows {
            let target: Target = text.parse().unwrap();
            assert_eq!(
                (target.is_tls(), target.is_name(), target.port),
                (tls, name, port),
                "{text}"
            );
            assert!(target.server_name().is_some());
        }
    }

    #[test]
    fn each_fault_of_a_target_is_named_with_its_text() {
        let rows = [
            ("rpc.example.net:443", "no scheme"),
            ("ftp://rpc.example.net", "neither http nor https"),
            ("https://rpc.example.net/pay", "it has a path"),
            ("https://ana:secret@rpc.example.net", "it has a user"),
            ("https://-.-", "neither a name nor an address"),
            ("", "empty"),
        ];
        for (text, expected) in rows {
            let fault = text.parse::<Target>().unwrap_err().to_string();
            assert!(fault.contains(expected), "{fault}");
        }
    }

    #[tokio::test]
    async fn an_address_is_asked_of_nobody() {
        let target: Target = "http://[::1]:7".parse().unwrap();
        assert_eq!(target.addresses().await.unwrap(), ["[::1]:7".parse().unwrap()]);
    }
}
