//! `sticky`: rendezvous hashing. Each candidate has a score from its own address and the client's network alone, so
//! that the coming and going of others moves nobody between those that stay.

use std::net::IpAddr;

use steer_topology::Sticky;
use steer_topology::geography::Carried;

use super::{Candidate, simple};

/// A client's address, as far as it decides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Network {
    address: IpAddr,
    /// Bits before an IPv4 address that an IPv6 address carries.
    offset: u8,
}

/// An IPv6 address that carries an IPv4 address belongs with it.
pub(crate) fn network(address: IpAddr) -> Network {
    match Carried::by(address) {
        Carried::V4 { address, offset } => Network {
            address: address.into(),
            offset,
        },
        Carried::Itself | Carried::Hidden { .. } => Network { address, offset: 0 },
    }
}

impl Network {
    fn length(self, lengths: Sticky) -> u8 {
        if self.address.is_ipv4() {
            lengths.v4
        } else {
            lengths.v6
        }
    }

    /// How many leading bits of the address as it was sent decide.
    pub(crate) fn scope(self, lengths: Sticky) -> u8 {
        self.offset + self.length(lengths)
    }

    fn key(self, lengths: Sticky) -> [u8; 17] {
        octets(crate::subnet::truncate(self.address, self.length(lengths)))
    }
}

/// Highest score first. Weight 0 is left out while another weight is there.
pub(super) fn sticky(list: &mut Vec<Candidate>, network: Network, lengths: Sticky) {
    let all_zero = simple::drop_weightless(list);
    let key = network.key(lengths);
    list.sort_by_cached_key(|candidate| {
        let weight = if all_zero { 1 } else { candidate.weight };
        std::cmp::Reverse(score(&key, candidate.address, weight))
    });
}

/// -weight / ln(u) with u uniform in (0, 1): the highest of such scores is each one's with a chance in proportion to
/// its weight. The bits of a positive float sort as it does.
fn score(key: &[u8], candidate: IpAddr, weight: u64) -> u64 {
    let hash = hash(key.iter().chain(&octets(candidate)));
    let uniform = ((hash >> 11) as f64 + 0.5) / (1_u64 << 53) as f64;
    (weight as f64 / -uniform.ln()).to_bits()
}

/// A family's number and the address; families never meet.
fn octets(address: IpAddr) -> [u8; 17] {
    let mut octets = [0; 17];
    let bits = match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => {
            octets[0] = 1;
            address.to_bits()
        }
    };
    octets
        .iter_mut()
        .skip(1)
        .zip(bits.to_be_bytes())
        .for_each(|(to, from)| *to = from);
    octets
}

/// FNV-1a, then the finalizer of SplitMix64. Written out, since the standard library's hash may change, and all
/// servers of a fleet must agree over versions.
fn hash<'o>(octets: impl Iterator<Item = &'o u8>) -> u64 {
    let fnv = octets.fold(0xcbf2_9ce4_8422_2325_u64, |hash, octet| {
        (hash ^ u64::from(*octet)).wrapping_mul(0x0100_0000_01b3)
    });
    let mixed = (fnv ^ (fnv >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}
