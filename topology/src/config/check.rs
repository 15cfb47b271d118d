//! Raw shape in, checked shape out. Every raw struct is taken apart without `..`, so that a new key must be
//! dealt with. Every function looks at all its keys before it gives up, so that one run tells everything.

mod anycast;
mod bgp;
mod checks;
mod condition;
mod context;
mod dns;
mod dns_server;
mod drain;
mod edge;
mod health;
mod kinds;
mod names;
mod nest;
mod notify;
mod peer;
mod policy;
mod said;
mod sites;
mod store;
mod values;

use std::collections::HashSet;
use std::path::Path;

use super::Resolve;
use super::raw::RawFile;
use super::read::all;
use super::sink::{Reported, Sink};
use crate::{EndpointId, Fleet, SiteId};

use context::Context;
use names::Names;

/// Checks the whole file. `Err` when something was faulted; `Ok` may come with faults in `sink` as well, and
/// then must not be used either.
pub(super) fn fleet(
    sink: &Sink<'_>,
    base: &Path,
    resolver: &dyn Resolve,
    raw: RawFile<'_>,
) -> Result<Fleet, Reported> {
    let RawFile {
        fleet,
        site,
        check,
        pool,
        dns,
        zone,
        steer,
        anycast,
        bgp,
        edge,
        admin,
        notify,
    } = raw;
    let mut cx = Context::new(
        sink,
        base,
        resolver,
        Names::gather(sink, "site", site.whole, site.items.iter().map(|site| &site.name)),
        Names::gather(
            sink,
            "check",
            check.whole,
            check.items.iter().map(|check| &check.name),
        ),
        Names::gather(sink, "pool", pool.whole, pool.items.iter().map(|pool| &pool.name)),
    );

    let general = sites::general(&cx, fleet);
    let gossip = general.as_ref().ok().and_then(|general| general.gossip.as_ref());
    cx.reference = gossip.and_then(|(_, gossip)| gossip.reference);
    let cx = cx;
    // A faulted table is as good as one that is written: one fault is not told twice.
    let port = general
        .as_ref()
        .map(|general| general.gossip.as_ref().map(|(_, gossip)| gossip.port));
    let sites = sites::sites(&cx, port.unwrap_or(Some(sites::DEFAULT_GOSSIP_PORT)), site);
    if let (Ok(general), Ok(sites)) = (&general, &sites) {
        sites::gossip_has_sites(sink, general, sites);
    }
    let neighbours: Vec<_> = check
        .items
        .iter()
        .map(|raw| values::span_of(&raw.of_kind.peer))
        .collect();
    let few_look: Vec<_> = check
        .items
        .iter()
        .filter_map(|raw| values::span_of(&raw.vantage_points))
        .collect();
    let checks = checks::checks(&cx, check);
    let named: Vec<_> = pool.items.iter().map(health::NamedAt::of).collect();
    let pool_spans: Vec<_> = pool.items.iter().map(|pool| pool.span.clone()).collect();
    let drafts: Vec<_> = (0..)
        .zip(pool.items)
        .map(|(id, raw)| health::pool(&cx, crate::PoolId(id), sites.as_deref().ok(), raw))
        .collect();
    if let Ok(checks) = &checks {
        health::kinds_fit(sink, checks, &drafts, named);
    }
    if let Ok(general) = &general {
        sites::few_look_only_with_gossip(sink, general, few_look);
        sites::references_are_elsewhere(sink, general, &drafts);
    }
    let nests = nest::nests(&cx, &pool_spans, &drafts);
    let places: Vec<Option<HashSet<SiteId>>> = nest::places(&drafts, &nests);
    let dns = dns_server::server(&cx, dns, zone.span.is_some());
    let zones = dns::zones(&cx, zone);
    let pools = dns::Pools {
        drafts: &drafts,
        nests: &nests,
    };
    let steers = dns::steers(&cx, &zones, sites.as_deref().ok(), pools, steer);
    let missing_bgp = matches!(bgp, Ok(None)).then(|| anycast.items.first().map(|first| first.span.clone()));
    let bgp = bgp::speaker(&cx, bgp);
    let reach = bgp.as_ref().ok().and_then(Option::as_ref).map(|(_, bgp)| bgp);
    let anycast = anycast::anycast(&cx, &places, reach, anycast);
    let edge = edge::edge(&cx, edge);
    let admin = sites::admin(&cx, admin);
    let notify = notify::channels(&cx, notify);

    if let Some(Some(span)) = missing_bgp {
        sink.conflict(
            span,
            "[[anycast]] without [bgp]: nobody could announce it",
            "add [bgp] with `asn`",
        );
    }
    if let (Ok(checks), Ok(bgp)) = (&checks, &bgp) {
        checks::paths_are_watched(sink, checks, neighbours, bgp.as_ref().map(|(_, bgp)| bgp));
    }
    if let (Ok(general), Ok(steers)) = (&general, &steers) {
        sites::references_are_not_steered(sink, general, steers);
    }
    bgp::relations(&cx, sites.as_deref().ok(), bgp.as_ref().ok(), &anycast);

    let sites::General {
        name,
        geo,
        latency,
        guard,
        overflow,
        gossip,
        store,
    } = general?;
    nests?;
    let mut pools = Vec::with_capacity(drafts.len());
    let mut endpoints = Vec::new();
    for draft in drafts {
        let (mut pool, members) = draft?;
        let first = endpoints.len() as u32;
        pool.endpoints = (first..).take(members.len()).map(EndpointId).collect();
        endpoints.extend(members);
        pools.push(pool);
    }
    Ok(Fleet {
        name,
        geo,
        latency,
        guard,
        overflow,
        gossip: gossip.map(|(_, gossip)| gossip),
        sites: sites?,
        checks: checks?,
        pools,
        endpoints,
        dns: dns?,
        zones: zones.list?,
        steers: steers?,
        anycast: all(anycast)?.into_iter().map(|(_, anycast)| anycast).collect(),
        bgp: bgp?.map(|(_, bgp)| bgp),
        edge: edge?,
        admin: admin?,
        store,
        notify: notify?,
    })
}
