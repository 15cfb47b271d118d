mod octets;

use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::svcb::SvcParamValue;
use hickory_proto::rr::{RData, Record, RecordType};
use proptest::prelude::*;
use steer_topology::Name;

use crate::engine::Engine;
use crate::testing::{CLIENTS, ask, config, ip, question, scope, subnet, tables_of};

const A: u16 = 1;
const CNAME: u16 = 5;
const MX: u16 = 15;
const TXT: u16 = 16;
const AAAA: u16 = 28;
const SRV: u16 = 33;
const SVCB: u16 = 64;
const HTTPS: u16 = 65;
const ANY: u16 = 255;

/// The world of `testing::config` where endpoints have names, too, and `app` has these types.
fn typed(types: &str, chain: &str, rest: &str) -> String {
    let mut text = config(chain, &format!("type = {types}\n{rest}")).replacen("www.", "app.", 1);
    for (address, said) in [
        (
            "198.51.100.1:443\"",
            "target = \"fra.example.com\", text = [\"site\", \"fra\"]",
        ),
        (
            "[2001:db8::1]:443\"",
            "target = \"fra.example.com\", text = [\"site\", \"fra\"]",
        ),
        (
            "198.51.100.2:443\"",
            "target = \"nrt.example.net\", priority = 7, text = \"nrt\"",
        ),
        (
            "[2001:db8::2]:443\"",
            "target = \"nrt.example.net\", priority = 7, text = \"nrt\"",
        ),
        (
            "198.51.100.3:443\"",
            "target = \"jfk.example.net\", text = \"jfk\"",
        ),
    ] {
        text = text.replacen(address, &format!("{address}, {said}"), 1);
    }
    text
}

/// `fra.example.com` is a steered name beside the one that is asked for.
const FRA: &str = "[[pool]]\nname = \"fra\"\nendpoints = [{ site = \"fra\", address = \"192.0.2.77:443\" }]\n\
                   [[steer]]\nname = \"fra.example.com\"\npool = \"fra\"\nchain = [\"nearest\", \"geofence continent\"]\n";

fn reply(text: &str, down: &[&str], name: &str, rtype: u16, client: usize) -> Message {
    let engine = Engine::new(tables_of(text, down));
    asked(&engine, name, rtype, client)
}

fn asked(engine: &Engine, name: &str, rtype: u16, client: usize) -> Message {
    let option = subnet(ip(CLIENTS[client].0), 24);
    ask(engine, &question(name, rtype, Some(&option)), "127.0.0.1")
}

/// Owner-less text of the data.
fn told(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| format!("{} {}", record.record_type(), record.data))
        .collect()
}

fn addresses(records: &[Record]) -> BTreeSet<IpAddr> {
    records
        .iter()
        .filter_map(|record| record.data.ip_addr())
        .collect()
}

/// The hints of the one service binding.
fn hints(records: &[Record]) -> BTreeSet<IpAddr> {
    let [Record { data, .. }] = records else {
        panic!("{records:?}");
    };
    let (RData::HTTPS(hickory_proto::rr::rdata::HTTPS(binding)) | RData::SVCB(binding)) = data else {
        panic!("{data:?}");
    };
    let hint = |(_, value): &(_, SvcParamValue)| -> Vec<IpAddr> {
        match value {
            SvcParamValue::Ipv4Hint(hint) => hint.0.iter().map(|a| a.0.into()).collect(),
            SvcParamValue::Ipv6Hint(hint) => hint.0.iter().map(|a| a.0.into()).collect(),
            SvcParamValue::Mandatory(_)
            | SvcParamValue::Alpn(_)
            | SvcParamValue::NoDefaultAlpn
            | SvcParamValue::Port(_)
            | SvcParamValue::EchConfigList(_)
            | SvcParamValue::Unknown(_) => Vec::new(),
        }
    };
    binding.svc_params.iter().flat_map(hint).collect()
}

