//! The keys that shape an announcement: prepends, MED, LOCAL_PREF, communities.

use std::net::Ipv4Addr;

use toml::Spanned;

use super::values;
use crate::config::raw::RawPolicy;
use crate::config::read::{Field, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::{Community, Policy};

/// More would make a path that others drop for its length.
const PREPEND_MAX: u8 = 32;

pub(super) fn policy(sink: &Sink<'_>, raw: RawPolicy<'_>) -> Result<Policy, Reported> {
    let RawPolicy {
        prepend,
        med,
        local_pref,
        communities,
    } = raw;
    let prepend = values::int(sink, "prepend", prepend, 0..=PREPEND_MAX, 0);
    let med = values::optional_int(sink, "med", med, 0..=u32::MAX);
    let local_pref = values::optional_int(sink, "local_pref", local_pref, 0..=u32::MAX);
    let communities = all_communities(sink, communities);
    Ok(Policy {
        prepend: prepend?,
        med: med?,
        local_pref: local_pref?,
        communities: communities?,
    })
}

fn all_communities(sink: &Sink<'_>, field: Field<OneOrMany<&str>>) -> Result<Vec<Community>, Reported> {
    let Some(written) = field? else {
        return Ok(Vec::new());
    };
    let read = written.get_ref().0.iter().map(|written| community(sink, written));
    let mut communities = all(read.collect())?;
    let mut seen = std::collections::HashSet::new();
    communities.retain(|community| seen.insert(*community));
    Ok(communities)
}

fn community(sink: &Sink<'_>, written: &Spanned<&str>) -> Result<Community, Reported> {
    let text = *written.get_ref();
    parse(text).ok_or_else(|| {
        sink.fault(
            written.span(),
            format!("`communities` has {text:?}, which is no community"),
            "write \"64500:1\" (two numbers up to 65535), \"64500:1:2\" (large), \"rt:64500:1\" or \"soo:192.0.2.1:1\" \
             (extended), \"ext:0x0002fbf400000001\", or no-export, no-advertise, no-export-subconfed, no-peer, \
             blackhole or graceful-shutdown",
        )
    })
}

/// The names of RFC 1997, RFC 3765, RFC 7999 and RFC 8326, and numbers.
fn parse(text: &str) -> Option<Community> {
    match text {
        "no-export" => return Some(Community::NO_EXPORT),
        "no-advertise" => return Some(Community::NO_ADVERTISE),
        "no-export-subconfed" => return Some(Community::Standard(0xffff_ff03)),
        "no-peer" => return Some(Community::Standard(0xffff_ff04)),
        "blackhole" => return Some(Community::BLACKHOLE),
        "graceful-shutdown" => return Some(Community::GRACEFUL_SHUTDOWN),
        _ => {}
    }
    let parts: Vec<&str> = text.split(':').collect();
    match parts.as_slice() {
        ["rt", global, local] => extended(0x02, global, local),
        ["soo", global, local] => extended(0x03, global, local),
        ["ext", octets] => {
            let digits = octets.strip_prefix("0x").filter(|digits| digits.len() == 16)?;
            let value = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let value = value.then(|| u64::from_str_radix(digits, 16).ok()).flatten()?;
            Some(Community::Extended(value.to_be_bytes()))
        }
        [high, low] => {
            let (high, low): (u16, u16) = (number(high)?, number(low)?);
            Some(Community::Standard((u32::from(high) << 16) | u32::from(low)))
        }
        [global, first, second] => Some(Community::Large([
            number(global)?,
            number(first)?,
            number(second)?,
        ])),
        _ => None,
    }
}

/// RFC 4360 §3.1 and §3.2, RFC 5668: the type follows from how wide the first number is.
fn extended(subtype: u8, global: &str, local: &str) -> Option<Community> {
    let (kind, global, local) = if let Ok(address) = global.parse::<Ipv4Addr>() {
        (
            0x01,
            address.octets().to_vec(),
            number::<u16>(local)?.to_be_bytes().to_vec(),
        )
    } else if let Some(asn) = number::<u16>(global) {
        (
            0x00,
            asn.to_be_bytes().to_vec(),
            number::<u32>(local)?.to_be_bytes().to_vec(),
        )
    } else {
        let asn = number::<u32>(global)?;
        (
            0x02,
            asn.to_be_bytes().to_vec(),
            number::<u16>(local)?.to_be_bytes().to_vec(),
        )
    };
    let octets = [vec![kind, subtype], global, local].concat();
    octets.try_into().ok().map(Community::Extended)
}

/// Digits alone: `+1` is no number here.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn communities_of_all_kinds_are_read() {
        for (text, want) in [
            ("64500:1", Some(Community::Standard(0xfbf4_0001))),
            ("graceful-shutdown", Some(Community::Standard(0xffff_0000))),
            ("no-export", Some(Community::Standard(0xffff_ff01))),
            ("blackhole", Some(Community::Standard(0xffff_029a))),
            ("4200000000:1:2", Some(Community::Large([4_200_000_000, 1, 2]))),
            (
                "rt:64500:1",
                Some(Community::Extended([0, 2, 0xfb, 0xf4, 0, 0, 0, 1])),
            ),
            (
                "soo:192.0.2.1:7",
                Some(Community::Extended([1, 3, 192, 0, 2, 1, 0, 7])),
            ),
            (
                "rt:4200000000:9",
                Some(Community::Extended([2, 2, 0xfa, 0x56, 0xea, 0, 0, 9])),
            ),
            (
                "ext:0x0002fbf400000001",
                Some(Community::Extended([0, 2, 0xfb, 0xf4, 0, 0, 0, 1])),
            ),
            ("64500:65536", None),
            ("64500", None),
            ("64500:+1", None),
            ("1:2:3:4", None),
            ("rt:64500", None),
            ("rt:4200000000:65536", None),
            ("ext:0x00", None),
            ("no_export", None),
            ("", None),
        ] {
            assert_eq!(parse(text), want, "{text}");
        }
    }
}
