//! Who gets in: keys, TTLs, interfaces.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use steer_labs::netns::{self, World};

use super::client::{Client, capabilities, open};
use super::{PATIENCE, Running, fleet, free};
use crate::session::State;
use crate::speaker::{BindError, PeerStatus, Speaker};
use crate::transport::Md5Key;

const PEER: u32 = 64_500;

/// How long a handshake that must fail is given: a SYN is repeated after a second.
const IN_VAIN: Duration = Duration::from_millis(1_500);

struct Keys {
    dir: tempfile::TempDir,
}

impl Keys {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().expect("a folder"),
        }
    }

    fn write(&self, name: &str, key: &str) -> String {
        let path = self.dir.path().join(name);
        fs::write(&path, format!("{key}\n")).expect("written");
        path.display().to_string()
    }

    fn key(&self, name: &str) -> Md5Key {
        Md5Key::read(&self.dir.path().join(name)).expect("a key")
    }
}

fn listening(listen: SocketAddr, peer: IpAddr, more: &str) -> String {
    format!(
        "[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"{listen}\"]\n\
         [[bgp.peer]]\naddress = \"{peer}\"\nasn = {PEER}\npassive = true\n{more}\n\
         [[anycast]]\nprefix = \"192.0.2.1/32\"\nnext_hop = \"192.0.2.9\"\n"
    )
}

fn free_v6() -> SocketAddr {
    let listener = std::net::TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).expect("a free port");
    listener.local_addr().expect("bound")
}

/// Both families, since the kernel has different code for each.
fn places() -> [(IpAddr, SocketAddr); 2] {
    [
        (Ipv4Addr::LOCALHOST.into(), free()),
        (Ipv6Addr::LOCALHOST.into(), free_v6()),
    ]
}

#[tokio::test]
async fn the_right_key_gets_in_and_a_wrong_one_or_none_hears_nothing() {
    for (address, listen) in places() {
        let keys = Keys::new();
        let file = keys.write("right", "sesame");
        keys.write("wrong", "simsim");
        let more = format!("password_file = \"{file}\"");
        let speaker = Running::start(fleet(&listening(listen, address, &more))).await;
        let signed = |name: &'static str| {
            let key = keys.key(name);
            Client::connect(address, listen, move |socket| key.sign(socket, address))
        };
        for refused in [
            tokio::time::timeout(IN_VAIN, signed("wrong")).await,
            tokio::time::timeout(IN_VAIN, Client::connect(address, listen, |_| Ok(()))).await,
        ] {
            assert!(refused.is_err(), "no answer at all");
        }
        let mut client = signed("right").await.expect("the key is right");
        client.establish(&open(PEER, capabilities())).await;
        speaker
            .until_peer("the session", |peer| peer.session.is_some())
            .await;
        assert!(speaker.status.peers()[0].transport.md5);
        speaker.end().await;
    }
}

#[tokio::test]
async fn a_dial_is_signed_too() {
    for (right, keys) in [(true, Keys::new()), (false, Keys::new())] {
        let ours = keys.write("ours", "sesame");
        keys.write("theirs", if right { "sesame" } else { "simsim" });
        let address: IpAddr = Ipv4Addr::LOCALHOST.into();
        let socket =
            socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).expect("a socket");
        keys.key("theirs")
            .sign(&socket, address)
            .expect("a kernel with TCP MD5");
        socket
            .bind(&SocketAddr::new(address, 0).into())
            .expect("a free port");
        socket.listen(4).expect("bound");
        socket.set_nonblocking(true).expect("a socket");
        let listener = tokio::net::TcpListener::from_std(socket.into()).expect("a listener");
        let port = listener.local_addr().expect("bound").port();
        let text = format!(
            "[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\n\
             [[bgp.peer]]\naddress = \"{address}\"\nport = {port}\nasn = {PEER}\npassword_file = \"{ours}\"\n"
        );
        let speaker = Running::start(fleet(&text)).await;
        let limit = if right { PATIENCE } else { IN_VAIN };
        let accepted = tokio::time::timeout(limit, listener.accept()).await;
        assert_eq!(accepted.is_ok(), right);
        speaker.end().await;
    }
}

#[tokio::test]
async fn a_key_file_that_is_not_there_is_named_with_the_peer() {
    // Gone between the check of the file and the start.
    let mut fleet = (*fleet(&listening(free(), Ipv4Addr::LOCALHOST.into(), ""))).clone();
    fleet.bgp.as_mut().expect("[bgp]").peers[0].password_file = Some("/nowhere/peer.md5".into());
    let error = Speaker::bind(&fleet, None).await.expect_err("no key");
    let text = error.to_string();
    assert!(
        text.contains("127.0.0.1") && text.contains("/nowhere/peer.md5"),
        "{text}"
    );
}

#[tokio::test]
async fn a_tcp_ao_key_is_taken_or_the_start_says_what_the_kernel_lacks() {
    let keys = Keys::new();
    let file = keys.write("ao", "sesame");
    let more = format!("tcp_ao = {{ key_file = \"{file}\", send_id = 1, receive_id = 2 }}\n");
    let fleet = fleet(&listening(free(), Ipv4Addr::LOCALHOST.into(), &more));
    match Speaker::bind(&fleet, None).await {
        Ok(speaker) => {
            let transport = speaker.status().peers()[0].transport.clone();
            assert!(transport.tcp_ao && !transport.md5);
        }
        Err(error) => {
            println!("this kernel has no TCP-AO: only the error is tested");
            let text = error.to_string();
            assert!(
                text.starts_with("peer 127.0.0.1: tcp_ao: this kernel has no TCP-AO"),
                "{text}"
            );
            assert!(!text.contains("sesame"), "{text}");
        }
    }
}