#[test]
fn a_service_binding_for_itself_hints_at_the_addresses_of_the_same_client() {
    let text = typed(
        "[\"address\", \"https\", \"svcb\"]",
        "[\"up\", \"nearest\", \"take 1\"]",
        "alpn = [\"h2\", \"h3\"]",
    );
    let reply = reply(&text, &[], "app.example.com.", HTTPS, 0);
    assert_eq!(
        told(&reply.answers),
        ["HTTPS 1 . alpn=h2,h3, ipv4hint=198.51.100.1, ipv6hint=2001:db8::1,"]
    );
    assert_eq!(reply.answers[0].ttl, 30);
    assert!(scope(&reply).unwrap() > 0);
    assert_eq!(
        addresses(&reply.additionals),
        [ip("198.51.100.1"), ip("2001:db8::1")].into(),
        "RFC 9460 §4.1"
    );
    let svcb = self::reply(&text, &["2001:db8::1"], "app.example.com.", SVCB, 0);
    assert_eq!(
        told(&svcb.answers),
        ["SVCB 1 . alpn=h2,h3, port=443 ipv4hint=198.51.100.1, ipv6hint=2001:db8::2,"]
    );
}

#[test]
fn a_port_other_than_443_is_told_and_agrees_with_the_pool() {
    let text = typed("[\"address\", \"https\"]", "[\"up\", \"take 1\"]", "").replace(":443\"", ":8443\"");
    let reply = reply(&text, &[], "app.example.com.", HTTPS, 0);
    assert_eq!(
        told(&reply.answers),
        ["HTTPS 1 . port=8443 ipv4hint=198.51.100.1, ipv6hint=2001:db8::1,"]
    );
    assert_eq!(scope(&reply), Some(0), "nobody is treated otherwise");
}

#[test]
fn service_bindings_by_endpoint_come_in_the_order_of_the_chain_with_their_addresses() {
    let rest = format!("target = \"endpoint\"\nalpn = \"h2\"\n{FRA}");
    let text = typed("\"https\"", "[\"up\", \"nearest\", \"take 2\"]", &rest);
    let reply = reply(&text, &[], "app.example.com.", HTTPS, 0);
    assert_eq!(
        told(&reply.answers),
        [
            "HTTPS 1 fra.example.com. alpn=h2,",
            "HTTPS 2 jfk.example.net. alpn=h2,"
        ]
    );
    assert_eq!(
        told(&reply.additionals),
        ["A 192.0.2.77"],
        "steered, and in our zone"
    );
    assert_eq!(reply.additionals[0].name.to_string(), "fra.example.com.");
}

#[test]
fn what_comes_along_narrows_the_scope_and_no_refusal_of_it_is_told() {
    let rest = format!("target = \"endpoint\"\n{FRA}");
    let text = typed("\"https\"", "[\"failover\"]", &rest);
    let near = reply(&text, &[], "app.example.com.", HTTPS, 0);
    assert_eq!(told(&near.additionals), ["A 192.0.2.77"]);
    assert!(
        scope(&near).unwrap() > 0,
        "the additional address is not for everybody"
    );
    let far = reply(&text, &[], "app.example.com.", HTTPS, 1);
    assert_eq!(far.metadata.response_code, ResponseCode::NoError);
    assert_eq!((far.answers.len(), far.additionals.len()), (1, 0));
}

#[test]
fn explain_tells_the_scope_of_the_reply_with_what_comes_along() {
    let text = typed(
        "\"https\"",
        "[\"failover\"]",
        &format!("target = \"endpoint\"\n{FRA}"),
    );
    let tables = tables_of(&text, &[]);
    let name: Name = "app.example.com".parse().unwrap();
    let explained = tables.explain(ip(CLIENTS[0].0), &name);
    let https = explained
        .answers
        .iter()
        .find(|answer| answer.rtype == "HTTPS")
        .unwrap();
    let reply = reply(&text, &[], "app.example.com.", HTTPS, 0);
    assert_eq!(Some(https.scope), scope(&reply));
    assert_eq!(https.chains.len(), 1, "of the name that was asked for");
}

#[test]
fn an_alias_is_followed_in_our_zones_and_left_to_the_resolver_elsewhere() {
    let text = typed("\"cname\"", "[\"up\", \"nearest\"]", FRA);
    let here = reply(&text, &[], "app.example.com.", A, 0);
    assert_eq!(told(&here.answers), ["CNAME fra.example.com.", "A 192.0.2.77"]);
    assert!(here.metadata.authoritative);
    let there = reply(&text, &[], "app.example.com.", AAAA, 1);
    assert_eq!(told(&there.answers), ["CNAME nrt.example.net."]);
    let alone = reply(&text, &[], "APP.example.com.", CNAME, 0);
    assert_eq!(told(&alone.answers), ["CNAME fra.example.com."]);
    assert_eq!(alone.answers[0].name.to_string(), "APP.example.com.");
    let any = reply(&text, &[], "app.example.com.", ANY, 1);
    assert_eq!(told(&any.answers), ["CNAME nrt.example.net."], "RFC 8482 §4.1");
    let text_query = reply(&text, &[], "app.example.com.", TXT, 1);
    assert_eq!(told(&text_query.answers), ["CNAME nrt.example.net."]);
    let down = ["198.51.100.1", "2001:db8::1"];
    let moved = reply(&text, &down, "app.example.com.", A, 0);
    assert_eq!(told(&moved.answers), ["CNAME jfk.example.net."]);
}

