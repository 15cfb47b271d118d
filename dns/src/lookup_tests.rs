//! What the comparison with Knot and NSD brought to light, case by case.

use super::*;

struct NothingSteered;

impl Steering for NothingSteered {
    fn pick(&mut self, _: &[u8], _: RecordType) -> Option<Steered> {
        None
    }
}

const HEAD: &str = "@ 60 IN SOA ns host 1 2 3 4 5\n@ 60 NS ns\nns 60 A 192.0.2.53\n";

fn ask(zone: &str, name: &str, rtype: RecordType) -> Answer {
    let zones = Zones::of_text("example.com.", &format!("{HEAD}{zone}"), &[]).unwrap();
    answer(
        &zones,
        &Name::from_ascii(name).unwrap(),
        rtype,
        &mut NothingSteered,
    )
}

/// `OWNER TYPE` of each.
fn shown(records: &[Record]) -> Vec<String> {
    records
        .iter()
        .map(|record| format!("{} {}", record.name, record.record_type()))
        .collect()
}

#[test]
fn addresses_of_targets_come_along_once_and_only_of_names_in_the_zone() {
    let zone = "@ 60 MX 1 mail\n@ 60 MX 2 mail\n@ 60 MX 3 mx.example.org.\n@ 60 MX 4 any\n\
                mail 60 A 192.0.2.1\n* 60 A 192.0.2.2\n";
    let got = ask(zone, "example.com.", RecordType::MX);
    assert_eq!(shown(&got.glue), ["mail.example.com. A", "any.example.com. A"]);
    assert_eq!(shown(&got.needed_glue), [""; 0]);
}

#[test]
fn a_wildcard_below_a_cut_gives_glue() {
    let zone = "sub 60 NS ns1.sub\nsub 60 NS ns2.sub\n*.sub 60 A 192.0.2.1\nns2.sub 60 A 192.0.2.2\n";
    let got = ask(zone, "www.sub.example.com.", RecordType::A);
    assert_eq!(
        shown(&got.needed_glue),
        ["ns1.sub.example.com. A", "ns2.sub.example.com. A"]
    );
}

#[test]
fn any_follows_a_dname_to_its_end_and_gives_the_lowest_type_there() {
    let zone = "old 60 DNAME new\nwww.new 60 TXT hello\nwww.new 60 A 192.0.2.1\n";
    let got = ask(zone, "www.old.example.com.", RecordType::ANY);
    assert_eq!(
        shown(&got.answers),
        [
            "old.example.com. DNAME",
            "www.old.example.com. CNAME",
            "www.new.example.com. A"
        ]
    );
}

#[test]
fn a_record_without_data_is_answered() {
    let got = ask(
        "x 60 TYPE65280 \\# 0\n",
        "x.example.com.",
        RecordType::Unknown(65_280),
    );
    let types = got.answers.iter().map(|record| u16::from(record.record_type()));
    assert_eq!(types.collect::<Vec<_>>(), [65_280]);
}

#[test]
fn names_keep_the_case_in_which_they_were_written() {
    let zone = "Sub 60 NS NS1.Sub\nns1.sub 60 A 192.0.2.1\n";
    let got = ask(zone, "www.sub.example.com.", RecordType::A);
    assert_eq!(
        got.authorities[0].to_string(),
        "Sub.example.com. 60 IN NS NS1.Sub.example.com."
    );
}
