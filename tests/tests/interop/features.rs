//! What not every peer can do: security of the transport, attributes, graceful restart, roles, large messages.
//!
//! Each case shows both that it works and that it would be noticed if it did not.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use steer_labs::netns::World;
use steer_tests::peers::{Feature, Features, Opens, Peer};

use crate::stage::{Plan, Stage, Transport};
use crate::{Case, case};

/// A stage of this file: its feature, its name in the world, what it does.
pub(crate) type Scene = (Feature, &'static str, fn(&World, &dyn Peer) -> Vec<Case>);

pub(crate) const SCENES: [Scene; 7] = [
    (Feature::Password, "TCP MD5", md5),
    (Feature::TtlSecurity, "GTSM", gtsm),
    (Feature::Attributes, "attributes and route refresh", attributes),
    (Feature::GracefulRestart, "graceful restart", graceful_restart),
    (Feature::Role, "roles", roles),
    (Feature::ExtendedMessages, "extended messages", extended_messages),
    (
        Feature::ExtendedNextHop,
        "IPv4 over an IPv6 next hop",
        extended_next_hop,
    ),
];

fn plain(features: Features) -> Plan {
    Plan::new(64_512, Opens::Steer, Transport::V4).with(features)
}

fn md5(world: &World, peer: &dyn Peer) -> Vec<Case> {
    let password = Some("correct horse".replace(' ', "-"));
    let plan = plain(Features {
        password,
        ..Features::default()
    });
    let mut stage = Stage::set(world, "md5", peer, plan);
    let with_password = |stage: &mut Stage<'_>, password: &str| {
        fs::write(stage.dir.join("peer.md5"), password).unwrap();
        stage.peer_keys = "password_file = \"peer.md5\"\n".to_owned();
        stage.start_steer();
    };
    let since = Instant::now();
    with_password(&mut stage, "correct-horse\n");
    stage.learned();
    let right = case("TCP MD5 with the right password", since);
    with_password(&mut stage, "wrong-horse\n");
    let since = Instant::now();
    stage.stays_without_routes();
    vec![right, case("TCP MD5 with another password: no session", since)]
}

fn gtsm(world: &World, peer: &dyn Peer) -> Vec<Case> {
    let plan = plain(Features {
        ttl_security: true,
        ..Features::default()
    });
    let mut stage = Stage::set(world, "gtsm", peer, plan);
    stage.peer_keys = "ttl_security = 1\n".to_owned();
    let since = Instant::now();
    stage.start_steer();
    stage.learned();
    let both = case("GTSM on both sides", since);
    stage.peer_keys = String::new();
    stage.start_steer();
    let since = Instant::now();
    stage.stays_without_routes();
    vec![both, case("GTSM on the peer alone: no session", since)]
}

fn attributes(world: &World, peer: &dyn Peer) -> Vec<Case> {
    let mut plan = plain(Features::default());
    plan.decorated = true;
    let mut stage = Stage::set(world, "attributes", peer, plan);
    let since = Instant::now();
    stage.start_steer();
    stage.learned();
    let seen = case(
        "communities of all three kinds, MED and prepend seen intact",
        since,
    );
    if let Some(why) = peer.lacks(Feature::RouteRefresh) {
        let measured = format!("not there: {why}");
        let name = "route refresh: the same routes again";
        return vec![seen, Case { name, measured }];
    }
    let since = Instant::now();
    stage.refresh();
    stage.logged("the peer asks for our routes again", "ipv4-unicast");
    stage.learned();
    vec![seen, case("route refresh: the same routes again", since)]
}

fn graceful_restart(world: &World, peer: &dyn Peer) -> Vec<Case> {
    let plan = plain(Features {
        graceful_restart: true,
        ..Features::default()
    });
    let mut stage = Stage::set(world, "restart", peer, plan);
    stage.peer_keys = "graceful_restart = { restart_time = \"15s\" }\n".to_owned();
    stage.start_steer();
    stage.learned();
    stage.steer().kill().unwrap();
    let since = Instant::now();
    stage.keeps_our_prefixes_for(Duration::from_millis(1_500));
    stage.start_steer();
    stage.keeps_our_prefixes_until_learned();
    let kept = case(
        "graceful restart on: kill -9 and restart, the routes were never away",
        since,
    );
    stage.steer().signal(Signal::SIGTERM).unwrap();
    let since = Instant::now();
    stage.forgotten();
    stage.check(
        since.elapsed() < Duration::from_secs(2),
        "an orderly stop is no restart: the routes went too late",
    );
    vec![
        kept,
        case("graceful restart on: SIGTERM withdraws all the same", since),
    ]
}

fn roles(world: &World, peer: &dyn Peer) -> Vec<Case> {
    let plan = plain(Features {
        role: Some("provider"),
        ..Features::default()
    });
    let mut stage = Stage::set(world, "roles", peer, plan);
    stage.peer_keys = "role = \"customer\"\nrole_strict = true\n".to_owned();
    let since = Instant::now();
    stage.start_steer();
    stage.learned();
    let fit = case("roles: customer meets provider", since);
    stage.peer_keys = "role = \"provider\"\n".to_owned();
    stage.start_steer();
    let since = Instant::now();
    stage.logged("no session", "Role Mismatch (2/11)");
    stage.stays_without_routes();
    vec![fit, case("roles: two providers refuse each other (2/11)", since)]
}

/// More prefixes with the same attributes than 4,096 octets hold.
const MANY: u32 = 1_500;

fn extended_messages(world: &World, peer: &dyn Peer) -> Vec<Case> {
    let plan = plain(Features {
        extended_messages: true,
        ..Features::default()
    });
    let mut stage = Stage::set(world, "extended", peer, plan);
    let prefix = |n: u32| {
        let [_, _, high, low] = n.to_be_bytes();
        format!("[[anycast]]\nprefix = \"198.18.{high}.{low}/32\"\nnext_hop = \"10.0.0.1\"\n")
    };
    stage.more = (0..MANY).map(prefix).collect();
    let since = Instant::now();
    stage.start_steer();
    stage.has_routes(MANY as usize + 2);
    stage.logged("session established", "extended_messages=true");
    vec![case("extended messages: 1,502 routes", since)]
}

fn extended_next_hop(world: &World, peer: &dyn Peer) -> Vec<Case> {
    let plan = Plan::new(64_512, Opens::Steer, Transport::V6).with(Features {
        extended_next_hop: true,
        ..Features::default()
    });
    let mut stage = Stage::set(world, "next-hop", peer, plan);
    let since = Instant::now();
    stage.start_steer();
    stage.learned();
    vec![case(
        "IPv6 transport: the IPv4 prefix with an IPv6 next hop as well",
        since,
    )]
}
