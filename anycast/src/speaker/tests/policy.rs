//! What reaches a peer: attributes of peer, prefix and `to`, and what was agreed on.

use std::net::SocketAddr;

use steer_health::Verdict;

use super::client::{Client, capabilities, open};
use super::{Running, fleet, free, prefix_of};
use crate::session::State;
use crate::wire::{self, Capabilities, Family, Message, RouteRefresh, Update};

const PEER: u32 = 64_500;

/// A peer with a policy and two prefixes, of which one follows a pool.
fn with_policies(listen: SocketAddr, peer_more: &str, prefix_more: &str) -> String {
    format!(
        "[[check]]\nname = \"web\"\nkind = \"tcp\"\n\
         [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [ {{ address = \"127.0.0.1:1\" }} ]\n\
         [bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"{listen}\"]\n\
         [[bgp.peer]]\naddress = \"127.0.0.1\"\nasn = {PEER}\npassive = true\n{peer_more}\n\
         [[anycast]]\nprefix = \"192.0.2.1/32\"\n{prefix_more}\n\
         [[anycast]]\nprefix = \"192.0.2.2/32\"\n{prefix_more}\nwhile_up = [\"pool:web\"]\n"
    )
}

fn routes(update: &Update) -> Vec<String> {
    let prefixes = update.reachable.iter().flat_map(|reach| &reach.prefixes);
    prefixes.map(ToString::to_string).collect()
}

#[tokio::test]
async fn attributes_of_peer_prefix_and_exception_arrive_together() {
    let listen = free();
    let text = with_policies(
        listen,
        "prepend = 1\nmed = 5\ncommunities = \"64500:100\"",
        "med = 10\ncommunities = [\"no-export\", \"64500:1:2\", \"rt:64500:7\"]\n\
         to = [{ peer = \"127.0.0.1\", prepend = 2, communities = \"graceful-shutdown\" }]",
    );
    let speaker = Running::start(fleet(&text)).await;
    let mut client = Client::session(listen, &open(PEER, capabilities())).await;
    let updates = client.first_round().await;
    let path = updates[0].path.as_ref().expect("a route");
    assert_eq!(path.asns().collect::<Vec<_>>(), [64_512; 4]);
    assert_eq!((path.med, path.local_pref), (Some(10), None));
    assert_eq!(path.communities, [(64_500 << 16) + 100, 0xffff_0000, 0xffff_ff01]);
    assert_eq!(path.large_communities, [[64_500, 1, 2]]);
    assert_eq!(path.extended_communities, [[0, 2, 0xfb, 0xf4, 0, 0, 0, 7]]);
    speaker.end().await;
}

#[tokio::test]
async fn a_prefix_that_is_kept_from_a_peer_says_so_in_the_status() {
    let listen = free();
    let text = with_policies(listen, "", "to = [{ peer = \"127.0.0.1\", announce = false }]");
    let speaker = Running::start(fleet(&text)).await;
    let mut client = Client::session(listen, &open(PEER, capabilities())).await;
    assert_eq!(client.first_round().await, vec![]);
    speaker
        .until_peer("the obstacle", |peer| {
            let route = peer.routes.get(&prefix_of("192.0.2.1/32"));
            route.is_some_and(|route| route.obstacle.is_some() && route.wanted && !route.announced)
        })
        .await;
    speaker.end().await;
}

#[tokio::test]
async fn a_provider_marks_its_routes_only_to_customer() {
    let listen = free();
    let text = with_policies(listen, "role = \"provider\"", "");
    let speaker = Running::start(fleet(&text)).await;
    let offer = Capabilities {
        roles: vec![wire::role_number(steer_topology::RoleName::Customer).0],
        ..capabilities()
    };
    let mut client = Client::session(listen, &open(PEER, offer)).await;
    let updates = client.first_round().await;
    let path = updates[0].path.as_ref().expect("a route");
    assert_eq!(path.only_to_customer, Some(64_512));
    let session = speaker.status.peers()[0].session.clone().expect("up");
    assert_eq!(session.role, Some(steer_topology::RoleName::Provider));
    assert_eq!(session.peer_role, Some(steer_topology::RoleName::Customer));
    speaker.end().await;
}

