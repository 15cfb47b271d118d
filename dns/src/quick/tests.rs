//! The quick path beside the full path: the same octets, the same lots drawn, the same limits.

use std::sync::{Arc, OnceLock};

use proptest::prelude::*;
use rand::SeedableRng;
use steer_topology::{CookieUse, Dns, Nat64};

use super::*;
use crate::settings::Settings;
use crate::testing::{compile, config, fleet, ip, snapshot, tables, tables_of};

const NOW: u32 = 1_700_000_000;
const CLIENTS: [&str; 6] = [
    "81.169.145.1",
    "133.11.0.1",
    "::ffff:12.0.0.1",
    "192.0.2.1",
    "2001:db8:64::81.169.145.1",
    "2001:200::1",
];
const NAMES: [&str; 21] = [
    "www.example.com",
    "app.example.com",
    "q.wild2.example.com",
    "wild2.example.com",
    "plain.example.com",
    "alias.example.com",
    "example.com",
    "ns1.example.com",
    "q.wild.example.com",
    "*.wild.example.com",
    "b.ent.example.com",
    "sub.example.com",
    "x.sub.example.com",
    "a.old.example.com",
    "old.example.com",
    "loop1.example.com",
    "big.example.com",
    "no.example.com",
    "www.www.example.com",
    "example.net",
    ".",
];
const TYPES: [u16; 16] = [1, 28, 16, 2, 6, 5, 15, 255, 43, 252, 41, 65_280, 33, 39, 64, 65];

fn unsettled() -> Tables {
    let mut snapshot = Arc::unwrap_or_clone(snapshot(&fleet(&config("[\"up\"]", "")), &[]));
    snapshot.settled = false;
    compile(Arc::new(snapshot))
}

/// The usual world, where endpoints have names too.
fn named(rest: &str) -> String {
    config("[\"up\", \"nearest\"]", rest).replace(":443\"", ":443\", target = \"plain.example.com\"")
}

/// The same with one more name, an alias of another.
fn alias(name: &str, of: &str) -> String {
    let more = format!(
        "[[pool]]\nname = \"alias\"\n\
         endpoints = [{{ site = \"fra\", address = \"192.0.2.77:1\", target = \"{of}.example.com\" }}]\n\
         [[steer]]\nname = \"{name}\"\npool = \"alias\"\ntype = \"cname\"\n"
    );
    named("") + &more
}

/// Chains that draw and that do not, states, and ways to talk.
fn engines() -> &'static [Engine] {
    static ENGINES: OnceLock<Vec<Engine>> = OnceLock::new();
    ENGINES.get_or_init(|| {
        let all_down = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];
        let set = |tables, change: fn(&mut Dns)| {
            let mut dns = Dns::default();
            change(&mut dns);
            Engine::with(tables, Settings::load(&dns, Some("fra")).unwrap())
        };
        let many: String = (0..60)
            .map(|n| format!("{{ site = \"fra\", address = \"198.18.0.{n}:1\" }},"))
            .collect();
        let many = |chain: &str| config(chain, "").replace("endpoints = [", &format!("endpoints = [{many}"));
        let stale = set(tables("[\"up\", \"nearest\"]", &[]), |_| ());
        stale.mark_stale(true);
        vec![
            set(tables("[\"up\", \"nearest\", \"take 2\"]", &[]), |_| ()),
            set(tables("[\"up\", \"weighted\", \"take 1\"]", &[]), |_| ()),
            set(
                tables("[\"up\", \"nearest\", \"shuffle\"]", &["198.51.100.1"]),
                |dns| {
                    dns.nat64 = vec![Nat64::new("2001:db8:64::/96".parse().unwrap()).unwrap()];
                },
            ),
            set(tables("[\"up\", \"sticky\", \"take 1\"]", &[]), |dns| {
                dns.cookies = CookieUse::Require;
            }),
            set(tables("[\"geofence country\"]", &[]), |dns| {
                dns.cookies = CookieUse::Off;
            }),
            set(
                tables_of(&config("[\"up\"]", "if_all_down = \"servfail\""), &all_down),
                |_| (),
            ),
            set(
                tables_of(&config("[\"up\"]", "if_all_down = \"nodata\""), &all_down),
                |_| (),
            ),
            set(unsettled(), |_| ()),
            stale,
            // drawn, and then it may not fit
            set(tables_of(&many("[\"up\", \"shuffle\"]"), &[]), |_| ()),
            set(tables_of(&many("[\"up\"]"), &[]), |dns| {
                dns.max_udp_payload = 4096;
            }),
            set(tables_of(&many("[\"up\"]"), &[]), |dns| dns.max_udp_payload = 512),
            set(
                tables_of(
                    &named("type = [\"address\", \"https\", \"svcb\", \"mx\", \"srv\"]"),
                    &[],
                ),
                |_| (),
            ),
            // an alias that leads to a name of the zone, and one below which chains go on
            set(tables_of(&alias("app.example.com", "plain"), &[]), |_| ()),
            set(tables_of(&alias("*.wild2.example.com", "www"), &[]), |_| ()),
        ]
    })
}