#[tokio::test]
async fn two_peers_at_one_address_need_one_key() {
    let keys = Keys::new();
    let file = keys.write("one", "sesame");
    let text = format!(
        "{}[[bgp.peer]]\naddress = \"127.0.0.1\"\nport = 1790\nasn = 64501\npassive = true\n",
        listening(
            free(),
            Ipv4Addr::LOCALHOST.into(),
            &format!("password_file = \"{file}\"")
        )
    );
    let error = Speaker::bind(&fleet(&text), None).await.expect_err("two keys");
    assert!(matches!(error, BindError::TwoKeys { .. }), "{error}");
}

fn ttl(socket: &socket2::Socket, address: IpAddr, ttl: u32) -> io::Result<()> {
    if address.is_ipv4() {
        socket.set_ttl_v4(ttl)
    } else {
        socket.set_unicast_hops_v6(ttl)
    }
}

#[tokio::test]
async fn who_comes_from_too_far_away_is_closed_unread() {
    for (address, listen) in places() {
        // The second peer takes any TTL, so that the listener cannot filter: each connection is looked at.
        let other = if address.is_ipv4() { "127.0.0.9" } else { "::9" };
        for more in [
            String::new(),
            format!("[[bgp.peer]]\naddress = \"{other}\"\nasn = 64501\npassive = true\n"),
        ] {
            let text = listening(listen, address, "ttl_security = 2") + &more;
            let speaker = Running::start(fleet(&text)).await;
            for far in [1, 64, 253] {
                let knock = Client::connect(address, listen, |socket| ttl(socket, address, far));
                // Dropped by the listener, or closed before a word is said.
                if let Ok(Ok(mut client)) = tokio::time::timeout(IN_VAIN, knock).await {
                    assert!(client.next().await.is_none(), "TTL {far} gets an answer");
                }
            }
            assert!(!speaker.status.peers()[0].state.is_connected());
            for near in [254, 255] {
                let mut client = Client::connect(address, listen, |socket| ttl(socket, address, near))
                    .await
                    .expect("listening");
                client.establish(&open(PEER, capabilities())).await;
                drop(client);
                speaker
                    .until_peer("the end of the session", |peer| !peer.state.is_connected())
                    .await;
            }
            speaker.end().await;
        }
    }
}

/// Runs a speaker until its peer's route has come and its own is acknowledged.
fn run_until_routed(text: &str) -> PeerStatus {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(async {
        let speaker = Running::start(fleet(text)).await;
        let routed = |peer: &PeerStatus| {
            let acknowledged = peer.routes.values().all(|route| route.acknowledged);
            peer.state == State::Established && peer.prefixes_in == 1 && acknowledged
        };
        speaker.until_peer("routes both ways", routed).await;
        let peer = speaker.status.peers()[0].clone();
        // Until the other end has seen the same, it needs us.
        let gone = speaker.until_peer("the other's withdrawal", |peer| peer.inbound.withdrawn == 1);
        let _ = tokio::time::timeout(Duration::from_secs(2), gone).await;
        speaker.end().await;
        peer
    })
}

/// Two hosts on one link, with nothing but link-local addresses.
#[test]
fn link_local_peers_on_an_interface_exchange_ipv4_routes() {
    const NAME: &str = "link_local_peers_on_an_interface_exchange_ipv4_routes";
    if let Err(reason) = netns::can_run() {
        println!("skip: {NAME}: {reason}");
        return;
    }
    let world = World::new("unnumbered").expect("a world");
    let (one, other) = (
        world.node("one").expect("a node"),
        world.node("two").expect("a node"),
    );
    world
        .link((&one, "eth0"), (&other, "eth1"))
        .expect("a link of two nodes");
    one.address("eth0", "fe80::1/64").expect("an address");
    other.address("eth1", "fe80::2/64").expect("an address");
    let text = |interface: &str, peer: &str, asn: u32, peer_asn: u32, prefix: &str| {
        format!(
            "[bgp]\nasn = {asn}\nrouter_id = \"10.0.0.{}\"\nlisten = [\"[::]:1790\"]\n\
             [[bgp.peer]]\naddress = \"{peer}\"\nport = 1790\ninterface = \"{interface}\"\nasn = {peer_asn}\n\
             connect_retry = \"1s\"\n[[anycast]]\nprefix = \"{prefix}\"\n",
            asn - 64_511
        )
    };
    let speakers = [
        (one, text("eth0", "fe80::2", 64_512, 64_513, "192.0.2.1/32")),
        (other, text("eth1", "fe80::1", 64_513, 64_512, "198.51.100.1/32")),
    ];
    let handles = speakers.map(|(node, text)| {
        // A runtime of its own: the sockets belong to the namespace of the thread that makes them.
        node.thread("speaker", move || run_until_routed(&text))
            .expect("the node runs")
    });
    for handle in handles {
        let peer = handle
            .join()
            .expect("the speaker ends in good order")
            .expect("inside");
        let session = peer.session.expect("up");
        assert!(session.extended_next_hop);
        assert!(
            peer.routes
                .values()
                .all(|route| route.announced && route.obstacle.is_none())
        );
    }
}
