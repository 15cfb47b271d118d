//! The tables `country`, `continent`, `asn` and `cidr` of a steered name.

use std::collections::HashMap;
use std::fmt::Display;
use std::hash::Hash;

use toml::Spanned;

use super::super::context::Context;
use crate::config::raw::RawMap;
use crate::config::read::{Field, OneOrMany, all};
use crate::config::sink::Reported;
use crate::{Asn, ClientMap, Continent, CountryCode, Maps, Prefix, Target};

/// What is wrong with a key, and what would be right.
type BadKey = (String, &'static str);

pub(super) fn maps(
    cx: &Context<'_, '_>,
    country: Field<RawMap<'_>>,
    continent: Field<RawMap<'_>>,
    asn: Field<RawMap<'_>>,
    cidr: Field<RawMap<'_>>,
) -> Result<Maps, Reported> {
    let country = map(cx, "country", country, |text| {
        let country = text.parse::<CountryCode>();
        country.map_err(|_| {
            let message = format!("{text:?} is no country");
            (message, "write an ISO 3166-1 code of two letters, for example DE")
        })
    });
    let continent = map(cx, "continent", continent, |text| {
        Continent::from_code(&text.to_ascii_uppercase()).ok_or_else(|| {
            let message = format!("{text:?} is no continent");
            (message, "write one of AF, AN, AS, EU, NA, OC and SA")
        })
    });
    let asn = map(cx, "asn", asn, |text| {
        let digits = text.strip_prefix("AS").unwrap_or(text);
        digits.parse().ok().and_then(Asn::new).ok_or_else(|| {
            let message = format!("{text:?} is no AS number");
            (message, "write for example AS64500")
        })
    });
    let cidr = map(cx, "cidr", cidr, |text| {
        let prefix = text.parse::<Prefix>();
        prefix.map_err(|error| (error.to_string(), "write for example \"192.0.2.0/24\""))
    });
    Ok(Maps {
        country: country?,
        continent: continent?,
        asn: asn?,
        cidr: cidr?,
    })
}

fn map<K: Copy + Eq + Hash + Display>(
    cx: &Context<'_, '_>,
    title: &str,
    field: Field<RawMap<'_>>,
    key: impl Fn(&str) -> Result<K, BadKey>,
) -> Result<ClientMap<K>, Reported> {
    let Some(written) = field? else {
        return Ok(ClientMap::default());
    };
    let span = written.span();
    let raw = written.into_inner().0;
    if raw.is_empty() {
        let remedy = "write for example { default = \"tier 0\" }, or remove it";
        return Err(cx
            .sink
            .conflict(span, format!("`{title}` sends nobody anywhere"), remedy));
    }
    let mut lines = HashMap::new();
    let mut default = Ok(Vec::new());
    let mut entries = Vec::new();
    for (name, targets) in raw {
        let targets = aims(cx, &targets);
        if *name.get_ref() == "default" {
            default = targets;
            continue;
        }
        let key = key(name.get_ref()).map_err(|(message, remedy)| {
            cx.sink.fault(
                name.span(),
                format!("`{title}` has a wrong key: {message}"),
                remedy,
            )
        });
        let key = key.and_then(|key| {
            let line = cx.sink.line(name.span().start);
            match lines.insert(key, line) {
                None => Ok(key),
                Some(first) => Err(cx.sink.conflict(
                    name.span(),
                    format!("`{title}` has {key} twice, first in line {first}"),
                    "remove one of them",
                )),
            }
        });
        entries.push(key.and_then(|key| Ok((key, targets?))));
    }
    Ok(ClientMap {
        entries: all(entries)?,
        default: default?,
    })
}

fn aims(cx: &Context<'_, '_>, written: &Spanned<OneOrMany<&str>>) -> Result<Vec<Target>, Reported> {
    let targets = &written.get_ref().0;
    if targets.is_empty() {
        return Err(cx.sink.fault(
            written.span(),
            "the list of sites and tiers is empty",
            "write a site, for example \"fra\", or a tier, for example \"tier 0\"",
        ));
    }
    all(targets.iter().map(|target| aim(cx, target)).collect())
}

fn aim(cx: &Context<'_, '_>, written: &Spanned<&str>) -> Result<Target, Reported> {
    let text = *written.get_ref();
    let Some(tier) = text.strip_prefix("tier") else {
        return cx.site(written).map(Target::Site);
    };
    tier.trim_start().parse().map(Target::Tier).map_err(|_| {
        cx.sink.fault(
            written.span(),
            format!("{text:?} is no tier"),
            "write \"tier N\" with N from 0 to 65535",
        )
    })
}
