//! `[[pool]]`.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use super::context::{Context, Located};
use super::said;
use super::values;
use crate::config::raw::{Maybe, RawDamping, RawEndpoint, RawOutlier, RawPool};
use crate::config::read::TextOrInt;
use crate::config::read::{Field, List, all};
use crate::config::sink::{Reported, Sink};
use crate::{
    Check, CheckId, CheckKind, DampingRules, Demand, Endpoint, Nested, OutlierRules, Pool, PoolId, Site,
    SiteId,
};

/// A pool and its endpoints, which have no ids yet.
pub(super) type Draft = (Pool, Vec<Endpoint>);

/// `failover` counts tiers in 16 bits, and without `tier` each endpoint has its own.
const MAX_ENDPOINTS: usize = 65_536;

pub(super) fn pool(
    cx: &Context<'_, '_>,
    id: PoolId,
    sites: Option<&[Site]>,
    raw: RawPool<'_>,
) -> Result<Draft, Reported> {
    let RawPool {
        span,
        name,
        check,
        load,
        endpoints,
        needs,
        outlier,
        damping,
    } = raw;
    let name = values::label(cx.sink, name);
    let outlier = outlier_rules(cx.sink, outlier);
    let damping = damping_rules(cx.sink, damping);
    let written = [
        ("outlier", matches!(outlier, Ok(Some(_)))),
        ("damping", matches!(damping, Ok(Some(_)))),
    ];
    for (key, _) in written
        .iter()
        .filter(|(_, written)| *written && matches!(check, Ok(None)))
    {
        cx.sink.conflict(
            span.clone(),
            format!("the pool has `{key}` but no `check`: nothing is known of its endpoints"),
            format!("add `check`, or remove `{key}`"),
        );
    }
    let check = check.and_then(|check| check.map(|check| cx.checks.find(cx.sink, &check)).transpose());
    let load = load.and_then(|load| load.map(|load| cx.checks.find(cx.sink, &load)).transpose());
    let members = pool_members(cx, id, span, endpoints);
    let (nested, endpoints) = match members {
        Ok((nested, endpoints)) => (Ok(nested), Ok(endpoints)),
        Err(reported) => (Err(reported), Err(reported)),
    };
    let needs = demand(cx.sink, sites, &endpoints, needs);
    let pool = Pool {
        name: name?,
        check: check?.map(CheckId),
        load: load?.map(CheckId),
        endpoints: Vec::new(),
        nested: nested?,
        needs: needs?,
        outlier: outlier?,
        damping: damping?,
    };
    Ok((pool, endpoints?))
}

/// Where a pool names its checks.
pub(super) struct NamedAt {
    check: Option<Range<usize>>,
    load: Option<Range<usize>>,
}

impl NamedAt {
    pub(super) fn of(raw: &RawPool<'_>) -> Self {
        Self {
            check: values::span_of(&raw.check),
            load: values::span_of(&raw.load),
        }
    }
}

/// A check of kind `load` gives numbers and no verdict, and the others give none of the numbers.
pub(super) fn kinds_fit(
    sink: &Sink<'_>,
    checks: &[Check],
    drafts: &[Result<Draft, Reported>],
    named: Vec<NamedAt>,
) {
    let is_load = |id: Option<CheckId>| {
        let check = checks.get(id?.0 as usize)?;
        Some(matches!(check.kind, CheckKind::Load(_)))
    };
    for (draft, at) in drafts.iter().zip(named) {
        let Ok((pool, _)) = draft else { continue };
        if let (Some(true), Some(span)) = (is_load(pool.check), at.check) {
            sink.conflict(
                span,
                "`check` names a check of kind \"load\", which gives no verdict",
                "write `load` in place of `check`, or name another check",
            );
        }
        if let (Some(false), Some(span)) = (is_load(pool.load), at.load) {
            sink.conflict(
                span,
                "`load` names a check that reads no number to steer by",
                "name a check of kind \"load\"",
            );
        }
    }
}

