use hickory_proto::op::{Message, OpCode};
use hickory_proto::rr::RData;
use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::SmallRng;

use super::*;
use crate::subnet::truncate;
use crate::testing::{
    CLIENTS, NOW, ask, config, drained_tables, ip, question, scope, subnet, tables, tables_of,
};

fn engine(chain: &str, down: &[&str]) -> Engine {
    Engine::new(tables(chain, down))
}

fn addresses(message: &Message) -> Vec<String> {
    message
        .answers
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .map(|ip| ip.to_string())
        .collect()
}

fn plain(name: &str, rtype: u16) -> Message {
    ask(
        &engine("[\"up\"]", &[]),
        &question(name, rtype, None),
        "127.0.0.1",
    )
}

#[test]
fn the_question_keeps_its_case_and_the_owner_follows_it() {
    let reply = plain("PLAIN.Example.com.", 1);
    assert!(reply.metadata.authoritative);
    assert_eq!(reply.queries[0].name().to_ascii(), "PLAIN.Example.com.");
    assert_eq!(reply.answers[0].name.to_ascii(), "PLAIN.Example.com.");
    assert_eq!(addresses(&reply), ["192.0.2.1", "192.0.2.2"]);
}

#[test]
fn missing_names_and_missing_types_carry_the_soa_with_the_lower_ttl() {
    let missing = plain("nowhere.example.com.", 1);
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
    let empty = plain("plain.example.com.", 16);
    assert_eq!(empty.metadata.response_code, ResponseCode::NoError);
    for reply in [missing, empty] {
        assert_eq!(reply.authorities[0].record_type(), RecordType::SOA);
        assert_eq!(reply.authorities[0].ttl, 300);
    }
}

#[test]
fn empty_non_terminals_exist_and_wildcards_stop_at_them() {
    assert_eq!(
        plain("b.ent.example.com.", 1).metadata.response_code,
        ResponseCode::NoError
    );
    assert_eq!(
        plain("ent.example.com.", 1).metadata.response_code,
        ResponseCode::NoError
    );
    assert_eq!(
        plain("x.ent.example.com.", 1).metadata.response_code,
        ResponseCode::NXDomain
    );
    assert_eq!(addresses(&plain("x.y.wild.example.com.", 1)), ["192.0.2.9"]);
}

#[test]
fn referrals_clear_aa_and_carry_glue() {
    let reply = plain("deep.sub.example.com.", 1);
    assert!(!reply.metadata.authoritative);
    assert!(reply.answers.is_empty());
    assert_eq!(reply.authorities.len(), 2);
    assert_eq!(reply.additionals.len(), 1);
}

#[test]
fn dname_makes_a_cname_and_loops_end() {
    let reply = plain("x.old.example.com.", 1);
    assert_eq!(reply.answers.len(), 2);
    let RData::CNAME(target) = &reply.answers[1].data else {
        panic!("no CNAME")
    };
    assert_eq!(target.0.to_ascii(), "x.new.example.net.");
    assert_eq!(plain("loop1.example.com.", 1).answers.len(), 2);
}

#[test]
fn what_is_not_ours_or_not_possible_is_refused_by_code() {
    let code = |name, rtype| plain(name, rtype).metadata.response_code;
    assert_eq!(code("example.org.", 1), ResponseCode::Refused);
    assert_eq!(code("example.com.", 252), ResponseCode::Refused); // AXFR
    assert_eq!(code("example.com.", 251), ResponseCode::Refused); // IXFR
    assert_eq!(plain("plain.example.com.", 255).answers.len(), 2); // ANY: one set
    let mut update = question("example.com.", 6, None);
    update[2] = 5 << 3;
    let reply = ask(&engine("[\"up\"]", &[]), &update, "127.0.0.1");
    assert_eq!(
        (reply.metadata.response_code, reply.metadata.op_code),
        (ResponseCode::NotImp, OpCode::Update)
    );
    let mut chaos = question("example.com.", 16, None);
    *chaos.last_mut().unwrap() = 3;
    assert_eq!(
        ask(&engine("[\"up\"]", &[]), &chaos, "127.0.0.1")
            .metadata
            .response_code,
        ResponseCode::Refused
    );
}

