//! How many connections there may be (RFC 7766 §6.2.2 and §6.2.3): in all, and of one client network.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::count::Dropped;
use crate::subnet::truncate;

/// Bits that stand for one client: what one site usually gets.
const V4_CLIENT: u8 = 24;
/// The same for IPv6.
const V6_CLIENT: u8 = 56;

/// Lets connections in, up to two bounds.
#[derive(Debug)]
pub(super) struct Gate {
    in_all: usize,
    per_client: usize,
    inside: Mutex<Inside>,
}

#[derive(Debug, Default)]
struct Inside {
    total: usize,
    by_client: HashMap<IpAddr, usize>,
}

/// Which bound was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Full {
    InAll,
    OfClient,
}

impl From<Full> for Dropped {
    fn from(full: Full) -> Self {
        match full {
            Full::InAll => Self::Connections,
            Full::OfClient => Self::ConnectionsOfClient,
        }
    }
}

/// One connection's place; given back when dropped.
#[derive(Debug)]
pub(super) struct Place {
    gate: Arc<Gate>,
    client: IpAddr,
}

impl Gate {
    pub(super) fn new(in_all: usize, per_client: usize) -> Arc<Self> {
        Arc::new(Self {
            in_all,
            per_client,
            inside: Mutex::default(),
        })
    }

    /// A place for a connection from `peer`.
    pub(super) fn enter(self: &Arc<Self>, peer: IpAddr) -> Result<Place, Full> {
        let client = network(peer);
        let mut inside = self.lock();
        if inside.total >= self.in_all {
            return Err(Full::InAll);
        }
        let of_client = inside.by_client.get(&client).copied().unwrap_or_default();
        if of_client >= self.per_client {
            return Err(Full::OfClient);
        }
        inside.total += 1;
        inside.by_client.insert(client, of_client + 1);
        Ok(Place {
            gate: Arc::clone(self),
            client,
        })
    }

    /// Whether more than half of either bound is taken: the time to ask whether clients are who they say.
    pub(super) fn is_busy(&self, peer: IpAddr) -> bool {
        let inside = self.lock();
        let of_client = inside.by_client.get(&network(peer)).copied().unwrap_or_default();
        inside.total > self.in_all / 2 || of_client > self.per_client / 2
    }

    /// Counts stay right whatever panics: nothing between two changes can.
    fn lock(&self) -> MutexGuard<'_, Inside> {
        self.inside.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What stands for one client.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        peer @ IpAddr::V4(_) => truncate(peer, V4_CLIENT),
        peer @ IpAddr::V6(_) => truncate(peer, V6_CLIENT),
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut inside = self.gate.lock();
        inside.total = inside.total.saturating_sub(1);
        if let Some(count) = inside.by_client.get_mut(&self.client) {
            *count -= 1;
            if *count == 0 {
                inside.by_client.remove(&self.client);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_client_network_and_all_together_are_bounded_and_places_come_back() {
        let gate = Gate::new(5, 2);
        let mut inside = vec![
            gate.enter(ip("192.0.2.1")).unwrap(),
            gate.enter(ip("::ffff:192.0.2.200")).unwrap(),
            gate.enter(ip("2001:db8:0:1::1")).unwrap(),
            gate.enter(ip("2001:db8:0:fe::1")).unwrap(),
        ];
        assert_eq!(gate.enter(ip("192.0.2.3")).unwrap_err(), Full::OfClient);
        assert_eq!(gate.enter(ip("2001:db8:0:ff::1")).unwrap_err(), Full::OfClient);
        assert!(gate.is_busy(ip("203.0.113.1")), "four of five");
        inside.push(gate.enter(ip("2001:db8:0:100::1")).unwrap());
        assert_eq!(gate.enter(ip("198.51.100.1")).unwrap_err(), Full::InAll);
        inside.remove(0);
        inside.push(gate.enter(ip("192.0.2.3")).unwrap());
        drop(inside);
        assert!(!gate.is_busy(ip("192.0.2.3")));
        let left = gate.lock();
        assert_eq!((left.total, left.by_client.len()), (0, 0));
    }
}
