//! Bad input: a clear message, the right exit code, and nothing half-started.

#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::Write;
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use hickory_proto::rr::RecordType;
use steer_tests::dns::Question;
use steer_tests::process::Finished;
use steer_tests::served::ZONE;
use steer_tests::{Steer, free_port, steer_binary};

/// Writes the files and runs `steer run` to its end.
fn run(files: &[(&str, &str)]) -> Finished {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), files);
    Steer::finish(folder.path(), &["run", "--config", "steer.toml"])
}

fn write(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        fs::write(folder.join(name), text).unwrap();
    }
}

/// Exit code 2, and every one of `parts` in what it printed on stderr.
fn assert_refused(finished: &Finished, parts: &[&str]) {
    assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
    for part in parts {
        assert!(
            finished.stderr.contains(part),
            "no {part:?} in:\n{}",
            finished.stderr
        );
    }
    assert!(!finished.stderr.contains("steer started"), "{}", finished.stderr);
}

#[test]
fn a_missing_configuration_is_named() {
    assert_refused(&run(&[]), &["steer.toml"]);
}

#[test]
fn the_admin_api_is_asked_on_a_host_without_root_certificates_too() {
    let admin = free_port();
    let asked = Command::new(steer_binary())
        .args(["status", "--admin", &admin.to_string()])
        .env("SSL_CERT_FILE", "/nowhere/roots.pem")
        .env("SSL_CERT_DIR", "/nowhere")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&asked.stderr);
    assert!(said.contains(&admin.to_string()), "{said}");
    assert!(!said.contains("certificates"), "{said}");
}

#[test]
fn a_file_that_asks_for_nothing_is_refused() {
    assert_refused(&run(&[("steer.toml", "")]), &["steer.toml:", "[bgp]"]);
}

#[test]
fn wrong_toml_is_refused_with_its_line() {
    assert_refused(
        &run(&[("steer.toml", "[dns]\nlisten = [\"127.0.0.1:5300\"\n[bgp]\n")]),
        &["steer.toml:", ":"],
    );
}

#[test]
fn an_unknown_key_gets_the_nearest_known_one() {
    let config = "[dns]\nlistem = [\"127.0.0.1:5300\"]\n";
    assert_refused(
        &run(&[("steer.toml", config)]),
        &["steer.toml:2:", "listem", "listen"],
    );
}

#[test]
fn several_faults_come_in_one_run() {
    let config =
        "[dns]\nlistem = []\n[[check]]\nname = \"a\"\nkind = \"tcp\"\ninterval = \"1ms\"\n[bgp]\nasn = 0\n";
    let finished = run(&[("steer.toml", config)]);
    assert_refused(&finished, &["listem", "1ms", "asn"]);
}

#[test]
fn contradictory_figures_are_refused_with_both_values() {
    let config = "[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\n[[anycast]]\nprefix = \"192.0.2.1/32\"\n\
                  flap_budget = { penalty = 1000, suppress = 900 }\n";
    assert_refused(&run(&[("steer.toml", config)]), &["steer.toml:6:", "1000", "900"]);
}

#[test]
fn a_prefix_that_does_not_match_its_length_is_refused_with_the_right_one() {
    let config = "[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\n[[anycast]]\nprefix = \"192.0.2.53/24\"\n";
    assert_refused(
        &run(&[("steer.toml", config)]),
        &["steer.toml:5:", "192.0.2.53/24", "192.0.2.0/24"],
    );
}

#[test]
fn an_endpoint_that_resolves_to_nothing_is_refused_by_name() {
    let config = "[[pool]]\nname = \"web\"\nendpoints = [ { address = \"nowhere.invalid:80\" } ]\n";
    assert_refused(
        &run(&[("steer.toml", config)]),
        &["steer.toml:3:", "nowhere.invalid"],
    );
}

#[test]
fn a_missing_mmdb_is_named() {
    let config = "[fleet]\ngeo = { country = \"geo/none.mmdb\" }\n";
    assert_refused(&run(&[("steer.toml", config)]), &["none.mmdb"]);
}

#[test]
fn a_broken_mmdb_is_named() {
    let config = "[fleet]\ngeo = { country = \"broken.mmdb\" }\n";
    assert_refused(
        &run(&[("steer.toml", config), ("broken.mmdb", "no database")]),
        &["broken.mmdb"],
    );
}

