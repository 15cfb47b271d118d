//! UPDATEs that were encoded a moment ago: peers with the same terms get the same octets.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use steer_topology::Prefix;

use crate::wire::{self, Family, NextHop, Outbound, Path};

/// Messages that are kept. A change is sent to all peers within a millisecond, and makes a few messages.
const KEPT: usize = 32;

/// The newest messages of all sessions of one speaker.
#[derive(Debug, Default)]
pub struct Encodings(Mutex<VecDeque<Encoding>>);

/// All that decides the octets beside the prefixes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) family: Family,
    /// `None`: a withdrawal.
    pub(super) route: Option<(NextHop, Arc<Path>)>,
    pub(super) outbound: Outbound,
}

#[derive(Debug)]
struct Encoding {
    shape: Shape,
    prefixes: Vec<Prefix>,
    /// The first that did not fit, or was of the other family.
    next: Option<Prefix>,
    message: Bytes,
}

impl Encodings {
    /// A message with as many of `prefixes` (not empty) as it holds, and how many those are.
    pub(super) fn encode(&self, shape: &Shape, prefixes: &[Prefix]) -> (Bytes, usize) {
        let known = self.find(shape, prefixes);
        known.unwrap_or_else(|| {
            let encoded = shape.encode(prefixes);
            self.keep(shape, prefixes, &encoded);
            encoded
        })
    }

    fn find(&self, shape: &Shape, prefixes: &[Prefix]) -> Option<(Bytes, usize)> {
        let known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = known
            .iter()
            .find(|known| known.shape == *shape && known.holds(prefixes))?;
        Some((known.message.clone(), known.prefixes.len()))
    }

    fn keep(&self, shape: &Shape, prefixes: &[Prefix], (message, count): &(Bytes, usize)) {
        let encoding = Encoding {
            shape: shape.clone(),
            prefixes: prefixes[..*count].to_vec(),
            next: prefixes.get(*count).copied(),
            message: message.clone(),
        };
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.truncate(KEPT - 1);
        known.push_front(encoding);
    }
}

impl Shape {
    fn encode(&self, prefixes: &[Prefix]) -> (Bytes, usize) {
        match &self.route {
            None => wire::encode_withdrawal(self.family, prefixes, &self.outbound),
            Some((next_hop, path)) => {
                wire::encode_reach(self.family, prefixes, *next_hop, path, &self.outbound)
            }
        }
    }
}

impl Encoding {
    /// Whether encoding `prefixes` anew would give this message.
    fn holds(&self, prefixes: &[Prefix]) -> bool {
        prefixes.starts_with(&self.prefixes) && prefixes.get(self.prefixes.len()) == self.next.as_ref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefixes(count: u32) -> Vec<Prefix> {
        let address = |number: u32| std::net::Ipv4Addr::from_bits(0x0a00_0000 + (number << 8));
        (0..count)
            .map(|number| Prefix::new(address(number).into(), 24).unwrap())
            .collect()
    }

    fn shape(next_hop: &str) -> Shape {
        Shape {
            family: Family::Ipv4Unicast,
            route: Some((
                next_hop.parse::<std::net::IpAddr>().unwrap().into(),
                Arc::default(),
            )),
            outbound: Outbound::PLAIN,
        }
    }

    #[test]
    fn the_same_change_has_the_same_octets_and_another_does_not() {
        let encodings = Encodings::default();
        let all = prefixes(3000); // more than one message
        let (first, count) = encodings.encode(&shape("192.0.2.1"), &all);
        let (again, same) = encodings.encode(&shape("192.0.2.1"), &all);
        assert!(count < all.len() && count == same);
        assert_eq!(first.as_ptr(), again.as_ptr(), "not encoded again");
        for (other, prefixes) in [("192.0.2.2", &all[..]), ("192.0.2.1", &all[..count])] {
            let fresh = encodings.encode(&shape(other), prefixes);
            assert_eq!(fresh, shape(other).encode(prefixes));
            assert_ne!(first.as_ptr(), fresh.0.as_ptr());
        }
    }

    #[test]
    fn only_the_newest_are_kept() {
        let encodings = Encodings::default();
        for last in 0..=u8::MAX {
            encodings.encode(&shape(&format!("192.0.2.{last}")), &prefixes(1));
        }
        assert_eq!(encodings.0.lock().unwrap().len(), KEPT);
    }
}
