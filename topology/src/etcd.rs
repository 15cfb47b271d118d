//! Where an etcd cluster is, as a file names it: `etcd://10.0.0.1:2379,10.0.0.2:2379`.

use std::net::Ipv6Addr;
use std::path::PathBuf;

use serde::Serialize;

/// Where etcd listens for its clients when it is not told otherwise.
const DEFAULT_PORT: u16 = 2379;

/// As many as anybody runs in one cluster, and some.
const MEMBERS_MAX: usize = 15;

/// How a cluster is reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct EtcdCluster {
    /// `HOST:PORT` of its members, in the order in which they are tried.
    pub members: Vec<String>,
    /// Present with `etcds://`: the connections are TLS.
    pub tls: Option<EtcdTls>,
    /// The user, and the file with its password.
    pub user: Option<(String, PathBuf)>,
}

/// How a member of the cluster shows who it is, and we.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct EtcdTls {
    /// PEM; who may sign the members' certificates. Absent: whom the system trusts.
    pub ca_file: Option<PathBuf>,
    /// PEM: our certificate and its key.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// `etcd://MEMBER,MEMBER`, or with TLS `etcds://`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EtcdUrl {
    /// `HOST:PORT` each.
    pub members: Vec<String>,
    /// Whether the connections are TLS.
    pub is_tls: bool,
}

/// Why a text names no cluster.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidEtcdUrl {
    /// It begins with something else.
    #[error("it begins with neither \"etcd://\" nor \"etcds://\"")]
    Scheme,
    /// One member is none.
    #[error("{0:?} is no member")]
    Member(String),
    /// More than anybody has.
    #[error("it names {0} members")]
    TooMany(usize),
}

impl EtcdUrl {
    /// Reads it. A member without a port has etcd's.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidEtcdUrl> {
        let (list, is_tls) = match (text.strip_prefix("etcd://"), text.strip_prefix("etcds://")) {
            (Some(list), _) => (list, false),
            (None, Some(list)) => (list, true),
            (None, None) => return Err(InvalidEtcdUrl::Scheme),
        };
        let members: Result<Vec<_>, _> = list.split(',').map(member).collect();
        let members = members.map_err(|wrong| InvalidEtcdUrl::Member(wrong.to_owned()))?;
        if members.len() > MEMBERS_MAX {
            return Err(InvalidEtcdUrl::TooMany(members.len()));
        }
        Ok(Self { members, is_tls })
    }
}

/// `HOST:PORT` or `HOST`, or what is wrong.
fn member(text: &str) -> Result<String, &str> {
    let is_bare_v6 = text.starts_with('[') && text.ends_with(']');
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) if !is_bare_v6 => (host, port.parse::<u16>().map_err(|_| text)?),
        Some(_) | None => (text, DEFAULT_PORT),
    };
    let inner = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let is_host = match inner {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => {
            !host.is_empty()
                && host
                    .chars()
                    .all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        }
    };
    if is_host && port != 0 {
        Ok(format!("{host}:{port}"))
    } else {
        Err(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_has_a_host_and_etcds_port_unless_it_says_another() {
        let rows = [
            ("10.0.0.1", Ok("10.0.0.1:2379")),
            ("10.0.0.1:1", Ok("10.0.0.1:1")),
            ("etcd-1.example", Ok("etcd-1.example:2379")),
            ("[2001:db8::1]", Ok("[2001:db8::1]:2379")),
            ("[2001:db8::1]:7", Ok("[2001:db8::1]:7")),
            ("2001:db8::1", Err("2001:db8::1")),
            ("", Err("")),
            (":2379", Err(":2379")),
            ("host:", Err("host:")),
            ("host:0", Err("host:0")),
            ("user@host", Err("user@host")),
            ("host:1/path", Err("host:1/path")),
        ];
        for (text, want) in rows {
            assert_eq!(member(text), want.map(str::to_owned), "{text}");
        }
    }

    #[test]
    fn a_url_says_who_the_members_are_and_whether_with_tls() {
        let url = EtcdUrl::parse("etcds://a,b:1").unwrap();
        assert_eq!(
            (url.members.join(" "), url.is_tls),
            ("a:2379 b:1".to_owned(), true)
        );
        let rows = [
            ("embedded:x", InvalidEtcdUrl::Scheme),
            ("etcd://", InvalidEtcdUrl::Member(String::new())),
            ("etcd://a,b:x", InvalidEtcdUrl::Member("b:x".to_owned())),
        ];
        for (text, wrong) in rows {
            assert_eq!(EtcdUrl::parse(text), Err(wrong), "{text}");
        }
        let many = format!("etcd://{}", vec!["a"; 16].join(","));
        assert_eq!(EtcdUrl::parse(&many), Err(InvalidEtcdUrl::TooMany(16)));
    }
}
