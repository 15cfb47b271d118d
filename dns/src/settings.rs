//! How the engine talks, whatever it says: `[dns]` of the configuration as queries need it.

use std::net::{IpAddr, Ipv6Addr};
use std::time::Duration;

use steer_topology::{CookieUse, Dns, Nat64};

use crate::cookie::{SecretError, Secrets};
use crate::reply::MAX_UDP_PAYLOAD;

/// How the engine talks.
#[derive(Debug, Clone)]
pub struct Settings {
    /// See [`Dns::max_udp_payload`].
    pub(crate) max_udp_payload: u16,
    /// TIMEOUT of edns-tcp-keepalive, in units of 100 ms (RFC 7828 §3.1).
    pub(crate) keepalive: u16,
    pub(crate) nat64: Vec<Nat64>,
    /// What NSID, `id.server` and `hostname.bind` tell.
    pub(crate) identity: Option<Box<str>>,
    /// What `version.server` and `version.bind` tell.
    pub(crate) version: Option<Box<str>>,
    pub(crate) cookies: CookieUse,
    pub(crate) secrets: Secrets,
}

impl Settings {
    /// The settings of one site. Reads the files with cookie secrets.
    pub fn load(dns: &Dns, site: Option<&str>) -> Result<Self, SecretError> {
        let identity = dns.identity.as_deref().or(site).filter(|text| !text.is_empty());
        Ok(Self {
            max_udp_payload: dns.max_udp_payload,
            keepalive: tenths(dns.tcp_idle),
            nat64: dns.nat64.clone(),
            identity: identity.map(Box::from),
            version: dns.version.as_deref().map(Box::from),
            cookies: dns.cookies,
            secrets: Secrets::read(&dns.cookie_secrets)?,
        })
    }
}

/// The defaults of `[dns]`, without a name.
impl Default for Settings {
    fn default() -> Self {
        Self {
            max_udp_payload: MAX_UDP_PAYLOAD,
            keepalive: tenths(Dns::default().tcp_idle),
            nat64: Vec::new(),
            identity: None,
            version: None,
            cookies: CookieUse::On,
            secrets: Secrets::made_up(),
        }
    }
}

fn tenths(time: Duration) -> u16 {
    u16::try_from(time.as_millis() / 100).unwrap_or(u16::MAX)
}

/// An address as the partition of the address space knows it.
///
/// Gap: [`crate::Tables::explain`] is asked for an address alone and does not know the prefixes of `nat64`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Placed {
    /// Stands for the client.
    pub(crate) address: IpAddr,
    by: By,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    /// Its own address. No scope is shorter than this: a shorter one would take in a NAT64 prefix, below which
    /// other answers hold.
    Itself { least: u8 },
    /// The IPv4 address that it carries.
    Carried(Nat64),
}

impl Placed {
    pub(crate) fn new(address: IpAddr, nat64: &[Nat64]) -> Self {
        let IpAddr::V6(v6) = address else {
            return Self {
                address,
                by: By::Itself { least: 0 },
            };
        };
        let carried = nat64
            .iter()
            .find_map(|nat64| Some((nat64.carried(v6)?, By::Carried(*nat64))));
        if let Some((v4, by)) = carried {
            return Self {
                address: v4.into(),
                by,
            };
        }
        let least = nat64.iter().map(|nat64| apart(*nat64, v6)).max().unwrap_or(0);
        Self {
            address,
            by: By::Itself { least },
        }
    }

    /// The scope for the address as it was given, from that for [`Placed::address`].
    pub(crate) fn scope(self, found: u8) -> u8 {
        match self.by {
            By::Itself { least } => found.max(least),
            By::Carried(nat64) => nat64.scope(found),
        }
    }
}

/// Length of the widest network around an address that has nothing of a prefix in it.
fn apart(nat64: Nat64, address: Ipv6Addr) -> u8 {
    let IpAddr::V6(prefix) = nat64.prefix().address() else {
        return 0;
    };
    let common = (prefix.to_bits() ^ address.to_bits()).leading_zeros();
    u8::try_from(common + 1).unwrap_or(128).min(128)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nat64_client_is_its_ipv4_address_and_its_neighbours_keep_apart() {
        let nat64 = Nat64::new("2001:db8:64::/96".parse().unwrap()).unwrap();
        let place = |text: &str| Placed::new(text.parse().unwrap(), &[nat64]);
        let inside = place("2001:db8:64::192.0.2.1");
        assert_eq!(inside.address, "192.0.2.1".parse::<IpAddr>().unwrap());
        assert_eq!((inside.scope(24), inside.scope(0)), (120, 96));
        let outside = place("2001:db8:65::1");
        assert_eq!(outside.address, "2001:db8:65::1".parse::<IpAddr>().unwrap());
        assert_eq!((outside.scope(20), outside.scope(64)), (48, 64));
        assert_eq!(place("192.0.2.1").scope(9), 9);
        assert_eq!(Placed::new("2001:db8::1".parse().unwrap(), &[]).scope(3), 3);
    }
}
