use std::net::IpAddr;
use std::sync::OnceLock;

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::subnet::truncate;
use crate::testing::{CLIENTS, compile, config, fleet, ip, snapshot, tables_of};

const A: RecordType = RecordType::A;

fn key(name: &str) -> Box<[u8]> {
    key_of(&name.parse().unwrap()).unwrap()
}

fn pick(tables: &Tables, client: Locate) -> (Steered, Option<u8>) {
    let mut rng = SmallRng::seed_from_u64(1);
    tables.pick(&key("www.example.com"), A, client, &mut rng).unwrap()
}

fn addresses_for(tables: &Tables, client: &str) -> Vec<String> {
    match pick(tables, Locate::By(ip(client))).0 {
        Steered::Addresses { addresses, .. } => addresses.iter().map(ToString::to_string).collect(),
        other @ (Steered::Refused | Steered::Fail | Steered::Set { .. } | Steered::Nothing) => {
            panic!("{other:?}")
        }
    }
}

#[test]
fn names_with_the_same_plan_share_it_and_others_do_not() {
    let more = "[[steer]]\nname = \"a.example.com\"\npool = \"web\"\nchain = [\"up\", \"nearest\"]\nttl = \"5s\"\n\
                [[steer]]\nname = \"b.example.com\"\npool = \"web\"\nchain = [\"up\", \"nearest\"]\n\
                if_all_down = \"nodata\"\n";
    let tables = tables_of(&config("[\"up\", \"nearest\"]", more), &[]);
    assert_eq!((tables.names.len(), tables.plans.len()), (3, 2));
    let ttl = |name| tables.ttl_of(&key(name), A, Part::V4);
    assert_eq!(
        (ttl("www.example.com"), ttl("a.example.com")),
        (Some(30), Some(5))
    );
}

#[test]
fn the_next_tables_are_what_a_fresh_compile_gives_and_keep_what_nothing_changed_in() {
    let more = "[[pool]]\nname = \"other\"\nendpoints = [{ site = \"jfk\", address = \"192.0.2.9:443\" }]\n\
                [[pool]]\nname = \"outer\"\nendpoints = [{ pool = \"web\" }, { pool = \"other\" }]\n\
                [[steer]]\nname = \"other.example.com\"\npool = \"other\"\n\
                [[steer]]\nname = \"outer.example.com\"\npool = \"outer\"\n";
    let fleet = fleet(&config("[\"up\", \"nearest\"]", more));
    let first = compile(snapshot(&fleet, &[]));
    let next = first.next(snapshot(&fleet, &["198.51.100.1"]));
    let kept: Vec<bool> = first
        .plans
        .iter()
        .zip(&next.plans)
        .map(|(a, b)| Arc::ptr_eq(a, b))
        .collect();
    assert_eq!(kept, [false, true, false], "the outer pool has the endpoint too");
    let fresh = compile(snapshot(&fleet, &["198.51.100.1"]));
    for (client, _) in CLIENTS {
        assert_eq!(addresses_for(&next, client), addresses_for(&fresh, client));
    }
}

#[test]
fn a_fence_refuses_who_may_be_sent_nowhere_and_holds_under_every_rule() {
    let chain = "[\"up\", \"geofence continent\", \"nearest\", \"take 1\"]";
    let refused = |tables: &Tables, client| {
        let (steered, scope) = pick(tables, client);
        (steered == Steered::Refused, scope.is_some())
    };
    let [europe, asia, _] = CLIENTS.map(|(client, _)| Locate::By(ip(client)));
    for rule in ["serve-all", "serve-last-good", "pool:sorry", "nodata", "servfail"] {
        let rest = format!(
            "if_all_down = \"{rule}\"\n[[pool]]\nname = \"sorry\"\nendpoints = [{{ site = \"jfk\", address = \"192.0.2.9:443\" }}]"
        );
        let text = config(chain, &rest);
        let without = tables_of(&text, &["198.51.100.1"]);
        assert_eq!(refused(&without, europe), (true, true), "{rule}");
        assert!(!refused(&without, asia).0);
        assert!(refused(&without, Locate::Nobody).0, "whose region is not known");
        let all_down = tables_of(&text, &["198.51.100.1", "198.51.100.2", "198.51.100.3"]);
        let expected = match rule {
            "serve-all" | "serve-last-good" => vec![ip("198.51.100.1")],
            _ => Vec::new(),
        };
        match pick(&all_down, europe).0 {
            Steered::Addresses { addresses, .. } => assert_eq!(addresses, expected, "{rule}"),
            Steered::Refused => assert_eq!(rule, "pool:sorry", "its pool is in America"),
            Steered::Fail => assert_eq!(rule, "servfail"),
            other @ (Steered::Set { .. } | Steered::Nothing) => panic!("{other:?}"),
        }
    }
}

