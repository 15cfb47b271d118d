//! A resolver that caches as RFC 7871 §7.3 allows never gives a client another answer than we would have.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use rand::rngs::SmallRng;
use rand::{RngExt, SeedableRng};
use steer_topology::Dns;

use crate::engine::Engine;
use crate::reply::Transport;
use crate::settings::Settings;
use crate::subnet::truncate;
use crate::testing::{ip, tables};

/// Random subnets that are asked for.
const SUBNETS: usize = 100_000;
/// NAT64 prefixes of the operator's.
const NAT64: [&str; 2] = ["2001:db8:64::/96", "2a00:64::/48"];

type Answer = Vec<IpAddr>;

/// Answers by family and network, and the lengths of those networks.
#[derive(Default)]
struct Cache {
    /// By ADDRESS/SCOPE PREFIX-LENGTH.
    covering: HashMap<(IpAddr, u8), Answer>,
    lengths: [BTreeSet<u8>; 2],
    /// By ADDRESS/SOURCE PREFIX-LENGTH, where SCOPE is longer: good for just the same question.
    exact: HashMap<(IpAddr, u8), Answer>,
}

impl Cache {
    fn keep(&mut self, address: IpAddr, source: u8, scope: u8, answer: &Answer) {
        let lengths = &mut self.lengths[usize::from(address.is_ipv6())];
        lengths.insert(scope);
        let network = truncate(address, scope);
        self.covering.insert((network, scope), answer.clone());
        if scope > source {
            self.exact.insert((address, source), answer.clone());
        }
    }

    /// Every cached answer that may be given to a client of ADDRESS/SOURCE.
    fn find(&self, address: IpAddr, source: u8) -> impl Iterator<Item = (u8, &Answer)> {
        let lengths = self.lengths[usize::from(address.is_ipv6())].range(..=source);
        let covering = lengths.filter_map(move |scope| {
            Some((*scope, self.covering.get(&(truncate(address, *scope), *scope))?))
        });
        covering.chain(self.exact.get(&(address, source)).map(|answer| (source, answer)))
    }
}

/// What we say to ADDRESS/SOURCE: scope and addresses.
fn direct(engine: &Engine, address: IpAddr, source: u8, rng: &mut SmallRng) -> (u8, Answer) {
    let (family, octets): (u8, Vec<u8>) = match address {
        IpAddr::V4(address) => (1, address.octets().to_vec()),
        IpAddr::V6(address) => (2, address.octets().to_vec()),
    };
    let length = usize::from(source).div_ceil(8);
    let mut query = vec![0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1];
    query.extend(b"\x03www\x07example\x03com\x00\x00\x01\x00\x01\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00");
    query.extend([8 + length as u8, 0, 8, 0, 4 + length as u8, 0, family, source, 0]);
    query.extend(&octets[..length]);
    let reply = engine
        .answer(&query, ip("127.0.0.1"), Transport::Tcp, 0, rng)
        .unwrap();
    let option = &reply.edns.as_ref().unwrap().options[4..]; // behind code and length
    assert_eq!((option[1], option[2]), (family, source), "as in the query");
    let addresses = reply.answers.iter().filter_map(|record| record.data.ip_addr());
    (option[3], addresses.collect())
}

fn ask(engine: &Engine, cache: &mut Cache, address: IpAddr, source: u8, rng: &mut SmallRng) {
    let width = if address.is_ipv4() { 32 } else { 128 };
    let source = source.clamp(1, width);
    let address = truncate(address, source);
    let (scope, answer) = direct(engine, address, source, rng);
    assert!(scope <= width && !answer.is_empty());
    for (by, cached) in cache.find(address, source) {
        assert_eq!(*cached, answer, "{address}/{source} by a cached /{by}");
    }
    cache.keep(address, source, scope, &answer);
}

/// Of all kinds: anywhere, and where IPv6 addresses carry IPv4 addresses.
fn random_address(rng: &mut SmallRng) -> IpAddr {
    let v4 = rng.random::<u32>();
    let carrying = |first: &str| {
        let first: Ipv6Addr = first.parse().unwrap();
        Ipv6Addr::from_bits(first.to_bits() | u128::from(v4)).into()
    };
    match rng.random_range(0..8) {
        0..3 => Ipv4Addr::from_bits(v4).into(),
        3 => Ipv6Addr::from_bits((rng.random::<u128>() >> 4) | (2 << 124)).into(),
        4 => Ipv4Addr::from_bits(v4).to_ipv6_mapped().into(),
        5 => carrying("64:ff9b::"),
        6 => carrying("2001:db8:64::"),
        // the 32 bits behind 2a00:64:0, without those of octet 8
        _ => {
            let (high, low) = (u128::from(v4 >> 16), u128::from(v4 & 0xffff));
            Ipv6Addr::from_bits((0x2a00_0064_u128 << 96) | (high << 64) | (low << 40)).into()
        }
    }
}

fn engine() -> Engine {
    let nat64 = NAT64.map(|text| steer_topology::Nat64::new(text.parse().unwrap()).unwrap());
    let dns = Dns {
        nat64: nat64.to_vec(),
        ..Dns::default()
    };
    let settings = Settings::load(&dns, None).unwrap();
    Engine::with(tables("[\"up\", \"nearest\", \"take 1\"]", &[]), settings)
}

#[test]
fn no_cached_answer_differs_from_the_direct_one_for_random_subnets() {
    let engine = engine();
    let mut cache = Cache::default();
    let mut rng = SmallRng::seed_from_u64(7871);
    for _ in 0..SUBNETS {
        let address = random_address(&mut rng);
        let source = if rng.random() {
            // what resolvers send
            if address.is_ipv4() { 24 } else { 56 }
        } else {
            rng.random_range(1..=128)
        };
        ask(&engine, &mut cache, address, source, &mut rng);
    }
}

#[test]
fn no_cached_answer_differs_from_the_direct_one_at_the_edges_of_all_classes() {
    let engine = engine();
    let mut cache = Cache::default();
    let mut rng = SmallRng::seed_from_u64(7871);
    let tables = engine.tables();
    let mut edges = 0;
    for range in tables.classes.ranges() {
        edges += 2;
        for address in [range.first, range.last] {
            ask(&engine, &mut cache, address, 128, &mut rng);
            ask(&engine, &mut cache, address, rng.random_range(1..=128), &mut rng);
        }
    }
    assert!(edges > 10_000, "{edges}");
}

#[test]
fn clients_of_a_nat64_prefix_are_located_by_their_ipv4_address_as_senders_too() {
    let engine = engine();
    let mut rng = SmallRng::seed_from_u64(1);
    for (client, _) in crate::testing::CLIENTS {
        let v4: Ipv4Addr = client.parse().unwrap();
        let (scope, expected) = direct(&engine, v4.into(), 32, &mut rng);
        for prefix in ["64:ff9b::", "2001:db8:64::", "::ffff:0:0"] {
            let first: Ipv6Addr = prefix.parse().unwrap();
            let v6 = Ipv6Addr::from_bits(first.to_bits() | u128::from(v4.to_bits()));
            assert_eq!(
                direct(&engine, v6.into(), 128, &mut rng),
                (scope + 96, expected.clone())
            );
            let plain = b"\x00\x01\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03www\x07example\x03com\x00\x00\x01\x00\x01";
            let reply = engine
                .answer(plain, v6.into(), Transport::Udp, 0, &mut rng)
                .unwrap();
            let addresses: Vec<_> = reply
                .answers
                .iter()
                .filter_map(|record| record.data.ip_addr())
                .collect();
            assert_eq!(addresses, expected);
        }
    }
}