#[test]
fn every_edns_query_gets_an_opt_record_and_no_other_does() {
    let engine = engine("[\"up\"]", &[]);
    for name in ["plain.example.com.", "nowhere.example.com.", "example.org."] {
        let edns = ask(&engine, &question(name, 1, Some(&[0, 99, 0, 1, 7])), "127.0.0.1").edns;
        assert_eq!(
            edns.map(|edns| (edns.version(), edns.max_payload())),
            Some((0, 1232))
        );
        assert_eq!(ask(&engine, &question(name, 1, None), "127.0.0.1").edns, None);
    }
    let mut version = question("plain.example.com.", 1, Some(&[]));
    let at = version.len() - 5;
    version[at] = 1;
    let reply = ask(&engine, &version, "127.0.0.1");
    // hickory reads 16 as BADSIG, which shares the number
    assert_eq!(u16::from(reply.metadata.response_code), 16);
    assert_eq!(reply.edns.map(|edns| edns.version()), Some(0));
}

#[test]
fn a_bad_subnet_gets_formerr_with_question_and_opt() {
    let engine = engine("[\"up\", \"nearest\"]", &[]);
    let bad: [&[u8]; 4] = [
        &[0, 8, 0, 5, 0, 3, 8, 0, 10],
        &[0, 8, 0, 5, 0, 1, 33, 0, 10],
        &[0, 8, 0, 6, 0, 1, 8, 0, 10, 0],
        &[0, 8, 0, 5, 0, 1, 7, 0, 255],
    ];
    for options in bad {
        let reply = ask(
            &engine,
            &question("www.example.com.", 1, Some(options)),
            "127.0.0.1",
        );
        assert_eq!(reply.metadata.response_code, ResponseCode::FormErr, "{options:?}");
        assert_eq!((reply.queries.len(), reply.edns.is_some()), (1, true));
    }
}

#[test]
fn what_does_not_fit_is_cut_and_says_so() {
    let pool: String = (0..60)
        .map(|n| format!("{{ site = \"fra\", address = \"198.18.0.{n}:1\" }},"))
        .collect();
    let big = config(
        "[\"up\"]",
        &format!(
            "[[pool]]\nname = \"big\"\ncheck = \"web\"\nendpoints = [{pool}]\n[[steer]]\nname = \"many.example.com\"\npool = \"big\"\nchain = [\"up\"]"
        ),
    );
    let engine = Engine::new(tables_of(&big, &[]));
    let query = question("many.example.com.", 1, None);
    let udp = ask(&engine, &query, "127.0.0.1");
    assert!(udp.metadata.truncation && udp.answers.is_empty());
    let mut rng = SmallRng::seed_from_u64(1);
    let tcp = engine
        .answer(&query, ip("127.0.0.1"), Transport::Tcp, NOW, &mut rng)
        .unwrap();
    assert_eq!((tcp.is_truncated(), tcp.answers.len()), (false, 60));
    let edns = ask(&engine, &question("many.example.com.", 1, Some(&[])), "127.0.0.1");
    assert_eq!((edns.metadata.truncation, edns.answers.len()), (false, 60));
}

#[test]
fn each_client_gets_its_nearest_site_with_and_without_subnet() {
    let engine = engine("[\"up\", \"nearest\", \"take 1\"]", &[]);
    for (client, nearest) in CLIENTS {
        let direct = ask(&engine, &question("www.example.com.", 1, None), client);
        assert_eq!(addresses(&direct), [nearest]);
        assert_eq!(direct.answers[0].ttl, 30);
        let mapped = ask(
            &engine,
            &question("www.example.com.", 1, None),
            &format!("::ffff:{client}"),
        );
        assert_eq!(addresses(&mapped), [nearest]);
        let options = subnet(ip(client), 24);
        let subnet = ask(
            &engine,
            &question("alias.example.com.", 1, Some(&options)),
            "127.0.0.1",
        );
        assert_eq!(addresses(&subnet), [nearest]);
        assert!(scope(&subnet).is_some_and(|scope| (1..=32).contains(&scope)));
    }
}

