//! What an operator may write as a master file: read, printed in the form of RFC 3597, read again, and asked for.

use domain::base::Message;
use domain::rdata::AllRecordData;
use steer_dns::fuzzing::{Given, TextZone};

const APEX: &str = "example.com";

/// One file. Other files are none of the fuzzer's business.
pub fn check(data: &[u8]) {
    let text = String::from_utf8_lossy(data);
    if text.to_ascii_lowercase().contains("include") {
        return;
    }
    match TextZone::load(APEX, &text) {
        Ok(zone) => survives(&zone),
        Err(faults) => {
            let lines = text.matches('\n').count() + 1;
            assert!(!faults.0.is_empty());
            for fault in &faults.0 {
                assert!(!fault.message.is_empty() && !fault.remedy.is_empty());
                // "no SOA" and "too many faults" are of the file as a whole
                if let Some(place) = &fault.place {
                    assert!((1..=lines).contains(&place.line), "{fault}");
                    assert!(place.column >= 1 && place.span.start <= text.len(), "{fault}");
                    assert!(
                        place.span.end <= text.len() && text.is_char_boundary(place.span.start),
                        "{fault}"
                    );
                }
                let shown = fault.to_string();
                assert!(
                    !shown.chars().any(char::is_control),
                    "{shown:?} goes to terminals"
                );
            }
        }
    }
}

fn survives(zone: &TextZone) {
    let text: String = zone.given.iter().map(print).collect();
    let again = TextZone::load(APEX, &text).unwrap_or_else(|faults| panic!("{faults}\n{text}"));
    assert_eq!(again.given, zone.given, "{text}");
    for record in &zone.given {
        let reply = zone.ask(&record.owner, record.rtype);
        // a name or a set that no message carries is a fault of the zone
        readable(&reply.expect("an answer can be sent"));
    }
}

/// RFC 3597 §5. The TTL of a record without one is that of the SOA, so it is left out again.
fn print(record: &Given) -> String {
    let Given {
        owner,
        ttl,
        rtype,
        data,
    } = record;
    let ttl = ttl.map_or_else(String::new, |ttl| ttl.to_string());
    let hex: String = data.iter().map(|octet| format!("{octet:02x}")).collect();
    format!(
        "{} {ttl} IN TYPE{rtype} \\# {} {hex}\n",
        print_name(owner),
        data.len()
    )
}

fn print_name(mut octets: &[u8]) -> String {
    let mut out = String::new();
    while let Some((&length, rest)) = octets.split_first() {
        let (label, rest) = rest.split_at(usize::from(length));
        octets = rest;
        for octet in label {
            if octet.is_ascii_alphanumeric() {
                out.push(char::from(*octet));
            } else {
                out += &format!("\\{octet:03}");
            }
        }
        if length > 0 || out.is_empty() {
            out.push('.');
        }
    }
    out
}

/// To a second reader.
fn readable(reply: &[u8]) {
    let message = Message::from_octets(reply).expect("a header");
    let mut sections = message.question().next_section().expect("the question");
    loop {
        for record in sections.by_ref() {
            let record = record.expect("a whole record");
            // What a zone says in the form of RFC 3597 need not be data of the type: lengths alone are ours.
            let _ = record.into_any_record::<AllRecordData<_, _>>();
        }
        match sections.next_section().expect("a whole section") {
            Some(next) => sections = next,
            None => break,
        }
    }
}
