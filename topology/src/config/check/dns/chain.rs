//! `chain` of a steered name.

use std::num::NonZeroU8;
use std::ops::Range;
use std::str::FromStr;

use toml::Spanned;

use super::super::context::Context;
use crate::config::read::{Field, OneOrMany, all};
use crate::config::sink::Reported;
use crate::config::suggest::{list, nearest};
use crate::{Fence, Filter, Site, Sticky};

/// As they are written.
const FILTERS: [&str; 15] = [
    "up",
    "nearest",
    "latency",
    "country",
    "continent",
    "asn",
    "cidr",
    "geofence R",
    "weighted",
    "shuffle",
    "sticky",
    "overflow",
    "failover",
    "trickle N%",
    "take N",
];

/// The filters that go by a map, in the order of `maps` below.
const MAPPED: [(Filter, &str, &str); 4] = [
    (Filter::Country, "country", "{ DE = \"fra\" }"),
    (Filter::Continent, "continent", "{ EU = \"fra\" }"),
    (Filter::Asn, "asn", "{ AS64500 = \"fra\" }"),
    (Filter::Cidr, "cidr", "{ \"192.0.2.0/24\" = \"fra\" }"),
];

/// Whether a table is written.
pub(super) enum Written {
    No,
    At(Range<usize>),
    /// Yes, and it has been faulted.
    Badly,
}

impl Written {
    pub(super) fn of<T>(field: &Field<T>) -> Self {
        match field {
            Ok(None) => Self::No,
            Ok(Some(written)) => Self::At(written.span()),
            Err(_) => Self::Badly,
        }
    }
}

/// The chain, and whether its filters have what they need. `maps`: the tables of `MAPPED`.
pub(super) fn filters(
    cx: &Context<'_, '_>,
    sites: Option<&[Site]>,
    maps: [Written; 4],
    chain: Field<OneOrMany<&str>>,
) -> Result<Vec<Filter>, Reported> {
    let (chain, spans) = match chain? {
        Some(written) => {
            let written = written.into_inner().0;
            let spans: Vec<_> = written.iter().map(Spanned::span).collect();
            let chain = all(written.iter().map(|written| filter(cx, written)).collect())?;
            (chain, spans)
        }
        None if cx.sites.declared() => {
            let take = Filter::Take(NonZeroU8::MIN);
            (vec![Filter::Up, Filter::Nearest, take], Vec::new())
        }
        None => (vec![Filter::Up, Filter::Take(NonZeroU8::MIN)], Vec::new()),
    };
    let span_of = |wanted: Filter| {
        let at = chain.iter().position(|filter| *filter == wanted)?;
        spans.get(at).cloned()
    };
    for ((filter, word, example), map) in MAPPED.into_iter().zip(maps) {
        match (span_of(filter), map) {
            (Some(span), Written::No) => {
                let message = format!("filter `{word}` has no table `{word}` to go by");
                cx.sink
                    .conflict(span, message, format!("add for example {word} = {example}"));
            }
            (None, Written::At(span)) => {
                let message = format!("no filter of the chain goes by the table `{word}`");
                cx.sink.conflict(
                    span,
                    message,
                    format!("add \"{word}\" to `chain`, or remove the table"),
                );
            }
            (Some(_), Written::At(_)) | (None, Written::No) | (_, Written::Badly) => {}
        }
    }
    if let Some(span) = span_of(Filter::Overflow) {
        overflow(cx, sites, span, &chain)?;
    }
    Ok(chain)
}

/// `overflow` compares sites, and asks for the one that a client would get first if all were up.
fn overflow(
    cx: &Context<'_, '_>,
    sites: Option<&[Site]>,
    span: Range<usize>,
    chain: &[Filter],
) -> Result<(), Reported> {
    let before = chain.iter().take_while(|filter| **filter != Filter::Overflow);
    if let Some(drawn) = before.copied().find(|filter| filter.is_drawn()) {
        return Err(cx.sink.conflict(
            span,
            format!(
                "filter `overflow` comes after `{drawn}`, which leaves no first site of its own to a client"
            ),
            "put `overflow` before it",
        ));
    }
    if sites.is_some_and(|sites| sites.iter().all(|site| site.capacity.is_none())) {
        return Err(cx.sink.conflict(
            span,
            "filter `overflow` knows of no site how much it can serve",
            "add `capacity`, in requests per second, to the [[site]] tables; what they get is `load`, or told by `steer load`",
        ));
    }
    Ok(())
}

