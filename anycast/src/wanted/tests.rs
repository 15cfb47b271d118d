//! Which prefixes a snapshot wants, where.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use steer_health::{Drain, EndpointState, Service, Target, Verdict};
use steer_topology::{EndpointId, Fleet, Resolve};

use super::*;

struct NoNames;

impl Resolve for NoNames {
    fn resolve(&self, _: &str, _: u16) -> std::io::Result<Vec<std::net::SocketAddr>> {
        Ok(Vec::new())
    }
}

/// Two sites, a pool with an endpoint at each, and one prefix of each kind.
fn fleet() -> Arc<Fleet> {
    let text = r#"
[[site]]
name = "fra"
[[site]]
name = "nrt"
[[check]]
name = "web"
kind = "tcp"
[[pool]]
name = "web"
check = "web"
endpoints = [ { site = "fra", address = "198.51.100.1:443" }, { site = "nrt", address = "198.51.100.2:443" } ]
[bgp]
asn = 64512
router_id = "10.0.0.1"
[[anycast]]
prefix = "192.0.2.1/32"
[[anycast]]
prefix = "192.0.2.2/32"
while_up = ["pool:web@local"]
[[anycast]]
prefix = "192.0.2.3/32"
while_up = ["pool:web"]
[[anycast]]
prefix = "192.0.2.4/32"
sites = ["nrt"]
[[anycast]]
prefix = "192.0.2.5/32"
while_up = ["pool:web@fra", "pool:web@nrt"]
"#;
    Arc::new(
        Fleet::parse(text, Path::new("steer.toml"), &NoNames).unwrap_or_else(|faults| panic!("{faults}")),
    )
}

/// A snapshot with the service of the endpoint at fra and of the one at nrt.
fn snapshot(number: u64, settled: bool, states: [(Verdict, Service); 2]) -> Snapshot {
    let endpoints = states.map(|(verdict, service)| EndpointState {
        verdict,
        service,
        cause: String::new(),
        since: Timestamp::UNIX_EPOCH,
    });
    Snapshot {
        number,
        at: Timestamp::UNIX_EPOCH,
        fleet: fleet(),
        settled,
        endpoints: endpoints.to_vec(),
        drains: Vec::new(),
    }
}

const UP: (Verdict, Service) = (Verdict::Up, Service::In);
const DOWN: (Verdict, Service) = (Verdict::Down, Service::Out);
const UNKNOWN: (Verdict, Service) = (Verdict::Unknown, Service::In);

const FRA: Option<SiteId> = Some(SiteId(0));
const NRT: Option<SiteId> = Some(SiteId(1));

/// The last octets of the prefixes that are wanted.
fn announced(wanted: &Wanted) -> Vec<u8> {
    let wish = wanted.prefixes.iter().filter(|(_, decision)| decision.announce);
    let octet = |address| match address {
        IpAddr::V4(address) => address.octets()[3],
        IpAddr::V6(_) => panic!("IPv4 alone here"),
    };
    wish.map(|(prefix, _)| octet(prefix.address())).collect()
}

#[test]
fn before_the_first_round_only_what_has_no_condition_is_wanted() {
    let start = snapshot(1, false, [UNKNOWN, UNKNOWN]);
    assert_eq!(announced(&decide(&start, FRA, &Wanted::default())), [1]);
    assert_eq!(announced(&decide(&start, NRT, &Wanted::default())), [1, 4]);
}

#[test]
fn each_place_of_a_condition_counts_its_own_endpoints() {
    let before = Wanted::default();
    let only_nrt = snapshot(2, true, [DOWN, UP]);
    assert_eq!(announced(&decide(&only_nrt, FRA, &before)), [1, 3]);
    assert_eq!(announced(&decide(&only_nrt, NRT, &before)), [1, 2, 3, 4]);
    let all = snapshot(2, true, [UP, UP]);
    assert_eq!(announced(&decide(&all, FRA, &before)), [1, 2, 3, 5]);
    let none = snapshot(2, true, [DOWN, DOWN]);
    assert_eq!(announced(&decide(&none, NRT, &before)), [1, 4]);
}

#[test]
fn unknown_keeps_what_stands_whichever_it_is() {
    let all = decide(&snapshot(2, true, [UP, UP]), FRA, &Wanted::default());
    let unsettled = snapshot(3, false, [UNKNOWN, UNKNOWN]);
    assert_eq!(announced(&decide(&unsettled, FRA, &all)), [1, 2, 3, 5]);
    let none = decide(&snapshot(2, true, [DOWN, DOWN]), FRA, &Wanted::default());
    assert_eq!(announced(&decide(&unsettled, FRA, &none)), [1]);
    // One condition that fails decides, whatever the other one is.
    let half = snapshot(3, true, [DOWN, UNKNOWN]);
    assert_eq!(announced(&decide(&half, FRA, &all)), [1, 3]);
}

#[test]
fn what_the_guard_holds_stays_announced() {
    let reason = "the last site".to_owned();
    let held = (Verdict::Down, Service::Held { reason });
    let wanted = decide(&snapshot(2, true, [held, DOWN]), FRA, &Wanted::default());
    assert_eq!(announced(&wanted), [1, 2, 3]);
}

#[test]
fn a_drained_site_withdraws_all_and_a_drained_endpoint_what_leans_on_it() {
    let mut drained = snapshot(2, true, [(Verdict::Up, Service::Drained), UP]);
    drained.drains.push(Drain {
        target: Target::Site(SiteId(0)),
        reason: String::new(),
        author: String::new(),
        since: Timestamp::UNIX_EPOCH,
        until: None,
    });
    let before = Wanted::default();
    assert_eq!(announced(&decide(&drained, FRA, &before)), [0; 0]);
    drained.drains[0].target = Target::Endpoint(EndpointId(0));
    assert_eq!(
        announced(&decide(&drained, FRA, &before)),
        [1, 3],
        "nrt carries the third"
    );
    assert_eq!(announced(&decide(&drained, NRT, &before)), [1, 2, 3, 4]);
}

#[test]
fn a_decision_names_the_snapshot_that_brought_it() {
    let first = decide(&snapshot(7, true, [UP, UP]), FRA, &Wanted::default());
    let second = decide(&snapshot(8, true, [UP, UP]), FRA, &first);
    let third = decide(&snapshot(9, true, [DOWN, UP]), FRA, &second);
    let by = |wanted: &Wanted, text: &str| wanted.prefixes[&text.parse().unwrap()].by;
    assert_eq!([by(&second, "192.0.2.2/32"), second.snapshot], [7, 8]);
    assert_eq!([by(&third, "192.0.2.2/32"), by(&third, "192.0.2.1/32")], [9, 7]);
}

#[test]
fn nothing_keeps_the_prefixes_and_declines_them_all() {
    let wanted = decide(&snapshot(7, true, [UP, UP]), FRA, &Wanted::default());
    let nothing = wanted.nothing();
    assert_eq!(announced(&nothing), Vec::<u8>::new());
    assert_eq!(nothing.prefixes.len(), wanted.prefixes.len());
}