#[test]
fn maps_send_by_country_and_network_and_pass_on_what_they_do_not_name() {
    let rest = "country = { DE = \"nrt\", JP = \"jfk\" }\ncidr = { \"12.0.0.0/8\" = \"fra\", \"12.0.0.0/24\" = \"nrt\" }";
    let text = config("[\"up\", \"country\", \"cidr\", \"nearest\", \"take 1\"]", rest);
    let tables = tables_of(&text, &[]);
    let of = |client| addresses_for(&tables, client).join(" ");
    assert_eq!(of(CLIENTS[0].0), "198.51.100.2", "DE to nrt");
    assert_eq!(of(CLIENTS[1].0), "198.51.100.3", "JP to jfk");
    assert_eq!(of("12.0.0.1"), "198.51.100.2", "the narrower network");
    assert_eq!(of("12.0.1.1"), "198.51.100.1", "the wider one");
    assert_eq!(
        of("::ffff:12.0.1.1"),
        "198.51.100.1",
        "an IPv4 address in IPv6 form"
    );
    assert_eq!(pick(&tables, Locate::By(ip("12.0.0.1"))).1, Some(24));
    let without = tables_of(&text, &["198.51.100.2"]);
    assert_eq!(
        addresses_for(&without, CLIENTS[0].0),
        ["198.51.100.1"],
        "nrt is down: the rest as if unnamed"
    );
}

#[test]
fn the_same_network_sticks_to_one_site_and_the_scope_says_so() {
    let tables = tables_of(&config("[\"up\", \"sticky\", \"take 1\"]", ""), &[]);
    let of = |client: &str| pick(&tables, Locate::By(ip(client)));
    assert_eq!(of("192.0.2.1"), of("192.0.2.254"));
    assert_eq!(of("192.0.2.1").1, Some(24));
    assert_eq!(of("2001:db8:1::1").1, Some(48));
    assert_eq!(of("::ffff:192.0.2.1"), (of("192.0.2.1").0, Some(96 + 24)));
    assert_eq!(pick(&tables, Locate::Nobody).1, None);
    let one_left = tables_of(
        &config("[\"up\", \"sticky\", \"take 1\"]", ""),
        &["198.51.100.1", "198.51.100.2"],
    );
    assert_eq!(
        pick(&one_left, Locate::By(ip("192.0.2.1"))).1,
        None,
        "there is no choice to be made"
    );
}

#[test]
fn an_answer_that_is_empty_for_one_class_alone_does_not_claim_to_hold_for_all() {
    let rest = "country = { DE = \"fra\" }\nif_all_down = \"nodata\"";
    let tables = tables_of(&config("[\"country\", \"up\"]", rest), &["198.51.100.1"]);
    let (steered, scope) = pick(&tables, Locate::By(ip(CLIENTS[0].0)));
    assert!(matches!(steered, Steered::Addresses { addresses, .. } if addresses.is_empty()));
    assert!(scope.is_some_and(|scope| scope > 0));
    assert_eq!(addresses_for(&tables, CLIENTS[1].0).len(), 2);
}

fn client() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        (0_u8..4, any::<u8>()).prop_map(|(a, b)| IpAddr::from([12, 0, a, b])),
        any::<[u8; 4]>().prop_map(|v4| std::net::Ipv4Addr::from(v4).to_ipv6_mapped().into()),
        any::<[u8; 16]>().prop_map(IpAddr::from),
        (0_u32..0x1000, any::<[u8; 12]>()).prop_map(|(top, rest)| {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&(0x2001_0000 + top).to_be_bytes());
            octets[4..].copy_from_slice(&rest);
            IpAddr::from(octets)
        }),
    ]
}

