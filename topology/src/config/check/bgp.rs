//! `[bgp]`, `[[bgp.peer]]`, `[[anycast]]`.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::context::Context;
use super::values;
use crate::config::raw::{Maybe, Needed, RawAnycast, RawBgp, RawPeer};
use crate::config::read::{Field, List, OneOrMany, all};
use crate::config::router_id;
use crate::config::sink::{Reported, Sink};
use crate::{
    Anycast, At, Bgp, Condition, InService, Peer, PeerFamilies, PeerReach, Policy, PoolId, Prefix, Site,
    SiteId, Subject,
};

/// The speaker and where its table stands.
pub(super) fn speaker(
    cx: &Context<'_, '_>,
    raw: Maybe<RawBgp<'_>>,
) -> Result<Option<(Range<usize>, Bgp)>, Reported> {
    let Some(RawBgp {
        span,
        asn,
        router_id,
        listen,
        peer,
    }) = raw?
    else {
        return Ok(None);
    };
    let asn = values::asn(cx.sink, asn);
    let router_id = values::router_id(cx.sink, router_id);
    let listen = listen.and_then(|listen| listen_addresses(cx, listen));
    let peers = peers(cx, !matches!(&listen, Ok(listen) if listen.is_empty()), peer);
    Ok(Some((
        span,
        Bgp {
            asn: asn?,
            router_id: router_id?,
            listen: listen?,
            peers: peers?,
            bmp: Vec::new(),
            rpki: None,
        },
    )))
}

fn listen_addresses(
    cx: &Context<'_, '_>,
    written: Option<Spanned<OneOrMany<&str>>>,
) -> Result<Vec<SocketAddr>, Reported> {
    let Some(written) = written else {
        return Ok(Vec::new());
    };
    all(written
        .get_ref()
        .0
        .iter()
        .map(|written| cx.listen("listen", written))
        .collect())
}

fn peers(cx: &Context<'_, '_>, listening: bool, raw: List<RawPeer<'_>>) -> Result<Vec<Peer>, Reported> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let mut seen = Neighbours::default();
    let peers = all(items
        .into_iter()
        .map(|raw| peer(cx, listening, &mut seen, raw))
        .collect());
    whole?;
    peers
}

/// Which neighbour is written where: a peer of every site clashes with one of a single site.
#[derive(Default)]
struct Neighbours(HashMap<(IpAddr, u16), Vec<Written>>);

/// At which site, in which line.
type Written = (Option<SiteId>, usize);

impl Neighbours {
    /// The line of an earlier peer that is the same neighbour at a common site.
    fn clash(&mut self, site: Option<SiteId>, address: IpAddr, port: u16, line: usize) -> Option<usize> {
        let earlier = self.0.entry((address, port)).or_default();
        // One entry per site is enough, so the list stays as short as the table of sites.
        let clash = earlier
            .iter()
            .find(|(other, _)| *other == site || other.is_none() || site.is_none());
        let clash = clash.map(|(_, line)| *line);
        if clash.is_none() {
            earlier.push((site, line));
        }
        clash
    }
}

fn peer(
    cx: &Context<'_, '_>,
    listening: bool,
    seen: &mut Neighbours,
    raw: RawPeer<'_>,
) -> Result<Peer, Reported> {
    let RawPeer {
        site,
        address,
        port,
        asn,
        source,
        passive,
        hold_time,
        connect_retry,
    } = raw;
    let site = site.and_then(|site| site.map(|site| cx.site(&site)).transpose());
    let written = address.as_ref().ok().map(Spanned::span);
    let address = address.and_then(|address| values::ip(cx.sink, "address", &address));
    let port = values::int(cx.sink, "port", port, 1..=u16::MAX, 179);
    let asn = values::asn(cx.sink, asn);
    let source = source.and_then(|source| {
        source
            .map(|source| source_of(cx.sink, &source, address))
            .transpose()
    });
    let passive = passive.and_then(|passive| is_passive(cx.sink, listening, passive));
    let hold_time = hold(cx.sink, hold_time);
    let range = Duration::from_millis(100)..=Duration::from_hours(1);
    let connect_retry = values::duration(
        cx.sink,
        "connect_retry",
        connect_retry,
        range,
        Duration::from_secs(5),
    );
    if let (Some(span), Ok(site), Ok(address), Ok(port)) = (written, site, address, port) {
        let line = cx.sink.line(span.start);
        if let Some(first) = seen.clash(site, address, port, line) {
            cx.sink.conflict(
                span,
                format!(
                    "peer {address} port {port} is written twice for the same site, first in line {first}"
                ),
                "remove one of them, or give each its own `site`",
            );
        }
    }
    Ok(Peer {
        site: site?,
        address: address?,
        interface: None,
        port: port?,
        asn: asn?,
        source: source?,
        passive: passive?,
        hold_time: hold_time?,
        connect_retry: connect_retry?,
        password_file: None,
        reach: PeerReach::Default,
        families: PeerFamilies {
            ipv4: true,
            ipv6: true,
        },
        extended_next_hop: false,
        extended_messages: true,
        role: None,
        graceful_restart: None,
        max_prefixes: None,
        sample: 0,
        policy: Policy::default(),
        bfd: None,
    })
}

