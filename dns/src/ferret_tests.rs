//! 4,000 cases of the Ferret data set (dns-groot/FerretDataset, MIT): zone, query, acceptable replies of BIND, NSD,
//! Knot and PowerDNS. Compared: code, AA, answer section as a set.

use std::collections::BTreeMap;
use std::io::Read;
use std::path::Path;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, Record, RecordType};
use lzma_rust2::XzReader;
use serde_json::Value;

use super::*;
use crate::master::Master;
use crate::zones::Zones;

const CASES: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../shared/data/ferret/valid.jsonl.xz"
);
/// Cases that must agree. All do.
const FLOOR: usize = 4_000;

struct NothingSteered;

impl Steering for NothingSteered {
    fn pick(&mut self, _: &[u8], _: RecordType) -> Option<Steered> {
        None
    }
}

#[test]
fn ferret_cases_agree_with_one_of_four_servers() {
    let Ok(file) = std::fs::File::open(CASES) else {
        println!("skipped: {CASES} is absent");
        return;
    };
    let mut text = String::new();
    XzReader::new(file, false).read_to_string(&mut text).unwrap();
    let mut right = 0;
    let mut wrong: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for line in text.lines() {
        let case: Value = serde_json::from_str(line).unwrap();
        match judge(&case) {
            Ok(()) => right += 1,
            Err(why) => wrong.entry(case["tag"].to_string()).or_default().push(why),
        }
    }
    for (tag, cases) in &wrong {
        println!("{tag}: {} wrong, first:\n{}", cases.len(), cases[0]);
    }
    println!("{right} of {} cases agree", text.lines().count());
    assert!(right >= FLOOR, "{right} cases agree, {FLOOR} did before");
}

fn judge(case: &Value) -> Result<(), String> {
    let zone = case["zone"].as_str().unwrap();
    let apex = zone.split(' ').next().unwrap();
    let zones = Zones::of_text(apex, zone, &[]).map_err(|faults| format!("{zone}\n{faults}"))?;
    let name = Name::from_ascii(case["qname"].as_str().unwrap()).unwrap();
    let rtype: RecordType = case["qtype"].as_str().unwrap().parse().unwrap();
    let got = answer(&zones, &name, rtype, &mut NothingSteered);
    let expected = case["expected"].as_array().unwrap();
    if expected.iter().any(|expected| agrees(&got, expected, apex)) {
        return Ok(());
    }
    Err(format!("{zone}\n? {name} {rtype}\n= {got:#?}\n! {expected:#?}"))
}

fn agrees(got: &Answer, expected: &Value, apex: &str) -> bool {
    let code = match expected["rcode"].as_str().unwrap() {
        "NOERROR" => ResponseCode::NoError,
        "NXDOMAIN" => ResponseCode::NXDomain,
        "YXDOMAIN" => ResponseCode::YXDomain,
        "SERVFAIL" => ResponseCode::ServFail,
        "REFUSED" => ResponseCode::Refused,
        other => panic!("{other}"),
    };
    let lines: Vec<&str> = expected["answer"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v.as_str().unwrap())
        .collect();
    got.rcode == code
        && Some(got.authoritative) == expected["aa"].as_bool()
        && set(&got.answers) == read(&lines, apex)
}

fn read(lines: &[&str], apex: &str) -> Vec<String> {
    let text = lines.iter().map(|line| format!("{line}\n")).collect::<String>();
    let master = Master::of_text(Path::new("expected"), &text, &Name::from_ascii(apex).unwrap());
    assert_eq!(master.faults, []);
    let record = |written: &crate::master::Written| {
        let data = std::iter::once(&*written.data);
        let set = RrSet::new(written.rtype, written.ttl.unwrap(), data).unwrap();
        set.records(&wire::name_of(&written.owner).unwrap())
            .next()
            .unwrap()
    };
    set(&master.records.iter().map(record).collect::<Vec<_>>())
}

fn set(records: &[Record]) -> Vec<String> {
    let mut lines: Vec<String> = records
        .iter()
        .map(|record| format!("{record}").to_ascii_lowercase())
        .collect();
    lines.sort();
    lines.dedup();
    lines
}
