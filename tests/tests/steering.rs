//! Chains from outside: regions, maps, what was good last, TTLs that follow, and what a change would do.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpListener};
use std::path::Path;
use std::time::Duration;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;
use steer_tests::dns::{Answer, Question};
use steer_tests::{Steer, free_port};

const ZONE: &str =
    "@ 60 IN SOA ns1 hostmaster 1 7200 900 1209600 60\n@ 60 IN NS ns1\nns1 60 IN A 192.0.2.1\n";

/// Germany, Japan, nowhere, by the built-in database.
const CLIENTS: [&str; 3] = ["81.169.145.0", "133.11.0.0", "10.0.0.0"];

fn config(listen: SocketAddr, check: &str, steer: &str) -> String {
    format!(
        r#"
[dns]
listen = ["{listen}"]
[[zone]]
name = "example.com"
file = "example.com.zone"
[fleet]
guard = {{ keep_sites = 0, max_withdrawn = 10, window = "1s" }}
[[site]]
name = "fra"
[[site]]
name = "nrt"
{check}
[[steer]]
name = "www.example.com"
pool = "web"
{steer}
"#
    )
}

const UNCHECKED: &str = r#"
[[pool]]
name = "web"
endpoints = [{ site = "fra", address = "198.51.100.1:443" }, { site = "nrt", address = "198.51.100.2:443" }]
"#;

fn start(folder: &Path, config: &str) -> Steer {
    fs::write(folder.join("steer.toml"), config).unwrap();
    fs::write(folder.join("example.com.zone"), ZONE).unwrap();
    Steer::start(folder, &["run", "--config", "steer.toml", "--site", "fra"])
}

fn ask(server: SocketAddr, client: &str) -> Option<Answer> {
    let question = Question::new("www.example.com.", RecordType::A);
    let client: IpAddr = client.parse().unwrap();
    question
        .from_subnet(client, 24)
        .ask(server, Duration::from_millis(200))
}

fn addresses(answer: &Answer) -> Vec<String> {
    answer.addresses().iter().map(ToString::to_string).collect()
}

