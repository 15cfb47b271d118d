//! What a configured peer asks for.

use std::net::SocketAddr;
use std::num::NonZeroU8;
use std::path::Path;
use std::time::Duration;

use steer_topology::{Bfd, BfdAuthKind, Fleet, Resolve};

use super::*;

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: &str, _: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }
}

/// A peer at 198.51.100.1, which is on no link of ours.
fn peer() -> Peer {
    let text = "[fleet]\nname = \"t\"\n[bgp]\nasn = 64512\nrouter_id = \"192.0.2.1\"\n\
                [[bgp.peer]]\naddress = \"198.51.100.1\"\nasn = 64500\n";
    let fleet = Fleet::parse(text, Path::new("steer.toml"), &NoNames).unwrap();
    let mut peer = fleet.bgp.unwrap().peers.remove(0);
    peer.bfd = Some(Bfd {
        interval: Duration::from_millis(50),
        multiplier: NonZeroU8::new(3).unwrap(),
        strict: false,
        auth: None,
    });
    peer
}

fn hops_of(reach: PeerReach, internal: bool, address: &str) -> Hops {
    let mut peer = peer();
    peer.reach = reach;
    peer.address = address.parse().unwrap();
    Target::of(&peer, internal).unwrap().unwrap().hops
}

#[test]
fn a_peer_without_bfd_gets_none() {
    let mut peer = peer();
    peer.bfd = None;
    assert!(Target::of(&peer, false).unwrap().is_none());
}

#[test]
fn intervals_and_addresses_are_those_of_the_peer() {
    let mut peer = peer();
    peer.source = Some("198.51.100.2".parse().unwrap());
    let target = Target::of(&peer, false).unwrap().unwrap();
    assert_eq!((target.peer, target.source), (peer.address, peer.source));
    assert_eq!(
        target.config.intervals,
        Intervals::both(Duration::from_millis(50))
    );
    assert_eq!(
        (target.config.multiplier.get(), target.config.role),
        (3, Role::Active)
    );
}

#[test]
fn how_far_a_peer_may_be_decides_the_port_and_the_ttl() {
    let far = "198.51.100.1";
    let n = |hops: u8| NonZeroU8::new(hops).unwrap();
    let multi = |minimum_ttl: u8| Hops::Multi { minimum_ttl };
    assert_eq!(hops_of(PeerReach::Default, false, far), Hops::Single);
    assert_eq!(hops_of(PeerReach::Default, true, far), multi(0));
    assert_eq!(hops_of(PeerReach::Default, true, "127.0.0.9"), Hops::Single);
    assert_eq!(hops_of(PeerReach::TtlSecurity(n(1)), true, far), Hops::Single);
    assert_eq!(hops_of(PeerReach::TtlSecurity(n(2)), false, far), multi(254));
    assert_eq!(hops_of(PeerReach::TtlSecurity(n(255)), false, far), multi(1));
    assert_eq!(hops_of(PeerReach::Multihop(n(8)), false, far), multi(0));
}

#[test]
fn the_key_is_read_without_white_space_around_it_and_a_bad_one_is_named() {
    let folder = std::env::temp_dir();
    let file = folder.join(format!("steer-bfd-key-{}", std::process::id()));
    let with_key = |key: &[u8]| {
        fs::write(&file, key).unwrap();
        let mut peer = peer();
        peer.bfd.as_mut().unwrap().auth = Some(BfdAuth {
            kind: BfdAuthKind::MeticulousKeyedSha1,
            key_id: 5,
            key_file: file.clone(),
        });
        let target = Target::of(&peer, false)?;
        Ok::<_, TargetError>(target.unwrap().config.auth)
    };
    let auth = Auth::new(BfdAuthKind::MeticulousKeyedSha1, 5, b"secret").unwrap();
    for key in [&b"secret"[..], b"secret\n", b" secret\r\n"] {
        assert_eq!(with_key(key).unwrap(), Some(auth.clone()));
    }
    let error = with_key(&[b'x'; 21]).unwrap_err().to_string();
    assert!(
        error.contains("198.51.100.1") && error.contains("21 octets"),
        "{error}"
    );
    assert!(!error.contains("xxx"), "{error}");
    fs::remove_file(&file).unwrap();
    let mut peer = peer();
    peer.bfd.as_mut().unwrap().auth = Some(BfdAuth {
        kind: BfdAuthKind::KeyedSha1,
        key_id: 1,
        key_file: file.clone(),
    });
    let error = Target::of(&peer, false).unwrap_err().to_string();
    assert!(error.contains(&*file.to_string_lossy()), "{error}");
}
