//! `[bgp]`, and what it and `[[anycast]]` ask of each other.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Duration;

use toml::Spanned;

use super::anycast::Announcement;
use super::context::{Context, Wire};
use super::{peer, values};
use crate::config::raw::{Maybe, RawBgp, RawBmp};
use crate::config::read::{List, OneOrMany, all};
use crate::config::router_id;
use crate::config::sink::{Reported, Sink};
use crate::{Anycast, Bgp, Bmp, Site, SiteId};

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
        bmp,
        rpki,
    }) = raw?
    else {
        return Ok(None);
    };
    let asn = values::asn(cx.sink, asn);
    let router_id = values::router_id(cx.sink, router_id);
    let listen = listen.and_then(|listen| listen_addresses(cx, listen));
    let peers = peer::peers(cx, !matches!(&listen, Ok(listen) if listen.is_empty()), peer);
    let bmp = collectors(cx.sink, bmp);
    let rpki = rpki.and_then(|rpki| rpki.map(|rpki| remote(cx.sink, "rpki", &rpki)).transpose());
    Ok(Some((
        span,
        Bgp {
            asn: asn?,
            router_id: router_id?,
            listen: listen?,
            peers: peers?,
            bmp: bmp?,
            rpki: rpki?,
        },
    )))
}

fn collectors(sink: &Sink<'_>, raw: List<RawBmp<'_>>) -> Result<Vec<Bmp>, Reported> {
    let List {
        span: _,
        items,
        whole,
    } = raw;
    let collectors = items.into_iter().map(|raw| collector(sink, raw)).collect();
    let collectors = all(collectors);
    whole?;
    collectors
}

fn collector(sink: &Sink<'_>, raw: RawBmp<'_>) -> Result<Bmp, Reported> {
    let RawBmp {
        address,
        connect_retry,
    } = raw;
    let address = address.and_then(|address| remote(sink, "address", &address));
    let range = Duration::from_secs(1)..=Duration::from_hours(1);
    let connect_retry = values::duration(
        sink,
        "connect_retry",
        connect_retry,
        range,
        Duration::from_secs(30),
    );
    Ok(Bmp {
        address: address?,
        connect_retry: connect_retry?,
    })
}

/// The address and port of another host's service.
fn remote(sink: &Sink<'_>, key: &str, written: &Spanned<&str>) -> Result<SocketAddr, Reported> {
    let address = values::listen(sink, key, written)?;
    values::usable(sink, key, written.span(), address)?;
    Ok(address)
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
        .map(|written| cx.listen("listen", written, &[Wire::Connections]))
        .collect())
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
        // RFC 8950: an IPv6 session may carry IPv4 routes with its own next hop.
        if peers().any(|peer| {
            peer.address.is_ipv4() == prefix.is_ipv4() || (prefix.is_ipv4() && peer.extended_next_hop)
        }) {
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

pub(super) fn family(is_ipv4: bool) -> &'static str {
    if is_ipv4 { "IPv4" } else { "IPv6" }
}