#[test]
fn a_fence_and_a_map_decide_on_the_wire() {
    let (folder, listen) = (tempfile::tempdir().unwrap(), free_port());
    let steer = "chain = [\"up\", \"geofence continent\", \"take 1\"]";
    let more = "[[steer]]\nname = \"map.example.com\"\npool = \"web\"\nchain = [\"cidr\"]\n\
                cidr = { \"133.0.0.0/8\" = \"fra\" }";
    let mut steer = start(
        folder.path(),
        &config(listen, UNCHECKED, &format!("{steer}\n{more}")),
    );
    let first = steer.until("an answer", |_| ask(listen, CLIENTS[0]));
    assert_eq!(addresses(&first), ["198.51.100.1"]);
    assert!(first.scope().is_some_and(|scope| scope > 0));
    assert_eq!(addresses(&ask(listen, CLIENTS[1]).unwrap()), ["198.51.100.2"]);
    let nowhere = ask(listen, CLIENTS[2]).unwrap();
    assert_eq!(nowhere.0.metadata.response_code, ResponseCode::Refused);
    let map = Question::new("map.example.com.", RecordType::A).from_subnet(CLIENTS[1].parse().unwrap(), 24);
    let mapped = map.ask(listen, Duration::from_secs(2)).unwrap();
    assert_eq!(
        (addresses(&mapped), mapped.scope()),
        (vec!["198.51.100.1".to_owned()], Some(8))
    );
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn when_all_is_down_the_last_good_one_is_served() {
    let (folder, listen) = (tempfile::tempdir().unwrap(), free_port());
    let fra = TcpListener::bind("127.0.0.1:0").unwrap();
    let nrt = TcpListener::bind("127.0.0.2:0").unwrap();
    let check = format!(
        "[[check]]\nname = \"web\"\nkind = \"tcp\"\ninterval = \"50ms\"\nfall = 2\nrise = 1\n\
         [[pool]]\nname = \"web\"\ncheck = \"web\"\nendpoints = [\n{{ site = \"fra\", address = \"{}\" }},\n\
         {{ site = \"nrt\", address = \"{}\" }}]\n",
        fra.local_addr().unwrap(),
        nrt.local_addr().unwrap()
    );
    let steer = "chain = [\"up\"]\nif_all_down = \"serve-last-good\"";
    let mut steer = start(folder.path(), &config(listen, &check, steer));
    let becomes = |steer: &mut Steer, wanted: &[&str]| {
        steer.until("the answer", |_| {
            ask(listen, CLIENTS[0]).filter(|answer| addresses(answer) == wanted)
        });
    };
    steer.until("both are up", |steer| {
        (steer.log().matches("verdict=\"up\"").count() == 2).then_some(())
    });
    becomes(&mut steer, &["127.0.0.1", "127.0.0.2"]);
    drop(nrt);
    becomes(&mut steer, &["127.0.0.1"]);
    drop(fra);
    steer.until("fra is down too", |steer| {
        // Two came up, two went down.
        (steer.log().matches("verdict changed").count() >= 4).then_some(())
    });
    // Both are down now; with serve-all both would be named.
    becomes(&mut steer, &["127.0.0.1"]);
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn a_ttl_grows_by_itself_once_all_has_been_calm() {
    let (folder, listen) = (tempfile::tempdir().unwrap(), free_port());
    let steer = "chain = [\"up\"]\nttl = \"auto\"\nttl_min = \"1s\"\nttl_max = \"3s\"\n\
                 [[anycast]]\nprefix = \"198.51.100.0/24\"\n[bgp]\nasn = 64512\nrouter_id = \"192.0.2.1\"";
    let mut steer = start(folder.path(), &config(listen, UNCHECKED, steer));
    let ttl = |wanted| {
        move |_: &Steer| {
            let answer = ask(listen, CLIENTS[0])?;
            (answer.0.answers.first()?.ttl == wanted).then_some(())
        }
    };
    steer.until("a short TTL", ttl(1));
    steer.until("a long TTL", ttl(3));
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn simulate_tells_the_shares_before_and_after_by_country() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| fs::write(folder.path().join(name), text).unwrap();
    let listen = free_port();
    write("example.com.zone", ZONE);
    write(
        "old.toml",
        &config(listen, UNCHECKED, "chain = [\"nearest\", \"take 1\"]"),
    );
    let new = "chain = [\"country\", \"nearest\", \"take 1\"]\ncountry = { DE = \"nrt\" }";
    write("new.toml", &config(listen, UNCHECKED, new));
    write(
        "queries",
        "# a comment\n81.169.145.1 www.example.com 30\n133.11.0.1 www.example.com A 60\n\
         133.11.0.1 none.example.com AAAA 10 # no such name\n",
    );
    let args = [
        "simulate",
        "--queries",
        "queries",
        "--before",
        "old.toml",
        "--config",
        "new.toml",
    ];
    let told = Steer::finish(folder.path(), &args);
    assert_eq!(told.status.code(), Some(0), "{}", told.stderr);
    let lines: Vec<String> = told
        .stdout
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect();
    for wanted in [
        "all 100 (no answer) 10.0 % 10.0 % +0.0",
        "fra (Frankfurt am Main) 30.0 % 0.0 % -30.0",
        "DE 30 fra (Frankfurt am Main) 100.0 % 0.0 % -100.0",
    ] {
        assert!(
            lines.iter().any(|line| line == wanted),
            "no {wanted:?} in\n{}",
            told.stdout
        );
    }
    let json = Steer::finish(folder.path(), &[&args[..], &["--json"]].concat());
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!(json["countries"]["JP"]["after"]["nrt"], 60.0);
    write("queries", "81.169.145.1\n");
    let wrong = Steer::finish(folder.path(), &args);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(
        wrong
            .stderr
            .contains("queries:1: the line has no name; write CLIENT NAME"),
        "{}",
        wrong.stderr
    );
}

#[test]
fn a_told_load_moves_clients_while_its_lease_lasts() {
    let (folder, listen, admin) = (tempfile::tempdir().unwrap(), free_port(), free_port());
    let steer = "chain = [\"up\", \"nearest\", \"overflow\", \"take 1\"]";
    let text = config(listen, UNCHECKED, steer)
        .replace("name = \"fra\"\n", "name = \"fra\"\ncapacity = 100\n")
        .replace("name = \"nrt\"\n", "name = \"nrt\"\ncapacity = 1000\n")
        .replace("guard =", "overflow = { settle = \"1s\" }\nguard =");
    let text = format!("{text}\n[admin]\nlisten = \"{admin}\"\n");
    let mut steer = start(folder.path(), &text);
    let first = steer.until("an answer", |_| ask(listen, CLIENTS[0]));
    assert_eq!(addresses(&first), ["198.51.100.1"]);
    // Of 200 clients from Germany so many are sent to Tokyo.
    let moved = || {
        let asked = (0..200).filter_map(|_| ask(listen, CLIENTS[0]));
        asked
            .filter(|answer| addresses(answer) == ["198.51.100.2"])
            .count()
    };
    let tell = |args: &[&str]| {
        let admin = admin.to_string();
        let args = [&["load", "fra", "--admin", &admin], args].concat();
        Steer::finish(folder.path(), &args)
    };
    let told = tell(&["400", "--for", "4s", "--author", "ana"]);
    assert_eq!(told.status.code(), Some(0), "{}", told.stderr);
    assert!(
        told.stdout
            .starts_with("fra gets 400 requests per second; that counts until"),
        "{}",
        told.stdout
    );
    // It keeps 85 of 400.
    steer.until("most are moved", |_| (moved() > 130).then_some(()));
    let count = moved();
    assert!((130..190).contains(&count), "{count} of 200, 157 expected");
    steer.until("the lease is over", |_| (moved() == 0).then_some(()));
    for (args, says) in [
        (["7", "--for", "2"], "which is no time"),
        (["7", "--for", "2d"], "at most a day"),
    ] {
        let refused = tell(&args);
        assert_ne!(refused.status.code(), Some(0));
        assert!(refused.stderr.contains(says), "{}", refused.stderr);
    }
    let admin = admin.to_string();
    let refused = Steer::finish(folder.path(), &["load", "lhr", "7", "--admin", &admin]);
    assert!(
        refused
            .stderr
            .contains("no site is called \"lhr\"; the sites are fra, nrt"),
        "{}",
        refused.stderr
    );
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn a_service_binding_and_an_alias_are_steered_on_the_wire() {
    let (folder, listen) = (tempfile::tempdir().unwrap(), free_port());
    let pool = UNCHECKED
        .replace("1:443\"", "1:443\", target = \"fra.example.net\"")
        .replace("2:443\"", "2:443\", target = \"nrt.example.net\"");
    let steer = "type = [\"address\", \"https\"]\nalpn = \"h2\"\nchain = [\"up\", \"nearest\", \"take 1\"]\n\
                 [[steer]]\nname = \"cdn.example.com\"\ntype = \"cname\"\npool = \"web\"\n\
                 [[steer]]\nname = \"_sip._tcp.example.com\"\ntype = \"srv\"\npool = \"web\"\nchain = [\"up\", \"nearest\"]";
    let mut steer = start(folder.path(), &config(listen, &pool, steer));
    steer.until("an answer", |_| ask(listen, CLIENTS[0]));
    let told = |name: &str, rtype: RecordType, client: &str| {
        let question = Question::new(name, rtype).from_subnet(client.parse().unwrap(), 24);
        let answer = question.ask(listen, Duration::from_secs(2)).unwrap();
        let records = answer.0.answers.iter();
        records
            .map(|record| format!("{} {}", record.record_type(), record.data))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        told("www.example.com.", RecordType::HTTPS, CLIENTS[0]),
        ["HTTPS 1 . alpn=h2, ipv4hint=198.51.100.1,"]
    );
    assert_eq!(
        told("www.example.com.", RecordType::HTTPS, CLIENTS[1]),
        ["HTTPS 1 . alpn=h2, ipv4hint=198.51.100.2,"]
    );
    assert_eq!(
        told("cdn.example.com.", RecordType::A, CLIENTS[1]),
        ["CNAME nrt.example.net."]
    );
    assert_eq!(
        told("_sip._tcp.example.com.", RecordType::SRV, CLIENTS[0]),
        ["SRV 1 1 443 fra.example.net.", "SRV 2 1 443 nrt.example.net."]
    );
    assert_eq!(steer.stop().status.code(), Some(0));
}