fn outlier_rules(sink: &Sink<'_>, raw: Maybe<RawOutlier>) -> Result<Option<OutlierRules>, Reported> {
    const HOUR: Duration = Duration::from_hours(1);
    let Some(raw) = raw? else { return Ok(None) };
    let RawOutlier {
        interval,
        samples,
        stdev_factor,
        failure,
        slower,
        base_ejection,
        max_ejection,
        max_ejected,
    } = raw;
    let default = OutlierRules::DEFAULT;
    let second = Duration::from_secs(1);
    let time = |key, field, or| values::duration(sink, key, field, second..=HOUR, or);
    let interval = time("interval", interval, default.interval);
    let samples = values::int(sink, "samples", samples, 1..=1_000_000_u32, default.samples);
    let stdev_factor = values::int(
        sink,
        "stdev_factor",
        stdev_factor,
        1..=100_000_u32,
        default.stdev_factor,
    );
    let failure = values::int(sink, "failure", failure, 1..=100_u8, default.failure);
    let slower = values::int(sink, "slower", slower, 2..=1000_u16, default.slower);
    let base_ejection = time("base_ejection", base_ejection, default.base_ejection);
    let max_ejection = time("max_ejection", max_ejection, default.max_ejection);
    let max_ejected = values::int(sink, "max_ejected", max_ejected, 1..=100_u8, default.max_ejected);
    Ok(Some(OutlierRules {
        interval: interval?,
        samples: samples?,
        stdev_factor: stdev_factor?,
        failure: failure?,
        slower: slower?,
        base_ejection: base_ejection?,
        max_ejection: max_ejection?,
        max_ejected: max_ejected?,
    }))
}

fn damping_rules(sink: &Sink<'_>, raw: Maybe<RawDamping>) -> Result<Option<DampingRules>, Reported> {
    const HOUR: Duration = Duration::from_hours(1);
    let Some(raw) = raw? else { return Ok(None) };
    let RawDamping {
        span,
        penalty,
        half_life,
        suppress,
        reuse,
        max,
    } = raw;
    let second = Duration::from_secs(1);
    let penalty = values::int(sink, "penalty", penalty, 1..=100_000, 1000);
    let half_life = values::duration(sink, "half_life", half_life, second..=HOUR, HOUR / 60);
    let suppress = values::int(sink, "suppress", suppress, 1..=1_000_000, 3000);
    let reuse = values::int(sink, "reuse", reuse, 1..=1_000_000, 1000);
    let max = values::duration(sink, "max", max, second..=HOUR * 24, HOUR / 6);
    let rules = DampingRules {
        penalty: penalty?,
        half_life: half_life?,
        suppress: suppress?,
        reuse: reuse?,
        max: max?,
    };
    if rules.reuse >= rules.suppress {
        let DampingRules { reuse, suppress, .. } = rules;
        return Err(sink.conflict(
            span,
            format!(
                "`reuse` is {reuse}, no less than `suppress`, which is {suppress}: nobody would be held back"
            ),
            "write a smaller `reuse`, or a larger `suppress`",
        ));
    }
    Ok(Some(rules))
}

/// What the guard is to keep in service; the whole pool must be able to give it.
fn demand(
    sink: &Sink<'_>,
    sites: Option<&[Site]>,
    endpoints: &Result<Vec<Endpoint>, Reported>,
    field: Field<TextOrInt<'_>>,
) -> Result<Demand, Reported> {
    let Some(written) = field? else {
        return Ok(Demand::Written(0));
    };
    let span = written.span();
    let (needs, least) = match *written.get_ref() {
        TextOrInt::Text("measured") => (Demand::Measured, 0),
        TextOrInt::Text(text) => {
            let message = format!("`needs` is {text:?}");
            return Err(sink.fault(span, message, "write requests per second, or \"measured\""));
        }
        TextOrInt::Int(count) => {
            let field = Ok(Some(toml::Spanned::new(span.clone(), count)));
            let needs = values::int(sink, "needs", field, 1..=1_000_000_000_000_u64, 1)?;
            (Demand::Written(needs), needs)
        }
    };
    let (Some(sites), Ok(endpoints)) = (sites, endpoints) else {
        return Ok(needs);
    };
    let places: std::collections::BTreeSet<SiteId> =
        endpoints.iter().filter_map(|endpoint| endpoint.site).collect();
    let places: Vec<&Site> = places
        .iter()
        .filter_map(|id| sites.get(usize::from(id.0)))
        .collect();
    if let Some(silent) = places.iter().find(|site| site.capacity.is_none()) {
        return Err(sink.conflict(
            span,
            format!("`needs` is written, but site `{}` has no `capacity`", silent.name),
            "add `capacity`, in requests per second, to each [[site]] of the pool",
        ));
    }
    let all: u64 = places.iter().filter_map(|site| site.capacity).sum();
    if least > all {
        return Err(sink.conflict(
            span,
            format!("`needs` is {least}, but all sites of the pool together serve {all}"),
            format!("write at most {all}, or correct the `capacity` of the sites"),
        ));
    }
    Ok(needs)
}