/// One table for each way in which an answer may depend on the client, and all of them together.
fn all_kinds() -> &'static [Tables] {
    static TABLES: OnceLock<Vec<Tables>> = OnceLock::new();
    TABLES.get_or_init(|| {
        let maps = "country = { DE = \"nrt\", JP = \"jfk\" }\ncontinent = { NA = \"fra\", default = \"jfk\" }\n\
                    cidr = { \"12.0.0.0/8\" = \"fra\", \"12.0.1.128/25\" = \"nrt\", \"2001:db8::/33\" = \"jfk\" }";
        let chains = [
            ("\"latency\", \"take 1\"", ""),
            ("\"geofence country\"", ""),
            ("\"country\", \"continent\", \"cidr\", \"nearest\"", maps),
            ("\"sticky\", \"take 1\"", ""),
            ("\"nearest\", \"take 2\", \"sticky 12 33\", \"take 1\"", ""),
            ("\"sticky\", \"country\", \"continent\", \"cidr\", \"geofence continent\", \"take 1\"", maps),
        ];
        let tables = |(chain, rest)| tables_of(&config(&format!("[\"up\", {chain}]"), rest), &["198.51.100.3"]);
        chains.map(tables).into()
    })
}

/// Names with plans of every kind, one pool of its own, one in common, one in another, one to fall back on.
fn many_plans() -> &'static Arc<Fleet> {
    static FLEET: OnceLock<Arc<Fleet>> = OnceLock::new();
    FLEET.get_or_init(|| {
        let more = "[[pool]]\nname = \"other\"\ncheck = \"web\"\nendpoints = [\n\
                    { site = \"jfk\", address = \"192.0.2.9:443\" }, { site = \"nrt\", address = \"192.0.2.10:443\" }]\n\
                    [[pool]]\nname = \"outer\"\nendpoints = [{ pool = \"web\", weight = 5 }, { pool = \"other\" }]\n\
                    [[steer]]\nname = \"a.example.com\"\npool = \"other\"\nif_all_down = \"pool:outer\"\n\
                    [[steer]]\nname = \"b.example.com\"\npool = \"outer\"\nchain = [\"up\", \"failover\", \"weighted\"]\n\
                    [[steer]]\nname = \"c.example.com\"\npool = \"outer\"\nchain = [\"up\", \"sticky\"]\n\
                    if_all_down = \"servfail\"\n";
        fleet(&config("[\"up\", \"nearest\", \"take 2\"]", more))
    })
}

proptest! {
    #[test]
    fn tables_that_follow_each_other_answer_as_if_each_were_made_afresh(
        downs in prop::collection::vec(prop::sample::subsequence(
            vec!["198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8::1", "192.0.2.9", "192.0.2.10"], 0..=6,
        ), 1..5),
        seed in any::<u64>(),
    ) {
        let fleet = many_plans();
        let mut tables = compile(snapshot(fleet, &[]));
        for down in downs {
            tables = tables.next(snapshot(fleet, &down));
            let fresh = compile(snapshot(fleet, &down));
            for name in ["www", "a", "b", "c"] {
                let key = key(&format!("{name}.example.com"));
                for rtype in [A, RecordType::AAAA] {
                    for (client, _) in CLIENTS {
                        let pick = |tables: &Tables| {
                            let mut rng = SmallRng::seed_from_u64(seed);
                            tables.pick(&key, rtype, Locate::By(ip(client)), &mut rng)
                        };
                        prop_assert_eq!(pick(&tables), pick(&fresh), "{} {} {}", name, rtype, client);
                    }
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    /// RFC 7871 §7.3.1: a resolver gives a cached answer to every client in ADDRESS/SCOPE of its family.
    #[test]
    fn no_scope_covers_two_different_answers(
        kind in any::<prop::sample::Index>(), from in client(), noise in any::<u128>(),
    ) {
        let tables = all_kinds();
        let tables = &tables[kind.index(tables.len())];
        let (cached, scope) = pick(tables, Locate::By(from));
        let scope = scope.unwrap_or(0);
        let other = match truncate(from, scope) {
            IpAddr::V4(net) => {
                IpAddr::from((u32::from(net) | (noise as u32).checked_shr(scope.into()).unwrap_or(0)).to_be_bytes())
            }
            IpAddr::V6(net) => {
                IpAddr::from((u128::from(net) | noise.checked_shr(scope.into()).unwrap_or(0)).to_be_bytes())
            }
        };
        prop_assert_eq!(cached, pick(tables, Locate::By(other)).0, "{} scope {} and {}", from, scope, other);
    }
}
