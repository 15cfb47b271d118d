//! `[[check]]` and `[[pool]]`.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU8;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::context::{Context, Located};
use super::said;
use super::values;
use crate::config::raw::{Needed, RawCheck, RawEndpoint, RawPool};
use crate::config::read::{Field, List, TextOrInt, all};
use crate::config::sink::{Reported, Sink};
use crate::config::suggest::did_you_mean;
use crate::{Check, CheckId, CheckKind, Endpoint, Name, Nested, Pool, PoolId, Site, SiteId};

pub(super) fn checks(cx: &Context<'_, '_>, raw: List<RawCheck<'_>>) -> Result<Vec<Check>, Reported> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let checks = all(items.into_iter().map(|raw| check(cx.sink, raw)).collect());
    whole?;
    checks
}

fn check(sink: &Sink<'_>, raw: RawCheck<'_>) -> Result<Check, Reported> {
    let RawCheck {
        name,
        kind,
        path,
        host,
        status,
        interval,
        timeout,
        fall,
        rise,
        tripwire,
    } = raw;
    let name = values::label(sink, name);
    let kind = check_kind(sink, kind, path, host, status);
    let times = times(sink, interval, timeout);
    let fall = count(sink, "fall", fall, 3);
    let rise = count(sink, "rise", rise, 2);
    let (interval, timeout) = times?;
    Ok(Check {
        name: name?,
        kind: kind?,
        interval,
        timeout,
        fall: fall?,
        rise: rise?,
        tripwire: values::flag(tripwire, false)?,
    })
}

fn check_kind(
    sink: &Sink<'_>,
    kind: Needed<&str>,
    path: Field<&str>,
    host: Field<&str>,
    status: Field<TextOrInt<'_>>,
) -> Result<CheckKind, Reported> {
    const KINDS: [&str; 2] = ["http", "tcp"];
    let http_keys = [
        ("path", span_of(&path)),
        ("host", span_of(&host)),
        ("status", span_of(&status)),
    ];
    let path = http_path(sink, path);
    let host = http_host(sink, host);
    let status = http_status(sink, status);
    let kind = kind?;
    match *kind.get_ref() {
        "http" => Ok(CheckKind::Http {
            path: path?,
            host: host?,
            status: status?,
        }),
        "tcp" => {
            for (key, span) in http_keys {
                if let Some(span) = span {
                    sink.conflict(
                        span,
                        format!("`{key}` means nothing to a check of kind \"tcp\""),
                        "remove it, or write kind = \"http\"",
                    );
                }
            }
            Ok(CheckKind::Tcp)
        }
        other => Err(sink.fault(
            kind.span(),
            format!("`kind` is {other:?}"),
            did_you_mean(other, KINDS, "write one of"),
        )),
    }
}

fn span_of<T>(field: &Field<T>) -> Option<Range<usize>> {
    field
        .as_ref()
        .ok()
        .and_then(|value| value.as_ref().map(Spanned::span))
}

fn http_path(sink: &Sink<'_>, field: Field<&str>) -> Result<String, Reported> {
    let Some(written) = field? else {
        return Ok("/".to_owned());
    };
    let path = *written.get_ref();
    if path.starts_with('/') && path.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'#') {
        return Ok(path.to_owned());
    }
    Err(sink.fault(
        written.span(),
        format!("`path` is {path:?}"),
        "start it with '/', and write other than visible ASCII as %XX",
    ))
}

fn http_host(sink: &Sink<'_>, field: Field<&str>) -> Result<Option<String>, Reported> {
    let Some(written) = field? else { return Ok(None) };
    let host = *written.get_ref();
    let bare = match host.rsplit_once(':') {
        Some((bare, port)) if !bare.contains(':') && port.parse::<u16>().is_ok() => bare,
        Some(_) | None => host,
    };
    let is_host = bare.parse::<Name>().is_ok() || host.parse::<IpAddr>().is_ok();
    if is_host || host.parse::<SocketAddr>().is_ok() {
        return Ok(Some(host.to_owned()));
    }
    Err(sink.fault(
        written.span(),
        format!("`host` is {host:?}, which cannot stand in a Host header"),
        "write a host name, for example \"www.example.com\"",
    ))
}