fn pool_members(
    cx: &Context<'_, '_>,
    pool: PoolId,
    pool_span: Range<usize>,
    raw: List<RawEndpoint<'_>>,
) -> Result<(Vec<Nested>, Vec<Endpoint>), Reported> {
    let List { span, items, whole } = raw;
    whole?;
    let span = span.unwrap_or(pool_span);
    if items.is_empty() {
        return Err(cx.sink.conflict(
            span,
            "the pool has no endpoints",
            "add for example endpoints = [{ address = \"198.51.100.10:443\" }]",
        ));
    }
    let tiers = tiers_agree(cx.sink, &items);
    let mut seen = HashMap::new();
    let drafts = (0..)
        .zip(items)
        .map(|(place, raw)| member(cx, pool, place, &mut seen, raw))
        .collect();
    let (mut nested, mut endpoints) = (Vec::new(), Vec::new());
    for member in all(drafts)? {
        match member {
            Member::Endpoints(more) => endpoints.extend(more),
            Member::Pool(inner) => nested.push(Nested {
                behind: endpoints.len(),
                ..inner
            }),
        }
    }
    if endpoints.len() > MAX_ENDPOINTS {
        let message = format!("the pool has {} endpoints", endpoints.len());
        return Err(cx
            .sink
            .fault(span, message, format!("at most {MAX_ENDPOINTS} are possible")));
    }
    tiers?;
    Ok((nested, endpoints))
}

/// `tier` is written for all endpoints of a pool or for none.
fn tiers_agree(sink: &Sink<'_>, items: &[RawEndpoint<'_>]) -> Result<(), Reported> {
    let is_without = |item: &&RawEndpoint<'_>| matches!(item.tier, Ok(None));
    let with = items.iter().any(|item| !matches!(item.tier, Ok(None)));
    match items.iter().find(is_without) {
        Some(without) if with => Err(sink.conflict(
            without.span.clone(),
            "this endpoint has no `tier`, but others of the pool have",
            "write `tier` for all endpoints of the pool or for none",
        )),
        Some(_) | None => Ok(()),
    }
}

type Seen = HashMap<(SocketAddr, Option<SiteId>), usize>;

/// One entry of `endpoints`.
enum Member {
    Endpoints(Vec<Endpoint>),
    Pool(Nested),
}

fn member(
    cx: &Context<'_, '_>,
    pool: PoolId,
    place: usize,
    seen: &mut Seen,
    raw: RawEndpoint<'_>,
) -> Result<Member, Reported> {
    match raw.pool {
        Ok(None) => endpoint(cx, pool, place, seen, raw).map(Member::Endpoints),
        Ok(Some(_)) | Err(_) => nested(cx, place, raw).map(Member::Pool),
    }
}

