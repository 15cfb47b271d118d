use hickory_proto::rr::RecordType;
use steer_topology::Fault;

use crate::zones::Zones;

const HEAD: &str = "@ 60 IN SOA ns host 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.53\n";

fn faults(text: &str, steered: &[&str]) -> Vec<String> {
    match Zones::of_text("example.com.", text, steered) {
        Ok(_) => Vec::new(),
        Err(faults) => faults.0.iter().map(ToString::to_string).collect(),
    }
}

fn only_fault(rest: &str, steered: &[&str]) -> String {
    let faults = faults(&format!("{HEAD}{rest}"), steered);
    assert_eq!(faults.len(), 1, "{faults:#?}");
    faults[0].clone()
}

#[test]
fn a_sound_zone_has_no_fault() {
    assert_eq!(faults(HEAD, &["www.example.com."]), [""; 0]);
}

#[test]
fn an_apex_without_soa_and_ns_is_told_both() {
    let faults = faults("www 60 A 192.0.2.1\n", &[]);
    assert_eq!(faults.len(), 2, "{faults:#?}");
    assert!(
        faults[0].starts_with("test.zone: no SOA record at example.com.; write example.com. 3600 IN SOA ")
    );
    assert!(faults[1].starts_with("test.zone: no NS record at example.com.; write example.com. 3600 IN NS "));
}

#[test]
fn a_second_soa_is_told_where_it_stands() {
    assert!(
        only_fault("@ 60 SOA ns host 2 2 3 4 5\n", &[])
            .starts_with("test.zone:4:1: a second SOA at example.com. (the first in line 1); ")
    );
    assert!(
        only_fault("x 60 SOA ns host 2 2 3 4 5\n", &[]).starts_with("test.zone:4:1: SOA at x.example.com., ")
    );
}

#[test]
fn what_lies_outside_is_told() {
    let fault = only_fault("www.example.org. 60 A 192.0.2.1\n", &[]);
    assert!(
        fault.starts_with("test.zone:4:1: www.example.org. lies outside the zone example.com.; "),
        "{fault}"
    );
}

#[test]
fn a_cname_beside_data_names_both_lines() {
    let fault = only_fault("www 60 A 192.0.2.1\nwww 60 CNAME ns\n", &[]);
    assert!(
        fault.starts_with("test.zone:5:1: www.example.com. has a CNAME beside A (line 4); "),
        "{fault}"
    );
}

#[test]
fn a_steered_name_with_addresses_of_its_own_is_told() {
    let fault = only_fault("www 60 A 192.0.2.1\nwww 60 TXT ok\n", &["www.example.com."]);
    assert!(
        fault.starts_with("test.zone:4:1: www.example.com. has A records here and is steered"),
        "{fault}"
    );
}

#[test]
fn a_steered_name_behind_a_cut_or_a_dname_is_told() {
    let fault = only_fault("sub 60 NS ns\n", &["www.sub.example.com."]);
    assert!(
        fault
            .starts_with("test.zone:4:1: NS at sub.example.com. hides the steered name www.sub.example.com."),
        "{fault}"
    );
    let fault = only_fault("sub 60 DNAME new\n", &["www.sub.example.com."]);
    assert!(
        fault.starts_with("test.zone:4:1: DNAME at sub.example.com. hides the steered name"),
        "{fault}"
    );
}

/// Each as `LINE: MESSAGE`.
fn warnings(rest: &str, steered: &[&str]) -> Vec<String> {
    let zones = Zones::of_text("example.com.", &format!("{HEAD}{rest}"), steered).unwrap();
    let told = |fault: &Fault| {
        let line = fault.place.as_ref().map_or(0, |place| place.line);
        assert!(!fault.remedy.is_empty());
        format!("{line}: {}", fault.message)
    };
    zones.warnings().iter().map(told).collect()
}

#[test]
fn what_lies_below_a_dname_is_told() {
    let fault = only_fault("old 60 DNAME new\na.b.OLD 60 TXT lost\n", &[]);
    assert!(
        fault.starts_with(
            "test.zone:5:1: a.b.OLD.example.com. lies below the DNAME at old.example.com. (line 4); "
        ),
        "{fault}"
    );
}

