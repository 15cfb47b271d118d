//! From a configured peer to a BFD session.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::PathBuf;

use nix::ifaddrs::getifaddrs;
use nix::sys::socket::SockaddrStorage;
use serde::Serialize;
use steer_topology::{BfdAuth, Peer, PeerReach};

use super::auth::{Auth, InvalidKey};
use super::session::{Config, Intervals, Role};

/// How far away the peer is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Hops {
    /// On our link: port 3784, and nothing but TTL 255 is taken (RFC 5881 §5).
    Single,
    /// Behind routers: port 4784 (RFC 5883).
    Multi {
        /// Packets with a lower TTL are refused; 0 takes any.
        minimum_ttl: u8,
    },
}

/// A path to watch.
#[derive(Debug, Clone)]
pub struct Target {
    /// The address of the other end.
    pub peer: IpAddr,
    /// The interface of a link-local address.
    pub interface: Option<String>,
    /// Our address; absent: what the system takes for this peer.
    pub source: Option<IpAddr>,
    /// How far away it is.
    pub hops: Hops,
    /// The session's own settings.
    pub config: Config,
}

/// Why a configured peer gets no session.
#[derive(Debug, thiserror::Error)]
pub enum TargetError {
    /// The key cannot be read.
    #[error("BFD with {peer}: cannot read key_file {}: {source}", file.display())]
    Read {
        /// Whose.
        peer: IpAddr,
        /// As configured.
        file: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The key cannot be one.
    #[error("BFD with {peer}: key_file {}: {source}", file.display())]
    Key {
        /// Whose.
        peer: IpAddr,
        /// As configured.
        file: PathBuf,
        /// What is wrong with it.
        source: InvalidKey,
    },
}

impl Target {
    /// The session that `bfd = { .. }` of a peer asks for, if it does. Reads the key.
    pub fn of(peer: &Peer, internal: bool) -> Result<Option<Self>, TargetError> {
        let Some(bfd) = &peer.bfd else { return Ok(None) };
        let auth = bfd.auth.as_ref().map(|auth| read_auth(auth, peer.address));
        let config = Config {
            intervals: Intervals::both(bfd.interval),
            multiplier: bfd.multiplier,
            role: Role::Active,
            auth: auth.transpose()?,
        };
        Ok(Some(Self {
            peer: peer.address,
            interface: peer.interface.clone(),
            source: peer.source,
            hops: hops(peer, internal),
            config,
        }))
    }
}

fn hops(peer: &Peer, internal: bool) -> Hops {
    let on_link = || peer.interface.is_some() || shares_network(peer.address);
    match peer.reach {
        PeerReach::TtlSecurity(hops) if hops.get() == 1 => Hops::Single,
        // GTSM (RFC 5082 §3), as for BGP. FRR sends multihop packets with TTL 255 as we do; BIRD with the system's.
        PeerReach::TtlSecurity(hops) => Hops::Multi {
            minimum_ttl: u8::MAX - hops.get() + 1,
        },
        // RFC 5883 names no TTL to send, so without `ttl_security` none is wanted.
        PeerReach::Multihop(_) => Hops::Multi { minimum_ttl: 0 },
        PeerReach::Default if internal && !on_link() => Hops::Multi { minimum_ttl: 0 },
        PeerReach::Default => Hops::Single,
    }
}

/// Whether an interface of ours has a network with this address in it.
fn shares_network(address: IpAddr) -> bool {
    let interfaces = getifaddrs().into_iter().flatten();
    let networks =
        interfaces.filter_map(|interface| Some((ip(&interface.address?)?, ip(&interface.netmask?)?)));
    let mut networks = networks;
    networks.any(|(own, mask)| match (own, mask, address) {
        (IpAddr::V4(own), IpAddr::V4(mask), IpAddr::V4(address)) => own & mask == address & mask,
        (IpAddr::V6(own), IpAddr::V6(mask), IpAddr::V6(address)) => own & mask == address & mask,
        _ => false,
    })
}

fn ip(address: &SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|address| address.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|address| address.ip().into()))
}

fn read_auth(auth: &BfdAuth, peer: IpAddr) -> Result<Auth, TargetError> {
    let file = &auth.key_file;
    let key = fs::read(file).map_err(|source| TargetError::Read {
        peer,
        file: file.clone(),
        source,
    })?;
    // The line end that an editor puts there is no part of the key.
    Auth::new(auth.kind, auth.key_id, key.trim_ascii()).map_err(|source| TargetError::Key {
        peer,
        file: file.clone(),
        source,
    })
}

#[cfg(test)]
mod tests;
