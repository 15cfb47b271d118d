//! `[fleet]`, `[[site]]`, `[admin]`.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::context::{Context, Wire};
use super::{store, values};
use crate::airports;
use crate::config::raw::{Maybe, RawAdmin, RawFleet, RawGeo, RawGossip, RawGuard, RawOverflow, RawSite};
use crate::config::read::{Field, List, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::config::suggest::list;
use crate::{
    Admin, Endpoint, GeoFiles, GossipPolicy, GuardPolicy, OverflowPolicy, Pool, PoolId, Site, Steer,
    StorePlace,
};

/// A pool and its endpoints, as far as they could be read.
type Draft = Result<(Pool, Vec<Endpoint>), Reported>;

/// What `[fleet]` says.
pub(super) struct General {
    pub(super) name: String,
    pub(super) geo: Option<GeoFiles>,
    pub(super) latency: Option<PathBuf>,
    pub(super) guard: GuardPolicy,
    pub(super) overflow: OverflowPolicy,
    pub(super) gossip: Option<(std::ops::Range<usize>, GossipPolicy)>,
    pub(super) store: Option<StorePlace>,
}

pub(super) fn general(cx: &Context<'_, '_>, raw: Maybe<RawFleet<'_>>) -> Result<General, Reported> {
    let Some(RawFleet {
        name,
        geo,
        latency,
        guard,
        overflow,
        gossip,
        store,
        etcd,
    }) = raw?
    else {
        return Ok(General {
            name: DEFAULT_NAME.to_owned(),
            geo: None,
            latency: None,
            guard: DEFAULT_GUARD,
            overflow: OverflowPolicy::default(),
            gossip: None,
            store: None,
        });
    };
    let name = fleet_name(cx.sink, name);
    let geo = geo.and_then(|geo| geo.map(|geo| geo_files(cx, geo)).transpose());
    let guard = guard.and_then(|guard| guard.map_or(Ok(DEFAULT_GUARD), |guard| policy(cx.sink, guard)));
    let overflow = overflow.and_then(|written| match written {
        Some(written) => overflow_policy(cx.sink, written),
        None => Ok(OverflowPolicy::default()),
    });
    let gossip = gossip.and_then(|gossip| gossip.map(|raw| self::gossip(cx, raw)).transpose());
    let store = store::place(cx, store, etcd, name.as_deref().unwrap_or(DEFAULT_NAME));
    let latency = latency.and_then(|file| file.map(|file| cx.file("latency", &file)).transpose());
    Ok(General {
        name: name?,
        geo: geo?,
        latency: latency?,
        guard: guard?,
        overflow: overflow?,
        gossip: gossip?,
        store: store?,
    })
}

const DEFAULT_NAME: &str = "fleet";
const DEFAULT_GUARD: GuardPolicy = GuardPolicy {
    keep_sites: 1,
    max_withdrawn: 1,
    window: Duration::from_secs(60),
    panic: 70,
};

fn fleet_name(sink: &Sink<'_>, name: Field<&str>) -> Result<String, Reported> {
    let Some(name) = name? else {
        return Ok(DEFAULT_NAME.to_owned());
    };
    let length = name.get_ref().chars().count();
    if (1..=255).contains(&length) && !name.get_ref().contains(char::is_control) {
        return Ok((*name.get_ref()).to_owned());
    }
    let message = format!("`name` is {:?}", name.get_ref());
    Err(sink.fault(name.span(), message, "write 1 to 255 printable characters"))
}

fn geo_files(cx: &Context<'_, '_>, raw: RawGeo<'_>) -> Result<GeoFiles, Reported> {
    let RawGeo {
        span,
        country,
        city,
        asn,
    } = raw;
    let country = paths(cx, "country", country);
    let city = paths(cx, "city", city);
    let asn = paths(cx, "asn", asn);
    let (country, city, asn) = (country?, city?, asn?);
    if country.is_empty() && city.is_empty() && asn.is_empty() {
        return Err(cx.sink.conflict(
            span,
            "`geo` names no database",
            "add `country`, `city` or `asn`, or remove `geo` to use the built-in database",
        ));
    }
    Ok(GeoFiles { country, city, asn })
}

fn paths(cx: &Context<'_, '_>, key: &str, field: Field<OneOrMany<&str>>) -> Result<Vec<PathBuf>, Reported> {
    let Some(written) = field? else {
        return Ok(Vec::new());
    };
    all(written
        .get_ref()
        .0
        .iter()
        .map(|path| cx.file(key, path))
        .collect())
}

fn overflow_policy(sink: &Sink<'_>, raw: RawOverflow) -> Result<OverflowPolicy, Reported> {
    let RawOverflow {
        span,
        enter,
        leave,
        band,
        settle,
    } = raw;
    let default = OverflowPolicy::default();
    let enter = values::int(sink, "enter", enter, 1..=100_u8, default.enter);
    // The default of one follows the other.
    let below = enter.map_or(default.leave, |enter| default.leave.min(enter.saturating_sub(10)));
    let leave = values::int(sink, "leave", leave, 0..=99_u8, below);
    let band = values::int(sink, "band", band, 1..=50_u8, default.band);
    let range = Duration::from_secs(1)..=Duration::from_hours(1);
    let settle = values::duration(sink, "settle", settle, range, default.settle);
    let (enter, leave) = (enter?, leave?);
    if leave >= enter {
        return Err(sink.conflict(
            span,
            format!("`leave` is {leave} and `enter` is {enter}: a site would end as it begins, and swing"),
            "write a `leave` below `enter`",
        ));
    }
    Ok(OverflowPolicy {
        enter,
        leave,
        band: band?,
        settle: settle?,
    })
}

fn policy(sink: &Sink<'_>, raw: RawGuard) -> Result<GuardPolicy, Reported> {
    let RawGuard {
        keep_sites,
        max_withdrawn,
        window,
        panic,
    } = raw;
    let default = DEFAULT_GUARD;
    let keep_sites = values::int(sink, "keep_sites", keep_sites, 0..=u16::MAX, default.keep_sites);
    let max_withdrawn = values::int(
        sink,
        "max_withdrawn",
        max_withdrawn,
        1..=u16::MAX,
        default.max_withdrawn,
    );
    let range = Duration::from_secs(1)..=Duration::from_hours(24);
    let window = values::duration(sink, "window", window, range, default.window);
    let panic = values::int(sink, "panic", panic, 1..=100, default.panic);
    Ok(GuardPolicy {
        keep_sites: keep_sites?,
        max_withdrawn: max_withdrawn?,
        window: window?,
        panic: panic?,
    })
}

fn gossip(
    cx: &Context<'_, '_>,
    raw: RawGossip<'_>,
) -> Result<(std::ops::Range<usize>, GossipPolicy), Reported> {
    let RawGossip {
        span,
        port,
        key_file,
        share,
        own_after,
        staged,
        reference,
    } = raw;
    let port = values::int(cx.sink, "port", port, 1..=u16::MAX, DEFAULT_GOSSIP_PORT);
    let key_file = key_file.and_then(|file| cx.file("key_file", &file));
    let share = values::int(cx.sink, "share", share, 0..=99, 50);
    let range = Duration::ZERO..=Duration::from_hours(1);
    let own_after = values::duration(
        cx.sink,
        "own_after",
        own_after,
        range.clone(),
        Duration::from_secs(10),
    );
    let staged = values::duration(cx.sink, "staged", staged, range, Duration::ZERO);
    let reference = reference.and_then(|pool| {
        let find = |pool| cx.pools.find(cx.sink, &pool).map(PoolId);
        pool.map(find).transpose()
    });
    let policy = GossipPolicy {
        port: port?,
        key_file: key_file?,
        share: share?,
        own_after: own_after?,
        staged: staged?,
        reference: reference?,
    };
    Ok((span, policy))
}

pub(super) const DEFAULT_GOSSIP_PORT: u16 = 7946;

/// Where a site hears; `port`: of `[fleet] gossip`, if it is written.
fn gossip_address(
    sink: &Sink<'_>,
    field: Field<&str>,
    port: Option<u16>,
    taken: &mut HashMap<SocketAddr, usize>,
) -> Result<Option<SocketAddr>, Reported> {
    let Some(written) = field? else { return Ok(None) };
    let text = *written.get_ref();
    let parsed = match text.parse::<IpAddr>() {
        Ok(ip) => Ok(SocketAddr::new(ip, port.unwrap_or(DEFAULT_GOSSIP_PORT))),
        Err(_) => text.parse::<SocketAddr>(),
    };
    let address = parsed.map_err(|_| {
        sink.fault(
            written.span(),
            format!("`gossip` is {text:?}, which is no IP address"),
            "write IP or IP:PORT, for example \"192.0.2.10:7946\" or \"[2001:db8::10]:7946\"",
        )
    })?;
    values::usable(sink, "gossip", written.span(), address)?;
    if port.is_none() {
        return Err(sink.conflict(
            written.span(),
            "`gossip` of a site without `[fleet] gossip`: nobody would listen",
            "add `gossip = { key_file = \"gossip.key\" }` to [fleet]",
        ));
    }
    let line = sink.line(written.span().start);
    match *taken.entry(address).or_insert(line) {
        first if first == line => Ok(Some(address)),
        first => Err(sink.conflict(
            written.span(),
            format!("`gossip` {address} is already the site's of line {first}"),
            "give every site its own address or port",
        )),
    }
}

/// What some sites see the others must hear.
pub(super) fn few_look_only_with_gossip(
    sink: &Sink<'_>,
    general: &General,
    written: Vec<std::ops::Range<usize>>,
) {
    if general.gossip.is_some() {
        return;
    }
    for span in written {
        sink.conflict(
            span,
            "`vantage_points` without `[fleet] gossip`: each site must see everything itself",
            "add `gossip = { key_file = \"gossip.key\" }` to [fleet], or remove it",
        );
    }
}

/// `[fleet] gossip` asks for somebody to talk to.
pub(super) fn gossip_has_sites(sink: &Sink<'_>, general: &General, sites: &[Site]) {
    let Some((span, _)) = &general.gossip else { return };
    let addresses = || sites.iter().filter_map(|site| site.gossip);
    let count = addresses().count();
    let v4 = addresses().filter(SocketAddr::is_ipv4).count();
    if v4 > 0 && v4 < count {
        sink.conflict(
            span.clone(),
            format!(
                "`gossip` between {v4} sites with IPv4 and {} with IPv6 addresses",
                count - v4
            ),
            "write addresses of one family as `gossip` of all [[site]]: each site must reach each",
        );
    }
    if count < 2 {
        sink.conflict(
            span.clone(),
            format!(
                "`gossip` with {count} of {} sites that have a `gossip` address",
                sites.len()
            ),
            "write `gossip = \"IP:PORT\"` in two [[site]] or more, or remove `gossip` from [fleet]",
        );
    }
}

/// `reference` names endpoints that are not ours, and that are looked at.
pub(super) fn references_are_elsewhere(sink: &Sink<'_>, general: &General, drafts: &[Draft]) {
    let Some((span, policy)) = &general.gossip else {
        return;
    };
    let Some(PoolId(pool)) = policy.reference else {
        return;
    };
    let Some(Ok((pool, endpoints))) = drafts.get(pool as usize) else {
        return; // faulted already
    };
    let ours = endpoints
        .iter()
        .filter(|endpoint| endpoint.site.is_some())
        .count();
    let problem = if pool.check.is_none() {
        "has no `check`: nobody looks at it".to_owned()
    } else if endpoints.is_empty() {
        "has no endpoints of its own".to_owned()
    } else if ours > 0 {
        format!("has {ours} endpoints with a `site`: they are ours and may fail with us")
    } else {
        return;
    };
    sink.conflict(
        span.clone(),
        format!(
            "the pool {:?} that `reference` of `gossip` names {problem}",
            pool.name
        ),
        "name a [[pool]] with a `check` whose endpoints have no `site`, such as an upstream's resolver",
    );
}

/// They are somebody else's, and no client is sent there.
pub(super) fn references_are_not_steered(sink: &Sink<'_>, general: &General, steers: &[Steer]) {
    let Some((span, policy)) = &general.gossip else {
        return;
    };
    let steered = |steer: &&Steer| Some(steer.pool) == policy.reference;
    if let Some(steer) = steers.iter().find(steered) {
        sink.conflict(
            span.clone(),
            format!(
                "the pool that `reference` of `gossip` names is that of [[steer]] {}",
                steer.name
            ),
            "name a [[pool]] of endpoints that are not ours, for this alone",
        );
    }
}

/// `port`: that of `[fleet] gossip`; `None` where it is not written.
pub(super) fn sites(
    cx: &Context<'_, '_>,
    port: Option<u16>,
    raw: List<RawSite<'_>>,
) -> Result<Vec<Site>, Reported> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let mut ids: HashMap<Ipv4Addr, usize> = HashMap::new();
    let mut gossip: HashMap<SocketAddr, usize> = HashMap::new();
    let sites = items
        .into_iter()
        .map(|mut raw| {
            let written = std::mem::replace(&mut raw.gossip, Ok(None));
            let address = gossip_address(cx.sink, written, port, &mut gossip);
            let site = site(cx.sink, &mut ids, raw)?;
            Ok(Site {
                gossip: address?,
                ..site
            })
        })
        .collect();
    let sites = all(sites);
    whole?;
    sites
}

