//! The plain form of names and data, in which nearly all of a large zone is written. It is read here without a
//! detour. `None` means no fault: the general reader has the last word, and the words for what is wrong.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use domain::base::iana::Rtype;

/// A name of letters, digits, `-`, `_` and `*`, relative to `origin` unless it ends in a dot.
pub(super) fn name(text: &str, origin: &[u8]) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len() + 1 + origin.len());
    let (labels, is_absolute) = match text.strip_suffix('.') {
        Some(labels) => (labels, true),
        None => (text, false),
    };
    for label in labels.split('.') {
        if !(1..=63).contains(&label.len()) || !label.bytes().all(is_plain) {
            return None;
        }
        octets.push(label.len() as u8); // at most 63
        octets.extend(label.as_bytes());
    }
    if is_absolute {
        octets.push(0);
    } else {
        octets.extend(origin);
    }
    (octets.len() <= 255).then_some(octets)
}

fn is_plain(octet: u8) -> bool {
    octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_' | b'*')
}

/// The data of the most common types.
pub(super) fn data(rtype: Rtype, text: &str, origin: &[u8]) -> Option<Vec<u8>> {
    match rtype {
        Rtype::A => Some(Ipv4Addr::from_str(text).ok()?.octets().to_vec()),
        Rtype::AAAA => Some(Ipv6Addr::from_str(text).ok()?.octets().to_vec()),
        Rtype::NS | Rtype::CNAME | Rtype::PTR | Rtype::DNAME => name(text, origin),
        Rtype::MX => {
            let (preference, host) = text.split_once([' ', '\t'])?;
            // A sign is none of the form.
            let digits = Some(preference).filter(|text| text.bytes().all(|octet| octet.is_ascii_digit()))?;
            let mut octets = u16::from_str(digits).ok()?.to_be_bytes().to_vec();
            octets.extend(name(host.trim_start(), origin)?);
            Some(octets)
        }
        Rtype::TXT => strings(text),
        _ => None,
    }
}

/// Strings in quotes, without an escape in them.
fn strings(mut text: &str) -> Option<Vec<u8>> {
    let mut octets = Vec::with_capacity(text.len());
    while !text.is_empty() {
        let (string, rest) = text.strip_prefix('"')?.split_once('"')?;
        let is_plain = |octet: u8| octet.is_ascii() && !octet.is_ascii_control() && octet != b'\\';
        if !string.bytes().all(is_plain) || !(rest.is_empty() || rest.starts_with([' ', '\t'])) {
            return None;
        }
        octets.push(u8::try_from(string.len()).ok()?);
        octets.extend(string.as_bytes());
        text = rest.trim_start_matches([' ', '\t']);
    }
    Some(octets)
}
