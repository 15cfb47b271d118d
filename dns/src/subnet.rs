//! The client subnet option, RFC 7871.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A client subnet as a query carries it. Address bits beyond `source` are zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Subnet {
    /// The family as sent: 1, 2, or 0, which some clients send with SOURCE PREFIX-LENGTH 0.
    family: u16,
    source: u8,
    address: IpAddr,
}

/// The option breaks RFC 7871 §6. The query is refused with FORMERR.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidSubnet {
    #[error("shorter than its fixed part")]
    Short,
    #[error("address family {0}; 1 and 2 are known")]
    Family(u16),
    #[error("SOURCE PREFIX-LENGTH {0} does not fit the family")]
    Source(u8),
    #[error("SCOPE PREFIX-LENGTH {0} in a query; it must be 0")]
    Scope(u8),
    #[error("{got} address octets where {want} are needed")]
    Length { got: usize, want: usize },
    #[error("address bits beyond SOURCE PREFIX-LENGTH")]
    Surplus,
}

/// Where a client is, for the choice of a class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Locate {
    /// By this address.
    By(IpAddr),
    /// Not at all: the client asked not to be located.
    Nobody,
}

impl Subnet {
    pub(crate) fn read(option: &[u8]) -> Result<Self, InvalidSubnet> {
        let [family0, family1, source, scope, octets @ ..] = option else {
            return Err(InvalidSubnet::Short);
        };
        let (family, source, scope) = (u16::from_be_bytes([*family0, *family1]), *source, *scope);
        let width = match family {
            0 if source == 0 => 0,
            1 => 32,
            2 => 128,
            _ => return Err(InvalidSubnet::Family(family)),
        };
        if source > width {
            return Err(InvalidSubnet::Source(source));
        }
        // RFC 7871 §6: "In queries, it MUST be set to 0."
        if scope != 0 {
            return Err(InvalidSubnet::Scope(scope));
        }
        // RFC 7871 §6: the address has just the octets that the prefix needs.
        let want = usize::from(source).div_ceil(8);
        if octets.len() != want {
            return Err(InvalidSubnet::Length {
                got: octets.len(),
                want,
            });
        }
        let address = widen(family, octets);
        if truncate(address, source) != address {
            return Err(InvalidSubnet::Surplus);
        }
        Ok(Self {
            family,
            source,
            address,
        })
    }

    /// Whom the answer is for. RFC 7871 §7.1.2: with SOURCE PREFIX-LENGTH 0 the client asks not to be located.
    /// We then use neither the subnet nor the resolver's address: the reply must carry scope 0, which a
    /// resolver may give to all its clients, so it should not be tailored to one place.
    pub(crate) fn locate(&self) -> Locate {
        if self.source == 0 {
            Locate::Nobody
        } else {
            Locate::By(self.address)
        }
    }

    /// Appends the option's value in a reply. RFC 7871 §7.2.1: FAMILY, SOURCE and ADDRESS as in the query.
    pub(crate) fn write(&self, scope: u8, value: &mut Vec<u8>) {
        value.extend(self.family.to_be_bytes());
        value.extend([self.source, scope]);
        let octets = usize::from(self.source).div_ceil(8);
        match self.address {
            IpAddr::V4(address) => value.extend(address.octets().iter().take(octets)),
            IpAddr::V6(address) => value.extend(address.octets().iter().take(octets)),
        }
    }
}

fn widen(family: u16, octets: &[u8]) -> IpAddr {
    if family == 2 {
        let mut wide = [0; 16];
        wide.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        Ipv6Addr::from(wide).into()
    } else {
        let mut wide = [0; 4];
        wide.iter_mut().zip(octets).for_each(|(to, from)| *to = *from);
        Ipv4Addr::from(wide).into()
    }
}

/// Clears the bits beyond `length`.
pub(crate) fn truncate(address: IpAddr, length: u8) -> IpAddr {
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(length.min(32))).unwrap_or(0);
            Ipv4Addr::from(u32::from(address) & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX
                .checked_shl(128 - u32::from(length.min(128)))
                .unwrap_or(0);
            Ipv6Addr::from(u128::from(address) & mask).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn bad_options_are_refused_by_cause() {
        assert_eq!(Subnet::read(&[0, 1, 24]), Err(InvalidSubnet::Short));
        assert_eq!(Subnet::read(&[0, 3, 8, 0, 1]), Err(InvalidSubnet::Family(3)));
        assert_eq!(Subnet::read(&[0, 0, 8, 0, 1]), Err(InvalidSubnet::Family(0)));
        assert_eq!(
            Subnet::read(&[0, 1, 33, 0, 1, 2, 3, 4, 5]),
            Err(InvalidSubnet::Source(33))
        );
        assert_eq!(
            Subnet::read(&[0, 1, 24, 9, 1, 2, 3]),
            Err(InvalidSubnet::Scope(9))
        );
        assert_eq!(
            Subnet::read(&[0, 1, 24, 0, 1, 2]),
            Err(InvalidSubnet::Length { got: 2, want: 3 })
        );
        assert_eq!(
            Subnet::read(&[0, 1, 24, 0, 1, 2, 3, 0]),
            Err(InvalidSubnet::Length { got: 4, want: 3 })
        );
        assert_eq!(Subnet::read(&[0, 1, 20, 0, 1, 2, 3]), Err(InvalidSubnet::Surplus));
    }

    #[test]
    fn source_zero_is_nobody_in_any_family() {
        for family in 0..=2 {
            assert_eq!(Subnet::read(&[0, family, 0, 0]).unwrap().locate(), Locate::Nobody);
        }
    }

    proptest! {
        #[test]
        fn what_is_read_is_written_back(octets in prop::collection::vec(any::<u8>(), 0..22)) {
            if let Ok(subnet) = Subnet::read(&octets) {
                let mut written = Vec::new();
                subnet.write(0, &mut written);
                prop_assert_eq!(written, octets);
            }
        }
    }
}
