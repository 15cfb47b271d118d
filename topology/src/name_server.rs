//! `[dns]`: how the name server talks, whatever it says.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::Prefix;

/// `[dns]`
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Dns {
    /// UDP and TCP on each. Default `0.0.0.0:53` and `[::]:53`.
    pub listen: Vec<SocketAddr>,
    /// Threads that answer over UDP. Default: one per core.
    pub udp_threads: Option<NonZeroU16>,
    /// Octets of the largest datagram that is sent, and that clients are told is taken (RFC 6891 §6.2.3).
    pub max_udp_payload: u16,
    /// TCP connections at a time, of all clients.
    pub tcp_connections: u32,
    /// TCP connections at a time of one client network: a /24 or a /56.
    pub tcp_connections_per_client: u32,
    /// A TCP connection without a query for so long is closed.
    pub tcp_idle: Duration,
    /// NAT64 prefixes of the operator's (RFC 6052 §2.2), beside the well-known one.
    pub nat64: Vec<Nat64>,
    /// What `id.server`, `hostname.bind` and NSID tell. Default: the site's name.
    pub identity: Option<String>,
    /// What `version.server` and `version.bind` tell. Default: REFUSED.
    pub version: Option<String>,
    /// What is done with DNS cookies (RFC 7873).
    pub cookies: CookieUse,
    /// Files with server secrets: the first signs, all of them verify. Without any, one is made up at start.
    pub cookie_secrets: Vec<PathBuf>,
    /// Response rate limiting.
    pub rrl: Option<Rrl>,
    /// Encrypted transports.
    pub tls: Option<Tls>,
}

impl Default for Dns {
    fn default() -> Self {
        Self {
            listen: vec![
                (Ipv4Addr::UNSPECIFIED, 53).into(),
                (Ipv6Addr::UNSPECIFIED, 53).into(),
            ],
            udp_threads: None,
            max_udp_payload: 1232,
            tcp_connections: 4096,
            tcp_connections_per_client: 128,
            tcp_idle: Duration::from_secs(10),
            nat64: Vec::new(),
            identity: None,
            version: None,
            cookies: CookieUse::On,
            cookie_secrets: Vec::new(),
            rrl: None,
            tls: None,
        }
    }
}

/// What is done with DNS cookies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CookieUse {
    /// The option is ignored.
    Off,
    /// Who sends one gets one.
    On,
    /// As `On`; and over UDP, who sends the option without a good server cookie gets BADCOOKIE.
    Require,
}

/// Response rate limiting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Rrl {
    /// Replies per second that one client network gets of each class.
    pub rate: u32,
    /// Every so many replies that are held back, a truncated one is sent instead of none. 0: never.
    pub slip: u8,
    /// Bits of an IPv4 client network.
    pub v4_prefix: u8,
    /// Bits of an IPv6 client network.
    pub v6_prefix: u8,
    /// Client networks and classes that are remembered.
    pub table: u32,
    /// Counts what would be held back, and holds back nothing.
    pub log_only: bool,
}

/// Encrypted transports: where they are, and what they show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tls {
    /// DNS over TLS (RFC 7858) on each.
    pub listen: Vec<SocketAddr>,
    /// DNS over HTTPS (RFC 8484) on each.
    pub https: Vec<SocketAddr>,
    /// DNS over QUIC (RFC 9250) on each.
    pub quic: Vec<SocketAddr>,
    /// The certificate and those that lead to its root, in PEM form.
    pub certificate: PathBuf,
    /// Its private key, in PEM form.
    pub key: PathBuf,
}

/// A prefix under which IPv6 addresses carry IPv4 addresses (RFC 6052 §2.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(transparent)]
pub struct Nat64(Prefix);

impl Nat64 {
    /// The lengths that RFC 6052 §2.2 knows.
    pub const LENGTHS: [u8; 6] = [32, 40, 48, 56, 64, 96];
    /// Octet 8 (bits 64 to 71) is always zero and carries nothing.
    const GAP: u8 = 64;