#[test]
fn a_dead_site_hands_its_clients_to_the_next_nearest() {
    let engine = engine("[\"up\", \"nearest\", \"take 1\"]", &["198.51.100.1"]);
    let reply = ask(&engine, &question("www.example.com.", 1, None), CLIENTS[0].0);
    assert_eq!(addresses(&reply), ["198.51.100.3"]);
}

#[test]
fn unsteered_negative_unlocated_and_placeless_answers_have_scope_zero() {
    let nearest = engine("[\"up\", \"nearest\", \"take 1\"]", &[]);
    let options = subnet(ip(CLIENTS[1].0), 24);
    for (name, rtype) in [
        ("plain.example.com.", 1),
        ("nowhere.example.com.", 1),
        ("www.example.com.", 16),
    ] {
        assert_eq!(
            scope(&ask(
                &nearest,
                &question(name, rtype, Some(&options)),
                "127.0.0.1"
            )),
            Some(0)
        );
    }
    let unlocated = question("www.example.com.", 1, Some(&[0, 8, 0, 4, 0, 1, 0, 0]));
    let [first, second] = [CLIENTS[0].0, CLIENTS[1].0].map(|client| ask(&nearest, &unlocated, client));
    assert_eq!((scope(&first), addresses(&first)), (Some(0), addresses(&second)));
    let placeless = engine("[\"up\"]", &[]);
    assert_eq!(
        scope(&ask(
            &placeless,
            &question("www.example.com.", 1, Some(&options)),
            "127.0.0.1"
        )),
        Some(0)
    );
    assert_eq!(
        scope(&ask(
            &placeless,
            &question("www.example.com.", 1, Some(&[])),
            "127.0.0.1"
        )),
        None
    );
}

#[test]
fn all_down_follows_the_rule_of_the_name_per_family() {
    let down = ["198.51.100.1", "198.51.100.2", "198.51.100.3"];
    let of = |rule: &str| {
        let text = config(
            "[\"up\", \"nearest\", \"take 1\"]",
            &format!("if_all_down = \"{rule}\""),
        );
        Engine::new(tables_of(&text, &down))
    };
    let query = question("www.example.com.", 1, None);
    let serve_all = ask(&of("serve-all"), &query, CLIENTS[1].0);
    assert_eq!(addresses(&serve_all), ["198.51.100.2"]);
    let nodata = ask(&of("nodata"), &query, CLIENTS[1].0);
    assert_eq!(
        (
            nodata.metadata.response_code,
            nodata.answers.len(),
            nodata.authorities.len()
        ),
        (ResponseCode::NoError, 0, 1)
    );
    let servfail = ask(&of("servfail"), &query, CLIENTS[1].0);
    assert_eq!(
        (servfail.metadata.response_code, servfail.answers.len()),
        (ResponseCode::ServFail, 0)
    );
    let other_family = ask(
        &of("servfail"),
        &question("www.example.com.", 28, None),
        CLIENTS[1].0,
    );
    assert_eq!(addresses(&other_family), ["2001:db8::2"]);
}

#[test]
fn a_drained_site_is_given_to_nobody_while_another_is_left() {
    let chain = "[\"up\", \"nearest\", \"take 1\"]";
    let query = question("www.example.com.", 1, None);
    let of = |rest: &str, down: &[&str]| {
        let engine = Engine::new(drained_tables(&config(chain, rest), down, "fra"));
        let answer = ask(&engine, &query, CLIENTS[0].0);
        addresses(&answer)
    };
    let next = of("", &[]);
    assert_eq!(next.len(), 1);
    assert_ne!(next, ["198.51.100.1"], "up, the nearest, and drained");
    let others_down = ["198.51.100.2", "198.51.100.3"];
    let nothing = of("if_all_down = \"nodata\"", &others_down);
    assert_eq!(nothing, [""; 0], "drained counts as down");
    let last = of("if_all_down = \"serve-all\"", &others_down);
    assert_eq!(last, ["198.51.100.1"], "better than dead ones");
}