#[derive(Debug, Clone)]
struct Asked {
    name: usize,
    /// Bits that turn letters to upper case.
    case: u32,
    rtype: usize,
    class: u8,
    flags: [u8; 2],
    edns: Option<(u16, bool, Vec<u8>)>,
    client: usize,
}

impl Asked {
    fn octets(&self) -> Vec<u8> {
        let mut message = vec![7, 7, self.flags[0] & 7, self.flags[1], 0, 1, 0, 0, 0, 0, 0, 0];
        let name = NAMES[self.name];
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(label.len() as u8);
            for (at, octet) in label.bytes().enumerate() {
                let upper = self.case >> (at % 32) & 1 == 1;
                message.push(if upper { octet.to_ascii_uppercase() } else { octet });
            }
        }
        message.push(0);
        message.extend(TYPES[self.rtype].to_be_bytes());
        message.extend([0, self.class]);
        if let Some((payload, dnssec_ok, options)) = &self.edns {
            message[11] = 1;
            message.extend([0, 0, 41]);
            message.extend(payload.to_be_bytes());
            message.extend([0, 0, u8::from(*dnssec_ok) << 7, 0]);
            message.extend((options.len() as u16).to_be_bytes());
            message.extend(options);
        }
        message
    }
}

fn option() -> impl Strategy<Value = Vec<u8>> {
    let subnets = prop_oneof![
        Just(vec![0, 8, 0, 7, 0, 1, 24, 0, 81, 169, 145]),
        Just(vec![0, 8, 0, 8, 0, 1, 32, 0, 133, 11, 0, 1]),
        Just(vec![0, 8, 0, 4, 0, 1, 0, 0]),
        Just(vec![0, 8, 0, 11, 0, 2, 56, 0, 0x20, 0x01, 0x02, 0, 0, 0, 0]),
        // below the NAT64 prefix
        Just(vec![
            0, 8, 0, 20, 0, 2, 128, 0, 0x20, 1, 0x0d, 0xb8, 0, 0x64, 0, 0, 0, 0, 0, 0, 81, 169, 145, 1
        ]),
        Just(vec![0, 8, 0, 4, 0, 9, 0, 0]),
    ];
    prop_oneof![
        subnets,
        Just(vec![0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8]),
        Just([&[0, 10, 0, 24][..], &[9; 24]].concat()),
        Just(vec![0, 3, 0, 0]),
        Just(vec![0, 11, 0, 0]),
        Just(vec![0, 12, 0, 3, 0, 0, 0]),
        Just(vec![0xff, 0xf0, 0, 1, 7]),
    ]
}

fn edns() -> impl Strategy<Value = Option<(u16, bool, Vec<u8>)>> {
    let options = prop::collection::vec(option(), 0..3).prop_map(|all| all.concat());
    let payload = prop::sample::select(vec![0_u16, 512, 700, 1232, 4096, 65_535]);
    prop::option::weighted(0.7, (payload, any::<bool>(), options))
}

fn asked() -> impl Strategy<Value = Asked> {
    let case = prop_oneof![3 => Just(0), 1 => any::<u32>()];
    let class = prop_oneof![9 => Just(1_u8), 1 => Just(3)];
    // the steered name and addresses more often than others
    let name = prop_oneof![1 => Just(0), 1 => 0..NAMES.len()];
    let rtype = prop_oneof![1 => 0..2_usize, 1 => 0..TYPES.len()];
    let what = (name, case, rtype, class);
    (what, any::<[u8; 2]>(), edns(), 0..CLIENTS.len()).prop_map(
        |((name, case, rtype, class), flags, edns, client)| Asked {
            name,
            case,
            rtype,
            class,
            flags,
            edns,
            client,
        },
    )
}

