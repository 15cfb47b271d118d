//! `[fleet]`, `[[site]]`, `[admin]`.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

use super::context::{Context, Wire};
use super::values;
use crate::airports;
use crate::config::raw::{Maybe, RawAdmin, RawFleet, RawGeo, RawGuard, RawOverflow, RawSite};
use crate::config::read::{Field, List, OneOrMany, all};
use crate::config::sink::{Reported, Sink};
use crate::config::suggest::list;
use crate::{Admin, GeoFiles, GuardPolicy, OverflowPolicy, Site};

/// What `[fleet]` says.
pub(super) struct General {
    pub(super) name: String,
    pub(super) geo: Option<GeoFiles>,
    pub(super) latency: Option<PathBuf>,
    pub(super) guard: GuardPolicy,
    pub(super) overflow: OverflowPolicy,
    pub(super) store: Option<PathBuf>,
}

pub(super) fn general(cx: &Context<'_, '_>, raw: Maybe<RawFleet<'_>>) -> Result<General, Reported> {
    let Some(RawFleet {
        name,
        geo,
        latency,
        guard,
        overflow,
        store,
    }) = raw?
    else {
        return Ok(General {
            name: DEFAULT_NAME.to_owned(),
            geo: None,
            latency: None,
            guard: DEFAULT_GUARD,
            overflow: OverflowPolicy::default(),
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
    let store = store_file(cx, store);
    let latency = latency.and_then(|file| file.map(|file| cx.file("latency", &file)).transpose());
    Ok(General {
        name: name?,
        geo: geo?,
        latency: latency?,
        guard: guard?,
        overflow: overflow?,
        store: store?,
    })
}

const DEFAULT_NAME: &str = "fleet";
const DEFAULT_GUARD: GuardPolicy = GuardPolicy {
    keep_sites: 1,
    max_withdrawn: 1,
    window: Duration::from_secs(60),
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

/// `embedded:PATH`; the file may be new, since the first drain makes it.
fn store_file(cx: &Context<'_, '_>, store: Field<&str>) -> Result<Option<PathBuf>, Reported> {
    let Some(store) = store? else { return Ok(None) };
    let text = *store.get_ref();
    match text.strip_prefix("embedded:").filter(|path| !path.is_empty()) {
        Some(path) => Ok(Some(cx.path(path))),
        None => Err(cx.sink.fault(
            store.span(),
            format!("`store` is {text:?}"),
            "write \"embedded:\" and the path of a file, for example \"embedded:state/steer.redb\"",
        )),
    }
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
    Ok(GuardPolicy {
        keep_sites: keep_sites?,
        max_withdrawn: max_withdrawn?,
        window: window?,
    })
}

pub(super) fn sites(cx: &Context<'_, '_>, raw: List<RawSite<'_>>) -> Result<Vec<Site>, Reported> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let mut ids: HashMap<Ipv4Addr, usize> = HashMap::new();
    let sites = items
        .into_iter()
        .map(|raw| site(cx.sink, &mut ids, raw))
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