#[test]
fn an_alias_that_comes_back_ends() {
    let more = "[[pool]]\nname = \"back\"\nendpoints = [{ site = \"fra\", address = \"192.0.2.77:443\", target = \"app.example.com\" }]\n\
                [[steer]]\nname = \"fra.example.com\"\npool = \"back\"\ntype = \"cname\"\n";
    let reply = reply(
        &typed("\"cname\"", "[\"up\"]", more),
        &[],
        "app.example.com.",
        A,
        0,
    );
    assert_eq!(
        told(&reply.answers),
        ["CNAME fra.example.com.", "CNAME app.example.com."]
    );
}

#[test]
fn an_endpoint_of_two_families_is_one_candidate_that_is_up_while_one_of_them_is() {
    let text = typed(
        "[\"mx\", \"srv\", \"txt\"]",
        "[\"up\", \"nearest\", \"take 2\"]",
        "",
    );
    let mx = |down: &[&str]| told(&reply(&text, down, "app.example.com.", MX, 0).answers);
    let both = ["MX 10 fra.example.com.", "MX 20 jfk.example.net."];
    assert_eq!(mx(&[]), both);
    assert_eq!(mx(&["198.51.100.1"]), both);
    assert_eq!(mx(&["2001:db8::1"]), both);
    assert_eq!(
        mx(&["198.51.100.1", "2001:db8::1"]),
        ["MX 10 jfk.example.net.", "MX 7 nrt.example.net."]
    );
    let srv = reply(&text, &[], "app.example.com.", SRV, 1);
    assert_eq!(
        told(&srv.answers),
        ["SRV 7 30 443 nrt.example.net.", "SRV 2 10 443 fra.example.com."]
    );
    let txt = reply(&text, &[], "app.example.com.", TXT, 0);
    assert_eq!(told(&txt.answers), ["TXT sitefra", "TXT jfk"]);
}

#[test]
fn types_that_no_chain_decides_come_from_the_zone_or_are_empty() {
    let text = typed(
        "[\"mx\", \"https\"]",
        "[\"up\", \"nearest\"]",
        "target = \"endpoint\"",
    );
    let engine = Engine::new(tables_of(&text.replacen("app.", "www.", 1), &[]));
    for rtype in [A, AAAA, SRV, SVCB, CNAME] {
        let reply = asked(&engine, "www.example.com.", rtype, 0);
        assert_eq!(reply.metadata.response_code, ResponseCode::NoError);
        assert!(reply.answers.is_empty(), "{reply:?}");
        assert_eq!(reply.authorities[0].record_type(), RecordType::SOA);
        assert_eq!(scope(&reply), Some(0), "RFC 7871 §7.4");
    }
    assert_eq!(
        told(&asked(&engine, "www.example.com.", TXT, 0).answers),
        ["TXT beside a steered name"]
    );
    assert_eq!(
        told(&asked(&engine, "www.example.com.", ANY, 0).answers),
        ["TXT beside a steered name"],
        "RFC 8482 §4.1: one set"
    );
}

#[test]
fn any_of_a_name_that_is_steered_alone_is_the_first_of_its_types() {
    let text = typed("[\"srv\", \"mx\"]", "[\"up\", \"take 1\"]", "");
    let any = reply(&text, &[], "app.example.com.", ANY, 0);
    assert_eq!(told(&any.answers), ["MX 10 fra.example.com."]);
    let nodata = text.replacen("chain =", "if_all_down = \"nodata\"\nchain =", 1);
    let all = [
        "198.51.100.1",
        "198.51.100.2",
        "198.51.100.3",
        "2001:db8::1",
        "2001:db8::2",
    ];
    let none = reply(&nodata, &all, "app.example.com.", ANY, 0);
    assert_eq!((none.answers.len(), none.authorities.len()), (0, 1), "{none:?}");
}