fn source_of(
    sink: &Sink<'_>,
    written: &Spanned<&str>,
    address: Result<IpAddr, Reported>,
) -> Result<IpAddr, Reported> {
    let source = values::ip(sink, "source", written)?;
    match address {
        Ok(address) if address.is_ipv4() != source.is_ipv4() => Err(sink.conflict(
            written.span(),
            format!("`source` {source} and `address` {address} are of different address families"),
            format!("write an {} address", family(address.is_ipv4())),
        )),
        Ok(_) | Err(_) => Ok(source),
    }
}

fn is_passive(sink: &Sink<'_>, listening: bool, passive: Option<Spanned<bool>>) -> Result<bool, Reported> {
    match passive {
        Some(written) if *written.get_ref() && !listening => Err(sink.conflict(
            written.span(),
            "a passive peer waits for the neighbour to connect, but `[bgp] listen` is not written",
            "add for example listen = [\"192.0.2.10:179\"] to [bgp], or remove `passive`",
        )),
        Some(written) => Ok(*written.get_ref()),
        None => Ok(false),
    }
}

/// RFC 4271 §4.2: zero or at least three seconds, in two octets.
fn hold(sink: &Sink<'_>, field: Field<Duration>) -> Result<Duration, Reported> {
    let Some(written) = field? else {
        return Ok(Duration::from_secs(90));
    };
    let value = values::whole_seconds(sink, "hold_time", written.span(), *written.get_ref())?;
    match value.as_secs() {
        0 | 3..=65_535 => Ok(value),
        _ => Err(sink.fault(
            written.span(),
            format!("`hold_time` is {}", sink.written(written.span())),
            "write \"0s\" (never expires) or \"3s\" to \"65535s\" (RFC 4271 §4.2)",
        )),
    }
}

/// A prefix with the place where it is written.
pub(super) type Announcement = (Range<usize>, Anycast);

/// The prefixes, good and bad.
pub(super) fn anycast(
    cx: &Context<'_, '_>,
    places: &[Option<HashSet<SiteId>>],
    raw: List<RawAnycast<'_>>,
) -> Vec<Result<Announcement, Reported>> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let mut seen = HashMap::new();
    let read = items
        .into_iter()
        .map(|raw| announcement(cx, places, &mut seen, raw));
    read.chain(whole.err().map(Err)).collect()
}

fn announcement(
    cx: &Context<'_, '_>,
    places: &[Option<HashSet<SiteId>>],
    seen: &mut HashMap<Prefix, usize>,
    raw: RawAnycast<'_>,
) -> Result<Announcement, Reported> {
    let RawAnycast {
        span,
        prefix,
        sites,
        while_up,
        next_hop,
    } = raw;
    let span = prefix.as_ref().map_or(span, Spanned::span);
    let prefix = announced_prefix(cx.sink, seen, prefix);
    let sites = announcing_sites(cx, sites);
    let named = sites
        .as_ref()
        .ok()
        .map(|sites| sites.as_deref().unwrap_or_default());
    let while_up = conditions(cx, places, named.unwrap_or_default(), while_up);
    let next_hop = next_hop.and_then(|hop| hop.map(|hop| next_hop_of(cx.sink, &hop, prefix)).transpose());
    let sites = sites?.unwrap_or_else(|| cx.all_sites());
    Ok((
        span,
        Anycast {
            prefix: prefix?,
            sites,
            while_up: while_up?,
            next_hop: next_hop?,
            policy: Policy::default(),
            to: Vec::new(),
            rise: Duration::ZERO,
            fall: Duration::ZERO,
            hold_down: Duration::ZERO,
            flap_budget: None,
            bind: None,
            lease: None,
            on_drain: Vec::new(),
        },
    ))
}

