//! Who is one client, and what the other edges know it by.

use std::fmt;
use std::net::{IpAddr, Ipv6Addr};

use ring::{digest, hmac};

/// One client: a name that somebody vouches for, or where it comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::edge) enum Who<'a> {
    Named(&'a [u8]),
    At(IpAddr),
}

/// A client, as the store has it: the first 128 bits of HMAC-SHA-256 of its name. Who has no secret can find out an address by
/// trying all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ClientId(pub [u8; 16]);

impl ClientId {
    /// All clients that are too many.
    pub(super) const REST: Self = Self([0; 16]);
}

/// Shows that two edges have the same secret, and not which.
pub type Mark = [u8; 8];

/// What the edges of a fleet have in common, so that nobody else can read their clients' names.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret([u8; 32]);

/// Makes ids.
#[derive(Debug)]
pub(super) struct Ids {
    key: hmac::Key,
}

impl Secret {
    /// Of a text of any length.
    #[must_use]
    pub fn new(text: &[u8]) -> Self {
        let mut secret = [0; 32];
        secret.copy_from_slice(digest::digest(&digest::SHA256, text).as_ref());
        Self(secret)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Ids {
    pub(super) fn new(secret: Option<Secret>) -> Self {
        let Secret(secret) = secret.unwrap_or_else(|| Secret::new(b"steer rates: no secret"));
        Self {
            key: hmac::Key::new(hmac::HMAC_SHA256, &secret),
        }
    }

    pub(super) fn of(&self, client: Who<'_>) -> ClientId {
        ClientId(match client {
            Who::Named(name) => self.first(&[b"named", name]),
            Who::At(IpAddr::V4(address)) => self.first(&[b"at4", &address.octets()]),
            Who::At(IpAddr::V6(address)) => self.first(&[b"at6", &address.octets()]),
        })
    }

    pub(super) fn mark(&self) -> Mark {
        self.first(&[b"mark"])
    }

    fn first<const N: usize>(&self, parts: &[&[u8]]) -> [u8; N] {
        let mut context = hmac::Context::with_key(&self.key);
        for part in parts {
            context.update(part);
        }
        let tag = context.sign();
        let mut first = [0; N];
        for (to, from) in first.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        first
    }
}

/// What one host has: an IPv4 address, or 64 bits of an IPv6 address.
pub(super) fn host(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0).into()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_says_nothing_of_the_name_and_is_another_one_with_another_secret() {
        let (none, one) = (Ids::new(None), Ids::new(Some(Secret::new(b"s3cret"))));
        let clients = [
            Who::Named(b"key-1"),
            Who::Named(b"key-2"),
            Who::At("192.0.2.1".parse().unwrap()),
            Who::At("2001:db8::".parse().unwrap()),
        ];
        let ids = clients
            .iter()
            .flat_map(|&client| [none.of(client), one.of(client)]);
        let mut ids: Vec<_> = ids.collect();
        assert_eq!(ids, ids.clone());
        ids.sort();
        ids.dedup();
        assert_eq!(ids.len(), 8);
        assert_ne!(none.mark(), one.mark());
        assert_eq!(
            one.of(clients[0]),
            Ids::new(Some(Secret::new(b"s3cret"))).of(clients[0])
        );
        assert_eq!(format!("{:?}", Secret::new(b"s3cret")), "Secret");
    }
}
