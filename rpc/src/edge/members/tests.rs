use std::net::IpAddr;
use std::path::Path;
use std::time::Instant;

use jiff::Timestamp;
use steer_health::Judge;
use steer_topology::Resolve;

use super::*;

/// Three endpoints in Frankfurt, one in Amsterdam, two in Tokyo; `all` has those of `shop` by way of another pool.
const FLEET: &str = r#"
[[site]]
name = "fra"
[[site]]
name = "ams"
[[site]]
name = "nrt"
[admin]
[[check]]
name = "web"
kind = "tcp"
[[pool]]
name = "shop"
check = "web"
endpoints = [
  { site = "fra", address = "198.51.100.1:50051", weight = 3 },
  { site = "fra", address = "198.51.100.2:50051" },
  { site = "fra", address = "198.51.100.3:50051", weight = 0 },
  { site = "ams", address = "198.51.100.11:50051" },
  { site = "nrt", address = "198.51.100.21:50051" },
  { site = "nrt", address = "198.51.100.22:50051" },
]
"#;

struct Nobody;

impl Resolve for Nobody {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<SocketAddr>> {
        Ok(Vec::new())
    }
}

/// From the edge at a site.
fn view(site: &str) -> View {
    let fleet = Fleet::parse(FLEET, Path::new("steer.toml"), &Nobody).unwrap();
    let site = fleet.site_named(site);
    let judge = Judge::new(Arc::new(fleet), Instant::now(), Timestamp::UNIX_EPOCH);
    View {
        snapshot: Arc::new(judge.first_snapshot()),
        site,
    }
}

impl View {
    fn set(&mut self, endpoints: &[usize], service: &Service, verdict: Verdict) {
        let mut snapshot = Snapshot::clone(&self.snapshot);
        for endpoint in endpoints {
            let state = snapshot.endpoints.get_mut(*endpoint).unwrap();
            (state.service, state.verdict) = (service.clone(), verdict);
        }
        self.snapshot = Arc::new(snapshot);
    }

    /// Last octets of those that are used.
    fn used_of(&self, pool: &str) -> Vec<u8> {
        let Members { addresses, standings } = self.members(&pool.parse().unwrap()).unwrap();
        let used = addresses
            .iter()
            .zip(standings)
            .filter(|(_, standing)| standing.is_used);
        let octet = |address: &SocketAddr| match address.ip() {
            IpAddr::V4(ip) => ip.octets()[3],
            IpAddr::V6(_) => 0,
        };
        used.map(|(address, _)| octet(address)).collect()
    }
}

#[test]
fn the_nearest_site_with_somebody_in_service_gets_the_calls() {
    let mut fra = view("fra");
    assert_eq!(fra.used_of("pool:shop"), [1, 2], "weight 0 takes nobody new");
    assert_eq!(view("nrt").used_of("pool:shop"), [21, 22]);
    fra.set(&[0, 1], &Service::Out, Verdict::Down);
    assert_eq!(fra.used_of("pool:shop"), [11], "Amsterdam is nearer than Tokyo");
    fra.set(&[3], &Service::Drained, Verdict::Up);
    assert_eq!(fra.used_of("pool:shop"), [21, 22]);
    let held = Service::Held {
        reason: String::new(),
    };
    fra.set(&[0], &held, Verdict::Down);
    assert_eq!(fra.used_of("pool:shop"), [1], "who is held is in service");
}

#[test]
fn where_nobody_is_in_service_the_drained_that_are_up_are_used_and_else_all() {
    let mut fra = view("fra");
    fra.set(&[0, 1, 2, 3, 4, 5], &Service::Out, Verdict::Down);
    assert_eq!(fra.used_of("pool:shop"), [1, 2, 3, 11, 21, 22]);
    fra.set(&[4], &Service::Drained, Verdict::Up);
    fra.set(&[5], &Service::Drained, Verdict::Down);
    assert_eq!(fra.used_of("pool:shop"), [21]);
}

#[test]
fn a_site_that_is_named_is_the_only_one() {
    let mut fra = view("fra");
    assert_eq!(fra.used_of("pool:shop@nrt"), [21, 22]);
    assert_eq!(fra.used_of("pool:shop@local"), [1, 2]);
    fra.set(&[0, 1], &Service::Out, Verdict::Down);
    assert_eq!(
        fra.used_of("pool:shop@local"),
        [1, 2, 3],
        "nobody else stands there"
    );
}

#[test]
fn weights_are_those_of_the_snapshot() {
    let members = view("fra").members(&"pool:shop@fra".parse().unwrap()).unwrap();
    let weights: Vec<u32> = members.standings.iter().map(|standing| standing.weight).collect();
    assert_eq!(weights, [3, 1, 0]);
}

#[test]
fn what_is_not_in_the_fleet_is_told_with_what_is() {
    let view = view("fra");
    for (pool, told) in [
        (
            "pool:shpo",
            "\"pool:shpo\" names no pool of the fleet; there are \"shop\"",
        ),
        (
            "pool:shop@frb",
            "\"pool:shop@frb\" names no site of the fleet; there are \"fra\", \"ams\", \"nrt\"",
        ),
    ] {
        let error = view.members(&pool.parse().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), told);
    }
}