fn filter(cx: &Context<'_, '_>, written: &Spanned<&str>) -> Result<Filter, Reported> {
    let mut words = written.get_ref().split_whitespace();
    let word = words.next().unwrap_or_default();
    let arguments: Vec<&str> = words.collect();
    let wants = |what: &str, remedy: &str| {
        let message = format!("filter {:?} does not say {what}", written.get_ref());
        Err(cx.sink.fault(written.span(), message, remedy))
    };
    let plain = match word {
        "up" => Filter::Up,
        "nearest" | "latency" | "overflow" | "geofence" if !cx.sites.declared() => {
            return Err(cx.sink.conflict(
                written.span(),
                format!("filter `{word}` needs to know where endpoints stand, but the file declares no site"),
                format!("add [[site]] tables and `site` to the endpoints, or remove `{word}`"),
            ));
        }
        "nearest" => Filter::Nearest,
        "latency" => Filter::Latency,
        "country" => Filter::Country,
        "continent" => Filter::Continent,
        "asn" => Filter::Asn,
        "cidr" => Filter::Cidr,
        "weighted" => Filter::Weighted,
        "shuffle" => Filter::Shuffle,
        "overflow" => Filter::Overflow,
        "failover" => Filter::Failover,
        "sticky" if arguments.is_empty() => Filter::Sticky(Sticky::DEFAULT),
        "geofence" => {
            return match *arguments {
                ["country"] => Ok(Filter::Geofence(Fence::Country)),
                ["continent"] => Ok(Filter::Geofence(Fence::Continent)),
                _ => wants(
                    "what region",
                    "write \"geofence country\" or \"geofence continent\"",
                ),
            };
        }
        "sticky" => {
            return match (
                number(&arguments, 0, 32),
                number(&arguments, 1, 128),
                arguments.len(),
            ) {
                (Some(v4), Some(v6), 2) => Ok(Filter::Sticky(Sticky { v4, v6 })),
                (_, _, _) => wants(
                    "how long the clients' prefixes are",
                    "write \"sticky\" for 24 and 48, or \"sticky V4 V6\" with V4 from 1 to 32 and V6 from 1 to 128",
                ),
            };
        }
        "trickle" => {
            let percent = arguments.first().and_then(|text| text.strip_suffix('%'));
            let percent = percent
                .and_then(|text| number(&[text], 0, 99))
                .and_then(NonZeroU8::new);
            return match (percent, arguments.len()) {
                (Some(percent), 1) => Ok(Filter::Trickle(percent)),
                (_, _) => wants("how many", "write \"trickle N%\" with N from 1 to 99"),
            };
        }
        "take" => {
            let count = number(&arguments, 0, u8::MAX).and_then(NonZeroU8::new);
            return match (count, arguments.len()) {
                (Some(count), 1) => Ok(Filter::Take(count)),
                (_, _) => wants("how many", "write \"take N\" with N from 1 to 255"),
            };
        }
        other => {
            let words = FILTERS.iter().filter_map(|filter| filter.split(' ').next());
            let remedy = match nearest(other, words) {
                Some(meant) => format!("did you mean `{meant}`?"),
                None => format!("the filters are {}", list(FILTERS)),
            };
            let message = format!("there is no filter `{other}`");
            return Err(cx.sink.fault(written.span(), message, remedy));
        }
    };
    if !arguments.is_empty() {
        let message = format!(
            "filter `{word}` takes nothing, but {:?} is written",
            written.get_ref()
        );
        let remedy = format!("write \"{word}\"");
        return Err(cx.sink.fault(written.span(), message, remedy));
    }
    Ok(plain)
}

/// A number from 1 to `most` at a place among the arguments.
fn number(arguments: &[&str], place: usize, most: u8) -> Option<u8> {
    let number = u8::from_str(arguments.get(place)?).ok()?;
    (1..=most).contains(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::reference::filters;

    #[test]
    fn every_filter_that_can_be_written_is_in_the_reference() {
        let word = |written: &'static str| written.split(' ').next();
        let known: Vec<_> = FILTERS.iter().map(|written| word(written)).collect();
        let told: Vec<_> = filters::FILTERS.iter().map(|text| word(text.written)).collect();
        assert_eq!(known, told);
    }
}