#[test]
fn a_wildcard_is_steered_in_every_type_and_stops_at_names_that_exist() {
    let text = typed("[\"address\", \"https\"]", "[\"up\", \"take 1\"]", "").replacen("app.", "*.", 1);
    let engine = Engine::new(tables_of(&text, &[]));
    let binding = asked(&engine, "x.y.example.com.", HTTPS, 0);
    assert_eq!(
        hints(&binding.answers),
        addresses(&asked(&engine, "x.y.example.com.", A, 0).answers)
            .union(&addresses(&asked(&engine, "x.y.example.com.", AAAA, 0).answers))
            .copied()
            .collect()
    );
    assert!(
        binding
            .answers
            .iter()
            .chain(&binding.additionals)
            .all(|record| record.name.to_string() == "x.y.example.com.")
    );
    for existing in ["ent.example.com.", "plain.example.com."] {
        assert!(
            asked(&engine, existing, HTTPS, 0).answers.is_empty(),
            "RFC 4592 §2.2.2"
        );
    }
    let missing = asked(&engine, "x.ent.example.com.", HTTPS, 0);
    assert_eq!(missing.metadata.response_code, ResponseCode::NXDomain);
}

#[test]
fn addresses_and_bindings_work_at_the_apex() {
    let text = typed(
        "[\"address\", \"https\", \"mx\", \"txt\"]",
        "[\"up\", \"take 1\"]",
        "",
    )
    .replacen("app.example.com", "example.com", 1);
    let engine = Engine::new(tables_of(&text, &[]));
    assert_eq!(
        told(&asked(&engine, "example.com.", A, 0).answers),
        ["A 198.51.100.1"]
    );
    assert_eq!(hints(&asked(&engine, "example.com.", HTTPS, 0).answers).len(), 2);
    assert_eq!(
        told(&asked(&engine, "example.com.", MX, 0).answers),
        ["MX 10 fra.example.com."]
    );
    assert_eq!(asked(&engine, "example.com.", 6, 0).answers.len(), 1, "SOA stays");
    assert_eq!(asked(&engine, "example.com.", 2, 0).answers.len(), 1, "NS stays");
}

#[test]
fn the_rule_for_when_all_is_down_holds_for_every_type() {
    let all = [
        "198.51.100.1",
        "198.51.100.2",
        "198.51.100.3",
        "2001:db8::1",
        "2001:db8::2",
    ];
    for (types, rtype) in [
        ("[\"address\", \"https\"]", HTTPS),
        ("\"cname\"", CNAME),
        ("\"mx\"", MX),
        ("\"srv\"", SRV),
    ] {
        let with = |rule: &str| {
            let text = typed(
                types,
                "[\"up\", \"nearest\", \"take 1\"]",
                &format!("if_all_down = \"{rule}\""),
            );
            let reply = reply(&text, &all, "app.example.com.", rtype, 0);
            (reply.metadata.response_code, reply.answers.len())
        };
        assert_eq!(with("serve-all"), (ResponseCode::NoError, 1), "{types}");
        assert_eq!(with("serve-last-good"), (ResponseCode::NoError, 1), "{types}");
        assert_eq!(with("nodata"), (ResponseCode::NoError, 0), "{types}");
        assert_eq!(with("servfail"), (ResponseCode::ServFail, 0), "{types}");
        let fenced = typed(types, "[\"up\", \"geofence continent\"]", "");
        let down = ["198.51.100.1", "2001:db8::1"];
        let reply = reply(&fenced, &down, "app.example.com.", rtype, 0);
        assert_eq!(reply.metadata.response_code, ResponseCode::Refused, "{types}");
    }
}