#[test]
fn a_drain_is_explained_with_why_by_whom_and_until_when() {
    let text = config("[\"up\"]", "if_all_down = \"serve-all\"");
    let explain = |down: &[&str]| {
        let tables = drained_tables(&text, down, "fra");
        let name = "www.example.com".parse().unwrap();
        tables.explain(ip(CLIENTS[0].0), &name).to_string()
    };
    let drained = "- fra 198.51.100.1:443  drained: kernel update, by ana, until 2026-01-01T14:00:00Z\n";
    let explained = explain(&[]);
    assert!(explained.contains(drained), "{explained}");
    assert!(explained.contains("; drained\n"), "{explained}");
    let explained = explain(&["198.51.100.2", "198.51.100.3"]);
    let last = "until 2026-01-01T14:00:00Z; but nothing else is left: taken as up\n";
    assert!(explained.contains(last), "{explained}");
}

#[test]
fn other_types_at_a_steered_name_come_from_the_zone() {
    assert_eq!(plain("www.example.com.", 16).answers.len(), 1);
    let nodata = plain("www.example.com.", 15);
    assert_eq!(
        (nodata.metadata.response_code, nodata.authorities.len()),
        (ResponseCode::NoError, 1)
    );
}

#[test]
fn apex_and_wildcard_can_be_steered() {
    let more = "[[steer]]\nname = \"example.com\"\npool = \"web\"\n[[steer]]\nname = \"*.any.example.com\"\npool = \"web\"";
    let engine = Engine::new(tables_of(&config("[\"up\"]", more), &[]));
    for name in ["example.com.", "x.any.example.com."] {
        let reply = ask(&engine, &question(name, 1, None), CLIENTS[2].0);
        assert_eq!(
            (addresses(&reply), reply.answers[0].name.to_ascii()),
            (vec!["198.51.100.3".to_owned()], name.to_owned())
        );
    }
    assert_eq!(
        ask(&engine, &question("example.com.", 6, None), "127.0.0.1")
            .answers
            .len(),
        1
    );
}

#[test]
fn weights_share_the_first_place_and_zero_stays_out() {
    let engine = engine("[\"up\", \"weighted\", \"take 1\"]", &[]);
    let mut rng = SmallRng::seed_from_u64(5);
    let mut second = 0;
    for _ in 0..4000 {
        let query = question("www.example.com.", 1, None);
        let reply = engine
            .answer(&query, ip("127.0.0.1"), Transport::Udp, NOW, &mut rng)
            .unwrap();
        match reply.answers[0].data.ip_addr().unwrap().to_string().as_str() {
            "198.51.100.1" => {}
            "198.51.100.2" => second += 1,
            other => panic!("{other} has weight 0"),
        }
    }
    assert!(
        (2850..3150).contains(&second),
        "{second} of 4000 for weight 30 of 40"
    );
}

#[test]
fn explain_tells_what_the_engine_answers() {
    let engine = engine("[\"up\", \"nearest\", \"take 2\"]", &["198.51.100.1"]);
    for (client, _) in CLIENTS {
        let told = engine
            .tables()
            .explain(ip(client), &"www.example.com".parse().unwrap());
        for (view, rtype) in told.answers.iter().zip([1, 28]) {
            let options = subnet(ip(client), 32);
            let reply = ask(
                &engine,
                &question("www.example.com.", rtype, Some(&options)),
                "127.0.0.1",
            );
            let expected: Vec<String> = reply.answers.iter().map(ToString::to_string).collect();
            assert_eq!((&view.records, view.scope), (&expected, scope(&reply).unwrap()));
        }
    }
}