fn announced_prefix(
    sink: &Sink<'_>,
    seen: &mut HashMap<Prefix, usize>,
    prefix: Needed<&str>,
) -> Result<Prefix, Reported> {
    let written = prefix?;
    let prefix: Prefix = written
        .get_ref()
        .parse()
        .map_err(|invalid: crate::prefix::InvalidPrefix| {
            let text = invalid.to_string();
            let (message, remedy) = text.split_once("; ").unwrap_or((&text, "write ADDRESS/LENGTH"));
            sink.fault(written.span(), format!("`prefix`: {message}"), remedy)
        })?;
    let line = sink.line(written.span().start);
    match seen.insert(prefix, line) {
        Some(first) => Err(sink.conflict(
            written.span(),
            format!("prefix {prefix} is declared twice, first in line {first}"),
            "remove one of them; several sites go into `sites`",
        )),
        None => Ok(prefix),
    }
}

/// `None` where no sites are written.
fn announcing_sites(
    cx: &Context<'_, '_>,
    field: Field<OneOrMany<&str>>,
) -> Result<Option<Vec<SiteId>>, Reported> {
    let Some(written) = field? else { return Ok(None) };
    let names = &written.get_ref().0;
    if names.is_empty() {
        let remedy = "name a site, or remove `sites` to announce at all of them";
        return Err(cx.sink.fault(
            written.span(),
            "`sites` is empty: nobody would announce it",
            remedy,
        ));
    }
    let mut seen = HashSet::new();
    let sites = names.iter().map(|name| {
        let site = cx.site(name)?;
        if !seen.insert(site) {
            let message = format!("site `{}` stands twice in `sites`", name.get_ref());
            return Err(cx.sink.fault(name.span(), message, "remove one of them"));
        }
        Ok(site)
    });
    all(sites.collect()).map(Some)
}

fn conditions(
    cx: &Context<'_, '_>,
    places: &[Option<HashSet<SiteId>>],
    sites: &[SiteId],
    field: Field<OneOrMany<&str>>,
) -> Result<Vec<Condition>, Reported> {
    let Some(written) = field? else {
        return Ok(Vec::new());
    };
    all(written
        .get_ref()
        .0
        .iter()
        .map(|written| condition(cx, places, sites, written))
        .collect())
}

fn condition(
    cx: &Context<'_, '_>,
    places: &[Option<HashSet<SiteId>>],
    sites: &[SiteId],
    written: &Spanned<&str>,
) -> Result<Condition, Reported> {
    let text = *written.get_ref();
    let Some(rest) = text.strip_prefix("pool:") else {
        return Err(cx.sink.fault(
            written.span(),
            format!("`while_up` has {text:?}, which is no condition"),
            "write \"pool:NAME\", \"pool:NAME@local\" or \"pool:NAME@SITE\"",
        ));
    };
    let (name, place) = rest
        .split_once('@')
        .map_or((rest, None), |(name, place)| (name, Some(place)));
    let pool = cx.pools.find_text(cx.sink, written.span(), name);
    let at = match place {
        None => Ok(At::Anywhere),
        Some("local") => Ok(At::Local),
        Some(site) => cx.site_text(written.span(), site).map(At::Site),
    };
    let (pool, at) = (pool?, at?);
    can_hold(cx, places, sites, written, name, pool, at)?;
    Ok(Condition::InService(InService {
        subject: Subject::Pool(PoolId(pool)),
        at,
        at_least: NonZeroU16::MIN,
    }))
}