#[test]
fn a_typo_in_a_zone_file_is_refused_with_its_line() {
    let listen = free_port();
    let config = format!("[dns]\nlisten = [\"{listen}\"]\n[[zone]]\nname = \"example.com\"\nfile = \"z\"\n");
    let zone = format!("{ZONE}www 60 IN A 192.0.2.300\n");
    assert_refused(&run(&[("steer.toml", &config), ("z", &zone)]), &["z:4:"]);
    assert!(UdpSocket::bind(listen).is_ok(), "the port was never held");
}

#[test]
fn the_same_faults_come_from_check_as_json() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("steer.toml", "[dns]\nlistem = []\n")]);
    let finished = Steer::finish(folder.path(), &["check", "--config", "steer.toml", "--json"]);
    assert_eq!(finished.status.code(), Some(2));
    let json: serde_json::Value = serde_json::from_str(&finished.stdout).unwrap();
    assert_eq!(json["ok"], false);
    assert_eq!(json["faults"][0]["place"]["line"], 2);
}

#[test]
fn a_port_in_use_ends_it_with_1_and_names_the_address() {
    let listen = free_port();
    let _held = UdpSocket::bind(listen).unwrap();
    let config = format!("[dns]\nlisten = [\"{listen}\"]\n[[zone]]\nname = \"example.com\"\nfile = \"z\"\n");
    let finished = run(&[("steer.toml", &config), ("z", ZONE)]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(
        finished.stderr.contains(&listen.to_string()),
        "{}",
        finished.stderr
    );
    assert!(!finished.stderr.contains("steer started"), "{}", finished.stderr);
}

#[test]
fn a_held_bgp_port_starts_no_dns_either() {
    let (dns, bgp) = (free_port(), free_port());
    let _held = TcpListener::bind(bgp).unwrap();
    let config = format!(
        "[dns]\nlisten = [\"{dns}\"]\n[[zone]]\nname = \"example.com\"\nfile = \"z\"\n[bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"{bgp}\"]\n"
    );
    let finished = run(&[("steer.toml", &config), ("z", ZONE)]);
    assert_eq!(finished.status.code(), Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains(&bgp.to_string()), "{}", finished.stderr);
}

#[test]
fn a_peer_that_speaks_garbage_is_refused_and_dns_goes_on() {
    let (dns, bgp) = (free_port(), free_port());
    let config = format!(
        "[dns]\nlisten = [\"{dns}\"]\n[[zone]]\nname = \"example.com\"\nfile = \"z\"\n\
         [bgp]\nasn = 64512\nrouter_id = \"10.0.0.1\"\nlisten = [\"{bgp}\"]\n\
         [[bgp.peer]]\naddress = \"127.0.0.1\"\nasn = 64500\npassive = true\n"
    );
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("steer.toml", &config), ("z", ZONE)]);
    let mut steer = Steer::start(folder.path(), &["run", "--config", "steer.toml"]);
    let question = Question::new("example.com.", RecordType::SOA);
    steer.until("an answer", |_| question.ask(dns, Duration::from_millis(50)));
    for garbage in [
        &b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..],
        &[0x16, 3, 1, 2, 0, 1, 0, 1],
        &[0xff; 64],
    ] {
        let mut stream = TcpStream::connect(bgp).unwrap();
        stream.write_all(garbage).unwrap();
    }
    steer.until("the log line", |steer| {
        steer.log().contains("127.0.0.1").then_some(())
    });
    assert!(
        question.ask(dns, Duration::from_secs(2)).is_some(),
        "{}",
        steer.log()
    );
    assert_eq!(steer.stop().status.code(), Some(0));
}

#[test]
fn a_site_is_asked_for_where_sites_are_declared() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &[("steer.toml", "[[site]]\nname = \"fra\"\n")]);
    for (args, part) in [
        (&["run", "--config", "steer.toml"][..], "fra"),
        (&["run", "--config", "steer.toml", "--site", "nrt"][..], "nrt"),
    ] {
        let finished = Steer::finish(folder.path(), args);
        assert_eq!(finished.status.code(), Some(2), "{}", finished.stderr);
        assert!(finished.stderr.contains(part), "{}", finished.stderr);
    }
}