#[test]
fn explain_reads_as_in_the_golden_file() {
    let tables = tables(
        "[\"up\", \"nearest\", \"failover\", \"weighted\", \"take 1\"]",
        &["198.51.100.1"],
    );
    let mut text = tables
        .explain(ip(CLIENTS[0].0), &"www.example.com".parse().unwrap())
        .to_string();
    let all = tables_of(
        &config("[\"up\", \"take 2\"]", "if_all_down = \"serve-all\""),
        &["2001:db8::1", "2001:db8::2"],
    );
    text += "\n----\n";
    text += &all
        .explain(ip("2001:db8::77"), &"www.example.com".parse().unwrap())
        .to_string();
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/golden/explain.txt");
    if std::env::var_os("STEER_GOLDEN").is_some() {
        std::fs::write(path, &text).unwrap();
    }
    assert_eq!(
        text,
        std::fs::read_to_string(path).unwrap(),
        "STEER_GOLDEN=1 rewrites the file"
    );
}

fn client() -> impl Strategy<Value = IpAddr> {
    prop_oneof![
        any::<[u8; 4]>().prop_map(IpAddr::from),
        any::<[u8; 4]>().prop_map(|v4| std::net::Ipv4Addr::from(v4).to_ipv6_mapped().into()),
        (0x2000_u16..0x3000, any::<[u8; 14]>()).prop_map(|(top, rest)| {
            let mut octets = [0; 16];
            octets[..2].copy_from_slice(&top.to_be_bytes());
            octets[2..].copy_from_slice(&rest);
            IpAddr::from(octets)
        }),
        any::<[u8; 16]>().prop_map(IpAddr::from),
    ]
}

proptest! {
    /// RFC 7871 §7.3.1: a resolver gives a cached answer to every client in ADDRESS/SCOPE of its family.
    #[test]
    fn no_scope_covers_two_different_answers(from in client(), source in 0_u8..=128, noise in any::<u128>()) {
        static ENGINE: std::sync::OnceLock<Engine> = std::sync::OnceLock::new();
        let engine = ENGINE.get_or_init(|| engine("[\"up\", \"nearest\", \"take 1\"]", &[]));
        let width = if from.is_ipv4() { 32 } else { 128 };
        let source = 1 + source % width;
        let cached = ask(engine, &question("www.example.com.", 1, Some(&subnet(from, source))), "127.0.0.1");
        let scope = scope(&cached).unwrap();
        prop_assert!(scope <= width);
        // any other client inside the scope
        let other = match (truncate(truncate(from, source), scope), from) {
            (IpAddr::V4(net), _) => {
                let host = (noise as u32).checked_shr(u32::from(scope)).unwrap_or(0);
                IpAddr::from((u32::from(net) | host).to_be_bytes())
            }
            (IpAddr::V6(net), _) => {
                let host = noise.checked_shr(u32::from(scope)).unwrap_or(0);
                IpAddr::from((u128::from(net) | host).to_be_bytes())
            }
        };
        let direct = ask(engine, &question("www.example.com.", 1, Some(&subnet(other, width))), "127.0.0.1");
        prop_assert_eq!(addresses(&cached), addresses(&direct), "{}/{} scope {} and {}", from, source, scope, other);
    }

    #[test]
    fn every_damage_to_a_query_gets_a_reply_or_silence(at in 0_usize..60, with in any::<u8>(), cut in 0_usize..70) {
        static ENGINE: std::sync::OnceLock<Engine> = std::sync::OnceLock::new();
        let engine = ENGINE.get_or_init(|| engine("[\"up\", \"nearest\"]", &[]));
        let mut message = question("www.example.com.", 1, Some(&subnet(ip("192.0.2.0"), 24)));
        message.truncate(cut);
        if let Some(octet) = message.get_mut(at) { *octet = with; }
        let mut rng = SmallRng::seed_from_u64(0);
        if let Some(reply) = engine.answer(&message, ip("127.0.0.1"), Transport::Udp, NOW, &mut rng) {
            prop_assert!(reply.encode().unwrap().len() <= 1232);
        }
    }
}
