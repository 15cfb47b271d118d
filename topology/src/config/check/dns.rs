//! `[[zone]]`, `[[steer]]`.

mod chain;
mod kinds;
mod maps;
mod ttl;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use toml::Spanned;

use super::context::Context;
use crate::config::raw::{Needed, RawSteer, RawZone};
use crate::config::read::{Field, List, all};
use crate::config::sink::{Reported, Sink};
use crate::config::suggest::{did_you_mean, list};
use crate::{AllDown, Kinds, Name, PoolId, Site, Steer, ZoneFile};
use chain::Written;
use kinds::Declared;
pub(super) use kinds::Pools;

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
    sites: Option<&[Site]>,
    pools: Pools<'_>,
    raw: List<RawSteer<'_>>,
) -> Result<Vec<Steer>, Reported> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let mut seen = Declared::default();
    let steers = all(items
        .into_iter()
        .map(|raw| steer(cx, zones, sites, pools, &mut seen, raw))
        .collect());
    whole?;
    steers
}

fn steer(
    cx: &Context<'_, '_>,
    zones: &Zones,
    sites: Option<&[Site]>,
    pools: Pools<'_>,
    seen: &mut Declared,
    raw: RawSteer<'_>,
) -> Result<Steer, Reported> {
    let RawSteer {
        name,
        kinds,
        alpn,
        target,
        pool,
        ttl,
        ttl_min,
        ttl_max,
        chain,
        country,
        continent,
        asn,
        cidr,
        if_all_down,
    } = raw;
    let kinds = kinds::kinds(cx.sink, &kinds);
    let name = steered_name(cx.sink, zones, seen, name, kinds.ok());
    let binding = kinds::binding(cx.sink, kinds.ok(), target, alpn);
    let pool_span = pool.as_ref().ok().map(Spanned::span);
    let pool = pool.and_then(|pool| cx.pools.find(cx.sink, &pool));
    let ttl = ttl::ttl(cx.sink, ttl, ttl_min, ttl_max);
    let written = [
        Written::of(&country),
        Written::of(&continent),
        Written::of(&asn),
        Written::of(&cidr),
    ];
    let maps = maps::maps(cx, country, continent, asn, cidr);
    let chain = chain::filters(cx, sites, written, chain);
    let if_all_down = all_down(cx, if_all_down);
    let (name, zone) = name?;
    let steer = Steer {
        name,
        zone,
        kinds: kinds?,
        binding: binding?,
        pool: PoolId(pool?),
        ttl: ttl?,
        chain: chain?,
        if_all_down: if_all_down?,
        maps: maps?,
    };
    if let Some(span) = pool_span {
        kinds::pool_fits(cx, &span, &steer, pools)?;
    }
    Ok(steer)
}

fn steered_name(
    sink: &Sink<'_>,
    zones: &Zones,
    seen: &mut Declared,
    name: Needed<&str>,
    kinds: Option<Kinds>,
) -> Result<(Name, usize), Reported> {
    let written = name?;
    let name = domain_name(sink, &written)?;
    if let Some(kinds) = kinds {
        seen.take(sink, written.span(), &name, kinds)?;
    }
    if let Some(zone) = zones.enclosing(&name) {
        if let Some(kinds) = kinds {
            let is_apex = zones.index.contains_key(&name);
            kinds::not_at_the_apex(sink, written.span(), &name, kinds, is_apex)?;
        }
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

fn all_down(cx: &Context<'_, '_>, field: Field<&str>) -> Result<AllDown, Reported> {
    const RULES: [&str; 5] = ["serve-all", "serve-last-good", "pool:NAME", "nodata", "servfail"];
    let Some(written) = field? else {
        return Ok(AllDown::ServeAll);
    };
    match *written.get_ref() {
        "serve-all" => Ok(AllDown::ServeAll),
        "serve-last-good" => Ok(AllDown::ServeLastGood),
        "nodata" => Ok(AllDown::Nodata),
        "servfail" => Ok(AllDown::Servfail),
        other => match other.strip_prefix("pool:") {
            Some(pool) => {
                let pool = cx.pools.find_text(cx.sink, written.span(), pool)?;
                Ok(AllDown::Pool(PoolId(pool)))
            }
            None => Err(cx.sink.fault(
                written.span(),
                format!("`if_all_down` is {other:?}"),
                did_you_mean(other, RULES, "write one of"),
            )),
        },
    }
}
