//! RFC 8906 §8: the queries that its authors send to every name server, over UDP and TCP, sent by dig.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use steer_tests::dns::Question;
use steer_tests::{Steer, free_port, skip};

const ZONE: &str = "\
$ORIGIN example.com.
$TTL 300
@   IN SOA ns1 hostmaster 1 7200 900 1209600 60
    IN NS ns1
ns1 IN A 192.0.2.1
";

/// One query of the document: its section, what dig is told, what its output has, and what it has not.
struct Case {
    section: &'static str,
    args: &'static str,
    has: &'static [&'static str],
    has_not: &'static [&'static str],
}

const fn case(
    section: &'static str,
    args: &'static str,
    has: &'static [&'static str],
    has_not: &'static [&'static str],
) -> Case {
    Case {
        section,
        args,
        has,
        has_not,
    }
}

const SOA: &str = "SOA\tns1.example.com.";
const NO_EDNS: &str = "OPT PSEUDOSECTION";

const CASES: [Case; 17] = [
    case(
        "8.1.1 SOA",
        "+noedns +noad +norec soa example.com",
        &["status: NOERROR", "flags: qr aa;", SOA],
        &[NO_EDNS],
    ),
    case(
        "8.1.2 unknown type",
        "+noedns +noad +norec type1000 example.com",
        &["status: NOERROR", "flags: qr aa;", "ANSWER: 0"],
        &[NO_EDNS],
    ),
    case(
        "8.1.3.1 CD",
        "+noedns +noad +norec +cd soa example.com",
        &["status: NOERROR", "flags: qr aa cd;", SOA],
        &[],
    ),
    case(
        "8.1.3.2 AD",
        "+noedns +norec +ad soa example.com",
        &["status: NOERROR", "flags: qr aa;", SOA],
        &[],
    ),
    case(
        "8.1.3.3 Z",
        "+noedns +noad +norec +zflag soa example.com",
        &["status: NOERROR", "flags: qr aa;", SOA],
        &["MBZ"],
    ),
    case(
        "8.1.3.4 RD",
        "+noedns +noad +rec soa example.com",
        &["status: NOERROR", "flags: qr aa rd;", SOA],
        &[],
    ),
    case(
        "8.1.4 opcode",
        "+noedns +noad +opcode=15 +norec +header-only",
        &["status: NOTIMP", "opcode: RESERVED15"],
        &[NO_EDNS, SOA],
    ),
    case(
        "8.2.1 EDNS 0",
        "+nocookie +edns=0 +noad +norec soa example.com",
        &["status: NOERROR", SOA, "EDNS: version: 0, flags:; udp: 1232"],
        &[],
    ),
    case(
        "8.2.2 EDNS 1",
        "+nocookie +edns=1 +noednsneg +noad +norec soa example.com",
        &["status: BADVERS", "EDNS: version: 0"],
        &[SOA],
    ),
    case(
        "8.2.3 unknown option",
        "+nocookie +edns=0 +noad +norec +ednsopt=100 soa example.com",
        &["status: NOERROR", SOA, "EDNS: version: 0"],
        &["OPT=100"],
    ),
    case(
        "8.2.4 unknown flags",
        "+nocookie +edns=0 +noad +norec +ednsflags=0x40 soa example.com",
        &["status: NOERROR", SOA, "EDNS: version: 0, flags:;"],
        &["MBZ"],
    ),
    case(
        "8.2.5 EDNS 1 with unknown flags",
        "+nocookie +edns=1 +noednsneg +noad +norec +ednsflags=0x40 soa example.com",
        &["status: BADVERS", "EDNS: version: 0, flags:;"],
        &[SOA, "MBZ"],
    ),
    case(
        "8.2.6 EDNS 1 with an unknown option",
        "+nocookie +edns=1 +noednsneg +noad +norec +ednsopt=100 soa example.com",
        &["status: BADVERS", "EDNS: version: 0"],
        &[SOA, "OPT=100"],
    ),
    case(
        "8.2.7 truncation",
        "+nocookie +norec +edns=0 +bufsize=512 +ignore txt big.example.com",
        &["status: NOERROR", "EDNS: version: 0"],
        &[],
    ),
    case(
        "8.2.8 DO",
        "+nocookie +edns=0 +noad +norec +dnssec soa example.com",
        &["status: NOERROR", SOA, "EDNS: version: 0, flags: do;"],
        &[],
    ),
    case(
        "8.2.9 EDNS 1 with DO",
        "+nocookie +edns=1 +noednsneg +noad +norec +dnssec soa example.com",
        &["status: BADVERS", "EDNS: version: 0, flags: do;"],
        &[SOA],
    ),
    case(
        "8.2.10 several options",
        "+edns=0 +noad +norec +cookie +nsid +expire +subnet=0.0.0.0/0 soa example.com",
        &[
            "status: NOERROR",
            SOA,
            "EDNS: version: 0",
            "(good)",
            "CLIENT-SUBNET: 0.0.0.0/0/0",
            "NSID:",
        ],
        &["EXPIRE"],
    ),
];

fn dig(server: SocketAddr, transport: &str, args: &str) -> String {
    let output = Command::new("dig")
        .args([&format!("@{}", server.ip()), "-p", &server.port().to_string()])
        .args(["+tries=1", "+time=5", transport])
        .args(args.split(' '))
        .output();
    String::from_utf8_lossy(&output.unwrap().stdout).into_owned()
}

#[test]
fn every_query_of_rfc_8906_is_answered_as_it_asks_over_udp_and_tcp() {
    if Command::new("dig").arg("-v").output().is_err() {
        skip(
            "dns_compliance",
            "dig (Debian package bind9-dnsutils) is not installed",
        );
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let listen = free_port();
    let config = format!(
        "[dns]\nlisten = [\"{listen}\"]\nidentity = \"here\"\n[[zone]]\nname = \"example.com\"\nfile = \"example.com.zone\"\n"
    );
    let mut zone = ZONE.to_owned();
    for number in 0..6 {
        writeln!(zone, "big IN TXT \"{number}{}\"", "x".repeat(200)).unwrap();
    }
    fs::write(folder.path().join("steer.toml"), config).unwrap();
    fs::write(folder.path().join("example.com.zone"), zone).unwrap();
    let mut steer = Steer::start(folder.path(), &["run", "--config", "steer.toml"]);
    let question = Question::new("example.com.", RecordType::SOA);
    steer.until("an answer", |_| question.ask(listen, Duration::from_millis(50)));
    let mut wrong = String::new();
    for transport in ["+notcp", "+tcp"] {
        for Case {
            section,
            args,
            has,
            has_not,
        } in &CASES
        {
            let told = dig(listen, transport, args);
            let is_cut = *section == "8.2.7 truncation" && transport == "+notcp";
            let lost = has.iter().find(|text| !told.contains(**text));
            let surplus = has_not.iter().find(|text| told.contains(**text));
            let is_clean = !told.contains("WARNING: Message") && !told.contains("extra bytes");
            if lost.is_some() || surplus.is_some() || !is_clean || told.contains("aa tc") != is_cut {
                writeln!(
                    wrong,
                    "{section} {transport}: {lost:?} is not there, {surplus:?} is\n{told}"
                )
                .unwrap();
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
    assert_eq!(steer.stop().status.code(), Some(0));
}