/// A condition on endpoints that do not exist would never hold.
fn can_hold(
    cx: &Context<'_, '_>,
    places: &[Option<HashSet<SiteId>>],
    sites: &[SiteId],
    written: &Spanned<&str>,
    name: &str,
    pool: u32,
    at: At,
) -> Result<(), Reported> {
    let Some(Some(places)) = places.get(pool as usize) else {
        return Ok(());
    };
    let lacking = match at {
        At::Anywhere => None,
        At::Local => sites.iter().find(|site| !places.contains(site)).copied(),
        At::Site(site) => (!places.contains(&site)).then_some(site),
    };
    let Some(site) = lacking else { return Ok(()) };
    let site = cx.site_name(site);
    Err(cx.sink.conflict(
        written.span(),
        format!(
            "pool `{name}` has no endpoint at site `{site}`, so {:?} can never hold there",
            written.get_ref()
        ),
        format!("add an endpoint with site = \"{site}\" to the pool, or take the site out"),
    ))
}

fn next_hop_of(
    sink: &Sink<'_>,
    written: &Spanned<&str>,
    prefix: Result<Prefix, Reported>,
) -> Result<IpAddr, Reported> {
    let next_hop = values::ip(sink, "next_hop", written)?;
    match prefix {
        Ok(prefix) if prefix.is_ipv4() != next_hop.is_ipv4() => Err(sink.conflict(
            written.span(),
            format!("`next_hop` {next_hop} is not of the address family of {prefix}"),
            format!("write an {} address", family(prefix.is_ipv4())),
        )),
        Ok(_) | Err(_) => Ok(next_hop),
    }
}

fn family(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "IPv4" } else { "IPv6" }
}

/// What speaker, sites and prefixes ask of each other.
pub(super) fn relations(
    cx: &Context<'_, '_>,
    sites: Option<&[Site]>,
    speaker: Option<&Option<(Range<usize>, Bgp)>>,
    anycast: &[Result<Announcement, Reported>],
) {
    let (Some(sites), Some(Some((span, bgp)))) = (sites, speaker) else {
        return;
    };
    identifiers(cx.sink, span, sites, bgp);
    for (span, anycast) in anycast.iter().flatten() {
        reachable_next_hop(cx, span, bgp, anycast);
    }
}

/// RFC 6286 §2.1: every speaker has an identifier other than zero.
fn identifiers(sink: &Sink<'_>, span: &Range<usize>, sites: &[Site], bgp: &Bgp) {
    let remedy = "add `router_id`, an IPv4 address, to [bgp] or to the site";
    if sites.is_empty() && !bgp.peers.is_empty() && router_id(sites, bgp, None).is_none() {
        sink.conflict(span.clone(), "the speaker has no BGP Identifier", remedy);
    }
    for (id, site) in (0..).map(SiteId).zip(sites) {
        let speaks = bgp.peers.iter().any(|peer| peer.site.is_none_or(|at| at == id));
        if speaks && router_id(sites, bgp, Some(id)).is_none() {
            let message = format!("the speaker at site `{}` has no BGP Identifier", site.name);
            sink.conflict(span.clone(), message, remedy);
        }
    }
}

/// Our own address of a session is a next hop for its own family only, so without `next_hop` a prefix goes to the
/// peers of its family. A site that has peers, but none of them, would never announce it.
fn reachable_next_hop(cx: &Context<'_, '_>, span: &Range<usize>, bgp: &Bgp, anycast: &Anycast) {
    if anycast.next_hop.is_some() {
        return;
    }
    let prefix = anycast.prefix;
    let sites = anycast.sites.iter().copied().map(Some);
    for site in sites.chain(anycast.sites.is_empty().then_some(None)) {
        let peers = || {
            bgp.peers
                .iter()
                .filter(|peer| peer.site.is_none() || peer.site == site)
        };
        let Some(other) = peers().next() else { continue };
        if peers().any(|peer| peer.address.is_ipv4() == prefix.is_ipv4()) {
            continue;
        }
        let at = site.map_or(String::new(), |site| format!(" of site `{}`", cx.site_name(site)));
        let wanted = family(prefix.is_ipv4());
        cx.sink.conflict(
            span.clone(),
            format!(
                "{prefix} goes to peer {}{at}, but the session has no {wanted} next hop",
                other.address
            ),
            format!("add `next_hop` with an {wanted} address of ours, or an {wanted} peer"),
        );
        return;
    }
}
