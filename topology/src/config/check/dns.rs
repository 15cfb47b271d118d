//! `[[zone]]`, `[[steer]]`.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::num::NonZeroU8;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::context::Context;
use super::values;
use crate::config::raw::{Needed, RawSteer, RawZone};
use crate::config::read::{Field, List, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::config::suggest::{did_you_mean, list};
use crate::{AllDown, Filter, Name, PoolId, Steer, ZoneFile};

/// The zones, and finding the one that holds a name.
#[derive(Debug)]
pub(super) struct Zones {
    pub(super) list: Result<Vec<ZoneFile>, Reported>,
    /// By name; a zone whose file cannot be read counts as well.
    index: HashMap<Name, usize>,
    /// Whether `index` has all that the author meant.
    whole: Result<(), Reported>,
}

impl Zones {
    /// Index of the closest zone at or above `name`.
    fn enclosing(&self, name: &Name) -> Option<usize> {
        let mut ancestors = std::iter::successors(Some(name.clone()), Name::parent);
        ancestors.find_map(|name| self.index.get(&name).copied())
    }
}

pub(super) fn zones(cx: &Context<'_, '_>, raw: List<RawZone<'_>>) -> Zones {
    let List {
        span: _,
        items,
        mut whole,
    } = raw;
    let mut index = HashMap::new();
    let mut lines = HashMap::new();
    let mut list = Vec::with_capacity(items.len());
    for (number, RawZone { name, file }) in items.into_iter().enumerate() {
        let name = name.and_then(|written| zone_name(cx.sink, &mut lines, &written));
        let file = file.and_then(|file| cx.file("file", &file));
        match &name {
            Ok(name) => drop(index.insert(name.clone(), number)),
            Err(reported) => whole = Err(*reported),
        }
        list.push(name.and_then(|name| Ok(ZoneFile { name, file: file? })));
    }
    let list = all(list).and_then(|list| whole.map(|()| list));
    Zones { list, index, whole }
}

fn zone_name(
    sink: &Sink<'_>,
    lines: &mut HashMap<Name, usize>,
    written: &Spanned<&str>,
) -> Result<Name, Reported> {
    let name = domain_name(sink, written)?;
    if name.as_str().starts_with('*') {
        let remedy = "write the name without it; a wildcard stands inside the zone file";
        return Err(sink.fault(
            written.span(),
            format!("zone `{name}` begins with a wildcard"),
            remedy,
        ));
    }
    once(sink, lines, "zone", written, &name)?;
    Ok(name)
}

fn domain_name(sink: &Sink<'_>, written: &Spanned<&str>) -> Result<Name, Reported> {
    written
        .get_ref()
        .parse()
        .map_err(|invalid: crate::name::InvalidName| {
            let message = format!("`name` is {:?}: {invalid}", written.get_ref());
            sink.fault(
                written.span(),
                message,
                "write a domain name, for example \"www.example.com\"",
            )
        })
}

fn once(
    sink: &Sink<'_>,
    seen: &mut HashMap<Name, usize>,
    kind: &str,
    written: &Spanned<&str>,
    name: &Name,
) -> Result<(), Reported> {
    match seen.entry(name.clone()) {
        Entry::Vacant(entry) => {
            entry.insert(sink.line(written.span().start));
            Ok(())
        }
        Entry::Occupied(entry) => Err(sink.conflict(
            written.span(),
            format!("{kind} `{name}` is declared twice, first in line {}", entry.get()),
            "remove one of them",
        )),
    }
}

pub(super) fn steers(
    cx: &Context<'_, '_>,
    zones: &Zones,
    raw: List<RawSteer<'_>>,
) -> Result<Vec<Steer>, Reported> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let mut seen = HashMap::new();
    let steers = all(items
        .into_iter()
        .map(|raw| steer(cx, zones, &mut seen, raw))
        .collect());
    whole?;
    steers
}

fn steer(
    cx: &Context<'_, '_>,
    zones: &Zones,
    seen: &mut HashMap<Name, usize>,
    raw: RawSteer<'_>,
) -> Result<Steer, Reported> {
    let RawSteer {
        name,
        pool,
        ttl,
        chain,
        if_all_down,
    } = raw;
    let name = steered_name(cx.sink, zones, seen, name);
    let pool = pool.and_then(|pool| cx.pools.find(cx.sink, &pool));
    let ttl = seconds(cx.sink, ttl);
    let chain = filters(cx, chain);
    let if_all_down = all_down(cx.sink, if_all_down);
    let (name, zone) = name?;
    Ok(Steer {
        name,
        zone,
        pool: PoolId(pool?),
        ttl: ttl?,
        chain: chain?,
        if_all_down: if_all_down?,
    })
}

