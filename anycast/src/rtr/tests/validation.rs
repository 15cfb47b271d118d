//! RFC 6811: examples by hand, and random VRPs against the definition written out.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use steer_topology::Asn;

use super::*;

fn asn(number: u32) -> Asn {
    Asn::new(number).unwrap()
}

fn validity(vrps: &[Vrp], prefix: &str, origin: u32) -> Validity {
    validate(vrps, &prefix.parse().unwrap(), asn(origin))
}

#[test]
fn a_route_is_valid_by_one_roa_whatever_the_others_say() {
    let vrps = [vrp("192.0.2.0/24", 24, 64_496), vrp("192.0.0.0/16", 32, 64_512)];
    assert_eq!(validity(&vrps, "192.0.2.0/24", 64_512), Validity::Valid);
    assert_eq!(validity(&vrps, "192.0.2.0/24", 64_496), Validity::Valid);
    assert_eq!(validity(&vrps, "192.0.2.0/24", 64_500), Validity::Invalid);
    assert_eq!(validity(&vrps, "198.51.100.0/24", 64_512), Validity::NotFound);
}

#[test]
fn a_host_route_of_an_anycast_service_needs_a_greatest_length_that_allows_it() {
    let short = [vrp("192.0.2.0/24", 24, 64_512)];
    assert_eq!(validity(&short, "192.0.2.53/32", 64_512), Validity::Invalid);
    let long = [vrp("192.0.2.0/24", 32, 64_512)];
    assert_eq!(validity(&long, "192.0.2.53/32", 64_512), Validity::Valid);
}

#[test]
fn as_0_forbids_and_never_allows() {
    let nobody = [vrp("192.0.2.0/24", 32, 0)];
    assert_eq!(validity(&nobody, "192.0.2.0/24", 64_512), Validity::Invalid);
}

#[test]
fn families_never_meet() {
    let all = [vrp("0.0.0.0/0", 32, 64_496), vrp("::/0", 128, 64_512)];
    assert_eq!(validity(&all, "2001:db8::/32", 64_512), Validity::Valid);
    assert_eq!(validity(&all, "192.0.2.0/24", 64_512), Validity::Invalid);
}

/// Few bits and few numbers, so that much meets.
fn some_prefix() -> impl Strategy<Value = Prefix> {
    (0_u8..8, 0_u8..=5).prop_map(|(top, length)| {
        let address = Ipv4Addr::new(top << 5, 0, 0, 0);
        Prefix::covering(address.into(), length).unwrap()
    })
}

fn some_vrp() -> impl Strategy<Value = Vrp> {
    (some_prefix(), 0_u8..3, 0_u32..3).prop_map(|(prefix, more, asn)| Vrp {
        prefix,
        max_length: prefix.length() + more,
        asn,
    })
}

/// RFC 6811 §2 on bits, and on nothing of ours.
fn model(vrps: &[Vrp], prefix: &Prefix, origin: u32) -> Validity {
    let bits = |prefix: &Prefix| match prefix.address() {
        std::net::IpAddr::V4(address) => address.to_bits(),
        std::net::IpAddr::V6(_) => unreachable!("only IPv4 here"),
    };
    let covers = |vrp: &&Vrp| {
        let length = u32::from(vrp.prefix.length());
        let shared = (bits(&vrp.prefix) ^ bits(prefix)).leading_zeros();
        vrp.prefix.length() <= prefix.length() && shared >= length
    };
    let covering: Vec<&Vrp> = vrps.iter().filter(covers).collect();
    if covering.is_empty() {
        return Validity::NotFound;
    }
    let matched = covering
        .iter()
        .any(|vrp| vrp.asn == origin && prefix.length() <= vrp.max_length && origin != 0);
    if matched {
        Validity::Valid
    } else {
        Validity::Invalid
    }
}

proptest! {
    #[test]
    fn validation_is_what_the_rfc_defines(
        vrps in prop::collection::vec(some_vrp(), 0..6), prefix in some_prefix(), origin in 1_u32..3,
    ) {
        prop_assert_eq!(validate(&vrps, &prefix, asn(origin)), model(&vrps, &prefix, origin));
    }

    /// What the client throws away changes no verdict on a prefix of ours.
    #[test]
    fn a_client_keeps_what_decides_and_nothing_else(
        vrps in prop::collection::btree_set(some_vrp(), 0..12),
        ours in prop::collection::btree_set(some_prefix(), 0..4),
        origin in 1_u32..3,
    ) {
        let mut client = machine::synced(&ours, &vrps);
        let kept = client.vrps().unwrap().clone();
        let wanted: BTreeSet<Vrp> = vrps
            .iter()
            .filter(|vrp| ours.iter().any(|prefix| vrp.covers(prefix)))
            .copied()
            .collect();
        prop_assert_eq!(&kept, &wanted);
        let all: Vec<Vrp> = vrps.into_iter().collect();
        for prefix in &ours {
            prop_assert_eq!(validate(&kept, prefix, asn(origin)), model(&all, prefix, origin));
        }
        while client.poll_action().is_some() {}
    }
}