#[test]
fn a_set_that_no_message_carries_is_told_once() {
    let text: String = (0..400).map(|n| format!("big 60 TXT \"{n:0>200}\"\n")).collect();
    let fault = only_fault(&text, &[]);
    assert!(
        fault.contains("the TXT records of big.example.com. have more than 65000 octets; "),
        "{fault}"
    );
}

#[test]
fn names_and_labels_that_are_too_long_are_told() {
    let label = "x".repeat(63);
    let long = format!("{label}.{label}.{label}.{label}");
    for (name, at) in [(format!("{label}x"), "4:1"), (long, "4:1")] {
        let fault = only_fault(&format!("{name} 60 TXT x\n"), &[]);
        assert!(fault.starts_with(&format!("test.zone:{at}: ")), "{fault}");
        assert!(
            fault.ends_with("labels have 1 to 63 octets, a name at most 255; write other octets as \\DDD")
        );
    }
}

#[test]
fn ttls_that_differ_within_a_set_are_warned_of_and_the_lowest_is_served() {
    let text = "www 60 A 192.0.2.1\nwww 30 A 192.0.2.2\nwww 90 A 192.0.2.3\n";
    assert_eq!(
        warnings(text, &[]),
        ["5: TTL 30 differs from 60 in line 4, which is of the same set: A of www.example.com."]
    );
    let zones = Zones::of_text("example.com.", &format!("{HEAD}{text}"), &[]).unwrap();
    let key = b"\x03www\x07example\x03com\x00";
    let (_, node) = zones.closest(key, false).unwrap().node(key).unwrap();
    assert_eq!(
        node.set(RecordType::A).map(|set| (set.ttl, set.data().count())),
        Some((30, 3))
    );
}

#[test]
fn missing_glue_is_warned_of() {
    let text =
        "sub 60 NS ns.sub\nsub 60 NS ns2.Sub\nns2.sub 60 AAAA 2001:db8::1\nsub 60 NS ns.other.example.\n";
    assert_eq!(
        warnings(text, &[]),
        ["4: NS of sub.example.com. names ns.sub.example.com., which has no glue"]
    );
}

#[test]
fn targets_without_an_address_are_warned_of() {
    let text = "@ 60 MX 10 mail\n_sip._tcp 60 SRV 1 1 5060 sip\n@ 60 NS ns2\nwww 60 MX 0 .\nx 60 MX 1 far.example.\n";
    assert_eq!(
        warnings(text, &[]),
        [
            "2: NS of example.com. names ns2.example.com., which has no address in this zone",
            "4: MX of example.com. names mail.example.com., which has no address in this zone",
            "5: SRV of _sip._tcp.example.com. names sip.example.com., which has no address in this zone",
        ]
    );
    assert_eq!(
        warnings("@ 60 MX 10 www\n", &["www.example.com."]),
        [""; 0],
        "a steered name has addresses"
    );
    let wildcard = "@ 60 MX 10 a.b.pool\n*.pool 60 A 192.0.2.1\n";
    assert_eq!(warnings(wildcard, &[]), [""; 0], "a wildcard gives addresses");
    let elsewhere = "sub 60 NS ns.far.example.\n@ 60 MX 10 mail.sub\nmail.sub 60 MX 1 gone\n";
    assert_eq!(warnings(elsewhere, &[]), [""; 0], "other servers speak for it");
}

#[test]
fn targets_that_are_aliases_are_warned_of() {
    let text = "mail 60 CNAME ns\n@ 60 MX 10 mail\nold 60 DNAME new\nsub 60 NS ns.old\n";
    assert_eq!(
        warnings(text, &[]),
        [
            "5: MX of example.com. names mail.example.com., which is an alias (CNAME in line 4)",
            "7: NS of sub.example.com. names ns.old.example.com., which is an alias (DNAME in line 6)",
        ]
    );
}

#[test]
fn a_zone_full_of_warnings_tells_how_many() {
    let text: String = (0..50).map(|n| format!("n{n} 60 MX 1 gone\n")).collect();
    let warnings = warnings(&text, &[]);
    assert_eq!(warnings.len(), 21);
    assert_eq!(warnings[20], "0: 30 more warnings");
}