#[tokio::test]
async fn the_status_shows_what_the_peer_says_of_itself() {
    let listen = free();
    let speaker = Running::start(fleet(&with_policies(listen, "", ""))).await;
    let offer = Capabilities {
        hostname: Some("edge1".to_owned()),
        software: Some("test/1".to_owned()),
        extended_messages: true,
        ..capabilities()
    };
    let mut client = Client::session(listen, &open(PEER, offer)).await;
    client.first_round().await;
    let session = speaker.status.peers()[0].session.clone().expect("up");
    assert_eq!(
        (session.hostname.as_deref(), session.software.as_deref()),
        (Some("edge1"), Some("test/1"))
    );
    assert!(session.extended_messages && session.route_refresh && !session.enhanced_refresh);
    speaker.end().await;
}

#[tokio::test]
async fn a_route_is_acknowledged_once_the_peers_tcp_has_it() {
    let listen = free();
    let mut speaker = Running::start(fleet(&with_policies(listen, "", ""))).await;
    let mut client = Client::session(listen, &open(PEER, capabilities())).await;
    client.first_round().await;
    let (one, two) = (prefix_of("192.0.2.1/32"), prefix_of("192.0.2.2/32"));
    speaker
        .until_peer("the acknowledgement", |peer| {
            let (one, two) = (&peer.routes[&one], &peer.routes[&two]);
            one.announced && one.acknowledged && !two.announced && !two.acknowledged
        })
        .await;
    assert!(speaker.status.is_announced(&one) && !speaker.status.is_announced(&two));
    for verdict in [Verdict::Up, Verdict::Down] {
        speaker.verdict(verdict);
        let up = verdict == Verdict::Up;
        let update = client.update().await;
        assert_eq!(routes(&update).is_empty(), !up);
        speaker
            .until_peer("the change and its acknowledgement", |peer| {
                let route = &peer.routes[&two];
                (route.wanted, route.announced, route.acknowledged) == (up, up, true)
            })
            .await;
    }
    drop(client);
    speaker
        .until_peer("the loss", |peer| {
            peer.state != State::Established
                && peer
                    .routes
                    .values()
                    .all(|route| !route.announced && !route.acknowledged)
        })
        .await;
    speaker.end().await;
}

#[tokio::test]
async fn a_refresh_is_framed_where_both_know_how() {
    for enhanced_refresh in [false, true] {
        let listen = free();
        let speaker = Running::start(fleet(&with_policies(listen, "", ""))).await;
        let offer = Capabilities {
            enhanced_refresh,
            ..capabilities()
        };
        let mut client = Client::session(listen, &open(PEER, offer)).await;
        client.first_round().await;
        let request = RouteRefresh::request(Family::Ipv4Unicast);
        client.send(&wire::encode_route_refresh(request)).await;
        let mut story = Vec::new();
        while story.len() < if enhanced_refresh { 3 } else { 1 } {
            story.push(match client.said().await {
                Some(Message::RouteRefresh(mark)) => format!("mark {}", mark.subtype),
                Some(Message::Update(update)) => routes(&update).join(" "),
                other => panic!("{other:?}"),
            });
        }
        let want: &[&str] = if enhanced_refresh {
            &["mark 1", "192.0.2.1/32", "mark 2"]
        } else {
            &["192.0.2.1/32"]
        };
        assert_eq!(story, want);
        speaker.end().await;
    }
}

#[tokio::test]
async fn ipv4_routes_go_over_ipv6_where_the_peer_takes_them() {
    for extended_next_hop in [false, true] {
        let listener = std::net::TcpListener::bind((std::net::Ipv6Addr::LOCALHOST, 0)).expect("a free port");
        let listen = listener.local_addr().expect("bound");
        drop(listener);
        let text = format!(
            "[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"{listen}\"]\n\
             [[bgp.peer]]\naddress = \"::1\"\nasn = {PEER}\npassive = true\n\
             [[anycast]]\nprefix = \"192.0.2.1/32\"\n"
        );
        let speaker = Running::start(fleet(&text)).await;
        let offer = Capabilities {
            extended_next_hop,
            ..capabilities()
        };
        let mut client = Client::connect(listen.ip(), listen, |_| Ok(()))
            .await
            .expect("listening");
        client.establish(&open(PEER, offer)).await;
        let updates = client.first_round().await;
        if extended_next_hop {
            assert_eq!(updates[0].reachable[0].next_hop.address, listen.ip());
            assert_eq!(routes(&updates[0]), ["192.0.2.1/32"]);
        } else {
            assert_eq!(updates, vec![]);
        }
        speaker.end().await;
    }
}