fn steered_name(
    sink: &Sink<'_>,
    zones: &Zones,
    seen: &mut HashMap<Name, usize>,
    name: Needed<&str>,
) -> Result<(Name, usize), Reported> {
    let written = name?;
    let name = domain_name(sink, &written)?;
    once(sink, seen, "steered name", &written, &name)?;
    if let Some(zone) = zones.enclosing(&name) {
        return Ok((name, zone));
    }
    // The zone that is meant may be the one whose name could not be read.
    zones.whole?;
    let mut known: Vec<&str> = zones.index.keys().map(Name::as_str).collect();
    known.sort_unstable();
    let message = format!("`{name}` lies in no zone of the file");
    let remedy = format!("add a [[zone]] for it; declared: {}", list(known));
    Err(sink.conflict(written.span(), message, remedy))
}

/// RFC 2181 §8 allows 2^31 - 1 s; nobody steers with more than a week.
fn seconds(sink: &Sink<'_>, ttl: Field<Duration>) -> Result<Duration, Reported> {
    let span: Option<Range<usize>> = ttl.as_ref().ok().and_then(|ttl| ttl.as_ref().map(Spanned::span));
    let range = Duration::ZERO..=Duration::from_hours(7 * 24);
    let ttl = values::duration(sink, "ttl", ttl, range, Duration::from_secs(30))?;
    match span {
        Some(span) => values::whole_seconds(sink, "ttl", span, ttl),
        None => Ok(ttl),
    }
}

fn filters(cx: &Context<'_, '_>, chain: Field<OneOrMany<&str>>) -> Result<Vec<Filter>, Reported> {
    let Some(written) = chain? else {
        let take = Filter::Take(NonZeroU8::MIN);
        let with_sites = cx.sites.declared();
        return Ok(if with_sites {
            vec![Filter::Up, Filter::Nearest, take]
        } else {
            vec![Filter::Up, take]
        });
    };
    all(written
        .get_ref()
        .0
        .iter()
        .map(|written| filter(cx, written))
        .collect())
}

fn filter(cx: &Context<'_, '_>, written: &Spanned<&str>) -> Result<Filter, Reported> {
    const FILTERS: [&str; 5] = ["up", "nearest", "weighted", "failover", "take N"];
    let mut words = written.get_ref().split_whitespace();
    let (word, argument, surplus) = (words.next().unwrap_or_default(), words.next(), words.next());
    let filter = match word {
        "up" => Filter::Up,
        "nearest" if !cx.sites.declared() => {
            return Err(cx.sink.conflict(
                written.span(),
                "filter `nearest` needs to know where endpoints stand, but the file declares no site",
                "add [[site]] tables and `site` to the endpoints, or remove `nearest`",
            ));
        }
        "nearest" => Filter::Nearest,
        "weighted" => Filter::Weighted,
        "failover" => Filter::Failover,
        "take" => {
            let count = argument.and_then(|count| count.parse::<NonZeroU8>().ok());
            match (count, surplus) {
                (Some(count), None) => return Ok(Filter::Take(count)),
                (Some(_) | None, _) => {
                    let message = format!("filter {:?} does not say how many", written.get_ref());
                    return Err(cx.sink.fault(
                        written.span(),
                        message,
                        "write \"take N\" with N from 1 to 255",
                    ));
                }
            }
        }
        other => {
            let remedy = did_you_mean(other, FILTERS, "the filters are");
            return Err(cx
                .sink
                .fault(written.span(), format!("there is no filter `{other}`"), remedy));
        }
    };
    if argument.is_some() {
        let message = format!(
            "filter `{word}` takes nothing, but {:?} is written",
            written.get_ref()
        );
        return Err(cx
            .sink
            .fault(written.span(), message, format!("write \"{word}\"")));
    }
    Ok(filter)
}

fn all_down(sink: &Sink<'_>, field: Field<&str>) -> Result<AllDown, Reported> {
    const RULES: [&str; 3] = ["serve-all", "nodata", "servfail"];
    let Some(written) = field? else {
        return Ok(AllDown::ServeAll);
    };
    match *written.get_ref() {
        "serve-all" => Ok(AllDown::ServeAll),
        "nodata" => Ok(AllDown::Nodata),
        "servfail" => Ok(AllDown::Servfail),
        other => Err(sink.fault(
            written.span(),
            format!("`if_all_down` is {other:?}"),
            did_you_mean(other, RULES, "write one of"),
        )),
    }
}