/// RFC 9460 §2.5.2 and §4.1, of a zone file.
#[test]
fn plain_bindings_bring_the_addresses_of_their_targets() {
    let zone = "@ 60 IN SOA ns host 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.53\n\
                self 60 TYPE65 \\# 3 0001 00\nself 60 A 192.0.2.1\n\
                other 60 TYPE64 \\# 12 0001 0473656c66036e657400\n\
                alias 60 TYPE65 \\# 20 0000 0473656c66076578616d706c6503636f6d00\n\
                nothing 60 TYPE65 \\# 3 0000 00\nnothing 60 A 192.0.2.9\n";
    let zones = crate::zones::Zones::of_text("example.com.", zone, &[]).unwrap();
    struct Nobody;
    impl crate::lookup::Steering for Nobody {
        fn pick(&mut self, _: &[u8], _: RecordType) -> Option<crate::lookup::Steered> {
            None
        }
    }
    let glue = |name: &str, rtype| {
        let name = hickory_proto::rr::Name::from_ascii(name).unwrap();
        let answer = crate::lookup::answer(&zones, &name, rtype, &mut Nobody);
        assert_eq!(answer.answers.len(), 1);
        answer
            .glue
            .iter()
            .map(|record| format!("{} {}", record.name, record.record_type()))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        glue("self.example.com.", RecordType::HTTPS),
        ["self.example.com. A"]
    );
    assert_eq!(
        glue("alias.example.com.", RecordType::HTTPS),
        ["self.example.com. A", "self.example.com. HTTPS"]
    );
    assert!(
        glue("other.example.com.", RecordType::SVCB).is_empty(),
        "not in our zone"
    );
    assert!(
        glue("nothing.example.com.", RecordType::HTTPS).is_empty(),
        "§2.5.1: there is nothing"
    );
}

#[test]
fn a_steered_type_beside_zone_data_of_the_same_type_is_a_fault() {
    for (types, rest, says) in [
        (
            "\"txt\"",
            "",
            "www.example.com. has TXT records here and is steered",
        ),
        (
            "\"cname\"",
            "",
            "www.example.com. has TXT records here and is steered",
        ),
    ] {
        let fleet = crate::testing::fleet(&typed(types, "[\"up\"]", rest).replacen("app.", "www.", 1));
        let faults = crate::zones::Zones::load(&fleet).unwrap_err();
        assert!(faults.to_string().contains(says), "{faults}");
    }
}

/// What `explain` says of each type, word for word.
#[test]
fn every_type_is_explained() {
    for (types, rest) in [
        ("[\"address\", \"https\"]", "alpn = \"h2\"".to_owned()),
        ("\"svcb\"", "target = \"endpoint\"".to_owned()),
        ("\"cname\"", FRA.to_owned()),
        ("[\"mx\", \"srv\"]", String::new()),
        ("\"txt\"", String::new()),
    ] {
        let chain = "[\"up\", \"nearest\", \"take 2\"]";
        let text = typed(types, chain, &rest);
        let tables = tables_of(&text, &["198.51.100.1"]);
        let name: Name = "app.example.com".parse().unwrap();
        let explanation = tables.explain(ip(CLIENTS[0].0), &name).to_string();
        let golden: String = types.chars().filter(|c| c.is_alphanumeric()).collect();
        crate::explain::check_golden(&format!("type-{golden}"), &explanation);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Several types at one name, from one pool, for the same client: one answer.
    #[test]
    fn hints_are_the_addresses_that_the_same_client_gets(
        chain in prop::sample::select(vec![
            "[\"up\", \"nearest\", \"take 1\"]",
            "[\"up\", \"nearest\"]",
            "[\"up\", \"country\", \"take 2\"]",
            "[\"up\", \"geofence continent\", \"nearest\"]",
            "[\"up\", \"failover\"]",
            "[\"up\", \"sticky\", \"take 1\"]",
            "[\"latency\", \"take 2\"]",
        ]),
        rule in prop::sample::select(vec!["serve-all", "serve-last-good", "nodata", "servfail"]),
        down in prop::sample::subsequence(
            vec!["198.51.100.1", "198.51.100.2", "198.51.100.3", "2001:db8::1", "2001:db8::2"], 0..=5),
        client in 0_usize..3,
    ) {
        let maps = if chain.contains("country") { "country = { DE = \"nrt\" }\n" } else { "" };
        let text = typed("[\"address\", \"https\"]", chain, &format!("{maps}if_all_down = \"{rule}\""));
        let engine = Engine::new(tables_of(&text, &down));
        let ask = |rtype| asked(&engine, "app.example.com.", rtype, client);
        let (a, aaaa, https) = (ask(A), ask(AAAA), ask(HTTPS));
        let all: BTreeSet<IpAddr> = addresses(&a.answers).union(&addresses(&aaaa.answers)).copied().collect();
        if all.is_empty() {
            prop_assert!(https.answers.is_empty());
            let codes = [&a, &aaaa].map(|reply| reply.metadata.response_code);
            prop_assert!(codes.contains(&https.metadata.response_code), "{codes:?}");
        } else {
            prop_assert_eq!(hints(&https.answers), all);
            prop_assert_eq!(scope(&https), scope(&a).max(scope(&aaaa)));
        }
    }
}