fn nested(cx: &Context<'_, '_>, place: usize, raw: RawEndpoint<'_>) -> Result<Nested, Reported> {
    let RawEndpoint {
        span,
        pool,
        site,
        address,
        probe,
        weight,
        tier,
        target,
        priority,
        text,
    } = raw;
    let own = [
        ("site", values::span_of(&site)),
        ("address", values::span_of(&address)),
        ("probe", values::span_of(&probe)),
        ("target", values::span_of(&target)),
        ("priority", values::span_of(&priority)),
        ("text", values::span_of(&text)),
    ];
    for (key, written) in own {
        if let Some(span) = written {
            cx.sink.conflict(
                span,
                format!("`{key}` means nothing beside `pool`, whose endpoints have their own"),
                "remove it, or remove `pool`",
            );
        }
    }
    let pool = match pool? {
        Some(pool) => cx.pools.find(cx.sink, &pool),
        None => Err(cx
            .sink
            .conflict(span, "the entry has no `pool`", "add the name of a pool")),
    };
    let weight = weight_of(cx.sink, weight);
    let tier = tier_of(cx.sink, tier, place);
    Ok(Nested {
        pool: PoolId(pool?),
        weight: weight?,
        tier: tier?,
        behind: 0,
    })
}

fn weight_of(sink: &Sink<'_>, weight: Field<i128>) -> Result<u32, Reported> {
    values::int(sink, "weight", weight, 0..=1_000_000_u32, 1)
}

fn tier_of(sink: &Sink<'_>, tier: Field<i128>, place: usize) -> Result<u16, Reported> {
    let in_order = u16::try_from(place).unwrap_or(u16::MAX);
    values::int(sink, "tier", tier, 0..=u16::MAX, in_order)
}

fn endpoint(
    cx: &Context<'_, '_>,
    pool: PoolId,
    place: usize,
    seen: &mut Seen,
    raw: RawEndpoint<'_>,
) -> Result<Vec<Endpoint>, Reported> {
    let RawEndpoint {
        span,
        pool: _,
        site,
        address,
        probe,
        weight,
        tier,
        target,
        priority,
        text,
    } = raw;
    let site = endpoint_site(cx, pool, span.clone(), site);
    let located = address.and_then(|written| match written {
        Some(written) => Ok((written.span(), cx.locate("address", &written)?)),
        None => Err(cx.sink.conflict(span, "the endpoint has no `address`", "add one")),
    });
    let probe = probe.and_then(|probe| probe.map(|written| cx.locate("probe", &written)).transpose());
    let weight = weight_of(cx.sink, weight);
    let tier = tier_of(cx.sink, tier, place);
    let said = said::said(cx.sink, target, priority, text);
    let (site, (span, Located { host, addresses }), probe) = (site?, located?, probe?);
    let (weight, tier, said) = (weight?, tier?, said?);
    let line = cx.sink.line(span.start);
    let mut endpoints = Vec::with_capacity(addresses.len());
    for address in addresses {
        if let Some(first) = seen.insert((address, site), line) {
            return Err(cx.sink.conflict(
                span,
                format!("{address} is already an endpoint of this pool, written in line {first}"),
                "remove one of them; for a larger share write `weight`",
            ));
        }
        let probe = probe.as_ref().map_or(address, |probe| probe_of(probe, address));
        endpoints.push(Endpoint {
            pool,
            site,
            address,
            host: host.clone(),
            probe,
            weight,
            tier,
            said: said.clone(),
        });
    }
    Ok(endpoints)
}

/// The first probe address of the endpoint's own family, else the first.
fn probe_of(probe: &Located, address: SocketAddr) -> SocketAddr {
    let mut same = probe
        .addresses
        .iter()
        .filter(|probe| probe.is_ipv4() == address.is_ipv4());
    same.next()
        .or_else(|| probe.addresses.first())
        .copied()
        .unwrap_or(address)
}

fn endpoint_site(
    cx: &Context<'_, '_>,
    pool: PoolId,
    span: Range<usize>,
    site: Field<&str>,
) -> Result<Option<SiteId>, Reported> {
    match site? {
        Some(name) => cx.site(&name).map(Some),
        None if cx.sites.declared() && cx.reference != Some(pool) => Err(cx.sink.conflict(
            span,
            "the endpoint has no `site`, but the fleet has sites",
            "add the name of the site where it stands, for example site = \"fra\"",
        )),
        None => Ok(None),
    }
}