/// Asks both paths. `false`: the quick path did not know.
fn both(engine: &Engine, thread: &mut Quick, query: &[u8], client: &str, seed: u64) -> bool {
    let (mut quick, mut full) = (SmallRng::seed_from_u64(seed), SmallRng::seed_from_u64(seed));
    let mut octets = vec![0xaa; 7];
    let written = engine.answer_quickly(thread, query, ip(client), NOW, &mut quick, &mut octets);
    let Some(written) = written else {
        assert_eq!(quick, full, "no lots were drawn");
        return false;
    };
    let reply = engine.answer(query, ip(client), Transport::Udp, NOW, &mut full);
    let mut reply = reply.expect("a reply");
    assert_eq!(octets, reply.encode().unwrap());
    assert_eq!(quick, full, "the same lots");
    assert_eq!(
        (written.rcode, written.class, written.is_verified),
        (reply.rcode(), reply.class(), reply.is_verified)
    );
    assert!(!reply.is_truncated());
    written.cut(&mut octets);
    reply.cut();
    assert_eq!(octets, reply.encode().unwrap(), "cut for the rate limit");
    true
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn both_paths_give_the_same_octets(
        engine in 0..engines().len(),
        queries in prop::collection::vec(asked(), 1..40),
        seed in any::<u64>(),
    ) {
        let mut thread = Quick::new();
        for round in 0..3 {
            for query in &queries {
                both(&engines()[engine], &mut thread, &query.octets(), CLIENTS[query.client], seed + round);
            }
        }
    }
}

#[test]
fn whole_cookies_are_good_on_both_paths() {
    let engine = &engines()[0];
    let mut query = query("www.example.com", 1);
    query[11] = 1;
    let bare = query.len();
    query.extend([
        0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8,
    ]);
    let mut rng = SmallRng::seed_from_u64(1);
    let client = ip(CLIENTS[0]);
    let first = engine
        .answer(&query, client, Transport::Udp, NOW, &mut rng)
        .unwrap();
    let cookie = &first.edns.as_ref().unwrap().options[4..28];
    query.truncate(bare);
    query.extend([0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 28, 0, 10, 0, 24]);
    query.extend(cookie);
    let mut thread = Quick::new();
    both(engine, &mut thread, &query, CLIENTS[0], 1);
    let mut out = Vec::new();
    let written = engine.answer_quickly(&mut thread, &query, client, NOW, &mut rng, &mut out);
    assert!(written.unwrap().is_verified);
}

fn query(name: &str, rtype: u16) -> Vec<u8> {
    let at = NAMES.iter().position(|it| *it == name).unwrap();
    let asked = Asked {
        name: at,
        case: 0,
        rtype: TYPES.iter().position(|it| *it == rtype).unwrap(),
        class: 1,
        flags: [1, 0],
        edns: None,
        client: 0,
    };
    asked.octets()
}

/// What is asked for most is answered here, and not only by the full path.
#[test]
fn the_quick_path_knows_the_usual_questions_from_the_second_time_on() {
    let engine = &engines()[0];
    let mut thread = Quick::new();
    for (name, rtype) in [
        ("www.example.com", 1),
        ("www.example.com", 28),
        ("www.example.com", 16),
        ("plain.example.com", 1),
        ("plain.example.com", 28),
        ("q.wild.example.com", 1),
        ("example.com", 2),
        ("example.com", 6),
        ("x.sub.example.com", 1),
        ("no.example.com", 1),
    ] {
        let query = query(name, rtype);
        assert!(
            !both(engine, &mut thread, &query, CLIENTS[0], 1),
            "{name} {rtype}"
        );
        for _ in 0..2 {
            assert!(both(engine, &mut thread, &query, CLIENTS[0], 1), "{name} {rtype}");
        }
    }
}

#[test]
fn new_tables_are_obeyed_at_once_by_what_is_kept() {
    let engine = Engine::new(tables("[\"up\", \"nearest\", \"take 1\"]", &[]));
    let mut thread = Quick::new();
    let query = query("www.example.com", 1);
    let mut ask = |engine: &Engine| {
        let (mut out, mut rng) = (Vec::new(), SmallRng::seed_from_u64(1));
        let client = ip(CLIENTS[0]);
        engine.answer_quickly(&mut thread, &query, client, NOW, &mut rng, &mut out)?;
        Some(out[out.len() - 4..].to_vec())
    };
    assert_eq!(ask(&engine), None);
    assert_eq!(ask(&engine), Some(vec![198, 51, 100, 1]));
    // the same zones, another state
    let down = snapshot(&engine.tables().snapshot.fleet, &["198.51.100.1"]);
    engine.publish(engine.tables().next(down));
    assert_ne!(ask(&engine).unwrap(), [198, 51, 100, 1]);
    // other zones: everything is learnt anew
    engine.publish(tables("[\"up\", \"nearest\", \"take 1\"]", &[]));
    assert_eq!(ask(&engine), None);
    assert_eq!(ask(&engine), Some(vec![198, 51, 100, 1]));
}
