use super::*;
use proptest::prelude::*;

fn read(text: &str) -> Master {
    Master::of_text(
        Path::new("test.zone"),
        text,
        &Name::from_ascii("example.com.").unwrap(),
    )
}

fn records(text: &str) -> Vec<String> {
    let master = read(text);
    assert_eq!(master.faults, []);
    let show = |written: &Written| {
        let set = crate::zone::RrSet::new(written.rtype, 0, std::iter::once(&*written.data)).unwrap();
        let record = set
            .records(&wire::name_of(&written.owner).unwrap())
            .next()
            .unwrap();
        format!(
            "{} {:?} {} {}",
            record.name, written.ttl, written.rtype, record.data
        )
    };
    master.records.iter().map(show).collect()
}

fn faults(text: &str) -> Vec<String> {
    read(text).faults.iter().map(ToString::to_string).collect()
}

#[test]
fn origin_ttl_blank_owner_and_parentheses_are_understood() {
    let text = "$TTL 1h30m\n@ IN SOA ns host ( 1 ; serial\n 2 3\n 4 5 )\n\tNS ns\nns 60 A 192.0.2.1\n\
                $ORIGIN sub\nx IN 30 A 192.0.2.2\n  AAAA 2001:db8::1\n";
    assert_eq!(
        records(text),
        [
            "example.com. Some(5400) SOA ns.example.com. host.example.com. 1 2 3 4 5",
            "example.com. Some(5400) NS ns.example.com.",
            "ns.example.com. Some(60) A 192.0.2.1",
            "x.sub.example.com. Some(30) A 192.0.2.2",
            "x.sub.example.com. Some(5400) AAAA 2001:db8::1",
        ]
    );
}

#[test]
fn unknown_types_and_known_types_in_generic_form_are_understood() {
    let master = read("a 1 TYPE65280 \\# 3 ( 0102 03 )\nb 1 TYPE1 \\# 4 c0000201\nc 1 A \\# 4 c0000202\n");
    assert_eq!(master.faults, []);
    let types: Vec<_> = master.records.iter().map(|r| u16::from(r.rtype)).collect();
    assert_eq!(types, [65_280, 1, 1]);
    assert_eq!(*read("a 1 TYPE65280 \\# 0\n").records[0].data, *b"");
    assert_eq!(faults("a 1 A \\# 0\n").len(), 1, "an address has octets");
    assert_eq!(faults("b 1 TYPE1 \\# 3 c00002\n").len(), 1);
}

#[test]
fn escapes_quotes_and_utf_8_are_taken_as_they_stand() {
    let master = read("a\\.b 1 TXT \"semi;colon (x)\" \"\\\"\" b\u{fc}\n");
    assert_eq!(master.faults, []);
    assert_eq!(&*master.records[0].owner, b"\x03a.b\x07example\x03com\x00");
    assert_eq!(*master.records[0].data, *b"\x0esemi;colon (x)\x01\"\x03b\xc3\xbc");
}

#[test]
fn each_typo_is_told_with_line_value_and_remedy() {
    let text = "@ 60 IN SOA ns host 1 2 3 4 5\nwww 60 A 192.0.2.256\nwww 60 AA 192.0.2.1\n\
                x 60 MX mail\n$TTL soon\n$GENERATE 1-2 a A 192.0.2.$\ny 60 TXT \"open\nz 60 A 192.0.2.1 )\n";
    let faults = faults(text);
    let expected = [
        (
            "test.zone:2:10: \"192.0.2.256\" is no A data: ",
            "; write an IPv4 address such as 192.0.2.1",
        ),
        ("test.zone:3:8: \"AA\" is no record type; ", ""),
        (
            "test.zone:4:9: \"mail\" is no MX data: ",
            "; write PREFERENCE HOST, such as 10 mail.example.com.",
        ),
        ("test.zone:5:6: \"soon\" is no TTL; ", ""),
        ("test.zone:6:1: \"$GENERATE\" is no directive; ", ""),
        ("test.zone:7:15: the line ends inside a quoted string; ", ""),
        ("test.zone:8:18: \")\" without \"(\"; ", ""),
    ];
    assert_eq!(faults.len(), expected.len(), "{faults:#?}");
    for (fault, (start, end)) in faults.iter().zip(expected) {
        assert!(fault.starts_with(start) && fault.ends_with(end), "{fault}");
    }
}

#[test]
fn an_open_parenthesis_is_told_at_its_line() {
    let faults = faults("@ 60 IN SOA ns host ( 1 2 3 4 5\nwww 60 A 192.0.2.1\n");
    assert_eq!(faults.len(), 1);
    assert!(
        faults[0].starts_with("test.zone:1:21: \"(\" is never closed; "),
        "{faults:?}"
    );
}

#[test]
fn a_file_that_includes_itself_ends() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("loop.zone");
    std::fs::write(&path, "a 60 A 192.0.2.1\n$INCLUDE loop.zone sub\n").unwrap();
    let master = Master::read(&path, &Name::from_ascii("example.com.").unwrap());
    assert_eq!(master.records.len(), MAX_DEPTH + 1);
    assert_eq!(master.faults.len(), 1);
    assert!(master.faults[0].message.contains("nests deeper"));
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(text in "[ \\t\\n\"();\\\\$@.a-c0-9#é]{0,80}") {
        read(&text);
    }

    #[test]
    fn no_damage_to_a_record_makes_it_panic(at in 0_usize..90, with in any::<char>()) {
        let text = "@ 60 IN SOA ns host ( 1 2 3 4 5 )\na TXT \"x\" \\# y\nb SVCB 1 . alpn=\"h2\" port=53\nc CAA 0 issue x";
        let damaged: String =
            text.chars().enumerate().map(|(n, c)| if n == at { with } else { c }).collect();
        read(&damaged);
    }
}

/// Found by the fuzz target: what stands in a file goes to a terminal.
#[test]
fn control_characters_of_a_file_are_not_repeated_in_a_fault() {
    for text in [
        "$ORIGIN $\u{1b}[2Jx\n",
        "a\u{7} 60 A 192.0.2.1\n",
        "a 60 LOC \u{1b}c 1\n",
    ] {
        let faults = faults(text);
        assert!(!faults.is_empty());
        assert!(
            !faults.iter().any(|fault| fault.chars().any(char::is_control)),
            "{faults:?}"
        );
    }
}