fn site(sink: &Sink<'_>, ids: &mut HashMap<Ipv4Addr, usize>, raw: RawSite<'_>) -> Result<Site, Reported> {
    let RawSite {
        name,
        router_id,
        capacity,
        load,
        bias,
        gossip: _, // see `sites`
    } = raw;
    let capacity = values::optional_int(sink, "capacity", capacity, 1..=1_000_000_000_000_u64);
    let load = values::optional_int(sink, "load", load, 0..=1_000_000_000_000_u64);
    let bias = values::bias(sink, bias);
    let place = router_id
        .as_ref()
        .ok()
        .and_then(|id| id.as_ref().map(toml::Spanned::span));
    let router_id = values::router_id(sink, router_id);
    if let (Ok(Some(id)), Some(span)) = (router_id, place) {
        let line = sink.line(span.start);
        let first = *ids.entry(id).or_insert(line);
        if first != line {
            sink.conflict(
                span,
                format!("`router_id` {id} is already the site's of line {first}"),
                "give every site its own (RFC 6286 §2.1)",
            );
        }
    }
    let name = name?;
    let Some(airport) = airports::find(name.get_ref()) else {
        return Err(unknown_code(sink, &name));
    };
    Ok(Site {
        name: name.get_ref().to_ascii_lowercase(),
        city: airport.city.to_owned(),
        country: airport.country.to_owned(),
        latitude: airport.latitude,
        longitude: airport.longitude,
        router_id: router_id?,
        capacity: capacity?,
        load: load?,
        bias: bias?,
        gossip: None,
    })
}

