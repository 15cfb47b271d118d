//! What stands on the wire.

use rand::SeedableRng;
use rand::rngs::SmallRng;
use steer_topology::Kind;

use super::super::{Said, data};
use super::*;
use crate::reply::Transport;
use crate::testing::NOW;

fn octets(text: &str, rtype: u16, transport: Transport) -> Vec<u8> {
    let engine = Engine::new(tables_of(text, &[]));
    let query = question("app.example.com.", rtype, Some(&subnet(ip(CLIENTS[0].0), 24)));
    let reply = engine.answer(
        &query,
        ip("127.0.0.1"),
        transport,
        NOW,
        &mut SmallRng::seed_from_u64(1),
    );
    reply.unwrap().encode().unwrap()
}

/// RFC 9460 §2.2: parameters by ascending keys, each once; and no name in these data is compressed (RFC 2782, RFC 3597
/// §4), though the question would give it a tail.
#[test]
fn parameters_stand_in_order_and_names_are_written_out() {
    let itself = typed(
        "[\"address\", \"https\"]",
        "[\"up\", \"nearest\", \"take 1\"]",
        "alpn = \"h2\"",
    )
    .replace(":443\"", ":8443\"");
    let hints = [
        &[0, 1, 0, 0, 1, 0, 3, 2, b'h', b'2', 0, 3, 0, 2, 0x20, 0xfb][..],
        &[0, 4, 0, 4, 198, 51, 100, 1, 0, 6, 0, 16],
        &[0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
    ];
    let named = |types: &str, rest: &str| typed(types, "[\"up\", \"nearest\", \"take 1\"]", rest);
    let name = b"\x03fra\x07example\x03com\x00";
    for (text, rtype, data) in [
        (itself, HTTPS, hints.concat()),
        (
            named("\"svcb\"", "target = \"endpoint\""),
            SVCB,
            [&[0, 1][..], name, &[0, 3, 0, 2, 1, 0xbb]].concat(),
        ),
        (
            named("\"srv\"", ""),
            SRV,
            [&[0, 1, 0, 10, 1, 0xbb][..], name].concat(),
        ),
    ] {
        let octets = octets(&text, rtype, Transport::Udp);
        let with_length = [&(data.len() as u16).to_be_bytes()[..], &data].concat();
        assert!(
            octets.windows(with_length.len()).any(|part| part == with_length),
            "{rtype}: {octets:?}"
        );
    }
}

#[test]
fn what_two_sites_say_alike_is_told_once() {
    let text = typed("[\"mx\", \"txt\"]", "[\"up\", \"nearest\"]", "")
        .replace("jfk.example.net", "fra.example.com")
        .replace("text = \"jfk\"", "text = [\"site\", \"fra\"]");
    let told = |rtype| told(&reply(&text, &[], "app.example.com.", rtype, 0).answers);
    assert_eq!(told(MX), ["MX 10 fra.example.com.", "MX 7 nrt.example.net."]);
    assert_eq!(told(TXT), ["TXT sitefra", "TXT nrt"]);
}

#[test]
fn the_longest_text_is_whole_over_tcp_and_truncated_over_udp() {
    let strings = vec![format!("\"{}\"", "x".repeat(255)); 64].join(", ");
    let text = typed("\"txt\"", "[\"up\", \"nearest\", \"take 1\"]", "")
        .replace("text = [\"site\", \"fra\"]", &format!("text = [{strings}]"));
    let udp = Message::from_vec(&octets(&text, TXT, Transport::Udp)).unwrap();
    assert!(udp.metadata.truncation && udp.answers.is_empty());
    assert!(scope(&udp).unwrap() > 0, "RFC 7871: the option stays");
    let tcp = octets(&text, TXT, Transport::Tcp);
    assert!(tcp.len() > 64 * 256);
    let tcp = Message::from_vec(&tcp).unwrap();
    assert_eq!((tcp.metadata.truncation, tcp.answers.len()), (false, 1));
}

/// A priority of 0 would make an alias of a service binding (RFC 9460 §2.4.1).
#[test]
fn places_end_with_the_greatest_priority() {
    let said = |_| Said {
        priority: None,
        rest: Vec::new(),
    };
    let told: Vec<Said> = (0..=u16::MAX).map(said).collect();
    let records = data(Kind::Https, &told);
    assert_eq!(records.len(), usize::from(u16::MAX));
    assert_eq!(records.last().unwrap(), &[0xff, 0xff]);
}
