//! IPv6 addresses that carry an IPv4 address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::Prefix;

/// What an address stands for in geography.
///
/// | network | what it is | where it is |
/// | --- | --- | --- |
/// | `::/96` | IPv4-compatible (RFC 4291 §2.5.5.1, deprecated); where an MMDB keeps IPv4 | its IPv4 address |
/// | `::ffff:0:0/96` | IPv4-mapped (RFC 4291 §2.5.5.2) | its IPv4 address |
/// | `64:ff9b::/96` | NAT64, well-known prefix (RFC 6052 §2.1) | its IPv4 address |
/// | `2002::/16` | 6to4 (RFC 3056), the IPv4 address in bits 16 to 47 | its IPv4 address |
/// | `2001::/32` | Teredo (RFC 4380): the client's IPv4 address comes last and inverted | unknown |
///
/// What a database says of these networks is never asked: most alias them to their IPv4 half (for Teredo, to the
/// relay's server), some leave them empty. So all databases agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Carried {
    /// Stands for itself.
    Itself,
    /// Stands for an IPv4 address.
    V4 {
        /// That address.
        address: Ipv4Addr,
        /// Bits before it: a scope of `n` for the IPv4 address is one of `offset + n` for the whole.
        offset: u8,
    },
    /// Its place cannot be told by prefix.
    Hidden {
        /// All of the addresses of that kind.
        network: Prefix,
    },
}

/// One line of the table.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Special {
    pub(crate) first: u128,
    pub(crate) length: u8,
    /// Whether the next 32 bits are an IPv4 address that decides.
    pub(crate) carries_v4: bool,
}

/// In address order, disjoint.
pub(crate) const SPECIAL: [Special; 5] = [
    Special {
        first: 0,
        length: 96,
        carries_v4: true,
    },
    Special {
        first: 0xffff_0000_0000,
        length: 96,
        carries_v4: true,
    },
    Special {
        first: 0x0064_ff9b << 96,
        length: 96,
        carries_v4: true,
    },
    Special {
        first: 0x2001_0000 << 96,
        length: 32,
        carries_v4: false,
    },
    Special {
        first: 0x2002 << 112,
        length: 16,
        carries_v4: true,
    },
];

impl Carried {
    /// What `address` stands for.
    #[must_use]
    pub fn by(address: IpAddr) -> Self {
        let IpAddr::V6(address) = address else {
            return Self::Itself;
        };
        let bits = address.to_bits();
        match SPECIAL.iter().find(|special| special.contains(bits)) {
            None => Self::Itself,
            Some(special) if special.carries_v4 => {
                let v4 = (bits >> (96 - special.length)) as u32; // cut to the 32 bits after the prefix
                Self::V4 {
                    address: Ipv4Addr::from_bits(v4),
                    offset: special.length,
                }
            }
            Some(special) => {
                let network = super::prefix(Ipv6Addr::from_bits(special.first).into(), special.length);
                Self::Hidden { network }
            }
        }
    }
}

impl Special {
    pub(crate) fn last(&self) -> u128 {
        self.first | (u128::MAX >> self.length)
    }

    fn contains(&self, bits: u128) -> bool {
        (self.first..=self.last()).contains(&bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_carried_address_is_found_in_each_kind() {
        let by = |text: &str| Carried::by(text.parse().unwrap());
        let carried = |offset| Carried::V4 {
            address: Ipv4Addr::new(192, 0, 2, 33),
            offset,
        };
        assert_eq!(by("::192.0.2.33"), carried(96));
        assert_eq!(by("::ffff:192.0.2.33"), carried(96));
        assert_eq!(by("64:ff9b::192.0.2.33"), carried(96));
        assert_eq!(by("2002:c000:221:ffff::1"), carried(16));
        assert!(
            matches!(by("2001:0:1::1"), Carried::Hidden { network } if network.to_string() == "2001::/32")
        );
        for text in [
            "192.0.2.33",
            "::1:0:0",
            "64:ff9b:1::1",
            "2001:1::",
            "2003::",
            "2001:db8::1",
        ] {
            assert_eq!(by(text), Carried::Itself, "{text}");
        }
    }

    #[test]
    fn the_table_is_sorted_and_disjoint() {
        assert!(SPECIAL.windows(2).all(|pair| pair[0].last() < pair[1].first));
        assert!(
            SPECIAL
                .iter()
                .all(|special| special.first & (u128::MAX >> special.length) == 0)
        );
    }
}