fn unknown_code(sink: &Sink<'_>, name: &toml::Spanned<&str>) -> Reported {
    let similar = airports::similar(name.get_ref());
    let shown: Vec<String> = similar.iter().map(airports::Airport::describe).collect();
    let remedy = if shown.is_empty() {
        "write the three-letter code of the nearest airport, for example \"fra\"".to_owned()
    } else {
        format!(
            "write the code of the nearest airport; similar: {}",
            list(shown.iter().map(String::as_str))
        )
    };
    sink.fault(
        name.span(),
        format!("{:?} is no IATA airport code", name.get_ref()),
        remedy,
    )
}

pub(super) fn admin(cx: &Context<'_, '_>, raw: Maybe<RawAdmin<'_>>) -> Result<Option<Admin>, Reported> {
    let Some(RawAdmin { listen }) = raw? else {
        return Ok(None);
    };
    let Some(written) = listen? else {
        return Ok(Some(Admin {
            listen: (Ipv4Addr::LOCALHOST, 8053).into(),
        }));
    };
    let listen = cx.listen("listen", &written, &[Wire::Connections])?;
    if !listen.ip().is_loopback() {
        return Err(cx.sink.fault(
            written.span(),
            format!(
                "[admin] would listen on {listen}, which others can reach, and asks nobody for a password"
            ),
            format!(
                "write a loopback address, for example \"127.0.0.1:{}\"",
                listen.port()
            ),
        ));
    }
    Ok(Some(Admin { listen }))
}
