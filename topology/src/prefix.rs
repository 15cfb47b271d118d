//! Address prefixes and AS numbers, checked once.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;
use serde::Serialize;

/// An address prefix with no bit set beyond its length.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(IpNet);

/// Why a text or a pair of address and length is no [`Prefix`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPrefix {
    /// Neither `ADDRESS/LENGTH` nor something close to it.
    #[error("{value:?} is not a prefix; write ADDRESS/LENGTH, for example 192.0.2.0/24")]
    Malformed {
        /// The text as it was written.
        value: String,
    },
    /// The length does not fit the address family.
    #[error("length {length} does not fit {address}; at most {max} is possible")]
    TooLong {
        /// The address before the slash.
        address: IpAddr,
        /// The length as it was given.
        length: u8,
        /// 32 or 128.
        max: u8,
    },
    /// Bits are set beyond the length.
    #[error(
        "{address}/{length} has bits set beyond its length; {network} is the network, {address}/{max} the single address"
    )]
    HostBits {
        /// The address before the slash.
        address: IpAddr,
        /// The length as it was given.
        length: u8,
        /// The prefix with the surplus bits cleared.
        network: Prefix,
        /// 32 or 128.
        max: u8,
    },
}

impl Prefix {
    /// Checks that `length` fits the family and that no bit is set beyond it.
    pub fn new(address: IpAddr, length: u8) -> Result<Self, InvalidPrefix> {
        let prefix = Self::covering(address, length)?;
        if prefix.address() != address {
            let max = prefix.0.max_prefix_len();
            return Err(InvalidPrefix::HostBits {
                address,
                length,
                network: prefix,
                max,
            });
        }
        Ok(prefix)
    }

    /// The prefix of `length` bits that holds `address`; surplus bits are cleared.
    pub fn covering(address: IpAddr, length: u8) -> Result<Self, InvalidPrefix> {
        let max = if address.is_ipv4() { 32 } else { 128 };
        let net = IpNet::new(address, length).map_err(|_| InvalidPrefix::TooLong { address, length, max })?;
        Ok(Self(net.trunc()))
    }

    /// The network address.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.0.addr()
    }

    /// Length in bits: 0 to 32 for IPv4, 0 to 128 for IPv6.
    #[must_use]
    pub fn length(&self) -> u8 {
        self.0.prefix_len()
    }

    /// Whether this is an IPv4 prefix.
    #[must_use]
    pub fn is_ipv4(&self) -> bool {
        self.0.addr().is_ipv4()
    }

    /// Whether `address` lies inside. Never true across families.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address)
    }

    /// Whether all of `other` lies inside. Never true across families.
    #[must_use]
    pub fn covers(&self, other: Self) -> bool {
        self.0.contains(&other.0)
    }
}

/// The single address.
impl From<IpAddr> for Prefix {
    fn from(address: IpAddr) -> Self {
        Self(IpNet::from(address))
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl FromStr for Prefix {
    type Err = InvalidPrefix;

    fn from_str(text: &str) -> Result<Self, InvalidPrefix> {
        let malformed = || InvalidPrefix::Malformed {
            value: text.to_owned(),
        };
        let (address, length) = text.split_once('/').ok_or_else(malformed)?;
        let address: IpAddr = address.parse().map_err(|_| malformed())?;
        let length: u8 = length.parse().map_err(|_| malformed())?;
        Self::new(address, length)
    }
}

impl Serialize for Prefix {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A 4-octet AS number (RFC 6793). Zero is never valid (RFC 7607).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct Asn(u32);

impl Asn {
    /// RFC 6793 §9: stands in a 2-octet field for a number that does not fit it.
    pub const TRANS: Self = Self(23_456);

    /// `None` for 0 (RFC 7607).
    #[must_use]
    pub fn new(number: u32) -> Option<Self> {
        (number != 0).then_some(Self(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AS{}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_bits_are_refused_and_the_error_names_both_remedies() {
        let error = "192.0.2.53/24".parse::<Prefix>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "192.0.2.53/24 has bits set beyond its length; 192.0.2.0/24 is the network, 192.0.2.53/32 the single address"
        );
    }

    #[test]
    fn a_length_beyond_the_family_is_refused() {
        let error = "192.0.2.0/33".parse::<Prefix>().unwrap_err();
        assert_eq!(
            error.to_string(),
            "length 33 does not fit 192.0.2.0; at most 32 is possible"
        );
    }

    #[test]
    fn text_that_is_no_prefix_is_refused() {
        for text in [
            "",
            "192.0.2.0",
            "192.0.2/24",
            "x/8",
            "10.0.0.0/-1",
            "10.0.0.0/8/8",
        ] {
            assert!(
                matches!(text.parse::<Prefix>(), Err(InvalidPrefix::Malformed { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn as_zero_is_no_as_number() {
        assert_eq!(Asn::new(0), None);
    }
}