    /// `None` where it is no IPv6 prefix of one of [`Nat64::LENGTHS`], or where bits 64 to 71 are not zero.
    #[must_use]
    pub fn new(prefix: Prefix) -> Option<Self> {
        let IpAddr::V6(address) = prefix.address() else {
            return None;
        };
        let gap = (address.to_bits() >> (128 - 8 - u32::from(Self::GAP))) as u8;
        (Self::LENGTHS.contains(&prefix.length()) && gap == 0).then_some(Self(prefix))
    }

    /// The prefix.
    #[must_use]
    pub fn prefix(self) -> Prefix {
        self.0
    }

    /// The IPv4 address that `address` carries.
    #[must_use]
    pub fn carried(self, address: Ipv6Addr) -> Option<Ipv4Addr> {
        if !self.0.contains(address.into()) {
            return None;
        }
        let bits = address.to_bits();
        let bit = |index: u8| (bits >> (127 - u32::from(self.place(index)))) as u32 & 1;
        Some(Ipv4Addr::from_bits(
            (0..32).fold(0, |all, index| all << 1 | bit(index)),
        ))
    }

    /// A scope for the IPv4 address as one for the IPv6 address around it.
    #[must_use]
    pub fn scope(self, of_v4: u8) -> u8 {
        match of_v4.min(32).checked_sub(1) {
            None => self.0.length(),
            Some(last) => self.place(last) + 1,
        }
    }

    /// Where in the IPv6 address a bit of the IPv4 address stands.
    fn place(self, index: u8) -> u8 {
        let place = self.0.length() + index;
        if self.0.length() <= Self::GAP && place >= Self::GAP {
            place + 8
        } else {
            place
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 6052 §2.4, all six lengths with 192.0.2.33.
    const EXAMPLES: [(&str, &str); 6] = [
        ("2001:db8::/32", "2001:db8:c000:221::"),
        ("2001:db8:100::/40", "2001:db8:1c0:2:21::"),
        ("2001:db8:122::/48", "2001:db8:122:c000:2:2100::"),
        ("2001:db8:122:300::/56", "2001:db8:122:3c0:0:221::"),
        ("2001:db8:122:344::/64", "2001:db8:122:344:c0:2:2100::"),
        ("2001:db8:122:344::/96", "2001:db8:122:344::192.0.2.33"),
    ];

    #[test]
    fn the_examples_of_rfc_6052_are_read() {
        for (prefix, address) in EXAMPLES {
            let nat64 = Nat64::new(prefix.parse().unwrap()).unwrap();
            let carried = nat64.carried(address.parse().unwrap());
            assert_eq!(carried, Some(Ipv4Addr::new(192, 0, 2, 33)), "{prefix}");
            assert_eq!(nat64.carried("2001:db9::".parse().unwrap()), None);
        }
    }

    #[test]
    fn a_scope_covers_the_addresses_whose_ipv4_addresses_it_covered_and_no_others() {
        for (prefix, address) in EXAMPLES {
            let nat64 = Nat64::new(prefix.parse().unwrap()).unwrap();
            let bits = address.parse::<Ipv6Addr>().unwrap().to_bits();
            let v4 = nat64.carried(Ipv6Addr::from_bits(bits)).unwrap().to_bits();
            for scope in 0..=32_u8 {
                let wide = nat64.scope(scope);
                assert!(wide >= nat64.prefix().length() && wide <= 128);
                for flipped in 0..128_u8 {
                    let other = Ipv6Addr::from_bits(bits ^ (1 << (127 - flipped)));
                    let Some(carried) = nat64.carried(other) else {
                        assert!(flipped < wide);
                        continue;
                    };
                    let differs = (carried.to_bits() ^ v4).leading_zeros() < u32::from(scope);
                    // whatever differs within the IPv4 scope lies outside of the IPv6 one
                    assert!(!differs || flipped < wide, "{prefix} {scope} {flipped}");
                }
            }
        }
    }

    #[test]
    fn other_lengths_and_families_are_none() {
        for text in [
            "192.0.2.0/24",
            "2001:db8::/33",
            "2001:db8::/128",
            "2001:db8:0:0:100::/96",
        ] {
            assert_eq!(Nat64::new(text.parse().unwrap()), None, "{text}");
        }
    }
}
