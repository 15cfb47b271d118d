//! Keys and TTLs as values; what they do on the wire is tested over loopback in `speaker/tests`.

use std::num::NonZeroU8;

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

fn key_of(content: &[u8]) -> Result<Md5Key, KeyError> {
    let dir = tempfile::tempdir().expect("a folder");
    let path = dir.path().join("peer.md5");
    fs::write(&path, content).expect("written");
    Md5Key::read(&path)
}

#[test]
fn white_space_around_a_key_does_not_count() {
    let key = key_of(b" \tse cret\r\n\n").expect("a key");
    assert_eq!(&*key.0, b"se cret");
}

#[test]
fn a_key_has_1_to_80_octets_and_the_error_names_the_file() {
    assert!(key_of(&[b'x'; 80]).is_ok());
    for content in [&b"\n"[..], &[b'x'; 81][..]] {
        let error = key_of(content).expect_err("no key").to_string();
        assert!(
            error.contains("peer.md5") && error.contains("want 1 to 80"),
            "{error}"
        );
    }
    let error = Md5Key::read(Path::new("/nowhere/peer.md5"))
        .expect_err("no file")
        .to_string();
    assert!(error.contains("/nowhere/peer.md5"), "{error}");
}

#[test]
fn a_key_is_never_shown() {
    let key = key_of(b"sesame").expect("a key");
    let shown = format!("{key:?}");
    assert!(!shown.contains("sesame") && !shown.contains("115"), "{shown}");
}

#[test]
fn a_key_is_laid_out_as_the_kernel_wants_it() {
    let key = key_of(b"sesame").expect("a key");
    let v4 = key.request("192.0.2.1".parse().expect("address"));
    assert_eq!(v4[..8], [2, 0, 0, 0, 192, 0, 2, 1]);
    assert_eq!(v4[128..144], *b"\0\0\x06\0\0\0\0\0sesame\0\0");
    let v6 = key.request("2001:db8::1".parse().expect("address"));
    assert_eq!(v6[..10], [10, 0, 0, 0, 0, 0, 0, 0, 0x20, 0x01]);
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

#[test]
fn a_kernel_without_tcp_ao_is_told_with_what_to_do() {
    match tcp_ao_supported() {
        Ok(()) => println!("this kernel has TCP-AO"),
        Err(error) => {
            let text = error.to_string();
            assert!(
                text.contains("CONFIG_TCP_AO") && text.contains("password_file"),
                "{text}"
            );
        }
    }
}
