//! TTLs and addresses as values; what they do on the wire is tested over loopback in `speaker/tests`.

use std::num::NonZeroU8;
use std::path::Path;

use steer_topology::{Fleet, Resolve};

use super::*;

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }
}

const ASN: u32 = 64_512;

fn peer(asn: u32) -> Peer {
    let text = format!(
        "[bgp]\nasn = {ASN}\nrouter_id = \"10.0.0.1\"\n[[bgp.peer]]\naddress = \"192.0.2.1\"\nasn = {asn}\n"
    );
    let fleet = Fleet::parse(&text, Path::new("steer.toml"), &NoNames).expect("a sound configuration");
    fleet.bgp.expect("[bgp]").peers.remove(0)
}

fn transport(peer: &Peer) -> Transport {
    Transport::of(peer, Asn::new(ASN).expect("not zero")).expect("a readable key")
}

#[test]
fn ttls_follow_the_reach() {
    let n = |hops| NonZeroU8::new(hops).expect("not zero");
    let ttls = |asn, reach| {
        let transport = transport(&Peer { reach, ..peer(asn) });
        (transport.ttl, transport.least_ttl)
    };
    assert_eq!(ttls(64_500, PeerReach::Default), (Some(1), None));
    assert_eq!(ttls(ASN, PeerReach::Default), (None, None));
    assert_eq!(ttls(64_500, PeerReach::Multihop(n(7))), (Some(7), None));
    assert_eq!(ttls(64_500, PeerReach::TtlSecurity(n(1))), (Some(255), Some(255)));
    assert_eq!(ttls(64_500, PeerReach::TtlSecurity(n(3))), (Some(255), Some(253)));
    assert_eq!(ttls(ASN, PeerReach::TtlSecurity(n(255))), (Some(255), Some(1)));
}

#[test]
fn a_link_local_peer_is_known_by_address_and_interface() {
    let scoped = Peer {
        address: "fe80::1".parse().expect("address"),
        interface: Some("lo".to_owned()),
        ..peer(64_500)
    };
    let scoped = transport(&scoped);
    let lo = nix::net::if_::if_nametoindex("lo").expect("every host has it");
    let from = |scope| SocketAddrV6::new("fe80::1".parse().expect("address"), 4711, 0, scope).into();
    assert!(scoped.is(from(lo)));
    assert!(!scoped.is(from(lo + 1)));
    assert_eq!(scoped.remote(), "[fe80::1%lo]:179");
    let plain = transport(&peer(64_500));
    assert!(plain.is("[::ffff:192.0.2.1]:4711".parse().expect("address")));
    assert!(!plain.is("192.0.2.2:4711".parse().expect("address")));
}