fn http_status(sink: &Sink<'_>, field: Field<TextOrInt<'_>>) -> Result<(u16, u16), Reported> {
    let Some(written) = field? else {
        return Ok((200, 299));
    };
    let (shown, range) = match *written.get_ref() {
        TextOrInt::Int(status) => (
            status.to_string(),
            u16::try_from(status).ok().map(|one| (one, one)),
        ),
        TextOrInt::Text(text) => (format!("{text:?}"), status_range(text)),
    };
    match range {
        Some((low, high)) if 100 <= low && low <= high && high <= 599 => Ok((low, high)),
        Some(_) | None => Err(sink.fault(
            written.span(),
            format!("`status` is {shown}"),
            "write one status or a range within 100 to 599, for example 204 or \"200-299\"",
        )),
    }
}

fn status_range(text: &str) -> Option<(u16, u16)> {
    let (low, high) = text.split_once('-').unwrap_or((text, text));
    Some((low.trim().parse().ok()?, high.trim().parse().ok()?))
}

/// Interval and time-out.
fn times(
    sink: &Sink<'_>,
    interval: Field<Duration>,
    timeout: Field<Duration>,
) -> Result<(Duration, Duration), Reported> {
    const HOUR: Duration = Duration::from_hours(1);
    let interval = values::duration(
        sink,
        "interval",
        interval,
        Duration::from_millis(10)..=HOUR,
        Duration::from_secs(1),
    );
    // The default of one follows the other; with a bad interval any will do.
    let default = Duration::from_millis(300).min(interval.unwrap_or(HOUR));
    let timeout = values::duration(sink, "timeout", timeout, Duration::from_millis(1)..=HOUR, default);
    Ok((interval?, timeout?))
}

fn count(sink: &Sink<'_>, key: &str, field: Field<i128>, default: u8) -> Result<NonZeroU8, Reported> {
    let count = values::int(sink, key, field, 1..=u8::MAX, default)?;
    Ok(NonZeroU8::new(count).unwrap_or(NonZeroU8::MIN))
}

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
        endpoints,
        needs,
    } = raw;
    let name = values::label(cx.sink, name);
    let check = check.and_then(|check| check.map(|check| cx.checks.find(cx.sink, &check)).transpose());
    let members = pool_members(cx, id, span, endpoints);
    let (nested, endpoints) = match members {
        Ok((nested, endpoints)) => (Ok(nested), Ok(endpoints)),
        Err(reported) => (Err(reported), Err(reported)),
    };
    let needs = demand(cx.sink, sites, &endpoints, needs);
    let pool = Pool {
        name: name?,
        check: check?.map(CheckId),
        endpoints: Vec::new(),
        nested: nested?,
        needs: needs?,
    };
    Ok((pool, endpoints?))
}

/// What the guard is to keep in service; the whole pool must be able to give it.
fn demand(
    sink: &Sink<'_>,
    sites: Option<&[Site]>,
    endpoints: &Result<Vec<Endpoint>, Reported>,
    field: Field<i128>,
) -> Result<u64, Reported> {
    let Some(span) = span_of(&field) else {
        return field.map(|_| 0);
    };
    let needs = values::int(sink, "needs", field, 1..=1_000_000_000_000_u64, 1)?;
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
    if needs > all {
        return Err(sink.conflict(
            span,
            format!("`needs` is {needs}, but all sites of the pool together serve {all}"),
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
        ("site", span_of(&site)),
        ("address", span_of(&address)),
        ("probe", span_of(&probe)),
        ("target", span_of(&target)),
        ("priority", span_of(&priority)),
        ("text", span_of(&text)),
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
    let site = endpoint_site(cx, span.clone(), site);
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
    span: Range<usize>,
    site: Field<&str>,
) -> Result<Option<SiteId>, Reported> {
    match site? {
        Some(name) => cx.site(&name).map(Some),
        None if cx.sites.declared() => Err(cx.sink.conflict(
            span,
            "the endpoint has no `site`, but the fleet has sites",
            "add the name of the site where it stands, for example site = \"fra\"",
        )),
        None => Ok(None),
    }
}
